//! The fan-out itself, pure: what a mount remembers, where a newcomer starts, who is too slow, what comes next for whom.
//!
//! ```text
//!   Chunk ──▶ Ring ──▶ placement (at join) ──▶ Cursor ──▶ the next bytes of one listener
//!                └───▶ recovery  (when slow) ────┘
//! ```
//! - Time comes in as an argument, verdicts go out as values. There is no clock, lock, socket, GStreamer or actor here.
//! - Positions only grow; a lag is a subtraction; a push touches no listener.
//! - Rules follow GStreamer's multihandlesink where it keeps its promises, and say so where they do not.
//!
//! Deliberately absent: queues per listener, timers, knowledge of containers (that is `ingest`) and of HTTP.

pub mod account;
pub mod chunk;
pub mod clock;
pub mod cursor;
pub mod departure;
pub mod frames;
pub mod history;
pub mod passing;
pub mod placement;
pub mod recovery;
pub mod retention;
pub mod ring;
pub mod stats;
pub mod streamheader;
mod tape;

#[cfg(test)]
pub(crate) mod testing;
