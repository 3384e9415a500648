//! What an outsider does who means harm, while others listen: each of those hears every line, in its order and without a long wait.
//!
//! `FLUMEN_ATTACK_LISTENERS` is how many listen (100; `make attacks` asks for 5,000), `FLUMEN_ATTACK_SCALE` multiplies what attackers do (1).

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, SockRef, Socket, Type};
use support::numbers::{Crowd, filled, number_at};
use support::{Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// The longest that a listener may wait: the window is half a second at the most, the rest is for a machine with other things to do.
const STALL_MOST: Duration = Duration::from_secs(4);

fn asked(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn scale() -> usize {
    asked("FLUMEN_ATTACK_SCALE", 1)
}

/// Ends the source when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Lets people listen to `/numbers` while somebody does this, and asks how they fared.
fn attacked(keys: &str, rules: &str, more: &str, attack: impl FnOnce(&Server)) {
    let port = free_port();
    let server = Server::spawn(keys, &format!("{}{more}", filled("/numbers", port, rules)), &[]);
    let source = support::connect_source(port);
    let feeding = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let _stopped = Stop(&feeding); // whatever goes wrong: a scope ends when all its threads have
        // Some 100 kbit/s.
        scope.spawn(|| number_at(source, &feeding, 16, Duration::from_millis(20)));
        server.await_ready();
        let listeners = asked("FLUMEN_ATTACK_LISTENERS", 100);
        let crowd = Crowd::gather(&server, "/numbers", listeners);
        let began = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&server)));
        let (before, took) = (crowd.heard(), began.elapsed());
        assert!(until(SECOND * 10, || crowd.heard() > before + listeners as u64 * 50), "the stream goes on; log:\n{}", server.log());
        let window = ["0", "1"].map(|shard| server.metric("flumen_coalesce_window_seconds", &[&format!("shard=\"{shard}\"")]));
        let verdict = crowd.dismiss();
        feeding.store(false, Ordering::Relaxed);
        if let Err(panic) = outcome {
            eprintln!("---- log of the server ----\n{}", server.log());
            std::panic::resume_unwind(panic);
        }
        eprintln!(
            "{took:.1?}, in which {listeners} listeners heard {} lines at least, and nothing for {:.3?} at most; data waits for {:.0} ms",
            verdict.lines,
            verdict.longest,
            window[0].max(window[1]) * 1000.0
        );
        assert!(verdict.longest < STALL_MOST, "somebody heard nothing for {:?}", verdict.longest);
    });
}

/// A connection from another address of this machine, so that what is held against an attacker is not held against others.
fn from_elsewhere(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("bound");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], server.port)).into()).expect("connected");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
    socket
}

/// The most that the kernel holds of what the server has sent to a connection from elsewhere, in bytes.
fn queued_for_elsewhere(server: &Server) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let (ours, elsewhere) = (format!("0100007F:{:04X}", server.port), "0200007F:");
    let queue = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let theirs = fields.get(1) == Some(&ours.as_str()) && fields.get(2).is_some_and(|there| there.starts_with(elsewhere));
        theirs.then(|| fields[4].split(':').next().and_then(|queue| u64::from_str_radix(queue, 16).ok())).flatten()
    };
    table.lines().filter_map(queue).max().unwrap_or(0)
}

/// Whether a connection is over, whatever it still brings.
fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(SECOND * 5)).expect("a timeout");
    let mut sink = [0; 4096];
    loop {
        match socket.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Closes with a reset, as a process that is killed with data unread does.
fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("set");
}

/// The statuses of all the answers on a connection, up to its end.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect()
}

