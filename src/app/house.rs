//! The running house, and what changes in it: new configurations, orders, and what a signal asks for.
//!
//! ```text
//!   HUP ──────────────┐
//!   POST /api/v1/… ───┴▶ Reloads: one at a time, storms become one ─▶ read and checked ─▶ House::apply: sockets, mounts, sources
//! ```
//! - A configuration that is wrong, or asks for a socket that cannot be had, changes nothing.
//! - Nothing is applied twice: [`House::apply`] is the only place that changes a running house, and it does not wait for anything.

mod sources;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use actix::prelude::*;

use super::StartError;
use super::reloads::Reloads;
use super::sockets::{Maker, Moves};
use super::store::Store;
use crate::acme::{self, Acme};
use crate::admin;
use crate::admin::operate::{ChangedMount, Draining, Fault, NotReloaded, Order, Reloaded, SourceAct};
use crate::bouncer::{Bouncer, Whereabouts};
use crate::chronicle::{Event, Kind};
use crate::config::{self, Config, ConfigErrors};
use crate::delivery::peers::{self, Peers};
use crate::directory::{self, Kept};
use crate::door::certificate::Keyring;
use crate::door::patrol::{self, Patrol};
use crate::door::{self, Door};
use crate::engine::crew::Crew;
use crate::engine::inbox::Command;
use crate::fanout::departure::Departure;
use crate::ingest;
use crate::metrics::Measured;
use crate::mount::{self, Registry};
use crate::supervisor::mirror::{self, Mirror};
use crate::supervisor::peers::Asker;
use crate::supervisor::{Keeper, Puller, Retire};
use crate::units::MountPath;

/// Keys outside of the mounts that hold without a new start, and whole sections. All others need one.
const LIVE: [&str; 25] = [
    "server.listen",
    "server.tls.",
    "server.max_listeners",
    "server.max_connections",
    "server.max_listeners_per_address",
    "server.max_listeners_per_user",
    "server.max_connections_per_address",
    "server.max_bandwidth",
    "server.max_join_rate",
    "server.trusted_proxies",
    "server.proxy_protocol",
    "server.banned_file",
    "server.memory_limit",
    "server.redirect_peers",
    "server.redirect_from",
    "address_group.",
    "admin.",
    "log.access",
    "log.access_format",
    "metrics.",
    "push.",
    "relay.",
    "webhook.",
    "mirror.",
    "directory.",
];

/// Whether a key holds without a new start.
fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| key == *live || live.ends_with('.') && key.starts_with(live))
}

/// Errors of one configuration that are logged; the answer has all of them.
const ERRORS_LOGGED: usize = 20;

/// What runs, and what it was told.
pub(super) struct House {
    /// What holds now.
    pub(super) config: Config,
    pub(super) registry: Arc<Registry>,
    pub(super) crew: Arc<Crew>,
    /// Where mounts live.
    pub(super) arbiter: actix_rt::ArbiterHandle,
    pub(super) door: Door,
    pub(super) keepers: HashMap<MountPath, Addr<Keeper>>,
    pub(super) pullers: HashMap<MountPath, Addr<Puller>>,
    /// By the address of the server that is mirrored.
    pub(super) mirrors: HashMap<String, Addr<Mirror>>,
    pub(super) peers: Arc<Peers>,
    /// By the address of the server that is asked.
    pub(super) askers: HashMap<Arc<str>, Addr<Asker>>,
    /// Those that are told which mounts there are.
    pub(super) directories: Vec<Kept>,
    pub(super) measured: Arc<Measured>,
    /// What operators and panels look at.
    pub(super) looked_at: Arc<admin::House>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) patrol: Arc<Patrol>,
    pub(super) memory_limit: Arc<super::memory::Limit>,
    pub(super) acme: Acme,
    pub(super) push: ingest::push::Desk,
    pub(super) store: Store,
}

/// Gives the bouncer the rules of this configuration. Returns what is wrong with their files, which were good a moment ago.
pub(super) fn settle_bouncer(bouncer: &Bouncer, config: &Config) -> Vec<String> {
    let inet = config.door.listen.iter().find_map(|address| match address {
        door::ListenAddress::Inet(address) => Some(address.port()),
        door::ListenAddress::Unix(_) => None,
    });
    let at = Whereabouts {
        server: config.admin.hostname.clone().unwrap_or_else(|| Whereabouts::default().server),
        port: inet.unwrap_or(Whereabouts::default().port),
    };
    bouncer.settle(config.settings_of_mounts().filter_map(|mount| mount.listen_auth.as_deref()), at)
}

