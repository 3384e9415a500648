//! Hashed passwords, compared so that asking often costs nobody else anything.
//!
//! A hash takes its time on a thread for that, one at a time; and once a password was right, its digest (with a key of this process)
//! is remembered, so that who asks each second costs nothing.
//!
//! Deliberately absent: how often somebody may guess.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::task::spawn_blocking;

use crate::access::{Password, Secret};

/// Right passwords that are remembered where nothing else is said: one for each that the configuration has, with some room.
const KNOWN_MOST: usize = 256;
/// The longest that somebody waits for a hashed password to be compared.
const PATIENCE: Duration = Duration::from_secs(5);

/// Too many passwords are being compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

type Digest = [u64; 2];

/// What is remembered of passwords that were asked for.
#[derive(Debug)]
pub struct Passwords {
    digests: [RandomState; 2],
    known: Mutex<HashSet<Digest>>,
    /// How many are remembered at the most.
    known_most: usize,
    /// Held by whoever has a hash computed.
    slow: tokio::sync::Mutex<()>,
}

/// A turn at having a hash computed.
#[derive(Debug)]
pub struct Turn<'a> {
    passwords: &'a Passwords,
    _held: MutexGuard<'a, ()>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::remembering(KNOWN_MOST)
    }
}

impl Passwords {
    /// Nothing is known yet; so many right passwords will be remembered.
    pub fn remembering(known_most: usize) -> Self {
        Self { digests: Default::default(), known: Mutex::default(), known_most, slow: tokio::sync::Mutex::default() }
    }

    /// Whether this is the password.
    ///
    /// # Errors
    /// When too many are being compared.
    pub async fn fits(&self, password: &Password, given: &Secret) -> Result<bool, Busy> {
        if !password.is_hashed() {
            return Ok(password.verify(given.reveal()));
        }
        Ok(self.knows(&[password], given) || self.turn().await?.compare(&[password], given).await?)
    }

    /// Whether one of these hashes is known to fit.
    pub fn knows(&self, hashed: &[&Password], given: &Secret) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        hashed.iter().any(|password| known.contains(&self.digest(password, given)))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn turn(&self) -> Result<Turn<'_>, Busy> {
        let held = tokio::time::timeout(PATIENCE, self.slow.lock()).await.map_err(|_| Busy)?;
        Ok(Turn { passwords: self, _held: held })
    }

    /// Of a hash and what fits it. Nobody outside of this process can compute it, or find another text with the same.
    fn digest(&self, password: &Password, given: &Secret) -> Digest {
        [0, 1].map(|i| self.digests[i].hash_one((password.written().reveal(), given.reveal())))
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Turn<'_> {
    /// Whether one of these hashes fits. Somebody may have found out meanwhile.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub async fn compare(&self, hashed: &[&Password], given: &Secret) -> Result<bool, Busy> {
        if self.passwords.knows(hashed, given) {
            return Ok(true);
        }
        let (all, secret): (Vec<Password>, _) = (hashed.iter().map(|password| (*password).clone()).collect(), given.clone());
        let found = spawn_blocking(move || all.iter().position(|password| password.verify(secret.reveal()))).await.map_err(|_| Busy)?;
        let Some(index) = found else { return Ok(false) };
        let mut known = self.passwords.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.passwords.known_most {
            known.clear(); // each is one comparison away
        }
        known.insert(self.passwords.digest(hashed[index], given));
        Ok(true)
    }
}
