//! What one listener is sent, byte by byte, against a naive model.

use std::io::IoSlice;

use proptest::prelude::*;

use super::*;
use crate::fanout::placement::{self, SyncMethod, Wish};
use crate::fanout::recovery::{self, Limits, RecoverPolicy};
use crate::fanout::testing::{chunk_under, ring_of, seq};
use crate::units::Extents;

fn at(place: u64) -> Cursor {
    Cursor::new(Placement { at: seq(place), await_keyframe: false })
}

/// Sends up to `room` bytes as a socket would, and returns them.
fn send(cursor: &mut Cursor, ring: &Ring, resend: bool, room: usize) -> Vec<u8> {
    let mut sent = {
        let mut slices = Slices::new();
        let bytes = cursor.gather(ring, ring.next(), resend, 1 << 20, &mut slices);
        let sent: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(sent.len(), bytes);
        sent
    };
    sent.truncate(room);
    cursor.advance(ring, resend, sent.len());
    sent
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `"A:01 B:2 :3"`: chunks by epoch, one character each, all keyframes.
fn epochs(picture: &str) -> Ring {
    let mut ring = Ring::default();
    let mut time = 0;
    for epoch in picture.split(' ') {
        let (header, chunks) = epoch.split_once(':').expect("an epoch is header:chunks");
        let headers = if header.is_empty() { Headers::none() } else { Headers::new(&[header], false, &Arc::default()) };
        for payload in chunks.chars() {
            ring.push(chunk_under(&headers, payload.to_string().as_bytes(), true), time);
            time += 20_000_000;
        }
    }
    ring
}

#[test]
fn a_lagging_listener_gets_old_data_then_the_new_header_then_new_data() {
    for (picture, resend, want) in [
        ("A:012345 B:xyz", true, "A012345Bxyz"),
        ("A:012345 B:xyz", false, "A012345xyz"),
        ("A:01 A:23", true, "A0123"),        // same header in another epoch: nothing
        ("A:01 :23 A:45", true, "A0123A45"), // none, then again
        (":01 A:23", false, "01A23"),        // the old caps had none
        (":01", true, "01"),
        ("A:0 B:1 A:2", true, "A0B1A2"),
    ] {
        for room in [1, 2, 3, 100] {
            let (ring, mut cursor, mut got) = (epochs(picture), at(0), Vec::new());
            while cursor.has_unsent(ring.next()) {
                got.extend(send(&mut cursor, &ring, resend, room));
            }
            assert_eq!(text(&got), want, "{picture} resend={resend}, {room} bytes at a time");
            assert_eq!(cursor.tally().bytes, want.len() as u64);
        }
    }
}

#[test]
fn what_is_half_sent_is_finished_before_a_jump() {
    let ring = epochs("AAA:0123 BBB:4567");
    for (room, want) in [(1, "AAA|BBB67"), (3, "AAA|BBB67"), (4, "AAA0|BBB67"), (5, "AAA01|BBB67")] {
        let mut cursor = at(0);
        let mut got = send(&mut cursor, &ring, true, room);
        let dropped = cursor.jump(Verdict::Jump { to: seq(6), await_keyframe: false });
        got.extend(send(&mut cursor, &ring, true, 100));
        let want = want.replace('|', "");
        assert_eq!(text(&got), want, "jump after {room} bytes");
        assert_eq!(dropped, 6 - got.iter().filter(|b| b"0123".contains(b)).count() as u64, "jump after {room} bytes");
    }
}

#[test]
fn dropped_chunks_are_those_between_the_last_sent_and_the_first_sent_after() {
    let mut ring = ring_of("K....");
    let mut cursor = at(0);
    send(&mut cursor, &ring, true, 16);
    assert_eq!(cursor.jump(Verdict::Jump { to: seq(5), await_keyframe: true }), 4);
    assert_eq!((cursor.lag(&ring).chunks, cursor.has_unsent(ring.next())), (0, false), "who waits has no lag");
    for (i, keyframe) in [false, false, true].into_iter().enumerate() {
        ring.push(crate::fanout::testing::chunk(b"0123456789abcdef", keyframe), 1_000_000_000 + i as u64);
        cursor.look_for_keyframe(&ring);
    }
    assert_eq!(cursor.at(), seq(7));
    assert_eq!(cursor.tally(), Tally { bytes: 16, dropped_chunks: 6, dropped_times: 1 }, "those skipped while waiting are dropped too");
}

#[test]
fn what_a_newcomer_waits_through_is_not_dropped() {
    let mut cursor = Cursor::new(Placement { at: seq(0), await_keyframe: true });
    let ring = ring_of("...K.");
    assert_eq!(cursor.look_for_keyframe(&ring), 0);
    assert_eq!((cursor.at(), cursor.tally()), (seq(3), Tally::default()));
}

#[test]
fn draining_sends_what_is_queued_and_nothing_later() {
    let mut ring = epochs("A:0123");
    let mut cursor = at(1);
    cursor.drain(ring.next());
    ring.push(crate::fanout::testing::chunk(b"4", true), 1_000_000_000);
    cursor.drain(ring.next()); // a second drain does not lengthen it
    assert!(!cursor.drained());
    assert_eq!(text(&send(&mut cursor, &ring, true, 100)), "A123");
    assert!(cursor.drained());

    let mut caught_up = at(5);
    caught_up.drain(seq(5));
    assert!(caught_up.drained(), "who is caught up leaves at once");
    let mut waiting = Cursor::new(Placement { at: seq(2), await_keyframe: true });
    waiting.drain(seq(5));
    assert!(waiting.drained(), "who was never served has nothing to be sent");
}

#[test]
fn a_flush_costs_nobody_the_place_and_resumes_on_a_keyframe() {
    let mut ring = ring_of("K..K..");
    let mut cursor = at(2);
    send(&mut cursor, &ring, true, 7);
    ring.flush();
    assert_eq!(cursor.cut(&ring), 3);
    for keyframe in [false, true] {
        ring.push(crate::fanout::testing::chunk(if keyframe { b"K" } else { b"." }, keyframe), 2_000_000_000);
    }
    cursor.look_for_keyframe(&ring);
    assert_eq!(text(&send(&mut cursor, &ring, true, 100)), "000000002K", "the half of chunk 2 is finished, then the keyframe");
    assert_eq!(cursor.tally().dropped_chunks, 4);
}

#[test]
fn empty_chunks_are_passed_over_and_nothing_gets_stuck_on_them() {
    let mut ring = Ring::default();
    for (i, payload) in ["", "a", "", "", "b", ""].into_iter().enumerate() {
        ring.push(crate::fanout::testing::chunk(payload.as_bytes(), true), i as u64);
    }
    let (mut cursor, mut got) = (at(0), Vec::new());
    for _ in 0..10 {
        got.extend(send(&mut cursor, &ring, true, 1));
    }
    assert_eq!(text(&got), "ab");
    assert!(!cursor.has_unsent(ring.next()));
}

#[test]
fn a_budget_bounds_one_call_but_never_starves() {
    let ring = ring_of("K....K....");
    let cursor = at(0);
    let gathered = |upto, budget, taken_up| {
        let mut slices: Slices<'_> = std::iter::repeat_n(IoSlice::new(b"head"), taken_up).collect();
        let bytes = cursor.gather(&ring, upto, true, budget, &mut slices);
        (slices.len() - taken_up, bytes)
    };
    assert_eq!(gathered(ring.next(), 1, 0), (1, 16));
    assert_eq!(gathered(ring.next(), 40, 0), (3, 48));
    assert_eq!(gathered(seq(4), 1000, 0), (4, 64));
    assert_eq!(gathered(ring.next(), 1000, MOST_SLICES - 5), (5, 80));
}

#[test]
fn who_keeps_up_is_shown_small_chunks_as_one_slice_and_who_does_not_as_they_are() {
    let slices_of = |cursor: &Cursor, ring: &Ring| {
        let mut slices = Slices::new();
        cursor.gather(ring, ring.next(), true, 1 << 20, &mut slices);
        slices.iter().map(|slice| text(slice)).collect::<Vec<_>>()
    };
    let mut ring = epochs("A:0123 B:45");
    let mut cursor = at(1);
    ring.unroll();
    assert_eq!(slices_of(&cursor, &ring), ["A", "1", "2", "3", "B", "4", "5"], "headers are to be given between");
    assert_eq!(text(&send(&mut cursor, &ring, true, 6)), "A123B4");
    for payload in ["67", "89"] {
        let headers = Arc::clone(cursor.given().expect("it was given some"));
        ring.push(chunk_under(&headers, payload.as_bytes(), true), 1_000_000_000);
    }
    assert_eq!(slices_of(&cursor, &ring), ["5", "67", "89"], "nothing has been laid out");
    ring.unroll();
    assert_eq!(slices_of(&cursor, &ring), ["56789"]);
    assert_eq!(text(&send(&mut cursor, &ring, true, 2)), "56");
    assert_eq!(slices_of(&cursor, &ring), ["7", "89"], "what is half sent is finished first");
    cursor.drain(seq(7));
    assert_eq!(text(&send(&mut cursor, &ring, true, 100)), "7");
}

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Op {
    Push { keyframe: bool, size: usize, new_epoch: Option<u8> },
    Send { room: usize },
    Judge,
    Flush,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (any::<bool>(), 0usize..40, proptest::option::weighted(0.1, 0u8..4)).prop_map(|(keyframe, size, new_epoch)| Op::Push { keyframe, size, new_epoch }),
        4 => (0usize..200).prop_map(|room| Op::Send { room }),
        2 => Just(Op::Judge),
        1 => Just(Op::Flush),
    ]
}

