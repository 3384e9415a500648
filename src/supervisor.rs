//! Keeps sources alive: starts each mount's pipeline, and starts it anew when it ends.
//!
//! - The only place in the house that retries. Waits grow from [`FIRST_WAIT`] to [`LONGEST_WAIT`], are jittered, and begin anew
//!   once a source has delivered to its end, or for long enough: one that fails right after its first chunk will fail again.
//! - A pipeline is built, started and stopped on a thread where blocking is allowed; a new one is started only after the
//!   old one has stopped, since they want the same ports and devices.
//! - Mounts lose their source, never their listeners.

pub mod mirror;
pub mod peers;
mod preference;
mod puller;
pub mod stand_in;

pub use puller::Puller;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::fanout::stats::{add, read};
use crate::ingest::{Ended, Pipeline};
use crate::mount::actor::{KILLED, OpenGate, SourceEnded};
use crate::mount::registry::Entry;

/// The first wait: a source that is only passed on to the next client is back at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// An attempt that has gone on for so long was a good one, even if it failed in the end.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// A pipeline that does not stop in this time is worth a line in the log.
const SLOW_STOP: Duration = Duration::from_secs(10);

/// The wait before an attempt, given how many in a row have failed; `jitter` is 0 to 1.
fn wait(failures: u32, jitter: f64) -> Duration {
    let grown = FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
    grown.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0)).min(LONGEST_WAIT)
}

/// How many attempts in a row have failed when one more has ended; `lasted` from its start.
fn failures_after(failures: u32, how: &Ended, delivered: bool, lasted: Duration) -> u32 {
    let good = delivered && (*how == Ended::EndOfStream || lasted >= LONG_ENOUGH);
    if good { 0 } else { failures.saturating_add(1) }
}

/// Keeps the source of one mount alive.
#[derive(Debug)]
pub struct Keeper {
    entry: Entry,
    description: Arc<str>,
    /// Whether there is to be a source at all.
    wanted: bool,
    running: Option<Pipeline>,
    /// Pipelines on their way up or down. A new one is started only when there is none.
    busy: u32,
    /// Tells the present attempt from earlier ones.
    attempt: u64,
    failures: u32,
    /// When the attempt began.
    began: Instant,
    /// Chunks the mount had received when the attempt began.
    received_before: u64,
    /// It ended before its start was reported.
    early: Option<Ended>,
    /// Those who wait until it has stopped.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Keeper {
    /// Keeps this pipeline running into this mount; one that an operator has stopped in another process waits to be started.
    pub fn new(entry: Entry, description: &str) -> Self {
        let wanted = !entry.handle.stopped.load(Ordering::Relaxed);
        Self {
            entry,
            description: description.into(),
            wanted,
            running: None,
            busy: 0,
            attempt: 0,
            failures: 0,
            began: Instant::now(),
            received_before: 0,
            early: None,
            waiting: Vec::new(),
        }
    }

    /// Starts, if there is to be a source, there is none, and none is still on its way down: who comes down looks here again.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        if !self.wanted || self.busy > 0 || self.running.is_some() {
            return;
        }
        self.attempt += 1;
        self.busy += 1;
        self.began = Instant::now();
        self.received_before = read(&self.entry.handle.source.received_chunks);
        let (attempt, mount, description, keeper) = (self.attempt, self.entry.actor.clone(), Arc::clone(&self.description), ctx.address());
        let starting = async move {
            let gate = mount.send(OpenGate).await.map_err(|error| error.to_string())?;
            let closed = gate.closed();
            let start = move || Pipeline::start(&description, gate, move |how| keeper.do_send(PipelineEnded { attempt, how }));
            let started = actix_rt::task::spawn_blocking(start).await.map_err(|error| error.to_string())?;
            started.map(|pipeline| (pipeline, closed)).map_err(|error| error.to_string())
        };
        ctx.spawn(starting.into_actor(self).map(move |started, keeper, ctx| {
            keeper.busy -= 1;
            match started {
                Ok((late, _)) if keeper.attempt != attempt => keeper.retire(Some(late), Duration::ZERO, ctx),
                Ok((pipeline, closed)) => {
                    keeper.running = Some(pipeline);
                    // A pipeline that delivers would notice by itself; one that is silent would not.
                    ctx.spawn(closed.into_actor(keeper).map(move |(), keeper, ctx| {
                        if keeper.attempt == attempt {
                            keeper.end(&Ended::Fault(KILLED.into()), ctx);
                        }
                    }));
                    if let Some(how) = keeper.early.take() {
                        keeper.end(&how, ctx);
                    }
                }
                Err(_) if keeper.attempt != attempt => keeper.retire(None, Duration::ZERO, ctx),
                Err(error) => keeper.end(&Ended::Fault(error.into()), ctx),
            }
        }));
    }

    /// Brings a pipeline down, and begins anew so long after that, unless somebody has begun or ended something before.
    fn retire(&mut self, old: Option<Pipeline>, wait: Duration, ctx: &mut Context<Self>) {
        self.busy += 1;
        self.early = None;
        let (attempt, path) = (self.attempt, self.entry.handle.settings.path.clone());
        let stopped = async move {
            let mut stopping = actix_rt::task::spawn_blocking(move || drop(old));
            if tokio::time::timeout(SLOW_STOP, &mut stopping).await.is_err() {
                tracing::error!(mount = %path, "the old pipeline does not stop; the mount stays without a source until it does");
                let _ = stopping.await; // a panic in an element's stop: go on with a new pipeline
            }
        };
        ctx.spawn(stopped.into_actor(self).map(move |(), keeper, ctx| {
            keeper.busy -= 1;
            if keeper.busy == 0 {
                for waiting in keeper.waiting.drain(..) {
                    let _ = waiting.send(()); // whoever waited may have gone
                }
            }
            if keeper.attempt != attempt || wait.is_zero() {
                return keeper.begin(ctx);
            }
            ctx.run_later(wait, move |keeper, ctx| {
                if keeper.attempt == attempt {
                    keeper.begin(ctx);
                }
            });
        }));
    }

    /// What runs now is not wanted any more; whatever it still says is late.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        self.attempt += 1;
        self.failures = 0;
        let old = self.running.take();
        self.retire(old, Duration::ZERO, ctx);
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

