//! Places: who is let in while there is room. The last place goes to exactly one, whatever it is that there is only so much of.
//!
//! - A room (a mount, the server, a group of addresses) has so many places, so many for each address and each user, so much
//!   bandwidth, and takes so many newcomers a second. A newcomer needs all of that in each room, or takes nothing in any.
//! - Counting costs a newcomer some short locks, and nobody else anything.

mod flow;
mod full;
mod headcount;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use flow::SAMPLE_EVERY;
use flow::{Joins, Meter};
pub use full::{Full, Lack, Room};
pub use headcount::{Headcount, Hold, customer};

use crate::units::Moment;

/// What is full, in the thousandths by which fullness is told.
pub const FULL: u64 = 1000;

/// What a room has only so much of, beside its places. `None`: without limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Listeners of one address; of IPv6, of one network of 64 bits.
    pub per_address: Option<u64>,
    /// Listeners of one user.
    pub per_user: Option<u64>,
    /// Bytes per second that are sent, as measured.
    pub bandwidth: Option<u64>,
    /// Newcomers per second.
    pub join_rate: Option<u64>,
}

/// A newcomer, as far as limits go.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// From where; `None`: from this machine.
    pub address: Option<IpAddr>,
    /// Who it is, if that is known.
    pub user: Option<Arc<str>>,
    /// How much it will take, in bytes per second; zero: nobody knows.
    pub rate: u64,
    /// When it comes.
    pub now: Moment,
}

#[derive(Debug, Default)]
struct Flow {
    limits: Limits,
    meter: Meter,
    joins: Joins,
}

/// So many places, in a mount or in the whole server.
#[derive(Debug)]
pub struct Places {
    taken: AtomicU64,
    peak: AtomicU64,
    most: AtomicU64,
    by_address: Headcount<IpAddr>,
    by_user: Headcount<Arc<str>>,
    /// Whether there is a limit in what follows.
    measured: AtomicBool,
    flow: Mutex<Flow>,
}

impl Places {
    /// `None`: without limit.
    pub fn new(most: Option<u64>) -> Self {
        Self {
            taken: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            most: AtomicU64::new(most.unwrap_or(u64::MAX)),
            by_address: Headcount::new(None),
            by_user: Headcount::new(None),
            measured: AtomicBool::new(false),
            flow: Mutex::default(),
        }
    }

