//! In: GStreamer pipelines, and what is known of containers.
//!
//! ```text
//!   pipeline ─▶ appsink ─▶ Intake: caps · flags · framing ─▶ mount::Gate
//! ```
//! Knowledge of chunks, keyframes and streamheaders lives behind the appsink and nowhere else. The framers are the authority
//! on where a listener may start; a type without a framer, or bytes that are not what they claim to be, go by GStreamer's
//! flags, byte for byte.
//!
//! Deliberately absent: re-encoding, and retries (those are the supervisor's).

pub mod framing;
pub mod intake;
mod launch;
pub mod media;
pub mod pipeline;

pub use pipeline::{Ended, Pipeline, PipelineError, check};

/// GStreamer cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InitError(#[from] gstreamer::glib::Error);

/// Loads GStreamer. Called once, at start.
///
/// # Errors
/// When GStreamer cannot be loaded.
pub fn init() -> Result<(), InitError> {
    Ok(gstreamer::init()?)
}
