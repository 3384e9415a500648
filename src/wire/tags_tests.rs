//! Tags written here byte by byte, as muxers and taggers write them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn tags(artist: Option<&str>, title: Option<&str>) -> Tags {
    Tags { artist: artist.map(Into::into), title: title.map(Into::into) }
}

fn counted(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text].concat()
}

fn comments(list: &[&[u8]]) -> Vec<u8> {
    let mut bytes = counted(b"a vendor");
    bytes.extend((list.len() as u32).to_le_bytes());
    list.iter().for_each(|comment| bytes.extend(counted(comment)));
    bytes
}

/// Pages of one logical stream with these packets, each page with at most so many lacing values.
fn pages(serial: u8, packets: &[Vec<u8>], most: usize) -> Vec<Vec<u8>> {
    let mut lacing: Vec<(u8, Vec<u8>)> = Vec::new();
    for packet in packets {
        packet.chunks(255).for_each(|part| lacing.push((part.len() as u8, part.to_vec())));
        if packet.len().is_multiple_of(255) {
            lacing.push((0, Vec::new()));
        }
    }
    let page = |part: &[(u8, Vec<u8>)]| {
        let mut page = b"OggS\0\0".to_vec();
        page.extend([0; 8]);
        page.extend([serial, 0, 0, 0]);
        page.extend([0; 8]);
        page.push(part.len() as u8);
        part.iter().for_each(|(size, _)| page.push(*size));
        part.iter().for_each(|(_, bytes)| page.extend(bytes));
        page
    };
    lacing.chunks(most).map(page).collect()
}

fn codec(first: &[u8], prefix: &[u8], list: &[&[u8]]) -> Vec<Vec<u8>> {
    vec![first.to_vec(), [prefix, &comments(list)].concat(), b"setup".to_vec()]
}

#[test]
fn ogg_comments_are_found_whatever_the_codec_and_however_pages_are_cut() {
    let list: &[&[u8]] = &[b"ENCODER=x", b"artist=A", b"Title=T \xC3\xBC", b"TITLE=second"];
    let flac = [b"\x7FFLAC\x01\0\0\x02".to_vec(), vec![0; 40]].concat();
    for (name, packets) in [
        ("vorbis", codec(b"\x01vorbis...", b"\x03vorbis", list)),
        ("opus", codec(b"OpusHead...", b"OpusTags", list)),
        ("theora", codec(b"\x80theora...", b"\x81theora", list)),
        ("vp8", codec(b"OVP80\x01...", b"OVP80\x02 ", list)),
        ("flac", codec(&flac, &[0x84, 0, 0, 99], list)),
        ("speex", codec(b"Speex   1.2", b"", list)),
    ] {
        for most in [255, 3, 1] {
            assert_eq!(of_ogg(&pages(7, &packets, most)), Some(tags(Some("A"), Some("T ü"))), "{name}, {most}");
        }
    }
    // A cover picture of some hundred kilobytes stands before them.
    let picture = [b"METADATA_BLOCK_PICTURE=".to_vec(), vec![b'x'; 300_000]].concat();
    let packets = codec(b"OpusHead", b"OpusTags", &[&picture, b"TITLE=behind"]);
    assert_eq!(of_ogg(&pages(1, &packets, 255)), Some(tags(None, Some("behind"))));
}

#[test]
fn of_several_streams_the_first_that_says_something_counts() {
    let video = pages(1, &codec(b"\x80theora", b"\x81theora", &[]), 255);
    let sound = pages(2, &codec(b"\x01vorbis", b"\x03vorbis", &[b"TITLE=T"]), 255);
    assert_eq!(of_ogg(&[video.clone(), sound.clone()].concat()), Some(tags(None, Some("T"))));
    assert_eq!(of_ogg(&[sound, video.clone()].concat()), Some(tags(None, Some("T"))));
    assert_eq!(of_ogg(&video), Some(Tags::default()), "comments that say nothing");
    assert_eq!(of_ogg(&pages(1, &codec(b"unknown", b"", &[b"TITLE=T"]), 255)), None);
    assert_eq!(of_ogg(&[b"\x1A\x45\xDF\xA3".to_vec()]), None, "another container");
    assert_eq!(of_ogg::<Vec<u8>>(&[]), None);
}

