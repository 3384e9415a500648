//! Ogg: starts with BOS pages, every page's checksum holds, page numbers are contiguous for each serial number.
//!
//! One jump is legal for each serial: from its header pages (granule position 0) to where the live stream stands.

use std::collections::BTreeMap;

use super::{Complaint, FaultKind, Start, Step, complain};

const HEAD: usize = 27;
/// A stream that shows more serial numbers than this is not one anybody plays.
const SERIALS: usize = 64;

const BOS: u8 = 2;

#[derive(Debug)]
pub(crate) struct Ogg {
    strict: bool,
    serials: BTreeMap<u32, Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    page: u32,
    in_headers: bool,
}

impl Ogg {
    pub(super) fn new(start: Start) -> Self {
        Self { strict: start == Start::Exact, serials: BTreeMap::new() }
    }

    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Complaint> {
        let known = bytes.len().min(4);
        if bytes[..known] != b"OggS"[..known] {
            return complain(FaultKind::Torn, "no page where the page before ended");
        }
        let Some(length) = page_length(bytes).filter(|&length| bytes.len() >= length) else { return Ok(Step::More) };
        let page = &bytes[..length];
        if le32(page, 22) != crc(page) {
            return complain(FaultKind::Torn, "page checksum does not match");
        }
        self.accept(page)?;
        Ok(Step::Take(length as u64))
    }

    fn accept(&mut self, page: &[u8]) -> Result<(), Complaint> {
        let (serial, number) = (le32(page, 14), le32(page, 18));
        // No packet ends on a page without a granule position (all ones): a header that spans pages has such.
        let granule = u64::from_le_bytes(page[6..14].try_into().expect("eight bytes"));
        let spans = granule == u64::MAX && self.serials.get(&serial).is_some_and(|last| last.in_headers);
        let in_headers = granule == 0 || spans;
        let bos = page[5] & BOS != 0;
        match self.serials.get(&serial) {
            // A source that came back may begin anew with the serial number it had.
            _ if bos => {}
            None if self.strict => {
                return complain(FaultKind::Start, format!("serial {serial:08x} does not begin with a BOS page"));
            }
            None => {}
            Some(last) if number == last.page.wrapping_add(1) || (last.in_headers && number > last.page) => {}
            Some(last) if number > last.page => {
                return complain(FaultKind::Gap, format!("page {number} of serial {serial:08x} after page {}", last.page));
            }
            Some(last) => {
                return complain(FaultKind::Repeat, format!("page {number} of serial {serial:08x} after page {}", last.page));
            }
        }
        if bos && self.serials.len() >= SERIALS {
            self.serials.clear();
        }
        self.serials.insert(serial, Last { page: number, in_headers });
        Ok(())
    }
}

pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let known = bytes.len().min(4);
    if bytes[..known] != b"OggS"[..known] {
        return Some(false);
    }
    let page = bytes.get(..page_length(bytes)?)?;
    Some(le32(page, 22) == crc(page))
}

fn page_length(bytes: &[u8]) -> Option<usize> {
    let segments = usize::from(*bytes.get(HEAD - 1)?);
    let lacing = bytes.get(HEAD..HEAD + segments)?;
    Some(HEAD + segments + lacing.iter().map(|&size| usize::from(size)).sum::<usize>())
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x04C1_1DB7 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Ogg's own CRC-32 (not reflected, starts at 0), the checksum field itself taken as zero.
fn crc(page: &[u8]) -> u32 {
    let masked = page.iter().enumerate().map(|(at, &byte)| if (22..26).contains(&at) { 0 } else { byte });
    masked.fold(0u32, |crc, byte| (crc << 8) ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{kind_of, verdict};
    use super::super::{FaultKind, Format, Start};
    use super::*;

    /// `B0` BOS page 0, `h1` header page 1, `p9` data page 9.
    fn stream(picture: &str) -> Vec<u8> {
        picture.split_whitespace().flat_map(|word| page(&word[..1], word[1..].parse().expect("a number"))).collect()
    }

    fn page(kind: &str, number: u32) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(if kind == "B" { BOS } else { 0 });
        page.extend_from_slice(&u64::from(if kind == "p" { number * 960 } else { 0 }).to_le_bytes());
        page.extend_from_slice(&7u32.to_le_bytes());
        page.extend_from_slice(&number.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(&[2, 5, 3]);
        page.extend_from_slice(b"payload!");
        let sum = crc(&page);
        page[22..26].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn pages_are_contiguous_but_for_one_jump_after_the_headers() {
        use FaultKind::{Gap, Repeat, Start as S};
        for (picture, want) in [
            ("B0 h1 p2 p3", None),
            ("B0 h1 p90 p91", None),
            ("B0 h1 p90 p92", Some(Gap)),
            ("B0 h1 p90 p90", Some(Repeat)),
            ("p90 p91", Some(S)),
            ("B0 h1 p90 p91 B0 h1 p5 p6", None),
        ] {
            assert_eq!(kind_of(verdict(Format::Ogg, Start::Exact, &stream(picture))), want, "{picture}");
        }
    }

    #[test]
    fn a_damaged_page_is_noticed() {
        let mut bytes = stream("B0 h1 p2");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(kind_of(verdict(Format::Ogg, Start::Exact, &bytes)), Some(FaultKind::Torn));
    }

    #[test]
    fn the_checksum_is_oggs() {
        assert_eq!(CRC_TABLE[1], 0x04C1_1DB7);
        assert_eq!(CRC_TABLE[255], 0xB1F7_40B4);
    }
}
