//! The access log: one line for each visit, written when it is over.
//!
//! ```text
//!   departures (mount), answers (door) ──note──▶ bounded queue ──▶ one thread ──▶ stdout, or a file
//! ```
//! - Whoever notes a visit never waits. When the queue is full, or the disk, lines are dropped and counted.
//! - Nothing that a client sends can begin a line of its own, end a quoted part, or reach a terminal as anything but text.
//! - Lines of the event log that outsiders can cause without end have a bound (`repeats`).
//! - A file is opened again when it is asked for, and when it is found to be gone or another one (rotated, or its folder removed).
//!
//! Deliberately absent: rotation (logrotate does that, and says HUP), and who a visitor is: rooms above say that.

mod line;
mod repeats;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use line::Visit;
pub use repeats::{Hearsay, Kind, Whence};

/// Lines that may wait, and bytes of them: clients can make a line seventeen times as long as the usual one is.
const LINES_MOST: usize = 8192;
const WAITING_MOST: usize = 8 << 20;
/// Bytes written at once.
const BATCH_MOST: usize = 256 * 1024;
/// What a slow disk costs in memory at the very most: lines that wait, and those that are being written.
pub const QUEUED_BYTES: u64 = (WAITING_MOST + LINES_MOST * size_of::<Word>() + BATCH_MOST + line::LINE_MOST) as u64;
/// How often it is looked whether the file is still the one at its path.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A disk that stays full is worth a line in the event log this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    #[default]
    None,
    /// To stdout.
    Stdout,
    /// Into a file, at its end.
    File(PathBuf),
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// NCSA combined, then seconds, departure and mount.
    #[default]
    Combined,
    /// An object of JSON.
    Json,
}

/// What the access log is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where lines go.
    pub sink: Sink,
    /// How they are written.
    pub form: Form,
}

/// What the writing thread is told.
enum Word {
    Line(String),
    /// Look whether the sink has changed.
    Look,
}

impl Word {
    /// What it takes while it waits, beside its place in the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.capacity(),
            Self::Look => 0,
        }
    }
}

/// The access log.
#[derive(Debug)]
pub struct Journal {
    queue: Mutex<Option<SyncSender<Word>>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    settings: Mutex<Settings>,
    on: AtomicBool,
    json: AtomicBool,
    /// The sink is to be opened again.
    again: AtomicBool,
    /// Bytes of lines that wait.
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Journal {
    /// A log that writes nothing, and never will.
    pub fn off() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(None), shared: Arc::default(), thread: Mutex::new(None) })
    }

    /// A log that writes by these settings.
    ///
    /// # Errors
    /// When the file cannot be opened, or the system has no thread left.
    pub fn start(settings: &Settings) -> io::Result<Arc<Self>> {
        let out = Out::open(&settings.sink)?;
        let shared = Arc::new(Shared::default());
        shared.settle(settings);
        let (sender, lines) = sync_channel(LINES_MOST);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || write(out, &lines, &theirs))?;
        Ok(Arc::new(Self { queue: Mutex::new(Some(sender)), shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Whether visits are written down. Who asks first spares the work where they are not.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed)
    }

    /// Writes a visit down, if there is room for it.
    pub fn note(&self, visit: &Visit<'_>) {
        if self.is_on() {
            let line = if self.shared.json.load(Ordering::Relaxed) { visit.json() } else { visit.combined() };
            self.put(Word::Line(line));
        }
    }

    /// Lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, dropped: u64) {
        self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Opens the file again: it was moved away.
    pub fn reopen(&self) {
        self.shared.again.store(true, Ordering::Release);
        self.put(Word::Look);
    }

    /// Goes on elsewhere, or in another form.
    ///
    /// # Errors
    /// When the file cannot be opened; then nothing has changed.
    pub fn redirect(&self, settings: &Settings) -> io::Result<()> {
        drop(Out::open(&settings.sink)?);
        self.shared.settle(settings);
        self.reopen();
        Ok(())
    }

    /// Writes what waits, and ends; a disk that takes nothing is not waited for longer than this.
    pub fn finish(&self, most: Duration) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let end = Instant::now() + most;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn put(&self, word: Word) {
        let bytes = word.bytes();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_MOST {
            self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match queue.as_ref().map(|queue| queue.try_send(word)) {
            // A full queue is being written from, so the thread looks at its settings soon.
            Some(Ok(()) | Err(TrySendError::Full(Word::Look))) => {}
            None => {
                self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            }
            Some(Err(_)) => {
                self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Shared {
    fn settle(&self, settings: &Settings) {
        settings.clone_into(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner));
        self.on.store(settings.sink != Sink::None, Ordering::Relaxed);
        self.json.store(settings.form == Form::Json, Ordering::Relaxed);
    }

    fn sink(&self) -> Sink {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).sink.clone()
    }
}

/// A sink that is open.
enum Out {
    Nothing,
    Stdout,
    File { file: File, path: PathBuf },
}

impl Out {
    fn open(sink: &Sink) -> io::Result<Self> {
        Ok(match sink {
            Sink::None => Self::Nothing,
            Sink::Stdout => Self::Stdout,
            Sink::File(path) => Self::File { file: OpenOptions::new().append(true).create(true).open(path)?, path: path.clone() },
        })
    }

    /// Whether the path leads to another file by now, or to none.
    fn is_stale(&self) -> bool {
        let Self::File { file, path } = self else { return false };
        let inode = |found: std::fs::Metadata| (found.dev(), found.ino());
        let at = |path: &Path| std::fs::metadata(path).map(inode).ok();
        file.metadata().map(inode).ok() != at(path)
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines).and_then(|()| out.flush())
            }
            Self::File { file, .. } => file.write_all(lines),
        }
    }
}

