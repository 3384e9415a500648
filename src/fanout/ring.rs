//! A mount's recent history: a run of chunks without holes, the newest last.
//!
//! - Positions are sequence numbers that only grow. What is trimmed is gone for good; what comes next has the next number.
//! - Sums are kept, not computed: bytes are cumulative and stream time never goes back, so each question about an extent is
//!   one binary search.
//! - A ring is bounded by whoever trims it (`retention`), never by its slowest reader.
//!
//! The same type serves twice: as the mount's ring, and as a shard's copy of it ([`Ring::follow`]), which shares the chunks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::chunk::Chunk;
use crate::units::{ByteCount, Extent, Extents, Seq};

/// A chunk in its place.
#[derive(Clone, Debug)]
struct Entry {
    chunk: Arc<Chunk>,
    /// Stream time, nanoseconds.
    time: u64,
    /// Payload bytes of the mount's whole history before this chunk.
    before: u64,
}

/// What a reader finds at a position. Three honest answers instead of an `Option`.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// The chunk is here.
    Held(&'a Arc<Chunk>),
    /// It has not arrived yet.
    NotYet,
    /// It is not held any more.
    Gone,
}

/// How far somebody is behind: what waits to be begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Chunks that wait.
    pub chunks: u64,
    /// Their payload.
    pub bytes: u64,
    /// Stream time from the first that waits to the newest.
    pub time: Duration,
}

/// A run of chunks without holes.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<Entry>,
    /// Place of `entries[0]`, or of the next arrival when there is none.
    oldest: Seq,
    /// Places in `entries` where a listener may start, ascending.
    keyframes: VecDeque<Seq>,
    /// Payload bytes ever pushed.
    bytes_end: u64,
    /// What the held chunks cost in memory.
    cost: u64,
    /// Everything before this place was cut off by a flush, not by age.
    flushed: Seq,
}

impl Ring {
    /// Adds the newest chunk. `time` is stream time in nanoseconds and must not go back (see `clock`).
    pub fn push(&mut self, chunk: Arc<Chunk>, time: u64) -> Seq {
        debug_assert!(self.entries.back().is_none_or(|last| last.time <= time), "stream time went back");
        let seq = self.next();
        let before = self.bytes_end;
        self.bytes_end += chunk.payload().len() as u64;
        self.append(Entry { chunk, time, before });
        seq
    }

    fn append(&mut self, entry: Entry) {
        if entry.chunk.keyframe() {
            self.keyframes.push_back(self.next());
        }
        self.cost += entry.chunk.cost();
        self.entries.push_back(entry);
    }

    /// Forgets everything older than `from`.
    pub fn trim(&mut self, from: Seq) {
        while self.oldest < from {
            let Some(entry) = self.entries.pop_front() else { break };
            self.cost -= entry.chunk.cost();
            self.oldest = self.oldest.next();
        }
        while self.keyframes.front().is_some_and(|&seq| seq < self.oldest) {
            self.keyframes.pop_front();
        }
    }

    /// Forgets everything because upstream flushed: what was held is void, not old.
    pub fn flush(&mut self) {
        self.trim(self.next());
        self.flushed = self.next();
    }

