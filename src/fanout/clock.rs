//! The stream's own clock, made monotonic.
//!
//! Extents of time are measured on it. It follows DTS where there is one, else PTS, and it survives what streams do:
//! stamps that are missing, repeated, reordered (B-frames without DTS), that go back, or that jump by a thousand hours.
//! What cannot be believed is bridged by arrival time.

use std::time::Duration;

use crate::handover;
use crate::units::{Moment, nanos};

/// Stamps may lie so far behind the newest and still be one stream: several streams in one are not interleaved finer.
const INTERLEAVE_NS: u64 = 250_000_000;

/// Pictures in coding order go back further, but never to where the stream was before the picture that they lead up to, and
/// no codec in use further than this.
const REORDER_NS: u64 = 1_000_000_000;

/// While stamps are not ahead the clock stands still. After so many chunks in a row, or [`REORDER_NS`] of arrival time, they
/// are no time at all (a short loop).
const STANDING_MOST: u32 = 16;

/// One stamp may stand on so many chunks in a row; on more it says nothing.
const SAME_MOST: u32 = 4;

/// Stamps may run ahead of arrival by so much in one step; more is a jump. Wide, because a pipeline may deliver faster than
/// real time and sparse streams (one picture in some seconds) are legal.
const JUMP_NS: u64 = 10_000_000_000;

/// Turns stamps and arrivals into stream time: nanoseconds that never go back.
#[derive(Debug, Default)]
pub struct StreamClock {
    /// Stream time of the last chunk.
    now: u64,
    /// Stream time before it last went on.
    before: u64,
    /// When the last chunk arrived.
    arrived: Option<Moment>,
    /// When the chunk arrived with which stream time last went on.
    advanced: Moment,
    /// Chunks since then.
    standing: u32,
    /// The last stamp, and on how many chunks in a row it stood.
    last: Option<(u64, u32)>,
    /// What to add to a stamp to get stream time; `None` until the first stamp, and after a break.
    offset: Option<i128>,
}

impl StreamClock {
    /// Stream time, in nanoseconds, of a chunk with this stamp (DTS, else PTS; nanoseconds) that arrives now.
    pub fn stamp(&mut self, stamp: Option<u64>, arrival: Moment) -> u64 {
        let same = match (self.last, stamp) {
            (Some((last, times)), Some(stamp)) if last == stamp => times.saturating_add(1),
            _ => 1,
        };
        self.last = stamp.map(|stamp| (stamp, same));
        let stood = nanos(arrival.since(if self.arrived.is_none() { arrival } else { self.advanced }));
        let bridged = self.now.saturating_add(stood);
        let next = match stamp.filter(|_| same <= SAME_MOST) {
            None => bridged,
            Some(stamp) => {
                let mapped = self.offset.map(|offset| i128::from(stamp) + offset).filter(|&mapped| self.believes(mapped, arrival));
                if mapped.is_none() {
                    self.offset = Some(i128::from(bridged) - i128::from(stamp));
                }
                mapped.map_or(bridged, |mapped| u64::try_from(mapped).unwrap_or(0).max(self.now))
            }
        };
        if next > self.now || self.arrived.is_none() {
            (self.before, self.now, self.advanced, self.standing) = (self.now, next, arrival, 0);
        } else {
            self.standing += 1;
        }
        self.arrived = Some(arrival);
        next
    }

    fn believes(&self, mapped: i128, arrival: Moment) -> bool {
        let ahead = mapped - i128::from(self.now);
        if ahead > 0 {
            let waited = self.arrived.map_or(Duration::ZERO, |before| arrival.since(before));
            return ahead <= i128::from(JUMP_NS) + i128::from(nanos(waited));
        }
        let still = self.standing >= STANDING_MOST || arrival.since(self.advanced) > Duration::from_nanos(REORDER_NS);
        let near = -ahead <= i128::from(INTERLEAVE_NS);
        let reordered = mapped > i128::from(self.before) && -ahead <= i128::from(REORDER_NS);
        !still && (near || reordered)
    }

