//! Mounts that publishers make on the fly, where a pattern says that they may.
//!
//! - A mount that is there wins over any pattern. Nobody makes one by asking: only who has shown the password and has a stream does.
//! - There are never more of a pattern than it allows. A place is free again as soon as its mount is found no more.
//! - A mount keeps the settings it was made with. When its pattern is gone, it ends with its source.
//! - A pattern whose fallback is a recording has one mount more, of its own name, where everybody hears it who asks for a path that
//!   nobody publishes to: so many paths, one recording.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use actix::prelude::*;

use super::super::fallback;
use super::super::pattern::{PathPattern, Pattern, choose};
use super::{Entry, Handle, OpenError, Registry, Settings};
use crate::engine::trail::Trail;
use crate::units::MountPath;

/// Says whether a path is one that a mount may have.
type MayOpen = fn(&MountPath) -> bool;

/// The patterns that hold.
#[derive(Debug)]
struct Holds {
    patterns: Vec<Pattern>,
    arbiter: ArbiterHandle,
    may_open: MayOpen,
}

/// All patterns, and how many mounts there are of each.
#[derive(Debug, Default)]
pub(super) struct Hosting {
    holds: RwLock<Option<Arc<Holds>>>,
    made: Mutex<HashMap<PathPattern, usize>>,
}

impl Hosting {
    fn holds(&self) -> Option<Arc<Holds>> {
        self.holds.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn made(&self) -> MutexGuard<'_, HashMap<PathPattern, usize>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mount of this pattern is gone, or somebody else's.
    pub(super) fn unmade(&self, pattern: &PathPattern) {
        let mut made = self.made();
        if let Some(count) = made.get_mut(pattern) {
            *count -= 1;
            if *count == 0 {
                made.remove(pattern);
            }
        }
    }
}

/// Where somebody publishes, or would.
#[derive(Clone, Debug)]
pub enum Site {
    /// There is a mount.
    Open(Entry),
    /// There may be one, with these settings.
    Free(Box<Settings>),
}

impl Site {
    /// What holds there.
    pub fn settings(&self) -> &Settings {
        match self {
            Self::Open(entry) => &entry.handle.settings,
            Self::Free(settings) => settings,
        }
    }

    /// The mount, if there is one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Open(entry) => Some(entry),
            Self::Free(_) => None,
        }
    }
}

