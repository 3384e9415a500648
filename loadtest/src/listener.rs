//! One listener: joins, then listens. Says what it saw; the swarm decides what follows from it.
//!
//! ```text
//!  Absent ──connect──▶ Joining ──first body byte──▶ Listening ──▶ Absent
//!                         └──refused, timed out──────────────────▶ Absent
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{self, Book, Checker, Fault, FaultKind, Format, Receipt, Start};
use crate::clock::Nanos;
use crate::http::{self, Dechunker, Head, Parsed};
use crate::line::Line;
use crate::stats::Histogram;
use crate::target::Protocol;

#[derive(Debug, Default)]
pub(crate) enum State {
    #[default]
    Absent,
    Joining(Joining),
    Listening(Listening),
}

#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) line: Line,
    pub(crate) started: Nanos,
    received: Vec<u8>,
    head: Option<Head>,
}

/// How far a join came.
#[derive(Debug)]
pub(crate) enum Progress {
    Waiting,
    Refused(String),
    /// The first body bytes are here.
    Body {
        first: Vec<u8>,
        head: Option<Head>,
    },
}

impl Joining {
    pub(crate) fn new(line: Line, started: Nanos) -> Self {
        Self { line, started, received: Vec::new(), head: None }
    }

    pub(crate) fn proceed(&mut self, protocol: &Protocol, request: &[u8], scratch: &mut [u8]) -> Progress {
        match self.line.ask(request) {
            Ok(true) => {}
            Ok(false) => return Progress::Waiting,
            Err(e) => return Progress::Refused(connect_failure(&e)),
        }
        loop {
            let length = match self.line.read(scratch) {
                Ok(0) => return Progress::Refused("closed before the first body byte".to_owned()),
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Progress::Refused(connect_failure(&e)),
            };
            if *protocol == Protocol::Tcp || self.head.is_some() {
                return Progress::Body { first: scratch[..length].to_vec(), head: self.head.take() };
            }
            self.received.extend_from_slice(&scratch[..length]);
            match http::parse_head(&self.received) {
                Parsed::Partial => {}
                Parsed::Nonsense => return Progress::Refused("answer is not HTTP".to_owned()),
                Parsed::Whole(head) if head.status != 200 => return Progress::Refused(format!("HTTP {}", head.status)),
                Parsed::Whole(head) => {
                    let first = self.received.split_off(head.length);
                    self.received = Vec::new();
                    if !first.is_empty() {
                        return Progress::Body { first, head: Some(head) };
                    }
                    self.head = Some(head);
                }
            }
        }
    }

    pub(crate) fn into_line(self) -> Line {
        self.line
    }
}

/// The reason as a word for the report, the same for every listener it happens to.
pub(crate) fn connect_failure(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        io::ErrorKind::AddrNotAvailable => "no local port left (use --source-addresses)".to_owned(),
        _ => e.to_string(),
    }
}

#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) line: Line,
    pub(crate) joined: Nanos,
    pub(crate) bytes: u64,
    pub(crate) last_byte: Nanos,
    last_read: Nanos,
    /// Bytes and moment from which the steady window counts this listener.
    mark: Option<(u64, Nanos)>,
    longest_gap: Duration,
    /// The longest gap since it was last asked for.
    recent_gap: Duration,
    pub(crate) content: Content,
}

/// What is known of the content of a verified listener.
#[derive(Debug)]
pub(crate) enum Content {
    Unchecked,
    Unknown { prefix: Vec<u8>, dechunker: Option<Dechunker> },
    Checked { checker: Box<Checker>, dechunker: Option<Dechunker> },
}

/// The first complaint of a verified listener.
#[derive(Debug)]
pub(crate) enum Complaint {
    Fault(Fault),
    UnknownFormat,
}

/// What `read` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(usize),
    Nothing,
    Closed,
}

impl Listening {
    pub(crate) fn new(line: Line, now: Nanos) -> Self {
        let content = Content::Unchecked;
        Self {
            line,
            joined: now,
            bytes: 0,
            last_byte: now,
            last_read: now,
            mark: None,
            longest_gap: Duration::ZERO,
            recent_gap: Duration::ZERO,
            content,
        }
    }

    /// Empties the socket without looking, at most `scratch.len()` bytes.
    pub(crate) fn discard(&mut self, now: Nanos, steady: Option<Nanos>, scratch: &mut [u8]) -> Found {
        let found = found(self.line.discard(scratch));
        self.account(found, now, steady);
        found
    }

    /// Reads into `scratch`; the bytes are for `check`.
    pub(crate) fn read(&mut self, now: Nanos, steady: Option<Nanos>, scratch: &mut [u8]) -> Found {
        let found = found(self.line.read(scratch));
        self.account(found, now, steady);
        found
    }

