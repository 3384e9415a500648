//! Coming and going: who sits where in an audience's table, and what becomes of the room of those who have left.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Audience, Place, TurnContext, add_some};
use crate::engine::admission::Places;
use crate::engine::broadcast::Obituary;
use crate::engine::inbox::{ListPart, MovePart};
use crate::engine::listener::{Arrival, Listener};
use crate::engine::socket::{Wire, send_buffer};
use crate::engine::trail::Movers;
use crate::fanout::departure::Departure;
use crate::fanout::ring::Ring;
use crate::fanout::stats::add;
use crate::units::{ListenerId, Moment, MountPath};

impl<W: Wire> Audience<W> {
    /// A newcomer is placed and served at once: streamheaders and burst wait for nothing.
    pub(in crate::engine) fn join(&mut self, arrival: Arrival<W>, turn: TurnContext, watch: impl FnOnce(&mut W, Place) -> io::Result<()>) {
        let place = self.next_place(turn);
        let listener = Listener::join(arrival, &self.ring, place.generation, turn.now);
        self.seat(listener, place, turn, watch);
    }

    /// The same for a listener that comes from another mount.
    pub(in crate::engine) fn adopt(
        &mut self,
        mut listener: Listener<W>,
        turn: TurnContext,
        watch: impl FnOnce(&mut W, Place) -> io::Result<()>,
    ) {
        let place = self.next_place(turn);
        listener.settle(&self.broadcast, &self.ring, place.generation, turn.now);
        self.seat(listener, place, turn, watch);
    }

