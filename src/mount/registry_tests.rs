//! Mounts that come, change and go while the server runs.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use actix_rt::Arbiter;

use super::*;
use crate::engine::admission::Seat;
use crate::engine::broadcast::Peer;
use crate::engine::crew::Clock;
use crate::engine::listener::Arrival;
use crate::engine::socket::Socket;
use crate::fanout::chunk::Marks;
use crate::fanout::departure::Departure;
use crate::fanout::streamheader::Headers;
use crate::mount::actor::OpenGate;
use crate::mount::testing::settings;
use crate::mount::{Delivery, Gate};
use crate::units::ByteCount;

struct House {
    registry: Arc<Registry>,
    arbiter: Arbiter,
}

impl Drop for House {
    fn drop(&mut self) {
        self.registry.crew().stop();
        self.arbiter.stop();
    }
}

impl House {
    fn new() -> Self {
        let crew = Crew::start(2, Clock::default()).expect("shards");
        Self { registry: Arc::new(Registry::new(crew, 100)), arbiter: Arbiter::new() }
    }

    fn open(&self, path: &str) -> Entry {
        self.registry.open(settings(path), &self.arbiter.handle()).expect("opened")
    }

    /// Somebody who listens; what it hears comes out of the other end.
    fn listen(&self, entry: &Entry) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let arrival = Arrival {
            wire: Socket::new(theirs).expect("a socket"),
            broadcast: Arc::clone(&entry.handle.broadcast),
            head: Box::default(),
            wish: None,
            placed: None,
            inlay: None,
            id: self.registry.next_listener(),
            peer: Peer::Unix,
            user_agent: "test".into(),
            pass: None,
            trail: crate::engine::trail::Trail::default(),
            intro: None,
            accepted: self.registry.crew().clock().now(),
            seat: Seat::take(self.registry.places(), &entry.handle.places).expect("a place"),
        };
        self.registry.crew().reserve().expect("room").send(Command::Join(Box::new(arrival)));
        ours
    }
}

fn push(gate: &Gate, bytes: usize) {
    let marks = Marks { keyframe: true, ..Marks::default() };
    let chunk = gate.chunk(vec![7; bytes].into(), marks, &Headers::none()).expect("room");
    gate.deliver(vec![Delivery::Chunk(chunk)], None).expect("taken");
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}

/// What is heard until the end.
async fn heard(mut end: UnixStream) -> usize {
    let reading = actix_rt::task::spawn_blocking(move || {
        let mut heard = Vec::new();
        end.read_to_end(&mut heard).expect("to the end");
        heard.len()
    });
    reading.await.expect("no panic")
}

#[actix::test]
async fn of_many_who_open_the_same_path_exactly_one_wins() {
    let house = House::new();
    for round in 0..20 {
        let path = format!("/{round}");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (registry, arbiter, path) = (Arc::clone(&house.registry), house.arbiter.handle(), path.clone());
                std::thread::spawn(move || registry.open(settings(&path), &arbiter).err())
            })
            .collect();
        let lost: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(lost, [OpenError::Taken; 7]);
    }
    let mut slots: Vec<_> = house.registry.all().iter().map(|entry| entry.handle.broadcast.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..20).collect::<Vec<_>>(), "those who lost took no number");
}

#[actix::test]
async fn a_closed_mount_is_gone_at_once_and_of_many_who_close_it_one_does() {
    let house = House::new();
    house.open("/a");
    let closing: Vec<_> = (0..4).filter_map(|_| house.registry.close("/a")).collect();
    assert_eq!((closing.len(), house.registry.find("/a").is_none()), (1, true));
    let again = house.open("/a");
    for closing in closing {
        closing.closed().await;
    }
    assert!(house.registry.find("/a").is_some_and(|found| Arc::ptr_eq(&found.handle, &again.handle)), "the new one stays");
}

#[actix::test]
async fn a_number_is_given_again_when_the_last_listener_has_got_what_was_queued() {
    let house = House::new();
    let entry = house.open("/a");
    let gate = entry.actor.send(OpenGate).await.expect("a gate");
    push(&gate, 200_000); // more than a socket takes at once
    until(|| entry.handle.status().up).await;
    let slow = house.listen(&entry);
    until(|| entry.handle.listeners() == 1).await;
    let slot = entry.handle.broadcast.slot;
    let closing = house.registry.close("/a").expect("open");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let meanwhile = house.open("/b");
    assert_ne!(meanwhile.handle.broadcast.slot, slot, "somebody still listens under that number");
    assert_eq!(heard(slow).await, 200_000, "all of it");
    closing.closed().await;
    let counters = &entry.handle.broadcast.counters;
    assert_eq!(counters.departures[Departure::ShuttingDown.index()].load(Ordering::Relaxed), 1);
    let after = house.open("/c");
    assert_eq!(after.handle.broadcast.slot, slot);
    let (_, sessions) = house.registry.census();
    assert_eq!(sessions.iter().map(|view| view.count).sum::<u64>(), 1, "the server's sums do not shrink");

    // Whoever still has the old one in hand comes too late, and harms nobody.
    let gate = after.actor.send(OpenGate).await.expect("a gate");
    push(&gate, 1000);
    until(|| after.handle.status().up).await;
    let new = house.listen(&after);
    until(|| after.handle.listeners() == 1).await;
    assert!(Seat::take(house.registry.places(), &entry.handle.places).is_none());
    assert_eq!(after.handle.listeners(), 1);
    house.registry.close("/c").expect("open").closed().await;
    assert_eq!(heard(new).await, 1000);
}

