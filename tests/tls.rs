//! TLS from outside: curl, openssl and a client that sees every byte, against the real server.

#[path = "tls/heard.rs"]
mod heard;
mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{MP3, Response, Server, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

/// Certificates in a folder of a test's own, and a port.
struct Ground {
    folder: PathBuf,
    port: u16,
}

impl Ground {
    /// With one certificate for each of these names, in the files 0.pem and 0.key, and so on.
    fn with(names: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flumen-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let ground = Self { folder: std::env::temp_dir().join(name), port: free_port() };
        fs::create_dir_all(&ground.folder).expect("a folder");
        names.iter().enumerate().for_each(|(i, name)| ground.certify(i, name));
        ground
    }

    /// Writes a new certificate over the one with this number; the files are put in place whole, as the usual tools do.
    fn certify(&self, number: usize, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        self.put(&format!("{number}.pem"), &made.cert.pem());
        self.put(&format!("{number}.key"), &made.signing_key.serialize_pem());
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.join("fresh"), text).expect("written");
        fs::rename(self.folder.join("fresh"), self.folder.join(name)).expect("put in place");
    }

    fn pem(&self, number: usize) -> String {
        fs::read_to_string(self.folder.join(format!("{number}.pem"))).expect("a certificate")
    }

    /// A server with these lines in its section for TLS, with its mounts ready.
    fn serve(&self, server: &str, section: &str, mounts: &str) -> Server {
        let server = self.spawn(server, section, mounts);
        server.await_ready();
        server
    }

    fn spawn(&self, server: &str, section: &str, mounts: &str) -> Server {
        let numbers = (0..).take_while(|i| self.folder.join(format!("{i}.pem")).exists());
        let pairs: Vec<_> =
            numbers.map(|i| format!("{{ cert = \"{0}/{i}.pem\", key = \"{0}/{i}.key\" }}", self.folder.display())).collect();
        let (port, pairs) = (self.port, pairs.join(", "));
        let tls = format!("[[server.tls]]\nlisten = [\"127.0.0.1:{port}\"]\ncertificates = [{pairs}]\n{section}\n");
        Server::spawn(server, &format!("{tls}{mounts}"), &[])
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        socket.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
        socket
    }

    /// A client that trusts the first certificate, which is for localhost.
    fn client(&self) -> Client {
        self.client_on(self.socket()).expect("a handshake")
    }

    fn client_on(&self, mut socket: TcpStream) -> io::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem(0).as_bytes()).expect("PEM")).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots).with_no_client_auth();
        let name: ServerName<'static> = "localhost".try_into().expect("a name");
        let mut session = ClientConnection::new(Arc::new(config), name).expect("a client");
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Client(StreamOwned::new(session, socket)))
    }

    /// A listener that has sent its request and read the head of the answer.
    fn listen(&self, path: &str) -> Client {
        let mut client = self.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = client.head();
        assert_eq!(head.status, 200, "{}", head.head);
        client
    }

    /// Asks on a connection of its own, and reads to the end.
    fn ask(&self, request: &str) -> Response {
        let mut client = self.client();
        client.send(request);
        let mut answer = Vec::new();
        client.0.read_to_end(&mut answer).expect("an answer, and an end that is said");
        Response::parse(&answer).expect("HTTP")
    }

    fn get(&self, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", self.port))
    }

    /// What openssl has to say when it connects; it asks for a page, so that tickets come before the end.
    fn openssl(&self, arguments: &[&str]) -> String {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port), "-ign_eof"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl");
        // Where there was no handshake there is nobody to take it.
        let _ = client.stdin.take().expect("piped").write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let Output { stdout, stderr, .. } = client.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("sent");
    }

    fn head(&mut self) -> Response {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        while !bytes.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("a response head");
            bytes.push(byte[0]);
        }
        Response::parse(&bytes).expect("HTTP")
    }

    fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut body = vec![0; bytes];
        self.0.read_exact(&mut body).expect("bytes of the stream");
        body
    }

    /// Reads to the end; whether that was said, or just came.
    fn hear_out(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        let said = self.0.read_to_end(&mut body);
        (body, said.is_ok())
    }
}

