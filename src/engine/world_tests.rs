//! Serving: windows, limits, recoveries, bounds. One claim a test, in a world of pretend sockets.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Places, Seat};
use super::alarm::Alarm;
use super::broadcast::{Broadcast, Peer, Rules};
use super::counters::ShardCounters;
use super::inbox::{Command, Inbox};
use super::listener::Arrival;
use super::shard::{Readiness, Shard, Token, Watch};
use super::socket::{Discarded, Wire};
use super::world::{Guest, Pull, Source, World, limits, ms, rules, secs, window};
use crate::fanout::departure::Departure;
use crate::fanout::history::History;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::retention::Retention;
use crate::fanout::testing::chunk;
use crate::units::{Extents, ListenerId, Moment};

const RING_MAX: u64 = 1 << 20;

#[test]
fn a_listener_that_keeps_up_gets_each_chunk_within_the_window_and_not_one_by_one() {
    for (millis, most_calls) in [(100, 10), (500, 2)] {
        let mut world = World::seeded(millis, 2);
        let mount = world.mount(Rules { coalesce: window(millis), ..rules() }, "10s", RING_MAX);
        world.source(Source::new(mount, ms(20), 400, 10));
        for _ in 0..30 {
            world.join(Guest::fast(mount));
            world.run_for(ms(37));
        }
        let before = world.send_calls();
        world.run_for(secs(60));
        let calls = world.send_calls() - before;
        assert!(calls <= 30 * 60 * most_calls * 11 / 10, "{calls} calls for 90,000 chunks");
        world.end();
    }
}

#[test]
fn listeners_that_never_read_are_not_felt_by_those_who_do() {
    let mut world = World::seeded(2, 1);
    let rules = Rules { limits: limits("2s", "none"), recover: RecoverPolicy::Keyframe, ..rules() };
    let mount = world.mount(rules, "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    for i in 0..100 {
        world.join(if i % 2 == 0 { Guest::fast(mount) } else { Guest::stalled(mount, 3000) });
        world.run_for(ms(7));
    }
    world.run_for(secs(120)); // each turn looks whether one of the fast ones waited or missed something
    assert!(world.gone.is_empty());
    world.end();
}

#[test]
fn the_hard_limit_acts_at_the_chunk_that_passes_it_and_not_before() {
    for (hard, millis) in [("5 chunks", 0), ("500B", 0), ("80ms", 0), ("1MiB, 5 chunks", 0), ("5 chunks", 100), ("500B", 500)] {
        let mut world = World::seeded(3, 1);
        let rules = Rules { limits: limits("none", hard), coalesce: window(millis), ..rules() };
        let mount = world.mount(rules, "1s", RING_MAX);
        world.picture(mount, "K");
        let slow = world.join(Guest { head: 0, ..Guest::stalled(mount, 250) });
        world.picture(mount, ".......");
        // Two chunks have gone and half of chunk 2; five wait behind it: 3 to 7.
        assert!(world.here(slow), "{hard}, window {millis} ms: exactly at its limit");
        world.picture(mount, ".");
        assert_eq!(world.departure(slow), Some(Departure::TooSlow), "{hard}, window {millis} ms");
        world.end();
    }
}

#[test]
fn who_is_blocked_is_judged_at_once_however_long_the_window_is() {
    let mut world = World::seeded(18, 1);
    let rules = Rules { limits: limits("none", "120 chunks"), coalesce: window(500), ..rules() };
    let mount = world.mount(rules, "10s", RING_MAX);
    world.picture(mount, &"K".repeat(400));
    world.join(Guest::fast(mount));
    let slow = world.join(Guest { head: 0, ..Guest::stalled(mount, 50) }); // in the middle of chunk 399
    world.picture(mount, &"K".repeat(120));
    world.run_for(ms(7)); // away from anything else that wakes the shard
    assert!(world.here(slow));
    world.push_kind(mount, 'K');
    world.run_for(ms(1));
    assert!(!world.here(slow), "not only when the window is over");
    world.end();
}

#[test]
fn a_listener_that_is_overtaken_by_the_end_of_the_ring_is_too_slow_also_without_limits() {
    for seed in 0..20 {
        let mut world = World::seeded(seed, 1);
        let mount = world.mount(Rules { coalesce: window(20), ..rules() }, "1s", 64 * 1024);
        world.source(Source::new(mount, ms(20), 1000, 1));
        world.run_for(secs(3));
        let (rate, buffer) = (world.rng.u64(1000..45_000), world.rng.u64(100..4000));
        let slow = world.join(Guest::slow(mount, rate, buffer)); // the stream has 50,000 bytes a second
        world.run_for(secs(60));
        assert_eq!(world.departure(slow), Some(Departure::TooSlow), "nothing is to recover it: {rate} bytes a second");
        world.end();
    }
}

