//! One clock for everything: CLOCK_MONOTONIC in nanoseconds, the same number in every process of the machine.
//!
//! `std::time::Instant` hides its number; the source writes it into records and a listener in another process subtracts it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    pub(crate) fn now() -> Self {
        let t = clock_gettime(ClockId::Monotonic);
        // Both parts of the monotonic clock are never negative.
        Self(t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs())
    }

    /// Time since an earlier moment; zero if `earlier` is in fact later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}
