//! Does a listener receive what a decoder could play? One checker per verified listener, fed in pieces of any size. Pure.
//!
//! ```text
//!   pieces ──▶ [ carry ] ──▶ framing.step ──▶ Take(n) | More | Fault
//! ```
//! - A framing sees bytes from the beginning of a unit (frame, page, element, record, packet) and says how long it is.
//! - A unit may be longer than what has arrived: the rest is passed over as it comes. The carry is bounded by the longest unit.
//! - The first fault ends the checking of that listener: what follows a lost place proves nothing.

mod book;
mod ebml;
mod mpeg;
mod ogg;
mod packets;
mod records;

use std::fmt;
use std::sync::Arc;

pub(crate) use book::Book;

use crate::clock::Nanos;
use crate::stats::Histogram;

/// How much may pass before a listener that starts anywhere must have found a unit.
const HUNT_LIMIT: u64 = 256 << 10;
/// No framing needs more bytes than this at once.
const CARRY_LIMIT: usize = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Records,
    Gdp,
    Mp3,
    Adts,
    Ogg,
    Webm,
}

/// Where a stream may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Start {
    /// The first body byte begins a unit; streamheaders and a keyframe come first where the format has them.
    Exact,
    /// Anywhere: look for the first whole unit (servers that cut by bytes, such as icecast2).
    Anywhere,
}

/// What a checker holds against a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) what: String,
    /// Body bytes before the unit at fault.
    pub(crate) at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// Does not begin where a decoder can begin.
    Start,
    /// Something is missing between two whole units.
    Gap,
    /// Something came twice or went back.
    Repeat,
    /// A unit is damaged or not followed by another.
    Torn,
}

impl FaultKind {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Gap => "gap",
            Self::Repeat => "repeat",
            Self::Torn => "torn",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at body byte {}: {}", self.kind.label(), self.at, self.what)
    }
}

/// A framing's complaint, not yet knowing how far the stream had come.
type Complaint = (FaultKind, String);

fn complain<T>(kind: FaultKind, what: impl Into<String>) -> Result<T, Complaint> {
    Err((kind, what.into()))
}

/// What a framing makes of the bytes in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Take(u64),
}

/// When bytes arrived, and where latencies go. Records alone know when they were sent.
#[derive(Debug)]
pub(crate) struct Receipt<'a> {
    pub(crate) at: Nanos,
    /// Records sent before this were history when the listener came (its burst) and are not measured.
    pub(crate) live_since: Nanos,
    pub(crate) latency: &'a mut Histogram,
}

#[derive(Debug)]
enum Framing {
    Records(records::Records),
    Gdp(packets::Packets),
    Mpeg(mpeg::Mpeg),
    Ogg(ogg::Ogg),
    Ebml(ebml::Ebml),
}

#[derive(Debug)]
pub(crate) struct Checker {
    framing: Framing,
    carry: Vec<u8>,
    pass_over: u64,
    hunting: bool,
    consumed: u64,
    units: u64,
}

impl Checker {
    pub(crate) fn new(format: Format, start: Start) -> Self {
        let framing = match format {
            Format::Records => Framing::Records(records::Records::new(start)),
            Format::Gdp => Framing::Gdp(packets::Packets::new(start)),
            Format::Mp3 => Framing::Mpeg(mpeg::Mpeg::mp3()),
            Format::Adts => Framing::Mpeg(mpeg::Mpeg::adts()),
            Format::Ogg => Framing::Ogg(ogg::Ogg::new(start)),
            Format::Webm => Framing::Ebml(ebml::Ebml::new(start)),
        };
        Self { framing, carry: Vec::new(), pass_over: 0, hunting: start == Start::Anywhere, consumed: 0, units: 0 }
    }

    /// Holds records against what their source has done. Other formats know no runs.
    pub(crate) fn with_book(mut self, book: Option<Arc<Book>>) -> Self {
        if let Framing::Records(records) = &mut self.framing {
            records.consult(book);
        }
        self
    }

    /// Whole units seen so far.
    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<(), Fault> {
        let passed = self.pass_over.min(bytes.len() as u64);
        self.pass_over -= passed;
        self.consumed += passed;
        bytes = &bytes[passed as usize..];
        if self.carry.is_empty() {
            let used = self.consume(bytes, receipt)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(bytes);
            let used = self.consume(&carry, receipt)?;
            carry.drain(..used);
            self.carry = carry;
        }
        if self.carry.len() > CARRY_LIMIT {
            return Err(self.fault((FaultKind::Torn, "a unit without end".to_owned())));
        }
        Ok(())
    }

