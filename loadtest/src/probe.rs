//! What a server's process uses, read from /proc: CPU (whole and by thread), memory, descriptors, switches, kernel socket memory.
//!
//! `Pulse` is cheap and taken often; `Weight` walks every mapping and descriptor and is taken three times a run. The parsers are pure.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// CPU and switches up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    at: Nanos,
    ticks: u64,
    threads: BTreeMap<u32, (String, u64)>,
    voluntary: u64,
    involuntary: u64,
}

/// Memory and descriptors at a moment. Kernel figures are of the whole machine, both ends of every loopback connection included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weight {
    pub(crate) rss_kib: u64,
    /// The part that belongs to no file: what a process takes for itself, whoever else runs the same program.
    #[serde(default)]
    pub(crate) anon_kib: u64,
    /// Absent where /proc/PID/smaps_rollup may not be read.
    pub(crate) pss_kib: Option<u64>,
    pub(crate) fds: Option<usize>,
    pub(crate) threads: u64,
    pub(crate) kernel_tcp_sockets: u64,
    pub(crate) kernel_tcp_kib: u64,
}

/// Between two pulses.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Effort {
    pub(crate) seconds: f64,
    pub(crate) cpu_percent: f64,
    /// Threads that used CPU, the busiest first.
    pub(crate) threads: Vec<ThreadEffort>,
    pub(crate) voluntary_switches_per_s: f64,
    pub(crate) involuntary_switches_per_s: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ThreadEffort {
    pub(crate) name: String,
    pub(crate) cpu_percent: f64,
}

#[derive(Debug)]
pub(crate) struct Probe {
    home: PathBuf,
}

impl Probe {
    pub(crate) fn of(pid: u32) -> Self {
        Self { home: PathBuf::from(format!("/proc/{pid}")) }
    }

    pub(crate) fn of_this_process() -> Self {
        Self { home: PathBuf::from("/proc/self") }
    }

    pub(crate) fn pulse(&self) -> io::Result<Pulse> {
        let (_, ticks) = stat(&fs::read_to_string(self.home.join("stat"))?).ok_or(io::ErrorKind::InvalidData)?;
        let mut pulse = Pulse { at: Nanos::now(), ticks, threads: BTreeMap::new(), voluntary: 0, involuntary: 0 };
        for entry in fs::read_dir(self.home.join("task"))?.flatten() {
            // A thread may end while it is read: then it is left out.
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
            pulse.threads.extend(stat(&text).map(|found| (id, found)));
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            pulse.voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            pulse.involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(pulse)
    }

    pub(crate) fn weight(&self) -> io::Result<Weight> {
        let status = fs::read_to_string(self.home.join("status"))?;
        let rollup = fs::read_to_string(self.home.join("smaps_rollup")).unwrap_or_default();
        let (kernel_tcp_sockets, pages) = sockstat(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default());
        Ok(Weight {
            rss_kib: field(&status, "VmRSS:").unwrap_or(0),
            anon_kib: field(&status, "RssAnon:").unwrap_or(0),
            pss_kib: field(&rollup, "Pss:"),
            fds: fs::read_dir(self.home.join("fd")).ok().map(Iterator::count),
            threads: field(&status, "Threads:").unwrap_or(0),
            kernel_tcp_sockets,
            kernel_tcp_kib: pages * (rustix::param::page_size() as u64 / 1024),
        })
    }
}

impl Pulse {
    pub(crate) fn until(&self, later: &Self) -> Effort {
        let seconds = later.at.since(self.at).as_secs_f64().max(f64::EPSILON);
        let per_tick = 100.0 / rustix::param::clock_ticks_per_second() as f64 / seconds;
        let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 * per_tick;
        let before = |id| self.threads.get(id).map_or(0, |(_, ticks)| *ticks);
        let mut threads: Vec<ThreadEffort> = later
            .threads
            .iter()
            .map(|(id, (name, ticks))| ThreadEffort { name: name.clone(), cpu_percent: percent(before(id), *ticks) })
            .filter(|thread| thread.cpu_percent > 0.0)
            .collect();
        threads.sort_by(|a, b| b.cpu_percent.total_cmp(&a.cpu_percent));
        Effort {
            seconds,
            cpu_percent: percent(self.ticks, later.ticks),
            threads,
            voluntary_switches_per_s: later.voluntary.saturating_sub(self.voluntary) as f64 / seconds,
            involuntary_switches_per_s: later.involuntary.saturating_sub(self.involuntary) as f64 / seconds,
        }
    }
}

/// Name and CPU ticks (user + system) of a `stat` line. The name may hold anything, even `)`.
fn stat(line: &str) -> Option<(String, u64)> {
    let (front, rest) = line.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    // utime and stime are fields 14 and 15; what follows the name begins with field 3.
    let mut ticks = rest.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    Some((name.to_owned(), ticks.next()?.ok()? + ticks.next()?.ok()?))
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// TCP sockets allocated and pages of memory they hold.
fn sockstat(text: &str) -> (u64, u64) {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let after = |name| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(0);
    (after("alloc"), after("mem"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_gives_name_and_ticks_even_with_brackets_in_the_name() {
        let line = "42 (a) (b) c) S 1 42 42 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(stat(line), Some(("a) (b) c".to_owned(), 150)));
        assert_eq!(stat("nonsense"), None);
    }

    #[test]
    fn fields_and_sockstat_are_found_by_name() {
        assert_eq!(field("Rss:   10 kB\nPss:    7 kB\n", "Pss:"), Some(7));
        assert_eq!(field("Rss: 10 kB", "Pss:"), None);
        let text = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\nUDP: inuse 1 mem 2\n";
        assert_eq!(sockstat(text), (7, 3));
    }

    #[test]
    fn effort_is_the_difference_of_two_pulses() {
        let pulse = |at, ticks, shard| Pulse {
            at: Nanos(at),
            ticks,
            threads: BTreeMap::from([(1, ("main".to_owned(), 5)), (2, ("shard-0".to_owned(), shard))]),
            voluntary: ticks,
            involuntary: 0,
        };
        let effort = pulse(0, 100, 10).until(&pulse(2_000_000_000, 150, 60));
        let full = 100.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(effort.cpu_percent, 25.0 * full);
        assert_eq!(effort.threads.len(), 1, "idle threads are left out");
        assert_eq!((effort.threads[0].name.as_str(), effort.threads[0].cpu_percent), ("shard-0", 25.0 * full));
        assert_eq!(effort.voluntary_switches_per_s, 25.0);
    }

    #[test]
    fn this_process_can_be_probed() {
        let probe = Probe::of_this_process();
        assert!(!probe.pulse().expect("readable").threads.is_empty());
        let weight = probe.weight().expect("readable");
        assert!(weight.anon_kib > 0 && weight.rss_kib >= weight.anon_kib, "{weight:?}");
    }
}
