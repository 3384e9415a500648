//! The command line: what may be asked, with every option checked before anything is sent anywhere.

mod compare;
mod stand_ins;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use compare::{CompareArgs, ComparePlan, PeerName, Preset, loopback};
pub(crate) use stand_ins::{FloorArgs, HostArgs, Sink};

use crate::ask::Door;
use crate::asker::Question;
use crate::check::{Format, Start};
use crate::http::Version;
use crate::line::Tls;
use crate::net;
use crate::output::{Output, Style};
use crate::push::Mount;
use crate::record;
use crate::schedule::Mix;
use crate::swarm::Plan;
use crate::target::{Protocol, Target};
use crate::units::{ByteRate, PerSecond, Share, Slow, bytes, duration};

mod soak;

pub(crate) use soak::{SoakArgs, Start as SoakStart};

/// Pages asked for beside the listening; each has a thread.
const QUESTIONS_MAX: usize = 8;

/// Load and integrity tests for flumen and other stream servers.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold many listeners and say how they fared
    Listen(Box<ListenArgs>),
    /// All listeners leave and come back at once, again and again
    Storm(Box<StormArgs>),
    /// For hours to months: everything that can happen to a server, and whether it keeps its promises meanwhile
    Soak(Box<SoakArgs>),
    /// Produce numbered, checksummed, time-stamped records as a stream
    Source(Box<SourceArgs>),
    /// The same work for flumen and its peers, in turn, round after round
    Compare(Box<CompareArgs>),
    /// The least that delivers a stream, to compare with
    Floor(FloorArgs),
    /// A host for GStreamer's own sinks (needs the feature `peers`)
    Host(HostArgs),
}

/// What every command that listens has in common.
#[derive(Debug, Args)]
pub(crate) struct SwarmArgs {
    /// http://HOST:PORT/PATH, https:// likewise (any certificate is taken) or tcp://HOST:PORT; several are shared out in turn
    #[arg(required = true)]
    targets: Vec<String>,
    /// How many listeners
    #[arg(short = 'n', long, default_value_t = 100)]
    listeners: usize,
    /// HTTP version of the requests
    #[arg(long, default_value = "1.1")]
    http: Version,
    /// Bind to so many loopback addresses in turn (loopback targets only)
    #[arg(long, default_value_t = 1)]
    source_addresses: usize,
    /// Check the content of so many listeners
    #[arg(long, default_value_t = 16)]
    verify: usize,
    /// What the content is, if its type and first bytes do not say
    #[arg(long, default_value = "auto")]
    verify_as: VerifyAs,
    /// Where a stream may begin
    #[arg(long, default_value = "exact")]
    start: Start,
    /// A join that takes longer is a refusal
    #[arg(long, default_value = "10s", value_parser = duration)]
    join_timeout: Duration,
    /// Exit code 0 even if listeners were refused
    #[arg(long)]
    pub(crate) allow_refused: bool,
    /// Sample this process as the server
    #[arg(long)]
    pub(crate) pid: Option<u32>,
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

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    pub(crate) swarm: SwarmArgs,
    /// Joins per second
    #[arg(long, default_value = "500/s")]
    pub(crate) ramp: PerSecond,
    /// The steady window, which begins when all have joined and settled
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Between the last join and the steady window
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) settle: Duration,
    /// A share that reads at a rate of its own, such as 5%@2KiB/s
    #[arg(long)]
    slow: Option<Slow>,
    /// A share that never reads after the answer's head
    #[arg(long, default_value = "0%")]
    stalled: Share,
    /// Receive buffer of slow and stalled listeners (default: the system's)
    #[arg(long, value_parser = bytes)]
    slow_buffer: Option<u32>,
    /// So many listeners per second leave and are replaced
    #[arg(long)]
    pub(crate) churn: Option<PerSecond>,
    /// The lost and the refused come back after a second
    #[arg(long)]
    reconnect: bool,
    /// One of so many healthy listeners is measured exactly; 0 = none
    #[arg(long, default_value_t = 50)]
    measure_every: usize,
    /// A listener that is not measured is read at least this often
    #[arg(long, default_value = "500ms", value_parser = duration)]
    read_every: Duration,
    /// Time between progress lines
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Chooses who churns
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Ask for this page all through the steady window, and say how long it took; may be given several times
    #[arg(long, value_name = "http://HOST:PORT/PATH")]
    ask: Vec<String>,
    /// Time between two requests for a page
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) ask_every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) swarm: SwarmArgs,
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// How long everybody listens once all are served
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) hold: Duration,
    /// Between leaving and coming back
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) pause: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Serve everyone who connects here (for `tcpclientsrc`); else stdout
    #[arg(long, group = "outlet")]
    pub(crate) listen: Option<SocketAddr>,
    /// With --listen: wait for an HTTP request of each and answer it (for servers that pull)
    #[arg(long, requires = "listen", conflicts_with = "gdp")]
    pub(crate) serve_http: bool,
    /// Connect here (a `tcpserversrc`)
    #[arg(long, group = "outlet")]
    pub(crate) connect: Option<SocketAddr>,
    /// Be the source of this Icecast mount
    #[arg(long, group = "outlet", value_name = "http://USER:PASSWORD@HOST:PORT/MOUNT", conflicts_with = "gdp")]
    pub(crate) icecast: Option<Mount>,
    /// What is said over HTTP
    #[arg(long, default_value = "application/octet-stream")]
    pub(crate) content_type: String,
    /// Bytes per second of records
    #[arg(long, default_value = "16000")]
    pub(crate) rate: ByteRate,
    /// Size of a record, its head and checksum included
    #[arg(long, default_value = "417", value_parser = bytes)]
    pub(crate) record_size: u32,
    /// Every so many records one is a keyframe
    #[arg(long, default_value_t = 10)]
    pub(crate) keyframe_every: u64,
    /// Wrap in GStreamer Data Protocol 1.0 packets with flags, timestamps and streamheader
    #[arg(long)]
    pub(crate) gdp: bool,
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) duration: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum VerifyAs {
    Auto,
    Records,
    Gdp,
    Mp3,
    Adts,
    Ogg,
    Webm,
}