    /// Gives back the room of a history that was once longer.
    pub fn shrink(&mut self) {
        if self.entries.capacity() > 64 && self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
            self.keyframes.shrink_to(self.keyframes.len() * 2);
        }
    }

    /// Chunks for which there is room.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.entries.capacity() + self.keyframes.capacity()
    }

    /// Brings a copy up to date: shares what is new. What the original no longer holds stays until the copy is trimmed, so
    /// that its readers can be judged chunk by chunk. A copy so late that chunks are missing between the two starts anew.
    pub fn follow(&mut self, original: &Self) {
        if original.flushed > self.flushed || original.oldest > self.next() || self.next() > original.next() {
            self.entries.clear();
            self.keyframes.clear();
            self.cost = 0;
            self.oldest = original.oldest;
            self.flushed = original.flushed;
        }
        let missing = original.next().since(self.next()) as usize;
        for entry in original.entries.range(original.entries.len() - missing..) {
            self.append(entry.clone());
        }
        self.bytes_end = original.bytes_end;
    }

    /// Place of the oldest chunk held, or of the next arrival when there is none.
    pub fn oldest(&self) -> Seq {
        self.oldest
    }

    /// Place of the next chunk to arrive.
    pub fn next(&self) -> Seq {
        self.oldest.ahead(self.entries.len() as u64)
    }

    /// Where the last flush cut.
    pub fn flushed(&self) -> Seq {
        self.flushed
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Chunks held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory of the chunks held, in bytes.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Payload held, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes_from(self.oldest, self.next())
    }

    /// Stream time held.
    pub fn time(&self) -> Duration {
        self.lag(self.oldest).time
    }

    /// Bytes per second of stream time, over what is held; `None` while that is too little to tell.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let seconds = self.time().as_secs_f64();
        // The newest chunk has begun but not lasted: it does not count.
        let newest = self.entries.back()?.chunk.payload().len() as u64;
        (seconds >= 0.5).then(|| (self.bytes() - newest) as f64 / seconds)
    }

    /// What is at a place.
    pub fn look(&self, at: Seq) -> Lookup<'_> {
        if at < self.oldest {
            return Lookup::Gone;
        }
        match self.entries.get(at.since(self.oldest) as usize) {
            Some(entry) => Lookup::Held(&entry.chunk),
            None => Lookup::NotYet,
        }
    }

    /// What waits for a reader whose next chunk is `at`.
    pub fn lag(&self, at: Seq) -> Lag {
        let at = at.max(self.oldest);
        if at >= self.next() {
            return Lag::default();
        }
        let next = self.next();
        Lag {
            chunks: next.since(at),
            bytes: self.bytes_from(at, next),
            time: Duration::from_nanos(self.time_at(next.back(1)).saturating_sub(self.time_at(at))),
        }
    }

    /// The earliest place from which everything before `upto` passes none of the extents (a maximum; inclusive). It is `upto`
    /// itself when even the last chunk alone is too much, and the oldest chunk held when there are no extents.
    pub fn within(&self, most: &Extents, upto: Seq) -> Seq {
        most.iter().map(|extent| self.within_one(extent, upto)).fold(self.oldest, Seq::max).min(upto)
    }

    fn within_one(&self, most: Extent, upto: Seq) -> Seq {
        match most {
            Extent::Chunks(n) => upto.back(n),
            Extent::Bytes(ByteCount(most)) => {
                let end = self.bytes_at(upto);
                self.first_where(upto, |entry| end.saturating_sub(entry.before) <= most)
            }
            Extent::Time(most) => {
                let (end, most) = (self.end_time(upto), crate::units::nanos(most));
                self.first_where(upto, |entry| end.saturating_sub(entry.time) <= most)
            }
        }
    }

    /// The latest place from which everything before `upto` reaches all of the extents (a minimum, met by the chunk that
    /// reaches it), or `None` when the ring does not hold so much.
    pub fn reaching(&self, least: &Extents, upto: Seq) -> Option<Seq> {
        least.iter().map(|extent| self.reaching_one(extent, upto)).try_fold(upto, |earliest, at| at.map(|at| at.min(earliest)))
    }

    fn reaching_one(&self, least: Extent, upto: Seq) -> Option<Seq> {
        match least {
            Extent::Chunks(n) => (upto.since(self.oldest) >= n).then(|| upto.back(n)),
            Extent::Bytes(ByteCount(least)) => {
                let end = self.bytes_at(upto);
                self.last_where(upto, |entry| end.saturating_sub(entry.before) >= least)
            }
            Extent::Time(least) => {
                let (end, least) = (self.end_time(upto), crate::units::nanos(least));
                self.last_where(upto, |entry| end.saturating_sub(entry.time) >= least)
            }
        }
    }

    /// The newest place not after `at` where a listener may start.
    pub fn keyframe_at_or_before(&self, at: Seq) -> Option<Seq> {
        let after = self.keyframes.partition_point(|&seq| seq <= at);
        after.checked_sub(1).map(|i| self.keyframes[i])
    }

    /// The oldest place not before `at` where a listener may start.
    pub fn keyframe_at_or_after(&self, at: Seq) -> Option<Seq> {
        self.keyframes.get(self.keyframes.partition_point(|&seq| seq < at)).copied()
    }

    fn bytes_at(&self, at: Seq) -> u64 {
        self.entries.get(at.since(self.oldest) as usize).map_or(self.bytes_end, |entry| entry.before)
    }

    fn bytes_from(&self, from: Seq, upto: Seq) -> u64 {
        self.bytes_at(upto) - self.bytes_at(from)
    }

    fn time_at(&self, at: Seq) -> u64 {
        self.entries.get(at.since(self.oldest) as usize).map_or(0, |entry| entry.time)
    }

    /// Stream time of the last chunk before `upto`.
    fn end_time(&self, upto: Seq) -> u64 {
        if upto > self.oldest { self.time_at(upto.back(1)) } else { 0 }
    }

    /// First place before `upto` for which the condition holds; it holds for all after the first. `upto` if there is none.
    fn first_where(&self, upto: Seq, holds: impl Fn(&Entry) -> bool) -> Seq {
        let first = self.entries.partition_point(|entry| !holds(entry)) as u64;
        self.oldest.ahead(first).min(upto)
    }

    /// Last place before `upto` for which the condition holds; it holds for all before the last.
    fn last_where(&self, upto: Seq, holds: impl Fn(&Entry) -> bool) -> Option<Seq> {
        let held = upto.since(self.oldest) as usize;
        let count = self.entries.partition_point(|entry| holds(entry)).min(held);
        count.checked_sub(1).map(|last| self.oldest.ahead(last as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::testing::{ring_of, seq};

    #[test]
    fn extents_are_exact_in_every_unit() {
        // Ten chunks of 16 bytes, 20 ms apart.
        let ring = ring_of("K....K....");
        let end = ring.next();
        for (extent, within, reaching) in [
            ("0 chunks", 10, Some(10)),
            ("1 chunk", 9, Some(9)),
            ("10 chunks", 0, Some(0)),
            ("11 chunks", 0, None),
            ("15B", 10, Some(9)), // one chunk is too much, and one chunk reaches it
            ("16B", 9, Some(9)),
            ("17B", 9, Some(8)),
            ("160B", 0, Some(0)),
            ("161B", 0, None),
            ("0s", 9, Some(9)), // from a chunk to itself no time passes
            ("19ms", 9, Some(8)),
            ("20ms", 8, Some(8)),
            ("180ms", 0, Some(0)),
            ("181ms", 0, None),
        ] {
            let extents: Extents = extent.parse().expect(extent);
            assert_eq!(ring.within(&extents, end), seq(within), "within {extent}");
            assert_eq!(ring.reaching(&extents, end), reaching.map(seq), "reaching {extent}");
        }
    }

    #[test]
    fn a_list_is_all_of_it_as_minimum_and_none_passed_as_maximum() {
        let ring = ring_of("K....K....");
        let both: Extents = "3 chunks, 100ms".parse().expect("a list");
        assert_eq!(ring.reaching(&both, ring.next()), Some(seq(4)), "100 ms reach further back than 3 chunks");
        assert_eq!(ring.within(&both, ring.next()), seq(7), "3 chunks are passed before 100 ms");
    }

    #[test]
    fn extents_can_be_asked_as_of_an_earlier_chunk() {
        let ring = ring_of("K....K....");
        for extent in ["3 chunks", "48B", "40ms"] {
            let extents: Extents = extent.parse().expect(extent);
            for upto in 3..=10 {
                assert_eq!(ring.within(&extents, seq(upto)), seq(upto - 3), "{extent} before {upto}");
                assert_eq!(ring.reaching(&extents, seq(upto)), Some(seq(upto - 3)), "{extent} before {upto}");
            }
        }
    }

    #[test]
    fn lag_is_what_waits() {
        let ring = ring_of("K....K....");
        assert_eq!(ring.lag(seq(7)), Lag { chunks: 3, bytes: 48, time: Duration::from_millis(40) });
        assert_eq!(ring.lag(seq(10)), Lag::default());
        assert_eq!(ring.lag(seq(12)), Lag::default(), "nobody is behind what has not come");
    }

    #[test]
    fn what_is_trimmed_is_gone_and_numbers_go_on() {
        let mut ring = ring_of("K..K..");
        ring.trim(seq(2));
        assert!(matches!(ring.look(seq(1)), Lookup::Gone));
        assert!(matches!(ring.look(seq(2)), Lookup::Held(_)));
        assert!(matches!(ring.look(seq(6)), Lookup::NotYet));
        assert_eq!((ring.len(), ring.bytes(), ring.keyframe_at_or_after(seq(0))), (4, 64, Some(seq(3))));
        ring.flush();
        assert_eq!((ring.len(), ring.bytes(), ring.cost(), ring.next(), ring.flushed()), (0, 0, 0, seq(6), seq(6)));
    }

    #[test]
    fn a_copy_follows_even_when_it_was_away_for_long() {
        let mut original = ring_of("K..K");
        let mut copy = Ring::default();
        copy.follow(&original);
        assert_eq!((copy.oldest(), copy.next(), copy.bytes()), (seq(0), seq(4), 64));
        original.trim(seq(3));
        copy.follow(&original);
        assert_eq!(copy.oldest(), seq(0), "old chunks stay until the copy is trimmed");
        for i in 0..6 {
            original.push(crate::fanout::testing::chunk(b"0123456789abcdef", i % 3 == 0), 1_000_000_000 + i);
        }
        original.trim(seq(8));
        copy.follow(&original);
        assert_eq!(
            (copy.oldest(), copy.next(), copy.bytes(), copy.cost()),
            (seq(8), seq(10), 32, original.cost()),
            "a copy with a hole starts anew"
        );
        original.flush();
        copy.follow(&original);
        assert_eq!((copy.oldest(), copy.next(), copy.flushed()), (seq(10), seq(10), seq(10)));
    }

    #[test]
    fn the_rate_is_that_of_the_stream() {
        assert_eq!(ring_of("K").bytes_per_second(), None);
        let rate = ring_of(&"K".repeat(101)).bytes_per_second().expect("two seconds are enough");
        assert!((rate - 800.0).abs() < 0.001, "16 B each 20 ms: {rate}");
    }
}
