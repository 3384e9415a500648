//! Whatever is taken at a time, and whatever the ring does meanwhile: what a relay decodes is what the ring held, place by place.

use proptest::prelude::*;

use super::*;
use crate::fanout::placement::Placement;
use crate::fanout::recovery::Verdict;
use crate::fanout::streamheader::Headers;
use crate::fanout::testing::{chunk, chunk_under, ring_of, seq};
use crate::wire::relay::{Decoder, Frame};

/// A relay that reads.
struct Edge {
    cursor: Cursor,
    frames: Frames,
    decoder: Decoder,
    heard: Vec<Frame>,
}

impl Edge {
    fn at(place: u64) -> Self {
        let cursor = Cursor::new(Placement { at: seq(place), await_keyframe: false });
        Self { cursor, frames: Frames::new(77), decoder: Decoder::new(1 << 20), heard: Vec::new() }
    }

    /// Takes up to so many bytes. Returns whether there were any.
    fn read(&mut self, ring: &Ring, most: usize, news: &Notice) -> bool {
        let upto = ring.next();
        let news = self.frames.wants(news.number).then_some(news);
        self.frames.show(&self.cursor, ring, upto, 4096, news);
        let mut slices = Slices::new();
        let shown = self.frames.gather(&self.cursor, ring, upto, &mut slices);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        drop(slices);
        assert_eq!(bytes.len(), shown);
        assert_eq!(shown > 0, self.frames.mid_frame() || self.cursor.has_unsent(upto), "what is said to wait is what is shown");
        let taken = most.min(shown);
        self.decoder.take(&bytes[..taken], |frame| self.heard.push(frame)).expect("frames");
        let before = self.cursor.tally().bytes;
        let of_stream = self.frames.take(&mut self.cursor, ring, taken);
        assert_eq!(self.cursor.tally().bytes - before, of_stream as u64);
        shown > 0
    }

    fn places(&self) -> Vec<u64> {
        self.heard.iter().filter_map(|frame| if let Frame::Chunk(head, _) = frame { Some(head.place) } else { None }).collect()
    }
}

fn said(number: u64) -> Notice {
    let notice = relay::Notice { title: number.to_string(), ..relay::Notice::default() };
    Notice { number, frame: relay::notice(&notice) }
}

#[test]
fn a_relay_is_told_the_epoch_then_what_is_on_then_every_chunk() {
    let (mut ring, mut edge, headers) = (Ring::default(), Edge::at(0), Headers::none());
    for i in 0..3 {
        ring.push(chunk_under(&headers, format!("{i:016}").as_bytes(), i != 1), i * 20_000_000);
    }
    while edge.read(&ring, usize::MAX, &said(5)) {}
    assert_eq!(edge.heard[0], Frame::Epoch { instance: 77, in_band: false, parts: Vec::new() });
    assert!(matches!(&edge.heard[1], Frame::Notice(notice) if notice.title == "5"));
    for (i, frame) in edge.heard[2..].iter().enumerate() {
        let head = ChunkHead { place: i as u64, time: i as u64 * 20_000_000, keyframe: i != 1, ..ChunkHead::default() };
        assert_eq!(*frame, Frame::Chunk(head, format!("{i:016}").into_bytes().into()));
    }
    assert_eq!(edge.heard.len(), 5);
    assert!(!edge.read(&ring, 1, &said(6)), "news alone are told with the next chunk");
}

#[test]
fn streamheaders_are_told_part_by_part_wherever_they_change() {
    let sets = [(&["a", "bc"][..], true), (&["a", "bc"], true), (&[], false), (&["d"], false)];
    let (mut ring, mut edge) = (Ring::default(), Edge::at(0));
    for (i, (parts, in_band)) in sets.iter().enumerate() {
        ring.push(chunk_under(&Headers::new(parts, *in_band, &Arc::default()), b"x", true), i as u64);
    }
    while edge.read(&ring, 3, &said(0)) {}
    let heard = edge.heard.iter().filter_map(|frame| match frame {
        Frame::Epoch { in_band, parts, .. } => Some((parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>(), *in_band)),
        _ => None,
    });
    let want = sets.map(|(parts, in_band)| (parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>(), in_band));
    assert_eq!(heard.collect::<Vec<_>>(), want);
}

#[test]
fn one_who_moves_to_another_mount_is_told_that_it_is_another() {
    let (ring, mut edge) = (ring_of("KK"), Edge::at(0));
    edge.read(&ring, 30, &said(1));
    edge.frames.go_elsewhere(88);
    edge.cursor.transfer(Placement { at: seq(1), await_keyframe: false });
    while edge.read(&ring, 7, &said(1)) {}
    let instances = edge.heard.iter().filter_map(|frame| if let Frame::Epoch { instance, .. } = frame { Some(*instance) } else { None });
    assert_eq!(instances.collect::<Vec<_>>(), [77, 88]);
    assert!(!edge.decoder.mid_frame());
}

proptest! {
    #[test]
    fn what_is_decoded_is_what_the_ring_held_however_it_is_read(
        steps in proptest::collection::vec((0_usize..5, 0_usize..200, 0_usize..90, any::<bool>()), 1..120)
    ) {
        let (mut ring, mut edge, mut number) = (Ring::default(), Edge::at(0), 0);
        let mut headers = Headers::none();
        let mut want = Vec::new();
        for (kind, size, most, flag) in steps {
            match kind {
                0 => headers = Headers::new(&[vec![b'h'; size % 40]], flag, &Arc::default()),
                1 => number += 1,
                2 if flag => {
                    // Too slow: it goes on further ahead, or waits for a keyframe.
                    let to = edge.cursor.at().ahead(1).min(ring.next());
                    edge.cursor.jump(Verdict::Jump { to, await_keyframe: size % 2 == 0 });
                    edge.cursor.look_for_keyframe(&ring);
                }
                _ => {
                    let at = ring.next().number();
                    let payload = vec![at as u8; size];
                    want.push(payload.clone());
                    ring.push(chunk_under(&headers, &payload, flag), at);
                }
            }
            edge.read(&ring, most, &said(number));
        }
        ring.push(chunk(b"end", true), ring.next().number());
        want.push(b"end".to_vec());
        edge.cursor.look_for_keyframe(&ring);
        while edge.read(&ring, 50, &said(number)) {}
        prop_assert!(!edge.decoder.mid_frame());
        let places = edge.places();
        prop_assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "places only grow: {places:?}");
        for frame in &edge.heard {
            if let Frame::Chunk(head, payload) = frame {
                prop_assert_eq!(&payload[..], &want[head.place as usize][..]);
            }
        }
        prop_assert_eq!(places.last().copied(), Some(want.len() as u64 - 1));
        let told = edge.heard.iter().rev().find_map(|frame| if let Frame::Notice(notice) = frame { Some(notice.title.clone()) } else { None });
        prop_assert_eq!(told, Some(number.to_string()));
    }
}
