//! In: GStreamer pipelines, encoders that push, servers that are pulled, and what is known of containers.
//!
//! ```text
//!   pipeline ─▶ appsink ─▶ Intake: caps · flags · framing ─┐
//!   encoder ─▶ push ──┐                                    ├▶ Outlet ─▶ mount::Gate
//!   server ◀── relay ─┴▶ Pump: first bytes · framing ──────┘
//! ```
//! Knowledge of chunks, keyframes and streamheaders lives here and nowhere else. The framers are the authority
//! on where a listener may start; a type without a framer, or bytes that are not what they claim to be, go by GStreamer's
//! flags, byte for byte.
//!
//! Deliberately absent: re-encoding, and retries (those are the supervisor's).

mod framed;
pub mod framing;
pub mod intake;
mod launch;
pub mod media;
mod outlet;
pub mod pipeline;
mod profile;
pub mod pump;
pub mod push;
pub mod recording;
pub mod relay;

pub use pipeline::{Ended, Pipeline, PipelineError, check};

/// GStreamer cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InitError(#[from] gstreamer::glib::Error);

/// Whether there is an element of this name. Only after [`init`].
pub fn is_there(element: &str) -> bool {
    gstreamer::ElementFactory::find(element).is_some()
}

/// Loads GStreamer. Called once, at start.
///
/// # Errors
/// When GStreamer cannot be loaded.
pub fn init() -> Result<(), InitError> {
    Ok(gstreamer::init()?)
}
