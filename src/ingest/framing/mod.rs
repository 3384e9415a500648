//! Framers: what the streamheaders of a container are, and where a listener may start. Pure: bytes in, units out.
//!
//! - They are the authority. Muxers mark keyframes in many ways and some not at all; the bytes do not lie.
//! - Pieces may be cut anywhere; a unit that lies within one piece is copied once, straight from it.
//! - Nothing is trusted: a length that is too large is corruption, corruption is skipped and counted, and what is held is
//!   bounded by [`UNIT_MOST`] and [`HEADERS_MOST`].
//! - A complete unit is never held back. (A WebM cluster's head waits for its first block, a transport stream's tables for the
//!   packet after them: only then is it known whether a listener may start there.)
//!
//! For well-formed streams headers and units, in their order, are the bytes that came in; a set marked `in_band` is an extra copy.
//!
//! Deliberately absent: rewriting (but for links of Ogg that are to be joined), timestamps from within containers, and containers that GStreamer marks well by itself.

mod asf;
mod ebml;
mod flac;
mod flv;
mod frames;
mod joint;
mod ogg;
mod spool;
mod ts;
mod wav;
mod written;

pub mod kind;
pub mod tempo;

#[cfg(test)]
mod joint_tests;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::fanout::chunk::Marks;
use spool::{Parse, Spool};

/// The largest unit that is waited for.
const UNIT_MOST: usize = 8 * 1024 * 1024;
/// Most bytes that a framer holds: what is looked for may end a little beyond the largest unit.
pub const HELD_MOST: usize = UNIT_MOST + UNIT_MOST / 4;
/// The largest set of streamheaders that is collected.
const HEADERS_MOST: usize = 4 * 1024 * 1024;

/// One buffer as the pipeline delivered it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// What upstream says of it; a framer does not ask whether it is a keyframe.
    pub marks: Marks,
}

/// What a framer finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// Streamheaders, valid from the next unit on.
    Headers {
        /// The parts of the set.
        parts: Vec<Box<[u8]>>,
        /// The units carry the same: only those who do not follow without a gap need the set.
        in_band: bool,
    },
    /// A piece of the stream that is sent whole.
    Unit {
        /// The bytes.
        data: Box<[u8]>,
        /// Those of the piece it began in, but for the keyframe, which the framer knows. Only the first unit that begins in a
        /// piece has its times.
        marks: Marks,
    },
}

/// Whether bytes are what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// They are.
    Yes,
    /// They are not.
    No,
    /// Too few to tell.
    NeedMore,
}

/// A framer of some container.
#[derive(Debug)]
pub struct Framer {
    spool: Spool,
    container: Container,
    /// Skipped bytes that somebody has counted.
    counted: u64,
}

#[derive(Debug)]
enum Container {
    Asf(asf::Asf),
    Ogg(ogg::Ogg),
    Ebml(ebml::Ebml),
    Flac(flac::Flac),
    Flv(flv::Flv),
    Ts(ts::Ts),
    Frames(frames::Frames),
    Wav(wav::Wav),
}

impl Framer {
    /// The framer for a media type (the name of GStreamer's caps), if there is one.
    pub fn for_media(media: &str, mpegversion: Option<i32>) -> Option<Self> {
        let container = match (media, mpegversion) {
            ("application/ogg" | "audio/ogg" | "video/ogg", _) => Container::Ogg(ogg::Ogg::default()),
            ("video/webm" | "audio/webm" | "video/x-matroska" | "audio/x-matroska", _) => Container::Ebml(ebml::Ebml::default()),
            ("video/x-ms-asf", _) => Container::Asf(asf::Asf::default()),
            ("audio/x-flac" | "audio/flac", _) => Container::Flac(flac::Flac::default()),
            ("video/x-flv", _) => Container::Flv(flv::Flv::default()),
            ("video/mpegts", _) => Container::Ts(ts::Ts::default()),
            ("audio/mpeg", Some(1)) => Container::Frames(frames::Frames::new(frames::mpeg_frame)),
            ("audio/mpeg", Some(2 | 4)) => Container::Frames(frames::Frames::new(frames::adts_frame)),
            ("audio/x-wav", _) => Container::Wav(wav::Wav::default()),
            _ => return None,
        };
        Some(Self { spool: Spool::default(), container, counted: 0 })
    }

    /// The same framer; whether it joins the links of a chained Ogg stream, where that can be done.
    #[must_use]
    pub fn joining_links(mut self, join: bool) -> Self {
        if let Container::Ogg(ogg) = &mut self.container {
            ogg.joint = join.then(joint::Joint::default);
        }
        self
    }

