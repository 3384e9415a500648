//! The shared side of a ring: one writer (the Mount actor), one reader per shard. The only structure threads share.
//!
//! ```text
//!   mount ──write──▶ [ Ring ] ◀──follow: share the new chunks── shard 0 … shard n
//! ```
//! - A shard holds the lock only to share chunk handles, never while it writes to a socket.
//! - A write never waits for a reader's sockets; it wakes those readers that said they sleep, and only those.
//! - What a shard with listeners has not looked at yet, the ring keeps while memory lasts.
//! - No wake-up is lost: a reader arms its bell first and looks a last time after; the writer publishes first and looks at
//!   the bells after. (`cargo test --features model-check feed` lets loom try every order.)
//!
//! This module knows nothing of listeners, sockets or HTTP.

use super::alarm::Alarm;
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, fence};
use crate::fanout::ring::Ring;
use crate::units::Seq;

/// A ring with its readers' bells.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Shared>,
    /// Grows with every write. Readers compare before they lock.
    version: AtomicU64,
    bells: Box<[Bell]>,
}

#[derive(Debug)]
struct Shared {
    ring: Ring,
    /// How far each reader has looked; [`Seq::LAST`] where nobody reads.
    read: Box<[Seq]>,
}

impl Shared {
    fn note(&mut self, reader: usize, upto: Seq) {
        self.read[reader] = upto;
        self.ring.read_upto(self.read.iter().copied().min().unwrap_or(Seq::LAST));
    }
}

#[derive(Debug)]
struct Bell {
    armed: AtomicBool,
    alarm: Alarm,
}

impl Feed {
    /// An empty ring, read by as many shards as there are alarms.
    pub fn new(alarms: &[Alarm]) -> Self {
        let bells = alarms.iter().map(|alarm| Bell { armed: AtomicBool::new(false), alarm: alarm.clone() }).collect();
        let shared = Shared { ring: Ring::default(), read: vec![Seq::LAST; alarms.len()].into() };
        Self { ring: Mutex::new(shared), version: AtomicU64::new(0), bells }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic under the lock leaves a ring that is whole: its operations do not call out.
        self.ring.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the ring and wakes the readers that sleep. For the one writer.
    pub fn write<T>(&self, change: impl FnOnce(&mut Ring) -> T) -> T {
        let result = {
            let mut shared = self.lock();
            let result = change(&mut shared.ring);
            self.version.fetch_add(1, Ordering::Release);
            result
        };
        fence(Ordering::SeqCst);
        for bell in &self.bells {
            if bell.armed.load(Ordering::Relaxed) && bell.armed.swap(false, Ordering::AcqRel) {
                bell.alarm.ring();
            }
        }
        result
    }

    /// Looks at the ring, for those who are in no hurry (metrics, the API).
    pub fn read<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&self.lock().ring)
    }

    /// What [`Self::follow`] would bring a copy up to.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Brings a shard's copy up to date. Returns the version it has then, and from where on the original holds chunks. From now on
    /// the shard counts as a reader.
    pub fn follow(&self, shard: usize, copy: &mut Ring) -> (u64, Seq) {
        let mut shared = self.lock();
        copy.follow(&shared.ring);
        let next = shared.ring.next();
        shared.note(shard, next);
        (self.version.load(Ordering::Acquire), shared.ring.oldest())
    }

    /// The shard reads no more, until it follows again.
    pub fn leave(&self, shard: usize) {
        self.lock().note(shard, Seq::LAST);
    }

    /// Asks to be woken at the next write. Returns false, and asks nothing, if there has been one since `seen`: then the
    /// shard must not sleep.
    pub fn arm(&self, shard: usize, seen: u64) -> bool {
        let bell = &self.bells[shard];
        bell.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.version.load(Ordering::Acquire) == seen {
            return true;
        }
        bell.armed.store(false, Ordering::Relaxed);
        false
    }

    /// Withdraws the wish to be woken.
    pub fn disarm(&self, shard: usize) {
        self.bells[shard].armed.store(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "model-check")))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::fanout::testing::chunk;

    #[test]
    fn only_a_sleeping_reader_is_woken_and_only_once() {
        let rings = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&rings);
        let feed = Feed::new(&[
            Alarm::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }),
            Alarm::silent(),
        ]);
        let push = || feed.write(|ring| ring.push(chunk(b"x", true), 0));
        push();
        assert_eq!(rings.load(Ordering::Relaxed), 0, "nobody asked");
        assert!(!feed.arm(0, 0), "there has been a write since version 0");
        assert!(feed.arm(0, feed.version()));
        push();
        push();
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        let mut copy = Ring::default();
        assert_eq!(feed.follow(0, &mut copy).0, 3);
        assert_eq!(copy.len(), 3);
    }

    #[test]
    fn the_ring_knows_what_its_readers_have_not_looked_at() {
        let feed = Feed::new(&[Alarm::silent(), Alarm::silent()]);
        let (mut first, mut second) = (Ring::default(), Ring::default());
        let unread = || feed.read(Ring::unread);
        let push = || feed.write(|ring| ring.push(chunk(b"x", true), 0));
        assert_eq!(unread(), Seq::LAST, "nobody reads");
        push();
        feed.follow(0, &mut first);
        push();
        feed.follow(1, &mut second);
        assert_eq!(unread(), Seq::new(1));
        feed.leave(0);
        assert_eq!(unread(), Seq::new(2));
        feed.leave(1);
        assert_eq!(unread(), Seq::LAST);
    }
}

#[cfg(all(test, feature = "model-check"))]
mod model {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;
    use crate::fanout::testing::chunk;

    /// In every order of the two threads: either the reader sees the write before it sleeps, or it is woken.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let woken = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&woken);
            let feed = Arc::new(Feed::new(&[Alarm::new(move || drop(counted.fetch_add(1, Ordering::Release)))]));
            let writer = {
                let feed = Arc::clone(&feed);
                thread::spawn(move || drop(feed.write(|ring| ring.push(chunk(b"x", true), 0))))
            };
            let mut copy = Ring::default();
            let (seen, _) = feed.follow(0, &mut copy);
            let sleeps = feed.arm(0, seen);
            writer.join().expect("the writer ends");
            if sleeps {
                assert!(copy.len() == 1 || woken.load(Ordering::Acquire) == 1, "asleep without the chunk and without a call");
            } else {
                feed.follow(0, &mut copy);
                assert_eq!(copy.len(), 1);
            }
        });
    }

    /// A copy never sees a chunk without those before it, and versions tell the truth.
    #[test]
    fn a_copy_has_all_chunks_of_the_version_it_claims() {
        loom::model(|| {
            let feed = Arc::new(Feed::new(&[Alarm::silent()]));
            let writer = {
                let feed = Arc::clone(&feed);
                thread::spawn(move || {
                    for _ in 0..2 {
                        feed.write(|ring| ring.push(chunk(b"x", true), 0));
                    }
                })
            };
            let mut copy = Ring::default();
            let before = feed.version();
            let (seen, _) = feed.follow(0, &mut copy);
            assert!(seen >= before && copy.len() as u64 == seen);
            writer.join().expect("the writer ends");
        });
    }
}
