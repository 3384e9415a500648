//! How long what a framer finds lasts when it is played, as its own bytes say. Pure.
//!
//! - MPEG audio and ADTS: each frame says how many samples it has, and how many go into a second.
//! - Ogg: the pages of an audio stream say how many samples have gone by; of several streams the one that is ahead counts. A chained
//!   file's next link begins where the last one ended. What was taken from a live stream begins in the middle of its count, and where
//!   something is missing it jumps: no time passes by that.
//! - What says nothing lasts nothing. Who plays something for which no time is known has to refuse it.
//!
//! Deliberately absent: video in Ogg (its positions count frames in a way of their own), and every other container.

use std::collections::HashMap;
use std::time::Duration;

use super::Framed;
use super::frames::{adts_frame, mpeg_frame};
use super::kind::Kind;

/// Streams of one Ogg file that are kept in mind.
const STREAMS_MOST: usize = 16;

/// The clock of a stream that is played.
#[derive(Debug)]
pub struct Tempo {
    kind: Kind,
    /// What has been played by now.
    at: Duration,
    /// Ogg: the streams of the present link, by their serial numbers.
    streams: HashMap<u32, Stream>,
}

/// A stream of Ogg.
#[derive(Debug)]
struct Stream {
    /// Samples in a second.
    rate: u64,
    /// What its last page has counted.
    counted: u64,
    /// What has been played of it.
    at: Duration,
}

/// The longest that a page lasts; more is a jump.
const PAGE_MOST: Duration = Duration::from_secs(30);

impl Tempo {
    /// The clock of something of this kind; `None`: its time is not known here.
    pub fn of(kind: Kind) -> Option<Self> {
        let known = matches!(kind, Kind::Mpeg | Kind::Adts | Kind::Ogg);
        known.then(|| Self { kind, at: Duration::ZERO, streams: HashMap::new() })
    }

    /// Takes note of something that is played. Answers when it is over, since the beginning.
    pub fn after(&mut self, framed: &Framed) -> Duration {
        match (self.kind, framed) {
            (Kind::Mpeg, Framed::Unit { data, .. }) => self.at += mpeg_lasts(data).unwrap_or_default(),
            (Kind::Adts, Framed::Unit { data, .. }) => self.at += adts_lasts(data).unwrap_or_default(),
            (Kind::Ogg, Framed::Unit { data, .. }) => self.pages(data),
            (Kind::Ogg, Framed::Headers { parts, in_band: false }) => {
                self.streams.clear();
                parts.iter().for_each(|part| self.pages(part));
            }
            _ => {}
        }
        self.at
    }

    fn pages(&mut self, mut rest: &[u8]) {
        while let Some(page) = Page::at(rest) {
            if page.begins && self.streams.len() < STREAMS_MOST {
                let stream = |rate| (page.serial, Stream { rate, counted: 0, at: self.at });
                self.streams.extend(rate_of(page.body).map(stream));
            }
            if let (Some(counted), Some(stream)) = (page.granule, self.streams.get_mut(&page.serial)) {
                let passed = lasts(counted.saturating_sub(stream.counted), stream.rate);
                stream.at += if passed > PAGE_MOST { Duration::ZERO } else { passed };
                stream.counted = counted;
                self.at = self.at.max(stream.at);
            }
            rest = &rest[page.length..];
        }
    }
}

