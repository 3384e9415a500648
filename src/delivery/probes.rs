//! Players that ask twice and listen once (see `wire::range`): the first request is served like any other, for somebody might
//! play it; when the same player asks again, the first connection is closed before the second is let in. So one player has one
//! place, and is one listener wherever listeners are counted.
//!
//! Deliberately absent: certainty. Two players behind one address that call themselves the same may be taken for one another;
//! what is closed then is a connection that asked for a few bytes and has got them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::broadcast::Peer;
use crate::engine::crew::Crew;
use crate::engine::inbox::{Command, Reply};
use crate::fanout::departure::Departure;
use crate::units::ListenerId;

/// Players of which this is remembered. In a storm of them the oldest are forgotten, and counted twice.
const KEPT_MOST: usize = 512;
/// The longest between the two requests; players take less than a second.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// The longest that a newcomer waits for the end of the first connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// By what a player is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Player {
    /// The mount's number.
    slot: usize,
    /// `None`: on this machine.
    address: Option<IpAddr>,
    agent: Box<str>,
}

impl Player {
    pub(super) fn new(slot: usize, peer: Peer, agent: &str) -> Self {
        let address = if let Peer::Inet(address) = peer { Some(address.ip()) } else { None };
        Self { slot, address, agent: agent.into() }
    }
}

/// Those who have asked once.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<VecDeque<(Instant, Player, ListenerId)>>);

impl Probes {
    /// This player asked for a few bytes, and is now this listener.
    pub(super) fn note(&self, player: Player, id: ListenerId, now: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MOST {
            kept.pop_front();
        }
        kept.push_back((now, player, id));
    }

    /// The listener that a player who asks now has been so far.
    fn take(&self, player: &Player, now: Instant) -> Option<ListenerId> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.front().is_some_and(|(since, ..)| now.saturating_duration_since(*since) > KEPT_FOR) {
            kept.pop_front();
        }
        let place = kept.iter().position(|(_, known, _)| known == player)?;
        kept.remove(place).map(|(.., id)| id)
    }

    /// Closes the connection by which a player asked before, if it did, and waits until its place is free.
    pub(super) async fn replace(&self, player: &Player, crew: &Crew) {
        let Some(id) = self.take(player, Instant::now()) else { return };
        let slot = player.slot;
        let asked: Vec<_> = crew
            .hands()
            .iter()
            .map(|hand| {
                let (sender, receiver) = oneshot::channel();
                let reply = Reply::new(move |_: bool| {
                    let _ = sender.send(()); // the newcomer may have waited long enough
                });
                hand.inbox.tell(Command::Kick { slot, id, why: Departure::Moved, reply });
                receiver
            })
            .collect();
        let all = async {
            for answer in asked {
                let _ = answer.await; // an inbox that is full: then it is counted twice for a while
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(slot: usize, address: &str, agent: &str) -> Player {
        Player::new(slot, Peer::Inet(address.parse().expect("an address")), agent)
    }

    #[test]
    fn a_player_is_known_again_once_on_its_mount_and_for_a_while() {
        let (probes, now) = (Probes::default(), Instant::now());
        let apple = player(1, "192.0.2.1:1000", "AppleCoreMedia");
        probes.note(apple.clone(), ListenerId(7), now);
        for other in [
            player(2, "192.0.2.1:1000", "AppleCoreMedia"),
            player(1, "192.0.2.2:1000", "AppleCoreMedia"),
            player(1, "192.0.2.1:1000", "VLC"),
        ] {
            assert_eq!(probes.take(&other, now), None, "{other:?}");
        }
        assert_eq!(probes.take(&player(1, "192.0.2.1:2000", "AppleCoreMedia"), now), Some(ListenerId(7)), "from another port");
        assert_eq!(probes.take(&apple, now), None, "once");
        probes.note(apple.clone(), ListenerId(8), now);
        assert_eq!(probes.take(&apple, now + KEPT_FOR * 2), None, "too late");
    }

    #[test]
    fn a_storm_of_players_is_bounded() {
        let (probes, now) = (Probes::default(), Instant::now());
        for id in 0..KEPT_MOST as u64 + 10 {
            probes.note(player(1, "192.0.2.1:1", &id.to_string()), ListenerId(id), now);
        }
        assert_eq!(probes.take(&player(1, "192.0.2.1:1", "9"), now), None);
        assert_eq!(probes.take(&player(1, "192.0.2.1:1", "10"), now), Some(ListenerId(10)));
    }
}
