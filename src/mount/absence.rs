//! What becomes of a mount while its source is away: how long who listens is kept, and when a mount ends that was made on the fly.
//!
//! ```text
//!   source ends ─▶ linger ─▶ who still waits is drained as `source_ended` ─▶ a mount that was made is closed
//!        ▲                                                                 (one that was declared stays)
//!        └── a source is there again: nothing has happened
//! ```
//! One task for each mount, on its arbiter, which sleeps until the source, the settings or the time asks for something.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::closing;
use super::handle::Handle;
use super::registry::{Entry, Registry};
use crate::engine::inbox::Command;
use crate::fanout::departure::Departure;

/// How often it is looked again where something is in the way: an encoder that has connected and sends nothing yet, a newcomer who
/// was let in at the last moment.
const LOOK: Duration = Duration::from_secs(1);
/// For how long nobody is sent away when another process has been taken over from: encoders wait for some seconds before they
/// connect again.
pub(super) const RESUMED_GRACE: Duration = Duration::from_secs(30);

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
    while !handle.until_up(false).await {
        tokio::select! {
            biased;
            closed = handle.until_up(true) => if closed { return },
            () = absence(&registry, &handle) => return,
        }
    }
}

/// Does what is to be done while the source is away. Ends when it has closed the mount.
async fn absence(registry: &Weak<Registry>, handle: &Handle) {
    loop {
        let settled = handle.settled(); // asked for before the look, so that no change is missed
        let next = {
            let Some(registry) = registry.upgrade() else { return };
            let path = handle.settings.path.as_str();
            let Some(entry) = registry.find(path).filter(|entry| entry.handle.is_same(handle)) else { return };
            // Nobody can publish there again.
            let linger = if registry.is_orphan(&entry) { Some(Duration::ZERO) } else { entry.handle.settings.linger };
            match step(linger, handle.away().unwrap_or_default(), handle.grace()) {
                Step::Rest => None,
                Step::Wait(left) => Some(left),
                Step::Dismiss if entry.is_made() && handle.publishers.shut() => {
                    let closed = registry.close_if(path, Departure::SourceEnded, |entry| entry.handle.is_same(handle));
                    tracing::info!(mount = path, "nobody publishes to the mount any more: it is closed");
                    drop(closed); // it ends by itself
                    return;
                }
                Step::Dismiss => {
                    let waiting = dismiss(&registry, &entry).await;
                    (waiting || entry.is_made()).then_some(LOOK)
                }
            }
        };
        match next {
            Some(next) => drop(tokio::time::timeout(next, settled).await),
            None => settled.await,
        }
    }
}

/// Sends everybody away who listens. Returns whether there was somebody.
async fn dismiss(registry: &Registry, entry: &Entry) -> bool {
    let waiting = entry.handle.places.taken();
    if waiting > 0 {
        let slot = entry.handle.broadcast.slot;
        tracing::info!(mount = %entry.handle.settings.path, listeners = waiting, "the source has been away for too long: listeners leave");
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
