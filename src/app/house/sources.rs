//! What fills mounts: whoever keeps a source, for as long as the configuration and the operators want it.

use std::sync::atomic::Ordering;

use actix::dev::ToEnvelope;
use actix::prelude::*;

use super::House;
use crate::admin::operate::{SourceAct, SourceError};
use crate::config;
use crate::ingest::relay;
use crate::mount;
use crate::supervisor::{Keeper, Puller, Restart, Retire, Start, Stop};
use crate::units::MountPath;

impl House {
    /// Starts the source of a mount that has one.
    pub(in crate::app) fn keep(&mut self, settings: &mount::Settings) {
        let Some(entry) = self.registry.find(settings.path.as_str()) else { return };
        if let Some(pipeline) = settings.pipeline.as_deref() {
            self.keepers.insert(settings.path.clone(), Keeper::new(entry, pipeline).start());
        } else if !settings.relay.is_empty() {
            self.pullers.insert(settings.path.clone(), Puller::new(entry, relay::upstreams(&settings.relay)).start());
        }
    }

    /// What to wait for, if the source is to stop.
    pub(super) fn source(&self, path: &str, act: SourceAct) -> Result<Option<Stopping>, SourceError> {
        if let Some(keeper) = self.keepers.get(path) {
            if act != SourceAct::Restart {
                self.note_stopped(path, act == SourceAct::Stop); // a pipeline that was stopped stays so
            }
            return Ok(done_to(keeper, act));
        }
        if let Some(puller) = self.pullers.get(path) {
            self.note_stopped(path, act == SourceAct::Stop);
            return Ok(done_to(puller, act));
        }
        Err(if self.registry.find(path).is_some() { SourceError::NotOurs } else { SourceError::NoMount })
    }

    /// Gives a mount other settings. Returns whether its source begins anew, is there now, or is no more.
    pub(super) fn change(&mut self, settings: &mount::Settings, keys: &[String]) -> bool {
        self.registry.settle(settings.clone());
        // An upstream's password is a secret.
        let of_source = |key: &String| match key.as_str() {
            "pipeline" | "relay" | "relay_on_demand" | "relay_ca" => true,
            config::SECRET => !settings.relay.is_empty(),
            _ => false,
        };
        if !keys.iter().any(of_source) {
            return false;
        }
        if !settings.relay.is_empty() || self.pullers.contains_key(&settings.path) {
            self.stop(&settings.path);
            self.keep(settings);
            return true;
        }
        match (self.keepers.get(&settings.path), settings.pipeline.as_deref()) {
            (Some(keeper), Some(pipeline)) => keeper.do_send(Restart { description: Some(pipeline.into()) }),
            (None, _) => self.keep(settings),
            (Some(keeper), None) => {
                self.note_stopped(settings.path.as_str(), false);
                keeper.do_send(Stop);
                self.keepers.remove(&settings.path);
            }
        }
        true
    }

    /// An operator wants no source for a mount, or one again. The next process is told so.
    fn note_stopped(&self, path: &str, stopped: bool) {
        if let Some(entry) = self.registry.find(path) {
            entry.handle.stopped.store(stopped, Ordering::Relaxed);
        }
    }

    /// Whatever fills a mount does so no more.
    pub(super) fn stop(&mut self, path: &MountPath) {
        self.note_stopped(path.as_str(), false);
        if let Some(keeper) = self.keepers.remove(path) {
            keeper.do_send(Stop);
        }
        if let Some(puller) = self.pullers.remove(path) {
            puller.do_send(Retire);
        }
    }
}

/// A source that is on its way down.
type Stopping = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Does something to whoever keeps a source; says what to wait for, if it is to stop.
fn done_to<A>(keeper: &Addr<A>, act: SourceAct) -> Option<Stopping>
where
    A: Handler<Start> + Handler<Restart> + Handler<Stop>,
    A::Context: ToEnvelope<A, Start> + ToEnvelope<A, Restart> + ToEnvelope<A, Stop>,
{
    match act {
        SourceAct::Start => keeper.do_send(Start),
        SourceAct::Restart => keeper.do_send(Restart { description: None }),
        SourceAct::Stop => {
            let stopping = keeper.send(Stop);
            return Some(Box::pin(async move {
                let _ = stopping.await; // the keeper is gone, and its source with it
            }));
        }
    }
    None
}
