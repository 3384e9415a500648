//! What fills a mount, and where it stood: by this it is gone on with, without a gap and without a repeat.

use serde::{Deserialize, Serialize};

use super::Span;

/// How far a mount has come in the history of the server that it is pulled from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bookmark {
    /// With whom.
    pub upstream: String,
    /// Which history of its.
    pub instance: u64,
    /// The place after the last chunk that is in the history here.
    pub next: u64,
    /// When that was.
    pub at: u64,
}

/// Where the clock of a stream stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamTime {
    /// Stream time of the last chunk.
    pub now: u64,
    /// Stream time before it last went on.
    pub before: u64,
    /// When the last chunk arrived.
    pub arrived: Option<u64>,
    /// When that arrived with which stream time last went on.
    pub advanced: u64,
    /// Chunks since then.
    pub standing: u32,
    /// The last stamp, and on how many chunks in a row it stood.
    pub last: Option<(u64, u32)>,
    /// What is added to a stamp.
    pub offset: Option<i64>,
}

/// An encoder that pushes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Encoder {
    /// Which of the descriptors.
    pub fd: u32,
    /// Its address; `None`: it is on this machine.
    pub peer: Option<String>,
    /// What it says it is.
    pub user_agent: String,
    /// By which number logs name its connection.
    pub connection: u64,
    /// When it came, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// How what it sends is framed in its connection, and how far that has come: in the words of whoever reads it.
    pub body: serde_json::Value,
    /// What it is told when all of it has come.
    pub farewell: Vec<u8>,
    /// Its stream may go on with another request; then by this it is known again.
    pub goes_on: Option<Likeness>,
    /// What its stream is.
    pub stream: Stream,
}

/// By what an encoder is known again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Likeness {
    /// From where.
    pub from: String,
    /// What it says it is.
    pub agent: String,
    /// What it calls its stream.
    pub claimed: Option<String>,
}

/// A stream of bytes, and what has come of it that is not in the history yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// What its sender calls it.
    pub claimed: Option<String>,
    /// What it is.
    pub way: Way,
    /// What waits for its rest.
    pub held: Span,
    /// What it has said to the mount; `None`: there was nothing to hear yet.
    pub outlet: Option<Outlet>,
}

/// What is known of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Way {
    /// Nothing yet.
    #[default]
    Proving,
    /// That nobody knows it: it goes as it comes.
    Raw,
    /// Its container, by its word, and where its framer stands, in that one's words.
    Framed(String, serde_json::Value),
}

/// What a source has said to its mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outlet {
    /// The media type.
    pub content_type: Option<String>,
    /// Which set of streamheaders is needed from here on.
    pub headers: Option<u32>,
    /// Something was left out: a keyframe is waited for.
    pub lost: bool,
    /// What comes next does not follow on what was.
    pub discont: bool,
    /// The stream says by itself what is being played.
    pub told: bool,
}
