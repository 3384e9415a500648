//! What a listener carries with it from the door to its end: its name, and what has to be said when it goes.
//!
//! A [`Farewell`] is said when it is dropped, wherever that happens: so whoever was counted by a backend is counted out, whether it
//! left after a day or never got in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Bouncer;
use super::messenger::{Letter, Messenger};
use crate::access::{Credentials, Secret};
use crate::handover;

/// What a listener who has shown who it is carries with it.
#[derive(Debug, Default)]
pub struct Pass {
    /// Who it is, if that is known.
    pub user: Option<Arc<str>>,
    /// The name is that of several.
    pub(super) shared: bool,
    /// How long it may stay; `None`: as long as the mount lets it.
    pub lasts: Option<Duration>,
    /// What is said to backends when it goes.
    pub(super) farewells: Vec<Farewell>,
}

impl Pass {
    /// For whom it counts where a user may listen only so often. Servers that relay have one name, and each listens once to each mount.
    pub fn counted(&self) -> Option<Arc<str>> {
        self.user.clone().filter(|_| !self.shared)
    }

    /// Another process goes on with the listener: it says farewell, and nobody here.
    pub fn hand_over(&self) {
        self.farewells.iter().for_each(|farewell| farewell.counted.store(false, Ordering::Relaxed));
    }

    /// This process goes on with the listener.
    pub fn take_over(&self) {
        self.farewells.iter().for_each(|farewell| farewell.counted.store(true, Ordering::Relaxed));
    }

    /// As plain data.
    pub fn pack(&self) -> handover::Pass {
        let farewells = self.farewells.iter().map(|farewell| handover::Farewell {
            url: farewell.url.to_string(),
            login: farewell.login.as_ref().map(|login| (login.user.clone(), login.password.reveal().to_owned())),
            words: (farewell.words.0.reveal().to_owned(), farewell.words.1.clone()),
            stayed: farewell.since.elapsed().as_secs(),
        });
        handover::Pass {
            user: self.user.as_deref().map(Into::into),
            shared: self.shared,
            lasts: self.lasts.map(|lasts| lasts.as_secs_f64()),
            farewells: farewells.collect(),
        }
    }
}

impl Bouncer {
    /// What a listener of another process was let in with. Its farewells are said by whoever has taken it over ([`Pass::take_over`]).
    pub fn unpack(&self, packed: &handover::Pass) -> Pass {
        let farewells = packed.farewells.iter().map(|farewell| {
            let login = farewell.login.as_ref();
            let login = login.map(|(user, password)| Credentials { user: user.clone(), password: Secret::new(password) });
            let mut unpacked = Farewell::new(self.messenger(&farewell.url), farewell.url.as_str().into(), login, farewell.words.clone());
            unpacked.since = Instant::now().checked_sub(Duration::from_secs(farewell.stayed)).unwrap_or(unpacked.since);
            unpacked
        });
        Pass {
            user: packed.user.as_deref().map(Into::into),
            shared: packed.shared,
            lasts: packed.lasts.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            farewells: farewells.collect(),
        }
    }
}

/// Something that has to be said when a listener goes.
#[derive(Debug)]
pub(super) struct Farewell {
    messenger: Arc<Messenger>,
    url: Arc<str>,
    login: Option<Credentials>,
    /// What is said before and after how long it was here.
    words: (Secret, String),
    since: Instant,
    /// Whether the backend may have counted it, and it is ours to count it out.
    counted: AtomicBool,
}

impl Farewell {
    /// Nothing is said until [`Self::counted`].
    pub(super) fn new(messenger: Arc<Messenger>, url: Arc<str>, login: Option<Credentials>, words: (String, String)) -> Self {
        let words = (Secret::new(&words.0), words.1);
        Self { messenger, url, login, words, since: Instant::now(), counted: AtomicBool::new(false) }
    }

    /// The backend has, or may have, counted the listener in.
    pub(super) fn counted(self) -> Self {
        self.counted.store(true, Ordering::Relaxed);
        self
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if *self.counted.get_mut() {
            let (before, after) = &self.words;
            let body = format!("{}{}{after}", before.reveal(), self.since.elapsed().as_secs());
            self.messenger.post(Letter::new(Arc::clone(&self.url), self.login.take(), &body));
        }
    }
}
