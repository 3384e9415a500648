//! Ogg: the header pages of all logical streams are the streamheaders, a page is a unit. A listener may start on a page where
//! a packet begins; if there is video, only where a video keyframe does. (GStreamer's `oggparse` marks no Theora page at all.)
//!
//! A new beginning-of-stream page after data is a chained stream: its header pages become a new set, or are joined to the one
//! before (see `joint`).

use serde::{Deserialize, Serialize};

use super::joint::Joint;
use super::spool::{Parse, Stamps};
use super::{Framed, HEADERS_MOST, written};

const PAGE_HEADER: usize = 27;
const CONTINUED: u8 = 1;
const FIRST: u8 = 2;

/// How many packets of a logical stream are headers.
#[derive(Debug, Serialize, Deserialize)]
enum Headers {
    /// So many more.
    Packets(u32),
    /// Those on pages at position zero: a codec we do not know, or one that does not say.
    AtZero,
    /// The whole stream: a skeleton.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Video {
    Theora,
    Vp8,
}

#[derive(Debug, Serialize, Deserialize)]
struct Logical {
    serial: [u8; 4],
    headers: Headers,
    video: Option<Video>,
}

/// An Ogg stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ogg {
    streams: Vec<Logical>,
    /// Header pages, until the first page of data.
    #[serde(with = "written")]
    pages: Vec<Box<[u8]>>,
    collecting: bool,
    /// What joins links, if they are to be joined.
    pub(super) joint: Option<Joint>,
}

/// Most logical streams in one physical one.
const STREAMS_MOST: usize = 64;

/// One page, borrowed.
struct Page<'a> {
    bytes: &'a [u8],
    body: usize,
}

impl<'a> Page<'a> {
    /// The page at the front, if it is whole and its checksum holds; `Err(true)` if more bytes are needed.
    fn read(bytes: &'a [u8]) -> Result<Self, bool> {
        let magic = &b"OggS\0"[..bytes.len().min(5)];
        if !bytes.starts_with(magic) {
            return Err(false);
        }
        let segments = usize::from(*bytes.get(PAGE_HEADER - 1).ok_or(true)?);
        let body = PAGE_HEADER + segments;
        let lacing = bytes.get(PAGE_HEADER..body).ok_or(true)?;
        let length = body + lacing.iter().map(|&size| usize::from(size)).sum::<usize>();
        let page = Self { bytes: bytes.get(..length).ok_or(true)?, body };
        if checksum(page.bytes) == [bytes[22], bytes[23], bytes[24], bytes[25]] { Ok(page) } else { Err(false) }
    }

    fn serial(&self) -> [u8; 4] {
        [self.bytes[14], self.bytes[15], self.bytes[16], self.bytes[17]]
    }

    fn has(&self, flag: u8) -> bool {
        self.bytes[5] & flag != 0
    }

    fn at_zero(&self) -> bool {
        self.bytes[6..14] == [0; 8]
    }

    fn lacing(&self) -> &[u8] {
        &self.bytes[PAGE_HEADER..self.body]
    }

    fn packets_ended(&self) -> u32 {
        self.lacing().iter().filter(|&&size| size < 255).count() as u32
    }

    /// The beginning of the first packet that begins on this page.
    fn first_packet(&self) -> Option<&[u8]> {
        if self.has(CONTINUED) {
            return None; // what begins later on the page is reached through the middle of something
        }
        (!self.lacing().is_empty()).then(|| &self.bytes[self.body..])
    }
}

/// The checksum of a page.
pub(super) fn checksum(page: &[u8]) -> [u8; 4] {
    let with_zero = page[..22].iter().chain(&[0; 4]).chain(&page[26..]);
    with_zero.fold(0_u32, |crc, &byte| crc << 8 ^ CRC[usize::from((crc >> 24) as u8 ^ byte)]).to_le_bytes()
}