fn handshakes(server: &Server, result: &str) -> f64 {
    server.metric("flumen_tls_handshakes_total", &[&format!("result=\"{result}\"")])
}

fn left(server: &Server, why: &str) -> f64 {
    server.metric("flumen_listener_departures_total", &[&format!("reason=\"{why}\"")])
}

/// A mount that is filled through a port, and what fills it.
fn filled(port: u16, rules: &str) -> String {
    format!("[[mount]]\npath = \"/raw\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port} ! gdpdepay\"\n{rules}\n")
}

// ---- what is spoken ----

#[test]
fn curl_listens_over_either_version_and_what_it_hears_decodes() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    std::thread::sleep(SECOND);
    for version in [&["--tls-max", "1.2"] as &[_], &["--tlsv1.3"]] {
        let file = server.dir.join("heard.mp3");
        let heard = Command::new("curl")
            .args(["-s", "--cacert", &ground.folder.join("0.pem").to_string_lossy(), "--max-time", "3", "-o", &file.to_string_lossy()])
            .args(version)
            .arg(format!("https://localhost:{}/radio.mp3", ground.port))
            .status()
            .expect("curl");
        assert_eq!(heard.code(), Some(28), "it listened until its time was over; log:\n{}", server.log());
        assert!(fs::metadata(&file).expect("heard").len() > 50_000, "a burst and three seconds");
        let shown = ["-v", "error", "-show_entries", "stream=codec_name,sample_rate", "-of", "csv=p=0"];
        let probe = Command::new("ffprobe").args(shown).arg(&file).output().expect("ffprobe");
        assert_eq!(String::from_utf8_lossy(&probe.stdout).trim(), "mp3,44100");
        assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    }
    assert!(until(SECOND * 5, || left(&server, "hung_up") == 2.0));
    assert_eq!(handshakes(&server, "ok"), 2.0);
}

#[test]
fn only_tls_1_2_and_1_3_are_spoken_with_strong_ciphers_and_http_1_1() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    for (arguments, said) in [
        (&["-tls1_2"] as &[&str], "New, TLSv1.2, Cipher is ECDHE-ECDSA-"),
        (&["-tls1_3"], "New, TLSv1.3, Cipher is TLS_"),
        (&["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
    ] {
        let answer = ground.openssl(arguments);
        assert!(answer.contains(said) && answer.contains("HTTP/1.1 200 OK"), "{arguments:?}\n{answer}");
    }
    for arguments in [
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"] as &[&str],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"],
        &["-alpn", "h2"],
    ] {
        let before = handshakes(&server, "failed");
        let answer = ground.openssl(arguments);
        assert!(answer.contains(" alert ") && !answer.contains("HTTP/1.1 200"), "{arguments:?}\n{answer}");
        assert!(until(SECOND * 5, || handshakes(&server, "failed") == before + 1.0), "{arguments:?}");
    }
}

