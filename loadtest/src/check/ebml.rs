//! WebM and Matroska, lightly: EBML header first, elements where they belong, cluster times never back, and the first block of
//! each track a keyframe.
//!
//! Sizes of clusters and segments are not held against their contents (live muxers leave them unknown).

use std::collections::BTreeSet;

use super::{Complaint, FaultKind, Start, Step, complain};

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1F43_B675;
const TIMECODE: u32 = 0xE7;
const SIMPLE_BLOCK: u32 = 0xA3;
/// Blocks and headers are shorter; a longer element is a lost place.
const LONGEST: u64 = 64 << 20;
const TRACKS: usize = 64;

#[derive(Debug)]
pub(crate) struct Ebml {
    level: Level,
    cluster_time: Option<u64>,
    started_tracks: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    Anywhere,
    Top,
    AfterHeader,
    Segment,
    Cluster,
}

impl Ebml {
    pub(super) fn new(start: Start) -> Self {
        let level = match start {
            Start::Exact => Level::Top,
            Start::Anywhere => Level::Anywhere,
        };
        Self { level, cluster_time: None, started_tracks: BTreeSet::new() }
    }

    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Complaint> {
        let Some((id, id_length)) = identifier(bytes)? else { return Ok(Step::More) };
        let Some((size, size_length)) = vint(&bytes[id_length..])? else { return Ok(Step::More) };
        let head = id_length + size_length;
        if matches!(id, SEGMENT | CLUSTER) {
            self.enter(id)?;
            return Ok(Step::Take(head as u64));
        }
        let Some(size) = size.filter(|&size| size <= LONGEST) else {
            return complain(FaultKind::Torn, format!("element {id:X} has an impossible size"));
        };
        let body = &bytes[head..];
        match (self.level, id) {
            (_, EBML) => {
                *self = Self { level: Level::AfterHeader, cluster_time: None, started_tracks: BTreeSet::new() };
            }
            (Level::Top, _) => return complain(FaultKind::Start, format!("element {id:X} before the EBML header")),
            (Level::AfterHeader, 0xEC) => {}
            (Level::AfterHeader, _) => return complain(FaultKind::Start, format!("element {id:X} before the Segment")),
            (Level::Cluster, TIMECODE) => {
                let Some(time) = body.get(..size as usize) else { return Ok(Step::More) };
                self.time(time)?;
            }
            (Level::Cluster, SIMPLE_BLOCK) => match self.block(body)? {
                Step::More if (body.len() as u64) < size => return Ok(Step::More),
                Step::More => return complain(FaultKind::Torn, "a block without a head"),
                Step::Take(_) => {}
            },
            _ if !known(id) => return complain(FaultKind::Torn, format!("element {id:X} does not belong here")),
            _ => {}
        }
        Ok(Step::Take(head as u64 + size))
    }

    fn enter(&mut self, id: u32) -> Result<(), Complaint> {
        self.level = match (self.level, id) {
            (Level::AfterHeader, SEGMENT) => Level::Segment,
            (Level::Anywhere | Level::Segment | Level::Cluster, CLUSTER) => Level::Cluster,
            _ => return complain(FaultKind::Start, format!("element {id:X} does not belong here")),
        };
        Ok(())
    }

    fn time(&mut self, bytes: &[u8]) -> Result<(), Complaint> {
        let time = bytes.iter().fold(0u64, |value, &byte| (value << 8) | u64::from(byte));
        if let Some(before) = self.cluster_time.filter(|&before| time < before) {
            return complain(FaultKind::Repeat, format!("cluster time {time} after {before}"));
        }
        self.cluster_time = Some(time);
        Ok(())
    }

    /// `Take` when the block's head was there and is fine.
    fn block(&mut self, body: &[u8]) -> Result<Step, Complaint> {
        let Some((Some(track), length)) = vint(body)? else { return Ok(Step::More) };
        let Some(flags) = body.get(length + 2) else { return Ok(Step::More) };
        if !self.started_tracks.contains(&track) {
            if flags & 0x80 == 0 {
                return complain(FaultKind::Start, format!("the first block of track {track} is no keyframe"));
            }
            if self.started_tracks.len() >= TRACKS {
                return complain(FaultKind::Torn, "more tracks than anybody has");
            }
            self.started_tracks.insert(track);
        }
        Ok(Step::Take(0))
    }
}

pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let four = bytes.get(..4)?;
    Some(four == CLUSTER.to_be_bytes() || four == EBML.to_be_bytes())
}

/// Elements of a Segment and of a Cluster that a live stream may show.
fn known(id: u32) -> bool {
    let in_segment =
        matches!(id, 0x114D_9B74 | 0x1549_A966 | 0x1654_AE6B | 0x1C53_BB6B | 0x1254_C367 | 0x1043_A770 | 0x1941_A469 | 0xEC | 0xBF);
    in_segment || matches!(id, TIMECODE | SIMPLE_BLOCK | 0xA0 | 0xA7 | 0xAB | 0x5854)
}

fn identifier(bytes: &[u8]) -> Result<Option<(u32, usize)>, Complaint> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let length = first.leading_zeros() as usize + 1;
    if length > 4 {
        return complain(FaultKind::Torn, "no element where the element before ended");
    }
    let value = bytes.get(..length).map(|id| id.iter().fold(0u32, |value, &byte| (value << 8) | u32::from(byte)));
    Ok(value.map(|id| (id, length)))
}

/// A variable-length number; the inner `None` is EBML's "unknown".
fn vint(bytes: &[u8]) -> Result<Option<(Option<u64>, usize)>, Complaint> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let length = first.leading_zeros() as usize + 1;
    if length > 8 {
        return complain(FaultKind::Torn, "impossible element size");
    }
    let Some(all) = bytes.get(..length) else { return Ok(None) };
    let ones = (1u64 << (7 * length)) - 1;
    let value = all.iter().fold(0u64, |value, &byte| (value << 8) | u64::from(byte)) & ones;
    Ok(Some(((value != ones).then_some(value), length)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{kind_of, verdict};
    use super::super::{FaultKind, Format, Start};

    const HEADER: [u8; 8] = [0x1A, 0x45, 0xDF, 0xA3, 0x83, 1, 2, 3];
    const SEGMENT: [u8; 12] = [0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    const TRACKS: [u8; 7] = [0x16, 0x54, 0xAE, 0x6B, 0x82, 9, 9];

    fn cluster(time: u8) -> Vec<u8> {
        vec![0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xE7, 0x81, time]
    }

    fn block(track: u8, keyframe: bool) -> Vec<u8> {
        let mut block = vec![0xA3, 0x86, 0x80 | track, 0, 0, if keyframe { 0x80 } else { 0 }];
        block.extend_from_slice(b"xy");
        block
    }

    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn a_stream_of_header_tracks_and_clusters_is_accepted() {
        let bytes = joined(&[&HEADER, &SEGMENT, &TRACKS, &cluster(1), &block(1, true), &block(1, false), &cluster(2), &block(1, false)]);
        assert!(verdict(Format::Webm, Start::Exact, &bytes).is_ok());
        assert!(verdict(Format::Webm, Start::Anywhere, &bytes[20..]).is_ok());
    }

    #[test]
    fn what_a_player_could_not_start_from_is_noticed() {
        for (what, bytes) in [
            ("no header", joined(&[&cluster(1), &block(1, true)])),
            ("no segment", joined(&[&HEADER, &cluster(1)])),
            ("delta first", joined(&[&HEADER, &SEGMENT, &TRACKS, &cluster(1), &block(1, false)])),
        ] {
            assert_eq!(kind_of(verdict(Format::Webm, Start::Exact, &bytes)), Some(FaultKind::Start), "{what}");
        }
    }

    #[test]
    fn torn_blocks_and_times_that_go_back_are_noticed() {
        let start = joined(&[&HEADER, &SEGMENT, &TRACKS, &cluster(5), &block(1, true)]);
        let torn = joined(&[&start, &block(1, false)[..5], &block(1, false)]);
        assert_eq!(kind_of(verdict(Format::Webm, Start::Exact, &torn)), Some(FaultKind::Torn));
        let back = joined(&[&start, &cluster(4)]);
        assert_eq!(kind_of(verdict(Format::Webm, Start::Exact, &back)), Some(FaultKind::Repeat));
    }
}
