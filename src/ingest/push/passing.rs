//! Encoders that another process goes on with: a session as plain data with its connection beside it, and back.
//!
//! - It is packed between two reads: what has come of the stream is in the mount, or in what is packed. So nothing is missing, and nothing
//!   comes twice; the encoder notices nothing but that nobody reads for a moment.
//! - One that cannot be gone on with is hung up on, as if it had been disconnected, and connects again.
//!
//! Not passed on: what comes over TLS (rustls gives the state of a session to nobody), and streams between two requests.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::Desk;
use super::parking::Likeness;
use super::session::Session;
use crate::door::Io;
use crate::door::acceptor::{DoorCounters, Guest};
use crate::door::patrol::Patrol;
use crate::engine::broadcast::Peer;
use crate::engine::listener::peer_at;
use crate::handover;
use crate::ingest::pump::Pump;
use crate::mount::actor::SourceEnded;
use crate::mount::publishers::Publisher;
use crate::mount::registry::Pushing;
use crate::mount::standstill::Luggage;

impl Session {
    /// Whether another process could go on with it.
    pub(super) fn can_be_passed_on(&self) -> bool {
        !matches!(self.io, Io::Tls(_))
    }

    /// What another process needs to go on with it; `None`: it cannot be had.
    pub(super) fn pack(&self) -> Option<Luggage> {
        let publisher = self.press.publisher()?;
        let (stream, held, headers) = self.pump.pack()?;
        let socket = self.io.share().ok().flatten()?;
        let goes_on = self.goes_on.as_ref().map(|(_, (from, agent, claimed))| handover::Likeness {
            from: from.clone(),
            agent: agent.to_string(),
            claimed: claimed.clone(),
        });
        let since = publisher.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let encoder = handover::Encoder {
            peer: match publisher.peer {
                Peer::Inet(address) => Some(address.to_string()),
                Peer::Unix => None,
            },
            user_agent: publisher.user_agent.into(),
            connection: self.guest.number(),
            since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            body: serde_json::to_value(&self.framing).ok()?,
            farewell: self.farewell.clone(),
            goes_on,
            stream,
            ..handover::Encoder::default()
        };
        Some(Luggage { encoder, socket, held, headers })
    }
}

/// Goes on with encoders that another process has handed over, before anybody else is let in. Each is a task of this thread.
pub fn go_on(desk: &Desk, encoders: Vec<Pushing>, doormen: &Arc<DoorCounters>, patrol: &Arc<Patrol>) {
    // Who was on air has the place, who is about to relieve it comes behind.
    let (on_air, waiting): (Vec<_>, Vec<_>) = encoders.into_iter().partition(|pushing| pushing.packed.stream.outlet.is_some());
    for pushing in on_air.into_iter().chain(waiting) {
        let (desk, doormen, patrol) = (desk.clone(), Arc::clone(doormen), Arc::clone(patrol));
        actix_rt::spawn(async move {
            let (entry, on_air) = (pushing.entry.clone(), pushing.packed.stream.outlet.is_some());
            match resume(&desk, pushing, &doormen, &patrol).await {
                Ok(session) => session.run(b"", b"").await,
                Err(why) => {
                    tracing::warn!(mount = %entry.handle.settings.path, why, "an encoder could not be gone on with; it has to connect again");
                    if on_air {
                        entry.actor.do_send(SourceEnded { source: None, fault: Some("it could not be gone on with".into()) });
                    }
                }
            }
        });
    }
}

async fn resume(desk: &Desk, pushing: Pushing, doormen: &Arc<DoorCounters>, patrol: &Patrol) -> Result<Session, String> {
    let Pushing { entry, packed, socket, held, headers } = pushing;
    let handover::Encoder { user_agent, connection, since_unix_ms, body, farewell, goes_on, stream, .. } = packed;
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let peer = peer_at(packed.peer.as_deref()).map_err(|error| told(&error))?;
    let publisher = Publisher { peer, user_agent: user_agent.as_str().into(), since: UNIX_EPOCH + Duration::from_millis(since_unix_ms) };
    let on_air = stream.outlet.is_some();
    let press = entry.handle.publishers.claim(publisher, true).map_err(|_| "its mount is about to be closed".to_owned())?;
    let framing = serde_json::from_value(body).map_err(|error| told(&error))?;
    let io = Io::resume(socket).map_err(|error| told(&error))?;
    let pump = Pump::resume(&entry, stream, held, headers).await.map_err(|error| told(&error))?;
    if on_air {
        press.arrive();
    }
    let goes_on = goes_on
        .map(|handover::Likeness { from, agent, claimed }| -> (_, Likeness) { (Arc::clone(&desk.parking), (from, agent.into(), claimed)) });
    tracing::info!(mount = %entry.handle.settings.path, %peer, connection, agent = user_agent, "the encoder goes on here");
    Ok(Session::new(io, Guest::resumed(doormen, patrol, (peer, connection)), framing, (pump, press), entry).saying(farewell, goes_on))
}
