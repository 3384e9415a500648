//! FLAC by itself: the metadata blocks are the streamheader; a listener may start on every frame.
//!
//! A frame does not say how long it is. It ends where another header stands, and where its own checksum says so: both must hold,
//! so that samples which look like a header do not cut it.

use serde::{Deserialize, Serialize};

use super::spool::{Parse, Spool, Stamps};
use super::{Framed, HEADERS_MOST, UNIT_MOST};

/// How every stream begins.
pub(super) const MAGIC: &[u8] = b"fLaC";
/// Bytes that a frame's header may take.
const FRAME_HEADER_MOST: usize = 16;

/// A FLAC stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Flac {
    begun: bool,
    /// So far into what is held there is no end of the first frame.
    #[serde(skip)] // a place in what is held is believed to nobody else: it is looked at again
    looked: usize,
}

/// Length of the metadata at the front; `None` while it is not complete, `Some(None)` if there is none.
fn metadata(bytes: &[u8]) -> Option<Option<usize>> {
    if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
        return Some(None);
    }
    let mut at = MAGIC.len();
    loop {
        let head = bytes.get(at..at + 4)?;
        let size = head[1..].iter().fold(0, |size, &byte| size << 8 | usize::from(byte));
        at += 4 + size;
        if at > HEADERS_MOST {
            return Some(None);
        }
        if head[0] & 0x80 != 0 {
            return (bytes.len() >= at).then_some(Some(at));
        }
    }
}

/// Length of the header of a frame that begins here; `None` if none does, `Some(None)` if there are too few bytes to tell.
fn header(bytes: &[u8]) -> Option<Option<usize>> {
    let sync = [0xFF, 0xF8];
    if bytes.iter().zip(sync).enumerate().any(|(i, (byte, want))| if i == 1 { byte & 0xFE != want } else { *byte != want }) {
        return None;
    }
    let Some(fixed) = bytes.get(..5) else { return Some(None) };
    let (block, rate, depth) = (fixed[2] >> 4, fixed[2] & 0xF, fixed[3] >> 1 & 7);
    if block == 0 || rate == 15 || fixed[3] >> 4 > 10 || depth == 3 || fixed[3] & 1 != 0 {
        return None;
    }
    // A number in the manner of UTF-8.
    let number = match fixed[4].leading_ones() {
        0 => 1,
        ones @ 2..=7 => ones as usize,
        _ => return None,
    };
    let of_block = match block {
        6 => 1,
        7 => 2,
        _ => 0,
    };
    let of_rate = match rate {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let length = 4 + number + of_block + of_rate + 1;
    let Some(whole) = bytes.get(..length) else { return Some(None) };
    (crc8(&whole[..length - 1]) == whole[length - 1]).then_some(Some(length))
}

/// Polynomial 0x07.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, &byte| (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 != 0 { crc << 1 ^ 0x07 } else { crc << 1 }))
}

/// The table of polynomial 0x8005, not reflected.
static CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x8005 } else { crc << 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// Of a whole frame with its checksum at its end this is zero.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| crc << 8 ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

impl Flac {
    pub(super) fn gap(&mut self) {
        self.looked = 0;
    }

    /// The stream is over: what is held is the last frame, if it is whole.
    pub(super) fn finish(&mut self, spool: &mut Spool, out: &mut Vec<Framed>) {
        let (rest, stamps) = spool.rest();
        if matches!(header(&rest), Some(Some(_))) && crc16(&rest) == 0 {
            out.push(stamps.unit(0, &rest, true));
        }
    }

    /// Where the frame at the front ends, if that can be seen.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = self.looked.max(1);
        while at + FRAME_HEADER_MOST <= bytes.len() {
            if matches!(header(&bytes[at..]), Some(Some(_))) && crc16(&bytes[..at]) == 0 {
                self.looked = 0;
                return Some(at);
            }
            at += 1;
        }
        self.looked = at;
        None
    }
}

impl Parse for Flac {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        if !self.begun {
            match metadata(bytes) {
                None => return 0,
                Some(None) => {}
                Some(Some(length)) => {
                    out.push(Framed::Headers { parts: vec![bytes[..length].into()], in_band: false });
                    at = length;
                }
            }
            self.begun = true;
        }
        while at < bytes.len() {
            match header(&bytes[at..]) {
                Some(None) => break,
                Some(Some(_)) => match self.end(&bytes[at..]) {
                    Some(length) => {
                        out.push(stamps.unit(at, &bytes[at..at + length], true));
                        at += length;
                    }
                    // A frame that does not end is none.
                    None if bytes.len() - at > UNIT_MOST => {
                        (self.looked, at) = (0, at + 1);
                        stamps.skipped += 1;
                    }
                    None => break,
                },
                None => {
                    self.looked = 0;
                    at += 1;
                    stamps.skipped += 1;
                }
            }
        }
        at
    }
}
