//! The listeners of one mount on one shard, and how they are served.
//!
//! - The shard's copy of the ring is brought up to date once a turn; after that nothing is locked.
//! - A listener whose socket has room is visited once per coalescing window, spread over it, so no turn is long. One whose
//!   socket is full is visited when it has room again, and is judged at each chunk that arrives meanwhile, one by one, so
//!   that the verdict does not depend on how many arrived between two turns.
//! - A listener that is not blocked is never judged: what it has not got yet, the shard has not offered yet.
//! - Memory that listeners in the middle of a chunk keep from being freed is bounded: beyond it the furthest behind go.

mod judging;
mod passing;
mod rotation;
mod seating;
mod weaving;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use self::judging::to_the_oldest_keyframe;
use self::rotation::halved;
use super::broadcast::{Broadcast, Newcomer, Obituary, Rules};
use super::listener::Listener;
use super::pace::{Pace, Rotor};
use super::socket::{Discarded, Wire};
use crate::fanout::cursor::Slices;
use crate::fanout::departure::Departure;
use crate::fanout::recovery::{Edges, Limits, RecoverPolicy};
use crate::fanout::ring::Ring;
use crate::fanout::stats::add;
use crate::units::{Moment, Seq};

/// Bytes one listener is sent in one visit; a longer burst goes on in the next turn, after everybody else.
const BYTES_PER_VISIT: usize = 128 * 1024;
/// The longest that a newcomer waits for a keyframe of a stream that has none; then it begins with what there is. Longer than any group
/// of pictures that is meant for live use.
const KEYFRAME_MOST: Duration = Duration::from_secs(30);
/// Calls to send in one visit, for peers that take little at a time.
const CALLS_PER_VISIT: usize = 16;
/// Bytes one listener may send us in all; what it sends is thrown away.
const RECEIVED_MOST: u32 = 64 * 1024;
/// One listener in so many is looked at for the histogram of lags, in each sweep.
const LAG_SAMPLE: usize = 8;

/// A place in the table, as of one listener that sat there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) generation: u16,
}

/// What a turn needs to know beside the audience.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnContext {
    pub(super) now: Moment,
    /// The server itself was late: nobody is judged.
    pub(super) grace: bool,
    /// Idle times count from here at the earliest: before, the server itself stood still.
    pub(super) resumed: Moment,
}

/// The listeners of one mount on one shard.
#[derive(Debug)]
pub(super) struct Audience<W> {
    /// Which shard this is on.
    shard: usize,
    broadcast: Arc<Broadcast>,
    /// The shard's copy of the ring; empty while nobody listens, so that a sleeping shard keeps nothing in memory.
    ring: Ring,
    /// The version of the feed that the copy has.
    seen: u64,
    table: Vec<Option<Listener<W>>>,
    free: Vec<u32>,
    count: usize,
    generation: u16,
    rotor: Rotor,
    rotated: Moment,
    /// Places the rotor must still pass until everybody has been offered the newest chunk. Zero: nothing to do.
    unvisited: usize,
    /// Everything before this has been offered to everybody who was not blocked…
    offered: Seq,
    /// …and everything before this will have been, when `lap_left` more places are passed.
    lap_upto: Seq,
    lap_left: usize,
    /// Half of the limits: unoffered data beyond it does not wait for the window.
    eager: Limits,
    blocked: Vec<Place>,
    /// Those whose patience has not run out yet, each once.
    newly_full: VecDeque<Place>,
    /// Used while judging; kept for its room.
    edges: Vec<Edges>,
    ready: Vec<Place>,
    /// The place in the stream of whoever of these was the furthest behind when it was put there.
    ready_from: Seq,
    readable: Vec<Place>,
    departed: Vec<Obituary>,
    joined: Vec<Newcomer>,
    window: Duration,
    /// Since when chunks have come and no keyframe among them, and when the last of these came.
    keyless: Option<(Moment, Moment)>,
    /// The furthest that anybody was behind, as far as the present sweep has come.
    lag_seen: Duration,
    /// What was done since it was last counted where others can see it: once a turn, not once a visit.
    send_calls: u64,
    sent_bytes: u64,
}

