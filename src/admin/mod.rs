//! Looking at the house: the status page, Icecast's document, the JSON API, and whether all is well.
//!
//! ```text
//!   person ── / ─────────────────▶ page      ┐
//!   widget ── /status-json.xsl ──▶ icecast   ├─▶ registry, handles (atomics, one short look at a ring)
//!   script ── /api/v1/… ─────────▶ api ──────┤
//!   operator ─ POST /api/v1/… ───▶ operate ──┼─▶ orders, carried out by whoever wires the house
//!   probe  ── /healthz, /readyz ─▶ health    ┘─▶ shards: asked in bounded parts, answered within a deadline
//! ```
//! - Nothing here is on a stream's way: a question costs a shard a small part of a turn, however often it is asked.
//! - What a stranger may ask for and what an operator may do is decided in one place, `admission::operator`.
//! - No answer is kept by caches, and every refusal says why.
//!
//! Deliberately absent: metrics (a sibling), playlists and streams (`delivery`), configuration.

mod admission;
mod answers;
mod api;
mod dates;
mod health;
mod icecast;
pub mod operate;
mod page;
mod shards;

#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::web::ServiceConfig;

use crate::mount::Registry;

pub use api::listed;

/// What this room looks at. The app hands it to the routes as `web::Data<House>`.
#[derive(Debug)]
pub struct House {
    /// The mounts and the shards.
    pub registry: Arc<Registry>,
    /// When the server was started.
    pub started_at: SystemTime,
    /// Where an operator's orders go.
    pub orders: tokio::sync::mpsc::Sender<operate::Order>,
}

/// Whether every sending thread turns, or sleeps and wakes when spoken to.
pub async fn alive(crew: &crate::engine::crew::Crew) -> bool {
    shards::stuck(crew).await.is_empty()
}

/// The name and version that the server goes by.
pub const SERVER: &str = concat!("flumen ", env!("CARGO_PKG_VERSION"));

/// Mounts the routes of this room. They need a `web::Data<House>`.
pub fn routes(config: &mut ServiceConfig) {
    page::routes(config);
    icecast::routes(config);
    operate::routes(config); // before what takes every path below a mount's
    api::routes(config);
    health::routes(config);
}