#[test]
fn a_slowloris_holds_its_places_no_longer_than_the_header_timeout() {
    attacked("header_timeout = \"2s\"\nmax_connections = 12000", "", "", |server| {
        let began = Instant::now();
        let mut slow: Vec<_> = (0..300 * scale()).map(|_| from_elsewhere(server)).collect();
        slow.iter_mut().for_each(|socket| socket.write_all(b"GET /numbers HTTP/1.1\r\nHost: x\r\n").expect("sent"));
        while began.elapsed() < SECOND * 4 {
            for socket in &mut slow {
                let _ = socket.write_all(b"X-A: b\r\n"); // it is closed under us in the end
            }
            assert_eq!(server.get("/healthz").status, 200, "who speaks properly is served meanwhile");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(until(SECOND * 5, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
        assert!(slow.iter_mut().all(is_closed));
    });
}

#[test]
fn bombs_of_header_lines_are_refused_before_they_take_memory() {
    attacked("", "", "", |server| {
        let before = server.rss_kib();
        let large = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "x".repeat(4 << 20));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(1000));
        for i in 0..100 * scale() {
            let mut socket = from_elsewhere(server);
            let _ = socket.write_all(if i % 2 == 0 { &large } else { &many }.as_bytes()); // refused in the middle
            let _ = socket.shutdown(Shutdown::Write);
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            // With unread bytes on the way the answer may be lost to a reset; what never happens is another one.
            assert!(statuses(&answer).iter().all(|status| *status == 431), "{:?}", String::from_utf8_lossy(&answer));
        }
        assert!(server.metric("flumen_refusals_total", &["bad_request"]) >= 90.0);
        let grown = server.rss_kib().saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB more");
    });
}

#[test]
fn a_flood_of_requests_whose_answers_nobody_takes_is_given_up() {
    attacked("header_timeout = \"2s\"", "", "", |server| {
        let before = server.rss_kib();
        // More than all buffers on the way can hold.
        let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
        let mut floods: Vec<_> = (0..20 * scale()).map(|_| from_elsewhere(server)).collect();
        for socket in &mut floods {
            socket.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            let _ = socket.write_all(requests.as_bytes()); // the server stops reading
        }
        let queued = queued_for_elsewhere(server);
        assert!(queued < 512 * 1024, "the kernel holds {queued} bytes for one of them");
        let began = Instant::now();
        let mut here = Vec::new();
        let gone = until(SECOND * 30, || {
            here.push((began.elapsed(), server.metric("flumen_connections", &["guest"])));
            here.last().is_some_and(|(_, guests)| *guests == 1.0)
        });
        assert!(gone, "somebody but who asks is there: {here:?}");
        let grown = server.rss_kib().saturating_sub(before);
        assert!(grown < 64 * 1024, "{grown} KiB more");
        drop(floods);
    });
}

#[test]
fn nothing_can_be_smuggled_behind_a_request_that_could_be_read_in_two_ways() {
    attacked("", "", "", |server| {
        let hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        let length = hidden.len();
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
            "Transfer-Encoding: chunked\r\nContent-Length: 0".to_owned(),
            format!("Content-Length: 0\r\nContent-Length: {length}"),
            format!("Content-Length: {length}\r\nContent-Length: {length}"),
            format!("Content-Length: +{length}"),
            format!("Content-Length: {length}, {length}"),
            "Content-Length: 0x5".to_owned(),
            "Content-Length:".to_owned(),
            "Content-Length: 99999999999999999999999".to_owned(),
            "Transfer-Encoding: gzip, chunked".to_owned(),
            "Transfer-Encoding: chunked, identity".to_owned(),
            "Transfer-Encoding: xchunked".to_owned(),
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(),
            "Transfer-Encoding:\u{b}chunked".to_owned(),
            "Transfer-Encoding : chunked".to_owned(),
            "Transfer-Encoding\r\n : chunked".to_owned(),
            "X: y\r\n Transfer-Encoding: chunked".to_owned(),
            "X: y\nTransfer-Encoding: chunked".to_owned(),
            "X: y\rTransfer-Encoding: chunked".to_owned(),
            "X\0: y".to_owned(),
            "no colon at all".to_owned(),
        ] {
            let mut socket = from_elsewhere(server);
            let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n0\r\n\r\n{hidden}");
            socket.write_all(request.as_bytes()).expect("sent");
            let _ = socket.shutdown(Shutdown::Write);
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            assert_eq!(statuses(&answer), [400], "{fields:?}: {}", String::from_utf8_lossy(&answer));
        }
        // A body that is framed well is not looked into either.
        for request in [
            format!("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{hidden}"),
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{hidden}"),
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n{hidden}"),
        ] {
            let mut socket = from_elsewhere(server);
            socket.write_all(request.as_bytes()).expect("sent");
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            assert_eq!(statuses(&answer).len(), 1, "{request:?}: {}", String::from_utf8_lossy(&answer));
        }
        assert!(!server.log().contains("smuggled"));
    });
}

