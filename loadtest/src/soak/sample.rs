//! What a soak notes at each interval, and the sums it keeps over its whole life. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scrape::Scrape;
use crate::ledger::Ledger;
use crate::probe::Weight;

/// The tool's own books: what it did and what happened to it. Sums over all sessions of a soak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) joined: u64,
    pub(crate) left: u64,
    pub(crate) lost: u64,
    pub(crate) kicked: u64,
    pub(crate) removed: u64,
    pub(crate) refused: u64,
    pub(crate) abandoned: u64,
    pub(crate) corrupt: u64,
    pub(crate) units: u64,
    pub(crate) body_bytes: u64,
    pub(crate) runs: u64,
    pub(crate) records: u64,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) answers: u64,
    pub(crate) kicks: u64,
    pub(crate) reloads: u64,
}

impl Totals {
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Self {
            joined: ledger.joined,
            left: ledger.left,
            lost: ledger.lost,
            kicked: ledger.kicked,
            removed: ledger.removed,
            refused: ledger.refused_in_all(),
            abandoned: ledger.abandoned,
            corrupt: ledger.corrupt,
            units: ledger.units,
            body_bytes: ledger.body_bytes,
            ..Self::default()
        }
    }

    /// With what earlier sessions had.
    pub(crate) fn plus(mut self, earlier: &Self) -> Self {
        for (mine, theirs) in [
            (&mut self.joined, earlier.joined),
            (&mut self.left, earlier.left),
            (&mut self.lost, earlier.lost),
            (&mut self.kicked, earlier.kicked),
            (&mut self.removed, earlier.removed),
            (&mut self.refused, earlier.refused),
            (&mut self.abandoned, earlier.abandoned),
            (&mut self.corrupt, earlier.corrupt),
            (&mut self.units, earlier.units),
            (&mut self.body_bytes, earlier.body_bytes),
            (&mut self.runs, earlier.runs),
            (&mut self.records, earlier.records),
            (&mut self.answers, earlier.answers),
            (&mut self.kicks, earlier.kicks),
            (&mut self.reloads, earlier.reloads),
        ] {
            *mine += theirs;
        }
        for (kind, n) in &earlier.faults {
            *self.faults.entry(kind.clone()).or_default() += n;
        }
        self
    }
}

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerFigures {
    pub(crate) start: f64,
    pub(crate) listeners: u64,
    pub(crate) joins: u64,
    pub(crate) departures: BTreeMap<String, u64>,
    pub(crate) refusals: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_chunks: u64,
    pub(crate) dropped_chunks: u64,
    pub(crate) restarts: u64,
    pub(crate) sources_up: u64,
    pub(crate) ring_bytes: u64,
}

impl ServerFigures {
    pub(crate) fn of(scrape: &Scrape) -> Self {
        Self {
            start: scrape.start,
            listeners: scrape.sum(|mount| mount.listeners),
            joins: scrape.sum(|mount| mount.joins),
            departures: scrape.departures(),
            refusals: scrape.refusals,
            sent_bytes: scrape.sum(|mount| mount.sent_bytes),
            received_chunks: scrape.sum(|mount| mount.received_chunks),
            dropped_chunks: scrape.sum(|mount| mount.dropped_chunks),
            restarts: scrape.sum(|mount| mount.restarts),
            sources_up: scrape.sum(|mount| u64::from(mount.source_up)),
            ring_bytes: scrape.sum(|mount| mount.ring_bytes),
        }
    }
}

/// One interval of a soak, one line of its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Of the soak, stops left out.
    pub(crate) seconds: f64,
    pub(crate) unix_seconds: u64,
    /// 1, and one more with every resumption.
    pub(crate) session: u32,
    pub(crate) listening: usize,
    pub(crate) joining: usize,
    pub(crate) mbit_per_s: f64,
    pub(crate) longest_gap_ms: Option<f64>,
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) weight: Option<Weight>,
    pub(crate) server: Option<ServerFigures>,
    pub(crate) totals: Totals,
    pub(crate) findings: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_on_over_a_resumption() {
        let one = Totals { joined: 5, records: 7, faults: BTreeMap::from([("died".to_owned(), 2)]), ..Totals::default() };
        let sum = one.clone().plus(&one).plus(&Totals::default());
        assert_eq!((sum.joined, sum.records, sum.faults["died"], sum.left), (10, 14, 4, 0));
    }

    #[test]
    fn a_sample_comes_back_from_its_line() {
        let sample = Sample {
            seconds: 1.5,
            weight: Some(Weight { rss_kib: 7, ..Weight::default() }),
            server: Some(ServerFigures { joins: 3, ..ServerFigures::default() }),
            ..Sample::default()
        };
        let line = serde_json::to_string(&sample).expect("written");
        assert_eq!(serde_json::from_str::<Sample>(&line).expect("read"), sample);
    }
}
