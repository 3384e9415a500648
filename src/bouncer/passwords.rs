//! Hashed passwords, compared so that asking often costs nobody else anything.
//!
//! - A hash takes its time on a thread for that, one at a time, and is computed to its end also when whoever asked has gone: its turn
//!   ends with it, and what it says is noted. Else hanging up would be a way to have many computed at once, and none counted.
//! - Those who wait for a turn are so many at the most, and wait so long.
//! - Once a password was right, its digest (with a key of this process) is remembered, so that who asks each second costs nothing.
//!
//! Deliberately absent: how often somebody may guess.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::spawn_blocking;

use crate::access::{Password, Secret};

/// Right passwords that are remembered where nothing else is said: one for each that the configuration has, with some room.
pub(super) const KNOWN_MOST: usize = 256;
/// The longest that somebody waits for a hashed password to be compared.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most who wait for that: more than are served in that time.
const QUEUE_MOST: usize = 256;

/// Too many passwords are being compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

type Digest = [u64; 2];

/// Memory of so many digests at the very most: a table is half empty after it has grown.
pub(super) const fn bytes(known_most: usize) -> u64 {
    (2 * known_most.next_power_of_two() * (size_of::<Digest>() + 1)) as u64
}

/// What is remembered of passwords that were asked for.
#[derive(Clone, Debug)]
pub struct Passwords(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    digests: [RandomState; 2],
    known: Mutex<HashSet<Digest>>,
    /// How many are remembered at the most.
    known_most: usize,
    /// Held by whoever has a hash computed.
    slow: Arc<tokio::sync::Mutex<()>>,
    queue: Semaphore,
}

/// A turn at having a hash computed.
#[derive(Debug)]
pub struct Turn {
    passwords: Passwords,
    _held: OwnedMutexGuard<()>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::remembering(KNOWN_MOST)
    }
}

impl Passwords {
    /// Nothing is known yet; so many right passwords will be remembered.
    pub fn remembering(known_most: usize) -> Self {
        let (digests, known, slow) = Default::default();
        Self(Arc::new(Inner { digests, known, known_most, slow, queue: Semaphore::new(QUEUE_MOST) }))
    }

    /// Whether one of these hashes is known to fit.
    pub fn knows(&self, hashed: &[&Password], given: &Secret) -> bool {
        let known = self.known();
        hashed.iter().any(|password| known.contains(&self.digest(password, given)))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// When it does not come in time, or too many wait already.
    pub async fn turn(&self) -> Result<Turn, Busy> {
        let _place = self.0.queue.try_acquire().map_err(|_| Busy)?;
        let held = tokio::time::timeout(PATIENCE, Arc::clone(&self.0.slow).lock_owned()).await.map_err(|_| Busy)?;
        Ok(Turn { passwords: self.clone(), _held: held })
    }

    fn known(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a hash and what fits it. Nobody outside of this process can compute it, or find another text with the same.
    fn digest(&self, password: &Password, given: &Secret) -> Digest {
        [0, 1].map(|i| self.0.digests[i].hash_one((password.written().reveal(), given.reveal())))
    }

    fn remember(&self, password: &Password, given: &Secret) {
        let mut known = self.known();
        if known.len() >= self.0.known_most {
            known.clear(); // each is one comparison away
        }
        known.insert(self.digest(password, given));
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.known().len()
    }
}

impl Turn {
    /// Whether one of these hashes fits, as it is noted by `note` before the turn ends. Somebody may have found out meanwhile.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub async fn compare<T: Send + 'static>(
        self,
        hashed: &[&Password],
        given: &Secret,
        note: impl FnOnce(bool) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        if self.passwords.knows(hashed, given) {
            return Ok(note(true));
        }
        let (all, secret): (Vec<Password>, _) = (hashed.iter().map(|password| (*password).clone()).collect(), given.clone());
        let computed = spawn_blocking(move || {
            let turn = self; // all of it comes along: a closure takes no more than the parts that it names
            let fitting = all.iter().find(|password| password.verify(secret.reveal()));
            if let Some(password) = fitting {
                turn.passwords.remember(password, &secret);
            }
            let noted = note(fitting.is_some());
            drop(turn);
            noted
        });
        computed.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By bcrypt, of `right`, at the least cost.
    const RIGHT: &str = "$2b$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";

    #[actix_web::test]
    async fn who_hangs_up_has_its_hash_computed_and_noted_before_the_next_has_a_turn() {
        let (passwords, hash) = (Passwords::default(), Password::hashed(RIGHT).expect("a hash"));
        let (noted, seen) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel();
        let turn = passwords.turn().await.expect("a turn");
        let given = Secret::new("right");
        let slow = move |right| {
            held.recv().expect("it is let go");
            noted.send(right)
        };
        let hashed = [&hash];
        let asked = turn.compare(&hashed, &given, slow);
        assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err(), "it is dropped while the hash is computed");
        assert!(passwords.0.slow.try_lock().is_err(), "nobody else has a turn");
        release.send(()).expect("somebody waits");
        drop(passwords.turn().await.expect("the next turn"));
        assert_eq!(seen.try_recv(), Ok(true), "what was found had been noted by then");
        assert!(passwords.knows(&hashed, &given));
    }

    #[actix_web::test]
    async fn no_more_than_so_many_wait_for_a_turn() {
        let passwords = Passwords::default();
        let _turn = passwords.turn().await.expect("a turn");
        let _waiting = passwords.0.queue.try_acquire_many(QUEUE_MOST as u32).expect("all places");
        let asked = std::time::Instant::now();
        assert_eq!(passwords.turn().await.expect_err("the queue is full"), Busy);
        assert!(asked.elapsed() < PATIENCE, "it is told at once");
    }
}
