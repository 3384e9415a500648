//! Encoders that push frames which say whose they are and which, and who checks what is heard of them.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Response, Server, Stream, free_port, until};

const SECOND: Duration = Duration::from_secs(1);
/// `source:s3cret`
pub const BASIC: &str = "Authorization: Basic c291cmNlOnMzY3JldA==\r\n";
pub const PUSH: &str = "[push]\npassword = \"s3cret\"\n\n";
/// A frame of MP3 with 128 kbit/s lasts 26 ms and has so many bytes.
pub const FRAME: usize = 417;
pub const FRAME_LASTS: Duration = Duration::from_micros(26_122);

/// A frame of MP3 that says whose it is and which.
pub fn frame(name: char, number: u32) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
    frame.extend_from_slice(format!("{name}{number:09}").repeat(42).as_bytes());
    frame.truncate(FRAME);
    frame
}

/// The frames in what was heard, from the first whole one on; each must be whole.
pub fn frames(heard: &[u8]) -> Vec<(char, u32)> {
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
pub fn check_runs(found: &[(char, u32)], changes: usize) {
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

pub fn alive(server: &Server) {
    assert!(until(SECOND * 10, || server.try_get("/healthz").is_ok()), "{}", server.log());
}

/// An encoder that sends its frames as time goes by.
pub struct Encoder {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Encoder {
    /// Sends frames of this name by PUT; it must be let in, and is on air when this returns.
    pub fn start(server: &Server, path: &str, name: char) -> Self {
        let encoder = Self::with_rest(knock(server, "PUT", path, BASIC), name);
        let label = format!("mount=\"{path}\"");
        assert!(until(SECOND * 10, || server.metric("flumen_source_up", &[&label]) == 1.0), "{path}: {}", server.log());
        encoder
    }

    pub fn with_rest((answer, mut socket): (Response, TcpStream), name: char) -> Self {
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
pub fn knock(server: &Server, method: &str, path: &str, fields: &str) -> (Response, TcpStream) {
    let mut socket = server.connect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Type: audio/mpeg\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("sent");
    let Stream { socket, head } = Stream::open(socket);
    (head, socket)
}

/// What the server's API says of a mount.
pub fn known(server: &Server, path: &str) -> bool {
    server.get(&format!("/api/v1/mounts/{}", path[1..].replace('/', "%2F"))).status == 200
}

/// Reads frames until there are enough of this name; all that was heard.
pub fn hear(listener: &mut Stream, heard: &mut Vec<u8>, name: char, enough: usize) {
    let all = until(SECOND * 15, || {
        heard.extend(listener.read(FRAME));
        frames(heard).iter().filter(|(found, _)| *found == name).count() >= enough
    });
    assert!(all, "no {name} in {:?}", frames(heard));
}

pub fn names(heard: &[u8]) -> String {
    let mut names: Vec<char> = frames(heard).into_iter().map(|(name, _)| name).collect();
    names.dedup();
    names.into_iter().collect()
}

pub fn listeners(server: &Server, path: &str) -> f64 {
    server.metric("flumen_listeners", &[&format!("mount=\"{path}\"")])
}

/// A mount that starts newcomers with what comes, so that nothing is heard twice.
pub fn with_fallback(path: &str, more: &str) -> String {
    format!("[[mount]]\npath = \"{path}\"\nsync = \"latest\"\n{more}\n\n")
}

/// A recording of so many frames, beside the configuration.
pub fn recording(count: u32) -> (std::path::PathBuf, String) {
    let file = std::env::temp_dir().join(format!("flumen-recording-{}-{}.mp3", std::process::id(), free_port()));
    std::fs::write(&file, (0..count).flat_map(|number| frame('f', number)).collect::<Vec<_>>()).expect("written");
    let key = format!("fallback = \"file:{}\"", file.display());
    (file, key)
}
