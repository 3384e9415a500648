//! What is held against the model: after every turn, at every departure, and when all is quiet.

use std::sync::mpsc;
use std::time::Duration;

use super::{Gone, Mount, Present, Pull, World};
use crate::engine::broadcast::{ListenerView, Obituary};
use crate::engine::inbox::{Command, Reply};
use crate::fanout::departure::Departure;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::ring::{Lag, Ring};
use crate::fanout::stats::read;
use crate::units::{ByteCount, Extent, Extents, ListenerId, Seq, nanos};

/// A turn later than the window: what timers and other listeners' sends may add.
const SLACK: Duration = Duration::from_millis(10);
/// A sweep comes by once a second.
const SWEEP: Duration = Duration::from_millis(1_200);

/// What the counters of a mount must say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Toll {
    pub(super) joins: u64,
    pub(crate) departures: [u64; Departure::ALL.len()],
    dropped: u64,
    bytes: u64,
    /// The most memory that chunks ever took.
    pub(crate) held_peak: u64,
}

fn reaches(lag: Lag, extent: Extent) -> bool {
    match extent {
        Extent::Chunks(n) => lag.chunks >= n,
        Extent::Bytes(ByteCount(n)) => lag.bytes >= n,
        Extent::Time(span) => lag.time >= span,
    }
}

fn passes(lag: Lag, extents: &Extents) -> bool {
    extents.iter().any(|extent| match extent {
        Extent::Chunks(n) => lag.chunks > n,
        Extent::Bytes(ByteCount(n)) => lag.bytes > n,
        Extent::Time(span) => lag.time > span,
    })
}

/// Placement, naively: every place is tried. `None` where the ring holds too little to tell from outside.
fn place(wish: &Wish, ring: &Ring, keyframe: impl Fn(u64) -> bool) -> Option<(u64, bool)> {
    let (oldest, next) = (ring.oldest().number(), ring.next().number());
    let on_keyframe = !matches!(wish.method, SyncMethod::Latest | SyncMethod::Burst | SyncMethod::BurstWithKeyframe);
    if oldest == next {
        return Some((next, on_keyframe));
    }
    let lag = |at| ring.lag(Seq::new(at));
    let wait = Some((next, true));
    match wish.method {
        SyncMethod::Latest => return Some((next - 1, false)),
        SyncMethod::NextKeyframe => return wait,
        SyncMethod::LatestKeyframe => return (oldest..next).rev().find(|&at| keyframe(at)).map(|at| (at, false)),
        _ => {}
    }
    let least = (oldest..next).rev().find(|&at| wish.burst.iter().all(|extent| reaches(lag(at), extent)))?;
    let most = (oldest..=next).find(|&at| !passes(lag(at), &wish.burst_max)).unwrap_or(next);
    let start = least.max(most);
    let older = (most..=start.min(next - 1)).rev().find(|&at| keyframe(at));
    match wish.method {
        SyncMethod::Burst => Some((start, false)),
        SyncMethod::BurstWithKeyframe if most > oldest || older.is_some() => Some((older.unwrap_or(start), false)),
        SyncMethod::BurstKeyframe if most > oldest || older.is_some() => {
            older.or_else(|| (start..next).find(|&at| keyframe(at))).map_or(wait, |at| Some((at, false)))
        }
        _ => None, // the shard's copy may hold an older keyframe
    }
}

impl Mount {
    pub(super) fn place(&self, wish: Option<&Wish>) -> Option<(u64, bool)> {
        let (wish, book) = (wish.unwrap_or(&self.broadcast.rules.wish), self.book.borrow());
        let keyframe = |at| book.note(at).is_some_and(|note| note.keyframe && note.size > 0);
        self.broadcast.feed.read(|ring| place(wish, ring, keyframe))
    }

    /// Departures so far for this reason.
    pub(crate) fn departed(&self, why: Departure) -> u64 {
        self.toll.departures[why.index()]
    }

    /// The most memory that its chunks ever took.
    pub(crate) fn held_peak(&self) -> u64 {
        self.toll.held_peak
    }

    /// Memory of the chunks in its ring.
    pub(crate) fn ring_cost(&self) -> u64 {
        self.broadcast.feed.read(Ring::cost)
    }
}

impl World {
    /// After a turn: who has left, and what those who are here have heard.
    pub(super) fn inspect_turn(&mut self, shard: usize) {
        for mount in 0..self.mounts.len() {
            let gone = std::mem::take(&mut *self.mounts[mount].post.0.lock().expect("no panic"));
            for obituary in gone {
                self.inspect_departure(mount, &obituary);
            }
        }
        for present in self.present.iter().filter(|present| present.shard == shard) {
            let ear = &present.line.borrow().ear;
            assert_eq!(ear.fault, None, "{:?} {:?}", present.id, present.guest);
            if present.guest.fast {
                let window = self.mounts[present.guest.mount].broadcast.rules.coalesce.max;
                let most = window * self.windows + SLACK + 2 * self.lateness;
                let slowest = Duration::from_nanos(ear.slowest);
                assert!(slowest <= most, "{:?} waited {slowest:?} for a chunk, the window is {most:?}", present.id);
                assert_eq!(ear.unexcused, 0, "{:?} keeps up and misses chunks", present.id);
            }
        }
    }

