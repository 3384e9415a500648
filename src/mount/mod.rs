//! Mounts: what the operator named, what listeners ask for, what a source fills.
//!
//! - One actor per mount is the only writer of its ring. It runs on the mounts' arbiter and does bounded work per message.
//! - What others may look at (status, counters, the ring itself) lies in the mount's [`Handle`], so that an actor which is
//!   restarted loses its source and nothing else: ring and listeners stay.
//!
//! Deliberately absent: sockets, HTTP, GStreamer.

mod absence;
pub mod actor;
pub mod bookmark;
mod bounds;
mod closing;
mod demand;
pub mod fallback;
pub mod gate;
pub mod groups;
pub mod handle;
pub mod intro;
pub mod metadata;
pub mod moving;
pub mod pattern;
pub mod publishers;
pub mod registry;
mod slots;
pub mod standstill;
#[cfg(test)]
pub(crate) mod testing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::access::rule::{Rule, UrlAuth};
use crate::access::{Password, Secret};
use crate::engine::admission::Limits;
use crate::engine::broadcast::Rules;
use crate::fanout::retention::Retention;
use crate::units::{ByteCount, Extents, MountPath};
use crate::wire::charset::Charset;

pub use actor::Mount;
pub use closing::Closing;
pub use fallback::{Fallback, Refuge};
pub use gate::{Delivery, Gate, GateError};
pub use handle::{Handle, Said, SourceCounters, Status};
pub use intro::Intro;
pub use metadata::Metadata;
pub use pattern::{PathPattern, Pattern};
pub use registry::{MakeError, OpenError, Registry, Site, Witnesses};

/// What people are told of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: Option<String>,
    /// A sentence or two.
    pub description: Option<String>,
    /// The kind of programme.
    pub genre: Option<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// Whether directories may list it.
    pub public: bool,
    /// Whether the status page leaves it out.
    pub hidden: bool,
}

/// What becomes of listeners when the source ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSourceEnd {
    /// They wait for the next one.
    #[default]
    Wait,
    /// They are sent what is queued, then leave.
    Close,
}

/// How a mount takes encoders that push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSettings {
    /// The password of the user [`PushSettings::USER`]; `None`: nobody may.
    pub password: Option<Password>,
    /// An encoder that sends nothing for so long is let go.
    pub source_timeout: Duration,
    /// Whether a second encoder takes the place of the first.
    pub takeover: bool,
    /// Who decides in place of the password.
    pub stream_auth: Option<Arc<UrlAuth>>,
}

impl PushSettings {
    /// The name by which encoders log in, as they do at Icecast.
    pub const USER: &str = "source";
}

/// Another server's stream that fills a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelaySettings {
    /// Web addresses that it may be pulled from, in order of preference; checked. None: it is not a relay.
    pub upstreams: Vec<Arc<str>>,
    /// Whether it is pulled only while somebody listens.
    pub on_demand: bool,
    /// Who asks, where an address does not say so itself.
    pub login: Option<Login>,
    /// A file with the certificates that vouch for the upstreams; `None`: the system's.
    pub ca: Option<Arc<Path>>,
    /// Whether it is one of all the mounts of a server that is mirrored. Then its address names nobody.
    pub mirrored: bool,
}

impl RelaySettings {
    /// Whether something else fills the mount.
    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }
}

/// By what name and password this server asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Login {
    /// The name by which Icecast's relays log in.
    pub const USER: &str = "relay";
}

/// Which listeners get titles between the bytes of the stream, of those who ask for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcyMetadata {
    /// Where players expect them: MP3 and AAC.
    #[default]
    Auto,
    /// Whatever the stream is.
    Always,
    /// Nobody.
    Off,
}

/// What becomes of the links of a chained Ogg stream: most encoders begin one with each title.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OggChaining {
    /// Listeners hear of each.
    #[default]
    Keep,
    /// Those that can be are joined, for players that stutter; only newcomers hear what the link is called.
    Hide,
}

