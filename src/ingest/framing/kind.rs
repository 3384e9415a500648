//! What bytes that somebody sends are, whatever they are said to be. Pure.
//!
//! The first bytes decide; what the sender claims is asked first, for two kinds may begin alike. A stream of nothing but frames
//! may be joined in the middle of one: then three in a row prove it.

use std::sync::Arc;

use super::{Framer, Recognition, frames};

/// Bytes that are looked at before a stream is taken as it comes.
pub const PROOF_MOST: usize = 64 * 1024;
/// Bytes in which three frames in a row are looked for.
const HUNT_MOST: usize = 16 * 1024;

/// A container that has a framer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ogg, whatever is in it.
    Ogg,
    /// WebM and Matroska.
    Ebml,
    /// MPEG audio, layers I to III.
    Mpeg,
    /// AAC in ADTS.
    Adts,
    /// FLAC by itself.
    Flac,
    /// Flash video.
    Flv,
    /// MPEG transport stream.
    Ts,
    /// WAV.
    Wav,
    /// Windows media.
    Asf,
}

/// What the first bytes of a stream say.
#[derive(Debug)]
pub enum Verdict {
    /// More of them are needed.
    NeedMore,
    /// They are of this kind.
    Known(Kind),
    /// Nothing that is known here.
    Unknown,
}

impl Kind {
    /// All kinds; what is told most surely comes first.
    pub const ALL: [Self; 9] = [Self::Ogg, Self::Ebml, Self::Flac, Self::Flv, Self::Wav, Self::Asf, Self::Mpeg, Self::Adts, Self::Ts];

    /// Its word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ogg => "ogg",
            Self::Ebml => "ebml",
            Self::Mpeg => "mpeg",
            Self::Adts => "adts",
            Self::Flac => "flac",
            Self::Flv => "flv",
            Self::Ts => "ts",
            Self::Wav => "wav",
            Self::Asf => "asf",
        }
    }

    /// The kind with this word.
    pub fn of_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// The kind that a media type names, without its parameters.
    pub fn of_media_type(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "application/ogg" | "audio/ogg" | "video/ogg" | "audio/opus" | "audio/vorbis" | "application/x-ogg" | "audio/x-ogg" => {
                Self::Ogg
            }
            "video/webm" | "audio/webm" | "video/x-matroska" | "audio/x-matroska" | "video/matroska" | "audio/matroska" => Self::Ebml,
            "audio/mpeg" | "audio/mp3" | "audio/x-mp3" | "audio/x-mpeg" | "audio/mpeg3" | "audio/mpg" => Self::Mpeg,
            "audio/aac" | "audio/aacp" | "audio/x-aac" | "audio/x-hx-aac-adts" => Self::Adts,
            "audio/flac" | "audio/x-flac" => Self::Flac,
            "video/x-flv" | "video/flv" => Self::Flv,
            "video/mp2t" | "video/mpegts" | "video/x-mpegts" => Self::Ts,
            "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => Self::Wav,
            "video/x-ms-asf" | "application/vnd.ms.wms-hdr.asfv1" | "audio/x-ms-wma" | "video/x-ms-wmv" => Self::Asf,
            _ => return None,
        })
    }

    /// The media type by which players know it, and its name for the framer.
    fn names(self) -> (&'static str, &'static str, Option<i32>) {
        match self {
            Self::Ogg => ("application/ogg", "application/ogg", None),
            Self::Ebml => ("video/webm", "video/webm", None),
            Self::Mpeg => ("audio/mpeg", "audio/mpeg", Some(1)),
            Self::Adts => ("audio/aac", "audio/mpeg", Some(4)),
            Self::Flac => ("audio/flac", "audio/flac", None),
            Self::Flv => ("video/x-flv", "video/x-flv", None),
            Self::Ts => ("video/mp2t", "video/mpegts", None),
            Self::Wav => ("audio/wav", "audio/x-wav", None),
            Self::Asf => ("video/x-ms-asf", "video/x-ms-asf", None),
        }
    }

    /// A framer of this kind; `None` never, but nobody need believe it.
    pub fn framer(self) -> Option<Framer> {
        let (_, name, version) = self.names();
        Framer::for_media(name, version)
    }

    /// The media type to serve it by: as the sender writes it, if that names this kind at all.
    pub fn content_type(self, claimed: Option<&str>) -> Arc<str> {
        claimed.filter(|claimed| Self::of_media_type(essence(claimed)) == Some(self)).unwrap_or(self.names().0).into()
    }

    fn recognises(self, start: &[u8]) -> Recognition {
        let certain = self.framer().map_or(Recognition::No, |framer| framer.recognises(start));
        let frame = match self {
            Self::Mpeg => frames::mpeg_frame,
            Self::Adts => frames::adts_frame,
            _ => return certain,
        };
        match certain {
            Recognition::No if frames::hunt(frame, &start[..start.len().min(HUNT_MOST)]) => Recognition::Yes,
            verdict => verdict,
        }
    }
}

