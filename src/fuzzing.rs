//! What outsiders send, thrown at every reader of it; and what must hold of the answer, whatever it was.
//!
//! ```text
//!   fuzz/corpus/NAME/… ─┬─▶ the test below: each input, and thousands near it           (cargo test, seconds)
//!                       ├─▶ the same with FLUMEN_FUZZ_EXECUTIONS=10000000               (make fuzz)
//!                       └─▶ libFuzzer, guided by coverage, address sanitizer beneath    (make fuzz-guided)
//! ```
//! - A target takes any bytes, and panics when a promise is broken: that is all a fuzzer asks. Where an input needs more than one part
//!   (how it is cut, a title and an address), the first byte says how, or a zero byte parts them.
//! - The inputs that are kept are replayed by every test run, on any toolchain.
//!
//! Deliberately absent: sockets (`tests/attacks.rs`), and names that have to be resolved: a fuzzer asks no name server.

mod said;
mod who;

use std::time::{Duration, SystemTime};

use crate::access;
use crate::admin;
use crate::config;
use crate::door::origin;
use crate::fanout::chunk::Marks;
use crate::ingest::framing::kind::{Kind, judge};
use crate::ingest::framing::{Framed, Piece};
use crate::ingest::relay::Upstream;
use crate::journal::Visit;
use crate::mount::Metadata;
use crate::mount::metadata;
use crate::units::{Extents, MountPath};
use crate::wire::charset::Charset;
use crate::wire::chunked::Chunked;
use crate::wire::head::{Look, look};
use crate::wire::upstream::{Found, Interleaved};
use crate::wire::{icy, range, relay, shoutcast, tags, upstream};

/// Takes any bytes; panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders in `fuzz/corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", head),
    ("path", path),
    ("query", query),
    ("placement", said::of_placement),
    ("range", of_range),
    ("authorization", authorization),
    ("log_line", log_line),
    ("configuration", configuration),
    ("icecast_xml", icecast_xml),
    ("title", title),
    ("tags", of_tags),
    ("playlist", said::of_playlist),
    ("listing", said::of_listing),
    ("backend", said::of_backend),
    ("signed", who::of_signed),
    ("token", who::of_token),
    ("proxy", who::of_proxy),
    ("forwarded", who::of_forwarded),
    ("networks", who::of_networks),
    ("frames", frames),
    ("chunked", chunked),
    ("shoutcast", of_shoutcast),
    ("answer", answer),
    ("interleaved", interleaved),
    ("kind", of_kind),
    ("ogg", |bytes| framed(Kind::Ogg, bytes)),
    ("ebml", |bytes| framed(Kind::Ebml, bytes)),
    ("flv", |bytes| framed(Kind::Flv, bytes)),
    ("ts", |bytes| framed(Kind::Ts, bytes)),
    ("asf", |bytes| framed(Kind::Asf, bytes)),
    ("mpeg", |bytes| framed(Kind::Mpeg, bytes)),
    ("adts", |bytes| framed(Kind::Adts, bytes)),
    ("wav", |bytes| framed(Kind::Wav, bytes)),
    ("flac", |bytes| framed(Kind::Flac, bytes)),
];

/// Bytes up to a zero byte, and those behind it.
fn parted(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn is_one_harmless_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// What is passed on is one head and nothing more, to any parser; and says nothing of a body.
fn head(bytes: &[u8]) {
    const MOST: usize = 1024;
    let Look::Complete(head) = look(bytes, MOST) else { return };
    assert!(head.length <= bytes.len() && head.length <= MOST, "a head of {} bytes", head.length);
    let mut lines = [httparse::EMPTY_HEADER; 80];
    let mut request = httparse::Request::new(&mut lines);
    assert_eq!(request.parse(&head.text), Ok(httparse::Status::Complete(head.text.len())), "nothing is left for a second opinion");
    assert_eq!(request.path.map(str::as_bytes), head.text.get(head.target.clone()));
    let named = |name: &str| request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count();
    for hidden in ["transfer-encoding", "expect", "upgrade"] {
        assert_eq!(named(hidden), 0, "{hidden}");
    }
    assert!(named("host") <= 1 && named("content-length") <= 1);
    assert!(request.headers.iter().all(|header| !header.name.eq_ignore_ascii_case("content-length") || header.value == b"0"));
}

/// What a path becomes hides nothing, and a mount's path leads nowhere else.
fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(decoded) = origin::decoded_path(text) {
        assert!(is_one_harmless_line(&decoded) && !decoded.contains('\\'), "{decoded:?}");
    }
    if let Ok(mount) = text.parse::<MountPath>() {
        let path = mount.as_str();
        assert!(path.len() <= MountPath::LONGEST && path.starts_with('/') && is_one_harmless_line(path), "{path:?}");
        assert!(!path.split('/').any(|segment| segment == ".." || segment == "."), "{path:?}");
    }
    let _ = Upstream::parse(text);
}

fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["mount", "song", ""] {
        let value = admin::in_query(text, name);
        assert!(value.is_none_or(|value| value.len() <= text.len()), "a value is no longer than what it was written as");
    }
    for name in ["token", "signature", ""] {
        let one = access::query::parameter(text, name);
        assert!(one.is_none_or(|one| one.len() <= text.len() && is_one_harmless_line(&one)), "{text:?}");
        let doubled = format!("{text}&{name}=x");
        assert!(access::query::parameter(text, name).is_none() || access::query::parameter(&doubled, name).is_none(), "of two, neither");
    }
    if let Ok(extents) = text.parse::<Extents>() {
        // Rounded, for people; what `describe` writes is exact, and looked at with the configuration.
        let again: Extents = extents.to_string().replace(['"', '[', ']'], "").parse().expect("what is printed can be read");
        assert_eq!(again.iter().count(), extents.iter().count());
    }
}

fn of_range(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if range::probes(text) {
        assert!(text.to_ascii_lowercase().trim_start().starts_with("bytes") && !text.contains(','), "{text:?}");
    }
}

fn authorization(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let shown = access::rule::Shown::of(Some(text), "");
    assert!(shown.token.is_none() || shown.credentials.is_none(), "one field shows one thing: {text:?}");
    let Some(given) = access::basic(text) else { return };
    assert_eq!(shown.credentials.map(|shown| shown.user), Some(given.user.clone()));
    assert!(!given.user.contains(':'));
    assert!(!format!("{given:?}").contains(given.password.reveal()) || given.password.reveal().len() < 12, "a secret does not print");
    if let Ok(password) = access::Password::plain(given.password.reveal()) {
        assert!(password.verify(given.password.reveal()) && !password.verify(""));
    }
}

/// One visit is one line, in either form, with nothing in it that a terminal obeys.
fn log_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let agent = text.as_ref();
    let (at, lasted) = (SystemTime::UNIX_EPOCH + Duration::from_secs(bytes.len() as u64), Duration::from_millis(5));
    let visit =
        Visit { peer: "192.0.2.1", user: agent, at, method: "GET", target: agent, referer: agent, agent, lasted, ..Visit::default() };
    let line = visit.combined();
    assert!(is_one_harmless_line(&line), "{line:?}");
    let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
    assert_eq!(quotes, 6, "nothing ends a quoted part: {line}");
    let json = visit.json();
    assert!(!json.contains(['\n', '\r', '\u{1b}']), "{json:?}");
}

/// Names have to be resolved where these are written.
fn asks_a_name_server(text: &str) -> bool {
    ["listen", "tcp", "shoutcast"].iter().any(|key| text.contains(key))
}

/// An effective configuration loads to itself; a bad one is answered with places and remedies.
fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if asks_a_name_server(text) {
        return;
    }
    let costs =
        config::Costs { listener_bytes: 1024, connection_bytes: 1024, socket_buffer_max: 212_992, cores: 2, event_log_bytes: 32 << 20 };
    match config::of_text(text) {
        Ok(config) => {
            let told = config::describe(&config, costs);
            let again = config::of_text(&told).unwrap_or_else(|errors| panic!("{told}\n{errors}"));
            let difference = config::difference(&config, &again);
            assert!(difference.added.is_empty() && difference.removed.is_empty(), "{told}");
        }
        Err(errors) => {
            assert_ne!(errors.iter().count(), 0);
            assert!(errors.iter().all(|error| !error.remedy.is_empty() && !error.problem.is_empty()), "{errors}");
        }
    }
}