/// Web addresses that are told when a source comes and goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// There is one.
    pub add: Option<Arc<str>>,
    /// There is none any more.
    pub remove: Option<Arc<str>>,
}

/// Which pages of other origins may read a mount's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// All.
    #[default]
    Any,
    /// None.
    None,
    /// These, in lower case.
    Origins(Vec<String>),
}

/// The checked settings of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its path.
    pub path: MountPath,
    /// What people are told.
    pub profile: Profile,
    /// The media type; `None`: from the caps.
    pub content_type: Option<Arc<str>>,
    /// The GStreamer pipeline that fills it, without its sink; `None`: it waits for an encoder to push.
    pub pipeline: Option<String>,
    /// The streams that it may be pulled from.
    pub relay: RelaySettings,
    /// Encoders that push; `None` where something else fills the mount.
    pub push: Option<PushSettings>,
    /// Where raw TCP listeners connect.
    pub tcp: Vec<std::net::SocketAddr>,
    /// History kept at least.
    pub keep: Extents,
    /// Most memory of the history.
    pub ring_max: ByteCount,
    /// Most listeners.
    pub max_listeners: Option<u64>,
    /// What there is only so much of, beside places.
    pub limits: Limits,
    /// Where those are sent for whom there is no room.
    pub redirect_on_overflow: Option<Arc<str>>,
    /// What becomes of listeners when the source ends.
    pub on_source_end: OnSourceEnd,
    /// For how long who waits is kept while the source is away, and a mount that was made on the fly; `None`: without end.
    pub linger: Option<Duration>,
    /// What who waits hears instead.
    pub fallback: Fallback,
    /// What everybody hears first.
    pub intro: Option<Arc<Intro>>,
    /// Whether listeners may ask for their own placement.
    pub allow_query: bool,
    /// Which listeners get titles between the bytes of the stream.
    pub icy_metadata: IcyMetadata,
    /// Bytes of the stream between two places for a title.
    pub icy_metaint: u32,
    /// What titles are written in that are not UTF-8 and do not say what they are.
    pub charset: Charset,
    /// What becomes of the links of a chained Ogg stream.
    pub ogg_chaining: OggChaining,
    /// Which pages of other origins may read its answers.
    pub cors: Cors,
    /// Who may listen; `None`: everybody.
    pub listen_auth: Option<Arc<Rule>>,
    /// Where it is told that there is a source, and that there is none any more.
    pub announce: Announce,
    /// How listeners are served.
    pub rules: Rules,
}

impl Settings {
    /// What of `ring_max` chunks on their way into the ring may take.
    const INBOUND_SHARE: u64 = 4;

    /// A newcomer is still let in so long after the source went: the ring has a burst, and most sources come back at once. What is
    /// older is for nobody who comes.
    pub fn stale_after(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(10);
        match self.on_source_end {
            // Where listeners leave with the source, nobody is let in to what it left behind.
            OnSourceEnd::Close => Duration::ZERO,
            OnSourceEnd::Wait => self.linger.map_or(MOST, |linger| linger.min(MOST)),
        }
    }

    /// What the history keeps.
    pub fn retention(&self) -> Retention {
        let rules = &self.rules;
        Retention::new(self.keep.clone(), &rules.wish, &rules.limits, rules.recover, self.ring_max.0)
    }

    /// The largest chunk this mount takes; a larger one is left out, for it would leave no room for a history.
    pub fn chunk_max(&self) -> u64 {
        self.ring_max.0 / Self::INBOUND_SHARE
    }

    /// Bytes that this mount's chunks take in memory at the very most: the ring; as much again for chunks that the ring has let
    /// go while listeners were in the middle of them ([`Rules::memory_max`] is where the furthest behind leave); and what is on
    /// its way in.
    pub fn memory_bound(&self) -> u64 {
        self.rules.memory_max + self.ring_max.0 / Self::INBOUND_SHARE
    }
}

/// The factor between a ring's bound and [`Rules::memory_max`].
pub const STRAGGLERS_FACTOR: u64 = 2;
