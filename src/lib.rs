//! flumen: one encoder in, ten thousand listeners out.
//!
//! ```text
//!  encoder ─▶ appsink ─▶ Mount actor ─▶ Feed (ring) ─▶ Shard ─▶ socket
//!             ingest     mount          engine         engine
//! ```
//! The rooms stand on floors; imports look down only (`tests/floors.rs` keeps it so):
//!
//! | floor | rooms |
//! |---|---|
//! | 9 | [`app`] the wiring · `fuzzing` what outsiders send, thrown at every reader (with the feature `fuzzing`) |
//! | 8 | [`cli`] words in, a command out |
//! | 7 | [`config`] file and environment to every room's checked settings |
//! | 6 | [`admin`] and [`metrics`] look at the house · [`directory`] tells of it · [`acme`] has its certificates · [`supervisor`] keeps it alive |
//! | 5 | [`ingest`] in · [`delivery`] out · [`chronicle`] what happens, and what needs attention |
//! | 4 | [`mount`] the actors · [`door`] sockets before they have a purpose |
//! | 3 | [`engine`] threads, epoll, descriptors |
//! | 2 | [`fanout`] PURE: ring, cursor, placement, recovery, streamheaders · [`bouncer`] who may listen and publish |
//! | 1 | [`wire`] PURE: bytes of request heads and playlists · [`access`] PURE: secrets, passwords, rules · [`journal`] the access log · [`webhook`] events, each with threads of its own |
//! | 0 | [`units`] PURE · [`handover`] PURE: what one process hands to the next |

pub mod access;
pub mod acme;
pub mod admin;
pub mod app;
pub mod bouncer;
pub mod chronicle;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod directory;
pub mod door;
pub mod engine;
pub mod fanout;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod handover;
pub mod ingest;
pub mod journal;
pub mod metrics;
pub mod mount;
pub mod supervisor;
pub mod units;
pub mod webhook;
pub mod wire;
