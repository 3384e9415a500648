//! The wiring, and nothing else: which rooms there are, who knows whom, and in what order they open and close.
//!
//! ```text
//!   open:  descriptors · GStreamer · shards · mounts · sockets bound · door · sources
//!   close: nobody is let in · listeners drain · sources stop · shards end
//! ```

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_rt::Arbiter;
use actix_web::web::{Data, ServiceConfig};
use tokio::sync::{mpsc, oneshot};
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::acme::{self, Acme};
use crate::admin;
use crate::admin::operate::{self, Order};
use crate::bouncer::Bouncer;
use crate::chronicle::{self, Line, Lines};
use crate::config::{self, Config, Environment, LogFormat};
use crate::delivery::peers::Peers;
use crate::delivery::{self, http::Desk};
use crate::door::Door;
use crate::door::acceptor::DoorCounters;
use crate::door::certificate::Keyring;
use crate::door::inherited::Inherited;
use crate::door::patrol::Patrol;
use crate::engine::admission::SAMPLE_EVERY;
use crate::engine::crew::{Clock, Crew};
use crate::engine::inbox::Command;
use crate::engine::pulse::{Pulses, Thread};
use crate::fanout::departure::Departure;
use crate::ingest;
use crate::journal::{self, Journal};
use crate::metrics;
use crate::mount::{Registry, Witnesses};
use crate::supervisor::mirror::Reopening;
use crate::supervisor::{Stop, stand_in};
use crate::webhook::Webhooks;

mod ask;
mod command;
mod doctor;
mod house;
mod leaving;
mod memory;
mod privileges;
mod reloads;
mod remote;
mod service;
mod sign;
mod signals;
mod sockets;
mod status;
mod store;
mod tail;
mod upgrade;

pub use command::{LISTENER_BYTES, StartError, run};
use house::House;
use privileges::Descent;
use reloads::{Load, Reloads};
use signals::{Signals, Told};
use store::Store;
use upgrade::heir::{Estate, Heir};
use upgrade::{NotUpgraded, Program};

/// The longest that listeners are given to take what is queued for them when the server stops.
const DRAIN_MOST: Duration = Duration::from_secs(10);
/// The longest that pipelines are given to stop, all together.
const STOP_MOST: Duration = Duration::from_secs(5);
/// The longest that the last lines of the access log may take.
const LOG_MOST: Duration = Duration::from_secs(1);
/// The longest that backends are told who has left, and webhooks what has happened.
const TELL_MOST: Duration = Duration::from_secs(3);
/// How often it is looked whether everybody has left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Log lines that wait for a slow reader of stderr; more are dropped and counted, for no thread may wait for a log.
const LOG_LINES_MOST: usize = 8192;
/// As much as one of them is counted with: what clients say is cut in them, and the longest are what elements of pipelines say.
const LOG_LINE_BYTES: usize = 4096;

/// Log lines go to stderr, by way of a thread of their own, and to those who watch.
fn start_log(format: LogFormat, lines: Lines) -> (WorkerGuard, ErrorCounter) {
    let (writer, guard) =
        tracing_appender::non_blocking::NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES_MOST).lossy(true).finish(io::stderr());
    let dropped = writer.error_counter();
    let terminal = io::IsTerminal::is_terminal(&io::stderr());
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("FLUMEN_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let written = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(terminal);
    let written = if json { written.json().flatten_event(true).boxed() } else { written.boxed() };
    tracing_subscriber::registry().with(written.and_then(tail::Tail(lines)).with_filter(filter)).init();
    (guard, dropped)
}

