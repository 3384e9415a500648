//! Numbers of mounts: small, and given again when nobody knows the mount any more that had them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Mounts are numbered in 16 bits (see the engine's tokens).
const MOUNTS_MOST: usize = 60_000;

/// The numbers that are taken.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    /// The smallest that nobody ever had.
    next: usize,
    /// Those given back.
    free: Vec<usize>,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody has; `None` when all are taken.
    pub(super) fn take(&self) -> Option<usize> {
        let mut numbers = self.lock();
        if let Some(slot) = numbers.free.pop() {
            return Some(slot);
        }
        let slot = numbers.next;
        (slot < MOUNTS_MOST).then(|| {
            numbers.next += 1;
            slot
        })
    }

    /// Gives a number back. Every shard has forgotten its mount.
    pub(super) fn give_back(&self, slot: usize) {
        let mut numbers = self.lock();
        debug_assert!(slot < numbers.next && !numbers.free.contains(&slot), "{slot} was not taken");
        numbers.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_to_one_at_a_time_and_there_are_so_many() {
        let slots = Slots::default();
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(0), Some(1), Some(2)]);
        slots.give_back(1);
        assert_eq!([slots.take(), slots.take()], [Some(1), Some(3)]);
        while slots.take().is_some_and(|slot| slot + 1 < MOUNTS_MOST) {}
        assert_eq!(slots.take(), None);
        slots.give_back(7);
        assert_eq!([slots.take(), slots.take()], [Some(7), None]);
    }
}
