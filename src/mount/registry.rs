//! All mounts by path: the door asks, `app` fills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use actix::prelude::*;
use dashmap::DashMap;

use super::Settings;
use super::actor::{Mount, Post};
use super::handle::Handle;
use crate::engine::admission::Places;
use crate::engine::broadcast::Broadcast;
use crate::engine::counters::MountCounters;
use crate::engine::crew::Crew;
use crate::engine::feed::Feed;
use crate::engine::title::Title;
use crate::fanout::account::Account;
use crate::fanout::departure::Refusal;
use crate::fanout::stats::add;
use crate::units::{ListenerId, MountPath};

/// Mounts are numbered in 16 bits (see the engine's tokens).
pub const MOUNTS_MOST: usize = 60_000;

/// A mount and its actor.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What everybody may know.
    pub handle: Arc<Handle>,
    /// The one writer.
    pub actor: Addr<Mount>,
    refusals: Arc<Refusals>,
}

type Refusals = [AtomicU64; Refusal::ALL.len()];

/// All mounts.
#[derive(Debug)]
pub struct Registry {
    mounts: DashMap<MountPath, Entry>,
    crew: Arc<Crew>,
    places: Arc<Places>,
    /// Refusals where the mount is unknown.
    unknown: Refusals,
    last_listener: AtomicU64,
    draining: AtomicBool,
}

impl Registry {
    /// No mounts yet; so many listeners in all.
    pub fn new(crew: Arc<Crew>, max_listeners: u64) -> Self {
        Self {
            mounts: DashMap::new(),
            crew,
            places: Arc::new(Places::new(Some(max_listeners))),
            unknown: Refusals::default(),
            last_listener: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Opens a mount, its actor running on this arbiter. Mounts are opened at start only, so numbers follow from their count.
    pub fn open(&self, settings: Settings, arbiter: &ArbiterHandle) -> Entry {
        let slot = self.mounts.len();
        assert!(slot < MOUNTS_MOST, "the configuration was checked");
        let post = Arc::new(Post::default());
        let broadcast = Arc::new(Broadcast {
            slot,
            path: settings.path.clone(),
            feed: Feed::new(&self.crew.alarms()),
            rules: settings.rules.clone(),
            title: Title::default(),
            counters: MountCounters::default(),
            account: Arc::new(Account::default()),
            reports: Box::new(Arc::clone(&post)),
        });
        let handle = Arc::new(Handle::new(settings, broadcast, self.crew.clock()));
        let (theirs, crew) = (Arc::clone(&handle), Arc::clone(&self.crew));
        let actor = Supervisor::start_in_arbiter(arbiter, move |_| Mount::new(theirs, crew));
        post.deliver_to(actor.clone());
        let entry = Entry { handle, actor, refusals: Arc::default() };
        self.mounts.insert(entry.handle.settings.path.clone(), entry.clone());
        entry
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

    /// Whether nobody is taken in any more.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
