//! Passwords asked for: compared so that neither guessing nor asking often costs anybody else anything.
//!
//! - A password that is written as it is, is compared at once, a hashed one by [`Passwords`].
//! - Wrong ones are counted by address, and by whose they are meant to be (`throttle`).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::passwords::{self, Busy, Passwords};
pub use super::throttle::Aim;
use super::throttle::{self, Suspect, Throttle, suspect};
use crate::access::{Credentials, Password, Secret};

/// Memory of one of these at the very most that remembers so many passwords.
pub(super) const fn bytes(known_most: usize) -> u64 {
    passwords::bytes(known_most) + throttle::BYTES
}

/// Why credentials are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// They are wrong.
    Wrong,
    /// Too many wrong ones of that kind came from there: they were not looked at.
    Wait(Duration),
    /// Too many are being looked at.
    Busy,
}

impl From<Busy> for Denied {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// What is remembered of passwords that were asked for.
#[derive(Debug, Default)]
pub struct Keys {
    passwords: Passwords,
    throttle: Arc<Mutex<Throttle>>,
}

impl Keys {
    /// Nothing has been asked for yet; so many right passwords will be remembered.
    pub fn remembering(known_most: usize) -> Self {
        Self { passwords: Passwords::remembering(known_most), throttle: Arc::default() }
    }

    /// Whether what somebody at this address gives is one of the pairs that are accepted. The aim goes by the name that is given: one
    /// name with several could be guessed at with the patience for each.
    ///
    /// # Errors
    /// Says why not.
    pub async fn check(&self, from: Option<IpAddr>, aim: Aim, given: &Credentials, accepted: &[(&str, &Password)]) -> Result<(), Denied> {
        let fitting: Vec<_> = accepted.iter().filter(|(user, _)| *user == given.user).map(|(_, password)| *password).collect();
        self.look((suspect(from), aim), Some(&given.user), &given.password, &fitting).await
    }

    /// The same where no name is given. Nobody is forgiven then: nothing says that who knows one of the passwords now is who tried
    /// another before.
    ///
    /// # Errors
    /// Says why not.
    pub async fn check_nameless(&self, from: Option<IpAddr>, given: &Secret, accepted: &[&Password]) -> Result<(), Denied> {
        self.look((suspect(from), Aim::Source), None, given, accepted).await
    }

    async fn look(&self, who: Suspect, user: Option<&str>, given: &Secret, accepted: &[&Password]) -> Result<(), Denied> {
        self.may_try(who)?;
        let (hashed, plain): (Vec<_>, Vec<_>) = accepted.iter().copied().partition(|password| password.is_hashed());
        let right = plain.iter().any(|password| password.verify(given.reveal())) || self.passwords.knows(&hashed, given);
        let (throttle, user) = (Arc::clone(&self.throttle), user.map(str::to_owned));
        let judged = move |right| judged(&throttle, who, user.as_deref(), right);
        if right || hashed.is_empty() {
            return judged(right);
        }
        let turn = self.passwords.turn().await?;
        self.may_try(who)?; // whoever asks for many at once has been told of the first by now
        turn.compare(&hashed, given, judged).await?
    }

