//! Those who are known here by the configuration itself: the operator, and servers that relay. They listen wherever they like, and no
//! rule of a mount is asked about them.
//!
//! - Wrong passwords of theirs are counted in one place, wherever they are given; the relay's apart from the operator's, who may be
//!   behind the same address as an edge with an old one.
//! - The relay's name is the relay's: who gives it with a wrong password is turned away. An operator's name may be a listener's, too:
//!   who gives it with another password is asked for by the mount's rule, as everybody else. With the password that has let them in
//!   once they are taken for no guesser again: a player that comes back often locks no operator out.
//! - A password that was not looked at may be the operator's: no rule, and no backend elsewhere, is shown it.
//!
//! Deliberately absent: what they may do beside listening, and to which requests (`admin` knows).

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::keys::{Aim, Denied, Keys};
use super::{Pass, Turned};
use crate::access::{Credentials, Role};

/// Who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Who operates the server.
    pub operator: Role,
    /// Servers that relay from here.
    pub relay: Role,
}

/// What somebody is, as far as the staff knows.
#[derive(Debug)]
pub(super) enum Standing {
    /// One of the staff.
    Staff(Pass),
    /// Somebody with the operator's name, and another password than these have.
    Namesake(Arc<Post>),
    /// Nobody of the staff.
    Guest,
    /// Who gets no further.
    Turned(Turned),
}

/// Namesakes of the operator who are remembered.
pub(super) const NAMESAKES_MOST: usize = 1024;

/// Who the staff is, and who was found to be none of it. Both change at once: what was a listener's password may be the operator's next.
#[derive(Debug)]
pub(super) struct Post {
    names: Names,
    /// Digests of what namesakes of the operator were let in with.
    namesakes: Mutex<HashSet<[u64; 2]>>,
    digests: [RandomState; 2],
}

/// The staff.
#[derive(Debug, Default)]
pub struct Staff {
    post: RwLock<Option<Arc<Post>>>,
    /// What is remembered of their passwords.
    pub keys: Keys,
}

impl Post {
    fn namesakes(&self) -> MutexGuard<'_, HashSet<[u64; 2]>> {
        self.namesakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, given: &Credentials) -> [u64; 2] {
        [0, 1].map(|i| self.digests[i].hash_one((&given.user, given.password.reveal())))
    }

    /// A namesake of the operator has been let in by somebody else's rule.
    pub(super) fn remember(&self, given: &Credentials) {
        let mut namesakes = self.namesakes();
        if namesakes.len() >= NAMESAKES_MOST {
            namesakes.clear(); // each is one wrong password away
        }
        namesakes.insert(self.digest(given));
    }
}

impl Staff {
    /// From now on it is these.
    pub fn settle(&self, names: Names) {
        let post = Post { names, namesakes: Mutex::default(), digests: Default::default() };
        *self.post.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(post));
    }

    /// What somebody is who wants to listen.
    pub(super) async fn admit(&self, from: Option<IpAddr>, given: &Credentials) -> Standing {
        let Some(post) = self.post.read().unwrap_or_else(PoisonError::into_inner).clone() else { return Standing::Guest };
        let (accepted, aim) = match (post.names.relay.of(given), post.names.operator.of(given)) {
            (Some(relay), _) => (relay, Aim::Relay),
            (None, Some(_)) if post.namesakes().contains(&post.digest(given)) => return Standing::Guest,
            (None, Some(operator)) => (operator, Aim::Operator),
            (None, None) => return Standing::Guest,
        };
        match self.keys.check(from, aim, given, &[accepted]).await {
            Ok(()) => Standing::Staff(pass(given)),
            Err(Denied::Wrong) if aim == Aim::Relay => {
                Standing::Turned(Turned::Away { could_help: true, message: Some("the password of the relay is wrong".to_owned()) })
            }
            Err(Denied::Wrong) => Standing::Namesake(post),
            Err(Denied::Wait(wait)) => Standing::Turned(Turned::Throttled(wait)),
            Err(Denied::Busy) => Standing::Turned(Turned::Unknown("too many passwords are being checked: try again")),
        }
    }
}

fn pass(given: &Credentials) -> Pass {
    Pass { user: Some(given.user.as_str().into()), shared: true, ..Pass::default() }
}

#[cfg(test)]
#[path = "staff_tests.rs"]
mod tests;