#[test]
fn a_history_shorter_than_the_window_costs_those_who_keep_up_nothing() {
    let mut world = World::seeded(19, 2);
    let rules = Rules { limits: limits("none", "3 chunks"), coalesce: window(500), ..rules() };
    let mount = world.mount(rules, "none", 8 * RING_MAX);
    world.source(Source::new(mount, ms(20), 100_000, 25));
    for _ in 0..4 {
        world.join(Guest::fast(mount));
        world.run_for(ms(130));
    }
    world.run_for(secs(10)); // each turn looks whether something is missing
    assert!(world.mount_at(mount).ring_cost() < 30 * 101_000, "the mount remembers what a shard has not looked at, and no more");
    world.end();
}

#[test]
fn a_flood_faster_than_any_shard_can_look_costs_those_who_keep_up_nothing() {
    for millis in [0, 1, 500] {
        let mut world = World::seeded(30, 2);
        let rules = Rules { limits: limits("none", "3 chunks"), coalesce: window(millis), ..rules() };
        let mount = world.mount(rules, "1 chunk", 8 * RING_MAX);
        let ids: Vec<_> = (0..4).map(|_| world.join(Guest { buffer: 8 << 20, ..Guest::fast(mount) })).collect();
        world.run_for(secs(1));
        (0..60).for_each(|_| world.push(mount, 50_000, true, None, None));
        world.run_for(secs(1));
        assert!(ids.into_iter().all(|id| world.here(id) && world.dropped(mount, id) == 0), "window {millis} ms");
        world.end();
    }
}

#[test]
fn a_newcomer_whose_burst_is_beyond_the_limits_gets_all_of_it_while_it_catches_up() {
    for (soft, hard, rate, stays) in
        [("10s", "30s", 2_500_000, true), ("2s", "3s", 400_000, true), ("none", "3s", 400_000, true), ("none", "10s", 100_000, false)]
    {
        let mut world = World::seeded(31, 1);
        let rules = Rules {
            wish: Wish { method: SyncMethod::BurstKeyframe, burst: "5s".parse().expect("a burst"), burst_max: Extents::NONE },
            limits: limits(soft, hard),
            recover: RecoverPolicy::Keyframe,
            coalesce: window(100),
            ..rules()
        };
        let mount = world.mount(rules, "10s", 64 * RING_MAX);
        world.source(Source::new(mount, ms(40), 10_000, 250)); // a keyframe each ten seconds
        world.run_for(secs(64)); // five seconds back there is none before the one at 50 s
        let id = world.join(Guest { recorded: true, head: 0, ..Guest::slow(mount, rate, 512 * 1024) });
        world.run_for(secs(60));
        if !stays {
            assert_eq!(world.departure(id), Some(Departure::TooSlow), "{soft} {hard}: it fell further behind");
            continue;
        }
        assert!(world.here(id), "{soft} {hard}");
        let heard = world.heard(id);
        assert_eq!(heard[0], 1250);
        let holes: Vec<_> = heard.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
        assert!(holes.is_empty(), "{soft} {hard}: part of the burst is missing: {holes:?}");
        world.end();
    }
}

#[test]
fn without_limits_nobody_is_too_slow_while_memory_lasts() {
    for (soft, recover) in [("none", RecoverPolicy::Keyframe), ("none", RecoverPolicy::None), ("5 chunks", RecoverPolicy::None)] {
        let mut world = World::seeded(32, 1);
        let rules = Rules { limits: limits(soft, "none"), recover, coalesce: window(20), ..rules() };
        let mount = world.mount(rules, "1 chunk", 8 * RING_MAX);
        world.source(Source::new(mount, ms(40), 10_000, 1));
        world.run_for(secs(5));
        let id = world.join(Guest { head: 0, recorded: true, ..Guest::stalled(mount, 60_000) });
        world.run_for(secs(20));
        assert!(world.here(id), "{soft} {recover:?}: there is room for half a minute");
        world.line(id, |line| line.set_pull(Pull::AtOnce));
        world.run_for(secs(1));
        assert!(world.here(id) && world.dropped(mount, id) == 0, "{soft} {recover:?}");
        assert!(world.heard(id).windows(2).all(|pair| pair[1] == pair[0] + 1), "{soft} {recover:?}");
        world.line(id, |line| line.set_pull(Pull::Nothing));
        world.end();
    }
}