    fn inspect_departure(&mut self, mount: usize, gone: &Obituary) {
        let place = self.present.iter().position(|present| present.id == gone.id);
        let place = place.unwrap_or_else(|| panic!("{:?} leaves twice, or was never here: {:?}", gone.id, gone.why));
        let present = self.present.swap_remove(place);
        assert_eq!(present.guest.mount, mount);
        if !self.forgetful {
            self.gone.push(Gone { id: gone.id, why: gone.why, last_heard: present.line.borrow().ear.last });
        }
        let line = present.line.borrow();
        let (id, ear, why) = (gone.id, &line.ear, gone.why);
        assert_eq!(ear.fault, None, "{id:?} {:?}", present.guest);
        assert!(present.guest.may_leave.contains(&why), "{id:?} was not to leave for {why:?}: {:?}", present.guest);
        assert!(!line.open, "{id:?} has left, and its socket is open");
        assert_eq!(gone.tally.bytes, ear.bytes, "{id:?}: bytes");
        assert!(nanos(gone.stayed) <= self.now() - present.joined, "{id:?}: stayed {:?}", gone.stayed);

        let mount = &mut self.mounts[mount];
        let (rules, next) = (&mount.broadcast.rules, mount.book.borrow().next());
        let (announced, least) = (gone.tally.dropped_chunks, ear.missing - ear.missing_empty);
        assert!(announced >= least, "{id:?}: {least} chunks are missing, {announced} were announced");
        let from = ear.last.map(|last| last + 1).or(present.placed.map(|(at, _)| at));
        if let (Some(from), Some((placed, _))) = (from, present.placed) {
            let skipped = ear.first.map_or(0, |first| first - placed);
            let most = skipped + ear.missing + next.saturating_sub(from);
            assert!(announced <= most, "{id:?}: {announced} chunks were announced as missing, at most {most} are");
        }
        match why {
            Departure::TooSlow => {
                let pressed = mount.toll.held_peak > rules.memory_max;
                let at = Seq::new(from.unwrap_or(0));
                let (lag, gone) = mount.broadcast.feed.read(|ring| (ring.lag(at), at < ring.oldest()));
                assert!(gone || pressed || passes(lag, &rules.limits.hard), "{id:?} is removed at a lag of {lag:?}: {:?}", rules.limits);
            }
            Departure::Stalled => {
                let idle = rules.idle_timeout.expect("only then is somebody stalled");
                let quiet = Duration::from_nanos(self.clock.get() - ear.last_heard);
                assert!(quiet >= idle, "{id:?} was removed as stalled after {quiet:?}");
                assert!(line.refusals > 0, "{id:?} was stalled with an empty buffer");
            }
            // Only those leave so who are sent everything before.
            Departure::SourceEnded => assert_eq!(line.held, 0, "{id:?} leaves, and something of it is held"),
            Departure::SessionLimit => {
                let most = rules.max_duration.expect("only then is a session over");
                let late = SWEEP + 20 * self.lateness;
                assert!(gone.stayed >= most, "{id:?} had {:?}", gone.stayed);
                assert!(gone.stayed <= most + late || mount.book.borrow().forgiven > present.joined, "{id:?} had {:?}", gone.stayed);
            }
            _ => {}
        }
        mount.toll.departures[why.index()] += 1;
        mount.toll.dropped += announced;
        mount.toll.bytes += ear.bytes;
        self.sends_gone += line.sends;
    }

    /// Every listener of a mount, as somebody who asks is told.
    pub(crate) fn list(&mut self, mount: usize) -> Vec<ListenerView> {
        let mut all = Vec::new();
        for shard in 0..self.hands.len() {
            let mut from = Some(0);
            while let Some(start) = from {
                let (take, part) = mpsc::channel();
                let reply = Reply::new(move |part| drop(take.send(part)));
                assert!(self.hands[shard].inbox.tell(Command::List { slot: mount, from: start, most: 7, reply }));
                self.run_for(Duration::from_millis(1) + self.lateness);
                let part = part.try_recv().expect("an answer within the turn");
                all.extend(part.listeners);
                from = part.next;
            }
        }
        all
    }

    /// Chunks that somebody who is here was told it lost.
    pub(crate) fn dropped(&mut self, mount: usize, id: ListenerId) -> u64 {
        self.list(mount).iter().find(|view| view.id == id).expect("it is here").tally.dropped_chunks
    }

