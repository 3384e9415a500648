//! Who may come in at all: asked with every connection, before anything else is.
//!
//! - Bans, and so many connections of one address. An address that speaks through a trusted proxy is asked about when it is known:
//!   at the PROXY header, or with each request's head.
//! - A trusted proxy itself is not counted: those behind it are.
//! - When memory runs short the newest stay outside: first those who want to listen, then everybody. Who is inside is left alone.
//!
//! Deliberately absent: who may do what, and limits of mounts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use super::ListenAddress;
use super::ledger::Ledger;
use crate::access::ban::{Ban, Bans, TooMany};
use crate::access::network::{Network, Networks};
use crate::engine::admission::{Headcount, Hold};
use crate::engine::broadcast::Peer;
use crate::fanout::stats::add;

/// The checked settings of who may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Proxies whose word for who asks is taken.
    pub trusted: Networks,
    /// Whether whoever uses a unix socket is such a proxy.
    pub trusts_unix: bool,
    /// Sockets whose connections begin with a PROXY header. Those of them that are nowhere else listened at are for HTTP.
    pub proxied: Vec<ListenAddress>,
    /// Most connections of one address.
    pub per_address: Option<u64>,
    /// Who is not let in, by a file.
    pub banned: Networks,
    /// The file, as written.
    pub banned_file: Option<PathBuf>,
    /// Where bans are kept; `None`: in memory.
    pub state_dir: Option<PathBuf>,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// Its address is banned.
    Banned,
    /// There are as many connections from there as there may be.
    Crowded,
}

impl Barred {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Banned => 403,
            Self::Crowded => 503,
        }
    }

    /// In a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Banned => "your address is banned from this server",
            Self::Crowded => "there are as many connections from your address as this server takes (max_connections_per_address)",
        }
    }
}

/// Why nothing has changed about who is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unchanged {
    /// There are as many as there may be.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// They are another process's to change.
    #[error("another process takes over at this moment: ask again in a second")]
    HandedOver,
}

/// How short of something the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// Nobody else may listen.
    Listeners,
    /// Nobody else is let in.
    Everybody,
}

impl Pressure {
    const ALL: [Self; 3] = [Self::None, Self::Listeners, Self::Everybody];
    /// Shares of what there is, in percent, at which each begins.
    const FROM: [u64; 3] = [0, 90, 95];
    /// It ends so much below that, lest it come and go.
    const SLACK: u64 = 3;

    /// What it is with so much used of so much, where it was `self` before.
    pub fn next(self, used: u64, most: u64) -> Self {
        let percent = used.saturating_mul(100) / most.max(1);
        let holds = |level: &Self| {
            let from = Self::FROM[*level as usize];
            percent >= if *level <= self { from.saturating_sub(Self::SLACK) } else { from }
        };
        Self::ALL.into_iter().rfind(holds).unwrap_or_default()
    }
}

/// What holds now.
#[derive(Debug)]
struct Rules {
    trusted: Networks,
    trusts_unix: bool,
    banned: Networks,
}

impl Rules {
    fn of(settings: &Settings) -> Arc<Self> {
        Arc::new(Self { trusted: settings.trusted.clone(), trusts_unix: settings.trusts_unix, banned: settings.banned.clone() })
    }
}

/// Who may come in.
#[derive(Debug)]
pub struct Patrol {
    rules: RwLock<Arc<Rules>>,
    bans: RwLock<Bans>,
    /// Another process has them, or is about to: nothing is changed here any more.
    handed_over: AtomicBool,
    ledger: Option<Ledger>,
    connections: Arc<Headcount<IpAddr>>,
    banned: AtomicU64,
    memory: AtomicU8,
}

