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

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// The format that is spoken here.
pub const FORMAT: u32 = 1;

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

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct House {
    /// When its listeners stood still.
    pub frozen_at: u64,
    /// The number of the last listener.
    pub last_listener: u64,
    /// The most places that were ever taken.
    pub peak: u64,
    /// Refusals where the mount was unknown.
    pub refusals: Words,
    /// Lengths of sessions in mounts that are no more.
    pub sessions: Histogram,
    /// Upgrades so far, by what came of them.
    pub upgrades: Words,
    /// The door's counters.
    pub door: Door,
    /// Each shard's counters.
    pub shards: Vec<Shard>,
    /// Listening sockets.
    pub sockets: Vec<Socket>,
    /// Mounts.
    pub mounts: Vec<Mount>,
}

impl House {
    /// From its text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &[u8]) -> Result<Self, Rubbish> {
        serde_json::from_slice(text).map_err(|error| Rubbish::new(error.to_string()))
    }

    /// Listeners, in all mounts.
    pub fn listeners(&self) -> usize {
        self.mounts.iter().map(|mount| mount.listeners.len()).sum()
    }
}

/// A histogram: what fell between two bounds, and beyond the last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// For each bound.
    pub counts: Vec<u64>,
    /// Beyond.
    pub beyond: u64,
    /// The sum, in microseconds.
    pub sum_micros: u64,
}

/// What the door counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Door {
    /// Connections accepted.
    pub accepted: u64,
    /// Those that failed.
    pub errors: Words,
    /// Handshakes.
    pub handshakes: Words,
}

/// What a shard counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shard {
    /// Calls to send.
    pub send_calls: u64,
    /// How long turns took.
    pub turn: Histogram,
}

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// As it is written in the configuration.
    pub address: String,
    /// Which of the descriptors.
    pub fd: u32,
    /// What belongs to it in the file system is removed with it: it is not a service manager's.
    pub owned: bool,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Its path.
    pub path: String,
    /// Whether a publisher had made it: it is not in the configuration.
    pub made: bool,
    /// Tells its history from any other; `None`: nobody knows it by that.
    pub instance: Option<u64>,
    /// The media type, once known.
    pub content_type: Option<String>,
    /// Whether its source delivered.
    pub up: bool,
    /// Since when it did not.
    pub since: Option<u64>,
    /// The most places that were ever taken.
    pub peak: u64,
    /// What was being played.
    pub playing: Playing,
    /// What the sender says of its stream.
    pub said: Said,
    /// Everything it counts.
    pub counters: Counters,
    /// Sets of streamheaders.
    pub headers: Vec<Headers>,
    /// The ring's chunks in their order, then those which only listeners in the middle of them hold.
    pub chunks: Vec<Chunk>,
    /// The history.
    pub ring: Ring,
    /// Titles that listeners are about to be told.
    pub blocks: Vec<Block>,
    /// Who listens.
    pub listeners: Vec<Listener>,
}

/// What is being played.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Playing {
    /// Who plays.
    pub artist: Option<String>,
    /// What.
    pub title: Option<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// As it goes over the wire, and its number.
    pub block: Block,
}

/// A title as it goes over the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub bytes: Span,
}

/// What a sender says of its stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// Its name.
    pub name: Option<String>,
    /// A sentence or two.
    pub description: Option<String>,
    /// The kind of programme.
    pub genre: Option<String>,
    /// Where to read more of it.
    pub url: Option<String>,
    /// The servers it has come through.
    pub through: Vec<String>,
}

/// What a mount counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Listeners that joined.
    pub joins: u64,
    /// Listeners that left.
    pub departures: Words,
    /// Recoveries.
    pub recoveries: Words,
    /// Who was turned away.
    pub refusals: Words,
    /// Chunks left out.
    pub dropped_chunks: u64,
    /// Newcomers who were begun with without a keyframe.
    pub unsynced_starts: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Lags.
    pub lag: Histogram,
    /// Waits for the first byte.
    pub first_byte: Histogram,
    /// Lengths of sessions.
    pub session: Histogram,
    /// Bytes received.
    pub received_bytes: u64,
    /// Chunks received.
    pub received_chunks: u64,
    /// Chunks turned away.
    pub refused_chunks: u64,
    /// Times the source began anew.
    pub restarts: u64,
    /// Times the title changed.
    pub metadata_updates: u64,
    /// When the last chunk came, in milliseconds since 1970.
    pub last_chunk_unix_ms: u64,
}

/// A set of streamheaders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Headers {
    /// All parts, one after the other.
    pub bytes: Span,
    /// Where each ends.
    pub ends: Vec<usize>,
    /// Whether who follows the stream finds the same in the chunks.
    pub in_band: bool,
}

