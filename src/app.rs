//! The wiring, and nothing else: which rooms there are, who knows whom, and in what order they open and close.
//!
//! ```text
//!   open:  descriptors · GStreamer · shards · mounts · sockets bound · door · sources
//!   close: nobody is let in · listeners drain · sources stop · shards end
//! ```

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use actix_rt::Arbiter;
use actix_web::web::{Data, ServiceConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::cli;
use crate::config::{self, Config, ConfigErrors, Environment, LogFormat};
use crate::delivery::{self, http::Desk};
use crate::door::acceptor::DoorCounters;
use crate::door::bound::Bound;
use crate::door::certificate::{Flaw, Keyring};
use crate::door::tls::Port;
use crate::door::{Door, ListenAddress};
use crate::engine::crew::{Clock, Crew};
use crate::engine::inbox::Command;
use crate::fanout::departure::Departure;
use crate::ingest;
use crate::metrics;
use crate::mount::Registry;
use crate::supervisor::{Keeper, Puller, Stop};

mod status;

/// The longest that listeners are given to take what is queued for them when the server stops.
const DRAIN_MOST: Duration = Duration::from_secs(10);
/// The longest that pipelines are given to stop, all together.
const STOP_MOST: Duration = Duration::from_secs(5);
/// How often it is looked whether everybody has left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

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
    /// A certificate has gone bad since the configuration was read.
    #[error("cannot speak TLS: {0}")]
    Certificate(#[from] Flaw),
    /// GStreamer is not there.
    #[error("cannot load GStreamer: {0}")]
    GStreamer(#[from] ingest::InitError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A running server was asked and did not answer.
    #[error(transparent)]
    Status(#[from] status::StatusError),
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
/// Log lines that wait for a slow reader of stderr; more are dropped and counted, for no thread may wait for a log.
const LOG_LINES_MOST: usize = 8192;

/// Carries out a command; its exit code.
pub fn run(command: cli::Command) -> ExitCode {
    match obey(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

fn obey(command: cli::Command) -> Result<(), StartError> {
    let from_file = |file| load(|environment| config::load(&config::locate(file, environment), environment, &check_pipeline));
    match command {
        cli::Command::Serve { config } => serve(move || from_file(config)),
        cli::Command::Launch(launch) => serve(move || load(|environment| config::launch(&launch, environment, &check_pipeline))),
        cli::Command::Check { config } => {
            let costs = config::Costs {
                listener_bytes: LISTENER_BYTES,
                connection_bytes: CONNECTION_BYTES,
                socket_buffer_max: config::socket_buffer_max(),
            };
            print(&config::describe(&from_file(config)?, costs))
        }
        cli::Command::Status { url } => print(&status::table(&url)?),
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

/// The output of a command that prints. Who has read enough may close the pipe.
fn print(text: &str) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Log lines go to stderr, by way of a thread of their own.
fn start_log(format: LogFormat) -> tracing_appender::non_blocking::WorkerGuard {
    let (writer, guard) =
        tracing_appender::non_blocking::NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES_MOST).lossy(true).finish(io::stderr());
    let terminal = io::IsTerminal::is_terminal(&io::stderr());
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("FLUMEN_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(terminal);
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    guard
}

/// Runs a server until it is told to stop.
fn serve(load: impl FnOnce() -> Result<Config, StartError> + Send + 'static) -> Result<(), StartError> {
    let system = actix_rt::System::new();
    let served = system.block_on(async {
        // Before all that takes time: a signal that nobody minds ends the process.
        let mut signals = Signals::new()?;
        let config = tokio::select! {
            loaded = actix_rt::task::spawn_blocking(load) => loaded.map_err(io::Error::other)??,
            () = signals.stop() => return Ok(()),
        };
        let _log = start_log(config.log);
        raise_descriptor_limit();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = %config.origin, mounts = config.mounts.len(), "flumen starts");
        for warning in config::warnings(&config) {
            tracing::warn!("{warning}");
        }
        open_house(config, signals).await
    });
    // Dropped, it would wait without a bound for every thread in which an element blocks. They end with the process.
    std::mem::forget(system);
    served
}

async fn open_house(config: Config, mut signals: Signals) -> Result<(), StartError> {
    let clock = Clock::default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let crew = Crew::start(if config.shards == 0 { cores } else { config.shards }, clock)?;
    let registry = Arc::new(Registry::new(Arc::clone(&crew), config.max_listeners));
    let arbiter = Arbiter::new();
    let mounts: Vec<_> = config.mounts.into_iter().map(|settings| registry.open(settings, &arbiter.handle())).collect();

    let raw = mounts.iter().flat_map(|entry| &entry.handle.settings.tcp).map(|address| ListenAddress::Inet(*address));
    let tls = config.door.tls.iter().flat_map(|section| &section.listen).map(|address| ListenAddress::Inet(*address));
    let shoutcast = config.shoutcast.iter().map(|address| ListenAddress::Inet(*address));
    let all: Vec<_> = config.door.listen.iter().cloned().chain(tls).chain(raw).chain(shoutcast).collect();
    let mut bound = Vec::new();
    for address in &config.door.listen {
        let socket = Bound::http(address, &all).map_err(|cause| StartError::Listen { address: address.to_string(), cause })?;
        tracing::info!(%address, "listening");
        bound.push(socket);
    }
    let keyring = Arc::new(Keyring::default());
    for section in &config.door.tls {
        let port = Port::open(section, &keyring)?;
        for address in &section.listen {
            let socket = Bound::https(*address, &all, Arc::clone(&port));
            let socket = socket.map_err(|cause| StartError::Listen { address: address.to_string(), cause })?;
            tracing::info!(%address, plain_too = section.auto, "listening for TLS");
            bound.push(socket);
        }
    }
    for entry in &mounts {
        for address in &entry.handle.settings.tcp {
            let take = delivery::raw::take(&registry, entry);
            let socket = Bound::raw(*address, &all, take).map_err(|cause| StartError::Listen { address: address.to_string(), cause })?;
            tracing::info!(%address, mount = %entry.handle.settings.path, "listening for raw TCP");
            bound.push(socket);
        }
    }
    for address in &config.shoutcast {
        let address = ListenAddress::Inet(*address);
        let socket = Bound::shoutcast(&address, &all).map_err(|cause| StartError::Listen { address: address.to_string(), cause })?;
        tracing::info!(%address, "listening for SHOUTcast encoders");
        bound.push(socket);
    }
    let doormen = Arc::new(DoorCounters::default());
    let desk = Desk { registry: Arc::clone(&registry), patience: config.door.header_timeout };
    let started_at = SystemTime::now();
    let house = Data::new(admin::House { registry: Arc::clone(&registry), started_at });
    let measured = Data::new(metrics::Measured {
        registry: Arc::clone(&registry),
        door: Arc::clone(&doormen),
        keyring: Arc::clone(&keyring),
        started_at,
        reload: Arc::new(metrics::ReloadState::loaded_at(started_at)),
    });
    let last = delivery::http::routes(&desk);
    let shoutcast_mount = config.shoutcast_mount.as_ref().map(ToString::to_string);
    let push = ingest::push::Desk::new(Arc::clone(&registry), config.door.header_timeout, shoutcast_mount);
    let (encoders, greeter) = (ingest::push::routes(&push), ingest::push::greeter(&push));
    let seats = Arc::clone(registry.places());
    let routes = move |config: &mut ServiceConfig| {
        config.app_data(house.clone()).app_data(measured.clone());
        admin::routes(config);
        metrics::routes(config);
        encoders(config);
        last(config);
    };
    let mut door = Door::open(&config.door, bound, doormen, clock, Box::new(move || seats.taken()), routes, greeter)?;
    let keepers: Vec<_> =
        mounts.iter().filter_map(|entry| Some(Keeper::new(entry.clone(), entry.handle.settings.pipeline.as_deref()?).start())).collect();

    let pullers: Vec<_> = mounts
        .iter()
        .filter(|entry| !entry.handle.settings.relay.is_empty())
        .map(|entry| Puller::new(entry.clone(), ingest::relay::upstreams(&entry.handle.settings)).start())
        .collect();

    if !config.door.tls.is_empty() {
        drop(actix_rt::spawn(keyring.keep_fresh()));
    }
    signals.stop().await;
    tracing::info!("stopping: listeners are sent what is queued for them");
    registry.drain();
    crew.tell_all(|| Command::Drain { slot: None, why: Departure::ShuttingDown });
    let drained = tokio::time::timeout(DRAIN_MOST, async {
        while registry.places().taken() > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    });
    tokio::select! {
        _ = drained => {}
        () = signals.stop() => tracing::warn!("told twice: stopping at once"),
    }
    crew.tell_all(|| Command::Clear { why: Departure::ShuttingDown });
    door.close();
    pullers.iter().for_each(|puller| puller.do_send(Stop));
    let stopping: Vec<_> = keepers.into_iter().map(|keeper| actix_rt::spawn(keeper.send(Stop))).collect();
    let stopped = tokio::time::timeout(STOP_MOST, async {
        for one in stopping {
            let _ = one.await; // a panic in an element's stop: we are leaving anyway
        }
    });
    tokio::select! {
        stopped = stopped => if stopped.is_err() {
            tracing::warn!("a pipeline does not stop; it ends with the process");
        },
        () = signals.stop() => tracing::warn!("told twice: stopping at once"),
    }
    crew.stop();
    tracing::info!("stopped");
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until the server is told to stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => tracing::warn!("HUP: this version cannot reload; nothing has changed"),
            }
        }
    }
}

/// Each listener needs a descriptor, and the usual soft limit of 1024 is a relic.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!("cannot raise the limit of descriptors");
    }
}
