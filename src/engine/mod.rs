//! The engine: one thread per core, each serving its share of the listeners at its own pace.
//!
//! ```text
//!   Mount actor ──push──▶ Feed ──one short read per turn──▶ Shard ──writev──▶ sockets
//!   door ──Arrival──▶ Inbox ─────────────────────────────────▶│
//!                                    Reports ◀──departed──────┘
//! ```
//! - A socket has one owner at any time: the door, then an [`Arrival`](listener::Arrival) on its way, then a shard, which closes it.
//! - A turn reads the clock once, never blocks, and does bounded work per listener.
//! - Nobody is judged for what the server itself was late with.
//! - The engine reports upward through one trait and does not know what an actor is.
//!
//! Deliberately absent: HTTP (a response head is just the first bytes to send; a title is bytes between others), async, timers or
//! queues per listener.

pub mod admission;
pub mod alarm;
pub mod audience;
pub mod broadcast;
pub mod counters;
pub mod crew;
pub mod feed;
pub mod frost;
pub mod inbox;
pub mod listener;
pub mod pace;
pub mod pulse;
pub mod shard;
pub mod socket;
mod sync;
pub mod title;
pub mod tls;
pub mod trail;

#[cfg(all(test, not(feature = "model-check")))]
mod frost_tests;
#[cfg(all(test, not(feature = "model-check")))]
mod leaving_tests;
#[cfg(all(test, not(feature = "model-check")))]
mod moving_tests;
#[cfg(all(test, not(feature = "model-check")))]
mod random_tests;
#[cfg(all(test, not(feature = "model-check")))]
mod settling_tests;
#[cfg(all(test, not(feature = "model-check")))]
mod title_tests;
#[cfg(all(test, not(feature = "model-check")))]
mod world;
#[cfg(all(test, not(feature = "model-check")))]
mod world_tests;