/// A chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chunk {
    /// Its bytes.
    pub payload: Span,
    /// Which set of streamheaders.
    pub headers: u32,
    /// A listener may start here.
    pub keyframe: bool,
    /// Something is missing before it.
    pub discont: bool,
    /// It stands for a gap.
    pub gap: bool,
    /// Presentation time.
    pub pts: Option<u64>,
    /// Decoding time.
    pub dts: Option<u64>,
}

/// A history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ring {
    /// Place of the first chunk.
    pub oldest: u64,
    /// Stream time of each chunk; there are as many as there are chunks in the ring.
    pub times: Vec<u64>,
    /// Bytes of all the chunks that ever were before the first.
    pub before: u64,
    /// Where a flush has cut.
    pub flushed: u64,
    /// No newcomer starts before.
    pub begun: u64,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Which of the descriptors.
    pub fd: u32,
    /// Its number.
    pub id: u64,
    /// Its address; `None`: it is on this machine.
    pub peer: Option<String>,
    /// What it says it is.
    pub user_agent: String,
    /// What it was let in with.
    pub pass: Option<Pass>,
    /// The mounts that it was to hear instead.
    pub trail: Vec<String>,
    /// When it was accepted.
    pub accepted: u64,
    /// When it joined.
    pub joined: u64,
    /// The same in milliseconds since 1970.
    pub joined_unix_ms: u64,
    /// What of the response head has not gone.
    pub head: Span,
    /// Its send buffer.
    pub send_buffer: u32,
    /// Bytes that it has sent us.
    pub received: u32,
    /// Chunks that it may be behind because of its burst.
    pub overdraft: u64,
    /// Its first body byte has gone.
    pub served: bool,
    /// It sends no more.
    pub read_closed: bool,
    /// Why it leaves when it has been sent what is queued.
    pub leaving: Option<String>,
    /// Where it stands between two titles.
    pub icy: Option<Icy>,
    /// What of a frame's head has not gone, if it is sent frames.
    pub frames: Option<Span>,
    /// Its place in the stream.
    pub cursor: Cursor,
}

/// What a listener was let in with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pass {
    /// Who it is.
    pub user: Option<String>,
    /// For how long after it was accepted it holds, in seconds.
    pub lasts: Option<f64>,
    /// What is said when it goes.
    pub farewells: Vec<Farewell>,
}

/// What a backend is told when a listener goes.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Farewell {
    /// Where.
    pub url: String,
    /// By which name and password.
    pub login: Option<(String, String)>,
    /// What is said before and after how long it was here.
    pub words: (String, String),
    /// How long it has been here, in seconds.
    pub stayed: u64,
}

impl std::fmt::Debug for Farewell {
    /// Without what is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Farewell").field("stayed", &self.stayed).finish_non_exhaustive()
    }
}

/// A newcomer, placed by nobody yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arrival {
    /// The mount's path.
    pub mount: String,
    /// What is sent before the stream.
    pub head: Vec<u8>,
    /// How it asks to be placed.
    pub wish: Option<Wish>,
    /// After how many bytes it was promised a title.
    pub icy: Option<u32>,
    /// Whether it was promised frames.
    pub frames: bool,
    /// Its address; `None`: it is on this machine.
    pub peer: Option<String>,
    /// What it says it is.
    pub user_agent: String,
    /// What it was let in with.
    pub pass: Option<Pass>,
    /// The mounts that it was to hear instead.
    pub trail: Vec<String>,
    /// When it was accepted.
    pub accepted: u64,
}

/// How somebody asks to be placed, in the words of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// The method.
    pub method: String,
    /// The least burst.
    pub burst: String,
    /// The most.
    pub burst_max: String,
}

/// Where a listener stands between two titles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Icy {
    /// Bytes of the stream between two.
    pub interval: u32,
    /// Until the next.
    pub until: u32,
    /// Bytes of that which have gone.
    pub sent: u32,
    /// The number of the last it was told.
    pub told: u64,
    /// Which of the mount's blocks is next; `None`: one that says nothing.
    pub due: Option<u32>,
}

/// A place in the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// The next chunk to begin.
    pub at: u64,
    /// Nothing from here on is begun.
    pub until: Option<u64>,
    /// What is half sent.
    pub flight: Flight,
    /// Which set of streamheaders it was given last.
    pub given: Option<u32>,
    /// It waits for a keyframe.
    pub await_keyframe: bool,
    /// What it skips meanwhile counts as dropped.
    pub skips_count: bool,
    /// It has had the chunk before.
    pub followed: bool,
    /// Bytes sent.
    pub bytes: u64,
    /// Chunks left out.
    pub dropped_chunks: u64,
    /// Recoveries.
    pub dropped_times: u32,
}

/// What is half sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Flight {
    /// Nothing.
    #[default]
    Nothing,
    /// A set of streamheaders, and how many bytes of it have gone.
    Headers(u32, u64),
    /// A chunk, how many bytes of it have gone, and its place.
    Chunk(u32, u64, u64),
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
