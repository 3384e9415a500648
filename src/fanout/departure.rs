//! Why a listener left, and why one was never let in. One word each: in the log, as metric label, in the API, in tests.

/// Why a listener left. Each listener that joined has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Departure {
    /// The peer closed its side, or the connection broke under it.
    HungUp,
    /// Its lag passed the hard limit and recovery did not save it.
    TooSlow,
    /// It had unsent data and took none of it for `idle_timeout`.
    Stalled,
    /// Somebody removed it: the operator, or the bound on what a listener may send.
    Kicked,
    /// Its `max_listener_duration` was over, or what it was let in with, or its TLS session, whose keys were used up.
    SessionLimit,
    /// The source ended and the mount's `on_source_end` is `close`.
    SourceEnded,
    /// It was moved to another mount.
    Moved,
    /// The server is stopping, or its mount was taken away.
    ShuttingDown,
    /// Any other error of its socket.
    IoError,
}

impl Departure {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::HungUp,
        Self::TooSlow,
        Self::Stalled,
        Self::Kicked,
        Self::SessionLimit,
        Self::SourceEnded,
        Self::Moved,
        Self::ShuttingDown,
        Self::IoError,
    ];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::HungUp => "hung_up",
            Self::TooSlow => "too_slow",
            Self::Stalled => "stalled",
            Self::Kicked => "kicked",
            Self::SessionLimit => "session_limit",
            Self::SourceEnded => "source_ended",
            Self::Moved => "moved",
            Self::ShuttingDown => "shutting_down",
            Self::IoError => "io_error",
        }
    }

    /// Its place in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl Departure {
    /// The reason with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.label() == word)
    }
}

/// Why somebody was turned away before joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No place left: in the mount, in the server, or in a shard's inbox.
    Full,
    /// Not allowed to listen.
    Unauthorized,
    /// Kept out by address, name or agent.
    Banned,
    /// The source delivered nothing in time.
    NoSource,
    /// The request makes no sense, or asks for what does not exist.
    BadRequest,
    /// The server takes nobody in any more.
    Draining,
    /// Another server has more room, and the newcomer was sent there before this one is full.
    Redirected,
}

impl Refusal {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::Unauthorized, Self::Banned, Self::NoSource, Self::BadRequest, Self::Draining, Self::Redirected];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Unauthorized => "unauthorized",
            Self::Banned => "banned",
            Self::NoSource => "no_source",
            Self::BadRequest => "bad_request",
            Self::Draining => "draining",
            Self::Redirected => "redirected",
        }
    }

    /// Its place in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_its_own_counter() {
        for (i, reason) in Departure::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), i, "{reason:?}");
        }
        for (i, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), i, "{reason:?}");
        }
        let words: std::collections::HashSet<_> =
            Departure::ALL.map(Departure::label).into_iter().chain(Refusal::ALL.map(Refusal::label)).collect();
        assert_eq!(words.len(), Departure::ALL.len() + Refusal::ALL.len());
    }
}
