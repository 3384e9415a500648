//! What the engine counts: per mount and per shard. Shards add, a scrape reads; nobody waits for anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::broadcast::Obituary;
use crate::fanout::departure::Departure;
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::stats::{FIRST_BYTE_BOUNDS, Histogram, LAG_BOUNDS, SESSION_BOUNDS, TURN_BOUNDS, add, read};
use crate::handover;

/// The listeners' side of one mount.
#[derive(Debug)]
pub struct MountCounters {
    /// Listeners that joined.
    pub joins: AtomicU64,
    /// Listeners that left, by [`Departure::index`].
    pub departures: [AtomicU64; Departure::ALL.len()],
    /// Recoveries, by [`RecoverPolicy::index`].
    pub recoveries: [AtomicU64; RecoverPolicy::ALL.len()],
    /// Chunks left out by recoveries, over all listeners.
    pub dropped_chunks: AtomicU64,
    /// Newcomers who were begun with without a keyframe, for none came.
    pub unsynced_starts: AtomicU64,
    /// Stream and streamheader bytes sent, over all listeners.
    pub sent_bytes: AtomicU64,
    /// The furthest that anybody is behind now, give or take a second.
    pub lag_max: LagMax,
    /// Lag of the listeners, sampled.
    pub lag: Histogram<10>,
    /// From accepted to the first body byte sent.
    pub first_byte: Histogram<10>,
    /// Length of ended sessions.
    pub session: Histogram<8>,
}

impl Default for MountCounters {
    fn default() -> Self {
        Self {
            joins: AtomicU64::new(0),
            departures: [const { AtomicU64::new(0) }; Departure::ALL.len()],
            recoveries: [const { AtomicU64::new(0) }; RecoverPolicy::ALL.len()],
            dropped_chunks: AtomicU64::new(0),
            unsynced_starts: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            lag_max: LagMax::default(),
            lag: Histogram::new(&LAG_BOUNDS),
            first_byte: Histogram::new(&FIRST_BYTE_BOUNDS),
            session: Histogram::new(&SESSION_BOUNDS),
        }
    }
}

impl MountCounters {
    /// Listeners now: joins without departures. Departures are read first, so it is never below zero.
    pub fn listeners(&self) -> u64 {
        let left: u64 = self.departures.iter().map(read).sum();
        read(&self.joins).saturating_sub(left)
    }

    /// As plain data, into what else is counted of the mount.
    pub fn pack(&self, into: &mut handover::Counters) {
        into.joins = read(&self.joins);
        into.departures = Departure::ALL.into_iter().map(|why| (why.label().to_owned(), read(&self.departures[why.index()]))).collect();
        into.recoveries =
            RecoverPolicy::ALL.into_iter().map(|policy| (policy.label().to_owned(), read(&self.recoveries[policy.index()]))).collect();
        (into.dropped_chunks, into.sent_bytes) = (read(&self.dropped_chunks), read(&self.sent_bytes));
        into.unsynced_starts = read(&self.unsynced_starts);
        (into.lag, into.first_byte, into.session) = (self.lag.pack(), self.first_byte.pack(), self.session.pack());
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, packed: &handover::Counters) {
        add(&self.joins, packed.joins);
        let of = |words: &handover::Words, word: &str| words.get(word).copied().unwrap_or(0);
        Departure::ALL.into_iter().for_each(|why| add(&self.departures[why.index()], of(&packed.departures, why.label())));
        RecoverPolicy::ALL.into_iter().for_each(|policy| add(&self.recoveries[policy.index()], of(&packed.recoveries, policy.label())));
        add(&self.dropped_chunks, packed.dropped_chunks);
        add(&self.unsynced_starts, packed.unsynced_starts);
        add(&self.sent_bytes, packed.sent_bytes);
        self.lag.absorb_packed(&packed.lag);
        self.first_byte.absorb_packed(&packed.first_byte);
        self.session.absorb_packed(&packed.session);
    }

    /// Somebody joined and has left already: its mount was closed while it was on the way.
    pub(super) fn came_and_went(&self, gone: &Obituary) {
        add(&self.joins, 1);
        add(&self.departures[gone.why.index()], 1);
        self.session.observe(gone.stayed);
    }
}

/// The largest lag of each shard's listeners; shards beyond the sixteenth share places.
#[derive(Debug, Default)]
pub struct LagMax([AtomicU64; 16]);

impl LagMax {
    pub(super) fn set(&self, shard: usize, lag: Duration) {
        self.0[shard % self.0.len()].store(crate::units::nanos(lag), Ordering::Relaxed);
    }

    /// The largest of all.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.iter().map(read).max().unwrap_or(0))
    }
}

/// The work of one shard.
#[derive(Debug)]
pub struct ShardCounters {
    /// Calls to send.
    pub send_calls: AtomicU64,
    /// Share of the last period spent working, in thousandths.
    pub busy_permille: AtomicU64,
    /// The longest coalescing window in use, in microseconds.
    pub window_micros: AtomicU64,
    /// How long turns take.
    pub turn: Histogram<9>,
    /// Turns so far: whoever looks twice knows whether the loop turns.
    pub turns: AtomicU64,
    /// Listeners served here.
    pub listeners: AtomicU64,
}

impl ShardCounters {
    /// As plain data: what only grows.
    pub fn pack(&self) -> handover::Shard {
        handover::Shard { send_calls: read(&self.send_calls), turn: self.turn.pack() }
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, packed: &handover::Shard) {
        add(&self.send_calls, packed.send_calls);
        self.turn.absorb_packed(&packed.turn);
    }
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self {
            send_calls: AtomicU64::new(0),
            busy_permille: AtomicU64::new(0),
            window_micros: AtomicU64::new(0),
            turn: Histogram::new(&TURN_BOUNDS),
            turns: AtomicU64::new(0),
            listeners: AtomicU64::new(0),
        }
    }
}
