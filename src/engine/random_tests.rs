//! Worlds by chance: rules, sources, peers and accidents drawn from a seed, and ninety days of stream in one run.
//!
//! Few seeds run by default. `FLUMEN_WORLD_SEEDS=5000 cargo test --release --lib random` runs thousands;
//! `FLUMEN_WORLD_SEED=42 cargo test --lib random` runs one again.

use super::broadcast::Rules;
use super::pace::Coalesce;
use super::world::{Guest, Pull, Quirks, Source, World, limits, ms, rules, secs};
use crate::fanout::departure::Departure;
use crate::fanout::placement::{SyncMethod, Wish};
use crate::fanout::recovery::RecoverPolicy;
use crate::units::{Extents, ListenerId};

/// Seeds in a plain `cargo test`.
const SEEDS: u64 = 60;
/// History of a mount in memory; larger than a huge chunk by what the gate asks for.
const RING_MAX: u64 = 1 << 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn pick<T: Clone>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())].clone()
}

fn extents(rng: &mut fastrand::Rng, choices: &[&str]) -> Extents {
    pick(rng, choices).parse().expect("an extent")
}

fn random_wish(rng: &mut fastrand::Rng) -> Wish {
    Wish {
        method: pick(rng, &SyncMethod::ALL),
        burst: extents(rng, &["none", "1 chunk", "20 chunks", "2s", "16KiB", "1s, 8KiB", "5s, 10 chunks"]),
        burst_max: extents(rng, &["none", "none", "40 chunks", "3s", "32KiB", "1KiB"]),
    }
}

fn random_rules(rng: &mut fastrand::Rng) -> Rules {
    let coalesce = pick(rng, &[(0, 0), (20, 20), (100, 100), (500, 500), (20, 500), (1, 50)]);
    Rules {
        wish: random_wish(rng),
        limits: limits(
            pick(rng, &["none", "5 chunks", "50 chunks", "2s", "10s", "10KiB", "1s, 30 chunks"]),
            pick(rng, &["none", "8 chunks", "100 chunks", "4s", "20s", "64KiB"]),
        ),
        recover: pick(rng, &RecoverPolicy::ALL),
        resend_streamheader: rng.u8(..4) > 0,
        idle_timeout: pick(rng, &[None, Some(secs(5)), Some(secs(20))]),
        max_duration: pick(rng, &[None, None, None, Some(secs(15))]),
        coalesce: Coalesce { min: ms(coalesce.0), max: ms(coalesce.1) },
        keep_half_closed: rng.bool(),
        memory_max: 2 * RING_MAX,
        ..rules()
    }
}

fn random_source(rng: &mut fastrand::Rng, mount: usize) -> Source {
    let every = ms(pick(rng, &[5, 20, 40, 250, 1000]));
    let mut source = Source::new(mount, every, 0, pick(rng, &[1, 1, 12, 50, 400]));
    source.sizes = pick(rng, &[(14, 14), (100, 600), (14, 4000)]);
    let mut chance = |p: f64| if rng.bool() { p } else { 0.0 };
    source.quirks = Quirks {
        empty: chance(0.1),
        huge: chance(0.002),
        huge_size: 200_000,
        unstamped: chance(0.2),
        jump: chance(0.01),
        epoch: chance(0.01),
        flush: chance(0.002),
        pause: chance(0.01),
        pause_most: secs(30),
        clump: chance(0.05),
        clump_most: 12,
        restart: chance(0.003),
    };
    source
}

fn random_guest(rng: &mut fastrand::Rng, mount: usize, rules: &Rules, rate: u64) -> Guest {
    let buffer = pick(rng, &[100, 4096, 32_768, 200_000]);
    let mut guest = match rng.u8(..8) {
        0..3 => Guest::fast(mount),
        3 => Guest::slow(mount, rate.max(100) * 4, buffer),
        4 => Guest::slow(mount, rate.max(100), buffer),
        5 | 6 => Guest::slow(mount, (rate as f64 * rng.f64()) as u64, buffer),
        _ => Guest::stalled(mount, buffer),
    };
    guest.head = pick(rng, &[0, 1, 200, 1000]);
    guest.record = pick(rng, &[0, 0, 500, 16_384]);
    guest.wish = (rng.u8(..3) == 0).then(|| random_wish(rng));
    if rules.max_duration.is_some() {
        guest = guest.may(Departure::SessionLimit);
    }
    guest
}

/// Something happens to a listener, sooner or later.
fn accident(world: &mut World, id: ListenerId, mount: usize) {
    let (what, when) = (world.rng.u8(..12), ms(world.rng.u64(..40_000)));
    let then = ms(world.rng.u64(..20_000));
    let keeps_half_closed = world.mount_at(mount).broadcast.rules.keep_half_closed;
    match what {
        0 => world.after(when, move |world| {
            world.kick(id, mount);
        }),
        1 => world.after(when, move |world| {
            world.allow(id, Departure::HungUp);
            world.line(id, |line| line.reset());
        }),
        2 => world.after(when, move |world| {
            if !keeps_half_closed {
                world.allow(id, Departure::HungUp);
            }
            world.line(id, |line| line.half_close());
        }),
        3 => world.after(when, move |world| {
            let bytes = world.rng.u32(..100_000);
            if bytes > 64 * 1024 {
                world.allow(id, Departure::Kicked);
            }
            world.line(id, |line| line.rubbish(bytes));
        }),
        4 | 5 => {
            // It stops reading, then goes on.
            world.after(when, move |world| {
                world.no_longer_fast(id);
                world.allow(id, Departure::TooSlow);
                world.allow(id, Departure::Stalled);
                world.line(id, |line| line.set_pull(Pull::Nothing));
                world.after(then, move |world| {
                    world.line(id, |line| line.set_pull(Pull::AtOnce));
                });
            });
        }
        _ => {}
    }
}

