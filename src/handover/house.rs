//! The server as a whole: what it counts, where it listens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Mount, Rubbish, Words};

/// Counters that are nobody's part of this in particular: by what is counted, then by what came of it.
pub type Tallies = BTreeMap<String, Words>;

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
    /// When the first of these processes was started, in milliseconds since 1970; 0: it does not say.
    pub started_unix_ms: u64,
    /// What else is counted.
    pub tallies: Tallies,
    /// Bans, as the file has them in which they may be kept; `None`: it does not say.
    pub bans: Option<String>,
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
    /// PROXY headers.
    pub headers: Words,
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
    /// A service manager has bound it and keeps it.
    pub held: bool,
}
