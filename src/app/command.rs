//! Carrying out a command: reading what it is about, doing it, and saying why not.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use super::upgrade::heir::{Heir, HeirError};
use super::{LOG_LINE_BYTES, LOG_LINES_MOST, ask, cores, doctor, privileges, remote, serve, sign, status};
use crate::cli;
use crate::config::{self, Config, ConfigErrors, Environment};
use crate::door::certificate::Flaw;
use crate::ingest;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        address: String,
        #[source]
        cause: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {}: {cause}", .path.shown())]
    AccessLog {
        path: config::Access,
        #[source]
        cause: io::Error,
    },
    /// The server cannot be the user it is told to be.
    #[error(transparent)]
    Privileges(#[from] privileges::PrivilegeError),
    /// The machine is not fit for the configuration.
    #[error("{0} of these keep the server from running as it is told to")]
    Unfit(usize),
    /// A certificate has gone bad since the configuration was read.
    #[error("cannot speak TLS: {0}")]
    Certificate(#[from] Flaw),
    /// Certificates that an authority gives cannot be kept.
    #[error("cannot keep certificates: {0}")]
    Acme(#[source] io::Error),
    /// GStreamer is not there.
    #[error("cannot load GStreamer: {0}")]
    GStreamer(#[from] ingest::InitError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A running server was asked and did not answer.
    #[error(transparent)]
    Status(#[from] remote::RemoteError),
    /// A running server was asked for something and did not do it.
    #[error(transparent)]
    Ask(#[from] ask::AskError),
    /// Another process was to be taken over from.
    #[error(transparent)]
    TakeOver(#[from] HeirError),
    /// Nothing was signed.
    #[error(transparent)]
    Sign(#[from] sign::SignError),
    /// The system has no thread, descriptor or memory left.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// User memory of one listener: its place in the table (which grows by half at a time), what is kept beside it, its agent and
/// its share of everything else. Measured at 10,000 it is less than half of this; a test holds the sizes to it.
pub const LISTENER_BYTES: u64 = 1024;
/// User memory of one connection that is being asked what it wants, beside its heads: the HTTP framework's buffer for writing, and
/// its task. Measured with thousands that send the largest head and wait, it is 46 KiB with four heads of 8 KiB.
const CONNECTION_BYTES: u64 = 16 * 1024;
/// Carries out a command; its exit code.
pub fn run(command: cli::Command) -> ExitCode {
    match obey(command, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

fn obey(command: cli::Command, heir: Option<Heir>) -> Result<(), StartError> {
    // Located once: a server goes on with the file it began with, wherever others turn up.
    let located = |file| config::locate(file, &Environment::of_process());
    let from_file = |source: &config::Source| load(|environment| config::load(source, environment, &check_pipeline));
    match command {
        cli::Command::Serve { config } => {
            let source = located(config);
            let mut arguments = vec![OsString::from("serve")];
            if let config::Source::File(path) = &source {
                arguments.extend(["-c".into(), path.clone().into()]);
            }
            serve(Arc::new(move || from_file(&source)), arguments, heir)
        }
        cli::Command::Launch(launch) => {
            let arguments = std::env::args_os().skip(1).skip_while(|argument| argument == cli::TAKE_OVER).collect();
            serve(Arc::new(move || load(|environment| config::launch(&launch, environment, &check_pipeline))), arguments, heir)
        }
        cli::Command::TakeOver(command) => {
            let heir = Heir::greet()?;
            obey(*command, Some(heir.clone())).inspect_err(|error| heir.refuse(&error.to_string()))
        }
        cli::Command::Check { config } => {
            let costs = config::Costs {
                listener_bytes: LISTENER_BYTES,
                connection_bytes: CONNECTION_BYTES,
                socket_buffer_max: config::socket_buffer_max(),
                cores: cores() as u64,
                event_log_bytes: (LOG_LINES_MOST * LOG_LINE_BYTES) as u64,
            };
            print(&config::describe(&from_file(&located(config))?, costs))
        }
        cli::Command::Doctor { config } => {
            let (text, bad) = doctor::examine(from_file(&located(config)));
            print(&text)?;
            if bad == 0 { Ok(()) } else { Err(StartError::Unfit(bad)) }
        }
        cli::Command::Completions { shell } => print(&cli::completions(shell)),
        cli::Command::Manual => print(&cli::manual()?),
        cli::Command::ImportIcecast { file } => {
            let imported = config::import_icecast(&file)?;
            left_out(&imported.left_out);
            print(&imported.toml)
        }
        cli::Command::Status(server) => print(&status::table(&server)?),
        cli::Command::Reload(server) => print(&ask::reload(&server)?),
        cli::Command::Sign(asked) => print(&sign::sign(&asked)?),
        cli::Command::Drain(server) => print(&ask::drain(&server)?),
        cli::Command::Upgrade(server) => print(&ask::upgrade(&server)?),
    }
}

fn load(read: impl FnOnce(&Environment) -> Result<Config, ConfigErrors>) -> Result<Config, StartError> {
    ingest::init()?;
    Ok(read(&Environment::of_process())?)
}

fn check_pipeline(description: &str) -> Result<(), String> {
    ingest::check(description).map_err(|error| error.to_string())
}

#[expect(clippy::print_stderr, reason = "what a command has to say goes to the terminal, with or without a log")]
fn refused(error: &StartError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "what could not be carried over is for whoever asked, not for the file")]
fn left_out(lines: &[String]) {
    lines.iter().for_each(|line| eprintln!("{line}"));
}

/// The output of a command that prints. Who has read enough may close the pipe.
fn print(text: &str) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