impl House {
    /// Mirrors the servers that are to be mirrored, and no others. Some mounts may be open already.
    pub(super) fn mirror(&mut self, wanted: &[mirror::Settings], mut reopened: mirror::Reopened) {
        self.mirrors.retain(|address, mirror| {
            let stays = wanted.iter().any(|settings| settings.address() == *address);
            if !stays {
                mirror.do_send(Retire);
            }
            stays
        });
        for settings in wanted {
            match self.mirrors.get(&settings.address()) {
                Some(mirror) => mirror.do_send(mirror::Settle(settings.clone())),
                None => {
                    let (registry, arbiter) = (Arc::clone(&self.registry), self.arbiter.clone());
                    let mirror = Mirror::new(settings.clone(), registry, arbiter, config::may_be_a_mount)
                        .keeping(reopened.remove(&settings.address()).unwrap_or_default());
                    self.mirrors.insert(settings.address(), mirror.start());
                }
            }
        }
    }

    /// Newcomers are sent to these servers, and to no others.
    pub(super) fn befriend(&mut self, wanted: &peers::Settings) {
        self.peers.settle(wanted);
        self.askers.retain(|address, asker| {
            let stays = wanted.peers.contains(address);
            if !stays {
                asker.do_send(Retire);
            }
            stays
        });
        for address in &wanted.peers {
            let asker = || Asker::new(address, &self.peers, &self.registry).start();
            self.askers.entry(Arc::clone(address)).or_insert_with(asker);
        }
    }

