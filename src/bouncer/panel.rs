//! One backend that is asked, as Icecast's URL authentication does.
//!
//! ```text
//!   ask ─▶ bounded queue ─▶ some threads, as long as there is something to ask ─POST─▶ the backend
//! ```
//! - Nobody waits longer than the backend's `timeout`, the wait for a turn included.
//! - Who does not wait any more when the answer comes (it hung up) is counted out again: the answer's [`Farewell`] is dropped.
//! - A backend that does not answer is given a rest (`breaker`), so that it costs newcomers no time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::FAREWELL_MOST;
use super::breaker::{Breaker, Change};
use super::client;
use super::pass::Farewell;
use super::words::{Said, question_most, understand};
use crate::access::rule::UrlAuth;
use crate::access::{Credentials, Secret};

/// Questions that are being put at once.
const THREADS_MOST: usize = 16;
/// Questions that wait for a turn.
const QUEUE_MOST: usize = 1024;
/// Memory of all of them at the very most, each with so many header fields; with each may be what it is asked with, of so many bytes,
/// and a farewell.
pub(super) const fn questions_bytes(login: u64, fields: usize) -> u64 {
    (THREADS_MOST + QUEUE_MOST) as u64 * ((question_most(fields) + FAREWELL_MOST + size_of::<Question>()) as u64 + login)
}
/// How long a thread waits for another question.
const LINGER: Duration = Duration::from_secs(5);
/// What is waited beyond the deadline for a thread that is about to give up.
const SLACK: Duration = Duration::from_millis(500);

/// What came of questions, over all backends.
#[derive(Debug, Default)]
pub struct Outcomes {
    granted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    spared: AtomicU64,
}

impl Outcomes {
    /// Every counter with its word.
    pub fn counters(&self) -> [(&'static str, &AtomicU64); 4] {
        [("granted", &self.granted), ("refused", &self.refused), ("failed", &self.failed), ("spared", &self.spared)]
    }

    /// Every outcome with its word: yes, no, no answer that means anything, and not asked because there was none before.
    pub fn all(&self) -> [(&'static str, u64); 4] {
        self.counters().map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

/// What is asked.
#[derive(Debug)]
struct Question {
    form: Secret,
    login: Option<Credentials>,
    until: Instant,
    farewell: Option<Farewell>,
    reply: oneshot::Sender<(Said, Option<Farewell>)>,
}

#[derive(Debug, Default)]
struct Desk {
    questions: VecDeque<Question>,
    threads: usize,
    idle: usize,
}

/// One backend.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) settings: Arc<UrlAuth>,
    desk: Mutex<Desk>,
    more: Condvar,
    breaker: Mutex<Breaker>,
    outcomes: Arc<Outcomes>,
}

impl Panel {
    pub(super) fn new(settings: Arc<UrlAuth>, outcomes: Arc<Outcomes>) -> Self {
        Self { settings, desk: Mutex::default(), more: Condvar::new(), breaker: Mutex::default(), outcomes }
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks; [`Said::Nonsense`] when there is no answer. A farewell comes back with the answer, to be said if the backend has counted.
    pub(super) async fn ask(
        self: &Arc<Self>,
        form: &str,
        login: Option<Credentials>,
        farewell: Option<Farewell>,
    ) -> (Said, Option<Farewell>) {
        if !self.breaker.lock().unwrap_or_else(PoisonError::into_inner).lets_through(Instant::now()) {
            self.outcomes.spared.fetch_add(1, Ordering::Relaxed);
            return (Said::Nonsense, farewell);
        }
        let until = Instant::now() + self.settings.timeout;
        let (reply, answer) = oneshot::channel();
        if !self.put(Question { form: Secret::new(form), login: self.settings.login.clone().or(login), until, farewell, reply }) {
            self.outcomes.spared.fetch_add(1, Ordering::Relaxed);
            return (Said::Nonsense, None);
        }
        match tokio::time::timeout(self.settings.timeout + SLACK, answer).await {
            Ok(Ok(said)) => said,
            // Whoever has the question now finds that nobody waits.
            Ok(Err(_)) | Err(_) => (Said::Nonsense, None),
        }
    }

    /// Puts a question in the queue, if there is room, and somebody to take it.
    fn put(self: &Arc<Self>, question: Question) -> bool {
        let mut desk = self.lock();
        if desk.questions.len() >= QUEUE_MOST {
            return false;
        }
        desk.questions.push_back(question);
        if desk.idle >= desk.questions.len() || desk.threads >= THREADS_MOST {
            self.more.notify_one();
            return true;
        }
        let itself = Arc::clone(self);
        if std::thread::Builder::new().name("panel".into()).spawn(move || itself.work()).is_ok() {
            desk.threads += 1;
        }
        if desk.threads > 0 {
            return true;
        }
        desk.questions.pop_back(); // nobody will ever take it
        false
    }

    /// A thread; it ends when there has been nothing to ask for a while.
    fn work(&self) {
        let agent = client::agent(&self.settings.url);
        loop {
            let question = {
                let mut desk = self.lock();
                if desk.questions.is_empty() {
                    desk.idle += 1;
                    let waited = self.more.wait_timeout_while(desk, LINGER, |desk| desk.questions.is_empty());
                    desk = waited.unwrap_or_else(PoisonError::into_inner).0;
                    desk.idle -= 1;
                }
                let Some(question) = desk.questions.pop_front() else {
                    desk.threads -= 1;
                    return;
                };
                question
            };
            let left = question.until.saturating_duration_since(Instant::now());
            if left.is_zero() || question.reply.is_closed() {
                continue; // nobody waits any more
            }
            self.answer(&agent, question, left);
        }
    }

    fn answer(&self, agent: &ureq::Agent, question: Question, left: Duration) {
        let answer = client::post(agent, &self.settings.url, question.login.as_ref(), question.form.reveal(), left);
        let (said, counted, fault) = match &answer {
            Ok(answer) => {
                let field = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
                let status = answer.status().as_u16();
                let said = understand(status, (&self.settings.auth_header, &self.settings.timelimit_header), field);
                let (nonsense, yes) = (said == Said::Nonsense, matches!(said, Said::Yes(_)));
                (said, yes || status >= 500, nonsense.then(|| format!("it answered with status {status}")))
            }
            Err(error) => (Said::Nonsense, client::may_have_heard(error), Some(error.to_string())),
        };
        let counter = match said {
            Said::Yes(_) => &self.outcomes.granted,
            Said::No(_) => &self.outcomes.refused,
            Said::Nonsense => &self.outcomes.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let change = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).note(fault.is_none(), Instant::now());
        match change {
            Some(Change::Opened) => {
                let (host, on_error) = (client::host(&self.settings.url), self.settings.on_error);
                tracing::warn!(
                    host,
                    ?on_error,
                    fault,
                    "an authentication backend does not answer; it is given rests, and on_error decides"
                );
            }
            Some(Change::Closed) => tracing::info!(host = client::host(&self.settings.url), "the authentication backend answers again"),
            None => {}
        }
        let farewell = question.farewell.map(|farewell| if counted { farewell.counted() } else { farewell });
        let _ = question.reply.send((said, farewell)); // who does not wait any more is counted out by what is dropped
    }
}
