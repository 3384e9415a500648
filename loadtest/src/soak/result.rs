//! How a soak went: the document, and the table made of it. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::sample::{Sample, ServerFigures, Totals};
use super::settings::Settings;
use super::slope::{Allowance, Slope, slope};
use super::verdict::{Findings, Reason};
use crate::output::Spoken;
use crate::report::{NAME_WIDTH, quantile_text};
use crate::stats::Quantiles;

/// Two MiB or a twentieth may be an allocator that settles.
const MEMORY: Allowance = Allowance { least: 2048.0, share: 0.05 };
const FDS: Allowance = Allowance { least: 8.0, share: 0.05 };
const THREADS: Allowance = Allowance { least: 2.0, share: 0.05 };

#[derive(Debug, Serialize)]
pub(crate) struct Result {
    pub(crate) version: &'static str,
    pub(crate) folder: String,
    pub(crate) verdict: &'static str,
    /// One word each, of a closed set; none: good.
    pub(crate) reasons: Vec<&'static str>,
    /// By a signal, before its time: it can be gone on with.
    pub(crate) stopped: bool,
    pub(crate) seconds: f64,
    pub(crate) sessions: u32,
    pub(crate) settings: Settings,
    pub(crate) totals: Totals,
    pub(crate) slopes: Slopes,
    /// The last that the server said of itself.
    pub(crate) server: ServerFigures,
    pub(crate) first_body_byte: Option<Quantiles>,
    pub(crate) latency: Option<Quantiles>,
    pub(crate) findings: Findings,
}

/// Of the newest server's process, its warm-up left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Slopes {
    /// Anonymous memory, KiB: shared pages come and go with other processes.
    pub(crate) memory: Option<Slope>,
    pub(crate) fds: Option<Slope>,
    pub(crate) threads: Option<Slope>,
    /// Of the whole machine; KiB. Told, not judged.
    pub(crate) kernel_tcp: Option<Slope>,
}

impl Slopes {
    /// What creeps, in words.
    pub(crate) fn creeping(&self) -> Vec<(Reason, String)> {
        let all =
            [(Reason::Memory, &self.memory, "KiB"), (Reason::Fds, &self.fds, "descriptors"), (Reason::Threads, &self.threads, "threads")];
        let creeping = all.into_iter().filter_map(|(reason, slope, unit)| Some((reason, slope.as_ref()?, unit)));
        let in_words = |slope: &Slope, unit| format!("{:+.1} {unit} an hour over {:.1} h", slope.per_hour, slope.hours);
        creeping.filter(|(_, slope, _)| slope.creeps == Some(true)).map(|(reason, slope, unit)| (reason, in_words(slope, unit))).collect()
    }
}

/// Slopes over the samples of the newest server: one that was started anew has a memory of its own.
pub(crate) fn slopes<'a>(samples: impl Iterator<Item = &'a Sample>, warm_up: f64) -> Slopes {
    let start = |sample: &Sample| sample.server.as_ref().map(|server| server.start);
    let samples: Vec<&Sample> = samples.filter(|sample| start(sample).is_some() && sample.weight.is_some()).collect();
    let newest = samples.last().and_then(|sample| start(sample));
    let mut samples: Vec<&Sample> = samples.into_iter().filter(|sample| start(sample) == newest).collect();
    let warm = samples.first().map_or(0.0, |sample| sample.seconds) + warm_up;
    samples.retain(|sample| sample.seconds >= warm);
    let line = |value: fn(&crate::probe::Weight) -> Option<f64>, allowance| {
        let points: Vec<(f64, f64)> =
            samples.iter().filter_map(|sample| Some((sample.seconds / 3_600.0, value(sample.weight.as_ref()?)?))).collect();
        slope(&points, allowance)
    };
    Slopes {
        memory: line(|weight| Some(weight.anon_kib as f64), MEMORY),
        fds: line(|weight| weight.fds.map(|fds| fds as f64), FDS),
        threads: line(|weight| Some(weight.threads as f64), THREADS),
        kernel_tcp: line(|weight| Some(weight.kernel_tcp_kib as f64), MEMORY),
    }
}

impl Spoken for Sample {
    fn spoken(&self) -> String {
        let Self { seconds, listening, joining, mbit_per_s, findings, totals, .. } = self;
        let memory = self.weight.as_ref().map_or(String::new(), |weight| {
            let fds = weight.fds.map_or(String::new(), |fds| format!(", {fds} fds"));
            format!("  server {:.1} MiB{fds}", weight.rss_kib as f64 / 1024.0)
        });
        let cpu = self.cpu_percent.map_or(String::new(), |cpu| format!(", {cpu:.1} %"));
        format!(
            "{seconds:8.1} s {listening} listening, {joining} joining, {} lost, {} corrupt, {} runs  {mbit_per_s:.1} Mbit/s{memory}{cpu}  \
             {findings} findings",
            totals.lost, totals.corrupt, totals.runs
        )
    }
}