    /// A place for one who comes, by what there is now.
    pub(super) fn next_place(&mut self, turn: TurnContext) -> Place {
        if self.count == 0 {
            self.begin(turn.now);
        } else {
            self.catch_up(turn); // what was written before it was sent here is there for it
        }
        self.generation = self.generation.wrapping_add(1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            // One more place lies before the rotor in this round; those behind it do not wait longer for that.
            if self.unvisited > 0 {
                (self.unvisited, self.lap_left) = (self.unvisited + 1, self.lap_left + 1);
                self.rotor.grow();
            }
            self.table.len() as u32 - 1
        });
        Place { index, generation: self.generation }
    }

    fn seat(&mut self, mut listener: Listener<W>, place: Place, turn: TurnContext, watch: impl FnOnce(&mut W, Place) -> io::Result<()>) {
        let edges = self.broadcast.rules.limits.edges(&self.ring, self.ring.next());
        if listener.cursor.at() < edges.soft.max(edges.hard) {
            listener.overdraft = listener.cursor.lag(&self.ring).chunks;
        }
        add(&self.broadcast.counters.joins, 1);
        if self.broadcast.reports.wants_joins() {
            self.joined.push(listener.newcomer());
        }
        self.count += 1;
        let rules = &self.broadcast.rules;
        let prepared = listener.widen(send_buffer(rules, self.ring.bytes_per_second())).and_then(|()| listener.wire.prepare(rules));
        let watched = prepared.and_then(|()| watch(&mut listener.wire, place));
        self.table[place.index as usize] = Some(listener);
        match watched {
            Ok(()) => self.serve(place.index, turn),
            Err(_) => self.leave(place.index, Departure::IoError, turn.now),
        }
    }

    /// Gives up a part of its listeners, from a place in the table on, to another mount that has places for them.
    pub(in crate::engine) fn give_up(
        &mut self,
        who: &Movers,
        from: usize,
        most: usize,
        places: &Arc<Places>,
        now: Moment,
    ) -> (Vec<Listener<W>>, MovePart) {
        let (mut movers, mut part) = (Vec::new(), MovePart::default());
        let mut looked = 0;
        for index in from..self.table.len() {
            if looked == most {
                part.next = Some(index);
                break;
            }
            let Some(listener) = &mut self.table[index] else { continue };
            looked += 1;
            let moves = match who {
                Movers::All | Movers::Lent(_) => true,
                Movers::One(only) => *only == listener.id(),
                Movers::Strayed(from) => listener.trail().leads_from(from),
            };
            if !moves {
                continue;
            }
            let Some(obituary) = listener.depart(places, who, now) else {
                part.stayed += 1;
                continue;
            };
            movers.extend(self.table[index].take());
            self.vacated(index as u32, obituary);
        }
        part.moved = movers.len();
        (movers, part)
    }

    /// Whether somebody was sent on here from this mount. Looks at everybody: to be asked once a second at the most.
    pub(in crate::engine) fn has_strays(&self, from: &MountPath) -> bool {
        self.table.iter().flatten().any(|listener| listener.trail().leads_from(from))
    }

    /// The first listener comes: a copy of the ring is needed again.
    pub(super) fn begin(&mut self, now: Moment) {
        let (seen, oldest) = self.broadcast.feed.follow(self.shard, &mut self.ring);
        self.ring.trim(oldest);
        self.seen = seen;
        (self.offered, self.lap_upto) = (self.ring.next(), self.ring.next());
        (self.unvisited, self.lap_left, self.rotated) = (0, 0, now);
    }

    pub(super) fn leave(&mut self, index: u32, why: Departure, now: Moment) {
        let Some(listener) = self.table[index as usize].take() else { return };
        self.vacated(index, listener.leave(why, now));
    }

    /// A place is empty again, of one with this account.
    fn vacated(&mut self, index: u32, obituary: Obituary) {
        self.free.push(index);
        self.count -= 1;
        let counters = &self.broadcast.counters;
        add(&counters.departures[obituary.why.index()], 1);
        counters.session.observe(obituary.stayed);
        self.departed.push(obituary);
    }

    /// Counts what was sent, hands over who has left since the last time, and gives back the room of an audience that has shrunk.
    pub(in crate::engine) fn report(&mut self) {
        add_some(&self.broadcast.counters.sent_bytes, std::mem::take(&mut self.sent_bytes));
        if !self.joined.is_empty() {
            self.broadcast.reports.joined(std::mem::take(&mut self.joined));
        }
        if self.departed.is_empty() {
            return;
        }
        self.broadcast.reports.departed(std::mem::take(&mut self.departed));
        if self.count == 0 {
            self.lag_seen = Duration::ZERO;
            self.broadcast.counters.lag_max.set(self.shard, Duration::ZERO);
            self.ring = Ring::default();
            self.broadcast.feed.leave(self.shard);
            self.blocked.clear();
            self.newly_full.clear();
        }
        if self.table.len() > 64 && self.count < self.table.len() / 4 {
            let before = self.table.len();
            while self.table.last().is_some_and(Option::is_none) {
                self.table.pop();
            }
            if self.table.len() < before {
                self.table.shrink_to(self.table.len() * 5 / 4);
                self.free = self.free.iter().copied().filter(|&index| (index as usize) < self.table.len()).collect();
                self.ready.shrink_to(self.count);
                // Places have moved under the rotor: it begins a new round, so that nobody is passed over.
                (self.unvisited, self.lap_left) = (self.table.len(), self.table.len());
            }
        }
        if self.blocked.len() > 64 && self.blocked.len() / 2 > self.count {
            // Also on a mount whose source is silent: else it would grow with everybody who comes and goes.
            let mut blocked = std::mem::take(&mut self.blocked);
            blocked.retain(|&place| self.at(place).is_some());
            blocked.shrink_to(self.count);
            self.blocked = blocked;
        }
    }

    pub(in crate::engine) fn kick(&mut self, id: ListenerId, why: Departure, now: Moment) -> bool {
        let found = self.table.iter().position(|seat| seat.as_ref().is_some_and(|listener| listener.id() == id));
        found.map(|index| self.leave(index as u32, why, now)).is_some()
    }

    /// Everybody is sent what is queued, then leaves; who is caught up leaves at once.
    pub(in crate::engine) fn drain(&mut self, why: Departure, turn: TurnContext) {
        self.catch_up(turn); // what was written before the order is queued, too
        for index in 0..self.table.len() {
            self.see_off(index as u32, why, turn);
        }
    }

    /// The same for one.
    pub(super) fn see_off(&mut self, index: u32, why: Departure, turn: TurnContext) {
        let Some(listener) = &mut self.table[index as usize] else { return };
        listener.cursor.drain(self.ring.next());
        listener.leaving.get_or_insert(why);
        if !listener.blocked {
            self.serve(index, turn);
        } else {
            self.leave_if_done(index, turn.now);
        }
    }

    pub(in crate::engine) fn clear(&mut self, why: Departure, now: Moment) {
        for index in 0..self.table.len() {
            self.leave(index as u32, why, now);
        }
    }

    pub(in crate::engine) fn list(&self, from: usize, most: usize, now: Moment) -> ListPart {
        let mut next = None;
        let mut listeners = Vec::new();
        for (index, seat) in self.table.iter().enumerate().skip(from) {
            if listeners.len() == most {
                next = Some(index);
                break;
            }
            listeners.extend(seat.as_ref().map(|listener| listener.view(&self.ring, now)));
        }
        ListPart { listeners, next }
    }
}
