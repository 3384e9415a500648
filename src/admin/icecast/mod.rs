//! Icecast's interface, answered as Icecast 2.4 answers it, so that panels, encoders and widgets need not know the difference.
//!
//! ```text
//!   widget ── /status-json.xsl, /admin/publicstats.json ─▶ status     ┐
//!   panel ─── /admin/stats, listclients, killclient, … ──▶ command    ├─▶ facts ─▶ registry, handles
//!   encoder ─ /admin/metadata, /admin.cgi ───────────────▶ metadata   │
//!   widget ── /7.html, /currentsong, /stats ─────────────▶ shoutcast  ┘
//! ```
//! - Answers, their texts and codes are Icecast's, byte for byte where a test can run it beside us (`tests/icecast.rs`); only what is
//!   known here and not there, or there and not here, differs.
//! - Who may ask is decided by `admission`, here as everywhere.
//!
//! Deliberately absent: its style sheets. Pages for people are our own, at the addresses that people know.

mod command;
mod facts;
mod metadata;
mod pages;
pub(super) mod query;
mod shoutcast;
mod status;
mod xml;

use actix_web::web::ServiceConfig;

pub(super) fn routes(config: &mut ServiceConfig) {
    status::routes(config);
    command::routes(config);
    shoutcast::routes(config);
    pages::routes(config);
}

/// What stands under a name in the query of a request.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn in_query(query: &str, name: &str) -> Option<Vec<u8>> {
    query::Parameters::of(query).bytes(name).map(<[u8]>::to_vec)
}
