//! All mounts by path: the door asks, `app` fills.
//!
//! - Mounts come and go while the server runs. Of two that want the same path at the same moment exactly one gets it.
//! - A mount that is closed is found no more at once, and ends by itself (`closing`).

mod hosting;
mod passing;

pub use hosting::{MakeError, Site};
pub use passing::{Arrived, Packed, Pushing, Still};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use tokio::sync::{oneshot, watch};

use super::absence;
use super::actor::{KillSource, Mount, Post, Settle, SourceEnded};
use super::closing::{self, Closing};
use super::groups::{Group, GroupSettings, Groups};
use super::handle::Handle;
use super::pattern::PathPattern;
use super::slots::Slots;
use super::{Profile, Settings};
use crate::bouncer::Bouncer;
use crate::engine::admission::{FULL, Limits, Places};
use crate::engine::broadcast::Broadcast;
use crate::engine::counters::MountCounters;
use crate::engine::crew::Crew;
use crate::engine::inbox::Command;
use crate::fanout::departure::{Departure, Refusal};
use crate::fanout::stats::{Histogram, HistogramView, SESSION_BOUNDS, add};
use crate::journal::{Hearsay, Journal};
use crate::units::{ListenerId, MountPath};
use crate::webhook::Webhooks;

/// A mount and its actor.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What everybody may know.
    pub handle: Arc<Handle>,
    /// The one writer.
    pub actor: Addr<Mount>,
    refusals: Arc<Refusals>,
    arbiter: ArbiterHandle,
    /// The pattern by which a publisher has made it; `None`: it was declared.
    made_by: Option<PathPattern>,
}

impl Entry {
    /// Whether a publisher has made it, and nobody has declared it.
    pub fn is_made(&self) -> bool {
        self.made_by.is_some()
    }

    /// Takes the source off the mount. An encoder is hung up on. Of any other the way in is closed ([`super::Gate::closed`]), and who
    /// keeps it decides what follows: a pipeline is started anew.
    pub fn kill_source(&self) {
        self.handle.publishers.kill();
        self.handle.publishers.kill();
        self.actor.do_send(KillSource);
    }
}

type Refusals = [AtomicU64; Refusal::ALL.len()];

/// Why a mount could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error("there is a mount at this path already")]
    Taken,
    /// There are as many as a server can have.
    #[error("the server has no room for another mount")]
    Full,
}

/// What those mounts counted that are no longer among the others, so that the server's own sums only grow.
#[derive(Debug)]
struct Departed {
    closing: Vec<Arc<MountCounters>>,
    sessions: Histogram<8>,
}

/// All mounts.
#[derive(Debug)]
pub struct Registry {
    mounts: DashMap<MountPath, Entry>,
    departed: Arc<Mutex<Departed>>,
    slots: Arc<Slots>,
    crew: Arc<Crew>,
    places: Arc<Places>,
    groups: Groups,
    hosting: hosting::Hosting,
    /// Told when mounts come, go, or have other settings.
    changes: watch::Sender<()>,
    /// Refusals where the mount is unknown.
    unknown: Refusals,
    last_listener: AtomicU64,
    draining: AtomicBool,
    witnesses: Witnesses,
}

/// Who is told of what happens to mounts and their listeners.
#[derive(Clone, Debug)]
pub struct Witnesses {
    /// The access log.
    pub journal: Arc<Journal>,
    /// Programs elsewhere.
    pub webhooks: Arc<Webhooks>,
    /// Backends that decide who may listen, and hear who has left.
    pub bouncer: Arc<Bouncer>,
    /// What the event log was told of outsiders lately.
    pub hearsay: Arc<Hearsay>,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self { journal: Journal::off(), webhooks: Arc::default(), bouncer: Arc::default(), hearsay: Arc::default() }
    }
}

impl Registry {
    /// No mounts yet; so many listeners in all.
    pub fn new(crew: Arc<Crew>, max_listeners: u64) -> Self {
        Self {
            mounts: DashMap::new(),
            departed: Arc::new(Mutex::new(Departed { closing: Vec::new(), sessions: Histogram::new(&SESSION_BOUNDS) })),
            slots: Arc::default(),
            crew,
            places: Arc::new(Places::new(Some(max_listeners))),
            groups: Groups::default(),
            hosting: hosting::Hosting::default(),
            changes: watch::Sender::new(()),
            unknown: Refusals::default(),
            last_listener: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            witnesses: Witnesses::default(),
        }
    }

