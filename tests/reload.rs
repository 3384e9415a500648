//! A running server is told to read its configuration anew: what changes, and what must not notice.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::numbers::{filled, follow, number};
use support::{MP3, Server, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

fn reload(server: &Server) -> (u16, Value) {
    let answer = server.request("POST", "/api/v1/reload").expect("an answer");
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body_text())))
}

fn reloaded(server: &Server) -> Value {
    let (status, answer) = reload(server);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn fifty_reloads_cost_no_listener_a_byte() {
    let (port, second) = (free_port(), free_port());
    let server = Server::spawn("", &filled("/numbers", port, ""), &[]);
    let source = support::connect_source(port);
    let (going_on, feeding) = (AtomicBool::new(true), AtomicBool::new(true));
    std::thread::scope(|scope| {
        scope.spawn(|| number(source, &feeding));
        server.await_ready();
        let listeners: Vec<_> = (0..20).map(|_| scope.spawn(|| follow(server.listen("/numbers"), &going_on))).collect();
        assert!(until(SECOND * 10, || server.metric("flumen_listeners", &[]) == 20.0));
        for i in 0..50 {
            let keys = [
                "soft_limit = \"8s\"\nhard_limit = \"20s\"\nrecover = \"latest\"",
                "burst = \"1s\"\nname = \"N\"\nmax_listeners = 30",
                "coalesce = \"50ms\"\nsend_buffer = \"64KiB\"\ndscp = \"AF41\"",
                "ring_max = \"16MiB\"\nidle_timeout = \"20s\"\nmax_listener_duration = \"1h\"",
                "",
            ][i % 5];
            let elsewhere = if i % 2 == 0 { format!("tcp = [\"127.0.0.1:{second}\"]\n") } else { String::new() };
            let other = if i % 3 == 0 { MP3 } else { "" };
            server.rewrite(&format!("max_listeners = {}", 100 + i), &format!("{}{elsewhere}{other}", filled("/numbers", port, keys)));
            let answer = reloaded(&server);
            assert_eq!(answer["changed"][0]["mount"], "/numbers", "{answer}");
            std::thread::sleep(Duration::from_millis(40));
        }
        assert_eq!(server.metric("flumen_listeners", &["/numbers"]), 20.0);
        assert_eq!(server.metric("flumen_source_restarts_total", &["/numbers"]), 0.0);
        going_on.store(false, Ordering::Relaxed);
        for listener in listeners {
            let lines = listener.join().expect("nothing was lost");
            assert!(lines > 10_000, "only {lines} lines");
        }
        feeding.store(false, Ordering::Relaxed);
    });
    assert_eq!(server.metric("flumen_config_last_reload_successful", &[]), 1.0);
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    let server = Server::start(MP3);
    let mut listener = server.listen("/radio.mp3");
    let before = server.metric("flumen_config_last_reload_timestamp_seconds", &[]);
    server.rewrite("", &format!("{MP3}burst = \"5 parsecs\"\ncolour = 1\n[[mount]]\npath = \"/new\"\n"));
    let (status, answer) = reload(&server);
    assert_eq!((status, answer["errors"].as_array().map(Vec::len)), (422, Some(2)), "{answer}");
    let fault = &answer["errors"][0];
    assert!(fault["place"].as_str().is_some_and(|place| place.ends_with("flumen.toml:10")), "{answer}");
    assert_eq!((&fault["key"], &fault["value"]), (&Value::from("mount[0].burst"), &Value::from("\"5 parsecs\"")));
    let (code, said) = server.tell("reload");
    assert!(code == Some(1) && said.contains("mount[0].colour") && said.contains("5 parsecs"), "{code:?} {said}");
    assert_eq!(server.metric("flumen_config_last_reload_successful", &[]), 0.0);
    assert_eq!(server.metric("flumen_config_last_reload_timestamp_seconds", &[]), before);
    let told = |what: &str| until(Duration::from_secs(5), || server.log().contains(what));
    assert!(told("5 parsecs") && told("nothing has changed"), "{}", server.log());
    assert_eq!(server.get("/new").status, 404);
    assert!(!listener.read(10_000).is_empty());
    std::fs::remove_file(server.dir.join("flumen.toml")).expect("removed");
    assert_eq!(reload(&server).0, 422, "a file that is gone is not replaced by the demo");

    server.rewrite("", MP3);
    let (code, said) = server.tell("reload");
    assert_eq!((code, said.as_str()), (Some(0), "nothing has changed\n"));
    assert_eq!(server.metric("flumen_config_last_reload_successful", &[]), 1.0);
    assert!(server.metric("flumen_config_last_reload_timestamp_seconds", &[]) > before);
    assert!(!listener.read(10_000).is_empty());
}

#[test]
fn mounts_come_and_go_and_who_listened_is_told_why() {
    let radio = |path: &str| MP3.replace("/radio.mp3", path);
    let server = Server::start(&format!("{}{}", radio("/a.mp3"), radio("/b.mp3")));
    let (mut stays, mut goes) = (server.listen("/a.mp3"), server.listen("/b.mp3"));
    goes.read(1000);
    server.rewrite("", &format!("{}{}", radio("/a.mp3"), radio("/c.mp3")));
    let answer = reloaded(&server);
    assert_eq!((&answer["added"], &answer["removed"]), (&Value::from(vec!["/c.mp3"]), &Value::from(vec!["/b.mp3"])));
    assert!(goes.ends_within(SECOND * 5), "it is sent what is queued, and leaves");
    assert!(until(SECOND * 5, || server.log().contains("shutting_down")), "{}", server.log());
    assert_eq!(server.get("/b.mp3").status, 404);
    assert!(!server.get("/metrics").body_text().contains("/b.mp3"), "its series are gone");
    assert_eq!(server.metric("flumen_session_seconds_count", &[]), 1.0, "the server's sums stay");
    server.await_ready();
    assert!(!server.listen("/c.mp3").read(10_000).is_empty());
    assert!(!stays.read(50_000).is_empty());
    assert_eq!(server.metric("flumen_listener_departures_total", &["/a.mp3"]), 0.0);

    // And back again, under a number that another mount has had.
    server.rewrite("", &format!("{}{}", radio("/b.mp3"), radio("/a.mp3")));
    assert_eq!(reloaded(&server)["added"], Value::from(vec!["/b.mp3"]));
    server.await_ready();
    assert!(!server.listen("/b.mp3").read(10_000).is_empty() && !stays.read(50_000).is_empty());
}

#[test]
fn a_hundred_mounts_come_and_go_and_leave_no_memory() {
    let mounts: String = (0..100).map(|i| format!("[[mount]]\npath = \"/{i}\"\n")).collect();
    let server = Server::start(MP3);
    let mut memory = 0;
    for round in 0..12 {
        server.rewrite("", &format!("{MP3}{mounts}"));
        assert_eq!(reloaded(&server)["added"].as_array().map(Vec::len), Some(100));
        server.rewrite("", MP3);
        assert_eq!(reloaded(&server)["removed"].as_array().map(Vec::len), Some(100));
        std::thread::sleep(Duration::from_millis(100));
        if round == 3 {
            memory = server.rss_kib();
        }
    }
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 3000, "{grown} KiB more than {memory} KiB after 800 more mounts");
}