#[test]
fn sessions_are_resumed_by_ticket_and_without() {
    let ground = Ground::with(&["localhost"]);
    let _server = ground.serve("", "", MP3);
    let file = ground.folder.join("session").to_string_lossy().into_owned();
    for version in [&["-tls1_3"] as &[&str], &["-tls1_2"], &["-tls1_2", "-no_ticket"]] {
        let first = ground.openssl(&[version, &["-sess_out", &file]].concat());
        assert!(first.contains("\nNew, TLSv1"), "{version:?}\n{first}");
        let second = ground.openssl(&[version, &["-sess_in", &file]].concat());
        assert!(second.contains("\nReused, TLSv1") && second.contains("HTTP/1.1 200 OK"), "{version:?}\n{second}");
    }
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate_and_the_first_is_for_everybody_else() {
    let ground = Ground::with(&["localhost", "radio.example", "*.radio.example"]);
    let _server = ground.serve("", "", MP3);
    for (asked, number) in [
        (&["-servername", "localhost"] as &[&str], 0),
        (&["-servername", "radio.example"], 1),
        (&["-servername", "RADIO.example"], 1),
        (&["-servername", "live.radio.example"], 2),
        (&["-servername", "elsewhere.example"], 0),
        (&["-noservername"], 0),
    ] {
        let answer = ground.openssl(asked);
        assert!(answer.contains(ground.pem(number).trim()), "{asked:?} is shown another certificate than {number}\n{answer}");
    }
}

#[test]
fn plain_http_on_a_port_for_tls_is_told_so_and_a_port_for_both_serves_both() {
    let plain = |ground: &Ground, request: &str| {
        let (mut socket, mut answer) = (ground.socket(), Vec::new());
        socket.write_all(request.as_bytes()).expect("sent");
        socket.read_to_end(&mut answer).expect("an answer and its end");
        Response::parse(&answer).expect("HTTP")
    };
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    for request in ["GET /radio.mp3 HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "\r\n", "SOURCE /live ICE/1.0\r\n\r\nand its body"] {
        let answer = plain(&ground, request);
        assert_eq!(answer.status, 400, "{request}");
        assert!(answer.body_text().contains("this port speaks TLS: write https://"), "{request}: {}", answer.body_text());
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{}", answer.head);
    }
    assert_eq!(handshakes(&server, "failed"), 4.0);
    drop(server);

    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "auto = true", MP3);
    let request = format!("GET /radio.mp3.m3u HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", ground.port);
    let (over_plain, over_tls) = (plain(&ground, &request).body_text(), ground.ask(&request).body_text());
    assert!(over_plain.contains(&format!("http://localhost:{}/radio.mp3", ground.port)), "{over_plain}");
    assert!(over_tls.contains(&format!("https://localhost:{}/radio.mp3", ground.port)), "{over_tls}");
    assert_eq!((handshakes(&server, "ok"), handshakes(&server, "failed")), (1.0, 0.0));
}

// ---- what is asked ----

#[test]
fn everything_that_is_asked_over_tls_is_answered_as_over_plain_under_https() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    let here = format!("localhost:{}", ground.port);
    let head = ground.ask(&format!("HEAD /radio.mp3 HTTP/1.1\r\nHost: {here}\r\n\r\n"));
    assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some("audio/mpeg"), 0));
    assert!(ground.get("/metrics").body_text().contains("flumen_tls_handshakes_total{result=\"ok\"}"));
    let status = ground.get("/status-json.xsl").body_text();
    assert!(status.contains(&format!("https://{here}/radio.mp3")), "{status}");
    for form in ["m3u", "pls", "xspf"] {
        let playlist = ground.get(&format!("/radio.mp3.{form}")).body_text();
        assert!(playlist.contains(&format!("https://{here}/radio.mp3")), "{playlist}");
    }
    for (origin, want) in [("", 404), ("Origin: https://{here}\r\n", 404), ("Origin: http://{here}\r\n", 403)] {
        let origin = origin.replace("{here}", &here);
        let request = format!("DELETE /api/v1/mounts/radio.mp3/listeners/99 HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n{origin}\r\n");
        assert_eq!(ground.ask(&request).status, want, "{origin}");
    }
    let expiry = server.metric("flumen_tls_certificate_expiry_timestamp_seconds", &["0.pem"]);
    assert!(expiry > 1.7e9, "{expiry}");
}

#[test]
fn what_is_pipelined_before_a_stream_is_answered_and_what_follows_is_thrown_away() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    let mut client = ground.client();
    let line = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send(&format!("{}{}{}{}", line("/api/v1/openapi.json"), line("/healthz"), line("/radio.mp3"), line("/healthz")));
    for _ in 0..2 {
        let head = client.head();
        assert_eq!(head.status, 200);
        client.read(head.header("content-length").and_then(|length| length.parse().ok()).expect("a length"));
    }
    assert_eq!(client.head().status, 200);
    client.send("and more of that");
    let body = client.read(20_000);
    assert_eq!((body[0], body[1] & 0xE0), (0xFF, 0xE0), "the stream begins with a frame");
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
}

// ---- who disturbs ----