#[test]
fn one_survivor_high_up_in_the_table_does_not_make_the_copy_grow() {
    let mut world = World::seeded(33, 1);
    let mount = world.mount(Rules { limits: limits("none", "10s"), coalesce: window(500), ..rules() }, "1s", 8 * RING_MAX);
    world.source(Source::new(mount, ms(20), 4000, 1));
    world.run_for(secs(2));
    let ids: Vec<_> = (0..400).map(|_| world.join(Guest::fast(mount).may(Departure::HungUp))).collect();
    world.run_for(secs(2));
    for &id in &ids[..399] {
        world.line(id, |line| line.reset());
    }
    world.run_for(secs(12));
    let mut most = 0;
    for _ in 0..300 {
        let id = world.join(Guest::fast(mount).may(Departure::HungUp));
        world.run_for(ms(50));
        world.line(id, |line| line.reset());
        world.run_for(ms(50));
        most = most.max(world.held(mount));
    }
    assert!(most < world.mount_at(mount).ring_cost() * 3 / 2, "{most} bytes held");
    world.end();
}

#[test]
fn a_stalled_listener_is_recovered_as_the_policy_says_however_many_chunks_come_at_once() {
    // Soft limit 5, keyframes at 0, 7 and 14, stalled after chunk 0.
    for (recover, heard, lost) in [
        (RecoverPolicy::None, (0..23).collect(), 0),
        (RecoverPolicy::Latest, vec![0, 16, 17, 18, 19, 20, 21, 22], 15),
        (RecoverPolicy::SoftLimit, vec![0, 15, 16, 17, 18, 19, 20, 21, 22], 14),
        (RecoverPolicy::Keyframe, vec![0, 21, 22], 20),
    ] {
        for at_once in [false, true] {
            let mut world = World::seeded(4, 1);
            let rules = Rules { limits: limits("5 chunks", "none"), recover, coalesce: window(0), ..rules() };
            let mount = world.mount(rules, "10s", RING_MAX);
            world.picture(mount, "K");
            let slow = world.join(Guest { head: 0, recorded: true, ..Guest::stalled(mount, 100) });
            world.picture(mount, "."); // finds no room: from here on it is blocked
            for kind in ".....K......K.....".chars() {
                world.push_kind(mount, kind);
                world.run_for(if at_once { ms(0) } else { ms(20) });
            }
            world.run_for(ms(20));
            world.line(slow, |line| line.set_pull(Pull::AtOnce));
            world.picture(mount, ".K.");
            assert_eq!(world.heard(slow), heard, "{recover:?}, at once: {at_once}");
            assert_eq!(world.dropped(mount, slow), lost, "{recover:?}, at once: {at_once}");
            world.end();
        }
    }
}

#[test]
fn a_socket_that_is_full_for_a_moment_is_no_verdict_on_its_peer() {
    // A reader of 20 MB/s with a socket of 100 KB, and three megabytes in one moment: never further behind than that moment.
    for (patience, stays) in [(ms(50), false), (ms(200), true)] {
        let mut world = World::seeded(34, 1);
        let rules = Rules { limits: limits("none", "3 chunks"), patience, coalesce: window(0), ..rules() };
        let mount = world.mount(rules, "1 chunk", 8 * RING_MAX);
        world.picture(mount, "K");
        let reader = world.join(Guest { head: 0, ..Guest::slow(mount, 20_000_000, 100_000) });
        let dead = world.join(Guest { head: 0, ..Guest::stalled(mount, 100_000) });
        (0..60).for_each(|_| world.push(mount, 50_000, true, None, None));
        world.run_for(ms(40));
        assert!(world.here(reader) && world.here(dead), "nobody is judged yet");
        world.run_for(ms(300));
        assert_eq!(world.here(reader), stays, "{patience:?}");
        assert_eq!(world.departure(dead), Some(Departure::TooSlow), "{patience:?}: though nothing more has come");
        world.end();
    }
}

#[test]
fn patience_changes_when_a_verdict_is_given_and_not_which() {
    for recover in RecoverPolicy::ALL {
        let mut places = Vec::new();
        for patience in [0, 50, 150] {
            let mut world = World::seeded(35, 1);
            let rules = Rules { limits: limits("5 chunks", "none"), recover, patience: ms(patience), coalesce: window(0), ..rules() };
            let mount = world.mount(rules, "10s", RING_MAX);
            world.picture(mount, "K");
            let slow = world.join(Guest { head: 0, recorded: true, ..Guest::stalled(mount, 100) });
            for kind in "......K......K.....".chars() {
                world.push_kind(mount, kind);
                world.run_for(ms(10));
            }
            world.run_for(ms(200));
            places.push((world.dropped(mount, slow), world.list(mount)[0].lag.chunks));
            world.end();
        }
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "{recover:?}: {places:?}");
    }
}

