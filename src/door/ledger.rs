//! Where bans are kept: one small file, written anew as a whole by a thread of its own.
//!
//! - Who bans never waits for a disk. Of several states that are to be kept the last is; one that could not be is tried again.
//! - The file is replaced in one step: whoever reads it finds the old state or the new one.
//! - A file that makes no sense is set aside under another name, and said; it stops nobody.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::access::ban::Bans;

const NAME: &str = "bans.json";
/// The largest file that is read: ten thousand bans with their reasons, and some.
const FILE_MOST: u64 = 16 << 20;
/// How long to wait before a state is written again that could not be.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Desk {
    /// What is to be kept and is not yet.
    wanted: Option<String>,
    /// It is being written.
    writing: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, desk: MutexGuard<'a, Desk>, most: Duration) -> MutexGuard<'a, Desk> {
        self.changed.wait_timeout(desk, most).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The file, and who writes it.
#[derive(Debug)]
pub(super) struct Ledger {
    shared: Arc<Shared>,
}

impl Ledger {
    /// Reads what was kept in this folder.
    pub(super) fn open(folder: &Path) -> (Self, Bans) {
        let path = folder.join(NAME);
        let bans = match read(&path) {
            Ok(text) => Bans::read(&text, SystemTime::now()).unwrap_or_else(|problem| set_aside(&path, &problem)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bans::default(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => set_aside(&path, &error.to_string()),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "bans that were kept cannot be read");
                Bans::default()
            }
        };
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        if let Err(error) = std::thread::Builder::new().name("ledger".into()).spawn(move || work(&path, &theirs)) {
            tracing::error!(%error, "bans are not kept: there is no thread for it");
        }
        (Self { shared }, bans)
    }

    /// Keeps this in place of what was kept.
    pub(super) fn keep(&self, text: String) {
        self.shared.desk().wanted = Some(text);
        self.shared.changed.notify_all();
    }

    /// Waits until all is kept, or the time is over.
    pub(super) fn finish(&self, most: Duration) {
        let end = Instant::now() + most;
        let mut desk = self.shared.desk();
        while (desk.wanted.is_some() || desk.writing) && Instant::now() < end {
            desk = self.shared.wait(desk, end.saturating_duration_since(Instant::now()));
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.changed.notify_all();
    }
}

fn work(path: &Path, shared: &Shared) {
    let mut failing = false;
    loop {
        let text = {
            let mut desk = shared.desk();
            loop {
                if let Some(text) = desk.wanted.take() {
                    desk.writing = true;
                    break text;
                }
                if desk.closed {
                    return;
                }
                desk = shared.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let written = write(path, &text);
        let mut desk = shared.desk();
        desk.writing = false;
        match written {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::error!(path = %path.display(), %error, "bans hold, but cannot be kept; it is tried again");
                }
                failing = true;
                desk.wanted.get_or_insert(text); // unless there is something newer
                let end = Instant::now() + AGAIN;
                while !desk.closed && Instant::now() < end {
                    desk = shared.wait(desk, end.saturating_duration_since(Instant::now()));
                }
                if desk.closed {
                    return;
                }
            }
        }
        shared.changed.notify_all();
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MOST).read_to_string(&mut text)?;
    Ok(text)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn set_aside(path: &Path, problem: &str) -> Bans {
    let aside: PathBuf = path.with_extension("json.bad");
    let moved = fs::rename(path, &aside);
    tracing::error!(path = %path.display(), aside = %aside.display(), moved = moved.is_ok(), problem,
        "bans that were kept make no sense, and are set aside");
    Bans::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ban::Ban;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("flumen-ledger-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn some(address: &str) -> Bans {
        let (mut bans, now) = (Bans::default(), SystemTime::now());
        bans.add(Ban::new(address.parse().expect("a network"), "x", now, None), now).expect("room");
        bans
    }

    fn count(bans: &Bans) -> usize {
        bans.iter(SystemTime::now()).count()
    }

    #[test]
    fn what_is_kept_is_found_again_and_what_makes_no_sense_is_set_aside() {
        let folder = folder("kept");
        let (ledger, bans) = Ledger::open(&folder);
        assert_eq!(count(&bans), 0);
        (1..100).for_each(|i| ledger.keep(some(&format!("192.0.2.{i}")).write(SystemTime::now())));
        ledger.finish(Duration::from_secs(10));
        drop(ledger);
        let (_ledger, bans) = Ledger::open(&folder);
        assert!(bans.contains([192, 0, 2, 99].into(), SystemTime::now()) && count(&bans) == 1, "the last state");
        fs::write(folder.join(NAME), b"\xff{").expect("written");
        assert_eq!(count(&Ledger::open(&folder).1), 0);
        assert!(folder.join("bans.json.bad").exists() && !folder.join(NAME).exists());
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_folder_that_cannot_be_written_holds_nobody_up() {
        let folder = folder("gone");
        let (ledger, _) = Ledger::open(&folder.join("not/there"));
        let begun = Instant::now();
        ledger.keep(some("192.0.2.1").write(SystemTime::now()));
        ledger.finish(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(5));
        fs::remove_dir_all(folder).expect("removed");
    }
}
