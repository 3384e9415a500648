//! What every framer promises, on streams built here byte by byte.

use proptest::prelude::*;

use super::*;

/// Headers (a set at a time) and units of a stream that comes in pieces of these sizes.
fn frame(media: (&str, Option<i32>), stream: &[u8], sizes: &[usize]) -> (Vec<Framed>, u64) {
    let mut framer = Framer::for_media(media.0, media.1).expect("a framer");
    let (mut out, mut rest, mut i) = (Vec::new(), stream, 0);
    while !rest.is_empty() {
        let size = sizes[i % sizes.len()].clamp(1, rest.len());
        framer.push(&Piece { data: &rest[..size], marks: Marks { pts: Some(i as u64), discont: i == 0, ..Marks::default() } }, &mut out);
        (rest, i) = (&rest[size..], i + 1);
    }
    framer.finish(&mut out);
    (out, framer.skipped_bytes())
}

/// The bytes of a stream as a listener sees them from the very beginning, and the places where others may start.
fn flatten(framed: &[Framed]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for item in framed {
        match item {
            Framed::Headers { parts, in_band: false } => parts.iter().for_each(|part| bytes.extend_from_slice(part)),
            Framed::Headers { in_band: true, .. } => {}
            Framed::Unit { data, marks } => {
                if marks.keyframe {
                    starts.push(bytes.len());
                }
                bytes.extend_from_slice(data);
            }
        }
    }
    (bytes, starts)
}

pub(super) fn ogg_page(serial: u32, flags: u8, granule: u64, packets: &[&[u8]], open_end: bool) -> Vec<u8> {
    let mut lacing = Vec::new();
    for (i, packet) in packets.iter().enumerate() {
        lacing.extend(std::iter::repeat_n(255, packet.len() / 255));
        if !(open_end && i == packets.len() - 1) {
            lacing.push((packet.len() % 255) as u8);
        }
    }
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend([0; 8]);
    page.push(lacing.len() as u8);
    page.extend(&lacing);
    packets.iter().for_each(|packet| page.extend(*packet));
    // Bit by bit, so that the table is checked by something else.
    let crc = page.iter().fold(0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 })
    });
    page[22..26].copy_from_slice(&crc.to_le_bytes());
    page
}

fn vorbis(serial: u32, pages: u64) -> Vec<u8> {
    let mut stream = ogg_page(serial, 2, 0, &[b"\x01vorbis-identification"], false);
    stream.extend(ogg_page(serial, 0, 0, &[b"\x03vorbis-comment", &[5; 600]], false));
    for i in 1..=pages {
        let (continued, open) = (u8::from(i % 4 == 0), i % 4 == 3);
        let last: &[u8] = if open { &[9; 255] } else { b"second" };
        stream.extend(ogg_page(serial, continued, i * 1000, &[&[i as u8; 255], last], open));
    }
    stream
}

fn theora() -> Vec<u8> {
    let mut stream = ogg_page(1, 2, 0, &[b"\x80theora-identification"], false);
    stream.extend(ogg_page(2, 2, 0, &[b"OpusHead-and-so-on"], false));
    stream.extend(ogg_page(1, 0, 0, &[b"\x81theora-comment", b"\x82theora-setup"], false));
    stream.extend(ogg_page(2, 0, 0, &[b"OpusTags"], false));
    for i in 0..12_u64 {
        let picture: &[u8] = if i % 4 == 0 { b"\x30key" } else { b"\x70delta" };
        stream.extend(ogg_page(1, 0, i + 1, &[picture], false));
        stream.extend(ogg_page(2, 0, i * 960 + 1, &[b"sound"], false));
    }
    stream
}

fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_vec();
    bytes.extend((0x1000_0000 | body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn webm(video: bool) -> Vec<u8> {
    let track = |number: u8, kind: u8| element(&[0xAE], &[element(&[0xD7], &[number]), element(&[0x83], &[kind])].concat());
    let tracks = if video { [track(1, 2), track(2, 1)].concat() } else { track(1, 2) };
    let mut stream = element(&[0x1A, 0x45, 0xDF, 0xA3], b"doctype");
    stream.extend([0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    stream.extend(element(&[0x15, 0x49, 0xA9, 0x66], b"info"));
    stream.extend(element(&[0x16, 0x54, 0xAE, 0x6B], &tracks));
    for cluster in 0..4_u8 {
        stream.extend([0x1F, 0x43, 0xB6, 0x75, 0xFF]);
        stream.extend(element(&[0xE7], &[cluster]));
        for i in 0..5_u8 {
            stream.extend(element(&[0xA3], &[0x81, 0, i, 0x80, b'a', b'u', i]));
            if video {
                let key = i == 0 && cluster % 2 == 0;
                stream.extend(element(&[0xA3], &[0x82, 0, i, if key { 0x80 } else { 0 }, b'v', b'i', i]));
            }
        }
    }
    stream
}

fn flv_tag(kind: u8, data: &[u8]) -> Vec<u8> {
    let size = data.len() as u32;
    let mut tag = vec![kind];
    tag.extend(&size.to_be_bytes()[1..]);
    tag.extend([0, 0, 0, 0, 0, 0, 0]);
    tag.extend(data);
    tag.extend((size + 11).to_be_bytes());
    tag
}

fn flv(video: bool) -> Vec<u8> {
    let mut stream = b"FLV\x01".to_vec();
    stream.extend([4 | u8::from(video), 0, 0, 0, 9, 0, 0, 0, 0]);
    stream.extend(flv_tag(18, b"onMetaData"));
    if video {
        stream.extend(flv_tag(9, &[0x17, 0, 0, 0, 0, 1]));
    }
    stream.extend(flv_tag(8, &[0xAF, 0, 0x12]));
    for i in 0..9_u8 {
        if video {
            stream.extend(flv_tag(9, &[if i % 3 == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0, i]));
        }
        stream.extend(flv_tag(8, &[0xAF, 1, i]));
    }
    stream
}

fn ts_packet(pid: u16, begins: bool, random: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x47, u8::from(begins) << 6 | (pid >> 8) as u8, pid as u8, 0x30];
    let stuffing = 188 - 5 - payload.len();
    packet.push(stuffing as u8);
    packet.push(if random { 0x40 } else { 0 });
    packet.extend(std::iter::repeat_n(0xFF, stuffing - 1));
    packet.extend(payload);
    packet
}

fn ts_section(table: u8, body: &[u8]) -> Vec<u8> {
    let mut section = vec![0, table, 0xB0, (body.len() + 4) as u8];
    section.extend(body);
    section.extend([0; 4]);
    section
}

fn ts(marked: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    for i in 0..10 {
        let key = i % 3 == 0;
        if key {
            stream.extend(ts_packet(0, true, false, &ts_section(0, &[0, 1, 0xC1, 0, 0, 0, 1, 0xE0, 0x64])));
            stream.extend(ts_packet(
                0x64,
                true,
                false,
                &ts_section(2, &[0, 1, 0xC1, 0, 0, 0xE0, 0x65, 0xF0, 0, 0x1B, 0xE0, 0x65, 0xF0, 0, 0x0F, 0xE0, 0x66, 0xF0, 0]),
            ));
        }
        let nal = if key { 0x65 } else { 0x41 };
        stream.extend(ts_packet(0x65, true, marked && key, &[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0, 0, 0, 1, nal, 9]));
        stream.extend(ts_packet(0x65, false, false, b"more picture"));
        stream.extend(ts_packet(0x66, true, true, b"\0\0\x01\xC0 sound"));
    }
    stream
}

fn mp3() -> Vec<u8> {
    (0..20_u8).flat_map(|i| [vec![0xFF, 0xFB, 0x90 | (i % 2) << 1, 0xC4], vec![i & 0x7F; 413 + usize::from(i % 2)]].concat()).collect()
}

fn adts() -> Vec<u8> {
    (0..20_usize)
        .flat_map(|i| {
            let length = 200 + i;
            [
                vec![0xFF, 0xF1, 0x50, 0x80 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8 | 0x1F, 0xFC],
                vec![i as u8; length - 7],
            ]
            .concat()
        })
        .collect()
}

fn wav() -> Vec<u8> {
    let mut stream =
        b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xAC\0\0\x10\xB1\x02\0\x04\0\x10\0data\xFF\xFF\xFF\xFF".to_vec();
    stream.extend((0..4000_u32).map(|i| i as u8));
    stream
}

type Case = (&'static str, (&'static str, Option<i32>), Vec<u8>, usize);

/// Every container, with how many places to start its stream has.
/// Frames that hold what looks like the header of another.
fn flac(frames: u8) -> Vec<u8> {
    // Bit by bit, so that the table is checked by something else.
    let crc = |bytes: &[u8], bits: u32, polynomial: u32| {
        bytes.iter().fold(0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte) << (bits - 8), |crc, _| {
                let shifted = crc << 1 & ((1 << bits) - 1);
                if crc >> (bits - 1) == 1 { shifted ^ polynomial } else { shifted }
            })
        })
    };
    let header = |number: u8| {
        let mut header = vec![0xFF, 0xF8, 0xC9, 0x18, number];
        header.push(crc(&header, 8, 0x07) as u8);
        header
    };
    let mut stream = b"fLaC\0\0\0\x22".to_vec();
    stream.extend([7; 34]);
    stream.extend(b"\x84\0\0\x05hello");
    for number in 0..frames {
        let mut frame = [header(number), vec![number; 60], header(99), vec![0xFF; 50]].concat();
        frame.extend((crc(&frame, 16, 0x8005) as u16).to_be_bytes());
        stream.extend(frame);
    }
    stream
}