/// Why no mount was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// No pattern has the path.
    #[error("there is no mount at this path, and none may be made")]
    NoPattern,
    /// Its pattern has as many as it may.
    #[error("there are {most} mounts of {pattern} already, as many as there may be (max_mounts)")]
    Full { pattern: PathPattern, most: usize },
    /// The server has as many as it can.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl Registry {
    /// From now on these patterns hold, for mounts that are made from now on, their actors running on this arbiter.
    pub fn host(self: &Arc<Self>, patterns: Vec<Pattern>, arbiter: &ArbiterHandle, may_open: MayOpen) {
        self.keep_recordings(patterns.iter().filter_map(Pattern::recording).collect(), arbiter);
        let holds = Arc::new(Holds { patterns, arbiter: arbiter.clone(), may_open });
        *self.hosting.holds.write().unwrap_or_else(PoisonError::into_inner) = Some(holds);
        // Those whose pattern is gone have to learn it.
        self.mounts.iter().filter(|entry| entry.made_by.is_some()).for_each(|entry| entry.handle.wake());
    }

    /// Patterns have these mounts for their recordings, and no others.
    fn keep_recordings(self: &Arc<Self>, wanted: Vec<Settings>, arbiter: &ArbiterHandle) {
        for entry in self.all() {
            let path = &entry.handle.settings.path;
            if path.is_of_pattern() && !wanted.iter().any(|settings| settings.path == *path) {
                drop(self.close(path.as_str())); // it ends by itself
            }
        }
        for settings in wanted {
            match self.find(settings.path.as_str()) {
                Some(entry) if entry.handle.settings == settings => {}
                Some(_) => drop(self.settle(settings)),
                None => {
                    let path = settings.path.clone();
                    if let Err(why) = self.open(settings, arbiter) {
                        tracing::error!(pattern = %path, %why, "its recording cannot be heard");
                    }
                }
            }
        }
    }

    /// The mount with the recording of the pattern that a path belongs to, if there is one.
    pub(in crate::mount) fn recording_of(&self, path: &MountPath) -> Option<MountPath> {
        choose(&self.hosting.holds()?.patterns, path)?.recording_at()
    }

    /// Where a path as typed leads somebody who publishes.
    pub fn site(&self, path: &str) -> Option<Site> {
        if let Some(entry) = self.find(path) {
            return Some(Site::Open(entry));
        }
        let path: MountPath = path.parse().ok()?;
        let holds = self.hosting.holds().filter(|holds| (holds.may_open)(&path))?;
        choose(&holds.patterns, &path).map(|pattern| Site::Free(Box::new(pattern.settings(path))))
    }

    /// The mount at a path, which is made if it is not there.
    ///
    /// # Errors
    /// When there may be none, or none more.
    pub fn find_or_make(self: &Arc<Self>, path: &MountPath) -> Result<Entry, MakeError> {
        if let Some(entry) = self.find(path.as_str()) {
            return Ok(entry);
        }
        let holds = self.hosting.holds().filter(|holds| (holds.may_open)(path)).ok_or(MakeError::NoPattern)?;
        let pattern = choose(&holds.patterns, path).ok_or(MakeError::NoPattern)?;
        let mut made = self.hosting.made();
        let count = made.get(&pattern.paths).copied().unwrap_or(0);
        if count >= pattern.most {
            // Of two who come for the same path the second finds what the first has made.
            let full = MakeError::Full { pattern: pattern.paths.clone(), most: pattern.most };
            return self.find(path.as_str()).ok_or(full);
        }
        match self.open_as(pattern.settings(path.clone()), &holds.arbiter, Some(pattern.paths.clone())) {
            Ok(entry) => {
                made.insert(pattern.paths.clone(), count + 1);
                tracing::info!(mount = %path, pattern = %pattern.paths, "a mount is made for whoever publishes to it");
                Ok(entry)
            }
            Err(OpenError::Taken) => self.find(path.as_str()).ok_or(MakeError::Open(OpenError::Taken)),
            Err(full) => Err(full.into()),
        }
    }

    /// The mounts that who cannot hear this one is sent on to, in the order in which they are tried.
    pub fn chain(&self, from: &MountPath) -> Vec<MountPath> {
        fallback::chain(from, |path| {
            let site = self.site(path.as_str())?;
            let recording = || site.entry().is_none().then(|| self.recording_of(path)).flatten();
            site.settings().fallback.mount().cloned().or_else(recording)
        })
    }

    /// Those of them where there is something to hear now, and what is remembered of whoever goes there.
    pub fn refuges(&self, from: &MountPath) -> Vec<(Entry, Trail)> {
        self.refuges_that(from, Handle::is_heard)
    }

    /// The same, with those where something is begun for who comes.
    pub fn prospects(&self, from: &MountPath) -> Vec<(Entry, Trail)> {
        self.refuges_that(from, |handle| handle.is_heard() || handle.begins_when_wanted())
    }

    fn refuges_that(&self, from: &MountPath, fits: impl Fn(&Handle) -> bool) -> Vec<(Entry, Trail)> {
        let mut passed = vec![from.clone()];
        let mut refuges = Vec::new();
        for path in self.chain(from) {
            refuges.extend(self.find(path.as_str()).filter(|entry| fits(&entry.handle)).map(|entry| (entry, Trail::of(&passed))));
            passed.push(path);
        }
        refuges
    }

    /// A mount that a publisher has made is declared now: its source and its listeners stay. Returns whether there was one.
    pub fn adopt(&self, settings: Settings) -> bool {
        let made_by = self.mounts.get_mut(settings.path.as_str()).and_then(|mut entry| entry.made_by.take());
        made_by.is_some_and(|pattern| {
            self.hosting.unmade(&pattern);
            self.settle(settings)
        })
    }

    /// Whether the pattern by which this mount was made holds no more.
    pub(in crate::mount) fn is_orphan(&self, entry: &Entry) -> bool {
        let holds = self.hosting.holds();
        let known = |pattern: &PathPattern| holds.iter().flat_map(|holds| &holds.patterns).any(|other| other.paths == *pattern);
        entry.made_by.as_ref().is_some_and(|pattern| !known(pattern))
    }
}
