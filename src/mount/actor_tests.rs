//! What becomes of a mount when its source ends, flushes or is replaced, and when its actor fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;

use super::{Age, Mount, OpenGate, SourceEnded};
use crate::engine::crew::{Clock, Crew};
use crate::fanout::chunk::Marks;
use crate::fanout::ring::Ring;
use crate::fanout::streamheader::Headers;
use crate::mount::registry::Entry;
use crate::mount::testing::settings;
use crate::mount::{Delivery, Gate, GateError, Metadata, OnSourceEnd, Registry, Settings};

/// Nothing takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(10);

struct House {
    entry: Entry,
    crew: Arc<Crew>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.crew.stop();
    }
}

impl House {
    fn with_a_mount() -> Self {
        Self::with(settings("/a"))
    }

    fn with(settings: Settings) -> Self {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let registry = Arc::new(Registry::new(Arc::clone(&crew), 10));
        let entry = registry.open(settings, &actix_rt::Arbiter::new().handle()).expect("opened");
        Self { entry, crew }
    }

    async fn source(&self) -> Gate {
        self.entry.actor.send(OpenGate).await.expect("the actor is there")
    }

    /// All that was sent to the actor before has been seen to.
    async fn settle(&self) {
        self.entry.actor.send(Nothing).await.expect("the actor is there");
    }

    fn received(&self) -> u64 {
        crate::fanout::stats::read(&self.entry.handle.source.received_chunks)
    }
}

fn deliver(gate: &Gate) -> Result<(), GateError> {
    let marks = Marks { keyframe: true, ..Marks::default() };
    let chunk = gate.chunk(vec![1; 100].into(), marks, &Headers::none()).expect("room");
    gate.deliver(vec![Delivery::Chunk(chunk)], None)
}

#[derive(Message)]
#[rtype(result = "()")]
struct Nothing;

impl Handler<Nothing> for Mount {
    type Result = ();
    fn handle(&mut self, _: Nothing, _: &mut Self::Context) {}
}

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for Mount {
    type Result = ();
    fn handle(&mut self, _: Panic, ctx: &mut Self::Context) {
        self.guarded(ctx, |_| panic!("for the test"));
    }
}

#[actix::test]
async fn a_newcomer_during_a_flush_is_let_in_with_the_next_chunk() {
    let house = House::with_a_mount();
    let gate = house.source().await;
    deliver(&gate).expect("taken");
    gate.deliver(vec![Delivery::Flush], None).expect("taken");
    house.settle().await;
    let handle = Arc::clone(&house.entry.handle);
    assert!(handle.on_air(Duration::from_millis(50), false).await.is_none(), "there is nothing to hear");
    let waiting = actix_rt::spawn(async move { handle.on_air(PATIENCE, false).await });
    actix_rt::task::yield_now().await;
    deliver(&gate).expect("taken");
    assert!(waiting.await.expect("no panic").is_some());
}

#[actix::test]
async fn a_flush_alone_puts_nothing_on_air() {
    let house = House::with_a_mount();
    house.source().await.deliver(vec![Delivery::Flush], None).expect("taken");
    house.settle().await;
    assert!(!house.entry.handle.status().up);
}

#[actix::test]
async fn what_comes_late_from_a_source_that_has_ended_or_was_replaced_is_turned_away() {
    let house = House::with_a_mount();
    let first = house.source().await;
    deliver(&first).expect("taken");
    house.entry.actor.send(SourceEnded { source: None, fault: Some("boom".into()) }).await.expect("the actor is there");
    assert_eq!(deliver(&first), Err(GateError::Closed));
    house.settle().await;
    let status = house.entry.handle.status();
    assert_eq!((status.up, status.fault.as_deref(), house.received()), (false, Some("boom"), 1));

    let second = house.source().await;
    deliver(&second).expect("taken");
    let third = house.source().await;
    assert_eq!(deliver(&second), Err(GateError::Closed));
    deliver(&third).expect("taken");
    house.settle().await;
    assert_eq!((house.entry.handle.status().up, house.received()), (true, 3));
}

#[actix::test]
async fn a_source_that_an_operator_removes_may_write_no_more_and_is_told_so() {
    let house = House::with_a_mount();
    let first = house.source().await;
    deliver(&first).expect("taken");
    let closed = actix_rt::spawn(first.closed());
    actix_rt::task::yield_now().await;
    assert!(!closed.is_finished(), "nobody has removed it yet");
    house.entry.kill_source();
    tokio::time::timeout(PATIENCE, closed).await.expect("told").expect("no panic");
    assert_eq!(deliver(&first), Err(GateError::Closed));
    house.settle().await; // the way is closed first, and then it is said why
    let status = house.entry.handle.status();
    assert_eq!((status.up, status.fault.as_deref()), (false, Some("removed by an operator")));
    let next = house.source().await;
    deliver(&next).expect("the next one is welcome");
    tokio::time::timeout(PATIENCE, first.closed()).await.expect("who asks late is told at once");
}

