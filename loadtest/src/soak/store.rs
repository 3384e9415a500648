//! A soak's folder: its samples, its state, its results. What is here is enough to go on after a stop.
//!
//! ```text
//!   samples.jsonl   one line per interval, appended; every second line goes when it grows beyond its limit
//!   state.json      settings, sums and findings; replaced whole, so that a crash leaves the old one or the new one
//!   result.json     report.html
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::sample::{Sample, Totals};
use super::settings::Settings;
use super::verdict::Findings;

/// The samples on disk never take more than this.
const SAMPLES_LIMIT: u64 = 64 << 20;

/// What is needed to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) session: u32,
    /// Of the soak, stops left out.
    pub(crate) seconds: f64,
    /// Of all sessions that have ended, and of this one as far as it is.
    pub(crate) totals: Totals,
    pub(crate) findings: Findings,
}

#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    samples: File,
    length: u64,
    limit: u64,
}

impl Store {
    /// A folder for a new soak, which must not hold one already.
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        ensure!(!folder.join("state.json").exists(), "{} holds a soak already: go on with it by --resume", folder.display());
        Self::open(folder)
    }

    /// The folder of a soak that was stopped, and where it stands.
    pub(crate) fn resume(folder: &Path) -> anyhow::Result<(Self, State)> {
        let path = folder.join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let state = serde_json::from_str(&text).with_context(|| format!("{} is no state of a soak", path.display()))?;
        Ok((Self::open(folder)?, state))
    }

    fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("samples.jsonl");
        let samples =
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut store = Self { folder: folder.to_owned(), length: samples.metadata()?.len(), samples, limit: SAMPLES_LIMIT };
        // A crash may have cut the last line: the next one is not to be lost with it.
        if store.length > 0 && fs::read(&path)?.last() != Some(&b'\n') {
            store.samples.write_all(b"\n")?;
            store.length += 1;
        }
        Ok(store)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Appends a sample.
    pub(crate) fn note(&mut self, sample: &Sample) -> io::Result<()> {
        let mut line = serde_json::to_vec(sample)?;
        line.push(b'\n');
        if self.length + line.len() as u64 > self.limit {
            self.thin()?;
        }
        self.samples.write_all(&line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Drops every second line.
    fn thin(&mut self) -> io::Result<()> {
        let (path, new) = (self.file("samples.jsonl"), self.file("samples.jsonl.new"));
        let mut out = BufWriter::new(File::create(&new)?);
        for (at, line) in BufReader::new(File::open(&path)?).lines().enumerate() {
            if at % 2 == 0 {
                writeln!(out, "{}", line?)?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, &path)?;
        self.samples = OpenOptions::new().append(true).open(&path)?;
        self.length = self.samples.metadata()?.len();
        Ok(())
    }

    /// Hands every sample on disk to `each`, oldest first. A line that was cut by a crash is passed over.
    pub(crate) fn replay(&self, mut each: impl FnMut(Sample)) -> io::Result<()> {
        for line in BufReader::new(File::open(self.file("samples.jsonl"))?).lines() {
            if let Ok(sample) = serde_json::from_str(&line?) {
                each(sample);
            }
        }
        Ok(())
    }

    pub(crate) fn save(&self, state: &State) -> io::Result<()> {
        let new = self.file("state.json.new");
        let mut file = File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, state)?;
        file.sync_all()?;
        fs::rename(new, self.file("state.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("loadtest-store-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn seconds(store: &Store) -> Vec<f64> {
        let mut all = Vec::new();
        store.replay(|sample| all.push(sample.seconds)).expect("read");
        all
    }

    #[test]
    fn a_soak_goes_on_where_it_stopped() {
        let folder = Folder::new("resume");
        let mut store = Store::create(&folder.0).expect("made");
        store.note(&Sample { seconds: 1.0, ..Sample::default() }).expect("written");
        let state = State {
            settings: Settings::default(),
            session: 1,
            seconds: 1.0,
            totals: Totals { joined: 7, ..Totals::default() },
            findings: Findings::default(),
        };
        store.save(&state).expect("saved");
        assert!(Store::create(&folder.0).is_err(), "never two soaks in one folder");
        fs::write(folder.0.join("samples.jsonl"), [fs::read(folder.0.join("samples.jsonl")).expect("read"), b"{\"cut".to_vec()].concat())
            .expect("a crash in the middle of a line");
        let (mut store, found) = Store::resume(&folder.0).expect("there");
        assert_eq!((found.totals.joined, found.session), (7, 1));
        store.note(&Sample { seconds: 2.0, ..Sample::default() }).expect("written");
        assert_eq!(seconds(&store), [1.0, 2.0]);
    }

    #[test]
    fn the_samples_on_disk_are_bounded_and_cover_the_whole_time() {
        let folder = Folder::new("thin");
        let mut store = Store::create(&folder.0).expect("made");
        store.limit = 20_000;
        for at in 0..1_000 {
            store.note(&Sample { seconds: f64::from(at), ..Sample::default() }).expect("written");
            assert!(store.file("samples.jsonl").metadata().expect("there").len() <= 20_000);
        }
        let all = seconds(&store);
        assert_eq!((all.first(), all.last()), (Some(&0.0), Some(&999.0)));
        assert!(all.is_sorted() && all.len() > 10, "{all:?}");
    }
}