#[actix::test]
async fn nothing_of_a_closed_mount_stays_in_memory() {
    let house = House::new();
    let entry = house.open("/a");
    let gate = entry.actor.send(OpenGate).await.expect("a gate");
    push(&gate, 1000);
    until(|| entry.handle.status().up).await;
    let weak = Arc::downgrade(&entry.handle);
    drop((entry, gate));
    house.registry.close("/a").expect("open").closed().await;
    until(|| weak.strong_count() == 0).await;
}

#[actix::test]
async fn who_waits_for_a_mount_that_is_closed_learns_it_at_once() {
    let house = House::new();
    let handle = house.open("/a").handle;
    let waiting = actix_rt::spawn(async move { handle.on_air(Duration::from_secs(60), false).await });
    actix_rt::task::yield_now().await;
    house.registry.close("/a").expect("open");
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("at once");
    assert_eq!(answer.expect("no panic"), None);
}

#[actix::test]
async fn new_settings_are_found_by_whoever_looks_and_by_a_source_that_goes_on() {
    let house = House::new();
    let before = house.open("/a");
    let gate = before.actor.send(OpenGate).await.expect("a gate");
    assert!(gate.chunk(vec![0; 300_000].into(), Marks::default(), &Headers::none()).is_none(), "a quarter of a megabyte at most");
    let mut changed = settings("/a");
    changed.ring_max = ByteCount(8 << 20);
    changed.rules.memory_max = 16 << 20;
    changed.max_listeners = Some(3);
    changed.profile.name = Some("A".into());
    changed.content_type = Some("audio/mpeg".into());
    assert!(house.registry.settle(changed.clone()));
    let after = house.registry.find("/a").expect("open");
    assert_eq!(after.handle.settings, changed);
    assert_eq!(before.handle.settings, settings("/a"), "who has looked before sees what was then");
    assert!(after.handle.broadcast.is_same(&before.handle.broadcast) && after.handle.broadcast.is_newer(&before.handle.broadcast));
    assert_eq!(before.handle.places.most(), 3);
    push(&gate, 300_000);
    until(|| after.handle.status().up && after.handle.status().content_type.as_deref() == Some("audio/mpeg")).await;
    assert!(!house.registry.settle(settings("/b")), "there is none");
}

/// The same, with a history of at most so many bytes.
fn bounded(path: &str, ring_max: u64) -> Settings {
    let rules = crate::engine::broadcast::Rules { memory_max: 2 * ring_max, ..settings(path).rules };
    Settings { ring_max: ByteCount(ring_max), rules, ..settings(path) }
}

/// A chunk with streamheaders of its own, if there is room.
fn headed(gate: &Gate, bytes: usize, headers: usize) -> Option<Delivery> {
    let headers = gate.headers(&[vec![b'h'; headers]], false)?;
    let marks = Marks { keyframe: true, ..Marks::default() };
    Some(Delivery::Chunk(gate.chunk(vec![7; bytes].into(), marks, &headers)?))
}

#[actix::test]
async fn a_mount_whose_ring_max_is_lowered_below_what_it_holds_loses_no_chunk_by_that_and_soon_holds_no_more_than_it_may() {
    for (chunk, headers) in [(20_000, 0), (500, 20_000), (200_000, 0)] {
        let house = House::new();
        let entry = house.open("/a");
        let gate = entry.actor.send(OpenGate).await.expect("a gate");
        gate.deliver(vec![headed(&gate, chunk, headers).expect("room")], None).expect("taken");
        until(|| entry.handle.status().up).await;
        let _slow = house.listen(&entry);
        until(|| entry.handle.listeners() == 1).await;
        for _ in 0..40 {
            gate.deliver(headed(&gate, chunk, headers).into_iter().collect(), None).expect("taken");
        }
        let held = || entry.handle.broadcast.account.held_bytes();
        until(|| held() >= 600_000).await;
        let refused = || entry.handle.source.refused_chunks.load(Ordering::Relaxed);
        let before = refused();
        assert!(house.registry.settle(bounded("/a", 64 << 10)));
        let gate = entry.actor.send(OpenGate).await.expect("a gate");
        for _ in 0..20 {
            gate.deliver(vec![headed(&gate, 1000, 10).expect("room, at once and from then on")], None).expect("taken");
        }
        until(|| held() <= 128 << 10).await;
        gate.deliver(vec![headed(&gate, 1000, 10).expect("room")], None).expect("taken");
        until(|| entry.handle.bounds.now().1 == bounded("/a", 64 << 10).memory_bound()).await;
        assert_eq!(refused(), before, "{chunk} bytes, {headers} of headers");
    }
}

