//! What a backend has to be told, sooner or later: that a listener has gone, that a mount has a source.
//!
//! ```text
//!   whoever ──post──▶ bounded queue per host ──▶ one thread, as long as there is something to say ──POST──▶ the host
//! ```
//! - Whoever posts never waits. What does not fit is dropped and counted.
//! - In order: what comes first is said first, and again and again, after waits that grow, until it has been heard or is too old.
//! - When the server ends, what is left is tried once more, within a bound. When another process takes over, what is left is that one's
//!   to say, in its old place in the queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client;
use crate::access::{Credentials, Secret};
use crate::handover;
use crate::webhook::{Answer, answer_of, wait};

/// Bytes that may wait for one host: some ten thousand farewells.
pub const BYTES_MOST: usize = 16 << 20;
/// What one of them takes beside its text.
const LETTER_BYTES: usize = 128;
/// The longest that one is tried.
const OLDEST: Duration = Duration::from_secs(3600);
/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to say.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) url: Arc<str>,
    pub(super) login: Option<Credentials>,
    pub(super) body: Secret,
    posted: Instant,
}

impl Letter {
    pub(super) fn new(url: Arc<str>, login: Option<Credentials>, body: &str) -> Self {
        Self { url, login, body: Secret::new(body), posted: Instant::now() }
    }

    /// As plain data.
    pub(super) fn pack(&self) -> handover::Letter {
        let login = self.login.as_ref().map(|login| (login.user.clone(), login.password.reveal().to_owned()));
        let (url, body) = (self.url.to_string(), self.body.reveal().to_owned());
        handover::Letter { url, login, body, age: self.posted.elapsed().as_secs() }
    }

    /// What another process has not got rid of.
    pub(super) fn unpack(packed: &handover::Letter) -> Self {
        let login = packed.login.as_ref();
        let login = login.map(|(user, password)| Credentials { user: user.clone(), password: Secret::new(password) });
        let letter = Self::new(packed.url.as_str().into(), login, &packed.body);
        Self { posted: letter.posted.checked_sub(Duration::from_secs(packed.age)).unwrap_or(letter.posted), ..letter }
    }

    fn is_too_old(&self) -> bool {
        self.posted.elapsed() > OLDEST
    }

    fn bytes(&self) -> usize {
        let login = self.login.as_ref().map_or(0, |login| login.user.len() + login.password.reveal().len());
        self.body.reveal().len() + login + LETTER_BYTES
    }
}

