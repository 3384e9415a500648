//! The `compare` command: the same work for flumen and its peers, in turn, several rounds, medians and spread.
//!
//! ```text
//!  for each row:  warm-up round (thrown away), then per round:  flumen, floor, icecast2, …   every second round backwards
//!                                                                 └─ one measurement each: see `trial`
//! ```
//! - Alternating, because a shared machine has slow minutes: ratios are made within a round, never between medians.
//! - A peer that is not installed is skipped and said to be. One that fails is reported, and makes the run as a whole a failed one.
//! - The verdict says whether the measurements were sound. What they found, however bad, does not change it.

mod children;
mod figures;
mod present;
mod setup;
mod trial;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::cli::{CompareArgs, ComparePlan, PeerName};
use crate::output::Output;
use crate::report::verdict;
use children::{Interrupt, Ports};
use figures::{Figures, Summary};
use trial::{Bench, Found};
use work::{Row, RowFacts};

/// Enough to fill caches and the kernel's own stores.
const WARM_UP: Duration = Duration::from_secs(2);

/// The whole of a comparison, as a document.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    version: &'static str,
    machine: Machine,
    rounds: u32,
    burst_bytes: u32,
    rows: Vec<Compared>,
    /// Peers that are not here, and why.
    skipped: BTreeMap<&'static str, String>,
    /// What servers call themselves.
    servers: BTreeMap<&'static str, String>,
    verdict: &'static str,
}

#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    system: String,
}

/// One row: everybody did this.
#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    facts: RowFacts,
    peers: Vec<Contestant>,
}

/// One server in one row.
#[derive(Debug, Serialize)]
struct Contestant {
    name: &'static str,
    /// `None` where a measurement failed.
    rounds: Vec<Option<Figures>>,
    failures: Vec<String>,
    summary: BTreeMap<&'static str, Summary>,
    /// Flumen's figure over this one's, paired round by round.
    flumen_over_this: BTreeMap<&'static str, Summary>,
}

/// Who takes part, and what is used up on the way.
struct Contest<'a> {
    plan: &'a ComparePlan,
    bench: Bench<'a>,
    programs: Vec<(PeerName, PathBuf)>,
    ports: Ports,
    output: &'a Output,
    number: u32,
    servers: BTreeMap<&'static str, String>,
}

pub(crate) fn run(args: &CompareArgs, plan: &ComparePlan) -> anyhow::Result<bool> {
    let (output, interrupt) = (args.output(), Interrupt::watch()?);
    let cores = thread::available_parallelism()?.get();
    let (mut programs, mut skipped) = (Vec::new(), BTreeMap::new());
    for peer in &plan.peers {
        match setup::program(*peer, args.flumen.as_deref()) {
            Ok(program) => programs.push((*peer, program)),
            Err(why) => drop(skipped.insert(peer.label(), why)),
        }
    }
    for (peer, why) in &skipped {
        output.progress(&present::Said { peer, row: "", round: 0, text: format!("skipped: {why}") })?;
    }
    ensure!(!programs.is_empty(), "none of the servers is here");
    let bench = Bench {
        burst: plan.burst,
        servant: if rustix::process::geteuid().is_root() { servant() } else { None },
        cores,
        own: env::current_exe().context("where this program is")?,
        interrupt: &interrupt,
    };
    let ports = Ports::from(args.ports);
    let mut contest = Contest { plan, bench, programs, ports, output: &output, number: 0, servers: BTreeMap::new() };
    let rows = plan.rows.iter().map(|row| contest.row(row)).collect::<anyhow::Result<Vec<_>>>()?;
    let sound = rows.iter().all(|row| row.peers.iter().all(|peer| peer.failures.is_empty()));
    let comparison = Comparison {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine { cores, system: system() },
        rounds: plan.rounds,
        burst_bytes: plan.burst,
        rows,
        skipped,
        servers: contest.servers,
        verdict: verdict(sound),
    };
    output.page(|| present::page(&comparison))?;
    output.result(&comparison)?;
    Ok(sound)
}

impl Contest<'_> {
    fn row(&mut self, row: &Row) -> anyhow::Result<Compared> {
        let name = row.to_string();
        if self.plan.warm_up {
            let short = Row { duration: row.duration.min(WARM_UP), ..row.clone() };
            for at in 0..self.programs.len() {
                // Whatever is wrong will be so in the first round, and be said there.
                drop(self.measure(at, &short)?);
            }
        }
        let mut peers: Vec<Contestant> = self.programs.iter().map(|(peer, _)| Contestant::new(*peer)).collect();
        for round in 1..=self.plan.rounds {
            let mut order: Vec<usize> = (0..peers.len()).collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for at in order {
                let (contestant, found) = (&mut peers[at], self.measure(at, row)?);
                let text = match found {
                    Ok(Found { figures, server }) => {
                        let text = present::line(&figures);
                        self.servers.extend(server.map(|server| (contestant.name, server)));
                        contestant.rounds.push(Some(figures));
                        text
                    }
                    Err(e) => {
                        contestant.rounds.push(None);
                        contestant.failures.push(format!("round {round}: {e:#}"));
                        format!("failed: {e:#}")
                    }
                };
                self.output.progress(&present::Said { peer: contestant.name, row: &name, round, text })?;
            }
        }
        let flumen = peers.iter().find(|peer| peer.name == PeerName::Flumen.label()).map(|peer| peer.rounds.clone());
        for peer in &mut peers {
            peer.summary = figures::summaries(&peer.rounds);
            if let Some(flumen) = flumen.as_ref().filter(|_| peer.name != PeerName::Flumen.label()) {
                peer.flumen_over_this = figures::ratios(flumen, &peer.rounds);
            }
        }
        Ok(Compared { facts: row.facts(), peers })
    }

    /// The outer error ends everything: somebody wants this to stop.
    fn measure(&mut self, at: usize, row: &Row) -> anyhow::Result<anyhow::Result<Found>> {
        let (peer, program) = &self.programs[at];
        self.number += 1;
        let found = self.bench.measure(*peer, program, row, &mut self.ports, self.number);
        self.bench.interrupt.check()?;
        Ok(found)
    }
}

impl Contestant {
    fn new(peer: PeerName) -> Self {
        let (summary, flumen_over_this) = Default::default();
        Self { name: peer.label(), rounds: Vec::new(), failures: Vec::new(), summary, flumen_over_this }
    }
}

/// Read only where it is needed: by root.
fn servant() -> Option<setup::Servant> {
    setup::servant(&fs::read_to_string("/etc/passwd").ok()?, &fs::read_to_string("/etc/group").ok()?)
}

fn system() -> String {
    let name = rustix::system::uname();
    format!("{} {} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy(), name.machine().to_string_lossy())
}