#[test]
fn comments_are_read_as_far_as_they_are_whole() {
    for (bytes, want) in [
        (comments(&[b"TITLE=", b"TITLE= x ", b"no equals sign", b"ARTIST=Gr\xFC\xDFe"]), tags(Some("Grüße"), Some("x"))),
        (comments(&[b"TITLE=a=b", b"xTITLE=c"]), tags(None, Some("a=b"))),
        ([&comments(&[b"TITLE=T", b"ARTIST=A"])[..], b"rest"].concat(), tags(Some("A"), Some("T"))),
        (comments(&[b"TITLE=T", b"ARTIST=A"])[..35].to_vec(), tags(None, Some("T"))),
        ([counted(b"v"), vec![0xFF; 4], counted(b"TITLE=T")].concat(), tags(None, Some("T"))),
        (vec![0xFF; 12], Tags::default()),
        (vec![], Tags::default()),
    ] {
        assert_eq!(of_comments(&bytes), want, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

fn safe(size: usize) -> [u8; 4] {
    [(size >> 21) as u8 & 0x7F, (size >> 14) as u8 & 0x7F, (size >> 7) as u8 & 0x7F, size as u8 & 0x7F]
}

fn frame(version: u8, name: &str, format: u8, body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32).to_be_bytes();
    match version {
        2 => [&name.as_bytes()[..3], &size[1..], body].concat(),
        3 => [name.as_bytes(), &size, &[0, format], body].concat(),
        _ => [name.as_bytes(), &safe(body.len()), &[0, format], body].concat(),
    }
}

fn tag(version: u8, flags: u8, frames: &[Vec<u8>]) -> Vec<u8> {
    let body = [frames.concat(), vec![0; 20]].concat();
    [b"ID3".to_vec(), vec![version, 0, flags], safe(body.len()).to_vec(), body].concat()
}

#[test]
fn id3_tags_are_read_in_each_version_and_encoding() {
    let long = [b"\x03".to_vec(), vec![b'l'; 300]].concat();
    let l = "l".repeat(300);
    for (bytes, want) in [
        (tag(2, 0, &[frame(2, "TT2", 0, b"\0Gr\xFC\xDFe"), frame(2, "TP1", 0, b"\0A\0")]), tags(Some("A"), Some("Grüße"))),
        (tag(3, 0, &[frame(3, "TIT2", 0, b"\x01\xFF\xFEG\0\xFC\0"), frame(3, "TPE1", 0, b"\x01\xFE\xFF\0A")]), tags(Some("A"), Some("Gü"))),
        (tag(3, 0, &[frame(3, "TIT2", 0, b"\0Gr\xC3\xBC")]), tags(None, Some("Grü"))),
        (tag(4, 0, &[frame(4, "TIT2", 0, b"\x03T\0second"), frame(4, "TPE1", 0, b"\x02\0A\xD8\x3D\xDE\0")]), tags(Some("A😀"), Some("T"))),
        (tag(4, 0, &[frame(4, "TXXX", 0, &long), frame(4, "TIT2", 0, &long)]), tags(None, Some(&l))),
        (tag(4, 0, &[frame(4, "TIT2", 0x03, b"\0\0\0\x05\x01\xFF\0\xFEA\0")]), tags(None, Some("A"))),
        (tag(3, 0x80, &[frame(3, "TIT2", 0, b"\x01\xFF\xFEA\0")].map(|frame| unsynchronised(&frame))), tags(None, Some("A"))),
        (tag(3, 0x40, &[vec![0, 0, 0, 6, 0, 0, 0, 0, 0, 0], frame(3, "TIT2", 0, b"\0T")]), tags(None, Some("T"))),
        (tag(4, 0x40, &[vec![0, 0, 0, 6, 1, 0], frame(4, "TIT2", 0, b"\0T")]), tags(None, Some("T"))),
        (tag(3, 0, &[frame(3, "TIT2", 0x80, b"\0compressed"), frame(3, "TPE1", 0x20, b"g\0A")]), tags(Some("A"), None)),
        (tag(3, 0, &[frame(3, "TIT2", 0, b""), frame(3, "TPE1", 0, b"\x09A")]), Tags::default()),
        (tag(4, 0, &[vec![b'T'; 7]]), Tags::default()),
    ] {
        assert_eq!(of_id3(&bytes), Some(want), "{:?}", String::from_utf8_lossy(&bytes));
    }
    for no_tag in [&b"ID3"[..], b"ID4\x03\0\0\0\0\0\0", b"ID3\x05\0\0\0\0\0\0", b"ID3\x03\0\0\x80\0\0\0", b"\xFF\xFB\x90\xC4......"] {
        assert_eq!(of_id3(no_tag), None, "{no_tag:?}");
    }
}

fn unsynchronised(bytes: &[u8]) -> Vec<u8> {
    // The size of the frame is that before; the one under test has one such pair, in its text.
    let mut out = Vec::new();
    for (i, &byte) in bytes.iter().enumerate() {
        out.push(byte);
        if byte == 0xFF && bytes.get(i + 1).is_none_or(|&next| next == 0 || next >= 0xE0) {
            out.push(0);
        }
    }
    out
}

proptest! {
    /// Whatever comes, nothing panics, and what is found was there.
    #[test]
    fn no_bytes_make_a_reader_panic(noise in vec(any::<u8>(), 0..300), version in 2_u8..5, flags in any::<u8>(), at in 0_usize..200, flips in vec((0_usize..400, any::<u8>()), 0..12)) {
        of_comments(&noise);
        of_id3(&noise);
        of_ogg(&[&noise]);
        let mut id3 = tag(version, flags, &[frame(version, "TIT2", flags, b"\x01\xFF\xFEA\0"), noise.clone(), frame(version, "TPE1", 0, &noise)]);
        let mut ogg = pages(3, &codec(b"\x01vorbis", b"\x03vorbis", &[&noise, b"TITLE=x"]), 1 + at).concat();
        for bytes in [&mut id3, &mut ogg] {
            for &(at, byte) in &flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
        }
        if let Some(found) = of_id3(&id3) {
            let longest = found.title.iter().chain(&found.artist).map(String::len).max().unwrap_or(0);
            prop_assert!(longest <= 3 * id3.len());
        }
        of_ogg(&[&ogg[..]]);
        of_ogg(&[&ogg[..at.min(ogg.len())], &ogg[at.min(ogg.len())..]]);
    }
}
