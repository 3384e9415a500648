//! Mounts made on the fly, and what becomes of listeners while a source is away, over real sockets.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::frames::{BASIC, Encoder, FRAME, PUSH, alive, check_runs, frame, frames, knock, known};
use support::{Server, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
const LIVE: &str = "[[mount]]\npath = \"/live/*\"\nsync = \"latest\"\nlinger = \"1s\"\nmax_mounts = 2\nname = \"Of a pattern\"\n\n";

#[test]
fn who_publishes_makes_a_mount_where_a_pattern_says_so_and_it_goes_when_nobody_publishes() {
    let more = "[[mount]]\npath = \"/live/*.own\"\npush_password = \"another\"\n\n[[mount]]\npath = \"/live/declared\"\nlinger = \"1s\"\n";
    let server = Server::spawn("", &format!("{PUSH}{LIVE}{more}"), &[]);
    alive(&server);
    // Asking makes nothing, whoever asks.
    assert_eq!(server.get("/live/a").status, 404);
    assert_eq!(knock(&server, "PUT", "/live/a", "").0.status, 401);
    assert_eq!(knock(&server, "PUT", "/live/a", "Authorization: Basic c291cmNlOndyb25n\r\n").0.status, 401);
    assert_eq!(knock(&server, "PUT", "/live/a.own", BASIC).0.status, 401, "the most specific pattern has a password of its own");
    assert_eq!(knock(&server, "PUT", "/live/", BASIC).0.status, 404, "no name is no name");
    assert_eq!(knock(&server, "PUT", "/elsewhere", BASIC).0.status, 404);
    assert!(!known(&server, "/live/a") && !known(&server, "/live/a.own"));
    assert!(server.request("OPTIONS", "/live/a").expect("an answer").header("allow").is_some_and(|allow| allow.contains("PUT")));

    let a = Encoder::start(&server, "/live/a", 'a');
    let declared = Encoder::start(&server, "/live/declared", 'd');
    let mut heard = server.listen("/live/a");
    assert_eq!((heard.head.header("icy-name"), heard.head.header("content-type")), (Some("Of a pattern"), Some("audio/mpeg")));
    check_runs(&frames(&heard.read(10 * FRAME)), 0);
    assert!(server.listen("/live/declared").head.header("icy-name").is_none(), "a mount that is declared wins");
    let labels = ["mount=\"/live/a\""];
    assert_eq!(server.metric("flumen_source_up", &labels), 1.0);
    assert!(known(&server, "/live/a") && server.get("/status-json.xsl").body_text().contains("/live/a\""));
    let (taken, _socket) = knock(&server, "PUT", "/live/a", BASIC);
    assert_eq!(taken.status, 409);

    // There are so many and no more; one that is declared is not among them.
    let b = Encoder::start(&server, "/live/b/deep", 'b');
    let (full, mut socket) = knock(&server, "SOURCE", "/live/c", BASIC);
    let mut why = String::new();
    let _ = socket.read_to_string(&mut why);
    assert!(full.status == 403 && why.contains("max_mounts"), "{why}");
    assert!(!known(&server, "/live/c"));

    drop(a);
    assert!(heard.ends_within(SECOND * 10), "who listens leaves after the linger");
    assert!(until(SECOND * 5, || !known(&server, "/live/a")));
    assert!(!server.get("/metrics").body_text().contains("/live/a\""), "no series is left behind");
    assert!(until(SECOND * 5, || server.log().contains("\"reason\":\"source_ended\"")), "{}", server.log());
    assert_eq!(server.get("/live/a").status, 404);
    let c = Encoder::start(&server, "/live/c", 'c');
    assert!(until(SECOND * 5, || known(&server, "/live/c")), "its place is free again");
    drop((b, c, declared));
    assert!(until(SECOND * 10, || !known(&server, "/live/b/deep") && !known(&server, "/live/c")));
    assert!(known(&server, "/live/declared"));
}

#[test]
fn who_comes_to_a_raw_port_when_the_programme_is_over_hears_nothing_of_it_and_does_not_stay() {
    for keys in ["on_source_end = \"close\"", "linger = \"1s\""] {
        let raw = free_port();
        let mount = format!("[[mount]]\npath = \"/declared\"\nsync = \"burst\"\nburst = \"5s\"\ntcp = [\"127.0.0.1:{raw}\"]\n{keys}\n");
        let server = Server::spawn("", &format!("{PUSH}{mount}"), &[]);
        alive(&server);
        let connect = || {
            let socket = TcpStream::connect(("127.0.0.1", raw)).expect("connected");
            socket.set_read_timeout(Some(SECOND * 10)).expect("set");
            socket
        };
        let encoder = Encoder::start(&server, "/declared", 'd');
        let mut heard = vec![0; 10 * FRAME];
        let mut early = connect();
        early.read_exact(&mut heard).expect("heard");
        drop(encoder);
        early.read_to_end(&mut heard).expect("who heard it is sent away when it is over");
        std::thread::sleep(SECOND * 2);
        for _ in 0..2 {
            let mut late = Vec::new();
            connect().read_to_end(&mut late).expect("it is sent away");
            assert!(late.is_empty(), "{keys}: {} bytes of what is over", late.len());
        }
        let _next = Encoder::start(&server, "/declared", 'n');
        connect().read_exact(&mut heard).expect("the next programme is heard");
    }
}

#[test]
fn every_kind_of_encoder_makes_a_mount_and_one_that_says_nothing_leaves_none_behind() {
    let port = free_port();
    let push = PUSH.replace("[push]\n", &format!("[push]\nshoutcast = [\"127.0.0.1:{port}\"]\n"));
    let server = Server::spawn("", &format!("{push}{}", LIVE.replace("max_mounts = 2", "source_timeout = \"2s\"")), &[]);
    alive(&server);
    for method in ["PUT", "POST", "SOURCE"] {
        let path = format!("/live/{method}");
        let _encoder = Encoder::with_rest(knock(&server, method, &path, BASIC), 'm');
        check_runs(&frames(&server.listen(&path).read(5 * FRAME)), 0);
    }
    let mut shouting = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    shouting.write_all(b"/live/shout:s3cret\r\n").expect("sent");
    let mut welcome = [0; 5];
    shouting.read_exact(&mut welcome).expect("a welcome");
    assert_eq!(&welcome, b"OK2\r\n");
    shouting.write_all(b"content-type:audio/mpeg\r\n\r\n").expect("sent");
    (0..20).for_each(|number| shouting.write_all(&frame('s', number)).expect("sent"));
    assert!(until(SECOND * 5, || server.metric("flumen_source_up", &["/live/shout"]) == 1.0));
    drop(shouting);
    // It is let in, holds a place, and sends nothing: it is let go after `source_timeout`, and its mount with it.
    let (silent, _socket) = knock(&server, "PUT", "/live/silent", BASIC);
    assert!(silent.status == 200 && known(&server, "/live/silent"));
    for path in ["PUT", "POST", "SOURCE", "shout", "silent"] {
        assert!(until(SECOND * 10, || !known(&server, &format!("/live/{path}"))), "{path}");
    }
}

#[test]
fn an_encoder_that_is_back_within_the_linger_finds_its_mount_and_its_listeners() {
    for path in ["/live/a", "/declared"] {
        let mounts = format!("{PUSH}{}[[mount]]\npath = \"/declared\"\nsync = \"latest\"\nlinger = \"4s\"\n", LIVE.replace("1s", "4s"));
        let server = Server::spawn("", &mounts, &[]);
        alive(&server);
        let first = Encoder::start(&server, path, 'a');
        let mut listener = server.listen(path);
        let mut heard = listener.read(10 * FRAME);
        drop(first);
        assert!(until(SECOND * 5, || server.metric("flumen_source_up", &[path]) == 0.0));
        std::thread::sleep(SECOND * 2);
        let second = Encoder::start(&server, path, 'b');
        assert!(until(SECOND * 10, || {
            heard.extend(listener.read(FRAME));
            frames(&heard).iter().filter(|(name, _)| *name == 'b').count() > 20
        }));
        check_runs(&frames(&heard), 1);
        assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
        drop(second);
        let went = std::time::Instant::now();
        assert!(listener.ends_within(SECOND * 10));
        assert!(went.elapsed() > SECOND * 3, "{:?}", went.elapsed());
        if path == "/declared" {
            assert_eq!(server.metric("flumen_listener_departures_total", &[path, "source_ended"]), 1.0);
            assert_eq!(server.get(path).status, 503, "nobody is let in to what is left of it");
        }
        assert_eq!(known(&server, path), path == "/declared");
    }
}

#[test]
fn a_reload_changes_what_mounts_are_made_of_and_those_without_a_pattern_end_with_their_source() {
    let server = Server::spawn("", &format!("{PUSH}{}", LIVE.replace("1s", "1h")), &[]);
    alive(&server);
    let a = Encoder::start(&server, "/live/a", 'a');
    assert_eq!(server.listen("/live/a").head.header("icy-name"), Some("Of a pattern"));
    server.rewrite("", &format!("{PUSH}{}", LIVE.replace("1s", "1h").replace("Of a pattern", "Changed")));
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && said.contains("/live/*"), "{said}");
    let b = Encoder::start(&server, "/live/b", 'b');
    assert_eq!(server.listen("/live/a").head.header("icy-name"), Some("Of a pattern"), "what was made stays what it is");
    assert_eq!(server.listen("/live/b").head.header("icy-name"), Some("Changed"));

    // One is declared now: it goes on, under other settings. The other's pattern is gone.
    let mut on_a = server.listen("/live/a");
    let mut on_b = server.listen("/live/b");
    server.rewrite("", &format!("{PUSH}[[mount]]\npath = \"/live/a\"\nname = \"Declared\"\n"));
    let (code, said) = server.tell("reload");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(knock(&server, "PUT", "/live/c", BASIC).0.status, 404);
    assert_eq!(server.listen("/live/a").head.header("icy-name"), Some("Declared"));
    on_a.read(20 * FRAME);
    on_b.read(20 * FRAME);
    drop((a, b));
    assert!(on_b.ends_within(SECOND * 5), "it ends with its source, whatever its linger was");
    assert!(until(SECOND * 5, || !known(&server, "/live/b")));
    let _again = Encoder::start(&server, "/live/a", 'A');
    assert!(until(SECOND * 5, || server.metric("flumen_source_up", &["/live/a"]) == 1.0));
    assert_eq!(server.metric("flumen_listener_departures_total", &["/live/a", "source_ended"]), 0.0);
}

#[test]
fn a_mount_that_was_made_goes_on_in_the_next_binary_with_its_listeners() {
    let server = Server::spawn("", &format!("{PUSH}{}", LIVE.replace("max_mounts = 2", "")), &[]);
    alive(&server);
    let first = Encoder::start(&server, "/live/a", 'a');
    let mut listener = server.listen("/live/a");
    let mut heard = listener.read(10 * FRAME);
    let answer = server.request("POST", "/api/v1/upgrade").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let value: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let pid = value["pid"].as_u64().expect("a process").to_string();
    struct Heir(String);
    impl Drop for Heir {
        fn drop(&mut self) {
            let _ = std::process::Command::new("kill").args(["-KILL", &self.0]).status();
        }
    }
    let _heir = Heir(pid);
    drop(first); // the old process has hung up on it
    assert!(known(&server, "/live/a"), "the linger of a second does not count while encoders find their way");
    std::thread::sleep(SECOND * 3);
    let _second = Encoder::start(&server, "/live/a", 'b');
    assert!(until(SECOND * 10, || {
        heard.extend(listener.read(FRAME));
        frames(&heard).iter().filter(|(name, _)| *name == 'b').count() > 20
    }));
    check_runs(&frames(&heard), 1);
}
