//! How long data may wait to be sent together: short while a shard has time to spare, longer as it gets busy.
//!
//! A send costs the same for 400 bytes as for 8 KB, so what a shard spends is listeners ÷ window. The window follows from
//! that by proportion: if the last period took twice the share of a core that it may take, the window doubles.

use std::time::Duration;

use crate::units::Moment;

/// The share of its core that a shard means to spend before it lets data wait longer.
const BUSY_TARGET: f64 = 0.25;
/// How often the window is adjusted.
const PERIOD: Duration = Duration::from_millis(200);
/// Enough to make a call worth its price (a call costs the same up to there and more beyond); an elastic window ends early
/// for a stream that brings this much sooner.
const WORTH_SENDING_BYTES: f64 = 16.0 * 1024.0;

/// The range in which a mount lets data wait. Equal ends fix the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesce {
    /// The shortest wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

/// How busy one shard is, and what window that asks for.
#[derive(Debug)]
pub struct Pace {
    period_start: Moment,
    busy: Duration,
    busy_ratio: f64,
    window_secs: f64,
}

impl Pace {
    /// An idle shard.
    pub fn new(now: Moment) -> Self {
        Self { period_start: now, busy: Duration::ZERO, busy_ratio: 0.0, window_secs: 0.001 }
    }

    /// Takes note of a turn: how long it took, and when it ended.
    pub fn note(&mut self, took: Duration, now: Moment) {
        self.busy += took;
        let period = now.since(self.period_start);
        if period >= PERIOD {
            self.busy_ratio = (self.busy.as_secs_f64() / period.as_secs_f64()).min(1.0);
            self.window_secs = next_window(self.window_secs, self.busy_ratio);
            self.busy = Duration::ZERO;
            self.period_start = now;
        }
    }

    /// The share of the last period that was spent working, 0 to 1.
    pub fn busy_ratio(&self) -> f64 {
        self.busy_ratio
    }

    /// The window for a mount with this range, whose stream brings so many bytes a second.
    pub fn window(&self, range: Coalesce, bytes_per_second: Option<f64>) -> Duration {
        if range.min >= range.max {
            return range.max;
        }
        let worth = bytes_per_second.filter(|rate| *rate > 1.0).map_or(f64::MAX, |rate| WORTH_SENDING_BYTES / rate);
        let secs = self.window_secs.min(worth).clamp(range.min.as_secs_f64(), range.max.as_secs_f64());
        Duration::from_secs_f64(secs)
    }
}

/// The window that would bring the busy share to its target, halfway there, so that it settles instead of swinging.
fn next_window(window_secs: f64, busy_ratio: f64) -> f64 {
    let step = (busy_ratio / BUSY_TARGET).clamp(0.5, 2.0);
    (window_secs * step.sqrt()).clamp(0.001, 10.0)
}

/// A window is walked in about so many steps: waking up costs as much as several sends, so a step is to be worth it.
const STEPS: usize = 25;
/// Listeners served in one step, at most, so that no turn is long: a millisecond or two.
const STEP_MOST: usize = 128;

/// Walks round the places of a table once per window, a few places at a time.
#[derive(Debug, Default)]
pub struct Rotor {
    place: usize,
    carry: f64,
}

impl Rotor {
    /// The places due after `elapsed`, as a start and a count; the walk goes on from there. Never more than one round.
    pub fn turn(&mut self, places: usize, elapsed: Duration, window: Duration) -> (usize, usize) {
        if places == 0 {
            return (0, 0);
        }
        let due = self.carry + places as f64 * (elapsed.as_secs_f64() / window.as_secs_f64().max(1e-6));
        let count = (due as usize).min(places);
        self.carry = (due - count as f64).min(1.0);
        let start = self.place % places;
        self.place = (start + count) % places;
        (start, count)
    }

    /// The table has one place more: it is passed in addition to those that are due.
    pub fn grow(&mut self) {
        self.carry += 1.0;
    }

    /// Time until the next step is due.
    pub fn wait(&self, places: usize, window: Duration) -> Duration {
        let step = (places / STEPS).clamp(1, STEP_MOST);
        window.mul_f64((step as f64 - self.carry).max(0.0) / places.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELASTIC: Coalesce = Coalesce { min: Duration::from_millis(20), max: Duration::from_millis(500) };

    #[test]
    fn the_window_settles_where_the_work_takes_its_share() {
        // 10,000 listeners at 8 us a send: the window must come to listeners x 8 us / share = 320 ms.
        let mut window = 0.02;
        for _ in 0..60 {
            window = next_window(window, (0.08 / window).min(1.0));
        }
        assert!((window - 0.32).abs() < 0.01, "{window}");
        for _ in 0..60 {
            window = next_window(window, 0.0);
        }
        assert!(window <= 0.002, "an idle shard goes back to short waits: {window}");
    }

    #[test]
    fn a_window_keeps_its_range_and_a_fixed_one_is_fixed() {
        let mut pace = Pace::new(Moment::ZERO);
        assert_eq!(pace.window(ELASTIC, None), ELASTIC.min);
        for i in 1..100 {
            pace.note(Duration::from_millis(200), Moment::from_nanos(i * 200_000_000));
        }
        assert_eq!(pace.busy_ratio(), 1.0);
        assert_eq!(pace.window(ELASTIC, None), ELASTIC.max);
        assert_eq!(pace.window(ELASTIC, Some(65_536.0)), Duration::from_millis(250), "16 KiB are worth a call");
        assert_eq!(pace.window(ELASTIC, Some(1e9)), ELASTIC.min);
        let fixed = Coalesce { min: Duration::from_millis(250), max: Duration::from_millis(250) };
        assert_eq!(pace.window(fixed, Some(1e9)), fixed.max);
    }

    #[test]
    fn a_window_is_walked_in_steps_that_are_worth_waking_up_for_and_not_long() {
        let window = Duration::from_millis(500);
        let step = |places| {
            let rotor = Rotor::default();
            let wait = rotor.wait(places, window);
            (wait.as_micros(), Rotor::default().turn(places, wait + Duration::from_nanos(1), window).1)
        };
        assert_eq!(step(1), (500_000, 1));
        assert_eq!(step(10), (50_000, 1));
        assert_eq!(step(100), (20_000, 4), "25 steps");
        assert_eq!(step(2500), (20_000, 100));
        assert_eq!(step(5000), (12_800, 128), "more and smaller steps");
        assert_eq!(step(50_000), (1280, 128));
    }

    #[test]
    fn a_rotor_visits_every_place_once_per_window() {
        for (places, step_ms) in [(1, 2), (7, 2), (1000, 2), (10_000, 3), (100, 700)] {
            let (mut rotor, mut visits) = (Rotor::default(), vec![0_u32; places]);
            for _ in 0..(5000 / step_ms) {
                let (start, count) = rotor.turn(places, Duration::from_millis(step_ms), Duration::from_millis(500));
                (0..count).for_each(|i| visits[(start + i) % places] += 1);
            }
            let want = if step_ms > 500 { 7 } else { 10 };
            assert!(visits.iter().all(|&v| v.abs_diff(want) <= 1), "{places} places, {step_ms} ms steps: {:?}", visits.iter().min());
        }
    }
}