/// What is carried over from Icecast loads here.
fn icecast_xml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(imported) = config::import_text(text) else { return };
    if !asks_a_name_server(text) {
        config::of_text(&imported.toml).unwrap_or_else(|errors| panic!("{}\n{errors}", imported.toml));
    }
}

/// A title stays inside of its block, and comes out of it again.
fn title(bytes: &[u8]) {
    let (title, url) = parted(bytes);
    let (title, url) = (tags::legacy_text(title), tags::legacy_text(url));
    let known = Metadata::new(Some(&title), Some(&title), Some(&url));
    for text in [&known.artist, &known.title, &known.url].into_iter().flatten() {
        assert!(is_one_harmless_line(text) && text.len() <= metadata::TEXT_MOST && !text.is_empty(), "{text:?}");
    }
    let block = icy::block(&title, Some(&url));
    assert!(block.len() == 1 + 16 * usize::from(block[0]), "{} bytes", block.len());
    let end = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&block[1..end]).expect("whole characters");
    assert!(is_one_harmless_line(text));
    assert!(upstream::metadata(&block[1..], "StreamTitle", Charset::default()).is_some(), "{text:?}");
    assert!(text.matches("';").count() <= 2, "nothing breaks out of a field: {text:?}");
}

fn of_tags(bytes: &[u8]) {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let pages: Vec<&[u8]> = stream.chunks(usize::from(cut) * 4 + 1).collect();
    let all = [tags::of_ogg(&pages), tags::of_ogg(&[stream]), Some(tags::of_comments(stream)), tags::of_id3(stream)];
    for text in all.into_iter().flatten().flat_map(|tags| [tags.artist, tags.title]).flatten() {
        assert!(!text.trim().is_empty() && text.len() <= 4 * stream.len(), "{text:?}");
    }
}

/// However a body is cut, the same payload comes out.
fn chunked(bytes: &[u8]) {
    let Some((&cut, body)) = bytes.split_first() else { return };
    let taken = |size: usize| {
        let (mut chunked, mut payload) = (Chunked::default(), Vec::new());
        let whole = body.chunks(size.max(1)).try_for_each(|part| chunked.take(part, |bytes| payload.extend_from_slice(bytes)));
        (payload, whole.is_ok(), chunked.is_done())
    };
    let (at_once, in_parts) = (taken(body.len()), taken(usize::from(cut) + 1));
    assert_eq!(at_once, in_parts);
    assert!(at_once.0.len() <= body.len());
}

fn of_shoutcast(bytes: &[u8]) {
    if let Ok(Some(knock)) = shoutcast::knock(bytes) {
        assert!(knock.length <= bytes.len().min(shoutcast::LINE_MOST) && !knock.password.contains('\n'));
    }
    if let Ok(Some((fields, length))) = shoutcast::fields(bytes) {
        assert!(length <= bytes.len() && fields.iter().all(|(name, value)| !name.contains('\n') && !value.contains('\n')));
    }
}

fn answer(bytes: &[u8]) {
    if let Ok(Some(answer)) = upstream::answer(bytes) {
        assert!(answer.length <= bytes.len(), "a head of {} bytes in {}", answer.length, bytes.len());
        assert!(answer.metaint().is_none_or(|metaint| metaint > 0));
    }
    let _ = upstream::metadata(bytes, "StreamTitle", Charset::default());
}

/// However a stream is cut, the same bytes and the same blocks come out of it, and nothing is lost but the blocks.
fn interleaved(bytes: &[u8]) {
    let [metaint, cut, stream @ ..] = bytes else { return };
    let taken = |size: usize| {
        let (mut interleaved, mut bytes, mut blocks) = (Interleaved::new(usize::from(*metaint) + 1), Vec::new(), Vec::new());
        for part in stream.chunks(size.max(1)) {
            interleaved.take(part, |found| match found {
                Found::Bytes(some) => bytes.extend_from_slice(some),
                Found::Block(block) => blocks.push(block),
            });
        }
        (bytes, blocks)
    };
    let (at_once, in_parts) = (taken(stream.len()), taken(usize::from(*cut) + 1));
    assert_eq!(at_once, in_parts);
    assert!(at_once.0.len() <= stream.len());
}

