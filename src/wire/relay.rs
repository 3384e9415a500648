//! The framed relay: a mount's stream as one flumen gives it to another, with all that the origin knows of it. Pure: bytes in,
//! frames out, and the other way round. `docs/relay-protocol.md` is the whole of it in words.
//!
//! ```text
//!   frame:   kind 1 │ flags 1 │ zero 2 │ length 4 │ body (length bytes)                          all numbers big-endian
//!   epoch:   instance 8 │ parts 4 │ length of each 4 │ bytes of each     what chunks from here on are to be decoded with
//!   chunk:   place 8 │ time 8 │ pts 8 │ dts 8 │ payload
//!   notice:  media type │ artist │ title │ address                       each: length 2, UTF-8
//! ```
//! - Places are the origin's, grow by one per chunk, and mean something only together with its instance: a mount that is opened
//!   anew, or a server that is started anew, has another.
//! - Frames of a kind that is not known here are passed over: a later version may have more of them.
//! - What is too large for whoever reads is passed over too, byte by byte, and never held.
//!
//! Deliberately absent: what to do about a hole, and who may ask.

use std::fmt;
use std::time::Duration;

use crate::units::{Extent, Extents, format_duration};

/// The media type of a framed stream.
pub const MEDIA_TYPE: &str = "application/x-flumen-relay";
/// The field by which one asks for frames, and by which the answer says that these are such.
pub const FIELD: &str = "flumen-relay";
/// The version spoken here.
pub const VERSION: &str = "1";

/// Bytes before the body of a frame.
const HEAD: usize = 8;
/// Bytes of a chunk's body before its payload.
const CHUNK_HEAD: usize = 32;
/// Bytes before a chunk's payload.
pub const CHUNK_PREFIX: usize = HEAD + CHUNK_HEAD;
/// The longest text of a notice, in bytes.
const TEXT_MOST: usize = u16::MAX as usize;
/// The largest notice.
const NOTICE_MOST: usize = 4 * (2 + TEXT_MOST);
/// The most parts of a set of streamheaders: of those that are empty a frame could have millions, and each takes memory.
pub const PARTS_MOST: usize = 1024;
/// The longest history that one asks for: what is older helps nobody who begins now.
const HISTORY_MOST: Duration = Duration::from_secs(60);

const EPOCH: u8 = 1;
const CHUNK: u8 = 2;
const NOTICE: u8 = 3;

const KEYFRAME: u8 = 1;
const DISCONT: u8 = 2;
const GAP: u8 = 4;
const HAS_PTS: u8 = 8;
const HAS_DTS: u8 = 16;
const IN_BAND: u8 = 1;

/// What is said of a chunk beside its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkHead {
    /// Its place in the origin's history.
    pub place: u64,
    /// Stream time at the origin, in nanoseconds; never goes back.
    pub time: u64,
    /// Presentation time, in nanoseconds.
    pub pts: Option<u64>,
    /// Decoding time, in nanoseconds.
    pub dts: Option<u64>,
    /// A listener may start here.
    pub keyframe: bool,
    /// Something is missing before it.
    pub discont: bool,
    /// It stands for a gap.
    pub gap: bool,
}

/// What is said of the stream as a whole. Empty texts: nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// The media type.
    pub media_type: String,
    /// Who plays.
    pub artist: String,
    /// What is played.
    pub title: String,
    /// Where to read more of it.
    pub url: String,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Chunks from here on belong to this instance, and are to be decoded with these streamheaders.
    Epoch {
        /// Tells this history from any other.
        instance: u64,
        /// Whoever follows the stream finds the same in the chunks.
        in_band: bool,
        /// The streamheaders, part by part.
        parts: Vec<Box<[u8]>>,
    },
    /// A chunk.
    Chunk(ChunkHead, Box<[u8]>),
    /// Something else is being played, or it is another kind of stream.
    Notice(Notice),
    /// Streamheaders that were too large, and are not here.
    EpochTooLarge,
}

fn put_head(out: &mut Vec<u8>, kind: u8, flags: u8, length: usize) {
    out.extend_from_slice(&[kind, flags, 0, 0]);
    out.extend_from_slice(&(length as u32).to_be_bytes()); // nothing in memory here is larger: a mount takes no chunk above 4 GiB
}

