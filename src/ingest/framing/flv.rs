//! FLV: file header, metadata and codec configuration are the streamheaders; a listener may start on a video keyframe, or on
//! any tag of a stream without video. (GStreamer's muxer marks every audio tag as a place to start.)
//!
//! Metadata and configuration that come later stay in the stream and make a new set for newcomers: a second file header in
//! mid-stream breaks players.

use serde::{Deserialize, Serialize};

use super::spool::{Parse, Stamps};
use super::{Framed, UNIT_MOST, written};

const FILE_HEADER: usize = 13;
const TAG_HEADER: usize = 11;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;

/// An FLV stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Flv {
    #[serde(with = "written")]
    file: Option<Box<[u8]>>,
    #[serde(with = "written")]
    script: Option<Box<[u8]>>,
    #[serde(with = "written")]
    video: Option<Box<[u8]>>,
    #[serde(with = "written")]
    audio: Option<Box<[u8]>>,
    has_video: bool,
    /// A media tag has been seen: from now on everything stays in the stream.
    flowing: bool,
    /// The set has changed since it was last given.
    changed: bool,
}

/// What a tag is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Script,
    VideoConfig,
    AudioConfig,
    Keyframe,
    Delta,
    Audio,
}

fn kind(tag: u8, data: &[u8]) -> Kind {
    let (first, second) = (data.first().copied().unwrap_or(0), data.get(1).copied());
    match tag {
        SCRIPT => Kind::Script,
        AUDIO if first >> 4 == 10 && second == Some(0) => Kind::AudioConfig,
        // Enhanced RTMP: packet type 0 is the beginning of a sequence.
        AUDIO if first >> 4 == 9 && first & 0xF == 0 => Kind::AudioConfig,
        AUDIO => Kind::Audio,
        _ if first & 0x80 != 0 => match (first & 0xF, first >> 4 & 7) {
            (0, _) => Kind::VideoConfig,
            (1 | 3, 1) => Kind::Keyframe,
            _ => Kind::Delta,
        },
        _ => match (first & 0xF, second, first >> 4) {
            (7 | 12, Some(0), _) => Kind::VideoConfig,
            (7 | 12, Some(2), _) => Kind::Delta, // end of sequence
            (_, _, 1) => Kind::Keyframe,
            _ => Kind::Delta,
        },
    }
}

impl Flv {
    fn headers(&mut self, out: &mut Vec<Framed>, in_band: bool) {
        if std::mem::take(&mut self.changed) {
            let parts = [&self.file, &self.script, &self.video, &self.audio].into_iter().flatten().cloned().collect();
            out.push(Framed::Headers { parts, in_band });
        }
    }

    fn tag(&mut self, at: usize, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) {
        let kind = kind(bytes[0] & 0x1F, &bytes[TAG_HEADER..bytes.len() - 4]);
        let slot = match kind {
            Kind::Script => Some(&mut self.script),
            Kind::VideoConfig => Some(&mut self.video),
            Kind::AudioConfig => Some(&mut self.audio),
            Kind::Keyframe | Kind::Delta | Kind::Audio => None,
        };
        self.has_video |= matches!(kind, Kind::VideoConfig | Kind::Keyframe | Kind::Delta);
        if let Some(slot) = slot {
            if slot.as_deref() != Some(bytes) {
                *slot = Some(bytes.into());
                self.changed = true;
            }
            if self.flowing {
                self.headers(out, true);
                out.push(stamps.unit(at, bytes, false));
            }
            return;
        }
        self.headers(out, self.flowing);
        self.flowing = true;
        out.push(stamps.unit(at, bytes, kind == Kind::Keyframe || (kind == Kind::Audio && !self.has_video)));
    }
}

/// Whether a tag header can be believed.
fn plausible(bytes: &[u8]) -> bool {
    matches!(bytes[0], AUDIO | VIDEO | SCRIPT) && bytes[8..TAG_HEADER] == [0; 3] && size(bytes) <= UNIT_MOST
}

fn size(tag: &[u8]) -> usize {
    usize::from(tag[1]) << 16 | usize::from(tag[2]) << 8 | usize::from(tag[3])
}

impl Parse for Flv {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.starts_with(b"FLV\x01") {
                if rest.len() < FILE_HEADER {
                    return at;
                }
                // A new stream, the first or another.
                *self = Self { file: Some(rest[..FILE_HEADER].into()), has_video: rest[4] & 1 != 0, changed: true, ..Self::default() };
                at += FILE_HEADER;
            } else if rest.len() < TAG_HEADER {
                return at;
            } else if plausible(rest) {
                let whole = TAG_HEADER + size(rest) + 4;
                if rest.len() < whole {
                    return at;
                }
                self.tag(at, &rest[..whole], stamps, out);
                at += whole;
            } else {
                stamps.skipped += 1;
                at += 1;
            }
        }
    }
}