#[test]
fn handshakes_that_never_end_end_by_the_deadline_and_disturb_nobody() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("header_timeout = \"2s\"", "", &format!("{MP3}coalesce = \"100ms\"\n"));
    let mut listener = ground.listen("/radio.mp3");
    let mut hello = Vec::new();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(RootCertStore::empty());
    let mut client =
        ClientConnection::new(Arc::new(config.with_no_client_auth()), "localhost".try_into().expect("a name")).expect("a client");
    client.write_tls(&mut hello).expect("a greeting");
    let began = Instant::now();
    let half_open: Vec<_> = (0..100)
        .map(|i| {
            let mut socket = ground.socket();
            socket.write_all(&hello[..[0, 1, 5, hello.len() / 2, hello.len() - 1][i % 5]]).expect("sent");
            socket
        })
        .collect();
    let (mut longest, mut last, mut buffer) = (Duration::ZERO, Instant::now(), [0; 65_536]);
    while began.elapsed() < SECOND * 3 {
        assert_ne!(listener.0.read(&mut buffer).expect("the stream"), 0);
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if began.elapsed() < SECOND {
            assert_eq!(ground.get("/healthz").status, 200, "who speaks properly is served meanwhile");
        }
    }
    assert!(longest < SECOND, "the listener waited {longest:?}");
    assert!(until(SECOND * 3, || handshakes(&server, "timeout") == 100.0), "{}", handshakes(&server, "timeout"));
    for mut socket in half_open {
        assert!(matches!(socket.read(&mut buffer), Ok(0) | Err(_)), "it is closed");
    }
    assert!(until(SECOND * 5, || server.metric("flumen_connections", &["guest"]) == 1.0), "nobody but who asks");
    assert_eq!(server.metric("flumen_listeners", &[]), 1.0);
}

#[test]
fn rubbish_in_place_of_a_greeting_is_refused_at_once() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    let rubbish: [&[u8]; 4] =
        [b"\x16\x03\x01\x00\x04\x01\x02\x03\x04", &[0x16; 64], b"\x16\x03\x01\xff\xff", b"\x16 GET / HTTP/1.1\r\n\r\n"];
    for (i, rubbish) in rubbish.iter().enumerate() {
        let (mut socket, mut answer) = (ground.socket(), Vec::new());
        socket.write_all(rubbish).expect("sent");
        let _ = socket.read_to_end(&mut answer); // a reset is an end as well
        assert!(answer.is_empty() || answer[0] == 0x15, "an alert or nothing: {answer:?}");
        assert_eq!(handshakes(&server, "failed"), (i + 1) as f64, "{rubbish:?}");
    }
}