fn lasts(samples: u64, rate: u64) -> Duration {
    let nanos = u128::from(samples) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn mpeg_lasts(frame: &[u8]) -> Option<Duration> {
    if frame.len() < 7 || mpeg_frame(frame)? > frame.len() {
        return None;
    }
    let (version, layer) = (frame[1] >> 3 & 3, 4 - (frame[1] >> 1 & 3));
    let samples = match (layer, version) {
        (1, _) => 384,
        (3, 0 | 2) => 576,
        _ => 1152,
    };
    let rate: u64 = [44_100, 48_000, 32_000][usize::from(frame[2] >> 2 & 3)];
    Some(lasts(samples, rate >> [2, 0, 1, 0][usize::from(version)]))
}

fn adts_lasts(frame: &[u8]) -> Option<Duration> {
    const RATES: [u64; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
    if frame.len() < 7 || adts_frame(frame)? > frame.len() {
        return None;
    }
    let rate = *RATES.get(usize::from(frame[2] >> 2 & 0xF))?;
    Some(lasts(1024 * (u64::from(frame[6] & 3) + 1), rate))
}

/// A page of Ogg.
struct Page<'a> {
    begins: bool,
    granule: Option<u64>,
    serial: u32,
    body: &'a [u8],
    length: usize,
}

impl<'a> Page<'a> {
    fn at(bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.get(..27).filter(|head| head.starts_with(b"OggS"))?;
        let table = bytes.get(27..27 + usize::from(head[26]))?;
        let body_at = 27 + table.len();
        let length = body_at + table.iter().map(|lacing| usize::from(*lacing)).sum::<usize>();
        let granule = u64::from_le_bytes(head[6..14].try_into().ok()?);
        Some(Self {
            begins: head[5] & 2 != 0,
            granule: (granule != u64::MAX).then_some(granule), // no packet ends on this page
            serial: u32::from_le_bytes(head[14..18].try_into().ok()?),
            body: bytes.get(body_at..length)?,
            length,
        })
    }
}

/// Samples in a second, as the first packet of an audio stream says.
fn rate_of(packet: &[u8]) -> Option<u64> {
    let little = |at: usize| Some(u64::from(u32::from_le_bytes(packet.get(at..at + 4)?.try_into().ok()?)));
    let rate = if packet.starts_with(b"OpusHead") {
        48_000
    } else if packet.starts_with(b"\x01vorbis") {
        little(12)?
    } else if packet.starts_with(b"Speex   ") {
        little(36)?
    } else if packet.starts_with(b"\x7FFLAC") {
        let info = packet.get(27..30)?; // twenty bits within the description of the stream
        u64::from(info[0]) << 12 | u64::from(info[1]) << 4 | u64::from(info[2]) >> 4
    } else {
        return None;
    };
    (rate > 0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::chunk::Marks;

    fn unit(data: &[u8]) -> Framed {
        Framed::Unit { data: data.into(), marks: Marks::default() }
    }

    #[test]
    fn a_frame_lasts_as_long_as_its_samples() {
        for (kind, head, length, micros) in [
            (Kind::Mpeg, [0xFF, 0xFB, 0x90, 0x00, 0, 0, 0], 417, 26_122), // layer III, 44.1 kHz
            (Kind::Mpeg, [0xFF, 0xF3, 0x40, 0x00, 0, 0, 0], 104, 26_122), // version 2, 22.05 kHz: half as many of half as many
            (Kind::Mpeg, [0xFF, 0xE3, 0x40, 0x00, 0, 0, 0], 208, 52_244), // version 2.5, 11.025 kHz
            (Kind::Mpeg, [0xFF, 0xFD, 0x94, 0x00, 0, 0, 0], 480, 24_000), // layer II, 48 kHz
            (Kind::Adts, [0xFF, 0xF1, 0x50, 0x80, 0x02, 0x1F, 0xFC], 16, 23_219), // 44.1 kHz
            (Kind::Adts, [0xFF, 0xF1, 0x4C, 0x80, 0x02, 0x1F, 0xFD], 16, 42_666), // 48 kHz, two blocks
            (Kind::Mpeg, *b"ID3\x04\0\0\0", 20, 0),
        ] {
            let mut frame = head.to_vec();
            frame.resize(length, 0);
            let mut tempo = Tempo::of(kind).expect("known");
            tempo.after(&unit(&frame));
            assert_eq!(tempo.after(&unit(&frame)).as_micros() / 2, micros, "{head:x?}");
        }
        assert!(Tempo::of(Kind::Ebml).is_none());
    }

    fn page(flags: u8, granule: u64, serial: u32, body: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(flags);
        page.extend(granule.to_le_bytes());
        page.extend(serial.to_le_bytes());
        page.extend([0; 8]);
        page.extend([1, body.len() as u8]);
        page.extend(body);
        page
    }

    #[test]
    fn ogg_lasts_as_its_pages_say_link_after_link() {
        let mut vorbis = b"\x01vorbis\0\0\0\0\x02".to_vec();
        vorbis.extend(44_100_u32.to_le_bytes());
        let mut flac = b"\x7FFLAC\x01\0\0\x01fLaC\0\0\0\x22".to_vec();
        flac.resize(27, 0);
        flac.extend([0x0B, 0xB8, 0x00]); // 48000
        let head = |parts: &[Vec<u8>]| Framed::Headers { parts: parts.iter().map(|part| part.clone().into()).collect(), in_band: false };
        let mut tempo = Tempo::of(Kind::Ogg).expect("known");
        let seconds = Duration::from_secs;
        for (framed, want) in [
            (head(&[page(2, 0, 1, &vorbis)]), 0),
            (unit(&page(0, 44_100, 1, b"x")), 1),
            (unit(&page(0, u64::MAX, 1, b"x")), 1),
            (unit(&[page(0, 88_200, 1, b"x"), page(4, 132_300, 1, b"x")].concat()), 3),
            (unit(&page(0, 44_100, 1, b"x")), 3), // it does not go back
            (unit(&page(0, 44_100, 9, b"x")), 3), // nobody knows this stream
            (head(&[page(2, 0, 2, b"OpusHead\x01"), page(2, 0, 3, &flac)]), 3),
            (unit(&page(0, 96_000, 2, b"x")), 5),
            (unit(&page(0, 48_000, 3, b"x")), 5),
            (unit(b"OggS is cut"), 5),
            (head(&[page(2, 0, 4, b"OpusHead\x01")]), 5),
            (unit(&page(0, 48_000 * 86_400, 4, b"x")), 5), // from the middle of a live stream
            (unit(&page(0, 48_000 * 86_401, 4, b"x")), 6),
            (unit(&page(0, u64::MAX - 1, 4, b"x")), 6), // a corrupt count holds nobody up
            (unit(&page(0, 48_000, 4, b"x")), 6),
            (unit(&page(0, 96_000, 4, b"x")), 7),
        ] {
            assert_eq!(tempo.after(&framed), seconds(want), "{framed:?}");
        }
    }
}
