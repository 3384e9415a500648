//! Does a figure creep? A robust line through its samples, and what that line says. Pure.
//!
//! Theil-Sen: the median of the slopes between all pairs of points. Up to a quarter of the samples may be wild (a burst of joins,
//! a page cache that grew) without moving it. A figure creeps only if three quarters of all pairs rise *and* the rise over the
//! whole time is more than what a healthy server may still settle by.

use serde::Serialize;

/// Points beyond these are thinned first: the work is the square of it.
const POINTS_MAX: usize = 300;
/// Fewer points, or a shorter time, prove nothing.
const POINTS_MIN: usize = 20;
const HOURS_MIN: f64 = 1.0 / 6.0;

/// What a figure may still grow by over the time that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) least: f64,
    /// Share of the figure's median.
    pub(crate) share: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Slope {
    pub(crate) per_hour: f64,
    /// By the line, over the time that was looked at.
    pub(crate) growth: f64,
    pub(crate) median: f64,
    pub(crate) hours: f64,
    pub(crate) points: usize,
    /// `None`: too short to tell.
    pub(crate) creeps: Option<bool>,
}

/// The slope of `(hours, value)` points in the order of time. `None` without two moments.
pub(crate) fn slope(points: &[(f64, f64)], allowance: Allowance) -> Option<Slope> {
    let points = thinned(points);
    let (first, last) = (points.first()?.0, points.last()?.0);
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (at, (x, y)) in points.iter().enumerate() {
        slopes.extend(points[at + 1..].iter().filter(|(later, _)| later > x).map(|(later, value)| (value - y) / (later - x)));
    }
    slopes.sort_by(f64::total_cmp);
    let per_hour = middle(&slopes)?;
    let lower_quarter = slopes[slopes.len() / 4];
    let mut values: Vec<f64> = points.iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    let (median, hours) = (middle(&values)?, last - first);
    let growth = per_hour * hours;
    let long_enough = points.len() >= POINTS_MIN && hours >= HOURS_MIN;
    let creeps = long_enough.then_some(lower_quarter > 0.0 && growth > allowance.least.max(median * allowance.share));
    Some(Slope { per_hour, growth, median, hours, points: points.len(), creeps })
}

/// Every so many points one, evenly, the last included.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let good: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let n = good.len();
    if n <= POINTS_MAX {
        return good;
    }
    (0..POINTS_MAX).map(|at| good[at * (n - 1) / (POINTS_MAX - 1)]).collect()
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    let upper = *sorted.get(n / 2)?;
    Some(if n.is_multiple_of(2) { (sorted[n / 2 - 1] + upper) / 2.0 } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Dice;

    const MIB: Allowance = Allowance { least: 2048.0, share: 0.05 };

    /// A figure over an hour, noisy, with `per_hour` under it and every `wild`-th sample far off.
    fn samples(n: usize, per_hour: f64, noise: usize, wild: usize) -> Vec<(f64, f64)> {
        let mut dice = Dice(7);
        let value = |at: usize, dice: &mut Dice| {
            let hours = at as f64 / n as f64;
            let spike = if wild > 0 && at % wild == wild - 1 { 90_000.0 } else { 0.0 };
            (hours, 20_000.0 + per_hour * hours + dice.below(noise.max(1)) as f64 + spike)
        };
        (0..n).map(|at| value(at, &mut dice)).collect()
    }

    #[test]
    fn a_line_is_found_under_noise_and_spikes() {
        for (per_hour, noise, wild) in [(0.0, 0, 0), (0.0, 500, 5), (6_000.0, 500, 0), (6_000.0, 500, 5), (-3_000.0, 200, 7)] {
            let found = slope(&samples(1_000, per_hour, noise, wild), MIB).expect("a slope");
            assert!((found.per_hour - per_hour).abs() < 400.0, "{per_hour} {noise} {wild}: {found:?}");
            assert_eq!(found.creeps, Some(per_hour > 2048.0), "{per_hour} {noise} {wild}: {found:?}");
        }
    }

    #[test]
    fn a_step_at_the_beginning_and_a_saw_do_not_creep() {
        let step: Vec<(f64, f64)> = (0..500).map(|at| (f64::from(at) / 500.0, if at < 20 { 10_000.0 } else { 20_000.0 })).collect();
        let saw: Vec<(f64, f64)> = (0..500).map(|at| (f64::from(at) / 500.0, 20_000.0 + f64::from(at % 50) * 100.0)).collect();
        for points in [step, saw] {
            assert_eq!(slope(&points, MIB).expect("a slope").creeps, Some(false));
        }
    }

    #[test]
    fn what_is_too_short_proves_nothing() {
        assert_eq!(slope(&samples(POINTS_MIN - 1, 90_000.0, 0, 0), MIB).expect("a slope").creeps, None);
        let brief: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at) / 3600.0, f64::from(at) * 1e6)).collect();
        assert_eq!(slope(&brief, MIB).expect("a slope").creeps, None);
        for nothing in [vec![], vec![(0.0, 1.0)], vec![(1.0, 1.0), (1.0, 2.0)], vec![(f64::NAN, 1.0), (1.0, f64::NAN)]] {
            assert_eq!(slope(&nothing, MIB), None);
        }
    }

    #[test]
    fn the_work_is_bounded_and_the_last_sample_counts() {
        let found = slope(&samples(100_000, 6_000.0, 10, 0), MIB).expect("a slope");
        assert_eq!(found.points, POINTS_MAX);
        assert!((found.hours - 1.0).abs() < 1e-3, "{found:?}");
    }
}
