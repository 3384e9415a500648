//! Titles between the bytes of a stream, in a world of pretend sockets.

use super::world::{Guest, Pull, Source, World, ms, rules, secs};
use crate::fanout::departure::Departure;
use crate::units::ListenerId;

const RING_MAX: u64 = 1 << 20;

fn titles(world: &World, id: ListenerId) -> Vec<u64> {
    world.line(id, |line| line.ear.titles.clone()).expect("it is here")
}

#[test]
fn a_title_is_told_at_the_next_block_and_to_newcomers_at_their_first() {
    let mut world = World::seeded(31, 2);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.source(Source::new(mount, ms(20), 400, 10)); // 20 kB a second
    let curious = |icy| Guest { icy: Some(icy), ..Guest::fast(mount) };
    let (early, often, plain) = (world.join(curious(16_000)), world.join(curious(300)), world.join(Guest::fast(mount)));
    world.run_for(secs(2));
    assert!(titles(&world, early).is_empty() && titles(&world, often).is_empty(), "nothing has been said");
    world.new_title(mount);
    world.run_for(secs(1));
    let late = world.join(curious(16_000));
    world.run_for(secs(1));
    for id in [early, often, late] {
        assert_eq!(titles(&world, id), [1]);
    }
    world.new_title(mount);
    world.new_title(mount);
    world.run_for(secs(2));
    for id in [early, often, late] {
        assert_eq!(titles(&world, id), [1, 3], "what was over before anybody could be told of it is not told");
    }
    assert!(titles(&world, plain).is_empty());
    world.end();
}

#[test]
fn a_block_that_has_begun_is_finished_though_the_stream_behind_it_is_void() {
    let mut world = World::seeded(32, 1);
    let mount = world.mount(rules(), "10s", RING_MAX);
    world.new_title(mount);
    world.picture(mount, "K");
    // One chunk of 100 bytes, and ten bytes of the block before the second.
    let id = world.join(Guest { icy: Some(100), head: 0, ..Guest::stalled(mount, 110) });
    world.picture(mount, ".");
    world.run_for(secs(1));
    assert_eq!(world.line(id, |line| line.ear.whole()), Some(false));
    world.flush(mount);
    world.drain(Some(mount), Departure::SourceEnded);
    world.run_for(secs(1));
    assert!(world.here(id), "it is in the middle of a block");
    world.line(id, |line| line.set_pull(Pull::AtOnce));
    world.run_for(secs(1));
    assert_eq!(world.departure(id), Some(Departure::SourceEnded));
    world.end();
}
