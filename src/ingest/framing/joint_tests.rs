//! Links of chained streams, built here page by page.

use super::ogg::checksum;
use super::tests::ogg_page;
use super::*;
use crate::wire::tags;

/// One page with its number.
fn page(serial: u32, number: u32, flags: u8, time: u64, packets: &[&[u8]]) -> Vec<u8> {
    let mut page = ogg_page(serial, flags, time, packets, false);
    page[18..22].copy_from_slice(&number.to_le_bytes());
    let sum = checksum(&page);
    page[22..26].copy_from_slice(&sum);
    page
}

fn comments(title: &str) -> Vec<u8> {
    let comment = format!("TITLE={title}");
    [b"OpusTags\0\0\0\0\x01\0\0\0".to_vec(), vec![comment.len() as u8, 0, 0, 0], comment.into_bytes()].concat()
}

/// A link with four pages of data, the last of which ends it.
fn link(serial: u32, head: &[u8], title: &str) -> Vec<u8> {
    let mut stream = page(serial, 0, 2, 0, &[head]);
    stream.extend(page(serial, 1, 0, 0, &[&comments(title)]));
    for i in 0..4 {
        let time = if i == 1 { u64::MAX } else { 960 * (u64::from(i) + 1) };
        stream.extend(page(serial, 2 + i, if i == 3 { 4 } else { 0 }, time, &[&[i as u8; 100], title.as_bytes()]));
    }
    stream
}

fn join(stream: &[u8], size: usize) -> Vec<Framed> {
    let mut framer = Framer::for_media("audio/ogg", None).expect("a framer").joining_links(true);
    let mut out = Vec::new();
    for data in stream.chunks(size) {
        framer.push(&Piece { data, marks: Marks::default() }, &mut out);
    }
    assert_eq!(framer.skipped_bytes(), 0);
    out
}

/// Serial, number, time and flags of each page of data; every checksum holds.
fn data(framed: &[Framed]) -> Vec<(u32, u32, u64, u8)> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let units = framed.iter().filter_map(|item| if let Framed::Unit { data, .. } = item { Some(data) } else { None });
    units
        .map(|page| {
            assert_eq!(page[22..26], checksum(page));
            (word(&page[14..18]), word(&page[18..22]), u64::from_le_bytes(page[6..14].try_into().expect("eight bytes")), page[5])
        })
        .collect()
}

fn headers(framed: &[Framed]) -> Vec<(bool, u32, Option<String>)> {
    let sets = framed.iter().filter_map(|item| if let Framed::Headers { parts, in_band } = item { Some((parts, *in_band)) } else { None });
    sets.map(|(parts, in_band)| {
        parts.iter().for_each(|page| assert_eq!(page[22..26], checksum(page)));
        let serial = u32::from_le_bytes(parts[0][14..18].try_into().expect("four bytes"));
        assert!(parts.iter().all(|page| page[14..18] == serial.to_le_bytes()));
        (in_band, serial, tags::of_ogg(parts).and_then(|tags| tags.title))
    })
    .collect()
}

#[test]
fn links_of_one_encoder_become_one_stream() {
    let stream = [link(7, b"OpusHead 1", "One"), link(8, b"OpusHead 1", "Two"), link(9, b"OpusHead 1", "Three")].concat();
    for size in [usize::MAX, 100, 1] {
        let framed = join(&stream, size);
        let title = |text: &str| Some(text.to_owned());
        assert_eq!(headers(&framed), [(false, 7, title("One")), (true, 7, title("Two")), (true, 7, title("Three"))]);
        let pages = data(&framed);
        assert_eq!(pages.len(), 12);
        for (i, &(serial, number, time, flags)) in (0..).zip(&pages) {
            assert_eq!((serial, number, flags), (7, 2 + i, 0), "page {i}");
            let want = if i % 4 == 1 { u64::MAX } else { 960 * (u64::from(i) + 1) };
            assert_eq!(time, want, "page {i}: time goes on");
        }
    }
}

#[test]
fn a_link_that_differs_is_passed_on_and_later_ones_are_joined_to_it() {
    let stream = [
        link(7, b"OpusHead 1", "One"),
        link(8, b"OpusHead 2", "Two"),
        link(9, b"OpusHead 2", "Three"),
        link(10, b"unknown", "Four"),
        link(11, b"unknown", "Five"),
    ];
    let framed = join(&stream.concat(), 4096);
    let bands: Vec<_> = headers(&framed).into_iter().map(|(in_band, serial, _)| (in_band, serial)).collect();
    assert_eq!(bands, [(false, 7), (false, 8), (true, 8), (false, 10), (false, 11)]);
    let serials: Vec<_> = data(&framed).chunks(4).map(|pages| (pages[0].0, pages[0].1, pages[0].2)).collect();
    assert_eq!(serials, [(7, 2, 960), (8, 2, 960), (8, 6, 4800), (10, 2, 960), (11, 2, 960)]);
    let flags: Vec<_> = data(&framed).chunks(4).map(|pages| pages[3].3).collect();
    assert_eq!(flags, [0, 0, 0, 4, 4], "what cannot be joined is as it was");
}

#[test]
fn pages_that_were_lost_are_missed_in_a_joined_link_too() {
    let (first, second) = (link(7, b"OpusHead 1", "One"), link(8, b"OpusHead 1", "Two"));
    let lost = page(8, 3, 0, u64::MAX, &[&[1; 100], b"Two"]).len();
    let at = second.len() - 3 * lost;
    let stream = [&first[..], &second[..at], &second[at + lost..]].concat();
    let numbers: Vec<_> = data(&join(&stream, 333)).into_iter().map(|page| page.1).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 8, 9]);
}
