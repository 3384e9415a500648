//! Which connections are this tool's own, and which of them were removed on its own request.
//!
//! The swarm writes down who listens; who asks the server to remove a listener looks here first, so that nobody else's is ever removed, and
//! says so here, so that the loss is not held against the server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By the tool's end of the connection, which is the peer that the server lists.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pardoned: Mutex<HashMap<SocketAddr, bool>>,
}

impl Roster {
    pub(crate) fn joined(&self, end: SocketAddr) {
        self.lock().insert(end, false);
    }

    /// It is gone. `true`: on our own request.
    pub(crate) fn gone(&self, end: SocketAddr) -> bool {
        self.lock().remove(&end).unwrap_or(false)
    }

    /// Its removal will be asked for. `false`: it is not ours (any more), hands off.
    pub(crate) fn pardon(&self, end: SocketAddr) -> bool {
        self.lock().get_mut(&end).map(|pardoned| *pardoned = true).is_some()
    }

    /// It was not removed after all.
    pub(crate) fn withdraw(&self, end: SocketAddr) {
        if let Some(pardoned) = self.lock().get_mut(&end) {
            *pardoned = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, bool>> {
        self.pardoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_are_pardoned_and_only_while_they_are_there() {
        let (roster, ours, other) = (Roster::default(), SocketAddr::from(([127, 0, 0, 1], 5)), SocketAddr::from(([127, 0, 0, 1], 6)));
        roster.joined(ours);
        assert!(!roster.pardon(other));
        assert!(roster.pardon(ours) && roster.gone(ours));
        assert!(!roster.pardon(ours), "gone is gone, whoever has the port next");
        roster.joined(ours);
        roster.pardon(ours);
        roster.withdraw(ours);
        assert!(!roster.gone(ours));
    }
}