impl VerifyAs {
    fn format(self) -> Option<Format> {
        match self {
            Self::Auto => None,
            Self::Records => Some(Format::Records),
            Self::Gdp => Some(Format::Gdp),
            Self::Mp3 => Some(Format::Mp3),
            Self::Adts => Some(Format::Adts),
            Self::Ogg => Some(Format::Ogg),
            Self::Webm => Some(Format::Webm),
        }
    }
}

impl SwarmArgs {
    pub(crate) fn output(&self) -> Output {
        Output::new(self.format, self.json.as_deref(), self.report.as_deref())
    }

    fn plan(&self, open_files: u64) -> anyhow::Result<Plan> {
        let targets = self.targets.iter().map(|typed| Target::resolve(typed)).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(self.listeners > 0, "--listeners: at least 1");
        ensure!(
            self.listeners as u64 + 64 <= open_files,
            "--listeners: {} need more than the {open_files} files this process may open (ulimit -Hn)",
            self.listeners
        );
        ensure!((1..=net::SOURCES_MAX).contains(&self.source_addresses), "--source-addresses: 1 to {} are possible", net::SOURCES_MAX);
        if self.source_addresses > 1 && !targets.iter().all(Target::is_ipv4_loopback) {
            bail!("--source-addresses: only for targets in 127.0.0.0/8");
        }
        let healthy = Mix { stalled: Share(0.0), slow: None, measure_every: 0, verify: self.verify };
        let tls = targets.iter().any(|target| target.secure).then(Tls::new).transpose()?;
        Ok(Plan {
            targets,
            tls,
            listeners: self.listeners,
            mix: healthy,
            version: self.http,
            sources: self.source_addresses,
            join_timeout: self.join_timeout,
            reconnect: false,
            longest_period: Duration::from_millis(500),
            format: self.verify_as.format(),
            start: self.start,
            slow_buffer: None,
            books: Vec::new(),
            roster: None,
        })
    }
}

impl ListenArgs {
    pub(crate) fn plan(&self, open_files: u64) -> anyhow::Result<Plan> {
        ensure!(self.read_every >= Duration::from_millis(20), "--read-every: at least 20ms");
        ensure!(self.interval >= Duration::from_millis(100), "--interval: at least 100ms");
        ensure!(self.ask_every >= Duration::from_millis(10), "--ask-every: at least 10ms");
        let slow_share = self.slow.map_or(0.0, |slow| slow.share.0);
        ensure!(slow_share + self.stalled.0 <= 1.0, "--slow and --stalled: more than all listeners");
        let plan = self.swarm.plan(open_files)?;
        Ok(Plan {
            mix: Mix {
                stalled: self.stalled,
                slow: self.slow.map(|slow| (slow.share, slow.rate)),
                measure_every: self.measure_every,
                ..plan.mix
            },
            reconnect: self.reconnect,
            longest_period: self.read_every,
            slow_buffer: self.slow_buffer.map(|size| size as usize),
            ..plan
        })
    }
}

