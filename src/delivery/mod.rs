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

/// Where somebody may be let in who asks for a mount with these settings (`asked`, if it is there): first where there is something to
/// hear, then where there may be a place. Nowhere, if there is no such mount and nothing instead.
fn stations<'a>(registry: &'a Registry, settings: &'a Settings, asked: Option<&Entry>) -> impl Iterator<Item = (Entry, Trail)> + 'a {
    // What is pulled on demand is heard when somebody comes.
    let heard = asked.is_some_and(|entry| entry.handle.is_heard()) || settings.relay.on_demand;
    let itself = asked.map(|entry| (entry.clone(), Trail::default()));
    let refuges = if heard { Vec::new() } else { registry.refuges(&settings.path) };
    let first: Vec<_> = if refuges.is_empty() { itself.into_iter().collect() } else { refuges };
    let more = heard && settings.fallback.when_full;
    let more = std::iter::once_with(move || if more { registry.refuges(&settings.path) } else { Vec::new() });
    first.into_iter().chain(more.flatten())
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