    /// The same, with somebody who is told. Before the first mount is opened.
    pub fn with_witnesses(self, witnesses: Witnesses) -> Self {
        Self { witnesses, ..self }
    }

    /// Who is told of what happens.
    pub fn witnesses(&self) -> &Witnesses {
        &self.witnesses
    }

    /// Opens a mount, its actor running on this arbiter.
    ///
    /// # Errors
    /// When the path is taken, or there are too many mounts.
    pub fn open(self: &Arc<Self>, settings: Settings, arbiter: &ArbiterHandle) -> Result<Entry, OpenError> {
        self.open_as(settings, arbiter, None)
    }

    fn open_as(self: &Arc<Self>, settings: Settings, arbiter: &ArbiterHandle, made_by: Option<PathPattern>) -> Result<Entry, OpenError> {
        let Place::Vacant(place) = self.mounts.entry(settings.path.clone()) else { return Err(OpenError::Taken) };
        let slot = self.slots.take().ok_or(OpenError::Full)?;
        let post = Arc::new(Post::new(Arc::clone(&self.witnesses.webhooks)));
        let reports = Arc::clone(&post);
        let broadcast = Broadcast::new(slot, settings.path.clone(), &self.crew.alarms(), settings.rules.clone(), reports);
        let handle = Arc::new(Handle::new(settings, Arc::new(broadcast), self.crew.clock()));
        let (theirs, crew, witnesses) = (Arc::clone(&handle), Arc::clone(&self.crew), self.witnesses.clone());
        let actor = Supervisor::start_in_arbiter(arbiter, move |_| Mount::new(theirs, crew, witnesses));
        post.deliver_to(&actor);
        let entry = Entry { handle, actor, refusals: Arc::default(), arbiter: arbiter.clone(), made_by };
        place.insert(entry.clone());
        self.changes.send_replace(());
        arbiter.spawn(absence::watch(Arc::downgrade(self), Arc::clone(&entry.handle)));
        Ok(entry)
    }

    /// Gives a mount other settings. Its listeners stay, and are held to the new rules from their shard's next turn on. Returns
    /// whether there is such a mount. What is not the registry's (its source, its raw ports) is for those who keep that.
    pub fn settle(&self, settings: Settings) -> bool {
        let Some(mut entry) = self.mounts.get_mut(settings.path.as_str()) else { return false };
        let before = Arc::clone(&entry.handle.broadcast);
        entry.handle = Arc::new(entry.handle.with_settings(settings));
        let broadcast = Arc::clone(&entry.handle.broadcast);
        entry.actor.do_send(Settle(Arc::clone(&entry.handle)));
        self.changes.send_replace(());
        if !Arc::ptr_eq(&before, &broadcast) {
            let crew = Arc::clone(&self.crew);
            entry.arbiter.spawn(async move {
                closing::tell(&crew, || Command::Settle { broadcast: Arc::clone(&broadcast) }).await;
            });
        }
        true
    }

    /// Closes a mount: nobody finds it any more, and who listens is sent what is queued and leaves as `shutting_down`. `None`:
    /// there is none, or somebody else has closed it a moment before. Its path is free at once; the rest ends by itself.
    pub fn close(&self, path: &str) -> Option<Closing> {
        self.close_if(path, Departure::ShuttingDown, |_| true)
    }