    /// Sources fall silent and peers take everything: then all must have got all that was to be had.
    pub(crate) fn settle(&mut self) {
        self.silence();
        self.script.clear();
        for present in &self.present {
            present.line.borrow_mut().set_pull(Pull::AtOnce);
        }
        let awake = self.hands.iter().map(|hand| hand.busy_until).max().unwrap_or_default();
        self.run_for(Duration::from_nanos(awake.saturating_sub(self.now())) + Duration::from_secs(3) + 10 * self.lateness);
        for mount in 0..self.mounts.len() {
            let views = self.list(mount);
            let present = self.present.iter().filter(|present| present.guest.mount == mount);
            assert_eq!(views.len(), present.clone().count(), "the list is complete");
            let mut toll = self.mounts[mount].toll.clone();
            for present in present {
                let view = views.iter().find(|view| view.id == present.id).expect("it is listed");
                self.inspect_settled(present, view);
                toll.dropped += view.tally.dropped_chunks;
                toll.bytes += view.tally.bytes;
            }
            self.inspect_counters(mount, &toll, views.len() as u64);
        }
        let sends: u64 = self.present.iter().map(|present| present.line.borrow().sends).sum();
        let counted: u64 = self.hands.iter().map(|hand| read(&hand.counters.send_calls)).sum();
        assert_eq!(counted, sends + self.sends_gone, "calls to send");
        let listeners: u64 = self.hands.iter().map(|hand| read(&hand.counters.listeners)).sum();
        assert_eq!(listeners, self.present.len() as u64);
        assert_eq!(self.server.taken(), listeners, "seats in the server");
    }

    fn inspect_settled(&self, present: &Present, view: &ListenerView) {
        let (id, mount) = (present.id, &self.mounts[present.guest.mount]);
        let (line, book) = (present.line.borrow(), mount.book.borrow());
        let ear = &line.ear;
        let dropped = view.tally.dropped_chunks;
        assert!(ear.whole() && line.held == 0, "{id:?}: something half sent");
        assert_eq!(view.lag.chunks, 0, "{id:?}: something waits, though the peer takes everything");
        assert_eq!(view.tally.bytes, ear.bytes, "{id:?}: bytes");
        // All that was made is here or was announced as missing, from the first chunk on; no more was announced than that.
        let (next, got) = (book.next(), ear.chunks + dropped);
        if let Some(first) = ear.first {
            let span = next - first;
            assert!(
                got + book.empties() - ear.empties_before_first >= span,
                "{id:?}: {} chunks and {dropped} announced do not make {span} from {first} on",
                ear.chunks
            );
        }
        let Some((placed, waits)) = present.placed else { return };
        let span = next - placed;
        assert!(got <= span, "{id:?}: {} chunks and {dropped} announced are more than {span} from {placed} on", ear.chunks);
        if dropped == 0 && !waits {
            let first = (placed..next).find(|&at| book.note(at).is_none_or(|note| note.size > 0));
            assert_eq!(ear.first, first, "{id:?}: the first chunk");
        }
    }

    fn inspect_counters(&self, mount: usize, toll: &Toll, present: u64) {
        let mount = &self.mounts[mount];
        let counters = &mount.broadcast.counters;
        let departures: Vec<u64> = counters.departures.iter().map(read).collect();
        assert_eq!(read(&counters.joins), toll.joins, "joins");
        assert_eq!(departures, toll.departures, "departures");
        assert_eq!(counters.listeners(), present, "joins without departures are listeners");
        assert_eq!(counters.session.view().count, departures.iter().sum::<u64>(), "each departure is one session");
        assert_eq!(read(&counters.dropped_chunks), toll.dropped, "dropped chunks");
        assert_eq!(read(&counters.sent_bytes), toll.bytes, "sent bytes");
        assert_eq!(mount.places.taken(), present, "seats");
    }

    /// [`Self::settle`], then everybody leaves: nothing of them stays.
    pub(crate) fn end(mut self) {
        self.settle();
        assert!(self.refused <= self.refusals_most, "{} chunks were refused by the gate", self.refused);
        self.clear();
        self.run_for(Duration::from_secs(1) + self.lateness);
        assert!(self.present.is_empty(), "somebody did not leave when all had to");
        assert_eq!(self.server.taken(), 0);
        for mount in 0..self.mounts.len() {
            self.inspect_counters(mount, &self.mounts[mount].toll, 0);
            let (held, ring) = (self.held(mount), self.mounts[mount].ring_cost());
            assert_eq!(held, ring, "what is in memory is in the ring and nowhere else");
        }
        assert!(self.room() <= 512 * self.hands.len() * self.mounts.len(), "empty tables keep room for {}", self.room());
    }

    /// Memory of a mount's chunks, wherever they are.
    pub(crate) fn held(&self, mount: usize) -> u64 {
        self.mounts[mount].broadcast.account.held_bytes()
    }

    /// Entries for which the shards' tables have room.
    pub(crate) fn room(&self) -> usize {
        self.hands.iter().map(|hand| hand.shard.room()).sum()
    }

    /// Numbers of the chunks that a listener has begun to hear, if they were to be written down.
    pub(crate) fn heard(&self, id: ListenerId) -> Vec<u64> {
        self.line(id, |line| line.ear.heard.clone()).flatten().unwrap_or_default()
    }

    /// The last chunk that somebody who has left has heard.
    pub(crate) fn last_heard(&self, id: ListenerId) -> Option<u64> {
        self.gone.iter().find(|gone| gone.id == id)?.last_heard
    }

    /// Calls to send so far.
    pub(crate) fn send_calls(&self) -> u64 {
        self.hands.iter().map(|hand| read(&hand.counters.send_calls)).sum()
    }
}
