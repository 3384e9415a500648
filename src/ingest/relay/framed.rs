//! A stream that comes in frames, from a server of our own kind: chunks enter the mount as they were there, with their marks, times
//! and streamheaders.
//!
//! - The mount's bookmark says how far it has come in whose history. By it a link that broke goes on where it stopped, if the other
//!   side still has that; to this mount it is then as if nothing had happened, but for the time it took. So does the process that
//!   another has handed over to: a link stands still between two takes meanwhile, so that mark and history fit together.
//! - What is missing (the other side had to leave something out, or is another one) is marked, and begins with a keyframe.
//! - One that begins asks for as much of what was as its own newcomers are given; one that goes on from another upstream for nothing
//!   but the present, for what lies before it has been heard here.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;

use super::{Arrived, Upstream};
use crate::fanout::chunk::Marks;
use crate::fanout::ring::Ring;
use crate::ingest::framing::kind;
use crate::ingest::outlet::Outlet;
use crate::mount::actor::{OpenGate, ReopenGate, SourceEnded};
use crate::mount::bookmark::Mark;
use crate::mount::handle::Handle;
use crate::mount::registry::Entry;
use crate::mount::{Gate, Metadata, Mount};
use crate::units::{Extents, Moment};
use crate::wire::media;
use crate::wire::relay::{Asked, ChunkHead, Decoder, Frame, Notice};

/// The longest time after which a link goes on where it stopped: those who listen would be so far behind for ever.
const RESUME_MOST: Duration = Duration::from_secs(60);

/// What this upstream is asked for.
pub(super) fn wanted(upstream: &Upstream, handle: &Handle) -> Asked {
    let burst = || handle.settings.rules.wish.burst.clone();
    let heard = || handle.status().up || handle.broadcast.feed.read(Ring::has_begun);
    asked(handle.bookmark.mark().as_ref(), &upstream.to_string(), handle.now(), heard, burst)
}

fn asked(mark: Option<&Mark>, upstream: &str, now: Moment, heard: impl Fn() -> bool, burst: impl Fn() -> Extents) -> Asked {
    let recent = mark.filter(|mark| now.since(mark.at) < RESUME_MOST);
    match recent {
        // If it has begun anew since, all that it has is new.
        Some(mark) if mark.upstream == upstream => Asked { history: Some(burst()), resume: Some((mark.instance, mark.next)) },
        Some(_) => Asked { history: Some(Extents::NONE), resume: None },
        None if mark.is_none() && heard() => Asked { history: Some(Extents::NONE), resume: None },
        None => Asked { history: Some(burst()), resume: None },
    }
}

/// A framed stream on its way into a mount.
pub(super) struct Framed {
    mount: Addr<Mount>,
    handle: Arc<Handle>,
    upstream: String,
    decoder: Decoder,
    outlet: Option<Outlet>,
    instance: u64,
    /// The streamheaders of what comes, if they are known, and whether they are in band: until there is an outlet, which has its own.
    headers: Option<(Vec<Box<[u8]>>, bool)>,
    notice: Option<Notice>,
    /// It has been said that its streamheaders are too large.
    warned: bool,
    /// The place that is expected next.
    next: Option<u64>,
    arrived: Arrived,
    /// The mount is taken only by what is like this.
    alike: Option<Arc<str>>,
}

impl Framed {
    pub(super) fn new(entry: &Entry, upstream: &Upstream, arrived: Arrived, alike: Option<Arc<str>>) -> Self {
        Self {
            mount: entry.actor.clone(),
            handle: Arc::clone(&entry.handle),
            upstream: upstream.to_string(),
            decoder: Decoder::new(usize::try_from(entry.handle.settings.chunk_max()).unwrap_or(usize::MAX)),
            outlet: None,
            instance: 0,
            headers: None,
            notice: None,
            warned: false,
            next: None,
            arrived,
            alike,
        }
    }

    /// Whether a frame has begun and is not whole.
    pub(super) fn mid_frame(&self) -> bool {
        self.decoder.mid_frame()
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// When these are no frames, or the mount takes no more from this source.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), Arc<str>> {
        let mut frames = Vec::new();
        let done = self.decoder.take(bytes, |frame| frames.push(frame));
        for frame in frames {
            self.take_frame(frame).await?;
        }
        if let (Some(outlet), Some(next)) = (&mut self.outlet, self.next) {
            outlet.hand_over_patiently().await.map_err(|error| error.to_string())?;
            // Nothing is waited for in between: what the mount has taken is what is noted, though this should be cut off anywhere.
            let mark = Mark { upstream: self.upstream.clone(), instance: self.instance, next, at: self.handle.now() };
            self.handle.bookmark.put(mark);
        }
        done.map_err(|error| error.to_string().into())
    }

