//! What becomes of a mount while its source is away: how long who listens is kept, and when a mount ends that was made on the fly.
//!
//! ```text
//!   source ends ─▶ fallback: who listens goes there ─▶ linger ─▶ who still waits is drained as `source_ended`
//!        ▲                     │                                 ─▶ a mount that was made is closed
//!        └── a source is there again: who was sent on is brought back, if the mount says so
//! ```
//! One task for each mount, on its arbiter, which sleeps until the source, the settings or the time asks for something.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::OnSourceEnd;
use super::actor::Age;
use super::closing;
use super::handle::Handle;
use super::moving::{Moved, Silent, has_strays, move_listeners};
use super::registry::{Entry, Registry};
use crate::engine::inbox::Command;
use crate::engine::trail::Movers;
use crate::fanout::departure::Departure;
use crate::fanout::ring::Ring;
use crate::units::MountPath;

/// How often it is looked again where something is in the way: an encoder that has connected and sends nothing yet, a newcomer who
/// was let in at the last moment.
const LOOK: Duration = Duration::from_secs(1);
/// For how long nobody is sent away when another process has been taken over from: encoders wait for some seconds before they
/// connect again.
pub(super) const RESUMED_GRACE: Duration = Duration::from_secs(30);

/// The longest that a recording takes to be heard.
const STAND_IN_BEGINS: Duration = Duration::from_secs(2);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, and not by itself.
    Rest,
    /// Nothing for so long.
    Wait(Duration),
    /// They have waited for long enough.
    Dismiss,
}

/// What is to be done after the source has been away for so long.
fn step(linger: Option<Duration>, away: Duration, grace: Duration) -> Step {
    match linger.map(|linger| linger.saturating_sub(away).max(grace)) {
        None => Step::Rest,
        Some(Duration::ZERO) => Step::Dismiss,
        Some(left) => Step::Wait(left),
    }
}

/// Sees to a mount until it is closed.
pub(super) async fn watch(registry: Weak<Registry>, handle: Arc<Handle>) {
    loop {
        let closed = tokio::select! {
            biased;
            closed = handle.until_up(false) => closed,
            () = presence(&registry, &handle) => handle.until_up(false).await,
        };
        if closed {
            return;
        }
        tokio::select! {
            biased;
            closed = handle.until_up(true) => if closed { return },
            () = absence(&registry, &handle) => return,
        }
    }
}

/// Does what is to be done when the source is there again.
async fn presence(registry: &Weak<Registry>, handle: &Handle) {
    bring_back(registry, handle).await;
    // Who was on the way when they were called is called again.
    tokio::time::sleep(LOOK).await;
    bring_back(registry, handle).await;
}

/// The mount, as it is now.
fn found(registry: &Registry, handle: &Handle) -> Option<Entry> {
    registry.find(handle.settings.path.as_str()).filter(|entry| entry.handle.is_same(handle))
}

/// Calls back who was sent on from here.
async fn bring_back(registry: &Weak<Registry>, handle: &Handle) {
    let Some(registry) = registry.upgrade() else { return };
    let Some(here) = found(&registry, handle).map(|entry| entry.handle) else { return };
    let path = &here.settings.path;
    for there in elsewhere(&registry, &here) {
        if !here.is_alike(&there) {
            if has_strays(registry.crew(), &there, path).await == Ok(true) {
                tracing::warn!(mount = %path, from = %there.settings.path, "the source is of another kind: who was sent on stays there");
            }
            continue;
        }
        let moved = move_listeners(registry.crew(), &there, &here, &Movers::Strayed(path.clone())).await;
        say(&moved, &there, path, "the source is there again: listeners are brought back");
    }
}

/// The mounts with listeners among those that who was sent on from here, and is to be brought back, may be at.
fn elsewhere(registry: &Registry, here: &Handle) -> Vec<Arc<Handle>> {
    let path = &here.settings.path;
    let chain = if here.settings.fallback.brings_back { registry.chain(path) } else { Vec::new() };
    // Before there was a mount at this path its pattern's recording was heard, which gives way to any source.
    let all = chain.into_iter().chain(registry.recording_of(path));
    all.filter_map(|there| registry.find(there.as_str())).map(|entry| entry.handle).filter(|there| there.places.taken() > 0).collect()
}

/// Who was sent on from a mount that is pulled on demand, and is to be brought back, wants it as much as who waits there.
async fn want_for_strays(registry: &Registry, here: &Handle) {
    if !here.settings.relay.on_demand || here.is_wanted() {
        return;
    }
    for there in elsewhere(registry, here) {
        // A shard that does not answer is named by whoever moves listeners.
        if has_strays(registry.crew(), &there, &here.settings.path).await.unwrap_or(false) {
            return here.want(3 * LOOK);
        }
    }
}

fn say(moved: &Result<Moved, Silent>, from: &Handle, to: &MountPath, what: &str) {
    let mount = from.settings.path.as_str();
    match moved {
        Ok(Moved { moved: 0, .. }) => {}
        Ok(Moved { moved, stayed }) => tracing::info!(mount, %to, moved, stayed, "{what}"),
        Err(silent) => tracing::error!(mount, %to, error = %silent, "listeners could not be moved"),
    }
}

