//! One listener's place in the stream, and what of it is in the middle of being sent.
//!
//! ```text
//!                     ┌─ keyframe arrives ─▶ live
//!  awaiting keyframe ─┤                       │ recovery finds no keyframe
//!                     └◀──────────────────────┘
//!  either ── drain(until) ──▶ the same, but nothing from `until` on is begun
//! ```
//! - What has begun is finished: a chunk or header half sent is completed before any jump, so nothing is ever torn.
//! - Each byte goes out once. [`Cursor::gather`] shows what comes next, [`Cursor::advance`] says how much of it was taken;
//!   both walk the same way, and the ring must not change between the two.
//! - Headers are decided chunk by chunk (see `streamheader`), so a new set goes out exactly at its boundary.
//!
//! A cursor knows neither clock nor socket.

mod passing;

use std::io::IoSlice;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::chunk::Chunk;
use super::placement::Placement;
use super::recovery::Verdict;
use super::ring::{Lag, Lookup, Ring};
use super::streamheader::{self, Headers};
use crate::units::Seq;

/// What is in the middle of being sent, and how many bytes of it have gone.
#[derive(Debug, Default)]
enum Flight {
    #[default]
    Nothing,
    Headers(Arc<Headers>, usize),
    Chunk(Arc<Chunk>, usize, Seq),
}

impl Flight {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Headers(headers, sent) => &headers.bytes()[*sent..],
            Self::Chunk(chunk, sent, _) => &chunk.payload()[*sent..],
        }
    }
}

/// What a listener has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stream and streamheader bytes sent.
    pub bytes: u64,
    /// Chunks left out by recoveries.
    pub dropped_chunks: u64,
    /// Recoveries.
    pub dropped_times: u32,
}

/// One listener's place in the stream.
#[derive(Debug)]
pub struct Cursor {
    /// The next chunk to begin.
    at: Seq,
    /// Nothing from here on is begun.
    until: Option<Seq>,
    flight: Flight,
    /// The headers last given; `None` before the first chunk.
    given: Option<Arc<Headers>>,
    await_keyframe: bool,
    /// Whether what is skipped while waiting counts as dropped: after a recovery it does, before the first chunk not.
    skips_count: bool,
    /// Whether the chunk before `at` was sent (or begun) by this cursor.
    followed: bool,
    tally: Tally,
}

/// Slices that one call may hand out; the kernel takes 1024, and more than this does not pay.
pub const MOST_SLICES: usize = 96;

/// What one call hands out. It costs what is in it, not what there is room for: an array would have to be filled at each call.
pub type Slices<'a> = ArrayVec<IoSlice<'a>, MOST_SLICES>;

impl Cursor {
    /// A cursor of a newcomer.
    pub fn new(placement: Placement) -> Self {
        Self {
            at: placement.at,
            until: None,
            flight: Flight::Nothing,
            given: None,
            await_keyframe: placement.await_keyframe,
            skips_count: false,
            followed: false,
            tally: Tally::default(),
        }
    }

    /// Goes on in another ring, from a place there, as a newcomer does; what is half sent is finished first.
    pub fn transfer(&mut self, placement: Placement) {
        let flight = match std::mem::take(&mut self.flight) {
            // No place of the other ring is its own: where memory is short there, it counts as the oldest of all.
            Flight::Chunk(chunk, sent, _) => Flight::Chunk(chunk, sent, Seq::ZERO),
            flight => flight,
        };
        *self = Self { flight, ..Self::new(placement) };
    }

    /// The next chunk to begin.
    pub fn at(&self) -> Seq {
        self.at
    }

    /// What it has been through.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether it waits for a keyframe.
    pub fn awaits_keyframe(&self) -> bool {
        self.await_keyframe
    }

    /// Whether a chunk or a header is half sent.
    pub fn mid_flight(&self) -> bool {
        !matches!(self.flight, Flight::Nothing)
    }

    /// The place of the chunk it is in the middle of, if the ring does not hold that any more: then the cursor alone keeps it
    /// in memory.
    pub fn pins(&self, ring: &Ring) -> Option<Seq> {
        match self.flight {
            Flight::Chunk(_, _, place) if place < ring.oldest() => Some(place),
            _ => None,
        }
    }

    /// From now on nothing that arrives at `next` or later is begun. Draining twice does not lengthen it.
    pub fn drain(&mut self, next: Seq) {
        let until = self.until.map_or(next, |until| until.min(next));
        self.until = Some(until);
    }

