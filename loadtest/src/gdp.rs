//! GStreamer Data Protocol 1.0: packets of a 62-byte header and a payload, all integers big-endian. Pure.
//!
//! Written: what `gdpdepay` of GStreamer 1.x reads (header checksum always, payload checksum never, as `gdppay` does by default).
//! Read: any 1.x packet, with both checksums looked at where the sender set them, and a limit on the length, which GStreamer lacks.

const HEAD: usize = 62;
/// A payload longer than this is a lost place, not a buffer.
const LONGEST: usize = 16 << 20;
const NONE: u64 = u64::MAX;

const STREAM_START: u16 = 10318;
const SEGMENT: u16 = 17998;

pub(crate) const FLAG_HEADER: u16 = 0x400;
pub(crate) const FLAG_DELTA_UNIT: u16 = 0x2000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Buffer { flags: u16 },
    Caps,
    Event,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Whole { kind: Kind, payload: &'a [u8], length: usize },
    Partial,
    Torn(&'static str),
}

/// When a buffer plays and for how long, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) pts: u64,
    pub(crate) duration: u64,
}

/// What a GDP stream begins with: stream-start, caps and segment, each a packet.
pub(crate) fn preamble(stream_id: &str, caps: &str) -> Vec<u8> {
    let start =
        format!("GstEventStreamStart, stream-id=(string){stream_id}, flags=(GstStreamFlags)GST_STREAM_FLAG_NONE, group-id=(uint)1;\0");
    let segment = "GstEventSegment, segment=(GstSegment)\"segment, flags=(GstSegmentFlags)GST_SEGMENT_FLAG_NONE, rate=(double)1, \
                   applied-rate=(double)1, format=(GstFormat)time, base=(guint64)0, offset=(guint64)0, start=(guint64)0, \
                   stop=(guint64)18446744073709551615, time=(guint64)0, position=(guint64)0, \
                   duration=(guint64)18446744073709551615;\";\0";
    let mut out = Vec::new();
    packet(&mut out, STREAM_START, start.as_bytes(), Timing { pts: NONE, duration: 0 }, [0, 0], 0, 0);
    packet(&mut out, 2, format!("{caps}\0").as_bytes(), Timing { pts: 0, duration: 0 }, [0, 0], 0, 0);
    packet(&mut out, SEGMENT, segment.as_bytes(), Timing { pts: NONE, duration: 0 }, [0, 0], 0, 0);
    out
}

/// A data buffer, or with `timing` absent a streamheader buffer.
pub(crate) fn buffer(out: &mut Vec<u8>, payload: &[u8], timing: Option<Timing>, flags: u16) {
    let times = timing.unwrap_or(Timing { pts: NONE, duration: NONE });
    packet(out, 1, payload, times, [NONE, NONE], flags, NONE);
}

fn packet(out: &mut Vec<u8>, kind: u16, payload: &[u8], timing: Timing, offsets: [u64; 2], flags: u16, dts: u64) {
    let start = out.len();
    out.extend_from_slice(&[1, 0, 1, 0]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).expect("payloads are far below 4 GiB").to_be_bytes());
    for value in [timing.pts, timing.duration, offsets[0], offsets[1]] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&dts.to_be_bytes());
    out.extend_from_slice(&[0; 6]);
    let crc = crc16(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(payload);
}

pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    if bytes.first().is_some_and(|&major| major != 1) {
        return Parsed::Torn("no GDP 1.x packet begins here");
    }
    if bytes.len() < HEAD {
        return Parsed::Partial;
    }
    let be16 = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let checksums = bytes[2];
    if checksums > 3 || bytes[3] != 0 {
        return Parsed::Torn("GDP header has unknown flags");
    }
    if checksums & 1 != 0 && be16(58) != crc16(&bytes[..58]) {
        return Parsed::Torn("GDP header checksum does not match");
    }
    let size = u32::from_be_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]) as usize;
    if size > LONGEST {
        return Parsed::Torn("impossible GDP payload length");
    }
    let kind = match be16(4) {
        1 => Kind::Buffer { flags: be16(42) },
        2 => Kind::Caps,
        64.. => Kind::Event,
        _ => return Parsed::Torn("unknown GDP packet type"),
    };
    let length = HEAD + size;
    let Some(payload) = bytes.get(HEAD..length) else { return Parsed::Partial };
    if checksums & 2 != 0 && be16(60) != crc16(payload) {
        return Parsed::Torn("GDP payload checksum does not match");
    }
    Parsed::Whole { kind, payload, length }
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-16/GENIBUS; nothing has the checksum 0.
fn crc16(bytes: &[u8]) -> u16 {
    if bytes.is_empty() {
        return 0;
    }
    !bytes.iter().fold(0xFFFF, |crc, &byte| (crc << 8) ^ CRC_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_16_genibus() {
        assert_eq!(crc16(b"123456789"), 0xD64E);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn a_header_written_by_gdppay_is_accepted() {
        // The first packet of `audiotestsrc ! vorbisenc ! gdppay` on GStreamer 1.22: stream-start, 135 bytes of text.
        let mut bytes = vec![1, 0, 1, 0, 0x28, 0x4e, 0, 0, 0, 0x87];
        bytes.extend_from_slice(&[0xff; 8]);
        bytes.extend_from_slice(&[0; 40]);
        bytes.extend_from_slice(&[0xfe, 0x1f, 0, 0]);
        assert_eq!(parse(&bytes), Parsed::Partial);
        bytes.extend_from_slice(&[b' '; 135]);
        assert!(matches!(parse(&bytes), Parsed::Whole { kind: Kind::Event, length: 197, .. }));
        bytes[9] = 0x88;
        assert_eq!(parse(&bytes), Parsed::Torn("GDP header checksum does not match"));
    }

    #[test]
    fn a_buffer_comes_back_with_its_flags_and_payload() {
        let mut bytes = Vec::new();
        buffer(&mut bytes, b"abc", Some(Timing { pts: 5, duration: 1 }), FLAG_DELTA_UNIT);
        let want = Parsed::Whole { kind: Kind::Buffer { flags: FLAG_DELTA_UNIT }, payload: b"abc", length: 65 };
        assert_eq!(parse(&bytes), want);
    }

    #[test]
    fn a_claimed_length_of_gigabytes_is_refused_not_waited_for() {
        let mut bytes = vec![1, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        bytes.resize(HEAD, 0);
        assert_eq!(parse(&bytes), Parsed::Torn("impossible GDP payload length"));
    }

    #[test]
    fn the_preamble_is_three_whole_packets_in_gstreamers_order() {
        let bytes = preamble("id", "application/x-flumen-test");
        let (mut at, mut kinds) = (0, Vec::new());
        while at < bytes.len() {
            let Parsed::Whole { kind, length, .. } = parse(&bytes[at..]) else { panic!("torn at {at}") };
            kinds.push(kind);
            at += length;
        }
        assert_eq!(kinds, [Kind::Event, Kind::Caps, Kind::Event]);
    }
}
