//! The end of a process that another one has taken over from, and what every process has to say at its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::house::House;
use super::upgrade::HandedOver;
use super::{DRAIN_LOOK, DRAIN_MOST, LOG_MOST, STOP_MOST, TELL_MOST};
use crate::engine::inbox::Command;
use crate::fanout::departure::Departure;
use crate::mount::Registry;
use crate::mount::actor::Departed;
use crate::supervisor::Stop;

/// Another process serves. What could not be passed on ends here, in good order; what cannot be said of it is said there.
pub(super) async fn leave(mut house: House, done: HandedOver) {
    tracing::info!(pid = done.pid, version = done.version, listeners = done.listeners, left = done.left, "another process has taken over");
    let (registry, measured) = (Arc::clone(&house.registry), Arc::clone(&house.measured));
    house.door.close();
    house.crew.tell_all(|| Command::Drain { slot: None, why: Departure::ShuttingDown }); // who could not be passed on
    for entry in registry.all() {
        entry.handle.publishers.kill(); // they connect again, there
    }
    house.pullers.values().for_each(|puller| puller.do_send(Stop));
    let stopping: Vec<_> = house.keepers.drain().map(|(_, keeper)| actix_rt::spawn(keeper.send(Stop))).collect();
    let stopped = tokio::time::timeout(STOP_MOST, async {
        for one in stopping {
            let _ = one.await; // a panic in an element's stop: we are leaving anyway
        }
    });
    if stopped.await.is_err() {
        tracing::warn!("a pipeline does not stop; it ends with this process");
    }
    done.free();
    let gone = tokio::time::timeout(DRAIN_MOST, async {
        while registry.places().taken() > 0 || measured.door.guests.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    });
    let _ = gone.await; // who is still here has had its time
    house.crew.tell_all(|| Command::Clear { why: Departure::ShuttingDown });
    house.crew.stop();
    let bouncer = Arc::clone(&registry.witnesses().bouncer);
    let letters = say_the_last(&registry, move || bouncer.hand_on(TELL_MOST)).await.unwrap_or_default();
    registry.witnesses().journal.finish(LOG_MOST);
    measured.patrol.finish(LOG_MOST);
    let counted = measured.pack();
    let _ = actix_rt::task::spawn_blocking(move || done.pass_on_rest(letters, &counted)).await; // a panic there: we are leaving anyway
    tracing::info!("ended: another process serves");
}

/// What is still to be said when the last has left: mounts know who did, webhooks and backends are told, and so is the event log of
/// what was only counted. `None`: who talks to backends has panicked.
pub(super) async fn say_the_last<T: Send + 'static>(registry: &Registry, to_backends: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let said = async {
        for entry in registry.all() {
            let _ = entry.actor.send(Departed(Vec::new())).await; // an actor that is gone has nothing to say
        }
    };
    let _ = tokio::time::timeout(LOG_MOST, said).await; // an actor that hangs: we are leaving anyway
    let webhooks = Arc::clone(&registry.witnesses().webhooks);
    let told = actix_rt::task::spawn_blocking(move || webhooks.finish(TELL_MOST)); // beside the other: each has its time
    let told_backends = actix_rt::task::spawn_blocking(to_backends).await.ok();
    let _ = told.await; // the same for a panic there
    registry.witnesses().hearsay.finish();
    told_backends
}
