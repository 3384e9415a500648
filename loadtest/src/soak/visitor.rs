//! Everybody else who comes to a server: scrapes, pages, API calls, removals of listeners, unknown paths, reloads; all the while.
//!
//! - One thread, one request at a time, each with the answers that are right for it: any other answer, or none, is a finding.
//! - Only listeners of this tool's own are removed, and those it removes it tells the roster first.
//! - A removed listener must be gone from the list a while later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use super::house;
use super::verdict::Reason;
use crate::ask::{Answer, Door};
use crate::clock::Nanos;
use crate::roster::Roster;
use crate::schedule::Dice;

const TURN: Duration = Duration::from_millis(20);
const FOUND_KEPT: usize = 50;
/// How long a removed listener may still be listed.
const REMOVAL: Duration = Duration::from_secs(20);

/// What a visit asks, and the answers that are right. `{}` is a mount's path.
const VISITS: [(&str, &str, &[u16]); 17] = [
    ("GET", "/metrics", &[200]),
    ("GET", "/api/v1/mounts", &[200]),
    ("GET", "/", &[200]),
    ("GET", "/api/v1{}/listeners", &[200]),
    ("GET", "/status-json.xsl", &[200]),
    ("GET", "{}.m3u", &[200]),
    ("GET", "/no/such/path", &[404]),
    ("GET", "/healthz", &[200]),
    ("GET", "/api/v1{}", &[200]),
    // Not ready is a right answer while a source is away.
    ("GET", "/readyz", &[200, 503]),
    ("GET", "{}.pls", &[200]),
    ("HEAD", "{}", &[200, 503]),
    ("GET", "{}.xspf", &[200]),
    ("DELETE", "/api/v1{}/listeners/999999999999", &[404]),
    ("POST", "{}", &[405]),
    ("GET", "/api/v1/openapi.json", &[200]),
    ("GET", "/api/v1/mounts/no-such-mount", &[404]),
];

/// What a visitor is asked to do.
#[derive(Debug)]
pub(crate) struct Visits {
    pub(crate) door: Door,
    pub(crate) mounts: Vec<String>,
    pub(crate) per_second: f64,
    /// Seconds between removals, and between reloads; 0: never.
    pub(crate) kicks_every: f64,
    pub(crate) reload_every: f64,
    pub(crate) pid: Option<u32>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) seed: u64,
}

/// What others may know of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: AtomicU64,
    /// Removals asked for; a few may have been refused because the listener had left.
    pub(crate) kicks_asked: AtomicU64,
    pub(crate) kicks: AtomicU64,
    pub(crate) reloads: AtomicU64,
    found: Mutex<Vec<(Reason, String)>>,
}

