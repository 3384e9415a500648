//! Extents, lags, copies and costs, by rings that can be read with a finger.

use super::*;
use crate::fanout::testing::{chunk, chunk_under, ring_of, seq};

#[test]
fn extents_are_exact_in_every_unit() {
    // Ten chunks of 16 bytes, 20 ms apart.
    let ring = ring_of("K....K....");
    let end = ring.next();
    for (extent, within, reaching) in [
        ("0 chunks", 10, Some(10)),
        ("1 chunk", 9, Some(9)),
        ("10 chunks", 0, Some(0)),
        ("11 chunks", 0, None),
        ("15B", 10, Some(9)), // one chunk is too much, and one chunk reaches it
        ("16B", 9, Some(9)),
        ("17B", 9, Some(8)),
        ("160B", 0, Some(0)),
        ("161B", 0, None),
        ("0s", 9, Some(9)), // from a chunk to itself no time passes
        ("19ms", 9, Some(8)),
        ("20ms", 8, Some(8)),
        ("180ms", 0, Some(0)),
        ("181ms", 0, None),
    ] {
        let extents: Extents = extent.parse().expect(extent);
        assert_eq!(ring.within(&extents, end), seq(within), "within {extent}");
        assert_eq!(ring.reaching(&extents, end), reaching.map(seq), "reaching {extent}");
    }
}

#[test]
fn a_list_is_all_of_it_as_minimum_and_none_passed_as_maximum() {
    let ring = ring_of("K....K....");
    let both: Extents = "3 chunks, 100ms".parse().expect("a list");
    assert_eq!(ring.reaching(&both, ring.next()), Some(seq(4)), "100 ms reach further back than 3 chunks");
    assert_eq!(ring.within(&both, ring.next()), seq(7), "3 chunks are passed before 100 ms");
}

#[test]
fn extents_can_be_asked_as_of_an_earlier_chunk() {
    let ring = ring_of("K....K....");
    for extent in ["3 chunks", "48B", "40ms"] {
        let extents: Extents = extent.parse().expect(extent);
        for upto in 3..=10 {
            assert_eq!(ring.within(&extents, seq(upto)), seq(upto - 3), "{extent} before {upto}");
            assert_eq!(ring.reaching(&extents, seq(upto)), Some(seq(upto - 3)), "{extent} before {upto}");
        }
    }
}

#[test]
fn lag_is_what_waits() {
    let ring = ring_of("K....K....");
    assert_eq!(ring.lag(seq(7)), Lag { chunks: 3, bytes: 48, time: Duration::from_millis(40) });
    assert_eq!(ring.lag(seq(10)), Lag::default());
    assert_eq!(ring.lag(seq(12)), Lag::default(), "nobody is behind what has not come");
}

#[test]
fn a_reader_is_where_its_bytes_have_brought_it() {
    let mut ring = Ring::default();
    for (i, payload) in ["", "aaa", "", "bb", "", "", "c", ""].into_iter().enumerate() {
        ring.push(chunk(payload.as_bytes(), true), i as u64);
    }
    ring.trim(seq(1));
    let places = [(0, (1, 0)), (1, (1, 1)), (2, (1, 2)), (3, (3, 0)), (4, (3, 1)), (5, (6, 0)), (6, (8, 0))];
    for (taken, (place, part)) in places {
        assert_eq!(ring.after(seq(1), taken, ring.next()), (seq(place), part), "{taken} bytes");
    }
    assert_eq!(ring.after(seq(3), 2, seq(5)), (seq(5), 0), "no further than it may");
    assert_eq!(ring.chunks(seq(3), seq(5)).count(), 2);
    assert_eq!(ring.chunks(seq(6), seq(20)).count(), 2, "those that have come");
    assert_eq!(ring.chunks(seq(0), seq(5)).count(), 0, "who asks for what is gone gets no run with a hole in front");
}

