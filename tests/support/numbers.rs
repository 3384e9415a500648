//! A stream of numbered lines, and who checks that not one of them is missing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Server, Stream, until};

/// A mount that is filled with whatever comes on a port.
pub fn filled(path: &str, port: u16, keys: &str) -> String {
    format!("[[mount]]\npath = \"{path}\"\npipeline = \"tcpserversrc host=127.0.0.1 port={port}\"\ncontent_type = \"text/plain\"\n{keys}\n")
}

/// Sends numbered lines, some kilobytes every few milliseconds, until told to stop.
pub fn number(source: TcpStream, going_on: &AtomicBool) {
    number_at(source, going_on, 100, Duration::from_millis(10));
}

/// The same, so many lines (of 16 bytes) with such a pause after them.
pub fn number_at(mut source: TcpStream, going_on: &AtomicBool, lines: usize, pause: Duration) {
    let mut line = 0_u64;
    while going_on.load(Ordering::Relaxed) {
        let mut text = String::new();
        for _ in 0..lines {
            text += &format!("{line:015}\n");
            line += 1;
        }
        if source.write_all(text.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

/// Checks that each line follows the one before.
#[derive(Debug, Default)]
pub struct Follower {
    held: Vec<u8>,
    last: Option<u64>,
    aligned: bool,
    pub lines: u64,
}

impl Follower {
    /// Takes what has come. Thousands are followed by one thread: nothing is copied twice, nor made a text.
    pub fn take(&mut self, bytes: &[u8]) {
        const LINE: usize = 16;
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        if !self.aligned {
            let Some(end) = self.held.iter().position(|byte| *byte == b'\n') else { return };
            at = end + 1; // a join may fall within a line
            self.aligned = true;
        }
        while let Some(line) = self.held.get(at..at + LINE) {
            let number = line[..LINE - 1].iter().try_fold(0, |number: u64, byte| match byte {
                b'0'..=b'9' => Some(number * 10 + u64::from(byte - b'0')),
                _ => None,
            });
            let number = number.filter(|_| line[LINE - 1] == b'\n');
            let number = number.unwrap_or_else(|| panic!("torn: {:?} after {:?}", String::from_utf8_lossy(line), self.last));
            assert!(self.last.is_none_or(|last| number == last + 1), "{number} after {:?}", self.last);
            (self.last, self.lines) = (Some(number), self.lines + 1);
            at += LINE;
        }
        self.held.drain(..at);
    }
}

/// Reads until told to stop; how many lines came, each following the one before.
pub fn follow(mut stream: Stream, going_on: &AtomicBool) -> u64 {
    let (mut follower, mut buffer) = (Follower::default(), [0; 65536]);
    while going_on.load(Ordering::Relaxed) {
        let count = stream.socket.read(&mut buffer).expect("the stream goes on");
        assert_ne!(count, 0, "the stream ended after {} lines", follower.lines);
        follower.take(&buffer[..count]);
    }
    follower.lines
}

/// Many listeners in one thread, each of whom checks every line.
pub struct Crowd {
    going_on: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
    thread: JoinHandle<Verdict>,
}

/// How a crowd fared.
#[derive(Debug)]
pub struct Verdict {
    /// The fewest lines that one of them heard.
    pub lines: u64,
    /// The longest that one of them heard nothing.
    pub longest: Duration,
}

impl Crowd {
    /// So many listeners of a mount, who have all been let in, and have all heard what is sent to newcomers: thousands of bursts
    /// take a while to read.
    pub fn gather(server: &Server, path: &str, count: usize) -> Self {
        let sockets: Vec<_> = (0..count).map(|_| server.listen(path).socket).collect();
        let (going_on, lines) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (go, counted, settled) = (Arc::clone(&going_on), Arc::clone(&lines), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&settled);
        let thread = std::thread::spawn(move || attend(sockets, &go, &counted, &told));
        let there = until(Duration::from_secs(60), || settled.load(Ordering::Relaxed) || thread.is_finished());
        assert!(there, "somebody has not heard anything; log:\n{}", server.log());
        Self { going_on, lines, thread }
    }

    /// Lines that all of them have heard so far.
    pub fn heard(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Sends them home.
    pub fn dismiss(self) -> Verdict {
        self.going_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("nobody lost anything")
    }
}

fn attend(mut sockets: Vec<TcpStream>, going_on: &AtomicBool, counted: &AtomicU64, settled: &AtomicBool) -> Verdict {
    let mut poll = Poll::new().expect("a poll");
    for (i, socket) in sockets.iter().enumerate() {
        socket.set_nonblocking(true).expect("set");
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(i), Interest::READABLE).expect("registered");
    }
    let mut all: Vec<_> = sockets.iter().map(|_| (Follower::default(), Instant::now())).collect();
    let (mut events, mut buffer, mut longest) = (Events::with_capacity(1024), vec![0; 256 * 1024], Duration::ZERO);
    while going_on.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(Duration::from_millis(50))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.expect("polled"),
        }
        for Token(i) in events.iter().map(mio::event::Event::token) {
            let (follower, last) = &mut all[i];
            loop {
                match sockets[i].read(&mut buffer) {
                    Ok(0) => panic!("listener {i} was sent away after {} lines", follower.lines),
                    Ok(count) => {
                        let before = follower.lines;
                        follower.take(&buffer[..count]);
                        counted.fetch_add(follower.lines - before, Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("listener {i}: {error}"),
                }
            }
            longest = longest.max(last.elapsed());
            *last = Instant::now();
        }
        if !settled.load(Ordering::Relaxed) && all.iter().all(|(follower, _)| follower.lines > 0) {
            longest = Duration::ZERO; // from now on it counts
            all.iter_mut().for_each(|(_, last)| *last = Instant::now());
            settled.store(true, Ordering::Relaxed);
        }
    }
    longest = all.iter().map(|(_, last)| last.elapsed()).max().unwrap_or_default().max(longest);
    Verdict { lines: all.iter().map(|(follower, _)| follower.lines).min().unwrap_or(0), longest }
}
