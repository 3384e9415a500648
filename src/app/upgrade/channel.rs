//! What the old process and the new one say to each other, over a socket that nobody else has.
//!
//! ```text
//!   old ──Hello──▶ new      is that a format we both speak?
//!   old ◀─Prepared─ new     the configuration is good, threads run, nobody is accepted
//!   old ──State, Sockets──▶ new            shards stand still from here …
//!   old ◀─Ready─ new        everything has come and makes sense
//!   old ──Go──▶ new
//!   old ◀─Taken─ new        from here on the old one has nothing any more
//!   old ◀─Serving─ new                     … to here
//!   old ──Free──▶ new       ports and devices of the old one's sources are free
//!   old ──Late──▶ new       somebody whose request was with the old one at the moment
//!   old ──Letter──▶ new     what a backend could not be told
//!   old ──Tallies──▶ new    what the old one has counted since State
//!   either ──Refused──▶     and why; before Taken
//! ```
//! - One message is one packet of JSON. Descriptors go beside it, a bounded number at a time.
//! - Nothing is waited for without a deadline.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType,
};
use serde::{Deserialize, Serialize};

use crate::handover;

/// Descriptors in one packet; the kernel takes 253.
pub(super) const AT_ONCE: usize = 200;
/// The largest packet: an error in words may have some thousands of bytes.
const PACKET_MOST: usize = 64 * 1024;
/// Bytes of an error in words that are told; the rest is in the log.
const WHY_MOST: usize = 16 * 1024;

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    Hello {
        format: u32,
        version: String,
        /// When the old process's clock began, on the system's monotonic clock, in nanoseconds.
        origin: u64,
    },
    Prepared {
        format: u32,
        version: String,
    },
    Refused {
        why: String,
    },
    /// With two memory files: the text and the payloads.
    State {
        sockets: usize,
    },
    /// With some of the descriptors.
    Sockets,
    Ready,
    Go,
    Taken,
    Serving {
        listeners: u64,
        /// How long they stood still, in microseconds.
        stall: u64,
    },
    Free,
    /// With its socket: somebody who came to the old process after all.
    Late(Box<handover::Arrival>),
    Letter(Box<handover::Letter>),
    Tallies(handover::Tallies),
}

/// The other one does not answer, or not as it should.
#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum ChannelError {
    /// It is gone.
    #[error("the other process has ended")]
    Gone,
    /// It says nothing.
    #[error("the other process does not answer")]
    Silent,
    /// It says what makes no sense here.
    #[error("the other process says what makes no sense: {0}")]
    Strange(String),
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// The system does not do it.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends of a new one.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// An end that was inherited.
    pub(super) fn inherited(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Says something, with descriptors beside it.
    pub(super) fn say(&self, message: &Message, with: &[BorrowedFd<'_>], until: Instant) -> Result<(), ChannelError> {
        let text = serde_json::to_vec(message).map_err(|error| ChannelError::Strange(error.to_string()))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !with.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(with)) {
            return Err(ChannelError::Strange("too many descriptors at once".to_owned()));
        }
        set_socket_timeout(&self.0, Timeout::Send, Some(left(until)?)).map_err(io::Error::from)?;
        match rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::AGAIN) => Err(ChannelError::Silent),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Err(ChannelError::Gone),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Says why not, if somebody still listens.
    pub(super) fn refuse(&self, why: &str) {
        let mut end = why.len().min(WHY_MOST);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        let _ = self.say(&Message::Refused { why: why[..end].to_owned() }, &[], Instant::now() + Duration::from_secs(1));
    }

    /// Hears what the other one says, but for refusals, which are errors.
    pub(super) fn hear(&self, until: Instant) -> Result<(Message, Vec<OwnedFd>), ChannelError> {
        let mut text = vec![0; PACKET_MOST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            set_socket_timeout(&self.0, Timeout::Recv, Some(left(until)?)).map_err(io::Error::from)?;
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(ChannelError::Silent),
                Err(rustix::io::Errno::CONNRESET) => return Err(ChannelError::Gone),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        };
        if received.bytes == 0 {
            return Err(ChannelError::Gone);
        }
        let mut with = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                with.extend(descriptors);
            }
        }
        match serde_json::from_slice(&text[..received.bytes]).map_err(|error| ChannelError::Strange(error.to_string()))? {
            Message::Refused { why } => Err(ChannelError::Refused(why)),
            message => Ok((message, with)),
        }
    }

    /// Hears one thing and nothing else.
    pub(super) fn expect<T>(&self, until: Instant, wanted: impl FnOnce(Message) -> Result<T, Message>) -> Result<T, ChannelError> {
        let (message, _) = self.hear(until)?;
        wanted(message).map_err(|other| ChannelError::Strange(format!("{other:?}")))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Now, on the system's monotonic clock, in nanoseconds.
pub(super) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Time left until then.
fn left(until: Instant) -> Result<Duration, ChannelError> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ChannelError::Silent) } else { Ok(left.max(Duration::from_millis(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn what_is_said_is_heard_with_its_descriptors_and_a_refusal_is_an_error() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let theirs = Channel::inherited(theirs);
        let file = std::fs::File::open("/dev/null").expect("it is there");
        ours.say(&Message::Sockets, &vec![file.as_fd(); AT_ONCE], soon()).expect("said");
        let (message, with) = theirs.hear(soon()).expect("heard");
        assert!(matches!(message, Message::Sockets) && with.len() == AT_ONCE);
        theirs.refuse(&"ä".repeat(WHY_MOST));
        assert!(matches!(ours.hear(soon()), Err(ChannelError::Refused(why)) if why.len() == WHY_MOST));
        assert!(matches!(ours.hear(Instant::now() + Duration::from_millis(20)), Err(ChannelError::Silent)));
        rustix::net::send(&theirs.0, b"{\"Weather\":\"fine\"}", SendFlags::empty()).expect("sent");
        assert!(matches!(ours.hear(soon()), Err(ChannelError::Strange(_))));
        drop(theirs);
        assert!(matches!(ours.hear(soon()), Err(ChannelError::Gone)));
        assert!(matches!(ours.say(&Message::Go, &[], soon()), Err(ChannelError::Gone)));
    }
}
