//! Who publishes to a mount: one at a time, and while it is being relieved, one more.
//!
//! ```text
//!   claim ─▶ Press ──arrive──▶ the others are cut      Press dropped ─▶ the place is free
//! ```
//! The place is taken before the first byte is read, so that of two encoders exactly one is let in. Who relieves another takes
//! its place when there is something to hear, not before.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::engine::broadcast::Peer;

/// Why a publisher has to go, though it would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Another one has taken over.
    Relieved,
    /// An operator, or the server's end.
    Killed,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relieved => "another encoder has taken over",
            Self::Killed => "ended by an operator",
        })
    }
}

/// Why a place is not given.
#[derive(Clone, Debug)]
pub enum Unclaimed {
    /// Somebody has it.
    Taken(Publisher),
    /// The mount is about to go, for nobody published to it.
    Shut,
}

/// What is known of a publisher.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// From where.
    pub peer: Peer,
    /// What it says it is.
    pub user_agent: Box<str>,
    /// Since when.
    pub since: SystemTime,
}

#[derive(Debug)]
struct Place {
    number: u64,
    publisher: Publisher,
    cut: watch::Sender<Option<Cut>>,
}

#[derive(Debug, Default)]
struct Places {
    /// The one on air first; at most [`PLACES`].
    taken: Vec<Place>,
    last: u64,
    /// Nobody is let in any more.
    shut: bool,
}

/// One on air, one about to relieve it.
const PLACES: usize = 2;

/// The publishers of a mount.
#[derive(Debug, Default)]
pub struct Publishers(Mutex<Places>);

impl Publishers {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place, or with `takeover` the place of whoever has it.
    ///
    /// # Errors
    /// Who has it, if it is taken; or that there is none any more.
    pub fn claim(self: &Arc<Self>, publisher: Publisher, takeover: bool) -> Result<Press, Unclaimed> {
        let mut places = self.lock();
        if places.shut {
            return Err(Unclaimed::Shut);
        }
        if let (Some(first), false) = (places.taken.first(), takeover) {
            return Err(Unclaimed::Taken(first.publisher.clone()));
        }
        // Who was about to relieve and has nothing to hear yet gives way.
        while places.taken.len() >= PLACES {
            if let Some(place) = places.taken.pop() {
                place.cut.send_replace(Some(Cut::Relieved));
            }
        }
        places.last += 1;
        let number = places.last;
        let (cut, told) = watch::channel(None);
        places.taken.push(Place { number, publisher, cut });
        drop(places);
        Ok(Press { publishers: Arc::clone(self), number, told })
    }

    /// Who is on air, or about to be.
    pub fn current(&self) -> Option<Publisher> {
        self.lock().taken.first().map(|place| place.publisher.clone())
    }

    /// If nobody is here, nobody is let in any more. Returns whether it is so.
    pub(super) fn shut(&self) -> bool {
        let mut places = self.lock();
        places.shut |= places.taken.is_empty();
        places.shut
    }

    /// Cuts everybody. Returns whether there was somebody.
    pub fn kill(&self) -> bool {
        let places = self.lock();
        for place in &places.taken {
            place.cut.send_replace(Some(Cut::Killed));
        }
        !places.taken.is_empty()
    }
}

/// A publisher's place, given back when dropped.
#[derive(Debug)]
pub struct Press {
    publishers: Arc<Publishers>,
    number: u64,
    told: watch::Receiver<Option<Cut>>,
}

impl Press {
    /// There is something to hear: from now on it is the only one.
    pub fn arrive(&self) {
        let mut places = self.publishers.lock();
        places.taken.retain(|place| {
            let stays = place.number == self.number;
            if !stays {
                place.cut.send_replace(Some(Cut::Relieved));
            }
            stays
        });
    }

    /// Whose it is; `None`: it was given away.
    pub fn publisher(&self) -> Option<Publisher> {
        let places = self.publishers.lock();
        places.taken.iter().find(|place| place.number == self.number).map(|place| place.publisher.clone())
    }

    /// Waits until it has to go.
    pub async fn cut(&mut self) -> Cut {
        match self.told.wait_for(Option::is_some).await {
            Ok(cut) => cut.unwrap_or(Cut::Killed),
            Err(_) => Cut::Relieved, // its place was given away
        }
    }
}

impl Drop for Press {
    fn drop(&mut self) {
        self.publishers.lock().taken.retain(|place| place.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(name: &str) -> Publisher {
        Publisher { peer: Peer::Unix, user_agent: name.into(), since: SystemTime::now() }
    }

    fn on_air(publishers: &Publishers) -> Option<String> {
        publishers.current().map(|publisher| publisher.user_agent.into())
    }

    #[test]
    fn of_two_encoders_exactly_one_is_let_in() {
        let publishers = Arc::new(Publishers::default());
        let first = publishers.claim(somebody("first"), false).expect("the place is free");
        let refused = publishers.claim(somebody("second"), false).expect_err("it is taken");
        assert!(matches!(refused, Unclaimed::Taken(who) if &*who.user_agent == "first"));
        assert!(!publishers.shut(), "somebody is here");
        drop(first);
        assert!(publishers.current().is_none());
        drop(publishers.claim(somebody("second"), false).expect("it is free again"));
        assert!(publishers.shut());
        assert!(matches!(publishers.claim(somebody("late"), true), Err(Unclaimed::Shut)));
    }

    #[actix::test]
    async fn who_takes_over_does_so_when_there_is_something_to_hear() {
        let publishers = Arc::new(Publishers::default());
        let mut first = publishers.claim(somebody("first"), true).expect("free");
        let mut idle = publishers.claim(somebody("idle"), true).expect("takes over");
        let second = publishers.claim(somebody("second"), true).expect("takes over");
        assert_eq!(idle.cut().await, Cut::Relieved, "who had nothing to hear gives way");
        assert_eq!(on_air(&publishers).as_deref(), Some("first"));
        second.arrive();
        assert_eq!(first.cut().await, Cut::Relieved);
        assert_eq!(on_air(&publishers).as_deref(), Some("second"));
        drop((first, idle));
        assert_eq!(on_air(&publishers).as_deref(), Some("second"), "the old ones' end is not the new one's");
    }

    #[actix::test]
    async fn an_operator_ends_them_all() {
        let publishers = Arc::new(Publishers::default());
        assert!(!publishers.kill());
        let mut press = publishers.claim(somebody("a"), false).expect("free");
        assert!(publishers.kill());
        assert_eq!(press.cut().await, Cut::Killed);
    }
}