    fn may_try(&self, who: Suspect) -> Result<(), Denied> {
        lock(&self.throttle).wait(who, Instant::now()).map_or(Ok(()), |wait| Err(Denied::Wait(wait)))
    }
}

/// Takes note of what came of a password.
fn judged(throttle: &Mutex<Throttle>, who: Suspect, user: Option<&str>, right: bool) -> Result<(), Denied> {
    let mut throttle = lock(throttle);
    match (right, user) {
        (true, Some(user)) => throttle.forgive(who, user),
        (true, None) => {}
        (false, user) => {
            throttle.strike(who, user.unwrap_or_default(), Instant::now());
            return Err(Denied::Wrong);
        }
    }
    Ok(())
}

fn lock(throttle: &Mutex<Throttle>) -> MutexGuard<'_, Throttle> {
    throttle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Secret;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: Secret::new(password) }
    }

    fn peer(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
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
            assert_eq!(keys.check(peer(1), Aim::Operator, &credentials(user, password), &accepted).await, want, "{user} {password}");
        }
        assert_eq!(keys.passwords.remembered(), 1, "of the right one only");
        let other = Password::hashed(ANOTHER).expect("a hash");
        let found = keys.check(peer(1), Aim::Operator, &credentials("admin", "right"), &[("admin", &other)]).await;
        assert_eq!(found, Err(Denied::Wrong), "a changed password ends what is remembered of the old one");
    }

    #[actix_web::test]
    async fn who_guesses_waits_and_nobody_else_does() {
        let (keys, password) = (Keys::default(), Password::plain("right").expect("a password"));
        let accepted = [("admin", &password)];
        for _ in 0..5 {
            assert_eq!(keys.check(peer(1), Aim::Operator, &credentials("admin", "wrong"), &accepted).await, Err(Denied::Wrong));
        }
        let found = keys.check(peer(1), Aim::Operator, &credentials("admin", "right"), &accepted).await;
        assert!(matches!(found, Err(Denied::Wait(_))), "not even the right one is looked at: {found:?}");
        assert_eq!(keys.check(peer(2), Aim::Operator, &credentials("admin", "right"), &accepted).await, Ok(()));
    }

    #[actix_web::test]
    async fn the_source_cannot_guess_the_operators_password_by_saying_its_own_in_between() {
        let (keys, admin, source) = (Keys::default(), Password::plain("right").expect("one"), Password::plain("known").expect("one"));
        let accepted = [("admin", &admin), ("source", &source)];
        let mut looked_at = 0;
        for guess in 0..50 {
            let found = keys.check(peer(1), Aim::Operator, &credentials("admin", &format!("guess {guess}")), &accepted).await;
            looked_at += usize::from(found == Err(Denied::Wrong));
            assert_eq!(keys.check(peer(1), Aim::Source, &credentials("source", "known"), &accepted).await, Ok(()), "it is no guesser");
        }
        assert_eq!(looked_at, 5);
    }

    #[actix_web::test]
    async fn without_a_name_one_right_password_forgives_no_guess_at_another() {
        let (keys, admin, source) = (Keys::default(), Password::plain("right").expect("one"), Password::plain("known").expect("one"));
        let mut looked_at = 0;
        for guess in 0..50 {
            let found = keys.check_nameless(peer(1), &Secret::new(&format!("guess {guess}")), &[&source, &admin]).await;
            looked_at += usize::from(found == Err(Denied::Wrong));
            let _ = keys.check_nameless(peer(1), &Secret::new("known"), &[&source, &admin]).await; // it waits, too
        }
        assert_eq!(looked_at, 5);
        assert_eq!(keys.check_nameless(peer(2), &Secret::new("known"), &[&source, &admin]).await, Ok(()));
    }

    #[actix_web::test]
    async fn who_hangs_up_while_a_hash_is_computed_has_guessed_all_the_same() {
        // Dearer than elsewhere: its thread is to be slower than this one.
        let (keys, hashed) = (Keys::default(), Password::hashed(&RIGHT.replace("$04$", "$09$")).expect("a hash"));
        let mut hung_up = 0;
        for guess in 0..5 {
            let given = credentials("admin", &format!("guess {guess}"));
            let accepted = [("admin", &hashed)];
            let mut asked = std::pin::pin!(keys.check(peer(1), Aim::Operator, &given, &accepted));
            std::future::poll_fn(|context| {
                hung_up += u8::from(asked.as_mut().poll(context).is_pending()); // else this thread had to wait for long
                std::task::Poll::Ready(())
            })
            .await;
            drop(keys.passwords.turn().await.expect("it has ended")); // and whoever asked is gone by then
        }
        assert!(hung_up > 0, "the hash is computed elsewhere");
        let found = keys.check(peer(1), Aim::Operator, &credentials("admin", "right"), &[("admin", &hashed)]).await;
        assert!(matches!(found, Err(Denied::Wait(_))), "{found:?}");
    }

    #[actix_web::test]
    async fn many_guesses_at_once_are_no_way_around_the_wait() {
        let (keys, hashed) = (Keys::default(), Password::hashed(RIGHT).expect("a hash"));
        let keys = std::rc::Rc::new(keys);
        let guesses: Vec<_> = (0..20)
            .map(|guess| {
                let (keys, hashed) = (std::rc::Rc::clone(&keys), hashed.clone());
                actix_rt::spawn(async move {
                    keys.check(peer(1), Aim::Operator, &credentials("admin", &format!("guess {guess}")), &[("admin", &hashed)]).await
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
