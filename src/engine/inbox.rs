//! What shards are told, in bounded queues.
//!
//! A newcomer's place in the queue is reserved before its response is begun, so that a full queue becomes a clean refusal
//! and never a broken promise. Orders and questions use the same queue, with some places of their own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::admission::Places;
use super::alarm::Alarm;
use super::broadcast::{Broadcast, ListenerView};
use super::frost::Freeze;
use super::listener::{Arrival, Carried};
use super::trail::Movers;
use crate::fanout::departure::Departure;
use crate::units::{ListenerId, MountPath};

/// Commands that one shard may have waiting. A shard takes some hundreds a turn, so this is a second's worth of a storm.
pub const INBOX_MOST: usize = 8192;
/// Places beyond those, for orders: a storm of newcomers must not keep a shard from being told to stop.
const ORDERS_MOST: usize = 1024;

/// Where an answer goes; called on the shard's thread, so it must not block.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// An answer that is given to this.
    pub fn new(take: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(take))
    }

    /// Answers.
    pub fn send(self, value: T) {
        (self.0)(value);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A part of a shard's list of listeners.
#[derive(Debug)]
pub struct ListPart {
    /// Some listeners.
    pub listeners: Vec<ListenerView>,
    /// Where to go on, if there are more.
    pub next: Option<usize>,
}

/// What became of a part of a mount's listeners that were to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovePart {
    /// So many have moved.
    pub moved: usize,
    /// So many stayed, for there was no place for them.
    pub stayed: usize,
    /// Where to go on, if there are more.
    pub next: Option<usize>,
}

/// What a shard is told.
#[derive(Debug)]
pub enum Command<W> {
    /// A newcomer.
    Join(Box<Arrival<W>>),
    /// Remove a listener at once. Answers whether it was here.
    Kick { slot: usize, id: ListenerId, why: Departure, reply: Reply<bool> },
    /// Everybody of a mount (`None`: of all) is sent what is queued and leaves.
    Drain { slot: Option<usize>, why: Departure },
    /// Everybody who is still here leaves at once.
    Clear { why: Departure },
    /// A part of the list of a mount's listeners, from a place in the shard's table on.
    List { slot: usize, from: usize, most: usize, reply: Reply<ListPart> },
    /// A mount has other rules: they hold for everybody who listens, from now on.
    Settle { broadcast: Arc<Broadcast> },
    /// A mount is closed: who is still here leaves at once. Answered when nothing here knows its number any more.
    Forget { slot: usize, why: Departure, reply: Reply<()> },
    /// A part of a mount's listeners, from a place in the shard's table on, goes on listening to another mount.
    Move { slot: usize, who: Movers, to: Arc<Broadcast>, places: Arc<Places>, from: usize, most: usize, reply: Reply<MovePart> },
    /// Whether somebody who listens to a mount was sent on from another.
    HasStrays { slot: usize, from: MountPath, reply: Reply<bool> },
    /// The shard gives out all its listeners and waits until it gets them back: see [`frost`](super::frost).
    Freeze(Box<Freeze<W>>),
    /// Listeners of the process before this go on listening here. Answers how many do.
    Resume { broadcast: Arc<Broadcast>, listeners: Vec<Carried<W>>, reply: Reply<usize> },
    /// The thread ends.
    Quit,
}

/// The queue of one shard.
#[derive(Debug)]
pub struct Inbox<W> {
    queue: Mutex<VecDeque<Command<W>>>,
    /// Places taken: those in the queue and those reserved.
    taken: AtomicUsize,
    alarm: Alarm,
}

/// A reserved place in a shard's queue, given back when dropped unused.
#[derive(Debug)]
pub struct Permit<W> {
    inbox: Arc<Inbox<W>>,
    used: bool,
}

impl<W> Inbox<W> {
    /// An empty queue of a shard that is woken by this alarm.
    pub fn new(alarm: Alarm) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(VecDeque::new()), taken: AtomicUsize::new(0), alarm })
    }

    /// Reserves a place, if there is one.
    pub fn reserve(self: &Arc<Self>) -> Option<Permit<W>> {
        self.reserve_of(INBOX_MOST)
    }

    fn reserve_of(self: &Arc<Self>, most: usize) -> Option<Permit<W>> {
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| (taken < most).then_some(taken + 1)).ok()?;
        Some(Permit { inbox: Arc::clone(self), used: false })
    }

    /// Gives an order, if there is a place. Returns whether there was.
    pub fn tell(self: &Arc<Self>, command: Command<W>) -> bool {
        self.reserve_of(INBOX_MOST + ORDERS_MOST).is_some_and(|permit| {
            permit.send(command);
            true
        })
    }

    /// Takes the next command.
    pub fn take(&self) -> Option<Command<W>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let command = queue.pop_front();
        if command.is_some() {
            self.taken.fetch_sub(1, Ordering::AcqRel);
            if queue.is_empty() && queue.capacity() > 256 {
                queue.shrink_to(64); // a storm is over
            }
        }
        command
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<W> Permit<W> {
    /// Uses the place, and wakes the shard.
    pub fn send(mut self, command: Command<W>) {
        self.used = true;
        let first = {
            let mut queue = self.inbox.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(command);
            queue.len() == 1
        };
        if first {
            self.inbox.alarm.ring();
        }
    }
}

impl<W> Drop for Permit<W> {
    fn drop(&mut self) {
        if !self.used {
            self.inbox.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_refuses_before_anything_is_promised() {
        let inbox: Arc<Inbox<()>> = Inbox::new(Alarm::silent());
        let mut permits: Vec<_> = (0..INBOX_MOST).filter_map(|_| inbox.reserve()).collect();
        assert_eq!(permits.len(), INBOX_MOST);
        assert!(inbox.reserve().is_none());
        let orders = (0..2 * ORDERS_MOST).filter(|_| inbox.tell(Command::Quit)).count();
        assert_eq!(orders, ORDERS_MOST, "orders have places of their own, a bounded number of them");
        while inbox.take().is_some() {}
        assert!(inbox.reserve().is_none(), "places reserved are taken");
        permits.pop();
        assert!(inbox.reserve().is_some(), "a place given back can be taken again");
    }
}
