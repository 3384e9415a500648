//! Who of an audience loses its place: the slow, the stalled, those whose time is over, and those who keep too much in memory.

use super::Place;
use super::{Audience, KEYFRAME_MOST, LAG_SAMPLE, TurnContext};
use crate::engine::listener::Listener;
use crate::engine::socket::{Wire, send_buffer};
use crate::fanout::departure::Departure;
use crate::fanout::recovery::{self, Edges, Verdict};
use crate::fanout::ring::Ring;
use crate::fanout::stats::add;
use crate::units::{Moment, Seq};

/// Chunks that usually come between two turns, at most: room for their edges is kept.
const EDGES_KEPT: usize = 256;

impl<W: Wire> Audience<W> {
    /// Judges those whose sockets are full, at each chunk that has come since `before`.
    pub(super) fn judge_blocked(&mut self, before: Seq, turn: TurnContext) {
        let mut blocked = std::mem::take(&mut self.blocked);
        blocked.retain(|&place| {
            let Some(listener) = self.at(place) else { return false };
            listener.listed = listener.blocked && !listener.queued;
            listener.listed
        });
        if !blocked.is_empty() {
            let mut edges = std::mem::take(&mut self.edges);
            let (mut upto, next) = (before.max(self.ring.oldest()), self.ring.next());
            while upto < next {
                upto = upto.next();
                edges.push(self.broadcast.rules.limits.edges(&self.ring, upto));
            }
            blocked.iter().for_each(|place| self.judge_since(place.index, &edges, turn));
            edges.clear();
            edges.shrink_to(EDGES_KEPT);
            self.edges = edges;
        }
        self.blocked = blocked;
    }

    /// The place in the stream from which on those are still to be sent something who are not judged yet, for their sockets have not
    /// been full for long.
    pub(super) fn patient_from(&self, now: Moment) -> Seq {
        let listener = |place: &Place| self.table.get(place.index as usize)?.as_ref().filter(|found| found.generation == place.generation);
        let patient = |found: &&Listener<W>| found.blocked && now.since(found.full_since) < self.broadcast.rules.patience;
        self.newly_full.iter().filter_map(listener).filter(patient).map(|found| found.cursor.at()).min().unwrap_or(Seq::LAST)
    }

    /// Those whose sockets have been full for as long as the mount's patience lasts are judged, even if nothing more comes.
    pub(super) fn judge_newly_full(&mut self, turn: TurnContext) {
        for _ in 0..self.newly_full.len() {
            let Some(place) = self.newly_full.pop_front() else { break };
            let patience = self.broadcast.rules.patience;
            let Some(listener) = self.at(place) else { continue };
            if listener.blocked && turn.now.since(listener.full_since) < patience {
                self.newly_full.push_back(place);
                continue;
            }
            listener.newly_full = false;
            if listener.blocked && !listener.queued {
                self.judge_since(place.index, &[], turn);
            }
        }
    }

    /// Judges a listener whose socket is full at each chunk since it was last judged, one by one, so that the verdict does not
    /// depend on how many came between two looks. `edges` are those of the newest chunks, as far as they are known.
    fn judge_since(&mut self, index: u32, edges: &[Edges], turn: TurnContext) {
        let (next, rules) = (self.ring.next(), &self.broadcast.rules);
        let Some(listener) = &mut self.table[index as usize] else { return };
        if turn.grace {
            listener.judged = next;
            return;
        }
        if turn.now.since(listener.full_since) < rules.patience {
            return;
        }
        let mut upto = std::mem::replace(&mut listener.judged, next).max(self.ring.oldest());
        let inside = |edges: &Edges, listener: &Listener<W>| {
            let (at, waits) = (listener.cursor.at(), listener.cursor.awaits_keyframe());
            at >= edges.soft && at >= edges.hard && !waits
        };
        // Most are inside both limits, and then they were so at each chunk before: one look at the place in the stream.
        if edges.last().is_some_and(|newest| inside(newest, listener)) {
            return;
        }
        while upto < next {
            upto = upto.next();
            let known = edges.len().checked_sub(1 + next.since(upto) as usize).map(|i| edges[i]);
            let edges = known.unwrap_or_else(|| self.broadcast.rules.limits.edges(&self.ring, upto));
            let Some(listener) = &self.table[index as usize] else { return };
            if !inside(&edges, listener) {
                self.judge(index, edges, turn.now);
            }
        }
    }

