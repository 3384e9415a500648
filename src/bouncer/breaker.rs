//! Whether a backend is asked at all: one that has failed again and again is given a rest. Time comes in as an argument.
//!
//! ```text
//!   closed ──FAILURES in a row──▶ open ──after a rest──▶ one is let through ──it went well──▶ closed
//!                                  ▲                                └──it did not──┐ the rest is twice as long
//!                                  └───────────────────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

/// Failures in a row after which nobody is asked any more.
const FAILURES: u32 = 5;
/// The first rest.
const FIRST_REST: Duration = Duration::from_secs(2);
/// The longest.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is remembered of a backend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Nobody is let through before.
    rests_until: Option<Instant>,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is given a rest; it answered before.
    Opened,
    /// It answers again.
    Closed,
}

impl Breaker {
    /// Whether somebody may ask now. After a rest it is one, who stands for all; if nobody hears of it the next one may, a rest later.
    pub(super) fn lets_through(&mut self, now: Instant) -> bool {
        match self.rests_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.rests_until = Some(now + self.rest());
                true
            }
        }
    }

    /// It answered, or did not.
    pub(super) fn note(&mut self, answered: bool, now: Instant) -> Option<Change> {
        let was_open = self.rests_until.is_some();
        if answered {
            *self = Self::default();
            return was_open.then_some(Change::Closed);
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.rests_until = Some(now + self.rest());
        }
        (!was_open && self.rests_until.is_some()).then_some(Change::Opened)
    }

    fn rest(&self) -> Duration {
        FIRST_REST.saturating_mul(1 << self.failures.saturating_sub(FAILURES).min(8)).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_again_and_again_is_left_alone_for_longer_each_time() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for failure in 1..=FAILURES {
            assert!(breaker.lets_through(now), "{failure}");
            assert_eq!(breaker.note(false, now), (failure == FAILURES).then_some(Change::Opened));
        }
        for rest in [2, 4, 8, 16, 30, 30] {
            let rest = Duration::from_secs(rest);
            assert!(!breaker.lets_through(now + rest - Duration::from_millis(1)), "{rest:?}");
            now += rest;
            assert!(breaker.lets_through(now), "one is let through after {rest:?}");
            assert!(!breaker.lets_through(now), "and no other");
            assert_eq!(breaker.note(false, now), None, "it is said once");
        }
        now += LONGEST_REST;
        assert!(breaker.lets_through(now));
        assert_eq!(breaker.note(true, now), Some(Change::Closed));
        assert!(breaker.lets_through(now) && breaker.lets_through(now));
        assert_eq!(breaker.note(false, now), None, "and counts anew");
        assert!(breaker.lets_through(now));
    }

    #[test]
    fn one_who_asks_and_is_never_heard_of_again_does_not_close_it_for_ever() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            let _ = breaker.note(false, now); // told elsewhere
        }
        assert!(breaker.lets_through(now + FIRST_REST));
        assert!(breaker.lets_through(now + FIRST_REST * 2));
    }
}
