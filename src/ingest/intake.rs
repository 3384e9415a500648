//! From the appsink's buffers to chunks: framing or flags, streamheaders, gaps.
//!
//! - A buffer that carries the HEADER flag and is a member of the caps' streamheaders is not queued: everybody gets it with the
//!   headers.
//! - After something had to be turned away, nothing is delivered up to the next keyframe, and that one is marked.
//! - Empty buffers are passed over.

use std::sync::Arc;

use gstreamer as gst;

use super::framing::{Framed, Framer, Piece, Recognition};
use super::media::Media;
use crate::fanout::chunk::Marks;
use crate::fanout::streamheader::Headers;
use crate::mount::{Delivery, Gate, GateError};

/// How chunks are found.
enum Way {
    /// The caps claim a container we know; so many bytes are held until they prove it.
    Proving(Framer, Vec<Held>),
    Framed(Framer),
    /// By GStreamer's flags.
    Flags,
}

/// A buffer that waits for the verdict on its container.
struct Held {
    data: Vec<u8>,
    marks: Marks,
    header: bool,
}

/// What GStreamer says of a buffer; a delta is what is not a keyframe.
fn marks_of(buffer: &gst::BufferRef) -> Marks {
    let flags = buffer.flags();
    Marks {
        keyframe: !flags.contains(gst::BufferFlags::DELTA_UNIT),
        discont: flags.contains(gst::BufferFlags::DISCONT),
        gap: flags.contains(gst::BufferFlags::GAP),
        pts: buffer.pts().map(gst::ClockTime::nseconds),
        dts: buffer.dts().map(gst::ClockTime::nseconds),
    }
}

/// Takes what an appsink brings, and delivers it to a mount.
pub struct Intake {
    gate: Gate,
    caps: Option<gst::Caps>,
    content_type: Option<Arc<str>>,
    headers: Arc<Headers>,
    way: Way,
    /// Something was lost: wait for a keyframe.
    lost: bool,
    /// The next chunk does not follow on the last.
    discont: bool,
    /// The mount has not been told yet that upstream flushed.
    flushed: bool,
    batch: Vec<Delivery>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake of a source that begins.
    pub fn new(gate: Gate) -> Self {
        Self {
            gate,
            caps: None,
            content_type: None,
            headers: Headers::none(),
            way: Way::Flags,
            lost: false,
            discont: true,
            flushed: false,
            batch: Vec::new(),
        }
    }

    /// Takes one buffer and the caps that are valid for it.
    ///
    /// # Errors
    /// When the mount is closed to this source.
    pub fn take(&mut self, caps: Option<&gst::CapsRef>, buffer: &gst::BufferRef) -> Result<(), GateError> {
        if let Some(caps) = caps
            && self.caps.as_deref().is_none_or(|known| known != caps)
        {
            self.new_caps(caps);
        }
        let Ok(map) = buffer.map_readable() else { return Ok(()) };
        if map.is_empty() {
            return Ok(());
        }
        let (marks, header) = (marks_of(buffer), buffer.flags().contains(gst::BufferFlags::HEADER));
        match &self.way {
            Way::Flags => self.take_by_flags(&map, marks, header),
            Way::Proving(..) | Way::Framed(_) => self.take_framed(&map, marks, header),
        }
        self.hand_over()
    }

    /// Upstream flushed.
    ///
    /// # Errors
    /// When the mount is closed to this source.
    pub fn flush(&mut self) -> Result<(), GateError> {
        match &mut self.way {
            Way::Framed(framer) => framer.gap(),
            Way::Proving(_, held) => held.clear(),
            Way::Flags => {}
        }
        (self.discont, self.flushed) = (true, true);
        self.hand_over()
    }

    /// The stream is over: what is held is given.
    ///
    /// # Errors
    /// When the mount is closed to this source.
    pub fn finish(&mut self) -> Result<(), GateError> {
        let mut out = Vec::new();
        match std::mem::replace(&mut self.way, Way::Flags) {
            Way::Framed(mut framer) => framer.finish(&mut out),
            Way::Proving(_, held) => held.iter().for_each(|held| self.take_by_flags(&held.data, held.marks, held.header)),
            Way::Flags => {}
        }
        self.take_all(out);
        self.hand_over()
    }

