//! Staying and leaving: what costs a listener its place, and what does not. One claim a test, in a world of pretend sockets.

use super::broadcast::Rules;
use super::world::{Guest, Pull, Source, World, limits, ms, rules, secs, window};
use crate::fanout::departure::Departure;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::stats::read;
use crate::units::ListenerId;

const RING_MAX: u64 = 1 << 20;

#[test]
fn a_silent_source_costs_nobody_the_place() {
    let mut world = World::seeded(5, 2);
    let rules = Rules { limits: limits("2s", "4s"), idle_timeout: Some(secs(5)), recover: RecoverPolicy::Keyframe, ..rules() };
    let mount = world.mount(rules, "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    for _ in 0..5 {
        world.join(Guest::fast(mount));
        // It keeps up, more or less.
        world.join(Guest { may_leave: Vec::new(), ..Guest::slow(mount, 30_000, 8192) });
    }
    world.run_for(secs(20));
    world.silence();
    world.run_for(secs(3600));
    world.resume();
    world.run_for(secs(20));
    assert!(world.gone.is_empty());
    world.end();
}

#[test]
fn a_keyframe_is_waited_for_by_newcomers_but_not_for_ever() {
    let mut world = World::seeded(8, 2);
    let wish = Wish { method: SyncMethod::NextKeyframe, ..rules().wish };
    let rules = Rules { wish, limits: limits("1s", "none"), recover: RecoverPolicy::Keyframe, ..rules() };
    let mount = world.mount(rules, "2s", RING_MAX);
    let starts = |world: &World| read(&world.mount_at(mount).broadcast.counters.unsynced_starts);
    let heard = |world: &World, id| world.line(id, |line| line.ear.last).flatten();
    world.source(Source::new(mount, ms(40), 400, u64::MAX));
    world.run_for(secs(5));
    let first = world.join(Guest::fast(mount));
    world.run_for(secs(20));
    world.silence();
    world.run_for(secs(60));
    assert_eq!((heard(&world, first), starts(&world)), (None, 0), "the source is away: it may come back with a keyframe");
    world.flush(mount);
    world.run_for(secs(5));
    assert_eq!((heard(&world, first), starts(&world)), (None, 0), "there is nothing to begin with");
    world.resume();
    let second = world.join(Guest::fast(mount));
    world.run_for(secs(5));
    assert!(heard(&world, first).is_some(), "it has waited for long enough");
    world.run_for(secs(20));
    assert_eq!((heard(&world, second), starts(&world)), (None, 1));
    world.run_for(secs(10));
    assert!(heard(&world, second).is_some());
    assert_eq!(starts(&world), 2);

    // Who had to be moved on waits for a keyframe, however long: what it would decode is broken.
    let slow = world.join(Guest { may_leave: Vec::new(), ..Guest::stalled(mount, 1000) });
    world.picture(mount, "K");
    world.run_for(secs(5));
    let before = heard(&world, slow);
    world.run_for(secs(120));
    assert_eq!(heard(&world, slow), before);
    assert_eq!(starts(&world), 2);
    world.end();
}

#[test]
fn idle_time_counts_only_while_something_is_unsent() {
    let idle = Rules { idle_timeout: Some(secs(5)), coalesce: window(0), ..rules() };
    let mut world = World::seeded(6, 1);
    let mount = world.mount(idle.clone(), "10s", RING_MAX);
    world.picture(mount, "K");
    let full = world.join(Guest { head: 0, ..Guest::stalled(mount, 100) });
    world.run_for(secs(60));
    world.picture(mount, "K");
    world.run_for(secs(4));
    assert!(world.here(full), "it was full for a minute, but nothing waited");
    world.run_for(secs(3));
    assert_eq!(world.departure(full), Some(Departure::Stalled));

    let waiting = Rules { limits: limits("2 chunks", "none"), recover: RecoverPolicy::Keyframe, ..idle };
    let mount = world.mount(waiting, "10s", RING_MAX);
    world.picture(mount, "K");
    let blocked = world.join(Guest { head: 0, ..Guest::stalled(mount, 100) });
    world.picture(mount, "....");
    world.run_for(secs(60));
    assert!(world.here(blocked), "it waits for a keyframe, so nothing waits for it");
    world.picture(mount, "K");
    world.run_for(secs(6));
    assert_eq!(world.departure(blocked), Some(Departure::Stalled), "a stalled one does not live on from keyframe to keyframe");
    world.end();
}