    /// Judges one listener and executes the verdict.
    pub(super) fn judge(&mut self, index: u32, edges: Edges, now: Moment) {
        let Some(listener) = &mut self.table[index as usize] else { return };
        let (rules, counters) = (&self.broadcast.rules, &self.broadcast.counters);
        add(&counters.dropped_chunks, listener.cursor.look_for_keyframe(&self.ring));
        if listener.cursor.awaits_keyframe() || listener.spared(&self.eager, &self.ring) {
            return;
        }
        match recovery::judge(rules.recover, listener.cursor.at(), edges, &self.ring) {
            Verdict::Stay => {}
            Verdict::Evict => self.leave(index, Departure::TooSlow, now),
            verdict @ Verdict::Jump { .. } => {
                add(&counters.dropped_chunks, listener.cursor.jump(verdict));
                add(&counters.recoveries[rules.recover.index()], 1);
                self.leave_if_done(index, now); // it was draining, and what it was still to get is void
            }
        }
    }

    /// It was draining, and what it was still to get has gone, or is void.
    pub(super) fn leave_if_done(&mut self, index: u32, now: Moment) {
        if let Some(why) = self.table[index as usize].as_ref().and_then(Listener::done) {
            self.leave(index, why, now);
        }
    }

    /// Listeners in the middle of chunks that the ring has let go keep those in memory. Beyond the bound the furthest behind leave.
    pub(super) fn evict_stragglers(&mut self, now: Moment) {
        let most = self.broadcast.rules.memory_max;
        if self.broadcast.account.held_bytes() <= most {
            return;
        }
        let pins = |place: &Place| Some((self.table[place.index as usize].as_ref()?.cursor.pins(&self.ring)?, place.index));
        let mut stragglers: Vec<(Seq, u32)> = self.blocked.iter().filter_map(pins).collect();
        stragglers.sort_unstable();
        for (_, index) in stragglers {
            if self.broadcast.account.held_bytes() <= most {
                break;
            }
            self.leave(index, Departure::TooSlow, now);
        }
    }

    /// Looks at one part of the table in so many: who has stalled, whose time is over, how far everybody is behind.
    pub(in crate::engine) fn sweep(&mut self, part: usize, parts: usize, turn: TurnContext) {
        if part == 0 {
            self.broadcast.counters.lag_max.set(self.shard, std::mem::take(&mut self.lag_seen));
        }
        let (idle, longest) = (self.broadcast.rules.idle_timeout, self.broadcast.rules.max_duration);
        let buffer = send_buffer(&self.broadcast.rules, self.ring.bytes_per_second());
        // A source that is away has no keyframes either; that is another wait.
        let keyless = self.keyless.filter(|(_, last)| turn.now.since(*last) < KEYFRAME_MOST / 10).map(|(since, _)| since);
        for index in (part..self.table.len()).step_by(parts) {
            let Some(listener) = &mut self.table[index] else { continue };
            if listener.cursor.awaits_first_keyframe() // most do not, and are not asked more
                && keyless.is_some_and(|since| turn.now.since(since.max(listener.joined())) >= KEYFRAME_MOST)
                && listener.cursor.begin_unsynced(&self.ring)
            {
                add(&self.broadcast.counters.unsynced_starts, 1);
            }
            let _ = listener.widen(buffer); // a connection that is broken will say so by itself
            let stalled = listener.blocked
                && !turn.grace
                && idle.is_some_and(|idle| turn.now.since(listener.progress.max(turn.resumed)) >= idle)
                && listener.has_unsent(&self.ring);
            let over = longest.is_some_and(|longest| turn.now.since(listener.joined()) >= longest) || listener.has_expired(turn.now);
            let lag = listener.cursor.lag(&self.ring).time;
            self.lag_seen = self.lag_seen.max(lag);
            if (index / parts).is_multiple_of(LAG_SAMPLE) {
                self.broadcast.counters.lag.observe(lag);
            }
            let spent = listener.leaving.is_none() && listener.wire.is_spent();
            if stalled || over {
                let why = if stalled { Departure::Stalled } else { Departure::SessionLimit };
                self.leave(index as u32, why, turn.now);
            } else if spent {
                self.see_off(index as u32, Departure::SessionLimit, turn);
            }
        }
    }
}

/// Where somebody goes on who was not offered in time what is gone.
pub(super) fn to_the_oldest_keyframe(ring: &Ring) -> Verdict {
    match ring.keyframe_at_or_after(ring.oldest()) {
        Some(to) => Verdict::Jump { to, await_keyframe: false },
        None => Verdict::Jump { to: ring.next(), await_keyframe: true },
    }
}