#[actix::test]
async fn paths_that_many_open_and_close_at_once_are_each_closed_once_and_all_numbers_come_back() {
    let house = House::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (registry, arbiter) = (Arc::clone(&house.registry), house.arbiter.handle());
            std::thread::spawn(move || {
                let (mut opened, mut closings) = (0, Vec::new());
                for i in 0..200 {
                    let path = format!("/{}", i % 3);
                    opened += usize::from(registry.open(settings(&path), &arbiter).is_ok());
                    closings.extend(registry.close(&path));
                }
                (opened, closings)
            })
        })
        .collect();
    let (mut opened, mut closings) = (0, Vec::new());
    for thread in threads {
        let (more, others) = thread.join().expect("no panic");
        opened += more;
        closings.extend(others);
    }
    closings.extend((0..3).filter_map(|i| house.registry.close(&format!("/{i}"))));
    assert_eq!(closings.len(), opened, "each that was opened was closed, and once");
    for closing in closings {
        closing.closed().await;
    }
    assert!(house.registry.all().is_empty());
    let mut slots: Vec<_> = (0..opened).map(|i| house.open(&format!("/again/{i}")).handle.broadcast.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    assert!(slots.len() == opened && slots.last().is_some_and(|last| *last < opened), "{slots:?}");
}

/// What publishers may make: so many of each.
fn patterns(of: &[(&str, usize)]) -> Vec<crate::mount::Pattern> {
    let pattern = |(paths, most): &(&str, usize)| crate::mount::Pattern {
        paths: paths.parse().expect("a pattern"),
        most: *most,
        mounts: Settings { linger: Some(Duration::from_millis(100)), ..settings("/nowhere") },
    };
    of.iter().map(pattern).collect()
}

#[actix::test]
async fn of_many_who_make_mounts_at_once_none_is_made_twice_and_no_pattern_has_more_than_it_may() {
    let house = House::new();
    house.registry.host(patterns(&[("/a/*", 3)]), &house.arbiter.handle(), |path| path.as_str() != "/a/taken");
    let make = |path: &str| house.registry.find_or_make(&path.parse().expect("a path"));
    assert_eq!(make("/b").map(drop), Err(MakeError::NoPattern));
    assert_eq!(make("/a/taken").map(drop), Err(MakeError::NoPattern), "not everything can be a mount");
    assert!(house.registry.site("/a/x").is_some() && house.registry.site("/a/").is_none() && house.registry.find("/a/x").is_none());
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let registry = Arc::clone(&house.registry);
            std::thread::spawn(move || {
                let path = format!("/a/{}", i % 4).parse().expect("a path");
                (0..50).map(|_| registry.find_or_make(&path).is_ok()).filter(|made| *made).count()
            })
        })
        .collect();
    let found: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert_eq!((house.registry.all().len(), found), (3, 300), "those for whom there was a place always find it");
    // What is declared has been made before: it stays, and the pattern has a place again.
    let kept = house.registry.all()[0].clone();
    assert!(house.registry.adopt(kept.handle.settings.clone()) && !house.registry.adopt(kept.handle.settings.clone()));
    assert!(!house.registry.all()[0].is_made());
    assert!(make("/a/one-more").is_ok() && make("/a/too-many").is_err());
    // Nobody publishes: they go, and the one that is declared does not.
    until(|| house.registry.all().len() == 1).await;
    assert!(make("/a/1").is_ok() && make("/a/2").is_ok() && make("/a/3").is_ok());
}

#[actix::test]
async fn a_mount_is_kept_while_somebody_is_about_to_publish_and_goes_with_a_pattern_that_is_gone() {
    let house = House::new();
    house.registry.host(patterns(&[("/a/*", 9)]), &house.arbiter.handle(), |_| true);
    let entry = house.registry.find_or_make(&"/a/x".parse().expect("a path")).expect("made");
    let somebody = crate::mount::publishers::Publisher { peer: Peer::Unix, user_agent: "test".into(), since: std::time::SystemTime::now() };
    let press = entry.handle.publishers.claim(somebody.clone(), false).expect("the place is free");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(house.registry.find("/a/x").is_some(), "somebody holds a place, though nothing is heard yet");
    let gate = entry.actor.send(OpenGate).await.expect("a gate");
    push(&gate, 1000);
    until(|| entry.handle.status().up).await;
    let listener = house.listen(&entry);
    until(|| entry.handle.listeners() == 1).await;
    house.registry.host(Vec::new(), &house.arbiter.handle(), |_| true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(entry.handle.status().up && entry.handle.listeners() == 1, "it has a source");
    drop(press);
    entry.actor.send(SourceEnded { source: None, fault: None }).await.expect("the actor is there");
    assert_eq!(heard(listener).await, 1000);
    until(|| house.registry.find("/a/x").is_none()).await;
    assert!(entry.handle.publishers.claim(somebody, true).is_err(), "who had found it before comes too late, and learns it");
    let departures = &entry.handle.broadcast.counters.departures;
    assert_eq!(departures[Departure::SourceEnded.index()].load(Ordering::Relaxed), 1);
}
