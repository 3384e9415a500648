//! Fixtures for tests: rings that can be read with a finger.

use std::sync::Arc;

use super::account::Account;
use super::chunk::{Chunk, Marks};
use super::ring::Ring;
use super::streamheader::Headers;
use crate::units::Seq;

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number)
}

/// A chunk with this payload and no streamheaders.
pub(crate) fn chunk(payload: &[u8], keyframe: bool) -> Arc<Chunk> {
    chunk_under(&Headers::none(), payload, keyframe)
}

/// A chunk with this payload, to be decoded with these headers.
pub(crate) fn chunk_under(headers: &Arc<Headers>, payload: &[u8], keyframe: bool) -> Arc<Chunk> {
    Arc::new(Chunk::new(payload.into(), Marks { keyframe, ..Marks::default() }, Arc::clone(headers), &Arc::new(Account::default())))
}

/// `"K....K"`: one chunk a character, `K` a keyframe, 16 bytes each (its number as text), 20 ms apart.
pub(crate) fn ring_of(picture: &str) -> Ring {
    let mut ring = Ring::default();
    for (i, kind) in picture.chars().enumerate() {
        ring.push(chunk(format!("{i:016}").as_bytes(), kind == 'K'), i as u64 * 20_000_000);
    }
    ring
}
