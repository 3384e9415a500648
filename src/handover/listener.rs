//! A listener, or somebody who is about to be one: who, and where in the stream.

use serde::{Deserialize, Serialize};

use super::Span;

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
    /// The name is that of several, who are not counted as one.
    pub shared: bool,
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

/// What a backend has not been told yet.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Letter {
    /// Where.
    pub url: String,
    /// By which name and password.
    pub login: Option<(String, String)>,
    /// What is said.
    pub body: String,
    /// For how long it has been tried, in seconds.
    pub age: u64,
}

impl std::fmt::Debug for Letter {
    /// Without what is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("age", &self.age).finish_non_exhaustive()
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