fn cases() -> Vec<Case> {
    vec![
        ("vorbis", ("application/ogg", None), vorbis(7, 20), 15),
        ("chained vorbis", ("application/ogg", None), [vorbis(7, 4), vorbis(8, 4)].concat(), 6),
        ("theora and opus", ("video/ogg", None), theora(), 3),
        ("webm", ("video/webm", None), webm(true), 2),
        ("webm, sound only", ("audio/webm", None), webm(false), 4),
        ("two webm streams", ("video/webm", None), [webm(true), webm(true)].concat(), 4),
        ("asf", ("video/x-ms-asf", None), asf::example(), 3),
        ("flac", ("audio/x-flac", None), flac(9), 9),
        ("flv", ("video/x-flv", None), flv(true), 3),
        ("flv, sound only", ("video/x-flv", None), flv(false), 9),
        ("ts, marked", ("video/mpegts", None), ts(true), 4),
        ("ts, not marked", ("video/mpegts", None), ts(false), 4),
        ("mp3", ("audio/mpeg", Some(1)), mp3(), 20),
        ("adts", ("audio/mpeg", Some(4)), adts(), 20),
    ]
}

#[test]
fn however_a_stream_is_cut_bytes_and_starts_are_the_same() {
    for (name, media, stream, starts) in cases() {
        let (whole, places) = flatten(&frame(media, &stream, &[usize::MAX]).0);
        assert!(whole == stream, "{name}: bytes differ");
        assert_eq!(places.len(), starts, "{name}: {places:?}");
        for sizes in [&[1][..], &[2], &[7, 300], &[188], &[187, 1], &[4096]] {
            let (framed, skipped) = frame(media, &stream, sizes);
            assert!(flatten(&framed) == (whole.clone(), places.clone()), "{name} in pieces of {sizes:?}");
            assert_eq!(skipped, 0, "{name} in pieces of {sizes:?}");
        }
    }
    let (framed, _) = frame(("audio/x-wav", None), &wav(), &[100, 3]);
    assert_eq!(flatten(&framed).0, wav());
    assert!(matches!(&framed[0], Framed::Headers { parts, in_band: false } if parts[0].len() == 44));
    let whole_frames = |item: &Framed| matches!(item, Framed::Unit { data, marks } if marks.keyframe && data.len() % 4 == 0);
    assert!(framed[1..].iter().all(whole_frames), "samples are never torn");
}

