//! What everybody may know of a mount, and may hold for as long as they like.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

use super::bookmark::Bookmark;
use super::bounds::Bounds;
use super::demand::Demand;
pub use super::metadata::Metadata;
use super::publishers::Publishers;
use super::standstill::Standstill;
use super::{Profile, Settings};
use crate::engine::admission::Places;
use crate::engine::broadcast::Broadcast;
use crate::engine::crew::Clock;
use crate::engine::listener::{self, Inlay};
use crate::fanout::placement::{self, Placement, Wish};
use crate::fanout::ring::Ring;
use crate::fanout::stats::{add, read};
use crate::handover;
use crate::units::Moment;
use crate::wire::{icy, relay};

/// What is on air.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether a source delivers.
    pub up: bool,
    /// When that last changed.
    pub since: Option<Moment>,
    /// The media type, once known.
    pub content_type: Option<Arc<str>>,
    /// Whether a recording is heard in place of the source.
    pub stand_in: bool,
    /// Why the last source went, in a sentence.
    pub fault: Option<Arc<str>>,
    /// When the source came up, in wall-clock time.
    pub up_since: Option<SystemTime>,
}

/// What the sender of a stream says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What people are told, where the operator is silent.
    pub profile: Profile,
    /// The servers it has come through, as they call themselves.
    pub through: Vec<String>,
}

/// What a mount counts on its source's side.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Bytes delivered into the ring.
    pub received_bytes: AtomicU64,
    /// Chunks delivered into the ring.
    pub received_chunks: AtomicU64,
    /// Chunks that were turned away: too large, or more than could be taken in.
    pub refused_chunks: AtomicU64,
    /// Bytes that made no sense, in what was delivered.
    pub skipped_bytes: AtomicU64,
    /// Times a source was started anew.
    pub restarts: AtomicU64,
    /// Times that something else was being played.
    pub metadata_updates: AtomicU64,
    /// When the last chunk came, in milliseconds since 1970; zero: never.
    pub last_chunk_unix_ms: AtomicU64,
}

impl SourceCounters {
    fn packed<'a>(&'a self, into: &'a mut handover::Counters) -> [(&'a AtomicU64, &'a mut u64); 6] {
        [
            (&self.received_bytes, &mut into.received_bytes),
            (&self.received_chunks, &mut into.received_chunks),
            (&self.refused_chunks, &mut into.refused_chunks),
            (&self.skipped_bytes, &mut into.skipped_bytes),
            (&self.restarts, &mut into.restarts),
            (&self.metadata_updates, &mut into.metadata_updates),
        ]
    }

    /// As plain data, into what else is counted of the mount.
    pub(super) fn pack(&self, into: &mut handover::Counters) {
        into.last_chunk_unix_ms = read(&self.last_chunk_unix_ms);
        self.packed(into).into_iter().for_each(|(counter, packed)| *packed = read(counter));
    }

    /// Goes on counting where another process stopped.
    pub(super) fn absorb(&self, packed: &handover::Counters) {
        let mut packed = packed.clone();
        self.last_chunk_unix_ms.fetch_max(packed.last_chunk_unix_ms, Ordering::Relaxed);
        // Whatever has been told here so far came from there.
        self.packed(&mut packed).into_iter().for_each(|(counter, packed)| counter.store(*packed, Ordering::Relaxed));
    }

    pub(super) fn count(&self, bytes: u64) {
        add(&self.received_bytes, bytes);
        add(&self.received_chunks, 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_chunk_unix_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }
}

/// A mount, as others see it: its settings as they were when somebody looked, and what it is whatever its settings are. When they
/// change there is another handle, so nobody finds half of a change; who is to see it looks again in the registry.
#[derive(Debug)]
pub struct Handle {
    /// Its settings.
    pub settings: Settings,
    /// The engine's side.
    pub broadcast: Arc<Broadcast>,
    standing: Arc<Standing>,
}

