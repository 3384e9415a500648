//! Those who are known here by the configuration itself: the operator, and servers that relay. They listen wherever they like, and no
//! rule of a mount is asked about them.
//!
//! - Wrong passwords of theirs are counted in one place, wherever they are given.
//! - The relay's name is the relay's: who gives it with a wrong password is turned away. An operator's name may be a listener's, too:
//!   who gives it with another password is asked for by the mount's rule, as everybody else.
//!
//! Deliberately absent: what they may do beside listening, and to which requests (`admin` knows).

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use super::keys::{Denied, Keys};
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

/// The staff.
#[derive(Debug, Default)]
pub struct Staff {
    names: RwLock<Option<Arc<Names>>>,
    /// What is remembered of their passwords.
    pub keys: Keys,
}

impl Staff {
    /// From now on it is these.
    pub fn settle(&self, names: Names) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(names));
    }

    /// Whether somebody who wants to listen is of the staff. `None`: that is for the mount's rule to say.
    pub(super) async fn admit(&self, from: Option<IpAddr>, given: &Credentials) -> Option<Result<Pass, Turned>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        if let Some(relay) = names.relay.of(given) {
            let checked = self.keys.check(from, given, &[relay]).await;
            return Some(checked.map(|()| pass(given)).map_err(|denied| match denied {
                Denied::Wrong => Turned::Away { could_help: true, message: Some("the password of the relay is wrong".to_owned()) },
                Denied::Wait(wait) => Turned::Throttled(wait),
                Denied::Busy => Turned::Unknown("too many passwords are being checked: try again"),
            }));
        }
        let operator = names.operator.of(given)?;
        self.keys.check(from, given, &[operator]).await.is_ok().then(|| Ok(pass(given)))
    }
}

fn pass(given: &Credentials) -> Pass {
    Pass { user: Some(given.user.as_str().into()), shared: true, ..Pass::default() }
}

#[cfg(test)]
#[path = "staff_tests.rs"]
mod tests;
