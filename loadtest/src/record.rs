//! The record: the unit of the test stream. Numbered, time-stamped, checksummed. Pure.
//!
//! ```text
//!  0      4        8          16            24      28        length-4
//!  "FLRC" u32 len  u64 seq    u64 sent ns   u32 fl  payload…  u32 crc32 of all before
//! ```
//! All integers big-endian; `len` is the whole record. A *streamheader* record (flag HEADER) describes the run, carries no place in
//! the sequence, and is the same bytes for every listener of a run.

use crate::clock::Nanos;

pub(crate) const MAGIC: [u8; 4] = *b"FLRC";
const HEAD: usize = 28;
const CRC: usize = 4;
pub(crate) const SHORTEST: usize = HEAD + CRC;
/// No record is longer: a reader that sees more has lost its place.
pub(crate) const LONGEST: usize = 1 << 20;

const KEYFRAME: u32 = 1;
const HEADER: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Streamheader,
    Keyframe,
    Delta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) sent: Nanos,
    pub(crate) payload: &'a [u8],
}

/// What stands at the front of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Whole(Record<'a>, usize),
    /// So far so good, more bytes needed.
    Partial,
    Torn(&'static str),
}

impl Record<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let length = u32::try_from(SHORTEST + self.payload.len()).expect("record lengths are checked when options are read");
        let flags = match self.kind {
            Kind::Streamheader => HEADER,
            Kind::Keyframe => KEYFRAME,
            Kind::Delta => 0,
        };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.sent.0.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(self.payload);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Parsed::Torn("no record begins here");
    }
    if bytes.len() < HEAD {
        return Parsed::Partial;
    }
    let length = be32(bytes, 4) as usize;
    if !(SHORTEST..=LONGEST).contains(&length) {
        return Parsed::Torn("impossible record length");
    }
    if bytes.len() < length {
        return Parsed::Partial;
    }
    if be32(bytes, length - CRC) != crc32fast::hash(&bytes[..length - CRC]) {
        return Parsed::Torn("record checksum does not match");
    }
    let kind = match be32(bytes, 24) {
        0 => Kind::Delta,
        KEYFRAME => Kind::Keyframe,
        HEADER => Kind::Streamheader,
        _ => return Parsed::Torn("unknown record flags"),
    };
    let record = Record { kind, sequence: be64(bytes, 8), sent: Nanos(be64(bytes, 16)), payload: &bytes[HEAD..length - CRC] };
    Parsed::Whole(record, length)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> Vec<u8> {
        let mut out = Vec::new();
        Record { kind: Kind::Keyframe, sequence: 7, sent: Nanos(99), payload: b"hello" }.encode(&mut out);
        out
    }

    #[test]
    fn what_is_encoded_is_parsed_back() {
        let bytes = encoded();
        let want = Record { kind: Kind::Keyframe, sequence: 7, sent: Nanos(99), payload: b"hello" };
        assert_eq!(parse(&bytes), Parsed::Whole(want, bytes.len()));
    }

    #[test]
    fn every_prefix_asks_for_more() {
        let bytes = encoded();
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parsed::Partial, "{end}");
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        for at in 0..encoded().len() {
            let mut bytes = encoded();
            bytes[at] ^= 0x10;
            assert!(!matches!(parse(&bytes), Parsed::Whole(..)), "byte {at} flipped unnoticed");
        }
    }
}
