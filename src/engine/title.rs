//! What is being played, as shards see it: one block of bytes per mount, and a number to tell by that it is another one. The same
//! once more for relays, in a frame that says more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fanout::frames::{Frames, Notice};
use crate::wire::icy::{Block, Interleave};

/// The present title of one mount.
#[derive(Debug, Default)]
pub struct Title {
    /// Of the block below. Shards look at this, and take the lock only if it has changed.
    number: AtomicU64,
    block: Mutex<Arc<Block>>,
    /// The same for relays.
    notice_number: AtomicU64,
    notice: Mutex<Arc<Notice>>,
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

    /// From now on relays are told this; a frame as [`crate::wire::relay::notice`] makes it.
    pub fn set_notice(&self, frame: Box<[u8]>) {
        let mut notice = self.notice.lock().unwrap_or_else(PoisonError::into_inner);
        let number = notice.number + 1;
        *notice = Arc::new(Notice { number, frame });
        self.notice_number.store(number, Ordering::Release);
    }

    /// What a relay is to be told, if that is news for it.
    pub(super) fn news(&self, frames: &Frames) -> Option<Arc<Notice>> {
        frames.wants(self.notice_number.load(Ordering::Acquire)).then(|| self.notice())
    }

    /// What relays are told now.
    pub(crate) fn notice(&self) -> Arc<Notice> {
        Arc::clone(&self.notice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings a listener up to date, if there is news for it and its next block has not begun.
    pub(super) fn tell(&self, icy: &mut Interleave) {
        if icy.wants(self.number.load(Ordering::Acquire)) {
            // It may be a later one by now; an earlier one, or the one that the listener knows, it cannot be.
            icy.adopt(Arc::clone(&self.lock()));
        }
    }
}
