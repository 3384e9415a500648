//! Encoders that push, as the protocol has it: every method and framing, passwords, takeover, time limits, liars.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::{Response, Server, Stream, free_port, gst_output, until};

const SECOND: Duration = Duration::from_secs(1);
/// `source:s3cret`
const BASIC: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";
const PUSH: &str = "[push]\npassword = \"s3cret\"\n\n";

/// A mount that keeps everything, for whoever waits for the first chunk.
fn mount(more: &str) -> String {
    format!("{PUSH}[[mount]]\npath = \"/live\"\nsync = \"latest\"\n{more}\n")
}

fn mp3() -> Vec<u8> {
    gst_output(
        "audiotestsrc num-buffers=100 samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=64 cbr=true ! mpegaudioparse",
    )
}

fn ogg() -> Vec<u8> {
    gst_output("audiotestsrc num-buffers=100 ! audio/x-raw,rate=48000 ! opusenc ! oggmux max-delay=100000000")
}

/// Somebody who waits for the mount's first chunk.
fn wait_for_the_first(server: &Server) -> TcpStream {
    let mut early = server.connect();
    early.write_all(b"GET /live HTTP/1.0\r\n\r\n").expect("sent");
    std::thread::sleep(SECOND / 2);
    early
}

/// Sends a request head, and reads the head of what is answered.
fn greet(server: &Server, head: &str) -> Stream {
    let mut encoder = server.connect();
    encoder.write_all(head.as_bytes()).expect("sent");
    Stream::open(encoder)
}

fn put(fields: &str) -> String {
    format!("PUT /live HTTP/1.1\r\nHost: x\r\n{BASIC}{fields}\r\n")
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    for part in body.chunks(1000) {
        framed.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        framed.extend_from_slice(part);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

#[test]
fn every_method_and_framing_of_an_encoder_is_heard_byte_for_byte() {
    let body = mp3();
    let length = format!("Content-Length: {}\r\n", body.len());
    let mpeg = "Content-Type: audio/mpeg\r\n";
    for (head, is_chunked, answer) in [
        (put(&format!("{mpeg}{length}")), false, 200),
        (put(&format!("{mpeg}Transfer-Encoding: chunked\r\n")), true, 200),
        (put(mpeg), false, 200),
        (put(&format!("{mpeg}{length}Expect: 100-continue\r\n")), false, 100),
        (put(&format!("{mpeg}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")), true, 100),
        (put(&format!("{mpeg}Expect: 100-continue\r\n")), false, 100),
        (put(&format!("{mpeg}{length}")).replace("PUT", "POST"), false, 200),
        (put(mpeg).replace("PUT", "POST"), false, 200),
        (format!("SOURCE /live HTTP/1.0\r\n{BASIC}content-type: audio/mpeg\r\n\r\n"), false, 200),
        (format!("SOURCE /live HTTP/1.1\r\nHost: x\r\n{BASIC}content-type: audio/mpeg\r\n\r\n"), false, 200),
        (format!("SOURCE /live ICE/1.0\r\n{BASIC}ice-name: x\r\n\r\n"), false, 200),
        (format!("SOURCE /live ICE/1.0\r\n{BASIC}ice-name: x\r\n\r\n").replace("\r\n", "\n"), false, 200),
    ] {
        let server = Server::spawn("", &mount(""), &[]);
        assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()), "{}", server.log());
        let early = wait_for_the_first(&server);
        let mut encoder = greet(&server, &head);
        assert_eq!(encoder.head.status, answer, "{head}");
        encoder.socket.write_all(&if is_chunked { chunked(&body) } else { body.clone() }).expect("sent");
        let mut listener = Stream::open(early);
        assert_eq!(listener.head.header("content-type"), Some("audio/mpeg"), "{head}");
        // The last frame is known to be whole when it is: nothing is held back.
        assert!(listener.read(body.len()) == body, "{head}");
        if answer == 100 && (is_chunked || head.contains("Content-Length")) {
            let mut rest = String::new();
            encoder.socket.read_to_string(&mut rest).expect("the answer to the end");
            assert!(rest.starts_with("HTTP/1.1 200"), "{head}: {rest}");
        }
        drop(encoder);
        assert!(until(SECOND * 5, || server.metric("flumen_source_up", &[]) == 0.0), "{head}");
        assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0, "who listens waits for the next one");
    }
}

