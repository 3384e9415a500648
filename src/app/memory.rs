//! How much memory is used, of how much: before the kernel ends the process, newcomers are turned away (`door::patrol`).
//!
//! - With a limit written, what counts is the resident memory of the process. Without one it is what its control group uses and may
//!   use, where there is such a bound; what the kernel keeps of files there and could give back does not count.
//! - What cannot be read stops nobody.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::MemoryLimit;
use crate::door::patrol::Patrol;

/// How often it is looked. A crowd of newcomers takes some megabytes in this time.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A bound above this is none: version 1 of control groups writes one of eight exabytes.
const BOUND_MOST: u64 = 1 << 60;

/// The limit, which may change.
#[derive(Debug)]
pub(super) struct Limit(Mutex<MemoryLimit>);

impl Limit {
    pub(super) fn new(limit: MemoryLimit) -> Arc<Self> {
        Arc::new(Self(Mutex::new(limit)))
    }

    pub(super) fn set(&self, limit: MemoryLimit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    fn get(&self) -> MemoryLimit {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the patrol how much is used, for ever.
pub(super) async fn watch(patrol: Arc<Patrol>, limit: Arc<Limit>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let found = match limit.get() {
            MemoryLimit::None => None,
            MemoryLimit::Bytes(most) => resident().map(|used| (used, most)),
            // Looked for each time: a bound may be set, or the process moved, while it runs.
            MemoryLimit::Auto => {
                let told = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
                Group::of(Path::new("/sys/fs/cgroup"), &told).and_then(|group| group.usage())
            }
        };
        let (used, most) = found.unwrap_or((0, u64::MAX));
        patrol.feel(used, most);
    }
}

/// Resident memory of this process.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A control group that bounds the memory of the process.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
    usage: &'static str,
    most: &'static str,
}

/// The names of a version's files: what is used, and how much may be.
const VERSIONS: [(&str, &str, &str); 2] =
    [("", "memory.current", "memory.max"), ("memory", "memory.usage_in_bytes", "memory.limit_in_bytes")];

impl Group {
    /// The nearest group with a bound, of those that the process is in; `told` is what the kernel says it is in.
    fn of(root: &Path, told: &str) -> Option<Self> {
        told.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (controller, usage, most) =
                VERSIONS.into_iter().find(|(controller, ..)| controllers.split(',').any(|name| name == *controller))?;
            let (root, path) = (root.join(controller), Path::new(path.trim_start_matches('/')));
            // In a container the path may be the host's, and the group itself is at the root.
            let folders = path.ancestors().map(|path| root.join(path));
            folders.map(|folder| Self { folder, usage, most }).find(|group| group.usage().is_some())
        })
    }

    fn number(&self, name: &str) -> Option<u64> {
        std::fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }

    /// What is used, and how much may be.
    fn usage(&self) -> Option<(u64, u64)> {
        let most = self.number(self.most).filter(|most| *most < BOUND_MOST)?;
        let statistics = std::fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let kept = |name| statistics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let files = kept("total_inactive_file ").or_else(|| kept("inactive_file ")).unwrap_or(0);
        Some((self.number(self.usage)?.saturating_sub(files), most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_bound_counts_and_what_the_kernel_can_give_back_does_not() {
        let root = std::env::temp_dir().join(format!("flumen-memory-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        for (file, text) in [
            ("a/b/memory.current", "500\n"),
            ("a/b/memory.max", "max\n"),
            ("a/memory.current", "1000\n"),
            ("a/memory.max", "4000\n"),
            ("a/memory.stat", "anon 700\ninactive_file 300\n"),
            ("memory/x/memory.usage_in_bytes", "100\n"),
            ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "200\n"),
            ("memory/memory.limit_in_bytes", "1000\n"),
            ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n"),
        ] {
            write(file, text);
        }
        for (told, want) in [
            ("0::/a/b\n", Some((700, 4000))),
            ("12:memory:/x\n0::/nowhere\n", Some((150, 1000))),
            ("0::/elsewhere\n", None),
            ("3:cpu,cpuacct:/a\n", None),
            ("rubbish", None),
            ("", None),
        ] {
            assert_eq!(Group::of(&root, told).and_then(|group| group.usage()), want, "{told}");
        }
        std::fs::remove_dir_all(root).expect("removed");
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
