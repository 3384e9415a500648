//! The end of a mount: who listens is sent what is queued, then every shard forgets it, then its actor ends.
//!
//! ```text
//!   nobody is let in ─▶ drain ─▶ all have left, or DRAIN_MOST ─▶ shards forget, and say so ─▶ actor ─▶ number free
//! ```
//! - The order matters: as long as somebody may still name the mount by its number, the number is not given to another.
//! - It goes on by itself, whoever asked for it.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::actor::{Mount, SourceEnded};
use super::handle::Handle;
use crate::engine::crew::Crew;
use crate::engine::inbox::{Command, Reply};
use crate::engine::socket::Socket;
use crate::fanout::departure::Departure;

/// The longest that listeners are given to take what is queued for them.
const DRAIN_MOST: Duration = Duration::from_secs(10);
/// How often it is looked whether they have, and whether an inbox that was full has room.
const LOOK: Duration = Duration::from_millis(20);
/// The longest that the shards may take to forget. Beyond it one of them is dead, and the number stays taken.
const FORGET_MOST: Duration = Duration::from_secs(60);

/// A mount that is being closed.
#[derive(Debug)]
pub struct Closing(pub(super) oneshot::Receiver<()>);

impl Closing {
    /// Waits until nothing of the mount is left. It ends without anybody waiting, too.
    pub async fn closed(self) {
        let _ = self.0.await; // the runtime has ended, and everything with it
    }
}

/// Tells every shard, each as soon as its inbox has room; one that has none for so long is dead.
pub(super) async fn tell(crew: &Crew, command: impl Fn() -> Command<Socket>) {
    let end = Instant::now() + FORGET_MOST;
    for hand in crew.hands() {
        while !hand.inbox.tell(command()) {
            if Instant::now() >= end {
                tracing::error!("a sending thread takes no orders");
                break;
            }
            sleep(LOOK).await;
        }
    }
}

/// Closes a mount. Returns whether nobody knows its number any more.
pub(super) async fn close(handle: &Handle, actor: Addr<Mount>, crew: &Arc<Crew>, why: Departure) -> bool {
    let slot = handle.broadcast.slot;
    tell(crew, || Command::Drain { slot: Some(slot), why }).await;
    let end = Instant::now() + DRAIN_MOST;
    while handle.places.taken() > 0 && Instant::now() < end {
        sleep(LOOK).await;
    }
    let forgotten = timeout(FORGET_MOST, async {
        for hand in crew.hands() {
            // A shard that panics drops the question with everything else; the one that begins anew is asked again.
            loop {
                let (sender, answer) = oneshot::channel();
                let told = hand.inbox.tell(Command::Forget {
                    slot,
                    why,
                    reply: Reply::new(move |()| {
                        let _ = sender.send(()); // after FORGET_MOST nobody waits
                    }),
                });
                if told && answer.await.is_ok() {
                    break;
                }
                sleep(LOOK).await;
            }
        }
    });
    let forgotten = forgotten.await.is_ok();
    // The actor has done all that it was told before this, and names the mount to nobody after it.
    let ended = actor.send(SourceEnded { source: None, fault: None }).await.is_ok();
    if !forgotten {
        tracing::error!(mount = %handle.settings.path, "a sending thread does not forget a mount that was closed");
    }
    forgotten && ended
}