#[test]
fn bytes_in_the_same_packet_as_the_head_belong_to_the_stream() {
    let server = Server::spawn("", &mount(""), &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let early = wait_for_the_first(&server);
    let body = ogg();
    let mut encoder = server.connect();
    encoder.write_all(&[put("Content-Type: audio/ogg\r\n").as_bytes(), &body].concat()).expect("sent");
    let mut listener = Stream::open(early);
    assert_eq!(listener.head.header("content-type"), Some("audio/ogg"));
    assert!(listener.read(body.len()) == body);
}

#[test]
fn only_who_knows_the_password_publishes() {
    let mounts = format!("{}[[mount]]\npath = \"/own\"\npush_password = \"another\"\n\n{}", mount(""), support::MP3);
    let server = Server::start(&mounts);
    let asked = |head: String| Response::parse(server.ask(head).as_bytes()).expect("an answer");
    let with =
        |path: &str, field: &str| format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{field}Content-Length: 5\r\nConnection: close\r\n\r\nhello");
    let (wrong, nobody) = ("Authorization: Basic c291cmNlOndyb25n\r\n", "Authorization: Basic Ym9iOnMzY3JldA==\r\n");
    for (path, field, status) in [
        ("/live", "", 401),
        ("/live", wrong, 401),
        ("/live", nobody, 401),
        ("/own", BASIC, 401),
        ("/live", "Authorization: Bearer x\r\n", 401),
        ("/radio.mp3", BASIC, 405),
        ("/elsewhere", BASIC, 404),
        ("/own", "Authorization: Basic c291cmNlOmFub3RoZXI=\r\n", 200),
    ] {
        let answer = asked(with(path, field));
        assert_eq!(answer.status, status, "{path} {field}: {}", answer.body_text());
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    // libshout looks whether there is somebody to log in to, and goes on with the same connection.
    let mut probe = server.connect();
    probe.write_all(b"SOURCE /live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").expect("sent");
    assert_eq!(Stream::open(probe).head.status, 401);
    let options = asked("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into());
    assert!(options.header("allow").is_some_and(|allow| allow.contains("SOURCE") && allow.contains("PUT")));
    assert!(!server.log().contains("s3cret") && !server.log().contains("another\""), "no secret in the log");
}

#[test]
fn a_second_encoder_is_told_that_the_place_is_taken() {
    let server = Server::spawn("", &mount(""), &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let first = greet(&server, &put("Content-Type: audio/mpeg\r\n"));
    let second = greet(&server, &put("Content-Type: audio/mpeg\r\n"));
    assert_eq!((first.head.status, second.head.status), (200, 409));
    drop(first);
    assert!(
        until(SECOND * 5, || greet(&server, &put("Content-Type: audio/mpeg\r\n")).head.status == 200),
        "and when it has gone, it is free"
    );
}

#[test]
fn who_takes_over_is_heard_by_the_same_listeners_from_its_first_byte() {
    let server = Server::spawn("", &mount("takeover = true"), &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let early = wait_for_the_first(&server);
    let (one, two) = (ogg(), ogg());
    let mut first = greet(&server, &put("Content-Type: audio/ogg\r\n"));
    first.socket.write_all(&one).expect("sent");
    let mut listener = Stream::open(early);
    assert!(listener.read(one.len()) == one);
    let mut second = greet(&server, &put("Content-Type: audio/ogg\r\n"));
    assert_eq!(second.head.status, 200);
    assert!(!first.ends_within(SECOND / 2), "the first is on air until there is something else to hear");
    second.socket.write_all(&two).expect("sent");
    assert!(listener.read(two.len()) == two, "headers first, then every byte");
    assert!(first.ends_within(SECOND * 5));
    assert_eq!(server.metric("flumen_source_up", &[]), 1.0, "the end of the first is not the end of the second");
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
}

#[test]
fn an_encoder_that_falls_silent_is_let_go_and_its_listeners_stay() {
    let server = Server::spawn("", &mount("source_timeout = \"1s\""), &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let early = wait_for_the_first(&server);
    let body = mp3();
    let mut encoder = greet(&server, &put("Content-Type: audio/mpeg\r\n"));
    encoder.socket.write_all(&body).expect("sent");
    let mut listener = Stream::open(early);
    assert!(listener.read(body.len()) == body);
    assert!(encoder.ends_within(SECOND * 5));
    assert!(until(SECOND * 5, || server.log().contains("has sent nothing for")), "{}", server.log());
    let mut next = greet(&server, &put("Content-Type: audio/mpeg\r\n"));
    next.socket.write_all(&body).expect("sent");
    assert!(listener.read(body.len()) == body);
}

#[test]
fn nothing_that_is_published_runs_in_a_browser_as_a_page_of_this_server() {
    let page = [b"<!doctype html><script>alert(document.domain)</script>".to_vec(), vec![b' '; 100_000]].concat();
    for (claimed, served, sandboxed) in [
        ("text/html", "application/octet-stream", false),
        ("image/svg+xml", "application/octet-stream", false),
        ("*/*", "application/octet-stream", false),
        ("multipart/x-mixed-replace;boundary=x", "multipart/x-mixed-replace;boundary=x", true),
    ] {
        let server = Server::spawn("", &mount(""), &[]);
        assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
        let early = wait_for_the_first(&server);
        let mut encoder = greet(&server, &put(&format!("Content-Type: {claimed}\r\n")));
        encoder.socket.write_all(&page).expect("sent");
        let mut listener = Stream::open(early);
        assert!(listener.read(page.len()) == page, "{claimed}: the bytes are nobody's business");
        let sent = |name: &str| listener.head.header(name);
        assert_eq!((sent("content-type"), sent("content-security-policy")), (Some(served), sandboxed.then_some("sandbox")), "{claimed}");
        assert_eq!(server.log().contains("is not passed on"), !sandboxed, "{claimed} {}", server.log());
    }
}

#[test]
fn a_liar_is_served_by_what_it_is_and_the_unknown_as_it_comes() {
    for (body, claimed, served) in [
        (ogg(), "audio/mpeg", "application/ogg"),
        (mp3(), "application/ogg", "audio/mpeg"),
        (mp3(), "", "audio/mpeg"),
        (b"neither sound nor picture, but somebody wants it".to_vec(), "text/plain", "text/plain"),
        (vec![0x11; 100_000], "", "application/octet-stream"),
    ] {
        let server = Server::spawn("", &mount(""), &[]);
        assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
        let early = wait_for_the_first(&server);
        let field = if claimed.is_empty() { String::new() } else { format!("Content-Type: {claimed}\r\n") };
        let mut encoder = greet(&server, &put(&field));
        encoder.socket.write_all(&body).expect("sent");
        let mut listener = Stream::open(early);
        assert_eq!(listener.head.header("content-type"), Some(served), "{claimed}");
        assert!(listener.read(body.len()) == body, "{claimed}");
        let lied = !claimed.is_empty() && claimed != served;
        let told = || server.log().contains("not what the encoder says");
        assert_eq!(if lied { until(SECOND * 5, told) } else { told() }, lied, "{claimed} {}", server.log());
    }
}

#[test]
fn a_shoutcast_encoder_is_heard() {
    let port = free_port();
    let mounts = mount("").replace("[push]\n", &format!("[push]\nshoutcast = [\"127.0.0.1:{port}\"]\n"));
    let body = mp3();
    for (line, welcome) in [
        ("wrong\r\n", "invalid password\r\n"),
        ("s3cret\r\n", "OK2\r\nicy-caps:11\r\n\r\n"),
        ("/live:s3cret\r\n", "OK2\r\nicy-caps:11\r\n\r\n"),
    ] {
        let server = Server::spawn("", &mounts, &[]);
        assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
        let early = wait_for_the_first(&server);
        let mut encoder = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        encoder.set_read_timeout(Some(SECOND * 5)).expect("a timeout");
        encoder.write_all(line.as_bytes()).expect("sent");
        let mut answer = vec![0; welcome.len()];
        encoder.read_exact(&mut answer).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), welcome);
        if welcome.starts_with("OK2") {
            encoder.write_all(b"icy-name:Shouted\r\nicy-genre:jazz\r\ncontent-type:audio/mpeg\r\n\r\n").expect("sent");
            encoder.write_all(&body).expect("sent");
            let mut listener = Stream::open(early);
            assert!(listener.read(body.len()) == body);
        }
    }
}

#[test]
fn passwords_that_protect_nothing_are_refused_at_start_and_none_is_shown() {
    for (push, problem) in [
        ("password = \"hackme\"", "everybody knows"),
        ("password = \"\"", "is empty"),
        ("password = \"verysecret\"\npassword_hash = \"$2b$04$aaaaaaaaaaaaaaaaaaaaaa\"", "no hash"),
        ("password_file = \"/nowhere/at/all\"", "cannot be read"),
        ("passwort = \"verysecret\"", "did you mean \"push.password\""),
    ] {
        let mut server = Server::spawn("", &format!("[push]\n{push}\n\n[[mount]]\npath = \"/live\"\n"), &[]);
        assert_eq!(server.wait(SECOND * 10), Some(1), "{push}");
        assert!(server.log().contains(problem), "{push}: {}", server.log());
        assert!(!server.log().contains("hackme") && !server.log().contains("verysecret"), "{}", server.log());
    }
}

#[test]
fn a_stream_in_many_requests_is_one_stream() {
    let server = Server::spawn("", &mount(""), &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let early = wait_for_the_first(&server);
    let body = mp3();
    for part in body.chunks(5000) {
        let mut encoder = greet(&server, &put(&format!("Content-Length: {}\r\n", part.len())));
        assert_eq!(encoder.head.status, 200);
        encoder.socket.write_all(part).expect("sent");
        assert!(encoder.ends_within(SECOND * 5));
    }
    let mut listener = Stream::open(early);
    assert!(listener.read(body.len()) == body);
    assert_eq!(server.metric("flumen_source_restarts_total", &[]), 0.0);
    assert!(until(SECOND * 5, || server.metric("flumen_source_up", &[]) == 0.0), "and it ends when no more comes");
}