/// What comes out where one framer is followed by another, which goes on at this byte.
fn in_two(media: (&str, Option<i32>), join: bool, stream: &[u8], at: usize) -> Vec<Framed> {
    let new = || Framer::for_media(media.0, media.1).expect("a framer").joining_links(join);
    let (mut framer, mut out) = (new(), Vec::new());
    framer.push(&Piece { data: &stream[..at], marks: Marks::default() }, &mut out);
    let (state, held) = framer.pack().expect("plain data");
    let state = serde_json::from_str(&state.to_string()).expect("as it was written");
    let mut heir = new().resumed(state, held).expect("understood");
    heir.push(&Piece { data: &stream[at..], marks: Marks::default() }, &mut out);
    heir.finish(&mut out);
    out
}

#[test]
fn a_framer_goes_on_where_another_stood_after_whatever_byte() {
    let more = [("wav", ("audio/x-wav", None), wav(), 0)];
    for (name, media, stream, _) in cases().into_iter().chain(more) {
        for join in [false, true] {
            let whole = flatten(&in_two(media, join, &stream, 0));
            for at in 1..stream.len() {
                let (bytes, starts) = flatten(&in_two(media, join, &stream, at));
                assert!(bytes == whole.0, "{name}: bytes differ that are cut at {at}");
                assert!(name == "wav" || starts == whole.1, "{name}: places to start differ that are cut at {at}");
            }
        }
    }
    let framer = Framer::for_media("application/ogg", None).expect("a framer");
    assert!(framer.resumed(serde_json::json!({ "streams": "the moon is full" }), Vec::new()).is_err());
}

#[test]
fn every_stream_is_recognised_by_its_own_framer_and_by_no_other() {
    for (name, media, stream, _) in cases() {
        for (other, other_media, ..) in cases() {
            let framer = Framer::for_media(other_media.0, other_media.1).expect("a framer");
            let same = framer.container_name() == Framer::for_media(media.0, media.1).expect("a framer").container_name();
            let mut start = stream.clone();
            start.resize(64 * 1024, 0);
            assert_eq!(framer.recognises(&start) == Recognition::Yes, same, "{name} by {other}");
            assert_ne!(framer.recognises(&start), Recognition::NeedMore, "{name} by {other}: it must decide");
            if same {
                assert_eq!(framer.recognises(&stream[..2]), Recognition::NeedMore, "{name}");
            }
        }
    }
}

impl Framer {
    fn container_name(&self) -> &'static str {
        match &self.container {
            Container::Asf(_) => "asf",
            Container::Ogg(_) => "ogg",
            Container::Ebml(_) => "ebml",
            Container::Flac(_) => "flac",
            Container::Flv(_) => "flv",
            Container::Ts(_) => "ts",
            // By what it does: an optimised build may have one function at several addresses.
            Container::Frames(frames) if frames.length_function()(&[0xFF, 0xFB, 0x90, 0, 0, 0, 0]).is_some() => "mpeg",
            Container::Frames(_) => "adts",
            Container::Wav(_) => "wav",
        }
    }
}

#[test]
fn headers_are_complete_and_chained_ones_come_at_the_boundary() {
    let sets = |framed: &[Framed]| framed.iter().filter(|item| matches!(item, Framed::Headers { .. })).count();
    let (framed, _) = frame(("application/ogg", None), &[vorbis(7, 4), vorbis(8, 4)].concat(), &[100]);
    assert_eq!(sets(&framed), 2);
    let at = framed.iter().rposition(|item| matches!(item, Framed::Headers { .. })).expect("headers");
    assert_eq!(framed.len() - at - 1, 4, "four pages after the second set");
    let (framed, _) = frame(("video/mpegts", None), &ts(true), &[188]);
    assert!(matches!(&framed[0], Framed::Headers { parts, .. } if parts.len() == 1), "PAT");
    assert!(framed.iter().any(|item| matches!(item, Framed::Headers { parts, in_band: true } if parts.len() == 2)), "PAT and PMT");
    let (framed, _) =
        frame(("video/x-flv", None), &[flv(true), flv_tag(9, &[0x17, 0, 0, 0, 0, 2]), flv_tag(8, &[0xAF, 1, 0])].concat(), &[50]);
    assert!(
        framed.iter().any(|item| matches!(item, Framed::Headers { parts, in_band: true } if parts.len() == 4)),
        "a new configuration, for newcomers"
    );
}