impl Deref for Handle {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

/// What a mount is whatever its settings are: all its handles share it.
#[derive(Debug)]
pub struct Standing {
    /// Its listeners' places.
    pub places: Arc<Places>,
    /// Its source's counters.
    pub source: SourceCounters,
    /// The encoders that push.
    pub publishers: Arc<Publishers>,
    /// How far it has come in whose history, if it is pulled.
    pub bookmark: Bookmark,
    /// An operator has stopped its source: it is not started by itself.
    pub stopped: AtomicBool,
    /// Where its sources stand still while another process takes over.
    pub standstill: Arc<Standstill>,
    /// What the sender says of its stream.
    said: RwLock<Said>,
    status: watch::Sender<Status>,
    metadata: Mutex<Arc<Metadata>>,
    demand: Demand,
    clock: Clock,
    /// The number of the source that may write; the next one gets the next number. Changed by the actor only.
    writer: AtomicU64,
    /// The number of the recording that may write while no source delivers; it is none of a source's. Zero: none. Changed by the
    /// actor only.
    stand_in: AtomicU64,
    stand_ins: AtomicU64,
    /// The present settings' bounds, for a source that has gone on since they changed.
    pub(super) bounds: Bounds,
    /// Told when the number of the source that may write changes.
    replaced: Notify,
    /// Told when there are other settings.
    settled: Notify,
    /// When it was opened.
    opened: Moment,
    /// Before then nobody is sent away for want of a source; nanoseconds.
    grace_until: AtomicU64,
}

impl Handle {
    pub(super) fn new(settings: Settings, broadcast: Arc<Broadcast>, clock: Clock) -> Self {
        let places = Arc::new(Places::new(settings.max_listeners));
        places.set_limits(&settings.limits);
        let status = Status { content_type: settings.content_type.clone(), ..Status::default() };
        let standing = Standing {
            places,
            source: SourceCounters::default(),
            publishers: Arc::default(),
            bookmark: Bookmark::default(),
            stopped: AtomicBool::new(false),
            standstill: Arc::default(),
            said: RwLock::default(),
            status: watch::Sender::new(status),
            metadata: Mutex::default(),
            demand: Demand::default(),
            clock,
            writer: AtomicU64::new(0),
            stand_in: AtomicU64::new(0),
            stand_ins: AtomicU64::new(0),
            bounds: Bounds::new(&settings),
            replaced: Notify::new(),
            settled: Notify::new(),
            opened: clock.now(),
            grace_until: AtomicU64::new(0),
        };
        let handle = Self { settings, broadcast, standing: Arc::new(standing) };
        handle.renotice(handle.status().content_type.as_deref(), &Metadata::default());
        handle
    }

    /// The same mount with other settings.
    pub(super) fn with_settings(&self, settings: Settings) -> Self {
        let same = settings.rules == self.settings.rules;
        let broadcast = if same { Arc::clone(&self.broadcast) } else { Arc::new(self.broadcast.with_rules(settings.rules.clone())) };
        self.places.set_most(settings.max_listeners);
        self.places.set_limits(&settings.limits);
        self.bounds.settle(&settings);
        self.wake();
        Self { settings, broadcast, standing: Arc::clone(&self.standing) }
    }

    /// Now, on the clock of the house.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The number of the source that may write; another source has another.
    pub fn writer(&self) -> u64 {
        self.writer.load(Ordering::Acquire)
    }

    /// Whether whoever has this number may write.
    pub(super) fn may_write(&self, number: u64) -> bool {
        number == self.writer() || self.is_stand_in(number)
    }

    /// Whether this is the number of the recording that may write.
    pub(super) fn is_stand_in(&self, number: u64) -> bool {
        number != 0 && number == self.stand_in.load(Ordering::Acquire)
    }

    /// From now on a recording with the number that this returns may write, beside a source that has nothing yet.
    pub(super) fn begin_stand_in(&self) -> u64 {
        const OF_RECORDINGS: u64 = 1 << 63;
        let number = OF_RECORDINGS | self.stand_ins.fetch_add(1, Ordering::Relaxed);
        self.stand_in.store(number, Ordering::Release);
        self.replaced.notify_waiters();
        number
    }

    /// No recording may write any more. Returns whether one might.
    pub(super) fn end_stand_in(&self) -> bool {
        let ended = self.stand_in.swap(0, Ordering::AcqRel) != 0;
        if ended {
            self.replaced.notify_waiters();
        }
        ended
    }

    /// From now on nobody may write but a source with the number that this returns.
    pub(super) fn next_writer(&self) -> u64 {
        let next = self.writer.fetch_add(1, Ordering::AcqRel) + 1;
        self.replaced.notify_waiters();
        next
    }

