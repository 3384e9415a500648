//! What is framed comes back, however it is cut; what is no frame is never taken for one.

use proptest::prelude::*;

use super::*;

const MOST: usize = 1000;

/// The frames in a stream that comes in pieces of `cut` bytes.
fn taken(stream: &[u8], cut: usize) -> (Vec<Frame>, Result<(), NotFrames>, bool) {
    let (mut decoder, mut frames) = (Decoder::new(MOST), Vec::new());
    for part in stream.chunks(cut.max(1)) {
        if let Err(error) = decoder.take(part, |frame| frames.push(frame)) {
            return (frames, Err(error), decoder.mid_frame());
        }
        assert!(decoder.held.len() <= MOST + NOTICE_MOST + HEAD, "more is held than is taken");
    }
    (frames, Ok(()), decoder.mid_frame())
}

fn written(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Epoch { instance, in_band, parts } => {
            put_epoch(&mut out, *instance, *in_band, parts.iter().map(|part| part.len()));
            out.extend(parts.concat());
        }
        Frame::Chunk(head, payload) => {
            put_chunk(&mut out, head, payload.len());
            assert_eq!(out.len(), CHUNK_PREFIX);
            out.extend_from_slice(payload);
        }
        Frame::Notice(said) => out.extend_from_slice(&notice(said)),
        Frame::EpochTooLarge => unreachable!("nobody writes it"),
    }
    out
}

fn bytes(most: usize) -> impl Strategy<Value = Box<[u8]>> {
    proptest::collection::vec(any::<u8>(), 0..most).prop_map(Into::into)
}

fn frames() -> impl Strategy<Value = Frame> {
    let stamps = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>());
    let head = (stamps, any::<(bool, bool, bool)>()).prop_map(|((place, time, pts, dts), (keyframe, discont, gap))| ChunkHead {
        place,
        time,
        pts,
        dts,
        keyframe,
        discont,
        gap,
    });
    let notice =
        [".{0,20}", ".{0,20}", ".{0,20}", ".{0,20}"].prop_map(|[media_type, artist, title, url]| Notice { media_type, artist, title, url });
    prop_oneof![
        (any::<u64>(), any::<bool>(), proptest::collection::vec(bytes(60), 0..5)).prop_map(|(instance, in_band, parts)| Frame::Epoch {
            instance,
            in_band,
            parts
        }),
        (head, bytes(300)).prop_map(|(head, payload)| Frame::Chunk(head, payload)),
        notice.prop_map(Frame::Notice),
    ]
}

#[test]
fn what_is_too_large_or_unknown_is_passed_over_and_not_held() {
    let chunk = |size| written(&Frame::Chunk(ChunkHead::default(), vec![7; size].into()));
    let epoch = written(&Frame::Epoch { instance: 1, in_band: false, parts: vec![vec![8; MOST + NOTICE_MOST].into()] });
    let mut unknown = Vec::new();
    put_head(&mut unknown, 99, 255, 5000);
    unknown.extend([9; 5000]);
    let fits = Frame::Chunk(ChunkHead::default(), vec![7; MOST].into());
    let stream = [chunk(MOST + 1), unknown, epoch, chunk(MOST)].concat();
    for cut in [1, 7, 4096, stream.len()] {
        assert_eq!(taken(&stream, cut), (vec![Frame::EpochTooLarge, fits.clone()], Ok(()), false), "cut every {cut}");
    }
}

#[test]
fn a_frame_that_contradicts_itself_ends_the_stream() {
    let mut short = Vec::new();
    put_head(&mut short, CHUNK, 0, 3);
    short.extend([0; 3]);
    let mut parts = written(&Frame::Epoch { instance: 1, in_band: true, parts: vec![vec![1; 4].into()] });
    parts[HEAD + 11] = 200; // parts that are not there
    let mut text = notice(&Notice { title: "x".into(), ..Notice::default() }).into_vec();
    *text.last_mut().expect("a byte") = 1; // the last text is longer than what is left
    for stream in [short, parts, text] {
        assert_eq!(taken(&stream, 5).1, Err(NotFrames), "{stream:?}");
    }
}

