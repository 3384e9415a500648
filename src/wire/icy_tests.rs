//! Blocks by tables; the interleave against a player that takes it apart, byte by byte.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::charset::Charset;
use crate::wire::upstream::{Found, Interleaved, metadata};

fn text(block: &[u8]) -> String {
    assert_eq!(block.len(), 1 + usize::from(block[0]) * UNIT, "its length is what it says");
    String::from_utf8(block[1..].to_vec()).expect("whole characters").trim_end_matches('\0').to_owned()
}

#[test]
fn a_block_says_what_players_read() {
    for (title, url, want) in [
        ("A - B", None, "StreamTitle='A - B';"),
        ("", None, "StreamTitle='';"),
        ("Ü – 音", Some("http://x/"), "StreamTitle='Ü – 音';StreamUrl='http://x/';"),
        ("Rock'n'Roll'", None, "StreamTitle='Rock'n'Roll'';"),
        ("a';StreamUrl='evil", None, "StreamTitle='a' ;StreamUrl='evil';"),
        (";", None, "StreamTitle=' ;';"),
        ("a;b", None, "StreamTitle='a;b';"),
        ("a\0b\r\nc\u{85}", None, "StreamTitle='abc';"),
    ] {
        let block = block(title, url);
        assert_eq!(text(&block), want);
        assert!(block.len() <= 1 + want.len() + UNIT, "{want}: no more zeros than needed");
    }
}

#[test]
fn what_is_too_long_is_cut_between_characters_and_half_an_address_is_none() {
    let long = "é".repeat(1 << 19);
    let cut = block(&long, None);
    assert_eq!((cut[0], cut.len()), (255, 1 + TEXT_MOST));
    let said = text(&cut);
    assert!(said.starts_with("StreamTitle='éé") && said.ends_with("é';"), "and the field is closed");
    let url = format!("http://x/{}", "y".repeat(5000));
    assert_eq!(text(&block("A", Some(&url))), "StreamTitle='A';");
    assert_eq!(text(&block(&long, Some("http://x/"))), said, "the title comes first");
}

fn title(number: u64) -> Arc<Block> {
    let text = "t".repeat((number * 7 % 40) as usize);
    Arc::new(Block { number, bytes: block(&format!("{number}{text}"), None) })
}

/// What a player finds in a body: the stream, and each block with the number of stream bytes before it.
fn take_apart(body: &[u8], interval: usize) -> (Vec<u8>, Vec<(usize, Vec<u8>)>) {
    let (mut stream, mut blocks, mut at) = (Vec::new(), Vec::new(), 0);
    while at < body.len() {
        let part = interval.min(body.len() - at);
        stream.extend_from_slice(&body[at..at + part]);
        at += part;
        if let (true, Some(&units)) = (part == interval, body.get(at)) {
            let end = (at + 1 + usize::from(units) * 16).min(body.len());
            blocks.push((stream.len(), body[at..end].to_vec()));
            at = end;
        }
    }
    (stream, blocks)
}

/// One turn of a listener's life.
#[derive(Clone, Debug)]
struct Step {
    /// New pieces of the stream.
    pieces: Vec<usize>,
    /// The mount has another title.
    news: bool,
    /// So many pieces fit into one call, and the socket takes so many bytes.
    slices: usize,
    room: usize,
}

fn step() -> impl Strategy<Value = Step> {
    (vec(0_usize..400, 0..6), any::<bool>(), 1_usize..12, prop_oneof![0_usize..20, 0_usize..2000])
        .prop_map(|(pieces, news, slices, room)| Step { pieces, news, slices, room })
}

