//! What one measurement found, and what several of them say together: median and spread, and flumen's figure over the peer's. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The part of a `listen` result that is looked at here.
#[derive(Debug, Deserialize)]
pub(super) struct Heard {
    ramp_seconds: f64,
    outcome: HeardOutcome,
    first_body_byte: Option<HeardQuantiles>,
    stall: Option<HeardQuantiles>,
    latency: Option<HeardQuantiles>,
    bytes_per_s_per_listener: Option<HeardSpread>,
    server: Option<HeardServer>,
    own_cpu_percent: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct HeardOutcome {
    joined: u64,
    refused: BTreeMap<String, u64>,
    lost: u64,
    starved: u64,
    corrupt: u64,
    units_verified: u64,
    faults: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct HeardQuantiles {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Debug, Deserialize)]
struct HeardSpread {
    mean: f64,
}

#[derive(Debug, Deserialize)]
struct HeardServer {
    cpu_percent: f64,
    us_per_listener_second: Option<f64>,
    user_bytes_per_listener: Option<f64>,
    before: HeardWeight,
    steady: HeardWeight,
}

#[derive(Debug, Deserialize)]
struct HeardWeight {
    kernel_tcp_kib: u64,
}

/// One server, one row, one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) us_per_listener_second: Option<f64>,
    pub(crate) s_per_gb: Option<f64>,
    pub(crate) user_bytes_per_listener: Option<f64>,
    pub(crate) kernel_bytes_per_listener: Option<f64>,
    pub(crate) first_byte_p50_ms: Option<f64>,
    pub(crate) first_byte_p99_ms: Option<f64>,
    pub(crate) ramp_seconds: Option<f64>,
    pub(crate) latency_p50_ms: Option<f64>,
    pub(crate) latency_p99_ms: Option<f64>,
    pub(crate) stall_p50_ms: Option<f64>,
    pub(crate) stall_p99_ms: Option<f64>,
    pub(crate) stall_max_ms: Option<f64>,
    pub(crate) delivered_percent: Option<f64>,
    pub(crate) refused: Option<f64>,
    pub(crate) lost: Option<f64>,
    pub(crate) starved: Option<f64>,
    pub(crate) corrupt: Option<f64>,
    pub(crate) units_verified: Option<f64>,
    pub(crate) tool_cpu_percent: Option<f64>,
    /// The first faults that verified listeners found, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<String>,
}

/// A figure's name in documents and in tables, and where it is.
pub(crate) struct Column {
    pub(crate) key: &'static str,
    pub(crate) head: &'static str,
    pub(crate) of: fn(&Figures) -> Option<f64>,
    /// Whether flumen's over a peer's means anything.
    pub(crate) ratio: bool,
}

macro_rules! columns {
    ($($key:ident $head:literal $ratio:literal,)*) => {
        /// Every figure, in the order of the tables.
        pub(crate) const COLUMNS: &[Column] =
            &[$(Column { key: stringify!($key), head: $head, of: |figures| figures.$key, ratio: $ratio }),*];
    };
}

columns! {
    cpu_percent "server CPU, % of a core" true,
    us_per_listener_second "µs per listener-second" true,
    s_per_gb "CPU s per GB" true,
    user_bytes_per_listener "user memory, B per listener" true,
    kernel_bytes_per_listener "kernel memory, B per listener, both ends" false,
    first_byte_p50_ms "first body byte p50, ms" true,
    first_byte_p99_ms "first body byte p99, ms" true,
    ramp_seconds "all decided after, s" false,
    latency_p50_ms "added latency p50, ms" true,
    latency_p99_ms "added latency p99, ms" true,
    stall_p50_ms "longest stall p50, ms" true,
    stall_p99_ms "longest stall p99, ms" true,
    stall_max_ms "longest stall, ms" true,
    delivered_percent "delivered, % of the stream" false,
    refused "refused" false,
    lost "lost" false,
    starved "starved" false,
    corrupt "corrupt" false,
    units_verified "records verified" false,
    tool_cpu_percent "the listeners' own CPU, % of a core" false,
}

impl Figures {
    /// `rate` is the stream's in bytes per second, `stalled` the share that never reads.
    pub(super) fn of(heard: &Heard, listeners: usize, rate: f64, stalled: f64) -> Self {
        let server = heard.server.as_ref();
        let cpu = server.map(|server| server.cpu_percent);
        let mean = heard.bytes_per_s_per_listener.as_ref().map(|spread| spread.mean);
        let us = server.and_then(|server| server.us_per_listener_second);
        let quantile = |q: &Option<HeardQuantiles>, of: fn(&HeardQuantiles) -> f64| q.as_ref().map(of);
        let kernel = |server: &HeardServer| {
            server.steady.kernel_tcp_kib.saturating_sub(server.before.kernel_tcp_kib) as f64 * 1024.0 / listeners.max(1) as f64
        };
        Self {
            cpu_percent: cpu,
            us_per_listener_second: us,
            // Who is stalled costs time and takes no bytes: only what was delivered counts.
            s_per_gb: us.zip(mean).map(|(us, mean)| us * 1e-6 / (mean * (1.0 - stalled)) * 1e9).filter(|v| v.is_finite()),
            user_bytes_per_listener: server.and_then(|server| server.user_bytes_per_listener),
            kernel_bytes_per_listener: server.map(kernel),
            first_byte_p50_ms: quantile(&heard.first_body_byte, |q| q.p50_ms),
            first_byte_p99_ms: quantile(&heard.first_body_byte, |q| q.p99_ms),
            ramp_seconds: Some(heard.ramp_seconds),
            latency_p50_ms: quantile(&heard.latency, |q| q.p50_ms),
            latency_p99_ms: quantile(&heard.latency, |q| q.p99_ms),
            stall_p50_ms: quantile(&heard.stall, |q| q.p50_ms),
            stall_p99_ms: quantile(&heard.stall, |q| q.p99_ms),
            stall_max_ms: quantile(&heard.stall, |q| q.max_ms),
            delivered_percent: mean.map(|mean| mean / rate * 100.0),
            refused: Some(heard.outcome.refused.values().sum::<u64>() as f64),
            lost: Some(heard.outcome.lost as f64),
            starved: Some(heard.outcome.starved as f64),
            corrupt: Some(heard.outcome.corrupt as f64),
            units_verified: Some(heard.outcome.units_verified as f64),
            tool_cpu_percent: heard.own_cpu_percent,
            faults: heard.outcome.faults.iter().take(3).cloned().collect(),
        }
    }
}

