//! Title and artist where streams carry them: Ogg comments (Vorbis, Opus, FLAC, Speex, Theora, VP8) and ID3v2 tags.
//!
//! - Nothing is trusted: every length is held against what is there, and what does not fit ends the reading.
//! - Bytes that are not UTF-8 are ISO-8859-1, as most of what is not UTF-8 is, and as Icecast reads it.
//!
//! Deliberately absent: pictures, all other fields, and tags at the end of files.

use std::borrow::Cow;

/// What a stream says of what is being played. Empty texts are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Who.
    pub artist: Option<String>,
    /// What.
    pub title: Option<String>,
}

impl Tags {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A text in UTF-8, or else in ISO-8859-1.
pub fn legacy_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
    }
}

/// The first value that is not empty wins.
fn set(field: &mut Option<String>, text: &str) {
    let text = text.trim();
    if field.is_none() && !text.is_empty() {
        *field = Some(text.to_owned());
    }
}

// ---- Ogg ----

/// Bytes of a page's fixed header; the last of them counts the lacing values.
const PAGE_HEADER: usize = 27;
/// Most logical streams that are looked at.
const STREAMS_MOST: usize = 64;

/// One logical stream while its header packets are put together.
struct Logical {
    serial: [u8; 4],
    first: Vec<u8>,
    packet: Vec<u8>,
    /// Its first packet is complete.
    begun: bool,
}

/// What the header pages of an Ogg stream say; `None` if they are no such pages, or have no comments at all. Of several logical
/// streams the first that says something counts.
pub fn of_ogg<P: AsRef<[u8]>>(pages: &[P]) -> Option<Tags> {
    let mut streams: Vec<Logical> = Vec::new();
    let mut found: Option<Tags> = None;
    for page in pages {
        let page = page.as_ref();
        if !page.starts_with(b"OggS") {
            return None;
        }
        let (Some(serial), Some(&segments)) = (page.get(14..18), page.get(PAGE_HEADER - 1)) else { break };
        let body = PAGE_HEADER + usize::from(segments);
        let Some(lacing) = page.get(PAGE_HEADER..body) else { break };
        let index = streams.iter().position(|stream| stream.serial == serial).unwrap_or_else(|| {
            let serial = [serial[0], serial[1], serial[2], serial[3]];
            streams.push(Logical { serial, first: Vec::new(), packet: Vec::new(), begun: false });
            streams.len() - 1
        });
        if streams.len() > STREAMS_MOST {
            break;
        }
        let (stream, mut at) = (&mut streams[index], body);
        for &size in lacing {
            let end = at + usize::from(size);
            let Some(part) = page.get(at..end) else { break };
            at = end;
            stream.packet.extend_from_slice(part);
            if size == 255 {
                continue;
            }
            let packet = std::mem::take(&mut stream.packet);
            if !std::mem::replace(&mut stream.begun, true) {
                stream.first = packet;
            } else if let Some(tags) = comments_of(&stream.first, &packet).map(of_comments)
                && found.as_ref().is_none_or(Tags::is_empty)
            {
                found = Some(tags);
            }
        }
    }
    found
}

/// The comments in a header packet of the codec whose first packet is given, without what stands before them.
fn comments_of<'a>(first: &[u8], packet: &'a [u8]) -> Option<&'a [u8]> {
    match first {
        [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => packet.strip_prefix(b"\x03vorbis"),
        [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', ..] => packet.strip_prefix(b"OpusTags"),
        [0x80, b't', b'h', b'e', b'o', b'r', b'a', ..] => packet.strip_prefix(b"\x81theora"),
        [b'O', b'V', b'P', b'8', b'0', ..] => packet.strip_prefix(b"OVP80\x02 "),
        [0x7F, b'F', b'L', b'A', b'C', ..] => packet.first().filter(|&&kind| kind & 0x7F == 4).and_then(|_| packet.get(4..)),
        [b'S', b'p', b'e', b'e', b'x', ..] => Some(packet),
        _ => None,
    }
}

/// What a list of Vorbis comments says.
pub fn of_comments(bytes: &[u8]) -> Tags {
    fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = number(bytes)?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(text)
    }
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        usize::try_from(u32::from_le_bytes(*number)).ok()
    }
    let (mut rest, mut tags) = (bytes, Tags::default());
    let count = counted(&mut rest).and_then(|_vendor| number(&mut rest)).unwrap_or(0);
    for _ in 0..count {
        let Some(comment) = counted(&mut rest) else { break };
        let Some(equals) = comment.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (&comment[..equals], &comment[equals + 1..]);
        if name.eq_ignore_ascii_case(b"TITLE") {
            set(&mut tags.title, &legacy_text(value));
        } else if name.eq_ignore_ascii_case(b"ARTIST") {
            set(&mut tags.artist, &legacy_text(value));
        }
    }
    tags
}

