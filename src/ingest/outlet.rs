//! The way from found chunks to the mount, whoever found them: streamheaders, gaps, what is too much.
//!
//! - After something had to be turned away, nothing is delivered up to the next keyframe, and that one is marked.
//! - What is being played is told to the mount where the stream itself says it: in Ogg comments, in ID3v2 tags.

use std::sync::Arc;
use std::time::Duration;

use super::framing::Framed;
use crate::fanout::chunk::Marks;
use crate::fanout::stats::add;
use crate::fanout::streamheader::Headers;
use crate::handover;
use crate::mount::{Delivery, Gate, GateError, Metadata};
use crate::units::Moment;
use crate::wire::tags::{self, Tags};

/// For how long it is only counted that a source delivers too much, once that was said.
const LOST_UNSAID: Duration = Duration::from_secs(60);

/// What one source has for its mount.
#[derive(Debug)]
pub(super) struct Outlet {
    gate: Gate,
    /// The media type, once known.
    pub(super) content_type: Option<Arc<str>>,
    headers: Arc<Headers>,
    /// Something was lost: wait for a keyframe.
    lost: bool,
    /// The next chunk does not follow on the last.
    discont: bool,
    /// The mount has not been told yet that upstream flushed.
    flushed: bool,
    /// The stream itself says what is being played: where it then says nothing, nothing is known.
    told: bool,
    /// When it was said last that it delivers more than the mount takes.
    lost_said: Option<Moment>,
    /// It has been said that its bytes make no sense.
    warned: bool,
    batch: Vec<Delivery>,
}