#[test]
fn a_stall_of_our_own_costs_nobody_the_place() {
    let mut world = World::seeded(7, 2);
    let rules = Rules { limits: limits("1s", "2s"), idle_timeout: Some(secs(10)), recover: RecoverPolicy::Keyframe, ..rules() };
    let mount = world.mount(rules, "10s", 4 * RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(world.join(Guest::fast(mount)));
        all.push(world.join(Guest::slow(mount, 60_000, 8192)));
        world.run_for(ms(130));
    }
    for shard in 0..2 {
        world.stall_shard(shard, secs(30));
    }
    world.run_for(secs(90));
    assert!(world.gone.is_empty(), "{:?}", world.gone);
    assert!(all.iter().all(|&id| world.here(id)));

    // Who really stalls has its grace, and no more than that.
    let dead = world.join(Guest::stalled(mount, 3000));
    world.run_for(ms(500));
    world.stall_shard(0, secs(20));
    world.stall_shard(1, secs(20));
    world.run_for(secs(35));
    assert!(world.here(dead), "for as long as the server stood still it is not judged");
    world.run_for(secs(10));
    assert!(!world.here(dead), "and then it is");
    world.end();
}

#[test]
fn idle_time_does_not_run_while_the_server_stands_still() {
    let mut world = World::seeded(20, 1);
    let mount = world.mount(Rules { idle_timeout: Some(secs(10)), ..rules() }, "30s", RING_MAX);
    world.source(Source::new(mount, ms(20), 100, 1));
    world.run_for(secs(1));
    let dead = world.join(Guest::stalled(mount, 50));
    world.run_for(secs(8));
    world.stall_shard(0, secs(5)); // up to 13 s, then grace up to 18 s
    world.run_for(ms(11_500));
    assert!(world.here(dead), "19.5 s without progress, of which 6.5 s count");
    world.run_for(secs(5));
    assert_eq!(world.departure(dead), Some(Departure::Stalled));
    world.end();
}

#[test]
fn a_flush_costs_nobody_the_place() {
    let mut world = World::seeded(21, 1);
    let mount = world.mount(Rules { limits: limits("none", "20 chunks"), ..rules() }, "10s", RING_MAX);
    world.picture(mount, "K.........");
    let fast = world.join(Guest { recorded: true, ..Guest::fast(mount) });
    let slow = world.join(Guest { head: 0, recorded: true, ..Guest::stalled(mount, 150) });
    world.picture(mount, "..........");
    world.run_for(ms(100));
    world.flush(mount);
    world.picture(mount, "..K.");
    world.line(slow, |line| line.set_pull(Pull::AtOnce));
    world.run_for(secs(1));
    assert_eq!(world.heard(fast), (9..24).collect::<Vec<_>>(), "for who was caught up nothing was void");
    assert_eq!(world.heard(slow), [9, 10, 22, 23], "what had begun is finished, what waited is void, and it goes on at a keyframe");
    assert_eq!((world.dropped(mount, fast), world.dropped(mount, slow)), (0, 11), "11 to 19, then 20 and 21");
    world.end();
}

#[test]
fn a_drain_sends_what_is_queued_and_nothing_later() {
    let mut world = World::seeded(8, 2);
    let rules = Rules { idle_timeout: Some(secs(20)), ..rules() };
    let mount = world.mount(rules, "10s", RING_MAX);
    world.picture(mount, "K.........");
    let caught_up = world.join(Guest { recorded: true, ..Guest::fast(mount) });
    let slow = world.join(Guest { recorded: true, ..Guest::slow(mount, 500, 200) });
    let dead = world.join(Guest::stalled(mount, 50));
    world.picture(mount, "..........");
    world.picture(mount, ""); // all is offered
    world.run_for(ms(200));
    world.drain(Some(mount), Departure::SourceEnded);
    world.run_for(ms(1));
    assert_eq!(world.departure(caught_up), Some(Departure::SourceEnded), "who is caught up leaves at once");
    world.picture(mount, "KKK");
    world.run_for(secs(10));
    assert_eq!(world.departure(slow), Some(Departure::SourceEnded));
    assert_eq!(world.last_heard(slow), Some(19), "the last that was queued");
    assert!(world.here(dead));
    world.run_for(secs(20));
    assert_eq!(world.departure(dead), Some(Departure::Stalled), "a drain does not wait for ever");
    world.end();
}

#[test]
fn empty_chunks_at_the_end_keep_nobody_from_leaving() {
    let mut world = World::seeded(9, 1);
    let mount = world.mount(rules(), "10s", RING_MAX);
    for header in [None, Some(1)] {
        world.picture(mount, "K");
        let one = world.join(Guest::fast(mount));
        world.push(mount, 0, true, header, None);
        world.run_for(secs(1));
        assert_eq!(world.list(mount)[0].lag.chunks, 0, "nothing waits");
        world.drain(Some(mount), Departure::SourceEnded);
        world.run_for(ms(1));
        assert_eq!(world.departure(one), Some(Departure::SourceEnded), "with header {header:?}");
    }
    world.end();
}

