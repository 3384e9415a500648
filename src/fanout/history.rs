//! The writing side of a ring: the stream's clock in front of it, retention behind it.

use std::sync::Arc;

use super::chunk::Chunk;
use super::clock::StreamClock;
use super::retention::Retention;
use super::ring::Ring;
use crate::handover;
use crate::units::{Moment, Seq};

/// What the writer of a ring remembers between two chunks.
#[derive(Debug)]
pub struct History {
    clock: StreamClock,
    retention: Retention,
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Where the chunk is.
    pub at: Seq,
    /// Memory alone made the ring forget more than its settings asked for.
    pub forced: bool,
}

impl History {
    /// A writer that keeps what this asks for.
    pub fn new(retention: Retention) -> Self {
        Self { clock: StreamClock::default(), retention }
    }

    /// From the next chunk on this is kept.
    pub fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Adds a chunk; `arrival` is when it came.
    pub fn push(&mut self, ring: &mut Ring, chunk: Arc<Chunk>, arrival: Moment) -> Pushed {
        let stamp = chunk.marks().stamp();
        self.push_at(ring, chunk, stamp, arrival)
    }

    /// The same for a chunk whose place on the stream's clock somebody else has found; nanoseconds.
    pub fn push_at(&mut self, ring: &mut Ring, chunk: Arc<Chunk>, stamp: Option<u64>, arrival: Moment) -> Pushed {
        let time = self.clock.stamp(stamp, arrival);
        let at = ring.push(chunk, time);
        Pushed { at, forced: self.retention.trim(ring) }
    }

    /// Forgets what is not to be kept.
    pub fn trim(&self, ring: &mut Ring) {
        self.retention.trim(ring);
    }

    /// Upstream flushed: what is held is void, and stamps start anew.
    pub fn flush(&mut self, ring: &mut Ring) {
        ring.flush();
        self.clock.break_here();
    }

    /// Goes on with a history that another process has begun, whose newest chunk has this stream time.
    pub fn resume(&mut self, time: u64, now: Moment) {
        self.clock.resume(time, now);
    }

    /// Goes on with the clock that another process has packed.
    pub fn resume_clock(&mut self, packed: &handover::StreamTime) {
        self.clock = StreamClock::unpack(packed);
    }

    /// Where the clock stands, as plain data.
    pub fn pack_clock(&self) -> handover::StreamTime {
        self.clock.pack()
    }

    /// Another source begins: its stamps have nothing to do with those before.
    pub fn new_source(&mut self) {
        self.clock.break_here();
    }
}
