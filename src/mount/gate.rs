//! The one gate through which a stream enters: from the source's thread to the mount's actor.
//!
//! - Bounded twice: by the actor's mailbox, and by the bytes that the mount's chunks may take in memory.
//! - A source that delivers faster than the actor takes is held for a short while, which is all that a pipeline without a
//!   clock needs; then its chunks are turned away up to the next keyframe, and the gap is marked and counted. A live pipeline
//!   is never held for longer than that.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix::prelude::SendError;

use super::Mount;
use super::actor::Deliver;
use super::handle::Handle;
use super::metadata::Metadata;
use crate::engine::crew::Clock;
use crate::fanout::chunk::{Chunk, Marks, OVERHEAD_BYTES};
use crate::fanout::stats::add;
use crate::fanout::streamheader::Headers;
use crate::units::Moment;

/// The longest that a delivery is held while the mailbox is full.
const HOLD_MOST: Duration = Duration::from_millis(500);
/// The longest that an encoder is held while the mailbox is full.
const PATIENCE_MOST: Duration = Duration::from_secs(10);
const HOLD_STEP: Duration = Duration::from_millis(1);

/// One thing that a source delivers.
#[derive(Debug)]
pub enum Delivery {
    /// A chunk of the stream.
    Chunk(Arc<Chunk>),
    /// The same, with its time on the clock of the server that it was pulled from, in nanoseconds: that is the stream's own.
    Timed(Arc<Chunk>, u64),
    /// Upstream flushed: what is held is void.
    Flush,
}

/// Why a delivery was turned away.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GateError {
    /// The mount did not take it in time, or its memory is used up.
    #[error("the mount takes no more for now")]
    Full,
    /// The mount is gone, or another source has taken this one's place.
    #[error("the mount is closed")]
    Closed,
}

/// A source's way into a mount.
#[derive(Clone, Debug)]
pub struct Gate {
    mount: Addr<Mount>,
    handle: Arc<Handle>,
    source: u64,
    clock: Clock,
}

impl Gate {
    /// The way of the source with this number.
    pub(super) fn new(mount: Addr<Mount>, handle: Arc<Handle>, source: u64, clock: Clock) -> Self {
        Self { mount, handle, source, clock }
    }

    /// The source's number.
    pub fn source(&self) -> u64 {
        self.source
    }

    /// The mount.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Waits until the mount takes nothing more by this way: its source was cut, has ended, or another has taken its place.
    pub fn closed(&self) -> impl Future<Output = ()> + use<> {
        let (handle, source) = (Arc::clone(&self.handle), self.source);
        async move { handle.replaced(source).await }
    }

    /// Makes a chunk from a payload, unless it is too large or memory is used up. The payload is a copy of the pipeline's, the only
    /// one: what the pipeline allocated may be part of something far larger, or of a pool that it needs back.
    pub fn chunk(&self, payload: Box<[u8]>, marks: Marks, headers: &Arc<Headers>) -> Option<Arc<Chunk>> {
        self.has_room(payload.len() as u64 + OVERHEAD_BYTES)
            .then(|| Arc::new(Chunk::new(payload, marks, Arc::clone(headers), &self.handle.broadcast.account)))
    }

    /// Makes a set of streamheaders from its parts, unless it is too large or memory is used up.
    pub fn headers<P: AsRef<[u8]>>(&self, parts: &[P], in_band: bool) -> Option<Arc<Headers>> {
        self.has_room(Headers::cost_of(parts)).then(|| Headers::new(parts, in_band, &self.handle.broadcast.account))
    }

    /// Whether something that costs so much memory may come in. What may not is counted.
    fn has_room(&self, cost: u64) -> bool {
        let (chunk_max, memory_bound) = self.handle.bounds.now();
        let room = cost <= chunk_max && self.handle.broadcast.account.held_bytes() + cost <= memory_bound;
        if !room {
            add(&self.handle.source.refused_chunks, 1);
        }
        room
    }

    /// The source says what is being played; one that has ended or was replaced says it in vain.
    pub fn set_metadata(&self, metadata: Metadata) {
        if self.handle.may_write(self.source) {
            self.handle.set_metadata(metadata);
        }
    }

    /// Delivers what one buffer of the source brought.
    ///
    /// # Errors
    /// When the mount does not take it; then nothing of it has been taken.
    pub fn deliver(&self, batch: Vec<Delivery>, content_type: Option<&Arc<str>>) -> Result<(), GateError> {
        let Some(mut message) = self.message(batch, content_type)? else { return Ok(()) };
        let mut held = Duration::ZERO;
        loop {
            match self.offer(message)? {
                None => return Ok(()),
                Some(back) if held < HOLD_MOST => {
                    message = back;
                    std::thread::sleep(HOLD_STEP);
                    held += HOLD_STEP;
                }
                Some(back) => return Err(self.turned_away(&back)),
            }
        }
    }

    /// The same for a source that can be held, such as an encoder at the other end of a connection: it is, for as long as a
    /// mount that works at all can take.
    ///
    /// # Errors
    /// When the mount does not take it; then nothing of it has been taken.
    pub async fn deliver_patiently(&self, batch: Vec<Delivery>, content_type: Option<&Arc<str>>) -> Result<(), GateError> {
        let Some(mut message) = self.message(batch, content_type)? else { return Ok(()) };
        let mut held = Duration::ZERO;
        loop {
            match self.offer(message)? {
                None => return Ok(()),
                Some(back) if held < PATIENCE_MOST => {
                    message = back;
                    tokio::time::sleep(HOLD_STEP).await;
                    held += HOLD_STEP;
                }
                Some(back) => return Err(self.turned_away(&back)),
            }
        }
    }

    fn message(&self, batch: Vec<Delivery>, content_type: Option<&Arc<str>>) -> Result<Option<Deliver>, GateError> {
        if !self.handle.may_write(self.source) {
            return Err(GateError::Closed);
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let arrival: Moment = self.clock.now();
        Ok(Some(Deliver { source: self.source, batch, arrival, content_type: content_type.cloned() }))
    }

    /// Gives a message to the actor; gives it back if there is no place for it.
    fn offer(&self, message: Deliver) -> Result<Option<Deliver>, GateError> {
        match self.mount.try_send(message) {
            Ok(()) => Ok(None),
            Err(SendError::Closed(_)) => Err(GateError::Closed),
            Err(SendError::Full(back)) => Ok(Some(back)),
        }
    }

    fn turned_away(&self, message: &Deliver) -> GateError {
        let chunks = message.batch.iter().filter(|delivery| !matches!(delivery, Delivery::Flush)).count();
        add(&self.handle.source.refused_chunks, chunks as u64);
        GateError::Full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::crew::Crew;
    use crate::mount::Registry;
    use crate::mount::actor::OpenGate;
    use crate::mount::testing::settings;

    #[actix::test]
    async fn streamheaders_without_a_byte_are_booked_and_too_many_parts_of_them_are_refused() {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let registry = Arc::new(Registry::new(Arc::clone(&crew), 10));
        let entry = registry.open(settings("/a"), &actix_rt::Arbiter::new().handle()).expect("opened");
        let gate = entry.actor.send(OpenGate).await.expect("the actor is there");
        let (chunk_max, _) = entry.handle.bounds.now();
        assert!(gate.headers(&vec![""; chunk_max as usize / 8], false).is_none(), "where the parts end takes more than a chunk may");
        let held = gate.headers(&[""; 1000], false).expect("room");
        assert!(held.bytes().is_empty() && entry.handle.broadcast.account.held_bytes() >= 8000, "what takes memory is booked");
        crew.stop();
    }
}
