//! A shard with ten thousand listeners whose sockets are pretended, and whose clock is turned by hand.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen::engine::admission::{Places, Seat};
use flumen::engine::alarm::Alarm;
use flumen::engine::broadcast::{Broadcast, ListenerView, Obituary, Peer, Reports, Rules};
use flumen::engine::counters::ShardCounters;
use flumen::engine::inbox::{Command, Inbox, ListPart, Reply};
use flumen::engine::listener::Arrival;
use flumen::engine::pace::Coalesce;
use flumen::engine::shard::{Shard, Token, Watch};
use flumen::engine::socket::{Discarded, Wire};
use flumen::fanout::departure::Departure;
use flumen::fanout::history::History;
use flumen::fanout::placement::{SyncMethod, Wish};
use flumen::fanout::recovery::{Limits, RecoverPolicy};
use flumen::fanout::retention::Retention;
use flumen::units::{Extents, ListenerId, Moment};

use super::Run;
use super::core::Maker;

/// Listeners of the shard.
pub(crate) const LISTENERS: u64 = 10_000;
/// Newcomers in one run: as many as a shard lets in at one turn.
pub(crate) const NEWCOMERS: u64 = 128;

/// Chunks come this often.
const CHUNK_EVERY: Duration = Duration::from_millis(25);
/// The shard turns this often: the least it sleeps while there is somebody to visit.
const TURN_EVERY: Duration = Duration::from_millis(2);
/// A listener takes this much before it stops taking anything, if it is one of those.
const TAKEN_BY_STALLED: usize = 1000;
/// Half a minute of stream: what the rules ask the history to keep.
const CHUNKS_BEFORE: u64 = 1200;
/// Listeners asked for at once, as the API does.
const LIST_PART: usize = 512;

/// A peer that takes everything, or that stops after its first bytes.
#[derive(Debug)]
pub(crate) struct Peephole {
    left: usize,
}

impl Wire for Peephole {
    fn prepare(&mut self, _: &Rules) -> io::Result<()> {
        Ok(())
    }

    fn set_send_buffer(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn give_up(&mut self) {}

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let shown: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = shown.min(self.left);
        self.left -= if self.left == usize::MAX { 0 } else { taken };
        Ok(taken)
    }

    fn discard(&mut self) -> io::Result<Discarded> {
        Ok(Discarded::Dry(0))
    }
}

struct Unwatched;

impl Watch<Peephole> for Unwatched {
    fn watch(&mut self, _: &mut Peephole, token: Token) -> io::Result<()> {
        black_box(token);
        Ok(())
    }
}

/// Reads the final accounts and throws them away.
#[derive(Debug)]
struct Unread;

impl Reports for Unread {
    fn departed(&self, gone: Vec<Obituary>) {
        black_box(gone);
    }
}

/// One mount on one shard.
pub(crate) struct Hall {
    shard: Shard<Peephole>,
    inbox: Arc<Inbox<Peephole>>,
    broadcast: Arc<Broadcast>,
    history: History,
    maker: Maker,
    places: Arc<Places>,
    now: Moment,
    next_chunk: Moment,
    joined: u64,
}

/// A burst for the ear, limits that nobody comes near who keeps up, and data that waits for `window` milliseconds.
fn rules(window: u64) -> Rules {
    let window = Duration::from_millis(window);
    Rules {
        wish: Wish { method: SyncMethod::BurstKeyframe, burst: "5s, 48KiB".parse().expect("a burst"), burst_max: Extents::NONE },
        limits: limits("10s", "30s"),
        recover: RecoverPolicy::Keyframe,
        resend_streamheader: true,
        patience: Duration::ZERO,
        idle_timeout: None,
        max_duration: None,
        coalesce: Coalesce { min: window, max: window },
        send_buffer: None,
        dscp: None,
        keep_half_closed: false,
        memory_max: 1 << 30,
    }
}

/// The same, but who takes nothing is still within the limits after an hour.
fn patient_rules() -> Rules {
    Rules { limits: limits("100000 chunks", "1h"), ..rules(250) }
}

fn limits(soft: &str, hard: &str) -> Limits {
    Limits { soft: soft.parse().expect(soft), hard: hard.parse().expect(hard) }
}

impl Hall {
    /// A mount with half a minute of stream, and nobody there.
    pub(crate) fn new(rules: Rules) -> Self {
        let counters = Arc::new(ShardCounters::default());
        let retention = Retention::new("10s".parse().expect("ten seconds"), &rules.wish, &rules.limits, rules.recover, 1 << 30);
        let path = "/bench.mp3".parse().expect("a path");
        let broadcast = Arc::new(Broadcast::new(0, path, &[Alarm::silent()], rules, Arc::new(Unread)));
        let mut maker = Maker::of_mp3(&broadcast.account);
        let mut history = History::new(retention);
        broadcast.feed.write(|ring| maker.write(&mut history, ring, CHUNKS_BEFORE));
        let now = Moment::ZERO + CHUNK_EVERY * CHUNKS_BEFORE as u32;
        Self {
            shard: Shard::new(0, counters, now),
            inbox: Inbox::new(Alarm::silent()),
            broadcast,
            history,
            maker,
            places: Arc::new(Places::new(None)),
            now,
            next_chunk: now,
            joined: 0,
        }
    }

