//! `loadtest`: load and integrity tests for flumen and other stream servers.
//!
//! Exit codes: 0 everything good, 1 something was lost, corrupt or refused, or the run failed, 64 bad usage.

mod ask;
mod asker;
mod check;
mod cli;
mod clock;
mod compare;
mod floor;
mod gdp;
mod history;
mod host;
mod http;
mod ledger;
mod line;
mod listen;
mod listener;
mod lobby;
mod net;
mod output;
mod page;
mod probe;
mod push;
mod record;
mod report;
mod roster;
mod schedule;
mod soak;
mod source;
mod stats;
mod storm;
mod swarm;
mod target;
mod units;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => {
            // Help and version go to stdout and are no error; if even that cannot be written there is nobody to tell.
            let _ = asked.print();
            return if asked.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let open_files = match net::raise_open_files() {
        Ok(limit) => limit,
        Err(e) => return complain(1, &e.into()),
    };
    let result = match cli.command {
        Command::Listen(args) => match args.questions().and_then(|questions| Ok((questions, args.plan(open_files)?))) {
            Ok((questions, plan)) => listen::run(&args, &questions, plan),
            Err(e) => return complain(USAGE, &e),
        },
        Command::Storm(args) => match args.plan(open_files) {
            Ok(plan) => storm::run(&args, plan),
            Err(e) => return complain(USAGE, &e),
        },
        Command::Soak(args) => match args.plan(open_files) {
            Ok(start) => soak::run(&args, start),
            Err(e) => return complain(USAGE, &e),
        },
        Command::Source(args) => match args.check() {
            Ok(()) => source::run(&args).map(|()| true),
            Err(e) => return complain(USAGE, &e),
        },
        Command::Compare(args) => match args.plan(open_files) {
            Ok(plan) => compare::run(&args, &plan),
            Err(e) => return complain(USAGE, &e),
        },
        Command::Floor(args) => floor::run(&args).map(|()| true),
        Command::Host(args) => host::run(&args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => complain(1, &e),
    }
}

fn complain(code: u8, e: &anyhow::Error) -> ExitCode {
    eprintln!("loadtest: {e:#}");
    code.into()
}
