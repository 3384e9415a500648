//! MPEG transport streams: the tables (PAT, PMT) are the streamheaders, in band. A unit is a run of packets; a listener may
//! start where a video packet is marked as random access or begins with a key picture, or on any audio packet of a programme
//! without video, with the tables just before it. (`mpegtsmux alignment=7` puts a keyframe in the middle of a buffer and marks
//! nothing.)

use serde::{Deserialize, Serialize};

use super::spool::{Parse, Spool, Stamps};
use super::{Framed, Recognition, written};

const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// Most packets of one table; 1021 bytes of a section fit.
const TABLE_PACKETS_MOST: usize = 8;
/// Most programmes that are followed.
const PROGRAMMES_MOST: usize = 32;
/// Where well-known tables end and a programme's own PIDs begin.
const TABLES_BELOW: u16 = 0x20;

/// A table in its packets, as they come and as it last was whole.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Table {
    pid: u16,
    #[serde(with = "written")]
    coming: Vec<u8>,
    #[serde(with = "written")]
    whole: Vec<u8>,
}

/// A transport stream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ts {
    /// PAT first, then the PMTs it names.
    tables: Vec<Table>,
    video: Vec<(u16, u8)>,
    audio: Vec<u16>,
    in_sync: bool,
}

fn pid(packet: &[u8]) -> u16 {
    u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2])
}

fn begins_unit(packet: &[u8]) -> bool {
    packet[1] & 0x40 != 0
}

fn random_access(packet: &[u8]) -> bool {
    packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0
}

fn payload(packet: &[u8]) -> &[u8] {
    let start = if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 };
    if packet[3] & 0x10 != 0 { packet.get(start..).unwrap_or_default() } else { &[] }
}

/// Whether a stream that begins with these bytes is made of packets; it begins with one.
pub(super) fn recognise(start: &[u8]) -> Recognition {
    match (start.iter().step_by(PACKET).take(5).all(|&byte| byte == SYNC), start.len()) {
        (false, _) => Recognition::No,
        (true, PACKET..) => Recognition::Yes,
        (true, _) => Recognition::NeedMore,
    }
}

/// The bytes of a section between its length field and its checksum.
fn section(payload: &[u8], table: u8) -> Option<&[u8]> {
    let body = payload.get(1 + usize::from(*payload.first()?)..)?;
    let length = usize::from(*body.get(1)? & 0xF) << 8 | usize::from(*body.get(2)?);
    if *body.first()? != table {
        return None;
    }
    body.get(3..(3 + length).checked_sub(4)?)
}

/// Whether the payload of a video packet that begins a picture begins one that needs no other.
fn begins_key_picture(stream_type: u8, payload: &[u8]) -> bool {
    let Some(elementary) = payload.get(8).and_then(|&header| payload.get(9 + usize::from(header)..)) else { return false };
    let starts = elementary.windows(4).filter(|window| window.starts_with(&[0, 0, 1])).map(|window| window[3]);
    match stream_type {
        0x1B => starts.map(|nal| nal & 0x1F).any(|nal| matches!(nal, 5 | 7)),
        0x24 => starts.map(|nal| nal >> 1 & 0x3F).any(|nal| (16..=23).contains(&nal) || (32..=33).contains(&nal)),
        0x01 | 0x02 => starts.into_iter().any(|code| code == 0xB3),
        _ => false,
    }
}

impl Ts {
    /// Puts a table's packet to the others. Returns whether that made a table that differs from the last.
    fn note_table(&mut self, packet: &[u8]) -> bool {
        let pid = pid(packet);
        if self.tables.is_empty() {
            self.tables.push(Table::default());
        }
        let Some(index) = self.tables.iter().position(|table| table.pid == pid) else { return false };
        let table = &mut self.tables[index];
        if begins_unit(packet) {
            table.coming.clear();
        } else if table.coming.is_empty() || table.coming.len() >= TABLE_PACKETS_MOST * PACKET {
            return false;
        }
        table.coming.extend_from_slice(packet);
        let content: Vec<u8> = table.coming.chunks(PACKET).flat_map(payload).copied().collect();
        let Some(body) = section(&content, if pid == 0 { 0 } else { 2 }) else { return false };
        // Continuity counters differ each time; what counts is what the table says.
        let before: Vec<u8> = table.whole.chunks(PACKET).flat_map(payload).copied().collect();
        let same = content == before;
        table.whole = std::mem::take(&mut table.coming);
        if same {
            return false;
        }
        if pid == 0 {
            self.read_pat(body);
        } else {
            self.read_pmt(body);
        }
        true
    }

