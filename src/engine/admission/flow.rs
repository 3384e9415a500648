//! How much is sent, as measured, and how many join: what decides whether one more may.
//!
//! - What is sent is measured over some seconds. Who has joined within them is measured only in part: the rest of what he will take
//!   is added. So a crowd that comes at once is counted as it comes.
//! - Joins have a rate, and may come at once for one second's worth.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::Moment;

/// Samples that a measurement is made over; one comes each [`SAMPLE_EVERY`].
const SAMPLES: usize = 4;
/// How often it is looked how much has been sent.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What is sent, in bytes per second.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// When, and how much had been sent by then.
    samples: VecDeque<(Moment, u64)>,
    /// What those take who joined since the newest sample, since the one before that, and so on.
    promised: [u64; SAMPLES],
}

impl Meter {
    /// So much has been sent by now, in all.
    pub(super) fn sample(&mut self, total: u64, now: Moment) {
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, total));
        self.promised.rotate_right(1);
        self.promised[0] = 0;
    }

    /// What is being sent, and what those will take beside that who have just joined.
    pub(super) fn rate(&self) -> u64 {
        let measured = match (self.samples.front(), self.samples.back()) {
            (Some((from, before)), Some((to, after))) => {
                let span = to.since(*from).as_secs_f64();
                if span > 0.0 { (after.saturating_sub(*before) as f64 / span) as u64 } else { 0 }
            }
            _ => 0,
        };
        let missing = |(age, promised): (usize, &u64)| promised * (SAMPLES - age) as u64 / SAMPLES as u64;
        measured + self.promised.iter().enumerate().map(missing).sum::<u64>()
    }

    /// Somebody joins who will take so much.
    pub(super) fn promise(&mut self, rate: u64) {
        self.promised[0] += rate;
    }

    /// And then he does not.
    pub(super) fn take_back(&mut self, rate: u64) {
        self.promised[0] = self.promised[0].saturating_sub(rate);
    }
}

/// Joins per second: a bucket that holds one second's worth.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// When it was looked at last, and how many might have joined then.
    last: Option<(Moment, f64)>,
}

impl Joins {
    /// Whether one more may join, at so many per second.
    pub(super) fn take(&mut self, per_second: u64, now: Moment) -> bool {
        let most = per_second as f64;
        let held = self.last.map_or(most, |(then, held)| (held + now.since(then).as_secs_f64() * most).min(most));
        let may = held >= 1.0;
        self.last = Some((now, if may { held - 1.0 } else { held }));
        may
    }

    /// Who was let in did not come.
    pub(super) fn take_back(&mut self) {
        if let Some((_, held)) = &mut self.last {
            *held += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::from_nanos((seconds * 1e9) as u64)
    }

    #[test]
    fn what_is_sent_is_measured_and_who_has_just_joined_is_added() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(), 0, "nobody knows yet");
        (0..10).for_each(|i| meter.sample(i * 16_000, at(i as f64)));
        assert_eq!(meter.rate(), 16_000, "over the last seconds");
        meter.promise(8_000);
        assert_eq!(meter.rate(), 24_000, "the newcomer is not measured yet");
        // He takes what he was said to take.
        for (i, total) in [(10, 9 * 16_000 + 24_000), (11, 9 * 16_000 + 48_000), (12, 9 * 16_000 + 72_000), (13, 9 * 16_000 + 96_000)] {
            meter.sample(total, at(f64::from(i)));
            assert_eq!(meter.rate(), 24_000, "{i}: never twice, never not at all");
        }
        (14..19).for_each(|i| meter.sample(9 * 16_000 + 96_000, at(f64::from(i))));
        assert_eq!(meter.rate(), 0, "all have gone");
        meter.sample(0, at(19.0));
        assert_eq!(meter.rate(), 0, "a sum that shrinks is no rate");
    }

    #[test]
    fn one_seconds_worth_may_join_at_once_and_then_each_in_its_time() {
        let mut joins = Joins::default();
        let many = |joins: &mut Joins, seconds| (0..100).filter(|_| joins.take(10, at(seconds))).count();
        assert_eq!(many(&mut joins, 5.0), 10);
        assert_eq!(many(&mut joins, 5.0), 0);
        assert_eq!(many(&mut joins, 5.3), 3);
        assert_eq!(many(&mut joins, 100.0), 10, "what nobody took is not saved up");
    }

    proptest! {
        /// However they come, no more join within any time than the rate allows and one second's worth.
        #[test]
        fn no_more_join_than_may(gaps in prop::collection::vec(0_u64..500, 1..300), rate in 1_u64..50) {
            let (mut joins, mut now, mut taken) = (Joins::default(), 0_u64, 0_u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(joins.take(rate, Moment::from_nanos(now * 1_000_000)));
            }
            prop_assert!(taken as f64 <= rate as f64 * (1.0 + now as f64 / 1e3) + 1e-6);
        }
    }
}
