//! The Mount actor: the one writer of a mount's ring.
//!
//! - It takes what the gate delivers, and reports of listeners that left. A source is known by a number; what comes late from
//!   one that has ended or has been replaced is ignored, and its gate says so.
//! - A panic while it writes costs the mount its source, which is started anew, and nothing else.

mod visits;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use actix::prelude::*;

use super::OnSourceEnd;
use super::gate::{Delivery, Gate};
use super::handle::Handle;
use super::registry::Witnesses;
use crate::engine::crew::Crew;
use crate::engine::inbox::Command;
use crate::fanout::departure::Departure;
use crate::fanout::history::History;
use crate::fanout::ring::Ring;
use crate::handover;
use crate::journal::{self, Whence};
use crate::units::Moment;
use crate::webhook::{Event, Kind, SourceEvent};

pub use visits::Departed;
pub(super) use visits::Post;

/// Deliveries that may wait: a few buffers of a live source, and some slack for one that has no clock.
pub(super) const MAILBOX: usize = 64;

/// The actor of one mount.
#[derive(Debug)]
pub struct Mount {
    handle: Arc<Handle>,
    crew: Arc<Crew>,
    history: History,
    warned_of_memory: bool,
    witnesses: Witnesses,
}

impl Mount {
    pub(super) fn new(handle: Arc<Handle>, crew: Arc<Crew>, witnesses: Witnesses) -> Self {
        let history = History::new(handle.settings.retention());
        Self { handle, crew, history, warned_of_memory: false, witnesses }
    }

    fn source_down(&mut self, fault: Option<Arc<str>>) {
        self.handle.next_writer(); // what the old one still delivers comes too late
        let now = self.crew.clock().now();
        let was_up = self.handle.status().up;
        if was_up && self.witnesses.webhooks.want(Kind::SourceDown) {
            let reason = Some(fault.as_deref().unwrap_or("end of stream").to_owned());
            let source = SourceEvent { reason, ..SourceEvent::default() };
            self.witnesses.webhooks.tell(&Event::of_source(Kind::SourceDown, self.handle.settings.path.as_str(), source));
        }
        if was_up {
            self.announce(false);
        }
        self.handle.change(|status| {
            status.up = false;
            status.fault = fault;
            if was_up {
                status.since = Some(now);
                status.up_since = None;
            }
        });
        // Who has somewhere to go is sent there first (`absence`).
        let settings = &self.handle.settings;
        let closes = settings.on_source_end == OnSourceEnd::Close && settings.fallback.to.is_none();
        if was_up && closes && !self.handle.broadcast.is_closed() {
            let slot = self.handle.broadcast.slot;
            self.crew.tell_all(|| Command::Drain { slot: Some(slot), why: Departure::SourceEnded });
        }
    }
}

impl Mount {
    /// Tells whoever is to be told that there is a source, or none any more.
    fn announce(&self, up: bool) {
        let announce = &self.handle.settings.announce;
        if let Some(url) = if up { &announce.add } else { &announce.remove } {
            self.witnesses.bouncer.announce(url, up, self.handle.settings.path.as_str());
        }
    }
}

impl Actor for Mount {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Supervised for Mount {
    /// The source must start anew, the ring and its listeners stay.
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::error!(mount = %self.handle.settings.path, "the mount's actor is restarted; listeners stay");
        self.source_down(Some("internal error".into()));
    }
}

/// What the gate brings. For the gate only.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    pub(super) source: u64,
    pub(super) batch: Vec<Delivery>,
    pub(super) arrival: Moment,
    pub(super) content_type: Option<Arc<str>>,
}

impl Handler<Deliver> for Mount {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Self::Context) {
        if self.handle.may_write(message.source) {
            self.guarded(ctx, |mount| mount.write(message));
        }
    }
}

