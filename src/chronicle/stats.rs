//! Numbers of one second, for those who watch. Pure: two scenes in, a document out.

use serde::Serialize;

use super::scene::{MountScene, Scene, ShardScene};

/// Mounts that are listed; beyond them the document would be larger than a watcher can take each second.
const MOUNTS_MOST: usize = 200;
/// Characters of a text that are told.
const TEXT_MOST: usize = 200;

#[derive(Debug, Serialize)]
pub(super) struct Stats {
    /// Seconds since 1970.
    at: f64,
    listeners: u64,
    /// `null`: without limit.
    listeners_max: Option<u64>,
    out_bps: u64,
    in_bps: u64,
    draining: bool,
    mounts: Vec<MountStats>,
    /// Mounts that are not listed.
    unlisted: usize,
    shards: Vec<ShardStats>,
}

#[derive(Debug, Serialize)]
struct MountStats {
    path: String,
    /// `pipeline`, `relay`, `relay_on_demand` or `encoder`.
    filler: &'static str,
    up: bool,
    lacking: bool,
    content_type: Option<String>,
    title: String,
    fault: Option<String>,
    restarts: u64,
    listeners: u64,
    listeners_max: Option<u64>,
    /// Of stream time, as measured over the history.
    bitrate_bps: Option<u64>,
    /// What the source delivered within the last second.
    in_bps: u64,
    /// What listeners were sent within the last second.
    out_bps: u64,
    /// Of the lags that were sampled within the last second; `null`: none.
    lag_p50: Option<f64>,
    lag_p99: Option<f64>,
    lag_max: f64,
    ring_seconds: f64,
    /// Departures since the start, by reason.
    departures: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct ShardStats {
    busy: f64,
    listeners: u64,
    window_seconds: f64,
    /// Of the turns of the last second; `null`: none.
    turn_p50: Option<f64>,
    turn_p99: Option<f64>,
}

/// The value below which this share of the samples lies that were added to a histogram; what lies beyond its last bound is said to
/// be there. `None`: nothing was added.
fn quantile(share: f64, before: (&[(f64, u64)], u64), after: (&[(f64, u64)], u64)) -> Option<f64> {
    let count = after.1.saturating_sub(before.1);
    if count == 0 {
        return None;
    }
    let wanted = share * count as f64;
    let (mut lower, mut below) = (0.0, 0.0);
    for (i, (bound, cumulative)) in after.0.iter().enumerate() {
        let upto = cumulative.saturating_sub(before.0.get(i).map_or(0, |(_, count)| *count)) as f64;
        if upto >= wanted && upto > below {
            return Some(lower + (bound - lower) * (wanted - below) / (upto - below));
        }
        (lower, below) = (*bound, upto);
    }
    Some(lower)
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MOST).collect()
}

fn per_second(before: u64, after: u64, seconds: f64) -> u64 {
    (after.saturating_sub(before) as f64 * 8.0 / seconds) as u64
}

impl Stats {
    pub(super) fn of(before: &Scene, after: &Scene) -> Self {
        let seconds = (after.at - before.at).max(0.1); // a clock that was set back has no rate
        let mounts = after.mounts.iter().map(|mount| MountStats::of(before.mount(&mount.path), mount, seconds));
        let mounts: Vec<_> = mounts.collect();
        let nothing = ShardScene::default();
        Self {
            at: after.at,
            listeners: mounts.iter().map(|mount| mount.listeners).sum(),
            listeners_max: Some(after.places.1).filter(|most| *most < u64::MAX),
            out_bps: mounts.iter().map(|mount| mount.out_bps).sum(),
            in_bps: mounts.iter().map(|mount| mount.in_bps).sum(),
            draining: after.draining,
            unlisted: mounts.len().saturating_sub(MOUNTS_MOST),
            mounts: mounts.into_iter().take(MOUNTS_MOST).collect(),
            shards: after
                .shards
                .iter()
                .enumerate()
                .map(|(i, shard)| ShardStats::of(before.shards.get(i).unwrap_or(&nothing), shard))
                .collect(),
        }
    }
}