proptest! {
    /// However the stream is cut, however little is taken at a time and whenever titles change: the stream comes out whole,
    /// blocks stand where they must, each title is told whole and once, and the last one is not forgotten.
    #[test]
    fn what_is_woven_can_be_taken_apart(interval in prop_oneof![1_u32..5, 1_u32..600, Just(16_000_u32)], steps in vec(step(), 1..120)) {
        let mut icy = Interleave::new(interval);
        let (mut stream, mut body, mut gone, mut current) = (Vec::<u8>::new(), Vec::<u8>::new(), 0, 0);
        let mut told_at: Vec<u64> = Vec::new(); // the newest title that could go into each block when it began
        for (i, step) in steps.iter().enumerate() {
            for &length in &step.pieces {
                stream.extend(std::iter::repeat_n(b'a' + (i % 26) as u8, length));
            }
            current += u64::from(step.news);
            if icy.wants(current) {
                icy.adopt(title(current));
            }
            let waiting: Vec<&[u8]> = stream[gone..].chunks(97).collect();
            let mut shown: Vec<&[u8]> = Vec::new();
            icy.weave(waiting, |slice| {
                let room = shown.len() < step.slices;
                if room { shown.push(slice); }
                room
            });
            prop_assert!(shown.iter().all(|slice| !slice.is_empty()));
            let taken: Vec<u8> = shown.concat().into_iter().take(step.room).collect();
            let before = take_apart(&body, interval as usize).1.len();
            body.extend_from_slice(&taken);
            let began = take_apart(&body, interval as usize).1.len();
            told_at.extend(std::iter::repeat_n(icy.told, began - before));
            let of_stream = icy.take(taken.len());
            gone += of_stream;
            let (found, blocks) = take_apart(&body, interval as usize);
            prop_assert_eq!(found.len(), gone, "stream bytes are counted exactly");
            let torn = blocks.last().is_some_and(|(_, block)| block.len() < 1 + usize::from(block[0]) * 16);
            prop_assert_eq!(torn, icy.mid_block());
        }
        // The rest goes out, first of a block that has begun.
        let before_rest = told_at.len();
        while gone < stream.len() || icy.mid_block() {
            if icy.wants(current) {
                icy.adopt(title(current));
            }
            let mut shown = Vec::new();
            let only_block = icy.mid_block();
            icy.weave([&stream[gone..]], |slice| {
                let room = shown.is_empty() || !only_block;
                if room { shown.extend_from_slice(slice); }
                room
            });
            let before = take_apart(&body, interval as usize).1.len();
            body.extend_from_slice(&shown);
            told_at.extend(std::iter::repeat_n(icy.told, take_apart(&body, interval as usize).1.len() - before));
            gone += icy.take(shown.len());
        }
        let (found, blocks) = take_apart(&body, interval as usize);
        prop_assert!(found == stream, "the stream is whole");
        prop_assert_eq!(blocks.len(), stream.len().saturating_sub(1) / interval as usize, "a block before each stream byte that needs one, and none at the end");
        let mut last = 0;
        for ((at, block), newest) in blocks.iter().zip(&told_at) {
            prop_assert_eq!(at % interval as usize, 0);
            if block[..] == [0] {
                prop_assert_eq!(last, *newest, "nothing is said where there is nothing new");
            } else {
                prop_assert!(last < *newest);
                prop_assert!(block[..] == title(*newest).bytes[..], "the newest title, whole");
                last = *newest;
            }
        }
        prop_assert!(told_at.len() == before_rest || last == current, "the last title is not forgotten");
        // And our own way of taking it apart finds the same, in whatever pieces it comes.
        let mut apart = Interleaved::new(interval as usize);
        let (mut again, mut titles) = (Vec::new(), 0);
        for piece in body.chunks(1 + steps.len() % 50) {
            apart.take(piece, |found| match found {
                Found::Bytes(bytes) => again.extend_from_slice(bytes),
                Found::Block(_) => titles += 1,
            });
        }
        prop_assert!(again == stream);
        prop_assert_eq!(titles, blocks.iter().filter(|(_, block)| block.len() > 1).count());
    }

    /// Whatever the block says, a player reads one title out of it, and that is the beginning of what was meant.
    #[test]
    fn no_title_breaks_out_of_its_field(title in "[ab;'=\\\\é音\u{0}\n]{0,40}", url in proptest::option::of("[a';é]{0,20}")) {
        let block = block(&title, url.as_deref());
        let [told, address] = ["StreamTitle", "StreamUrl"].map(|key| metadata(&block[1..], key, Charset::default()));
        let strip = |text: &str| text.chars().filter(|c| !c.is_control() && *c != ' ').collect::<String>();
        prop_assert_eq!(told.as_deref().map(strip), Some(strip(&title)));
        prop_assert_eq!(address.as_deref().map(strip), url.as_deref().map(strip));
    }
}