impl Mount {
    /// Does something that may panic: actix restarts an actor that stops, but not one that panics.
    fn guarded(&mut self, ctx: &mut Context<Self>, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            ctx.stop();
        }
    }

    /// A recording gives way to the source, which has something to hear: to listeners it is a new programme.
    fn relieve(&mut self) {
        if self.handle.end_stand_in() {
            self.history.new_source();
            self.handle.broadcast.feed.write(Ring::begin_anew);
            tracing::info!(mount = %self.handle.settings.path, "the source is heard again, and the recording is not");
        }
    }

    fn write(&mut self, message: Deliver) {
        let is_source = !self.handle.is_stand_in(message.source);
        if is_source && message.batch.iter().any(|delivery| !matches!(delivery, Delivery::Flush)) {
            self.relieve();
        }
        let (history, counters) = (&mut self.history, &self.handle.source);
        let mut forced = false;
        let (had_begun, has_begun) = self.handle.broadcast.feed.write(|ring| {
            let had_begun = ring.has_begun();
            for delivery in message.batch {
                let (chunk, stamp) = match delivery {
                    Delivery::Flush => {
                        history.flush(ring);
                        continue;
                    }
                    Delivery::Timed(chunk, time) => (chunk, Some(time)),
                    Delivery::Chunk(chunk) => {
                        let stamp = chunk.marks().stamp();
                        (chunk, stamp)
                    }
                };
                if is_source {
                    counters.count(chunk.payload().len() as u64);
                }
                forced |= history.push_at(ring, chunk, stamp, message.arrival).forced;
            }
            (had_begun, ring.has_begun())
        });
        self.handle.bounds.tighten(self.handle.broadcast.account.held_bytes(), &self.handle.settings);
        if !has_begun {
            return; // a flush and nothing else: there is nothing on air yet
        }
        if forced && !self.warned_of_memory {
            self.warned_of_memory = true;
            tracing::warn!(mount = %self.handle.settings.path, ring_max = %self.handle.settings.ring_max,
                "the stream is larger than ring_max allows: history, bursts and limits are shorter than configured; raise ring_max");
        }
        if !is_source {
            return self.stand_in_heard(message.content_type);
        }
        let status = self.handle.status();
        // Bytes without caps are bytes.
        let content_type =
            self.handle.settings.content_type.clone().or(message.content_type).or_else(|| Some("application/octet-stream".into()));
        let anew = !status.up;
        if anew || status.content_type != content_type {
            let now = self.crew.clock().now();
            if !status.up && self.witnesses.webhooks.want(Kind::SourceUp) {
                let source = SourceEvent { content_type: content_type.as_deref().map(Into::into), ..SourceEvent::default() };
                self.witnesses.webhooks.tell(&Event::of_source(Kind::SourceUp, self.handle.settings.path.as_str(), source));
            }
            if !status.up {
                self.announce(true);
            }
            self.handle.change(|status| {
                if !status.up {
                    status.since = Some(now);
                    status.up_since = Some(SystemTime::now());
                }
                status.up = true;
                status.stand_in = false;
                status.fault = None;
                status.content_type = content_type;
            });
            self.say_what_it_is(anew);
        } else if !had_begun {
            self.handle.change(|_| {}); // newcomers wait for the first chunk, not for a change of what is said of it
        }
    }
}

impl Mount {
    /// Says of what kind the source's stream is: of one that comes each time, of one that changes its mind only so often.
    fn say_what_it_is(&self, anew: bool) {
        const RETYPED: &str = "the source sends another kind of stream";
        let (path, status) = (&self.handle.settings.path, self.handle.status());
        let content_type = status.content_type.as_deref();
        let kind =
            || journal::Kind { what: RETYPED, mount: Some(path.as_str().into()), from: Whence::Source, why: "its media type".into() };
        if anew {
            tracing::info!(mount = %path, content_type, "source up");
        } else if self.witnesses.hearsay.is_news(kind()) {
            tracing::info!(mount = %path, content_type, "{RETYPED}");
        }
    }

    fn stand_in_heard(&self, content_type: Option<Arc<str>>) {
        if !self.handle.status().stand_in {
            self.handle.change(|status| {
                status.stand_in = true;
                // Players have been told what they play, if there are any.
                status.content_type = status.content_type.take().or(content_type);
            });
        }
    }
}

/// A recording is to be heard until a source is. Answers with its gate; `None`: one is.
#[derive(Debug, Message)]
#[rtype(result = "Option<Gate>")]
pub struct OpenStandIn;

impl Handler<OpenStandIn> for Mount {
    type Result = MessageResult<OpenStandIn>;

    fn handle(&mut self, _: OpenStandIn, ctx: &mut Self::Context) -> Self::Result {
        if self.handle.status().up || self.handle.broadcast.is_closed() {
            return MessageResult(None);
        }
        self.history.new_source();
        self.handle.broadcast.feed.write(Ring::begin_anew);
        self.handle.forget_metadata();
        let number = self.handle.begin_stand_in();
        MessageResult(Some(Gate::new(ctx.address(), Arc::clone(&self.handle), number, self.crew.clock())))
    }
}

/// The recording with this number is heard no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StandInEnded(pub u64);

impl Handler<StandInEnded> for Mount {
    type Result = ();

    fn handle(&mut self, StandInEnded(number): StandInEnded, _: &mut Self::Context) {
        if self.handle.is_stand_in(number) {
            self.handle.end_stand_in();
            self.handle.change(|status| status.stand_in = false);
        }
    }
}

/// A source begins: it takes the place of any other. Answers with its gate.
#[derive(Debug, Message)]
#[rtype(result = "Gate")]
pub struct OpenGate;

impl Handler<OpenGate> for Mount {
    type Result = MessageResult<OpenGate>;