impl MountStats {
    fn of(before: Option<&MountScene>, mount: &MountScene, seconds: f64) -> Self {
        let nothing = MountScene { sent_bytes: mount.sent_bytes, received_bytes: mount.received_bytes, ..MountScene::default() };
        let before = before.unwrap_or(&nothing);
        // Bounds are coarse, and nobody is further behind than the one who is furthest.
        let furthest = mount.lag_max.as_secs_f64();
        let lag = |share| quantile(share, (&before.lag, before.lag_count), (&mount.lag, mount.lag_count)).map(|lag| lag.min(furthest));
        let departures = crate::fanout::departure::Departure::ALL.into_iter().zip(mount.departures).filter(|(_, count)| *count > 0);
        Self {
            path: mount.path.clone(),
            filler: mount.filler.label(),
            up: mount.up,
            lacking: mount.lacking,
            content_type: mount.content_type.as_deref().map(short),
            title: short(&mount.title),
            fault: mount.fault.as_deref().map(short),
            restarts: mount.restarts,
            listeners: mount.listeners(),
            listeners_max: mount.most,
            bitrate_bps: mount.bitrate_bps,
            in_bps: per_second(before.received_bytes, mount.received_bytes, seconds),
            out_bps: per_second(before.sent_bytes, mount.sent_bytes, seconds),
            lag_p50: lag(0.5),
            lag_p99: lag(0.99),
            lag_max: mount.lag_max.as_secs_f64(),
            ring_seconds: mount.ring_seconds,
            departures: departures.map(|(why, count)| (why.label().to_owned(), count.into())).collect(),
        }
    }
}

impl ShardStats {
    fn of(before: &ShardScene, shard: &ShardScene) -> Self {
        let turn = |share| quantile(share, (&before.turns, before.turn_count), (&shard.turns, shard.turn_count));
        Self {
            busy: shard.busy,
            listeners: shard.listeners,
            window_seconds: shard.window.as_secs_f64(),
            turn_p50: turn(0.5),
            turn_p99: turn(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_of_what_was_added() {
        let (before, after) = ([(0.1, 100), (1.0, 100)], [(0.1, 110), (1.0, 120)]);
        let of = |share| quantile(share, (&before, 100), (&after, 120));
        assert_eq!((of(0.5), of(0.25)), (Some(0.1), Some(0.05)));
        assert!(of(0.75).is_some_and(|value| (value - 0.55).abs() < 1e-9));
        assert_eq!(quantile(0.5, (&before, 100), (&before, 100)), None);
        assert_eq!(quantile(0.99, (&before, 100), (&before, 105)), Some(1.0), "beyond the last bound");
        assert_eq!(quantile(0.5, (&[], 0), (&after, 120)), Some(0.1 * 60.0 / 110.0), "nothing was there before");
    }

    #[test]
    fn rates_are_of_one_second_and_a_new_mount_has_none() {
        let mount = |sent| MountScene { path: "/a".into(), sent_bytes: sent, joins: 3, ..MountScene::default() };
        let scene = |at, mounts| Scene { at, mounts, places: (3, u64::MAX), ..Scene::default() };
        let (before, after) = (scene(10.0, vec![mount(1000)]), scene(12.0, vec![mount(3000)]));
        let stats = Stats::of(&before, &after);
        assert_eq!((stats.out_bps, stats.listeners, stats.listeners_max), (8000, 3, None));
        assert_eq!(Stats::of(&scene(10.0, vec![]), &after).out_bps, 0);
        let many = (0..MOUNTS_MOST + 5).map(|i| MountScene { path: format!("/{i:05}"), ..MountScene::default() }).collect();
        let stats = Stats::of(&before, &scene(13.0, many));
        assert_eq!((stats.mounts.len(), stats.unlisted), (MOUNTS_MOST, 5));
    }
}
