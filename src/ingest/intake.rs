//! From the appsink's buffers to chunks: framing or flags, streamheaders, gaps.
//!
//! - A buffer that carries the HEADER flag and is a member of the caps' streamheaders is not queued: everybody gets it with the
//!   headers.
//! - Empty buffers are passed over.

use gstreamer as gst;

use super::framing::{Framer, Piece, Recognition};
use super::media::Media;
use super::outlet::Outlet;
use crate::fanout::chunk::Marks;
use crate::mount::{Gate, GateError, Metadata, OggChaining};

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
    outlet: Outlet,
    caps: Option<gst::Caps>,
    way: Way,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("outlet", &self.outlet).finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake of a source that begins.
    pub fn new(gate: Gate) -> Self {
        Self { outlet: Outlet::new(gate), caps: None, way: Way::Flags }
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
        self.outlet.hand_over()
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
        self.outlet.flush();
        self.outlet.hand_over()
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
        self.outlet.take(out);
        self.outlet.hand_over()
    }

    /// Upstream says what is being played, or something else that nobody asked.
    pub fn take_tags(&mut self, list: &gst::TagListRef) {
        let title = list.get::<gst::tags::Title>().map(|value| value.get().to_owned());
        let artist = list.get::<gst::tags::Artist>().map(|value| value.get().to_owned());
        let url = list.get::<gst::tags::Homepage>().map(|value| value.get().to_owned());
        if title.is_some() || artist.is_some() {
            self.outlet.say(Metadata::new(artist.as_deref(), title.as_deref(), url.as_deref()));
        }
    }

    fn new_caps(&mut self, caps: &gst::CapsRef) {
        self.caps = Some(caps.to_owned());
        let Some(media) = Media::of(caps) else { return };
        let join = self.outlet.gate().handle().settings.ogg_chaining == OggChaining::Hide;
        let known = Framer::for_media(&media.name, media.mpegversion).map(|framer| framer.joining_links(join));
        let before = &mut self.outlet.content_type;
        let same_kind = before.as_ref() == Some(&media.content_type);
        if !same_kind || matches!(self.way, Way::Flags) {
            // Caps often come a second time, with streamheaders; a framer that is at work stays at work.
            let undecided = before.is_none() || !same_kind;
            *before = Some(media.content_type.clone());
            if undecided {
                self.way = known.map_or(Way::Flags, |framer| Way::Proving(framer, Vec::new()));
            }
        }
        if !matches!(self.way, Way::Framed(_)) {
            self.outlet.set_headers(&media.headers, false);
        }
    }

    /// GStreamer's flags, byte for byte.
    fn take_by_flags(&mut self, data: &[u8], marks: Marks, header: bool) {
        if header && self.outlet.holds_header(data) {
            return;
        }
        self.outlet.put(data.into(), marks);
    }

    fn take_framed(&mut self, data: &[u8], marks: Marks, header: bool) {
        let mut out = Vec::new();
        match &mut self.way {
            Way::Framed(framer) => {
                framer.push(&Piece { data, marks }, &mut out);
                self.outlet.skip(framer.newly_skipped_bytes());
            }
            Way::Proving(framer, held) => {
                held.push(Held { data: data.to_vec(), marks, header });
                let start: Vec<u8> = held.iter().flat_map(|held| held.data.iter().copied()).collect();
                let verdict = framer.recognises(&start);
                if verdict == Recognition::NeedMore {
                    return;
                }
                let Way::Proving(mut framer, held) = std::mem::replace(&mut self.way, Way::Flags) else { return };
                if verdict == Recognition::No {
                    tracing::warn!(mount = %self.outlet.gate().handle().settings.path, claimed = self.outlet.content_type.as_deref(),
                        "the bytes are not what the caps say; going by GStreamer's flags");
                    return held.iter().for_each(|held| self.take_by_flags(&held.data, held.marks, held.header));
                }
                held.iter().for_each(|held| framer.push(&Piece { data: &held.data, marks: held.marks }, &mut out));
                self.outlet.skip(framer.newly_skipped_bytes());
                self.outlet.forget_headers(); // the framer finds them in the bytes
                self.way = Way::Framed(framer);
            }
            Way::Flags => return,
        }
        self.outlet.take(out);
    }
}
