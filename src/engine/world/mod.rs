//! A world in a test: pretend sockets, sources and a clock of its own around the very shards that production runs.
//!
//! ```text
//!   Source ──▶ History ──▶ Feed ──▶ Shard::event, Shard::turn, Shard::note ──▶ Pipe ──▶ Ear: is every byte as it should be?
//!                           └─ bell ─▶ at once                                   └─ pulled at the peer's own pace
//! ```
//! - Time moves from event to event, so an hour takes milliseconds. Nothing sleeps, no thread runs, and the same seed gives
//!   the same run; a failure prints its seed.
//! - A shard turns when its sleep is over, its bell rang, or a socket has something to say, and at no other time: a wake-up
//!   that is lost is seen as starvation.
//! - What the brief of a listener is (who may leave, and why) is said when it joins; everything else is checked for all of
//!   them, always (`inspect`).

mod audience;
mod ear;
mod guest;
mod inspect;
mod pipe;
mod source;
mod time;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::admission::Places;
use super::alarm::Alarm;
use super::broadcast::{Broadcast, Obituary, Reports, Rules};
use super::counters::ShardCounters;
use super::inbox::Inbox;
use super::pace::Coalesce;
use super::shard::Shard;
use crate::fanout::chunk::{Chunk, Marks, OVERHEAD_BYTES};
use crate::fanout::departure::Departure;
use crate::fanout::history::History;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::recovery::{Limits, RecoverPolicy};
use crate::fanout::retention::Retention;
use crate::fanout::streamheader::Headers;
use crate::units::{Extents, ListenerId, Moment};
use crate::wire::icy;

use ear::Book;
pub(crate) use guest::Guest;
use inspect::Toll;
pub(crate) use pipe::Pull;
use pipe::{Line, Pipe};
pub(crate) use source::{Quirks, Source};

/// A listener that is here.
struct Present {
    id: ListenerId,
    shard: usize,
    joined: u64,
    guest: Guest,
    line: Rc<RefCell<Line>>,
    /// Where the model places it: the first chunk, and whether it waits there for a keyframe. `None`: not told exactly.
    placed: Option<(u64, bool)>,
}

/// A listener that has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    id: ListenerId,
    why: Departure,
    last_heard: Option<u64>,
}

struct Hand {
    shard: Shard<Pipe>,
    inbox: Arc<Inbox<Pipe>>,
    woken: Arc<AtomicBool>,
    counters: Arc<ShardCounters>,
    /// When its sleep is over.
    wake_at: Option<u64>,
    /// Until then its thread does not run: a turn takes time, and a machine may stand still.
    busy_until: u64,
    sends: u64,
}

#[derive(Debug, Default)]
struct Post(Mutex<Vec<Obituary>>);

impl Reports for Arc<Post> {
    fn departed(&self, gone: Vec<Obituary>) {
        self.0.lock().expect("no panic").extend(gone);
    }
}

/// A mount and what the model knows of it.
pub(crate) struct Mount {
    pub(crate) broadcast: Arc<Broadcast>,
    pub(crate) places: Arc<Places>,
    pub(crate) ring_max: u64,
    history: History,
    book: Rc<RefCell<Book>>,
    /// The headers of the epoch, which its chunks share.
    headers: Option<(Option<u32>, Arc<Headers>)>,
    post: Arc<Post>,
    toll: Toll,
    /// Titles so far.
    titles: u64,
}

type Act = Box<dyn FnOnce(&mut World)>;

/// Everything.
pub(crate) struct World {
    seed: u64,
    pub(crate) rng: fastrand::Rng,
    clock: Rc<Cell<u64>>,
    hands: Vec<Hand>,
    mounts: Vec<Mount>,
    sources: Vec<Source>,
    present: Vec<Present>,
    script: BTreeMap<(u64, u64), Act>,
    scripted: u64,
    server: Arc<Places>,
    last_id: u64,
    /// Timers of this machine are up to so much late; bells are not.
    pub(crate) lateness: Duration,
    /// Windows that somebody who keeps up may have to wait.
    pub(crate) windows: u32,
    /// Turns so far.
    pub(crate) turns: u64,
    at_once: (u64, u32),
    /// Chunks that the gate would not let in, because there are too many in memory.
    refused: u64,
    /// How often that may happen.
    pub(crate) refusals_most: u64,
    /// Calls to send, of those who have left.
    sends_gone: u64,
    /// Departures, in order.
    pub(crate) gone: Vec<Gone>,
    /// Forget departures once they are checked: for runs that are long.
    pub(crate) forgetful: bool,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({})", self.seed)
    }
}