    /// Places taken now, those on their way to a shard included.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The most that were ever taken at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// So many were taken at once in the process before this.
    pub fn note_peak(&self, peak: u64) {
        self.peak.fetch_max(peak, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// How full it is, in thousandths.
    pub fn fullness(&self) -> u64 {
        let share = u128::from(self.taken()) * u128::from(FULL) / u128::from(self.most().max(1));
        share.min(FULL.into()) as u64
    }

    /// From now on there are so many. Who has one keeps it.
    pub fn set_most(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on these limits hold. Who has a place keeps it.
    pub fn set_limits(&self, limits: &Limits) {
        self.by_address.set_most(limits.per_address);
        self.by_user.set_most(limits.per_user);
        let mut flow = self.flow();
        if flow.limits.bandwidth.is_none() {
            flow.meter = Meter::default(); // what it last measured is long ago
        }
        flow.limits = limits.clone();
        self.measured.store(limits.bandwidth.is_some() || limits.join_rate.is_some(), Ordering::Release);
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes have been sent by now, in all. To be told each [`SAMPLE_EVERY`]; `total` is asked for only where there is a limit.
    pub fn sample(&self, total: impl FnOnce() -> u64, now: Moment) {
        if self.measured.load(Ordering::Acquire) {
            let mut flow = self.flow();
            if flow.limits.bandwidth.is_some() {
                flow.meter.sample(total(), now);
            }
        }
    }

    /// What is being sent, in bytes per second, as far as a limit asks for it to be measured.
    pub fn rate(&self) -> Option<u64> {
        let flow = self.flow();
        flow.limits.bandwidth.map(|_| flow.meter.rate())
    }

    fn take(&self, who: &Who, joins: bool) -> Result<(), Lack> {
        let most = self.most();
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| (taken < most).then_some(taken + 1));
        let Ok(before) = taken else { return Err(Lack::Places) };
        if let Err(lack) = self.take_more(who, joins) {
            self.taken.fetch_sub(1, Ordering::AcqRel);
            return Err(lack);
        }
        self.peak.fetch_max(before + 1, Ordering::Relaxed);
        Ok(())
    }

    /// What it needs beside a place.
    fn take_more(&self, who: &Who, joins: bool) -> Result<(), Lack> {
        if who.address.is_some_and(|address| !self.by_address.take(customer(address))) {
            return Err(Lack::Address);
        }
        if who.user.as_ref().is_some_and(|user| !self.by_user.take(Arc::clone(user))) {
            self.forget(who.address, None);
            return Err(Lack::User);
        }
        let flowing = if joins && self.measured.load(Ordering::Acquire) { self.take_flow(who) } else { Ok(()) };
        if flowing.is_err() {
            self.forget(who.address, who.user.as_ref());
        }
        flowing
    }

    fn take_flow(&self, who: &Who) -> Result<(), Lack> {
        let mut flow = self.flow();
        let Flow { limits, meter, joins } = &mut *flow;
        if limits.bandwidth.is_some_and(|most| meter.rate() + who.rate > most) {
            return Err(Lack::Bandwidth);
        }
        if limits.join_rate.is_some_and(|rate| !joins.take(rate, who.now)) {
            return Err(Lack::Time);
        }
        meter.promise(who.rate);
        Ok(())
    }

    /// Somebody does not join after all: whoever is turned away elsewhere must not use up what is here.
    fn take_back(&self, rate: u64) {
        if self.measured.load(Ordering::Acquire) {
            let mut flow = self.flow();
            flow.meter.take_back(rate);
            flow.joins.take_back();
        }
    }

    fn forget(&self, address: Option<IpAddr>, user: Option<&Arc<str>>) {
        if let Some(address) = address {
            self.by_address.give_back(&customer(address));
        }
        if let Some(user) = user {
            self.by_user.give_back(user);
        }
    }

    fn give_back(&self, address: Option<IpAddr>, user: Option<&Arc<str>>) {
        self.forget(address, user);
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    /// Listeners from an address.
    pub fn of_address(&self, address: IpAddr) -> u64 {
        self.by_address.of(&customer(address))
    }
}

/// One place in each of two rooms, and perhaps in a third, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    server: Arc<Places>,
    mount: Arc<Places>,
    group: Option<Arc<Places>>,
    address: Option<IpAddr>,
    user: Option<Arc<str>>,
    /// Its connection still counts.
    hold: Option<Hold>,
}

impl Seat {
    /// Takes a place in the server and in the mount, or in neither; for somebody of whom nothing is known.
    pub fn take(server: &Arc<Places>, mount: &Arc<Places>) -> Option<Self> {
        Self::claim(server, mount, None, Who::default()).ok()
    }

    /// Takes a place in each of the rooms, or in none.
    ///
    /// # Errors
    /// Says what there is no more of.
    pub fn claim(server: &Arc<Places>, mount: &Arc<Places>, group: Option<&Arc<Places>>, who: Who) -> Result<Self, Full> {
        let rooms = [(Room::Server, Some(server)), (Room::Group, group), (Room::Mount, Some(mount))];
        let mut taken: [Option<&Arc<Places>>; 3] = [None; 3];
        for (i, (room, places)) in rooms.into_iter().enumerate() {
            let Some(places) = places else { continue };
            if let Err(lack) = places.take(&who, true) {
                for places in taken.into_iter().flatten() {
                    places.give_back(who.address, who.user.as_ref());
                    places.take_back(who.rate);
                }
                return Err(Full { room, lack });
            }
            taken[i] = Some(places);
        }
        let Who { address, user, .. } = who;
        Ok(Self { server: Arc::clone(server), mount: Arc::clone(mount), group: group.cloned(), address, user, hold: None })
    }

    /// Its connection counts as one of its address for as long.
    pub fn hold(&mut self, hold: Option<Hold>) {
        self.hold = hold;
    }

    /// A place for somebody who has one already, in the process before this: whatever the limits are.
    pub fn keep(server: &Arc<Places>, mount: &Arc<Places>, group: Option<&Arc<Places>>, who: Who) -> Self {
        let Who { address, user, .. } = who;
        for places in [Some(server), Some(mount), group].into_iter().flatten() {
            let before = places.taken.fetch_add(1, Ordering::AcqRel);
            places.peak.fetch_max(before + 1, Ordering::Relaxed);
            if let Some(address) = address {
                places.by_address.keep(customer(address));
            }
            if let Some(user) = &user {
                places.by_user.keep(Arc::clone(user));
            }
        }
        Self { server: Arc::clone(server), mount: Arc::clone(mount), group: group.cloned(), address, user, hold: None }
    }

    /// Exchanges the place in the mount for one in another, if that has one. Returns whether it had. Nobody joins by that: what is
    /// sent and how many come at once does not matter.
    pub fn change(&mut self, mount: &Arc<Places>) -> bool {
        let who = Who { address: self.address, user: self.user.clone(), ..Who::default() };
        let taken = mount.take(&who, false).is_ok();
        if taken {
            std::mem::replace(&mut self.mount, Arc::clone(mount)).give_back(self.address, self.user.as_ref());
        }
        taken
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let rooms = [Some(&self.server), Some(&self.mount), self.group.as_ref()];
        rooms.into_iter().flatten().for_each(|places| places.give_back(self.address, self.user.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_goes_to_exactly_one() {
        let (server, mount) = (Arc::new(Places::new(None)), Arc::new(Places::new(Some(10))));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (server, mount) = (Arc::clone(&server), Arc::clone(&mount));
                std::thread::spawn(move || (0..100).filter_map(|_| Seat::take(&server, &mount)).collect::<Vec<_>>())
            })
            .collect();
        let seats: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!((seats.len(), server.taken(), mount.taken(), mount.peak()), (10, 10, 10, 10), "and a refusal leaves nothing taken");
        assert_eq!((mount.fullness(), server.fullness()), (FULL, 0), "without a limit it is never full");
        mount.set_most(Some(5));
        assert!(Seat::take(&server, &mount).is_none(), "there are fewer now, and who had one has it still");
        assert_eq!(mount.taken(), 10);
        drop(seats);
        assert_eq!((server.taken(), mount.taken(), mount.peak()), (0, 0, 10));
    }

    #[test]
    fn a_place_is_exchanged_for_one_that_is_free_or_kept() {
        let [server, from, to] = [None, None, Some(1)].map(|most| Arc::new(Places::new(most)));
        let [mut first, mut second] = [(); 2].map(|()| Seat::take(&server, &from).expect("room"));
        assert!(first.change(&to) && !second.change(&to));
        assert_eq!((server.taken(), from.taken(), to.taken()), (2, 1, 1));
        drop((first, second));
        assert_eq!((server.taken(), from.taken(), to.taken()), (0, 0, 0));
    }

    /// Threads that all want the same at once; how many get it.
    fn race(server: &Arc<Places>, mount: &Arc<Places>, group: Option<&Arc<Places>>, who: &Who) -> (Vec<Seat>, Vec<Full>) {
        let threads: Vec<_> = (0..10)
            .map(|_| {
                let (server, mount, group, who) = (Arc::clone(server), Arc::clone(mount), group.cloned(), who.clone());
                std::thread::spawn(move || (0..10).map(|_| Seat::claim(&server, &mount, group.as_ref(), who.clone())).collect::<Vec<_>>())
            })
            .collect();
        let (mut seats, mut refused) = (Vec::new(), Vec::new());
        for result in threads.into_iter().flat_map(|thread| thread.join().expect("no panic")) {
            match result {
                Ok(seat) => seats.push(seat),
                Err(full) => refused.push(full),
            }
        }
        (seats, refused)
    }

    #[test]
    fn of_a_hundred_who_want_the_last_place_of_any_kind_exactly_one_gets_it() {
        let who = Who { address: Some([192, 0, 2, 1].into()), user: Some("u".into()), rate: 16_000, now: Moment::from_nanos(1) };
        let one = Some(1);
        let wide = Limits { bandwidth: Some(1 << 40), ..Limits::default() };
        for (lack, limits) in [
            (Lack::Address, Limits { per_address: one, ..Limits::default() }),
            (Lack::User, Limits { per_user: one, ..Limits::default() }),
            (Lack::Bandwidth, Limits { bandwidth: Some(20_000), ..Limits::default() }),
            (Lack::Time, Limits { join_rate: one, ..Limits::default() }),
            (Lack::Places, Limits::default()),
        ] {
            for room in [Room::Server, Room::Mount, Room::Group] {
                let [server, mount, group] = [Room::Server, Room::Mount, Room::Group].map(|this| {
                    let places = Places::new(if this == room && lack == Lack::Places { one } else { None });
                    places.set_limits(if this == room { &limits } else { &wide });
                    Arc::new(places)
                });
                let (seats, refused) = race(&server, &mount, Some(&group), &who);
                assert_eq!((seats.len(), refused.len()), (1, 99), "{lack:?} {room:?}");
                assert!(refused.iter().all(|full| *full == Full { room, lack }), "{refused:?}");
                for places in [&server, &mount, &group] {
                    assert_eq!((places.taken(), places.of_address([192, 0, 2, 1].into())), (1, 1), "a refusal leaves nothing taken");
                }
                drop(seats);
                for places in [&server, &mount, &group] {
                    assert_eq!((places.taken(), places.by_address.different(), places.by_user.different()), (0, 0, 0));
                }
                assert!(!Full { room, lack }.sentence().is_empty());
            }
        }
    }

    #[test]
    fn who_moves_counts_where_he_is() {
        let [server, from, to] = [(); 3].map(|()| Arc::new(Places::new(None)));
        to.set_limits(&Limits { per_address: Some(1), join_rate: Some(1), ..Limits::default() });
        let address = [192, 0, 2, 1].into();
        let who = Who { address: Some(address), ..Who::default() };
        let mut seats: Vec<_> = (0..2).map(|_| Seat::claim(&server, &from, None, who.clone()).expect("room")).collect();
        assert!(seats[0].change(&to) && !seats[1].change(&to), "there may be one of an address");
        assert_eq!([&server, &from, &to].map(|places| places.of_address(address)), [2, 1, 1]);
        drop(seats);
        assert_eq!([&server, &from, &to].map(|places| places.of_address(address)), [0, 0, 0]);
    }

    #[test]
    fn who_is_kept_counts_for_its_user_whatever_the_limit_and_no_longer_than_it_stays() {
        let [server, mount] = [(); 2].map(|()| Arc::new(Places::new(None)));
        mount.set_limits(&Limits { per_user: Some(2), ..Limits::default() });
        let who = Who { user: Some("ada".into()), ..Who::default() };
        let kept: Vec<_> = (0..3).map(|_| Seat::keep(&server, &mount, None, who.clone())).collect();
        let full = Full { room: Room::Mount, lack: Lack::User };
        assert_eq!(Seat::claim(&server, &mount, None, who.clone()).expect_err("no room"), full);
        assert!(Seat::claim(&server, &mount, None, Who::default()).is_ok(), "who is nobody in particular is not counted");
        drop(kept);
        assert!(Seat::claim(&server, &mount, None, who).is_ok());
        assert_eq!((server.by_user.different(), mount.by_user.different()), (0, 0));
    }

    #[test]
    fn a_limit_that_comes_later_counts_who_is_there_already() {
        let [server, mount] = [(); 2].map(|()| Arc::new(Places::new(None)));
        let who = Who { address: Some([192, 0, 2, 1].into()), ..Who::default() };
        let seat = Seat::claim(&server, &mount, None, who.clone()).expect("room");
        mount.set_limits(&Limits { per_address: Some(1), ..Limits::default() });
        let full = Seat::claim(&server, &mount, None, who.clone()).expect_err("no room");
        assert_eq!(full, Full { room: Room::Mount, lack: Lack::Address });
        drop(seat);
        assert!(Seat::claim(&server, &mount, None, who).is_ok());
    }

    #[test]
    fn who_would_send_more_than_may_be_sent_is_turned_away_until_less_is_sent() {
        let [server, mount] = [(); 2].map(|()| Arc::new(Places::new(None)));
        mount.set_limits(&Limits { bandwidth: Some(100_000), ..Limits::default() });
        let claim = |rate| Seat::claim(&server, &mount, None, Who { rate, ..Who::default() });
        (0..5).for_each(|i| mount.sample(|| i * 90_000, Moment::from_nanos(i * 1_000_000_000)));
        assert_eq!(mount.rate(), Some(90_000));
        assert_eq!(claim(16_000).expect_err("it is too much").lack, Lack::Bandwidth);
        let one = claim(8_000).expect("that much may be sent");
        assert!(claim(8_000).is_err(), "what is promised counts before it is sent");
        (5..10).for_each(|i| mount.sample(|| 4 * 90_000, Moment::from_nanos(i * 1_000_000_000)));
        assert!(claim(16_000).is_ok());
        drop(one);
    }

    #[test]
    fn who_is_turned_away_at_a_mount_uses_up_nothing_of_the_server() {
        let [server, mount] = [None, Some(0)].map(|most| Arc::new(Places::new(most)));
        server.set_limits(&Limits { bandwidth: Some(16_000), join_rate: Some(1), ..Limits::default() });
        let who = Who { rate: 16_000, ..Who::default() };
        for _ in 0..100 {
            let full = Seat::claim(&server, &mount, None, who.clone()).expect_err("no room");
            assert_eq!(full, Full { room: Room::Mount, lack: Lack::Places });
        }
        mount.set_most(None);
        assert!(Seat::claim(&server, &mount, None, who).is_ok());
    }
}
