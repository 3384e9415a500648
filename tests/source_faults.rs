//! Sources that fail, lie and flood, and upstreams that do: what becomes of them, and who notices nothing. From outside.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use flumen::wire::relay::{self, ChunkHead, Notice};
use support::{MP3, Server, Stream, free_port, gst_output, until};

const SECOND: Duration = Duration::from_secs(1);
/// `source:s3cret`
const BASIC: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";

fn mounts(more: &str) -> String {
    format!("[push]\npassword = \"s3cret\"\n\n[[mount]]\npath = \"/live\"\nsync = \"latest\"\n{more}\n")
}

fn up(mounts: &str) -> Server {
    let server = Server::spawn("", mounts, &[]);
    assert!(until(SECOND * 15, || server.try_get("/healthz").is_ok()), "{}", server.log());
    server
}

fn mp3() -> Vec<u8> {
    gst_output(
        "audiotestsrc wave=white-noise num-buffers=100 samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=64 cbr=true ! mpegaudioparse",
    )
}

/// Somebody who waits for the mount's first chunk.
fn waiting(server: &Server) -> TcpStream {
    let mut early = server.connect();
    early.write_all(b"GET /live HTTP/1.0\r\n\r\n").expect("sent");
    std::thread::sleep(SECOND / 2);
    early
}

fn publish(server: &Server, fields: &str) -> TcpStream {
    let mut encoder = server.connect();
    write!(encoder, "PUT /live HTTP/1.1\r\nHost: x\r\n{BASIC}Content-Type: audio/mpeg\r\n{fields}\r\n").expect("sent");
    let encoder = Stream::open(encoder);
    assert_eq!(encoder.head.status, 200, "{}", encoder.head.head);
    encoder.socket
}