impl ListenArgs {
    /// What is asked for meanwhile; resolved once, as everything that is sent to.
    pub(crate) fn questions(&self) -> anyhow::Result<Vec<Question>> {
        ensure!(self.ask.len() <= QUESTIONS_MAX, "--ask: {QUESTIONS_MAX} at most");
        let question = |typed: &String| match Target::resolve(typed)? {
            Target { protocol: Protocol::Http { host, path }, address, secure: false, .. } => {
                Ok(Question { typed: typed.clone(), door: Door { address, host }, path })
            }
            _ => bail!("--ask: `{typed}` is no http:// address"),
        };
        self.ask.iter().map(question).collect()
    }
}

impl StormArgs {
    pub(crate) fn plan(&self, open_files: u64) -> anyhow::Result<Plan> {
        ensure!(self.rounds > 0, "--rounds: at least 1");
        self.swarm.plan(open_files)
    }
}

impl SourceArgs {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let size = self.record_size as usize;
        ensure!((record::SHORTEST..=record::LONGEST).contains(&size), "--record-size: {} to {} bytes", record::SHORTEST, record::LONGEST);
        ensure!(self.keyframe_every > 0, "--keyframe-every: at least 1");
        let plain = self.content_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        ensure!(plain, "--content-type: no control characters");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_that_cannot_be_is_refused_before_anything_is_sent() {
        for (line, complaint) in [
            ("http://127.0.0.1:1/a http://127.0.0.1:2/b", "one server"),
            ("tcp://127.0.0.1:1", "one server"),
            ("http://127.0.0.1/ --feed listen:127.0.0.1:1 --feed listen:127.0.0.1:2", "more than there are"),
            ("http://127.0.0.1/ --stalled 60% --slow 40%@1KiB/s", "healthy"),
            ("http://127.0.0.1/ --faults-every 10ms", "at least 1s"),
            ("--flumen /no/such/program", "there is no"),
            ("--resume /no/such/folder", "cannot read"),
        ] {
            let words = ["loadtest", "soak"].into_iter().chain(line.split_whitespace());
            let Ok(Command::Soak(args)) = Cli::try_parse_from(words).map(|cli| cli.command) else { panic!("{line}") };
            let error = args.plan(20_000).expect_err(line).to_string();
            assert!(error.contains(complaint), "{line}: {error}");
        }
        assert!(Cli::try_parse_from(["loadtest", "soak"]).is_err(), "a soak of nothing");
    }

    fn listen(line: &str) -> anyhow::Result<Plan> {
        let words = ["loadtest", "listen"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Listen(args) => args.plan(20_000),
            other => bail!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_full_line_becomes_a_plan() {
        let plan =
            listen("http://127.0.0.1:8000/live -n 10000 --slow 5%@2KiB/s --stalled 5% --source-addresses 8 --http 1.0").expect("fine");
        assert_eq!((plan.listeners, plan.sources, plan.version), (10_000, 8, Version::Http10));
        assert_eq!(plan.mix.stalled, Share(0.05));
    }

    #[test]
    fn pages_are_asked_for_in_the_clear_and_over_http_only() {
        let questions =
            |line: &str| match Cli::try_parse_from(["loadtest", "listen", "http://127.0.0.1/"].into_iter().chain(line.split(' '))) {
                Ok(Cli { command: Command::Listen(args) }) => args.questions(),
                other => panic!("{other:?}"),
            };
        let asked = questions("--ask http://127.0.0.1:8000/metrics --ask http://127.0.0.1:8000/x?y=1").expect("fine");
        assert_eq!(asked.iter().map(|question| question.path.as_str()).collect::<Vec<_>>(), ["/metrics", "/x?y=1"]);
        for wrong in ["--ask tcp://127.0.0.1:1", "--ask https://127.0.0.1/", "--ask metrics"] {
            assert!(questions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_sent() {
        for (line, complaint) in [
            ("http://127.0.0.1/ -n 19990", "ulimit"),
            ("http://127.0.0.1/ -n 0", "at least 1"),
            ("http://[::1]:80/ --source-addresses 2", "127.0.0.0/8"),
            ("http://127.0.0.1/ --stalled 60% --slow 50%@1KiB/s", "more than all"),
            ("ftp://127.0.0.1/", "scheme"),
        ] {
            let error = listen(line).expect_err(line).to_string();
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
