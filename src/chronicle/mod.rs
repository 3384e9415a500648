//! What happens in the house, second by second, told to operators who watch.
//!
//! ```text
//!   registry, shards, keyring ──once a second──▶ Scene ──difference──▶ events ─┐
//!                                                 └──────health──▶ advice ─────┼─▶ Chronicle ─▶ each watcher's bounded queue
//!   event log ──line, if there is room──▶ Lines ─────────────────────────────┘
//! ```
//! - Nothing here is on a stream's way, and no listener costs anything: what is told is the difference of two looks at counters
//!   that are there anyway, so a storm of listeners is one event a second and mount.
//! - Whoever tells never waits. A watcher that takes too long loses its place, and is told so; it can come back and say what it saw
//!   last.
//! - Everything is bounded: the history, the lines, the watchers, their queues, and what is remembered of each mount.
//!
//! Deliberately absent: HTTP (`admin` serves it), storage, and who a listener is.

mod difference;
pub mod health;
mod lines;
mod past;
pub mod scene;
mod stats;
mod watch;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

pub use difference::Kind;
pub use health::{Advice, Severity};
pub use lines::{Level, Line, Lines};
pub use watch::{Watched, watch};

/// Events that are kept for those who come later.
const HISTORY_MOST: usize = 500;
/// Log lines that are kept for those who come later.
const LINES_MOST: usize = 300;
/// Who may watch at once.
pub const WATCHERS_MOST: usize = 32;
/// What may wait for one watcher: half a minute of a busy server, beside what is kept for whoever comes.
const QUEUE_MOST: usize = 256 + HISTORY_MOST + LINES_MOST;

/// Messages that may wait for a watcher before it is sent no numbers.
const STATS_WAITING_MOST: usize = 4;
/// What all watchers may take in memory together: what waits for them is mostly the same for all. Numbers are some 200 KiB a
/// second at most and few of them wait; events, lines and advice are some KiB each.
pub const WATCHERS_BYTES: u64 = 64 << 20;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When, in seconds since 1970.
    pub at: f64,
    /// What kind of thing.
    pub event: Kind,
    /// Where; `None`: it is about the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// In a sentence.
    pub says: String,
    /// What can be counted or named about it.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Event {
    /// Something that happened now.
    pub fn now(kind: Kind, mount: Option<&str>, says: impl Into<String>) -> Self {
        Self { at: seconds(SystemTime::now()), event: kind, mount: mount.map(Into::into), says: says.into(), details: Map::new() }
    }

    /// The same, with something that can be counted or named.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// A moment in seconds since 1970, to the millisecond.
pub(crate) fn seconds(moment: SystemTime) -> f64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}

/// What a watcher wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Log lines of this level and above; `None`: none.
    pub lines: Option<Level>,
    /// Numbers, each second.
    pub stats: bool,
    /// The number of the last event that was seen; `None`: all that are kept are wanted.
    pub after: Option<u64>,
}

/// There are as many watchers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHERS_MOST} watch already: close another console, then try again")]
pub struct Crowded;

#[derive(Debug)]
struct Watcher {
    wants: Wants,
    queue: mpsc::Sender<Bytes>,
    /// Whether it lost its place because it took too long.
    late: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The number of the event that was told last.
    last: u64,
    history: VecDeque<(u64, Bytes)>,
    lines: VecDeque<(Level, Bytes)>,
    last_line: u64,
    watchers: Vec<Watcher>,
    advice: Vec<Advice>,
}

/// What happened, and who watches.
#[derive(Debug)]
pub struct Chronicle {
    /// The start of the server: numbers of events are its own, and mean nothing to the next one.
    born: u64,
    inner: Mutex<Inner>,
    reload_failed: AtomicBool,
}

impl Default for Chronicle {
    fn default() -> Self {
        let born = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { born, inner: Mutex::default(), reload_failed: AtomicBool::new(false) }
    }
}

impl Chronicle {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who watches, and keeps it for a while.
    pub fn tell(&self, event: &Event) {
        let mut inner = self.inner();
        inner.last += 1;
        let number = inner.last;
        let frame = frame(Some(&self.id(number)), event.event.label(), event);
        if inner.history.len() == HISTORY_MOST {
            inner.history.pop_front();
        }
        inner.history.push_back((number, frame.clone()));
        inner.send(&frame, |_| true);
    }

    /// A line of the event log.
    pub(crate) fn tell_line(&self, line: &Line) {
        let mut inner = self.inner();
        inner.last_line += 1;
        let frame = frame(None, "log", &line.numbered(inner.last_line));
        if inner.lines.len() == LINES_MOST {
            inner.lines.pop_front();
        }
        inner.lines.push_back((line.level, frame.clone()));
        // A storm of lines costs a watcher lines, and never the place.
        let spare = |watcher: &Watcher| watcher.queue.capacity() > QUEUE_MOST / 2;
        inner.send_where(&frame, |watcher| watcher.wants.lines.is_some_and(|least| line.level >= least) && spare(watcher));
    }

