//! When an audience is visited: how far the rotor has come, when waiting for it would cost somebody its place, and how long the
//! shard may sleep.

use std::time::Duration;

use super::Audience;
use crate::engine::socket::Wire;
use crate::units::{ByteCount, Extent, Extents, Moment};

impl<W: Wire> Audience<W> {
    /// Whether what has not been offered yet is so much that waiting longer could cost somebody its place.
    pub(super) fn hurried(&self) -> bool {
        let edges = self.eager.edges(&self.ring, self.ring.next());
        self.offered < edges.soft || self.offered < edges.hard
    }

    /// The rotor has passed so many places.
    pub(super) fn passed(&mut self, count: usize) {
        self.unvisited = self.unvisited.saturating_sub(count);
        if self.unvisited == 0 {
            (self.offered, self.lap_upto, self.lap_left) = (self.ring.next(), self.ring.next(), self.table.len());
        } else if self.lap_left <= count {
            (self.offered, self.lap_upto, self.lap_left) = (self.lap_upto, self.ring.next(), self.table.len());
        } else {
            self.lap_left -= count;
        }
    }

    /// How long the shard may sleep for this audience's sake; `None`: until it is woken. Arms the bell where a push must wake it.
    pub(in crate::engine) fn sleep(&self, shard: usize, now: Moment) -> Option<Duration> {
        if !self.ready.is_empty() || !self.readable.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.count == 0 {
            return None;
        }
        let wait = (self.unvisited > 0).then(|| self.rotor.wait(self.table.len(), self.window));
        let verdict = self.newly_full.front().and_then(|place| self.table.get(place.index as usize)?.as_ref());
        let verdict = verdict.map(|listener| self.broadcast.rules.patience.saturating_sub(now.since(listener.full_since)));
        if (wait.is_none() || !self.blocked.is_empty() || self.tight()) && !self.broadcast.feed.arm(shard, self.seen) {
            return Some(Duration::ZERO);
        }
        wait.into_iter().chain(verdict).min()
    }

    /// Whether the limits are so tight, or the history so short, that a window's worth of data comes near them.
    fn tight(&self) -> bool {
        if self.ring.time() <= self.window * 4 {
            return true;
        }
        let window = self.ring.lag(self.ring.within_one(Extent::Time(self.window * 2), self.ring.next()));
        [&self.eager.soft, &self.eager.hard].into_iter().flat_map(Extents::iter).any(|extent| match extent {
            Extent::Chunks(most) => most <= window.chunks.max(16),
            Extent::Bytes(ByteCount(most)) => most <= window.bytes.max(64 * 1024),
            Extent::Time(most) => most <= self.window * 2,
        })
    }
}

/// Half of a limit, in each of its units.
pub(super) fn halved(limit: &Extents) -> Extents {
    let half = |extent| match extent {
        Extent::Chunks(n) => Extent::Chunks(n / 2),
        Extent::Bytes(ByteCount(n)) => Extent::Bytes(ByteCount(n / 2)),
        Extent::Time(span) => Extent::Time(span / 2),
    };
    // The same number of extents as before, so it fits.
    Extents::new(limit.iter().map(half).collect()).unwrap_or_default()
}
