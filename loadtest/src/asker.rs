//! Pages and lists that are asked for beside the listening, at a steady beat, and how long each took to its last byte.
//!
//! Each has a thread and at most one request under way, on a connection of its own: what takes longer than the beat is asked for less often,
//! never twice at once. Nothing is kept of an answer but its size and status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use crate::ask::Door;
use crate::clock::Nanos;
use crate::stats::{Histogram, Quantiles};

/// Kinds of failures that are told apart; each further one is counted under `other`.
const KINDS: usize = 8;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) typed: String,
    pub(crate) door: Door,
    pub(crate) path: String,
}

/// What became of one question over the steady window.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Asked {
    pub(crate) url: String,
    /// From before `connect` to the last byte, answers with status 200 only.
    pub(crate) times: Option<Quantiles>,
    pub(crate) longest_bytes: usize,
    /// Other statuses and errors, counted.
    pub(crate) failed: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(crate) struct Askers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Asked>>,
}

impl Askers {
    pub(crate) fn begin(questions: &[Question], beat: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = |question: &Question| {
            let (question, stop) = (question.clone(), stop.clone());
            thread::spawn(move || ask_on(&question, beat, &stop))
        };
        let threads = questions.iter().map(begin).collect();
        Self { stop, threads }
    }

    /// Waits for the answers under way, which have a time limit of their own.
    pub(crate) fn end(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.iter().for_each(|asker| asker.thread().unpark());
        self.threads.into_iter().map(|asker| asker.join().expect("an asker does not panic")).collect()
    }
}

fn ask_on(question: &Question, beat: Duration, stop: &AtomicBool) -> Asked {
    let mut asked = Asked { url: question.typed.clone(), ..Asked::default() };
    let mut times = Histogram::default();
    while !stop.load(Ordering::Relaxed) {
        let begun = Nanos::now();
        let failure = match question.door.ask("GET", &question.path) {
            Ok(answer) if answer.status == 200 => {
                times.record(Nanos::now().since(begun));
                asked.longest_bytes = asked.longest_bytes.max(answer.body.len());
                None
            }
            Ok(answer) => Some(format!("HTTP {}", answer.status)),
            Err(e) => Some(e.to_string()),
        };
        if let Some(kind) = failure {
            let known = asked.failed.len() < KINDS || asked.failed.contains_key(&kind);
            *asked.failed.entry(if known { kind } else { "other".to_owned() }).or_default() += 1;
        }
        let next = begun.after(beat);
        while !stop.load(Ordering::Relaxed) && Nanos::now() < next {
            thread::park_timeout(next.since(Nanos::now()));
        }
    }
    asked.times = times.quantiles();
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn whole_answers_are_timed_and_the_rest_is_counted() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("bound");
        let peer = thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\n\r\nfour", "HTTP/1.1 503 Full\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nsix..."] {
                let (mut socket, _) = server.accept().expect("accepts");
                let asked = socket.read(&mut [0; 1024]).expect("a request");
                assert!(asked > 0, "closed without a request");
                socket.write_all(answer.as_bytes()).expect("answers");
            }
        });
        let door = Door { address, host: "h".to_owned() };
        let askers = Askers::begin(&[Question { typed: "u".to_owned(), door, path: "/".to_owned() }], Duration::from_millis(1));
        peer.join().expect("three requests");
        // The third answer is on its way; what is asked after it is refused, and is a failure too.
        let asked = askers.end().remove(0);
        assert!(asked.times.expect("timed").count >= 1);
        assert_eq!(asked.failed.get("HTTP 503"), Some(&1), "{:?}", asked.failed);
        assert!(asked.longest_bytes >= 4);
    }
}
