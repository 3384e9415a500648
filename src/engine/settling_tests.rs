//! Rules that change while people listen, and mounts that are closed: one claim a test, in a world of pretend sockets.

use super::world::{Guest, Source, World, limits, ms, rules, secs};
use crate::fanout::departure::Departure;
use crate::fanout::placement::SyncMethod;
use crate::fanout::recovery::RecoverPolicy;

const RING_MAX: u64 = 1 << 20;

#[test]
fn new_limits_hold_for_those_who_are_here() {
    let mut world = World::seeded(21, 2);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    let fast: Vec<_> = (0..6).map(|_| world.join(Guest::fast(mount))).collect();
    let stalled: Vec<_> = (0..4).map(|_| world.join(Guest::stalled(mount, 1000))).collect();
    world.run_for(secs(20));
    assert!(world.gone.is_empty(), "there is no limit yet");
    stalled.iter().for_each(|id| world.allow(*id, Departure::TooSlow));
    world.settle_rules(mount, |rules| rules.limits = limits("none", "2s"));
    world.run_for(secs(1));
    assert!(stalled.iter().all(|id| world.departure(*id) == Some(Departure::TooSlow)));
    assert!(fast.iter().all(|id| world.here(*id)));
    world.end();
}

#[test]
fn a_new_idle_timeout_and_session_limit_hold_for_those_who_are_here() {
    let mut world = World::seeded(22, 2);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.source(Source::new(mount, ms(100), 400, 10));
    let (stalled, fast) = (world.join(Guest::stalled(mount, 1000)), world.join(Guest::fast(mount)));
    world.run_for(secs(30));
    world.allow(stalled, Departure::Stalled);
    world.settle_rules(mount, |rules| rules.idle_timeout = Some(secs(5)));
    world.run_for(secs(2));
    assert_eq!(world.departure(stalled), Some(Departure::Stalled));
    world.settle_rules(mount, |rules| rules.max_duration = Some(secs(40)));
    world.allow(fast, Departure::SessionLimit);
    world.run_for(secs(5));
    assert!(world.here(fast), "its time is not over");
    world.run_for(secs(5));
    assert_eq!(world.departure(fast), Some(Departure::SessionLimit));
    world.end();
}

#[test]
fn a_hundred_changes_of_rules_cost_nobody_who_keeps_up_a_byte() {
    let mut world = World::seeded(23, 3);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10));
    let ids: Vec<_> = (0..30).map(|_| world.join(Guest::fast(mount))).collect();
    for i in 0..100 {
        world.settle_rules(mount, |rules| {
            rules.limits = if i % 2 == 0 { limits("3s", "5s") } else { limits("none", "none") };
            rules.recover = if i % 3 == 0 { RecoverPolicy::Latest } else { RecoverPolicy::None };
            rules.wish.method = if i % 5 == 0 { SyncMethod::BurstKeyframe } else { SyncMethod::Latest };
            rules.idle_timeout = (i % 7 == 0).then(|| secs(30));
            rules.send_buffer = (i % 4 == 0).then_some(64 * 1024);
            rules.dscp = (i % 6 == 0).then_some(46);
        });
        world.run_for(ms(130));
    }
    assert!(world.gone.is_empty() && ids.iter().all(|id| world.here(*id)));
    world.end(); // and nobody misses a chunk: the world looks after every turn
}

#[test]
fn who_is_on_the_way_to_a_mount_that_closes_leaves_at_once_and_is_counted() {
    let mut world = World::seeded(24, 2);
    let (mount, other) = (world.mount(rules(), "10s", RING_MAX), world.mount(rules(), "10s", RING_MAX));
    for mount in [mount, other] {
        world.source(Source::new(mount, ms(20), 400, 10));
    }
    let here: Vec<_> = (0..4).map(|_| world.join(Guest::fast(mount))).collect();
    let elsewhere = world.join(Guest::fast(other));
    world.run_for(secs(1));
    assert_eq!(world.forget(mount), 2, "each shard answers");
    assert!(here.iter().all(|id| world.departure(*id) == Some(Departure::ShuttingDown)));
    let late = world.join(Guest::fast(mount).may(Departure::ShuttingDown));
    assert_eq!(world.departure(late), Some(Departure::ShuttingDown));
    assert_eq!(world.forget(mount), 2, "once more is as well");
    world.run_for(secs(1));
    assert!(world.here(elsewhere));
    world.end();
}

#[test]
fn a_number_that_every_shard_has_forgotten_serves_another_mount() {
    let mut world = World::seeded(25, 2);
    let (first, second) = (world.mount(rules(), "10s", RING_MAX), world.mount(rules(), "10s", RING_MAX));
    world.source(Source::new(first, ms(20), 400, 10));
    let old: Vec<_> = (0..4).map(|_| world.join(Guest::fast(first))).collect();
    world.run_for(secs(1));
    assert_eq!(world.forget(first), 2);
    world.silence();
    world.reuse_number(second, first);
    world.source(Source::new(second, ms(20), 700, 10));
    let new: Vec<_> = (0..4).map(|_| world.join(Guest { recorded: true, ..Guest::fast(second) })).collect();
    let late = world.join(Guest::fast(first).may(Departure::ShuttingDown));
    world.run_for(secs(2));
    assert!(old.iter().chain([&late]).all(|id| world.departure(*id) == Some(Departure::ShuttingDown)));
    for id in new {
        assert!(world.here(id) && world.heard(id).len() > 50, "{id:?} has heard {:?}", world.heard(id).len());
    }
}
