//! Places: who is let in while there is room. The last place goes to exactly one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many places, in a mount or in the whole server.
#[derive(Debug)]
pub struct Places {
    taken: AtomicU64,
    peak: AtomicU64,
    most: AtomicU64,
}

impl Places {
    /// `None`: without limit.
    pub fn new(most: Option<u64>) -> Self {
        Self { taken: AtomicU64::new(0), peak: AtomicU64::new(0), most: AtomicU64::new(most.unwrap_or(u64::MAX)) }
    }

    /// Places taken now, those on their way to a shard included.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The most that were ever taken at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// So many were taken at once in the process before this.
    pub fn note_peak(&self, peak: u64) {
        self.peak.fetch_max(peak, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// From now on there are so many. Who has one keeps it.
    pub fn set_most(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        let most = self.most();
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| (taken < most).then_some(taken + 1));
        match taken {
            Ok(before) => {
                self.peak.fetch_max(before + 1, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }
}

/// One place in each of two rooms, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    server: Arc<Places>,
    mount: Arc<Places>,
}

impl Seat {
    /// Takes a place in the server and in the mount, or in neither.
    pub fn take(server: &Arc<Places>, mount: &Arc<Places>) -> Option<Self> {
        if !server.take() {
            return None;
        }
        if !mount.take() {
            server.taken.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self { server: Arc::clone(server), mount: Arc::clone(mount) })
    }
}

impl Seat {
    /// A place for somebody who has one already, in the process before this: whatever the limits are.
    pub fn keep(server: &Arc<Places>, mount: &Arc<Places>) -> Self {
        for places in [server, mount] {
            let before = places.taken.fetch_add(1, Ordering::AcqRel);
            places.peak.fetch_max(before + 1, Ordering::Relaxed);
        }
        Self { server: Arc::clone(server), mount: Arc::clone(mount) }
    }

    /// Exchanges the place in the mount for one in another, if that has one. Returns whether it had.
    pub fn change(&mut self, mount: &Arc<Places>) -> bool {
        let taken = mount.take();
        if taken {
            std::mem::replace(&mut self.mount, Arc::clone(mount)).taken.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.taken.fetch_sub(1, Ordering::AcqRel);
        self.mount.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_goes_to_exactly_one() {
        let (server, mount) = (Arc::new(Places::new(None)), Arc::new(Places::new(Some(10))));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (server, mount) = (Arc::clone(&server), Arc::clone(&mount));
                std::thread::spawn(move || (0..100).filter_map(|_| Seat::take(&server, &mount)).collect::<Vec<_>>())
            })
            .collect();
        let seats: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!((seats.len(), server.taken(), mount.taken(), mount.peak()), (10, 10, 10, 10), "and a refusal leaves nothing taken");
        mount.set_most(Some(5));
        assert!(Seat::take(&server, &mount).is_none(), "there are fewer now, and who had one has it still");
        assert_eq!(mount.taken(), 10);
        drop(seats);
        assert_eq!((server.taken(), mount.taken(), mount.peak()), (0, 0, 10));
    }

    #[test]
    fn a_place_is_exchanged_for_one_that_is_free_or_kept() {
        let [server, from, to] = [None, None, Some(1)].map(|most| Arc::new(Places::new(most)));
        let [mut first, mut second] = [(); 2].map(|()| Seat::take(&server, &from).expect("room"));
        assert!(first.change(&to) && !second.change(&to));
        assert_eq!((server.taken(), from.taken(), to.taken()), (2, 1, 1));
        drop((first, second));
        assert_eq!((server.taken(), from.taken(), to.taken()), (0, 0, 0));
    }
}
