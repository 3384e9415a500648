//! What a swarm measures: the steady window, and how long measured listeners wait meanwhile.

use std::time::Duration;

use super::Swarm;
use crate::clock::Nanos;
use crate::listener::State;
use crate::schedule::Pace;
use crate::stats::{Histogram, Spread};

/// What the steady window showed.
#[derive(Debug)]
pub(crate) struct Steady {
    pub(crate) seconds: f64,
    /// Healthy listeners that were there all the time and got nothing.
    pub(crate) starved: u64,
    /// Longest gap of each measured listener.
    pub(crate) stalls: Histogram,
    /// The same of the other healthy ones, good to one period of the round.
    pub(crate) coarse_stalls: Histogram,
    /// Bytes per second of each healthy listener.
    pub(crate) rates: Option<Spread>,
}

impl Swarm {
    pub(crate) fn begin_steady(&mut self) {
        self.steady = Some(Nanos::now());
    }

    /// The longest that a measured listener waited for a byte since this was last asked. `None` when nobody is measured.
    pub(crate) fn longest_recent_gap(&mut self, now: Nanos) -> Option<Duration> {
        let measured = self.slots.iter_mut().filter(|slot| slot.role.measured);
        let gap = |slot: &mut super::Slot| match &mut slot.state {
            State::Listening(listening) => Some(listening.take_recent_gap(now)),
            State::Absent | State::Joining(_) => None,
        };
        measured.filter_map(gap).max()
    }

    /// The longest that a healthy listener of a target has been without a byte.
    pub(crate) fn longest_silence(&self, target: usize, now: Nanos) -> Option<Duration> {
        let slots = self.slots.iter().skip(target).step_by(self.plan.targets.len());
        let silence = |slot: &super::Slot| match (&slot.state, slot.role.pace) {
            (State::Listening(listening), Pace::Full) => Some(now.since(listening.last_byte)),
            _ => None,
        };
        slots.filter_map(silence).max()
    }

    /// Reads everybody a last time and says what the steady window showed.
    pub(crate) fn finish(&mut self) -> Steady {
        for at in 0..self.slots.len() {
            self.visit(at, false, false);
        }
        let now = Nanos::now();
        let (mut stalls, mut coarse_stalls, mut rates, mut starved) = (Histogram::default(), Histogram::default(), Vec::new(), 0);
        for slot in &mut self.slots {
            let (State::Listening(listening), Pace::Full) = (&mut slot.state, slot.role.pace) else { continue };
            let gap = listening.longest_gap(now, self.steady);
            if slot.role.measured { &mut stalls } else { &mut coarse_stalls }.record(gap);
            // Whoever came within the window had a burst, and not all of the window: no rate.
            if self.steady.is_some_and(|steady| listening.joined < steady) {
                starved += u64::from(self.steady.is_some_and(|steady| listening.last_byte < steady));
                rates.extend(listening.rate());
            }
        }
        let seconds = self.steady.map_or(0.0, |steady| now.since(steady).as_secs_f64());
        self.steady = None;
        Steady { seconds, starved, stalls, coarse_stalls, rates: Spread::of(rates) }
    }
}
