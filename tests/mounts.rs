//! Mounts made on the fly, and what becomes of listeners while a source is away, over real sockets.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Response, Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// `source:s3cret`
const BASIC: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";
const PUSH: &str = "[push]\npassword = \"s3cret\"\n\n";
/// A frame of MP3 with 128 kbit/s lasts 26 ms and has so many bytes.
const FRAME: usize = 417;
const FRAME_LASTS: Duration = Duration::from_micros(26_122);

/// A frame of MP3 that says whose it is and which.
fn frame(name: char, number: u32) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
    frame.extend_from_slice(format!("{name}{number:09}").repeat(42).as_bytes());
    frame.truncate(FRAME);
    frame
}

/// The frames in what was heard, from the first whole one on; each must be whole.
fn frames(heard: &[u8]) -> Vec<(char, u32)> {
    let mut rest = heard;
    let mut found = Vec::new();
    while rest.len() >= FRAME {
        let (one, more) = rest.split_at(FRAME);
        let name = char::from(one[4]);
        let number =
            String::from_utf8_lossy(&one[5..14]).parse().unwrap_or_else(|_| panic!("no frame: {:?}", String::from_utf8_lossy(one)));
        assert!(one == frame(name, number), "a frame that is not whole");
        found.push((name, number));
        rest = more;
    }
    found
}

/// Whether numbers only grow within each name, without a gap, and names change at most so often.
fn check_runs(found: &[(char, u32)], changes: usize) {
    let mut changed = 0;
    for pair in found.windows(2) {
        let [(before, last), (after, next)] = pair else { continue };
        if before == after {
            assert_eq!(last + 1, *next, "a gap or a repeat in {before}: {found:?}");
        } else {
            changed += 1;
        }
    }
    assert!(changed <= changes, "{changed} changes: {found:?}");
}

fn alive(server: &Server) {
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()), "{}", server.log());
}

/// An encoder that sends its frames as time goes by.
struct Encoder {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Encoder {
    /// Sends frames of this name by PUT; it must be let in, and is on air when this returns.
    fn start(server: &Server, path: &str, name: char) -> Self {
        let encoder = Self::with_rest(knock(server, "PUT", path, BASIC), name);
        let label = format!("mount=\"{path}\"");
        assert!(until(SECOND * 10, || server.metric("flumen_source_up", &[&label]) == 1.0), "{path}: {}", server.log());
        encoder
    }