/// Writes an epoch up to the bytes of its parts, which follow in their order; `lengths` are theirs. Where there are more parts than
/// one may have, the last of them are written as one: whoever decodes is given the same bytes.
pub fn put_epoch(out: &mut Vec<u8>, instance: u64, in_band: bool, mut lengths: impl ExactSizeIterator<Item = usize> + Clone) {
    let count = lengths.len().min(PARTS_MOST);
    let body = 12 + 4 * count + lengths.clone().sum::<usize>();
    put_head(out, EPOCH, if in_band { IN_BAND } else { 0 }, body);
    out.extend_from_slice(&instance.to_be_bytes());
    out.extend_from_slice(&(count as u32).to_be_bytes());
    for left in (0..count).rev() {
        let length = if left > 0 { lengths.next().unwrap_or(0) } else { lengths.by_ref().sum() };
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

/// Writes a chunk up to its payload, which follows.
pub fn put_chunk(out: &mut Vec<u8>, head: &ChunkHead, payload: usize) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(head.keyframe, KEYFRAME)
        | flag(head.discont, DISCONT)
        | flag(head.gap, GAP)
        | flag(head.pts.is_some(), HAS_PTS)
        | flag(head.dts.is_some(), HAS_DTS);
    put_head(out, CHUNK, flags, CHUNK_HEAD + payload);
    for number in [head.place, head.time, head.pts.unwrap_or(0), head.dts.unwrap_or(0)] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A whole notice, as it goes over the wire; a text that is too long is cut between two characters.
pub fn notice(notice: &Notice) -> Box<[u8]> {
    let texts = [&notice.media_type, &notice.artist, &notice.title, &notice.url].map(|text| &text[..text.floor_char_boundary(TEXT_MOST)]);
    let mut out = Vec::new();
    put_head(&mut out, NOTICE, 0, texts.iter().map(|text| 2 + text.len()).sum());
    for text in texts {
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.into()
}

/// Why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frames of its stream are not what they claim to be")]
pub struct NotFrames;

/// Takes a stream of frames apart.
#[derive(Debug)]
pub struct Decoder {
    /// The largest payload, and the most bytes of streamheaders, that are taken.
    most: usize,
    held: Vec<u8>,
    /// Bytes of a frame that are passed over.
    skip: u64,
}

impl Decoder {
    /// A decoder that takes chunks, and sets of streamheaders, of up to `most` bytes. It holds so much and some 300 KiB at the most.
    pub fn new(most: usize) -> Self {
        Self { most, held: Vec::new(), skip: 0 }
    }

    /// Whether a frame has begun and is not whole.
    pub fn mid_frame(&self) -> bool {
        !self.held.is_empty() || self.skip > 0
    }

    /// Takes bytes; gives the frames that end in them, in order.
    ///
    /// # Errors
    /// When these are no frames; what came before has been given.
    pub fn take(&mut self, mut bytes: &[u8], mut give: impl FnMut(Frame)) -> Result<(), NotFrames> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            if self.held.len() < HEAD {
                self.hold(&mut bytes, HEAD);
                if self.held.len() < HEAD {
                    return Ok(());
                }
            }
            let (kind, length) = (self.held[0], number4(&self.held[4..HEAD]) as usize);
            if length > self.room(kind) {
                self.held.clear();
                self.skip = length as u64;
                if kind == EPOCH {
                    give(Frame::EpochTooLarge);
                }
                continue;
            }
            self.hold(&mut bytes, HEAD + length);
            if self.held.len() < HEAD + length {
                return Ok(());
            }
            let frame = frame(kind, self.held[1], &self.held[HEAD..]);
            self.held.clear();
            if self.held.capacity() > 1 << 20 {
                self.held = Vec::new(); // one that was large is no reason to keep the room for ever
            }
            if let Some(frame) = frame? {
                give(frame);
            }
        }
        Ok(())
    }

    /// The longest body that is held.
    fn room(&self, kind: u8) -> usize {
        match kind {
            EPOCH => self.most.saturating_add(NOTICE_MOST),
            CHUNK => self.most.saturating_add(CHUNK_HEAD),
            NOTICE => NOTICE_MOST,
            _ => 0,
        }
    }

    /// Holds what comes, up to so many bytes. Room is taken for what has come, not for what is claimed.
    fn hold(&mut self, bytes: &mut &[u8], upto: usize) {
        let taken = (upto - self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
    }
}

fn number4(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn number8(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn frame(kind: u8, flags: u8, body: &[u8]) -> Result<Option<Frame>, NotFrames> {
    match kind {
        EPOCH => epoch(flags, body).map(Some).ok_or(NotFrames),
        CHUNK => {
            let (head, payload) = body.split_at_checked(CHUNK_HEAD).ok_or(NotFrames)?;
            let [place, time, pts, dts] = [0, 8, 16, 24].map(|at| number8(&head[at..]));
            let is = |flag| flags & flag != 0;
            let head = ChunkHead {
                place,
                time,
                pts: is(HAS_PTS).then_some(pts),
                dts: is(HAS_DTS).then_some(dts),
                keyframe: is(KEYFRAME),
                discont: is(DISCONT),
                gap: is(GAP),
            };
            Ok(Some(Frame::Chunk(head, payload.into())))
        }
        NOTICE => {
            let mut rest = body;
            let mut text = || {
                let (length, after) = rest.split_at_checked(2)?;
                let (text, after) = after.split_at_checked(usize::from(length[0]) << 8 | usize::from(length[1]))?;
                rest = after;
                String::from_utf8(text.to_vec()).ok()
            };
            let notice = (|| Some(Notice { media_type: text()?, artist: text()?, title: text()?, url: text()? }))();
            notice.map(|notice| Some(Frame::Notice(notice))).ok_or(NotFrames)
        }
        _ => Ok(None),
    }
}

fn epoch(flags: u8, body: &[u8]) -> Option<Frame> {
    let (head, rest) = body.split_at_checked(12)?;
    let count = Some(number4(&head[8..]) as usize).filter(|&count| count <= PARTS_MOST)?;
    let (lengths, mut bytes) = rest.split_at_checked(count.checked_mul(4)?)?;
    let mut parts = Vec::with_capacity(count);
    for length in lengths.chunks_exact(4) {
        let (part, after) = bytes.split_at_checked(number4(length) as usize)?;
        parts.push(part.into());
        bytes = after;
    }
    bytes.is_empty().then(|| Frame::Epoch { instance: number8(head), in_band: flags & IN_BAND != 0, parts })
}

/// What one who wants frames asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How much of what was is sent first; `None`: as every newcomer is sent.
    pub history: Option<Extents>,
    /// The instance and the place where one goes on that has had all before it.
    pub resume: Option<(u64, u64)>,
}

impl Asked {
    /// Reads the value of the field. `None`: another version. What is not understood in it is as if it were not there.
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split(';').map(str::trim);
        if words.next() != Some(VERSION) {
            return None;
        }
        let (mut asked, mut instance, mut next) = (Self::default(), None, None);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "history" => asked.history = value.parse().ok().map(bounded),
                "instance" => instance = u64::from_str_radix(value, 16).ok(),
                "next" => next = value.parse().ok(),
                _ => {}
            }
        }
        asked.resume = instance.zip(next);
        Some(asked)
    }
}

/// The history without what nobody needs.
fn bounded(history: Extents) -> Extents {
    let one = |extent| if let Extent::Time(span) = extent { Extent::Time(span.min(HISTORY_MOST)) } else { extent };
    Extents::new(history.iter().map(one).collect()).unwrap_or(history)
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(VERSION)?;
        if let Some(history) = &self.history {
            f.write_str("; history=")?;
            for (i, extent) in history.iter().enumerate() {
                f.write_str(if i > 0 { "," } else { "" })?;
                match extent {
                    Extent::Bytes(bytes) => write!(f, "{}B", bytes.0)?,
                    Extent::Time(span) if span.subsec_nanos().is_multiple_of(1_000_000) => write!(f, "{}ms", span.as_millis())?,
                    Extent::Time(span) => f.write_str(&format_duration(span))?,
                    Extent::Chunks(count) => write!(f, "{count} chunks")?,
                }
            }
            if history.iter().next().is_none() {
                f.write_str("none")?;
            }
        }
        if let Some((instance, next)) = self.resume {
            write!(f, "; instance={instance:016x}; next={next}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
