//! Who is asking: proxies that are believed, proxies that announce their clients, and those who only pretend. Over real sockets, and
//! with nginx and HAProxy as they are configured in `packaging/proxies`.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{MP3, Response, Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);

/// A connection from another address of this machine.
fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
    stream
}

fn listen(mut socket: TcpStream, fields: &str) -> Stream {
    socket.write_all(format!("GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes()).expect("sent");
    Stream::open(socket)
}

/// Where the listeners of the mount are from, without their ports.
fn peers(server: &Server) -> Vec<String> {
    let text = server.get("/api/v1/mounts/radio.mp3/listeners").body_text();
    let listeners: Value = serde_json::from_str(&text).expect("JSON");
    let host = |listener: &Value| listener["peer"].as_str().and_then(|peer| peer.rsplit_once(':')).map(|(host, _)| host.to_owned());
    let mut peers: Vec<_> = listeners.as_array().expect("a list").iter().filter_map(host).collect();
    peers.sort();
    peers
}

/// Sends these bytes to a port; all that comes back.
fn answer(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    socket.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
    socket.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer); // a reset is an end as well
    answer
}

const ASK: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A server whose access log is a file.
fn logging(server: &str) -> Server {
    Server::start_with(&format!("{server}\n[log]\naccess = \"{{dir}}/access.log\""), &format!("# [log] is above\n{MP3}"))
}

fn access_log(server: &Server) -> String {
    std::fs::read_to_string(server.dir.join("access.log")).unwrap_or_default()
}

/// A program that runs as long as this is held.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn packaged(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/proxies").join(name)).expect("it is there")
}

