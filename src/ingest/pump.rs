//! Bytes that somebody sends, without caps or flags: what they are, where they may be cut, and into the mount.
//!
//! - The first bytes decide what the stream is; its sender's claim only where they cannot. A liar is told so in the log, and served
//!   by what it is. What nobody knows is served as it comes, byte for byte, each piece a place to start.
//! - A mount gets a new source when there is something to hear, not when somebody connects.
//! - Between two pushes it can be written down, and gone on with in another process, to the byte.
//! - What is held is bounded by [`PROOF_MOST`] and by the framer.
//!
//! Deliberately absent: where the bytes come from.

use std::sync::Arc;

use actix::{Addr, MailboxError};

use super::framing::kind::{self, Kind, PROOF_MOST, Verdict};
use super::framing::{Framer, Piece};
use super::outlet::Outlet;
use crate::fanout::chunk::Marks;
use crate::fanout::streamheader::Headers;
use crate::handover;
use crate::mount::Mount;
use crate::mount::actor::{OpenGate, ReopenGate, SourceEnded};
use crate::mount::handle::Handle;
use crate::mount::registry::Entry;
use crate::mount::{Gate, GateError, Metadata, OggChaining};
use crate::units::MountPath;
use crate::wire::media;

/// Why a stream is not gone on with.
#[derive(Debug, thiserror::Error)]
pub enum NotResumed {
    /// It is of a kind that is not known here.
    #[error("its kind ({0}) is not known here")]
    Kind(String),
    /// Its framer's words are not understood.
    #[error("where its framer stood is not understood here: {0}")]
    Framer(#[from] serde_json::Error),
    /// The mount's actor is not there.
    #[error("the mount does not answer")]
    Mount(#[from] MailboxError),
}

/// Why no more is taken.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The mount is gone, or another source has taken this one's place.
    #[error("the mount is closed, or another source has taken over")]
    Gate(#[from] GateError),
    /// The mount's actor is not there.
    #[error("the mount does not answer")]
    Mount(#[from] MailboxError),
    /// It is of another kind than what fills the mount.
    #[error("{0}")]
    Unlike(String),
}

enum Way {
    /// Bytes that wait until it is known what they are.
    Proving(Vec<u8>),
    Framed(Kind, Box<Framer>),
    /// As it comes.
    Raw,
}

/// A byte stream on its way into a mount.
pub struct Pump {
    mount: Addr<Mount>,
    path: MountPath,
    claimed: Option<String>,
    /// Links of a chained Ogg stream are to be joined.
    join: bool,
    /// The mount is taken only by what is like this.
    alike: Option<Arc<str>>,
    /// What is being played, if somebody has said so before the mount was taken.
    playing: Option<Metadata>,
    way: Way,
    outlet: Option<Outlet>,
}

impl std::fmt::Debug for Pump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pump").field("path", &self.path).field("outlet", &self.outlet).finish_non_exhaustive()
    }
}

impl Pump {
    /// A pump of a stream whose sender calls it `claimed`, a media type.
    pub fn new(mount: Addr<Mount>, handle: &Arc<Handle>, claimed: Option<&str>) -> Self {
        if claimed.is_some_and(|claimed| media::believed(claimed).is_none() && !claimed.is_empty()) {
            tracing::warn!(mount = %handle.settings.path, "the media type that is claimed is none of a stream (or a page's), and is not passed on");
        }
        Self {
            mount,
            path: handle.settings.path.clone(),
            claimed: claimed.and_then(media::believed).map(str::to_owned),
            join: handle.settings.ogg_chaining == OggChaining::Hide,
            alike: None,
            playing: None,
            way: Way::Proving(Vec::new()),
            outlet: None,
        }
    }

    /// Takes the mount only if it is of the same kind as this media type.
    pub(super) fn only_like(mut self, alike: Option<Arc<str>>) -> Self {
        self.alike = alike;
        self
    }

    /// What is being played, said beside the stream. The mount hears of it once it is this stream's, and as long as it is.
    pub(super) fn say(&mut self, playing: Metadata) {
        match &self.outlet {
            Some(outlet) => outlet.gate().set_metadata(playing),
            None => self.playing = Some(playing),
        }
    }

