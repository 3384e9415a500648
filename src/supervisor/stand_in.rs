//! Lets recordings be heard while sources are away (`fallback = "file:…"`), where somebody listens or would.
//!
//! - One task for each mount that has such a fallback. It looks only while the source is away.
//! - A file that cannot be played is said once, and tried again: listeners wait for as long as the mount lets them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::task::{JoinHandle, spawn_blocking};

use crate::ingest::recording::{Recording, RecordingError};
use crate::mount::actor::{OpenStandIn, StandInEnded};
use crate::mount::registry::Entry;
use crate::mount::{Mount, Registry};
use crate::units::MountPath;

/// How often it is looked whether somebody wants to hear something.
const LOOK: Duration = Duration::from_millis(200);
/// How long a recording goes on when nobody listens any more.
const IDLE_MOST: Duration = Duration::from_secs(10);
/// When a file that could not be played is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Mounts that come and go in a storm are looked at so often.
const BREATH: Duration = Duration::from_millis(100);

struct Kept {
    file: Arc<Path>,
    entry: Entry,
    task: JoinHandle<()>,
}

/// Sees to all mounts that have a recording for their fallback, for as long as there are mounts.
pub async fn keep(registry: Arc<Registry>) {
    let mut changes = registry.changes();
    let mut kept: HashMap<MountPath, Kept> = HashMap::new();
    loop {
        let wanted: HashMap<_, _> = registry
            .all()
            .into_iter()
            .filter_map(|entry| Some((entry.handle.settings.path.clone(), (entry.handle.settings.fallback.file().cloned()?, entry))))
            .collect();
        kept.retain(|path, kept| {
            let stays = wanted.get(path).is_some_and(|(file, entry)| *file == kept.file && entry.handle.is_same(&kept.entry.handle));
            if !stays {
                kept.task.abort();
            }
            stays
        });
        for (path, (file, entry)) in wanted {
            kept.entry(path).or_insert_with(|| {
                let task = actix_rt::spawn(tend(entry.clone(), Arc::clone(&file)));
                Kept { file, entry, task }
            });
        }
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// Sees to one mount until it is closed.
async fn tend(entry: Entry, file: Arc<Path>) {
    let mut said = false;
    while !entry.handle.until_away().await {
        if !entry.handle.is_wanted() {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let mount = entry.handle.settings.path.as_str();
        match stand_in(&entry, &file).await {
            Ok(()) | Err(RecordingError::Gate(_)) => {
                said = false;
                tokio::time::sleep(LOOK).await;
            }
            Err(why) => {
                if !said {
                    said = true;
                    tracing::warn!(mount, file = %file.display(), %why, "the fallback cannot be heard: listeners wait");
                }
                entry.handle.disappoint(RETRY);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// A recording that is heard, until dropped.
struct Heard {
    mount: Addr<Mount>,
    number: u64,
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.mount.do_send(StandInEnded(self.number));
    }
}

/// Lets a recording be heard until the source is there again, or nobody listens.
async fn stand_in(entry: &Entry, file: &Arc<Path>) -> Result<(), RecordingError> {
    let looked_at = Arc::clone(file);
    let recording = spawn_blocking(move || Recording::open(&looked_at)).await.map_err(std::io::Error::other)??;
    let handle = &entry.handle;
    if let Some(promised) = handle.status().content_type.filter(|promised| !recording.is_of(promised)) {
        return Err(RecordingError::Other { promised });
    }
    // The mount is gone, or its source is back.
    let Ok(Some(gate)) = entry.actor.send(OpenStandIn).await else { return Ok(()) };
    let _heard = Heard { mount: entry.actor.clone(), number: gate.source() };
    tracing::info!(mount = %handle.settings.path, file = %file.display(), "the source is away: a recording is heard");
    let mut wanted = Instant::now();
    let goes_on = || {
        if handle.is_wanted() {
            wanted = Instant::now();
        }
        wanted.elapsed() < IDLE_MOST
    };
    recording.play(gate, goes_on).await
}