    /// Goes on from this stream time; the next stamp is tied to its arrival.
    pub fn resume(&mut self, time: u64, now: Moment) {
        *self = Self { now: time, before: time, arrived: Some(now), advanced: now, ..Self::default() };
    }

    /// As plain data.
    pub fn pack(&self) -> handover::StreamTime {
        handover::StreamTime {
            now: self.now,
            before: self.before,
            arrived: self.arrived.map(Moment::nanos),
            advanced: self.advanced.nanos(),
            standing: self.standing,
            last: self.last,
            offset: self.offset.and_then(|offset| i64::try_from(offset).ok()),
        }
    }

    /// Goes on as another process would have.
    pub fn unpack(packed: &handover::StreamTime) -> Self {
        Self {
            now: packed.now,
            before: packed.before.min(packed.now),
            arrived: packed.arrived.map(Moment::from_nanos),
            advanced: Moment::from_nanos(packed.advanced),
            standing: packed.standing,
            last: packed.last,
            offset: packed.offset.map(i128::from),
        }
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

    #[test]
    fn a_clock_that_is_handed_over_goes_on_as_if_it_had_not_been() {
        let ms = |time: u64| time * 1_000_000;
        let at = |time| Moment::from_nanos(ms(time));
        let mut clock = StreamClock::default();
        for stamp in [5000, 5040] {
            clock.stamp(Some(ms(stamp)), at(stamp - 5000));
        }
        let mut heir = StreamClock::unpack(&clock.pack());
        // It comes late, and all at once; its stamps say what it is.
        for (stamp, arrival) in [(Some(5080), 1500), (Some(5120), 1500), (None, 1520)] {
            let want = clock.stamp(stamp.map(ms), at(arrival));
            assert_eq!(heir.stamp(stamp.map(ms), at(arrival)), want);
        }
        assert_eq!(clock.stamp(Some(ms(5160)), at(1530)), ms(160), "no time has passed by the hand-over");
    }

    #[test]
    fn stamps_that_stand_still_or_go_round_do_not_stop_the_clock() {
        let hour = 90_000_u64; // chunks, 40 ms apart
        for (name, stamp) in [
            ("all alike", (|_| 0) as fn(u64) -> u64),
            ("a loop of 0.8 s", |i| i % 20 * 40),
            ("a loop of 0.2 s", |i| i % 5 * 40),
            ("two that take turns", |i| i % 2 * 40),
        ] {
            let steps: Vec<_> = (0..=hour).map(|i| (Some(stamp(i)), i * 40)).collect();
            let now = *run(&steps).last().expect("an hour");
            assert!(now.abs_diff(3_600_000) < 2000, "{name}: {now} ms");
        }
    }

    #[test]
    fn what_goes_back_is_bridged_by_arrival_however_little_it_is() {
        // Delivered at once: no time passes between the two runs, and within them the stamps are exact.
        let twice: Vec<_> = (0..20).chain(0..10).map(|i| (Some(i * 20), 0)).collect();
        let want: Vec<u64> = (0..20).chain(19..29).map(|i| i * 20).collect();
        assert_eq!(run(&twice), want);
    }

    #[test]
    fn sound_and_pictures_in_one_go_by_the_newer_of_them() {
        let steps = [(0, 0), (0, 0), (40, 40), (21, 40), (42, 45), (80, 80), (64, 80), (120, 120), (85, 120), (106, 121), (160, 160)];
        let steps: Vec<_> = steps.into_iter().map(|(stamp, at)| (Some(stamp), at)).collect();
        assert_eq!(run(&steps), [0, 0, 40, 40, 42, 80, 80, 120, 120, 120, 160]);
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
                prop_assert!(now - before <= JUMP_NS + REORDER_NS + wait);
                before = now;
            }
        }
    }
}
