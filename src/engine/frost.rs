//! Shards that stand still, so that somebody else may go on with their listeners.
//!
//! ```text
//!   Command::Freeze ─▶ shard gives out its audiences and waits ─▶ Frost ──thaw────▶ gets them back, goes on as if nothing had been
//!                                                                   └────release──▶ gets them back, lets go whom another has
//! ```
//! - A shard that is frozen does nothing, and its turn is between two sends: what is half sent stands in the cursor, to the byte.
//! - Nothing is taken apart: audiences go out and come back whole, so a thaw needs no care to be exact.
//! - Who drops the frost thaws it. A shard waits [`STILL_MOST`] at the very most; beyond it, whoever froze it is gone.
//! - A stall that is long enough to be noticed is forgiven like any other.

use std::collections::HashSet;
use std::fmt;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::audience::Audience;
use super::broadcast::Broadcast;
use super::inbox::{Command, Inbox};
use super::listener::Arrival;
use super::socket::Wire;
use crate::fanout::ring::Ring;

/// The longest that a shard stands still. Far more than anybody who freezes takes: it ends a wait for somebody who is not there.
const STILL_MOST: Duration = Duration::from_secs(120);

/// All listeners of one shard, by their mounts' numbers.
pub(super) type Audiences<W> = Vec<Option<Audience<W>>>;

/// Where newcomers go who come to a shard when everybody has gone; bounded by whoever makes it.
pub type Latecomers<W> = SyncSender<Box<Arrival<W>>>;

/// What a shard gets back.
#[derive(Debug)]
pub(super) struct Thawed<W> {
    pub(super) audiences: Audiences<W>,
    /// Mounts whose listeners another process has, as far as they can be passed on.
    pub(super) moved: Arc<HashSet<usize>>,
    /// Another process has taken over: who still comes here is on the way there.
    pub(super) late: Option<Latecomers<W>>,
}

/// What lies between a shard and whoever asked it to stand still.
#[derive(Debug)]
enum Counter<W> {
    /// The shard has not come yet.
    Empty,
    /// It has given out what it had.
    Given(Audiences<W>),
    /// Nobody wants that any more.
    Closed,
}

/// Over which one of the two gives and the other takes, whatever the other does meanwhile.
#[derive(Debug)]
struct Exchange<W> {
    counter: Mutex<Counter<W>>,
    given: Condvar,
}

impl<W> Exchange<W> {
    fn lock(&self) -> MutexGuard<'_, Counter<W>> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives, or gets it back from a closed counter.
    fn give(&self, audiences: Audiences<W>) -> Result<(), Audiences<W>> {
        let mut counter = self.lock();
        if matches!(*counter, Counter::Closed) {
            return Err(audiences);
        }
        *counter = Counter::Given(audiences);
        self.given.notify_all();
        Ok(())
    }

    /// Closes the counter. What lies there, if anything does.
    fn close(&self) -> Option<Audiences<W>> {
        match std::mem::replace(&mut *self.lock(), Counter::Closed) {
            Counter::Given(audiences) => Some(audiences),
            Counter::Empty | Counter::Closed => None,
        }
    }

    /// Waits until something lies there, or until then; takes it, and closes.
    fn await_until(&self, end: Instant) -> Option<Audiences<W>> {
        let mut counter = self.lock();
        while matches!(*counter, Counter::Empty) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            counter = self.given.wait_timeout(counter, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(counter);
        self.close()
    }
}

/// A shard is asked to stand still.
#[derive(Debug)]
pub struct Freeze<W> {
    exchange: Arc<Exchange<W>>,
    back: Receiver<Thawed<W>>,
}

impl<W> Freeze<W> {
    /// On the shard's thread: gives out what it has, and waits. `None`: it is lost, for whoever had it is.
    pub(super) fn hold(self, audiences: Audiences<W>) -> Option<Thawed<W>> {
        match self.exchange.give(audiences) {
            Err(audiences) => Some(Thawed { audiences, moved: Arc::default(), late: None }),
            Ok(()) => self.back.recv_timeout(STILL_MOST).ok(),
        }
    }
}

/// A shard did not stand still in time; all go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sending thread does not stand still")]
pub struct NotFrozen;

/// One shard that was asked. Whatever it gives out, it gets back, at the latest when this is dropped.
struct Held<W> {
    exchange: Arc<Exchange<W>>,
    audiences: Option<Audiences<W>>,
    back: Sender<Thawed<W>>,
}

impl<W> Held<W> {
    fn give_back(&mut self, moved: &Arc<HashSet<usize>>, late: Option<&Latecomers<W>>) {
        if let Some(audiences) = self.audiences.take().or_else(|| self.exchange.close()) {
            // It fails only if the shard is gone, and then there is nobody to give them to.
            let _ = self.back.send(Thawed { audiences, moved: Arc::clone(moved), late: late.cloned() });
        }
    }
}

impl<W> Drop for Held<W> {
    fn drop(&mut self) {
        self.give_back(&Arc::default(), None);
    }
}

/// All shards stand still, and this has what is theirs. Dropped, it gives everything back.
pub struct Frost<W>(Vec<Held<W>>);

impl<W> fmt::Debug for Frost<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frost({} shards)", self.0.len())
    }
}

impl<W: Wire> Frost<W> {
    /// Lets these shards stand still.
    ///
    /// # Errors
    /// When one does not within this time.
    pub(super) fn of<'a>(inboxes: impl Iterator<Item = &'a Arc<Inbox<W>>>, most: Duration) -> Result<Self, NotFrozen>
    where
        W: 'a,
    {
        let end = Instant::now() + most;
        let mut asked = Vec::new();
        for inbox in inboxes {
            let exchange = Arc::new(Exchange { counter: Mutex::new(Counter::Empty), given: Condvar::new() });
            let (back, returned) = mpsc::channel();
            let freeze = Freeze { exchange: Arc::clone(&exchange), back: returned };
            asked.push(Held { exchange, audiences: None, back });
            if !inbox.tell(Command::Freeze(Box::new(freeze))) {
                return Err(NotFrozen);
            }
        }
        for held in &mut asked {
            held.audiences = Some(held.exchange.await_until(end).ok_or(NotFrozen)?);
        }
        Ok(Self(asked))
    }

    /// All of a mount's listeners, on all shards.
    pub(super) fn audiences(&self, slot: usize) -> impl Iterator<Item = &Audience<W>> {
        self.0.iter().filter_map(move |held| held.audiences.as_ref()?.get(slot)?.as_ref())
    }

    /// The mount's history with everything that one of its listeners may still have to be sent.
    pub fn history(&self, broadcast: &Broadcast) -> Ring {
        let copies = self.audiences(broadcast.slot).filter(|audience| audience.len() > 0).map(Audience::copy);
        let mut history = Ring::default();
        if let Some(longest) = copies.min_by_key(|copy| copy.oldest()) {
            history.follow(longest);
        }
        broadcast.feed.read(|ring| history.follow(ring));
        history
    }

    /// They go on with everybody, as if nothing had been.
    pub fn thaw(self) {
        drop(self);
    }

    /// They go on without those listeners of these mounts that can be passed on: another process has them. Those sockets are
    /// closed here and stay open there. Who still comes, and can be passed on, goes to the latecomers.
    pub fn release(mut self, moved: HashSet<usize>, late: &Latecomers<W>) {
        let moved = Arc::new(moved);
        self.0.iter_mut().for_each(|held| held.give_back(&moved, Some(late)));
    }
}
