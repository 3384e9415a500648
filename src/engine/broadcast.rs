//! What the engine must know of a mount: its feed, its rules, and whom to tell of departures.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::alarm::Alarm;
use super::counters::MountCounters;
use super::feed::Feed;
use super::pace::Coalesce;
use super::title::Title;
use crate::bouncer::Pass;
use crate::fanout::account::Account;
use crate::fanout::cursor::Tally;
use crate::fanout::departure::Departure;
use crate::fanout::placement::Wish;
use crate::fanout::recovery::{Limits, RecoverPolicy};
use crate::units::{ListenerId, MountPath};

/// The rules by which a mount's listeners are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How newcomers are placed, unless they ask for something else and may.
    pub wish: Wish,
    /// Soft and hard limit.
    pub limits: Limits,
    /// What happens beyond the soft limit.
    pub recover: RecoverPolicy,
    /// Whether changed streamheaders are sent to those who already have some.
    pub resend_streamheader: bool,
    /// How long a socket may be full before its listener is judged at all. A source may deliver more in one moment than any
    /// socket takes, and who takes it in the next is not slow.
    pub patience: Duration,
    /// A listener with unsent data and no progress for so long is removed.
    pub idle_timeout: Option<Duration>,
    /// The longest session.
    pub max_duration: Option<Duration>,
    /// How long data may wait to be sent together.
    pub coalesce: Coalesce,
    /// SO_SNDBUF in bytes; `None` follows the bit rate.
    pub send_buffer: Option<u32>,
    /// DSCP of outgoing packets.
    pub dscp: Option<u8>,
    /// Whether a peer that shuts down its sending side stays.
    pub keep_half_closed: bool,
    /// Bytes that the mount's chunks may take in memory, those pinned by listeners in the middle of them included.
    pub memory_max: u64,
}

/// The patience of every mount: longer than a peer that reads takes to empty a socket, shorter than any sensible limit.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// A mount, as shards see it. Its rules may change: then there is another of these, which shares everything else with this one.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// Its number. It is given to another mount only when every shard has forgotten this one.
    pub slot: usize,
    /// Its name.
    pub path: MountPath,
    /// See [`Self::instance`].
    instance: Arc<AtomicU64>,
    /// Its ring.
    pub feed: Arc<Feed>,
    /// Its rules.
    pub rules: Rules,
    /// Grows with every change of the rules. Whoever has two of them goes by the newer.
    revision: u64,
    /// What is being played.
    pub title: Arc<Title>,
    /// What it counts.
    pub counters: Arc<MountCounters>,
    /// What its chunks take in memory.
    pub account: Arc<Account>,
    /// Who is told of departures.
    pub reports: Arc<dyn Reports>,
    closed: Arc<AtomicBool>,
}

impl Broadcast {
    /// A mount with an empty ring, read by as many shards as there are alarms.
    pub fn new(slot: usize, path: MountPath, alarms: &[Alarm], rules: Rules, reports: Arc<dyn Reports>) -> Self {
        Self {
            slot,
            path,
            instance: Arc::new(AtomicU64::new(fastrand::u64(..))),
            feed: Arc::new(Feed::new(alarms)),
            rules,
            revision: 0,
            title: Arc::default(),
            counters: Arc::default(),
            account: Arc::default(),
            reports,
            closed: Arc::default(),
        }
    }

    /// The same mount with other rules.
    pub fn with_rules(&self, rules: Rules) -> Self {
        Self { rules, revision: self.revision + 1, ..self.clone() }
    }

    /// Tells its history from that of any other mount, also of one that had its name before, here or in another process.
    pub fn instance(&self) -> u64 {
        self.instance.load(Ordering::Relaxed)
    }

    /// It goes on with the history of the process before this. Before anybody listens.
    pub fn resume(&self, instance: u64) {
        self.instance.store(instance, Ordering::Relaxed);
    }

    /// Whether these are the same mount, whatever its rules.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.feed, &other.feed)
    }

    /// Whether the rules here are newer than those there.
    pub fn is_newer(&self, other: &Self) -> bool {
        self.revision > other.revision
    }

    /// From now on nobody is let in, not even who is on the way. Not to be undone.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether nobody is let in any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Where the engine reports to. The one way up.
pub trait Reports: Send + Sync + fmt::Debug {
    /// These listeners have left; their sockets are closed.
    fn departed(&self, gone: Vec<Obituary>);

    /// Whether anybody wants to know who joins.
    fn wants_joins(&self) -> bool {
        false
    }

    /// These listeners have joined. Told only if that is wanted, and before anything else is told of them.
    fn joined(&self, _: Vec<Newcomer>) {}
}

/// Somebody who has just joined.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Who.
    pub id: ListenerId,
    /// From where.
    pub peer: Peer,
    /// What it says it is.
    pub user_agent: Box<str>,
    /// Who it is, if that is known.
    pub user: Option<Arc<str>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An internet address.
    Inet(SocketAddr),
    /// A process on this machine.
    Unix,
}

impl Peer {
    /// The address without its port; `None`: a process on this machine.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// The address without its port, or `unix`.
    pub fn host(&self) -> String {
        match self {
            Self::Inet(address) => address.ip().to_string(),
            Self::Unix => self.to_string(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The final account of one listener.
#[derive(Clone, Debug)]
pub struct Obituary {
    /// Who.
    pub id: ListenerId,
    /// Why.
    pub why: Departure,
    /// From where.
    pub peer: Peer,
    /// What it said it was.
    pub user_agent: Box<str>,
    /// What it was let in with. Who drops the last of these says farewell to whoever has to be told.
    pub pass: Option<Arc<Pass>>,
    /// What it has been through.
    pub tally: Tally,
    /// When it joined.
    pub joined_at: SystemTime,
    /// How long it stayed.
    pub stayed: Duration,
}

/// What somebody who asks is told of a listener.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// Who.
    pub id: ListenerId,
    /// From where.
    pub peer: Peer,
    /// What it says it is.
    pub user_agent: Box<str>,
    /// Who it is, if that is known.
    pub user: Option<Arc<str>>,
    /// When it joined.
    pub joined_at: SystemTime,
    /// How long it has been here.
    pub stayed: Duration,
    /// How far it is behind.
    pub lag: crate::fanout::ring::Lag,
    /// What it has been through.
    pub tally: Tally,
    /// `waiting`, `live` or `draining`.
    pub phase: &'static str,
}
