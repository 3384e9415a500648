//! Listeners that come and go, as shards report them: a line for each session, and what webhooks are told.

use std::sync::{Arc, OnceLock};

use actix::WeakAddr;
use actix::prelude::*;

use super::Mount;
use crate::engine::broadcast::{Newcomer, Obituary, Reports};
use crate::journal::Visit;
use crate::mount::registry::Witnesses;
use crate::webhook::{Event, Kind, ListenerEvent, Webhooks};

/// Listeners have left. Not bounded by the mailbox, but by the number of listeners.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Departed(pub Vec<Obituary>);

impl Handler<Departed> for Mount {
    type Result = ();

    fn handle(&mut self, Departed(gone): Departed, _: &mut Self::Context) {
        gone.iter().for_each(|gone| self.witness_departure(gone));
    }
}

/// Listeners have joined, and somebody wants to know. Bounded like [`Departed`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Joined(Vec<Newcomer>);

impl Handler<Joined> for Mount {
    type Result = ();

    fn handle(&mut self, Joined(newcomers): Joined, _: &mut Self::Context) {
        for Newcomer { id, peer, user_agent, user } in newcomers {
            let user = user.as_deref().map(Into::into);
            let listener =
                ListenerEvent { id: id.0, peer: peer.to_string(), user_agent: user_agent.into(), user, ..ListenerEvent::default() };
            self.witnesses.webhooks.tell(&Event::of_listener(Kind::ListenerJoined, self.handle.settings.path.as_str(), listener));
        }
    }
}

impl Mount {
    /// One line for one session: in the access log, or where there is none in the event log.
    fn witness_departure(&self, gone: &Obituary) {
        let (mount, why, seconds) = (self.handle.settings.path.as_str(), gone.why.label(), (gone.stayed.as_secs_f64() * 1e3).round() / 1e3);
        let user = gone.pass.as_ref().and_then(|pass| pass.user.as_deref());
        let Witnesses { journal, webhooks, .. } = &self.witnesses;
        macro_rules! event {
            ($level:expr) => {
                tracing::event!(
                    target: "flumen::listener",
                    $level,
                    mount,
                    id = gone.id.0,
                    peer = %gone.peer,
                    agent = &*gone.user_agent,
                    user,
                    reason = why,
                    seconds,
                    bytes = gone.tally.bytes,
                    dropped_chunks = gone.tally.dropped_chunks,
                    "listener left"
                )
            };
        }
        if journal.is_on() {
            event!(tracing::Level::DEBUG);
            journal.note(&Visit {
                listener: Some(gone.id.0),
                peer: &gone.peer.host(),
                user: user.unwrap_or_default(),
                at: gone.joined_at,
                method: "GET",
                target: mount,
                version: "HTTP/1.1",
                bytes: Some(gone.tally.bytes),
                agent: &gone.user_agent,
                lasted: gone.stayed,
                departure: why,
                mount,
                ..Visit::default()
            });
        } else {
            event!(tracing::Level::INFO);
        }
        if webhooks.want(Kind::ListenerLeft) {
            let listener = ListenerEvent {
                id: gone.id.0,
                peer: gone.peer.to_string(),
                user_agent: gone.user_agent.to_string(),
                user: user.map(Into::into),
                departure: Some(why),
                seconds: Some(seconds),
                bytes: Some(gone.tally.bytes),
            };
            webhooks.tell(&Event::of_listener(Kind::ListenerLeft, mount, listener));
        }
    }
}

/// Carries reports from shards to the actor.
#[derive(Debug)]
pub(in crate::mount) struct Post {
    mount: OnceLock<WeakAddr<Mount>>,
    webhooks: Arc<Webhooks>,
}

impl Post {
    pub(in crate::mount) fn new(webhooks: Arc<Webhooks>) -> Self {
        Self { mount: OnceLock::new(), webhooks }
    }

    /// The actor has the post in its hands, so the post must not keep the actor.
    pub(in crate::mount) fn deliver_to(&self, mount: &Addr<Mount>) {
        // Set once, right after the actor has started.
        let _ = self.mount.set(mount.downgrade());
    }
}

impl Reports for Post {
    fn departed(&self, gone: Vec<Obituary>) {
        if let Some(mount) = self.mount.get().and_then(WeakAddr::upgrade) {
            mount.do_send(Departed(gone));
        }
    }

    fn wants_joins(&self) -> bool {
        self.webhooks.want(Kind::ListenerJoined)
    }

    fn joined(&self, newcomers: Vec<Newcomer>) {
        if let Some(mount) = self.mount.get().and_then(WeakAddr::upgrade) {
            mount.do_send(Joined(newcomers));
        }
    }
}
