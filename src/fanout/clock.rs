//! The stream's own clock, made monotonic.
//!
//! Extents of time are measured on it. It follows DTS where there is one, else PTS, and it survives what streams do:
//! stamps that are missing, repeated, reordered (B-frames without DTS), that go back, or that jump by a thousand hours.
//! What cannot be believed is bridged by arrival time.

use std::time::Duration;

use crate::units::Moment;

/// Stamps may go back by so much and still be one stream in coding order: a reordering, not a new beginning.
/// No codec in use reorders further. The clock stands still until the stamps pass it again.
const REORDER_NS: u64 = 1_000_000_000;

/// Stamps may run ahead of arrival by so much in one step; more is a jump. Wide, because a pipeline may deliver faster than
/// real time and sparse streams (one picture in some seconds) are legal.
const JUMP_NS: u64 = 10_000_000_000;

/// Turns stamps and arrivals into stream time: nanoseconds that never go back.
#[derive(Debug, Default)]
pub struct StreamClock {
    /// Stream time of the last chunk.
    now: u64,
    /// When the last chunk arrived.
    arrived: Option<Moment>,
    /// What to add to a stamp to get stream time; `None` until the first stamp, and after a break.
    offset: Option<i128>,
}

impl StreamClock {
    /// Stream time, in nanoseconds, of a chunk with this stamp (DTS, else PTS; nanoseconds) that arrives now.
    pub fn stamp(&mut self, stamp: Option<u64>, arrival: Moment) -> u64 {
        let waited = Duration::as_nanos(&self.arrived.map_or(Duration::ZERO, |before| arrival.since(before))) as u64;
        let bridged = self.now.saturating_add(waited);
        let believed = stamp.and_then(|stamp| {
            let mapped = i128::from(stamp) + self.offset?;
            let ahead = mapped - i128::from(self.now);
            let limit = i128::from(JUMP_NS) + i128::from(waited);
            (-i128::from(REORDER_NS)..=limit).contains(&ahead).then_some(mapped)
        });
        let first = self.arrived.is_none();
        self.now = match (believed, stamp) {
            (Some(mapped), _) => u64::try_from(mapped).unwrap_or(0).max(self.now),
            (None, Some(stamp)) => {
                let now = if first { 0 } else { bridged };
                self.offset = Some(i128::from(now) - i128::from(stamp));
                now
            }
            (None, None) => bridged,
        };
        self.arrived = Some(arrival);
        self.now
    }

    /// Stamps start anew (another source, a flush): the next one is tied to its arrival.
    pub fn break_here(&mut self) {
        self.offset = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Milliseconds of stream time for (stamp, arrival), both in milliseconds.
    fn run(steps: &[(Option<u64>, u64)]) -> Vec<u64> {
        let mut clock = StreamClock::default();
        steps
            .iter()
            .map(|&(stamp, at)| clock.stamp(stamp.map(|ms| ms * 1_000_000), Moment::from_nanos(at * 1_000_000)) / 1_000_000)
            .collect()
    }

    #[test]
    fn the_clock_survives_what_streams_do() {
        let hours_1000 = 3_600_000_000;
        for (name, steps, want) in [
            ("plain, delivered at once", vec![(Some(5000), 0), (Some(5040), 0), (Some(5080), 0)], vec![0, 40, 80]),
            ("missing stamps go by arrival", vec![(None, 0), (None, 40), (None, 90)], vec![0, 40, 90]),
            ("some missing", vec![(Some(0), 0), (None, 30), (Some(40), 40)], vec![0, 30, 40]),
            ("repeated", vec![(Some(0), 0), (Some(0), 5), (Some(40), 40)], vec![0, 0, 40]),
            (
                "reordered",
                vec![(Some(0), 0), (Some(120), 40), (Some(40), 80), (Some(80), 120), (Some(160), 160)],
                vec![0, 120, 120, 120, 160],
            ),
            ("back to zero", vec![(Some(50_000), 0), (Some(50_040), 40), (Some(0), 80), (Some(40), 120)], vec![0, 40, 80, 120]),
            ("jumping ahead", vec![(Some(0), 0), (Some(hours_1000), 40), (Some(hours_1000 + 40), 80)], vec![0, 40, 80]),
            ("sparse, in real time", vec![(Some(0), 0), (Some(60_000), 60_000)], vec![0, 60_000]),
            ("sparse, faster than real time", vec![(Some(0), 0), (Some(9_000), 0)], vec![0, 9_000]),
            ("arrival jitters, stamps do not", vec![(Some(0), 0), (Some(40), 90), (Some(80), 91)], vec![0, 40, 80]),
        ] {
            assert_eq!(run(&steps), want, "{name}");
        }
    }

    #[test]
    fn a_break_ties_the_next_stamp_to_its_arrival() {
        let mut clock = StreamClock::default();
        clock.stamp(Some(0), Moment::ZERO);
        clock.break_here();
        assert_eq!(clock.stamp(Some(7), Moment::from_nanos(500)), 500);
        assert_eq!(clock.stamp(Some(9), Moment::from_nanos(600)), 502);
    }

    proptest! {
        /// Whatever the stamps are, stream time never goes back, and it never runs further ahead of arrival than a jump allows per step.
        #[test]
        fn stream_time_never_goes_back(steps in proptest::collection::vec((any::<Option<u64>>(), 0u64..10_000_000_000), 1..200)) {
            let (mut clock, mut arrival, mut before) = (StreamClock::default(), Moment::ZERO, 0);
            for (stamp, wait) in steps {
                arrival = arrival + Duration::from_nanos(wait);
                let now = clock.stamp(stamp, arrival);
                prop_assert!(now >= before);
                prop_assert!(now - before <= JUMP_NS + wait);
                before = now;
            }
        }
    }
}
