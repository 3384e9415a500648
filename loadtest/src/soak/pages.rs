//! A soak's report as a page: the verdict, what is behind it, and everything over time. Pure.

use std::collections::BTreeSet;

use super::result::Result;
use super::sample::Sample;
use super::verdict::Reason;
use crate::page::{Block, Page, Series};
use crate::report::rows_of;

/// The whole report.
pub(crate) fn page<'a>(result: &Result, samples: impl Iterator<Item = &'a Sample>) -> Page {
    let samples: Vec<&Sample> = samples.collect();
    let plots = Plots::of(&samples);
    let verdict = if result.reasons.is_empty() { "good".to_owned() } else { format!("failed: {}", result.reasons.join(", ")) };
    let mut blocks = vec![
        Block::Text(format!("{}, made by loadtest {}.", result.settings.targets.join(", "), result.version)),
        Block::Table {
            head: ["reason", "found", "must hold", "first seen"].map(str::to_owned).to_vec(),
            rows: Reason::ALL.into_iter().map(|reason| finding(result, reason)).collect(),
        },
        Block::Heading("What was done".to_owned()),
        Block::Table { head: Vec::new(), rows: rows_of(result) },
        Block::Heading("The server's process".to_owned()),
    ];
    blocks.extend(plots.process());
    blocks.push(Block::Heading("Listeners".to_owned()));
    blocks.extend(plots.listeners(&samples));
    blocks.push(Block::Heading("Sources and stream".to_owned()));
    blocks.extend(plots.stream());
    Page { title: format!("loadtest soak: {verdict}"), blocks }
}

fn finding(result: &Result, reason: Reason) -> Vec<String> {
    let count = result.findings.count(reason);
    let first = result.findings.words(reason).first().cloned().unwrap_or_default();
    let found = if count == 0 { "none".to_owned() } else { count.to_string() };
    vec![reason.label().to_owned(), found, reason.meaning().to_owned(), first]
}

/// The samples over an axis that fits their time.
struct Plots<'a> {
    samples: &'a [&'a Sample],
    unit: &'static str,
    seconds: f64,
}

impl<'a> Plots<'a> {
    fn of(samples: &'a [&'a Sample]) -> Self {
        let (unit, seconds) = match samples.last().map_or(0.0, |sample| sample.seconds) {
            length if length < 300.0 => ("seconds", 1.0),
            length if length < 3.0 * 3_600.0 => ("minutes", 60.0),
            length if length < 4.0 * 86_400.0 => ("hours", 3_600.0),
            _ => ("days", 86_400.0),
        };
        Self { samples, unit, seconds }
    }

    fn line(&self, name: &str, value: impl Fn(&Sample) -> Option<f64>) -> Series {
        let points = self.samples.iter().filter_map(|sample| Some((sample.seconds / self.seconds, value(sample)?))).collect();
        Series { name: name.to_owned(), points }
    }

    fn plot(&self, title: &str, y: &'static str, series: Vec<Series>) -> Block {
        Block::Lines { title: title.to_owned(), x: self.unit, y, series }
    }

    fn process(&self) -> Vec<Block> {
        let mib = |kib: u64| kib as f64 / 1024.0;
        vec![
            self.plot(
                "Memory",
                "MiB",
                vec![
                    self.line("resident (RSS)", |sample| Some(mib(sample.weight.as_ref()?.rss_kib))),
                    self.line("anonymous", |sample| Some(mib(sample.weight.as_ref()?.anon_kib))),
                    self.line("proportional (PSS)", |sample| sample.weight.as_ref()?.pss_kib.map(mib)),
                ],
            ),
            self.plot(
                "Descriptors and threads",
                "number",
                vec![
                    self.line("descriptors", |sample| Some(sample.weight.as_ref()?.fds? as f64)),
                    self.line("threads", |sample| Some(sample.weight.as_ref()?.threads as f64)),
                ],
            ),
            self.plot("CPU", "percent of one core", vec![self.line("server", |sample| sample.cpu_percent)]),
            self.plot(
                "Kernel TCP memory, whole machine",
                "MiB",
                vec![self.line("TCP", |sample| Some(mib(sample.weight.as_ref()?.kernel_tcp_kib)))],
            ),
        ]
    }

    fn listeners(&self, samples: &[&Sample]) -> Vec<Block> {
        let departures =
            |sample: &Sample, reason: &str| sample.server.as_ref().map(|server| server.departures.get(reason).copied().unwrap_or(0));
        let reasons: BTreeSet<&String> =
            samples.iter().filter_map(|sample| sample.server.as_ref()).flat_map(|server| server.departures.keys()).collect();
        let happened = |reason: &&String| samples.iter().any(|sample| departures(sample, reason) > Some(0));
        let left =
            reasons.into_iter().filter(happened).map(|reason| self.line(reason, |sample| departures(sample, reason).map(|n| n as f64)));
        vec![
            self.plot(
                "Listeners",
                "listeners",
                vec![
                    self.line("by the tool", |sample| Some(sample.listening as f64)),
                    self.line("by the server", |sample| Some(sample.server.as_ref()?.listeners as f64)),
                    self.line("joining", |sample| Some(sample.joining as f64)),
                ],
            ),
            self.plot("Departures by reason, by the server", "so far", left.collect()),
            self.plot(
                "What must stay zero",
                "so far",
                vec![
                    self.line("findings", |sample| Some(sample.findings as f64)),
                    self.line("lost", |sample| Some(sample.totals.lost as f64)),
                    self.line("corrupt", |sample| Some(sample.totals.corrupt as f64)),
                    self.line("refused", |sample| Some(sample.totals.refused as f64)),
                ],
            ),
            self.plot(
                "Longest wait for bytes of an interval (sources stall, too)",
                "seconds",
                vec![self.line("any healthy listener", |sample| sample.longest_gap_ms.map(|ms| ms / 1e3))],
            ),
        ]
    }

    fn stream(&self) -> Vec<Block> {
        vec![
            self.plot("Bytes", "Mbit/s", vec![self.line("received by all listeners", |sample| Some(sample.mbit_per_s))]),
            self.plot(
                "Sources",
                "so far",
                vec![
                    self.line("runs begun", |sample| Some(sample.totals.runs as f64)),
                    self.line("restarts, by the server", |sample| Some(sample.server.as_ref()?.restarts as f64)),
                ],
            ),
            self.plot(
                "Sources that are up, by the server",
                "mounts",
                vec![self.line("up", |sample| Some(sample.server.as_ref()?.sources_up as f64))],
            ),
            self.plot(
                "History held",
                "KiB",
                vec![self.line("all rings", |sample| Some(sample.server.as_ref()?.ring_bytes as f64 / 1024.0))],
            ),
        ]
    }
}
