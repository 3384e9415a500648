//! How late the threads are on which tasks run: each is asked once a second to do nothing at a certain moment, and how long after it
//! that came to pass is noted. A task that does not let go, a call that blocks, a machine without time: all of it shows here.
//!
//! - It costs a thread one timer a second. Threads of shards are asked nothing: they have no tasks, and note each turn of theirs.
//! - A thread that stands still is noted when it goes on. Until then its count does not grow.
//!
//! Deliberately absent: how many tasks there are. These threads keep their tasks to themselves, where the runtime does not count.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::fanout::stats::{Histogram, HistogramView, LATENESS_BOUNDS};

/// How often a thread is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Threads on which tasks run. Closed, for it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Signals, supervisors, relays, the look once a second.
    Main,
    /// The mounts' actors.
    Mounts,
    /// The HTTP workers, all of them.
    Http,
}

impl Thread {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Main, Self::Mounts, Self::Http];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Mounts => "mounts",
            Self::Http => "http",
        }
    }
}

/// How late they were.
#[derive(Debug)]
pub struct Pulses([Histogram<8>; Thread::ALL.len()]);

impl Default for Pulses {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::new(&LATENESS_BOUNDS)))
    }
}

impl Pulses {
    /// How late this one was, so far.
    pub fn view(&self, thread: Thread) -> HistogramView {
        self.0[thread as usize].view()
    }

    /// Asks the thread on which this is polled, for as long as it is.
    pub async fn feel(self: Arc<Self>, thread: Thread) {
        self.feel_every(thread, EVERY).await;
    }

    async fn feel_every(&self, thread: Thread, every: Duration) {
        let mut due = Instant::now() + every;
        loop {
            sleep_until(due).await;
            let now = Instant::now();
            self.0[thread as usize].observe(now.saturating_duration_since(due));
            due = now + every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many were noted, and how many of them were later than this.
    fn noted(pulses: &Pulses, thread: Thread, later_than: f64) -> (u64, u64) {
        let view = pulses.view(thread);
        let within = view.cumulative.iter().find(|(bound, _)| *bound == later_than).expect("a bound").1;
        (view.count, view.count - within)
    }

    #[test]
    fn a_thread_that_is_held_is_late_and_the_others_are_not_for_it() {
        actix_rt::System::new().block_on(async {
            let (pulses, every) = (Arc::new(Pulses::default()), Duration::from_millis(5));
            let felt = Arc::clone(&pulses);
            let task = actix_rt::spawn(async move { felt.feel_every(Thread::Main, every).await });
            while noted(&pulses, Thread::Main, 0.25).0 < 3 {
                tokio::time::sleep(every).await;
            }
            let (_, before) = noted(&pulses, Thread::Main, 0.25);
            std::thread::sleep(Duration::from_millis(400)); // as a task does that does not let go
            while noted(&pulses, Thread::Main, 0.25).1 == before {
                tokio::time::sleep(every).await;
            }
            assert_eq!(noted(&pulses, Thread::Mounts, 0.25), (0, 0));
            assert_eq!(noted(&pulses, Thread::Http, 0.25), (0, 0));
            task.abort();
        });
    }
}
