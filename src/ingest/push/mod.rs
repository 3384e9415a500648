//! Encoders that push: over HTTP as they do to Icecast, and as they do to SHOUTcast.
//!
//! ```text
//!   PUT, POST, SOURCE ─▶ http ─┐                                         ┌▶ Pump ─▶ mount
//!   SHOUTcast v1 ─▶ shoutcast ─┴▶ password · place ─▶ Session: a task ───┘
//! ```
//! - A place at the mount is taken before the encoder is told to go on: of two, exactly one is let in.
//! - Every wait has an end: for the head the door's, for a password a second, for bytes the mount's `source_timeout`.
//! - A mount that takes no more holds the encoder, by not reading.
//! - When another process takes over it goes on with them (`passing`).

mod http;
mod parking;
mod passing;
mod session;
mod shoutcast;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use http::routes;
pub use passing::go_on;
pub use shoutcast::greeter;

use crate::access::Credentials;
use crate::access::rule::Shown;
use crate::bouncer::Visitor;
use crate::bouncer::passwords::{Busy, Passwords};
use crate::engine::admission::{Headcount, Hold, customer};
use crate::engine::broadcast::Peer;
use crate::journal::Kind;
use crate::mount::publishers::{Press, Publisher, Unclaimed};
use crate::mount::registry::Entry;
use crate::mount::{MakeError, PushSettings, Registry, Settings};
use crate::units::MountPath;

/// What this room needs to know.
#[derive(Clone, Debug)]
pub struct Desk {
    /// All mounts.
    pub registry: Arc<Registry>,
    /// The longest that a greeting may take.
    pub patience: Duration,
    /// Where SHOUTcast encoders go that name no mount.
    shoutcast_mount: Arc<RwLock<Option<String>>>,
    parking: Arc<parking::Parking>,
    passwords: Arc<Passwords>,
    /// Of each address, those who wait because their password was wrong.
    wrong: Arc<Headcount<IpAddr>>,
}

impl Desk {
    /// A desk of this house.
    pub fn new(registry: Arc<Registry>, patience: Duration, shoutcast_mount: Option<String>) -> Self {
        Self {
            registry,
            patience,
            shoutcast_mount: Arc::new(RwLock::new(shoutcast_mount)),
            parking: Arc::default(),
            passwords: Arc::default(),
            wrong: Arc::new(Headcount::new(None)),
        }
    }

    /// Where SHOUTcast encoders go that name no mount, from now on, at every copy of this desk.
    pub fn settle(&self, shoutcast_mount: Option<&MountPath>) {
        *self.shoutcast_mount.write().unwrap_or_else(PoisonError::into_inner) = shoutcast_mount.map(ToString::to_string);
    }

