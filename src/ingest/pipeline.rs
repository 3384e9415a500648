//! One GStreamer pipeline: from the operator's launch string to an appsink, until it ends.
//!
//! - The appsink is ours and appended: a few buffers, never synchronised to the clock, nothing dropped out of segment.
//! - A pipeline ends once: by error, by end of stream, or by being stopped. It is told once, and stopping may block (elements
//!   do), so it happens where blocking is allowed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use super::intake::Intake;
use crate::mount::Gate;

/// Buffers that wait in the appsink.
const APPSINK_BUFFERS: u32 = 8;
/// Errors of one pipeline that are logged; one fault often makes every element complain.
const ERRORS_LOGGED: u32 = 8;

/// Why a pipeline ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The stream is over.
    EndOfStream,
    /// An element failed.
    Fault(Arc<str>),
}

/// Why a launch string is no pipeline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PipelineError(String);

/// A pipeline that runs.
#[derive(Debug)]
pub struct Pipeline {
    pipeline: gst::Pipeline,
}

impl Drop for Pipeline {
    /// May block, as elements please.
    fn drop(&mut self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
        if self.pipeline.set_state(gst::State::Null).is_err() {
            tracing::warn!("a pipeline did not stop cleanly");
        }
    }
}

/// Whether a launch string can be made into a pipeline.
///
/// # Errors
/// Says which part of it is wrong.
pub fn check(description: &str) -> Result<(), PipelineError> {
    build(description).map(drop)
}

/// The operator's elements with our appsink at their open end.
fn build(description: &str) -> Result<(gst::Pipeline, gst_app::AppSink), PipelineError> {
    if description.trim().is_empty() {
        return Err(PipelineError("the pipeline is empty".into()));
    }
    // A launch string may end in caps, which the parser only takes with an element behind them.
    let element = match parse(description) {
        Ok(element) => element,
        Err(first) => parse(&format!("{description} ! identity silent=true")).map_err(|_| explain(description, &first))?,
    };
    let sink = gst_app::AppSink::builder().name("flumen").sync(false).max_buffers(APPSINK_BUFFERS).enable_last_sample(false).build();
    sink.set_drop_out_of_segment(false);
    let pipeline = gst::Pipeline::new();
    let internal = |error: &dyn std::fmt::Display| PipelineError(format!("cannot be put together: {error}"));
    pipeline.add_many([&element, sink.upcast_ref()]).map_err(|error| internal(&error))?;
    if let Some(open_end) = open_end(&element) {
        let into = sink.static_pad("sink").ok_or_else(|| internal(&"no sink pad"))?;
        if let Some(other) = second_open_end(&element) {
            return Err(PipelineError(format!(
                "it has two open ends: {} and {other}; a mount takes one stream, so join them in a muxer",
                owner(&open_end)
            )));
        }
        open_end.link(&into).map_err(|_| PipelineError("its open end cannot be linked to a sink".into()))?;
        return Ok((pipeline, sink));
    }
    // An end that opens only when data flows: let the parser link it when it does.
    let text = format!(
        "{description} ! appsink name=flumen sync=false enable-last-sample=false drop-out-of-segment=false max-buffers={APPSINK_BUFFERS}"
    );
    let late = gst::parse::launch_full(&text, None, gst::ParseFlags::FATAL_ERRORS)
        .ok()
        .and_then(|element| element.downcast::<gst::Pipeline>().ok());
    let sink = late.as_ref().and_then(|pipeline| pipeline.by_name("flumen")?.downcast::<gst_app::AppSink>().ok());
    late.zip(sink).ok_or_else(|| {
        PipelineError("it has no open end: leave out the sink, flumen appends its own (and end with the muxer or parser)".into())
    })
}

/// What GStreamer's parser says, and the elements it did not find.
struct Unparsed {
    error: gst::glib::Error,
    missing: Vec<String>,
}

fn parse(text: &str) -> Result<gst::Element, Unparsed> {
    let mut context = gst::ParseContext::new();
    let flags = gst::ParseFlags::FATAL_ERRORS | gst::ParseFlags::NO_SINGLE_ELEMENT_BINS;
    gst::parse::bin_from_description_full(text, true, Some(&mut context), flags)
        .map_err(|error| Unparsed { error, missing: context.missing_elements().iter().map(ToString::to_string).collect() })
}