/// A pipeline has ended by itself. At most one per attempt.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct PipelineEnded {
    attempt: u64,
    how: Ended,
}

impl Handler<PipelineEnded> for Keeper {
    type Result = ();

    fn handle(&mut self, message: PipelineEnded, ctx: &mut Self::Context) {
        if message.attempt != self.attempt {
            return;
        }
        if self.running.is_none() {
            self.early = Some(message.how);
            return;
        }
        self.end(&message.how, ctx);
    }
}

impl Keeper {
    fn end(&mut self, how: &Ended, ctx: &mut Context<Self>) {
        self.attempt += 1; // whatever else the old one says is late
        let delivered = read(&self.entry.handle.source.received_chunks) > self.received_before;
        self.failures = failures_after(self.failures, how, delivered, self.began.elapsed());
        let wait = wait(self.failures, fastrand::f64());
        let fault = match how {
            Ended::EndOfStream => None,
            Ended::Fault(fault) => Some(Arc::clone(fault)),
        };
        tracing::warn!(mount = %self.entry.handle.settings.path, reason = fault.as_deref().unwrap_or("end of stream"),
            retry_in_seconds = wait.as_secs_f64(), "source ended");
        self.entry.actor.do_send(SourceEnded { source: None, fault });
        add(&self.entry.handle.source.restarts, 1);
        let old = self.running.take();
        self.retire(old, wait, ctx);
    }
}

/// There is to be a source, at once and not only when the wait after a failure is over.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Start;

impl Handler<Start> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Start, ctx: &mut Self::Context) {
        if !self.wanted {
            self.wanted = true;
            self.failures = 0;
        }
        self.begin(ctx);
    }
}

/// Begins anew, perhaps with another pipeline. Listeners stay, whatever the mount does when its source ends.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Restart {
    /// The pipeline from now on; `None`: the same.
    pub description: Option<Arc<str>>,
}

impl Handler<Restart> for Keeper {
    type Result = ();

    fn handle(&mut self, Restart { description }: Restart, ctx: &mut Self::Context) {
        if let Some(description) = description {
            self.description = description;
        }
        add(&self.entry.handle.source.restarts, 1);
        self.give_up(ctx);
    }
}

/// There is to be no source any more; answered when it has stopped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

impl Handler<Stop> for Keeper {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        self.wanted = false;
        self.give_up(ctx);
        self.entry.actor.do_send(SourceEnded { source: None, fault: Some("stopped".into()) });
        let (stopped, waiting) = oneshot::channel();
        self.waiting.push(stopped);
        Box::pin(async move {
            let _ = waiting.await; // dropped only with the keeper
        })
    }
}

/// Its mount is gone, or is filled by something else from now on: what it kept stops, and so does it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_soon_has_failed_even_if_it_delivered() {
        let (fault, long) = (Ended::Fault("x".into()), LONG_ENOUGH);
        for (how, delivered, lasted, want) in [
            (&fault, false, Duration::ZERO, 4),
            (&fault, false, long, 4),
            (&fault, true, Duration::ZERO, 4),
            (&fault, true, long, 0),
            (&Ended::EndOfStream, true, Duration::ZERO, 0),
            (&Ended::EndOfStream, false, long, 4),
        ] {
            assert_eq!(failures_after(3, how, delivered, lasted), want, "{how:?} {delivered} {lasted:?}");
        }
    }

    #[test]
    fn waits_grow_are_jittered_and_end_at_the_longest() {
        assert_eq!(wait(0, 0.5), FIRST_WAIT);
        assert_eq!(wait(3, 0.5), FIRST_WAIT * 8);
        assert!(wait(3, 0.0) < wait(3, 1.0));
        for failures in [20, u32::MAX] {
            assert_eq!(wait(failures, 1.0), LONGEST_WAIT);
        }
    }
}
