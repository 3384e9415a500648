//! Processes that this one starts, and the ports they get. Whatever happens here, they are ended and reaped.
//!
//! - A [`Child`] that is dropped is asked to end, waited for within a bound, then killed. That holds on errors and panics too.
//! - Interrupts only set a flag: every wait looks at it, gives up with an error, and the way out drops all children.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::loopback;
use crate::clock::Nanos;

const POLL: Duration = Duration::from_millis(20);
/// Between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(3);
const PORTS: u16 = 900;
/// Of a log that is quoted.
const LAST_LINES: usize = 4;

/// Whether somebody wants this to stop.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(super) fn watch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.came(), "interrupted");
        Ok(())
    }

    /// Sleeps, unless interrupted.
    pub(super) fn sleep(&self, time: Duration) -> anyhow::Result<()> {
        let end = Nanos::now().after(time);
        while Nanos::now() < end {
            self.check()?;
            thread::sleep(end.since(Nanos::now()).min(POLL));
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts a program whose output goes to a log in `home`.
    pub(super) fn start(name: &'static str, program: &Path, arguments: &[String], home: &Path) -> anyhow::Result<Self> {
        let log = home.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let process = Command::new(program)
            .args(arguments)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, process, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// An error, with the end of its log, if it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, self.last_words()),
        }
    }

    /// Waits for its end.
    pub(super) fn finish(&mut self, patience: Duration, interrupt: &Interrupt) -> anyhow::Result<ExitStatus> {
        let end = Nanos::now().after(patience);
        loop {
            interrupt.check()?;
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            ensure!(Nanos::now() < end, "{} has not ended within {} s", self.name, patience.as_secs());
            thread::sleep(POLL);
        }
    }

    pub(super) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(LAST_LINES).collect();
        if lines.is_empty() { "it said nothing".to_owned() } else { lines.into_iter().rev().collect::<Vec<_>>().join(" | ") }
    }

    /// Ends it and waits for that. An error only if it could not be reaped.
    fn end(&mut self) -> io::Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        // It has not been reaped, so its number is still its own.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let patience = Nanos::now().after(GRACE);
        while Nanos::now() < patience {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            eprintln!("loadtest compare: cannot end {} (process {}): {e}", self.name, self.process.id());
        }
    }
}

/// Loopback ports below the ephemeral ones, so that no listener's own port is in the way. Each is given once, then again after all.
#[derive(Debug)]
pub(super) struct Ports {
    first: u16,
    given: u16,
}

impl Ports {
    pub(super) fn from(first: u16) -> Self {
        Self { first, given: 0 }
    }

    pub(super) fn free(&mut self) -> anyhow::Result<u16> {
        for _ in 0..PORTS {
            let port = self.first + self.given;
            self.given = (self.given + 1) % PORTS;
            if TcpListener::bind(loopback(port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port from {} on (--ports)", self.first)
    }
}

/// A directory for configurations and logs, gone when dropped. Readable for all: a server may give up its rights.
#[derive(Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn new(number: u32) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("loadtest-compare-{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o755).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(script: &str, home: &Home) -> Child {
        Child::start("child", Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], home.path()).expect("starts")
    }

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_child_is_ended_even_if_it_does_not_want_to() {
        let home = Home::new(u32::MAX).expect("made");
        for script in ["sleep 60", "trap '' TERM; while :; do sleep 0.1; done"] {
            let child = child(script, &home);
            let pid = child.pid();
            assert!(alive(pid), "{script}");
            drop(child);
            assert!(!alive(pid), "{script}");
        }
        let path = home.path().to_owned();
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_child_said_last_is_quoted_when_it_has_ended() {
        let home = Home::new(u32::MAX - 1).expect("made");
        let mut child = child("echo one; echo two >&2; exit 3", &home);
        let interrupt = Interrupt(Arc::default());
        assert_eq!(child.finish(Duration::from_secs(10), &interrupt).expect("ends").code(), Some(3));
        let complaint = child.check().expect_err("ended").to_string();
        assert!(complaint.contains("one | two"), "{complaint}");
    }

    #[test]
    fn waits_end_by_their_bound_and_by_an_interrupt() {
        let home = Home::new(u32::MAX - 2).expect("made");
        let mut child = child("sleep 60", &home);
        let interrupt = Interrupt(Arc::default());
        let late = child.finish(Duration::from_millis(50), &interrupt).expect_err("too long").to_string();
        assert!(late.contains("not ended"), "{late}");
        interrupt.0.store(true, Ordering::Relaxed);
        let stopped = child.finish(Duration::from_secs(60), &interrupt).expect_err("interrupted").to_string();
        assert!(stopped.contains("interrupted"), "{stopped}");
        assert!(interrupt.sleep(Duration::from_secs(60)).is_err());
    }

    #[test]
    fn ports_that_are_taken_are_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        assert_ne!(Ports::from(port.min(64_000)).free().expect("one is free"), port);
    }
}