impl Spoken for Result {
    fn spoken(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| writeln!(text, "{name:<NAME_WIDTH$} {value}").expect("writing to a String");
        let stopped = if self.stopped { format!(", stopped: go on with --resume {}", self.folder) } else { String::new() };
        let sessions = if self.sessions > 1 { format!(" in {} sessions", self.sessions) } else { String::new() };
        row("time", format!("{}{sessions}{stopped}", time(self.seconds)));
        row("folder", self.folder.clone());
        let Totals { joined, left, lost, kicked, removed, refused, corrupt, units, body_bytes, .. } = &self.totals;
        let audience = format!("{joined} joined, left {left}, removed by API {kicked}, removed as slow or stalled {removed}, lost {lost}");
        row("listeners", format!("{audience}, {refused} refused"));
        row("content", format!("{units} records verified, {corrupt} listeners corrupt, {body_bytes} bytes"));
        let faults: Vec<String> = self.totals.faults.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        row("sources", format!("{} runs, {} records; {}", self.totals.runs, self.totals.records, faults.join(", ")));
        row("visits", format!("{} answers, {} removals, {} reloads", self.totals.answers, self.totals.kicks, self.totals.reloads));
        let happened = self.server.departures.iter().filter(|(_, n)| **n > 0);
        let departures: Vec<String> = happened.map(|(reason, n)| format!("{reason} {n}")).collect();
        row("server's departures", departures.join(", "));
        for (name, quantiles) in [("first body byte", &self.first_body_byte), ("latency", &self.latency)] {
            if let Some(quantiles) = quantiles {
                row(name, quantile_text(quantiles));
            }
        }
        let Slopes { memory, fds, threads, kernel_tcp } = &self.slopes;
        for (name, slope, unit) in [
            ("anonymous memory", memory, "KiB"),
            ("descriptors", fds, ""),
            ("threads", threads, ""),
            ("kernel TCP memory", kernel_tcp, "KiB"),
        ] {
            if let Some(slope) = slope {
                row(name, slope_text(slope, unit));
            }
        }
        for reason in Reason::ALL.into_iter().filter(|reason| self.findings.count(*reason) > 0) {
            row(&format!("finding: {}", reason.label()), format!("{} × not so: {}", self.findings.count(reason), reason.meaning()));
            self.findings.words(reason).iter().for_each(|words| row("", words.clone()));
        }
        row("verdict", [self.verdict, &self.reasons.join(" ")].join(" ").trim_end().to_owned());
        text
    }
}

pub(super) fn slope_text(slope: &Slope, unit: &str) -> String {
    let verdict = match slope.creeps {
        Some(true) => "creeps",
        Some(false) => "does not creep",
        None => "too short to tell",
    };
    let line = format!("{:+.1} an hour over {:.2} h", slope.per_hour, slope.hours);
    format!("{:.0} {unit}{}{line} ({verdict})", slope.median, if unit.is_empty() { "" } else { ", " })
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 3.0 * 3_600.0 => format!("{:.1} min", s / 60.0),
        s if s < 3.0 * 86_400.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Weight;

    fn sample(seconds: f64, start: f64, anon_kib: u64) -> Sample {
        Sample {
            seconds,
            server: Some(ServerFigures { start, ..ServerFigures::default() }),
            weight: Some(Weight { anon_kib, fds: Some(10), threads: 5, ..Weight::default() }),
            ..Sample::default()
        }
    }

    #[test]
    fn only_the_newest_server_counts_and_its_warm_up_does_not() {
        // A first server that leaked, a second that grew while it warmed up and was flat ever after.
        let first = (0..100).map(|at| sample(f64::from(at) * 60.0, 1.0, 10_000 + at as u64 * 1_000));
        let second = (100..400).map(|at| sample(f64::from(at) * 60.0, 2.0, if at < 130 { 10_000 + at as u64 * 100 } else { 23_000 }));
        let samples: Vec<Sample> = first.chain(second).collect();
        let found = slopes(samples.iter(), 1_800.0);
        assert_eq!(found.memory.as_ref().map(|slope| (slope.per_hour, slope.creeps)), Some((0.0, Some(false))));
        assert_eq!(found.creeping(), []);
        let leaking = slopes(samples[..100].iter(), 1_800.0);
        let reasons: Vec<Reason> = leaking.creeping().into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(reasons, [Reason::Memory]);
    }

    #[test]
    fn without_samples_there_are_no_slopes_and_no_complaint() {
        let found = slopes([].into_iter(), 0.0);
        assert!(found.memory.is_none() && found.creeping().is_empty());
    }

    #[test]
    fn time_is_told_in_the_unit_that_fits() {
        for (seconds, want) in [(15.0, "15.0 s"), (600.0, "10.0 min"), (36_000.0, "10.0 h"), (864_000.0, "10.0 days")] {
            assert_eq!(time(seconds), want);
        }
    }
}
