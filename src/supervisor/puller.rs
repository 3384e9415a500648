//! Keeps a relay going: pulls from the first upstream that has something, tries the next when one fails, goes back to those that are
//! preferred, and on demand only while somebody listens.
//!
//! One that is stopped stays, and can be started again, until it is retired.
//! Waits are the supervisor's own. A round of all upstreams counts as one failure, so that the second is tried at once.
//! A preferred upstream is tried beside the one that delivers: first it is only listened to, so that no server that has nothing but what
//! it kept costs anybody a good stream; then it takes the mount as soon as it has something to hear, as one encoder relieves another:
//! the mount is not without a source for a moment.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::preference::Preference;
use super::{LONG_ENOUGH, Restart, Retire, Start, Stop, failures_after, wait};
use crate::fanout::stats::{add, read};
use crate::ingest::Ended;
use crate::ingest::relay::{Pulling, Upstream, audition, pull};
use crate::mount::actor::SourceEnded;
use crate::mount::registry::Entry;

/// How often a relay on demand looks whether somebody wants it.
const LOOK: Duration = Duration::from_millis(100);
/// How long a relay on demand goes on when nobody listens any more.
const LINGER: Duration = Duration::from_secs(30);

/// One upstream that is pulled.
#[derive(Debug)]
struct Attempt {
    /// Tells it from others.
    number: u64,
    which: usize,
    began: Instant,
    /// How much the mount had received when it was last seen to receive something, and when that was.
    heard: (u64, Instant),
    /// Whether it has had something to hear, and the mount.
    arrived: Rc<Cell<bool>>,
    future: SpawnHandle,
}

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
    attempts: u64,
    pulling: Option<Attempt>,
    /// A preferred upstream that is tried beside the one that delivers.
    preferred: Option<Attempt>,
    preference: Preference,
    /// Why a preferred one was last not gone back to.
    told: Option<Arc<str>>,
    /// Not before then is there another attempt.
    rests_until: Instant,
    /// Since when nobody listens.
    idle_since: Option<Instant>,
}

impl Puller {
    /// Keeps this mount filled from these upstreams, in order of preference.
    pub fn new(entry: Entry, upstreams: Vec<Upstream>) -> Self {
        let (now, wanted) = (Instant::now(), !entry.handle.stopped.load(Ordering::Relaxed));
        // The upstream that a process before this one was at goes on without a gap; to a preferred one there is a way back.
        let mark = entry.handle.bookmark.mark();
        let at = mark.and_then(|mark| upstreams.iter().position(|upstream| upstream.to_string() == mark.upstream));
        Self {
            entry,
            upstreams: upstreams.into(),
            next: at.unwrap_or(0),
            failures: 0,
            wanted,
            attempts: 0,
            pulling: None,
            preferred: None,
            preference: Preference::default(),
            told: None,
            rests_until: now,
            idle_since: None,
        }
    }