#[test]
fn a_stamp_is_given_to_the_first_unit_that_begins_in_its_piece() {
    let stamps = |sizes: &[usize]| -> Vec<Option<u64>> {
        let (framed, _) = frame(("audio/mpeg", Some(1)), &mp3()[..417 * 2 + 418], sizes);
        framed.iter().filter_map(|item| if let Framed::Unit { marks, .. } = item { Some(marks.pts) } else { None }).collect()
    };
    assert_eq!(stamps(&[usize::MAX]), [Some(0), None, None]);
    assert_eq!(stamps(&[417, 418, 417]), [Some(0), Some(1), Some(2)]);
    assert_eq!(stamps(&[400]), [Some(0), Some(1), Some(2)]);
}

#[test]
fn lying_lengths_are_skipped_and_the_stream_goes_on_behind_them() {
    type Mended = (&'static str, (&'static str, Option<i32>), Vec<u8>, Vec<u8>);
    let cases: [Mended; 6] = [
        ("ogg page with a wrong checksum", ("application/ogg", None), [b"OggS\0\0".to_vec(), vec![1; 400]].concat(), vorbis(7, 8)),
        ("ebml element of 2^56 bytes", ("video/webm", None), vec![0xEC, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE], webm(true)),
        ("flv tag of 16 MB", ("video/x-flv", None), [vec![9, 0xFF, 0xFF, 0xFF], vec![0; 20]].concat(), flv(true)),
        ("ts without sync", ("video/mpegts", None), vec![0x11; 300], ts(true)),
        ("adts of length zero", ("audio/mpeg", Some(4)), vec![0xFF, 0xF1, 0x50, 0x80, 0, 0x1F, 0xFC], adts()),
        ("mp3 with rubbish", ("audio/mpeg", Some(1)), vec![0xFF, 0xFB, 0, 0, 0xFF, 0xFF, 0xFF], mp3()),
    ];
    for (name, media, rubbish, stream) in cases {
        for sizes in [&[usize::MAX][..], &[1], &[50]] {
            let before = flatten(&frame(media, &stream, &[usize::MAX]).0).1.len();
            let (framed, skipped) = frame(media, &[stream.clone(), rubbish.clone(), stream.clone()].concat(), sizes);
            let starts = flatten(&framed).1.len();
            assert!(starts + 1 >= 2 * before, "{name} in pieces of {sizes:?}: {starts} of {} starts", 2 * before);
            assert!(skipped >= 1, "{name}: counted");
        }
    }
}

#[test]
fn after_a_gap_the_next_beginning_is_found() {
    for (name, media, stream, starts) in cases() {
        let mut framer = Framer::for_media(media.0, media.1).expect("a framer");
        let mut out = Vec::new();
        let half = stream.len() / 2;
        framer.push(&Piece { data: &stream[..half], marks: Marks::default() }, &mut out);
        framer.gap();
        framer.push(&Piece { data: &stream[half + 33..], marks: Marks { discont: true, ..Marks::default() } }, &mut out);
        framer.finish(&mut out);
        let found = flatten(&out).1.len();
        assert!(found + 3 >= starts, "{name}: {found} of {starts} starts");
    }
}

proptest! {
    /// Whatever comes, nothing panics, and what is held is bounded by what came.
    #[test]
    fn no_bytes_make_a_framer_panic(which in 0usize..13, cut in 0usize..4000, noise in proptest::collection::vec(any::<u8>(), 0..600), flips in proptest::collection::vec((0usize..6000, any::<u8>()), 0..20), size in 1usize..700) {
        let (_, media, mut stream, _) = cases().swap_remove(which);
        let cut = cut.min(stream.len());
        stream.splice(cut..cut, noise);
        for (at, byte) in flips {
            let at = at % stream.len();
            stream[at] = byte;
        }
        let (framed, skipped) = frame(media, &stream, &[size]);
        let given: usize = framed.iter().map(|item| if let Framed::Unit { data, .. } = item { data.len() } else { 0 }).sum();
        prop_assert!(given as u64 + skipped <= stream.len() as u64);
    }
}
