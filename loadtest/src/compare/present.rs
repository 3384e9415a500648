//! A comparison in words: a line while it runs, tables at the end, a page with bars. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::figures::{COLUMNS, Column, Figures, Summary};
use super::{Compared, Comparison, Contestant};
use crate::output::Spoken;
use crate::page::{Bar, Block, Group, Page};

/// What is worth a picture.
const PICTURES: [&str; 6] =
    ["us_per_listener_second", "cpu_percent", "user_bytes_per_listener", "first_byte_p99_ms", "latency_p99_ms", "stall_p99_ms"];
const METHOD: &str = "Every server was started anew for every measurement, fed by the same numbered and time-stamped records, and heard by the \
    same listeners on the same machine over loopback. The server's CPU is the time of all its threads, its own taking in of the stream \
    included. A cell is the median of the rounds with the smallest and the largest; ratios are flumen's figure over the peer's of the same \
    round. On loopback the sender pays for the receiver's half of TCP too, for every server alike: figures compare servers on one machine \
    and do not foretell a network.";

/// A line of progress.
#[derive(Debug, Serialize)]
pub(super) struct Said<'a> {
    pub(super) peer: &'a str,
    pub(super) row: &'a str,
    /// From 1; 0 before the first.
    pub(super) round: u32,
    pub(super) text: String,
}

impl Spoken for Said<'_> {
    fn spoken(&self) -> String {
        let Self { peer, row, round, text } = self;
        if *round == 0 { format!("{peer}: {text}") } else { format!("{row}, round {round}: {peer:<15} {text}") }
    }
}

/// A measurement in brief.
pub(super) fn line(figures: &Figures) -> String {
    let mut text = String::new();
    let mut say = |name: &str, value: Option<f64>, unit: &str| {
        if let Some(value) = value {
            // Writing to a String does not fail.
            let _ = write!(text, "{}{name} {}{unit}", if text.is_empty() { "" } else { ", " }, number(value));
        }
    };
    say("CPU", figures.cpu_percent, " %");
    say("per listener-second", figures.us_per_listener_second, " µs");
    say("first byte p99", figures.first_byte_p99_ms, " ms");
    say("latency p99", figures.latency_p99_ms, " ms");
    say("longest stall", figures.stall_max_ms, " ms");
    for (name, value) in [("refused", figures.refused), ("lost", figures.lost), ("starved", figures.starved), ("corrupt", figures.corrupt)]
    {
        say(name, value.filter(|n| *n > 0.0), "");
    }
    text
}

/// About three digits; counts as they are.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn cell(summary: Option<&Summary>) -> String {
    match summary {
        None => "–".to_owned(),
        Some(Summary { median, min, max }) if number(*min) == number(*max) => number(*median),
        Some(Summary { median, min, max }) => format!("{} ({}–{})", number(*median), number(*min), number(*max)),
    }
}

impl Compared {
    /// Figures down, servers across.
    fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let head = std::iter::once(String::new()).chain(self.peers.iter().map(|peer| peer.name.to_owned())).collect();
        let line = |name: String, of: &dyn Fn(&Contestant) -> Option<Summary>| {
            let cells: Vec<Option<Summary>> = self.peers.iter().map(of).collect();
            cells.iter().any(Option::is_some).then(|| std::iter::once(name).chain(cells.iter().map(|found| cell(found.as_ref()))).collect())
        };
        let figures =
            COLUMNS.iter().filter_map(|Column { key, head, .. }| line((*head).to_owned(), &|peer| peer.summary.get(key).copied()));
        let ratios = COLUMNS.iter().filter(|column| column.ratio).filter_map(|Column { key, head, .. }| {
            let name = head.split_once(',').map_or(*head, |(name, _)| name);
            line(format!("flumen ÷ this: {name}"), &|peer| peer.flumen_over_this.get(key).copied())
        });
        (head, figures.chain(ratios).collect())
    }

    fn failures(&self) -> impl Iterator<Item = String> {
        let faults = |peer: &Contestant| -> Vec<String> {
            let found = peer.rounds.iter().flatten().flat_map(|figures| &figures.faults).take(3);
            found.map(|fault| format!("{}: a fault in the stream: {fault}", peer.name)).collect()
        };
        self.peers.iter().flat_map(move |peer| {
            peer.failures.iter().map(|why| format!("{} failed in {why}", peer.name)).chain(faults(peer)).collect::<Vec<_>>()
        })
    }
}

impl Spoken for Comparison {
    fn spoken(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let (head, lines) = row.table();
            text.push_str(&aligned(&row.facts.row, &head, &lines));
            row.failures().for_each(|failure| text.extend([failure.as_str(), "\n"]));
            text.push('\n');
        }
        for (peer, why) in &self.skipped {
            text.push_str(&format!("{peer} was skipped: {why}\n"));
        }
        text.push_str(&format!("verdict {}\n", self.verdict));
        text
    }
}

/// Columns as wide as what is in them; the first to the left, figures to the right.
fn aligned(title: &str, head: &[String], lines: &[Vec<String>]) -> String {
    let mut head = head.to_vec();
    if let Some(corner) = head.first_mut() {
        title.clone_into(corner);
    }
    let all = || std::iter::once(&head).chain(lines);
    let width = |at: usize| all().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in all() {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text.push_str(&if at == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") });
        }
        text.push('\n');
    }
    text
}