/// Says which seed it was, whoever panics.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("world: seed {} at {:?} of virtual time", self.seed, Duration::from_nanos(self.now()));
        }
    }
}

/// Plain rules: nobody is recovered or removed, and data waits 100 ms.
pub(crate) fn rules() -> Rules {
    Rules {
        wish: Wish { method: SyncMethod::Latest, burst: Extents::NONE, burst_max: Extents::NONE },
        limits: Limits::default(),
        recover: RecoverPolicy::None,
        resend_streamheader: true,
        patience: Duration::ZERO,
        idle_timeout: None,
        max_duration: None,
        coalesce: window(100),
        send_buffer: None,
        dscp: None,
        keep_half_closed: false,
        memory_max: 0, // twice the ring, unless a test says something else
    }
}

/// A window that is neither longer nor shorter.
pub(crate) fn window(millis: u64) -> Coalesce {
    Coalesce { min: ms(millis), max: ms(millis) }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Limits from text.
pub(crate) fn limits(soft: &str, hard: &str) -> Limits {
    Limits { soft: soft.parse().expect(soft), hard: hard.parse().expect(hard) }
}

impl World {
    /// A world in which everything that is random follows from the seed.
    pub(crate) fn seeded(seed: u64, shards: usize) -> Self {
        let clock = Rc::new(Cell::new(1_000_000_000));
        let hands = (0..shards).map(|index| {
            let woken = Arc::new(AtomicBool::new(false));
            let bell = Arc::clone(&woken);
            let counters = Arc::new(ShardCounters::default());
            Hand {
                shard: Shard::new(index, Arc::clone(&counters), Moment::from_nanos(clock.get())),
                inbox: Inbox::new(Alarm::new(move || bell.store(true, Ordering::Relaxed))),
                woken,
                counters,
                wake_at: None,
                busy_until: 0,
                sends: 0,
            }
        });
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            hands: hands.collect(),
            clock,
            mounts: Vec::new(),
            sources: Vec::new(),
            present: Vec::new(),
            script: BTreeMap::new(),
            scripted: 0,
            server: Arc::new(Places::new(None)),
            last_id: 0,
            lateness: Duration::ZERO,
            windows: 1,
            turns: 0,
            at_once: (0, 0),
            refused: 0,
            refusals_most: 0,
            sends_gone: 0,
            gone: Vec::new(),
            forgetful: false,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.get()
    }

    fn moment(&self) -> Moment {
        Moment::from_nanos(self.now())
    }

    // ---- mounts and sources ----

    /// Opens a mount; answers its number.
    pub(crate) fn mount(&mut self, mut rules: Rules, keep: &str, ring_max: u64) -> usize {
        let alarms: Vec<_> = self.hands.iter().map(|hand| Arc::clone(&hand.woken)).collect();
        let alarms: Vec<_> = alarms.into_iter().map(|woken| Alarm::new(move || woken.store(true, Ordering::Relaxed))).collect();
        if rules.memory_max == 0 {
            rules.memory_max = 2 * ring_max;
        }
        let keep = keep.parse().expect(keep);
        let retention = Retention::new(keep, &rules.wish, &rules.limits, rules.recover, ring_max);
        let book = Book::new(rules.resend_streamheader, rules.recover);
        let post = Arc::new(Post::default());
        let slot = self.mounts.len();
        self.mounts.push(Mount {
            broadcast: Arc::new(Broadcast::new(
                slot,
                format!("/{slot}").parse().expect("a path"),
                &alarms,
                rules,
                Arc::new(Arc::clone(&post)),
            )),
            places: Arc::new(Places::new(None)),
            ring_max,
            history: History::new(retention),
            book: Rc::new(RefCell::new(book)),
            headers: None,
            post,
            toll: Toll::default(),
            titles: 0,
        });
        slot
    }

    /// The number of the next chunk of a mount.
    pub(crate) fn next_number(&self, mount: usize) -> u64 {
        self.mounts[mount].book.borrow().next()
    }

    pub(crate) fn mount_at(&self, mount: usize) -> &Mount {
        &self.mounts[mount]
    }

    /// Sets a source going.
    pub(crate) fn source(&mut self, mut source: Source) -> usize {
        source.next_at = self.now();
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// All sources fall silent.
    pub(crate) fn silence(&mut self) {
        self.sources.iter_mut().for_each(Source::silence);
    }

    /// All sources go on.
    pub(crate) fn resume(&mut self) {
        let now = self.now();
        self.sources.iter_mut().for_each(|source| source.next_at = now);
    }

    /// Brings a chunk into a mount's ring, as gate and actor do.
    pub(crate) fn push(&mut self, mount: usize, size: u32, keyframe: bool, header: Option<u32>, stamp: Option<u64>) {
        let (now, moment) = (self.now(), self.moment());
        let mount = &mut self.mounts[mount];
        if mount.headers.as_ref().is_none_or(|(current, _)| *current != header) {
            mount.headers = Some((header, ear::headers(header, &mount.broadcast.account)));
        }
        let (cost, bound) = (u64::from(size) + OVERHEAD_BYTES, mount.broadcast.rules.memory_max + mount.ring_max / 4);
        if mount.broadcast.account.held_bytes() + cost > bound {
            self.refused += 1;
            return;
        }
        let headers = Arc::clone(&mount.headers.as_ref().expect("just made").1);
        let number = mount.book.borrow().next();
        let chunk = Arc::new(Chunk::new(
            ear::payload(number, size).into(),
            Marks { keyframe, pts: stamp, ..Marks::default() },
            headers,
            &mount.broadcast.account,
        ));
        mount.book.borrow_mut().write(size, keyframe, header, now);
        let (at, oldest) = mount.broadcast.feed.write(|ring| (mount.history.push(ring, chunk, moment).at, ring.oldest()));
        assert_eq!(at.number(), number, "the model has lost count");
        mount.book.borrow_mut().oldest = oldest.number();
        mount.toll.held_peak = mount.toll.held_peak.max(mount.broadcast.account.held_bytes());
    }

    /// Pushes a chunk of 100 bytes, stamped 20 ms after the one before; `K` is a keyframe.
    pub(crate) fn push_kind(&mut self, mount: usize, kind: char) {
        let stamp = self.next_number(mount) * 20_000_000;
        self.push(mount, 100, kind == 'K', None, Some(stamp));
    }

    /// Pushes such chunks one after the other, letting 20 ms pass after each.
    pub(crate) fn picture(&mut self, mount: usize, picture: &str) {
        for kind in picture.chars() {
            self.push_kind(mount, kind);
            self.run_for(ms(20));
        }
    }

    /// Upstream flushes.
    pub(crate) fn flush(&mut self, mount: usize) {
        let mount = &mut self.mounts[mount];
        mount.broadcast.feed.write(|ring| mount.history.flush(ring));
        mount.book.borrow_mut().cut();
    }

    /// Another source takes the place of this one.
    pub(crate) fn restart_source(&mut self, mount: usize) {
        self.mounts[mount].history.new_source();
    }

    /// Other caps from here on, perhaps with the same streamheaders.
    pub(crate) fn new_epoch(&mut self, mount: usize) {
        self.mounts[mount].headers = None;
    }

    /// Something else is being played: the number of the title.
    pub(crate) fn new_title(&mut self, mount: usize) {
        let mount = &mut self.mounts[mount];
        mount.titles += 1;
        mount.broadcast.title.set(icy::block(&mount.titles.to_string(), None));
    }
}
