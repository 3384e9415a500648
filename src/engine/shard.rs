//! A shard: some of the listeners of every mount, served in turns by one thread.
//!
//! ```text
//!   one turn: clock (once) → what sockets said → rings caught up, blocked listeners judged → commands (bounded)
//!             → those with room again → those due in the window → a part of the sweep → departures reported
//! ```
//! The turn function is the same in production and in the seeded world of the tests; only sockets and clock differ.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use super::audience::{Audience, Place, TurnContext};
use super::broadcast::Broadcast;
use super::counters::ShardCounters;
use super::frost::{Freeze, Latecomers, Thawed};
use super::inbox::{Command, Inbox, ListPart, MovePart};
use super::listener::Listener;
use super::pace::Pace;
use super::socket::Wire;
use crate::fanout::departure::Departure;
use crate::fanout::ring::Ring;
use crate::fanout::stats::add;
use crate::units::Moment;
use std::sync::atomic::Ordering;

/// Commands taken in one turn; a storm of newcomers is spread over turns, between which everybody else is served.
const COMMANDS_PER_TURN: usize = 128;
/// A shard that comes back so much later than it meant to has been stopped, or starved.
const STALL: Duration = Duration::from_secs(1);
/// However long the stall was, nobody is forgiven longer.
const GRACE_MOST: Duration = Duration::from_secs(30);
/// The table is swept once in this time, in parts.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_PARTS: usize = 10;
/// A shard does not wake more often than this for the sake of the window.
const TURN_LEAST: Duration = Duration::from_millis(2);

/// Tells sockets apart: audience, place in its table, and which of those who sat there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The mount's number.
    pub slot: usize,
    pub(super) place: Place,
}

/// What a socket said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    /// It has room again.
    pub writable: bool,
    /// The peer has sent something or closed.
    pub readable: bool,
    /// It is broken.
    pub broken: bool,
}

/// Where a shard has its sockets watched.
pub trait Watch<W> {
    /// From now on the token is reported when the connection has room, has something to read, or breaks.
    ///
    /// # Errors
    /// When the system refuses.
    fn watch(&mut self, wire: &mut W, token: Token) -> io::Result<()>;

    /// The same for a connection that is watched already, with another token.
    ///
    /// # Errors
    /// When the system refuses.
    fn rewatch(&mut self, wire: &mut W, token: Token) -> io::Result<()> {
        self.watch(wire, token)
    }

    /// It is somebody else's from now on, and reported no more.
    fn unwatch(&mut self, _: &mut W) {}
}

/// What a shard wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Sleep for so long (`None`: until woken), then turn again.
    Sleep(Option<Duration>),
    /// It is over.
    Quit,
}

/// Some of the listeners of every mount.
#[derive(Debug)]
pub struct Shard<W> {
    index: usize,
    audiences: Vec<Option<Audience<W>>>,
    counters: Arc<ShardCounters>,
    pace: Pace,
    /// When the next turn was to come at the latest, if that was known.
    expected: Option<Moment>,
    resumed: Moment,
    grace_until: Moment,
    swept: Moment,
    sweep_part: usize,
    /// Why everybody is to leave, once they are: who was on the way then is drained as well.
    draining: Option<Departure>,
    /// Another process has taken over: newcomers go there.
    late: Option<Latecomers<W>>,
}

impl<W: Wire> Shard<W> {
    /// A shard without listeners.
    pub fn new(index: usize, counters: Arc<ShardCounters>, now: Moment) -> Self {
        Self {
            index,
            audiences: Vec::new(),
            counters,
            pace: Pace::new(now),
            expected: None,
            resumed: now,
            grace_until: now,
            swept: now,
            sweep_part: 0,
            draining: None,
            late: None,
        }
    }

    /// A socket said something.
    pub fn event(&mut self, token: Token, readiness: Readiness, now: Moment) {
        let Some(Some(audience)) = self.audiences.get_mut(token.slot) else { return };
        // What the peer sent before it broke does not matter; a hang-up that can be read is a hang-up.
        if readiness.readable {
            audience.readable(token.place, now);
        }
        if readiness.broken {
            audience.broken(token.place, now);
        }
        if readiness.writable {
            audience.writable(token.place);
        }
    }