    /// Takes what has come. `arrived` is called once, when there is something to hear.
    ///
    /// # Errors
    /// When the mount takes no more from this source.
    pub async fn push(&mut self, bytes: &[u8], arrived: impl FnOnce()) -> Result<(), PumpError> {
        let (mut out, mut skipped) = (Vec::new(), 0);
        match &mut self.way {
            Way::Proving(held) => {
                held.extend_from_slice(bytes);
                match kind::judge(held, self.claimed.as_deref()) {
                    Verdict::NeedMore if held.len() < PROOF_MOST => return Ok(()),
                    Verdict::Known(kind) => self.begin(Some(kind), arrived).await?,
                    Verdict::Unknown | Verdict::NeedMore => self.begin(None, arrived).await?,
                }
                return Ok(());
            }
            Way::Framed(_, framer) => {
                framer.push(&Piece { data: bytes, marks: Marks::default() }, &mut out);
                skipped = framer.newly_skipped_bytes();
            }
            Way::Raw => {
                if let Some(outlet) = &mut self.outlet {
                    outlet.put(bytes.into(), Marks { keyframe: true, ..Marks::default() });
                }
            }
        }
        if let Some(outlet) = &mut self.outlet {
            outlet.skip(skipped);
            outlet.take(out);
            outlet.hand_over_patiently().await?;
        }
        Ok(())
    }

    fn framer(&self, kind: Kind) -> Option<Framer> {
        kind.framer().map(|framer| framer.joining_links(self.join))
    }

    /// Where it stands between two pushes, for a pump in another process: what is known, what waits for its rest, and the streamheaders
    /// that the next chunk needs. `None`: it cannot be said.
    pub fn pack(&self) -> Option<(handover::Stream, Vec<u8>, Option<Arc<Headers>>)> {
        let (way, held) = match &self.way {
            Way::Proving(held) => (handover::Way::Proving, held.clone()),
            Way::Raw => (handover::Way::Raw, Vec::new()),
            Way::Framed(kind, framer) => {
                let (state, held) = framer.pack().ok()?;
                (handover::Way::Framed(kind.label().to_owned(), state), held)
            }
        };
        let (outlet, headers) = self.outlet.as_ref().map(Outlet::pack).unzip();
        let stream = handover::Stream { claimed: self.claimed.clone(), way, held: handover::Span::default(), outlet };
        Some((stream, held, headers))
    }

    /// A pump that goes on where one stood in another process. The mount is told nothing: to it nothing has happened.
    ///
    /// # Errors
    /// When that cannot be understood here, or the mount is gone.
    pub async fn resume(
        entry: &Entry,
        packed: handover::Stream,
        held: Box<[u8]>,
        headers: Option<Arc<Headers>>,
    ) -> Result<Self, NotResumed> {
        let mut pump = Self::new(entry.actor.clone(), &entry.handle, packed.claimed.as_deref());
        pump.way = match packed.way {
            handover::Way::Proving => Way::Proving(held.into()),
            handover::Way::Raw => Way::Raw,
            handover::Way::Framed(kind, state) => {
                let known = Kind::of_label(&kind).and_then(|kind| Some((kind, pump.framer(kind)?)));
                let (kind, framer) = known.ok_or(NotResumed::Kind(kind))?;
                Way::Framed(kind, Box::new(framer.resumed(state, held.into())?))
            }
        };
        if let Some(outlet) = packed.outlet {
            let gate: Gate = pump.mount.send(ReopenGate).await?;
            pump.outlet = Some(Outlet::unpack(gate, &outlet, headers));
        }
        Ok(pump)
    }

    /// Another process has it: the mount is not told of an end.
    pub fn let_go(mut self) {
        self.outlet = None;
    }