impl<W: Wire> Audience<W> {
    pub(super) fn new(shard: usize, broadcast: Arc<Broadcast>, now: Moment) -> Self {
        let eager = eager(&broadcast.rules);
        Self {
            shard,
            lag_seen: Duration::ZERO,
            keyless: None,
            window: broadcast.rules.coalesce.max,
            broadcast,
            ring: Ring::default(),
            seen: 0,
            table: Vec::new(),
            free: Vec::new(),
            count: 0,
            generation: 0,
            rotor: Rotor::default(),
            rotated: now,
            unvisited: 0,
            offered: Seq::ZERO,
            lap_upto: Seq::ZERO,
            lap_left: 0,
            eager,
            blocked: Vec::new(),
            newly_full: VecDeque::new(),
            edges: Vec::new(),
            ready: Vec::new(),
            ready_from: Seq::LAST,
            readable: Vec::new(),
            departed: Vec::new(),
            joined: Vec::new(),
            send_calls: 0,
            sent_bytes: 0,
        }
    }

    /// Goes by these rules, if they are newer than those it has. Who is here is held to them from now on.
    pub(super) fn settle(&mut self, broadcast: &Arc<Broadcast>) {
        if !broadcast.is_newer(&self.broadcast) {
            return;
        }
        let before = std::mem::replace(&mut self.broadcast, Arc::clone(broadcast));
        let (old, new) = (&before.rules, &self.broadcast.rules);
        self.eager = eager(new);
        let (socket, buffer) = (old.dscp != new.dscp || old.idle_timeout != new.idle_timeout, old.send_buffer != new.send_buffer);
        // No class is the class zero, for a socket that has had another.
        let asked = Rules { dscp: new.dscp.or(old.dscp.map(|_| 0)), ..new.clone() };
        for listener in self.table.iter_mut().flatten() {
            if socket {
                let _ = listener.wire.prepare(&asked); // a connection that is broken will say so by itself
            }
            if buffer {
                listener.send_buffer = 0; // the next sweep gives it another
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    pub(super) fn broadcast(&self) -> &Arc<Broadcast> {
        &self.broadcast
    }

    pub(super) fn take_send_calls(&mut self) -> u64 {
        std::mem::take(&mut self.send_calls)
    }

    /// Entries for which its tables have room: they must not grow with what has been.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let lists = [&self.blocked, &self.ready, &self.readable].map(Vec::capacity);
        let judging = self.newly_full.capacity() + self.edges.capacity();
        self.table.capacity() + self.free.capacity() + self.departed.capacity() + lists.iter().sum::<usize>() + judging + self.ring.room()
    }

    // ---- what sockets say ----

    fn at(&mut self, place: Place) -> Option<&mut Listener<W>> {
        self.table.get_mut(place.index as usize)?.as_mut().filter(|listener| listener.generation == place.generation)
    }

    /// The socket has room again.
    pub(super) fn writable(&mut self, place: Place) {
        let Some(listener) = self.at(place) else { return };
        if listener.blocked && !listener.queued {
            listener.queued = true;
            let at = listener.cursor.at();
            self.ready_from = self.ready_from.min(at);
            self.ready.push(place);
        }
    }

    /// The peer has sent something, or hung up: seen at once, also on a silent mount.
    pub(super) fn readable(&mut self, place: Place, now: Moment) {
        let keep_half_closed = self.broadcast.rules.keep_half_closed;
        let Some(listener) = self.at(place) else { return };
        if listener.read_closed {
            return;
        }
        let why = match listener.wire.discard() {
            Ok(Discarded::Dry(bytes)) | Ok(Discarded::More(bytes)) if listener.received.saturating_add(bytes) > RECEIVED_MOST => {
                Some(Departure::Kicked)
            }
            Ok(Discarded::Dry(bytes)) => {
                listener.received += bytes;
                None
            }
            Ok(Discarded::More(bytes)) => {
                listener.received += bytes;
                self.readable.push(place);
                None
            }
            Ok(Discarded::Closed) if keep_half_closed => {
                listener.read_closed = true;
                None
            }
            Ok(Discarded::Closed) => Some(Departure::HungUp),
            // The kernel gave up on a peer that took nothing, a moment before we did.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && listener.blocked => Some(Departure::Stalled),
            Err(error) => Some(departure_of(&error)),
        };
        match why {
            Some(why) => self.leave(place.index, why, now),
            None => self.answer(place),
        }
    }

    /// What a peer has sent may have asked for an answer, and its wire holds that: nobody else would send it on a silent mount.
    fn answer(&mut self, place: Place) {
        let Some(listener) = self.at(place) else { return };
        if listener.wire.holds() && !listener.blocked && !listener.queued {
            listener.queued = true;
            self.ready.push(place);
        }
    }

    /// The connection is broken.
    pub(super) fn broken(&mut self, place: Place, now: Moment) {
        if self.at(place).is_some() {
            self.leave(place.index, Departure::HungUp, now);
        }
    }

    // ---- a turn ----

    /// Brings the copy of the ring up to date and judges those who could not take what arrived.
    pub(super) fn catch_up(&mut self, turn: TurnContext) {
        if self.count == 0 || self.broadcast.feed.version() == self.seen {
            return;
        }
        let (before, flushed) = (self.ring.next(), self.ring.flushed());
        let (seen, oldest) = self.broadcast.feed.follow(self.shard, &mut self.ring);
        self.seen = seen;
        self.ring.unroll();
        if self.ring.next() > before {
            self.keyless = match self.ring.keyframe_at_or_after(before) {
                Some(_) => None,
                None => Some((self.keyless.map_or(turn.now, |(since, _)| since), turn.now)),
            };
        }
        if self.ring.flushed() > flushed {
            for index in 0..self.table.len() {
                let Some(listener) = &mut self.table[index] else { continue };
                let dropped = listener.cursor.cut(&self.ring);
                add(&self.broadcast.counters.dropped_chunks, dropped);
                self.leave_if_done(index as u32, turn.now);
            }
        }
        self.judge_blocked(before, turn);
        // What has not been offered to everybody stays in the copy, however little the mount remembers, while memory lasts; so does
        // what waits for those whose turn to be sent it has not come, and for those whose sockets have not been full for long.
        let spare = self.broadcast.account.held_bytes() <= self.broadcast.rules.memory_max;
        self.ring.trim(if spare { oldest.min(self.offered).min(self.ready_from).min(self.patient_from(turn.now)) } else { oldest });
        self.ring.shrink();
        self.evict_stragglers(turn.now);
        if self.unvisited == 0 {
            self.rotated = turn.now;
        }
        self.unvisited = self.table.len();
    }

    /// Serves those whose sockets have room again, then those whose time in the window has come.
    pub(super) fn run(&mut self, pace: &Pace, turn: TurnContext) {
        for place in std::mem::take(&mut self.readable) {
            self.readable(place, turn.now);
        }
        let ready = std::mem::take(&mut self.ready);
        self.ready_from = Seq::LAST;
        for &place in &ready {
            if let Some(listener) = self.at(place) {
                listener.queued = false;
                self.serve(place.index, turn);
            }
        }
        if self.ready.is_empty() {
            self.ready = ready;
            self.ready.clear(); // keeps its room
        }
        self.judge_newly_full(turn);
        self.window = pace.window(self.broadcast.rules.coalesce, self.ring.bytes_per_second());
        if self.unvisited > 0 {
            let places = self.table.len();
            let (start, mut count) = self.rotor.turn(places, turn.now.since(self.rotated), self.window);
            if self.hurried() {
                count = places;
            }
            self.rotated = turn.now;
            for i in 0..count {
                let index = (start + i) % places;
                if self.table[index].as_ref().is_some_and(|listener| !listener.blocked && !listener.queued) {
                    self.serve(index as u32, turn);
                }
            }
            self.passed(count);
        }
    }

    /// Sends one listener what there is for it, until its socket is full, it is caught up, or its share of the turn is used.
    fn serve(&mut self, index: u32, turn: TurnContext) {
        let Some(listener) = &mut self.table[index as usize] else { return };
        let was_blocked = std::mem::take(&mut listener.blocked);
        add_some(&self.broadcast.counters.dropped_chunks, listener.cursor.look_for_keyframe(&self.ring));
        if listener.cursor.at() < self.ring.oldest() && !listener.cursor.awaits_keyframe() {
            if was_blocked && !turn.grace {
                // It has been slow for so long that memory, not a limit, made an end of it.
                self.judge(index, self.broadcast.rules.limits.edges(&self.ring, self.ring.next()), turn.now);
            } else {
                // It was not its doing: the shard came too late to offer what is gone.
                let dropped = listener.cursor.jump(to_the_oldest_keyframe(&self.ring));
                add(&self.broadcast.counters.dropped_chunks, dropped);
                add(&self.broadcast.counters.recoveries[RecoverPolicy::Keyframe.index()], 1);
            }
        }
        let Some(listener) = &mut self.table[index as usize] else { return };
        let (rules, counters) = (&self.broadcast.rules, &self.broadcast.counters);
        let (mut sent, mut calls, next) = (0, 0, self.ring.next());
        let error = loop {
            let (wire, head, cursor, woven) = listener.parts();
            let resend = rules.resend_streamheader;
            let offered = if let Some(woven) = woven {
                weaving::offer(wire, head, woven, &self.broadcast.title, cursor, &self.ring, resend)
            } else {
                let mut slices = Slices::new();
                slices.extend(head.into_iter().filter(|part| !part.is_empty()).map(IoSlice::new));
                let shown = head[0].len() + head[1].len() + cursor.gather(&self.ring, next, resend, BYTES_PER_VISIT, &mut slices);
                (!slices.is_empty() || wire.holds()).then(|| (shown, wire.send(&slices)))
            };
            let Some((shown, outcome)) = offered else {
                listener.cursor.advance(&self.ring, resend, 0); // over chunks that are empty
                break None;
            };
            self.send_calls += 1;
            calls += 1;
            match outcome {
                Ok(taken) if taken > 0 => {
                    let of_stream = listener.take(&self.ring, resend, taken);
                    listener.progress = turn.now;
                    self.sent_bytes += of_stream as u64;
                    if of_stream > 0 && !listener.served {
                        listener.served = true;
                        counters.first_byte.observe(turn.now.since(listener.accepted()));
                    }
                    sent += taken;
                    if sent >= BYTES_PER_VISIT || calls >= CALLS_PER_VISIT {
                        if listener.has_unsent(&self.ring) && !listener.queued {
                            listener.queued = true;
                            self.ready_from = self.ready_from.min(listener.cursor.at());
                            self.ready.push(Place { index, generation: listener.generation });
                        }
                        break None;
                    }
                    if taken == shown && !listener.has_unsent(&self.ring) {
                        break None;
                    }
                }
                Ok(_) => {
                    // What the wire held has gone, or some of it.
                    listener.progress = turn.now;
                    listener.blocked = shown > 0 || listener.wire.holds();
                    break None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.blocked = true;
                    break None;
                }
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = error {
            return self.leave(index, departure_of(&error), turn.now);
        }
        if let Some(why) = listener.done() {
            return self.leave(index, why, turn.now);
        }
        if listener.blocked {
            if !was_blocked {
                listener.progress = turn.now; // it kept up until now, however long ago there was something to send
                (listener.full_since, listener.judged) = (turn.now, next.back(1)); // as of the newest chunk it still is to be
                if !rules.patience.is_zero() && !listener.newly_full {
                    listener.newly_full = true;
                    self.newly_full.push_back(Place { index, generation: listener.generation });
                }
            }
            if !listener.listed {
                listener.listed = true;
                self.blocked.push(Place { index, generation: listener.generation });
            }
            if !turn.grace && turn.now.since(listener.full_since) >= rules.patience {
                listener.judged = next;
                let edges = rules.limits.edges(&self.ring, next);
                self.judge(index, edges, turn.now);
            }
        }
    }
}

/// Half of the limits.
fn eager(rules: &Rules) -> Limits {
    Limits { soft: halved(&rules.limits.soft), hard: halved(&rules.limits.hard) }
}

/// Spares the shared cache line when there is nothing to add.
fn add_some(counter: &std::sync::atomic::AtomicU64, amount: u64) {
    if amount > 0 {
        add(counter, amount);
    }
}

/// A peer that goes away is no error.
fn departure_of(error: &io::Error) -> Departure {
    match error.kind() {
        // The last is a peer that has vanished: keepalive found nobody there.
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::TimedOut => Departure::HungUp,
        _ => Departure::IoError,
    }
}