impl Outlet {
    /// The outlet of a source that begins.
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            gate,
            content_type: None,
            headers: Headers::none(),
            lost: false,
            discont: true,
            flushed: false,
            told: false,
            lost_said: None,
            warned: false,
            batch: Vec::new(),
        }
    }

    /// The outlet of a source that goes on where it stopped.
    pub(super) fn resuming(gate: Gate) -> Self {
        Self { discont: false, ..Self::new(gate) }
    }

    /// The outlet of a source that goes on where it stood in another process, with the streamheaders that its next chunk needs. The media
    /// type it is told like any other.
    pub(super) fn unpack(gate: Gate, packed: &handover::Outlet, headers: Option<Arc<Headers>>) -> Self {
        let &handover::Outlet { lost, discont, told, .. } = packed;
        let content_type = packed.content_type.as_deref().map(Arc::from);
        Self { content_type, headers: headers.unwrap_or_else(Headers::none), lost, discont, told, ..Self::new(gate) }
    }

    /// Where it stands between two deliveries, as plain data; and the streamheaders that the next chunk needs.
    pub(super) fn pack(&self) -> (handover::Outlet, Arc<Headers>) {
        let &Self { lost, discont, told, .. } = self;
        let content_type = self.content_type.as_deref().map(str::to_owned);
        (handover::Outlet { content_type, lost, discont, told, ..handover::Outlet::default() }, Arc::clone(&self.headers))
    }

    /// Something is missing before what comes next, and nothing that was left out here: whoever decodes starts at a keyframe.
    pub(super) fn miss(&mut self) {
        self.lost = true;
    }

    /// The way into the mount.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether these bytes are among the streamheaders, which everybody gets anyway.
    pub(super) fn holds_header(&self, data: &[u8]) -> bool {
        self.headers.holds(data)
    }

    /// From now on no streamheaders are known.
    pub(super) fn forget_headers(&mut self) {
        self.headers = Headers::none();
    }

    /// What comes next does not follow on what was, and what the mount holds is void.
    pub(super) fn flush(&mut self) {
        (self.discont, self.flushed) = (true, true);
    }

    /// So many bytes made no sense to a framer, before what it found. Where a source begins they are half of something, and no news.
    pub(super) fn skip(&mut self, bytes: u64) {
        let handle = self.gate.handle();
        add(&handle.source.skipped_bytes, bytes);
        if bytes > 0 && !self.discont && !self.warned {
            self.warned = true;
            tracing::warn!(mount = %handle.settings.path, bytes, content_type = self.content_type.as_deref(),
                "bytes of the source make no sense and are left out, up to where it can be decoded again; more are only counted");
        }
    }

    /// Takes what a framer found.
    pub(super) fn take(&mut self, framed: Vec<Framed>) {
        for framed in framed {
            match framed {
                Framed::Headers { parts, in_band } => {
                    if let Some(tags) = tags::of_ogg(&parts)
                        && (self.told || !tags.is_empty())
                    {
                        self.say(spoken(&tags));
                    }
                    self.set_headers(&parts, in_band);
                }
                Framed::Unit { data, marks } => {
                    // A framer gives such a tag as a unit of its own. Many carry something else than titles.
                    let tags = if marks.keyframe { None } else { tags::of_id3(&data) };
                    if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
                        self.say(spoken(&tags));
                    }
                    self.put(data, marks);
                }
            }
        }
    }

    /// The stream says what is being played.
    pub(super) fn say(&mut self, metadata: Metadata) {
        self.told = true;
        self.gate.set_metadata(metadata);
    }

    /// From the next chunk on these are needed. A set that is refused leaves none: with another one nobody could decode either.
    pub(super) fn set_headers<P: AsRef<[u8]>>(&mut self, parts: &[P], in_band: bool) {
        if self.headers.consists_of(parts, in_band) {
            return; // caps and tables come again and again
        }
        match self.gate.headers(parts, in_band) {
            Some(headers) => self.headers = headers,
            None => {
                self.headers = Headers::none();
                self.lose("the streamheaders are too large for ring_max, or memory is used up");
            }
        }
    }

    /// Takes a chunk.
    pub(super) fn put(&mut self, data: Box<[u8]>, marks: Marks) {
        self.put_at(data, marks, None);
    }

    /// The same for a chunk whose time on the stream's own clock is known, in nanoseconds.
    pub(super) fn put_at(&mut self, data: Box<[u8]>, marks: Marks, time: Option<u64>) {
        if data.is_empty() || (self.lost && !marks.keyframe) {
            return;
        }
        let marks = Marks { discont: marks.discont || self.discont || self.lost, ..marks };
        match self.gate.chunk(data, marks, &self.headers) {
            Some(chunk) => {
                self.batch.push(match time {
                    None => Delivery::Chunk(chunk),
                    Some(time) => Delivery::Timed(chunk, time),
                });
                (self.lost, self.discont) = (false, false);
            }
            None => self.lose("a chunk is too large for ring_max, or memory is used up"),
        }
    }

    fn lose(&mut self, why: &str) {
        let handle = self.gate.handle();
        let now = handle.now();
        // Each chunk may be a keyframe, and each second one too much.
        if !self.lost && self.lost_said.is_none_or(|said| now.since(said) >= LOST_UNSAID) {
            self.lost_said = Some(now);
            tracing::warn!(mount = %handle.settings.path, why,
                "the source delivers more than the mount takes; waiting for its next keyframe; for a minute more is only counted");
        }
        self.lost = true;
    }

    /// Delivers what has been taken.
    ///
    /// # Errors
    /// When the mount is closed to this source.
    pub(super) fn hand_over(&mut self) -> Result<(), GateError> {
        let batch = self.batch();
        let done = self.gate.deliver(batch, self.content_type.as_ref());
        self.noted(done)
    }

    /// The same, where a thread must not be held: a mount that takes no more for now is waited for, and with it the encoder.
    ///
    /// # Errors
    /// When the mount is closed to this source.
    pub(super) async fn hand_over_patiently(&mut self) -> Result<(), GateError> {
        let batch = self.batch();
        let done = self.gate.deliver_patiently(batch, self.content_type.as_ref()).await;
        self.noted(done)
    }

    fn batch(&mut self) -> Vec<Delivery> {
        if self.flushed {
            self.batch.insert(0, Delivery::Flush);
        }
        std::mem::take(&mut self.batch)
    }

    fn noted(&mut self, done: Result<(), GateError>) -> Result<(), GateError> {
        match done {
            Err(GateError::Full) => {
                self.lose("the mount's mailbox is full"); // a flush among it is told with what comes next
                Ok(())
            }
            done => {
                self.flushed = false;
                done
            }
        }
    }
}

fn spoken(tags: &Tags) -> Metadata {
    Metadata::new(tags.artist.as_deref(), tags.title.as_deref(), None)
}