#[test]
fn new_limits_hold_for_those_who_listen() {
    let rules = "send_buffer = \"4KiB\"\nsoft_limit = \"none\"\nburst = \"1s\"\n";
    let server = Server::start(&format!("{MP3}{rules}hard_limit = \"none\"\n"));
    let slow = server.listen("/radio.mp3");
    rustix::net::sockopt::set_socket_recv_buffer_size(&slow.socket, 4096).expect("a small buffer");
    let mut quick = server.listen("/radio.mp3");
    let end = Instant::now() + SECOND * 6;
    while Instant::now() < end {
        quick.read(1000);
    }
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);
    server.rewrite("", &format!("{MP3}{rules}hard_limit = \"2s\"\nmax_listeners = 1\n"));
    let answer = reloaded(&server);
    assert_eq!(answer["changed"][0]["keys"], Value::from(vec!["hard_limit", "max_listeners"]), "{answer}");
    let gone = || server.metric("flumen_listener_departures_total", &["too_slow"]) == 1.0;
    let end = Instant::now() + SECOND * 15;
    while Instant::now() < end && !gone() {
        quick.read(1000);
    }
    assert!(gone(), "{}", server.log());
    assert_eq!(server.get("/radio.mp3").status, 503, "there is one place, and it is taken");
}

