//! Encoders that send their stream in many requests, each with a length: what follows soon from the same one goes on where the last
//! ended (GStreamer's `souphttpclientsink` does that).
//!
//! Bounded by the mounts, each of which has one encoder at the most, and by [`PARKED_MOST`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ingest::pump::Pump;
use crate::mount::publishers::Press;
use crate::units::MountPath;

/// How long the next request of an encoder is waited for.
const PARKED_MOST: Duration = Duration::from_secs(2);

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
pub(super) struct Parking(Mutex<Lots>);

#[derive(Debug, Default)]
struct Lots {
    parked: HashMap<MountPath, (u64, Parked)>,
    last: u64,
}

impl Parking {
    fn lock(&self) -> MutexGuard<'_, Lots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the stream that this encoder has begun, if there is one.
    pub(super) fn resume(&self, path: &MountPath, likeness: &Likeness) -> Option<Parked> {
        let mut lots = self.lock();
        let known = lots.parked.get(path).is_some_and(|(_, parked)| parked.likeness == *likeness);
        known.then(|| lots.parked.remove(path)).flatten().map(|(_, parked)| parked)
    }

    /// Keeps a stream until it goes on, and ends it if it does not.
    pub(super) async fn keep(self: &Arc<Self>, path: MountPath, parked: Parked) {
        let number = {
            let mut lots = self.lock();
            lots.last += 1;
            let number = lots.last;
            lots.parked.insert(path.clone(), (number, parked));
            number
        };
        tokio::time::sleep(PARKED_MOST).await;
        let left = {
            let mut lots = self.lock();
            let still = lots.parked.get(&path).is_some_and(|(found, _)| *found == number);
            still.then(|| lots.parked.remove(&path)).flatten()
        };
        if let Some((_, Parked { pump, press, .. })) = left {
            pump.finish(None, || press.arrive()).await;
        }
    }
}