    /// Begins or ends, as is wanted now.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if !self.wanted {
            return;
        }
        self.give_way(ctx);
        self.listen();
        let now = Instant::now();
        let on_demand = self.entry.handle.settings.relay.on_demand;
        if !on_demand || self.entry.handle.is_wanted() {
            self.idle_since = None;
            if self.pulling.is_none() && now >= self.rests_until {
                self.pulling = self.attempt(self.next, false, ctx);
                self.preference.rest(now, fastrand::f64());
            }
            if let (Some(present), None) = (&self.pulling, &self.preferred)
                && present.arrived.get()
                && let Some(which) = self.preference.due(present.which, now.duration_since(present.began), now)
            {
                self.preferred = self.attempt(which, true, ctx);
            }
        } else if self.pulling.is_some() && now.duration_since(*self.idle_since.get_or_insert(now)) >= LINGER {
            self.cease(ctx, "nobody listens");
        }
    }

    /// Begins with an upstream; one that is to be heard `beside` another has to show first that it is worth it.
    fn attempt(&mut self, which: usize, beside: bool, ctx: &mut Context<Self>) -> Option<Attempt> {
        let upstream = self.upstreams.get(which)?.clone();
        self.attempts += 1;
        let (entry, number, arrived) = (self.entry.clone(), self.attempts, Rc::new(Cell::new(false)));
        let told = Rc::clone(&arrived);
        let (received, now) = (read(&entry.handle.source.received_chunks), Instant::now());
        let pulling = async move {
            if beside && let Err(why) = audition(&entry, &upstream).await {
                return Ended::Fault(format!("{upstream}: {why}").into());
            }
            pull(&entry, &upstream, Pulling { beside, arrived: move || told.set(true) }).await
        };
        let future = ctx.spawn(pulling.into_actor(self).map(move |how, puller, ctx| puller.ended(number, &how, ctx)));
        Some(Attempt { number, which, began: now, heard: (received, now), arrived, future })
    }

    /// Takes note of whether the source goes on.
    fn listen(&mut self) {
        if let Some(pulling) = &mut self.pulling {
            let received = read(&self.entry.handle.source.received_chunks);
            if received != pulling.heard.0 {
                pulling.heard = (received, Instant::now());
            }
        }
    }

    /// One that is preferred and has something to hear takes the place of the other, which has lost the mount to it.
    fn give_way(&mut self, ctx: &mut Context<Self>) {
        let Some(preferred) = self.preferred.take_if(|preferred| preferred.arrived.get()) else { return };
        self.preference.taken(Instant::now(), fastrand::f64());
        let upstream = self.upstreams.get(preferred.which).map(ToString::to_string).unwrap_or_default();
        tracing::info!(mount = %self.entry.handle.settings.path, upstream, "the relay goes back to an upstream that is preferred");
        (self.next, self.told) = (preferred.which, None);
        if let Some(other) = self.pulling.replace(preferred) {
            ctx.cancel_future(other.future);
        }
        // What the other may have noted since follows on nothing.
        if self.entry.handle.bookmark.mark().is_some_and(|mark| mark.upstream != upstream) {
            self.entry.handle.bookmark.clear();
        }
    }

    /// What is preferred cannot be gone back to; told where it was not told before.
    fn disappointed(&mut self, how: &Ended) {
        let why: Arc<str> = match how {
            Ended::EndOfStream => "its stream has ended soon".into(),
            Ended::Fault(fault) => Arc::clone(fault),
        };
        if self.told.as_ref() != Some(&why) {
            tracing::info!(mount = %self.entry.handle.settings.path, reason = &*why, "an upstream that is preferred is not gone back to yet");
            self.told = Some(why);
        }
    }

    fn ended(&mut self, number: u64, how: &Ended, ctx: &mut Context<Self>) {
        self.give_way(ctx);
        if let Some(preferred) = self.preferred.take_if(|preferred| preferred.number == number) {
            self.disappointed(how);
            let present = self.pulling.as_ref().map_or(0, |present| present.which);
            return self.preference.failed(preferred.which, present, Instant::now(), fastrand::f64());
        }
        let Some(attempt) = self.pulling.take_if(|pulling| pulling.number == number) else { return };
        if let Some(preferred) = self.preferred.take() {
            ctx.cancel_future(preferred.future); // its turn comes by itself now
        }
        let (arrived, lasted) = (attempt.arrived.get(), attempt.heard.1.duration_since(attempt.began));
        // From one that ends or falls silent soon the next one takes over, whatever it has sent at first.
        self.next = if arrived && lasted >= LONG_ENOUGH { 0 } else { (attempt.which + 1) % self.upstreams.len().max(1) };
        if self.next == 0 {
            self.failures = failures_after(self.failures, how, arrived, lasted);
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
        if let Some(preferred) = self.preferred.take() {
            ctx.cancel_future(preferred.future);
        }
        if let Some(pulling) = self.pulling.take() {
            ctx.cancel_future(pulling.future);
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
