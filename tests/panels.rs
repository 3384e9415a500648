//! Who may listen and publish, over real sockets: files of users, signed addresses, tokens, and backends that behave or do not.

#[path = "panels/backends.rs"]
mod backends;
mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use support::{MP3, Response, Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// By bcrypt at the least cost, of `right`.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";
/// `anna:right`, `anna:wrong`, and `bert:right`.
const ANNA: &str = "Authorization: Basic YW5uYTpyaWdodA==\r\n";
const WRONG: &str = "Authorization: Basic YW5uYTp3cm9uZw==\r\n";
const BERT: &str = "Authorization: Basic YmVydDpyaWdodA==\r\n";
/// `source:s3cret`.
const SOURCE: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";

/// A server whose mount has these lines; files are in a folder beside it.
fn server(lines: &str) -> Server {
    Server::start(&format!("[admin]\nuser = \"admin\"\n{MP3}{lines}\n"))
}

fn get(server: &Server, method: &str, path: &str, fields: &str) -> Response {
    let answer = server.ask(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{fields}\r\n", server.port));
    Response::parse(answer.as_bytes()).unwrap_or_else(|| panic!("no HTTP: {answer:?}"))
}

fn listen(server: &Server, path: &str, fields: &str) -> Stream {
    server.listen_with(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: VLC/3\r\n{fields}\r\n"))
}

fn status(server: &Server, path: &str, fields: &str) -> u16 {
    listen(server, path, fields).head.status
}

/// A file of a test's own.
struct Written(std::path::PathBuf);

impl Written {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flumen-panels-{}-{}", std::process::id(), free_port()));
        fs::write(&path, text).expect("written");
        Self(path)
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_of_users_lets_in_who_is_in_it_and_what_they_are_called_goes_with_them() {
    let (users, access) = (Written::new(&format!("anna:{HASH}\n")), Written::new(""));
    let log = format!("[log]\naccess = \"{}\"\n", access.shown());
    let server = Server::start(&format!("{log}{MP3}listen_auth = {{ htpasswd = \"{}\" }}\n", users.shown()));
    for (method, path, fields, want) in [
        ("GET", "/radio.mp3", "", 401),
        ("GET", "/radio.mp3", WRONG, 401),
        ("GET", "/radio.mp3", BERT, 401),
        ("HEAD", "/radio.mp3", "", 401),
        ("HEAD", "/radio.mp3", ANNA, 200),
        ("GET", "/radio.mp3.m3u", "", 401),
        ("GET", "/radio.mp3.m3u", ANNA, 200),
        ("OPTIONS", "/radio.mp3", "Origin: http://a\r\nAccess-Control-Request-Headers: authorization\r\n", 204),
        ("GET", "/radio.mp3", "Authorization: Bearer x\r\n", 401),
        ("GET", "/radio.mp3", "Authorization: Basic /////w==\r\n", 401),
    ] {
        let answer = get(&server, method, path, fields);
        assert_eq!(answer.status, want, "{method} {path} {fields}");
        let challenged = answer.header("www-authenticate").is_some_and(|field| field.starts_with("Basic realm="));
        assert_eq!(challenged, want == 401, "{method} {path} {fields}");
        assert!(answer.header("access-control-allow-origin").is_some(), "{method} {path}: pages may read why: {}", answer.head);
    }
    let preflight = get(&server, "OPTIONS", "/radio.mp3", "Origin: http://a\r\n");
    assert!(preflight.header("access-control-allow-headers").is_some_and(|names| names.contains("Authorization")));
    let playlist = get(&server, "GET", "/radio.mp3.m3u", ANNA).body_text();
    assert!(!playlist.contains("right") && playlist.ends_with("/radio.mp3\r\n"), "{playlist}");
    assert_eq!(server.metric("flumen_refusals_total", &["unauthorized", "/radio.mp3"]), 7.0);

    let mut anna = listen(&server, "/radio.mp3", ANNA);
    anna.read(10_000);
    let listed = server.get("/api/v1/mounts/radio.mp3/listeners").body_text();
    assert!(listed.contains("\"user\":\"anna\""), "{listed}");
    let clients = server.get("/admin/listclients?mount=/radio.mp3").body_text();
    assert!(clients.contains("<username>anna</username>"), "{clients}");
    // Who else is in the file is let in without a new start, and a bad file changes nothing.
    fs::write(&users.0, format!("anna:{HASH}\nbert:{HASH}\n")).expect("written");
    assert!(until(SECOND * 20, || server.log().contains("was read again")), "{}", server.log());
    assert_eq!(status(&server, "/radio.mp3", BERT), 200);
    fs::write(&users.0, "anna:plain\n").expect("written");
    assert!(until(SECOND * 20, || server.log().contains("has gone bad")), "{}", server.log());
    assert_eq!(status(&server, "/radio.mp3", ANNA), 200);
    // By name.
    let removed = |user: &str| get(&server, "DELETE", &format!("/api/v1/mounts/radio.mp3/listeners{user}"), "");
    assert_eq!(removed("").status, 400);
    assert_eq!((removed("?user=nobody").body_text().trim(), removed("?user=anna").status), ("{\"removed\":0}", 200));
    assert!(anna.ends_within(SECOND * 5));
    let line = || fs::read_to_string(&access.0).unwrap_or_default();
    assert!(until(SECOND * 5, || line().contains("127.0.0.1 - anna [") && line().contains(" kicked /radio.mp3")), "{}", line());
}

#[test]
fn a_user_is_removed_from_every_mount_at_once_and_nobody_else_is() {
    let users = Written::new(&format!("anna:{HASH}\nbert:{HASH}\n"));
    let mounts = ["/a.mp3", "/deep/b.mp3", "/c.mp3"].map(|path| {
        let rule = format!("listen_auth = {{ htpasswd = \"{}\" }}\n", users.shown());
        MP3.replace("/radio.mp3", path) + if path == "/c.mp3" { "" } else { &rule }
    });
    let server = Server::start(&mounts.concat());
    let hears = |path: &str, who: &str| {
        let mut stream = listen(&server, path, who);
        assert_eq!(stream.head.status, 200, "{path}");
        stream.read(100);
        stream
    };
    let annas: Vec<_> = ["/a.mp3", "/deep/b.mp3", "/a.mp3"].into_iter().map(|path| hears(path, ANNA)).collect();
    // Whoever says a name where nobody asks for one is nobody.
    let mut others = [hears("/a.mp3", BERT), hears("/deep/b.mp3", BERT), hears("/c.mp3", ANNA)];
    let remove = |query: &str, fields: &str| get(&server, "DELETE", &format!("/api/v1/listeners{query}"), fields);
    for (query, fields, want, part) in [
        ("", "", 400, "?user=NAME"),
        ("?user=", "", 400, "?user=NAME"),
        ("?user=anna", "X-Forwarded-For: 192.0.2.1\r\n", 403, "proxy"),
        ("?user=anna", "Origin: http://evil.example\r\n", 403, "a page from elsewhere"),
        ("?user=ann", "", 200, "{\"removed\":0}"),
        ("?user=anna", "", 200, "{\"removed\":3}"),
        ("?user=anna", "", 200, "{\"removed\":0}"),
    ] {
        let answer = remove(query, fields);
        assert!(answer.status == want && answer.body_text().contains(part), "{query} {fields}{}: {}", answer.head, answer.body_text());
    }
    let other = get(&server, "GET", "/api/v1/listeners?user=anna", "");
    assert_eq!((other.status, other.header("allow")), (405, Some("DELETE")));
    assert!(annas.into_iter().all(|mut stream| stream.ends_within(SECOND * 5)));
    assert!(others.iter_mut().all(|stream| stream.read(20_000).len() == 20_000));
    assert!(until(SECOND * 5, || server.metric("flumen_listener_departures_total", &["kicked"]) == 3.0));
    assert_eq!(server.metric("flumen_listener_departures_total", &[]), 3.0);
    let acts: Vec<_> = server.log().lines().filter(|line| line.contains("remove user")).map(str::to_owned).collect();
    assert!(acts.len() == 3 && acts[1].contains("anna") && acts[1].contains("3 removed"), "{acts:?}");
}

#[test]
fn who_guesses_has_to_wait_and_who_does_not_guess_has_not() {
    let users = Written::new(&format!("anna:{HASH}\n"));
    let server = server(&format!("listen_auth = {{ htpasswd = \"{}\" }}", users.shown()));
    for guess in 0..5 {
        assert_eq!(status(&server, "/radio.mp3", WRONG), 401, "{guess}");
    }
    let throttled = get(&server, "GET", "/radio.mp3", ANNA);
    assert_eq!(throttled.status, 429);
    assert!(throttled.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    assert_eq!(status(&server, "/radio.mp3", ""), 401, "who says nothing is told what to say");
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn sign(arguments: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_flumen")).arg("sign").args(arguments).output().expect("flumen runs");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).trim().to_owned() + String::from_utf8_lossy(&out.stderr).trim())
}

#[test]
fn a_signed_address_is_good_where_it_says_and_until_it_says() {
    let secret = Written::new("0123456789abcdef0123456789abcdef\n");
    let server = server(&format!("listen_auth = {{ signed = \"{}\" }}", secret.shown()));
    let signed = |more: &[&str]| {
        let (code, query) = sign(&[&["--secret", &secret.shown(), "--mount", "/radio.mp3"], more].concat());
        assert_eq!(code, Some(0), "{query}");
        format!("/radio.mp3?{query}")
    };
    let (good, here) = (signed(&[]), signed(&["--address", "127.0.0.1", "--user", "anna & co"]));
    for (path, want) in [
        ("/radio.mp3", 403),
        (&good, 200),
        (&here, 200),
        (&signed(&["--address", "192.0.2.1"]), 403),
        (&good.replace("expires=1", "expires=2"), 403),
        (&format!("{good}0"), 403),
        (&format!("{good}&signature=0"), 403),
        (&good.replace("/radio.mp3?", "/radio.mp3?user=bert&"), 403),
    ] {
        let answer = listen(&server, path, "");
        assert_eq!(answer.head.status, want, "{path}");
        assert!(answer.head.header("www-authenticate").is_none(), "no password would help");
    }
    let _here = listen(&server, &here, "");
    assert!(until(SECOND * 5, || server.get("/api/v1/mounts/radio.mp3/listeners").body_text().contains("\"user\":\"anna & co\"")));
    let playlist = get(&server, "GET", &good.replace("/radio.mp3?", "/radio.mp3.m3u?"), "").body_text();
    assert!(playlist.contains(&good), "a playlist carries on what it was asked by: {playlist}");
    // When it has expired, whoever still listens has to go.
    let mut brief = listen(&server, &signed(&["--lasts", "2s"]), "");
    let start = Instant::now();
    assert!(brief.head.status == 200 && brief.ends_within(SECOND * 15) && start.elapsed() > SECOND / 2);
    assert!(until(SECOND * 5, || server.metric("flumen_listener_departures_total", &["session_limit"]) == 1.0), "{}", server.log());
    for (arguments, part) in [
        (vec!["--secret", "/no/such", "--mount", "/a"], "cannot be read"),
        (vec!["--secret", &secret.shown(), "--mount", "a"], "write"),
        (vec!["--secret", &secret.shown(), "--mount", "/a", "--lasts", "soon"], "write"),
        (vec!["--secret", &secret.shown(), "--mount", "/a", "--address", "x"], "is no address"),
    ] {
        let (code, said) = sign(&arguments);
        assert!(code == Some(1) && said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_token_is_taken_from_its_field_or_the_query_and_ends_what_it_allowed() {
    let key = [7_u8; 32];
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let keys = Written::new(&format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, encode(&key)));
    let server = server(&format!("listen_auth = {{ jwt = \"{}\", audience = \"radio\" }}", keys.shown()));
    let token = |algorithm: &str, claims: &str| {
        let text = format!("{}.{}", encode(format!(r#"{{"alg":"{algorithm}"}}"#).as_bytes()), encode(claims.as_bytes()));
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), text.as_bytes());
        format!("{text}.{}", encode(tag.as_ref()))
    };
    let claims = |seconds: u64, more: &str| format!(r#"{{"exp":{},"aud":"radio","sub":"anna"{more}}}"#, now() + seconds);
    let good = token("HS256", &claims(60, ""));
    for (path, fields, want) in [
        ("/radio.mp3", String::new(), 403),
        ("/radio.mp3", format!("Authorization: Bearer {good}\r\n"), 200),
        (&format!("/radio.mp3?token={good}"), String::new(), 200),
        (&format!("/radio.mp3?token={good}x"), String::new(), 403),
        (&format!("/radio.mp3?token={}", token("none", &claims(60, ""))), String::new(), 403),
        (&format!("/radio.mp3?token={}", token("HS256", &claims(60, ",\"mount\":\"/other\""))), String::new(), 403),
        (&format!("/radio.mp3?token={}", token("HS256", &claims(60, ",\"mount\":\"/radio.mp3\""))), String::new(), 200),
        (&format!("/radio.mp3?token={}", "x".repeat(6000)), String::new(), 403),
    ] {
        assert_eq!(status(&server, path, &fields), want, "{path} {fields}");
    }
    let mut brief = listen(&server, &format!("/radio.mp3?token={}", token("HS256", &claims(2, ""))), "");
    assert!(brief.head.status == 200 && brief.ends_within(SECOND * 15));
    assert!(until(SECOND * 5, || server.metric("flumen_listener_departures_total", &["session_limit"]) == 1.0), "{}", server.log());
}

#[test]
fn rules_of_addresses_and_agents_are_combined() {
    let server = server(
        "listen_auth = { all = [{ allow = [\"127.0.0.0/8\"] }, { not = { agent = [\"*bot*\", \"curl\"] } }, { deny = \"10.0.0.0/8\" }] }",
    );
    for (agent, want) in [("mpv", 200), ("Googlebot/2", 403), ("curl/8", 403), ("", 200)] {
        let answer = server.listen_with(&format!("GET /radio.mp3 HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"));
        assert_eq!(answer.head.status, want, "{agent}");
    }
}

fn mp3() -> Vec<u8> {
    support::gst_output(
        "audiotestsrc num-buffers=200 samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=64 cbr=true ! mpegaudioparse",
    )
}

/// Publishes until dropped, and waits until the server has something to send.
fn publish(port: u16, login: &str) -> Stream {
    let mut encoder = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    encoder.set_read_timeout(Some(SECOND * 10)).expect("set");
    write!(encoder, "SOURCE /live.mp3 HTTP/1.0\r\n{login}Content-Type: audio/mpeg\r\nUser-Agent: enc/1\r\n\r\n").expect("sent");
    let mut stream = Stream::open(encoder);
    if stream.head.status == 200 {
        stream.socket.write_all(&mp3()).expect("sent");
    }
    stream
}

#[test]
fn an_encoder_cannot_send_its_listeners_where_they_would_be_asked_who_they_are() {
    let asked = "listen_auth = { deny = [\"0.0.0.0/0\"] }\n";
    let members = MP3.replace("/radio.mp3", "/members.mp3") + asked;
    let mounts = format!(
        "[admin]\nuser = \"admin\"\npassword = \"correct horse\"\n[push]\npassword = \"s3cret\"\n{MP3}{members}[[mount]]\npath = \"/live.mp3\"\n"
    );
    let server = Server::spawn("", &mounts, &[]);
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()));
    let encoder = publish(server.port, SOURCE);
    assert_eq!(encoder.head.status, 200, "{}", server.log());
    let up = |path: &str| server.metric("flumen_source_up", &[&format!("\"{path}\"")]) == 1.0;
    assert!(until(SECOND * 10, || up("/live.mp3") && up("/members.mp3") && up("/radio.mp3")), "{}", server.log());
    let admin = "Authorization: Basic YWRtaW46Y29ycmVjdCBob3JzZQ==\r\n"; // admin:correct horse
    for (order, by, want) in [
        ("moveclients?mount=/live.mp3&destination=/members.mp3", SOURCE, 403),
        ("fallbacks?mount=/live.mp3&fallback=/members.mp3", SOURCE, 403),
        ("moveclients?mount=/members.mp3&destination=/live.mp3", SOURCE, 401), // it has no encoder
        ("moveclients?mount=/live.mp3&destination=/radio.mp3", SOURCE, 200),
        ("fallbacks?mount=/live.mp3&fallback=/radio.mp3", SOURCE, 200),
        ("moveclients?mount=/live.mp3&destination=/members.mp3", admin, 200),
        ("fallbacks?mount=/live.mp3&fallback=/members.mp3", admin, 200),
    ] {
        let answer = get(&server, "GET", &format!("/admin/{order}"), by);
        assert_eq!(answer.status, want, "{order}: {}", answer.body_text());
    }
}