#[test]
fn the_commands_ask_a_server_over_tls_that_is_believed_as_whom_they_say() {
    let ground = Ground::with(&["localhost", "radio.example"]);
    ground.put("password", "a-long-word-right\n");
    ground.put("wrong", "a-long-word-wrong\n");
    let file = |name: &str| ground.folder.join(name).to_string_lossy().into_owned();
    let server = ground.serve("", "", &format!("[admin]\nuser = \"anna\"\npassword_file = \"{}\"\n{MP3}", file("password")));
    let ask = |line: &str| {
        let arguments = line.split(' ').map(|word| word.strip_prefix("FILE/").map_or_else(|| word.to_owned(), &file));
        let url = format!("https://localhost:{}/", ground.port);
        let out = Command::new(env!("CARGO_BIN_EXE_flumen")).args(arguments).args(["--url", &url]).output().expect("flumen runs");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    for (line, code, said) in [
        ("status --ca FILE/0.pem", 0, "/radio.mp3"),
        ("status", 1, "certificate"),
        ("status --ca FILE/1.pem", 1, "certificate"),
        ("status --ca FILE/0.key", 1, "holds no certificate"),
        ("reload --ca FILE/0.pem --user anna --password-file FILE/nowhere", 1, "No such file"),
        ("reload --ca FILE/0.pem --user anna --password-file FILE/wrong", 1, "password"),
        ("reload --ca FILE/0.pem --password-file FILE/password", 1, "password"), // of another name
        ("reload --ca FILE/0.pem --user anna --password-file FILE/password", 0, "nothing has changed"),
        ("drain --ca FILE/0.pem --user anna --password-file FILE/password", 0, "nobody is let in any more"),
    ] {
        let (exit, text) = ask(line);
        assert_eq!(exit, Some(code), "{line}: {text}\nlog:\n{}", server.log());
        assert!(text.contains(said) && !text.contains("panicked") && !text.contains("a-long-word"), "{line}: {text}");
    }
    // One that the address has in it is for this server as well, is shown by no error, and is one too many beside another.
    let at = |login: &str, port: u16, more: &[&str]| {
        let (url, ca) = (format!("https://{login}@localhost:{port}"), file("0.pem"));
        let out = Command::new(env!("CARGO_BIN_EXE_flumen")).args(["reload", "--url", &url, "--ca", &ca]).args(more).output();
        let out = out.expect("flumen runs");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let (right, beside) = ("anna:a-long-word-right", ["--password-file", &file("password")]);
    assert_eq!(at(right, ground.port, &[]).0, Some(0), "{}", server.log());
    let (code, said) = at(right, free_port(), &[]);
    assert!(code == Some(1) && said.contains("https://localhost:") && !said.contains("right"), "{said}");
    let (code, said) = at(right, ground.port, &beside);
    assert!(code == Some(1) && said.contains("--user") && !said.contains("right"), "{said}");
}

// ---- certificates that change ----

#[test]
fn new_certificates_are_taken_under_running_listeners_and_bad_ones_are_not() {
    let ground = Ground::with(&["localhost"]);
    let server = ground.serve("", "", MP3);
    let count: u32 = std::env::var("FLUMEN_TLS_LISTENERS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut listeners: Vec<_> = (0..count).map(|_| ground.listen("/radio.mp3")).collect();
    ground.certify(0, "localhost");
    let renewed = |result: &str| server.metric("flumen_tls_certificate_reloads_total", &[&format!("result=\"{result}\"")]);
    assert!(until(SECOND * 15, || renewed("ok") == 1.0), "log:\n{}", server.log());
    drop(ground.listen("/radio.mp3")); // which trusts the new one and no other
    let good = ground.pem(0);
    ground.put("0.pem", "nothing of the kind");
    assert!(until(SECOND * 15, || renewed("failed") == 1.0), "log:\n{}", server.log());
    std::thread::sleep(SECOND * 5); // some looks more
    assert_eq!((renewed("ok"), renewed("failed")), (1.0, 1.0));
    assert_eq!(server.log().matches("cannot be renewed").count(), 1, "it is said once");
    assert!(until(SECOND * 5, || server.log().contains("holds no certificate")), "{}", server.log());
    ground.put("0.pem", &good);
    drop(ground.listen("/radio.mp3"));
    for listener in &mut listeners {
        listener.read(100_000); // all of it was sent while certificates came and went
    }
    assert!(until(SECOND * 5, || left(&server, "hung_up") == 2.0), "those who came in between");
    assert_eq!(server.metric("flumen_listeners", &[]), f64::from(count));
}

#[test]
fn a_listener_at_rest_takes_little_memory() {
    const LISTENERS: u64 = 400;
    let (ground, port) = (Ground::with(&["localhost"]), free_port());
    let server = ground.spawn("", "", &filled(port, "burst = \"none\""));
    let mut source = support::connect_source(port);
    source.write_all(&support::gst_output("audiotestsrc num-buffers=1 ! gdppay")).expect("sent");
    server.await_ready();
    let warm: Vec<_> = (0..50).map(|_| ground.listen("/raw")).collect(); // what is there once for all is there now
    let before = server.rss_kib();
    let all: Vec<_> = (0..LISTENERS).map(|_| ground.listen("/raw")).collect();
    assert!(until(SECOND * 5, || server.metric("flumen_listeners", &[]) == 450.0));
    let each = (server.rss_kib().saturating_sub(before)) as f64 / LISTENERS as f64;
    eprintln!("{each:.1} KiB for each listener at rest");
    assert!(each < 24.0, "{each} KiB for each");
    drop((warm, all));
}
