//! Answers on their way out: handed on in portions, and of large ones only so many bytes held at a time.
//!
//! - What an answer takes is held for as long as its reader pleases to read, so all large ones together have a bound, and one address a
//!   share of it. Who finds none is told to come again.
//! - The deadline of a write is that of what the framework writes at once (`hull`): a portion, and what came shortly before it. Who does
//!   not take that in time is given up, however often they take a little.
//! - One that is alone is let go whatever it takes: what there is to tell has bounds of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// What the framework is given at once, and the largest answer that does not count.
pub const PORTION: usize = 8 * 1024;
/// From so many bytes on the framework writes before it asks for the next portion. With that one and its frame on top it is still within
/// two portions, to which its buffer grows once and no further. It is more than heads have, whose texts are
/// bounded: those of streams are whole when they leave.
pub const WRITTEN_FROM: usize = PORTION - 1024;
/// Bytes that large answers may take at a time, in all.
pub const HELD_MOST: u64 = 64 << 20;
/// What one answer takes besides: a portion, that by which the framework's buffer grows for it, and one that does not count.
pub const ANSWER_BYTES: u64 = 3 * PORTION as u64;
/// The part of [`HELD_MOST`] that one address may have.
const SHARE: u64 = HELD_MOST / 4;

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// Of addresses that have any; no more than there are connections.
    of: HashMap<IpAddr, u64>,
}

/// The large answers that are on their way.
#[derive(Debug, Default)]
pub(super) struct Outgoing(Mutex<Held>);

impl Outgoing {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an answer go on its way. A large one counts until what this returns is dropped.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn take(self: &Arc<Self>, who: IpAddr, bytes: u64) -> Result<Option<Parcel>, TooMany> {
        if bytes <= PORTION as u64 {
            return Ok(None);
        }
        let mut held = self.held();
        let (all, of) = (held.all, held.of.get(&who).copied().unwrap_or(0));
        let fits = |held: u64, most: u64| held == 0 || held.saturating_add(bytes) <= most;
        if !fits(all, HELD_MOST) || !fits(of, SHARE) {
            return Err(TooMany);
        }
        held.all = all.saturating_add(bytes);
        held.of.insert(who, of.saturating_add(bytes));
        Ok(Some(Parcel { outgoing: Arc::clone(self), who, bytes }))
    }
}

/// There are too many large answers on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// A large answer that is on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    outgoing: Arc<Outgoing>,
    who: IpAddr,
    bytes: u64,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let mut held = self.outgoing.held();
        held.all -= self.bytes;
        if let Some(of) = held.of.get_mut(&self.who) {
            *of -= self.bytes;
            if *of == 0 {
                held.of.remove(&self.who);
            }
        }
    }
}

/// The next portion of what is left.
pub(super) fn next(rest: &mut Bytes) -> Bytes {
    rest.split_to(rest.len().min(PORTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn large_answers_share_what_there_is_and_small_ones_do_not_count() {
        let outgoing = Arc::new(Outgoing::default());
        let mut kept = Vec::new();
        // Who, how much, and whether it may go.
        for (who, bytes, goes) in [
            (1, 10 * MIB, true),
            (1, 6 * MIB, true),
            (1, MIB, false),
            (1, PORTION as u64, true),
            (2, 20 * MIB, true), // alone of its address
            (2, MIB, false),
            (3, 16 * MIB, true),
            (4, 12 * MIB, true),
            (5, MIB, false), // nothing is left
            (5, 100, true),
        ] {
            let parcel = outgoing.take(address(who), bytes);
            assert_eq!(parcel.is_ok(), goes, "{who} {bytes}");
            kept.extend(parcel);
        }
        assert_eq!(outgoing.held().all, HELD_MOST);
        kept.clear();
        assert!(outgoing.held().all == 0 && outgoing.held().of.is_empty());
        let alone = outgoing.take(address(1), 2 * HELD_MOST);
        assert!(alone.is_ok() && outgoing.take(address(2), MIB).is_err(), "whatever it takes, and then nothing else");
    }

    #[test]
    fn portions_are_the_whole() {
        for length in [0, 1, PORTION, PORTION + 1, 5 * PORTION - 1] {
            let whole: Bytes = (0..length).map(|i| i as u8).collect::<Vec<_>>().into();
            let (mut rest, mut got) = (whole.clone(), Vec::new());
            while !rest.is_empty() {
                let portion = next(&mut rest);
                assert!(!portion.is_empty() && portion.len() <= PORTION);
                got.extend_from_slice(&portion);
            }
            assert_eq!(got, whole);
        }
    }
}
