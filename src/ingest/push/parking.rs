//! Encoders that send their stream in many requests, each with a length: what follows soon from the same one goes on where the last
//! ended (GStreamer's `souphttpclientsink` does that).
//!
//! Bounded by the mounts, each of which has one encoder at the most, and by [`PARKED_MOST`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::ingest::pump::Pump;
use crate::mount::publishers::Press;
use crate::units::MountPath;

/// How long the next request of an encoder is waited for.
const PARKED_MOST: Duration = Duration::from_secs(2);
/// How long a next request waits for the one before to be read to its end: its sender may be ahead of us.
const READ_MOST: Duration = Duration::from_secs(1);

/// By what an encoder is known again: from where, what it says it is, and what it calls its stream.
pub(super) type Likeness = (String, Box<str>, Option<String>);

/// A stream that goes on with the next request.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) likeness: Likeness,
    pub(super) pump: Pump,
    pub(super) press: Press,
}

/// Streams between two requests.
#[derive(Debug, Default)]
pub(super) struct Parking {
    lots: Mutex<Lots>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Lots {
    parked: HashMap<MountPath, (u64, Parked)>,
    last: u64,
}

impl Parking {
    fn lock(&self) -> MutexGuard<'_, Lots> {
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the stream that this encoder has begun, if there is one.
    pub(super) fn resume(&self, path: &MountPath, likeness: &Likeness) -> Option<Parked> {
        let mut lots = self.lock();
        let known = lots.parked.get(path).is_some_and(|(_, parked)| parked.likeness == *likeness);
        known.then(|| lots.parked.remove(path)).flatten().map(|(_, parked)| parked)
    }

    /// The same where the stream's last request is still being read.
    pub(super) async fn resume_soon(&self, path: &MountPath, likeness: &Likeness) -> Option<Parked> {
        let came = async {
            loop {
                let coming = self.came.notified();
                if let Some(parked) = self.resume(path, likeness) {
                    return parked;
                }
                coming.await;
            }
        };
        timeout(READ_MOST, came).await.ok()
    }

    /// Keeps a stream that may go on. From now on its next request finds it, so this is to be done before its sender can know
    /// that the last one has been read. Returns by what [`Parking::watch`] knows it.
    pub(super) fn park(&self, path: MountPath, parked: Parked) -> u64 {
        let mut lots = self.lock();
        lots.last += 1;
        let number = lots.last;
        lots.parked.insert(path, (number, parked));
        drop(lots);
        self.came.notify_waiters();
        number
    }

    /// Ends a stream that has been parked, if it does not go on.
    pub(super) async fn watch(&self, path: &MountPath, number: u64) {
        tokio::time::sleep(PARKED_MOST).await;
        let left = {
            let mut lots = self.lock();
            let still = lots.parked.get(path).is_some_and(|(found, _)| *found == number);
            still.then(|| lots.parked.remove(path)).flatten()
        };
        if let Some((_, Parked { pump, press, .. })) = left {
            pump.finish(None, || press.arrive()).await;
        }
    }
}