impl Patrol {
    /// By these settings, and with the bans that were kept.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let (ledger, bans) = settings.state_dir.as_deref().map(Ledger::open).unzip();
        Arc::new(Self {
            rules: RwLock::new(Rules::of(settings)),
            bans: RwLock::new(bans.unwrap_or_default()),
            handed_over: AtomicBool::new(false),
            ledger,
            connections: Arc::new(Headcount::new(settings.per_address)),
            banned: AtomicU64::new(0),
            memory: AtomicU8::new(0),
        })
    }

    /// From now on these settings hold; where bans are kept stays as it was.
    pub fn settle(&self, settings: &Settings) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Rules::of(settings);
        self.connections.set_most(settings.per_address);
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this address is a trusted proxy's.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.rules().trusted.contains(address)
    }

    /// Whether whoever is at the other end is a trusted proxy.
    pub(super) fn trusts_peer(&self, peer: Peer) -> bool {
        match peer {
            Peer::Inet(address) => self.trusts(address.ip()),
            Peer::Unix => self.rules().trusts_unix,
        }
    }

    /// Lets a connection in, which counts until what this returns is dropped.
    ///
    /// # Errors
    /// Says why not, and has counted it.
    pub fn admit(&self, peer: Peer) -> Result<Option<Hold>, Barred> {
        let Peer::Inet(address) = peer else { return Ok(None) };
        let rules = self.rules();
        if rules.banned.contains(address.ip()) || self.is_banned(address.ip()) {
            add(&self.banned, 1);
            return Err(Barred::Banned);
        }
        if rules.trusted.contains(address.ip()) {
            return Ok(None);
        }
        Hold::take(&self.connections, address.ip()).map(Some).ok_or(Barred::Crowded)
    }

    fn is_banned(&self, address: IpAddr) -> bool {
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        !bans.is_empty() && bans.contains(address, SystemTime::now())
    }

    /// Connections that were turned away because of a ban, so far.
    pub fn turned_away(&self) -> u64 {
        self.banned.load(Ordering::Relaxed)
    }

    /// All bans that hold now.
    pub fn bans(&self) -> Vec<Ban> {
        self.bans.read().unwrap_or_else(PoisonError::into_inner).iter(SystemTime::now()).cloned().collect()
    }

    /// How many there are.
    pub fn ban_count(&self) -> u64 {
        self.bans.read().unwrap_or_else(PoisonError::into_inner).iter(SystemTime::now()).count() as u64
    }

    /// Who is not let in by a file.
    pub fn listed(&self) -> Vec<Network> {
        self.rules().banned.iter().collect()
    }

    /// Bans somebody from now on. Who is inside stays inside.
    ///
    /// # Errors
    /// When there are as many bans as there may be, or they are another process's.
    pub fn ban(&self, network: Network, reason: &str, lasts: Option<Duration>) -> Result<Ban, Unchanged> {
        let now = SystemTime::now();
        let ban = Ban::new(network, reason, now, lasts);
        let mut bans = self.ours_to_change()?;
        bans.add(ban.clone(), now)?;
        self.keep(&bans, now);
        Ok(ban)
    }

    /// Lifts a ban. Whether there was one of just this network.
    ///
    /// # Errors
    /// When they are another process's.
    pub fn lift(&self, network: Network) -> Result<bool, Unchanged> {
        let now = SystemTime::now();
        let mut bans = self.ours_to_change()?;
        let lifted = bans.remove(network, now);
        if lifted {
            self.keep(&bans, now);
        }
        Ok(lifted)
    }

    fn ours_to_change(&self) -> Result<RwLockWriteGuard<'_, Bans>, Unchanged> {
        let bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        if self.handed_over.load(Ordering::Relaxed) { Err(Unchanged::HandedOver) } else { Ok(bans) }
    }

    /// All bans, as a file has them. From now on they hold here, and are another process's to change: what would be changed here would
    /// be lost there.
    pub fn hand_over(&self) -> String {
        let bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        self.handed_over.store(true, Ordering::Relaxed);
        bans.write(SystemTime::now())
    }

    /// The other process has not taken over: bans are ours again.
    pub fn take_back(&self) {
        self.handed_over.store(false, Ordering::Relaxed);
    }

    /// Goes on with the bans of another process, in place of those that were kept: that one may have made and lifted some since.
    ///
    /// # Errors
    /// Says what is wrong with what was handed over.
    pub fn take_over(&self, text: &str) -> Result<(), String> {
        *self.bans.write().unwrap_or_else(PoisonError::into_inner) = Bans::read(text, SystemTime::now())?;
        Ok(())
    }

    /// Keeps the bans as they are now. The process before has ended: nobody else writes that file any more.
    pub fn keep_anew(&self) {
        self.keep(&self.bans.read().unwrap_or_else(PoisonError::into_inner), SystemTime::now());
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, turned_away: u64) {
        add(&self.banned, turned_away);
    }

    fn keep(&self, bans: &Bans, now: SystemTime) {
        if let Some(ledger) = &self.ledger {
            ledger.keep(bans.write(now));
        }
    }

    /// Whether bans survive the process.
    pub fn keeps_bans(&self) -> bool {
        self.ledger.is_some()
    }

    /// Waits until what is to be kept is kept, or the time is over.
    pub fn finish(&self, most: Duration) {
        if let Some(ledger) = &self.ledger {
            ledger.finish(most);
        }
    }

    /// How short of memory the server is.
    pub fn pressure(&self) -> Pressure {
        Pressure::ALL[usize::from(self.memory.load(Ordering::Relaxed)) % Pressure::ALL.len()]
    }

    /// So much memory is used, of so much.
    pub fn feel(&self, used: u64, most: u64) {
        let (before, after) = (self.pressure(), self.pressure().next(used, most));
        if before != after {
            self.memory.store(after as u8, Ordering::Relaxed);
            tracing::warn!(used, most, ?before, ?after, "memory: who comes newly is turned away, or not any more");
        }
    }

    /// Addresses that are connected now.
    pub fn addresses(&self) -> usize {
        self.connections.different()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> Peer {
        Peer::Inet(text.parse().expect(text))
    }

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|text| text.parse::<Network>().unwrap_or_else(|error| panic!("{error:?}"))).collect()
    }

    #[test]
    fn who_is_banned_or_has_too_many_connections_stays_outside_and_a_proxy_is_not_counted() {
        let settings = Settings {
            trusted: networks(&["10.0.0.0/8"]),
            per_address: Some(2),
            banned: networks(&["198.51.100.0/24"]),
            ..Settings::default()
        };
        let patrol = Patrol::new(&settings);
        let held: Vec<_> = (1..=2).map(|port| patrol.admit(inet(&format!("192.0.2.1:{port}"))).expect("room")).collect();
        for (who, want) in [
            ("192.0.2.1:3", Err(Barred::Crowded)),
            ("[::ffff:192.0.2.1]:3", Err(Barred::Crowded)),
            ("192.0.2.2:1", Ok(true)),
            ("10.1.2.3:1", Ok(false)),
            ("198.51.100.7:1", Err(Barred::Banned)),
        ] {
            assert_eq!(patrol.admit(inet(who)).map(|hold| hold.is_some()), want, "{who}");
        }
        assert!(matches!(patrol.admit(Peer::Unix), Ok(None)));
        drop(held);
        patrol.ban("192.0.2.0/24".parse().expect("a network"), "", None).expect("room");
        assert_eq!(patrol.admit(inet("192.0.2.1:3")).expect_err("banned"), Barred::Banned);
        assert_eq!(patrol.lift("192.0.2.0/24".parse().expect("a network")), Ok(true));
        assert!(patrol.admit(inet("192.0.2.1:3")).is_ok());
        assert_eq!((patrol.turned_away(), patrol.addresses(), patrol.keeps_bans()), (2, 0, false));
        patrol.settle(&Settings { per_address: Some(1), ..Settings::default() });
        let one = patrol.admit(inet("10.1.2.3:1")).expect("room");
        assert!(one.is_some() && patrol.admit(inet("10.1.2.3:2")).is_err(), "it is no proxy any more");
    }

    #[test]
    fn bans_that_are_handed_over_hold_and_are_changed_by_the_other_process_only() {
        let network = |text: &str| text.parse::<Network>().expect("a network");
        let (old, new) = (Patrol::new(&Settings::default()), Patrol::new(&Settings::default()));
        old.ban(network("192.0.2.1"), "why", Some(Duration::from_secs(60))).expect("room");
        new.ban(network("192.0.2.2"), "of a file that is older", None).expect("room");
        let text = old.hand_over();
        assert_eq!(old.ban(network("192.0.2.3"), "", None), Err(Unchanged::HandedOver));
        assert_eq!(old.lift(network("192.0.2.1")), Err(Unchanged::HandedOver));
        assert!(old.admit(inet("192.0.2.1:1")).is_err(), "it holds here, too");
        new.take_over(&text).expect("it was written here");
        let of =
            |patrol: &Patrol| patrol.bans().iter().map(|ban| (ban.network, ban.reason.clone(), ban.until.is_some())).collect::<Vec<_>>();
        assert_eq!(of(&new), [(network("192.0.2.1"), "why".to_owned(), true)]);
        assert!(new.take_over("{").is_err() && new.bans().len() == 1, "what makes no sense changes nothing");
        old.take_back();
        assert_eq!(old.lift(network("192.0.2.1")), Ok(true));
    }

    #[test]
    fn pressure_comes_in_steps_and_does_not_flutter() {
        use Pressure::{Everybody, Listeners, None};
        for (before, used, want) in [
            (None, 0, None),
            (None, 89, None),
            (None, 90, Listeners),
            (None, 95, Everybody),
            (Listeners, 88, Listeners),
            (Listeners, 86, None),
            (Listeners, 94, Listeners),
            (Everybody, 92, Everybody),
            (Everybody, 91, Listeners),
            (Everybody, 10, None),
            (None, 200, Everybody),
        ] {
            assert_eq!(before.next(used, 100), want, "{before:?} {used}");
        }
        assert_eq!(None.next(1, 0), Everybody, "of nothing everything is used");
    }
}
