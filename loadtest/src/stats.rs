//! A histogram of bounded size: 64 steps per power of two, so a quantile is at most 1.6 % too high. Pure.
//!
//! Memory does not grow with the run, so a soak of months can use it as well as a storm of seconds.

use std::time::Duration;

use serde::Serialize;

const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;

/// Durations in microseconds, counted.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// What a report says of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// The smallest value that `share` of all values do not exceed, rounded up to its bucket's end; zero when empty.
    fn quantile_micros(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, held) in self.buckets.iter().enumerate() {
            seen += held;
            if seen >= wanted {
                return upper_end(at).min(self.max);
            }
        }
        self.max
    }

    /// `None` when nothing was recorded: no figure is better than a zero that looks like one.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let ms = |share| self.quantile_micros(share) as f64 / 1e3;
        (self.count > 0).then(|| Quantiles {
            count: self.count,
            p50_ms: ms(0.50),
            p90_ms: ms(0.90),
            p99_ms: ms(0.99),
            max_ms: self.max as f64 / 1e3,
        })
    }
}

/// Values below 64 have a bucket each; above, the top seven bits choose it.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = 63 - STEP_BITS - value.leading_zeros();
    let row = u64::from(shift) + 1;
    (row * STEPS + ((value >> shift) - STEPS)) as usize
}

fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let low = (STEPS + bucket % STEPS) << shift;
    low + ((1 << shift) - 1)
}

/// Smallest, mean and largest of a set of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (mut n, mut sum, mut min, mut max) = (0u64, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            n += 1;
            sum += v;
            min = min.min(v);
            max = max.max(v);
        }
        (n > 0).then(|| Self { min, mean: sum / n as f64, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_never_too_low_and_at_most_one_64th_too_high() {
        let mut histogram = Histogram::default();
        for micros in 1..=100_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0)] {
            let got = histogram.quantile_micros(share) as f64;
            assert!(got >= exact && got <= exact * (1.0 + 1.0 / 64.0), "{share}: {got}");
        }
    }

    #[test]
    fn small_values_and_the_maximum_are_exact() {
        let mut histogram = Histogram::default();
        for micros in [3, 3, 3, 1_234_567] {
            histogram.record(Duration::from_micros(micros));
        }
        let quantiles = histogram.quantiles().expect("not empty");
        assert_eq!((quantiles.p50_ms, quantiles.max_ms), (0.003, 1_234.567));
    }

    #[test]
    fn buckets_cover_every_value_in_order_without_holes() {
        let mut last = 0;
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) + ((1u64 << shift) >> 1)] {
                let at = bucket(value);
                assert!(at >= last && at < BUCKETS, "{value}");
                assert!(upper_end(at) >= value, "{value}");
                last = at;
            }
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn nothing_recorded_gives_no_figure() {
        assert_eq!(Histogram::default().quantiles(), None);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, 2.0, 6.0]), Some(Spread { min: 1.0, mean: 3.0, max: 6.0 }));
    }
}