/// Where the access log goes.
fn access_log(log: &config::Log) -> journal::Settings {
    let sink = match &log.access {
        config::Access::Auto if io::IsTerminal::is_terminal(&io::stdout()) => journal::Sink::None,
        config::Access::Auto | config::Access::Stdout => journal::Sink::Stdout,
        config::Access::None => journal::Sink::None,
        config::Access::File(path) => journal::Sink::File(path.clone()),
    };
    journal::Settings { sink, form: log.access_format }
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs a server until it is told to stop.
fn serve(load: Load, arguments: Vec<OsString>, heir: Option<Heir>) -> Result<(), StartError> {
    // Before there are other threads, and programs that would be handed them too (GStreamer looks at its plugins in one).
    privileges::renounce();
    let activated = Inherited::from_service_manager();
    let program = Program::of_process(arguments)?;
    let system = actix_rt::System::new();
    let served = system.block_on(async {
        // Before all that takes time: a signal that nobody minds ends the process.
        let mut signals = Signals::new()?;
        let first = Arc::clone(&load);
        let config = tokio::select! {
            loaded = actix_rt::task::spawn_blocking(move || first()) => loaded.map_err(io::Error::other)??,
            () = signals.stop() => return Ok(()),
        };
        let (lines, said) = Lines::new();
        let (_log, dropped) = start_log(config.log.format, lines);
        raise_descriptor_limit();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = %config.origin, mounts = config.mounts.len(), "flumen starts");
        let strangers = Environment::of_process().strangers();
        if !strangers.is_empty() {
            tracing::warn!(variables = %strangers.join(" "), "variables that name no key are left alone: a key is FLUMEN_SECTION__KEY, with two underscores");
        }
        for warning in config::warnings(&config) {
            tracing::warn!("{warning}");
        }
        open_house(config, load, signals, (dropped, said), program, (heir, activated)).await
    });
    // Dropped, it would wait without a bound for every thread in which an element blocks. They end with the process.
    std::mem::forget(system);
    served
}

