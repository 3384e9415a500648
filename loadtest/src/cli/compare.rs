//! What may be asked of `compare`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::compare::work::{Row, Window, Work};
use crate::output::{Output, Style};
use crate::units::{PerSecond, Share, bytes, duration};

/// Prepared questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// 10,000 × 128 kbit/s at 250 and 500 ms
    Audio,
    /// 2,000 × 1 Mbit/s and 1,000 × 2.5 Mbit/s at 100 and 250 ms
    Video,
    /// 100 to 10,000 × 128 kbit/s at 250 ms: what a listener costs
    Scale,
    /// 100 and 10,000 × 128 kbit/s, everything as each server has it by default
    Latency,
    /// 10,000 join at 1,000/s, and all at once
    Join,
    /// 10,000 × 128 kbit/s with none and with half of them stalled
    Stalled,
    /// Tens of listeners, one round of seconds: does the tool work?
    Quick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerName {
    Flumen,
    Floor,
    Icecast2,
    Multifdsink,
    Multisocketsink,
    Cubemap,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A prepared question; else --work and --window
    #[arg(long, conflicts_with_all = ["work", "window", "stalled", "ramp"])]
    preset: Option<Preset>,
    /// Listeners and rate, such as 10000x128kbit/s; several are done one after the other
    #[arg(long, value_delimiter = ',')]
    work: Vec<Work>,
    /// How long flumen and the floor let data wait, or `default`; several are done one after the other
    #[arg(long, value_delimiter = ',')]
    window: Vec<Window>,
    /// A share that never reads after the answer's head
    #[arg(long)]
    stalled: Option<Share>,
    /// Joins per second
    #[arg(long)]
    ramp: Option<PerSecond>,
    /// Whom to measure beside flumen
    #[arg(long, value_delimiter = ',', default_values = ["floor", "icecast2", "multifdsink", "multisocketsink", "cubemap"])]
    peers: Vec<PeerName>,
    /// The flumen program [default: beside this one, then PATH]
    #[arg(long)]
    pub(crate) flumen: Option<PathBuf>,
    /// How often everything is measured [default: 3, quick: 1]
    #[arg(long)]
    rounds: Option<u32>,
    /// The steady window of each measurement
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Between the last join and the steady window [default: 3s, quick: 300ms]
    #[arg(long, value_parser = duration)]
    settle: Option<Duration>,
    /// Divide all numbers of listeners, to try a preset
    #[arg(long, default_value_t = 1)]
    shrink: usize,
    /// What newcomers get at once, where a server can be told
    #[arg(long, value_parser = bytes)]
    burst: Option<u32>,
    /// The first of the loopback ports that may be used; some hundred follow
    #[arg(long, default_value_t = 24_000)]
    pub(crate) ports: u16,
    /// table on a terminal, else json
    #[arg(long)]
    format: Option<Style>,
    /// Write the result to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a page with plots to this file (HTML)
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// A comparison, checked.
#[derive(Debug)]
pub(crate) struct ComparePlan {
    pub(crate) rows: Vec<Row>,
    /// flumen first.
    pub(crate) peers: Vec<PeerName>,
    pub(crate) rounds: u32,
    /// A short round before the first, whose figures are thrown away.
    pub(crate) warm_up: bool,
    pub(crate) burst: u32,
}

impl CompareArgs {
    pub(crate) fn output(&self) -> Output {
        Output::new(self.format, self.json.as_deref(), self.report.as_deref())
    }

    pub(crate) fn plan(&self, open_files: u64) -> anyhow::Result<ComparePlan> {
        let quick = self.preset == Some(Preset::Quick);
        let rounds = self.rounds.unwrap_or(if quick { 1 } else { 3 });
        ensure!(rounds > 0, "--rounds: at least 1");
        ensure!(self.shrink > 0, "--shrink: at least 1");
        ensure!((1024..64_000).contains(&self.ports), "--ports: 1024 to 63999");
        let mut rows = self.preset.map_or_else(|| self.typed_rows(), Preset::rows);
        ensure!(!rows.is_empty(), "--preset or --work is wanted");
        rows = rows.into_iter().map(|row| row.shrunk(self.shrink)).collect();
        for row in &mut rows {
            row.duration = self.duration.unwrap_or(row.duration);
            row.settle = self.settle.unwrap_or(row.settle);
            ensure!(row.duration >= Duration::from_millis(200), "--duration: at least 200ms");
            ensure!(
                row.work.listeners as u64 + 1024 <= open_files,
                "{row}: a server needs more than the {open_files} files it may open here (ulimit -Hn)"
            );
            let size = row.work.record_size() as usize;
            ensure!(size <= crate::record::LONGEST, "{row}: that rate is more than the test source can make");
        }
        let mut peers = vec![PeerName::Flumen];
        for peer in &self.peers {
            if !peers.contains(peer) {
                peers.push(*peer);
            }
        }
        let burst = self.burst.unwrap_or(if quick { 8 << 10 } else { 64 << 10 });
        Ok(ComparePlan { rows, peers, rounds, warm_up: !quick, burst })
    }

    fn typed_rows(&self) -> Vec<Row> {
        let windows = match self.window.as_slice() {
            [] => &[Window::Fixed(Duration::from_millis(250))][..],
            windows => windows,
        };
        let row = |work: &Work, window: &Window| {
            let plain = Row::plain(work.clone(), *window);
            Row { stalled: self.stalled.unwrap_or(plain.stalled), ramp: self.ramp.map_or(plain.ramp, |ramp| ramp.0), ..plain }
        };
        self.work.iter().flat_map(|work| windows.iter().map(move |window| row(work, window))).collect()
    }
}

impl PeerName {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Flumen => "flumen",
            Self::Floor => "floor",
            Self::Icecast2 => "icecast2",
            Self::Multifdsink => "multifdsink",
            Self::Multisocketsink => "multisocketsink",
            Self::Cubemap => "cubemap",
        }
    }
}

/// Where everything happens.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn plan(line: &str) -> anyhow::Result<ComparePlan> {
        let words = ["loadtest", "compare"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Compare(args) => args.plan(20_000),
            other => anyhow::bail!("{other:?}"),
        }
    }

    #[test]
    fn every_work_meets_every_window() {
        let plan = plan("--work 100x128kbit/s,10x1Mbit/s --window 250ms,default --rounds 5 --stalled 50% --peers floor").expect("fine");
        let names: Vec<String> = plan.rows.iter().map(Row::to_string).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], "100 × 128kbit/s, 250 ms, 50 % stalled");
        assert_eq!(names[3], "10 × 1Mbit/s, default window, 50 % stalled");
        assert_eq!((plan.rounds, plan.peers), (5, vec![PeerName::Flumen, PeerName::Floor]));
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_started() {
        for (line, complaint) in [
            ("", "--preset or --work"),
            ("--preset audio --rounds 0", "--rounds"),
            ("--preset audio --shrink 0", "--shrink"),
            ("--preset audio --ports 80", "--ports"),
            ("--work 19900x128kbit/s", "ulimit"),
            ("--preset audio --work 1x1", "cannot be used"),
            ("--work 5x1Gbit", "rate"),
            ("--preset quick --duration 1ms", "--duration"),
        ] {
            let error = plan(line).expect_err(line).to_string();
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
