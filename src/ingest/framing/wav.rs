//! WAV: the head up to the samples is the streamheader; a listener may start on every whole frame of samples.

use serde::{Deserialize, Serialize};

use super::spool::{Parse, Stamps};
use super::{Framed, HEADERS_MOST};

/// A WAV stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Wav {
    /// Bytes of one sample of every channel; zero until the head has been seen.
    block: usize,
}

impl Wav {
    /// Where a frame begins is not known any more than before: the stream goes on at whatever comes next.
    pub(super) fn gap(&mut self) {}
}

fn long(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Length of the head, and bytes per frame.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut block) = (12, 1);
    loop {
        let chunk = bytes.get(at..at + 8)?;
        if chunk.starts_with(b"data") {
            return Some((at + 8, block));
        }
        let size = long(&chunk[4..]);
        if chunk.starts_with(b"fmt ") {
            block = long(bytes.get(at + 20..at + 22)?).max(1);
        }
        at = at.checked_add(8 + size + size % 2).filter(|at| *at <= HEADERS_MOST)?;
    }
}

impl Parse for Wav {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        if self.block == 0 {
            match head(bytes) {
                Some((length, block)) => {
                    out.push(Framed::Headers { parts: vec![bytes[..length].into()], in_band: false });
                    (self.block, at) = (block, length);
                }
                None if bytes.len() < HEADERS_MOST => return 0,
                None => self.block = 1, // no head in sight: samples, whatever they are
            }
        }
        let whole = (bytes.len() - at) / self.block * self.block;
        if whole > 0 {
            out.push(stamps.unit(at, &bytes[at..at + whole], true));
        }
        at + whole
    }
}
