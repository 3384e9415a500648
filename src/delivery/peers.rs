//! Other servers with the same streams, where newcomers are sent before this one is full.
//!
//! ```text
//!   supervisor ──asks each──▶ note ─▶ Peers ◀─ elsewhere ── a newcomer, from `redirect_from` on
//! ```
//! - The one with most room is chosen, if it has the stream on air and is less loaded than this server; each who is sent there counts
//!   until it is asked again, so that not all go to the same one in between.
//! - Never in a circle: the address that somebody is sent to carries [`MARK`], and who carries that is served or refused where it is.
//! - Nothing is asked here. One that does not answer has no load, and nobody is sent there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::admission::FULL;

/// Most peers of one server.
pub const PEERS_MOST: usize = 16;
/// Says in a query that somebody was sent here by a peer.
const MARK: &str = "flumen-redirected=1";

/// Where newcomers are sent, and from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Web addresses of servers, without a slash at the end.
    pub peers: Vec<Arc<str>>,
    /// From which load on, in thousandths.
    pub from: u64,
}

/// What a peer has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How full it is, in thousandths.
    pub load: u64,
    /// Which of our mounts it has on air.
    pub mounts: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Peer {
    address: Arc<str>,
    /// `None`: it has not answered.
    known: Option<Known>,
    /// Sent there since it has answered.
    promised: u64,
    /// Sent there in all.
    sent: u64,
}

#[derive(Debug, Default)]
struct Book {
    from: u64,
    peers: Vec<Peer>,
}

/// A peer, as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its address.
    pub address: Arc<str>,
    /// How full it is, in thousandths; `None`: it does not answer.
    pub load: Option<u64>,
    /// How many were sent there.
    pub sent: u64,
}

/// Whom a place elsewhere is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The mount's path.
    pub mount: &'a str,
    /// The path and the query that were asked for.
    pub target: &'a str,
    /// Whether TLS is spoken: then nobody is sent where it is not.
    pub secure: bool,
}

/// The peers, and what is known of them.
#[derive(Debug, Default)]
pub struct Peers(Mutex<Book>);

impl Peers {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these; what is known of those that stay is kept.
    pub fn settle(&self, settings: &Settings) {
        let mut book = self.book();
        book.from = settings.from;
        let mut before = std::mem::take(&mut book.peers);
        for address in settings.peers.iter().take(PEERS_MOST) {
            let known = before.iter().position(|peer| peer.address == *address).map(|at| before.swap_remove(at));
            book.peers.push(known.unwrap_or_else(|| Peer { address: Arc::clone(address), known: None, promised: 0, sent: 0 }));
        }
    }

    /// What a peer has answered; `None`: nothing that means anything.
    pub fn note(&self, address: &str, known: Option<Known>) {
        if let Some(peer) = self.book().peers.iter_mut().find(|peer| *peer.address == *address) {
            (peer.known, peer.promised) = (known, 0);
        }
    }