/// An epoch of so many parts of two bytes each.
fn epoch_of(parts: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_epoch(&mut out, 1, false, std::iter::repeat_n(2, parts));
    out.extend((0..parts).flat_map(|part| (part as u16).to_be_bytes()));
    out
}

#[test]
fn an_epoch_of_more_parts_than_one_may_have_is_no_frame() {
    let mut decoder = Decoder::new(1 << 20);
    for (parts, fits) in [(PARTS_MOST, true), (PARTS_MOST + 1, false), (200_000, false)] {
        // Each of them empty, so that it is their number alone that makes it large.
        let mut epoch = Vec::new();
        put_head(&mut epoch, EPOCH, 0, 12 + 4 * parts);
        epoch.extend(7_u64.to_be_bytes());
        epoch.extend((parts as u32).to_be_bytes());
        epoch.extend(vec![0; 4 * parts]);
        let mut found = 0;
        let taken = decoder.take(&epoch, |frame| found = if let Frame::Epoch { parts, .. } = frame { parts.len() } else { 0 });
        assert_eq!((taken, found), if fits { (Ok(()), parts) } else { (Err(NotFrames), 0) }, "{parts} parts");
    }
}

#[test]
fn of_streamheaders_in_too_many_parts_the_last_go_as_one() {
    for parts in [0, 1, PARTS_MOST - 1, PARTS_MOST, PARTS_MOST + 1, 3 * PARTS_MOST] {
        let mut frames = Vec::new();
        Decoder::new(1 << 20).take(&epoch_of(parts), |frame| frames.push(frame)).expect("frames");
        let [Frame::Epoch { parts: found, .. }] = &frames[..] else { panic!("{parts} parts became {frames:?}") };
        assert_eq!(found.len(), parts.min(PARTS_MOST));
        assert_eq!(found.concat(), (0..parts).flat_map(|part| (part as u16).to_be_bytes()).collect::<Vec<_>>(), "{parts} parts");
    }
}

#[test]
fn what_is_asked_for_is_read_as_it_was_written() {
    for (value, history, resume) in [
        ("1", None, None),
        ("1; history=5000ms,48B", Some("5s, 48B"), None),
        ("1; history=10us", Some("10us"), None),
        ("1; history=1500ms", Some("1500ms"), None),
        ("1; history=none", Some("none"), None),
        ("1; history=2h", Some("60s"), None),
        ("1; history=what; instance=00000000000000ff; next=12", None, Some((255, 12))),
        ("1;instance=ff", None, None),
        ("1; next=1; later=word; nonsense", None, None),
    ] {
        let want = Asked { history: history.map(|text| text.parse().expect(text)), resume };
        let found = Asked::parse(value).expect(value);
        assert_eq!(found, want, "{value}");
        assert_eq!(Asked::parse(&found.to_string()), Some(want), "{found}");
    }
    for value in ["", "2", "2; history=5s", "x"] {
        assert_eq!(Asked::parse(value), None, "{value}");
    }
}

proptest! {
    #[test]
    fn what_was_framed_comes_back_however_it_is_cut(frames in proptest::collection::vec(frames(), 0..12), cut in 1_usize..700) {
        let stream: Vec<u8> = frames.iter().flat_map(written).collect();
        prop_assert_eq!(taken(&stream, cut), (frames, Ok(()), false));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(stream in proptest::collection::vec(prop_oneof![0_u8..5, any::<u8>()], 0..400), cut in 1_usize..50) {
        let _ = taken(&stream, cut);
    }

    #[test]
    fn no_field_makes_it_panic(value in ".{0,80}") {
        let _ = (Asked::parse(&value), Asked::parse(&format!("1;{value}")));
    }
}
