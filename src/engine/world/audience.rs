//! Who comes to the world's mounts, and what shards are told about them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::ear::Ear;
use super::pipe::{Line, Pipe};
use super::{Guest, Present, World};
use crate::engine::admission::Seat;
use crate::engine::alarm::Alarm;
use crate::engine::broadcast::{Broadcast, Peer, Rules};
use crate::engine::inbox::{Command, Reply};
use crate::engine::listener::{Arrival, Inlay};
use crate::fanout::departure::Departure;
use crate::units::{ListenerId, Moment};
use crate::wire::upstream::Interleaved;

impl World {
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
