//! WebM and Matroska, live: everything before the first cluster is the streamheader. A listener may start on a cluster whose
//! first video block is a keyframe, or on any cluster of a stream without video.
//!
//! A cluster's head is held until its first block of the deciding track has come; with it, it is one unit. After that each
//! block is one, even when a muxer delivers its head and its payload apart.

use serde::{Deserialize, Serialize};

use super::spool::{Parse, Spool, Stamps};
use super::{Framed, HEADERS_MOST, UNIT_MOST, written};
use crate::fanout::chunk::Marks;

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1F43_B675;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_TYPE: u32 = 0x83;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const REFERENCE_BLOCK: u32 = 0xFB;
/// What may stand in a cluster or beside one.
const KNOWN: &[u32] = &[
    0xE7,
    0xA7,
    0xAB,
    0xEC,
    0xBF,
    0x5854,
    0x1C53_BB6B,
    0x1254_C367,
    0x114D_9B74,
    0x1549_A966,
    TRACKS,
    0x1043_A770,
    0x1941_A469,
    SIMPLE_BLOCK,
    BLOCK_GROUP,
];
/// The most of a cluster that is held while its first video block has not come.
const CLUSTER_START_MOST: usize = 512 * 1024;

/// A Matroska stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ebml {
    /// The streamheader so far; given when the first cluster comes.
    #[serde(with = "written")]
    head: Vec<u8>,
    flowing: bool,
    video_track: Option<u64>,
    /// A cluster's beginning that is still held, and where it began.
    start: Option<Start>,
    lost: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Start {
    #[serde(with = "written")]
    bytes: Vec<u8>,
    #[serde(skip)]
    marks: Marks,
}

/// An element's head.
struct Element {
    id: u32,
    head: usize,
    /// `None`: unknown, until the next of its kind.
    size: Option<u64>,
}

/// A number of variable length; with its marker kept for an id, without for a size.
fn number(bytes: &[u8], most: usize, keep_marker: bool) -> Result<(u64, usize), bool> {
    let first = *bytes.first().ok_or(true)?;
    let length = first.leading_zeros() as usize + 1;
    if length > most {
        return Err(false);
    }
    let field = bytes.get(..length).ok_or(true)?;
    let value = field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let mask = if keep_marker { u64::MAX } else { (1 << (7 * length)) - 1 };
    Ok((value & mask, length))
}

impl Element {
    /// The element at the front; `Err(true)` if more bytes are needed, `Err(false)` if it is none.
    fn read(bytes: &[u8]) -> Result<Self, bool> {
        let (id, id_length) = number(bytes, 4, true)?;
        let (size, size_length) = number(&bytes[id_length..], 8, false)?;
        let unknown = size == (1 << (7 * size_length)) - 1;
        Ok(Self { id: id as u32, head: id_length + size_length, size: (!unknown).then_some(size) })
    }

    /// Its whole length, if that can be believed.
    fn whole(&self, most: usize) -> Option<usize> {
        let size = usize::try_from(self.size?).ok()?;
        (size <= most).then_some(self.head + size)
    }
}

/// The children of a whole element.
fn children(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let element = Element::read(bytes).ok()?;
        let whole = element.whole(bytes.len()).filter(|whole| *whole <= bytes.len())?;
        let (child, rest) = bytes.split_at(whole);
        bytes = rest;
        Some((element.id, &child[element.head..]))
    })
}

fn video_track(tracks: &[u8]) -> Option<u64> {
    let plain = |bytes: &[u8]| bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte));
    children(tracks).filter(|(id, _)| *id == TRACK_ENTRY).find_map(|(_, entry)| {
        let field = |wanted| children(entry).find(|(id, _)| *id == wanted).map(|(_, value)| plain(value));
        (field(TRACK_TYPE) == Some(1)).then(|| field(TRACK_NUMBER))?
    })
}