    /// Public mounts are announced to these directories, and to no others.
    pub(super) fn announce(&mut self, wanted: &[directory::Settings]) {
        let stays = |kept: &Kept| wanted.contains(kept.settings());
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.directories).into_iter().partition(stays);
        self.directories = stay;
        go.into_iter().for_each(|kept| drop(actix_rt::spawn(kept.close()))); // it may take its time: nobody waits for it
        for settings in wanted {
            if self.directories.iter().all(|kept| kept.settings() != settings) {
                self.directories.push(Kept::start(settings.clone(), Arc::clone(&self.registry)));
            }
        }
    }

    /// From now on publishers make mounts of these.
    pub(super) fn host(&self, patterns: &[mount::Pattern]) {
        self.registry.host(patterns.to_vec(), &self.arbiter, config::may_be_a_mount);
    }

    /// A mount is to be opened where one may be mirrored, or was made by a publisher: that one is closed, for what is declared here
    /// comes first.
    fn make_way(&self, path: &MountPath) {
        if self.registry.close(path.as_str()).is_some() {
            self.mirrors.values().for_each(|mirror| mirror.do_send(mirror::GiveWay(path.clone())));
        }
    }

    /// Does what an operator asks for, but for reloads.
    pub(super) fn obey(&mut self, order: Order, reloads: &mut Reloads) {
        match order {
            Order::Reload(reply) => reloads.ask(Some(reply)),
            Order::Upgrade(reply) => {
                let _ = reply.send(Err("another upgrade is under way".to_owned())); // carried out by whoever may end all of this
            }
            Order::Drain(reply) => {
                let listeners = self.registry.places().taken();
                tracing::warn!(listeners, "draining: nobody is let in any more");
                self.drain();
                let _ = reply.send(Draining { listeners }); // who asked may have gone; it is done
            }
            Order::Source { path, act, reply } => {
                let done = self.source(&path, act);
                if act != SourceAct::Stop || done.is_err() {
                    let _ = reply.send(done.map(drop));
                    return;
                }
                actix_rt::spawn(async move {
                    if let Ok(Some(stopping)) = done {
                        stopping.await;
                    }
                    let _ = reply.send(Ok(()));
                });
            }
        }
    }

    /// Nobody is let in any more; everybody is sent what is queued.
    pub(super) fn drain(&self) {
        self.registry.drain();
        self.crew.tell_all(|| Command::Drain { slot: None, why: Departure::ShuttingDown });
    }

    /// Says what has come of a reload, in the log and the metrics.
    pub(super) fn reloaded(&mut self, loaded: Result<Config, StartError>) -> Result<Reloaded, NotReloaded> {
        let outcome = loaded.map_err(|error| refused(&error)).and_then(|config| self.apply(config));
        self.measured.reload.note(outcome.is_ok(), SystemTime::now());
        self.chronicle(&outcome);
        match &outcome {
            Ok(done) => {
                let changed: Vec<_> = done.changed.iter().map(|change| format!("{} ({})", change.mount, change.keys.join(", "))).collect();
                tracing::info!(configuration = %self.config.origin, added = ?done.added, removed = ?done.removed, ?changed,
                    settings = ?done.settings, "configuration reloaded");
                if !done.needs_restart.is_empty() {
                    tracing::warn!(keys = ?done.needs_restart, "these keys hold only after a new start");
                }
                done.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            Err(refused) => {
                for line in refused.error.lines().take(ERRORS_LOGGED) {
                    tracing::error!(error = line, "the configuration was not reloaded; nothing has changed");
                }
            }
        }
        outcome
    }

    /// Tells those who watch what has come of a reload.
    fn chronicle(&self, outcome: &Result<Reloaded, NotReloaded>) {
        let chronicle = &self.looked_at.chronicle;
        chronicle.note_reload(outcome.is_ok());
        chronicle.tell(&match outcome {
            Ok(done) => {
                let mounts = done.added.len() + done.removed.len() + done.changed.len();
                let says = format!("the configuration was read: {mounts} mounts and {} other keys changed", done.settings.len());
                Event::now(Kind::Reload, None, says).with("successful", true)
            }
            Err(refused) => {
                let says = refused.error.lines().next().unwrap_or_default();
                Event::now(Kind::Reload, None, format!("the configuration is wrong, and nothing has changed: {says}"))
                    .with("successful", false)
            }
        });
    }

    /// Makes the house what this configuration says, or leaves it as it is.
    fn apply(&mut self, new: Config) -> Result<Reloaded, NotReloaded> {
        let difference = config::difference(&self.config, &new);
        let mut done = Reloaded { warnings: config::warnings(&new), ..Reloaded::default() };
        // What can be refused comes first: sockets, and files.
        acme::stand_in(&new.acme).map_err(|cause| self.unmoved(&StartError::Acme(cause)))?;
        let moves = Maker::new(&self.registry, &self.patrol, &self.keyring)
            .moves(Some(&self.config), &new)
            .map_err(|error| self.unmoved(&error))?;
        self.open_log(&new)?;

        for path in difference.removed {
            self.registry.close(path.as_str());
            self.stop(&path);
            done.removed.push(path.to_string());
        }
        self.host(&new.patterns);
        for settings in difference.added {
            if settings.push.is_some() && self.registry.adopt(settings.clone()) {
                done.added.push(settings.path.to_string());
                continue;
            }
            self.make_way(&settings.path);
            match self.registry.open(settings.clone(), &self.arbiter) {
                Ok(_) => {
                    self.keep(&settings);
                    done.added.push(settings.path.to_string());
                }
                Err(why) => done.warnings.push(format!("mount {}: {why}", settings.path)),
            }
        }
        for (settings, keys) in difference.changed {
            if self.change(&settings, &keys) {
                done.sources.push(settings.path.to_string());
            }
            done.changed.push(ChangedMount { mount: settings.path.to_string(), keys });
        }
        done.added.extend(difference.patterns.added);
        done.removed.extend(difference.patterns.removed);
        done.changed.extend(difference.patterns.changed.into_iter().map(|(mount, keys)| ChangedMount { mount, keys }));
        self.move_sockets(moves, &mut done);
        self.acme.settle(&new.acme);
        self.push.settle(new.shoutcast_mount.as_ref());
        self.registry.limit(new.max_listeners, &new.limits, &new.groups);
        self.door.set_max_connections(new.door.max_connections);
        self.patrol.settle(&new.door.patrol);
        self.memory_limit.set(new.memory_limit);
        self.looked_at.settle(new.admin.clone());
        self.measured.settle(new.metrics);
        if new.mirrors != self.config.mirrors {
            self.mirror(&new.mirrors, mirror::Reopened::new());
        }
        self.befriend(&new.peers);
        self.announce(&new.directories);
        done.warnings.extend(settle_bouncer(&self.registry.witnesses().bouncer, &new));
        if let Err(error) = self.registry.witnesses().webhooks.settle(&new.webhooks) {
            done.warnings.push(format!("a webhook cannot be told of anything: {error}"));
        }
        (done.settings, done.needs_restart) = difference.sections.into_iter().partition(|key| is_live(key));
        // What needs a new start is what it was, and is said again next time.
        let door = door::Settings {
            listen: new.door.listen,
            tls: new.door.tls,
            max_connections: new.door.max_connections,
            patrol: patrol::Settings { state_dir: self.config.door.patrol.state_dir.clone(), ..new.door.patrol },
            ..self.config.door.clone()
        };
        let log = config::Log { format: self.config.log.format, ..new.log };
        self.config = Config {
            mounts: new.mounts,
            patterns: new.patterns,
            mirrors: new.mirrors,
            directories: new.directories,
            acme: new.acme,
            max_listeners: new.max_listeners,
            limits: new.limits,
            peers: new.peers,
            groups: new.groups,
            memory_limit: new.memory_limit,
            door,
            log,
            metrics: new.metrics,
            webhooks: new.webhooks,
            shoutcast: new.shoutcast,
            shoutcast_mount: new.shoutcast_mount,
            admin: new.admin,
            origin: new.origin,
            ..self.config.clone()
        };
        Ok(done)
    }

    /// What is told of sockets that cannot be had.
    fn unmoved(&self, error: &StartError) -> NotReloaded {
        const ADDRESS: &str = "name an address that is free; one that overlaps with another that is given up needs a new start";
        let (key, value, remedy) = match error {
            StartError::Listen { address, .. } => ("listen", address.clone(), ADDRESS),
            StartError::Acme(_) => ("acme", String::new(), "name a folder that flumen may write"),
            _ => ("certificates", String::new(), "name a certificate and its key, which flumen may read"),
        };
        NotReloaded {
            error: format!("{error}; nothing has changed"),
            errors: vec![Fault {
                place: self.config.origin.to_string(),
                key: key.to_owned(),
                value,
                problem: error.to_string(),
                remedy: remedy.to_owned(),
            }],
        }
    }

    /// The access log goes where the new configuration says.
    fn open_log(&self, new: &Config) -> Result<(), NotReloaded> {
        if (&new.log.access, new.log.access_format) == (&self.config.log.access, self.config.log.access_format) {
            return Ok(());
        }
        self.registry.witnesses().journal.redirect(&super::access_log(&new.log)).map_err(|cause| NotReloaded {
            error: format!("cannot open the access log {}: {cause}; nothing has changed", new.log.access.shown()),
            errors: vec![Fault {
                place: new.origin.to_string(),
                key: "log.access".to_owned(),
                value: new.log.access.shown(),
                problem: cause.to_string(),
                remedy: "name a file that flumen may write, in a folder that is there".to_owned(),
            }],
        })
    }

    /// Accepts where the new configuration says, and nowhere else.
    fn move_sockets(&mut self, moves: Moves, done: &mut Reloaded) {
        for address in &moves.close {
            self.door.leave(address);
            self.store.forget(address);
            done.closed.push(address.to_string());
        }
        for bound in moves.open {
            tracing::info!(address = %bound.address(), purpose = ?bound.purpose(), "listening");
            done.opened.push(bound.address().to_string());
            self.store.keep(&bound);
            self.door.listen(bound);
        }
        for (address, purpose, proxied) in moves.repurpose {
            self.door.repurpose(address, purpose, proxied);
        }
    }
}

/// What is told of a configuration that could not be read.
pub(super) fn refused(error: &StartError) -> NotReloaded {
    let errors = match error {
        StartError::Config(errors) => faults(errors),
        _ => Vec::new(),
    };
    NotReloaded { error: error.to_string(), errors }
}

fn faults(errors: &ConfigErrors) -> Vec<Fault> {
    let fault = |error: &config::ConfigError| Fault {
        place: error.place.to_string(),
        key: error.key.clone(),
        value: error.value.clone(),
        problem: error.problem.clone(),
        remedy: error.remedy.clone(),
    };
    errors.iter().map(fault).collect()
}