#[test]
fn a_source_that_sends_as_fast_as_it_can_is_held_and_harms_nobody() {
    let server = up(&format!("{}{MP3}", mounts("ring_max = \"4MiB\"\nhard_limit = \"2s\"")));
    assert!(until(SECOND * 15, || server.metric("flumen_source_up", &["/radio.mp3"]) == 1.0));
    let (mut flood, body) = (publish(&server, ""), mp3());
    let mut quick = server.listen("/radio.mp3");
    quick.read(20_000);
    let before = server.rss_kib();
    let flooding = std::thread::spawn(move || {
        let (mut sent, end) = (0, Instant::now() + SECOND * 4);
        while Instant::now() < end && flood.write_all(&body).is_ok() {
            sent += body.len();
        }
        sent
    });
    let (mut longest, mut last, end) = (Duration::ZERO, Instant::now(), Instant::now() + SECOND * 4);
    let mut buffer = [0; 65536];
    while Instant::now() < end {
        assert_ne!(quick.socket.read(&mut buffer).expect("the stream"), 0);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    let sent = flooding.join().expect("flooded");
    assert!(sent > 20 << 20, "{sent} bytes are no flood");
    let grown = server.rss_kib().saturating_sub(before);
    // The ring, what stragglers may keep of it, what is on its way in, and what an allocator keeps for later.
    assert!(grown < 48 << 10, "{grown} KiB for {sent} bytes");
    assert!(server.metric("flumen_ring_bytes", &["/live"]) <= f64::from(4 << 20));
    assert!(longest < SECOND * 2, "the listener of another mount waited {longest:?}");
}

#[test]
fn single_bytes_become_whole_frames() {
    let server = up(&mounts(""));
    let (early, body) = (waiting(&server), mp3());
    let mut encoder = publish(&server, "");
    encoder.set_nodelay(true).expect("set");
    let some = &body[..4000];
    for byte in some.chunks(1) {
        encoder.write_all(byte).expect("sent");
    }
    let mut listener = Stream::open(early);
    // A frame is known to end where the next begins.
    assert!(listener.read(3000) == some[..3000]);
    let chunks = server.metric("flumen_received_chunks_total", &["/live"]);
    assert!((1.0..40.0).contains(&chunks), "{chunks} chunks of 4000 bytes");
}

#[test]
fn bytes_that_make_no_sense_are_left_out_counted_and_told_once() {
    let server = up(&mounts(""));
    let (early, body) = (waiting(&server), mp3());
    let mut encoder = publish(&server, "");
    encoder.write_all(&body[100..]).expect("sent"); // it begins in the middle of a frame, as who joins a stream does
    let mut listener = Stream::open(early);
    let heard = listener.read(20_000);
    assert!(body.windows(heard.len()).any(|window| window == heard), "whole frames");
    let skipped = || server.metric("flumen_skipped_bytes_total", &["/live"]);
    let begun = skipped();
    assert!((1.0..2000.0).contains(&begun) && !server.log().contains("make no sense"), "{begun}: {}", server.log());
    for _ in 0..3 {
        encoder.write_all(&[[0x11; 700].as_slice(), &body].concat()).expect("sent");
    }
    assert!(until(SECOND * 5, || skipped() >= begun + 2100.0), "{} after {begun}", skipped());
    let rest = listener.read_for(SECOND);
    assert!(rest.len() > 2 * body.len() && !rest.windows(30).any(|window| window == [0x11; 30]), "what is between is not heard");
    assert_eq!(server.log().matches("make no sense").count(), 1, "{}", server.log());
}

#[test]
fn a_body_that_is_not_framed_as_it_claims_ends_its_source_and_nobody_else() {
    let body = mp3();
    let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(3000)].concat();
    for (framed, name) in [(b"zz\r\n".to_vec(), "a size that is none"), (trailers, "trailers without an end")] {
        let server = up(&mounts(""));
        let early = waiting(&server);
        let mut encoder = publish(&server, "Transfer-Encoding: chunked\r\n");
        write!(encoder, "{:x}\r\n", body.len()).expect("sent");
        encoder.write_all(&[body.as_slice(), b"\r\n"].concat()).expect("sent");
        let mut listener = Stream::open(early);
        assert!(listener.read(body.len() - 2000) == body[..body.len() - 2000], "{name}");
        let _ = encoder.write_all(&framed); // it may be hung up on in the middle
        assert!(until(SECOND * 10, || server.log().contains("not chunked as it claims")), "{name}: {}", server.log());
        assert_eq!(server.metric("flumen_listeners", &["/live"]), 1.0, "{name}: who listens stays");
        let mut next = publish(&server, "");
        next.write_all(&body).expect("sent");
        assert!(until(SECOND * 10, || server.metric("flumen_source_up", &["/live"]) == 1.0), "{name}: the next is heard");
    }
}

#[test]
fn a_shoutcast_encoder_that_never_ends_its_line_is_hung_up_on() {
    let port = free_port();
    let server = up(&mounts("").replace("[push]\n", &format!("[push]\nshoutcast = [\"127.0.0.1:{port}\"]\n")));
    let mut encoder = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    encoder.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
    let _ = encoder.write_all(&[b'x'; 64 * 1024]); // it may be hung up on before
    let mut answer = Vec::new();
    let _ = encoder.read_to_end(&mut answer); // a reset is an end as well
    assert!(!answer.starts_with(b"OK"), "{answer:?}");
    assert_eq!(server.metric("flumen_source_up", &["/live"]), 0.0);
}

/// Answers everybody with the same bytes, and holds the line.
fn upstream(answer: Vec<u8>) -> u16 {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = door.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut peer in door.incoming().flatten() {
            let _ = peer.write_all(&answer); // whoever asks may have given up
            held.push(peer);
        }
    });
    port
}

/// A server of our own kind that says of its stream what it likes: of what kind it is, before each of so many chunks.
fn framed(kinds: impl Iterator<Item = String>) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-flumen-relay\r\nflumen-relay: 1\r\n\r\n".to_vec();
    relay::put_epoch(&mut answer, 1, false, std::iter::empty());
    for (place, media_type) in kinds.enumerate() {
        answer.extend_from_slice(&relay::notice(&Notice { media_type, ..Notice::default() }));
        let head = ChunkHead { place: place as u64, time: place as u64 * 1_000_000, keyframe: true, ..ChunkHead::default() };
        relay::put_chunk(&mut answer, &head, 20_000); // more than is read at once
        answer.extend_from_slice(&[b'x'; 20_000]);
    }
    answer
}

