//! Streams that are nothing but frames: MPEG audio (layers I to III) and AAC in ADTS. A listener may start on every frame.
//!
//! While hunting, a header is believed when another follows where it says, or when the piece ends just there.

use super::spool::{Parse, Stamps};
use super::{Framed, Recognition};

/// Length of the frame whose header these bytes are; `None`: they are no header. At least [`HEADER`] bytes are given.
pub(super) type FrameLength = fn(&[u8]) -> Option<usize>;

/// Bytes that every header can be judged by.
const HEADER: usize = 7;

/// A run of frames.
#[derive(Debug)]
pub(super) struct Frames {
    length: FrameLength,
    pub(super) in_sync: bool,
}

impl Frames {
    pub(super) fn new(length: FrameLength) -> Self {
        Self { length, in_sync: false }
    }

    pub(super) fn gap(&mut self) {
        self.in_sync = false;
    }

    #[cfg(test)]
    pub(super) fn length_function(&self) -> FrameLength {
        self.length
    }

    /// A stream of frames begins with one. (Bytes that begin in the middle of one go by flags, which is as good: nothing is
    /// withheld while looking for a header that may never come.)
    pub(super) fn recognise(&self, start: &[u8]) -> Recognition {
        if start.len() < HEADER {
            return if start.first().is_none_or(|&first| first == 0xFF || first == b'I') { Recognition::NeedMore } else { Recognition::No };
        }
        if start.starts_with(b"ID3") {
            return Recognition::Yes;
        }
        let Some(length) = (self.length)(start) else { return Recognition::No };
        match start.get(length..) {
            None => Recognition::NeedMore,
            Some([]) => Recognition::Yes,
            Some(next) if next.len() < HEADER => Recognition::NeedMore,
            Some(next) if (self.length)(next).is_some() || tag_length(next).is_some() => Recognition::Yes,
            Some(_) => Recognition::No,
        }
    }
}

/// Whether three frames in a row stand somewhere in these bytes.
pub(super) fn hunt(length: FrameLength, bytes: &[u8]) -> bool {
    let next = |at: usize| bytes.get(at..).filter(|rest| rest.len() >= HEADER).and_then(length).map(|length| at + length);
    (0..bytes.len()).any(|at| next(at).and_then(next).and_then(next).is_some())
}

impl Parse for Frames {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        while bytes.len() - at >= HEADER {
            let rest = &bytes[at..];
            let tag = tag_length(rest);
            let Some(length) = tag.or_else(|| (self.length)(rest)) else {
                self.in_sync = false;
                stamps.skipped += 1;
                at += 1;
                continue;
            };
            if rest.len() < length {
                break;
            }
            let next = &rest[length..];
            if !self.in_sync && tag.is_none() && !next.is_empty() {
                if next.len() < HEADER {
                    break;
                }
                if (self.length)(next).is_none() && tag_length(next).is_none() {
                    stamps.skipped += 1;
                    at += 1;
                    continue;
                }
            }
            self.in_sync = true;
            out.push(stamps.unit(at, &rest[..length], tag.is_none()));
            at += length;
        }
        at
    }
}

/// Length of an ID3v2 tag: passed on, but no place to start.
fn tag_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..10)?;
    if !head.starts_with(b"ID3") || head[6..].iter().any(|byte| byte & 0x80 != 0) {
        return None;
    }
    let size = head[6..].iter().fold(0, |size, byte| size << 7 | usize::from(*byte));
    let length = 10 + size + if head[5] & 0x10 != 0 { 10 } else { 0 };
    (length <= super::HEADERS_MOST).then_some(length)
}

/// MPEG 1, 2 and 2.5, layers I to III. Free format states no length and is not believed.
pub(super) fn mpeg_frame(bytes: &[u8]) -> Option<usize> {
    const V1: [[usize; 16]; 3] = [
        [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0],
        [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0],
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0],
    ];
    const V2: [[usize; 16]; 2] = [
        [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0],
    ];
    if bytes[0] != 0xFF || bytes[1] & 0xE0 != 0xE0 {
        return None;
    }
    let (version, layer) = (bytes[1] >> 3 & 3, 4 - usize::from(bytes[1] >> 1 & 3));
    let (rate_index, padding) = (usize::from(bytes[2] >> 2 & 3), usize::from(bytes[2] >> 1 & 1));
    if version == 1 || layer == 4 || rate_index == 3 {
        return None;
    }
    let index = usize::from(bytes[2] >> 4);
    let first_version = version == 3;
    let bits = 1000 * if first_version { V1[layer - 1][index] } else { V2[usize::from(layer > 1)][index] };
    let rate = [44_100, 48_000, 32_000][rate_index]
        >> match version {
            3 => 0,
            2 => 1,
            _ => 2,
        };
    if bits == 0 {
        return None;
    }
    Some(match layer {
        1 => (12 * bits / rate + padding) * 4,
        3 if !first_version => 72 * bits / rate + padding,
        _ => 144 * bits / rate + padding,
    })
}

/// An ADTS frame.
pub(super) fn adts_frame(bytes: &[u8]) -> Option<usize> {
    if bytes[0] != 0xFF || bytes[1] & 0xF6 != 0xF0 || bytes[2] >> 2 & 0xF > 12 {
        return None;
    }
    let length = usize::from(bytes[3] & 3) << 11 | usize::from(bytes[4]) << 3 | usize::from(bytes[5]) >> 5;
    let header = if bytes[1] & 1 == 1 { 7 } else { 9 };
    (length > header).then_some(length)
}