#[test]
fn another_pipeline_costs_the_source_and_nobody_else() {
    let server = Server::start(MP3);
    let mut listener = server.listen("/radio.mp3");
    listener.read(10_000);
    server.rewrite("", &MP3.replace("bitrate=128", "bitrate=64"));
    let answer = reloaded(&server);
    assert_eq!((&answer["sources"], &answer["changed"][0]["keys"]), (&Value::from(vec!["/radio.mp3"]), &Value::from(vec!["pipeline"])));
    assert!(until(SECOND * 10, || server.metric("flumen_source_restarts_total", &[]) == 1.0));
    // The header of a 64 kbit/s frame at 44.1 kHz.
    let heard = listener.read_for(SECOND * 4);
    assert!(heard.windows(3).any(|bytes| bytes[..2] == [0xFF, 0xFB] && bytes[2] >> 4 == 5), "{} bytes of the new source", heard.len());
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 0.0);

    server.rewrite("", "[[mount]]\npath = \"/radio.mp3\"\n");
    reloaded(&server);
    assert!(until(SECOND * 5, || server.metric("flumen_source_up", &[]) == 0.0), "it has no pipeline any more");
    server.rewrite("", MP3);
    reloaded(&server);
    server.await_ready();
    listener.socket.set_read_timeout(Some(SECOND * 10)).expect("set");
    listener.read(10_000);
}

#[test]
fn sockets_are_opened_and_closed_and_a_taken_one_refuses_it_all() {
    let server = Server::start(MP3);
    let mut listener = server.listen("/radio.mp3");
    let (first, new, raw) = (server.port, free_port(), free_port());
    let listen =
        |ports: &[u16]| format!("listen = [{}]", ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect::<Vec<_>>().join(", "));
    let raw_port = format!("tcp = [\"127.0.0.1:{raw}\"]\n");
    server.rewrite(&listen(&[first, new]), &format!("{MP3}{raw_port}"));
    let answer = reloaded(&server);
    assert_eq!(answer["opened"].as_array().map(Vec::len), Some(2), "{answer}");
    assert_eq!(answer["settings"], Value::from(vec!["server.listen"]));
    for port in [first, new] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody accepts");
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.contains(" 200 "), "{text}");
    }
    let mut bytes = [0; 4000];
    let mut raw_listener = TcpStream::connect(("127.0.0.1", raw)).expect("somebody accepts");
    raw_listener.read_exact(&mut bytes).expect("the stream");

    // The raw port goes to another mount, and the new one is given up.
    let other = MP3.replace("/radio.mp3", "/other.mp3");
    server.rewrite(&listen(&[first]), &format!("{MP3}{other}{raw_port}"));
    let answer = reloaded(&server);
    assert_eq!(
        (&answer["closed"], &answer["opened"]),
        (&Value::from(vec![format!("127.0.0.1:{new}")]), &Value::from(Vec::<String>::new()))
    );
    assert!(until(SECOND * 5, || TcpStream::connect(("127.0.0.1", new)).is_err()), "nobody accepts there");
    server.await_ready();
    let _other = TcpStream::connect(("127.0.0.1", raw)).expect("somebody accepts");
    assert!(until(SECOND * 5, || server.metric("flumen_listeners", &["/other.mp3"]) == 1.0));
    raw_listener.read_exact(&mut bytes).expect("who came that way stays");

    // One for encoders that speak SHOUTcast.
    let shoutcast = free_port();
    server.rewrite(&listen(&[first]), &format!("[push]\nshoutcast = [\"127.0.0.1:{shoutcast}\"]\n{MP3}{other}{raw_port}"));
    let answer = reloaded(&server);
    assert_eq!(
        (&answer["opened"], &answer["settings"]),
        (&Value::from(vec![format!("127.0.0.1:{shoutcast}")]), &Value::from(vec!["push.shoutcast"]))
    );
    TcpStream::connect(("127.0.0.1", shoutcast)).expect("somebody accepts");

    // A port that is taken.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    server.rewrite(&listen(&[first, new, port]), &format!("{MP3}[[mount]]\npath = \"/never\"\n"));
    let (status, answer) = reload(&server);
    assert!(status == 422 && answer["error"].as_str().is_some_and(|error| error.contains("cannot listen")), "{answer}");
    assert_eq!(server.get("/never").status, 404);
    assert!(TcpStream::connect(("127.0.0.1", new)).is_err(), "nothing of it was done");
    listener.read(20_000);
}

