//! Rings and cursors that go to another process and back.

use proptest::prelude::*;

use super::*;
use crate::fanout::cursor::{Cursor, Slices};
use crate::fanout::placement::Placement;
use crate::fanout::recovery::Verdict;
use crate::fanout::testing::{chunk_under, seq};

/// Sends up to `room` bytes of what comes next.
fn send(cursor: &mut Cursor, ring: &Ring, room: usize) -> Vec<u8> {
    let mut sent: Vec<u8> = {
        let mut slices = Slices::new();
        cursor.gather(ring, ring.next(), true, 1 << 20, &mut slices);
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    };
    sent.truncate(room);
    cursor.advance(ring, true, sent.len());
    sent
}

/// Packs a mount with these cursors, and unpacks it.
fn pass(ring: &Ring, cursors: &[Cursor]) -> Result<(Unpacked, Vec<Cursor>), Rubbish> {
    let mut payloads = Outgoing::new(Vec::new());
    let mut packing = Packing::new(ring, &mut payloads).expect("room");
    let packed: Vec<_> = cursors.iter().map(|cursor| cursor.pack(&mut packing).expect("room")).collect();
    let mount = packing.mount;
    let bytes = payloads.finish().expect("room");
    let unpacked = Unpacked::new(&mount, bytes.as_slice(), &Arc::default())?;
    let cursors = packed.iter().map(|packed| Cursor::unpack(packed, &unpacked)).collect::<Result<_, _>>()?;
    Ok((unpacked, cursors))
}

#[derive(Clone, Debug)]
enum Step {
    /// A chunk of so many bytes, of the present source or of another with other headers.
    Push(u8, bool),
    Send(usize, u16),
    Jump(usize),
    Trim(u8),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(bytes, other)| Step::Push(bytes, other)),
        8 => (0..3_usize, 0..400_u16).prop_map(|(who, room)| Step::Send(who, room)),
        1 => (0..3_usize).prop_map(Step::Jump),
        1 => (0..4_u8).prop_map(Step::Trim),
        1 => Just(Step::Flush),
    ]
}

proptest! {
    /// Whatever has been going on, who is passed on is sent the very bytes that it would have been sent otherwise.
    #[test]
    fn who_is_passed_on_misses_no_byte_and_gets_none_twice(steps in proptest::collection::vec(step(), 1..80), later in 0..20_u8) {
        let (mut ring, mut source) = (Ring::default(), 0_u32);
        let mut headers = Headers::new(&["H0".as_bytes()], false, &Arc::default());
        let mut cursors: Vec<_> = (0..3).map(|_| Cursor::new(Placement { at: seq(0), await_keyframe: false })).collect();
        let push = |ring: &mut Ring, headers: &Arc<Headers>, bytes: u8| {
            let (number, time) = (ring.next().number(), ring.newest_time().unwrap_or(0) + 1000);
            ring.push(chunk_under(headers, format!("<{number}>{}", "x".repeat(bytes.into())).as_bytes(), number % 3 == 0), time);
        };
        for step in steps {
            match step {
                Step::Push(bytes, other) => {
                    if other {
                        source += 1;
                        headers = Headers::new(&[format!("H{source}"), "I".to_owned()], source % 2 == 0, &Arc::default());
                    }
                    push(&mut ring, &headers, bytes);
                }
                Step::Send(who, room) => {
                    cursors[who].look_for_keyframe(&ring);
                    drop(send(&mut cursors[who], &ring, room.into()));
                }
                Step::Jump(who) => {
                    cursors[who].jump(Verdict::Jump { to: ring.next(), await_keyframe: true });
                }
                // Never beyond where somebody still is: those are the shard's to judge.
                Step::Trim(chunks) => {
                    let from = ring.oldest().ahead(chunks.into()).min(ring.next());
                    ring.trim(cursors.iter().map(Cursor::at).fold(from, Seq::min));
                }
                Step::Flush => {
                    ring.flush();
                    cursors.iter_mut().for_each(|cursor| {
                        cursor.cut(&ring);
                    });
                }
            }
        }
        let (unpacked, mut passed) = pass(&ring, &cursors).expect("it makes sense");
        let mut there = unpacked.ring;
        prop_assert_eq!((there.oldest(), there.next(), there.begun(), there.flushed()), (ring.oldest(), ring.next(), ring.begun(), ring.flushed()));
        prop_assert_eq!((there.bytes(), there.time(), there.bytes_before()), (ring.bytes(), ring.time(), ring.bytes_before()));
        for _ in 0..later {
            push(&mut ring, &headers, 5);
        }
        // The source there is another one, with a set of its own that says the same.
        let again = unpacked.headers.iter().find(|set| set.bytes() == headers.bytes()).cloned().unwrap_or_else(|| Arc::clone(&headers));
        for _ in 0..later {
            push(&mut there, &again, 5);
        }
        for (here, there_too) in cursors.iter_mut().zip(&mut passed) {
            prop_assert_eq!(here.tally(), there_too.tally());
            for room in [1, 7, 100_000, 100_000] {
                here.look_for_keyframe(&ring);
                there_too.look_for_keyframe(&there);
                let (want, got) = (send(here, &ring, room), send(there_too, &there, room));
                prop_assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&want));
            }
        }
    }
}

#[test]
fn what_leads_nowhere_is_refused() {
    let mut ring = Ring::default();
    ring.push(chunk_under(&Headers::new(&["H"], false, &Arc::default()), b"chunk", true), 5);
    let mut payloads = Outgoing::new(Vec::new());
    let mount = Packing::new(&ring, &mut payloads).expect("room").mount;
    let bytes = payloads.finish().expect("room");
    let unpack = |mount: &handover::Mount| Unpacked::new(mount, bytes.as_slice(), &Arc::default());
    let good = unpack(&mount).expect("as packed");
    for (what, spoil) in [
        ("a chunk under headers that are not there", (|mount| mount.chunks[0].headers = 9) as fn(&mut handover::Mount)),
        ("a payload that is not there", |mount| mount.chunks[0].payload.len = 1 << 40),
        ("a payload beyond every number", |mount| mount.chunks[0].payload.at = u64::MAX),
        ("more times than chunks", |mount| mount.ring.times.push(7)),
        ("no end", |mount| mount.ring.oldest = u64::MAX),
        ("a cut in the future", |mount| mount.ring.flushed = 77),
        ("headers that end elsewhere", |mount| mount.headers[0].ends = vec![7]),
        ("headers that end before they begin", |mount| mount.headers[0].ends = vec![1, 0, 1]),
        ("a title of no bytes", |mount| mount.blocks.push(handover::Block::default())),
    ] {
        let mut mount = mount.clone();
        spoil(&mut mount);
        assert!(unpack(&mount).is_err(), "{what}");
    }
    for (what, cursor) in [
        ("in the future", handover::Cursor { at: 2, ..handover::Cursor::default() }),
        ("given what is not there", handover::Cursor { given: Some(3), ..handover::Cursor::default() }),
        ("in no chunk", handover::Cursor { flight: handover::Flight::Chunk(1, 0, 0), ..handover::Cursor::default() }),
        ("behind the end of its chunk", handover::Cursor { flight: handover::Flight::Chunk(0, 5, 0), ..handover::Cursor::default() }),
        (
            "behind the end of its headers",
            handover::Cursor { flight: handover::Flight::Headers(0, u64::MAX), ..handover::Cursor::default() },
        ),
    ] {
        assert!(Cursor::unpack(&cursor, &good).is_err(), "{what}");
    }
}
