//! Lines of the event log, on their way to those who watch. Whoever logs never waits: where there is no room, the line is left out
//! here (not in the log itself), and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that may wait to be told.
const WAITING_MOST: usize = 1024;
/// Bytes of a line that are told.
const TEXT_MOST: usize = 2048;

/// How much a line matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// Everyday.
    Info,
    /// Somebody should look at it.
    Warn,
    /// Something does not work.
    Error,
}

impl Level {
    /// All levels, with their words.
    pub const WORDS: [(&'static str, Self); 4] =
        [("debug", Self::Debug), ("info", Self::Info), ("warn", Self::Warn), ("error", Self::Error)];
}

/// A line of the event log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// When, in seconds since 1970.
    pub at: f64,
    /// How much it matters.
    pub level: Level,
    /// Which part of the server says it.
    pub target: String,
    /// What it says.
    pub text: String,
}

#[derive(Serialize)]
pub(super) struct Numbered<'a> {
    n: u64,
    #[serde(flatten)]
    line: &'a Line,
}

impl Line {
    /// A line of now; of a long text only the begin is kept.
    pub fn now(level: Level, target: &str, mut text: String) -> Self {
        if text.len() > TEXT_MOST {
            let end = (0..=TEXT_MOST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        Self { at: super::seconds(SystemTime::now()), level, target: target.to_owned(), text }
    }

    /// With its number, by which whoever comes back knows what was seen.
    pub(super) fn numbered(&self, n: u64) -> Numbered<'_> {
        Numbered { n, line: self }
    }
}

/// Where lines come in.
#[derive(Clone, Debug)]
pub struct Lines {
    queue: mpsc::Sender<Line>,
    left_out: Arc<AtomicU64>,
}

impl Lines {
    /// A way in, and where lines come out.
    pub fn new() -> (Self, mpsc::Receiver<Line>) {
        let (queue, lines) = mpsc::channel(WAITING_MOST);
        (Self { queue, left_out: Arc::default() }, lines)
    }

    /// Takes a line, if there is room for it.
    pub fn take(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_logs_never_waits_and_what_is_too_much_is_counted() {
        let (lines, mut out) = Lines::new();
        (0..WAITING_MOST + 7).for_each(|i| lines.take(Line::now(Level::Info, "t", i.to_string())));
        assert_eq!(lines.left_out(), 7);
        assert_eq!(out.try_recv().map(|line| line.text).as_deref(), Ok("0"));
        lines.take(Line::now(Level::Info, "t", "ü".repeat(TEXT_MOST)));
        assert_eq!(lines.left_out(), 7);
        let last = std::iter::from_fn(|| out.try_recv().ok()).last().expect("the long one");
        assert!(last.text.len() <= TEXT_MOST + 3 && last.text.ends_with("ü…"));
    }

    #[test]
    fn levels_are_ordered_by_weight() {
        assert!(Level::WORDS.is_sorted_by_key(|(_, level)| level));
    }
}