    /// The same, if it is the one that is meant; who listens leaves as `why` says.
    pub(super) fn close_if(&self, path: &str, why: Departure, is_meant: impl FnOnce(&Entry) -> bool) -> Option<Closing> {
        let entry = {
            let mut departed = self.departed();
            let (_, entry) = self.mounts.remove_if(path, |_, entry| is_meant(entry))?;
            departed.closing.push(Arc::clone(&entry.handle.broadcast.counters));
            entry
        };
        entry.made_by.iter().for_each(|pattern| self.hosting.unmade(pattern));
        self.changes.send_replace(());
        entry.handle.broadcast.close();
        entry.handle.places.set_most(Some(0)); // whoever has found it before
        entry.handle.publishers.kill();
        entry.actor.do_send(SourceEnded { source: None, fault: None }); // and whoever waits for something to hear
        let (done, closed) = oneshot::channel();
        let (crew, departed, slots) = (Arc::clone(&self.crew), Arc::clone(&self.departed), Arc::clone(&self.slots));
        let Entry { handle, actor, arbiter, .. } = entry;
        arbiter.spawn(async move {
            let forgotten = closing::close(&handle, actor, &crew, why).await;
            let counters = &handle.broadcast.counters;
            {
                let mut departed = departed.lock().unwrap_or_else(PoisonError::into_inner);
                departed.sessions.absorb(&counters.session);
                departed.closing.retain(|other| !Arc::ptr_eq(other, counters));
            }
            if forgotten {
                slots.give_back(handle.broadcast.slot);
            }
            let _ = done.send(()); // nobody needs to wait
        });
        Some(Closing(closed))
    }

    fn departed(&self) -> MutexGuard<'_, Departed> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All mounts, by path, and the sessions of those that were closed: of one moment, so that sums over both only grow.
    pub fn census(&self) -> (Vec<Entry>, Vec<HistogramView>) {
        let departed = self.departed();
        let sessions = departed.closing.iter().map(|counters| counters.session.view()).chain([departed.sessions.view()]);
        (self.all(), sessions.collect())
    }

    /// Told when mounts come, go, or have other settings.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The mount at a path as typed.
    pub fn find(&self, path: &str) -> Option<Entry> {
        self.mounts.get(path).map(|entry| entry.clone())
    }

    /// All mounts, by path.
    pub fn all(&self) -> Vec<Entry> {
        let mut all: Vec<_> = self.mounts.iter().map(|entry| entry.clone()).collect();
        all.sort_by(|a, b| a.handle.settings.path.cmp(&b.handle.settings.path));
        all
    }

    /// The shards.
    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// The server's places.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// From now on these limits hold for all mounts together, and for listeners from these addresses. Who listens stays.
    pub fn limit(&self, max_listeners: u64, limits: &Limits, groups: &[GroupSettings]) {
        self.places.set_most(Some(max_listeners));
        self.places.set_limits(limits);
        self.groups.settle(groups);
    }

    /// The places of those who come from where this address is, if there are only so many.
    pub fn group_of(&self, address: std::net::IpAddr) -> Option<Arc<Places>> {
        self.groups.of(address)
    }

    /// All groups of addresses.
    pub fn groups(&self) -> Arc<[Group]> {
        self.groups.all()
    }

    /// Measures what is sent, where a limit asks for it. To be called each [`crate::engine::admission::SAMPLE_EVERY`].
    pub fn measure(&self) {
        let now = self.crew.clock().now();
        for entry in &self.mounts {
            entry.handle.places.sample(|| entry.handle.sent_bytes(), now);
        }
        self.places.sample(|| self.mounts.iter().map(|entry| entry.handle.sent_bytes()).sum(), now);
    }

    /// A name for the next listener.
    pub fn next_listener(&self) -> ListenerId {
        ListenerId(self.last_listener.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Counts somebody who was turned away, at a mount or before one was found.
    pub fn refuse(&self, mount: Option<&Entry>, why: Refusal) {
        let counters = mount.map_or(&self.unknown, |entry| &*entry.refusals);
        add(&counters[why.index()], 1);
    }

    /// How many were turned away for this reason, at a mount or before one was found.
    pub fn refusals(&self, mount: Option<&Entry>, why: Refusal) -> u64 {
        mount.map_or(&self.unknown, |entry| &*entry.refusals)[why.index()].load(Ordering::Relaxed)
    }

    /// From now on nobody is taken in.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// How full it is, in thousandths; entirely, where nobody is taken in any more.
    pub fn fullness(&self) -> u64 {
        if self.draining() { FULL } else { self.places.fullness() }
    }

    /// Whether nobody is taken in any more.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
