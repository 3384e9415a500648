//! What a run found: the fields of the JSON document and the table made of them. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::asker::Asked;
use crate::ledger::Ledger;
use crate::output::Spoken;
use crate::probe::{Effort, Weight};
use crate::stats::{Quantiles, Spread};
use crate::swarm::Steady;

pub(crate) mod pages;

/// Columns of a row's name.
pub(crate) const NAME_WIDTH: usize = 24;

/// One interval of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Moment {
    pub(crate) seconds: f64,
    pub(crate) phase: &'static str,
    pub(crate) listening: usize,
    pub(crate) joining: usize,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) corrupt: u64,
    pub(crate) mbit_per_s: f64,
    /// The longest that a measured listener waited for a byte within the interval.
    pub(crate) longest_gap_ms: Option<f64>,
    pub(crate) server_cpu_percent: Option<f64>,
}

impl Spoken for Moment {
    fn spoken(&self) -> String {
        let Self { seconds, phase, listening, joining, refused, lost, corrupt, mbit_per_s, .. } = self;
        let cpu = self.server_cpu_percent.map_or(String::new(), |cpu| format!("  server {cpu:.1} %"));
        format!(
            "{seconds:6.1} s {phase:<6} {listening} listening, {joining} joining, {refused} refused, {lost} lost, {corrupt} corrupt  \
             {mbit_per_s:.1} Mbit/s{cpu}"
        )
    }
}

/// What became of the listeners.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) joined: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    /// Joins the tool gave up, within their time, because the run ended.
    pub(crate) abandoned: u64,
    /// Closed by the server though they kept up.
    pub(crate) lost: u64,
    /// Slow or stalled, closed by the server.
    pub(crate) removed: u64,
    pub(crate) left: u64,
    /// Healthy, there for the whole steady window, and not one body byte in it.
    pub(crate) starved: u64,
    pub(crate) corrupt: u64,
    pub(crate) unverifiable: u64,
    pub(crate) units_verified: u64,
    pub(crate) fault_kinds: BTreeMap<&'static str, u64>,
    pub(crate) faults: Vec<String>,
    pub(crate) body_bytes: u64,
}

impl Outcome {
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Self {
            joined: ledger.joined,
            refused: ledger.refused.clone(),
            abandoned: ledger.abandoned,
            lost: ledger.lost,
            removed: ledger.removed,
            left: ledger.left,
            starved: 0,
            corrupt: ledger.corrupt,
            unverifiable: ledger.unverifiable,
            units_verified: ledger.units,
            fault_kinds: ledger.faults.iter().map(|(kind, n)| (kind.label(), *n)).collect(),
            faults: ledger.faults_in_words.clone(),
            body_bytes: ledger.body_bytes,
        }
    }

    /// Everybody was served, to the end, and what was looked at was whole.
    pub(crate) fn good(&self, refusals_allowed: bool) -> bool {
        self.joined > 0 && self.lost == 0 && self.starved == 0 && self.corrupt == 0 && (refusals_allowed || self.refused.is_empty())
    }
}

/// The server's process over the steady window.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    #[serde(flatten)]
    pub(crate) effort: Effort,
    pub(crate) us_per_listener_second: Option<f64>,
    /// (PSS steady − PSS before) / listeners.
    pub(crate) user_bytes_per_listener: Option<f64>,
    pub(crate) before: Weight,
    pub(crate) steady: Weight,
    pub(crate) after: Option<Weight>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Listen {
    pub(crate) version: &'static str,
    pub(crate) targets: Vec<String>,
    pub(crate) listeners: usize,
    pub(crate) ramp_seconds: f64,
    pub(crate) steady_seconds: f64,
    pub(crate) outcome: Outcome,
    pub(crate) first_body_byte: Option<Quantiles>,
    /// Longest time without a body byte of each measured listener within the steady window.
    pub(crate) stall: Option<Quantiles>,
    /// The same of the other healthy listeners, too long by up to half a second (they are read in rounds).
    pub(crate) stall_coarse: Option<Quantiles>,
    pub(crate) latency: Option<Quantiles>,
    pub(crate) bytes_per_s_per_listener: Option<Spread>,
    /// Pages asked for within the steady window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) asked: Vec<Asked>,
    pub(crate) server: Option<Server>,
    /// The CPU this tool used itself in the steady window, in percent of one core.
    pub(crate) own_cpu_percent: Option<f64>,
    pub(crate) verdict: &'static str,
}

