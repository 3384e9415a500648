//! The `host` command: the program that multifdsink and multisocketsink need around them. It accepts, answers, hands over; the sink does
//! the rest.
//!
//! ```text
//!  pipeline ─▶ sink ─▶ sockets
//!                ▲
//!  lobby ──add───┘ (multifdsink: the number of a descriptor that stays ours and is closed when the sink is done with it)
//! ```
//! The sink is set as a careful user would set it: see [`sink`]. Everything else about it is GStreamer's own.

use crate::cli::{HostArgs, Sink};

#[cfg(feature = "peers")]
pub(crate) fn run(args: &HostArgs) -> anyhow::Result<()> {
    hosting::run(args)
}

#[cfg(not(feature = "peers"))]
pub(crate) fn run(_: &HostArgs) -> anyhow::Result<()> {
    anyhow::bail!("this program was built without GStreamer; build it with --features peers")
}

/// Whether there is such a sink here; if not, what is missing.
#[cfg(feature = "peers")]
pub(crate) fn available(sink: &str) -> Result<(), String> {
    hosting::available(sink)
}

#[cfg(not(feature = "peers"))]
pub(crate) fn available(_: &str) -> Result<(), String> {
    Err("this program was built without the feature `peers`".to_owned())
}

/// The sink as launch syntax.
/// - `sync=false`: the stream is live already; waiting for its clock would only add to it.
/// - `burst-keyframe`, in bytes: newcomers get at least the burst and begin where a decoder can; the streamheader is sent by itself.
/// - `bytes-min` keeps as much history, which the sink would otherwise drop as soon as all have it.
/// - The limits are in time, as flumen's are: beyond ten seconds of lag on to a keyframe, beyond thirty out. The defaults, no limits,
///   let one stalled listener take all memory.
#[cfg_attr(not(any(feature = "peers", test)), expect(dead_code, reason = "only said to GStreamer"))]
fn sink(args: &HostArgs) -> String {
    let element = match args.sink {
        Sink::Multifdsink => "multifdsink",
        Sink::Multisocketsink => "multisocketsink",
    };
    let (burst, keep) = (args.burst, args.keep.max(args.burst));
    let limits = "unit-format=time units-soft-max=10000000000 units-max=30000000000 recover-policy=keyframe";
    format!("{element} name=sink sync=false sync-method=burst-keyframe burst-format=bytes burst-value={burst} bytes-min={keep} {limits}")
}

#[cfg(feature = "peers")]
mod hosting {
    use std::collections::HashMap;
    use std::net::TcpStream;
    use std::os::fd::{AsRawFd, OwnedFd, RawFd};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use anyhow::{Context, bail};
    use gstreamer as gst;
    use gstreamer::prelude::*;

    use super::{HostArgs, Sink, sink};
    use crate::lobby::Lobby;

    /// How often the pipeline is asked whether it still runs.
    const LOOK: Duration = Duration::from_millis(500);

    /// Descriptors that the sink sends to. They are ours to close, and only when it says that it is done.
    type Lent = Arc<Mutex<HashMap<RawFd, OwnedFd>>>;

    pub(super) fn available(sink: &str) -> Result<(), String> {
        gst::init().map_err(|e| e.to_string())?;
        for (element, package) in [(sink, "gstreamer1.0-plugins-base"), ("gdpdepay", "gstreamer1.0-plugins-bad")] {
            if gst::ElementFactory::find(element).is_none() {
                return Err(format!("GStreamer has no {element} here; Debian's package is {package}"));
            }
        }
        Ok(())
    }

    pub(super) fn run(args: &HostArgs) -> anyhow::Result<()> {
        gst::init()?;
        let version = gst::version_string();
        let mut lobby =
            Lobby::open(args.listen, "application/octet-stream", &version).with_context(|| format!("--listen {}", args.listen))?;
        let pipeline = gst::parse::launch(&format!("{} ! {}", args.pipeline, sink(args))).context("--pipeline")?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().ok().context("--pipeline: more than one element is needed")?;
        let sink = pipeline.by_name("sink").context("the sink is gone")?;
        let lent = Lent::default();
        if args.sink == Sink::Multifdsink {
            take_back(&sink, Arc::clone(&lent));
        }
        let bus = pipeline.bus().context("a pipeline without a bus")?;
        pipeline.set_state(gst::State::Playing)?;
        let ended = loop {
            for socket in lobby.turn(LOOK)? {
                match args.sink {
                    Sink::Multifdsink => lend(&sink, &lent, socket),
                    Sink::Multisocketsink => sink.emit_by_name::<()>("add", &[&gio::Socket::from_fd(socket.into())?]),
                }
            }
            if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Eos]) {
                break message;
            }
        };
        pipeline.set_state(gst::State::Null)?;
        match ended.view() {
            gst::MessageView::Error(error) => bail!("the pipeline failed: {}", error.error()),
            _ => Ok(()),
        }
    }

    fn lend(sink: &gst::Element, lent: &Lent, socket: TcpStream) {
        let number = socket.as_raw_fd();
        // Kept before the sink knows of it: it may be done with it before `add` returns.
        lent.lock().unwrap_or_else(PoisonError::into_inner).insert(number, socket.into());
        sink.emit_by_name::<()>("add", &[&number]);
    }

    fn take_back(sink: &gst::Element, lent: Lent) {
        sink.connect("client-fd-removed", false, move |values| {
            let number = values.get(1)?.get::<RawFd>().ok()?;
            lent.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            None
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_keeps_at_least_what_newcomers_get() {
        let args = |keep| HostArgs {
            sink: Sink::Multifdsink,
            listen: "127.0.0.1:1".parse().expect("an address"),
            pipeline: String::new(),
            burst: 1000,
            keep,
        };
        for (keep, want) in [(5000, "burst-value=1000 bytes-min=5000 "), (10, "burst-value=1000 bytes-min=1000 ")] {
            assert!(sink(&args(keep)).contains(want), "{keep}");
        }
    }
}