fn random_world(seed: u64) {
    let shards = 1 + (seed % 2) as usize;
    let mut world = World::seeded(seed, shards);
    let rng = &mut world.rng.fork();
    world.lateness = pick(rng, &[ms(0), ms(0), ms(5)]);
    let mounts = rng.usize(1..=2);
    let mut rates = Vec::new();
    for _ in 0..mounts {
        let rules = random_rules(rng);
        let mount = world.mount(rules, pick(rng, &["10s", "3s", "2s, 100 chunks"]), RING_MAX);
        let source = random_source(rng, mount);
        rates.push(source.rate());
        world.source(source);
    }
    let titles = &mut fastrand::Rng::with_seed(!seed); // drawn apart: all else is as it was without
    for _ in 0..rng.u32(2..30) {
        let mount = rng.usize(..mounts);
        let rules = world.mount_at(mount).broadcast.rules.clone();
        let mut guest = random_guest(rng, mount, &rules, rates[mount]);
        guest.icy = pick(titles, &[None, None, Some(100), Some(1000), Some(16_000)]);
        world.after(ms(rng.u64(..30_000)), move |world| {
            let id = world.join(guest);
            accident(world, id, mount);
        });
    }
    for _ in 0..titles.u32(..20) {
        let mount = titles.usize(..mounts);
        world.after(ms(titles.u64(..60_000)), move |world| world.new_title(mount));
    }
    world.refusals_most = 30; // a clump of huge chunks may be too much at once
    if rng.u8(..3) == 0 {
        world.refusals_most = u64::MAX; // a shard that stands still keeps an old ring in memory
        let (shard, span) = (rng.usize(..shards), ms(rng.u64(..40_000)));
        world.after(ms(rng.u64(..40_000)), move |world| world.stall_shard(shard, span));
    }
    if rng.u8(..3) == 0 {
        world.after(ms(rng.u64(20_000..60_000)), move |world| world.drain(Some(0), Departure::SourceEnded));
    }
    world.run_for(secs(60));
    world.end();
}

#[test]
fn whatever_happens_by_chance_the_rules_hold() {
    if let Some(seed) = number("FLUMEN_WORLD_SEED") {
        return random_world(seed);
    }
    (0..number("FLUMEN_WORLD_SEEDS").unwrap_or(SEEDS)).for_each(random_world);
}

/// Somebody comes; who keeps up leaves when it has heard enough.
fn visit(world: &mut World, mount: usize) {
    let buffer = world.rng.u64(100..4000);
    let guest = match world.rng.u8(..10) {
        0..6 => Guest::fast(mount),
        6 | 7 => Guest::slow(mount, 200, buffer),
        8 => Guest::slow(mount, 25, buffer),
        _ => Guest::stalled(mount, buffer),
    };
    let id = world.join(guest.may(Departure::HungUp));
    let (stay, reset) = (secs(world.rng.u64(10..5400)), world.rng.bool());
    world.after(stay, move |world| {
        world.line(id, |line| if reset { line.reset() } else { line.half_close() });
    });
    let next = secs(world.rng.u64(60..900));
    world.after(next, move |world| visit(world, mount));
}

#[test]
fn ninety_days_of_stream_leave_no_trace() {
    let mut world = World::seeded(90, 2);
    (world.forgetful, world.lateness) = (true, ms(900)); // timers of a machine that is always late; bells are not
    world.refusals_most = 100;
    let rules = Rules {
        wish: Wish { method: SyncMethod::BurstKeyframe, burst: "20s".parse().expect("a burst"), burst_max: Extents::NONE },
        limits: limits("60s", "180s"),
        recover: RecoverPolicy::Keyframe,
        idle_timeout: Some(secs(600)),
        ..rules()
    };
    let ring_max = 320 * 1024;
    let mount = world.mount(rules, "30s", ring_max);
    let mut source = Source::new(mount, secs(3), 0, 5);
    source.sizes = (40, 120);
    source.quirks = Quirks {
        empty: 0.01,
        huge: 0.0005,
        huge_size: 20_000,
        unstamped: 0.01,
        jump: 5e-5,
        epoch: 5e-4,
        flush: 2e-5,
        pause: 5e-5,
        pause_most: secs(1200),
        clump: 0.001,
        clump_most: 12,
        restart: 1e-4,
    };
    world.source(source);
    let resident = [world.join(Guest::fast(mount)), world.join(Guest::fast(mount))];
    visit(&mut world, mount);
    let mut room = Vec::new();
    for _ in 0..90 {
        world.run_for(secs(86_400)); // at each turn, push and departure the model looks at everything
        room.push(world.room());
        if world.rng.u8(..30) == 0 {
            world.stall_shard(0, secs(30));
        }
    }
    assert!(resident.iter().all(|&id| world.here(id)), "they were here from the first day to the last");
    let highest = |days: &[usize]| days.iter().max().copied().unwrap_or_default();
    assert!(highest(&room[60..]) <= highest(&room[..30]) * 11 / 10, "the tables have room for {room:?}, day by day");
    let model = world.mount_at(mount);
    assert!(model.held_peak() <= 2 * ring_max + ring_max / 4, "{} bytes", model.held_peak());
    assert!(model.departed(Departure::Stalled) > 500 && model.departed(Departure::HungUp) > 5000, "it was a lively time");
    assert!(world.next_number(mount) > 2_000_000);
    world.end();
}
