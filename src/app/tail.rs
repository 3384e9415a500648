//! The end of the event log, for operators who watch it in a browser.
//!
//! Lines of single listeners are left out: what happens to the audience is told by the second, and who a listener is, is for lists.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::chronicle::{Level, Line, Lines};

/// Where lines of single listeners come from.
const LISTENERS: &str = "flumen::listener";

/// Sends lines on, and never waits.
pub(super) struct Tail(pub(super) Lines);

impl<S: Subscriber> Layer<S> for Tail {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => return,
        };
        if metadata.target() == LISTENERS {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        self.0.take(Line::now(level, metadata.target(), words.message + &words.fields));
    }
}

/// What a line says: its message, then each field.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = if field.name() == "message" { write!(self.message, "{value}") } else { write!(self.fields, " {}={value}", field.name()) };
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_line_says_its_message_then_its_fields_and_nothing_of_single_listeners() {
        let (lines, mut out) = Lines::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Tail(lines)), || {
            tracing::warn!(mount = "/a\nb", count = 3, error = %"no", "something happened");
            tracing::info!(target: "flumen::listener", "listener left");
            tracing::trace!("not this");
        });
        let line = out.try_recv().expect("a line");
        assert_eq!((line.level, line.text.as_str()), (Level::Warn, "something happened mount=\"/a\\nb\" count=3 error=no"));
        assert!(out.try_recv().is_err());
    }
}