impl Listen {
    pub(crate) fn times(&mut self, ledger: &Ledger, steady: &Steady) {
        self.steady_seconds = steady.seconds;
        self.first_body_byte = ledger.first_byte.quantiles();
        self.latency = ledger.latency.quantiles();
        self.stall = steady.stalls.quantiles();
        self.stall_coarse = steady.coarse_stalls.quantiles();
        self.bytes_per_s_per_listener = steady.rates;
    }
}

/// What is spoken as rows of a table: a name, and what follows it.
pub(crate) fn rows_of(result: &impl Spoken) -> Vec<Vec<String>> {
    let row = |line: &str| {
        // Names are padded to one width; what stands in front of it is the name.
        let at = line.char_indices().nth(NAME_WIDTH).map_or(line.len(), |(at, _)| at);
        let (name, value) = line.split_at(at);
        vec![name.trim_end().to_owned(), value.trim().to_owned()]
    };
    result.spoken().lines().map(row).collect()
}

/// The verdict's word.
pub(crate) fn verdict(good: bool) -> &'static str {
    if good { "good" } else { "failed" }
}

impl Spoken for Listen {
    fn spoken(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| writeln!(text, "{name:<NAME_WIDTH$} {value}").expect("writing to a String");
        row("targets", self.targets.join(" "));
        row("listeners", format!("{} over a ramp of {:.1} s, steady for {:.1} s", self.listeners, self.ramp_seconds, self.steady_seconds));
        outcome_rows(&self.outcome, &mut row);
        for (name, quantiles) in [
            ("first body byte", &self.first_body_byte),
            ("longest stall, measured", &self.stall),
            ("longest stall, others", &self.stall_coarse),
            ("latency", &self.latency),
        ] {
            if let Some(quantiles) = quantiles {
                row(name, quantile_text(quantiles));
            }
        }
        if let Some(Spread { min, mean, max }) = self.bytes_per_s_per_listener {
            row("bytes/s per listener", format!("min {min:.0}  mean {mean:.0}  max {max:.0}"));
        }
        for Asked { url, times, longest_bytes, failed } in &self.asked {
            let times = times.as_ref().map_or("no answer".to_owned(), quantile_text);
            row("asked", format!("{url}: {times}, {longest_bytes} bytes"));
            for (why, n) in failed {
                row("  failed", format!("{n} × {why}"));
            }
        }
        if let Some(server) = &self.server {
            server_rows(server, &mut row);
        }
        if let Some(own) = self.own_cpu_percent {
            row("this tool's CPU", format!("{own:.1} % of a core"));
        }
        row("verdict", self.verdict.to_owned());
        text
    }
}

pub(crate) fn outcome_rows(outcome: &Outcome, row: &mut impl FnMut(&str, String)) {
    let Outcome { joined, abandoned, lost, removed, left, corrupt, unverifiable, units_verified, .. } = outcome;
    row("joined", format!("{joined}, left {left}, lost {lost}, removed {removed} (slow or stalled), {abandoned} still joining at the end"));
    for (why, n) in &outcome.refused {
        row("refused", format!("{n} × {why}"));
    }
    if outcome.starved > 0 {
        row("starved", format!("{} got nothing in the steady window", outcome.starved));
    }
    row("corrupt", format!("{corrupt} ({units_verified} units verified, {unverifiable} listeners of unknown format)"));
    for fault in &outcome.faults {
        row("  fault", fault.clone());
    }
    row("body bytes", outcome.body_bytes.to_string());
}

pub(crate) fn quantile_text(q: &Quantiles) -> String {
    format!("p50 {:.1} ms  p90 {:.1} ms  p99 {:.1} ms  max {:.1} ms  ({} values)", q.p50_ms, q.p90_ms, q.p99_ms, q.max_ms, q.count)
}