#[test]
fn what_needs_a_restart_is_said_every_time() {
    let server = Server::start(MP3);
    server
        .rewrite("shards = 3\nheader_timeout = \"9s\"\nmax_listeners = 7", &format!("[log]\nformat = \"json\"\naccess = \"none\"\n{MP3}"));
    for settings in [vec!["server.max_listeners"], vec![]] {
        let answer = reloaded(&server);
        let again = Value::from(vec!["log.format", "server.header_timeout", "server.shards"]);
        assert_eq!((&answer["settings"], &answer["needs_restart"]), (&Value::from(settings), &again), "{answer}");
    }
    let (code, said) = server.tell("reload");
    assert!(code == Some(0) && said.contains("needs restart   server.shards"), "{said}");
}

#[test]
fn a_new_password_holds_at_once_and_the_old_one_no_more() {
    let config = |password: &str, location: &str| format!("[admin]\npassword = \"{password}\"\nlocation = \"{location}\"\n{MP3}");
    let server = Server::start(&config("first-one", "Earth"));
    // `admin:first-one` and `admin:second-one`.
    let [first, second] = ["YWRtaW46Zmlyc3Qtb25l", "YWRtaW46c2Vjb25kLW9uZQ=="];
    let ask = |credentials: &str| server.ask(format!("GET /admin/stats HTTP/1.0\r\nAuthorization: Basic {credentials}\r\n\r\n"));
    assert!(ask(first).contains(" 200 ") && ask(second).contains(" 401 "));
    server.rewrite("", &config("second-one", "Moon"));
    let answer = reloaded(&server);
    assert_eq!(answer["settings"], Value::from(vec!["admin.location", "admin.password"]), "{answer}");
    assert!(ask(first).contains(" 401 "));
    let told = ask(second);
    assert!(told.contains(" 200 ") && told.contains("<location>Moon</location>"), "{told}");
}

#[test]
fn a_storm_of_signals_is_one_reload_or_some() {
    let mut server = Server::start(MP3);
    let mut listener = server.listen("/radio.mp3");
    // By the shell itself: a hundred within a few milliseconds.
    let storm = format!("for i in {{1..100}}; do kill -HUP {}; done", server.pid());
    let hail = || assert!(std::process::Command::new("bash").args(["-c", &storm]).status().expect("bash").success());
    hail();
    server.rewrite("", &format!("{MP3}name = \"The last\"\n"));
    hail();
    assert!(until(SECOND * 20, || server.get("/api/v1/mounts").body_text().contains("The last")), "{}", server.log());
    std::thread::sleep(SECOND);
    let reloads = server.log().matches("configuration reloaded").count();
    assert!((1..=40).contains(&reloads), "{reloads} reloads for two hundred signals");
    assert!(!listener.read(50_000).is_empty());
    server.signal("-HUP");
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND * 15), Some(0));
}