    /// Whether it is draining.
    pub fn draining(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it is draining and has nothing left to send.
    pub fn drained(&self) -> bool {
        self.until.is_some_and(|until| !self.mid_flight() && (self.at >= until || self.await_keyframe))
    }

    /// What waits behind the chunk in flight. Who waits for a keyframe has no lag.
    pub fn lag(&self, ring: &Ring) -> Lag {
        if self.await_keyframe { Lag::default() } else { ring.lag(self.at) }
    }

    /// Whether there is something to send, as of chunks before `upto`.
    pub fn has_unsent(&self, upto: Seq) -> bool {
        self.mid_flight() || (!self.await_keyframe && self.at < self.end(upto))
    }

    fn end(&self, upto: Seq) -> Seq {
        self.until.map_or(upto, |until| until.min(upto))
    }

    /// Looks for the keyframe it waits for among what has arrived. Returns how many chunks were dropped on the way.
    pub fn look_for_keyframe(&mut self, ring: &Ring) -> u64 {
        if !self.await_keyframe {
            return 0;
        }
        let found = ring.keyframe_at_or_after(self.at);
        let to = found.unwrap_or(ring.next()).max(self.at);
        self.await_keyframe = found.is_none();
        let skipped = to.since(self.at);
        self.at = to;
        if !self.skips_count {
            return 0;
        }
        self.tally.dropped_chunks += skipped;
        skipped
    }

    /// Whether it is a newcomer's, and waits for its first keyframe.
    pub fn awaits_first_keyframe(&self) -> bool {
        self.await_keyframe && !self.skips_count
    }

    /// A newcomer begins with the newest chunk though it is no keyframe: none came for so long that a decoder's own wait is the better one.
    /// Returns whether it does: it must be waiting, and there must be something.
    pub fn begin_unsynced(&mut self, ring: &Ring) -> bool {
        let begins = self.awaits_first_keyframe() && ring.has_begun();
        if begins {
            (self.await_keyframe, self.at) = (false, self.at.max(ring.next().back(1)));
        }
        begins
    }

    /// Carries out a jump. Returns how many chunks were dropped by it; what a draining listener would not get is not dropped.
    pub fn jump(&mut self, verdict: Verdict) -> u64 {
        let Verdict::Jump { to, await_keyframe } = verdict else { return 0 };
        let to = to.min(self.end(to)).max(self.at);
        let skipped = to.since(self.at);
        self.tally.dropped_chunks += skipped;
        self.tally.dropped_times += 1;
        self.skips_count = true;
        self.followed = false;
        self.at = to;
        self.await_keyframe = await_keyframe;
        skipped
    }

    /// Upstream flushed: what waited is void. Goes on behind the cut, at a keyframe. Returns how many chunks are lost to it;
    /// those that came and went unseen are among them.
    pub fn cut(&mut self, ring: &Ring) -> u64 {
        if self.at >= ring.flushed() {
            return 0;
        }
        let skipped = if self.await_keyframe && !self.skips_count { 0 } else { ring.flushed().since(self.at) };
        self.tally.dropped_chunks += skipped;
        self.tally.dropped_times += u32::from(skipped > 0);
        self.skips_count |= self.given.is_some();
        self.followed = false;
        self.at = ring.flushed();
        self.await_keyframe = true;
        skipped
    }

    /// Adds what comes next to `out`, until that is full: at most `budget` bytes (but always something, if there is anything) of
    /// chunks before `upto`. Returns the number of bytes.
    pub fn gather<'a>(&'a self, ring: &'a Ring, upto: Seq, resend: bool, budget: usize, out: &mut Slices<'a>) -> usize {
        let mut bytes = 0;
        let mut put = |slice: &'a [u8]| {
            if slice.is_empty() {
                return true;
            }
            if bytes >= budget || out.try_push(IoSlice::new(slice)).is_err() {
                return false;
            }
            bytes += slice.len();
            true
        };
        if put(self.flight.rest()) && !self.await_keyframe {
            if let Some(run) = self.run(ring, upto) {
                put(run);
                return bytes;
            }
            let (mut given, mut followed) = (self.given.as_deref(), self.followed);
            for chunk in ring.chunks(self.at, self.end(upto)) {
                let due = self.header_due(given, chunk, resend, followed);
                if due && !put(chunk.headers().bytes()) || !put(chunk.payload()) {
                    break;
                }
                (given, followed) = (Some(&**chunk.headers()), true);
            }
        }
        bytes
    }

    /// All that waits in one piece: for those who were given its headers and keep up, that is nearly everybody.
    fn run<'a>(&self, ring: &'a Ring, upto: Seq) -> Option<&'a [u8]> {
        let end = self.end(upto.min(ring.next()));
        let given = self.given.as_ref().filter(|_| self.at < end)?;
        ring.shares_headers(self.at, given).then(|| ring.run(self.at, end)).flatten()
    }

    // ---- for who sends something of its own before each piece (`frames`) ----

    /// The headers last given.
    pub(super) fn given(&self) -> Option<&Arc<Headers>> {
        self.given.as_ref()
    }

    /// What of the piece in flight has not gone.
    pub(super) fn rest(&self) -> &[u8] {
        self.flight.rest()
    }

    /// The chunks that may be begun now, as of those before `upto`.
    pub(super) fn waiting<'a>(&self, ring: &'a Ring, upto: Seq) -> impl Iterator<Item = &'a Arc<Chunk>> + use<'a> {
        ring.chunks(self.at, if self.await_keyframe { self.at } else { self.end(upto) })
    }

    /// Takes note that `most` bytes have gone, as far as they are of the piece in flight. Returns how many are.
    pub(super) fn go_on(&mut self, most: usize) -> usize {
        let rest = self.flight.rest().len();
        let taken = most.min(rest);
        match &mut self.flight {
            Flight::Nothing => {}
            Flight::Headers(..) | Flight::Chunk(..) if taken == rest => self.flight = Flight::Nothing,
            Flight::Headers(_, sent) | Flight::Chunk(_, sent, _) => *sent += taken,
        }
        self.tally.bytes += taken as u64;
        taken
    }

    /// Begins the headers of the next chunk, or with them given the chunk itself; all of that is in flight from now on.
    pub(super) fn begin(&mut self, ring: &Ring, headers: bool) {
        let Lookup::Held(chunk) = ring.look(self.at) else { return };
        debug_assert!(!self.mid_flight(), "something else is in flight");
        if headers {
            self.given = Some(Arc::clone(chunk.headers()));
            self.flight = Flight::Headers(Arc::clone(chunk.headers()), 0);
            return;
        }
        self.flight = Flight::Chunk(Arc::clone(chunk), 0, self.at);
        (self.at, self.followed) = (self.at.next(), true);
    }

    fn header_due(&self, given: Option<&Headers>, chunk: &Chunk, resend: bool, followed: bool) -> bool {
        // Most chunks have the very headers the listener was given: one comparison of addresses.
        given.is_none_or(|given| !std::ptr::eq(given, &raw const **chunk.headers()))
            && streamheader::due(given, chunk.headers(), resend, followed)
    }

    /// Takes note that `taken` bytes of what [`Self::gather`] showed have been sent. None at all is a call worth making when
    /// nothing was shown: it passes over chunks that are empty.
    pub fn advance(&mut self, ring: &Ring, resend: bool, mut taken: usize) {
        self.tally.bytes += taken as u64;
        let rest = self.flight.rest().len();
        match &mut self.flight {
            Flight::Nothing => {}
            Flight::Headers(_, sent) | Flight::Chunk(_, sent, _) => {
                if taken < rest {
                    *sent += taken;
                    return;
                }
                taken -= rest;
                self.flight = Flight::Nothing;
            }
        }
        while !self.await_keyframe {
            if self.leap(ring, taken) {
                return;
            }
            let Lookup::Held(chunk) = ring.look(self.at) else { break };
            let header_due = || self.header_due(self.given.as_deref(), chunk, resend, self.followed);
            // Nothing of it has gone: it is not begun. Only what has no bytes at all is passed over.
            if taken == 0 && (!chunk.payload().is_empty() || self.end(ring.next()) <= self.at || header_due()) {
                break;
            }
            // Whatever of the chunk is begun, its headers included, has this cursor given from here on.
            if header_due() {
                let header = chunk.headers().bytes().len();
                self.given = Some(Arc::clone(chunk.headers()));
                if taken < header {
                    self.flight = Flight::Headers(Arc::clone(chunk.headers()), taken);
                    return;
                }
                taken -= header;
                if taken == 0 && !chunk.payload().is_empty() {
                    return;
                }
            } else if !self.given.as_ref().is_some_and(|given| Arc::ptr_eq(given, chunk.headers())) {
                self.given = Some(Arc::clone(chunk.headers()));
            }
            let place = self.at;
            self.at = place.next();
            self.followed = true;
            let payload = chunk.payload().len();
            if taken < payload {
                self.flight = Flight::Chunk(Arc::clone(chunk), taken, place);
                return;
            }
            taken -= payload;
        }
        debug_assert_eq!(taken, 0, "more was taken than shown");
    }

    /// The walk of [`Self::advance`] in one step, for those who were given the headers of all that waits: that is everybody, but
    /// for the moment when headers change. Returns whether it was one.
    fn leap(&mut self, ring: &Ring, taken: usize) -> bool {
        let end = self.end(ring.next());
        if self.at >= end || !self.given.as_ref().is_some_and(|given| ring.shares_headers(self.at, given)) {
            return false;
        }
        let (place, part) = ring.after(self.at, taken as u64, end);
        self.followed |= place > self.at || part > 0;
        self.at = place;
        if let (1.., Lookup::Held(chunk)) = (part, ring.look(place)) {
            self.flight = Flight::Chunk(Arc::clone(chunk), part as usize, place);
            self.at = place.next();
        }
        true
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