    fn handle(&mut self, _: OpenGate, ctx: &mut Self::Context) -> Self::Result {
        self.history.new_source();
        self.handle.bookmark.clear();
        let (status, now) = (self.handle.status(), self.crew.clock().now());
        let outage = status.since.filter(|_| !status.up).map(|since| now.since(since));
        let stale = outage.is_some_and(|outage| outage >= self.handle.settings.stale_after());
        // Who was sent on and comes back has heard what is held, and more.
        let missed = outage.is_some() && self.handle.settings.fallback.to.is_some();
        if self.handle.settings.on_source_end == OnSourceEnd::Close || stale || missed {
            self.handle.broadcast.feed.write(Ring::begin_anew);
            self.handle.forget_metadata();
        }
        let source = self.handle.next_writer();
        MessageResult(Gate::new(ctx.address(), Arc::clone(&self.handle), source, self.crew.clock()))
    }
}

/// The history goes on where another process has stopped: at this stream time, with this clock if it stood there. For the registry,
/// before there is a source.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Resume {
    pub(super) time: u64,
    pub(super) clock: Option<handover::StreamTime>,
}

impl Handler<Resume> for Mount {
    type Result = ();

    fn handle(&mut self, Resume { time, clock }: Resume, _: &mut Self::Context) {
        match clock.filter(|clock| clock.now == time) {
            Some(clock) => self.history.resume_clock(&clock),
            None => self.history.resume(time, self.crew.clock().now()),
        }
    }
}

/// All that was delivered before this is in the history now. Answered with where its clock stands. For the registry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Settled(pub(super) std::sync::mpsc::Sender<handover::StreamTime>);

impl Handler<Settled> for Mount {
    type Result = ();

    fn handle(&mut self, Settled(reply): Settled, _: &mut Self::Context) {
        let _ = reply.send(self.history.pack_clock()); // who does not wait any more goes on without
    }
}

/// The source that was last here goes on where it stopped, with the very next chunk: to the history it is as if it had never been
/// away. Answers with its gate.
#[derive(Debug, Message)]
#[rtype(result = "Gate")]
pub struct ReopenGate;

impl Handler<ReopenGate> for Mount {
    type Result = MessageResult<ReopenGate>;

    fn handle(&mut self, _: ReopenGate, ctx: &mut Self::Context) -> Self::Result {
        let source = self.handle.next_writer();
        MessageResult(Gate::new(ctx.address(), Arc::clone(&self.handle), source, self.crew.clock()))
    }
}

/// The mount has other settings. For the registry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Settle(pub(super) Arc<Handle>);

impl Handler<Settle> for Mount {
    type Result = ();

    fn handle(&mut self, Settle(handle): Settle, _: &mut Self::Context) {
        self.history.retain(handle.settings.retention());
        handle.broadcast.feed.write(|ring| self.history.trim(ring)); // also where nothing more comes
        handle.bounds.settle(&handle.settings); // once more: a delivery before this may have lowered them to what was to hold then
        self.warned_of_memory = false;
        let content_type = &handle.settings.content_type;
        if content_type.is_some() && handle.status().content_type != *content_type {
            handle.change(|status| status.content_type.clone_from(content_type));
        }
        self.handle = handle;
    }
}

/// The source has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SourceEnded {
    /// Which; `None`: the one that writes. One that has been replaced has ended before.
    pub source: Option<u64>,
    /// Why, in a sentence; `None`: it came to its end.
    pub fault: Option<Arc<str>>,
}

impl Handler<SourceEnded> for Mount {
    type Result = ();

    fn handle(&mut self, message: SourceEnded, _: &mut Self::Context) {
        if message.source.is_none_or(|source| source == self.handle.writer()) {
            self.source_down(message.fault);
        }
    }
}

/// What is held may be too old for newcomers by now: they begin with what comes next. Who has heard it, and is behind, gets all of it.
/// For whoever sees to a mount whose source is away.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Age;

impl Handler<Age> for Mount {
    type Result = ();

    fn handle(&mut self, _: Age, _: &mut Self::Context) {
        let stale = self.handle.away().is_some_and(|away| away >= self.handle.settings.stale_after());
        if stale && !self.handle.has_stand_in() {
            self.handle.broadcast.feed.write(Ring::begin_anew);
        }
    }
}

/// An operator wants the source gone: from now on it may not write.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct KillSource;

/// Why a source went that an operator has removed.
pub const KILLED: &str = "removed by an operator";

impl Handler<KillSource> for Mount {
    type Result = ();

    fn handle(&mut self, _: KillSource, _: &mut Self::Context) {
        tracing::info!(mount = %self.handle.settings.path, "an operator removes the source");
        self.source_down(Some(KILLED.into()));
    }
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
