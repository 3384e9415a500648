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
use super::streamheader::Headers;
use super::tape::Tape;
use crate::units::{ByteCount, Extent, Extents, Seq};

/// The time over which the rate of a stream is taken: longer than most groups of pictures, shorter than most outages.
const RATE_OVER: Duration = Duration::from_secs(5);

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
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<Entry>,
    /// Place of `entries[0]`, or of the next arrival when there is none.
    oldest: Seq,
    /// Places in `entries` where a listener may start, ascending.
    keyframes: VecDeque<Seq>,
    /// Payload bytes ever pushed.
    bytes_end: u64,
    /// What the held chunks cost in memory, and the streamheaders that go with them, each set once.
    cost: u64,
    /// Everything before this place was cut off by a flush, not by age.
    flushed: Seq,
    /// No newcomer starts before this place: what lies there is of a source that is gone.
    begun: Seq,
    /// From this place on some reader has not looked yet. Retention spares it while memory lasts.
    unread: Seq,
    /// From here on all chunks share one set of streamheaders, the newest's.
    epoch: Seq,
    /// Of a copy: its newest small chunks in one piece, as of the last [`Ring::unroll`].
    tape: Tape,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            oldest: Seq::ZERO,
            keyframes: VecDeque::new(),
            bytes_end: 0,
            cost: 0,
            flushed: Seq::ZERO,
            begun: Seq::ZERO,
            unread: Seq::LAST,
            epoch: Seq::ZERO,
            tape: Tape::default(),
        }
    }
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

    /// An empty history that goes on where another process's begins: at this place, after so many bytes.
    pub fn resumed(oldest: Seq, before: u64, flushed: Seq, begun: Seq) -> Self {
        Self { oldest, bytes_end: before, flushed, begun, epoch: oldest, ..Self::default() }
    }

    /// All that is held, each with its stream time in nanoseconds.
    pub fn timed(&self) -> impl Iterator<Item = (&Arc<Chunk>, u64)> {
        self.entries.iter().map(|entry| (&entry.chunk, entry.time))
    }

    /// Payload bytes that came before the oldest chunk held.
    pub fn bytes_before(&self) -> u64 {
        self.bytes_at(self.oldest)
    }

    /// Stream time of the newest chunk, in nanoseconds.
    pub fn newest_time(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.time)
    }

    fn append(&mut self, entry: Entry) {
        if self.entries.back().is_none_or(|last| !Arc::ptr_eq(last.chunk.headers(), entry.chunk.headers())) {
            self.epoch = self.next();
        }
        if entry.chunk.keyframe() {
            self.keyframes.push_back(self.next());
        }
        self.cost += entry.chunk.cost() + headers_cost(&entry, self.entries.back());
        self.entries.push_back(entry);
    }

    /// Forgets everything older than `from`.
    pub fn trim(&mut self, from: Seq) {
        while self.oldest < from {
            let Some(entry) = self.entries.pop_front() else { break };
            self.cost -= entry.chunk.cost() + headers_cost(&entry, self.entries.front());
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

    /// What comes next is another programme: what is held is for those who are in the middle of it, not for newcomers.
    pub fn begin_anew(&mut self) {
        self.begun = self.next();
    }

    /// The earliest place where a newcomer may start.
    pub fn begun(&self) -> Seq {
        self.begun.max(self.oldest)
    }

    /// Whether there is something that a newcomer may be given.
    pub fn has_begun(&self) -> bool {
        self.begun() < self.next()
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
            self.tape.clear();
            self.cost = 0;
            self.oldest = original.oldest;
            self.flushed = original.flushed;
        }
        let missing = original.next().since(self.next()) as usize;
        for entry in original.entries.range(original.entries.len() - missing..) {
            self.append(entry.clone());
        }
        self.bytes_end = original.bytes_end;
        self.begun = original.begun;
    }

    /// Lays out what has come, for [`Ring::run`]. A step of its own, for the original need not be locked meanwhile.
    pub fn unroll(&mut self) {
        let from = self.tape.wants_from(self.bytes_end);
        let first = self.entries.partition_point(|entry| entry.before < from);
        for entry in self.entries.range(first..) {
            self.tape.push(entry.before, entry.chunk.payload());
        }
    }

    /// The payload of all chunks from `at` on and before `upto` in one piece, where it has been laid out.
    pub fn run(&self, at: Seq, upto: Seq) -> Option<&[u8]> {
        self.tape.between(self.bytes_at(at), self.bytes_at(upto))
    }

    /// Bytes that a copy takes in memory besides the chunks it shares, at the very most.
    pub const COPY_MOST: u64 = Tape::MOST as u64;

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

    /// From where on some reader has not looked yet; [`Seq::LAST`] when there are no readers.
    pub fn unread(&self) -> Seq {
        self.unread
    }

    /// The readers have looked at everything before this place, all of them.
    pub fn read_upto(&mut self, unread: Seq) {
        self.unread = unread;
    }

    /// Chunks held.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks: what matters is whether it has begun")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory of the chunks held and of their streamheaders, in bytes.
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

    /// Bytes per second of stream time, over the last [`RATE_OVER`]; `None` while that is too little to tell. What lies before
    /// an outage says nothing of now.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let recent = self.lag(self.within_one(Extent::Time(RATE_OVER), self.next()));
        // The newest chunk has begun but not lasted: it does not count.
        let newest = self.entries.back()?.chunk.payload().len() as u64;
        let seconds = recent.time.as_secs_f64();
        (seconds >= 0.5).then(|| (recent.bytes - newest) as f64 / seconds)
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

    /// The chunks from `at` on, as far as they are held and before `upto`; none if `at` itself is gone.
    pub fn chunks(&self, at: Seq, upto: Seq) -> impl Iterator<Item = &Arc<Chunk>> {
        let end = upto.min(self.next());
        let held = if at >= self.oldest && at < end { self.index(at)..self.index(end) } else { 0..0 };
        self.entries.range(held).map(|entry| &entry.chunk)
    }

    /// Whether all that is held from `at` on is to be decoded with this very set of streamheaders.
    pub fn shares_headers(&self, at: Seq, headers: &Arc<Headers>) -> bool {
        at >= self.epoch && at >= self.oldest && self.entries.back().is_some_and(|newest| Arc::ptr_eq(newest.chunk.headers(), headers))
    }

    /// Where a reader is that has taken so many bytes from `at` on: the chunk that it is to begin, or in the middle of which it is,
    /// and the bytes of that which it has. Chunks that are empty are passed; `upto` is as far as it comes.
    pub fn after(&self, at: Seq, taken: u64, upto: Seq) -> (Seq, u64) {
        let (target, end) = (self.bytes_at(at) + taken, self.bytes_at(upto));
        debug_assert!(target <= end, "more was taken than there was");
        if end <= target {
            return (upto, 0); // as most do: everything
        }
        let place = self.last_where(upto, |entry| entry.before <= target).unwrap_or(at);
        (place, target - self.bytes_at(place))
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
        self.inside(most.iter(), upto)
    }

    /// The same for one extent, which need not be in a list.
    pub fn within_one(&self, most: Extent, upto: Seq) -> Seq {
        self.inside(std::iter::once(most), upto)
    }

    fn inside(&self, most: impl Iterator<Item = Extent>, upto: Seq) -> Seq {
        most.map(|extent| self.edge(extent, upto)).fold(self.oldest, Seq::max).min(upto)
    }

    fn edge(&self, most: Extent, upto: Seq) -> Seq {
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

    /// Stream time of the chunk at a place, in nanoseconds; zero where none is held.
    pub fn time_of(&self, at: Seq) -> u64 {
        if at < self.oldest { 0 } else { self.time_at(at) }
    }

    fn index(&self, at: Seq) -> usize {
        at.since(self.oldest) as usize
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

/// What an entry at the end of a run adds for its streamheaders: nothing where the neighbour has the same set.
fn headers_cost(entry: &Entry, neighbour: Option<&Entry>) -> u64 {
    let headers = entry.chunk.headers();
    if neighbour.is_some_and(|neighbour| Arc::ptr_eq(neighbour.chunk.headers(), headers)) { 0 } else { headers.cost() }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
