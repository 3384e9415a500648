//! All listeners of a run in one thread: epoll for those that join and those that are watched, a slow round for the rest.
//!
//! ```text
//!             epoll (edges)                    round (each once per period)
//!  joining ──▶ first body byte ──▶ watched: read at once, exact times
//!                              └─▶ the rest: out of epoll, emptied in the kernel when the round comes by
//! ```
//! - A turn is bounded: what epoll reported, the round's share of a tick, and at most [`READS`] reads per listener.
//! - The period follows the measured rate, so that a visit finds some [`AIM`] bytes: far below the receive window, so the server sees
//!   a listener that keeps up.
//! - Times of watched listeners are taken at the read. Those of the others are only good to one period.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::check::{Book, Format, Start};
use crate::clock::Nanos;
use crate::http::{self, Version};
use crate::ledger::Ledger;
use crate::line::{Line, Tls};
use crate::listener::{Complaint, Content, Found, Joining, Listening, Progress, State, connect_failure};
use crate::net;
use crate::roster::Roster;
use crate::schedule::{self, Dice, Mix, Pace, Role, Round};
use crate::target::Target;

mod steady;

pub(crate) use steady::Steady;

const TICK: Duration = Duration::from_millis(10);
const SWEEP: Duration = Duration::from_millis(100);
const SHORTEST_PERIOD: Duration = Duration::from_millis(20);
/// Bytes a visit of the round should find.
const AIM: f64 = 24.0 * 1024.0;
/// A visit that found more than this comes again at the next tick: a burst is being delivered.
const HOT: usize = 32 << 10;
const READS: usize = 16;
const SCRATCH: usize = 256 << 10;
const BACKOFF: Duration = Duration::from_secs(1);

/// What a swarm is asked to do. Checked before it comes here.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    /// How TLS is spoken, if any target speaks it.
    pub(crate) tls: Option<Tls>,
    pub(crate) listeners: usize,
    pub(crate) mix: Mix,
    pub(crate) version: Version,
    pub(crate) sources: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) reconnect: bool,
    pub(crate) longest_period: Duration,
    pub(crate) format: Option<Format>,
    pub(crate) start: Start,
    /// Receive buffer of slow and stalled listeners.
    pub(crate) slow_buffer: Option<usize>,
    /// What the source of each target has done, where it is known; targets beyond have none.
    pub(crate) books: Vec<Arc<Book>>,
    /// Where it is written down who listens, for whoever removes listeners.
    pub(crate) roster: Option<Arc<Roster>>,
}

#[derive(Debug)]
struct Slot {
    role: Role,
    state: State,
    retry_at: Option<Nanos>,
}

#[derive(Debug)]
pub(crate) struct Swarm {
    plan: Plan,
    requests: Vec<Vec<u8>>,
    slots: Vec<Slot>,
    poll: Poll,
    events: Events,
    round: Round,
    period: Duration,
    last_tick: Nanos,
    last_sweep: Nanos,
    swept_bytes: u64,
    hot: Vec<usize>,
    scratch: Vec<u8>,
    steady: Option<Nanos>,
    pub(crate) ledger: Ledger,
}

