//! A flumen that the soak starts itself: configured, awaited, told to stop, and never left behind.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::settings::Settings;
use super::store::Store;
use super::verdict::Reason;
use crate::ask::Door;
use crate::clock::Nanos;

/// Its log takes at most twice this much disk: the newest, and what came before.
const LOG_PIECE: u64 = 8 << 20;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// It may take its time to drain.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct House {
    child: Child,
    log: Option<JoinHandle<()>>,
}

impl House {
    /// Starts it and waits until it answers.
    pub(crate) fn start(settings: &Settings, program: &Path, store: &Store, door: &Door) -> anyhow::Result<Self> {
        let (configuration, log) = (store.file("flumen.toml"), store.file("flumen.log"));
        fs::write(&configuration, settings.own_configuration())?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stderr = child.stderr.take();
        let mut house = Self { child, log: None };
        house.log = stderr.map(|stderr| thread::spawn(move || keep(stderr, &log)));
        let patience = Nanos::now().after(READY_WITHIN);
        while door.ask("GET", "/healthz").map(|answer| answer.status).ok() != Some(200) {
            if let Some(status) = house.gone() {
                bail!("{} ended at once ({status}); its log is in {}", program.display(), store.folder().display());
            }
            if Nanos::now() > patience {
                bail!("{} does not answer; its log is in {}", program.display(), store.folder().display());
            }
            thread::sleep(LOOK);
        }
        Ok(house)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn gone(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Tells it to stop and waits. What was wrong with that, if anything.
    pub(crate) fn stop(mut self) -> Option<(Reason, String)> {
        if signal(self.pid(), Signal::TERM).is_err() {
            return Some((Reason::Died, "it was gone before it was told to stop".to_owned()));
        }
        let patience = Nanos::now().after(STOPPED_WITHIN);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return None,
                Ok(Some(status)) => return Some((Reason::Exit, format!("told to stop, it ended with {status}"))),
                Ok(None) if Nanos::now() < patience => thread::sleep(LOOK),
                Ok(None) => return Some((Reason::Exit, format!("told to stop, it was still there after {STOPPED_WITHIN:?}"))),
                Err(e) => return Some((Reason::Exit, e.to_string())),
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Whatever happened, nothing is left behind; it may well have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

/// Copies the log to a file, and begins a new one when it is long; the one before stays.
fn keep(mut from: ChildStderr, path: &Path) {
    let mut before = path.as_os_str().to_owned();
    before.push(".1");
    let before = PathBuf::from(before);
    let mut piece = vec![0; 16 << 10];
    let (mut file, mut length) = (File::create(path).ok(), 0);
    // A full disk costs the log, not the soak: the server's pipe is emptied all the same.
    while let Ok(n @ 1..) = from.read(&mut piece) {
        if length > LOG_PIECE && fs::rename(path, &before).is_ok() {
            (file, length) = (File::create(path).ok(), 0);
        }
        if let Some(file) = &mut file {
            let _ = file.write_all(&piece[..n]);
        }
        length += n as u64;
    }
}