/// Sends everybody on who listens, if there is something for them to hear. `warned`: it has been said why there is not.
async fn send_on(registry: &Registry, here: &Handle, warned: &mut bool) {
    // What is pulled on demand only is pulled for them.
    for there in registry.chain(&here.settings.path).iter().filter_map(|there| registry.find(there.as_str())) {
        there.handle.want(3 * LOOK);
    }
    let refuges = registry.refuges(&here.settings.path);
    let Some((there, trail)) = refuges.iter().find(|(there, _)| here.is_alike(&there.handle)) else {
        if let (Some((there, _)), false) = (refuges.first(), *warned) {
            *warned = true;
            tracing::warn!(mount = %here.settings.path, fallback = %there.handle.settings.path,
                "the fallback is of another kind: a player cannot go on with it, so listeners wait");
        }
        return;
    };
    let moved = move_listeners(registry.crew(), here, &there.handle, &Movers::Lent(trail.clone())).await;
    say(&moved, here, &there.handle.settings.path, "the source is away: listeners go on with the fallback");
}

/// Does what is to be done while the source is away. Ends when it has closed the mount.
async fn absence(registry: &Weak<Registry>, handle: &Handle) {
    let mut warned = false;
    loop {
        let settled = handle.settled(); // asked for before the look, so that no change is missed
        let next = {
            let Some(registry) = registry.upgrade() else { return };
            let Some(entry) = found(&registry, handle) else { return };
            let settings = &entry.handle.settings;
            let moves = settings.fallback.mount().is_some();
            if moves && handle.places.taken() > 0 {
                send_on(&registry, &entry.handle, &mut warned).await;
            }
            if moves {
                want_for_strays(&registry, &entry.handle).await;
            }
            let away = handle.away().unwrap_or_default();
            let fresh = left(settings.stale_after(), away);
            if fresh.is_none() && handle.broadcast.feed.read(Ring::has_begun) {
                entry.actor.do_send(Age);
            }
            // Where a pattern is gone nobody can publish again. Where listeners leave with the source they have been told to by now, or
            // have waited for their fallback only; who was on the way meanwhile leaves a moment later.
            let orphan = registry.is_orphan(&entry);
            let (closes, on_demand) = (settings.on_source_end == OnSourceEnd::Close, settings.relay.on_demand);
            let linger = match (closes, settings.fallback.to.is_some()) {
                _ if orphan => Some(Duration::ZERO),
                (true, true) => Some(Duration::ZERO),
                (true, false) if !on_demand && !entry.is_made() => Some(LOOK), // one that was made ends with its `linger`
                _ => settings.linger,
            };
            // A recording is given a moment to begin, and who hears it is not sent away.
            let linger = if settings.fallback.file().is_some() && !orphan { linger.map(|span| span.max(STAND_IN_BEGINS)) } else { linger };
            // The fallback may be there in a moment, newcomers were let in to what is left of the stream, and ports without a word for
            // a refusal let in whoever comes. (What is pulled on demand is pulled for them.)
            let raw = !settings.tcp.is_empty() && linger.is_some() && !on_demand;
            let look = (moves || raw).then_some(LOOK);
            let next = match step(linger, away, handle.grace()) {
                Step::Rest => None,
                Step::Wait(left) => Some(left),
                Step::Dismiss if !orphan && handle.has_stand_in() => Some(LOOK),
                Step::Dismiss if close_made(&registry, &entry) => return,
                Step::Dismiss => {
                    let waiting = dismiss(&registry, &entry).await;
                    (waiting || entry.is_made()).then_some(LOOK)
                }
            };
            next.into_iter().chain(look).chain(fresh).min()
        };
        match next {
            Some(next) => drop(tokio::time::timeout(next, settled).await),
            None => settled.await,
        }
    }
}

/// How much of this time is left after that one; `None`: nothing.
fn left(time: Duration, after: Duration) -> Option<Duration> {
    time.checked_sub(after).filter(|left| !left.is_zero())
}

/// Closes a mount that was made on the fly and to which nobody publishes. Returns whether it has.
fn close_made(registry: &Registry, entry: &Entry) -> bool {
    // What is found now counts: a reload may have made it a mount like any other meanwhile, to which encoders may come.
    let is_meant = |found: &Entry| found.handle.is_same(&entry.handle) && found.is_made() && found.handle.publishers.shut();
    let closed = registry.close_if(entry.handle.settings.path.as_str(), Departure::SourceEnded, is_meant);
    if closed.is_some() {
        tracing::info!(mount = %entry.handle.settings.path, "nobody publishes to the mount any more: it is closed");
    }
    closed.is_some() // and ends by itself
}

/// Sends everybody away who listens. Returns whether there was somebody.
async fn dismiss(registry: &Registry, entry: &Entry) -> bool {
    let waiting = entry.handle.places.taken();
    if waiting > 0 {
        let slot = entry.handle.broadcast.slot;
        tracing::info!(mount = %entry.handle.settings.path, listeners = waiting, "the source is away: listeners leave");
        closing::tell(registry.crew(), || Command::Drain { slot: Some(slot), why: Departure::SourceEnded }).await;
    }
    waiting > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_kept_for_as_long_as_the_mount_says() {
        let seconds = Duration::from_secs;
        for (linger, away, grace, want) in [
            (None, 1_000_000, 0, Step::Rest),
            (Some(10), 0, 0, Step::Wait(seconds(10))),
            (Some(10), 9, 0, Step::Wait(seconds(1))),
            (Some(10), 10, 0, Step::Dismiss),
            (Some(10), 99, 0, Step::Dismiss),
            (Some(0), 0, 0, Step::Dismiss),
            (Some(0), 5, 30, Step::Wait(seconds(30))),
            (Some(50), 5, 30, Step::Wait(seconds(45))),
        ] {
            assert_eq!(step(linger.map(seconds), seconds(away), seconds(grace)), want, "{linger:?} {away} {grace}");
        }
    }
}