impl Tally {
    pub(crate) fn take_found(&self) -> Vec<(Reason, String)> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, reason: Reason, what: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < FOUND_KEPT {
            found.push((reason, what));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Visitor {
    pub(crate) fn start(visits: Visits) -> std::io::Result<Self> {
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let dice = Dice(visits.seed);
        let mut walk = Walk { visits, tally: tally.clone(), stop: stop.clone(), dice, removed: Vec::new() };
        let thread = thread::Builder::new().name("visitor".to_owned()).spawn(move || walk.go())?;
        Ok(Self { tally, stop, thread: Some(thread) })
    }

    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been told on stderr already.
            let _ = thread.join();
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Walk {
    visits: Visits,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    dice: Dice,
    /// Mount and number of listeners that should be gone by then.
    removed: Vec<(usize, u64, Nanos)>,
}

/// A listener as the API lists it, as much as is needed.
#[derive(Deserialize)]
struct Listed {
    id: u64,
    peer: String,
}

/// When something that happens every so many seconds is next due.
struct Every {
    seconds: f64,
    due: Nanos,
}

impl Every {
    fn new(seconds: f64) -> Self {
        let due = if seconds > 0.0 { Nanos::now().after(Duration::from_secs_f64(seconds)) } else { Nanos(u64::MAX) };
        Self { seconds, due }
    }

    fn is_due(&mut self) -> bool {
        let due = Nanos::now() >= self.due;
        if due {
            *self = Self::new(self.seconds);
        }
        due
    }
}

impl Walk {
    fn go(&mut self) {
        let visit_every = if self.visits.per_second > 0.0 { 1.0 / self.visits.per_second } else { 0.0 };
        let (mut visit, mut kick, mut reload) =
            (Every::new(visit_every), Every::new(self.visits.kicks_every), Every::new(self.visits.reload_every));
        let mut at = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if visit.is_due() {
                self.visit(at);
                at += 1;
            }
            if kick.is_due() {
                self.kick();
            }
            if reload.is_due() {
                self.reload();
            }
            thread::sleep(TURN);
        }
    }

    /// Asks and looks whether the answer is one of those that are right.
    fn ask(&self, method: &str, path: &str, right: &[u16]) -> Option<Answer> {
        let asked = Nanos::now();
        match self.visits.door.ask(method, path) {
            Ok(answer) if right.contains(&answer.status) => {
                self.tally.answers.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Ok(answer) => {
                self.tally.find(Reason::Answer, format!("{method} {path}: {}, not {right:?}", answer.status));
                None
            }
            Err(e) => {
                self.tally.find(Reason::Answer, format!("{method} {path}: {e} after {:?}", Nanos::now().since(asked)));
                None
            }
        }
    }

    fn visit(&mut self, at: usize) {
        let (method, pattern, right) = VISITS[at % VISITS.len()];
        let mount = self.dice.below(self.visits.mounts.len());
        let path = &self.visits.mounts[mount];
        let path = if pattern.starts_with("/api/v1{}") {
            pattern.replacen("{}", &format!("/mounts{path}"), 1)
        } else {
            pattern.replacen("{}", path, 1)
        };
        let Some(answer) = self.ask(method, &path, right) else { return };
        if pattern == "/api/v1/mounts" {
            let text = String::from_utf8_lossy(&answer.body);
            if let Some(missing) = self.visits.mounts.iter().find(|mount| !text.contains(&format!("\"{mount}\""))) {
                self.tally.find(Reason::Answer, format!("{path}: {missing} is not listed"));
            }
        }
        if pattern.ends_with("/listeners") {
            self.look_for_removed(mount, &answer);
        }
    }

    fn look_for_removed(&mut self, mount: usize, answer: &Answer) {
        let Some(listed) = self.listed(&answer.body) else { return };
        let now = Nanos::now();
        self.removed.retain(|(where_from, id, gone_by)| {
            let there = *where_from == mount && listed.iter().any(|listener| listener.id == *id);
            if there && now > *gone_by {
                self.tally.find(Reason::Kick, format!("listener {id} is still listed {REMOVAL:?} after its removal"));
            }
            // Once seen without it, it is gone: numbers are never used again.
            *where_from != mount || (there && now <= *gone_by)
        });
    }

    fn listed(&self, body: &[u8]) -> Option<Vec<Listed>> {
        let listed = serde_json::from_slice(body);
        if let Err(e) = &listed {
            self.tally.find(Reason::Answer, format!("the list of listeners cannot be read: {e}"));
        }
        listed.ok()
    }

    /// Removes one listener of ours, any.
    fn kick(&mut self) {
        let mount = self.dice.below(self.visits.mounts.len());
        let path = format!("/api/v1/mounts{}/listeners", self.visits.mounts[mount]);
        let Some(answer) = self.ask("GET", &path, &[200]) else { return };
        self.look_for_removed(mount, &answer);
        let Some(listed) = self.listed(&answer.body).filter(|listed| !listed.is_empty()) else { return };
        let Listed { id, peer } = &listed[self.dice.below(listed.len())];
        let Some(end) = peer.parse().ok().filter(|end| self.visits.roster.pardon(*end)) else { return };
        self.tally.kicks_asked.fetch_add(1, Ordering::Relaxed);
        match self.ask("DELETE", &format!("{path}/{id}"), &[204, 404]) {
            Some(Answer { status: 204, .. }) => {
                self.tally.kicks.fetch_add(1, Ordering::Relaxed);
                self.removed.push((mount, *id, Nanos::now().after(REMOVAL)));
            }
            _ => self.visits.roster.withdraw(end),
        }
    }

    fn reload(&self) {
        let Some(pid) = self.visits.pid else { return };
        match house::signal(pid, Signal::HUP) {
            Ok(()) => drop(self.tally.reloads.fetch_add(1, Ordering::Relaxed)),
            Err(e) => self.tally.find(Reason::Died, format!("process {pid} cannot be told to reload: {e}")),
        }
    }
}