    /// Somebody asks to be let in; takes `most` bytes and nothing after them.
    fn knock(&mut self, most: usize) {
        self.joined += 1;
        let arrival = Arrival {
            wire: Peephole { left: most },
            broadcast: Arc::clone(&self.broadcast),
            head: vec![b'h'; 200].into(),
            wish: None,
            placed: None,
            inlay: None,
            id: ListenerId(self.joined),
            peer: Peer::Unix,
            user_agent: "bench/1".into(),
            pass: None,
            trail: flumen::engine::trail::Trail::default(),
            intro: None,
            accepted: self.now,
            seat: Seat::take(&self.places, &self.places).expect("there is no limit"),
        };
        assert!(self.inbox.tell(Command::Join(Box::new(arrival))), "the inbox is full");
    }

    /// Ten thousand come; every one in `stalled_every` stops taking anything.
    pub(crate) fn filled(rules: Rules, stalled_every: Option<u64>) -> Self {
        let mut hall = Self::new(rules);
        for i in 0..LISTENERS {
            let stalls = stalled_every.is_some_and(|every| i.is_multiple_of(every));
            hall.knock(if stalls { TAKEN_BY_STALLED } else { usize::MAX });
            if (i + 1).is_multiple_of(NEWCOMERS) {
                hall.turn();
            }
        }
        hall.turn();
        hall.pass(Duration::from_secs(2)); // whoever stalls has stalled, and every table has its size
        hall
    }

    /// One turn, now.
    pub(crate) fn turn(&mut self) {
        black_box(self.shard.turn(self.now, &self.inbox, &mut Unwatched));
        self.shard.note(Duration::from_micros(500), self.now + Duration::from_micros(500));
    }

    /// A chunk comes.
    pub(crate) fn push(&mut self) {
        let (chunk, _) = self.maker.next();
        self.broadcast.feed.write(|ring| self.history.push(ring, chunk, self.now));
    }

    /// Lets so much time pass, in which chunks come and the shard turns.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + TURN_EVERY;
            if self.now >= self.next_chunk {
                self.next_chunk = self.next_chunk + CHUNK_EVERY;
                self.push();
            }
            self.turn();
        }
    }

    /// Listeners that are here.
    pub(crate) fn listeners(&self) -> u64 {
        self.broadcast.counters.listeners()
    }

    fn listed(&mut self) -> Vec<ListenerView> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(start) = from {
            let answer = Arc::new(Mutex::new(None));
            let given = Arc::clone(&answer);
            let reply = Reply::new(move |part: ListPart| *given.lock().expect("no panic") = Some(part));
            assert!(self.inbox.tell(Command::List { slot: 0, from: start, most: LIST_PART, reply }), "the inbox is full");
            self.turn();
            let part = answer.lock().expect("no panic").take().expect("an answer");
            all.extend(part.listeners);
            from = part.next;
        }
        all
    }
}

/// One second of a shard whose listeners all keep up: each is visited once a window.
pub(crate) fn served(window: u64) -> Run {
    let mut hall = Hall::filled(rules(window), None);
    Box::new(move || hall.pass(Duration::from_secs(1)))
}

/// The same where every second listener takes nothing: it costs no visits, but is judged at each chunk.
pub(crate) fn half_blocked() -> Run {
    let mut hall = Hall::filled(patient_rules(), Some(2));
    Box::new(move || hall.pass(Duration::from_secs(1)))
}

/// A chunk comes to ten thousand that take nothing and are still within their limits.
pub(crate) fn judged() -> Run {
    let mut hall = Hall::filled(patient_rules(), Some(1));
    Box::new(move || {
        hall.push();
        hall.turn();
    })
}

/// A chunk comes to ten thousand that take nothing, and each of them is moved on.
pub(crate) fn recovered() -> Run {
    let limits = limits("40 chunks", "none");
    let mut hall = Hall::filled(Rules { limits, recover: RecoverPolicy::SoftLimit, ..rules(250) }, Some(1));
    Box::new(move || {
        hall.push();
        hall.turn();
    })
}

/// Newcomers are placed and sent their burst, and leave.
pub(crate) fn join_and_leave() -> Run {
    let mut hall = Hall::new(rules(250));
    Box::new(move || {
        for _ in 0..NEWCOMERS {
            hall.knock(usize::MAX);
        }
        hall.turn();
        assert_eq!(hall.listeners(), NEWCOMERS);
        assert!(hall.inbox.tell(Command::Clear { why: Departure::ShuttingDown }), "the inbox is full");
        hall.turn();
        assert_eq!(hall.listeners(), 0);
    })
}

/// The whole list, in parts.
pub(crate) fn list() -> Run {
    let mut hall = Hall::filled(rules(250), None);
    Box::new(move || assert_eq!(hall.listed().len() as u64, LISTENERS))
}

/// What the shard answers to the question for its list.
pub(super) fn views() -> Vec<ListenerView> {
    Hall::filled(rules(250), None).listed()
}