/// However a stream of frames is cut, the same frames come out of it; what is written again is read as the same. Nothing is made up.
fn frames(bytes: &[u8]) {
    const MOST: usize = 2048;
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(asked) = relay::Asked::parse(text)
    {
        assert_eq!(relay::Asked::parse(&asked.to_string()), Some(asked), "{text:?}");
    }
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let taken = |stream: &[u8], size: usize| {
        let (mut decoder, mut frames) = (relay::Decoder::new(MOST), Vec::new());
        let whole = stream.chunks(size.max(1)).try_for_each(|part| decoder.take(part, |frame| frames.push(frame)));
        (frames, whole, decoder.mid_frame())
    };
    let (at_once, in_parts) = (taken(stream, stream.len()), taken(stream, usize::from(cut) + 1));
    assert_eq!((&at_once.0, at_once.1), (&in_parts.0, in_parts.1));
    let (mut again, mut kept, mut held) = (Vec::new(), Vec::new(), 0);
    for frame in at_once.0 {
        match &frame {
            relay::Frame::Epoch { instance, in_band, parts } => {
                relay::put_epoch(&mut again, *instance, *in_band, parts.iter().map(|part| part.len()));
                parts.iter().for_each(|part| again.extend_from_slice(part));
                held += parts.iter().map(|part| part.len()).sum::<usize>();
            }
            relay::Frame::Chunk(head, payload) => {
                relay::put_chunk(&mut again, head, payload.len());
                again.extend_from_slice(payload);
                assert!(payload.len() <= MOST);
                held += payload.len();
            }
            relay::Frame::Notice(notice) => again.extend_from_slice(&relay::notice(notice)),
            relay::Frame::EpochTooLarge => continue,
        }
        kept.push(frame);
    }
    assert!(held <= stream.len(), "{held} bytes out of {}", stream.len());
    assert_eq!(taken(&again, again.len()), (kept, Ok(()), false));
}

fn of_kind(bytes: &[u8]) {
    let (claimed, start) = parted(bytes);
    let _ = judge(start, std::str::from_utf8(claimed).ok());
}