/// A media type without its parameters.
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Whether who plays a stream of one media type goes on with one of the other.
pub fn are_alike(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(essence);
    let known = Kind::of_media_type(one);
    one.eq_ignore_ascii_case(other) || (known.is_some() && known == Kind::of_media_type(other))
}

/// Why a stream of one media type does not take the place of one of the other.
pub fn unlike(one: &str, other: &str) -> String {
    format!("it is {} where {} is heard", essence(one), essence(other))
}

/// What a stream that begins with these bytes is; `claimed` is the media type its sender gives.
pub fn judge(start: &[u8], claimed: Option<&str>) -> Verdict {
    let claimed = claimed.and_then(|claimed| Kind::of_media_type(essence(claimed)));
    let mut undecided = false;
    for kind in claimed.into_iter().chain(Kind::ALL) {
        match kind.recognises(start) {
            Recognition::Yes => return Verdict::Known(kind),
            Recognition::NeedMore => undecided = true,
            Recognition::No => {}
        }
    }
    // Frames that begin somewhere are found, if they are there, within some of them.
    let hunting = matches!(claimed, Some(Kind::Mpeg | Kind::Adts)) && start.len() < HUNT_MOST;
    if (undecided || hunting) && start.len() < PROOF_MOST { Verdict::NeedMore } else { Verdict::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 128 kbit/s at 44.1 kHz.
    fn mp3_frame() -> Vec<u8> {
        let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
        frame.resize(417, 0x55);
        frame
    }

    fn known(start: &[u8], claimed: Option<&str>) -> Option<Kind> {
        match judge(start, claimed) {
            Verdict::Known(kind) => Some(kind),
            _ => None,
        }
    }

    #[test]
    fn media_types_are_alike_that_name_one_kind() {
        for (one, other, alike) in [
            ("audio/mpeg", "audio/mpeg", true),
            ("audio/mpeg", "audio/mp3; x=y", true),
            ("audio/ogg; codecs=opus", "application/ogg", true),
            ("text/plain", "Text/Plain;charset=utf-8", true),
            ("audio/mpeg", "audio/aac", false),
            ("audio/mpeg", "application/octet-stream", false),
            ("text/plain", "text/csv", false),
            ("", "", true),
        ] {
            assert_eq!((are_alike(one, other), are_alike(other, one)), (alike, alike), "{one} {other}");
        }
    }

    #[test]
    fn bytes_are_what_they_are_whatever_is_claimed() {
        let mp3 = mp3_frame().repeat(4);
        for (start, kind) in [
            (&b"OggS\0"[..], Kind::Ogg),
            (&[0x1A, 0x45, 0xDF, 0xA3], Kind::Ebml),
            (b"fLaC\0", Kind::Flac),
            (b"FLV\x01", Kind::Flv),
            (b"RIFF", Kind::Wav),
            (&mp3, Kind::Mpeg),
            (&mp3[100..], Kind::Mpeg),
        ] {
            for claimed in [None, Some("audio/mpeg"), Some("application/ogg"), Some("text/html; charset=x")] {
                assert_eq!(known(start, claimed), Some(kind), "{claimed:?}");
            }
        }
    }

    #[test]
    fn what_nobody_knows_is_decided_in_the_end() {
        assert!(matches!(judge(b"hello, this is no media", Some("text/plain")), Verdict::Unknown));
        assert!(matches!(judge(b"", None), Verdict::NeedMore));
        let noise = vec![0x11; PROOF_MOST];
        assert!(matches!(judge(&noise[..100], Some("audio/mpeg")), Verdict::NeedMore), "a frame may come");
        assert!(matches!(judge(&noise, Some("audio/mpeg")), Verdict::Unknown));
    }

    #[test]
    fn a_claim_that_fits_is_repeated() {
        for (kind, claimed, want) in [
            (Kind::Ogg, Some("audio/ogg; codecs=opus"), "audio/ogg; codecs=opus"),
            (Kind::Ogg, Some("audio/mpeg"), "application/ogg"),
            (Kind::Adts, Some("audio/aacp"), "audio/aacp"),
            (Kind::Mpeg, None, "audio/mpeg"),
        ] {
            assert_eq!(&*kind.content_type(claimed), want);
        }
    }
}