// ---- ID3v2 ----

const TAG_HEADER: usize = 10;
/// Bits of the tag's flags.
const UNSYNCHRONISED: u8 = 0x80;
const EXTENDED: u8 = 0x40;

/// What an ID3v2 tag (2.2, 2.3, 2.4) says; `None` if these bytes do not begin with one.
pub fn of_id3(bytes: &[u8]) -> Option<Tags> {
    let (head, body) = bytes.split_at_checked(TAG_HEADER)?;
    let (version, flags) = (head[3], head[5]);
    if !head.starts_with(b"ID3") || !(2..=4).contains(&version) {
        return None;
    }
    let body = &body[..body.len().min(syncsafe(&head[6..])?)];
    // In 2.4 each frame says for itself whether it is unsynchronised.
    let body = if version < 4 && flags & UNSYNCHRONISED != 0 { resynchronised(body) } else { body.into() };
    let mut rest = &*body;
    if version > 2 && flags & EXTENDED != 0 {
        let length = if version == 4 { rest.get(..4).and_then(syncsafe) } else { rest.get(..4).map(|size| 4 + big_endian(size)) };
        rest = length.and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    let mut tags = Tags::default();
    while let Some((frame, more)) = Frame::read(rest, version) {
        let field = match frame.name {
            b"TIT2" | b"TT2" => Some(&mut tags.title),
            b"TPE1" | b"TP1" => Some(&mut tags.artist),
            _ => None,
        };
        if let (Some(field), Some(text)) = (field, frame.text()) {
            set(field, &text);
        }
        rest = more;
    }
    Some(tags)
}

struct Frame<'a> {
    name: &'a [u8],
    /// Of the frame's flags, the byte that says how it is written; zero in 2.2.
    format: u8,
    version: u8,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the front, and what comes after it; `None` at the padding, or at the end.
    fn read(bytes: &'a [u8], version: u8) -> Option<(Self, &'a [u8])> {
        let (names, head) = if version == 2 { (3, 6) } else { (4, 10) };
        let (fields, rest) = bytes.split_at_checked(head)?;
        let (name, size) = fields.split_at(names);
        let length = match version {
            2 => big_endian(size),
            3 => big_endian(&size[..4]),
            _ => syncsafe(&size[..4])?,
        };
        if name[0] == 0 {
            return None;
        }
        let (body, rest) = rest.split_at_checked(length)?;
        Some((Self { name, format: if version == 2 { 0 } else { fields[9] }, version, body }, rest))
    }

    /// The first text of a text frame; `None` if it is compressed or encrypted.
    fn text(&self) -> Option<String> {
        // 2.3: compressed, encrypted, grouped. 2.4: grouped, compressed, encrypted, unsynchronised, with a length.
        let (closed, grouped, unsynchronised, length) = match self.version {
            4 => (0x0C, 0x40, 0x02, 0x01),
            _ => (0xC0, 0x20, 0, 0),
        };
        if self.format & closed != 0 {
            return None;
        }
        let skipped = usize::from(self.format & grouped != 0) + if self.format & length != 0 { 4 } else { 0 };
        let body = self.body.get(skipped..)?;
        let body = if self.format & unsynchronised != 0 { resynchronised(body) } else { body.into() };
        let (&encoding, text) = body.split_first()?;
        let utf16 = |text: &[u8], unit: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = text.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        };
        let text = match (encoding, text) {
            (0, text) => legacy_text(text).into_owned(), // meant as ISO-8859-1; many write UTF-8
            (1, [0xFF, 0xFE, text @ ..]) => utf16(text, u16::from_le_bytes),
            (1, [0xFE, 0xFF, text @ ..]) => utf16(text, u16::from_be_bytes),
            (1, text) => utf16(text, u16::from_le_bytes),
            (2, text) => utf16(text, u16::from_be_bytes),
            (3, text) => String::from_utf8_lossy(text).into_owned(),
            _ => return None,
        };
        Some(text.split('\0').next().unwrap_or_default().to_owned())
    }
}

/// Four bytes of seven bits each; `None` if one has the eighth.
fn syncsafe(bytes: &[u8]) -> Option<usize> {
    bytes.iter().all(|byte| byte & 0x80 == 0).then(|| bytes.iter().fold(0, |sum, &byte| sum << 7 | usize::from(byte)))
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

/// Without the zeros that were put behind each 0xFF, lest a player take it for the beginning of a frame of sound.
fn resynchronised(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.windows(2).any(|pair| pair == [0xFF, 0]) {
        return bytes.into();
    }
    let mut out = Vec::with_capacity(bytes.len());
    for (i, &byte) in bytes.iter().enumerate() {
        if byte != 0 || i == 0 || bytes[i - 1] != 0xFF {
            out.push(byte);
        }
    }
    out.into()
}

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;