    /// Numbers of this second, made only if somebody wants them.
    pub(crate) fn tell_stats(&self, stats: impl FnOnce() -> Value) {
        let mut inner = self.inner();
        if inner.watchers.iter().any(|watcher| watcher.wants.stats) {
            let frame = frame(None, "stats", &stats());
            // Whoever lags wants no numbers of before, and they are the largest of all messages.
            let lags = |watcher: &Watcher| QUEUE_MOST - watcher.queue.capacity() >= STATS_WAITING_MOST;
            inner.send_where(&frame, |watcher| watcher.wants.stats && !lags(watcher));
        }
    }

    /// A sign of life, so that nobody between takes a quiet stream for a dead one.
    pub(crate) fn beat(&self) {
        self.inner().send(&Bytes::from_static(b": alive\n\n"), |wants| !wants.stats);
    }

    /// The advice that holds now; tells those who watch if it is another than before.
    pub(crate) fn advise(&self, advice: Vec<Advice>) {
        let mut inner = self.inner();
        if inner.advice != advice {
            let frame = frame(None, "health", &advice);
            inner.advice = advice;
            inner.send(&frame, |_| true);
        }
    }

    /// The advice that holds now.
    pub fn advice(&self) -> Vec<Advice> {
        self.inner().advice.clone()
    }

    /// How the configuration fared that was read last.
    pub fn note_reload(&self, successful: bool) {
        self.reload_failed.store(!successful, Ordering::Relaxed);
    }

    /// Whether the configuration that was read last was wrong.
    pub(crate) fn has_reload_failed(&self) -> bool {
        self.reload_failed.load(Ordering::Relaxed)
    }

    /// Begins to watch: what is kept comes first, then what happens.
    ///
    /// # Errors
    /// When too many watch.
    pub fn watch(&self, wants: Wants) -> Result<Watching, Crowded> {
        let mut inner = self.inner();
        inner.watchers.retain(|watcher| !watcher.queue.is_closed());
        if inner.watchers.len() >= WATCHERS_MOST {
            return Err(Crowded);
        }
        let (queue, frames) = mpsc::channel(QUEUE_MOST);
        let mut first = vec![frame(None, "health", &inner.advice)];
        first.extend(
            inner.history.iter().filter(|(number, _)| wants.after.is_none_or(|after| *number > after)).map(|(_, frame)| frame.clone()),
        );
        if let Some(least) = wants.lines {
            first.extend(inner.lines.iter().filter(|(level, _)| *level >= least).map(|(_, frame)| frame.clone()));
        }
        for frame in first {
            let _ = queue.try_send(frame); // there is room for all that is kept
        }
        let late = Arc::new(AtomicBool::new(false));
        inner.watchers.push(Watcher { wants, queue, late: Arc::clone(&late) });
        Ok(Watching { frames, late, over: false })
    }

    /// What an event is called, so that who comes back can say what was seen last.
    fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.born)
    }

    /// The number that such a name says; `None`: it is no name of ours, or of an earlier run.
    pub fn number_of(&self, id: &str) -> Option<u64> {
        let (born, number) = id.split_once('-')?;
        (u64::from_str_radix(born, 16).ok()? == self.born).then(|| number.parse().ok())?
    }
}

impl Inner {
    fn send(&mut self, frame: &Bytes, wanted: impl Fn(Wants) -> bool) {
        self.send_where(frame, |watcher| wanted(watcher.wants));
    }

    fn send_where(&mut self, frame: &Bytes, wanted: impl Fn(&Watcher) -> bool) {
        self.watchers.retain(|watcher| {
            if !wanted(watcher) {
                return true;
            }
            match watcher.queue.try_send(frame.clone()) {
                Ok(()) => true,
                Err(error) => {
                    watcher.late.store(matches!(error, mpsc::error::TrySendError::Full(_)), Ordering::Relaxed);
                    false
                }
            }
        });
    }
}

/// One message as `text/event-stream` has it. JSON has no line feed of its own.
fn frame(id: Option<&str>, event: &str, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = serde_json::to_string(data).unwrap_or_default(); // texts and numbers can always be written
    format!("{id}event: {event}\ndata: {data}\n\n").into()
}

/// What somebody sees who watches: messages as `text/event-stream` has them, until it takes too long to take them.
#[derive(Debug)]
pub struct Watching {
    frames: mpsc::Receiver<Bytes>,
    late: Arc<AtomicBool>,
    over: bool,
}