fn open_end(element: &gst::Element) -> Option<gst::Pad> {
    element.src_pads().into_iter().find(|pad| !pad.is_linked())
}

/// The element with an open end beside the one that the parser made a pad of the whole for.
fn second_open_end(element: &gst::Element) -> Option<String> {
    let inside = element.downcast_ref::<gst::Bin>().and_then(|bin| bin.find_unlinked_pad(gst::PadDirection::Src));
    inside.or_else(|| element.src_pads().into_iter().filter(|pad| !pad.is_linked()).nth(1)).map(|pad| owner(&pad))
}

/// The name of the element that a pad belongs to.
fn owner(pad: &gst::Pad) -> String {
    let target = pad.downcast_ref::<gst::GhostPad>().and_then(|ghost| ghost.target());
    target.as_ref().unwrap_or(pad).parent_element().map(|element| element.name().to_string()).unwrap_or_default()
}

/// GStreamer's words, and where in the launch string they apply.
fn explain(description: &str, Unparsed { error, missing }: &Unparsed) -> PipelineError {
    let message = error.message().trim_end_matches('.').to_string();
    if error.matches(gst::ParseError::Syntax) {
        return PipelineError(format!("{message}: {}", super::launch::fault(description, &|text| understood(text))));
    }
    // The list also names elements that are there but were not made for another reason.
    let missing = if message.contains("no element") { missing.as_slice() } else { &[] };
    let linked_to = || {
        Some(
            message
                .strip_prefix("could not link ")?
                .split_once(" to ")?
                .1
                .split([' ', ','])
                .next()?
                .trim_end_matches(|c: char| c.is_ascii_digit()),
        )
    };
    let named = missing.first().map(String::as_str).or_else(|| message.split('"').nth(1)).or_else(linked_to);
    let place = named.filter(|name| !name.is_empty()).and_then(|name| Some((name, description.find(name)?)));
    let mut text = message.clone();
    if let Some((name, at)) = place {
        let part = description[..at].matches('!').count() + 1;
        text.push_str(&format!(
            " (at character {}, part {part}: …{}…)",
            description[..at].chars().count() + 1,
            around(description, at, name.len())
        ));
    }
    if !missing.is_empty() {
        text.push_str(&format!("; is the plugin that has {} installed? (gst-inspect-1.0 {})", missing.join(", "), missing[0]));
    }
    PipelineError(text)
}

/// Whether the parser can read a text, even if it cannot make a pipeline of it.
fn understood(text: &str) -> bool {
    parse(text).err().is_none_or(|unparsed| !unparsed.error.matches(gst::ParseError::Syntax))
}

fn around(text: &str, at: usize, length: usize) -> &str {
    let start = text[..at].char_indices().rev().nth(12).map_or(0, |(i, _)| i);
    let end = text[at + length..].char_indices().nth(12).map_or(text.len(), |(i, _)| at + length + i);
    &text[start..end]
}

impl Pipeline {
    /// Builds and starts a pipeline that fills a mount. `ended` is called once, from a thread of GStreamer's. May block.
    ///
    /// # Errors
    /// When the launch string is no pipeline. What goes wrong later comes through `ended`.
    pub fn start(description: &str, gate: Gate, ended: impl Fn(Ended) + Send + Sync + 'static) -> Result<Self, PipelineError> {
        let (pipeline, sink) = build(description)?;
        let mount = gate.handle().settings.path.clone();
        let told = AtomicBool::new(false);
        let ended = Arc::new(move |how| {
            if !told.swap(true, Ordering::AcqRel) {
                ended(how);
            }
        });
        let intake = Arc::new(Mutex::new(Intake::new(gate)));
        watch_sink(&sink, &intake, &ended);
        watch_bus(&pipeline, mount, Arc::clone(&ended))?;
        if pipeline.set_state(gst::State::Playing).is_err() {
            // Mostly an element has said so on the bus already, with a name and a reason; then this comes too late to count.
            ended(Ended::Fault("the pipeline did not start, and no element said why".into()));
        }
        Ok(Self { pipeline })
    }
}