    fn consume(&mut self, bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<usize, Fault> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.hunting {
                match self.framing.begins(rest) {
                    None => break,
                    Some(false) if self.consumed >= HUNT_LIMIT => {
                        return Err(self.fault((FaultKind::Start, format!("no beginning within {HUNT_LIMIT} bytes"))));
                    }
                    Some(false) => {
                        (at, self.consumed) = (at + 1, self.consumed + 1);
                        continue;
                    }
                    Some(true) => self.hunting = false,
                }
            }
            match self.framing.step(rest, receipt) {
                Ok(Step::More) => break,
                Ok(Step::Take(length)) => {
                    let here = length.min(rest.len() as u64);
                    self.pass_over = length - here;
                    self.consumed += here;
                    self.units += 1;
                    at += here as usize;
                }
                Err(complaint) => return Err(self.fault(complaint)),
            }
        }
        Ok(at)
    }

    fn fault(&self, (kind, what): Complaint) -> Fault {
        let kind = if self.units == 0 { FaultKind::Start } else { kind };
        Fault { kind, what, at: self.consumed }
    }
}

impl Framing {
    fn step(&mut self, bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<Step, Complaint> {
        match self {
            Self::Records(f) => f.step(bytes, receipt),
            Self::Gdp(f) => f.step(bytes, receipt),
            Self::Mpeg(f) => f.step(bytes),
            Self::Ogg(f) => f.step(bytes),
            Self::Ebml(f) => f.step(bytes),
        }
    }

    /// Whether a unit surely begins here; `None` as long as more bytes are needed to say.
    fn begins(&self, bytes: &[u8]) -> Option<bool> {
        match self {
            Self::Records(_) => records::begins(bytes),
            Self::Gdp(_) => packets::begins(bytes),
            Self::Mpeg(f) => f.begins(bytes),
            Self::Ogg(_) => ogg::begins(bytes),
            Self::Ebml(_) => ebml::begins(bytes),
        }
    }
}

/// The format a `Content-Type` promises.
pub(crate) fn by_content_type(value: &str) -> Option<Format> {
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(match essence.as_str() {
        "audio/mpeg" | "audio/mp3" => Format::Mp3,
        "audio/aac" | "audio/aacp" | "audio/x-aac" => Format::Adts,
        "application/ogg" | "audio/ogg" | "video/ogg" => Format::Ogg,
        "video/webm" | "audio/webm" | "video/x-matroska" | "audio/x-matroska" => Format::Webm,
        "application/x-flumen-test" => Format::Records,
        "application/x-gdp" => Format::Gdp,
        _ => return None,
    })
}

/// The format that a stream's first bytes show. `None` with four bytes or more: not a format known here.
pub(crate) fn by_first_bytes(bytes: &[u8]) -> Option<Format> {
    let four: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    Some(match four {
        crate::record::MAGIC => Format::Records,
        [b'O', b'g', b'g', b'S'] => Format::Ogg,
        [0x1A, 0x45, 0xDF, 0xA3] => Format::Webm,
        [1, 0, 0..=3, 0] => Format::Gdp,
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => Format::Adts,
        [0xFF, second, ..] if second & 0xE6 == 0xE2 => Format::Mp3,
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Feeds `bytes` whole, then byte by byte, and demands that both see the same.
    pub(crate) fn verdict(format: Format, start: Start, bytes: &[u8]) -> Result<u64, Fault> {
        let whole = run(format, start, bytes.chunks(bytes.len().max(1)));
        let dribble = run(format, start, bytes.chunks(1));
        assert_eq!(whole, dribble, "the verdict depends on how the bytes arrive");
        whole
    }

    fn run<'a>(format: Format, start: Start, pieces: impl Iterator<Item = &'a [u8]>) -> Result<u64, Fault> {
        let mut checker = Checker::new(format, start);
        let mut latency = Histogram::default();
        for piece in pieces {
            checker.feed(piece, &mut Receipt { at: Nanos(10), live_since: Nanos(0), latency: &mut latency })?;
        }
        Ok(checker.units())
    }

    pub(crate) fn kind_of(verdict: Result<u64, Fault>) -> Option<FaultKind> {
        verdict.err().map(|fault| fault.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_type_and_by_their_first_bytes() {
        assert_eq!(by_content_type("audio/mpeg; charset=x"), Some(Format::Mp3));
        assert_eq!(by_content_type("text/html"), None);
        for (bytes, want) in [
            (b"OggS\0", Some(Format::Ogg)),
            (b"FLRC\0", Some(Format::Records)),
            (b"\x01\x00\x01\x00\x28", Some(Format::Gdp)),
            (b"\xFF\xFB\x92\x04x", Some(Format::Mp3)),
            (b"\xFF\xF3\x92\x04x", Some(Format::Mp3)),
            (b"\xFF\xF1\x50\x80x", Some(Format::Adts)),
            (b"\x1A\x45\xDF\xA3x", Some(Format::Webm)),
            (b"<html", None),
        ] {
            assert_eq!(by_first_bytes(bytes), want, "{bytes:?}");
        }
    }
}