/// One page: bars over all rows, then a table for each.
pub(super) fn page(comparison: &Comparison) -> Page {
    let Comparison { machine, rounds, rows, skipped, servers, .. } = comparison;
    let mut blocks = vec![
        Block::Text(format!("Rounds: {rounds}. Machine: {} cores, {}.", machine.cores, machine.system)),
        Block::Text(METHOD.to_owned()),
    ];
    let versions: Vec<String> = servers.iter().map(|(peer, version)| format!("{peer}: {version}")).collect();
    blocks.push(Block::Text(format!("Servers, as they call themselves: {}.", versions.join(", "))));
    for (peer, why) in skipped {
        blocks.push(Block::Text(format!("{peer} was skipped: {why}.")));
    }
    for column in COLUMNS.iter().filter(|column| PICTURES.contains(&column.key)) {
        let groups: Vec<Group> = rows.iter().map(|row| group(row, column)).filter(|group| !group.bars.is_empty()).collect();
        if !groups.is_empty() {
            blocks.push(Block::Bars { title: column.head.to_owned(), y: column.head, groups });
        }
    }
    for row in rows {
        let (head, lines) = row.table();
        blocks.push(Block::Heading(row.facts.row.clone()));
        blocks.push(Block::Table { head, rows: lines });
        blocks.extend(row.failures().map(Block::Text));
    }
    Page { title: "flumen beside its peers".to_owned(), blocks }
}

fn group(row: &Compared, column: &Column) -> Group {
    let bar = |peer: &Contestant| {
        let Summary { median, min, max } = *peer.summary.get(column.key)?;
        Some(Bar { name: peer.name.to_owned(), median, min, max })
    };
    Group { name: row.facts.row.clone(), bars: row.peers.iter().filter_map(bar).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::figures::{ratios, summaries};
    use super::super::work::{Row, Window};
    use super::super::{Compared, Contestant, Machine};
    use super::*;
    use crate::cli::PeerName;

    fn contestant(peer: PeerName, cpu: &[f64]) -> Contestant {
        let figures = |cpu: &f64| Some(Figures { cpu_percent: Some(*cpu), lost: Some(0.0), ..Figures::default() });
        let rounds: Vec<Option<Figures>> = cpu.iter().map(figures).collect();
        Contestant { summary: summaries(&rounds), rounds, ..Contestant::new(peer) }
    }

    fn comparison() -> Comparison {
        let (flumen, mut icecast) = (contestant(PeerName::Flumen, &[10.0, 12.0]), contestant(PeerName::Icecast2, &[40.0, 40.0]));
        icecast.flumen_over_this = ratios(&flumen.rounds, &icecast.rounds);
        icecast.failures.push("round 3: it fell over".to_owned());
        let facts = Row::plain("100x128kbit/s".parse().expect("fine"), Window::Default).facts();
        Comparison {
            version: "1",
            machine: Machine { cores: 2, system: "Linux".to_owned() },
            rounds: 2,
            burst_bytes: 1,
            rows: vec![Compared { facts, peers: vec![flumen, icecast] }],
            skipped: BTreeMap::from([("cubemap", "not here".to_owned())]),
            servers: BTreeMap::from([("icecast2", "Icecast 2".to_owned())]),
            verdict: "failed",
        }
    }

    #[test]
    fn the_table_has_medians_spreads_and_ratios_and_leaves_out_what_nobody_has() {
        let text = comparison().spoken();
        for wanted in [
            "100 × 128kbit/s, default window",
            "11 (10–12)",
            "flumen ÷ this: server CPU",
            "0.28 (0.25–0.30)",
            "icecast2 failed in round 3: it fell over",
            "cubemap was skipped: not here",
            "verdict failed",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert!(!text.contains("latency"), "nobody measured it:\n{text}");
    }

    #[test]
    fn columns_are_aligned_whatever_is_in_them() {
        let text = aligned("row", &[String::new(), "a".into()], &[vec!["µs".into(), "1 (1–2)".into()], vec!["long".into(), "3".into()]]);
        assert_eq!(text, "row         a\nµs    1 (1–2)\nlong        3\n");
    }

    #[test]
    fn the_page_has_bars_for_what_was_measured_and_says_what_was_not() {
        let html = page(&comparison()).html().expect("made");
        assert!(html.contains("<svg") && html.contains("cubemap was skipped") && html.contains("icecast2: Icecast 2"));
    }

    #[test]
    fn numbers_have_about_three_digits_and_counts_have_no_fraction() {
        for (value, want) in [(0.0, "0"), (7.0, "7"), (0.456, "0.46"), (0.0123, "0.0123"), (12.34, "12.3"), (1234.5, "1234")] {
            assert_eq!(number(value), want);
        }
    }

    #[test]
    fn a_line_of_progress_leaves_out_what_did_not_happen() {
        let figures = Figures { cpu_percent: Some(12.0), lost: Some(0.0), refused: Some(3.0), ..Figures::default() };
        assert_eq!(line(&figures), "CPU 12 %, refused 3");
    }
}