    /// Waits until the source with this number may not write any more.
    pub(super) async fn replaced(&self, source: u64) {
        loop {
            let next = self.replaced.notified(); // asked for before the look, so that no change is missed
            if !self.may_write(source) {
                return;
            }
            next.await;
        }
    }

    /// Whether both are the same mount, whatever its settings.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.standing, &other.standing)
    }

    /// Whether there is something to hear that is no history.
    pub fn is_heard(&self) -> bool {
        let status = self.status.borrow();
        status.up || status.stand_in
    }

    /// Whether a recording is heard in place of the source.
    pub(super) fn has_stand_in(&self) -> bool {
        self.status.borrow().stand_in
    }

    /// Whether a player of this one can go on with that one: it does not change its mind about what it plays.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.status.borrow().content_type == other.status.borrow().content_type
    }

    /// What a newcomer hears first who is promised this between the bytes of the stream.
    pub fn intro_for(&self, inlay: Option<Inlay>) -> Option<listener::Intro> {
        let content_type = self.status.borrow().content_type.clone()?;
        self.settings.intro.as_ref()?.before(&content_type, inlay, self.settings.path.as_str())
    }

    /// How long the source has been away; `None`: there is one.
    pub fn away(&self) -> Option<Duration> {
        let status = self.status.borrow();
        (!status.up).then(|| self.clock.now().since(status.since.unwrap_or(self.opened)))
    }

    /// It goes on where another process has stopped: its source has to find its way here first.
    pub(super) fn give_grace(&self, grace: Duration) {
        self.grace_until.store((self.clock.now() + grace).nanos(), Ordering::Relaxed);
    }

    /// For how long nobody is sent away for want of a source.
    pub(super) fn grace(&self) -> Duration {
        Moment::from_nanos(self.grace_until.load(Ordering::Relaxed)).since(self.clock.now())
    }

    /// Something else holds for it now.
    pub(super) fn wake(&self) {
        self.settled.notify_waiters();
    }

    /// Waits until there are other settings.
    pub(super) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Waits until the source is away, or the mount is closed. Returns whether it is.
    pub async fn until_away(&self) -> bool {
        self.until_up(false).await
    }

    /// Waits until the source comes or goes, as `up` says, or the mount is closed. Returns whether it is.
    pub(super) async fn until_up(&self, up: bool) -> bool {
        let mut status = self.status.subscribe();
        let known = status.wait_for(|status| self.broadcast.is_closed() || status.up == up).await;
        drop(known); // the sender lives as long as this
        self.broadcast.is_closed()
    }

    /// What people are told: what the operator wrote, and where that is silent, what the encoder says.
    pub fn profile(&self) -> Profile {
        let (written, pushed) = (&self.settings.profile, self.said().profile);
        let either = |written: &Option<String>, pushed: &Option<String>| written.clone().or_else(|| pushed.clone());
        Profile {
            name: either(&written.name, &pushed.name),
            description: either(&written.description, &pushed.description),
            genre: either(&written.genre, &pushed.genre),
            url: either(&written.url, &pushed.url),
            public: written.public,
            hidden: written.hidden,
        }
    }

    /// What the sender says of its stream.
    pub fn said(&self) -> Said {
        self.said.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sender says this of its stream; it replaces what an earlier one said.
    pub fn set_said(&self, said: Said) {
        *self.said.write().unwrap_or_else(PoisonError::into_inner) = said;
    }

    /// Whether somebody listens, or waits for something to hear.
    pub fn is_wanted(&self) -> bool {
        self.demand.is_there(self.clock.now()) || self.places.taken() > 0
    }

    /// Somebody would listen if there were something to hear: as good as a listener for so long.
    pub(super) fn want(&self, lasts: Duration) {
        self.demand.ask(self.clock.now() + lasts);
    }

    /// What is begun where somebody wants it has failed, and is not begun again for so long.
    pub fn disappoint(&self, rests: Duration) {
        self.demand.disappoint(self.clock.now() + rests);
        self.change(|_| {}); // whoever waits may look elsewhere
    }

    /// Whether something will be heard when somebody wants it, as far as anybody knows.
    pub fn begins_when_wanted(&self) -> bool {
        let begun = self.settings.relay.on_demand || self.settings.fallback.file().is_some();
        begun && !self.demand.is_in_vain(self.clock.now())
    }

    /// What is on air now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        let metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        self.status.send_modify(|status| {
            let before = status.content_type.clone();
            change(status);
            // Before anybody sees that there is something to hear: a relay that waits for it would be told of another kind.
            if before != status.content_type {
                self.renotice(status.content_type.as_deref(), &metadata);
            }
        });
    }

    /// Relays are told what kind of stream it is and what is being played. To be called with the metadata locked, so that they are
    /// told in the right order.
    fn renotice(&self, content_type: Option<&str>, metadata: &Metadata) {
        let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
        let notice = relay::Notice {
            media_type: content_type.unwrap_or_default().to_owned(),
            artist: text(&metadata.artist),
            title: text(&metadata.title),
            url: text(&metadata.url),
        };
        self.broadcast.title.set_notice(relay::notice(&notice));
    }

    /// What is being played, as far as anybody has said; nothing, when the source has been away for so long that its history is
    /// void.
    pub fn metadata(&self) -> Arc<Metadata> {
        let away = {
            let status = self.status.borrow();
            status.since.filter(|_| !status.up).map(|since| self.clock.now().since(since))
        };
        if away.is_some_and(|away| away >= self.settings.stale_after()) {
            return Arc::default(); // but who is being drained is not told that it is over
        }
        Arc::clone(&self.metadata.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something else is being played. From any thread, whoever knows; what is known already is ignored. A source tells it by
    /// [its gate](super::Gate::set_metadata).
    pub fn set_metadata(&self, metadata: Metadata) {
        if self.replace_metadata(metadata) {
            add(&self.source.metadata_updates, 1);
        }
    }

    /// What was being played is over, and nobody will say so.
    pub(super) fn forget_metadata(&self) {
        self.replace_metadata(Metadata::default());
    }

    /// Returns whether that is news.
    fn replace_metadata(&self, metadata: Metadata) -> bool {
        // Held throughout, so that listeners are told in the same order.
        let mut current = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if **current == metadata {
            return false;
        }
        self.broadcast.title.set(icy::block(&metadata.line(), metadata.url.as_deref()));
        self.renotice(self.status().content_type.as_deref(), &metadata);
        *current = Arc::new(metadata);
        true
    }

    /// Whether a newcomer has something to hear.
    fn ready(&self, status: &Status) -> bool {
        let stale_after = self.settings.stale_after();
        let fresh = status.up || status.stand_in || status.since.is_some_and(|since| self.clock.now().since(since) < stale_after);
        fresh && status.content_type.is_some() && self.broadcast.feed.read(Ring::has_begun)
    }

    /// The place of a newcomer who comes before anything has: the first chunk decides it, though the listener joins a moment later.
    pub fn place_early(&self, wish: Option<&Wish>) -> Option<Placement> {
        let wish = wish.unwrap_or(&self.settings.rules.wish);
        self.broadcast.feed.read(|ring| (!ring.has_begun()).then(|| placement::place(wish, ring)))
    }

    /// The media type, as soon as there is something to hear; `None` when there is nothing within `patience`, or never will be.
    /// `hasty`: who waits has somewhere else to go, and does so when it is in vain to wait here.
    pub async fn on_air(&self, patience: Duration, hasty: bool) -> Option<Arc<str>> {
        let _waits = self.demand.wait();
        let over = |status: &Status| self.broadcast.is_closed() || self.ready(status);
        let mut status = self.status.subscribe();
        let ready = status.wait_for(|status| over(status) || (hasty && self.demand.is_in_vain(self.clock.now())));
        let found = tokio::time::timeout(patience, ready).await.ok()?.ok()?;
        found.content_type.clone().filter(|_| !self.broadcast.is_closed() && self.ready(&found))
    }

    /// Whether a source is needed and missing.
    pub fn lacks_source(&self) -> bool {
        let needed = self.settings.pipeline.is_some() || (!self.settings.relay.is_empty() && !self.settings.relay.on_demand);
        needed && !self.status.borrow().up
    }

    /// Listeners now.
    pub fn listeners(&self) -> u64 {
        self.broadcast.counters.listeners()
    }

    /// What one listener takes, in bytes per second; zero where nobody knows yet.
    pub fn bytes_per_second(&self) -> u64 {
        self.broadcast.feed.read(Ring::bytes_per_second).unwrap_or(0.0) as u64
    }

    /// Bytes sent to listeners so far.
    pub fn sent_bytes(&self) -> u64 {
        read(&self.broadcast.counters.sent_bytes)
    }
}