#[test]
fn no_path_leads_anywhere_but_to_what_is_served() {
    attacked("", "", "", |server| {
        for path in [
            "/../../../../etc/passwd",
            "/..%2f..%2f..%2fetc%2fpasswd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/%252e%252e%252fetc%252fpasswd",
            "/..%c0%af..%c0%afetc/passwd",
            "/..\\..\\etc\\passwd",
            "/..%5c..%5cetc%5cpasswd",
            "/numbers/../../etc/passwd",
            "/numbers%00.mp3",
            "/numbers%0d%0aSet-Cookie:%20a=b",
            "/numbers/.",
            "/numbers/",
            "//numbers",
            "/./numbers",
            "/admin/../numbers",
            "/admin/%2e%2e/stats",
            "/admin/stats.xsl.",
            "/api/v1/mounts/../../../etc/passwd",
            "/api/v1/mounts/..%2f..%2fetc%2fpasswd",
            "/%ff%fe",
            "/proc/self/environ",
            "/file:///etc/passwd",
        ] {
            let answer = server.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            let (head, _) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let status = statuses(answer.as_bytes());
            assert!(matches!(status[..], [400 | 401 | 403 | 404]), "{path}: {answer}");
            assert!(!answer.contains("root:x:") && !head.contains("Set-Cookie"), "{path}: {answer}");
        }
    });
}

#[test]
fn what_a_client_says_of_itself_is_text_wherever_it_is_shown() {
    let live = "[push]\npassword = \"s3cretively\"\n[[mount]]\npath = \"/live.mp3\"\ncontent_type = \"audio/mpeg\"\n";
    attacked("", "", live, |server| {
        let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}<script>alert(1)</script>\u{9b}31m\u{202e}\"' onload='x";
        let fields = format!("User-Agent: {}\r\nReferer: {}\r\n", "<script>alert(2)</script>\"\t", "</title><script>");
        let _listener = server.listen_with(&format!("GET /numbers HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        let credentials = BASE64_STANDARD.encode("source:s3cretively");
        let mut encoder = server.connect();
        write!(encoder, "PUT /live.mp3 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\nContent-Type: audio/mpeg\r\nIce-Name: <script>alert(3)</script>\r\nIce-Description: x\u{9b}2J\r\n\r\n").expect("sent");
        let frame = [&[0xFF, 0xFB, 0x90, 0xC4][..], &[0; 413]].concat();
        (0..40).for_each(|_| encoder.write_all(&frame).expect("sent"));
        assert!(until(SECOND * 5, || server.metric("flumen_source_up", &["/live.mp3"]) == 1.0), "{}", server.log());
        let quoted: String = evil.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let title = format!(
            "GET /admin/metadata?mount=/live.mp3&mode=updinfo&song={quoted} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\r\n"
        );
        assert_eq!(statuses(server.ask(title).as_bytes()), [200]);
        assert!(until(SECOND * 5, || server.get("/status-json.xsl").body_text().contains("owned")));
        // A request line that tries to begin another line of a log.
        server.ask("GET /x%0d%0a2026-01-01%20ERROR%20owned HTTP/1.1\r\nHost: x\r\nUser-Agent: a\u{1b}[31m\r\nConnection: close\r\n\r\n");
        for page in [
            "/",
            "/admin/",
            "/admin/listclients.xsl?mount=/numbers",
            "/admin/stats",
            "/live.mp3.xspf",
            "/live.mp3.m3u",
            "/status-json.xsl",
            "/metrics",
            "/api/v1/mounts",
            "/api/v1/mounts/numbers/listeners",
            "/7.html?mount=/live.mp3",
            "/currentsong?mount=/live.mp3",
            "/stats?mount=/live.mp3",
        ] {
            let answer = server.get(page);
            let text = answer.body_text();
            let kind = answer.header("content-type").unwrap_or_default().to_owned();
            assert!(!text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)), "{page}: {text:?}");
            assert!(!(kind.contains("html") || kind.contains("xml")) || !text.contains("<script>alert("), "{page} ({kind}): {text}");
            assert_eq!(
                answer.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("content-type")).count(),
                1,
                "{}",
                answer.head
            );
        }
        let log = server.log();
        assert!(!log.contains('\u{1b}') && !log.contains('\u{9b}') && !log.contains('\u{7}'), "{log:?}");
        assert!(!log.contains("s3cretively"), "{log}");
    });
}