    pub(crate) fn account(&mut self, found: Found, now: Nanos, steady: Option<Nanos>) {
        if let Found::Bytes(length) = found {
            self.note_gap(now, steady);
            self.recent_gap = self.recent_gap.max(now.since(self.last_byte));
            self.bytes += length as u64;
            self.last_byte = now;
        }
        if found != Found::Closed {
            self.last_read = now;
            if steady.is_some() {
                self.mark.get_or_insert((self.bytes, now));
            }
        }
    }

    fn note_gap(&mut self, now: Nanos, steady: Option<Nanos>) {
        if let Some(steady) = steady {
            self.longest_gap = self.longest_gap.max(now.since(self.last_byte.max(steady)));
        }
    }

    /// How long the slow have not read: what they may read now follows from it.
    pub(crate) fn since_last_read(&self, now: Nanos) -> Duration {
        now.since(self.last_read)
    }

    /// The longest time without a body byte within the steady window, the one that is running included.
    pub(crate) fn longest_gap(&mut self, now: Nanos, steady: Option<Nanos>) -> Duration {
        self.note_gap(now, steady);
        self.longest_gap
    }

    /// The longest time without a body byte since this was last asked, the one that is running included.
    pub(crate) fn take_recent_gap(&mut self, now: Nanos) -> Duration {
        std::mem::take(&mut self.recent_gap).max(now.since(self.last_byte))
    }

    /// Bytes per second over the steady window, between two moments at which everything that had come was read.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (bytes, at) = self.mark?;
        let seconds = self.last_read.since(at).as_secs_f64();
        (seconds > 0.0).then(|| (self.bytes - bytes) as f64 / seconds)
    }

    /// Begins to check, as the content type says, or as told, or by the first bytes.
    pub(crate) fn verify(&mut self, head: Option<&Head>, told: Option<Format>, start: Start, book: Option<Arc<Book>>) {
        let dechunker = head.filter(|head| head.chunked).map(|_| Dechunker::default());
        let promised = head.and_then(|head| check::by_content_type(head.content_type.as_deref()?));
        self.content = match told.or(promised) {
            Some(format) => Content::Checked { checker: Box::new(Checker::new(format, start).with_book(book)), dechunker },
            None => Content::Unknown { prefix: Vec::new(), dechunker },
        };
    }

    /// Checks what was read. After a complaint the content is no longer looked at.
    pub(crate) fn check(
        &mut self,
        bytes: &[u8],
        at: Nanos,
        start: Start,
        latency: &mut Histogram,
        steady: Option<Nanos>,
    ) -> Result<(), Complaint> {
        // Outside of the steady window nothing is measured, and never what was history at the join.
        let live_since = steady.map_or(Nanos(u64::MAX), |steady| steady.max(self.joined));
        let mut receipt = Receipt { at, live_since, latency };
        let result = match &mut self.content {
            Content::Unchecked => Ok(()),
            Content::Checked { checker, dechunker } => feed(checker, dechunker.as_mut(), bytes, &mut receipt),
            Content::Unknown { prefix, dechunker } => {
                let mut body = std::mem::take(prefix);
                let taken = through(dechunker.as_mut(), bytes, |payload| {
                    body.extend_from_slice(payload);
                    Ok(())
                });
                match check::by_first_bytes(&body) {
                    _ if taken.is_err() => taken.map_err(Complaint::Fault),
                    None if body.len() >= 4 => Err(Complaint::UnknownFormat),
                    None => {
                        *prefix = body;
                        Ok(())
                    }
                    Some(format) => {
                        let mut checker = Box::new(Checker::new(format, start));
                        let fed = checker.feed(&body, &mut receipt).map_err(Complaint::Fault);
                        self.content = Content::Checked { checker, dechunker: dechunker.take() };
                        fed
                    }
                }
            }
        };
        if result.is_err() {
            self.content = Content::Unchecked;
        }
        result
    }
}

fn feed(checker: &mut Checker, dechunker: Option<&mut Dechunker>, bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<(), Complaint> {
    through(dechunker, bytes, |payload| checker.feed(payload, receipt)).map_err(Complaint::Fault)
}

fn through(dechunker: Option<&mut Dechunker>, bytes: &[u8], mut body: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let broken = || Fault { kind: FaultKind::Torn, what: "broken chunked framing".to_owned(), at: 0 };
    match dechunker {
        None => body(bytes),
        Some(dechunker) => dechunker.feed(bytes, broken, body),
    }
}

fn found(read: io::Result<usize>) -> Found {
    match read {
        Ok(0) => Found::Closed,
        Ok(length) => Found::Bytes(length),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Found::Nothing,
        Err(_) => Found::Closed,
    }
}