#[test]
fn who_was_on_the_way_when_everybody_was_told_to_leave_is_drained_too() {
    let mut world = World::seeded(11, 2);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    world.run_for(secs(1));
    world.drain(None, Departure::ShuttingDown);
    let ids: Vec<_> = (0..4).map(|_| world.join(Guest::fast(mount).may(Departure::ShuttingDown))).collect();
    world.run_for(ms(100));
    assert!(ids.into_iter().all(|id| world.departure(id) == Some(Departure::ShuttingDown)));
    world.end();
}

#[test]
fn a_draining_listener_is_sent_what_was_queued_whatever_comes_after() {
    let mut world = World::seeded(12, 1);
    let rules = Rules { limits: limits("15 chunks", "none"), recover: RecoverPolicy::Latest, coalesce: window(0), ..rules() };
    let mount = world.mount(rules, "10s", RING_MAX);
    world.picture(mount, "K");
    let slow = world.join(Guest { recorded: true, head: 0, ..Guest::slow(mount, 100, 200) });
    world.picture(mount, "KKKKKKKKKK"); // within the limit
    world.drain(Some(mount), Departure::SourceEnded);
    world.run_for(ms(1));
    world.picture(mount, &"K".repeat(20)); // the next source begins
    world.run_for(secs(60));
    assert_eq!((world.last_heard(slow), world.departure(slow)), (Some(10), Some(Departure::SourceEnded)));
    world.end();
}

#[test]
fn a_kick_removes_at_once_and_says_whether_it_found_somebody() {
    let mut world = World::seeded(10, 3);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    let ids: Vec<_> = (0..10).map(|_| world.join(Guest::slow(mount, 100, 100))).collect();
    world.run_for(secs(1));
    assert!(world.kick(ids[4], mount));
    assert_eq!(world.departure(ids[4]), Some(Departure::Kicked));
    assert!(!world.kick(ids[4], mount), "it is gone already");
    assert!(!world.kick(ListenerId(999), mount));
    assert_eq!(world.gone.len(), 1);
    world.end();
}

#[test]
fn a_session_has_its_limit() {
    let mut world = World::seeded(11, 1);
    let mount = world.mount(Rules { max_duration: Some(secs(10)), ..rules() }, "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    for _ in 0..40 {
        world.join(Guest::fast(mount).may(Departure::SessionLimit));
        world.run_for(ms(321)); // that it is neither early nor late is looked at with each departure
    }
    world.run_for(secs(12));
    assert_eq!(world.gone.len(), 40);
    world.end();
}

#[test]
fn a_hang_up_is_seen_at_once_also_on_a_silent_mount() {
    for keep_half_closed in [false, true] {
        let mut world = World::seeded(12, 1);
        let mount = world.mount(Rules { keep_half_closed, ..rules() }, "10s", RING_MAX);
        world.picture(mount, "K");
        world.run_for(secs(60));
        let [reset, half, chatty, flood] = [(); 4].map(|()| world.join(Guest::fast(mount)));
        for (id, why) in [(reset, Departure::HungUp), (half, Departure::HungUp), (flood, Departure::Kicked)] {
            world.allow(id, why);
        }
        world.line(reset, |line| line.reset());
        world.line(half, |line| line.half_close());
        world.line(chatty, |line| line.rubbish(64 * 1024));
        world.line(flood, |line| line.rubbish(64 * 1024 + 1));
        world.run_for(ms(5));
        assert_eq!(world.departure(reset), Some(Departure::HungUp));
        assert_eq!(world.departure(half), (!keep_half_closed).then_some(Departure::HungUp), "half_close = keep: {keep_half_closed}");
        assert!(world.here(chatty), "what it says is thrown away");
        assert_eq!(world.departure(flood), Some(Departure::Kicked), "up to a bound");
        world.picture(mount, "KK");
        world.end();
    }
}

#[test]
fn a_shard_without_listeners_keeps_nothing_in_memory() {
    let mut world = World::seeded(14, 4);
    let mount = world.mount(rules(), "1s", 64 * 1024);
    world.source(Source::new(mount, ms(20), 1000, 1));
    let ids: Vec<_> = (0..4)
        .map(|_| {
            world.run_for(secs(2));
            world.join(Guest::fast(mount))
        })
        .collect();
    for &id in &ids[..3] {
        world.run_for(secs(2));
        world.kick(id, mount);
    }
    world.run_for(secs(60));
    let ring = world.mount_at(mount).ring_cost();
    assert!(world.held(mount) <= ring + 20_000, "{} bytes held, {ring} of them in the ring", world.held(mount));
    world.end();
}

#[test]
fn lists_do_not_grow_with_those_who_come_and_go_on_a_silent_mount() {
    let mut world = World::seeded(15, 1);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.picture(mount, "K");
    world.join(Guest::fast(mount));
    for _ in 0..5000 {
        let id = world.join(Guest::stalled(mount, 10).may(Departure::HungUp));
        world.line(id, |line| line.reset());
        world.run_for(ms(1));
    }
    assert!(world.room() < 1000, "room for {}", world.room());
    world.end();
}
