//! What is guessed, what was overheard, and what the log has of those who may do nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::support::{self, Server, Stream, free_port, until};
use super::{SECOND, attacked, from_elsewhere, reset, scale, statuses};

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
        // Whoever resets the connection because no 200 has come at once is as slow.
        let (began, mut looked_at) = (Instant::now(), 0);
        for batch in 0..10 * scale() {
            let sockets: Vec<_> = (0..20).map(|i| ask(from_elsewhere(server), &format!("guess {batch} {i}"))).collect();
            std::thread::sleep(SECOND / 10);
            for socket in sockets {
                socket.set_nonblocking(true).expect("set");
                looked_at += u64::from((&socket).read(&mut [0]).is_err()); // others are told at once that theirs was not
                socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).expect("set");
            }
        }
        let seconds = began.elapsed().as_secs() + 1;
        assert!((1..=16 * seconds).contains(&looked_at), "{looked_at} guesses were looked at in {seconds} s");
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

/// What the event log says, line by line.
fn events(server: &Server) -> Vec<serde_json::Value> {
    server.log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn what_an_outsider_does_a_thousand_times_is_a_few_lines_in_the_log_and_a_count() {
    let shoutcast = free_port();
    // Without any password, so that nothing slows down who asks.
    let mut server =
        Server::start(&format!("[push]\nshoutcast = [\"127.0.0.1:{shoutcast}\"]\n{}[[mount]]\npath = \"/live.mp3\"\n", support::MP3));
    let before = events(&server).len();
    let times = 1000 * scale();
    for i in 0..times {
        let put = "PUT /live.mp3 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        assert_eq!(statuses(server.ask(put).as_bytes()), [403]);
        let order = format!(
            "POST /api/v1/mounts/{i}.mp3/source/stop HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(statuses(server.ask(order).as_bytes()), [403]);
        drop(TcpStream::connect(("127.0.0.1", shoutcast)).expect("connected"));
        // What the framework might have a word about.
        for broken in [
            "\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost",
            "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "GET /api/v1/mounts HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut socket = server.connect();
            socket.write_all(broken.as_bytes()).expect("sent");
            reset(&socket);
        }
    }
    assert!(until(SECOND * 20, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND * 20), Some(0));
    let events = events(&server);
    assert!(events.len() <= before + 20, "{} lines:\n{}", events.len(), server.log());
    let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    for (what, why) in [
        ("encoder turned away", "no password for encoders is configured: set [push] password"),
        ("encoder turned away", "it went before it had greeted"),
        ("not allowed", "source stop"),
    ] {
        let first = |event: &&serde_json::Value| {
            let (reason, order) = (text(event, "why"), text(event, "outcome") == "not allowed" && text(event, "act") == why);
            order || (text(event, "message") == what && reason == why)
        };
        let told = events.iter().filter(first).count() as u64;
        let held = events.iter().filter(|event| text(event, "what") == what && text(event, "why") == why);
        let counted: u64 = held.filter_map(|event| event["count"].as_u64()).sum();
        assert!((1..=3).contains(&told), "{what}, {why}: {told} times");
        assert_eq!(told + counted, times as u64, "{what}, {why}; log:\n{}", server.log());
    }
}
