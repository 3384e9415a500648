//! When a relay that is filled by one upstream tries those again that are preferred to it. Time comes in as an argument.
//!
//! - They are tried one after the other, the most preferred first, beside the one that delivers: nobody who listens notices those that
//!   have nothing.
//! - Each round makes the next wait twice as long, whatever came of it: an upstream that comes and goes is gone back to less and less
//!   often. Once it has stayed for the longest wait, all is as at first.

use std::time::{Duration, Instant};

/// The first wait.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest one.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What is remembered from one round to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preference {
    wait: Duration,
    /// When the next one is tried, and which.
    at: Option<(Instant, usize)>,
}

impl Default for Preference {
    fn default() -> Self {
        Self { wait: FIRST_WAIT, at: None }
    }
}

impl Preference {
    /// The next round begins after a wait, from now on; `jitter` is 0 to 1.
    pub(super) fn rest(&mut self, now: Instant, jitter: f64) {
        self.at = Some((now + self.wait.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0)), 0));
    }

    /// Which upstream is to be tried now, while this one is there for so long.
    pub(super) fn due(&mut self, present: usize, lasted: Duration, now: Instant) -> Option<usize> {
        if present == 0 && lasted >= LONGEST_WAIT {
            self.wait = FIRST_WAIT;
        }
        self.at.filter(|(at, which)| *which < present && now >= *at).map(|(_, which)| which)
    }

    /// That one had nothing, where `present` delivers: the next is tried at once, or all of them after a wait.
    pub(super) fn failed(&mut self, which: usize, present: usize, now: Instant, jitter: f64) {
        if which + 1 < present {
            self.at = Some((now, which + 1));
        } else {
            self.lengthen();
            self.rest(now, jitter);
        }
    }

    /// That one delivers now.
    pub(super) fn taken(&mut self, now: Instant, jitter: f64) {
        self.lengthen();
        self.rest(now, jitter);
    }

    fn lengthen(&mut self) {
        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_preferred_are_tried_in_their_order_and_then_after_waits_that_grow() {
        let (mut preference, mut now) = (Preference::default(), Instant::now());
        preference.rest(now, 0.5);
        for wait in [30, 60, 120, 240, 480, 600, 600] {
            assert_eq!(preference.due(2, SECOND, now + SECOND * (wait - 1)), None, "{wait}");
            now += SECOND * wait;
            for which in [0, 1] {
                assert_eq!(preference.due(2, SECOND, now), Some(which), "{wait}");
                preference.failed(which, 2, now, 0.5);
            }
        }
        assert_eq!(preference.due(0, SECOND, now + LONGEST_WAIT), None, "to the first none is preferred");
    }

    #[test]
    fn one_that_comes_and_goes_is_gone_back_to_less_often_until_it_stays() {
        let (mut preference, now) = (Preference::default(), Instant::now());
        let patience = |preference: &mut Preference| {
            preference.rest(now, 0.5);
            (1..=600).find(|seconds| preference.due(1, SECOND, now + SECOND * *seconds).is_some())
        };
        for want in [30, 60, 120] {
            assert_eq!(patience(&mut preference), Some(want));
            preference.taken(now, 0.5);
        }
        assert_eq!(preference.due(0, LONGEST_WAIT - SECOND, now), None);
        assert_eq!(patience(&mut preference), Some(240), "it has not stayed for long");
        assert_eq!(preference.due(0, LONGEST_WAIT, now), None);
        assert_eq!(patience(&mut preference), Some(30), "it has");
    }

    #[test]
    fn waits_are_jittered() {
        let (mut preference, now) = (Preference::default(), Instant::now());
        for (jitter, seconds) in [(0.0, 22.5), (1.0, 37.5)] {
            preference.rest(now, jitter);
            let at = now + Duration::from_secs_f64(seconds);
            assert_eq!(preference.due(1, SECOND, at - SECOND), None);
            assert_eq!(preference.due(1, SECOND, at + SECOND), Some(0));
        }
    }
}
