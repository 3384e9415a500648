//! Whether somebody wants to hear a mount, and whether wanting it helps: what is begun for listeners (a relay on demand, a recording)
//! goes by it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::units::Moment;

/// Who would listen to a mount if there were something to hear.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Newcomers who wait for something to hear.
    waiting: AtomicU64,
    /// Until then somebody elsewhere would listen; nanoseconds.
    asked_until: AtomicU64,
    /// Until then nothing is begun, for it has just failed; nanoseconds.
    vain_until: AtomicU64,
}

/// Somebody waits, until dropped.
pub(super) struct Waits<'a>(&'a AtomicU64);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Demand {
    /// A newcomer waits, until what this returns is dropped.
    pub(super) fn wait(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(&self.waiting)
    }

    /// Until then it is as if somebody waited.
    pub(super) fn ask(&self, until: Moment) {
        self.asked_until.store(until.nanos(), Ordering::Relaxed);
    }

    /// Whether somebody waits.
    pub(super) fn is_there(&self, now: Moment) -> bool {
        now < Moment::from_nanos(self.asked_until.load(Ordering::Relaxed)) || self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whoever waits before then waits in vain.
    pub(super) fn disappoint(&self, until: Moment) {
        self.vain_until.store(until.nanos(), Ordering::Relaxed);
    }

    /// Whether it is in vain to wait.
    pub(super) fn is_in_vain(&self, now: Moment) -> bool {
        now < Moment::from_nanos(self.vain_until.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_somebody_waits_or_was_said_to() {
        let (demand, at) = (Demand::default(), Moment::from_nanos);
        assert!(!demand.is_there(at(0)) && !demand.is_in_vain(at(0)));
        let (one, two) = (demand.wait(), demand.wait());
        drop(one);
        assert!(demand.is_there(at(1)));
        drop(two);
        assert!(!demand.is_there(at(1)));
        demand.ask(at(9));
        demand.disappoint(at(5));
        for (now, there, vain) in [(4, true, true), (5, true, false), (8, true, false), (9, false, false)] {
            assert_eq!((demand.is_there(at(now)), demand.is_in_vain(at(now))), (there, vain), "{now}");
        }
    }
}
