//! Who does what and when: roles over the listeners, the ramp, the reading round. Pure: time comes in as an argument.

use std::ops::Range;
use std::time::Duration;

use crate::units::{ByteRate, Share};

/// How a listener reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    Full,
    Slow(ByteRate),
    /// Reads the answer's head and never again.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Role {
    pub(crate) pace: Pace,
    /// Read the moment something arrives, gaps timed exactly.
    pub(crate) measured: bool,
    /// Content checked.
    pub(crate) verified: bool,
}

impl Role {
    /// Watched listeners stay in epoll; the others are only visited by the round.
    pub(crate) fn watched(&self) -> bool {
        self.measured || self.verified
    }
}

/// The wishes that roles are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) stalled: Share,
    pub(crate) slow: Option<(Share, ByteRate)>,
    /// Every so many healthy listeners one is measured; 0 = none.
    pub(crate) measure_every: usize,
    /// So many healthy listeners are verified, spread evenly.
    pub(crate) verify: usize,
}

/// A role for each of `n` listeners, every kind spread evenly, so that it does not matter in what order they join.
pub(crate) fn roles(n: usize, mix: &Mix) -> Vec<Role> {
    let slow_share = mix.slow.map_or(Share(0.0), |(share, _)| share);
    let of = |share: Share, at: usize| ((at + 1) as f64 * share.0) as usize > (at as f64 * share.0) as usize;
    let mut not_stalled = 0;
    let mut roles: Vec<Role> = (0..n)
        .map(|at| {
            let pace = if of(mix.stalled, at) {
                Pace::Stalled
            } else {
                // The slow share is of all listeners, taken from those that are left.
                let left = (1.0 - mix.stalled.0).max(f64::EPSILON);
                let slow = of(Share((slow_share.0 / left).min(1.0)), not_stalled);
                not_stalled += 1;
                mix.slow.filter(|_| slow).map_or(Pace::Full, |(_, rate)| Pace::Slow(rate))
            };
            Role { pace, measured: false, verified: false }
        })
        .collect();
    let healthy: Vec<usize> = (0..n).filter(|&at| roles[at].pace == Pace::Full).collect();
    if let Some(every) = std::num::NonZeroUsize::new(mix.measure_every) {
        healthy.iter().step_by(every.get()).for_each(|&at| roles[at].measured = true);
    }
    let verify = mix.verify.min(healthy.len());
    for k in 0..verify {
        // The middle of each of `verify` equal stretches: rarely one of the measured, which sit at the beginnings.
        roles[healthy[(2 * k + 1) * healthy.len() / (2 * verify)]].verified = true;
    }
    roles
}

/// How many of something with a steady frequency are due after a while.
pub(crate) fn due(elapsed: Duration, per_second: f64) -> u64 {
    (elapsed.as_secs_f64() * per_second) as u64
}

/// The reading round: visits every listener once per period, a few each tick, and never twice in one call.
#[derive(Debug, Default)]
pub(crate) struct Round {
    cursor: usize,
    owed: f64,
}

impl Round {
    /// The slots to visit now, as up to two ranges of `0..n`.
    pub(crate) fn visit(&mut self, n: usize, elapsed: Duration, period: Duration) -> [Range<usize>; 2] {
        self.owed = (self.owed + n as f64 * elapsed.as_secs_f64() / period.as_secs_f64()).min(n as f64);
        let visits = self.owed as usize;
        self.owed -= visits as f64;
        let start = if self.cursor < n { self.cursor } else { 0 };
        let end = (start + visits).min(n);
        let wrapped = visits - (end - start);
        self.cursor = if wrapped > 0 { wrapped } else { end };
        [start..end, 0..wrapped]
    }
}

/// How long a round may take so that a visit finds about `aim` bytes waiting.
pub(crate) fn period(bytes_per_second: f64, aim: f64, shortest: Duration, longest: Duration) -> Duration {
    let wished = aim / bytes_per_second.max(1.0);
    Duration::from_secs_f64(wished.clamp(shortest.as_secs_f64(), longest.as_secs_f64()))
}

/// Small, seeded, good enough to choose who leaves (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix() -> Mix {
        Mix { stalled: Share(0.1), slow: Some((Share(0.05), ByteRate(2048.0))), measure_every: 50, verify: 16 }
    }

    #[test]
    fn roles_have_the_shares_that_were_asked_for() {
        let roles = roles(10_000, &mix());
        let count = |wanted: fn(&Role) -> bool| roles.iter().filter(|role| wanted(role)).count();
        assert_eq!(count(|role| role.pace == Pace::Stalled), 1_000);
        assert!((499..=500).contains(&count(|role| matches!(role.pace, Pace::Slow(_)))));
        assert_eq!(count(|role| role.measured), 170);
        assert_eq!(count(|role| role.verified), 16);
    }

    #[test]
    fn only_healthy_listeners_are_measured_or_verified() {
        assert!(roles(1_000, &mix()).iter().all(|role| !role.watched() || role.pace == Pace::Full));
        let all_stalled = Mix { stalled: Share(1.0), ..mix() };
        assert!(roles(100, &all_stalled).iter().all(|role| role.pace == Pace::Stalled && !role.watched()));
    }

    #[test]
    fn more_verified_than_there_are_means_all() {
        let all = Mix { stalled: Share(0.0), slow: None, measure_every: 0, verify: 99 };
        assert_eq!(roles(10, &all).iter().filter(|role| role.verified).count(), 10);
    }

    #[test]
    fn a_round_visits_everyone_once_per_period_whatever_the_ticks_are() {
        for tick in [1, 7, 10, 333, 1_000, 5_000] {
            let (mut round, mut visits) = (Round::default(), vec![0u32; 997]);
            let ticks = 10_000 / tick;
            for _ in 0..ticks {
                let now = round.visit(visits.len(), Duration::from_millis(tick), Duration::from_secs(1));
                now.into_iter().flatten().for_each(|at| visits[at] += 1);
            }
            let rounds = if tick > 1_000 { ticks } else { tick * ticks / 1_000 };
            assert!(visits.iter().all(|&n| (rounds - 1..=rounds + 1).contains(&u64::from(n))), "{tick} ms: {visits:?}");
        }
    }

    #[test]
    fn a_round_survives_listeners_becoming_fewer_or_none() {
        let mut round = Round::default();
        let second = Duration::from_secs(1);
        round.visit(100, second / 2, second);
        assert_eq!(round.visit(10, second, second).into_iter().flatten().count(), 10);
        assert_eq!(round.visit(0, second, second).into_iter().flatten().count(), 0);
    }

    #[test]
    fn the_period_follows_the_rate_within_its_ends() {
        let (short, long) = (Duration::from_millis(20), Duration::from_millis(500));
        for (rate, want) in [(0.0, 500), (48_000.0, 500), (312_500.0, 80), (9e9, 20)] {
            assert_eq!(period(rate, 25_000.0, short, long).as_millis(), want, "{rate}");
        }
    }
}
