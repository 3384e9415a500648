//! Numbers that many threads add to and a scrape reads: plain atomics, in fixed arrays, without locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::handover;

/// Adds to a counter that only one reader ever needs in full: no order with anything else is promised.
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Reads a counter.
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A histogram of durations with fixed bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [Duration; N],
    /// How many fell into each bound and not into the one before.
    counts: [AtomicU64; N],
    /// Those beyond the last bound.
    beyond: AtomicU64,
    sum_micros: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramView {
    /// Upper bound in seconds, and how many were at most that.
    pub cumulative: Vec<(f64, u64)>,
    /// How many there were in all.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_seconds: f64,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram.
    pub fn new(bounds: &'static [Duration; N]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; N], beyond: AtomicU64::new(0), sum_micros: AtomicU64::new(0) }
    }

    /// Adds one duration.
    pub fn observe(&self, value: Duration) {
        let slot = self.bounds.iter().position(|bound| value <= *bound);
        add(slot.map_or(&self.beyond, |slot| &self.counts[slot]), 1);
        add(&self.sum_micros, u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes over what another one holds.
    pub fn absorb(&self, other: &Self) {
        for (mine, theirs) in
            self.counts.iter().zip(&other.counts).chain([(&self.beyond, &other.beyond), (&self.sum_micros, &other.sum_micros)])
        {
            add(mine, read(theirs));
        }
    }

    /// As plain data.
    pub fn pack(&self) -> handover::Histogram {
        let counts = self.counts.iter().map(read).collect();
        handover::Histogram { counts, beyond: read(&self.beyond), sum_micros: read(&self.sum_micros) }
    }

    /// Takes over what one held in another process; nothing, if that had other bounds.
    pub fn absorb_packed(&self, packed: &handover::Histogram) {
        if packed.counts.len() == N {
            let theirs = packed.counts.iter().chain([&packed.beyond, &packed.sum_micros]);
            self.counts.iter().chain([&self.beyond, &self.sum_micros]).zip(theirs).for_each(|(mine, &theirs)| add(mine, theirs));
        }
    }

    /// What it holds now.
    pub fn view(&self) -> HistogramView {
        let mut count = 0;
        let cumulative = self
            .bounds
            .iter()
            .zip(&self.counts)
            .map(|(bound, counter)| {
                count += read(counter);
                (bound.as_secs_f64(), count)
            })
            .collect();
        HistogramView { cumulative, count: count + read(&self.beyond), sum_seconds: read(&self.sum_micros) as f64 / 1e6 }
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Bounds for lag: a listener that keeps up is below the coalescing window, one in trouble near its limits.
pub static LAG_BOUNDS: [Duration; 10] =
    [ms(50), ms(100), ms(250), ms(500), ms(1000), ms(2500), ms(5000), ms(10_000), ms(30_000), ms(60_000)];

/// Bounds for the wait of a newcomer for its first byte.
pub static FIRST_BYTE_BOUNDS: [Duration; 10] = [ms(1), ms(2), ms(5), ms(10), ms(25), ms(50), ms(100), ms(500), ms(1000), ms(5000)];

/// Bounds for the length of sessions, from a probe to a day.
pub static SESSION_BOUNDS: [Duration; 8] =
    [ms(1000), ms(10_000), ms(60_000), ms(300_000), ms(1_800_000), ms(3_600_000), ms(14_400_000), ms(86_400_000)];

/// Bounds for one turn of a shard.
pub static TURN_BOUNDS: [Duration; 9] =
    [Duration::from_micros(50), Duration::from_micros(200), ms(1), ms(2), ms(5), ms(10), ms(25), ms(100), ms(500)];

/// Bounds for how late a thread is. A timer of its own is up to a millisecond late.
pub static LATENESS_BOUNDS: [Duration; 8] = [ms(2), ms(10), ms(50), ms(100), ms(250), ms(1000), ms(5000), ms(30_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_takes_over_all_of_another() {
        let (one, other) = (Histogram::new(&FIRST_BYTE_BOUNDS), Histogram::new(&FIRST_BYTE_BOUNDS));
        [1, 10_000].into_iter().for_each(|value| one.observe(ms(value)));
        [1, 3, 20_000].into_iter().for_each(|value| other.observe(ms(value)));
        one.absorb(&other);
        let view = one.view();
        assert_eq!((view.count, view.sum_seconds, &view.cumulative[..3]), (5, 30.005, &[(0.001, 2), (0.002, 2), (0.005, 3)][..]));
    }

    #[test]
    fn a_histogram_counts_each_value_once_at_its_inclusive_bound() {
        let histogram = Histogram::new(&FIRST_BYTE_BOUNDS);
        for value in [0, 1, 2, 3, 10_000] {
            histogram.observe(ms(value));
        }
        let view = histogram.view();
        assert_eq!((view.count, view.sum_seconds), (5, 10.006));
        assert_eq!(&view.cumulative[..3], &[(0.001, 2), (0.002, 3), (0.005, 4)]);
        assert_eq!(view.cumulative.last(), Some(&(5.0, 4)));
    }
}