    async fn take_frame(&mut self, frame: Frame) -> Result<(), Arc<str>> {
        match frame {
            Frame::Epoch { instance, in_band, parts } => {
                if self.next.is_some() && instance != self.instance {
                    self.next = None; // it has been moved to another mount over there
                    if let Some(outlet) = &mut self.outlet {
                        outlet.miss();
                    }
                }
                self.instance = instance;
                match &mut self.outlet {
                    Some(outlet) => outlet.set_headers(&parts, in_band),
                    None => self.headers = Some((parts, in_band)),
                }
            }
            Frame::EpochTooLarge => {
                self.headers = None;
                if let Some(outlet) = &mut self.outlet {
                    outlet.forget_headers();
                }
                if !self.warned {
                    self.warned = true;
                    tracing::warn!(mount = %self.handle.settings.path,
                        "its streamheaders are too large for ring_max: nobody can decode without them; it is not said again of this link");
                }
            }
            Frame::Notice(notice) => {
                if let Some(outlet) = &mut self.outlet {
                    told(outlet, &notice);
                }
                self.notice = Some(notice);
            }
            Frame::Chunk(head, payload) => self.chunk(&head, payload).await?,
        }
        Ok(())
    }

    async fn chunk(&mut self, head: &ChunkHead, payload: Box<[u8]>) -> Result<(), Arc<str>> {
        if self.outlet.is_none() {
            if self.heard(head.place) {
                return Ok(()); // the other side could not place us where we asked to be
            }
            self.outlet = Some(self.begin(head.place).await?);
        }
        let Some(outlet) = &mut self.outlet else { return Ok(()) };
        if self.next.is_some_and(|next| next != head.place) {
            outlet.miss();
        }
        self.next = Some(head.place.saturating_add(1));
        let ChunkHead { keyframe, discont, gap, pts, dts, .. } = *head;
        outlet.put_at(payload, Marks { keyframe, discont, gap, pts, dts }, Some(head.time));
        Ok(())
    }

    /// Whether the mount has had what is at this place.
    fn heard(&self, place: u64) -> bool {
        self.handle
            .bookmark
            .mark()
            .is_some_and(|mark| mark.upstream == self.upstream && mark.instance == self.instance && place < mark.next)
    }

    /// There is something to hear: it takes the mount, or goes on as the one that had it.
    async fn begin(&mut self, place: u64) -> Result<Outlet, Arc<str>> {
        if let (Some(alike), Some(notice)) = (&self.alike, &self.notice)
            && !kind::are_alike(alike, &notice.media_type)
        {
            return Err(kind::unlike(&notice.media_type, alike).into());
        }
        super::now(&mut self.arrived);
        let mark = self.handle.bookmark.mark();
        let resumes = mark.is_some_and(|mark| mark.upstream == self.upstream && (mark.instance, mark.next) == (self.instance, place));
        let closed = |error: actix::MailboxError| Arc::<str>::from(error.to_string());
        let mut outlet = if resumes {
            let gate: Gate = self.mount.send(ReopenGate).await.map_err(closed)?;
            tracing::info!(mount = %self.handle.settings.path, upstream = self.upstream, place, "the relay goes on where it stopped");
            Outlet::resuming(gate)
        } else {
            Outlet::new(self.mount.send(OpenGate).await.map_err(closed)?)
        };
        if let Some((parts, in_band)) = self.headers.take() {
            outlet.set_headers(&parts, in_band);
        }
        if let Some(notice) = &self.notice {
            told(&mut outlet, notice);
        }
        Ok(outlet)
    }

    /// The link has ended; the mount is told.
    pub(super) fn finish(mut self, fault: Option<Arc<str>>) {
        self.end(fault);
    }

    fn end(&mut self, fault: Option<Arc<str>>) {
        if let Some(outlet) = self.outlet.take() {
            self.mount.do_send(SourceEnded { source: Some(outlet.gate().source()), fault });
        }
    }
}

/// Also one that is let go without an end: the mount must not wait for a source that nobody has.
impl Drop for Framed {
    fn drop(&mut self) {
        self.end(Some("the relay is not wanted any more".into()));
    }
}

fn told(outlet: &mut Outlet, notice: &Notice) {
    // What is no media type is as good as none: it would be in every listener's answer.
    if let Some(media_type) = media::believed(&notice.media_type) {
        outlet.content_type = Some(media_type.into());
    }
    outlet.say(Metadata::new(Some(&notice.artist), Some(&notice.title), Some(&notice.url)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_depends_on_what_was_heard_and_from_whom() {
        let mark = |upstream: &str, before: u64| {
            let at = Moment::ZERO + Duration::from_secs(100 - before);
            Mark { upstream: upstream.into(), instance: 7, next: 9, at }
        };
        let now = Moment::ZERO + Duration::from_secs(100);
        let burst = || "5s".parse::<Extents>().expect("an extent");
        let (history, nothing) = (Some(burst()), Some(Extents::NONE));
        for (name, mark, heard, want) in [
            ("a newborn", None, false, Asked { history: history.clone(), resume: None }),
            ("the same again", Some(mark("a", 5)), true, Asked { history: history.clone(), resume: Some((7, 9)) }),
            ("after too long", Some(mark("a", 61)), true, Asked { history, resume: None }),
            ("from another", Some(mark("b", 5)), true, Asked { history: nothing.clone(), resume: None }),
            ("after something else", None, true, Asked { history: nothing, resume: None }),
        ] {
            assert_eq!(asked(mark.as_ref(), "a", now, || heard, burst), want, "{name}");
        }
    }
}