#[test]
fn headers_are_shared_from_where_they_changed() {
    let (old, new) = (Headers::new(&["A"], false, &Arc::default()), Headers::new(&["A"], false, &Arc::default()));
    let mut ring = Ring::default();
    for headers in [&old, &old, &new, &new] {
        ring.push(chunk_under(headers, b"x", true), 0);
    }
    let shared: Vec<_> = (0..5).map(|at| ring.shares_headers(seq(at), &new)).collect();
    assert_eq!(shared, [false, false, true, true, true], "the same bytes are another set");
    assert!(!ring.shares_headers(seq(0), &old), "a newer set comes further on");
    let mut copy = Ring::default();
    copy.follow(&ring);
    copy.trim(seq(3));
    assert!(copy.shares_headers(seq(3), &new) && !copy.shares_headers(seq(2), &new));
    ring.flush();
    assert!(!ring.shares_headers(seq(4), &new), "nothing is held");
    ring.push(chunk_under(&new, b"x", true), 0);
    assert!(ring.shares_headers(seq(4), &new));
}

#[test]
fn what_is_trimmed_is_gone_and_numbers_go_on() {
    let mut ring = ring_of("K..K..");
    ring.trim(seq(2));
    assert!(matches!(ring.look(seq(1)), Lookup::Gone));
    assert!(matches!(ring.look(seq(2)), Lookup::Held(_)));
    assert!(matches!(ring.look(seq(6)), Lookup::NotYet));
    assert_eq!((ring.len(), ring.bytes(), ring.keyframe_at_or_after(seq(0))), (4, 64, Some(seq(3))));
    ring.flush();
    assert_eq!((ring.len(), ring.bytes(), ring.cost(), ring.next(), ring.flushed()), (0, 0, 0, seq(6), seq(6)));
}

#[test]
fn a_copy_follows_even_when_it_was_away_for_long() {
    let mut original = ring_of("K..K");
    let mut copy = Ring::default();
    copy.follow(&original);
    assert_eq!((copy.oldest(), copy.next(), copy.bytes()), (seq(0), seq(4), 64));
    original.trim(seq(3));
    copy.follow(&original);
    assert_eq!(copy.oldest(), seq(0), "old chunks stay until the copy is trimmed");
    for i in 0..6 {
        original.push(chunk(b"0123456789abcdef", i % 3 == 0), 1_000_000_000 + i);
    }
    original.trim(seq(8));
    copy.follow(&original);
    assert_eq!(
        (copy.oldest(), copy.next(), copy.bytes(), copy.cost()),
        (seq(8), seq(10), 32, original.cost()),
        "a copy with a hole starts anew"
    );
    original.flush();
    copy.follow(&original);
    assert_eq!((copy.oldest(), copy.next(), copy.flushed()), (seq(10), seq(10), seq(10)));
}

#[test]
fn a_set_of_streamheaders_costs_once_for_the_run_of_chunks_that_need_it() {
    use crate::fanout::streamheader::Headers;
    use crate::fanout::testing::chunk_under;
    let sets: Vec<_> = [100, 1000, 7].map(|size| Headers::new(&[vec![b'h'; size]], false, &Arc::default())).into();
    let mut ring = Ring::default();
    for set in [0, 0, 1, 1, 1, 0, 2] {
        ring.push(chunk_under(&sets[set], b"0123456789abcdef", true), 0);
    }
    let of_chunks = |count: u64| count * (16 + crate::fanout::chunk::OVERHEAD_BYTES);
    // Runs of the sets of 100, 1000, 100 and 7 bytes, and which of them begin the ring.
    let costs = [0, 1, 0, 2].map(|set: usize| sets[set].cost());
    for (from, runs) in [(0, 0..4), (1, 0..4), (2, 1..4), (4, 1..4), (5, 2..4), (6, 3..4), (7, 4..4)] {
        ring.trim(seq(from));
        assert_eq!(ring.cost(), of_chunks(7 - from) + costs[runs].iter().sum::<u64>(), "from {from}");
    }
}

#[test]
fn the_rate_is_that_of_the_stream() {
    assert_eq!(ring_of("K").bytes_per_second(), None);
    let rate = ring_of(&"K".repeat(101)).bytes_per_second().expect("two seconds are enough");
    assert!((rate - 800.0).abs() < 0.001, "16 B each 20 ms: {rate}");
    let mut after_outage = ring_of(&"K".repeat(101));
    for i in 0..30 {
        after_outage.push(crate::fanout::testing::chunk(b"0123456789abcdef", true), 3_600_000_000_000 + i * 40_000_000);
        match after_outage.bytes_per_second() {
            None => assert!(i < 13, "half a second is enough"),
            Some(rate) => assert!(i >= 13 && (rate - 400.0).abs() < 0.001, "16 B each 40 ms: {rate}"),
        }
    }
}