#[test]
fn memory_is_bounded_however_many_stop_in_the_middle_of_a_chunk() {
    let mut world = World::seeded(13, 1);
    let ring_max = 64 * 1024;
    let rules = Rules { limits: limits("3 chunks", "none"), recover: RecoverPolicy::Latest, coalesce: window(20), ..rules() };
    let mount = world.mount(rules, "3 chunks", ring_max);
    world.source(Source::new(mount, ms(100), 4000, 1));
    let ids: Vec<_> = (0..200)
        .map(|_| {
            world.run_for(ms(100)); // so that each is in the middle of another chunk
            world.join(Guest::stalled(mount, 100))
        })
        .collect();
    world.run_for(secs(10)); // with each push the bound is looked at
    let stay = ids.iter().filter(|&&id| world.here(id)).count();
    assert!((10..40).contains(&stay), "{stay} fit into the bound");
    let oldest = ids.iter().position(|&id| world.here(id)).expect("somebody");
    assert!(oldest >= ids.len() - stay - 2, "the furthest behind have left: the first still here is {oldest} of {}", ids.len());
    assert!(world.held(mount) <= 2 * ring_max);
    world.end();
}

#[test]
fn nobody_is_passed_over_when_the_table_grows_or_shrinks() {
    for seed in 0..40 {
        let mut world = World::seeded(seed, 1);
        let mount = world.mount(rules(), "10s", RING_MAX);
        world.source(Source::new(mount, ms(250), 400, 1));
        let ids: Vec<_> = (0..300)
            .map(|_| {
                let pause = world.rng.u64(..4);
                world.run_for(ms(pause));
                world.join(Guest::fast(mount).may(Departure::HungUp))
            })
            .collect();
        let stay = world.rng.usize(10..70);
        // They leave when the rotor has almost been round with what came last.
        let (since, late) = (Duration::from_nanos((world.now() - 1_000_000_000) % 250_000_000), world.rng.u64(70..100));
        world.run_for(ms(500 + late) - since);
        world.windows = 2; // once, when the table shrinks under the rotor
        for &id in &ids[stay..] {
            world.line(id, |line| line.reset());
        }
        world.run_for(secs(3)); // each turn looks whether somebody waited
        assert_eq!(world.gone.len(), ids.len() - stay);
        assert!(world.room() < 1000, "the table keeps room for {}", world.room());
        world.end();
    }
}

#[test]
fn the_methods_place_a_newcomer_by_what_there_is_when_it_comes() {
    for method in SyncMethod::ALL {
        let mut world = World::seeded(16, 2);
        let mut rules = rules();
        rules.wish.method = method;
        rules.wish.burst = "1s, 10 chunks".parse().expect("a burst");
        let mount = world.mount(rules, "10s", RING_MAX);
        world.join(Guest::fast(mount)); // there is nothing yet: the first chunk decides
        world.source(Source::new(mount, ms(20), 400, 25));
        for _ in 0..100 {
            world.run_for(ms(97));
            world.join(Guest::fast(mount)); // the model has placed it before; what it heard first is compared at the end
        }
        world.run_for(secs(1));
        world.end();
    }
}

/// A connection that takes so much.
struct Sink(Rc<RefCell<Vec<u8>>>, Rc<Cell<usize>>);

impl Wire for Sink {
    fn prepare(&mut self, _: &Rules) -> io::Result<()> {
        Ok(())
    }
    fn set_send_buffer(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn give_up(&mut self) {}
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut heard = self.0.borrow_mut();
        let before = heard.len();
        for slice in slices {
            let taken = slice.len().min(self.1.get());
            heard.extend_from_slice(&slice[..taken]);
            self.1.set(self.1.get() - taken);
        }
        if heard.len() == before { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(heard.len() - before) }
    }
    fn discard(&mut self) -> io::Result<Discarded> {
        Ok(Discarded::Dry(0))
    }
}

/// Writes a chunk while the shard is in the middle of its turn, as another thread may.
struct Meanwhile(Arc<Broadcast>);

impl Watch<Sink> for Meanwhile {
    fn watch(&mut self, _: &mut Sink, _: Token) -> io::Result<()> {
        self.0.feed.write(|ring| ring.push(chunk(b"!", true), u64::from(u32::MAX)));
        Ok(())
    }
}

