//! What is being played, as shards see it: one block of bytes per mount, and a number to tell by that it is another one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::icy::{Block, Interleave};

/// The present title of one mount.
#[derive(Debug, Default)]
pub struct Title {
    /// Of the block below. Shards look at this, and take the lock only if it has changed.
    number: AtomicU64,
    block: Mutex<Arc<Block>>,
}

impl Title {
    fn lock(&self) -> MutexGuard<'_, Arc<Block>> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is said; bytes as [`crate::wire::icy::block`] makes them.
    pub fn set(&self, bytes: Box<[u8]>) {
        let mut block = self.lock();
        let number = block.number + 1;
        *block = Arc::new(Block { number, bytes });
        self.number.store(number, Ordering::Release);
    }

    /// The block that is told now.
    pub fn block(&self) -> Arc<Block> {
        Arc::clone(&self.lock())
    }

    /// Goes on with a block of the process before this, whose numbers its listeners know.
    pub fn resume(&self, block: Block) {
        let mut present = self.lock();
        self.number.store(block.number, Ordering::Release);
        *present = Arc::new(block);
    }

    /// Brings a listener up to date, if there is news for it and its next block has not begun.
    pub(super) fn tell(&self, icy: &mut Interleave) {
        if icy.wants(self.number.load(Ordering::Acquire)) {
            // It may be a later one by now; an earlier one, or the one that the listener knows, it cannot be.
            icy.adopt(Arc::clone(&self.lock()));
        }
    }
}
