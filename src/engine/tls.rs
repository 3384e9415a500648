//! TLS on a shard: a session that the door has shaken hands for, driven by whoever owns its socket.
//!
//! ```text
//!   slices ──send──▶ one record ──▶ held ──flush──▶ socket
//!   socket ──discard──▶ records ──▶ thrown away; alerts and key updates obeyed
//! ```
//! - A record that is sealed cannot be taken back. So a new one is sealed only when those before it have left: what is held is
//!   never more than one record of the largest size, [`HELD_MOST`] bytes of the stream.
//! - What was taken is sent, for those who count; what is held goes first, and a listener is not done before it has gone.
//! - A peer has next to nothing to say. What it sends is read in small pieces, and one that sends much of which no record ever
//!   comes is let go: so nobody makes a session's own buffer large.
//! - Keys are good for so many records. TLS 1.3 renews them by itself. TLS 1.2 cannot, and rustls says yes to what it seals no more:
//!   so records are counted, and a listener leaves while there is still room for what it was to get.
//! - A session at rest keeps no buffer of a record's size.
//!
//! Deliberately absent: handshakes (the door's), sockets, and any knowledge of what is sent.

use std::io::{self, IoSlice, Read, Write};

use rustls::{ServerConnection, SupportedCipherSuite};

use super::socket::Discarded;

/// Bytes of the stream that a session may hold, sealed, when its peer takes no more: one record of the largest size.
const HELD_MOST: usize = 16 * 1024;
/// Bytes that a peer may send without anything coming of it. Alerts and key updates have some dozens.
const BARREN_MOST: usize = 4 * 1024;
/// Reads in one call.
const READS_AT_ONCE: usize = 4;

/// One record in so many that keys are good for is left to whoever leaves: a whole chunk and what else is queued, and what the door
/// has sealed before, which nobody has counted. Half of that is never used here.
const LEFT_TO_LEAVE: u64 = 256;

/// User memory of one session at the very most: what is held, what is read and no record yet, and the session itself. At rest
/// it is less than a third of this.
pub const SESSION_BYTES: u64 = 32 * 1024;

/// The server's side of a TLS connection whose handshake is done.
#[derive(Debug)]
pub struct Session {
    connection: ServerConnection,
    /// Bytes read since the last that were good for something.
    barren: usize,
    /// Records of the stream that were sealed, and for how many its keys are good.
    sealed: u64,
    good_for: u64,
}

impl Session {
    /// Takes over a session. What its peer has sent and nobody has read is thrown away.
    pub fn new(mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(HELD_MOST));
        let good_for = match connection.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) => suite.common.confidentiality_limit,
            _ => u64::MAX,
        };
        let mut session = Self { connection, barren: 0, sealed: 0, good_for };
        session.forget();
        session
    }

    /// Whether something is sealed and has not left.
    pub(super) fn holds(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether its keys are good for little more.
    pub(super) fn is_spent(&self) -> bool {
        self.sealed >= self.good_for - self.good_for / LEFT_TO_LEAVE
    }

    /// Sends what is held, then as much of the slices as makes one record. Returns how much of the slices was taken; `Ok(0)`: none
    /// of it, but something that was held has left.
    pub(super) fn send(&mut self, io: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.flush(io)? {
            Flushed { all: true, .. } if slices.is_empty() => return Ok(0),
            Flushed { all: true, .. } => {}
            Flushed { bytes: 0, .. } => return Err(io::ErrorKind::WouldBlock.into()),
            Flushed { .. } => return Ok(0),
        }
        if self.sealed >= self.good_for - self.good_for / LEFT_TO_LEAVE / 2 {
            return Err(io::Error::other("the keys of the session are used up"));
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        self.sealed += 1;
        self.flush(io)?;
        Ok(taken)
    }

    /// Sends what is held, as far as that goes.
    fn flush(&mut self, io: &mut impl Write) -> io::Result<Flushed> {
        let mut bytes = 0;
        while self.connection.wants_write() {
            match self.connection.write_tls(io) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed { bytes, all: false }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed { bytes, all: true })
    }

    /// Throws away what the peer has sent, a bounded amount at a time. What it asks for, it may be held an answer to afterwards.
    pub(super) fn discard(&mut self, io: &mut (impl Read + Write)) -> io::Result<Discarded> {
        let mut total = 0;
        for _ in 0..READS_AT_ONCE {
            match self.connection.read_tls(io) {
                Ok(0) => return Ok(Discarded::Closed),
                Ok(bytes) => {
                    total += bytes as u32;
                    self.barren += bytes;
                    if self.digest(io)? {
                        return Ok(Discarded::Closed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Discarded::Dry(total)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Discarded::More(total))
    }

    /// Obeys what has come. Returns whether the peer says that it sends no more.
    fn digest(&mut self, io: &mut impl Write) -> io::Result<bool> {
        let state = match self.connection.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                let _ = self.flush(io); // the alert, if there is room for it
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        if state.plaintext_bytes_to_read() > 0 {
            self.barren = 0;
            self.forget();
        } else if self.barren > BARREN_MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "much was sent, and no record came of it"));
        }
        Ok(state.peer_has_closed())
    }

    fn forget(&mut self) {
        let mut scratch = [0_u8; 1024];
        while matches!(self.connection.reader().read(&mut scratch), Ok(1..)) {}
    }

    /// Says that this is the end, as far as the peer takes it.
    pub(super) fn farewell(&mut self, io: &mut impl Write) {
        self.connection.send_close_notify();
        let _ = self.flush(io); // closing follows, and says it too
    }
}

/// How far what was held has gone.
struct Flushed {
    bytes: usize,
    all: bool,
}

#[cfg(all(test, not(feature = "model-check")))]
#[path = "tls_tests.rs"]
mod tests;