impl futures_core::Stream for Watching {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(cx).map(|frame| {
            let note = || {
                let why = "more has happened than you took; come back, and say with Last-Event-ID what you saw last";
                frame_of_farewell(why)
            };
            self.over = frame.is_none();
            frame.or_else(|| self.late.load(Ordering::Relaxed).then(note)).map(Ok)
        })
    }
}

fn frame_of_farewell(why: &str) -> Bytes {
    frame(None, "late", &serde_json::json!({ "says": why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wants = Wants { lines: Some(Level::Debug), stats: true, after: None };

    fn event(says: &str) -> Event {
        Event::now(Kind::Title, Some("/a"), says)
    }

    /// What has come so far, and whether the stream has ended.
    fn seen(watching: &mut Watching) -> (String, bool) {
        let mut text = String::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match futures_core::Stream::poll_next(Pin::new(watching), &mut cx) {
                Poll::Ready(Some(Ok(frame))) => text.push_str(std::str::from_utf8(&frame).expect("text")),
                Poll::Ready(None) => return (text, true),
                Poll::Pending => return (text, false),
            }
        }
    }

    #[test]
    fn who_comes_back_is_told_what_happened_meanwhile_and_nothing_twice() {
        let chronicle = Chronicle::default();
        ["one", "two\nlines"].into_iter().for_each(|says| chronicle.tell(&event(says)));
        let mut first = chronicle.watch(ALL).expect("a place");
        let (text, ended) = seen(&mut first);
        assert!(text.contains("\"says\":\"one\"") && text.contains("two\\nlines") && !ended, "{text}");
        let id = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id").to_owned();
        chronicle.tell(&event("three"));
        assert_eq!(seen(&mut first).0.matches("event: title").count(), 1);
        let after = chronicle.number_of(&id);
        assert_eq!(after, Some(2));
        let (text, _) = seen(&mut chronicle.watch(Wants { after, ..ALL }).expect("a place"));
        assert!(text.contains("three") && !text.contains("one") && !text.contains("two"), "{text}");
        for foreign in ["", "x", "1", "0-2", "zz-2", "-"] {
            assert_eq!(chronicle.number_of(foreign), None, "{foreign}: of an earlier run, so everything is told");
        }
    }

    #[test]
    fn who_takes_nothing_loses_the_place_is_told_so_and_costs_nobody_else() {
        let chronicle = Chronicle::default();
        let (mut slow, mut quick) = (chronicle.watch(ALL).expect("a place"), chronicle.watch(ALL).expect("a place"));
        let mut taken = 0;
        for _ in 0..2 * QUEUE_MOST {
            chronicle.tell(&event("x"));
            taken += seen(&mut quick).0.matches("event: title").count();
        }
        assert_eq!(taken, 2 * QUEUE_MOST);
        let (text, ended) = seen(&mut slow);
        assert!(ended && text.contains("event: late") && text.contains("Last-Event-ID"), "it ends with a note");
        assert!(text.matches("event: title").count() < QUEUE_MOST);
        assert_eq!(chronicle.inner().history.len(), HISTORY_MOST);
        let mut patient = chronicle.watch(ALL).expect("a place");
        let line = Line { at: 1.0, level: Level::Warn, target: "t".into(), text: "words".into() };
        (0..2 * QUEUE_MOST).for_each(|_| chronicle.tell_line(&line));
        assert!(!seen(&mut patient).1, "a storm of lines costs lines only");
    }

    #[test]
    fn each_sees_what_it_wants_and_there_are_only_so_many() {
        let chronicle = Chronicle::default();
        let line = |level| Line { at: 1.0, level, target: "t".into(), text: "words".into() };
        chronicle.tell_line(&line(Level::Warn));
        let wants = |lines, stats| Wants { lines, stats, after: None };
        let mut warned = chronicle.watch(wants(Some(Level::Warn), false)).expect("a place");
        let mut plain = chronicle.watch(wants(None, false)).expect("a place");
        chronicle.tell_stats(|| unreachable!("nobody wants them"));
        let mut counted = chronicle.watch(wants(None, true)).expect("a place");
        [Level::Info, Level::Error].into_iter().for_each(|level| chronicle.tell_line(&line(level)));
        chronicle.tell_stats(|| serde_json::json!({ "n": 1 }));
        chronicle.beat();
        let count = |watching: &mut Watching| {
            let text = seen(watching).0;
            ["event: log", "event: stats", ": alive"].map(|what| text.matches(what).count())
        };
        assert_eq!((count(&mut warned), count(&mut plain), count(&mut counted)), ([2, 0, 1], [0, 0, 1], [0, 1, 0]));
        let others: Vec<_> = (0..).map_while(|_| chronicle.watch(ALL).ok()).collect();
        assert_eq!(others.len() + 3, WATCHERS_MOST);
        drop(others);
        assert!(chronicle.watch(ALL).is_ok(), "who has gone has left the place");
    }
}