impl Heard {
    pub(super) fn joined(&self) -> u64 {
        self.outcome.joined
    }
}

/// Several rounds of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max })
    }
}

/// Of every figure that was found at all.
pub(crate) fn summaries(rounds: &[Option<Figures>]) -> BTreeMap<&'static str, Summary> {
    let values = |column: &Column| rounds.iter().flatten().filter_map(column.of).collect::<Vec<_>>();
    COLUMNS.iter().filter_map(|column| Some((column.key, Summary::of(values(column))?))).collect()
}

/// Flumen's figures over a peer's, each pair from the same round.
pub(crate) fn ratios(flumen: &[Option<Figures>], peer: &[Option<Figures>]) -> BTreeMap<&'static str, Summary> {
    // A memory that shrank, or no tick of CPU, is no measure for anything.
    let positive = |figures: &Option<Figures>, column: &Column| figures.as_ref().and_then(column.of).filter(|v| *v > 0.0);
    let pairs = |column: &Column| {
        let rounds = flumen.iter().zip(peer);
        rounds.filter_map(|(flumen, peer)| Some(positive(flumen, column)? / positive(peer, column)?)).collect::<Vec<_>>()
    };
    COLUMNS.iter().filter(|column| column.ratio).filter_map(|column| Some((column.key, Summary::of(pairs(column))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_ignores_what_is_no_number() {
        for (values, want) in [
            (&[][..], None),
            (&[f64::NAN], None),
            (&[3.0], Some((3.0, 3.0, 3.0))),
            (&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0))),
            (&[4.0, f64::INFINITY, 1.0, 2.0, 3.0], Some((2.5, 1.0, 4.0))),
        ] {
            assert_eq!(Summary::of(values.iter().copied()).map(|s| (s.median, s.min, s.max)), want, "{values:?}");
        }
    }

    fn cpu(values: &[f64]) -> Vec<Option<Figures>> {
        let figures = |v: &f64| (*v >= 0.0).then(|| Figures { cpu_percent: Some(*v), ..Figures::default() });
        values.iter().map(figures).collect()
    }

    #[test]
    fn ratios_are_paired_round_by_round() {
        // A machine that is twice as slow in the second round is so for both. A round that one of them lacks (-1) is left out.
        for (flumen, peer, want) in [
            (&[10.0, 20.0, 10.0][..], &[20.0, 40.0, 20.0][..], Some((0.5, 0.5, 0.5))),
            (&[10.0, -1.0, 30.0], &[20.0, 40.0, 30.0], Some((0.75, 0.5, 1.0))),
            (&[10.0], &[0.0], None),
            (&[0.0], &[5.0], None),
            (&[-1.0], &[5.0], None),
        ] {
            let found = ratios(&cpu(flumen), &cpu(peer));
            assert_eq!(found.get("cpu_percent").map(|s| (s.median, s.min, s.max)), want, "{flumen:?} over {peer:?}");
        }
    }

    #[test]
    fn figures_are_read_from_what_listen_writes() {
        let heard: Heard = serde_json::from_str(
            r#"{"version":"1","ramp_seconds":1.5,"outcome":{"joined":10,"refused":{"timeout":2,"HTTP 503":1},"lost":1,"starved":0,
            "corrupt":1,"units_verified":9,"faults":["a","b","c","d"]},"first_body_byte":{"count":1,"p50_ms":1,"p90_ms":2,"p99_ms":3,
            "max_ms":4},"stall":null,"latency":null,"bytes_per_s_per_listener":{"min":1,"mean":16000,"max":2},"own_cpu_percent":7.5,
            "server":{"cpu_percent":20,"us_per_listener_second":40,"user_bytes_per_listener":400,
            "before":{"kernel_tcp_kib":10},"steady":{"kernel_tcp_kib":20}}}"#,
        )
        .expect("the fields that are wanted are there");
        let figures = Figures::of(&heard, 10, 16_000.0, 0.5);
        assert_eq!((figures.refused, figures.lost, figures.faults.len()), (Some(3.0), Some(1.0), 3));
        assert_eq!((figures.delivered_percent, figures.kernel_bytes_per_listener), (Some(100.0), Some(1024.0)));
        assert_eq!(figures.s_per_gb.map(f64::round), Some(5.0), "40 µs for 8000 bytes");
        assert_eq!((figures.first_byte_p99_ms, figures.stall_max_ms), (Some(3.0), None));
    }

    #[test]
    fn every_column_is_found_in_the_document_under_its_key() {
        let document = serde_json::to_value(Figures::default()).expect("serialises");
        assert!(COLUMNS.iter().all(|column| document.get(column.key).is_some()));
    }
}
