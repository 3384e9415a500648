//! Passwords asked for: compared so that neither guessing nor asking often costs anybody else anything.
//!
//! - A password that is written as it is, is compared at once. A hashed one takes its time on a thread for that, one at a time; and
//!   once it was right, its digest (with a key of this process) is remembered, so that a panel that asks each second costs nothing.
//! - Wrong ones are counted by address (`throttle`).

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::throttle::{Throttle, suspect};
use crate::access::{Credentials, Password, Secret};
use crate::engine::broadcast::Peer;

/// Right passwords that are remembered: one for each that the configuration has, with some room.
const KNOWN_MOST: usize = 256;
/// The longest that somebody waits for a hashed password to be compared.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why credentials are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// They are wrong.
    Wrong,
    /// Too many wrong ones came from there: they were not looked at.
    Wait(Duration),
    /// Too many are being looked at.
    Busy,
}

type Digest = [u64; 2];

/// What is remembered of passwords that were asked for.
#[derive(Debug, Default)]
pub(super) struct Keys {
    digests: [RandomState; 2],
    known: Mutex<HashSet<Digest>>,
    throttle: Mutex<Throttle>,
    /// Held by whoever has a hash computed.
    slow: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Whether what `peer` gives is one of the pairs that are accepted.
    ///
    /// # Errors
    /// Says why not.
    pub(super) async fn check(&self, peer: Option<Peer>, given: &Credentials, accepted: &[(&str, &Password)]) -> Result<(), Denied> {
        let who = suspect(peer);
        self.may_try(who)?;
        let fitting = accepted.iter().filter(|(user, _)| *user == given.user).map(|(_, password)| *password);
        let (hashed, plain): (Vec<_>, Vec<_>) = fitting.partition(|password| password.is_hashed());
        let mut right = plain.iter().any(|password| password.verify(given.password.reveal())) || self.knows(&hashed, &given.password);
        if !right && !hashed.is_empty() {
            let _turn = tokio::time::timeout(PATIENCE, self.slow.lock()).await.map_err(|_| Denied::Busy)?;
            self.may_try(who)?; // whoever asks for many at once has been told of the first by now
            right = self.knows(&hashed, &given.password) || self.compare(&hashed, &given.password).await?;
        }
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            throttle.forgive(who);
            return Ok(());
        }
        throttle.strike(who, Instant::now());
        Err(Denied::Wrong)
    }

    fn may_try(&self, who: std::net::IpAddr) -> Result<(), Denied> {
        let throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.wait(who, Instant::now()).map_or(Ok(()), |wait| Err(Denied::Wait(wait)))
    }

    fn knows(&self, hashed: &[&Password], given: &Secret) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        hashed.iter().any(|password| known.contains(&self.digest(password, given)))
    }

    async fn compare(&self, hashed: &[&Password], given: &Secret) -> Result<bool, Denied> {
        let (passwords, secret): (Vec<Password>, _) = (hashed.iter().map(|password| (*password).clone()).collect(), given.clone());
        let found = actix_web::web::block(move || passwords.iter().position(|password| password.verify(secret.reveal()))).await;
        let Some(index) = found.map_err(|_| Denied::Busy)? else { return Ok(false) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MOST {
            known.clear(); // each is one comparison away
        }
        known.insert(self.digest(hashed[index], given));
        Ok(true)
    }

    /// Of a hash and what fits it. Nobody outside of this process can compute it, or find another text with the same.
    fn digest(&self, password: &Password, given: &Secret) -> Digest {
        let hash = match password {
            Password::Plain(secret) | Password::Bcrypt(secret) | Password::Argon2(secret) => secret.reveal(),
        };
        [0, 1].map(|i| self.digests[i].hash_one((hash, given.reveal())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: Secret::new(password) }
    }

    fn peer(last: u8) -> Option<Peer> {
        Some(Peer::Inet(([192, 0, 2, last], 1).into()))
    }

    /// By bcrypt, of `right` and of `another`, at the least cost.
    const RIGHT: &str = "$2b$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";
    const ANOTHER: &str = "$2b$04$abcdefghijklmnopqrstuuW839tY81OgYwy4gFNdslinRlf6MvQ8m";

    #[actix_web::test]
    async fn a_right_pair_is_taken_and_a_hash_is_computed_once() {
        let (keys, plain) = (Keys::default(), Password::plain("plain-one").expect("a password"));
        let hashed = Password::hashed(RIGHT).expect("a hash");
        let accepted = [("admin", &hashed), ("source", &plain)];
        for (user, password, want) in [
            ("admin", "right", Ok(())),
            ("admin", "right", Ok(())),
            ("source", "plain-one", Ok(())),
            ("source", "right", Err(Denied::Wrong)),
            ("admin", "plain-one", Err(Denied::Wrong)),
            ("other", "right", Err(Denied::Wrong)),
        ] {
            assert_eq!(keys.check(peer(1), &credentials(user, password), &accepted).await, want, "{user} {password}");
        }
        assert_eq!(keys.known.lock().expect("no panic").len(), 1, "of the right one only");
        let other = Password::hashed(ANOTHER).expect("a hash");
        let found = keys.check(peer(1), &credentials("admin", "right"), &[("admin", &other)]).await;
        assert_eq!(found, Err(Denied::Wrong), "a changed password ends what is remembered of the old one");
    }

    #[actix_web::test]
    async fn who_guesses_waits_and_nobody_else_does() {
        let (keys, password) = (Keys::default(), Password::plain("right").expect("a password"));
        let accepted = [("admin", &password)];
        for _ in 0..5 {
            assert_eq!(keys.check(peer(1), &credentials("admin", "wrong"), &accepted).await, Err(Denied::Wrong));
        }
        let found = keys.check(peer(1), &credentials("admin", "right"), &accepted).await;
        assert!(matches!(found, Err(Denied::Wait(_))), "not even the right one is looked at: {found:?}");
        assert_eq!(keys.check(peer(2), &credentials("admin", "right"), &accepted).await, Ok(()));
    }

    #[actix_web::test]
    async fn many_guesses_at_once_are_no_way_around_the_wait() {
        let (keys, hashed) = (Keys::default(), Password::hashed(RIGHT).expect("a hash"));
        let keys = std::rc::Rc::new(keys);
        let guesses: Vec<_> = (0..20)
            .map(|guess| {
                let (keys, hashed) = (std::rc::Rc::clone(&keys), hashed.clone());
                actix_web::rt::spawn(async move {
                    keys.check(peer(1), &credentials("admin", &format!("guess {guess}")), &[("admin", &hashed)]).await
                })
            })
            .collect();
        let mut compared = 0;
        for guess in guesses {
            compared += usize::from(guess.await.expect("no panic") == Err(Denied::Wrong));
        }
        assert_eq!(compared, 5);
    }
}
