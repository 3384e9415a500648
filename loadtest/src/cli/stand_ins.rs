//! What may be asked of the stand-ins that `compare` measures beside servers: the floor, and a host for GStreamer's own sinks.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::{bytes, duration};

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// Where listeners connect
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where the stream comes from (a `loadtest source --listen`)
    #[arg(long)]
    pub(crate) source: SocketAddr,
    /// How long data waits to be sent together
    #[arg(long, default_value = "250ms", value_parser = duration)]
    pub(crate) window: Duration,
    /// Send buffer of each listener (default: the system's)
    #[arg(long, value_parser = bytes)]
    pub(crate) send_buffer: Option<u32>,
}

/// GStreamer's sinks for many clients, which need a program around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sink {
    Multifdsink,
    Multisocketsink,
}

#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    pub(crate) sink: Sink,
    /// Where listeners connect
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// What fills the sink, in GStreamer launch syntax
    #[arg(long)]
    pub(crate) pipeline: String,
    /// What a newcomer gets at once
    #[arg(long, default_value = "64KiB", value_parser = bytes)]
    pub(crate) burst: u32,
    /// History kept, at least the burst and a group of pictures
    #[arg(long, default_value = "512KiB", value_parser = bytes)]
    pub(crate) keep: u32,
}
