//! The book of a source's runs: which streamheaders it has sent, what became of each run, and so what a listener may see next.
//!
//! ```text
//!   source thread ──begin, end──▶ [ Book ] ◀──may this header follow?── checkers of its mount
//! ```
//! - A run is written down before its first byte is sent: a streamheader that is not in the book was never made.
//! - A run that ended in order must be seen to its last record before another may begin; one that was torn off may lose its end.
//! - Bounded: the oldest runs are forgotten, and about them nothing is claimed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Complaint, FaultKind, complain};

/// Healthy listeners are seconds behind; so many runs are hours.
const RUNS_KEPT: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Book {
    runs: Mutex<VecDeque<Run>>,
    /// The server may still hold runs from before this book was begun.
    has_past: bool,
}

#[derive(Debug)]
struct Run {
    /// Payload of its streamheader.
    header: Vec<u8>,
    /// How many records it had, known when it has ended in order.
    ended_after: Option<u64>,
}

impl Book {
    /// For a mount that may have had other sources before.
    pub(crate) fn with_past() -> Self {
        Self { has_past: true, ..Self::default() }
    }

    /// A run begins: to be called before anything of it is sent, and after the one before has ended.
    pub(crate) fn begin(&self, header: &[u8]) {
        let mut runs = self.lock();
        if runs.len() == RUNS_KEPT {
            runs.pop_front();
        }
        runs.push_back(Run { header: header.to_vec(), ended_after: None });
    }

    /// The run has ended in order after so many records, and all of them were taken.
    pub(crate) fn ended_in_order(&self, records: u64) {
        if let Some(run) = self.lock().back_mut() {
            run.ended_after = Some(records);
        }
    }

    /// The connection of the newest so many runs was torn off: the end of any of them may still have been on its way.
    pub(crate) fn torn_off(&self, runs: usize) {
        self.lock().iter_mut().rev().take(runs).for_each(|run| run.ended_after = None);
    }

    /// Whether this streamheader may come now. `last`: the header in force and the last record after it, if there was one.
    pub(super) fn may_follow(&self, last: Option<(&[u8], Option<u64>)>, header: &[u8]) -> Result<(), Complaint> {
        let runs = self.lock();
        let place = |wanted: &[u8]| runs.iter().position(|run| run.header == wanted);
        let Some(now) = place(header) else {
            // The past comes before all that is known, for whoever begins there.
            if self.has_past && last.is_none_or(|(before, _)| place(before).is_none()) {
                return Ok(());
            }
            return complain(FaultKind::Torn, "a streamheader that no source has sent");
        };
        let Some((before, record)) = last else { return Ok(()) };
        let Some(then) = place(before) else { return Ok(()) };
        if now < then {
            return complain(FaultKind::Repeat, "an earlier run came back");
        }
        let missing = |run: &Run, seen: u64| run.ended_after.is_some_and(|records| records > seen);
        // A listener that had not begun with that run may have been meant to begin with this one.
        if record.is_some_and(|record| missing(&runs[then], record + 1)) {
            return complain(
                FaultKind::Gap,
                format!("the run ended in order, and its last records are missing after {}", record.unwrap_or(0)),
            );
        }
        match runs.range(then + 1..now).find(|run| missing(run, 0)) {
            Some(_) => complain(FaultKind::Gap, "a whole run is missing"),
            None => Ok(()),
        }
    }

    /// A source thread that panicked leaves the book as it was: still true.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` ended in order after 3 records, `b` was torn off, `c` ended in order after 2, `d` is running.
    fn book() -> Book {
        let book = Book::default();
        for (header, records) in [("a", Some(3)), ("b", None), ("c", Some(2)), ("d", None)] {
            book.begin(header.as_bytes());
            if let Some(records) = records {
                book.ended_in_order(records);
            }
        }
        book
    }

    #[test]
    fn a_run_may_follow_when_nothing_that_was_taken_is_missing() {
        use FaultKind::{Gap, Repeat, Torn};
        for (last, header, want) in [
            (None, "c", None),
            (None, "x", Some(Torn)),
            (Some(("a", Some(2))), "b", None),
            (Some(("a", Some(2))), "c", None), // nothing of the torn run has come through
            (Some(("a", Some(1))), "b", Some(Gap)),
            (Some(("a", Some(2))), "d", Some(Gap)),
            (Some(("b", Some(7))), "c", None),
            (Some(("b", None)), "c", None),
            (Some(("c", Some(1))), "d", None),
            (Some(("c", Some(1))), "a", Some(Repeat)),
            (Some(("forgotten", Some(1))), "d", None),
        ] {
            let last = last.map(|(before, record)| (str::as_bytes(before), record));
            let got = book().may_follow(last, header.as_bytes()).err().map(|(kind, _)| kind);
            assert_eq!(got, want, "{last:?} → {header}");
        }
    }

    #[test]
    fn nothing_is_claimed_of_runs_whose_connection_was_torn_off() {
        let book = book();
        book.torn_off(3);
        assert!(book.may_follow(Some((b"a", Some(2))), b"d").is_ok());
        assert!(book.may_follow(Some((b"a", Some(1))), b"d").is_err(), "of the one before it is");
    }

    #[test]
    fn a_server_with_a_past_may_still_hold_it_but_never_goes_back_to_it() {
        let book = Book::with_past();
        book.begin(b"a");
        for (last, header, fine) in [
            (None, "old", true),
            (Some(("old", Some(5))), "older", true),
            (Some(("old", Some(5))), "a", true),
            (Some(("a", Some(0))), "old", false),
        ] {
            let last = last.map(|(before, record)| (str::as_bytes(before), record));
            assert_eq!(book.may_follow(last, header.as_bytes()).is_ok(), fine, "{last:?} → {header}");
        }
    }

    #[test]
    fn the_book_is_bounded() {
        let book = Book::default();
        (0..1_000u32).for_each(|run| book.begin(&run.to_be_bytes()));
        assert_eq!(book.lock().len(), RUNS_KEPT);
    }
}
