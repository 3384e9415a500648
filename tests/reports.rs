//! What a server tells of its visitors: the access log and webhooks, and that nobody who listens waits for either.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use support::{MP3, Server, body_of_request, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A server whose access log is a file in its folder.
fn logging(format: &str, rest: &str) -> (Server, std::path::PathBuf) {
    let path = std::env::temp_dir().join(format!("flumen-access-{}-{}.log", std::process::id(), free_port()));
    let log = format!("[log]\naccess = \"{}\"\naccess_format = \"{format}\"\n", path.display());
    let server = Server::start(&format!("{log}{rest}"));
    (server, path)
}

#[test]
fn each_visit_is_one_line_and_a_session_is_written_when_it_is_over() {
    let raw = free_port();
    let (server, path) = logging("combined", &format!("{MP3}tcp = [\"127.0.0.1:{raw}\"]\n"));
    let agent = "evil\\\" 200 \"x";
    let mut listener = server.listen_with(&format!("GET /radio.mp3?token=secret HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"));
    listener.read(20_000);
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", raw)).expect("connected");
    plain.read_exact(&mut [0; 1000]).expect("the stream");
    server.ask("GET /nothing?token=secret HTTP/1.1\r\nHost: a\r\nUser-Agent: curl\r\nReferer: http://b/\r\nConnection: close\r\n\r\n");
    server.ask("BAD\r\n\r\n");
    let log = || read(&path);
    assert!(until(SECOND * 5, || log().contains("\"GET /nothing HTTP/1.1\" 404 ")), "{}", log());
    assert!(!log().contains("hung_up"), "nobody has left");
    drop((listener, plain));
    assert!(until(SECOND * 5, || log().matches(" hung_up /radio.mp3\n").count() == 2), "{}", log());
    let text = log();
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains("\"http://b/\" \"curl\" 0.0"), "{text}");
    assert!(text.contains("\"-\" \"raw tcp\" "), "{text}");
    assert_eq!(text.matches("GET /radio.mp3").count(), 2, "one line for a session: {text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.contains("\"-\" 400 ") || text.contains("\"GET - HTTP/1.1\" 400 "), "{text}");
    assert!(!server.log().contains("listener left"), "and none in the event log");
    // 127.0.0.1 - - [25/Nov/2026:14:39:00 +0000] "GET /radio.mp3 HTTP/1.1" 200 20000 "-" "agent" 1.234 hung_up /radio.mp3
    let line = text.lines().find(|line| line.contains("evil")).expect("a line");
    let mut fields = line.split(' ');
    assert_eq!(fields.next(), Some("127.0.0.1"));
    let bytes: u64 = line.split("\" 200 ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("bytes");
    assert!(bytes >= 20_000, "{line}");
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn json_lines_are_json() {
    let (server, path) = logging("json", MP3);
    server.listen("/radio.mp3").read(10_000);
    server.get("/healthz");
    assert!(until(SECOND * 5, || read(&path).contains("hung_up")));
    for line in read(&path).lines() {
        let visit: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(visit["peer"] == "127.0.0.1" && visit["status"].is_u64() && visit["seconds"].is_number(), "{line}");
    }
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn what_one_connection_asked_for_has_its_number_in_both_logs() {
    let live = "[[mount]]\npath = \"/live.mp3\"\n[push]\npassword = \"s3cretively\"\n";
    let (server, path) = logging("json", &format!("{MP3}{live}"));
    server.ask("POST /api/v1/drain HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let wrong = "c291cmNlOmd1ZXNz"; // source:guess
    server.ask(format!(
        "PUT /live.mp3 HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {wrong}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    ));
    // Two requests of one connection; then a listener, whose session has its own number.
    server.ask("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /api/v1/mounts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    server.listen("/radio.mp3").read(1000);
    assert!(until(SECOND * 5, || read(&path).contains("hung_up")));
    let parse = |text: String| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>();
    let (visits, events) = (parse(read(&path)), parse(server.log()));
    let visit = |target: &str| visits.iter().find(|visit| visit["target"] == target).unwrap_or_else(|| panic!("{target}: {visits:?}"));
    let event = |says: &str| events.iter().find(|event| event["message"] == says).unwrap_or_else(|| panic!("{says}: {events:?}"));
    for (target, says) in [("/api/v1/drain", "an operator acts"), ("/live.mp3", "encoder turned away")] {
        let number = visit(target)["connection"].as_u64().unwrap_or_else(|| panic!("{}", visit(target)));
        assert_eq!(event(says)["connection"], number, "{says}");
    }
    assert_ne!(visit("/api/v1/drain")["connection"], visit("/live.mp3")["connection"]);
    assert_eq!(visit("/healthz")["connection"], visit("/api/v1/mounts")["connection"]);
    let session = visits.iter().find(|visit| visit["departure"] == "hung_up").expect("a session");
    assert!(session["id"].is_u64() && session["connection"].is_null(), "{session}");
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn fifty_rotations_lose_no_line_and_no_listener_a_byte() {
    let (server, path) = logging("combined", MP3);
    let mut listener = server.listen("/radio.mp3");
    let moved = |i: usize| path.with_extension(i.to_string());
    for i in 0..50 {
        server.ask(format!("GET /visit/{i} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        std::fs::rename(&path, moved(i)).expect("moved");
        server.signal("-HUP");
        assert!(until(SECOND * 5, || path.exists()), "opened again");
        listener.read(1000);
    }
    let all = || (0..50).map(|i| read(&moved(i))).collect::<String>() + &read(&path);
    let missing = || (0..50).filter(|i| !all().contains(&format!("/visit/{i} "))).collect::<Vec<_>>();
    assert!(until(SECOND * 5, || missing().is_empty()), "{:?}", missing());
    assert_eq!(server.metric("flumen_log_dropped_total", &[]), 0.0);
    (0..50).for_each(|i| std::fs::remove_file(moved(i)).expect("removed"));
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let server = Server::start(&format!("[log]\naccess = \"/dev/full\"\n{MP3}"));
    let mut listener = server.listen("/radio.mp3");
    (0..50).for_each(|_| assert_eq!(server.get("/healthz").status, 200));
    assert!(until(SECOND * 5, || server.metric("flumen_log_dropped_total", &["access"]) >= 50.0));
    let text = server.log();
    assert_eq!(text.matches("cannot be written").count(), 1, "said once, not fifty times: {text}");
    listener.read(30_000);
    let path = server.dir.join("no/such/folder/log");
    server.rewrite("", &format!("[log]\naccess = \"{}\"\n{MP3}name = \"N\"\n", path.display()));
    let (code, said) = server.tell("reload");
    assert!(code == Some(1) && said.contains("cannot open the access log"), "{said}");
    assert!(!server.get("/api/v1/mounts").body_text().contains("\"N\""), "nothing of it was done");
    let path = server.dir.join("access");
    server.rewrite("", &format!("[log]\naccess = \"{}\"\n{MP3}", path.display()));
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && said.contains("log.access"), "{said}");
    server.get("/healthz");
    assert!(until(SECOND * 5, || read(&path).contains("/healthz")));
    listener.read(10_000);
}

#[test]
fn an_access_log_that_cannot_be_opened_is_refused_at_start() {
    let mut server = Server::spawn("", &format!("[log]\naccess = \"/no/such/folder/log\"\n{MP3}"), &[]);
    assert_eq!(server.wait(SECOND * 15), Some(1));
    assert!(server.log().contains("cannot open the access log /no/such/folder/log"), "{}", server.log());
}

/// A program elsewhere: what it is sent comes out of the channel.
fn receiver(port: u16, answer: &'static str, delay: Duration) -> mpsc::Receiver<Value> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let Ok(mut peer) = peer else { return };
            let body = body_of_request(&mut peer);
            std::thread::sleep(delay);
            let _ = write!(peer, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let event = body.and_then(|body| serde_json::from_str(&body).ok());
            if event.is_some_and(|event| sender.send(event).is_err()) {
                return;
            }
        }
    });
    events
}

#[test]
fn a_webhook_is_told_what_it_asked_for_in_order() {
    let port = free_port();
    let events = receiver(port, "204 No Content", Duration::ZERO);
    let server = Server::start(&format!("[[webhook]]\nurl = \"http://127.0.0.1:{port}/hook\"\n{MP3}"));
    let next = || events.recv_timeout(SECOND * 10).expect("an event");
    let up = next();
    assert_eq!(
        (&up["event"], &up["mount"], &up["source"]["content_type"]),
        (&"source_up".into(), &"/radio.mp3".into(), &"audio/mpeg".into())
    );
    let mut listener = server.listen_with("GET /radio.mp3 HTTP/1.1\r\nHost: a\r\nUser-Agent: Player/1\r\n\r\n");
    listener.read(10_000);
    let joined = next();
    assert_eq!((&joined["event"], &joined["listener"]["user_agent"]), (&"listener_joined".into(), &"Player/1".into()), "{joined}");
    drop(listener);
    let left = next();
    assert_eq!((&left["event"], &left["listener"]["departure"]), (&"listener_left".into(), &"hung_up".into()), "{left}");
    assert_eq!(left["listener"]["id"], joined["listener"]["id"]);
    assert!(left["listener"]["bytes"].as_u64().is_some_and(|bytes| bytes >= 10_000), "{left}");
    server.request("POST", "/api/v1/mounts/radio.mp3/source/stop").expect("stopped");
    let down = next();
    assert_eq!((&down["event"], &down["source"]["reason"]), (&"source_down".into(), &"stopped".into()), "{down}");
    // It counts when it has read the answer, which is a moment after we have given it.
    assert!(until(SECOND * 10, || server.metric("flumen_webhook_events_total", &["delivered"]) == 4.0));
}

#[test]
fn a_webhook_that_is_slow_or_down_harms_nobody() {
    let (slow, down) = (free_port(), free_port());
    let _events = receiver(slow, "500 Broken", SECOND * 2);
    let hooks: String = [slow, down].map(|port| format!("[[webhook]]\nurl = \"http://127.0.0.1:{port}/\"\n")).concat();
    let server = Server::start(&format!("{hooks}{MP3}"));
    let mut listener = server.listen("/radio.mp3");
    for _ in 0..3 {
        let many: Vec<_> = (0..400).map(|_| server.listen("/radio.mp3")).collect();
        drop(many);
        listener.read(2000);
    }
    let dropped = || server.metric("flumen_webhook_events_total", &["dropped"]);
    assert!(until(SECOND * 10, || dropped() > 1000.0), "{} of 4,800 events", dropped());
    assert!(server.metric("flumen_webhook_events_total", &["delivered"]) == 0.0);
    listener.read(10_000);
    server.rewrite("", MP3);
    assert_eq!(server.tell("reload").1, "changed         webhook.events\nchanged         webhook.url\n");
    listener.read(10_000);
}
