//! Looking at the house: the status page, Icecast's document, the JSON API, and whether all is well.
//!
//! ```text
//!   person ── / ─────────────────▶ page      ┐
//!   widget ── /status-json.xsl ──▶ icecast   │
//!   panel ─── /admin/… ──────────▶ icecast   ├─▶ registry, handles (atomics, one short look at a ring)
//!   script ── /api/v1/… ─────────▶ api ──────┤
//!   operator ─ POST /api/v1/… ───▶ operate ──┼─▶ orders, carried out by whoever wires the house
//!        ″                     ──▶ acts ─────┤   (what one mount can be told at once)
//!   watcher ── /console, …/events ▶ live ────┤─▶ chronicle
//!   probe  ── /healthz, /readyz ─▶ health    ┘─▶ shards: asked in bounded parts, answered within a deadline
//! ```
//! - Nothing here is on a stream's way: a question costs a shard a small part of a turn, however often it is asked.
//! - What a stranger may ask for and what an operator may do is decided in one place, `admission::operator`.
//! - No answer is kept by caches, and every refusal says why.
//!
//! Deliberately absent: metrics (a sibling), playlists and streams (`delivery`), configuration.

mod acts;
mod admission;
mod answers;
mod api;
mod bans;
mod console;
mod dates;
mod health;
mod icecast;
mod live;
pub mod operate;
mod page;
mod removal;
mod shards;

#[cfg(test)]
mod testing;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use actix_web::web::ServiceConfig;

use crate::access::{Password, Role};
use crate::bouncer::keys::Keys;
use crate::bouncer::staff::Names;
use crate::chronicle::Chronicle;
use crate::door::acceptor::DoorCounters;
use crate::door::patrol::Patrol;
use crate::mount::{Login, Registry};
use crate::units::MountPath;

pub use api::listed;
pub use shards::lists_bytes;

use shards::Lists;

/// The checked settings of this room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's name.
    pub user: String,
    /// The operator's password; `None`: operators are those on this machine, and nobody else.
    pub password: Option<Password>,
    /// Servers that relay from here: they are told which mounts there are, and listen to each.
    pub relay: Role,
    /// Whom to turn to, as status documents say.
    pub contact: String,
    /// Where the server is, as status documents say.
    pub location: String,
    /// The server's name, as status documents say; `None`: the one by which the client knows it.
    pub hostname: Option<String>,
    /// Where SHOUTcast encoders are that name no mount; `None`: where Icecast expects them.
    pub shoutcast_mount: Option<MountPath>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: "admin".into(),
            password: None,
            relay: Role { user: Login::USER.into(), password: None },
            contact: "icemaster@localhost".into(),
            location: "Earth".into(),
            hostname: None,
            shoutcast_mount: None,
        }
    }
}

/// What this room looks at. The app hands it to the routes as `web::Data<House>`.
#[derive(Debug)]
pub struct House {
    /// The mounts and the shards.
    pub registry: Arc<Registry>,
    /// When the server was started.
    pub started_at: SystemTime,
    /// Where an operator's orders go.
    pub orders: tokio::sync::mpsc::Sender<operate::Order>,
    /// What happens, for those who watch.
    pub chronicle: Arc<Chronicle>,
    settings: RwLock<Arc<Settings>>,
    door: Arc<DoorCounters>,
    patrol: Arc<Patrol>,
    lists: Lists,
}

/// Whether every sending thread turns, or sleeps and wakes when spoken to.
pub async fn alive(crew: &crate::engine::crew::Crew) -> bool {
    shards::stuck(crew).await.is_empty()
}

impl House {
    /// A house that was started now. Orders go where the receiver of `orders` is.
    pub fn new(
        settings: Settings,
        registry: Arc<Registry>,
        (door, patrol): (Arc<DoorCounters>, Arc<Patrol>),
        orders: tokio::sync::mpsc::Sender<operate::Order>,
    ) -> Self {
        let house = Self {
            registry,
            started_at: SystemTime::now(),
            orders,
            chronicle: Arc::default(),
            settings: RwLock::default(),
            door,
            patrol,
            lists: Lists::default(),
        };
        house.settle(settings);
        house
    }

    /// The server was started then, by a process before this one.
    pub fn running_since(self, started_at: SystemTime) -> Self {
        Self { started_at, ..self }
    }

    /// From now on these settings hold: for the next request, and not for those being answered.
    pub fn settle(&self, settings: Settings) {
        let operator = Role { user: settings.user.clone(), password: settings.password.clone() };
        self.registry.witnesses().bouncer.staff.settle(Names { operator, relay: settings.relay.clone() });
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// What is remembered of passwords of those who do more than listen.
    fn keys(&self) -> &Keys {
        &self.registry.witnesses().bouncer.staff.keys
    }

    /// The settings that hold now.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The name and version that the server goes by.
pub const SERVER: &str = concat!("flumen ", env!("CARGO_PKG_VERSION"));

/// What stands under a name in the query of a request.
#[cfg(any(test, feature = "fuzzing"))]
pub fn in_query(query: &str, name: &str) -> Option<Vec<u8>> {
    icecast::in_query(query, name)
}

/// Mounts the routes of this room. They need a `web::Data<House>`.
pub fn routes(config: &mut ServiceConfig) {
    page::routes(config);
    console::routes(config);
    live::routes(config);
    icecast::routes(config);
    bans::routes(config);
    operate::routes(config); // before what takes every path below a mount's
    acts::routes(config);
    removal::routes(config);
    api::routes(config);
    health::routes(config);
}
