//! What outsiders can cause again and again: the first of a kind has a line in the event log, the others of a minute are counted,
//! and have one line together.
//!
//! - Time comes in as an argument.
//! - A kind that goes on has one line a minute. One that was quiet for a minute is forgotten, and its next is a first again.
//! - Kinds are bounded. In a full table no older one gives way, for then whoever has many addresses would have a line for each:
//!   all that find no place are counted as one kind. So a minute has at most twice [`KINDS_MOST`] lines and two, whoever comes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long lines of a kind are held back after one.
const HELD: Duration = Duration::from_secs(60);
/// Kinds that are told apart.
const KINDS_MOST: usize = 128;

/// Since when others of a kind are only counted, and how many.
#[derive(Clone, Copy, Debug)]
struct Held {
    since: Instant,
    count: u64,
}

/// What was told lately. A kind of `None` is all that found no place.
#[derive(Debug)]
struct Repeats<K>(HashMap<Option<K>, Held>);

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Repeats<K> {
    /// One more has come: whether it is told. If not, it is counted.
    fn note(&mut self, kind: K, now: Instant) -> bool {
        let known = self.0.len() - usize::from(self.0.contains_key(&None));
        let kind = Some(kind);
        let kind = if known < KINDS_MOST || self.0.contains_key(&kind) { kind } else { None };
        match self.0.entry(kind) {
            Entry::Vacant(place) => {
                place.insert(Held { since: now, count: 0 });
                true
            }
            Entry::Occupied(mut held) if held.get().count == 0 && now.saturating_duration_since(held.get().since) >= HELD => {
                held.get_mut().since = now;
                true
            }
            Entry::Occupied(mut held) => {
                held.get_mut().count += 1;
                false
            }
        }
    }

    /// The kinds whose minute is over, and how many came of each beside the one that was told. Their next minute begins.
    fn over(&mut self, now: Instant) -> Vec<(Option<K>, u64)>
    where
        K: Clone,
    {
        let mut over = Vec::new();
        self.0.retain(|kind, held| {
            if now.saturating_duration_since(held.since) < HELD {
                return true;
            }
            let count = std::mem::take(&mut held.count);
            held.since = now;
            if count > 0 {
                over.push((kind.clone(), count));
            }
            count > 0
        });
        over
    }
}

/// What makes two lines the same. Whatever is in it is chosen from few by us, but for the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// What the lines say.
    pub what: &'static str,
    /// A mount that there is, where it is about one.
    pub mount: Option<Box<str>>,
    /// From where.
    pub from: Whence,
    /// Why, or of what sort.
    pub why: Box<str>,
}

/// From where something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whence {
    /// A network, by an address of it.
    Network(IpAddr),
    /// A unix socket.
    Unix,
    /// The source of the mount, wherever that is.
    Source,
}

/// Of somebody's address: who has none came by a unix socket.
impl From<Option<IpAddr>> for Whence {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Unix, Self::Network)
    }
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Source => f.write_str("source"),
        }
    }
}

/// What was told of outsiders lately, by whomever.
#[derive(Debug, Default)]
pub struct Hearsay(Mutex<Repeats<Kind>>);

impl Hearsay {
    fn repeats(&self) -> MutexGuard<'_, Repeats<Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line of this kind is written. If not, it is counted.
    pub fn is_news(&self, kind: Kind) -> bool {
        self.repeats().note(kind, Instant::now())
    }

    /// Writes how many were held back whose minute is over. To be called each second or so.
    pub fn tell(&self) {
        self.tell_until(Instant::now());
    }

    /// The same for all of them: it is the end.
    pub fn finish(&self) {
        self.tell_until(Instant::now() + HELD);
    }

    fn tell_until(&self, now: Instant) {
        let over = self.repeats().over(now);
        for (kind, count) in over {
            match kind {
                Some(Kind { what, mount, from, why }) => {
                    tracing::warn!(what, mount = mount.as_deref(), %from, why = &*why, count, "the same again within a minute");
                }
                None => tracing::warn!(count, "so many other lines about outsiders were left out within a minute"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_others_are_counted_and_a_kind_that_goes_on_has_a_line_a_minute() {
        let begin = Instant::now();
        let mut repeats = Repeats::default();
        // At this second: one more of `a` comes, or it is looked what is over.
        for (second, comes, told, over) in [
            (0, true, true, 0),
            (1, true, false, 0),
            (59, true, false, 0),
            (59, false, false, 0),
            (60, false, false, 2),
            (60, true, false, 0), // it goes on: counted for the next line
            (119, false, false, 0),
            (120, false, false, 1),
            (180, false, false, 0), // a quiet minute: forgotten
            (181, true, true, 0),
            (242, true, true, 0), // quiet for a minute, and nobody has looked
            (243, true, false, 0),
            (302, false, false, 1),
        ] {
            let now = begin + Duration::from_secs(second);
            if comes {
                assert_eq!(repeats.note("a", now), told, "at {second}");
            } else {
                let want = if over > 0 { vec![(Some("a"), over)] } else { Vec::new() };
                assert_eq!(repeats.over(now), want, "at {second}");
            }
        }
    }

    #[test]
    fn kinds_are_told_apart_up_to_a_bound_and_whoever_comes_there_are_only_so_many_lines() {
        let (begin, mut repeats) = (Instant::now(), Repeats::default());
        let news = (0..100_000).filter(|kind| repeats.note(*kind, begin)).count();
        assert_eq!(news, KINDS_MOST + 1, "one line for all that found no place");
        assert_eq!(repeats.0.len(), KINDS_MOST + 1);
        assert!(!repeats.note(0, begin), "who has a place keeps it");
        let mut over = repeats.over(begin + HELD);
        over.sort_unstable();
        assert_eq!(over, [(None, 100_000 - KINDS_MOST as u64 - 1), (Some(0), 1)]);
        assert!(repeats.note(100_000, begin + HELD), "those who came once have left their places");
        assert_eq!(repeats.over(begin + 2 * HELD), []);
        assert!(repeats.0.is_empty(), "nothing is kept of what is over");
    }

    #[test]
    fn a_kind_is_one_of_its_mount_its_network_and_its_reason() {
        let kind = |mount: Option<&str>, from: Option<[u8; 4]>, why: &str| Kind {
            what: "encoder turned away",
            mount: mount.map(Into::into),
            from: from.map(IpAddr::from).into(),
            why: why.into(),
        };
        let hearsay = Hearsay::default();
        for (kind, news) in [
            (kind(Some("/a"), Some([192, 0, 2, 1]), "wrong password"), true),
            (kind(Some("/a"), Some([192, 0, 2, 1]), "wrong password"), false),
            (kind(Some("/b"), Some([192, 0, 2, 1]), "wrong password"), true),
            (kind(Some("/a"), Some([192, 0, 2, 2]), "wrong password"), true),
            (kind(Some("/a"), Some([192, 0, 2, 1]), "another encoder"), true),
            (kind(None, None, "wrong password"), true),
        ] {
            assert_eq!(hearsay.is_news(kind.clone()), news, "{kind:?}");
        }
        hearsay.finish();
        assert!(hearsay.repeats().0.values().all(|held| held.count == 0), "told at the end");
    }
}