/// What the naive model knows of a chunk: its number is in its bytes.
fn payload(number: u64, size: usize) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    let mut bytes = vec![b'['];
    bytes.extend(number.to_be_bytes());
    bytes.extend(std::iter::repeat_n(b'.', size));
    bytes.push(b']');
    bytes
}

/// Takes a sent stream apart into chunk numbers and header names.
fn parse(mut bytes: &[u8], sizes: &[usize]) -> Result<Vec<Result<u64, u8>>, TestCaseError> {
    let mut found = Vec::new();
    while let [first, rest @ ..] = bytes {
        if *first == b'H' {
            prop_assert!(rest.len() >= 2, "torn header");
            found.push(Err(rest[0]));
            bytes = &rest[2..];
            continue;
        }
        prop_assert_eq!(*first, b'[');
        prop_assert!(rest.len() >= 8, "torn chunk");
        let number = u64::from_be_bytes(rest[..8].try_into().expect("eight bytes"));
        let whole = payload(number, sizes[number as usize]);
        prop_assert!(bytes.starts_with(&whole), "torn chunk {}", number);
        found.push(Ok(number));
        bytes = &bytes[whole.len()..];
    }
    Ok(found)
}

proptest! {
    /// Whatever is pushed and however slowly it is read, a reader sees a gap-free run of whole chunks, each once, in order,
    /// or is told of the gap; what it was not told of, it got; and each chunk comes under its own headers.
    #[test]
    fn readers_never_see_a_silent_gap(
        ops in proptest::collection::vec(op(), 1..300),
        policy in proptest::sample::select(RecoverPolicy::ALL.to_vec()),
        method in proptest::sample::select(SyncMethod::ALL.to_vec()),
        soft in 1u64..20, keep in 1u64..30, joins_after in 0usize..20, laid_out in any::<bool>(),
    ) {
        let limits = Limits { soft: format!("{soft} chunks").parse().expect("soft"), hard: Extents::NONE };
        let wish = Wish { method, burst: "3 chunks".parse().expect("burst"), burst_max: Extents::NONE };
        let mut ring = Ring::default();
        let (mut cursor, mut headers, mut sizes, mut under) = (None, Headers::none(), Vec::new(), Vec::new());
        let (mut wire, mut dropped, mut first) = (Vec::new(), 0, None);
        let mut epoch = None;
        for (step, op) in ops.into_iter().enumerate() {
            if step == joins_after {
                let placed = placement::place(&wish, &ring);
                first = Some(placed.at);
                cursor = Some(Cursor::new(placed));
            }
            match op {
                Op::Push { keyframe, size, new_epoch } => {
                    if let Some(name) = new_epoch {
                        headers = Headers::new(&[[b'H', name, b'!']], false, &Arc::default());
                        epoch = Some(name);
                    }
                    ring.push(chunk_under(&headers, &payload(sizes.len() as u64, size), keyframe), 20_000_000 * sizes.len() as u64);
                    sizes.push(size);
                    under.push(epoch);
                    if cursor.is_none() {
                        ring.trim(ring.next().back(keep));
                    }
                }
                Op::Send { room } => if let Some(cursor) = &mut cursor {
                    if laid_out {
                        ring.unroll();
                    }
                    dropped += cursor.look_for_keyframe(&ring);
                    wire.extend(send(cursor, &ring, true, room));
                },
                Op::Judge => if let Some(cursor) = &mut cursor {
                    ring.trim(ring.next().back(keep));
                    dropped += cursor.cut(&ring);
                    dropped += cursor.look_for_keyframe(&ring);
                    let edges = limits.edges(&ring, ring.next());
                    if !cursor.awaits_keyframe() {
                        match recovery::judge(policy, cursor.at(), edges, &ring) {
                            Verdict::Evict => break,
                            verdict => dropped += cursor.jump(verdict),
                        }
                    }
                },
                Op::Flush => {
                    ring.flush();
                    if let Some(cursor) = &mut cursor { dropped += cursor.cut(&ring); }
                }
            }
        }
        let Some(mut cursor) = cursor else { return Ok(()) };
        // Finish what is in flight and no more.
        cursor.drain(cursor.at());
        wire.extend(send(&mut cursor, &ring, true, usize::MAX));
        let found = parse(&wire, &sizes)?;

        let (mut last, mut gaps, mut header) = (None, 0, None);
        for item in found {
            match item {
                Err(name) => { prop_assert_ne!(header, Some(name), "a header twice"); header = Some(name); }
                Ok(number) => {
                    prop_assert_eq!(header, under[number as usize], "chunk {} under foreign headers", number);
                    if let Some(last) = last {
                        prop_assert!(number > last, "{} after {}: a repeat", number, last);
                        gaps += (last + 1..number).filter(|&n| sizes[n as usize] > 0).count() as u64;
                    } else if let Some(first) = first {
                        prop_assert!(number >= first.number());
                    }
                    last = Some(number);
                }
            }
        }
        prop_assert!(gaps <= dropped, "{} chunks missing, {} reported", gaps, dropped);
        prop_assert_eq!(cursor.tally().dropped_chunks, dropped);
        prop_assert_eq!(cursor.tally().bytes, wire.len() as u64);

    }
}
