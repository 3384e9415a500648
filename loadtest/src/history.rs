//! What a run remembers of its intervals: bounded, evenly spread, the newest always there. Pure.
//!
//! When it is full, every second one goes, and from then on only every second one is kept: a run of months and one of minutes have
//! the same memory, and both are covered from their first moment to their last.

/// A run keeps so many of its intervals.
pub(crate) const KEPT: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct History<T> {
    kept: Vec<T>,
    newest: Option<T>,
    limit: usize,
    stride: u64,
    noted: u64,
}

impl<T: Clone> History<T> {
    /// Keeps at most `limit`, which is 2 at least.
    pub(crate) fn of(limit: usize) -> Self {
        Self { kept: Vec::new(), newest: None, limit: limit.max(2), stride: 1, noted: 0 }
    }

    pub(crate) fn note(&mut self, moment: T) {
        if self.noted.is_multiple_of(self.stride) {
            if self.kept.len() == self.limit - 1 {
                let mut even = false;
                self.kept.retain(|_| {
                    even = !even;
                    even
                });
                self.stride *= 2;
            }
            if self.noted.is_multiple_of(self.stride) {
                self.kept.push(moment.clone());
            }
        }
        self.noted += 1;
        self.newest = Some(moment);
    }

    /// In their order, the newest once and last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        let newest_is_kept = self.noted > 0 && (self.noted - 1).is_multiple_of(self.stride);
        self.kept.iter().chain(self.newest.as_ref().filter(|_| !newest_is_kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_in_order_and_has_the_first_and_the_newest() {
        for (noted, limit) in [(0u32, 5), (1, 5), (4, 5), (5, 5), (6, 5), (7, 5), (100, 5), (1000, 7), (12_345, 64)] {
            let mut history = History::of(limit);
            (0..noted).for_each(|at| history.note(at));
            let all: Vec<u32> = history.all().copied().collect();
            assert!(all.len() <= limit, "{noted}: {all:?}");
            assert!(all.is_sorted_by(|a, b| a < b), "{noted}: {all:?}");
            assert_eq!((all.first(), all.last()), ((noted > 0).then_some(&0), noted.checked_sub(1).as_ref()), "{noted}: {all:?}");
        }
    }

    #[test]
    fn what_is_kept_is_evenly_spread() {
        let mut history = History::of(100);
        (0..10_000).for_each(|at| history.note(at));
        let all: Vec<i32> = history.all().copied().collect();
        let steps: std::collections::BTreeSet<i32> = all[..all.len() - 1].windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(steps.len(), 1, "{all:?}");
        assert!(all.len() > 40);
    }
}