    /// Whether a stream that begins with these bytes is what this framer takes apart. Decided within the first unit and
    /// the head of the next; most within a few bytes.
    pub fn recognises(&self, start: &[u8]) -> Recognition {
        let begins_with = |magic: &[u8]| match start.len() < magic.len() && magic.starts_with(start) {
            true => Recognition::NeedMore,
            false if start.starts_with(magic) => Recognition::Yes,
            false => Recognition::No,
        };
        match &self.container {
            Container::Ogg(_) => begins_with(b"OggS"),
            Container::Ebml(_) => begins_with(&[0x1A, 0x45, 0xDF, 0xA3]),
            Container::Asf(_) => begins_with(&asf::MAGIC),
            Container::Flac(_) => begins_with(flac::MAGIC),
            Container::Flv(_) => begins_with(b"FLV"),
            Container::Wav(_) => begins_with(b"RIFF"),
            Container::Ts(_) => ts::recognise(start),
            Container::Frames(frames) => frames.recognise(start),
        }
    }

    /// Takes a piece; what it completes goes to `out`.
    pub fn push(&mut self, piece: &Piece<'_>, out: &mut Vec<Framed>) {
        let container: &mut dyn Parse = match &mut self.container {
            Container::Asf(asf) => asf,
            Container::Ogg(ogg) => ogg,
            Container::Ebml(ebml) => ebml,
            Container::Flac(flac) => flac,
            Container::Flv(flv) => flv,
            Container::Ts(ts) => ts,
            Container::Frames(frames) => frames,
            Container::Wav(wav) => wav,
        };
        self.spool.push(piece, container, out);
    }

    /// Something was lost: what is held is half of something.
    pub fn gap(&mut self) {
        self.spool.clear();
        match &mut self.container {
            Container::Ebml(ebml) => ebml.gap(),
            Container::Flac(flac) => flac.gap(),
            Container::Frames(frames) => frames.gap(),
            Container::Wav(wav) => wav.gap(),
            Container::Asf(_) | Container::Ogg(_) | Container::Flv(_) | Container::Ts(_) => {}
        }
    }

    /// The stream is over: what is held and whole in itself is given.
    pub fn finish(&mut self, out: &mut Vec<Framed>) {
        match &mut self.container {
            // Held only to see what comes next, and nothing does.
            Container::Ts(ts) => ts.finish(&mut self.spool, out),
            Container::Ebml(ebml) => ebml.finish(&mut self.spool, out),
            Container::Flac(flac) => flac.finish(&mut self.spool, out),
            Container::Asf(_) | Container::Ogg(_) | Container::Flv(_) | Container::Frames(_) | Container::Wav(_) => {}
        }
        self.spool.clear();
    }

    /// Where it stands, in its own words, and what it holds: for a framer of the same container in another process. Marks of pieces are
    /// not among it: bytes that somebody pushes have none.
    ///
    /// # Errors
    /// Never, but nobody need believe it.
    pub fn pack(&self) -> serde_json::Result<(Value, Vec<u8>)> {
        let state = match &self.container {
            Container::Asf(asf) => serde_json::to_value(asf),
            Container::Ogg(ogg) => serde_json::to_value(ogg),
            Container::Ebml(ebml) => serde_json::to_value(ebml),
            Container::Flac(flac) => serde_json::to_value(flac),
            Container::Flv(flv) => serde_json::to_value(flv),
            Container::Ts(ts) => serde_json::to_value(ts),
            Container::Frames(frames) => serde_json::to_value(frames.in_sync),
            Container::Wav(wav) => serde_json::to_value(wav),
        };
        Ok((state?, self.spool.held().to_vec()))
    }

    /// The same framer where another one stood, with what that held.
    ///
    /// # Errors
    /// When it is not said in words that are understood here.
    pub fn resumed(mut self, state: Value, held: Vec<u8>) -> serde_json::Result<Self> {
        let joins = matches!(&self.container, Container::Ogg(ogg) if ogg.joint.is_some());
        match &mut self.container {
            Container::Asf(asf) => *asf = serde_json::from_value(state)?,
            Container::Ogg(ogg) => *ogg = serde_json::from_value(state)?,
            Container::Ebml(ebml) => *ebml = serde_json::from_value(state)?,
            Container::Flac(flac) => *flac = serde_json::from_value(state)?,
            Container::Flv(flv) => *flv = serde_json::from_value(state)?,
            Container::Ts(ts) => *ts = serde_json::from_value(state)?,
            Container::Frames(frames) => frames.in_sync = serde_json::from_value(state)?,
            Container::Wav(wav) => *wav = serde_json::from_value(state)?,
        }
        self.spool = Spool::holding(held);
        // The configuration decides, also if it has changed since.
        Ok(match &self.container {
            Container::Ogg(ogg) if ogg.joint.is_some() != joins => self.joining_links(joins),
            _ => self,
        })
    }

    /// Bytes thrown away so far while looking for a beginning.
    pub fn skipped_bytes(&self) -> u64 {
        self.spool.skipped
    }

    /// Those of them that have not been asked for before.
    pub fn newly_skipped_bytes(&mut self) -> u64 {
        let new = self.spool.skipped - self.counted;
        self.counted = self.spool.skipped;
        new
    }
}