#[test]
fn who_guesses_passwords_is_slowed_down_and_who_knows_one_is_not() {
    attacked("", "", "[admin]\npassword = \"correct horse battery\"\n", |server| {
        let ask = |mut socket: TcpStream, password: &str| {
            let credentials = BASE64_STANDARD.encode(format!("admin:{password}"));
            write!(
                socket,
                "GET /admin/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\nConnection: close\r\n\r\n"
            )
            .expect("sent");
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            statuses(&answer)
        };
        let guesses: Vec<_> = (0..200).flat_map(|i| ask(from_elsewhere(server), &format!("guess {i}"))).collect();
        let tried = guesses.iter().filter(|status| **status == 401).count();
        assert!(guesses.len() == 200 && guesses.iter().all(|status| [401, 429].contains(status)), "{guesses:?}");
        assert!((1..=20).contains(&tried), "{tried} guesses were looked at");
        assert_eq!(ask(from_elsewhere(server), "correct horse battery"), [429], "not even the right one, or guessing would go on");
        assert_eq!(ask(server.connect(), "correct horse battery"), [200], "from another address it is taken");
        let huge = format!(
            "GET /admin/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\nConnection: close\r\n\r\n",
            "A".repeat(100_000)
        );
        assert_eq!(statuses(server.ask(huge).as_bytes()), [431]);
    });
}

