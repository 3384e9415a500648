//! The books on memory: what the chunks and streamheaders of one mount take, wherever they are.
//!
//! Everything is booked as long as anybody holds it, be it the ring, a shard's copy of the ring, or a listener in the middle of
//! sending it. That is what makes the memory of a mount a number and not a hope.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes one mount holds in memory.
#[derive(Debug, Default)]
pub struct Account {
    held: AtomicU64,
}

impl Account {
    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// Bytes that are booked until this is dropped.
#[derive(Debug)]
pub(super) struct Booking {
    account: Arc<Account>,
    bytes: u64,
}

impl Booking {
    pub(super) fn new(account: &Arc<Account>, bytes: u64) -> Self {
        account.held.fetch_add(bytes, Ordering::Relaxed);
        Self { account: Arc::clone(account), bytes }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