    /// One turn.
    pub fn turn(&mut self, now: Moment, inbox: &Inbox<W>, watch: &mut impl Watch<W>) -> Next {
        self.notice_stall(now);
        let turn = TurnContext { now, grace: now < self.grace_until, resumed: self.resumed };
        for audience in self.audiences.iter_mut().flatten() {
            audience.catch_up(turn);
        }
        let mut quit = false;
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = inbox.take() else { break };
            let froze = matches!(command, Command::Freeze(_));
            quit |= self.obey(command, turn, watch);
            if froze {
                break; // the moment of this turn is long past: what comes next is for one that sees for how long it stood still
            }
        }
        let sweep = now.since(self.swept) >= SWEEP / SWEEP_PARTS as u32;
        let mut send_calls = 0;
        let mut listeners = 0;
        for audience in self.audiences.iter_mut().flatten() {
            audience.run(&self.pace, turn);
            if sweep {
                audience.sweep(self.sweep_part, SWEEP_PARTS, turn);
            }
            audience.report();
            send_calls += audience.take_send_calls();
            listeners += audience.len();
        }
        if sweep {
            self.swept = now;
            self.sweep_part = (self.sweep_part + 1) % SWEEP_PARTS;
        }
        add(&self.counters.send_calls, send_calls);
        self.counters.listeners.store(listeners as u64, Ordering::Relaxed);
        if quit {
            return Next::Quit;
        }
        let sleep = self.sleep(listeners, inbox, now);
        self.expected = sleep.map(|sleep| now + sleep);
        Next::Sleep(sleep)
    }

    /// After a turn: how long it took, for the pace and the counters.
    pub fn note(&mut self, took: Duration, now: Moment) {
        self.pace.note(took, now);
        let counters = &self.counters;
        counters.turn.observe(took);
        add(&counters.turns, 1);
        counters.busy_permille.store((self.pace.busy_ratio() * 1000.0) as u64, Ordering::Relaxed);
        let window = self.audiences.iter().flatten().filter(|audience| audience.len() > 0).map(Audience::window).max();
        counters.window_micros.store(window.unwrap_or_default().as_micros() as u64, Ordering::Relaxed);
    }

    /// Entries for which its tables have room.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.audiences.iter().flatten().map(Audience::room).sum()
    }

    /// Chunks that its copy of a mount's ring holds.
    #[cfg(test)]
    pub(super) fn held(&self, slot: usize) -> usize {
        self.audiences.get(slot).and_then(Option::as_ref).map_or(0, |audience| audience.copy().len())
    }

    /// The shard is given up: its listeners leave, and are reported.
    pub(super) fn abandon(&mut self, now: Moment) {
        for audience in self.audiences.iter_mut().flatten() {
            audience.clear(Departure::IoError, now);
            audience.report();
        }
    }

    fn notice_stall(&mut self, now: Moment) {
        let late = self.expected.map_or(Duration::ZERO, |expected| now.since(expected));
        if late >= STALL {
            self.resumed = now;
            self.grace_until = now + late.min(GRACE_MOST);
            tracing::warn!(
                shard = self.index,
                late_seconds = late.as_secs_f64(),
                "the server stood still; listeners are not judged for it"
            );
        }
    }

    fn sleep(&self, listeners: usize, inbox: &Inbox<W>, now: Moment) -> Option<Duration> {
        if !inbox.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (listeners > 0).then(|| (SWEEP / SWEEP_PARTS as u32).saturating_sub(now.since(self.swept)));
        let windows = self.audiences.iter().flatten().filter_map(|audience| audience.sleep(self.index, now));
        let wait = windows.map(|wait| if wait.is_zero() { wait } else { wait.max(TURN_LEAST) });
        wait.chain(sweep).min()
    }

    /// Does what it is told. Returns whether that is the end.
    fn obey(&mut self, command: Command<W>, turn: TurnContext, watch: &mut impl Watch<W>) -> bool {
        let command = match (command, &self.late) {
            // Where there is no room for it any more it is served here with what there is.
            (Command::Join(arrival), Some(late)) if arrival.wire.portable() => match late.try_send(arrival) {
                Ok(()) => return false,
                Err(TrySendError::Full(arrival) | TrySendError::Disconnected(arrival)) => Command::Join(arrival),
            },
            (command, _) => command,
        };
        match command {
            Command::Join(arrival) if arrival.broadcast.is_closed() => {
                let broadcast = Arc::clone(&arrival.broadcast);
                let gone = Listener::join(*arrival, &Ring::default(), 0, turn.now).leave(Departure::ShuttingDown, turn.now);
                broadcast.counters.came_and_went(&gone);
                broadcast.reports.departed(vec![gone]);
            }
            Command::Join(arrival) => {
                let slot = arrival.broadcast.slot;
                let draining = self.draining;
                let audience = self.audience(&arrival.broadcast, turn.now);
                audience.join(*arrival, turn, |wire, place| watch.watch(wire, Token { slot, place }));
                if let Some(why) = draining {
                    audience.drain(why, turn);
                }
            }
            Command::Kick { slot, id, why, reply } => {
                let found = self.known(slot).is_some_and(|audience| audience.kick(id, why, turn.now));
                reply.send(found);
            }
            Command::Drain { slot, why } => {
                self.draining = self.draining.or(slot.is_none().then_some(why));
                self.each(slot, |audience| audience.drain(why, turn));
            }
            Command::Clear { why } => self.each(None, |audience| audience.clear(why, turn.now)),
            Command::List { slot, from, most, reply } => {
                let part = self.known(slot).map(|audience| audience.list(from, most, turn.now));
                reply.send(part.unwrap_or(ListPart { listeners: Vec::new(), next: None }));
            }
            Command::HasStrays { slot, from, reply } => reply.send(self.known(slot).is_some_and(|audience| audience.has_strays(&from))),
            Command::Settle { broadcast } if broadcast.is_closed() => {} // and perhaps forgotten
            Command::Settle { broadcast } => {
                self.audience(&broadcast, turn.now);
            }
            Command::Forget { slot, why, reply } => {
                if let Some(mut audience) = self.audiences.get_mut(slot).and_then(Option::take) {
                    audience.clear(why, turn.now);
                    audience.report();
                    add(&self.counters.send_calls, audience.take_send_calls());
                }
                reply.send(());
            }
            Command::Move { slot, who, to, places, from, most, reply } => {
                let given_up = self.known(slot).map(|audience| audience.give_up(&who, from, most, &places, turn.now));
                let (movers, part) = given_up.unwrap_or_else(|| (Vec::new(), MovePart::default()));
                if !movers.is_empty() {
                    let (slot, draining) = (to.slot, self.draining);
                    let audience = self.audience(&to, turn.now);
                    for listener in movers {
                        audience.adopt(listener, turn, |wire, place| watch.rewatch(wire, Token { slot, place }));
                    }
                    if let Some(why) = draining {
                        audience.drain(why, turn);
                    }
                }
                reply.send(part);
            }
            Command::Freeze(freeze) => self.freeze(*freeze, watch),
            Command::Resume { broadcast, listeners, reply } => {
                let slot = broadcast.slot;
                let audience = self.audience(&broadcast, turn.now);
                reply.send(audience.resume(listeners, turn, |wire, place| watch.watch(wire, Token { slot, place })));
            }
            Command::Quit => return true,
        }
        false
    }

    /// Gives everybody out, and waits for whom it gets back. Meanwhile nothing is sent, and orders wait in the inbox.
    fn freeze(&mut self, freeze: Freeze<W>, watch: &mut impl Watch<W>) {
        let audiences = std::mem::take(&mut self.audiences);
        let Some(Thawed { audiences, moved, late }) = freeze.hold(audiences) else { return };
        (self.audiences, self.late) = (audiences, late);
        for (slot, audience) in self.audiences.iter_mut().enumerate() {
            let Some(audience) = audience else { continue };
            if moved.contains(&slot) {
                audience.let_go(|wire| watch.unwatch(wire));
            }
            audience.rewatch(|wire, place| watch.rewatch(wire, Token { slot, place }));
        }
    }

    fn known(&mut self, slot: usize) -> Option<&mut Audience<W>> {
        self.audiences.get_mut(slot)?.as_mut()
    }

    fn each(&mut self, slot: Option<usize>, act: impl FnMut(&mut Audience<W>)) {
        let chosen = self.audiences.iter_mut().flatten().filter(|audience| slot.is_none_or(|slot| audience.broadcast().slot == slot));
        chosen.for_each(act);
    }

    fn audience(&mut self, broadcast: &Arc<Broadcast>, now: Moment) -> &mut Audience<W> {
        let slot = broadcast.slot;
        if self.audiences.len() <= slot {
            self.audiences.resize_with(slot + 1, || None);
        }
        let shard = self.index;
        let audience = self.audiences[slot].get_or_insert_with(|| Audience::new(shard, Arc::clone(broadcast), now));
        debug_assert!(audience.broadcast().is_same(broadcast), "two mounts with one number");
        audience.settle(broadcast);
        audience
    }
}
