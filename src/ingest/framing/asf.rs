//! ASF: header object and the head of the data object are the streamheaders, a data packet is a unit. A listener may start on
//! a packet in which a video keyframe begins, or on any of a stream without video. (GStreamer's muxer marks none as delta.)

use serde::{Deserialize, Serialize};

use super::spool::{Parse, Stamps};
use super::{Framed, HEADERS_MOST};

const HEADER_OBJECT: [u8; 16] = [0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11, 0xA6, 0xD9, 0x00, 0xAA, 0x00, 0x62, 0xCE, 0x6C];
const DATA_OBJECT: [u8; 16] = [0x36, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11, 0xA6, 0xD9, 0x00, 0xAA, 0x00, 0x62, 0xCE, 0x6C];
const FILE_PROPERTIES: [u8; 16] = [0xA1, 0xDC, 0xAB, 0x8C, 0x47, 0xA9, 0xCF, 0x11, 0x8E, 0xE4, 0x00, 0xC0, 0x0C, 0x20, 0x53, 0x65];
const STREAM_PROPERTIES: [u8; 16] = [0x91, 0x07, 0xDC, 0xB7, 0xB7, 0xA9, 0xCF, 0x11, 0x8E, 0xE6, 0x00, 0xC0, 0x0C, 0x20, 0x53, 0x65];
const VIDEO: [u8; 16] = [0xC0, 0xEF, 0x19, 0xBC, 0x4D, 0x5B, 0xCF, 0x11, 0xA8, 0xFD, 0x00, 0x80, 0x5F, 0x5C, 0x44, 0x2B];
/// The data object's own head, before its packets.
const DATA_HEAD: usize = 50;
const PACKET_MOST: usize = 64 * 1024;

/// An ASF stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Asf {
    /// Every packet is as long; zero until the header has been seen.
    packet: usize,
    video: Option<u8>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The objects in a run of them: their names and contents.
fn objects(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let size = usize::try_from(number(bytes.get(16..24)?)).ok().filter(|size| *size >= 24 && *size <= bytes.len())?;
        let (object, rest) = bytes.split_at(size);
        bytes = rest;
        Some((&object[..16], &object[24..]))
    })
}

/// Reads through a packet field by field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take(&mut self, length: usize) -> Option<u64> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(number(&field[..length.min(8)]))
    }

    /// A field whose length is one of 0, 1, 2 and 4, as two bits say.
    fn coded(&mut self, flags: u64, shift: u32) -> Option<u64> {
        self.take([0, 1, 2, 4][(flags >> shift & 3) as usize])
    }
}

/// Whether a keyframe of this stream begins in a packet; `None` if the packet cannot be read.
fn keyframe_begins(packet: &[u8], stream: u8) -> Option<bool> {
    let mut fields = Fields(packet);
    if packet.first()? & 0x80 != 0 {
        fields.take(1 + usize::from(packet[0] & 0xF))?;
    }
    let (lengths, properties) = (fields.take(1)?, fields.take(1)?);
    for shift in [5, 1, 3] {
        fields.coded(lengths, shift)?; // packet, sequence, padding
    }
    fields.take(6)?; // send time and duration
    let several = lengths & 1 != 0;
    let payloads = if several { fields.take(1)? } else { 1 };
    for _ in 0..payloads & 0x3F {
        let number = fields.take(1)? as u8;
        fields.coded(properties, 4)?; // which media object
        let offset = fields.coded(properties, 2)?;
        let replicated = fields.coded(properties, 0)? as usize;
        fields.take(replicated)?;
        if number & 0x7F == stream && number & 0x80 != 0 && offset == 0 {
            return Some(true);
        }
        if several {
            let length = fields.coded(payloads, 6)? as usize;
            fields.take(length)?;
        }
    }
    Some(false)
}

impl Asf {
    /// Takes the header objects; their length, or `None` while they are not whole.
    fn read_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let header = usize::try_from(number(bytes.get(16..24)?)).unwrap_or(usize::MAX).min(HEADERS_MOST);
        let whole = bytes.get(..header + DATA_HEAD)?;
        *self = Self::default();
        for (name, object) in objects(whole.get(30..header).unwrap_or_default()) {
            if name == FILE_PROPERTIES {
                self.packet = object.get(68..72).map_or(0, number) as usize;
            } else if name == STREAM_PROPERTIES && object.starts_with(&VIDEO) {
                self.video = self.video.or(object.get(48).map(|flags| flags & 0x7F));
            }
        }
        if !(16..=PACKET_MOST).contains(&self.packet) || !whole[header..].starts_with(&DATA_OBJECT) {
            self.packet = 0;
        }
        Some(header + DATA_HEAD)
    }
}

impl Parse for Asf {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.is_empty() || (rest.len() < 16 && HEADER_OBJECT.starts_with(rest)) {
                return at;
            }
            if rest.starts_with(&HEADER_OBJECT) {
                let Some(length) = self.read_head(rest) else { return at };
                if self.packet == 0 {
                    (stamps.skipped, at) = (stamps.skipped + 1, at + 1);
                    continue;
                }
                out.push(Framed::Headers { parts: vec![rest[..length].into()], in_band: false });
                at += length;
            } else if self.packet == 0 {
                (stamps.skipped, at) = (stamps.skipped + 1, at + 1);
            } else {
                let Some(packet) = rest.get(..self.packet) else { return at };
                let keyframe = self.video.is_none_or(|video| keyframe_begins(packet, video).unwrap_or(false));
                out.push(stamps.unit(at, packet, keyframe));
                at += self.packet;
            }
        }
    }
}

pub(super) const MAGIC: [u8; 16] = HEADER_OBJECT;

#[cfg(test)]
pub(super) fn example() -> Vec<u8> {
    let object = |name: &[u8; 16], body: &[u8]| [&name[..], &(24 + body.len() as u64).to_le_bytes(), body].concat();
    let mut file = vec![0; 80];
    file[68] = 100;
    let stream = |number: u8, kind: &[u8; 16]| object(&STREAM_PROPERTIES, &[&kind[..], &[0; 32], &[number, 0, 0, 0, 0, 0]].concat());
    let inner = [object(&FILE_PROPERTIES, &file), stream(1, &VIDEO), stream(2, &[7; 16])].concat();
    let mut bytes = [&HEADER_OBJECT[..], &(30 + inner.len() as u64).to_le_bytes(), &[3, 0, 0, 0, 1, 2], &inner].concat();
    bytes.extend([&DATA_OBJECT[..], &[0; 34]].concat());
    for i in 0..12_u8 {
        // One byte each for object number, offset and replicated length; several payloads with a length of two bytes.
        let payload = |stream: u8, data: &[u8]| [&[stream, i, 0, 0], &(data.len() as u16).to_le_bytes()[..], data].concat();
        let picture = payload(if i % 4 == 0 { 0x81 } else { 1 }, &[i; 20]);
        let mut packet = [&[0x82, 0, 0, 0x01, 0x15, 0, 0, 0, 0, 0, 0, 0x82][..], &payload(0x82, &[i; 30]), &picture].concat();
        packet.resize(100, 0);
        bytes.extend(packet);
    }
    bytes
}