impl Swarm {
    pub(crate) fn new(plan: Plan) -> io::Result<Self> {
        let now = Nanos::now();
        let slot = |role| Slot { role, state: State::Absent, retry_at: None };
        Ok(Self {
            requests: plan.targets.iter().map(|target| http::request(&target.protocol, plan.version)).collect(),
            slots: schedule::roles(plan.listeners, &plan.mix).into_iter().map(slot).collect(),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            round: Round::default(),
            period: SHORTEST_PERIOD.max(plan.longest_period / 4),
            last_tick: now,
            last_sweep: now,
            swept_bytes: 0,
            hot: Vec::new(),
            scratch: vec![0; SCRATCH],
            steady: None,
            ledger: Ledger::default(),
            plan,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Nobody listens and nobody will.
    pub(crate) fn hopeless(&self) -> bool {
        self.ledger.listening + self.ledger.joining == 0 && !self.plan.reconnect
    }

    /// Begins to connect the listener of slot `at`, which must be absent.
    pub(crate) fn join(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        debug_assert!(matches!(slot.state, State::Absent), "slot {at} joins twice");
        slot.retry_at = None;
        self.ledger.joining += 1;
        let which = at % self.plan.targets.len();
        let buffer = self.plan.slow_buffer.filter(|_| slot.role.pace != Pace::Full);
        let started = Nanos::now();
        let begun = net::connect(self.plan.targets[which].address, net::source(at, self.plan.sources), buffer)
            .and_then(|socket| Line::new(socket, self.plan.tls.as_ref().filter(|_| self.plan.targets[which].secure)))
            .and_then(|mut line| {
                let sent = line.ask(&self.requests[which])? && !line.talks();
                let interest = if sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
                self.poll.registry().register(&mut line.socket, Token(at), interest)?;
                Ok(Joining::new(line, started))
            });
        match begun {
            Ok(joining) => slot.state = State::Joining(joining),
            Err(e) => self.refuse(at, &connect_failure(&e)),
        }
    }

    /// A listener of this tool's own will leaves.
    pub(crate) fn leave(&mut self, at: usize) {
        match std::mem::take(&mut self.slots[at].state) {
            State::Absent => {}
            State::Joining(_) => {
                self.ledger.joining -= 1;
                self.ledger.abandoned += 1;
            }
            State::Listening(listening) => {
                self.ledger.left += 1;
                self.depart(&listening);
            }
        }
    }

    pub(crate) fn leave_all(&mut self) {
        for at in 0..self.slots.len() {
            self.slots[at].retry_at = None;
            self.leave(at);
        }
    }

    /// One listener, never a measured one, leaves and another comes in its place.
    pub(crate) fn churn(&mut self, dice: &mut Dice) {
        // A few throws find one unless hardly any may go.
        for _ in 0..16 {
            let at = dice.below(self.slots.len());
            let slot = &self.slots[at];
            if !slot.role.measured && matches!(slot.state, State::Listening(_)) {
                self.leave(at);
                return self.join(at);
            }
        }
    }

    /// Waits at most `wait` for something to happen, and does what is due.
    pub(crate) fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let until_tick = TICK.saturating_sub(Nanos::now().since(self.last_tick));
        match self.poll.poll(&mut self.events, Some(wait.min(until_tick))) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.visit(event.token().0, true, event.is_read_closed() || event.is_error());
        }
        self.events = events;
        self.tick();
        Ok(())
    }

    fn tick(&mut self) {
        let now = Nanos::now();
        let elapsed = now.since(self.last_tick);
        if elapsed < TICK {
            return;
        }
        self.last_tick = now;
        for at in std::mem::take(&mut self.hot) {
            self.visit(at, false, false);
        }
        for range in self.round.visit(self.slots.len(), elapsed, self.period) {
            for at in range {
                if !self.slots[at].role.watched() && matches!(self.slots[at].state, State::Listening(_)) {
                    self.visit(at, false, false);
                }
            }
        }
        if now.since(self.last_sweep) >= SWEEP {
            self.sweep(now);
        }
    }

    /// Times out joins, brings back the lost, fits the period to the rate.
    fn sweep(&mut self, now: Nanos) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            match &slot.state {
                State::Joining(joining) if now.since(joining.started) > self.plan.join_timeout => self.refuse(at, "timeout"),
                State::Absent if slot.retry_at.is_some_and(|then| then <= now) => self.join(at),
                _ => {}
            }
        }
        let seconds = now.since(self.last_sweep).as_secs_f64();
        let rate = (self.ledger.body_bytes - self.swept_bytes) as f64 / seconds / self.ledger.listening.max(1) as f64;
        let wished = schedule::period(rate, AIM, SHORTEST_PERIOD, self.plan.longest_period);
        // Shorter at once, longer by and by: a burst at the source must not find the round asleep.
        self.period = wished.min(self.period + self.period / 8);
        self.swept_bytes = self.ledger.body_bytes;
        self.last_sweep = now;
    }

    fn visit(&mut self, at: usize, reported: bool, closing: bool) {
        match &self.slots[at].state {
            State::Absent => {}
            State::Joining(_) => self.proceed(at),
            State::Listening(_) => match self.slots[at].role.pace {
                Pace::Stalled if closing => self.lose(at),
                Pace::Stalled => {}
                Pace::Slow(_) if reported => {}
                Pace::Slow(rate) => self.sip(at, rate.0),
                Pace::Full => self.drain(at, closing),
            },
        }
    }

    fn proceed(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let State::Joining(joining) = &mut slot.state else { return };
        let which = at % self.plan.targets.len();
        match joining.proceed(&self.plan.targets[which].protocol, &self.requests[which], &mut self.scratch[..64 << 10]) {
            Progress::Waiting => {}
            Progress::Refused(why) => self.refuse(at, &why),
            Progress::Body { first, head } => {
                let now = Nanos::now();
                let State::Joining(joining) = std::mem::take(&mut slot.state) else { return };
                self.ledger.first_byte.record(now.since(joining.started));
                self.ledger.joining -= 1;
                self.ledger.joined += 1;
                self.ledger.listening += 1;
                self.ledger.body_bytes += first.len() as u64;
                if let (Some(roster), Ok(end)) = (&self.plan.roster, joining.line.socket.local_addr()) {
                    roster.joined(end);
                }
                let mut listening = Listening::new(joining.into_line(), now);
                listening.account(Found::Bytes(first.len()), now, self.steady);
                if slot.role.verified {
                    listening.verify(head.as_ref(), self.plan.format, self.plan.start, self.plan.books.get(which).cloned());
                }
                // The stalled stay in epoll: their end shows there and nowhere else.
                if !slot.role.watched() && slot.role.pace != Pace::Stalled {
                    // Failing to leave epoll costs only spurious events.
                    let _ = self.poll.registry().deregister(&mut listening.line.socket);
                }
                slot.state = State::Listening(listening);
                self.check(at, &first, now);
                self.visit(at, false, false);
            }
        }
    }

    /// Reads what there is, checked or not.
    fn drain(&mut self, at: usize, closing: bool) {
        let State::Listening(listening) = &mut self.slots[at].state else { return };
        let checked = !matches!(listening.content, Content::Unchecked);
        for _ in 0..READS {
            let State::Listening(listening) = &mut self.slots[at].state else { return };
            let now = Nanos::now();
            let mut scratch = std::mem::take(&mut self.scratch);
            let found =
                if checked { listening.read(now, self.steady, &mut scratch) } else { listening.discard(now, self.steady, &mut scratch) };
            if let (true, Found::Bytes(length)) = (checked, found) {
                self.check(at, &scratch[..length], now);
            }
            self.scratch = scratch;
            match found {
                Found::Nothing => return,
                Found::Closed => return self.lose(at),
                Found::Bytes(length) => {
                    self.ledger.body_bytes += length as u64;
                    if length < SCRATCH && !closing {
                        if length >= HOT && !self.slots[at].role.watched() {
                            self.hot.push(at);
                        }
                        return;
                    }
                }
            }
        }
        self.hot.push(at);
    }

    /// A slow listener reads what its rate allows since it last read.
    fn sip(&mut self, at: usize, rate: f64) {
        let State::Listening(listening) = &mut self.slots[at].state else { return };
        let now = Nanos::now();
        let allowed = (listening.since_last_read(now).as_secs_f64() * rate) as usize;
        if allowed == 0 {
            return;
        }
        match listening.discard(now, self.steady, &mut self.scratch[..allowed.min(SCRATCH)]) {
            Found::Bytes(length) => self.ledger.body_bytes += length as u64,
            Found::Nothing => {}
            Found::Closed => self.lose(at),
        }
    }

    fn check(&mut self, at: usize, bytes: &[u8], now: Nanos) {
        let State::Listening(listening) = &mut self.slots[at].state else { return };
        match listening.check(bytes, now, self.plan.start, &mut self.ledger.latency, self.steady) {
            Ok(()) => {}
            Err(Complaint::UnknownFormat) => self.ledger.unverifiable += 1,
            Err(Complaint::Fault(fault)) => self.ledger.fault(at, &fault),
        }
    }

    fn refuse(&mut self, at: usize, why: &str) {
        self.slots[at].state = State::Absent;
        self.ledger.refuse(why);
        self.retry(at);
    }

    /// The server closed this one.
    fn lose(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let State::Listening(listening) = std::mem::take(&mut slot.state) else { return };
        let pace = slot.role.pace;
        match (self.depart(&listening), pace) {
            (true, _) => self.ledger.kicked += 1,
            (false, Pace::Full) => self.ledger.lost += 1,
            (false, Pace::Slow(_) | Pace::Stalled) => self.ledger.removed += 1,
        }
        self.retry(at);
    }

    fn retry(&mut self, at: usize) {
        self.slots[at].retry_at = self.plan.reconnect.then(|| Nanos::now().after(BACKOFF));
    }

    /// `true`: on this tool's own request to the server.
    fn depart(&mut self, listening: &Listening) -> bool {
        self.ledger.listening -= 1;
        if let Content::Checked { checker, .. } = &listening.content {
            self.ledger.units += checker.units();
        }
        let roster = self.plan.roster.as_ref();
        roster.zip(listening.line.socket.local_addr().ok()).is_some_and(|(roster, end)| roster.gone(end))
    }
}
