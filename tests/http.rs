//! What comes over HTTP gets a correct answer, and what is wrong gets a clear one, over real sockets, from the real server.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::{MP3, Server, Stream, until};

const SECOND: Duration = Duration::from_secs(1);

/// MP3 frames follow each other from the first byte on.
fn assert_mp3(body: &[u8]) {
    assert!(body.len() > 4, "only {} bytes", body.len());
    assert_eq!((body[0], body[1] & 0xE0), (0xFF, 0xE0), "starts with a frame: {:02x?}", &body[..4]);
    assert!(body.windows(2).take(3000).filter(|pair| pair[0] == 0xFF && pair[1] >= 0xE0).count() >= 2);
}

#[test]
fn a_listener_gets_an_endless_unframed_body_at_once() {
    let server = Server::start(MP3);
    std::thread::sleep(SECOND);
    for request in ["GET /radio.mp3 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /radio.mp3 HTTP/1.0\r\n\r\n"] {
        let began = Instant::now();
        let mut stream = server.listen_with(request);
        let body = stream.read(8000);
        assert!(began.elapsed() < SECOND, "the burst came after {:?}", began.elapsed());
        assert_mp3(&body);
        let head = &stream.head;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("audio/mpeg"));
        for (name, want) in [
            ("cache-control", "no-cache, no-store"),
            ("accept-ranges", "none"),
            ("access-control-allow-origin", "*"),
            ("x-accel-buffering", "no"),
            ("pragma", "no-cache"),
            ("expires", "Mon, 26 Jul 1997 05:00:00 GMT"),
            ("connection", "close"),
        ] {
            assert_eq!(head.header(name), Some(want), "{}", head.head);
        }
        assert!(head.header("server").is_some() && head.header("date").is_some());
        assert!(head.header("transfer-encoding").is_none() && head.header("content-length").is_none(), "{}", head.head);
    }
}

