//! The `floor` command: the least that delivers a stream. What a server's CPU is compared against.
//!
//! ```text
//!  source ──recv──▶ [ line of bytes ] ──one send per listener and window──▶ sockets, in slots spread over the window
//! ```
//! - One thread. Per listener: a socket and an offset. Per listener and window: one `send` of one contiguous slice.
//! - Every byte is delivered: a listener whose socket is full keeps its offset and catches up. Only who falls behind by more than is
//!   kept (megabytes, which is minutes of audio) is closed, for a gap would be worse.
//! - Deliberately absent: bursts, keyframes, policies, statistics, memory bounds per listener, noticing who left before the next send
//!   fails. Whoever joins gets what comes from then on, cut anywhere.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::cli::FloorArgs;
use crate::clock::Nanos;
use crate::lobby::Lobby;
use crate::net;

/// Length of a slot: with a window of 250 ms, a fiftieth of the listeners is served at a time.
const SLOT: Duration = Duration::from_millis(5);
/// How long the source may take to be there.
const PATIENCE: Duration = Duration::from_secs(15);
/// What is kept at least; twice as much is held.
const KEEP: usize = 8 << 20;
const READ: usize = 256 << 10;

/// The last bytes of the stream as one slice, and where they stand in it.
#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    /// Place in the stream of `bytes[0]`.
    start: u64,
    keep: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpStream,
    at: u64,
}

pub(crate) fn run(args: &FloorArgs) -> anyhow::Result<()> {
    let mut lobby = Lobby::open(args.listen, "application/octet-stream", "floor").with_context(|| format!("--listen {}", args.listen))?;
    let mut source = net::connect_patiently(args.source, PATIENCE).with_context(|| format!("--source {}", args.source))?;
    source.set_nonblocking(true)?;
    let slots = (args.window.as_nanos() / SLOT.as_nanos()).max(1) as usize;
    let mut listeners: Vec<Vec<Listener>> = (0..slots).map(|_| Vec::new()).collect();
    let (mut line, mut joined, mut turn) = (Line::new(KEEP), 0, 0u64);
    let origin = Nanos::now();
    loop {
        let due = origin.after(SLOT * u32::try_from(turn + 1).context("this has run for more than half a year")?);
        loop {
            for socket in lobby.turn(due.since(Nanos::now()))? {
                if let Some(size) = args.send_buffer {
                    socket2::SockRef::from(&socket).set_send_buffer_size(size as usize)?;
                }
                listeners[joined % slots].push(Listener { socket, at: line.end() });
                joined += 1;
            }
            if Nanos::now() >= due {
                break;
            }
        }
        if !line.read(&mut source)? {
            return Ok(());
        }
        // A turn that comes late serves the slots it missed in the turns that follow at once.
        listeners[turn as usize % slots].retain_mut(|listener| listener.send(&line));
        turn += 1;
    }
}

impl Line {
    fn new(keep: usize) -> Self {
        Self { bytes: Vec::with_capacity(2 * keep + READ), start: 0, keep, scratch: vec![0; READ] }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Appends what the source has sent; `false` when it has ended.
    fn read(&mut self, source: &mut impl Read) -> io::Result<bool> {
        match source.read(&mut self.scratch) {
            Ok(length) => {
                self.bytes.extend_from_slice(&self.scratch[..length]);
                if self.bytes.len() > 2 * self.keep {
                    let gone = self.bytes.len() - self.keep;
                    self.bytes.drain(..gone);
                    self.start += gone as u64;
                }
                Ok(length > 0)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Everything from a place on; `None` if that is no longer held.
    fn since(&self, at: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(at.checked_sub(self.start)?).ok()?..)
    }
}

impl Listener {
    /// `false` when it is gone or cannot be served without a gap.
    fn send(&mut self, line: &Line) -> bool {
        let Some(waiting) = line.since(self.at) else { return false };
        if waiting.is_empty() {
            return true;
        }
        match rustix::net::send(&self.socket, waiting, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => {
                self.at += sent as u64;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_holds_the_last_bytes_as_one_slice_and_knows_what_is_gone() {
        let (mut line, all) = (Line::new(1000), (0..=255u8).cycle().take(10_000).collect::<Vec<u8>>());
        for mut piece in all.chunks(700) {
            assert!(line.read(&mut piece).expect("reads"));
            let end = line.end() as usize;
            let kept = end.saturating_sub(1000);
            assert_eq!(line.since(kept as u64), Some(&all[kept..end]), "{end}");
        }
        assert_eq!(line.since(line.end()), Some(&[][..]));
        assert_eq!(line.since(0), None);
        assert!(!line.read(&mut io::empty()).expect("reads"), "the end of the source is seen");
    }

    #[test]
    fn a_listener_whose_socket_is_full_keeps_its_place_and_gets_every_byte() {
        let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(door.local_addr().expect("bound")).expect("connects");
        let socket = door.accept().expect("accepts").0;
        socket2::SockRef::from(&socket).set_send_buffer_size(4096).expect("set");
        let mut line = Line::new(16 << 20);
        let all: Vec<u8> = (0..8u32 << 20).map(|at| (at / 251) as u8).collect();
        let mut rest = &all[..];
        while !rest.is_empty() {
            assert!(line.read(&mut rest).expect("reads"));
        }
        let mut listener = Listener { socket, at: 0 };
        assert!(listener.send(&line));
        assert!(listener.at > 0 && listener.at < line.end(), "the socket takes some and not all");
        let mut got = vec![0; all.len()];
        let reader = std::thread::spawn(move || client.read_exact(&mut got).map(|()| got));
        while listener.at < line.end() {
            assert!(listener.send(&line));
        }
        assert!(reader.join().expect("joins").expect("reads") == all);
    }
}
