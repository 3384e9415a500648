//! How far a mount has come in the history of the server that it is pulled from. By it a link that broke goes on where it stopped,
//! and so does the process that another hands over to.
//!
//! - It is written by whoever pulls, once the mount's actor has been given all that it speaks of.
//! - As soon as another source takes the mount it is void: what comes then follows on nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::handover;
use crate::units::Moment;

/// Where one has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// With whom.
    pub upstream: String,
    /// Which history of its.
    pub instance: u64,
    /// The place after the last chunk that the mount has taken.
    pub next: u64,
    /// When it was taken.
    pub at: Moment,
}

/// A mount's mark, if it has one.
#[derive(Debug, Default)]
pub struct Bookmark(Mutex<Option<Mark>>);

impl Bookmark {
    fn lock(&self) -> MutexGuard<'_, Option<Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where one has come to.
    pub fn mark(&self) -> Option<Mark> {
        self.lock().clone()
    }

    /// From here on one goes on.
    pub fn put(&self, mark: Mark) {
        *self.lock() = Some(mark);
    }

    /// Whatever comes next follows on nothing.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// As plain data.
    pub(super) fn pack(&self) -> Option<handover::Bookmark> {
        let Mark { upstream, instance, next, at } = self.mark()?;
        Some(handover::Bookmark { upstream, instance, next, at: at.nanos() })
    }

    /// Goes on where another process stopped.
    pub(super) fn resume(&self, packed: &handover::Bookmark) {
        let handover::Bookmark { upstream, instance, next, at } = packed.clone();
        self.put(Mark { upstream, instance, next, at: Moment::from_nanos(at) });
    }
}