    fn new_caps(&mut self, caps: &gst::CapsRef) {
        self.caps = Some(caps.to_owned());
        let Some(media) = Media::of(caps) else { return };
        let known = Framer::for_media(&media.name, media.mpegversion);
        let same_kind = self.content_type.as_ref() == Some(&media.content_type);
        if !same_kind || matches!(self.way, Way::Flags) {
            // Caps often come a second time, with streamheaders; a framer that is at work stays at work.
            let undecided = self.content_type.is_none() || !same_kind;
            self.content_type = Some(media.content_type.clone());
            if undecided {
                self.way = known.map_or(Way::Flags, |framer| Way::Proving(framer, Vec::new()));
            }
        }
        if !matches!(self.way, Way::Framed(_)) {
            self.set_headers(&media.headers, false);
        }
    }

    /// GStreamer's flags, byte for byte.
    fn take_by_flags(&mut self, data: &[u8], marks: Marks, header: bool) {
        if header && self.headers.holds(data) {
            return;
        }
        self.put(data.into(), marks);
    }

    fn take_framed(&mut self, data: &[u8], marks: Marks, header: bool) {
        let mut out = Vec::new();
        match &mut self.way {
            Way::Framed(framer) => framer.push(&Piece { data, marks }, &mut out),
            Way::Proving(framer, held) => {
                held.push(Held { data: data.to_vec(), marks, header });
                let start: Vec<u8> = held.iter().flat_map(|held| held.data.iter().copied()).collect();
                let verdict = framer.recognises(&start);
                if verdict == Recognition::NeedMore {
                    return;
                }
                let Way::Proving(mut framer, held) = std::mem::replace(&mut self.way, Way::Flags) else { return };
                if verdict == Recognition::No {
                    tracing::warn!(mount = %self.gate.handle().settings.path, claimed = self.content_type.as_deref(),
                        "the bytes are not what the caps say; going by GStreamer's flags");
                    return held.iter().for_each(|held| self.take_by_flags(&held.data, held.marks, held.header));
                }
                held.iter().for_each(|held| framer.push(&Piece { data: &held.data, marks: held.marks }, &mut out));
                self.headers = Headers::none(); // the framer finds them in the bytes
                self.way = Way::Framed(framer);
            }
            Way::Flags => return,
        }
        self.take_all(out);
    }

    fn take_all(&mut self, framed: Vec<Framed>) {
        for framed in framed {
            match framed {
                Framed::Headers { parts, in_band } => self.set_headers(&parts, in_band),
                Framed::Unit { data, marks } => self.put(data, marks),
            }
        }
    }

    /// From the next chunk on these are needed. A set that is refused leaves none: with another one nobody could decode either.
    fn set_headers<P: AsRef<[u8]>>(&mut self, parts: &[P], in_band: bool) {
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

    fn put(&mut self, data: Box<[u8]>, marks: Marks) {
        if data.is_empty() || (self.lost && !marks.keyframe) {
            return;
        }
        let marks = Marks { discont: marks.discont || self.discont || self.lost, ..marks };
        match self.gate.chunk(data, marks, &self.headers) {
            Some(chunk) => {
                self.batch.push(Delivery::Chunk(chunk));
                (self.lost, self.discont) = (false, false);
            }
            None => self.lose("a chunk is too large for ring_max, or memory is used up"),
        }
    }

    fn lose(&mut self, why: &str) {
        if !self.lost {
            tracing::warn!(mount = %self.gate.handle().settings.path, why, "the source delivers more than the mount takes; waiting for its next keyframe");
        }
        self.lost = true;
    }

    fn hand_over(&mut self) -> Result<(), GateError> {
        if self.flushed {
            self.batch.insert(0, Delivery::Flush);
        }
        match self.gate.deliver(std::mem::take(&mut self.batch), self.content_type.as_ref()) {
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
