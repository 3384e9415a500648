//! A mount: its history, what is played, and what it counts.

use serde::{Deserialize, Serialize};

use super::{Bookmark, Encoder, Histogram, Listener, Span, StreamTime, Words};

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Its path.
    pub path: String,
    /// Whether a publisher had made it: it is not in the configuration.
    pub made: bool,
    /// Where a mirror has it from; `None`: it is nobody's mirror.
    pub mirrored_from: Option<String>,
    /// Tells its history from any other; `None`: nobody knows it by that.
    pub instance: Option<u64>,
    /// The media type, once known.
    pub content_type: Option<String>,
    /// Whether its source delivered.
    pub up: bool,
    /// Since when it did not.
    pub since: Option<u64>,
    /// Whether an operator had stopped its source.
    pub stopped: bool,
    /// Where an operator has said that listeners go while the source is away; `None`: the configuration says it.
    pub fallback: Option<String>,
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
    /// How far it has come in whose history, if it is pulled from somebody who knows that.
    pub bookmark: Option<Bookmark>,
    /// Where the stream's clock stands, if nothing came after it was asked.
    pub time: Option<StreamTime>,
    /// Encoders that push to it and go on.
    pub encoders: Vec<Encoder>,
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
    /// Bytes that made no sense.
    pub skipped_bytes: u64,
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
