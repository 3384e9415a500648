//! Asks the servers that newcomers may be sent to how loaded they are, and which of our mounts they have on air.
//!
//! One asker for each, so that one that does not answer holds up none; each answer has a deadline and a bound. What was said holds
//! until the next answer, and nothing holds after a failure.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::Retire;
use crate::delivery::peers::{Known, Peers};
use crate::engine::admission::FULL;
use crate::ingest::relay::{Upstream, load_of};
use crate::mount::Registry;

/// How often a peer is asked.
const INTERVAL: Duration = Duration::from_secs(3);

/// Asks one peer.
#[derive(Debug)]
pub struct Asker {
    address: Arc<str>,
    server: Option<Upstream>,
    peers: Arc<Peers>,
    registry: Arc<Registry>,
    /// What was said last that is not said again.
    said: Option<Arc<str>>,
}

impl Asker {
    /// Asks the server at this address, and notes what it says.
    pub fn new(address: &Arc<str>, peers: &Arc<Peers>, registry: &Arc<Registry>) -> Self {
        Self {
            address: Arc::clone(address),
            server: Upstream::parse(address).ok(),
            peers: Arc::clone(peers),
            registry: Arc::clone(registry),
            said: None,
        }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let Some(server) = self.server.clone() else { return };
        let asking = async move { load_of(&server).await };
        ctx.spawn(asking.into_actor(self).map(|answer, asker, ctx| {
            match answer {
                Ok(told) => {
                    if asker.said.take().is_some() {
                        tracing::info!(peer = &*asker.address, "the peer answers again");
                    }
                    // Whoever does not say how full it is counts as large as this.
                    let listeners: u64 = told.mounts.iter().fold(0, |sum, (_, listeners)| sum.saturating_add(*listeners));
                    let as_here = || listeners.saturating_mul(FULL) / asker.registry.places().most().max(1);
                    let ours = |(path, _): &(String, u64)| Some(asker.registry.find(path)?.handle.settings.path.as_str().into());
                    let known =
                        Known { load: told.load.unwrap_or_else(as_here).min(FULL), mounts: told.mounts.iter().filter_map(ours).collect() };
                    asker.peers.note(&asker.address, Some(known));
                }
                Err(why) => {
                    asker.peers.note(&asker.address, None);
                    if asker.said.is_none() {
                        tracing::warn!(
                            peer = &*asker.address,
                            reason = &*why,
                            "the peer does not say how loaded it is; nobody is sent there"
                        );
                    }
                    asker.said = Some(why);
                }
            }
            ctx.run_later(INTERVAL.mul_f64(0.9 + 0.2 * fastrand::f64()), Self::ask);
        }));
    }
}

impl Actor for Asker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.ask(ctx);
    }
}

impl Handler<Retire> for Asker {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
