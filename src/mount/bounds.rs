//! How much memory a mount's chunks may take, while its settings change under it.
//!
//! What is raised holds at once. What is lowered holds when no more is held than that: a mount that held more than it may would take
//! nothing, and without anything that comes neither its ring nor any shard forgets what is too much.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Settings;

/// The bounds that hold now, in bytes.
#[derive(Debug)]
pub(super) struct Bounds {
    chunk: AtomicU64,
    memory: AtomicU64,
}

impl Bounds {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { chunk: AtomicU64::new(settings.chunk_max()), memory: AtomicU64::new(settings.memory_bound()) }
    }

    /// The largest chunk that is taken, and the most that all of them may take in memory.
    pub(super) fn now(&self) -> (u64, u64) {
        (self.chunk.load(Ordering::Relaxed), self.memory.load(Ordering::Relaxed))
    }

    /// There are other settings.
    pub(super) fn settle(&self, settings: &Settings) {
        self.chunk.store(settings.chunk_max(), Ordering::Relaxed);
        self.memory.fetch_max(settings.memory_bound(), Ordering::Relaxed);
    }

    /// So much is held already, by other settings than these: what comes has room beside it.
    pub(super) fn allow_for(&self, held: u64, settings: &Settings) {
        self.memory.fetch_max(held + settings.chunk_max(), Ordering::Relaxed);
    }

    /// Lowers what is to be lower by these settings, if so little is held. To be called as things come in.
    pub(super) fn tighten(&self, held: u64, settings: &Settings) {
        let wanted = settings.memory_bound();
        if self.memory.load(Ordering::Relaxed) > wanted && held <= settings.rules.memory_max {
            self.memory.store(wanted, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::testing::settings;
    use crate::units::ByteCount;

    fn of(ring_max: u64) -> Settings {
        let mut settings = settings("/a");
        (settings.ring_max, settings.rules.memory_max) = (ByteCount(ring_max), 2 * ring_max);
        settings
    }

    #[test]
    fn what_is_lowered_holds_when_no_more_is_held_and_what_is_raised_at_once() {
        let (small, large) = (of(100), of(1000));
        let bounds = Bounds::new(&large);
        bounds.settle(&small);
        assert_eq!(bounds.now(), (25, 2250));
        bounds.tighten(201, &small);
        assert_eq!(bounds.now(), (25, 2250), "there is more than it is to hold");
        bounds.tighten(200, &small);
        assert_eq!(bounds.now(), (25, 225));
        bounds.settle(&large);
        assert_eq!(bounds.now(), (250, 2250));
    }

    #[test]
    fn who_takes_over_more_than_may_be_held_has_room_for_the_next_chunk_until_it_is_less() {
        let small = of(100);
        let bounds = Bounds::new(&small);
        bounds.allow_for(150, &small);
        assert_eq!(bounds.now().1, 225, "there is room");
        bounds.allow_for(1000, &small);
        assert_eq!(bounds.now().1, 1025);
        bounds.tighten(1000, &small);
        assert_eq!(bounds.now().1, 1025);
        bounds.tighten(100, &small);
        assert_eq!(bounds.now().1, 225);
    }
}