/// Tells of trouble with the log, now and then.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn tell(&mut self, error: &io::Error, what: &str) {
        if self.last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.last = Some(Instant::now());
            tracing::warn!(%error, "{what}");
        }
    }
}

/// The writing thread.
fn write(mut out: Out, words: &Receiver<Word>, shared: &Shared) {
    let mut looked = Instant::now();
    let (mut batch, mut complaints) = (Vec::new(), Complaints::default());
    while let Ok(first) = words.recv() {
        batch.clear();
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(word) = next {
            shared.waiting.fetch_sub(word.bytes(), Ordering::Relaxed);
            if let Word::Line(line) = word {
                batch.extend_from_slice(line.as_bytes());
                batch.push(b'\n');
                lines += 1;
            }
            next = if batch.len() < BATCH_MOST { words.try_recv().ok() } else { None };
        }
        let again = shared.again.swap(false, Ordering::AcqRel);
        let stale = looked.elapsed() >= LOOK_EVERY && {
            looked = Instant::now();
            out.is_stale()
        };
        if again || stale {
            match Out::open(&shared.sink()) {
                Ok(opened) => out = opened,
                Err(error) => complaints.tell(&error, "the access log cannot be opened; it goes on where it was"),
            }
        }
        if let Err(error) = out.write(&batch) {
            shared.dropped.fetch_add(lines, Ordering::Relaxed);
            complaints.tell(&error, "the access log cannot be written; its lines are dropped and counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn visit(target: &str) -> Visit<'_> {
        Visit { method: "GET", target, at: SystemTime::UNIX_EPOCH, ..Visit::default() }
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("flumen-journal-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    fn to(path: &Path) -> Settings {
        Settings { sink: Sink::File(path.to_owned()), form: Form::Combined }
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(10), "it never came true");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn holds(path: &Path, part: &str) -> bool {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(part))
    }

    #[test]
    fn lines_that_wait_have_a_bound_in_bytes_too_and_what_is_beyond_it_is_counted() {
        let (sender, words) = sync_channel(LINES_MOST);
        let shared = Arc::new(Shared::default());
        shared.settle(&to(Path::new("/somewhere")));
        let journal = Journal { queue: Mutex::new(Some(sender)), shared: Arc::clone(&shared), thread: Mutex::new(None) };
        let (long, most) = ("\u{202e}".repeat(10_000), LINES_MOST as u64);
        (0..most).for_each(|_| journal.note(&Visit { referer: &long, agent: &long, ..visit(&long) }));
        let waiting = shared.waiting.load(Ordering::Relaxed);
        assert!(waiting <= WAITING_MOST && waiting > WAITING_MOST - line::LINE_MOST, "{waiting}");
        assert!((1..most).contains(&journal.dropped()), "{}", journal.dropped());
        journal.finish(Duration::ZERO);
        write(Out::Nothing, &words, &shared);
        assert_eq!(shared.waiting.load(Ordering::Relaxed), 0, "what was written makes room");
    }

    #[test]
    fn a_file_that_is_moved_away_is_begun_anew_when_asked_and_also_when_not() {
        let folder = folder("moved");
        let (path, moved) = (folder.join("log"), folder.join("log.1"));
        let journal = Journal::start(&to(&path)).expect("started");
        journal.note(&visit("/one"));
        until(|| holds(&path, "/one"));
        std::fs::rename(&path, &moved).expect("moved");
        journal.reopen();
        journal.note(&visit("/two"));
        until(|| holds(&path, "/two"));
        std::fs::remove_file(&path).expect("removed");
        until(|| {
            journal.note(&visit("/three"));
            holds(&path, "/three")
        });
        let other = folder.join("other");
        journal.redirect(&Settings { form: Form::Json, ..to(&other) }).expect("opened");
        journal.note(&visit("/four"));
        until(|| holds(&other, "\"target\":\"/four\""));
        assert!(journal.redirect(&to(&folder.join("no/such/log"))).is_err());
        journal.note(&visit("/five"));
        journal.finish(Duration::from_secs(5));
        assert!(holds(&other, "/five"), "it goes on where it was, and what waits is written at the end");
        assert!(holds(&moved, "/one") && !holds(&moved, "/two"));
        assert_eq!(journal.dropped(), 0);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_full_disk_costs_lines_and_nobody_waits_for_it() {
        let journal = Journal::start(&to(Path::new("/dev/full"))).expect("started");
        (0..100).for_each(|_| journal.note(&visit("/a")));
        until(|| journal.dropped() == 100);
    }

    #[test]
    fn a_disk_that_hangs_costs_lines_beyond_the_bound_and_nobody_waits_for_it() {
        let folder = folder("hangs");
        let pipe = folder.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        // Somebody who holds the other end, and reads nothing.
        let reader = OpenOptions::new().read(true).write(true).open(&pipe).expect("opened");
        let journal = Journal::start(&to(&pipe)).expect("started");
        let start = Instant::now();
        let noted = 3 * LINES_MOST as u64;
        (0..noted).for_each(|_| journal.note(&visit("/a")));
        assert!(start.elapsed() < Duration::from_secs(5), "nobody waits");
        let dropped = journal.dropped();
        assert!(dropped > noted / 4 && dropped < noted, "{dropped} of {noted} were dropped");
        let start = Instant::now();
        journal.finish(Duration::from_millis(100));
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(reader);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_log_that_is_off_notes_nothing() {
        for journal in [Journal::off(), Journal::start(&Settings::default()).expect("started")] {
            journal.note(&visit("/a"));
            journal.reopen();
            assert_eq!((journal.is_on(), journal.dropped()), (false, 0));
        }
    }
}