#[test]
fn what_a_framed_upstream_calls_its_stream_is_in_nobodys_way_and_no_flood_in_the_log() {
    let kinds = |kinds: &[&str]| framed(kinds.iter().map(|kind| (*kind).to_owned()));
    let fickle = framed((0..500).map(|i| format!("audio/x-{i}")));
    let mut headers = kinds(&["audio/mpeg"]);
    for _ in 0..20 {
        relay::put_epoch(&mut headers, 1, false, [600_000].into_iter());
        headers.extend_from_slice(&[b'h'; 600_000]);
    }
    let cases = [
        ("long", kinds(&[&"a/".repeat(32_000)]), "application/octet-stream"),
        ("rude", kinds(&["audio/\u{7}\r\nX: y"]), "application/octet-stream"),
        ("plain", kinds(&["audio/mpeg", "audio/\0"]), "audio/mpeg"),
        ("fickle", fickle, "audio/x-"),
        ("headers", headers, "audio/mpeg"),
    ];
    let mount = |(name, answer, _): &(&str, Vec<u8>, &str)| {
        format!("[[mount]]\npath = \"/{name}\"\nring_max = \"1MiB\"\nrelay = \"http://127.0.0.1:{}/x\"\n", upstream(answer.clone()))
    };
    let server = up(&cases.iter().map(mount).collect::<String>());
    for (name, _, kind) in &cases {
        let head = server.listen(&format!("/{name}")).head;
        assert!(head.header("content-type").is_some_and(|told| told.starts_with(kind)), "{name}: {}", head.head);
        assert_eq!(server.metric("flumen_source_up", &[&format!("\"/{name}\"")]), 1.0);
    }
    let told = |what| until(SECOND * 5, || server.log().contains(what));
    assert!(told("another kind of stream") && told("its streamheaders are too large"), "{}", server.log());
    let log = server.log();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("source up"), cases.len(), "{log}");
    assert_eq!((lines("another kind of stream"), lines("its streamheaders are too large")), (1, 1), "{log}");
    assert!(log.lines().all(|line| line.len() < 1000), "{log}");
}

#[test]
fn an_upstream_that_misbehaves_is_given_up_with_the_reason_and_another_is_heard() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>no stream here</html>".to_vec();
    let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-Filler: ".to_vec(), vec![b'x'; 40_000]].concat();
    let frames = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-flumen-relay\r\nflumen-relay: 1\r\n\r\n\x02\0\0\0\0\0\0\x01x".to_vec();
    let through = |via: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nVia: {via}\r\n\r\nx").into_bytes();
    let cases = [
        ("passed-on", through(&["1.1 a"; 17].join(", ")), "through more than 16 servers"),
        (
            "long-named",
            through(&format!("1.1 {}", "a".repeat(9000))),
            "the names of the servers that its stream comes through are too long",
        ),
        ("circling", b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n".to_vec(), "it redirects again and again"),
        ("endless", endless, "the head of its answer is too large"),
        ("page", page, "a page and not with a stream"),
        ("nonsense", b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), "its answer is not HTTP"),
        ("frames", frames, "frames of its stream are not what they claim"),
        ("silent", Vec::new(), "it does not answer in time"),
    ];
    let good = Server::start(MP3);
    let mut text = String::new();
    for (name, answer, _) in &cases {
        let port = upstream(answer.clone());
        text.push_str(&format!("[[mount]]\npath = \"/{name}\"\nrelay = [\"http://127.0.0.1:{port}/x\", \"{}\"]\n", good.url("/radio.mp3")));
    }
    let server = up(&text);
    for (name, _, why) in cases {
        assert!(until(SECOND * 20, || server.metric("flumen_source_up", &[&format!("\"/{name}\"")]) == 1.0), "{name}: {}", server.log());
        let said = |line: &str| line.contains(why) && line.contains(name);
        assert!(until(SECOND * 5, || server.log().lines().any(said)), "{name}: {}", server.log());
    }
}
