//! What is asked: slowly, hugely, in floods, in two ways at once, with paths that lead elsewhere and words that are no text.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::support::{Server, until};
use super::{SECOND, attacked, from_elsewhere, scale, statuses};

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
