//! A real server in its own process, and a client that sees every byte.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod frames;
pub mod icecast;
pub mod line;
pub mod numbers;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A mount that is up as soon as the server is, and cheap.
pub const MP3: &str = r#"
[[mount]]
path = "/radio.mp3"
pipeline = "audiotestsrc is-live=true samplesperbuffer=1152 ! audio/x-raw,rate=44100 ! lamemp3enc target=bitrate bitrate=128 cbr=true ! mpegaudioparse"
"#;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Ports below those the kernel gives to connections, so that one which is let go and taken again is not lost in between.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The body of the next request on a connection; `None`: nobody asks any more.
pub fn body_of_request(peer: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(peer.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    peer.read_exact(&mut body).expect("a body");
    Some(String::from_utf8(body).expect("text"))
}

/// A port that was free a moment ago. Given once in a process; each process begins elsewhere.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(PORTS.end - PORTS.start);
    let begin = std::process::id().wrapping_mul(257) % span;
    let candidates = (0..span).map(|_| (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % span);
    let mut ports = candidates.filter_map(|offset| u16::try_from(offset).ok()).map(|offset| PORTS.start + offset);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// A running server; stopped when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    pub dir: PathBuf,
}

impl Server {
    /// Starts with these mounts, and waits until every source is up.
    pub fn start(mounts: &str) -> Self {
        Self::start_with("", mounts)
    }

    /// Starts with these lines in `[server]` and these mounts.
    pub fn start_with(server: &str, mounts: &str) -> Self {
        let server = Self::spawn(server, mounts, &[]);
        server.await_ready();
        server
    }

    /// Starts; `wrapper` is a command that runs the command after it.
    pub fn spawn(server: &str, mounts: &str, wrapper: &[&str]) -> Self {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("flumen-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&dir).expect("a directory");
        let config = dir.join("flumen.toml");
        let listen = if server.contains("listen =") { String::new() } else { format!("listen = [\"127.0.0.1:{port}\"]\n") };
        // What this server logs of its listeners is in its event log, unless a test says otherwise.
        let log = if mounts.contains("[log]") { "" } else { "[log]\naccess = \"none\"\n" };
        fs::write(
            &config,
            format!(
                "[server]\n{listen}{}\n{log}{mounts}",
                server.replace("{port}", &port.to_string()).replace("{dir}", &dir.to_string_lossy())
            ),
        )
        .expect("a configuration");
        let log = fs::File::create(dir.join("log")).expect("a log");
        let flumen = env!("CARGO_BIN_EXE_flumen");
        let mut command = match wrapper {
            [] => Command::new(flumen),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(flumen);
                command
            }
        };
        let child = command
            .arg("serve")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        Self { child, port, dir }
    }

    pub fn await_ready(&self) {
        let ready = || self.try_get("/readyz").is_ok_and(|response| response.status == 200);
        assert!(until(Duration::from_secs(30), ready), "not ready; log:\n{}", self.log());
    }

    /// Writes another configuration in place of the one the server began with.
    pub fn rewrite(&self, server: &str, mounts: &str) {
        let listen = if server.contains("listen =") { String::new() } else { format!("listen = [\"127.0.0.1:{}\"]\n", self.port) };
        let log = if mounts.contains("[log]") { "" } else { "[log]\naccess = \"none\"\n" };
        // Put in place as a whole: a reload that is under way must not read half of it, which may be valid.
        let (file, new) = (self.dir.join("flumen.toml"), self.dir.join("flumen.toml.new"));
        fs::write(&new, format!("[server]\n{listen}{server}\n{log}{mounts}")).expect("a configuration");
        fs::rename(new, file).expect("in place");
    }

    /// Runs `flumen WORD` against this server; its exit code and what it printed, on either stream.
    pub fn tell(&self, word: &str) -> (Option<i32>, String) {
        let out = Command::new(env!("CARGO_BIN_EXE_flumen")).args([word, "--url", &self.url("")]).output().expect("flumen runs");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.pid().to_string()).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for the end; its exit code.
    pub fn wait(&mut self, most: Duration) -> Option<i32> {
        let mut code = None;
        until(most, || {
            code = self.child.try_wait().expect("wait");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    /// Sends these bytes and reads to the end.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).expect("sent");
        let mut answer = Vec::new();
        // A reset after the answer is an end as well.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn get(&self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}; log:\n{}", self.log()))
    }

    pub fn try_get(&self, path: &str) -> io::Result<Response> {
        self.request("GET", path)
    }

    pub fn request(&self, method: &str, path: &str) -> io::Result<Response> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Response::parse(&answer).ok_or_else(|| io::Error::other(format!("no HTTP: {:?}", String::from_utf8_lossy(&answer))))
    }

    /// Opens a stream and reads its head.
    pub fn listen(&self, path: &str) -> Stream {
        self.listen_with(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Opens a stream with this request and reads its head.
    pub fn listen_with(&self, request: &str) -> Stream {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        Stream::open(stream)
    }

    /// The sum of a metric's samples whose labels contain these words.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").body_text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resident memory, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the server ----\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body: bytes[end + 4..].to_vec() })
    }

    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// A stream that has begun.
pub struct Stream {
    pub socket: TcpStream,
    pub head: Response,
}

impl Stream {
    pub fn open(mut socket: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            let count = socket.read(&mut byte).expect("a response head");
            assert_ne!(count, 0, "closed within the head: {:?}", String::from_utf8_lossy(&bytes));
            bytes.push(byte[0]);
        }
        Self { socket, head: Response::parse(&bytes).expect("HTTP") }
    }

    /// Reads exactly so many bytes.
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut body = vec![0; bytes];
        // Whoever read before may have had less time.
        self.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        self.socket.read_exact(&mut body).expect("bytes of the stream");
        body
    }

    /// Reads for so long, or to the end.
    pub fn read_for(&mut self, time: Duration) -> Vec<u8> {
        let end = Instant::now() + time;
        let (mut body, mut buffer) = (Vec::new(), [0; 65536]);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return body;
            }
            self.socket.set_read_timeout(Some(left)).expect("a timeout");
            match self.socket.read(&mut buffer) {
                Ok(0) => return body,
                Ok(count) => body.extend(&buffer[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return body,
                Err(error) => panic!("the stream broke: {error}"),
            }
        }
    }

    /// Whether the server closes within this time; what it still sends is thrown away.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut buffer = [0; 65536];
        until(time, || match self.socket.read(&mut buffer) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        })
    }
}

/// What a GStreamer pipeline gives to a file descriptor.
pub fn gst_output(pipeline: &str) -> Vec<u8> {
    Command::new("gst-launch-1.0").arg("-q").args(format!("{pipeline} ! fdsink").split_whitespace()).output().expect("gst-launch").stdout
}

/// Connects to a mount's source port as soon as it is open.
pub fn connect_source(port: u16) -> TcpStream {
    let mut source = None;
    let open = until(Duration::from_secs(15), || {
        source = TcpStream::connect(("127.0.0.1", port)).ok();
        source.is_some()
    });
    assert!(open, "nobody listens for a source");
    source.expect("connected")
}

/// Reads until something holds, or for so long: the longest that nothing came.
pub fn longest_silence(stream: &mut impl Read, most: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let (mut longest, mut last, end) = (Duration::ZERO, Instant::now(), Instant::now() + most);
    let mut buffer = [0; 65_536];
    while Instant::now() < end && !holds() {
        assert_ne!(stream.read(&mut buffer).expect("the stream"), 0);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

/// Looks again and again until it holds, or the time is over.
pub fn until(most: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + most;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
