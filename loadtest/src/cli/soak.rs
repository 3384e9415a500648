//! The options of `soak`, checked, and where a soak that is gone on with comes from.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::output::{Output, Style};
use crate::record;
use crate::soak::settings::{Feed, OWN_MOUNTS, OwnServer, Settings};
use crate::soak::store::{State, Store};
use crate::target::{Protocol, Target};
use crate::units::{ByteRate, PerSecond, Share, Slow, bytes, duration};

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// http://HOST:PORT/PATH of a running flumen's mounts, all of one server
    #[arg(required_unless_present_any = ["flumen", "resume"])]
    targets: Vec<String>,
    /// Start this flumen, with mounts made for it, and stop it in the end
    #[arg(long, value_name = "PATH", conflicts_with = "targets")]
    flumen: Option<PathBuf>,
    /// First of four loopback ports for that flumen and its sources (default: free ones)
    #[arg(long, requires = "flumen")]
    port: Option<u16>,
    /// Feed the first target, the second …: listen:ADDR (its tcpclientsrc comes here) or connect:ADDR (its tcpserversrc)
    #[arg(long, value_name = "FEED", conflicts_with = "flumen")]
    feed: Vec<Feed>,
    /// Sample this process as the server, and tell it to reload
    #[arg(long, conflicts_with = "flumen")]
    pid: Option<u32>,
    /// Nobody else listens to this server: hold its counters against this tool's books
    #[arg(long)]
    alone: bool,
    /// How many listeners
    #[arg(short = 'n', long, default_value_t = 100)]
    listeners: usize,
    /// Check the content of so many of them (default: all healthy ones, at most 500)
    #[arg(long)]
    verify: Option<usize>,
    /// How long, stops left out
    #[arg(long, default_value = "1h", value_parser = duration)]
    duration: Duration,
    /// What comes before is left out of the slopes (default: a tenth, ten minutes at most)
    #[arg(long, value_parser = duration)]
    warm_up: Option<Duration>,
    /// Time between samples
    #[arg(long, default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// A share that reads at a rate of its own
    #[arg(long, default_value = "5%@4KiB/s")]
    slow: Slow,
    /// A share that never reads after the answer's head
    #[arg(long, default_value = "5%")]
    stalled: Share,
    /// So many listeners per second leave and are replaced
    #[arg(long, default_value = "2/s")]
    churn: PerSecond,
    /// Something happens to each source but the first's about so often; 0s: never
    #[arg(long, default_value = "30s", value_parser = duration)]
    faults_every: Duration,
    /// A listener is removed by API so often; 0s: never
    #[arg(long, default_value = "20s", value_parser = duration)]
    kicks_every: Duration,
    /// The server is told to reload so often; 0s: never
    #[arg(long, default_value = "60s", value_parser = duration)]
    reload_every: Duration,
    /// Pages and API calls per second
    #[arg(long, default_value = "4/s")]
    visits: PerSecond,
    /// Bytes per second of each source's records
    #[arg(long, default_value = "16000")]
    rate: ByteRate,
    /// Size of a record, its head and checksum included
    #[arg(long, default_value = "417", value_parser = bytes)]
    record_size: u32,
    /// Chooses the faults and who leaves
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for samples, state, result and report (default: ./soak-SECONDS)
    #[arg(long, conflicts_with = "resume")]
    dir: Option<PathBuf>,
    /// Go on with the soak in this folder, as it was begun
    #[arg(long, value_name = "DIR", conflicts_with_all = ["flumen", "targets", "feed"])]
    resume: Option<PathBuf>,
    /// table on a terminal, else json
    #[arg(long)]
    format: Option<Style>,
    /// Write the result to this file, too, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report to this file, too (HTML)
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// A soak that may begin, or go on.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) store: Store,
    pub(crate) state: State,
}

impl SoakArgs {
    pub(crate) fn output(&self) -> Output {
        Output::new(self.format, self.json.as_deref(), self.report.as_deref())
    }