fn run(command: &mut Command, port: u16) -> Running {
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it is installed"));
    assert!(until(SECOND * 15, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "it does not listen");
    running
}

#[test]
fn a_trusted_proxy_says_who_asks_and_nobody_else_does() {
    let server = logging("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]");
    let chain = "X-Forwarded-For: 198.51.100.9, 203.0.113.7, 10.0.0.1\r\n";
    let held = [
        listen(server.connect(), chain),
        listen(server.connect(), "Forwarded: for=\"[2001:db8::1]:4711\"\r\n"),
        listen(server.connect(), "X-Forwarded-For: rubbish\r\n"),
        listen(connect_from([127, 0, 0, 2], server.port), chain),
        listen(connect_from([127, 0, 0, 3], server.port), &format!("X-Forwarded-For: 1.1.1.1{}\r\n", ", 1.1.1.1".repeat(500))),
    ];
    assert!(until(SECOND * 5, || peers(&server).len() == 5));
    assert_eq!(peers(&server), ["127.0.0.1", "127.0.0.2", "127.0.0.3", "203.0.113.7", "[2001:db8::1]"]);
    let clients = server.get("/admin/listclients?mount=/radio.mp3").body_text();
    assert!(clients.contains("<IP>203.0.113.7</IP>") && clients.contains("2001:db8::1"), "{clients}");
    let page = listen_like("/api/v1/mounts/radio.mp3/listeners", &server, "X-Forwarded-For: 127.0.0.1\r\n");
    assert!(!page.body_text().contains("203.0.113.7"), "who asks through a proxy is no operator, whoever he is");
    let playlist = listen_like("/radio.mp3.m3u", &server, "X-Forwarded-Proto: https\r\nX-Forwarded-Host: radio.example\r\n");
    assert!(playlist.body_text().contains("https://radio.example/radio.mp3"), "{}", playlist.body_text());
    drop(held);
    let logged = ["203.0.113.7 - -", "127.0.0.2 - -", "2001:db8::1 - -"];
    assert!(until(SECOND * 10, || logged.iter().all(|part| access_log(&server).contains(part))), "{}", access_log(&server));
}

/// Asks for a page with more fields.
fn listen_like(path: &str, server: &Server, fields: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    Response::parse(&answer(server.port, request.as_bytes())).expect("an answer")
}

#[test]
fn nobody_becomes_his_proxy_by_a_body_and_as_many_header_lines_as_there_may_be() {
    let server = logging("trusted_proxies = [\"127.0.0.1\"]");
    assert_eq!(server.request("POST", "/api/v1/bans?address=203.0.113.66&reason=flood").expect("an answer").status, 201);
    // Host, the length and who asks are three of the 64 lines.
    let request = |path: &str, from: &str| {
        let padding: String = (0..61).map(|i| format!("x-{i}: y\r\n")).collect();
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n{padding}X-Forwarded-For: {from}\r\n\r\n.")
    };
    let mut socket = server.connect();
    socket.write_all(request("/radio.mp3", "203.0.113.7").as_bytes()).expect("sent");
    let stream = Stream::open(socket);
    assert_eq!(stream.head.status, 200);
    assert!(until(SECOND * 5, || peers(&server).len() == 1));
    assert_eq!(peers(&server), ["203.0.113.7"]);
    let listed = answer(server.port, request("/api/v1/mounts/radio.mp3/listeners", "203.0.113.7").as_bytes());
    let listed = Response::parse(&listed).expect("an answer").body_text();
    assert!(!listed.contains("203.0.113.7"), "he is no operator: {listed}");
    let banned = answer(server.port, request("/radio.mp3", "203.0.113.66").as_bytes());
    assert_eq!(Response::parse(&banned).expect("an answer").status, 403, "a ban holds");
}

/// As nginx and Apache add to what came: to the same line.
#[test]
fn nobody_becomes_his_proxy_by_bytes_that_are_no_text() {
    let server = logging("trusted_proxies = [\"127.0.0.1\"]");
    let mut socket = server.connect();
    let request = [b"GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: \xff\xfe" as &[u8], b", 203.0.113.7\r\n\r\n"].concat();
    socket.write_all(&request).expect("sent");
    let _stream = Stream::open(socket);
    assert!(until(SECOND * 5, || peers(&server).len() == 1));
    assert_eq!(peers(&server), ["203.0.113.7"]);
}

#[test]
fn a_connection_through_a_proxy_is_somebody_elses_with_each_request() {
    let server = logging("trusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_address = 1");
    let mut socket = server.connect();
    for i in 1..=3 {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.{i}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("sent");
        assert_eq!(Stream::open(socket.try_clone().expect("a clone")).head.status, 200);
        let mut rest = [0; 3];
        socket.read_exact(&mut rest).expect("the body");
    }
    // The third still is, by this connection; another of his is one too many.
    let again = listen_like("/healthz", &server, "X-Forwarded-For: 192.0.2.3\r\n");
    assert_eq!((again.status, again.header("retry-after").is_some()), (503, true), "{}", again.head);
    assert_eq!(listen_like("/healthz", &server, "X-Forwarded-For: 192.0.2.1\r\n").status, 200);
    drop(socket);
    assert!(until(SECOND * 10, || listen_like("/healthz", &server, "X-Forwarded-For: 192.0.2.3\r\n").status == 200));
    assert!((1..=3).all(|i| access_log(&server).contains(&format!("192.0.2.{i} - -"))), "{}", access_log(&server));
}

#[test]
fn an_encoder_behind_a_proxy_counts_as_a_connection_of_its_address_for_as_long_as_it_sends() {
    let keys = "trusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_address = 1";
    let server = Server::start_with(keys, "[push]\npassword = \"s3cret\"\n\n[[mount]]\npath = \"/live\"\n");
    let mut encoder = server.connect();
    let head = "PUT /live HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c291cmNlOnMzY3JldA==\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    encoder.write_all(head.as_bytes()).expect("sent");
    let encoder = Stream::open(encoder);
    assert_eq!(encoder.head.status, 200);
    let another = |from: &str| listen_like("/healthz", &server, &format!("X-Forwarded-For: {from}\r\n")).status;
    assert_eq!((another("192.0.2.1"), another("192.0.2.2")), (503, 200));
    drop(encoder);
    assert!(until(SECOND * 10, || another("192.0.2.1") == 200));
}

#[test]
fn a_proxy_header_is_read_strictly_and_in_time_before_anything_else() {
    let port = free_port();
    let server = Server::start_with(&format!("proxy_protocol = [\"127.0.0.1:{port}\"]\nheader_timeout = \"2s\""), MP3);
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        [b"\r\n\r\n\0\r\nQUIT\n" as &[u8], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    };
    let four = [203, 0, 113, 8, 127, 0, 0, 1, 0x12, 0x67, 0x1f, 0x40];
    let held: Vec<_> = [
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), "[2001:db8::1]"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &four), "203.0.113.8"),
        (v2(0x20, 0x00, &[]), "127.0.0.1"),
        (v2(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ]
    .into_iter()
    .map(|(header, want)| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        socket.set_read_timeout(Some(SECOND * 10)).expect("a timeout");
        socket.write_all(&header[..7]).expect("sent"); // a packet may end anywhere
        std::thread::sleep(Duration::from_millis(20));
        socket.write_all(&header[7..]).expect("sent");
        (listen(socket, ""), want)
    })
    .collect();
    let mut want: Vec<_> = held.iter().map(|(_, want)| *want).collect();
    want.sort_unstable();
    assert!(until(SECOND * 5, || peers(&server).len() == want.len()));
    assert_eq!(peers(&server), want);

    for (what, bytes) in [
        ("none", ASK.as_bytes().to_vec()),
        ("a wrong length", [v2(0x21, 0x11, &four[..4]), ASK.into()].concat()),
        ("a wrong version", [v2(0x31, 0x11, &four), ASK.into()].concat()),
        ("no port", [b"PROXY TCP4 203.0.113.7 127.0.0.1 4711\r\n", ASK.as_bytes()].concat()),
        ("a line without end", vec![b'P'; 4096]),
        ("a part", b"PROXY TCP4 203.0".to_vec()),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(String::from_utf8_lossy(&answer(port, &bytes)), "", "{what}: it is closed without a word");
    }
    assert_eq!(server.metric("flumen_proxy_headers_total", &["refused"]), 5.0);
    assert_eq!(server.metric("flumen_proxy_headers_total", &["timeout"]), 2.0);
    // Who comes by a proxy is no operator, and a header elsewhere is no header.
    let asked = [
        b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 80\r\n" as &[u8],
        b"POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    assert_eq!(Response::parse(&answer(port, &asked)).expect("an answer").status, 403);
    let elsewhere = answer(server.port, &[b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n", ASK.as_bytes()].concat());
    assert_eq!(Response::parse(&elsewhere).expect("an answer").status, 505, "it is a request of a version that nobody speaks");
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let (port, dir) = (free_port(), std::env::temp_dir().join(format!("flumen-who-{}", std::process::id())));
    std::fs::create_dir_all(&dir).expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let tls = format!(
        "listen = [\"127.0.0.1:{{port}}\"]\nproxy_protocol = [\"127.0.0.1:{port}\"]\n[[server.tls]]\nlisten = [\"127.0.0.1:{port}\"]\n\
         certificates = [{{ cert = \"{0}/cert.pem\", key = \"{0}/key.pem\" }}]",
        dir.display()
    );
    let server = Server::start_with(&tls, MP3);
    // HAProxy's own words, by curl.
    let mut curl = Command::new("curl")
        .args(["-sk", "--max-time", "20", "--haproxy-protocol", &format!("https://127.0.0.1:{port}/radio.mp3")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl");
    let mut some = [0; 2000];
    curl.stdout.as_mut().expect("its output").read_exact(&mut some).expect("the stream");
    assert_eq!(peers(&server), ["127.0.0.1"]);
    let _ = curl.kill();
    let _ = curl.wait();
    assert!(server.metric("flumen_proxy_headers_total", &["ok"]) >= 1.0 && server.metric("flumen_tls_handshakes_total", &["ok"]) >= 1.0);
    std::fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn behind_nginx_everybody_has_his_own_address() {
    let front = free_port();
    let server = logging("trusted_proxies = [\"127.0.0.1\"]");
    let site = packaged("nginx.conf")
        .replace("listen 80", &format!("listen 127.0.0.1:{front}"))
        .replace("127.0.0.1:8000", &format!("127.0.0.1:{}", server.port));
    assert!(site.contains(&front.to_string()) && site.contains(&format!("server 127.0.0.1:{}", server.port)));
    let folder = server.dir.join("nginx");
    std::fs::create_dir_all(&folder).expect("a folder");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
        .collect();
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n",
        folder.display()
    );
    std::fs::write(folder.join("nginx.conf"), whole).expect("written");
    let _nginx = run(Command::new("/usr/sbin/nginx").arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")), front);
    seen_through(&server, front, "X-Forwarded-For: 198.51.100.1\r\nForwarded: for=198.51.100.2\r\n");
}

#[test]
fn behind_haproxy_everybody_has_his_own_address() {
    for version in ["send-proxy-v2", "send-proxy"] {
        let (front, back) = (free_port(), free_port());
        let server = logging(&format!("proxy_protocol = [\"127.0.0.1:{back}\"]"));
        let config = packaged("haproxy.cfg")
            .replace("bind :80", &format!("bind 127.0.0.1:{front}"))
            .replace("127.0.0.1:8001 send-proxy-v2", &format!("127.0.0.1:{back} {version}"));
        assert!(config.contains(&format!("{back} {version}")));
        let file = server.dir.join("haproxy.cfg");
        std::fs::write(&file, config).expect("written");
        let _haproxy = run(Command::new("/usr/sbin/haproxy").args(["-db", "-f"]).arg(&file), front);
        seen_through(&server, front, "X-Forwarded-For: 198.51.100.1\r\n");
    }
}

/// Two listeners come through a proxy; what they write of themselves does not count.
fn seen_through(server: &Server, front: u16, fields: &str) {
    let mut held: Vec<_> = [[127, 0, 0, 7], [127, 0, 0, 8]].map(|from| listen(connect_from(from, front), fields)).into();
    held.iter_mut().for_each(|stream| drop(stream.read(2000)));
    assert!(until(SECOND * 5, || peers(server) == ["127.0.0.7", "127.0.0.8"]), "{:?}", peers(server));
    let clients = server.get("/admin/listclients?mount=/radio.mp3").body_text();
    assert!(clients.contains("<IP>127.0.0.7</IP>") && !clients.contains("198.51.100"), "{clients}");
    drop(held);
    assert!(until(SECOND * 15, || access_log(server).contains("127.0.0.8 - -")), "{}", access_log(server));
    assert!(!access_log(server).contains("198.51.100"), "{}", access_log(server));
}

#[test]
fn v4_and_mapped_v6_are_one_address() {
    let Ok(probe) = TcpListener::bind("[::]:0") else { return };
    drop(probe);
    let port = free_port();
    let server = Server::start_with(&format!("listen = [\"[::]:{port}\", \"127.0.0.1:{{port}}\"]\nmax_listeners_per_address = 1"), MP3);
    let _one = listen(connect_from([127, 0, 0, 9], port), "");
    assert_eq!(peers(&server), ["127.0.0.9"]);
    let mut second = connect_from([127, 0, 0, 9], server.port);
    second.write_all(b"GET /radio.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    assert_eq!(Stream::open(second).head.status, 503);
}
