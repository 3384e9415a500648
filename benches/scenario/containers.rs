//! The framers: streams of a megabyte, built here, in pieces as pipelines deliver them.

use std::hint::black_box;

use flumen::fanout::chunk::Marks;
use flumen::ingest::framing::{Framer, Piece};

use super::Run;

/// How much of a stream is framed in one run: the builders make a little more.
pub(crate) const KIB: u64 = 1024;

/// Frames this stream from its beginning, in these pieces.
fn framed(media: &'static str, mpegversion: Option<i32>, pieces: Vec<Vec<u8>>) -> Run {
    let whole = KIB as usize * 1024;
    let mut taken = 0;
    let cut = pieces.into_iter().map_while(move |mut piece| {
        piece.truncate(whole - taken);
        taken += piece.len();
        (!piece.is_empty()).then_some(piece)
    });
    let pieces: Vec<_> = cut.collect();
    assert_eq!(pieces.iter().map(Vec::len).sum::<usize>(), whole, "the stream is too short");
    Box::new(move || {
        let mut framer = Framer::for_media(media, mpegversion).expect("a framer");
        let mut out = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            framer.push(&Piece { data: piece, marks: Marks { pts: Some(i as u64), ..Marks::default() } }, &mut out);
            black_box(&out);
            out.clear();
        }
        assert_eq!(framer.skipped_bytes(), 0, "the stream is what it claims to be");
    })
}

/// MP3 of 128 kbit/s, a frame a buffer.
pub(crate) fn mp3() -> Run {
    let frame = |i: usize| [&[0xFF, 0xFB, 0x90, 0xC4], &[i as u8 & 0x7F; 413][..]].concat();
    framed("audio/mpeg", Some(1), (0..2600).map(frame).collect())
}

fn ogg_page(flags: u8, granule: u64, packets: &[&[u8]]) -> Vec<u8> {
    let lacing = packets.iter().flat_map(|packet| {
        let end = (packet.len() % 255) as u8;
        std::iter::repeat_n(255, packet.len() / 255).chain([end])
    });
    let lacing: Vec<u8> = lacing.collect();
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lacing.len() as u8]);
    page.extend(&lacing);
    packets.iter().for_each(|packet| page.extend(*packet));
    let crc = page.iter().fold(0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 })
    });
    page[22..26].copy_from_slice(&crc.to_le_bytes());
    page
}

/// Ogg Vorbis, a page of some 4 KB a buffer.
pub(crate) fn ogg() -> Run {
    let mut pages = vec![ogg_page(2, 0, &[b"\x01vorbis-identification"]), ogg_page(0, 0, &[b"\x03vorbis-comment", &[5; 3000]])];
    pages.extend((1..270).map(|i| ogg_page(0, i * 1024, &[&[i as u8; 400][..]; 10])));
    framed("application/ogg", None, pages)
}

fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_vec();
    bytes.extend((0x1000_0000 | body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// WebM with picture and sound: a cluster every two seconds, a block a buffer, as webmmux does.
pub(crate) fn webm() -> Run {
    let track = |number: u8, kind: u8| element(&[0xAE], &[element(&[0xD7], &[number]), element(&[0x83], &[kind])].concat());
    let head = [
        element(&[0x1A, 0x45, 0xDF, 0xA3], b"doctype"),
        vec![0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        element(&[0x15, 0x49, 0xA9, 0x66], b"info"),
        element(&[0x16, 0x54, 0xAE, 0x6B], &[track(1, 2), track(2, 1)].concat()),
    ];
    let mut pieces = vec![head.concat()];
    for cluster in 0..8_u8 {
        pieces.push([vec![0x1F, 0x43, 0xB6, 0x75, 0xFF], element(&[0xE7], &[cluster])].concat());
        for i in 0..50_u8 {
            let picture = [&[0x82, 0, i, if i == 0 { 0x80 } else { 0 }], &[i; 2500][..]].concat();
            let sound = [&[0x81, 0, i, 0x80], &[i; 300][..]].concat();
            pieces.extend([element(&[0xA3], &picture), element(&[0xA3], &sound)]);
        }
    }
    framed("video/webm", None, pieces)
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
    [&[0, table, 0xB0, (body.len() + 4) as u8], body, &[0; 4]].concat()
}

/// MPEG-TS, seven packets a buffer; tables and a keyframe every 400 packets.
pub(crate) fn ts() -> Run {
    let mut packets = Vec::new();
    for _ in 0..14 {
        packets.push(ts_packet(0, true, false, &ts_section(0, &[0, 1, 0xC1, 0, 0, 0, 1, 0xE0, 0x64])));
        let map = [0, 1, 0xC1, 0, 0, 0xE0, 0x65, 0xF0, 0, 0x1B, 0xE0, 0x65, 0xF0, 0, 0x0F, 0xE0, 0x66, 0xF0, 0];
        packets.push(ts_packet(0x64, true, false, &ts_section(2, &map)));
        for i in 0..398 {
            packets.push(match i % 8 {
                0 => ts_packet(0x65, true, i == 0, &[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0, 0, 0, 1, if i == 0 { 0x65 } else { 0x41 }, 9]),
                7 => ts_packet(0x66, true, true, b"\0\0\x01\xC0 sound"),
                _ => ts_packet(0x65, false, false, &[b'p'; 182]),
            });
        }
    }
    framed("video/mpegts", None, packets.chunks(7).map(<[_]>::concat).collect())
}