#[actix::test]
async fn where_listeners_leave_with_the_source_newcomers_start_with_the_next_one() {
    for on_source_end in [OnSourceEnd::Wait, OnSourceEnd::Close] {
        let house = House::with(Settings { on_source_end, ..settings("/a") });
        deliver(&house.source().await).expect("taken");
        house.entry.actor.send(SourceEnded { source: None, fault: None }).await.expect("the actor is there");
        let next = house.source().await;
        let begun = || house.entry.handle.broadcast.feed.read(Ring::has_begun);
        assert_eq!(begun(), on_source_end == OnSourceEnd::Wait, "{on_source_end:?}");
        deliver(&next).expect("taken");
        house.settle().await;
        assert!(begun());
        assert_eq!(house.entry.handle.broadcast.feed.read(Ring::begun).number(), u64::from(on_source_end == OnSourceEnd::Close));
    }
}

#[actix::test]
async fn what_has_become_too_old_is_for_no_newcomer_and_is_told_again_by_no_source_that_is_back() {
    for on_source_end in [OnSourceEnd::Wait, OnSourceEnd::Close] {
        let house = House::with(Settings { on_source_end, ..settings("/a") });
        let age = async || {
            house.entry.actor.send(Age).await.expect("the actor is there");
            house.entry.handle.broadcast.feed.read(Ring::has_begun)
        };
        deliver(&house.source().await).expect("taken");
        house.settle().await;
        assert!(age().await, "{on_source_end:?}: there is a source");
        house.entry.actor.send(SourceEnded { source: None, fault: None }).await.expect("the actor is there");
        assert_eq!(age().await, on_source_end == OnSourceEnd::Wait, "{on_source_end:?}: it may be back soon");
        deliver(&house.source().await).expect("taken");
        house.settle().await;
        assert!(age().await, "{on_source_end:?}");
    }
}

#[actix::test]
async fn what_is_being_played_is_forgotten_with_the_history_and_not_before() {
    let title = |title: &str| Metadata::new(Some("A"), Some(title), None);
    for on_source_end in [OnSourceEnd::Wait, OnSourceEnd::Close] {
        let house = House::with(Settings { on_source_end, ..settings("/a") });
        let playing = || (*house.entry.handle.metadata()).clone();
        let first = house.source().await;
        deliver(&first).expect("taken");
        first.set_metadata(title("one"));
        assert_eq!(playing(), title("one"));
        if on_source_end == OnSourceEnd::Wait {
            let second = house.source().await;
            assert_eq!(playing(), title("one"), "a source that was replaced leaves its title until the next one says something");
            first.set_metadata(title("late"));
            assert_eq!(playing(), title("one"), "it comes too late");
            deliver(&second).expect("taken");
            house.settle().await;
        }
        house.settle().await;
        house.entry.actor.send(SourceEnded { source: None, fault: None }).await.expect("the actor is there");
        let kept = if on_source_end == OnSourceEnd::Wait { title("one") } else { Metadata::default() };
        assert_eq!(playing(), kept, "{on_source_end:?}");
        let next = house.source().await;
        assert_eq!(playing(), kept, "{on_source_end:?}: it is back at once");
        deliver(&next).expect("taken");
        house.settle().await;
        assert_eq!(playing(), kept, "{on_source_end:?}: and heard");
        house.entry.handle.set_metadata(title("two"));
        house.entry.handle.set_metadata(title("two"));
        assert_eq!(playing(), title("two"));
        let updates = crate::fanout::stats::read(&house.entry.handle.source.metadata_updates);
        assert_eq!(updates, 2, "what is known already is no update, and forgetting is none");
    }
}

#[actix::test]
async fn a_panic_costs_the_mount_its_source_and_nothing_else() {
    let house = House::with_a_mount();
    let gate = house.source().await;
    deliver(&gate).expect("taken");
    house.settle().await;
    house.entry.actor.send(Panic).await.expect("answered");
    house.settle().await;
    let status = house.entry.handle.status();
    assert_eq!((status.up, status.fault.as_deref()), (false, Some("internal error")));
    assert_eq!(deliver(&gate), Err(GateError::Closed), "the pipeline learns that it must start anew");
    assert_eq!(house.entry.handle.broadcast.feed.read(|ring| ring.len()), 1, "the history is still there");
    deliver(&house.source().await).expect("taken");
    house.settle().await;
    assert!(house.entry.handle.status().up);
}

#[actix_web::test]
async fn whoever_sees_of_what_kind_a_stream_is_finds_that_relays_are_told_so() {
    let house = House::with_a_mount();
    let (handle, seen) = (Arc::clone(&house.entry.handle), Arc::new(AtomicUsize::new(0)));
    let kind = |number: usize| Arc::<str>::from(format!("audio/kind-{number}."));
    let watcher = std::thread::spawn({
        let (handle, seen) = (Arc::clone(&handle), Arc::clone(&seen));
        move || {
            for number in 1..=2000 {
                let kind = kind(number);
                while handle.status().content_type.as_ref() != Some(&kind) {
                    std::hint::spin_loop();
                }
                let notice = handle.broadcast.title.notice();
                let told = notice.frame.windows(kind.len()).any(|part| part == kind.as_bytes());
                seen.store(number, Ordering::Release);
                assert!(told, "a relay that is woken now is told of another kind than {kind}");
            }
        }
    });
    for number in 1..=2000 {
        handle.change(|status| status.content_type = Some(kind(number)));
        while seen.load(Ordering::Acquire) < number && !watcher.is_finished() {
            std::hint::spin_loop();
        }
    }
    watcher.join().expect("it was told each time");
}