async fn open_house(
    config: Config,
    load: Load,
    mut signals: Signals,
    (events, said): (ErrorCounter, mpsc::Receiver<Line>),
    program: Program,
    (heir, mut activated): (Option<Heir>, Inherited),
) -> Result<(), StartError> {
    let descent = Descent::begin(config.identity.as_ref())?;
    let access = access_log(&config.log);
    let journal = Journal::start(&access).map_err(|cause| StartError::AccessLog { path: config.log.access.clone(), cause })?;
    let webhooks = Arc::new(Webhooks::default());
    webhooks.settle(&config.webhooks)?;
    let clock = heir.as_ref().map_or_else(Clock::default, |heir| heir.clock);
    let crew = Crew::start(if config.shards == 0 { cores() } else { config.shards }, clock)?;
    let bouncer = Arc::new(Bouncer::default());
    house::settle_bouncer(&bouncer, &config).iter().for_each(|wrong| tracing::error!("{wrong}; what rests on it lets nobody in"));
    let witnesses = Witnesses { journal: Arc::clone(&journal), webhooks, bouncer: Arc::clone(&bouncer), hearsay: Arc::default() };
    let registry = Arc::new(Registry::new(Arc::clone(&crew), config.max_listeners).with_witnesses(witnesses));
    registry.limit(config.max_listeners, &config.limits, &config.groups);
    let patrol = Patrol::new(&config.door.patrol);
    let arbiter = Arbiter::new();
    for settings in &config.mounts {
        registry.open(settings.clone(), &arbiter.handle()).map_err(io::Error::other)?;
    }
    registry.host(config.patterns.clone(), &arbiter.handle(), config::may_be_a_mount);

    let keyring = Arc::new(Keyring::default());
    let doormen = Arc::new(DoorCounters::default());
    let mut estate = match heir {
        Some(heir) => {
            let mirrored = Reopening::new(config.mirrors.clone(), Arc::clone(&registry), arbiter.handle(), config::may_be_a_mount);
            Some(Estate::receive(heir, &registry, mirrored, (&doormen, &patrol)).await?)
        }
        None => None,
    };
    let inherited = estate.as_mut().map(Estate::sockets).unwrap_or_default();
    acme::stand_in(&config.acme).map_err(StartError::Acme)?;
    let mut store = Store::of_service_manager();
    activated.keep_only(&sockets::addresses(&config));
    store.forget_all(activated.unwanted());
    let made =
        sockets::Maker::new(&registry, &patrol, &keyring).inheriting(inherited).binding(&descent, &mut activated).moves(None, &config);
    let mut bound = made?.open;
    descent.finish()?;
    store.prepare(&bound);
    activated.left().for_each(|said| tracing::warn!("a socket from the service manager: {said}"));
    bound.iter().for_each(|bound| tracing::info!(address = %bound.address(), purpose = ?bound.purpose(), "listening"));
    let peers = Arc::new(Peers::default());
    peers.settle(&config.peers);
    let desk = Desk {
        registry: Arc::clone(&registry),
        patience: config.door.header_timeout,
        patrol: Arc::clone(&patrol),
        peers: Arc::clone(&peers),
    };
    let (orders, mut told) = operate::orders();
    let started_at = estate.as_ref().and_then(Estate::started_at).unwrap_or_else(SystemTime::now);
    let looked_at = admin::House::new(config.admin.clone(), Arc::clone(&registry), (Arc::clone(&doormen), Arc::clone(&patrol)), orders);
    let looked_at = Data::new(looked_at.running_since(started_at));
    let pulses = Arc::new(Pulses::default());
    let measured = Data::new(metrics::Measured {
        registry: Arc::clone(&registry),
        door: Arc::clone(&doormen),
        patrol: Arc::clone(&patrol),
        peers: Arc::clone(&peers),
        keyring: Arc::clone(&keyring),
        started_at,
        reload: Arc::new(metrics::ReloadState::loaded_at(SystemTime::now())),
        upgrades: Arc::default(),
        pulses: Arc::clone(&pulses),
        events: Some(events.clone()),
        events_before: 0.into(),
        icecast_exporter: config.metrics.icecast_exporter.into(),
    });
    let measures = measured.clone().into_inner();
    let written = Data::from(Arc::clone(&journal));
    let viewed = looked_at.clone().into_inner();
    let last = delivery::http::routes(&desk);
    let shoutcast_mount = config.shoutcast_mount.as_ref().map(ToString::to_string);
    let push = ingest::push::Desk::new(Arc::clone(&registry), config.door.header_timeout, shoutcast_mount);
    let (encoders, greeter) = (ingest::push::routes(&push), ingest::push::greeter(&push));
    let seats = Arc::clone(registry.places());
    let acme = Acme::default();
    let proofs = acme::routes(acme.proofs());
    let routes = move |config: &mut ServiceConfig| {
        config.app_data(looked_at.clone()).app_data(measured.clone()).app_data(written.clone());
        admin::routes(config);
        metrics::routes(config);
        proofs(config);
        encoders(config);
        last(config);
    };
    if let Some(estate) = &mut estate {
        let encoders = estate.take(&registry, &mut bound, &measures).await?;
        ingest::push::go_on(&push, encoders, &doormen, &patrol);
    }
    let door = Door::open(&config.door, bound, (Arc::clone(&doormen), &patrol), clock, Box::new(move || seats.taken()), routes, greeter)?;
    let arbiter_handle = arbiter.handle();
    drop(actix_rt::spawn(Arc::clone(&pulses).feel(Thread::Main)));
    for (thread, handle) in [(Thread::Mounts, arbiter.handle())].into_iter().chain(door.workers().map(|worker| (Thread::Http, worker))) {
        handle.spawn(Arc::clone(&pulses).feel(thread));
    }
    let memory_limit = memory::Limit::new(config.memory_limit);
    drop(actix_rt::spawn(memory::watch(Arc::clone(&patrol), Arc::clone(&memory_limit))));
    drop(actix_rt::spawn(measure(Arc::clone(&registry))));
    let mut house = House {
        config,
        registry: Arc::clone(&registry),
        crew: Arc::clone(&crew),
        arbiter: arbiter_handle,
        door,
        keepers: HashMap::new(),
        pullers: HashMap::new(),
        mirrors: HashMap::new(),
        peers,
        askers: HashMap::new(),
        directories: Vec::new(),
        measured: Arc::clone(&measures),
        looked_at: viewed,
        keyring: Arc::clone(&keyring),
        patrol: Arc::clone(&patrol),
        memory_limit: Arc::clone(&memory_limit),
        acme,
        push,
        store,
    };
    let mut stopped = false;
    let reopened = estate.as_mut().map(|estate| std::mem::take(&mut estate.reopened)).unwrap_or_default();
    if let Some(estate) = estate {
        tokio::select! {
            freed = estate.free(Arc::clone(&measures)) => freed?,
            () = signals.stop() => stopped = true,
        }
    }
    house.config.mounts.clone().iter().for_each(|mount| house.keep(mount));
    house.mirror(&house.config.mirrors.clone(), reopened);
    house.befriend(&house.config.peers.clone());
    house.announce(&house.config.directories.clone());
    drop(actix_rt::spawn(stand_in::keep(Arc::clone(&registry))));
    drop(actix_rt::spawn(Arc::clone(&keyring).keep_fresh()));
    let watched = chronicle::Watched {
        registry: Arc::clone(&registry),
        keyring: Arc::clone(&keyring),
        events_dropped: Box::new(move || events.dropped_lines() as u64),
        lines: said,
    };
    drop(actix_rt::spawn(chronicle::watch(Arc::clone(&house.looked_at.chronicle), watched)));
    drop(actix_rt::spawn(Arc::clone(&bouncer).keep_fresh()));
    house.acme.settle(&house.config.acme);

    let mut reloads = Reloads::new(load);
    house.store.keep_waiting();
    service::ready();
    service::feed_watchdog(&crew);
    let mut handed_over = None;
    while !stopped && handed_over.is_none() {
        let mut wanted = None;
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop => break,
                Told::Upgrade => wanted = Some(oneshot::channel().0),
                Told::Reload => {
                    refresh(&journal, &keyring, &bouncer);
                    reloads.ask(None);
                }
            },
            Some(order) = told.recv() => match order {
                Order::Upgrade(reply) => wanted = Some(reply),
                order => house.obey(order, &mut reloads),
            },
            loaded = reloads.read() => {
                let outcome = house.reloaded(loaded);
                reloads.answer(&outcome);
                service::ready();
            }
        }
        if let Some(reply) = wanted {
            let old = upgrade::Old {
                registry: Arc::clone(&registry),
                crew: Arc::clone(&crew),
                lender: house.door.lender(),
                measured: Arc::clone(&measures),
            };
            match upgrade::attempt(&program, old, &mut signals).await {
                Ok(done) => {
                    service::passed_on(done.pid);
                    let _ = reply.send(Ok(done.told())); // who asked may have gone
                    handed_over = Some(done);
                }
                Err(NotUpgraded::Stopping) => stopped = true,
                Err(error) => {
                    measures.upgrades.note_failure();
                    tracing::error!(%error, "not upgraded; this process goes on as it was");
                    let _ = reply.send(Err(error.to_string()));
                }
            }
        }
    }
    if let Some(mut done) = handed_over {
        done.pass_on_latecomers()?;
        leaving::leave(house, done).await;
        return Ok(());
    }
    service::stopping();
    tracing::info!("stopping: listeners are sent what is queued for them");
    house.drain();
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
    house.door.close();
    house.pullers.values().for_each(|puller| puller.do_send(Stop));
    let leaving: Vec<_> = house.directories.into_iter().map(|directory| actix_rt::spawn(directory.close())).collect();
    let stopping: Vec<_> = house.keepers.into_values().map(|keeper| actix_rt::spawn(keeper.send(Stop))).collect();
    let stopped = tokio::time::timeout(STOP_MOST, async {
        for one in stopping {
            let _ = one.await; // a panic in an element's stop: we are leaving anyway
        }
        for one in leaving {
            let _ = one.await; // it has said what it had to say, or could not
        }
    });
    tokio::select! {
        stopped = stopped => if stopped.is_err() {
            tracing::warn!("a pipeline does not stop, or a directory does not answer; what is left ends with the process");
        },
        () = signals.stop() => tracing::warn!("told twice: stopping at once"),
    }
    crew.stop();
    leaving::say_the_last(&registry, move || bouncer.finish(TELL_MOST)).await;
    journal.finish(LOG_MOST);
    patrol.finish(LOG_MOST);
    tracing::info!("stopped");
    Ok(())
}

/// Measures what is sent, for limits of bandwidth.
async fn measure(registry: Arc<Registry>) {
    let mut every = tokio::time::interval(SAMPLE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        registry.measure();
    }
}

/// What HUP asks for beside a new configuration: files that somebody has replaced are opened again.
fn refresh(journal: &Journal, keyring: &Arc<Keyring>, bouncer: &Arc<Bouncer>) {
    journal.reopen();
    let (keyring, bouncer) = (Arc::clone(keyring), Arc::clone(bouncer));
    drop(actix_rt::task::spawn_blocking(move || {
        keyring.reload();
        bouncer.reload();
    }));
}

/// Each listener needs a descriptor, and the usual soft limit of 1024 is a relic.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!("cannot raise the limit of descriptors");
    }
}