/// The track of a block, and whether it can be decoded by itself.
fn block(id: u32, body: &[u8]) -> Option<(u64, bool)> {
    if id == SIMPLE_BLOCK {
        let (track, length) = number(body, 8, false).ok()?;
        return Some((track, body.get(length + 2)? & 0x80 != 0));
    }
    let (_, inner) = children(body).find(|(id, _)| *id == BLOCK)?;
    let (track, _) = number(inner, 8, false).ok()?;
    Some((track, !children(body).any(|(id, _)| id == REFERENCE_BLOCK)))
}

impl Ebml {
    pub(super) fn gap(&mut self) {
        self.start = None;
        self.lost = self.flowing;
    }

    /// The stream is over; a cluster's beginning without its block is still bytes of the stream.
    pub(super) fn finish(&mut self, _: &mut Spool, out: &mut Vec<Framed>) {
        self.give_start(false, out);
    }

    fn give_start(&mut self, keyframe: bool, out: &mut Vec<Framed>) {
        if let Some(start) = self.start.take() {
            out.push(Framed::Unit { data: start.bytes.into(), marks: Marks { keyframe, ..start.marks } });
        }
    }

    /// What stands before the first cluster. Returns how much was taken; `None`: more is needed.
    fn take_head(&mut self, element: &Element, bytes: &[u8]) -> Option<usize> {
        let length = if element.id == SEGMENT { element.head } else { element.whole(HEADERS_MOST)? };
        let whole = bytes.get(..length)?;
        if element.id == TRACKS {
            self.video_track = video_track(&whole[element.head..]);
        }
        self.head.extend_from_slice(whole);
        Some(length)
    }

    /// An element of the flowing stream.
    fn take(&mut self, at: usize, id: u32, head: usize, whole: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) {
        let block = matches!(id, SIMPLE_BLOCK | BLOCK_GROUP).then(|| block(id, &whole[head..])).flatten();
        let Some(start) = &mut self.start else {
            return out.push(stamps.unit(at, whole, false));
        };
        start.bytes.extend_from_slice(whole);
        match (block, self.video_track) {
            (Some(_), None) => self.give_start(true, out),
            (Some((track, keyframe)), Some(video)) if track == video => self.give_start(keyframe, out),
            _ if start.bytes.len() > CLUSTER_START_MOST => self.give_start(false, out),
            _ => {}
        }
    }
}

impl Parse for Ebml {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let element = match Element::read(rest) {
                Ok(element) => element,
                Err(true) => break,
                Err(false) => Element { id: 0, head: 1, size: None },
            };
            match element.id {
                CLUSTER => {
                    if !self.flowing {
                        self.flowing = true;
                        out.push(Framed::Headers { parts: vec![std::mem::take(&mut self.head).into()], in_band: false });
                    }
                    self.lost = false;
                    self.give_start(false, out);
                    let marks = stamps.take(at, false);
                    self.start = Some(Start { bytes: rest[..element.head].to_vec(), marks });
                    at += element.head;
                }
                EBML if self.flowing => {
                    self.give_start(false, out);
                    *self = Self::default(); // another stream begins; the element is looked at again
                }
                _ if !self.flowing => match self.take_head(&element, rest) {
                    Some(length) if self.head.len() <= HEADERS_MOST => at += length,
                    None if element.id == EBML || element.whole(HEADERS_MOST).is_some() => break,
                    _ => {
                        stamps.skipped += 1;
                        at += 1;
                    }
                },
                id => match element.whole(UNIT_MOST).filter(|_| !self.lost && KNOWN.contains(&id)) {
                    Some(length) if rest.len() < length => break,
                    Some(length) => {
                        self.take(at, id, element.head, &rest[..length], stamps, out);
                        at += length;
                    }
                    None => {
                        // Hunt for the next cluster.
                        self.give_start(false, out);
                        self.lost = true;
                        stamps.skipped += 1;
                        at += 1;
                    }
                },
            }
        }
        at
    }
}
