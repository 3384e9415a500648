//! Sockets for proxies that announce their clients (`wire::proxy`): the header is read before anything else, TLS included.
//!
//! - It comes within the time that a request head has, or the connection is closed. Whoever sends something else is no proxy, and is
//!   told nothing.
//! - Not a byte behind the header is read.
//!
//! Deliberately absent: who may connect to such a socket. Whoever does may name any client: it is for the operator to bind it where
//! only the proxy gets.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::acceptor::DoorCounters;
use super::io::Io;
use crate::fanout::stats::add;
use crate::wire::proxy::{Announced, HEADER_MOST, Look, look};

/// What became of a PROXY header. Closed, for it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was read.
    Ok,
    /// It was none.
    Refused,
    /// It did not come, or not all of it.
    Timeout,
}

impl Outcome {
    /// All outcomes, in the order of their counters.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Timeout];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
        }
    }
}

/// Reads the header. `None`: there was none, which has been counted.
pub(super) async fn announced(io: &Io, patience: Duration, counters: &DoorCounters) -> Option<Announced> {
    let note = |outcome: Outcome, why: &dyn fmt::Display| {
        add(&counters.headers[outcome as usize], 1);
        tracing::debug!(result = outcome.label(), %why, "PROXY header");
    };
    // In a box of its own, lest every connection's task be as large as a header.
    match timeout(patience, Box::pin(read(io))).await {
        Ok(Ok(Ok(announced))) => {
            note(Outcome::Ok, &"read");
            return Some(announced);
        }
        Ok(Ok(Err(why))) => note(Outcome::Refused, &why),
        Ok(Err(error)) => note(Outcome::Refused, &error),
        Err(_) => note(Outcome::Timeout, &"it took too long"),
    }
    None
}

async fn read(io: &Io) -> io::Result<Result<Announced, &'static str>> {
    let (mut bytes, mut held) = ([0; HEADER_MOST], 0);
    loop {
        let more = match look(&bytes[..held]) {
            Look::Complete(announced) => return Ok(Ok(announced)),
            Look::Refuse(why) => return Ok(Err(why)),
            Look::Partial(more) => more,
        };
        io.readable().await?;
        match io.try_read(&mut bytes[held..held + more]) {
            Ok(0) => return Ok(Err("the peer went away within it")),
            Ok(count) => held += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
