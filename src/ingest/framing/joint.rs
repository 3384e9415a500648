//! Joins the links of a chained Ogg stream into one, for players that stutter or stop where a link begins: each change of title
//! begins one.
//!
//! - A link is joined if it is one logical stream of a codec we know, and what its decoder is set up with is the same, byte for
//!   byte, as in the link before: then its pages go on with serial number, page numbers and time of that one, and its headers are
//!   for newcomers only. A link that differs is passed on as it is, and is the one that later ones are joined to.
//! - No page says that the stream ends, for nobody knows.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ogg::checksum;
use super::written;

const FLAGS: usize = 5;
const LAST: u8 = 4;
/// A page on which no packet ends has no time.
const NO_TIME: u64 = u64::MAX;

/// The link that is being sent, and how the one that comes in differs from it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Joint {
    serial: [u8; 4],
    /// What its decoder is set up with; empty: nothing can be joined to it.
    #[serde(with = "written")]
    setup: Vec<Vec<u8>>,
    /// What is added to time and number of each page; the second is known with the first page of data.
    time: u64,
    number: Option<u32>,
    last_time: u64,
    last_number: u32,
}

impl Joint {
    /// A link begins with these header pages. Returns whether it is joined to the one before; then they have its serial number.
    pub(super) fn begin(&mut self, pages: &mut [Box<[u8]>]) -> bool {
        let setup = setup(pages);
        if !setup.is_empty() && setup == self.setup {
            (self.time, self.number) = (self.last_time, None);
            for page in pages {
                page[14..18].copy_from_slice(&self.serial);
                seal(page);
            }
            return true;
        }
        let last = pages.last().map(|page| (serial(page), number(page)));
        let (serial, last_number) = last.unwrap_or_default();
        *self = Self { serial, setup, time: 0, number: Some(0), last_time: 0, last_number };
        false
    }

    /// The page of data as it goes on.
    pub(super) fn data<'a>(&mut self, page: &'a [u8]) -> Cow<'a, [u8]> {
        if self.setup.is_empty() {
            return page.into();
        }
        let shift = *self.number.get_or_insert(self.last_number.wrapping_add(1).wrapping_sub(number(page)));
        self.last_number = number(page).wrapping_add(shift);
        let time = time(page);
        let time = if time == NO_TIME { time } else { time.wrapping_add(self.time) };
        if time != NO_TIME {
            self.last_time = time;
        }
        let mut changed = page.to_vec();
        changed[FLAGS] &= !LAST;
        changed[6..14].copy_from_slice(&time.to_le_bytes());
        changed[14..18].copy_from_slice(&self.serial);
        changed[18..22].copy_from_slice(&self.last_number.to_le_bytes());
        if changed == page {
            return page.into();
        }
        seal(&mut changed);
        changed.into()
    }
}

fn seal(page: &mut [u8]) {
    let sum = checksum(page);
    page[22..26].copy_from_slice(&sum);
}

fn serial(page: &[u8]) -> [u8; 4] {
    [page[14], page[15], page[16], page[17]]
}

fn number(page: &[u8]) -> u32 {
    u32::from_le_bytes([page[18], page[19], page[20], page[21]])
}

fn time(page: &[u8]) -> u64 {
    page[6..14].iter().rev().fold(0, |time, &byte| time << 8 | u64::from(byte))
}

/// The header packets without the comments; empty if there is more than one logical stream, or a codec that we do not know.
fn setup(pages: &[Box<[u8]>]) -> Vec<Vec<u8>> {
    let Some(first) = pages.first() else { return Vec::new() };
    if pages.iter().any(|page| serial(page) != serial(first)) {
        return Vec::new();
    }
    let (mut packets, mut packet) = (Vec::new(), Vec::new());
    for page in pages {
        let segments = usize::from(page[26]);
        let mut at = 27 + segments;
        for &size in &page[27..27 + segments] {
            packet.extend_from_slice(&page[at..at + usize::from(size)]);
            at += usize::from(size);
            if size < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
    }
    let known = [&b"\x01vorbis"[..], b"OpusHead", b"\x7FFLAC", b"Speex   "];
    let audio = packets.first().is_some_and(|packet| known.iter().any(|magic| packet.starts_with(magic)));
    if !audio || packets.len() < 2 {
        return Vec::new();
    }
    packets.remove(1); // the comments
    packets
}
