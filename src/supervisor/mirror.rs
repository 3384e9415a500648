//! Keeps what another server has as mounts of this one: asks it again and again which those are, opens what has come, and closes what
//! has been gone for a while.
//!
//! - Each mount it opens is a relay of its own, kept by a [`Puller`]. What is declared here, or came from elsewhere, is left alone.
//! - A server that does not answer costs nothing: what was there stays, and its relays try by themselves. It is said once.
//! - It opens none beyond [`Settings::most`], whatever the other server says. Where that was more before, those that are open stay.
//! - When another process takes over, what the old one had opened is there before anybody is asked ([`Reopening`]): it has listeners.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{Puller, Retire, wait};
use crate::handover;
use crate::ingest::relay::{Upstream, mounts_of, upstreams};
use crate::mount::registry::Entry;
use crate::mount::{self, Registry, RelaySettings};
use crate::units::MountPath;

/// What is kept from another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server: one address, and who asks there.
    pub server: RelaySettings,
    /// How often it is asked.
    pub interval: Duration,
    /// Most mounts.
    pub most: usize,
    /// What the mounts are, but for their paths and where they come from.
    pub mounts: mount::Settings,
}

impl Settings {
    /// Its address, without user and password.
    pub fn address(&self) -> String {
        self.upstream().map(|server| server.to_string()).unwrap_or_default()
    }

    fn upstream(&self) -> Option<Upstream> {
        upstreams(&self.server).into_iter().next()
    }

    /// Where a mount comes from.
    fn upstream_of(&self, path: &MountPath) -> Option<Upstream> {
        self.upstream().map(|server| server.at(path.as_str()))
    }

    /// Where a mount comes from, and what it is.
    fn mount(&self, path: &MountPath) -> Option<(Upstream, mount::Settings)> {
        let upstream = self.upstream_of(path)?;
        let relay = RelaySettings { upstreams: vec![upstream.to_string().into()], ..self.server.clone() };
        Some((upstream, mount::Settings { path: path.clone(), relay, ..self.mounts.clone() }))
    }
}

/// Says whether a path is one that a mount may have.
pub type MayOpen = fn(&MountPath) -> bool;

/// A mount that is gone from the other server is closed when it has been so for this many intervals: encoders come back.
const GONE_INTERVALS: u32 = 2;
/// The longest wait after a failure, however long the interval is.
const RETRY_MOST: Duration = Duration::from_secs(30);

struct Kept {
    puller: Addr<Puller>,
    gone_since: Option<Instant>,
}

/// Mirrors one server.
pub struct Mirror {
    settings: Settings,
    registry: Arc<Registry>,
    arbiter: ArbiterHandle,
    may_open: MayOpen,
    kept: HashMap<MountPath, Kept>,
    /// What is open already when it starts.
    reopened: Vec<MountPath>,
    failures: u32,
    /// What was said last that is not said again.
    said: Option<Arc<str>>,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("server", &self.settings.address()).finish_non_exhaustive()
    }
}

impl Mirror {
    /// Mirrors a server into this registry, its mounts' actors on this arbiter.
    pub fn new(settings: Settings, registry: Arc<Registry>, arbiter: ArbiterHandle, may_open: MayOpen) -> Self {
        Self { settings, registry, arbiter, may_open, kept: HashMap::new(), reopened: Vec::new(), failures: 0, said: None }
    }

    /// With mounts of that server that are open already.
    #[must_use]
    pub fn keeping(self, reopened: Vec<MountPath>) -> Self {
        Self { reopened, ..self }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let Some(server) = self.settings.upstream() else { return };
        let asking = async move { mounts_of(&server).await };
        ctx.spawn(asking.into_actor(self).map(|answer, mirror, ctx| {
            let next = match answer {
                Ok(paths) => {
                    (mirror.failures, mirror.said) = (0, None);
                    mirror.reflect(&paths);
                    mirror.settings.interval.mul_f64(0.9 + 0.2 * fastrand::f64())
                }
                Err(why) => {
                    mirror.failures = mirror.failures.saturating_add(1);
                    mirror.say(why);
                    wait(mirror.failures + 3, fastrand::f64()).min(RETRY_MOST)
                }
            };
            ctx.run_later(next, Self::ask);
        }));
    }

    /// A warning, unless it is the one before.
    fn say(&mut self, what: Arc<str>) {
        if self.said.as_ref() != Some(&what) {
            tracing::warn!(
                server = self.settings.address(),
                reason = &*what,
                "the mirrored server's mounts are not known; what was there stays"
            );
            self.said = Some(what);
        }
    }