    /// Another process has sent so many to one of these.
    pub fn absorb(&self, address: &str, sent: u64) {
        if let Some(peer) = self.book().peers.iter_mut().find(|peer| *peer.address == *address) {
            peer.sent += sent;
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<View> {
        let view =
            |peer: &Peer| View { address: Arc::clone(&peer.address), load: peer.known.as_ref().map(|known| known.load), sent: peer.sent };
        self.book().peers.iter().map(view).collect()
    }

    /// Where a newcomer finds more room, if this server is as loaded as newcomers are sent away for; `load` in thousandths, of so many
    /// `places`.
    pub fn before_full(&self, newcomer: Newcomer<'_>, load: u64, places: u64) -> Option<String> {
        let mut book = self.book();
        if book.peers.is_empty() || load < book.from { None } else { book.elsewhere(newcomer, load, places) }
    }

    /// Where somebody finds room for whom there is none here.
    pub fn when_full(&self, newcomer: Newcomer<'_>, places: u64) -> Option<String> {
        self.book().elsewhere(newcomer, FULL, places)
    }
}

impl Book {
    fn elsewhere(&mut self, Newcomer { mount, target, secure }: Newcomer<'_>, ours: u64, places: u64) -> Option<String> {
        let (_, query) = target.split_once('?').unwrap_or((target, ""));
        if is_marked(query) {
            return None;
        }
        // Nobody has said how many places it has: as many as there are here.
        let expected = |peer: &Peer| {
            let known = peer.known.as_ref()?;
            let fits = known.mounts.iter().any(|path| **path == *mount) && (!secure || peer.address.starts_with("https://"));
            fits.then(|| known.load * places + peer.promised * FULL)
        };
        let ours = ours * places;
        let (peer, _) = self
            .peers
            .iter_mut()
            .filter_map(|peer| expected(peer).map(|load| (peer, load)))
            .filter(|(_, load)| *load < ours)
            .min_by_key(|(_, load)| *load)?;
        peer.promised += 1;
        peer.sent += 1;
        let joint = if target.contains('?') { '&' } else { '?' };
        Some(format!("{}{target}{joint}{MARK}", peer.address))
    }
}

/// Whether somebody was sent here by a peer.
pub fn is_marked(query: &str) -> bool {
    query.split('&').any(|pair| pair == MARK)
}

/// A query as it was before a peer has sent somebody here.
pub fn unmarked(query: &str) -> &str {
    query.strip_suffix(MARK).map_or(query, |rest| rest.strip_suffix('&').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(from: u64, addresses: &[&str]) -> Peers {
        let peers = Peers::default();
        peers.settle(&Settings { peers: addresses.iter().map(|&address| address.into()).collect(), from });
        peers
    }

    fn known(load: u64) -> Option<Known> {
        Some(Known { load, mounts: vec!["/a.mp3".into()] })
    }

    const A: Newcomer<'_> = Newcomer { mount: "/a.mp3", target: "/a.mp3", secure: false };

    #[test]
    fn the_one_with_most_room_is_chosen_if_it_has_more_than_this() {
        let peers = peers(800, &["http://b", "http://c", "http://d"]);
        assert_eq!(peers.before_full(A, 900, 100), None, "none has answered");
        for (address, load) in [("http://b", 850), ("http://c", 300), ("http://d", 500)] {
            peers.note(address, known(load));
        }
        assert_eq!(peers.before_full(A, 799, 100), None, "there is room here");
        let to = |address: &str| Some(format!("{address}/a.mp3?flumen-redirected=1"));
        assert_eq!(peers.before_full(A, 800, 100), to("http://c"));
        peers.note("http://c", None);
        assert_eq!(peers.before_full(A, 800, 100), to("http://d"), "one that does not answer is left out");
        peers.note("http://d", None);
        assert_eq!((peers.before_full(A, 850, 100), peers.before_full(A, 851, 100)), (None, to("http://b")), "it has to be less loaded");
        peers.note("http://b", known(FULL));
        assert_eq!(peers.when_full(A, 100), None);
        peers.note("http://b", known(FULL - 1));
        assert_eq!(peers.when_full(A, 100), to("http://b"));
        let sent: Vec<_> = peers.all().into_iter().map(|view| (view.load, view.sent)).collect();
        assert_eq!(sent, [(Some(FULL - 1), 2), (None, 1), (None, 1)]);
    }

    #[test]
    fn who_was_sent_counts_until_the_peer_has_said_more() {
        let peers = peers(500, &["http://b", "http://c"]);
        peers.note("http://b", known(400));
        peers.note("http://c", known(410));
        let mut sent = [0, 0];
        // 100 places: each newcomer is a hundredth.
        while let Some(there) = peers.before_full(A, 600, 100) {
            sent[usize::from(there.starts_with("http://c"))] += 1;
        }
        assert_eq!(sent, [20, 19], "until both are as loaded as this is");
        peers.note("http://b", known(550));
        assert!(peers.before_full(A, 600, 100).is_some());
    }

    #[test]
    fn nobody_is_sent_twice_nor_out_of_tls_nor_where_the_stream_is_not() {
        let peers = peers(0, &["http://b"]);
        peers.note("http://b", known(0));
        for target in ["/a.mp3?flumen-redirected=1", "/a.mp3?x=1&flumen-redirected=1", "/a.mp3?flumen-redirected=1&x=1"] {
            assert_eq!(peers.when_full(Newcomer { target, ..A }, 10), None, "{target}");
        }
        assert_eq!(peers.when_full(Newcomer { secure: true, ..A }, 10), None);
        assert_eq!(peers.when_full(Newcomer { mount: "/b.mp3", ..A }, 10), None);
        let asked = Newcomer { target: "/%61.mp3?token=x", ..A };
        assert_eq!(peers.when_full(asked, 10).as_deref(), Some("http://b/%61.mp3?token=x&flumen-redirected=1"));
        for (query, want) in [("flumen-redirected=1", ""), ("a=1&flumen-redirected=1", "a=1"), ("a=1", "a=1"), ("", "")] {
            assert_eq!(unmarked(query), want);
        }
    }

    #[test]
    fn what_is_known_of_those_that_stay_is_kept() {
        let peers = peers(0, &["http://b", "http://c"]);
        peers.note("http://c", known(7));
        peers.settle(&Settings { peers: vec!["http://c".into(), "http://d".into()], from: 0 });
        let loads: Vec<_> = peers.all().into_iter().map(|view| view.load).collect();
        assert_eq!(loads, [Some(7), None]);
        peers.note("http://b", known(1)); // who was asked before is nobody any more
        assert_eq!(peers.all().len(), 2);
    }
}