    fn read_pat(&mut self, body: &[u8]) {
        let named = body.get(5..).unwrap_or_default().as_chunks::<4>().0.iter().filter(|entry| entry[..2] != [0, 0]);
        let pids: Vec<u16> = named.map(|entry| u16::from(entry[2] & 0x1F) << 8 | u16::from(entry[3])).take(PROGRAMMES_MOST).collect();
        self.tables.retain(|table| table.pid == 0 || pids.contains(&table.pid));
        for pid in pids {
            if !self.tables.iter().any(|table| table.pid == pid) {
                self.tables.push(Table { pid, ..Table::default() });
            }
        }
        (self.video, self.audio) = (Vec::new(), Vec::new());
        for table in &mut self.tables[1..] {
            table.whole.clear(); // to be read anew
        }
    }

    fn read_pmt(&mut self, body: &[u8]) {
        let Some(skip) = body.get(7..9).map(|field| 9 + (usize::from(field[0] & 0xF) << 8 | usize::from(field[1]))) else { return };
        let mut rest = body.get(skip..).unwrap_or_default();
        while let [kind, high, low, info_high, info_low, after @ ..] = rest {
            let pid = u16::from(high & 0x1F) << 8 | u16::from(*low);
            match kind {
                0x01 | 0x02 | 0x10 | 0x1B | 0x24 | 0x33 | 0xEA if self.video.len() < PROGRAMMES_MOST => self.video.push((pid, *kind)),
                0x03 | 0x04 | 0x0F | 0x11 | 0x06 | 0x81 if self.audio.len() < PROGRAMMES_MOST => self.audio.push(pid),
                _ => {}
            }
            rest = after.get((usize::from(info_high & 0xF) << 8 | usize::from(*info_low))..).unwrap_or_default();
        }
    }

    fn is_table(&self, packet: &[u8]) -> bool {
        let pid = pid(packet);
        pid < TABLES_BELOW || self.tables.iter().any(|table| table.pid == pid)
    }

    fn is_start(&self, packet: &[u8]) -> bool {
        if !begins_unit(packet) {
            return false;
        }
        let pid = pid(packet);
        match self.video.iter().find(|(video, _)| *video == pid) {
            Some((_, kind)) => random_access(packet) || begins_key_picture(*kind, payload(packet)),
            None => self.video.is_empty() && self.audio.first() == Some(&pid),
        }
    }

    fn headers(&self) -> Framed {
        let parts = self.tables.iter().filter(|table| !table.whole.is_empty()).map(|table| table.whole.clone().into()).collect();
        Framed::Headers { parts, in_band: true }
    }

    /// Tables at the very end wait for what comes after them, and nothing does.
    pub(super) fn finish(&mut self, spool: &mut Spool, out: &mut Vec<Framed>) {
        let (rest, stamps) = spool.rest();
        let whole = rest.len() / PACKET * PACKET;
        if whole > 0 {
            out.push(stamps.unit(0, &rest[..whole], false));
        }
    }
}

impl Parse for Ts {
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize {
        // The unit being gathered, whether it is a start, and where the tables at its end begin.
        let (mut from, mut keyframe, mut tables) = (0, false, None);
        let mut at = 0;
        while bytes.len() - at >= PACKET {
            let rest = &bytes[at..];
            let next_fits = rest.get(PACKET).is_none_or(|&byte| byte == SYNC);
            if rest[0] != SYNC || (!self.in_sync && !next_fits) {
                if from < at {
                    out.push(stamps.unit(from, &bytes[from..at], keyframe));
                }
                self.in_sync = false;
                stamps.skipped += 1;
                at += 1;
                (from, keyframe, tables) = (at, false, None);
                continue;
            }
            self.in_sync = true;
            let packet = &rest[..PACKET];
            if self.is_table(packet) {
                let begin = *tables.get_or_insert(at);
                // Seen once, though a run of tables may come again in a longer piece.
                if self.note_table(packet) {
                    if from < begin {
                        out.push(stamps.unit(from, &bytes[from..begin], keyframe));
                        (from, keyframe) = (begin, false);
                    }
                    out.push(self.headers());
                }
            } else {
                if self.is_start(packet) {
                    let cut = tables.unwrap_or(at);
                    if from < cut {
                        out.push(stamps.unit(from, &bytes[from..cut], keyframe));
                    }
                    (from, keyframe) = (cut, true);
                }
                tables = None;
            }
            at += PACKET;
        }
        let end = tables.unwrap_or(at);
        if from < end {
            out.push(stamps.unit(from, &bytes[from..end], keyframe));
        }
        end
    }
}
