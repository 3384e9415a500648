//! The `soak` command: everything that can happen to a server, for hours to months, and whether it keeps its promises meanwhile.
//!
//! ```text
//!   feeders ──records──▶ [ flumen ] ──streams──▶ swarm (main thread) ──ledger──┐
//!   visitor ──pages, API calls, removals, reloads──▶ ▲                         ├──▶ sample ──▶ invariants ──▶ findings
//!   watcher ──/metrics, /proc───────────────────────▶┘ ────────look────────────┘      └──▶ samples.jsonl, history, slopes
//! ```
//! - The main thread only listens and reckons; whatever may have to wait for the server has a thread of its own.
//! - Everything is bounded: histories are thinned, findings counted after the first few, files cut. A soak ends by its duration.
//! - A stop (INT, TERM) ends it in order and leaves a folder to go on from.
//! - Nothing is sent but to the targets, the feeds that were named, and the loopback ports of a flumen of its own.

mod faults;
mod feeder;
mod house;
mod invariants;
mod pages;
mod result;
mod run;
mod sample;
mod scrape;
pub(crate) mod settings;
mod slope;
pub(crate) mod store;
mod verdict;
mod visitor;
mod watcher;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{SoakArgs, SoakStart};
use run::Run;

/// Begins or goes on, to the end or until it is told to stop.
pub(crate) fn run(args: &SoakArgs, start: SoakStart) -> anyhow::Result<bool> {
    let output = args.output();
    let stop = told_to_stop()?;
    let mut run = Run::begin(start, &output)?;
    run.soak(&stop)?;
    let result = run.end()?;
    let page = || pages::page(&result, run.history());
    std::fs::write(run.file("report.html"), page().html()?).context("cannot write the report")?;
    std::fs::write(run.file("result.json"), serde_json::to_vec_pretty(&result)?).context("cannot write the result")?;
    output.page(page)?;
    output.result(&result)?;
    Ok(result.reasons.is_empty())
}

/// Set by INT and TERM. A second one ends the process at once.
fn told_to_stop() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