fn arrival(wire: Sink, broadcast: &Arc<Broadcast>, places: &Arc<Places>) -> Arrival<Sink> {
    Arrival {
        wire,
        broadcast: Arc::clone(broadcast),
        head: Box::default(),
        wish: None,
        placed: None,
        inlay: None,
        id: ListenerId(1),
        peer: Peer::Unix,
        user_agent: "".into(),
        pass: None,
        trail: crate::engine::trail::Trail::default(),
        intro: None,
        accepted: Moment::ZERO,
        seat: Seat::take(places, places).expect("a seat"),
    }
}

#[test]
fn what_was_written_before_an_order_is_there_for_it() {
    let mut world = World::seeded(17, 1);
    let mount = world.mount(rules(), "10s", RING_MAX);
    let broadcast = Arc::clone(&world.mount_at(mount).broadcast);
    broadcast.feed.write(|ring| ring.push(chunk(b"?", true), 0));
    let inbox = Inbox::new(Alarm::silent());
    let (places, heard) = (Arc::new(Places::new(None)), [(); 2].map(|()| Rc::new(RefCell::new(Vec::new()))));
    for heard in &heard {
        let sink = Sink(Rc::clone(heard), Rc::new(Cell::new(usize::MAX)));
        assert!(inbox.tell(Command::Join(Box::new(arrival(sink, &broadcast, &places)))));
    }
    assert!(inbox.tell(Command::Drain { slot: None, why: Departure::SourceEnded }));
    let mut shard = Shard::new(0, Arc::new(ShardCounters::default()), Moment::ZERO);
    shard.turn(Moment::ZERO, &inbox, &mut Meanwhile(Arc::clone(&broadcast)));
    // While each was being watched a chunk came: the first is sent both, the second starts with the one before its own.
    assert_eq!(String::from_utf8_lossy(&heard[0].borrow()), "?!!");
    assert_eq!(String::from_utf8_lossy(&heard[1].borrow()), "!!");
    assert_eq!(places.taken(), 0, "both have left");
}

/// Remembers the one token.
#[derive(Default)]
struct Only(Option<Token>);

impl Watch<Sink> for Only {
    fn watch(&mut self, _: &mut Sink, token: Token) -> io::Result<()> {
        self.0 = Some(token);
        Ok(())
    }
}

#[test]
fn what_a_limit_has_made_the_ring_forget_is_still_sent_to_who_had_no_chance_to_take_it() {
    const LARGE: usize = 100_000;
    // One that takes everything, but not in one visit; and one whose socket was full for less than its patience.
    for room in [usize::MAX, LARGE + LARGE / 2] {
        let mut world = World::seeded(18, 1);
        let rules = Rules { limits: limits("none", "20 chunks"), patience: ms(50), ..rules() };
        let mount = world.mount(rules.clone(), "10s", 8 << 20);
        let broadcast = Arc::clone(&world.mount_at(mount).broadcast);
        let retention = Retention::new(Extents::NONE, &rules.wish, &rules.limits, rules.recover, 8 << 20);
        let mut history = History::new(retention);
        let mut push = |chunks| {
            broadcast.feed.write(|ring| {
                for _ in 0..chunks {
                    history.push(ring, chunk(&[7; LARGE], true), Moment::ZERO);
                }
            });
        };
        let (inbox, places, mut watch) = (Inbox::new(Alarm::silent()), Arc::new(Places::new(None)), Only::default());
        let (heard, room) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(room)));
        let mut shard = Shard::new(0, Arc::new(ShardCounters::default()), Moment::ZERO);
        assert!(inbox.tell(Command::Join(Box::new(arrival(Sink(Rc::clone(&heard), Rc::clone(&room)), &broadcast, &places)))));
        let at = |millis| Moment::ZERO + ms(millis);
        shard.turn(at(0), &inbox, &mut watch);
        push(40);
        shard.turn(at(1), &inbox, &mut watch);
        shard.turn(at(100), &inbox, &mut watch);
        shard.turn(at(101), &inbox, &mut watch);
        assert!((LARGE..20 * LARGE).contains(&heard.borrow().len()), "some of it: {}", heard.borrow().len());
        push(1);
        shard.turn(at(102), &inbox, &mut watch);
        room.set(usize::MAX);
        shard.event(watch.0.expect("watched"), Readiness { writable: true, ..Readiness::default() }, at(103));
        for millis in 103..300 {
            shard.turn(at(millis), &inbox, &mut watch);
        }
        assert_eq!(heard.borrow().len(), 41 * LARGE);
        assert!(places.taken() > 0, "and it is still here");
        // What was kept for it is kept no longer than that.
        push(1);
        shard.turn(at(400), &inbox, &mut watch);
        shard.turn(at(500), &inbox, &mut watch);
        push(1);
        shard.turn(at(501), &inbox, &mut watch);
        assert_eq!(shard.held(0), 20);
    }
}