fn watch_sink(sink: &gst_app::AppSink, intake: &Arc<Mutex<Intake>>, ended: &Arc<impl Fn(Ended) + Send + Sync + 'static>) {
    let (samples, end, events) = (Arc::clone(intake), Arc::clone(intake), Arc::clone(intake));
    let ended = Arc::clone(ended);
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
            let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
            let taken = samples.lock().unwrap_or_else(PoisonError::into_inner).take(sample.caps(), buffer);
            // Closed: another source has taken over, or the server is stopping.
            taken.map(|()| gst::FlowSuccess::Ok).map_err(|_| gst::FlowError::Eos)
        })
        .eos(move |_| {
            let _ = end.lock().unwrap_or_else(PoisonError::into_inner).finish(); // closed: nobody wants the rest
            ended(Ended::EndOfStream);
        })
        .build();
    sink.set_callbacks(callbacks);
    if let Some(pad) = sink.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::EVENT_FLUSH | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            match info.event().map(|event| event.view()) {
                Some(gst::EventView::FlushStop(_)) => {
                    let _ = events.lock().unwrap_or_else(PoisonError::into_inner).flush(); // closed: nothing to void
                }
                Some(gst::EventView::Tag(tags)) => events.lock().unwrap_or_else(PoisonError::into_inner).take_tags(tags.tag()),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }
}

fn watch_bus(
    pipeline: &gst::Pipeline,
    mount: crate::units::MountPath,
    ended: Arc<impl Fn(Ended) + Send + Sync + 'static>,
) -> Result<(), PipelineError> {
    let bus = pipeline.bus().ok_or_else(|| PipelineError("it has no bus".into()))?;
    let logged = AtomicU32::new(0);
    bus.set_sync_handler(move |_, message| {
        let element = message.src().map(|object| object.name().to_string()).unwrap_or_default();
        match message.view() {
            gst::MessageView::Error(error) => {
                let (what, detail) = (error.error(), error.debug().unwrap_or_default());
                if logged.fetch_add(1, Ordering::Relaxed) < ERRORS_LOGGED {
                    tracing::error!(%mount, element, error = %what, detail = %detail, "pipeline failed");
                }
                ended(Ended::Fault(format!("{element}: {what}").into()));
            }
            gst::MessageView::Warning(warning) if logged.fetch_add(1, Ordering::Relaxed) < ERRORS_LOGGED => {
                tracing::warn!(%mount, element, warning = %warning.error(), "pipeline warns");
            }
            gst::MessageView::Eos(_) => ended(Ended::EndOfStream),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_string_is_checked_and_the_wrong_part_named() {
        gst::init().expect("GStreamer");
        for good in [
            "audiotestsrc is-live=true ! lamemp3enc bitrate=128 ! mpegaudioparse",
            "audiotestsrc",
            "videotestsrc ! vp8enc ! webmmux name=m streamable=true  audiotestsrc ! vorbisenc ! m.",
            "webmmux name=m streamable=true  videotestsrc ! vp8enc ! m.  audiotestsrc ! vorbisenc ! m.",
            "tcpserversrc port=0 ! gdpdepay",
            "audiotestsrc ! voaacenc ! aacparse ! audio/mpeg,stream-format=adts",
            "filesrc location=x ! oggdemux ! vorbisparse ! oggmux",
            "fakesrc ! parsebin",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("", "empty"),
            ("audiotestsrc ! lamemp3en bitrate=128", "lamemp3en"),
            ("audiotestsrc ! lamemp3en bitrate=128", "part 2"),
            ("audiotestsrc ! lamemp3en bitrate=128", "installed?"),
            ("audiotestsrc ! lamemp3enc bitrat=128", "(at character 27, part 2: …! lamemp3enc bitrat=128…)"),
            ("audiotestsrc ! vp8enc", "link"),
            ("audiotestsrc ! fakesink", "no open end"),
            ("audiotestsrc ! vp8enc", "part 2"),
            ("audiotestsrc !! lamemp3enc", "syntax"),
            ("audiotestsrc !! lamemp3enc", "part 2 is empty"),
            ("audiotestsrc ! lamemp3enc !", "ends with !"),
            ("audiotestsrc ! (", "part 2"),
            ("audiotestsrc ! lamemp3en ! audio/mpeg", "lamemp3en"),
            ("audiotestsrc ! lamemp3enc ! audio/mpeg,, ! mpegaudioparse", "audio/mpeg,,"),
            ("audiotestsrc ! vorbisenc  audiotestsrc ! vorbisenc", "two open ends: vorbisenc"),
            ("audiotestsrc audiotestsrc", "two open ends"),
        ] {
            let error = check(bad).expect_err(bad).to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
