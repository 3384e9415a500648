//! What exporters for Icecast call these numbers, for dashboards and alerts that were made for them: off unless `metrics.icecast_exporter` is set.
//!
//! - Names and meaning are those of the exporters that read `/status-json.xsl`: a mount is there while it is on air and not hidden, and an
//!   address is what that document would say to the same client.
//! - A series has every label that one or the other exporter gives it (`listenurl` and `server_type`, or `mountpoint`), so that queries for either
//!   find it. Each mount has one series of a name, and it goes with the mount.
//!
//! Deliberately absent: what exporters count of themselves (there is none to fail), and totals whose names Prometheus would not have.

use super::catalogue::metric;
use super::{Kind, Metric, MountScene, Samples, Scene, unix_millis};

/// What is told beside flumen's own names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The names of exporters for Icecast too.
    pub icecast_exporter: bool,
}

/// Of which mount.
const OF_SOURCE: &[&str] = &["listenurl", "mountpoint", "server_type"];

/// Every name of theirs, in the order of the text.
pub static ICECAST_CATALOGUE: &[Metric] = &[
    metric(Kind::Gauge, "icecast_up", &[], "Always 1: who answers this is up.", |_, out| out.count(&[], 1)),
    metric(Kind::Gauge, "icecast_server_start", &[], "When the server was started, in seconds since 1970.", |scene, out| {
        out.count(&[], unix_millis(scene.measured.started_at) / 1000);
    }),
    metric(Kind::Gauge, "icecast_listeners", OF_SOURCE, "Listeners of a mount that is on air.", |scene, out| {
        each_source(scene, out, |mount| Some(mount.listeners()));
    }),
    metric(Kind::Gauge, "icecast_stream_start", OF_SOURCE, "When the source of a mount came, in seconds since 1970.", |scene, out| {
        each_source(scene, out, |mount| mount.entry.handle.status().up_since.map(|since| unix_millis(since) / 1000));
    }),
];

/// For each mount that Icecast would list one number.
fn each_source(scene: &Scene, out: &mut Samples, value: impl Fn(&MountScene) -> Option<u64>) {
    for mount in &scene.mounts {
        let handle = &mount.entry.handle;
        let status = handle.status();
        if !status.up || handle.settings.profile.hidden {
            continue;
        }
        if let Some(value) = value(mount) {
            let kind = status.content_type.as_deref().unwrap_or("application/octet-stream");
            out.count(&[&(scene.address)(mount.path()), mount.path(), kind], value);
        }
    }
}
