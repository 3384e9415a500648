//! Out: how a listener gets to a mount, over HTTP and over raw TCP.
//!
//! Each way ends the same: all places reserved, the socket moves to a shard, and this room is done. Playlists, which only point
//! to a mount, are answered here too.
//!
//! Deliberately absent: sending. There is no body here that has bytes.

mod asking;
mod framed;
mod headers;
pub mod http;
pub mod peers;
mod probes;
pub mod raw;

use std::sync::Arc;

use crate::door::patrol::{Patrol, Pressure};
use crate::engine::admission::{Lack, Seat, Who};
use crate::engine::broadcast::Peer;
use crate::engine::inbox::Permit;
use crate::engine::socket::Socket;
use crate::engine::trail::Trail;
use crate::fanout::departure::Refusal;
use crate::mount::registry::Entry;
use crate::mount::{Registry, Settings};

/// Why a newcomer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TurnedAway {
    why: Refusal,
    /// In a sentence.
    sentence: &'static str,
    /// Whether there may be a place elsewhere: not for who has had enough of them.
    elsewhere: bool,
}

const DRAINING: &str = "the server is about to stop and takes nobody in any more";

/// A mount where somebody may be let in.
struct Station {
    entry: Entry,
    /// What is remembered of who is let in there.
    trail: Trail,
    when: When,
}

/// Of those who were turned away elsewhere before, who may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Whoever comes.
    First,
    /// Who found nothing to hear.
    Silent,
    /// Who found nothing to hear, or no place.
    SilentOrFull,
    /// Who found nothing to hear anywhere: there is nowhere else to go, so it may take its time.
    Last,
}

impl When {
    /// Whether who was turned away like this may try.
    fn admits(self, turned: Option<TurnedAway>) -> bool {
        match turned.map(|turned| turned.why) {
            None => true,
            Some(Refusal::NoSource) => self != Self::First,
            // Who has had enough has had enough wherever it is.
            Some(Refusal::Full) => self == Self::SilentOrFull && turned.is_some_and(|turned| turned.elsewhere),
            Some(_) => false, // a server that is about to stop is about to stop wherever one asks
        }
    }
}

/// Where somebody may be let in who asks for a mount with these settings (`asked`, if it is there): first where there is something to
/// hear, or will be for who comes, then where there may be a place. Nowhere, if there is no such mount and nothing instead.
fn stations<'a>(registry: &'a Registry, settings: &'a Settings, asked: Option<&'a Entry>) -> impl Iterator<Item = Station> + 'a {
    let promising = asked.filter(|entry| entry.handle.is_heard() || entry.handle.begins_when_wanted());
    let itself = move |when| asked.map(|entry| Station { entry: entry.clone(), trail: Trail::default(), when });
    let first = promising.and_then(|_| itself(When::First));
    // Full before it was silent: only where the mount says so. Full among those that stand in for it: the next one.
    let when = if promising.is_none() || settings.fallback.when_full { When::SilentOrFull } else { When::Silent };
    let refuges = std::iter::once_with(move || registry.prospects(&settings.path)).flatten();
    let refuges = refuges.map(move |(entry, trail)| Station { entry, trail, when });
    first.into_iter().chain(refuges).chain(std::iter::once_with(move || itself(When::Last)).flatten())
}

/// All that a newcomer needs to be let in, or why it is not; `user`: who it is, if it has shown that. Whoever turns it
/// away in the end counts it.
fn admit(
    registry: &Registry,
    patrol: &Patrol,
    mount: &Entry,
    peer: Peer,
    user: Option<Arc<str>>,
) -> Result<(Permit<Socket>, Seat), TurnedAway> {
    let refuse = |why, sentence| TurnedAway { why, sentence, elsewhere: true };
    if registry.draining() {
        return Err(refuse(Refusal::Draining, DRAINING));
    }
    if patrol.pressure() >= Pressure::Listeners {
        return Err(refuse(Refusal::Full, "the server is short of memory and takes no more listeners"));
    }
    let address = if let Peer::Inet(address) = peer { Some(address.ip()) } else { None };
    let group = address.and_then(|address| registry.group_of(address));
    let who = Who { address, user, rate: mount.handle.bytes_per_second(), now: registry.crew().clock().now() };
    let seat = Seat::claim(registry.places(), &mount.handle.places, group.as_ref(), who).map_err(|full| TurnedAway {
        elsewhere: !matches!(full.lack, Lack::Address | Lack::User),
        ..refuse(Refusal::Full, full.sentence())
    })?;
    let permit = registry.crew().reserve().ok_or_else(|| refuse(Refusal::Full, "the server is busy with others who join"))?;
    Ok((permit, seat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_turned_away_tries_again_only_where_that_may_help() {
        let turned = |why, elsewhere| Some(TurnedAway { why, sentence: "", elsewhere });
        for (before, first, silent, silent_or_full, last) in [
            (None, true, true, true, true),
            (turned(Refusal::NoSource, true), false, true, true, true),
            (turned(Refusal::Full, true), false, false, true, false),
            (turned(Refusal::Full, false), false, false, false, false), // who has had enough
            (turned(Refusal::Draining, true), false, false, false, false),
        ] {
            let found = [When::First, When::Silent, When::SilentOrFull, When::Last].map(|when| when.admits(before));
            assert_eq!(found, [first, silent, silent_or_full, last], "{before:?}");
        }
    }
}