    fn with_rest((answer, mut socket): (Response, TcpStream), name: char) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.head);
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if told.load(Ordering::Relaxed) || socket.write_all(&frame(name, number)).is_err() {
                    return;
                }
                std::thread::sleep(FRAME_LASTS);
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Asks to publish; what is answered, and the connection.
fn knock(server: &Server, method: &str, path: &str, fields: &str) -> (Response, TcpStream) {
    let mut socket = server.connect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Type: audio/mpeg\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("sent");
    let Stream { socket, head } = Stream::open(socket);
    (head, socket)
}

/// What the server's API says of a mount.
fn known(server: &Server, path: &str) -> bool {
    server.get(&format!("/api/v1/mounts/{}", path[1..].replace('/', "%2F"))).status == 200
}

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

/// Reads frames until there are enough of this name; all that was heard.
fn hear(listener: &mut Stream, heard: &mut Vec<u8>, name: char, enough: usize) {
    let all = until(SECOND * 15, || {
        heard.extend(listener.read(FRAME));
        frames(heard).iter().filter(|(found, _)| *found == name).count() >= enough
    });
    assert!(all, "no {name} in {:?}", frames(heard));
}

fn names(heard: &[u8]) -> String {
    let mut names: Vec<char> = frames(heard).into_iter().map(|(name, _)| name).collect();
    names.dedup();
    names.into_iter().collect()
}

fn listeners(server: &Server, path: &str) -> f64 {
    server.metric("flumen_listeners", &[&format!("mount=\"{path}\"")])
}

/// A mount that starts newcomers with what comes, so that nothing is heard twice.
fn with_fallback(path: &str, more: &str) -> String {
    format!("[[mount]]\npath = \"{path}\"\nsync = \"latest\"\n{more}\n\n")
}

#[test]
fn listeners_go_on_with_the_fallback_and_those_who_came_from_there_are_brought_back() {
    let mounts = with_fallback("/live", "fallback = \"/backup\"\noverride = true") + &with_fallback("/backup", "");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _backup = Encoder::start(&server, "/backup", 'b');
    let live = Encoder::start(&server, "/live", 'l');
    let (mut one, mut own) = (server.listen("/live"), server.listen("/backup"));
    let (mut heard, mut heard_own) = (Vec::new(), Vec::new());
    hear(&mut one, &mut heard, 'l', 20);
    drop(live);
    hear(&mut one, &mut heard, 'b', 20);
    assert!(until(SECOND * 5, || (listeners(&server, "/live"), listeners(&server, "/backup")) == (0.0, 2.0)));
    // Who comes now is served at once.
    let mut newcomer = server.listen("/live");
    let mut heard_newcomer = Vec::new();
    hear(&mut newcomer, &mut heard_newcomer, 'b', 5);
    let _again = Encoder::start(&server, "/live", 'L');
    hear(&mut one, &mut heard, 'L', 20);
    hear(&mut newcomer, &mut heard_newcomer, 'L', 20);
    hear(&mut own, &mut heard_own, 'b', 100);
    assert_eq!((names(&heard), names(&heard_newcomer), names(&heard_own)), ("lbL".into(), "bL".into(), "b".into()));
    [heard, heard_newcomer, heard_own].iter().for_each(|heard| check_runs(&frames(heard), 2));
    assert_eq!((listeners(&server, "/live"), listeners(&server, "/backup")), (2.0, 1.0));
    assert_eq!(server.metric("flumen_listener_departures_total", &["moved"]), 3.0, "there, and both of them back");
}

#[test]
fn a_chain_is_followed_and_who_was_sent_on_twice_comes_back_step_by_step() {
    let mounts = with_fallback("/a", "fallback = \"/b\"\noverride = true")
        + &with_fallback("/b", "fallback = \"/c\"\noverride = true")
        + &with_fallback("/c", "")
        + &with_fallback("/stays", "fallback = \"/c\"");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _c = Encoder::start(&server, "/c", 'c');
    let (a, stays) = (Encoder::start(&server, "/a", 'a'), Encoder::start(&server, "/stays", 's'));
    let (mut one, mut two) = (server.listen("/a"), server.listen("/stays"));
    let (mut heard, mut heard_two) = (Vec::new(), Vec::new());
    hear(&mut one, &mut heard, 'a', 5);
    hear(&mut two, &mut heard_two, 's', 5);
    drop((a, stays));
    hear(&mut one, &mut heard, 'c', 5); // /b has no source
    hear(&mut two, &mut heard_two, 'c', 5);
    let b = Encoder::start(&server, "/b", 'b');
    hear(&mut one, &mut heard, 'b', 5);
    let (_a, _stays) = (Encoder::start(&server, "/a", 'A'), Encoder::start(&server, "/stays", 'S'));
    hear(&mut one, &mut heard, 'A', 5);
    drop(b);
    hear(&mut two, &mut heard_two, 'c', 100);
    assert_eq!((names(&heard), names(&heard_two)), ("acbA".into(), "sc".into()), "without override nobody is brought back");
}

#[test]
fn a_player_is_not_sent_to_what_it_cannot_play_and_leaves_after_the_linger() {
    let mounts =
        with_fallback("/live", "fallback = \"/other\"\nlinger = \"3s\"") + &with_fallback("/other", "content_type = \"audio/aac\"");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _other = Encoder::start(&server, "/other", 'o');
    let live = Encoder::start(&server, "/live", 'l');
    let mut listener = server.listen("/live");
    listener.read(5 * FRAME);
    drop(live);
    assert!(listener.ends_within(SECOND * 10));
    assert_eq!(server.metric("flumen_listener_departures_total", &["/live", "source_ended"]), 1.0);
    assert!(server.log().contains("of another kind"), "{}", server.log());
    let newcomer = server.listen("/live");
    assert_eq!(newcomer.head.header("content-type"), Some("audio/aac"), "who comes now is told what it is");
}

#[test]
fn a_fallback_that_is_relayed_on_demand_is_pulled_for_those_who_need_it() {
    let origin = Server::spawn("", &format!("{PUSH}{}", with_fallback("/far", "")), &[]);
    alive(&origin);
    let _far = Encoder::start(&origin, "/far", 'F');
    let relay = format!("relay = \"{}\"\nrelay_on_demand = true", origin.url("/far"));
    let mounts = with_fallback("/live", "fallback = \"/near\"") + &with_fallback("/near", &relay);
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let encoder = Encoder::start(&server, "/live", 'L');
    let mut listener = server.listen("/live");
    let mut heard = listener.read_for(SECOND);
    assert_eq!(server.metric("flumen_source_up", &["mount=\"/near\""]), 0.0, "nobody wants it yet");
    drop(encoder);
    assert!(until(SECOND * 10, || server.metric("flumen_listeners", &["mount=\"/near\""]) == 1.0), "{}", server.log());
    heard.extend(listener.read_for(SECOND * 2));
    let found = frames(&heard);
    check_runs(&found, 1);
    assert_eq!((found.first().map(|first| first.0), found.last().map(|last| last.0)), (Some('L'), Some('F')));
}

#[test]
fn who_finds_a_mount_full_or_a_path_that_nobody_publishes_to_is_served_by_the_fallback() {
    let mounts = with_fallback("/live/*", "fallback = \"/backup\"\nmax_listeners = 1\nfallback_when_full = true")
        + &with_fallback("/backup", "max_listeners = 2");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    assert_eq!(server.get("/live/x").status, 404, "there is nothing to hear anywhere");
    let _backup = Encoder::start(&server, "/backup", 'b');
    let mut nobody = server.listen("/live/x");
    assert_eq!(names(&nobody.read(5 * FRAME)), "b");
    assert!(!known(&server, "/live/x"), "nothing is made by asking");
    let _live = Encoder::start(&server, "/live/a", 'a');
    let (mut first, mut second) = (server.listen("/live/a"), server.listen("/live/a"));
    assert_eq!((names(&first.read(5 * FRAME)), names(&second.read(5 * FRAME))), ("a".into(), "b".into()));
    assert_eq!(server.get("/live/a").status, 503, "both are full");
    assert_eq!(server.metric("flumen_refusals_total", &["/live/a", "full"]), 1.0);
}

/// A recording of so many frames, beside the configuration.
fn recording(count: u32) -> (std::path::PathBuf, String) {
    let file = std::env::temp_dir().join(format!("flumen-recording-{}-{}.mp3", std::process::id(), free_port()));
    std::fs::write(&file, (0..count).flat_map(|number| frame('f', number)).collect::<Vec<_>>()).expect("written");
    let key = format!("fallback = \"file:{}\"", file.display());
    (file, key)
}

#[test]
fn a_recording_is_heard_at_its_own_speed_again_and_again_until_the_source_is_back() {
    let (file, fallback) = recording(100); // 2.6 s
    let mounts = with_fallback("/live", &format!("{fallback}\nlinger = \"1s\"")) + &with_fallback("/never", &fallback);
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let live = Encoder::start(&server, "/live", 'l');
    let mut listener = server.listen("/live");
    let mut heard = Vec::new();
    hear(&mut listener, &mut heard, 'l', 20);
    drop(live);
    hear(&mut listener, &mut heard, 'f', 5);
    let seconds = 6;
    let paced = listener.read_for(SECOND * seconds);
    let rate = paced.len() as f64 / f64::from(seconds) / 15_964.0; // of what 128 kbit/s are in these frames
    assert!((0.85..1.15).contains(&rate), "{rate} of its speed");
    heard.extend(paced);
    heard.extend(listener.read(FRAME - heard.len() % FRAME)); // to the end of a frame
    let numbers: Vec<_> = frames(&heard).into_iter().filter(|(name, _)| *name == 'f').map(|(_, number)| number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 100), "{numbers:?}");
    assert!(numbers.len() > 200 && numbers[0] == 0, "from the beginning, and more than twice: {}", numbers.len());
    assert_eq!(server.metric("flumen_source_up", &["/live"]), 0.0, "it is no source");
    // Who comes when nobody has ever published is served, too, and only while somebody is there.
    let begun = server.metric("flumen_ring_chunks", &["/never"]);
    assert_eq!(begun, 0.0, "nobody has wanted to hear it");
    assert_eq!(names(&server.listen("/never").read(10 * FRAME)), "f");
    let _again = Encoder::start(&server, "/live", 'L');
    hear(&mut listener, &mut heard, 'L', 20);
    assert_eq!(names(&heard), "lfL");
    assert_eq!(server.metric("flumen_listener_departures_total", &["/live"]), 0.0);
    assert_eq!(names(&server.listen("/live").read(5 * FRAME)), "L", "nothing is left of it for newcomers");
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn a_newcomer_gets_its_burst_of_a_recording_and_never_all_of_it() {
    let (file, fallback) = recording(2000); // 52 s, 815 KiB
    let mounts = format!("[[mount]]\npath = \"/live\"\nburst = \"2s\"\n{fallback}\n");
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _first = server.listen("/live");
    std::thread::sleep(SECOND * 5);
    let burst = server.listen("/live").read_for(SECOND / 2).len() as f64 / 15_964.0;
    assert!((1.5..3.5).contains(&burst), "{burst} s in half a second");
    std::fs::remove_file(&file).expect("removed");
    // It is gone: that is said, once, and the next one is heard when it is there.
    let server = Server::spawn("", &format!("{PUSH}{}", with_fallback("/live", "linger = \"20s\"")), &[]);
    alive(&server);
    std::fs::write(&file, frame('f', 0).repeat(50)).expect("written");
    server.rewrite("", &format!("{PUSH}{}", with_fallback("/live", &format!("linger = \"20s\"\n{fallback}"))));
    assert_eq!(server.tell("reload").0, Some(0));
    std::fs::remove_file(&file).expect("removed");
    let live = Encoder::start(&server, "/live", 'l');
    let mut listener = server.listen("/live");
    listener.read(FRAME);
    drop(live);
    assert!(until(SECOND * 10, || server.log().contains("the fallback cannot be heard")), "{}", server.log());
    std::fs::write(&file, (0..50).flat_map(|number| frame('f', number)).collect::<Vec<_>>()).expect("written");
    let mut heard = Vec::new();
    hear(&mut listener, &mut heard, 'f', 5);
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(server.log().matches("the fallback cannot be heard").count(), 1);
}

#[test]
fn each_newcomer_hears_the_intro_first_with_titles_where_they_are_promised_and_only_where_it_fits() {
    let (file, fallback) = recording(50); // longer than an interval between two titles
    let intro = fallback.replace("fallback", "intro");
    let mounts = with_fallback("/live", &intro) + &with_fallback("/other", &format!("{intro}\ncontent_type = \"audio/aac\""));
    let server = Server::spawn("", &format!("{PUSH}{mounts}"), &[]);
    alive(&server);
    let _encoders = [Encoder::start(&server, "/live", 'l'), Encoder::start(&server, "/other", 'o')];
    for _ in 0..2 {
        let heard = server.listen("/live").read(60 * FRAME);
        check_runs(&frames(&heard), 1);
        assert_eq!((names(&heard).as_str(), frames(&heard)[49]), ("fl", ('f', 49)), "all of it, then the stream");
        assert_eq!(names(&server.listen("/other").read(5 * FRAME)), "o");
    }
    assert_eq!(server.log().matches("the intro is of another kind").count(), 1);
    let mut titled = server.listen_with("GET /live HTTP/1.1\r\nHost: x\r\nIcy-MetaData: 1\r\n\r\n");
    let interval: usize = titled.head.header("icy-metaint").and_then(|value| value.parse().ok()).expect("an interval");
    let mut heard = Vec::new();
    while heard.len() < 2 * interval {
        heard.extend(titled.read(interval));
        let length = usize::from(titled.read(1)[0]) * 16;
        titled.read(length);
    }
    heard.truncate(heard.len() / FRAME * FRAME);
    check_runs(&frames(&heard), 1);
    assert_eq!(names(&heard), "fl");
    std::fs::remove_file(file).expect("removed");
}