fn server_rows(server: &Server, row: &mut impl FnMut(&str, String)) {
    let per_second = server.us_per_listener_second.map_or(String::new(), |us| format!(", {us:.1} µs per listener-second"));
    row("server CPU", format!("{:.1} % of a core{per_second}", server.effort.cpu_percent));
    let busy: Vec<String> =
        server.effort.threads.iter().take(8).map(|thread| format!("{} {:.1} %", thread.name, thread.cpu_percent)).collect();
    row("  threads", busy.join(", "));
    row(
        "  switches/s",
        format!("{:.0} voluntary, {:.0} involuntary", server.effort.voluntary_switches_per_s, server.effort.involuntary_switches_per_s),
    );
    let weights = [("before", Some(&server.before)), ("steady", Some(&server.steady)), ("after all left", server.after.as_ref())];
    for (when, weight) in weights {
        let Some(w) = weight else { continue };
        let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
        row(
            &format!("  {when}"),
            format!(
                "RSS {} KiB, PSS {} KiB, {} fds, {} threads; machine: {} TCP sockets, {} KiB TCP memory",
                w.rss_kib,
                or_unknown(w.pss_kib.map(|pss| pss.to_string())),
                or_unknown(w.fds.map(|fds| fds.to_string())),
                w.threads,
                w.kernel_tcp_sockets,
                w.kernel_tcp_kib
            ),
        );
    }
    if let Some(bytes) = server.user_bytes_per_listener {
        row("  user memory", format!("{bytes:.0} B per listener"));
    }
}

/// One round of a storm.
#[derive(Debug, Serialize)]
pub(crate) struct StormRound {
    pub(crate) round: u32,
    pub(crate) joined: u64,
    pub(crate) refused: u64,
    /// From the first connect until everybody was served or refused.
    pub(crate) all_served_s: f64,
    pub(crate) first_body_byte: Option<Quantiles>,
}

impl Spoken for StormRound {
    fn spoken(&self) -> String {
        let Self { round, joined, refused, all_served_s, .. } = self;
        let times = self.first_body_byte.as_ref().map_or(String::new(), quantile_text);
        format!("round {round}: {joined} joined, {refused} refused, all decided in {all_served_s:.2} s; {times}")
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    pub(crate) version: &'static str,
    pub(crate) targets: Vec<String>,
    pub(crate) listeners: usize,
    pub(crate) rounds: Vec<StormRound>,
    pub(crate) outcome: Outcome,
    pub(crate) before: Option<Weight>,
    pub(crate) after: Option<Weight>,
    pub(crate) verdict: &'static str,
}

impl Spoken for Storm {
    fn spoken(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| writeln!(text, "{name:<NAME_WIDTH$} {value}").expect("writing to a String");
        row("targets", self.targets.join(" "));
        row("listeners", self.listeners.to_string());
        for round in &self.rounds {
            row("", round.spoken());
        }
        outcome_rows(&self.outcome, &mut row);
        for (when, weight) in [("server before", &self.before), ("server after", &self.after)] {
            if let Some(w) = weight {
                row(when, format!("RSS {} KiB, {} threads, {} TCP sockets on the machine", w.rss_kib, w.threads, w.kernel_tcp_sockets));
            }
        }
        row("verdict", self.verdict.to_owned());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome { joined: 10, left: 10, ..Outcome::default() }
    }

    #[test]
    fn a_run_is_good_only_if_everybody_was_served_to_the_end_and_whole() {
        let refused = BTreeMap::from([("HTTP 503".to_owned(), 1)]);
        assert!(outcome().good(false));
        assert!(!Outcome { lost: 1, ..outcome() }.good(true));
        assert!(!Outcome { corrupt: 1, ..outcome() }.good(true));
        assert!(!Outcome { starved: 1, ..outcome() }.good(true));
        assert!(!Outcome { joined: 0, ..outcome() }.good(true));
        assert!(!Outcome { refused: refused.clone(), ..outcome() }.good(false));
        assert!(Outcome { refused, ..outcome() }.good(true));
        assert!(Outcome { removed: 5, ..outcome() }.good(false), "slow listeners may be removed");
    }
}
