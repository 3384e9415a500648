//! A chunk: one buffer of the stream, with what the fan-out must know of it.
//!
//! - A chunk never changes after it is made; everybody shares it by reference count.
//! - What it costs is booked (see `account`) as long as anybody holds it.

use std::fmt;
use std::sync::Arc;

use super::account::{Account, Booking};
use super::streamheader::Headers;

/// What one chunk costs beside its payload: its own fields, the allocator's share, and its entries in the ring and in the copies
/// of eight shards (each further one adds 32 bytes). Stated high, so that a flood of tiny chunks is bounded as well.
pub const OVERHEAD_BYTES: u64 = 384;

/// What upstream says of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A listener may start here.
    pub keyframe: bool,
    /// Something is missing before it.
    pub discont: bool,
    /// It stands for a gap: there is nothing in it to hear or see.
    pub gap: bool,
    /// Presentation time, in nanoseconds.
    pub pts: Option<u64>,
    /// Decoding time, in nanoseconds.
    pub dts: Option<u64>,
}

impl Marks {
    /// The time that orders it: of decoding, else of presentation.
    pub fn stamp(&self) -> Option<u64> {
        self.dts.or(self.pts)
    }
}

/// One buffer of the stream.
pub struct Chunk {
    payload: Box<[u8]>,
    marks: Marks,
    headers: Arc<Headers>,
    booking: Booking,
}

impl Chunk {
    /// A chunk that is to be decoded with `headers`.
    pub fn new(payload: Box<[u8]>, marks: Marks, headers: Arc<Headers>, account: &Arc<Account>) -> Self {
        let booking = Booking::new(account, payload.len() as u64 + OVERHEAD_BYTES);
        Self { payload, marks, headers, booking }
    }

    /// The bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether a listener may start here. Nobody can start on nothing, so an empty chunk never is.
    pub fn keyframe(&self) -> bool {
        self.marks.keyframe && !self.payload.is_empty()
    }

    /// What upstream said of it.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The streamheaders a decoder needs before it.
    pub fn headers(&self) -> &Arc<Headers> {
        &self.headers
    }

    /// What it costs in memory, in bytes, its headers not counted: it shares those with its neighbours.
    pub fn cost(&self) -> u64 {
        self.booking.bytes()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Chunk({} B{}{})",
            self.payload.len(),
            if self.marks.keyframe { ", keyframe" } else { "" },
            if self.marks.discont { ", discont" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_booked_as_long_as_anybody_holds_it() {
        let account = Arc::new(Account::default());
        let chunk = Arc::new(Chunk::new(vec![0; 100].into(), Marks::default(), Headers::none(), &account));
        let second = Arc::clone(&chunk);
        assert_eq!(account.held_bytes(), 100 + OVERHEAD_BYTES);
        drop(chunk);
        assert_eq!(account.held_bytes(), 100 + OVERHEAD_BYTES, "the second holder still has it");
        drop(second);
        assert_eq!(account.held_bytes(), 0);
    }
}