/// What became of letters, over all hosts.
#[derive(Debug, Default)]
pub struct Outcomes {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Outcomes {
    /// Every counter with its word.
    pub fn counters(&self) -> [(&'static str, &AtomicU64); 3] {
        [("delivered", &self.delivered), ("failed", &self.failed), ("dropped", &self.dropped)]
    }

    /// So many will not be tried any more.
    pub(super) fn give_up(&self, letters: u64) {
        self.failed.fetch_add(letters, Ordering::Relaxed);
    }

    /// Every outcome with its word: heard, given up after many tries, never tried because too many waited.
    pub fn all(&self) -> [(&'static str, u64); 3] {
        self.counters().map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// The oldest first.
    letters: VecDeque<Letter>,
    /// The one that is being said; `None`: there is none, or it is no longer ours.
    saying: Option<Letter>,
    bytes: usize,
    /// A thread is there.
    at_work: bool,
    /// The server ends: nobody waits for better times.
    hurries: bool,
    /// Another process says what is not heard now.
    hands_on: bool,
    /// Some were dropped, and it was said.
    overflows: bool,
}

/// Who talks to one host.
#[derive(Debug)]
pub(super) struct Messenger {
    pub(super) host: Box<str>,
    queue: Mutex<Queue>,
    changed: Condvar,
    outcomes: Arc<Outcomes>,
}

impl Messenger {
    pub(super) fn new(host: &str, outcomes: Arc<Outcomes>) -> Arc<Self> {
        Arc::new(Self { host: host.into(), queue: Mutex::default(), changed: Condvar::new(), outcomes })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a letter.
    pub(super) fn post(self: &Arc<Self>, letter: Letter) {
        let mut queue = self.lock();
        if queue.bytes + letter.bytes() > BYTES_MOST {
            self.outcomes.dropped.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut queue.overflows, true) {
                tracing::warn!(host = &*self.host, "too much waits to be told to this host; what comes is dropped and counted");
            }
            return;
        }
        queue.bytes += letter.bytes();
        // One that another process has posted is older than ours.
        let at = queue.letters.partition_point(|known| known.posted <= letter.posted);
        queue.letters.insert(at, letter);
        if !queue.at_work {
            let itself = Arc::clone(self);
            // Without a thread it waits for the next letter, and that tries again.
            queue.at_work = std::thread::Builder::new().name("messenger".into()).spawn(move || itself.work()).is_ok();
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.letters.is_empty() && !queue.at_work
    }

    /// The thread; it ends when nothing is left to say.
    fn work(&self) {
        let mut agent = None;
        let mut down = false;
        loop {
            let letter = {
                let mut queue = self.lock();
                let Some(letter) = queue.letters.pop_front() else {
                    (queue.at_work, queue.overflows) = (false, false);
                    queue.letters.shrink_to(64);
                    self.changed.notify_all();
                    return;
                };
                queue.saying = Some(letter.clone());
                letter
            };
            let agent = agent.get_or_insert_with(|| client::agent(&letter.url));
            let heard = self.say(agent, &letter, &mut down);
            let mut queue = self.lock();
            let is_ours = queue.saying.is_some();
            if !is_ours || (queue.hands_on && !heard && !letter.is_too_old()) {
                queue.at_work = false;
                self.changed.notify_all();
                return;
            }
            (queue.saying, queue.bytes) = (None, queue.bytes - letter.bytes());
            drop(queue);
            let counter = if heard { &self.outcomes.delivered } else { &self.outcomes.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says it until it is heard, or too old. What a host says to it does not matter, unless it is that it cannot hear now.
    fn say(&self, agent: &ureq::Agent, letter: &Letter, down: &mut bool) -> bool {
        let mut failures = 0;
        loop {
            let sent = client::post(agent, &letter.url, letter.login.as_ref(), letter.body.reveal(), PATIENCE);
            let heard = sent.is_ok_and(|answer| answer_of(answer.status().as_u16()) != Answer::Later);
            if heard == *down {
                *down = !heard;
                if *down {
                    tracing::warn!(host = &*self.host, "this host cannot be told who has left; it is tried again and again");
                } else {
                    tracing::info!(host = &*self.host, "this host hears who has left again");
                }
            }
            if heard || letter.is_too_old() {
                return heard;
            }
            failures += 1;
            if !self.rest(wait(failures, fastrand::f64())) {
                return false;
            }
        }
    }

    /// Waits for better times; whether there will be any.
    fn rest(&self, time: Duration) -> bool {
        let queue = self.lock();
        let waited = self.changed.wait_timeout_while(queue, time, |queue| !queue.hurries);
        !waited.unwrap_or_else(PoisonError::into_inner).0.hurries
    }

    /// The server ends: what is left is said now, or not at all; or by another process, to which it `hands_on`.
    pub(super) fn hurry(&self, hands_on: bool) {
        let mut queue = self.lock();
        (queue.hurries, queue.hands_on) = (true, hands_on);
        self.changed.notify_all();
    }

    /// Waits until nothing is being said any more, or time is up; what is left, the oldest first. What is being said at that moment is
    /// among it: it may be heard twice, and had better be than not at all.
    pub(super) fn rest_of(&self, until: Instant) -> Vec<Letter> {
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), left, |queue| queue.at_work);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        queue.bytes = 0;
        let (saying, letters) = (queue.saying.take(), std::mem::take(&mut queue.letters));
        saying.into_iter().chain(letters).collect()
    }
}
