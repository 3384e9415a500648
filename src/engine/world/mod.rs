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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::admission::{Places, Seat};
use super::alarm::Alarm;
use super::broadcast::{Broadcast, Obituary, Peer, Reports, Rules};
use super::counters::ShardCounters;
use super::inbox::{Command, Inbox, Reply};
use super::listener::{Arrival, Inlay};
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
use crate::wire::upstream::Interleaved;

use ear::{Book, Ear};
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

    // ---- listeners ----

    /// A listener comes; its shard takes it in at once.
    pub(crate) fn join(&mut self, guest: Guest) -> ListenerId {
        self.last_id += 1;
        let id = ListenerId(self.last_id);
        let shard = self.last_id as usize % self.hands.len();
        // It may be in the middle of a turn; a stall is another matter.
        while (1..1_000_000).contains(&self.hands[shard].busy_until.saturating_sub(self.now())) {
            self.run_for(Duration::from_micros(1));
        }
        let mount = &mut self.mounts[guest.mount];
        let mut ear = Ear::new(&mount.book, guest.head, self.clock.get());
        ear.heard = guest.recorded.then(Vec::new);
        ear.icy = guest.icy.map(|interval| Interleaved::new(interval as usize));
        let line = Line::new(&self.clock, guest.buffer, guest.pull, ear);
        line.borrow_mut().record = guest.record;
        let placed = mount.place(guest.wish.as_ref());
        mount.toll.joins += 1;
        let arrival = Arrival {
            wire: Pipe(Rc::clone(&line)),
            broadcast: Arc::clone(&mount.broadcast),
            head: vec![b'h'; guest.head].into(),
            wish: guest.wish.clone().map(Box::new),
            placed: None,
            inlay: guest.icy.map(Inlay::Titles),
            id,
            peer: Peer::Unix,
            user_agent: "world".into(),
            pass: None,
            trail: crate::engine::trail::Trail::default(),
            intro: None,
            accepted: Moment::from_nanos(self.clock.get()),
            seat: Seat::take(&self.server, &mount.places).expect("there is no limit"),
        };
        // A shard that stands still places it later, by what there is then.
        let placed = placed.filter(|_| self.hands[shard].busy_until <= self.clock.get());
        self.present.push(Present { id, shard, joined: self.clock.get(), guest, line, placed });
        assert!(self.hands[shard].inbox.tell(Command::Join(Box::new(arrival))), "the inbox is full");
        if self.hands[shard].busy_until <= self.now() {
            self.turn(shard);
        }
        id
    }

    pub(crate) fn here(&self, id: ListenerId) -> bool {
        self.present.iter().any(|present| present.id == id)
    }

    pub(crate) fn departure(&self, id: ListenerId) -> Option<Departure> {
        self.gone.iter().find(|gone| gone.id == id).map(|gone| gone.why)
    }

    /// Acts on the peer's side of a connection, if it is still there.
    pub(crate) fn line<T>(&self, id: ListenerId, act: impl FnOnce(&mut Line) -> T) -> Option<T> {
        let present = self.present.iter().find(|present| present.id == id)?;
        Some(act(&mut present.line.borrow_mut()))
    }

    /// From now on it may leave for this reason as well.
    pub(crate) fn allow(&mut self, id: ListenerId, why: Departure) {
        if let Some(present) = self.present.iter_mut().find(|present| present.id == id) {
            present.guest.may_leave.push(why);
        }
    }

    /// From now on it is not to be expected to keep up.
    pub(crate) fn no_longer_fast(&mut self, id: ListenerId) {
        if let Some(present) = self.present.iter_mut().find(|present| present.id == id) {
            present.guest.fast = false;
        }
    }

    // ---- orders ----

    /// Tells all shards.
    pub(crate) fn tell_all(&mut self, command: impl Fn() -> Command<Pipe>) {
        for hand in &self.hands {
            assert!(hand.inbox.tell(command()), "the inbox is full");
        }
    }

    /// Removes a listener; answers whether some shard knew it, once all have answered.
    pub(crate) fn kick(&mut self, id: ListenerId, mount: usize) -> bool {
        self.allow(id, Departure::Kicked);
        let found = Arc::new(AtomicBool::new(false));
        let answer = Arc::clone(&found);
        self.tell_all(|| {
            let answer = Arc::clone(&answer);
            let reply = Reply::new(move |here| {
                answer.fetch_or(here, Ordering::Relaxed);
            });
            Command::Kick { slot: mount, id, why: Departure::Kicked, reply }
        });
        self.run_for(Duration::from_millis(1));
        found.load(Ordering::Relaxed)
    }

    /// Everybody of a mount (`None`: of all) is sent what is queued and leaves.
    pub(crate) fn drain(&mut self, mount: Option<usize>, why: Departure) {
        for present in self.present.iter_mut().filter(|present| mount.is_none_or(|mount| present.guest.mount == mount)) {
            present.guest.may_leave.push(why);
            present.guest.fast = false; // it is not to hear what comes later
        }
        self.tell_all(|| Command::Drain { slot: mount, why });
    }

    /// A mount has other rules from now on.
    pub(crate) fn settle_rules(&mut self, mount: usize, change: impl FnOnce(&mut Rules)) {
        let mount = &mut self.mounts[mount];
        let mut rules = mount.broadcast.rules.clone();
        change(&mut rules);
        mount.broadcast = Arc::new(mount.broadcast.with_rules(rules));
        let broadcast = Arc::clone(&mount.broadcast);
        self.tell_all(|| Command::Settle { broadcast: Arc::clone(&broadcast) });
    }

    /// A mount is closed and forgotten; answers how many shards have said so by now.
    pub(crate) fn forget(&mut self, mount: usize) -> usize {
        let broadcast = Arc::clone(&self.mounts[mount].broadcast);
        broadcast.close();
        for present in self.present.iter_mut().filter(|present| present.guest.mount == mount) {
            present.guest.may_leave.push(Departure::ShuttingDown);
        }
        let answers = Arc::new(AtomicUsize::new(0));
        self.tell_all(|| {
            let answers = Arc::clone(&answers);
            let reply = Reply::new(move |()| {
                answers.fetch_add(1, Ordering::Relaxed);
            });
            Command::Forget { slot: broadcast.slot, why: Departure::ShuttingDown, reply }
        });
        self.run_for(Duration::from_millis(1));
        answers.load(Ordering::Relaxed)
    }

    /// Another mount takes the number of one that was forgotten.
    pub(crate) fn reuse_number(&mut self, mount: usize, of: usize) {
        let alarms: Vec<_> = self.hands.iter().map(|hand| Arc::clone(&hand.woken)).collect();
        let alarms: Vec<_> = alarms.into_iter().map(|woken| Alarm::new(move || woken.store(true, Ordering::Relaxed))).collect();
        let slot = self.mounts[of].broadcast.slot;
        let mount = &mut self.mounts[mount];
        let (path, rules) = (mount.broadcast.path.clone(), mount.broadcast.rules.clone());
        mount.broadcast = Arc::new(Broadcast::new(slot, path, &alarms, rules, Arc::new(Arc::clone(&mount.post))));
    }

    /// Everybody leaves at once.
    pub(crate) fn clear(&mut self) {
        self.present.iter_mut().for_each(|present| present.guest.may_leave.push(Departure::ShuttingDown));
        self.tell_all(|| Command::Clear { why: Departure::ShuttingDown });
    }
}