    pub(crate) fn plan(&self, open_files: u64) -> anyhow::Result<Start> {
        let Some(folder) = &self.resume else {
            let settings = self.settings(open_files)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let folder = self.dir.clone().unwrap_or_else(|| PathBuf::from(format!("soak-{now}")));
            let state = State { settings, session: 1, seconds: 0.0, totals: Default::default(), findings: Default::default() };
            return Ok(Start { store: Store::create(&folder)?, state });
        };
        let (store, mut state) = Store::resume(folder)?;
        ensure!(state.seconds < state.settings.duration_s, "--resume: the soak in {} is over", folder.display());
        state.session += 1;
        // The process that was sampled may have got another number; all else stays as it was begun.
        state.settings.pid = self.pid.or(state.settings.pid);
        Ok(Start { store, state })
    }

    fn settings(&self, open_files: u64) -> anyhow::Result<Settings> {
        ensure!(self.listeners > 0, "--listeners: at least 1");
        ensure!(self.listeners as u64 + 128 <= open_files, "--listeners: this process may open {open_files} files (ulimit -Hn)");
        ensure!(self.slow.share.0 + self.stalled.0 < 1.0, "--slow and --stalled: nobody is left who is healthy");
        ensure!(self.interval >= Duration::from_millis(200), "--interval: at least 200ms");
        ensure!(self.duration >= self.interval, "--duration: at least one --interval");
        let seldom = |every: Duration| every.is_zero() || every >= Duration::from_secs(1);
        ensure!(seldom(self.faults_every) && seldom(self.kicks_every) && seldom(self.reload_every), "--…-every: 0s or at least 1s");
        let size = self.record_size as usize;
        ensure!((record::SHORTEST..=record::LONGEST).contains(&size), "--record-size: {} to {} bytes", record::SHORTEST, record::LONGEST);
        let warm_up = self.warm_up.unwrap_or_else(|| (self.duration / 10).min(Duration::from_secs(600)));
        let mut settings = Settings {
            targets: self.targets.clone(),
            feeds: self.feed.clone(),
            own_server: None,
            pid: self.pid,
            alone: self.alone,
            listeners: self.listeners,
            verify: self.verify.unwrap_or(self.listeners.min(500)),
            stalled_share: self.stalled.0,
            slow_share: self.slow.share.0,
            slow_rate: self.slow.rate.0,
            churn_per_s: self.churn.0,
            duration_s: self.duration.as_secs_f64(),
            warm_up_s: warm_up.as_secs_f64(),
            interval_s: self.interval.as_secs_f64(),
            faults_every_s: self.faults_every.as_secs_f64(),
            kicks_every_s: self.kicks_every.as_secs_f64(),
            reload_every_s: self.reload_every.as_secs_f64(),
            visits_per_s: self.visits.0,
            source_rate: self.rate.0,
            record_size: self.record_size,
            seed: self.seed,
        };
        if let Some(program) = &self.flumen {
            settings.at_home(own_server(program, self.port)?);
        }
        ensure!(settings.feeds.len() <= settings.targets.len(), "--feed: more than there are targets");
        let targets = settings.targets.iter().map(|typed| Target::resolve(typed)).collect::<anyhow::Result<Vec<_>>>()?;
        let host = |target: &Target| match &target.protocol {
            Protocol::Http { host, .. } if !target.secure => Some((host.clone(), target.address)),
            Protocol::Http { .. } | Protocol::Tcp => None,
        };
        if targets.iter().any(|target| host(target).is_none() || host(target) != host(&targets[0])) {
            bail!("targets: http://… of one server are wanted, for its metrics and its API are asked, too");
        }
        Ok(settings)
    }
}

/// The program, and ports for it and its mounts' sources: in a row from the one that was named, else free ones.
fn own_server(program: &Path, first: Option<u16>) -> anyhow::Result<OwnServer> {
    let program = program.canonicalize().with_context(|| format!("--flumen: there is no {}", program.display()))?;
    let wanted = 0..=OWN_MOUNTS.len() as u16;
    let ports = match first {
        Some(first) => wanted.map(|above| first.checked_add(above)).collect::<Option<Vec<u16>>>().context("--port: too high")?,
        None => {
            // All are held until the last is found, so that they differ.
            let held = wanted.map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
            held.iter().map(|door| Ok(door.local_addr()?.port())).collect::<std::io::Result<Vec<_>>>()?
        }
    };
    Ok(OwnServer { program, ports })
}