#[test]
fn who_guesses_an_encoders_password_by_the_hundred_is_as_slow_as_one_after_the_other() {
    let live = "[push]\npassword = \"s3cretively\"\n[[mount]]\npath = \"/live.mp3\"\ncontent_type = \"audio/mpeg\"\n";
    attacked("", "", live, |server| {
        let ask = |mut socket: TcpStream, password: &str| {
            let credentials = BASE64_STANDARD.encode(format!("source:{password}"));
            write!(
                socket,
                "PUT /live.mp3 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .expect("sent");
            socket
        };
        let answered = |mut socket: TcpStream| {
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            statuses(&answer)
        };
        let began = Instant::now();
        let guesses: Vec<_> = (0..100 * scale()).map(|i| ask(from_elsewhere(server), &format!("guess {i}"))).collect();
        let answers: Vec<_> = guesses.into_iter().flat_map(answered).collect();
        let seconds = began.elapsed().as_secs() + 1;
        let tried = answers.iter().filter(|status| **status == 401).count() as u64;
        assert!(answers.len() == 100 * scale() && answers.iter().all(|status| [401, 503].contains(status)), "{answers:?}");
        assert!((1..=16 * seconds).contains(&tried), "{tried} guesses were looked at in {seconds} s");
        assert_eq!(answered(ask(server.connect(), "s3cretively")), [200], "from another address it is taken");
        let taken = until(SECOND * 5, || answered(ask(from_elsewhere(server), "s3cretively")) == [200]);
        assert!(taken, "from the same as soon as nobody guesses there: nobody is locked out");
    });
}

#[test]
fn what_somebody_overheard_is_of_no_use_elsewhere_and_later() {
    let (folder, secret) = (std::env::temp_dir(), "0123456789abcdef0123456789abcdef");
    let file = folder.join(format!("flumen-overheard-{}", std::process::id()));
    std::fs::write(&file, secret).expect("written");
    let auth = format!("listen_auth = {{ signed = \"{}\" }}", file.display());
    let mounts = ["/a.ogg", "/b.ogg"]
        .map(|path| format!("[[mount]]\npath = \"{path}\"\npipeline = \"audiotestsrc is-live=true ! vorbisenc ! oggmux\"\n{auth}\n"));
    attacked("", "", &mounts.concat(), |server| {
        let sign = |lasts: &str| {
            let out = std::process::Command::new(env!("CARGO_BIN_EXE_flumen"))
                .args(["sign", "--mount", "/a.ogg", "--address", "127.0.0.1", "--lasts", lasts, "--secret"])
                .arg(&file)
                .output()
                .expect("flumen runs");
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        let status = |mut socket: TcpStream, path: &str, query: &str| {
            write!(socket, "GET {path}?{query} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
            Stream::open(socket).head.status
        };
        let (long, short) = (sign("1h"), sign("1s"));
        assert_eq!(status(server.connect(), "/a.ogg", &long), 200, "{}", server.log());
        for _ in 0..50 * scale() {
            assert_eq!(status(from_elsewhere(server), "/a.ogg", &long), 403, "from another address");
            assert_eq!(status(server.connect(), "/b.ogg", &long), 403, "for another mount");
        }
        std::thread::sleep(SECOND * 2);
        for _ in 0..50 * scale() {
            assert_eq!(status(server.connect(), "/a.ogg", &short), 403, "after its time");
        }
        assert_eq!(status(server.connect(), "/a.ogg", &long), 200);
    });
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn lists_that_are_asked_for_and_never_read_take_no_memory() {
    attacked("header_timeout = \"2s\"", "", "", |server| {
        let before = server.rss_kib();
        let all: Vec<_> = (0..100 * scale())
            .map(|i| {
                let mut socket = from_elsewhere(server);
                SockRef::from(&socket).set_recv_buffer_size(4096).expect("a small buffer");
                let page = ["/api/v1/mounts/numbers/listeners", "/metrics", "/status-json.xsl"][i % 3];
                socket.write_all(format!("GET {page} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
                socket
            })
            .collect();
        let mut most = 0;
        let gone = until(SECOND * 60, || {
            most = most.max(server.rss_kib());
            server.metric("flumen_connections", &["guest"]) == 1.0
        });
        assert!(gone, "{} are there", server.metric("flumen_connections", &["guest"]));
        let grown = most.saturating_sub(before);
        eprintln!("{grown} KiB more at the most");
        assert!(grown < 160 * 1024, "{grown} KiB more");
        drop(all);
    });
}

#[test]
fn readers_that_take_nothing_or_a_byte_a_second_are_removed_with_their_word() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nhard_limit = \"2s\"\nburst = \"none\"";
    attacked("", rules, "", |server| {
        let count = 50 * scale();
        let lazy = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(2048).expect("a small buffer");
            socket.connect(&SocketAddr::from(([127, 0, 0, 1], server.port)).into()).expect("connected");
            let mut socket = TcpStream::from(socket);
            socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n").expect("sent");
            socket
        };
        let nothing: Vec<_> = (0..count).map(|_| lazy()).collect();
        let mut dripping: Vec<_> = (0..count).map(|_| lazy()).collect();
        let removed = || server.metric("flumen_listener_departures_total", &["too_slow"]);
        let gone = until(SECOND * 30, || {
            dripping.iter_mut().for_each(|socket| drop(socket.read(&mut [0])));
            std::thread::sleep(SECOND);
            removed() == (2 * count) as f64
        });
        assert!(gone, "{} of {} are gone", removed(), 2 * count);
        drop(nothing);
    });
}

#[test]
fn storms_of_resets_leave_exact_counters_and_no_memory() {
    attacked("", "", "", |server| {
        let round = |count: usize| {
            for i in 0..count {
                let mut socket = from_elsewhere(server);
                reset(&socket);
                // At every stage of a connection's life.
                let _ = match i % 4 {
                    0 => Ok(()),
                    1 => socket.write_all(b"GET /num"),
                    2 => socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n"),
                    _ => socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n").and_then(|()| socket.read(&mut [0; 100]).map(drop)),
                };
            }
            assert!(until(SECOND * 20, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
        };
        let listeners = server.metric("flumen_listeners", &[]);
        round(1000);
        let memory = server.rss_kib();
        (0..3 * scale()).for_each(|_| round(1000));
        assert!(until(SECOND * 10, || server.metric("flumen_listeners", &[]) == listeners));
        let (joins, left) = (server.metric("flumen_listener_joins_total", &[]), server.metric("flumen_listener_departures_total", &[]));
        assert_eq!(joins - left, listeners, "everybody who came has left, once");
        let grown = server.rss_kib().saturating_sub(memory);
        assert!(grown < 8 * 1024, "{grown} KiB more than {memory} KiB after {} more", 3000 * scale());
    });
}

#[test]
fn who_comes_again_and_again_to_a_mount_that_is_dead_costs_little() {
    attacked("header_timeout = \"1s\"", "", "[[mount]]\npath = \"/dead\"\n", |server| {
        let mut waiting = Vec::new();
        for _ in 0..10 * scale() {
            waiting.extend((0..30).map(|_| {
                let mut socket = from_elsewhere(server);
                socket.write_all(b"GET /dead HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
                socket
            }));
            std::thread::sleep(Duration::from_millis(50));
        }
        for mut socket in waiting {
            let mut answer = String::new();
            let _ = socket.read_to_string(&mut answer);
            assert!(answer.starts_with("HTTP/1.1 503") && answer.to_ascii_lowercase().contains("retry-after:"), "{answer}");
        }
        assert!(server.log().len() < 100_000, "{} bytes of log", server.log().len());
    });
}

#[test]
fn of_a_hundred_who_want_the_last_place_exactly_one_gets_it() {
    attacked(
        "",
        "",
        "[[mount]]\npath = \"/small\"\npipeline = \"audiotestsrc is-live=true ! vorbisenc ! oggmux\"\nmax_listeners = 1\n",
        |server| {
            let mut sockets: Vec<_> = (0..100).map(|_| from_elsewhere(server)).collect();
            sockets.iter_mut().for_each(|socket| socket.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent"));
            let answered: Vec<_> = sockets.into_iter().map(Stream::open).collect();
            let told = |status: u16| answered.iter().filter(|stream| stream.head.status == status).count();
            assert_eq!((told(200), told(503)), (1, 99));
            assert_eq!(server.metric("flumen_refusals_total", &["/small", "full"]), 99.0);
        },
    );
}

#[test]
fn handshakes_that_are_begun_and_left_disturb_nobody() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = std::env::temp_dir().join(format!("flumen-attacks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let port = free_port();
    let folder_text = folder.display();
    let tls = format!(
        "[[server.tls]]\nlisten = [\"127.0.0.1:{port}\"]\ncertificates = [{{ cert = \"{folder_text}/cert.pem\", key = \"{folder_text}/key.pem\" }}]\n"
    );
    let half_open = 200 * scale();
    attacked(&format!("header_timeout = \"2s\"\nmax_connections = {}", 12_000 + half_open), "", &tls, |server| {
        let mut hello = Vec::new();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(RootCertStore::empty());
        let mut client =
            ClientConnection::new(Arc::new(config.with_no_client_auth()), "localhost".try_into().expect("a name")).expect("a client");
        client.write_tls(&mut hello).expect("a greeting");
        let held: Vec<_> = (0..half_open)
            .map(|i| {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
                let _ = socket.write_all(&hello[..[0, 1, 5, hello.len() / 2, hello.len()][i % 5]]); // it may be closed again
                socket
            })
            .collect();
        assert_eq!(server.get("/healthz").status, 200, "who speaks properly is served meanwhile");
        let over =
            || ["timeout", "refused", "failed"].iter().map(|result| server.metric("flumen_tls_handshakes_total", &[result])).sum::<f64>();
        assert!(until(SECOND * 20, || over() >= half_open as f64), "{} of {half_open} are over", over());
        assert!(until(SECOND * 5, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
        drop(held);
    });
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn five_who_scrape_and_one_who_lists_all_the_time_are_not_felt() {
    attacked("", "", "", |server| {
        let going_on = AtomicBool::new(true);
        let slowest = std::thread::scope(|scope| {
            let ask = |path: &'static str| {
                let (mut longest, mut asked) = (Duration::ZERO, 0);
                while going_on.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    assert_eq!(server.get(path).status, 200);
                    longest = longest.max(began.elapsed());
                    asked += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                assert!(asked > 10, "{path}: {asked}");
                longest
            };
            let askers: Vec<_> = ["/metrics"; 5]
                .into_iter()
                .chain(["/admin/listclients?mount=/numbers", "/api/v1/mounts/numbers/listeners"])
                .map(|path| scope.spawn(move || ask(path)))
                .collect();
            std::thread::sleep(SECOND * 4);
            going_on.store(false, Ordering::Relaxed);
            askers.into_iter().map(|asker| asker.join().expect("answered")).max().expect("one")
        });
        assert!(slowest < SECOND * 2, "an answer took {slowest:?}");
        assert!(server.metric("flumen_listeners", &[]) >= 100.0);
    });
}
