//! Out: how a listener gets to a mount, over HTTP and over raw TCP.
//!
//! Each way ends the same: all places reserved, the socket moves to a shard, and this room is done. Playlists, which only point
//! to a mount, are answered here too.
//!
//! Deliberately absent: sending. There is no body here that has bytes.

mod headers;
pub mod http;
mod probes;
pub mod raw;

use crate::engine::admission::Seat;
use crate::engine::inbox::Permit;
use crate::engine::socket::Socket;
use crate::fanout::departure::Refusal;
use crate::mount::Registry;
use crate::mount::registry::Entry;

/// All that a newcomer needs to be let in, or why it is not.
fn admit(registry: &Registry, mount: &Entry) -> Result<(Permit<Socket>, Seat), Refusal> {
    let refuse = |why| {
        registry.refuse(Some(mount), why);
        why
    };
    if registry.draining() {
        return Err(refuse(Refusal::Draining));
    }
    let seat = Seat::take(registry.places(), &mount.handle.places).ok_or_else(|| refuse(Refusal::Full))?;
    let permit = registry.crew().reserve().ok_or_else(|| refuse(Refusal::Full))?;
    Ok((permit, seat))
}
