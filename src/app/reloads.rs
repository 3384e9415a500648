//! Reloads that are asked for, by a signal or an operator: one at a time, and a storm of them becomes one and one more.

use std::sync::Arc;

use actix_rt::task::JoinHandle;
use tokio::sync::oneshot;

use super::StartError;
use crate::admin::operate::{NotReloaded, Reloaded};
use crate::config::Config;

/// Reads and checks the configuration.
pub(super) type Load = Arc<dyn Fn() -> Result<Config, StartError> + Send + Sync>;

type Reply = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Who waits for which reload. While one is under way others may be asked for: what was written since that one began is read by
/// one more, however many ask.
pub(super) struct Reloads {
    load: Load,
    reading: Option<JoinHandle<Result<Config, StartError>>>,
    /// They are answered by the present one.
    asked: Vec<Reply>,
    /// They are answered by the next one, if there is to be one.
    next: Option<Vec<Reply>>,
}

impl Reloads {
    pub(super) fn new(load: Load) -> Self {
        Self { load, reading: None, asked: Vec::new(), next: None }
    }

    /// Somebody asks for a reload; `None` is a signal, which wants no answer.
    pub(super) fn ask(&mut self, reply: Option<Reply>) {
        if self.reading.is_some() {
            self.next.get_or_insert_default().extend(reply);
            return;
        }
        self.asked.extend(reply);
        super::service::reloading();
        let load = Arc::clone(&self.load);
        self.reading = Some(actix_rt::task::spawn_blocking(move || load()));
    }

    /// Waits until a configuration has been read; for ever, if nobody has asked.
    pub(super) async fn read(&mut self) -> Result<Config, StartError> {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        let loaded = reading.await.map_err(|panic| StartError::System(std::io::Error::other(panic)));
        self.reading = None;
        loaded?
    }

    /// Answers those who have asked for what was read, and begins again if others have asked meanwhile.
    pub(super) fn answer(&mut self, outcome: &Result<Reloaded, NotReloaded>) {
        for reply in self.asked.drain(..) {
            let _ = reply.send(outcome.clone()); // who asked may have gone
        }
        if let Some(next) = self.next.take() {
            self.asked = next;
            self.ask(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::house::refused;
    use super::*;

    fn unreadable() -> StartError {
        StartError::System(std::io::Error::other("for the test"))
    }

    #[actix::test]
    async fn a_storm_of_reloads_is_one_and_one_more_and_everybody_is_answered() {
        let (reads, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(())));
        let (counted, waits) = (Arc::clone(&reads), Arc::clone(&gate));
        let mut reloads = Reloads::new(Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(waits.lock());
            Err(unreadable())
        }));
        let mut answers = Vec::new();
        {
            let _held = gate.lock().expect("no panic");
            for i in 0..100 {
                let (reply, answer) = oneshot::channel();
                answers.push(answer);
                reloads.ask(Some(reply));
                if i == 0 {
                    while reads.load(Ordering::SeqCst) == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        }
        for round in 1..=2 {
            let error = reloads.read().await.expect_err("for the test");
            assert_eq!(reads.load(Ordering::SeqCst), round);
            reloads.answer(&Err(refused(&error)));
        }
        for answer in answers {
            assert!(answer.await.expect("answered").is_err());
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), reloads.read()).await.is_err(), "nobody has asked for a third");
    }
}
