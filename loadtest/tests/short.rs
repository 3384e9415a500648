//! `storm` and `listen --ask` in their short form, against the workspace's own server: that the tools work, on any machine. Figures are not
//! looked at, but for those that do not depend on it: nobody is lost, and what is asked for is answered.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A server with one mount, until this is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|door| door.local_addr()).expect("a free port").port();
        let program = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("flumen");
        assert!(program.exists(), "{} has not been built: cargo build --bin flumen, or cargo test --workspace", program.display());
        let pipeline = "audiotestsrc is-live=true ! lamemp3enc bitrate=128 ! mpegaudioparse";
        let child = Command::new(program)
            .args(["launch", "--mount", "/live.mp3", "--listen", &format!("127.0.0.1:{port}"), pipeline])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { child, port };
        let end = Instant::now() + Duration::from_secs(60);
        while !server.is_ready() {
            assert!(Instant::now() < end, "the server is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn is_ready(&self) -> bool {
        use std::io::{Read, Write};
        let ask = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(socket, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result that the tool ends with.
fn run(words: &[&str]) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(words).args(["--format", "json"]).output().expect("the tool runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the last line is the result")
}

#[test]
fn a_storm_is_served_round_after_round() {
    let server = Server::start();
    let pid = server.child.id().to_string();
    let url = server.url("/live.mp3");
    let result = run(&["storm", &url, "-n", "100", "--rounds", "3", "--hold", "500ms", "--pause", "200ms", "--pid", &pid]);
    let rounds = result["rounds"].as_array().expect("rounds");
    let joined: Vec<_> = rounds.iter().map(|round| (round["joined"].as_u64(), round["refused"].as_u64())).collect();
    assert_eq!(joined, [(Some(100), Some(0)); 3], "{result:#}");
    let outcome = &result["outcome"];
    assert_eq!((outcome["lost"].as_u64(), outcome["corrupt"].as_u64()), (Some(0), Some(0)), "{result:#}");
    assert!(outcome["units_verified"].as_u64().is_some_and(|count| count > 0), "{result:#}");
    assert!(result["after"]["rss_kib"].is_number(), "the server was sampled: {result:#}");
}

#[test]
fn pages_are_asked_for_while_others_listen() {
    let server = Server::start();
    let (metrics, list) = (server.url("/metrics"), server.url("/api/v1/mounts/live.mp3/listeners"));
    let asked = ["--ask", &metrics, "--ask", &list, "--ask-every", "100ms"];
    let listening = ["-n", "100", "--duration", "2s", "--settle", "500ms"];
    let url = server.url("/live.mp3");
    let words: Vec<&str> = ["listen", &url].into_iter().chain(listening).chain(asked).collect();
    let result = run(&words);
    let asked = result["asked"].as_array().expect("pages");
    for (page, url) in asked.iter().zip([&metrics, &list]) {
        assert_eq!((page["url"].as_str(), &page["failed"]), (Some(&**url), &serde_json::json!({})), "{result:#}");
        assert!(page["times"]["count"].as_u64().is_some_and(|count| count > 0), "{result:#}");
    }
    assert!(asked[1]["longest_bytes"].as_u64().is_some_and(|bytes| bytes > 5_000), "a hundred listeners are listed: {result:#}");
}