    fn shoutcast_mount(&self) -> Option<String> {
        self.shoutcast_mount.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long somebody with a wrong password waits for the answer: who guesses is slow.
const WRONG_PASSWORD_WAIT: Duration = Duration::from_secs(1);
/// How many of one address may wait so. While they do no other password from there is looked at: who guesses in parallel is as slow.
const WAITING_MOST: u64 = 8;

/// Of one whose password was wrong: it counts among those of its address until it is told.
#[derive(Debug)]
struct Wrong(#[allow(dead_code, reason = "it is held")] Option<Hold>);

/// Whether these are the credentials of the mount's encoder; where the mount has a backend for that, it decides. A wrong password
/// costs a moment. (What an address got wrong before is forgotten: encoders share one, and one of them that is set up wrong must not
/// lock out the others.)
///
/// It is found out, and the moment waited, also where whoever asks has gone meanwhile: hanging up is no way to guess faster.
///
/// # Errors
/// When too many passwords are being compared, or were wrong from there just now; or the backend does not say.
async fn may_publish(desk: &Desk, mount: &Settings, peer: Peer, query: &str, credentials: Option<Credentials>) -> Result<bool, Busy> {
    let Some(push) = mount.push.clone().filter(|push| push.stream_auth.is_some() || credentials.is_some()) else { return Ok(false) };
    let (desk, path, query) = (desk.clone(), mount.path.clone(), query.to_owned());
    let judged = actix_rt::spawn(async move {
        let Err(wrong) = judge(&desk, &push, &path, peer, &query, credentials).await? else { return Ok(true) };
        tokio::time::sleep(WRONG_PASSWORD_WAIT).await;
        drop(wrong);
        Ok(false)
    });
    judged.await.unwrap_or(Err(Busy)) // a panic there has been reported
}

async fn judge(
    desk: &Desk,
    push: &PushSettings,
    path: &MountPath,
    peer: Peer,
    query: &str,
    credentials: Option<Credentials>,
) -> Result<Result<(), Wrong>, Busy> {
    let from = customer(peer.ip().unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
    let waiting = Arc::clone(&desk.wrong);
    let may_try = || if desk.wrong.of(&from) < WAITING_MOST { Ok(()) } else { Err(Busy) };
    let judged = move |right| if right { Ok(()) } else { Err(Wrong(Hold::take(&waiting, from))) };
    may_try()?;
    match (&push.stream_auth, &push.password, credentials) {
        (Some(backend), _, credentials) => {
            let shown = Shown { credentials, ..Shown::default() };
            let visitor = Visitor { number: 0, mount: path.as_str(), query, address: peer.ip(), agent: "", shown: &shown };
            Ok(judged(desk.registry.witnesses().bouncer.may_publish(backend, &visitor, false).await.ok_or(Busy)?))
        }
        (None, Some(password), Some(Credentials { user, password: given })) if user == PushSettings::USER || user.is_empty() => {
            if !password.is_hashed() {
                return Ok(judged(password.verify(given.reveal())));
            }
            if desk.passwords.knows(&[password], &given) {
                return Ok(Ok(()));
            }
            let turn = desk.passwords.turn().await?;
            may_try()?; // whoever asks for many at once has been found wrong by now
            turn.compare(&[password], &given, judged).await
        }
        (None, ..) => Ok(judged(false)),
    }
}

/// Why there is no place for an encoder.
#[derive(Debug, thiserror::Error)]
enum NoPlace {
    #[error("another encoder is publishing to this mount")]
    Taken,
    #[error(transparent)]
    NotMade(#[from] MakeError),
    /// It is closed while encoders come, again and again.
    #[error("the mount has just been closed")]
    Closed,
}

/// How often somebody tries who comes to a mount at the moment when it is closed, and after what time.
const ATTEMPTS: usize = 3;
const ATTEMPT_AFTER: Duration = Duration::from_millis(10);

/// A place at a mount for an encoder that may have it. The mount is made, if it is one of those that are.
async fn enter(desk: &Desk, path: &MountPath, publisher: &Publisher) -> Result<(Entry, Press), NoPlace> {
    for _ in 0..ATTEMPTS {
        let entry = desk.registry.find_or_make(path)?;
        let takeover = entry.handle.settings.push.as_ref().is_some_and(|push| push.takeover);
        match entry.handle.publishers.claim(publisher.clone(), takeover) {
            Ok(press) => return Ok((entry, press)),
            Err(Unclaimed::Taken(_)) => return Err(NoPlace::Taken),
            Err(Unclaimed::Shut) => {} // nobody was there for too long: it is found no more in a moment
        }
        tokio::time::sleep(ATTEMPT_AFTER).await;
    }
    Err(NoPlace::Closed)
}

/// What the log calls it when an encoder is not let in.
const TURNED_AWAY: &str = "encoder turned away";

/// Says that an encoder was not let in; not of each, for anybody may come, again and again.
fn turned_away(desk: &Desk, mount: Option<&MountPath>, (peer, connection): (Peer, u64), why: &str) {
    // A path for which a mount would have been made is anybody's choice.
    let known = mount.filter(|mount| desk.registry.find(mount.as_str()).is_some());
    let kind =
        Kind { what: TURNED_AWAY, mount: known.map(|mount| mount.as_str().into()), from: peer.ip().map(customer).into(), why: why.into() };
    if desk.registry.witnesses().hearsay.is_news(kind) {
        tracing::warn!(mount = mount.map(MountPath::as_str), %peer, connection, why, "{TURNED_AWAY}");
    }
}
