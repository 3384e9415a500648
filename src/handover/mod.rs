//! What one process hands over to the next when the binary is changed: the format, and nothing else.
//!
//! ```text
//!   House ─ JSON in one memory file      payloads ─ bytes in another, named by Spans      sockets ─ by number, beside both
//! ```
//! - Plain data. Every room turns what is its own into this and back, and checks what it reads: an index, a span, a place in a ring.
//! - [`FORMAT`] says whether two binaries understand each other at all. Within one format fields may be added: unknown ones are
//!   passed over, missing ones have their defaults. Whatever changes what a field means is another format.
//! - Moments are nanoseconds of the old process's clock; the new one sets its own by it.
//! - Reasons and the like go by their words, so that a set which grows harms nobody.
//!
//! Deliberately absent: files, descriptors and processes (the app's), and everything that is read from the configuration anyway.

mod house;
mod listener;
mod mount;
mod source;

pub use house::{Door, Histogram, House, Shard, Socket, Tallies};
pub use listener::{Arrival, Cursor, Farewell, Flight, Icy, Letter, Listener, Pass, Wish};
pub use mount::{Block, Chunk, Counters, Headers, Mount, Playing, Ring, Said};
pub use source::{Bookmark, Encoder, Likeness, Outlet, Stream, StreamTime, Way};

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// The format that is spoken here.
pub const FORMAT: u32 = 2;

/// Counters by the words of their reasons.
pub type Words = BTreeMap<String, u64>;

/// What was handed over makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what was handed over makes no sense: {0}")]
pub struct Rubbish(pub String);

impl Rubbish {
    /// With what it is that makes no sense.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// A run of bytes among the payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Where it begins.
    pub at: u64,
    /// How many there are.
    pub len: u64,
}

/// Payloads on their way out.
#[derive(Debug)]
pub struct Outgoing<W> {
    to: W,
    at: u64,
}

impl<W: Write> Outgoing<W> {
    /// None yet.
    pub fn new(to: W) -> Self {
        Self { to, at: 0 }
    }

    /// Adds some bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<Span> {
        self.to.write_all(bytes)?;
        let span = Span { at: self.at, len: bytes.len() as u64 };
        self.at += span.len;
        Ok(span)
    }

    /// All of them are in there.
    ///
    /// # Errors
    /// When the last ones cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Payloads that have come.
pub trait Payloads {
    /// The bytes of a span.
    ///
    /// # Errors
    /// When there are none such.
    fn take(&self, span: Span) -> Result<Box<[u8]>, Rubbish>;
}

impl Payloads for [u8] {
    fn take(&self, span: Span) -> Result<Box<[u8]>, Rubbish> {
        let range = usize::try_from(span.at).ok().zip(span.at.checked_add(span.len).and_then(|end| usize::try_from(end).ok()));
        let bytes = range.and_then(|(begin, end)| self.get(begin..end));
        bytes.map(Into::into).ok_or_else(|| Rubbish::new(format!("{} bytes at {} of {}", span.len, span.at, self.len())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor() -> impl Strategy<Value = Cursor> {
        let flight = prop_oneof![
            Just(Flight::Nothing),
            any::<(u32, u64)>().prop_map(|(set, sent)| Flight::Headers(set, sent)),
            any::<(u32, u64, u64)>().prop_map(|(chunk, sent, place)| Flight::Chunk(chunk, sent, place)),
        ];
        (any::<(u64, Option<u64>, Option<u32>, bool, bool, bool, u64)>(), flight).prop_map(
            |((at, until, given, await_keyframe, skips_count, followed, bytes), flight)| Cursor {
                at,
                until,
                flight,
                given,
                await_keyframe,
                skips_count,
                followed,
                bytes,
                ..Cursor::default()
            },
        )
    }

    prop_compose! {
        fn listener()(cursor in cursor(), fd: u32, id: u64, peer: Option<String>, user_agent: String, moments in any::<[u64; 3]>(),
                      leaving: Option<String>, icy in any::<Option<(u32, u32, u32, u64, Option<u32>)>>()) -> Listener {
            let icy = icy.map(|(interval, until, sent, told, due)| Icy { interval, until, sent, told, due });
            let [accepted, joined, joined_unix_ms] = moments;
            Listener { fd, id, peer, user_agent, accepted, joined, joined_unix_ms, leaving, icy, cursor, ..Listener::default() }
        }
    }

    proptest! {
        /// Whatever it is, it comes out as it went in.
        #[test]
        fn any_state_encodes_and_decodes_to_itself(listeners in proptest::collection::vec(listener(), 0..5), path: String,
                                                   times: Vec<u64>, words in any::<BTreeMap<String, u64>>()) {
            let ring = Ring { times, ..Ring::default() };
            let counters = Counters { departures: words.clone(), joins: u64::MAX, ..Counters::default() };
            let mount = Mount { path, listeners, ring, counters, ..Mount::default() };
            let house = House { mounts: vec![mount], refusals: words, last_listener: u64::MAX, ..House::default() };
            let text = serde_json::to_vec(&house).expect("plain data");
            prop_assert_eq!(House::parse(&text), Ok(house));
        }

        /// Nothing else is taken for it, and nothing makes it panic.
        #[test]
        fn rubbish_is_refused_without_a_panic(text: Vec<u8>, at: u64, len: u64) {
            let _ = House::parse(&text);
            let taken = text.as_slice().take(Span { at, len });
            prop_assert_eq!(taken.is_ok(), at.checked_add(len).is_some_and(|end| end <= text.len() as u64));
        }
    }

    #[test]
    fn a_listener_takes_no_more_than_a_kilobyte_of_text() {
        let peer = Some("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".to_owned());
        let cursor =
            Cursor { at: u64::MAX, until: Some(u64::MAX), flight: Flight::Chunk(u32::MAX, u64::MAX, u64::MAX), ..Cursor::default() };
        let (user_agent, [accepted, joined, joined_unix_ms]) = ("x".repeat(128), [u64::MAX; 3]);
        let listener = Listener { peer, user_agent, accepted, joined, joined_unix_ms, cursor, ..Listener::default() };
        let text = serde_json::to_string(&listener).expect("plain data");
        assert!(text.len() <= 1024, "{}: {text}", text.len());
    }

    #[test]
    fn unknown_fields_are_passed_over_and_missing_ones_have_their_defaults() {
        let house = House::parse(br#"{"last_listener":7,"moon_phase":{"full":true},"mounts":[{"path":"/a","colour":1}]}"#).expect("known");
        assert_eq!((house.last_listener, house.mounts[0].path.as_str(), house.listeners()), (7, "/a", 0));
        for text in ["", "7", r#"{"mounts":7}"#, r#"{"last_listener":-1}"#, r#"{"mounts":[{"listeners":[{"fd":"x"}]}]}"#] {
            assert!(House::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn payloads_are_found_again_by_their_spans() {
        let mut out = Outgoing::new(Vec::new());
        let spans = [&b"one"[..], b"", b"three"].map(|bytes| out.put(bytes).expect("room"));
        let bytes = out.finish().expect("room");
        let found = spans.map(|span| bytes.as_slice().take(span).expect("there"));
        assert_eq!(found.each_ref().map(|bytes| &**bytes), [&b"one"[..], b"", b"three"]);
    }
}