    /// It is known what the stream is: it takes the mount.
    async fn begin(&mut self, kind: Option<Kind>, arrived: impl FnOnce()) -> Result<(), PumpError> {
        let framer = kind.and_then(|kind| self.framer(kind).map(|framer| Way::Framed(kind, Box::new(framer))));
        let way = framer.unwrap_or(Way::Raw);
        let Way::Proving(held) = std::mem::replace(&mut self.way, way) else { return Ok(()) };
        let claimed = self.claimed.as_deref();
        let content_type: Arc<str> = match kind {
            Some(kind) => kind.content_type(claimed),
            None => claimed.unwrap_or("application/octet-stream").into(),
        };
        if let Some(alike) = self.alike.as_ref().filter(|alike| !kind::are_alike(alike, &content_type)) {
            return Err(PumpError::Unlike(kind::unlike(&content_type, alike)));
        }
        if let Some(claimed) = claimed
            && *content_type != *claimed
        {
            tracing::warn!(mount = %self.path, claimed, found = &*content_type, "the bytes are not what the encoder says; they are served by what they are");
        } else if kind.is_none() && claimed.and_then(|claimed| Kind::of_media_type(kind::essence(claimed))).is_some() {
            tracing::warn!(mount = %self.path, claimed, "the bytes are not what the encoder says, nor anything known; they are served as they come");
        }
        arrived();
        let gate: Gate = self.mount.send(OpenGate).await?;
        let outlet = self.outlet.insert(Outlet::new(gate));
        outlet.content_type = Some(content_type);
        self.playing.take().into_iter().for_each(|playing| outlet.gate().set_metadata(playing));
        let mut out = Vec::new();
        match &mut self.way {
            Way::Framed(_, framer) => {
                framer.push(&Piece { data: &held, marks: Marks::default() }, &mut out);
                outlet.skip(framer.newly_skipped_bytes());
            }
            Way::Raw | Way::Proving(_) => outlet.put(held.into(), Marks { keyframe: true, ..Marks::default() }),
        }
        outlet.take(out);
        Ok(outlet.hand_over_patiently().await?)
    }

    /// The stream is over: what is held is given, and the mount is told.
    pub async fn finish(mut self, fault: Option<Arc<str>>, arrived: impl FnOnce()) {
        if let Way::Proving(held) = &self.way
            && !held.is_empty()
        {
            let _ = self.begin(None, arrived).await; // a mount that is closed does not want it
        }
        let Some(mut outlet) = self.outlet.take() else { return };
        if let Way::Framed(_, framer) = &mut self.way {
            let mut out = Vec::new();
            framer.finish(&mut out);
            outlet.take(out);
            let _ = outlet.hand_over_patiently().await; // closed: nobody wants the rest
        }
        self.mount.do_send(SourceEnded { source: Some(outlet.gate().source()), fault });
    }
}

/// A pump that is let go without an end (its connection was lost between two requests, its relay is not wanted any more) is an
/// end all the same: the mount must not wait for a source that nobody has.
impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(outlet) = self.outlet.take() {
            self.mount.do_send(SourceEnded { source: Some(outlet.gate().source()), fault: Some("its sender went away".into()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::prelude::*;

    use super::*;
    use crate::engine::crew::{Clock, Crew};
    use crate::mount::Registry;
    use crate::mount::testing::settings;

    /// What was sent before it has been seen to.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Seen;

    impl Handler<Seen> for Mount {
        type Result = ();
        fn handle(&mut self, _: Seen, _: &mut Self::Context) {}
    }

    #[actix::test]
    async fn a_pump_that_is_let_go_leaves_no_mount_up_without_a_source() {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let registry = Arc::new(Registry::new(Arc::clone(&crew), 10));
        let entry = registry.open(settings("/a"), &actix_rt::Arbiter::new().handle()).expect("opened");
        for (finished, fault) in [(true, None), (false, Some("its sender went away"))] {
            let [mut first, mut second] = [(); 2].map(|()| Pump::new(entry.actor.clone(), &entry.handle, Some("text/plain")));
            for pump in [&mut first, &mut second] {
                pump.push(b"bytes that nobody knows", || ()).await.expect("taken");
            }
            drop(first);
            entry.actor.send(Seen).await.expect("the actor is there");
            assert!(entry.handle.status().up, "the end of one that was replaced is not the end of the other");
            if finished {
                second.finish(None, || ()).await;
            } else {
                drop(second);
            }
            entry.actor.send(Seen).await.expect("the actor is there");
            let status = entry.handle.status();
            assert_eq!((status.up, status.fault.as_deref()), (false, fault));
        }
        crew.stop();
    }
}