/// Nothing is made up, however the stream is cut; what is thrown away is counted.
fn framed(kind: Kind, bytes: &[u8]) {
    let Some((&how, stream)) = bytes.split_first() else { return };
    let joins = kind == Kind::Ogg && how & 0x80 != 0;
    let mut framer = kind.framer().expect("a framer").joining_links(joins);
    let (mut out, size) = (Vec::new(), 1 + usize::from(how & 0x7F) * 16);
    for (i, data) in stream.chunks(size).enumerate() {
        if i % 97 == 96 {
            framer.gap();
        }
        framer.push(&Piece { data, marks: Marks { pts: Some(i as u64), ..Marks::default() } }, &mut out);
    }
    framer.finish(&mut out);
    let units: usize = out.iter().map(|item| if let Framed::Unit { data, .. } = item { data.len() } else { 0 }).sum();
    assert!(units <= stream.len(), "{units} bytes out of {}", stream.len());
    assert!(framer.skipped_bytes() <= stream.len() as u64);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    use super::*;

    /// What means something to one parser or another.
    const WORDS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"\0",
        b"\x1b[2J",
        b"';",
        b"\\",
        b"\"",
        b"%00",
        b"%2e%2e",
        b"../",
        b": ",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\x80\0\0\0",
        b"ffffffffffffffff",
        b"-1",
        b"18446744073709551616",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: x\r\n",
        b"bytes=0-",
        b"Basic ",
        b"OggS\0",
        b"\x1A\x45\xDF\xA3",
        b"\x1F\x43\xB6\x75\xFF",
        b"FLV\x01",
        b"\x47",
        b"\xFF\xFB\x90",
        b"\xFF\xF1\x50",
        b"RIFF",
        b"fLaC",
        b"ID3\x04",
        b"StreamTitle='",
        b"[[mount]]\npath = \"/x\"\n",
        b"= [",
        b"\"5s\"",
        b"<mount>",
        b"</icecast>",
        b"&#0;",
        b"ICE/1.0",
        b"SOURCE ",
        b"PROXY TCP4 ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"X-Forwarded-For: 10.0.0.1\r\n",
        b"Forwarded: for=\"[2001:db8::1]:1\";host=a\r\n",
        b", 10.0.0.1",
        b"::ffff:192.0.2.1/120\n",
        b"0.0.0.0/0\n",
        b"&user=a",
        b"\x02\x01\0\0\0\0\0\x20",
        b"eyJhbGciOiJub25lIn0.",
        b"&burst=2s",
        b"&burst_max=1MiB",
        b"{\"icestats\":{\"source\":[",
        b"\"listenurl\":\"http://h/\"",
        b"\nicecast-auth-message:",
        b"\xEF\xBF\xBE",
        b"]]>",
    ];

    fn corpus(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(corpus(target)).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).expect("a file")).collect()
    }

    /// An input near one that is kept.
    fn near(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
        const LONGEST: usize = 8 * 1024;
        let mut input = seeds[random.usize(..seeds.len())].clone();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..=input.len());
            let end = (at + random.usize(..=32)).min(input.len());
            match random.u8(..8) {
                0 if !input.is_empty() => input[at.min(end.saturating_sub(1))] ^= 1 << random.u8(..8),
                1 if at < input.len() => input[at] = *random.choice(&[0, 1, 0x7F, 0x80, 0xFE, 0xFF]).expect("one"),
                2 if at < input.len() => input[at] = random.u8(..),
                3 => drop(input.drain(at..end)),
                4 => drop(input.splice(at..at, WORDS[random.usize(..WORDS.len())].iter().copied())),
                5 => input = [&input[..end], &input[at..]].concat(),
                6 => input.truncate(at),
                _ => {
                    let other = &seeds[random.usize(..seeds.len())];
                    let from = random.usize(..=other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
            }
        }
        input.truncate(LONGEST);
        input
    }

    /// So many, from this seed: FLUMEN_FUZZ_EXECUTIONS, FLUMEN_FUZZ_SEED; of one target only: FLUMEN_FUZZ_TARGET.
    fn asked(name: &str, usual: u64) -> u64 {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    }

    #[test]
    fn every_target_keeps_its_promises_for_what_is_kept_and_for_thousands_of_inputs_near_it() {
        let (executions, seed) = (asked("FLUMEN_FUZZ_EXECUTIONS", 2_000), asked("FLUMEN_FUZZ_SEED", 1));
        let only = std::env::var("FLUMEN_FUZZ_TARGET").ok();
        for (name, target) in TARGETS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
            let run = |input: &[u8]| {
                if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
                    let kept = std::env::temp_dir().join(format!("flumen-fuzz-{name}"));
                    let _ = fs::write(&kept, input);
                    panic!("{name} broke a promise; the input is in {}: {:?}", kept.display(), String::from_utf8_lossy(input));
                }
            };
            let seeds = seeds(name);
            seeds.iter().for_each(|seed| run(seed));
            let (mut random, began) = (fastrand::Rng::with_seed(seed), std::time::Instant::now());
            (0..executions).for_each(|_| run(&near(&seeds, &mut random)));
            eprintln!("{name:<14} {} kept, {executions} near them in {:.1?}", seeds.len(), began.elapsed());
        }
    }

    #[test]
    fn every_target_has_something_kept_and_nothing_is_kept_for_none() {
        let mut folders: Vec<_> =
            fs::read_dir(corpus("")).expect("fuzz/corpus").map(|entry| entry.expect("an entry").file_name()).collect();
        folders.sort();
        let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(folders, names);
        let bytes: usize = names
            .iter()
            .map(|name| {
                let seeds = seeds(name);
                assert!(seeds.len() >= 2, "{name}");
                seeds.iter().map(Vec::len).sum::<usize>()
            })
            .sum();
        assert!(bytes < 2 << 20, "{bytes} bytes: what is kept is minimised");
    }
}