#[test]
fn odd_but_legal_requests_get_the_same_stream() {
    let server = Server::start(MP3);
    std::thread::sleep(SECOND);
    for extra in [
        "Range: bytes=0-\r\n",
        "Range: bytes=0-1\r\n",
        "Range: bytes=999999999-\r\n",
        "Range: bytes=0-1,5-9\r\n",
        "Range: rubbish\r\n",
        "Icy-MetaData: 1\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Expect: 100-continue\r\n",
        "Connection: keep-alive\r\n",
    ] {
        let mut stream = server.listen_with(&format!("GET /radio.mp3?t=123 HTTP/1.1\r\nHost: x\r\n{extra}\r\n"));
        if stream.head.status == 100 {
            stream = Stream::open(stream.socket);
        }
        assert_eq!(stream.head.status, 200, "{extra}");
        assert!(stream.head.header("transfer-encoding").is_none(), "{extra}: {}", stream.head.head);
        assert_mp3(&stream.read(4000));
    }
    assert!(until(SECOND * 5, || server.metric("flumen_listeners", &[]) == 0.0), "each of them was one listener and is gone");
    assert_eq!(server.metric("flumen_listener_joins_total", &[]), 10.0);
    assert_eq!(server.metric("flumen_listener_departures_total", &["hung_up"]), 10.0);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_the_stream_comes_last() {
    let server = Server::start(MP3);
    let mut socket = server.connect();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /radio.mp3 HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut statuses = Vec::new();
    let mut socket = Some(socket);
    loop {
        let mut stream = Stream::open(socket.take().expect("open"));
        statuses.push(stream.head.status);
        match stream.head.header("content-length").map(|length| length.parse::<usize>().expect("a length")) {
            Some(length) => drop(stream.read(length)),
            None => break assert_mp3(&stream.read(4000)),
        }
        socket = Some(stream.socket);
    }
    assert_eq!(statuses, [200, 404, 200]);
}

/// Splits what came on one connection into answers: head and body. `heads_only` says which of them have no body.
fn answers(mut bytes: &[u8], heads_only: &[bool]) -> Vec<support::Response> {
    let mut found = Vec::new();
    while let Some(mut answer) = support::Response::parse(bytes) {
        let none = heads_only.get(found.len()).is_some_and(|none| *none);
        let length = answer.header("content-length").filter(|_| !none).map_or(0, |length| length.parse().expect("a length"));
        bytes = &bytes[answer.head.len() + 4 + length..];
        answer.body.truncate(length);
        found.push(answer);
    }
    assert!(bytes.is_empty(), "left over: {:?}", String::from_utf8_lossy(bytes));
    found
}

#[test]
fn every_answer_of_one_packet_belongs_to_its_request() {
    let server = Server::start(MP3);
    let line = |method: &str, version: &str, close: bool| {
        let connection = if close { "close" } else { "keep-alive" };
        format!("{method} /healthz HTTP/{version}\r\nHost: x\r\nConnection: {connection}\r\n\r\n")
    };
    for requests in [
        [("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.1")],
        [("HEAD", "1.1"), ("GET", "1.1"), ("HEAD", "1.1")],
        [("GET", "1.0"), ("GET", "1.1"), ("GET", "1.0")],
        [("GET", "1.1"), ("HEAD", "1.0"), ("GET", "1.1")],
    ] {
        let packet: String = requests.iter().enumerate().map(|(i, (method, version))| line(method, version, i == 2)).collect();
        let heads_only: Vec<_> = requests.iter().map(|(method, _)| *method == "HEAD").collect();
        let found = answers(server.ask(&packet).as_bytes(), &heads_only);
        let got: Vec<_> = found.iter().map(|answer| (answer.head[..12].to_owned(), answer.body_text())).collect();
        let want = requests.map(|(method, version)| {
            let body = if method == "HEAD" { "" } else { "ok\n" };
            (format!("HTTP/{version} 200"), body.to_owned())
        });
        assert_eq!(got, want, "{requests:?}");
    }
}

#[test]
fn long_answers_before_a_stream_are_whole() {
    let server = Server::start(MP3);
    let mut socket = server.connect();
    let metrics = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
    socket.write_all(format!("{metrics}GET /radio.mp3 HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
    let mut total = 0;
    for _ in 0..3 {
        let mut answer = Stream::open(socket);
        let length = answer.head.header("content-length").expect("a length").parse().expect("a number");
        let body = String::from_utf8(answer.read(length)).expect("text");
        assert!(body.starts_with("# HELP") && body.ends_with('\n'));
        total += length;
        socket = answer.socket;
    }
    assert!(total > 16_384, "more than a hull captures: {total}");
    assert_mp3(&Stream::open(socket).read(4000));
}

#[test]
fn a_body_is_never_waited_for_and_nothing_behind_it_is_a_request() {
    let server = Server::start_with("header_timeout = \"1s\"", MP3);
    let chunked = "POST /radio.mp3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sized = "POST /radio.mp3 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for request in [
        chunked.to_owned(),
        format!("{chunked}5\r\nab"),
        format!("{chunked}0\r\n\r\nGET /hea"),
        format!("{chunked}0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("{chunked}0\r\n\r\nGET /healthz HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(60_000)),
        format!("{chunked}zz\r\n"),
        sized.to_owned(),
        format!("{sized}{}", "x".repeat(100_000)),
        format!("{sized}{}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)),
        format!("{sized}{}", "x".repeat(2_000_000)),
    ] {
        let began = Instant::now();
        let answer = server.ask(&request);
        let shown = &request[..request.len().min(120)];
        assert!(began.elapsed() < SECOND * 8, "{shown:?}: {:?}", began.elapsed());
        let found = answers(answer.as_bytes(), &[]);
        assert_eq!(found.iter().map(|answer| answer.status).collect::<Vec<_>>(), [405], "{shown:?}: {answer}");
        assert_eq!(found[0].header("connection"), Some("close"), "{shown:?}");
    }
    let mut dripping = server.connect();
    dripping.write_all(chunked.as_bytes()).expect("sent");
    assert!(until(SECOND * 8, || dripping.write_all(b"1\r\nx\r\n").is_err()), "a body that drips holds nobody");
}

#[test]
fn answers_that_nobody_takes_are_given_up() {
    let server = Server::start_with("header_timeout = \"1s\"", MP3);
    let mut socket = server.connect();
    socket.set_write_timeout(Some(SECOND)).expect("a timeout");
    let _ = socket.write_all("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20_000).as_bytes()); // as many as there is room for
    assert!(until(SECOND * 10, || server.metric("flumen_connections", &["guest"]) == 1.0), "only the one that asks is left");
}

#[test]
fn who_hangs_up_while_waiting_for_a_source_is_noticed() {
    let mounts = "[[mount]]\npath = \"/empty\"\n[[mount]]\npath = \"/keep\"\nhalf_close = \"keep\"\n";
    let server = Server::spawn("header_timeout = \"60s\"", mounts, &[]);
    server.await_ready();
    let connections = |count: f64| until(SECOND * 5, || server.metric("flumen_connections", &["guest"]) == count + 1.0);
    let ask = |path: &str| {
        let mut socket = server.connect();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /next").as_bytes()).expect("sent");
        socket
    };
    let (gone, half, kept) = (ask("/empty"), ask("/empty"), ask("/keep"));
    assert!(connections(3.0));
    drop(gone);
    assert!(connections(2.0), "who is gone");
    half.shutdown(Shutdown::Write).expect("half closed");
    assert!(connections(1.0), "who will be taken for gone");
    kept.shutdown(Shutdown::Write).expect("half closed");
    std::thread::sleep(SECOND);
    assert!(connections(1.0), "who may stay");
}

#[test]
fn who_ends_its_side_after_asking_is_answered() {
    let server = Server::start(MP3);
    let mut socket = server.connect();
    socket.write_all("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3).as_bytes()).expect("sent");
    socket.shutdown(Shutdown::Write).expect("half closed");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("all of it");
    assert_eq!(answers(&bytes, &[]).len(), 3);
}

#[test]
fn a_playlist_names_the_address_that_the_client_used() {
    let server = Server::start(MP3);
    let local = format!("http://127.0.0.1:{}/radio.mp3", server.port);
    for (fields, want) in [
        ("", local.as_str()),
        ("X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher\r\nForwarded: host=evil.example;proto=gopher\r\n", &local),
        ("Host: radio.example:81\r\n", "http://radio.example:81/radio.mp3"),
    ] {
        let answer = server.ask(format!("GET /radio.mp3.m3u HTTP/1.0\r\n{fields}\r\n"));
        assert!(answer.ends_with(&format!("\r\n{want}\r\n")), "{fields}: {answer}");
    }
}

#[test]
fn what_may_be_asked_is_told() {
    let server = Server::start(MP3);
    for target in ["*", "/radio.mp3", "/status-json.xsl", "/api/v1/mounts"] {
        let answer = server.request("OPTIONS", target).expect("an answer");
        // Encoders ask the server as a whole whether they may push.
        let allowed = if target == "*" { "GET, HEAD, OPTIONS, PUT, POST, SOURCE" } else { "GET, HEAD, OPTIONS" };
        assert_eq!((answer.status, answer.header("allow")), (204, Some(allowed)), "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{target}");
    }
    assert!(server.get("/nowhere").body_text().contains("/api/v1/mounts"), "where to look");
}

#[test]
fn head_answers_the_same_head_and_counts_nobody() {
    let server = Server::start(MP3);
    let answer = server.request("HEAD", "/radio.mp3").expect("an answer");
    assert_eq!((answer.status, answer.header("content-type"), answer.body.len()), (200, Some("audio/mpeg"), 0));
    assert!(answer.header("content-length").is_none());
    assert_eq!(server.metric("flumen_listener_joins_total", &[]), 0.0);
}

#[test]
fn what_is_wrong_gets_a_clear_answer() {
    let server = Server::start_with("header_timeout = \"1s\"\nmax_header_size = \"2KiB\"", MP3);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(5000));
    for (request, status, word) in [
        ("GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "no mount"),
        ("GET /%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400, "path"),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "no mount"),
        ("POST /radio.mp3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "GET"),
        (
            "PUT /radio.mp3 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
            405,
            "filled by its pipeline or relay",
        ),
        ("SOURCE /radio.mp3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "filled by its pipeline or relay"),
        ("BREW /radio.mp3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "GET"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "twice"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "exclude"),
        ("GET /\r\n\r\n", 400, "not HTTP"),
        ("GET /a<b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "percent-encode"),
        ("GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", 400, "percent-encode"),
        ("GET /radio\u{fc}.mp3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "no mount"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}", 400, "plain HTTP"),
        (long.as_str(), 431, "larger"),
        ("GET / HTTP/1.1\r\nHost: ", 408, "too long"), // and then nothing
    ] {
        let answer = server.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
        assert!(answer.split("\r\n\r\n").nth(1).is_some_and(|body| body.contains(word)), "{request:?}: {answer}");
    }
    assert!(server.metric("flumen_refusals_total", &["mount=\"\"", "bad_request"]) >= 10.0);
    assert_mp3(&server.listen("/radio.mp3").read(2000));
}

#[test]
fn who_connects_and_says_nothing_is_closed_after_the_header_timeout() {
    let server = Server::start_with("header_timeout = \"1s\"", MP3);
    let mut socket = server.connect();
    let began = Instant::now();
    assert_eq!(socket.read(&mut [0; 10]).expect("an end"), 0);
    assert!((SECOND..SECOND * 4).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[test]
fn a_hundred_thousand_unknown_mounts_leave_nothing_behind() {
    let server = Server::start(MP3);
    let ask = |from: u32, to: u32| {
        let mut socket = server.connect();
        let mut sink = [0; 65536];
        for block in (from..to).collect::<Vec<_>>().chunks(50) {
            let requests: String = block.iter().map(|i| format!("GET /unknown-{i} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
            socket.write_all(requests.as_bytes()).expect("sent");
            let mut ends = 0;
            while ends < block.len() {
                let count = socket.read(&mut sink).expect("answers");
                assert_ne!(count, 0, "closed");
                ends += sink[..count].windows(8).filter(|window| window == b"HTTP/1.1").count();
            }
        }
    };
    ask(0, 20_000);
    let (memory, lines) = (server.rss_kib(), server.get("/metrics").body_text().lines().count());
    ask(20_000, 100_000);
    assert!(server.rss_kib() < memory + 2048, "{memory} KiB became {} KiB", server.rss_kib());
    assert_eq!(server.get("/metrics").body_text().lines().count(), lines, "no series per path");
    assert!(server.log().len() < 20_000, "and no line per request: {} bytes of log", server.log().len());
}

#[test]
fn a_half_closed_peer_has_hung_up_unless_the_mount_keeps_it() {
    let mounts = format!("{MP3}\n{}half_close = \"keep\"\n", MP3.replace("/radio.mp3", "/patient.mp3"));
    let server = Server::start(&mounts);
    let mut leaving = server.listen("/radio.mp3");
    leaving.socket.shutdown(Shutdown::Write).expect("half closed");
    assert!(leaving.ends_within(SECOND * 3));
    let mut staying = server.listen("/patient.mp3");
    staying.socket.shutdown(Shutdown::Write).expect("half closed");
    assert!(!staying.ends_within(SECOND * 2));
    assert_eq!(server.metric("flumen_listener_departures_total", &["radio.mp3", "hung_up"]), 1.0);
    assert_eq!(server.metric("flumen_listeners", &["patient.mp3"]), 1.0);
}

#[test]
fn a_listener_may_send_a_little_but_not_without_end() {
    let server = Server::start(MP3);
    let mut stream = server.listen("/radio.mp3");
    stream.socket.write_all(&[b'x'; 10_000]).expect("a little");
    assert!(!stream.ends_within(SECOND));
    let _ = stream.socket.write_all(&vec![b'x'; 200_000]); // it may be closed under us
    assert!(stream.ends_within(SECOND * 3));
    assert!(until(SECOND * 3, || server.metric("flumen_listener_departures_total", &["kicked"]) == 1.0));
}

#[test]
fn places_are_limited_and_a_place_given_back_can_be_taken() {
    let server = Server::start_with("max_listeners = 3", &format!("{MP3}max_listeners = 2\n\n{}", MP3.replace("/radio.mp3", "/other.mp3")));
    let first = server.listen("/radio.mp3");
    let _second = server.listen("/radio.mp3");
    let refused = server.get("/radio.mp3");
    assert_eq!(refused.status, 503);
    let seconds: u32 = refused.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=60).contains(&seconds));
    assert!(refused.body_text().contains("no place"), "{refused:?}");
    let _third = server.listen("/other.mp3");
    assert_eq!(server.get("/other.mp3").status, 503, "the server is full");
    assert_eq!(server.get("/healthz").status, 200, "but answers");
    drop(first);
    assert!(until(SECOND * 3, || server.metric("flumen_listeners", &["radio.mp3"]) == 1.0));
    assert_eq!(server.listen("/radio.mp3").head.status, 200);
    assert_eq!(server.metric("flumen_refusals_total", &["radio.mp3", "full"]), 1.0);
    assert_eq!(server.metric("flumen_refusals_total", &["other.mp3", "full"]), 1.0);
}

#[test]
fn a_mount_without_a_source_answers_503_in_time() {
    let server = Server::spawn("header_timeout = \"1s\"", "[[mount]]\npath = \"/empty.ogg\"\n", &[]);
    server.await_ready();
    let began = Instant::now();
    let answer = server.get("/empty.ogg");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some() && answer.body_text().contains("no source"));
    assert!((SECOND..SECOND * 5).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(server.metric("flumen_refusals_total", &["no_source"]), 1.0);
}

#[test]
fn a_hang_up_is_seen_at_once_on_a_silent_mount() {
    let port = support::free_port();
    let server = Server::spawn(
        "",
        &format!("[[mount]]\npath = \"/silent\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port} ! gdpdepay\"\n"),
        &[],
    );
    let mut source = support::connect_source(port);
    // One buffer, made by GStreamer itself, then silence with the connection open.
    let gdp = support::gst_output("audiotestsrc num-buffers=1 ! gdppay");
    source.write_all(&gdp).expect("sent");
    server.await_ready();
    let mut stream = server.listen("/silent");
    assert!(!stream.read_for(SECOND).is_empty());
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
    drop(stream);
    assert!(until(SECOND, || server.metric("flumen_listener_departures_total", &["hung_up"]) == 1.0));
}

#[test]
fn unix_sockets_and_both_internet_protocols_serve_the_same() {
    let server = Server::start_with("listen = [\"127.0.0.1:{port}\", \"[::1]:{port}\", \"unix:{dir}/sock\"]", MP3);
    let mut v6 = std::net::TcpStream::connect(("::1", server.port)).expect("v6");
    v6.write_all(b"GET /radio.mp3 HTTP/1.0\r\n\r\n").expect("sent");
    assert_mp3(&Stream::open(v6).read(2000));
    let mut unix = UnixStream::connect(server.dir.join("sock")).expect("unix");
    unix.write_all(b"GET /radio.mp3 HTTP/1.0\r\n\r\n").expect("sent");
    let mut body = vec![0; 4000];
    unix.read_exact(&mut body).expect("a stream");
    assert!(body.starts_with(b"HTTP/1.0 200 OK\r\n"));
    for both in ["[\"[::]:{port}\"]", "[\"[::]:{port}\", \"0.0.0.0:{port}\"]"] {
        let dual = Server::start_with(&format!("listen = {both}"), MP3);
        assert_mp3(&dual.listen("/radio.mp3").read(2000));
        let mut v6 = std::net::TcpStream::connect(("::1", dual.port)).expect("v6");
        v6.write_all(b"GET /radio.mp3 HTTP/1.0\r\n\r\n").expect("sent");
        assert_mp3(&Stream::open(v6).read(2000));
    }
}

#[test]
fn out_of_descriptors_it_says_so_and_recovers_without_spinning() {
    let server = Server::spawn("", MP3, &["sh", "-c", "ulimit -n 90 && exec \"$0\" \"$@\""]);
    server.await_ready();
    let mut held: Vec<_> = (0..120).map(|_| server.connect()).collect();
    let answered = held.iter_mut().rev().find_map(|socket| {
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let mut bytes = [0; 512];
        let count = socket.read(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
    });
    assert!(answered.is_some_and(|answer| answer.starts_with("HTTP/1.1 503")));
    let ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    };
    let before = ticks(server.pid());
    std::thread::sleep(SECOND * 2);
    assert!(ticks(server.pid()) - before < 120, "most of two seconds were idle");
    drop(held);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok_and(|answer| answer.status == 200)));
    assert!(server.metric("flumen_accept_errors_total", &["descriptors"]) >= 1.0);
}

#[test]
fn term_drains_and_a_second_one_is_not_needed() {
    let mut server = Server::start(MP3);
    let mut stream = server.listen("/radio.mp3");
    stream.read(2000);
    server.signal("-TERM");
    assert!(stream.ends_within(SECOND * 5));
    assert_eq!(server.wait(SECOND * 10), Some(0));
    assert!(server.log().contains("shutting_down"), "{}", server.log());
}

#[test]
fn a_listener_may_ask_for_its_own_placement_where_the_mount_allows_it() {
    let server = Server::start(&format!("{MP3}allow_query = true\n"));
    std::thread::sleep(SECOND * 3);
    let burst = |query: &str| {
        let mut stream = server.listen(&format!("/radio.mp3?{query}"));
        stream.read_for(Duration::from_millis(150)).len()
    };
    let (small, large) = (burst("sync=latest"), burst("sync=burst&burst=2s"));
    assert!(small < 8_000 && large >= 32_000, "latest {small}, two seconds {large}");
    assert!(burst("sync=burst&burst=2s&burst_max=8KiB") <= 16_000);
    for wrong in ["sync=sometimes", "burst=5", "burst=2s&burst_max=1s"] {
        let answer = server.get(&format!("/radio.mp3?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.body_text().contains("burst") || answer.body_text().contains("sync"), "{answer:?}");
    }
    assert_eq!(burst("burst_max=none").min(1), 1);
    assert_eq!(server.metric("flumen_refusals_total", &["radio.mp3", "bad_request"]), 3.0);
}