    /// Makes the mounts here what the other server has.
    fn reflect(&mut self, paths: &[String]) {
        let now = Instant::now();
        let listed: HashSet<MountPath> = paths.iter().filter_map(|path| path.parse().ok()).collect();
        let linger = self.settings.interval * GONE_INTERVALS;
        let mut gone = Vec::new();
        for (path, kept) in &mut self.kept {
            if listed.contains(path) {
                kept.gone_since = None;
            } else if now.duration_since(*kept.gone_since.get_or_insert(now)) >= linger {
                gone.push(path.clone());
            }
        }
        for path in gone {
            self.close(&path, "gone from the mirrored server");
        }
        let mut left_out = 0;
        for path in listed {
            if self.kept.contains_key(&path) || !(self.may_open)(&path) || self.registry.find(path.as_str()).is_some() {
                continue;
            }
            if self.kept.len() >= self.settings.most || !self.open(&path) {
                left_out += 1;
            }
        }
        if left_out > 0 {
            self.say(format!("it has {left_out} mounts more than this mirror may open (max_mounts = {})", self.settings.most).into());
        }
    }

    fn open(&mut self, path: &MountPath) -> bool {
        let Some((upstream, settings)) = self.settings.mount(path) else { return false };
        let Ok(entry) = self.registry.open(settings, &self.arbiter) else { return false };
        tracing::info!(mount = %path, upstream = %upstream, "a mount of the mirrored server");
        self.keep(entry, upstream);
        true
    }

    fn keep(&mut self, entry: Entry, upstream: Upstream) {
        let path = entry.handle.settings.path.clone();
        let puller = Puller::new(entry, vec![upstream]).start();
        self.kept.insert(path, Kept { puller, gone_since: None });
    }

    fn close(&mut self, path: &MountPath, why: &str) {
        if let Some(kept) = self.kept.remove(path) {
            kept.puller.do_send(Retire);
            // Nobody waits: it ends by itself.
            drop(self.registry.close(path.as_str()));
            tracing::info!(mount = %path, reason = why, "a mirrored mount is closed");
        }
    }
}

impl Actor for Mirror {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for path in std::mem::take(&mut self.reopened) {
            let (mount, entry) = (self.settings.mount(&path), self.registry.find(path.as_str()));
            if let Some(((upstream, _), entry)) = mount.zip(entry) {
                self.keep(entry, upstream);
            }
        }
        self.ask(ctx);
    }
}

impl Handler<Retire> for Mirror {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        for path in self.kept.keys().cloned().collect::<Vec<_>>() {
            self.close(&path, "it is mirrored no more");
        }
        ctx.stop();
    }
}

/// The server is to be mirrored otherwise from now on. What was opened stays, with its listeners.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Settle(pub Settings);

impl Handler<Settle> for Mirror {
    type Result = ();

    fn handle(&mut self, Settle(settings): Settle, _: &mut Self::Context) {
        let anew = settings.server != self.settings.server;
        self.settings = settings;
        for path in self.kept.keys().cloned().collect::<Vec<_>>() {
            let Some((upstream, settings)) = self.settings.mount(&path) else { continue };
            self.registry.settle(settings);
            if let (true, Some(entry), Some(kept)) = (anew, self.registry.find(path.as_str()), self.kept.get_mut(&path)) {
                kept.puller.do_send(Retire);
                kept.puller = Puller::new(entry, vec![upstream]).start();
            }
        }
    }
}

/// Somebody else has taken the path of a mount that was opened here: it is closed already.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GiveWay(pub MountPath);

impl Handler<GiveWay> for Mirror {
    type Result = ();

    fn handle(&mut self, GiveWay(path): GiveWay, _: &mut Self::Context) {
        if let Some(kept) = self.kept.remove(&path) {
            kept.puller.do_send(Retire);
        }
    }
}

/// Mounts that are open before there is a [`Mirror`] to keep them, by the address of the server that has them.
pub type Reopened = HashMap<String, Vec<MountPath>>;

/// Opens mounts of mirrored servers anew that another process had opened and hands over.
#[derive(Debug)]
pub struct Reopening {
    mirrors: Vec<Settings>,
    registry: Arc<Registry>,
    arbiter: ArbiterHandle,
    may_open: MayOpen,
    reopened: Reopened,
}

impl Reopening {
    /// Of these servers, into this registry.
    pub fn new(mirrors: Vec<Settings>, registry: Arc<Registry>, arbiter: ArbiterHandle, may_open: MayOpen) -> Self {
        Self { mirrors, registry, arbiter, may_open, reopened: Reopened::new() }
    }

    /// Opens the mount if it came from where one of the servers has it. Also one that may have fewer by now: what a mirror has opened
    /// stays, with its listeners.
    pub fn open(&mut self, mount: &handover::Mount) -> Option<Entry> {
        let path: MountPath = mount.path.parse().ok().filter(self.may_open)?;
        let from = mount.mirrored_from.as_deref()?;
        let mirror = self.mirrors.iter().find(|mirror| mirror.upstream_of(&path).is_some_and(|upstream| upstream.to_string() == from))?;
        let (_, settings) = mirror.mount(&path)?;
        let entry = self.registry.open(settings, &self.arbiter).ok()?;
        self.reopened.entry(mirror.address()).or_default().push(path);
        Some(entry)
    }

    /// What was opened.
    pub fn reopened(self) -> Reopened {
        self.reopened
    }
}
