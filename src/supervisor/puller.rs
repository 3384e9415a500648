//! Keeps a relay going: pulls from the first upstream that has something, tries the next when one fails, and on demand only
//! while somebody listens.
//!
//! One that is stopped stays, and can be started again, until it is retired.
//! Waits are the supervisor's own. A round of all upstreams counts as one failure, so that the second is tried at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{Restart, Retire, Start, Stop, failures_after, wait};
use crate::fanout::stats::{add, read};
use crate::ingest::Ended;
use crate::ingest::relay::{Upstream, pull};
use crate::mount::actor::SourceEnded;
use crate::mount::registry::Entry;

/// How often a relay on demand looks whether somebody wants it.
const LOOK: Duration = Duration::from_millis(100);
/// How long a relay on demand goes on when nobody listens any more.
const LINGER: Duration = Duration::from_secs(30);

/// Keeps the relay of one mount going.
#[derive(Debug)]
pub struct Puller {
    entry: Entry,
    upstreams: Arc<[Upstream]>,
    /// Which is tried next.
    next: usize,
    failures: u32,
    /// Whether it is to be pulled at all.
    wanted: bool,
    pulling: Option<SpawnHandle>,
    /// When the present attempt began, and what the mount had received then.
    began: Instant,
    received_before: u64,
    /// Not before then is there another attempt.
    rests_until: Instant,
    /// Since when nobody listens.
    idle_since: Option<Instant>,
}

impl Puller {
    /// Keeps this mount filled from these upstreams, in order of preference.
    pub fn new(entry: Entry, upstreams: Vec<Upstream>) -> Self {
        let (now, wanted) = (Instant::now(), !entry.handle.stopped.load(Ordering::Relaxed));
        Self {
            entry,
            upstreams: upstreams.into(),
            next: 0,
            failures: 0,
            wanted,
            pulling: None,
            began: now,
            received_before: 0,
            rests_until: now,
            idle_since: None,
        }
    }

    /// Begins or ends, as is wanted now.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if !self.wanted {
            return;
        }
        let now = Instant::now();
        let on_demand = self.entry.handle.settings.relay.on_demand;
        if !on_demand || self.entry.handle.is_wanted() {
            self.idle_since = None;
            if self.pulling.is_none() && now >= self.rests_until {
                self.begin(ctx);
            }
        } else if self.pulling.is_some() && now.duration_since(*self.idle_since.get_or_insert(now)) >= LINGER {
            self.cease(ctx, "nobody listens");
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let Some(upstream) = self.upstreams.get(self.next).cloned() else { return };
        self.began = Instant::now();
        self.received_before = read(&self.entry.handle.source.received_chunks);
        let entry = self.entry.clone();
        let pulling = async move { pull(&entry, &upstream).await };
        self.pulling = Some(ctx.spawn(pulling.into_actor(self).map(|how, puller, _| puller.ended(&how))));
    }

    fn ended(&mut self, how: &Ended) {
        self.pulling = None;
        let delivered = read(&self.entry.handle.source.received_chunks) > self.received_before;
        self.next = if delivered { 0 } else { (self.next + 1) % self.upstreams.len().max(1) };
        if self.next == 0 {
            self.failures = failures_after(self.failures, how, delivered, self.began.elapsed());
        }
        let rest = if self.next == 0 { wait(self.failures, fastrand::f64()) } else { Duration::ZERO };
        self.rests_until = Instant::now() + rest;
        if !rest.is_zero() {
            self.entry.handle.disappoint(rest);
        }
        let fault = match how {
            Ended::EndOfStream => None,
            Ended::Fault(fault) => Some(Arc::clone(fault)),
        };
        tracing::warn!(mount = %self.entry.handle.settings.path, reason = fault.as_deref().unwrap_or("end of stream"),
            retry_in_seconds = rest.as_secs_f64(), "relay ended");
        self.entry.actor.do_send(SourceEnded { source: None, fault });
        add(&self.entry.handle.source.restarts, 1);
    }

    /// Hangs up.
    fn cease(&mut self, ctx: &mut Context<Self>, why: &str) {
        if let Some(pulling) = self.pulling.take() {
            ctx.cancel_future(pulling);
            tracing::info!(mount = %self.entry.handle.settings.path, reason = why, "relay stops");
            self.entry.actor.do_send(SourceEnded { source: None, fault: Some(why.into()) });
        }
    }
}

impl Actor for Puller {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
        ctx.run_interval(LOOK, Self::look);
    }
}

impl Puller {
    /// Begins with the preferred upstream, at once.
    fn begin_anew(&mut self, ctx: &mut Context<Self>) {
        (self.next, self.failures, self.rests_until) = (0, 0, Instant::now());
        self.look(ctx);
    }
}

impl Handler<Start> for Puller {
    type Result = ();

    fn handle(&mut self, _: Start, ctx: &mut Self::Context) {
        self.wanted = true;
        if self.pulling.is_none() {
            self.begin_anew(ctx);
        }
    }
}

impl Handler<Restart> for Puller {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        self.wanted = true;
        self.cease(ctx, "begins anew");
        add(&self.entry.handle.source.restarts, 1);
        self.begin_anew(ctx);
    }
}

impl Handler<Stop> for Puller {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        self.wanted = false;
        self.cease(ctx, "stopped");
        Box::pin(std::future::ready(()))
    }
}

impl Handler<Retire> for Puller {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.wanted = false;
        self.cease(ctx, "the mount is filled from there no more");
        ctx.stop();
    }
}