#[test]
fn a_source_is_stopped_started_and_restarted_by_an_operator_and_by_nobody_else() {
    let push = "[[mount]]\npath = \"/pushed\"\n";
    let server = Server::start(&format!("{MP3}{push}"));
    let mut listener = server.listen("/radio.mp3");
    let act = |path: &str, act: &str| server.request("POST", &format!("/api/v1/mounts/{path}/source/{act}")).expect("an answer").status;
    let up = || server.metric("flumen_source_up", &["/radio.mp3"]) == 1.0;
    assert_eq!(act("radio.mp3", "stop"), 204);
    assert!(until(SECOND * 5, || !up()) && server.get("/readyz").status == 503);
    std::thread::sleep(SECOND);
    assert!(!up(), "it stays so");
    assert_eq!((act("radio.mp3", "stop"), act("radio.mp3", "start"), act("radio.mp3", "start")), (204, 204, 204));
    assert!(until(SECOND * 10, up));
    let restarts = server.metric("flumen_source_restarts_total", &["/radio.mp3"]);
    assert_eq!(act("radio.mp3", "restart"), 204);
    assert!(until(SECOND * 5, || server.metric("flumen_source_restarts_total", &["/radio.mp3"]) > restarts) && until(SECOND * 10, up));
    listener.read(20_000);
    assert_eq!((act("pushed", "start"), act("none", "start"), act("radio.mp3", "explode")), (409, 404, 405));
    let foreign = server
        .ask("POST /api/v1/mounts/radio.mp3/source/stop HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(foreign.contains(" 403 "), "{foreign}");
    assert!(foreign.contains("error") && up());
    for part in ["source stop", "source restart", "127.0.0.1", "an operator acts", "not allowed"] {
        assert!(until(SECOND * 5, || server.log().contains(part)), "{part}\n{}", server.log());
    }
    // What was not done leaves nothing behind: the mount has a source as soon as its settings say so.
    assert_eq!(act("pushed", "stop"), 409);
    server.rewrite("", &format!("{MP3}{push}pipeline = \"audiotestsrc is-live=true ! lamemp3enc ! mpegaudioparse\"\n"));
    reloaded(&server);
    assert!(until(SECOND * 10, || server.metric("flumen_source_up", &["/pushed"]) == 1.0), "{}", server.log());
}

#[test]
fn a_server_that_drains_sends_everybody_away_with_what_is_queued() {
    let mut server = Server::start(MP3);
    let mut listener = server.listen("/radio.mp3");
    listener.read(10_000);
    let (code, said) = server.tell("drain");
    assert!(code == Some(0) && said.contains("1 listeners"), "{said}");
    assert!(listener.ends_within(SECOND * 5));
    assert!(server.get("/readyz").body_text().contains("draining"));
    assert_eq!(server.get("/radio.mp3").status, 503);
    assert_eq!(server.metric("flumen_listener_departures_total", &["shutting_down"]), 1.0);
    assert!(server.metric("flumen_refusals_total", &["draining"]) >= 1.0);
    server.signal("-TERM");
    assert_eq!(server.wait(SECOND * 10), Some(0));
}

#[test]
fn who_gives_a_password_to_reload_gives_the_right_one() {
    let admin = "[admin]\npassword = \"s3cretively\"\n";
    let server = Server::start(&format!("{admin}{MP3}"));
    let tell = |who: &str| {
        let url = format!("http://{who}127.0.0.1:{}", server.port);
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_flumen")).args(["reload", "--url", &url]).output().expect("flumen runs");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let (code, said) = tell("admin:wrong@");
    assert!(code == Some(1) && said.contains("password is wrong"), "{said}");
    let (code, said) = tell("admin:s3cretively@");
    assert!(code == Some(0) && said == "nothing has changed\n", "{said}");
    server.rewrite("", &format!("{}{MP3}", admin.replace("ively", "iveness")));
    let (code, said) = tell("");
    assert!(code == Some(0) && said.contains("changed         admin.password"), "{said}");
    assert_eq!((tell("admin:s3cretively@").0, tell("admin:s3cretiveness@").0), (Some(1), Some(0)), "it holds at once");
}

#[test]
fn a_port_learns_tls_and_forgets_it_again_and_who_listens_there_hears_no_difference() {
    let port = free_port();
    let server = Server::start(MP3);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (server.dir.join("cert.pem"), server.dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let curl = |scheme: &str| {
        let url = format!("{scheme}://127.0.0.1:{port}/healthz");
        let out = std::process::Command::new("curl").args(["-sk", "--max-time", "5", &url]).output().expect("curl");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let first = server.port;
    let both = format!("listen = [\"127.0.0.1:{first}\", \"127.0.0.1:{port}\"]");
    server.rewrite(&both, MP3);
    reloaded(&server);
    assert_eq!(curl("http"), "ok\n");
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    plain.write_all(b"GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut plain = support::Stream::open(plain);
    plain.read(1000);

    let section = |certificate: &std::path::Path| {
        format!("[[server.tls]]\nlisten = [\"127.0.0.1:{port}\"]\ncertificates = [{{ cert = {certificate:?}, key = {key:?} }}]\n")
    };
    server.rewrite("", &format!("{}{MP3}", section(&cert)));
    let answer = reloaded(&server);
    assert_eq!(
        (&answer["opened"], &answer["closed"], &answer["needs_restart"]),
        (&Value::Array(vec![]), &Value::Array(vec![]), &Value::Array(vec![]))
    );
    assert!(until(SECOND * 5, || curl("https") == "ok\n"));
    plain.read(30_000);
    server.rewrite("", &format!("{}{MP3}", section(&server.dir.join("nothing.pem"))));
    assert_eq!(reload(&server).0, 422);
    assert_eq!(curl("https"), "ok\n", "it goes on as it was");
    server.rewrite("", MP3);
    assert_eq!(reloaded(&server)["closed"], Value::from(vec![format!("127.0.0.1:{port}")]));
    assert!(until(SECOND * 5, || TcpStream::connect(("127.0.0.1", port)).is_err()));
    plain.read(30_000);
}