/// The checksum's table: polynomial 0x04c11db7, not reflected.
static CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn identify(packet: &[u8]) -> (Headers, Option<Video>) {
    let more = |count| Headers::Packets(count);
    match packet {
        [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => (more(3), None),
        [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', ..] => (more(2), None),
        [0x80, b't', b'h', b'e', b'o', b'r', b'a', ..] => (more(3), Some(Video::Theora)),
        [b'O', b'V', b'P', b'8', b'0', ..] => (more(2), Some(Video::Vp8)),
        [b'f', b'i', b's', b'h', b'e', b'a', b'd', 0, ..] => (Headers::All, None),
        [0x7F, b'F', b'L', b'A', b'C', _, _, high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            0 => (Headers::AtZero, None),
            count => (more(1 + u32::from(count)), None),
        },
        [b'S', b'p', b'e', b'e', b'x', ..] => {
            let extra = packet.get(68..72).map_or(0, |field| u32::from_le_bytes([field[0], field[1], field[2], field[3]]));
            (more(2 + extra.min(64)), None)
        }
        _ => (Headers::AtZero, None),
    }
}

impl Video {
    fn is_keyframe(self, packet: &[u8]) -> bool {
        match (self, packet.first()) {
            (Self::Theora, Some(first)) => first & 0xC0 == 0,
            (Self::Vp8, Some(first)) => first & 1 == 0,
            (_, None) => false,
        }
    }
}

impl Ogg {
    /// Whether the page belongs to the headers; counts its packets.
    fn is_header(&mut self, page: &Page<'_>) -> bool {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.serial == page.serial()) else { return false };
        match &mut stream.headers {
            Headers::Packets(0) => false,
            Headers::Packets(left) => {
                *left = left.saturating_sub(page.packets_ended());
                true
            }
            Headers::AtZero => page.at_zero(),
            Headers::All => true,
        }
    }

    fn is_start(&self, page: &Page<'_>) -> bool {
        let Some(packet) = page.first_packet() else { return false };
        match self.streams.iter().find(|stream| stream.video.is_some()) {
            Some(picture) => picture.serial == page.serial() && picture.video.is_some_and(|video| video.is_keyframe(packet)),
            None => !self.streams.iter().any(|stream| stream.serial == page.serial() && matches!(stream.headers, Headers::All)),
        }
    }

    fn page(&mut self, at: usize, page: &Page<'_>, stamps: &mut Stamps, out: &mut Vec<Framed>) {
        if page.has(FIRST) {
            if !self.collecting {
                *self = Self { collecting: true, joint: self.joint.take(), ..Self::default() };
            }
            let (headers, video) = identify(&page.bytes[page.body..]);
            if self.streams.len() < STREAMS_MOST {
                self.streams.push(Logical { serial: page.serial(), headers, video });
            }
        }
        if self.collecting && (page.has(FIRST) || self.is_header(page)) && self.held() + page.bytes.len() <= HEADERS_MOST {
            if page.has(FIRST) {
                self.is_header(page); // counts
            }
            self.pages.push(page.bytes.into());
            if self.complete() {
                self.give(out);
            }
            return;
        }
        self.give(out); // data ends the headers, whatever was expected
        let keyframe = self.is_start(page);
        let joined = self.joint.as_mut().map(|joint| joint.data(page.bytes));
        out.push(stamps.unit(at, joined.as_deref().unwrap_or(page.bytes), keyframe));
    }

    fn held(&self) -> usize {
        self.pages.iter().map(|page| page.len()).sum()
    }

    /// Whether every stream said how many header packets it has, and they have come.
    fn complete(&self) -> bool {
        self.streams.iter().all(|stream| matches!(stream.headers, Headers::Packets(0)))
    }

    fn give(&mut self, out: &mut Vec<Framed>) {
        if std::mem::take(&mut self.collecting) {
            let mut parts = std::mem::take(&mut self.pages);
            // Who has heard the link before goes on without them.
            let in_band = self.joint.as_mut().is_some_and(|joint| joint.begin(&mut parts));
            out.push(Framed::Headers { parts, in_band });
        }
    }
}

impl Parse for Ogg {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match Page::read(&bytes[at..]) {
                Ok(page) => {
                    self.page(at, &page, stamps, out);
                    at += page.bytes.len();
                }
                Err(true) => break,
                Err(false) => {
                    stamps.skipped += 1;
                    at += 1;
                }
            }
        }
        at
    }
}
