//! The metrics by name, kind, labels and meaning, and where each is read.
//!
//! - The names are what dashboards, alerts and `docs/` rest on: one is never renamed, and its kind and labels stay.
//! - Reading one costs atomics only; what takes a lock was read into the `Scene` before.

use std::sync::atomic::Ordering;

use super::{Kind, Metric, MountScene, Samples, Scene, UpgradeState, unix_millis};
use crate::door::acceptor::AcceptError;
use crate::door::patrol::Pressure;
use crate::door::proxied::Outcome;
use crate::door::tls::Handshake;
use crate::engine::admission::FULL;
use crate::engine::pulse::Thread;
use crate::fanout::departure::{Departure, Refusal};
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::stats::{HistogramView, read};

/// Histograms with the same bounds, as one.
fn sum(views: impl Iterator<Item = HistogramView>) -> Option<HistogramView> {
    views.reduce(|mut all, one| {
        all.cumulative.iter_mut().zip(&one.cumulative).for_each(|(all, one)| all.1 += one.1);
        all.count += one.count;
        all.sum_seconds += one.sum_seconds;
        all
    })
}

pub(super) const fn metric(
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scene, &mut Samples),
) -> Metric {
    Metric { name, kind, labels, help, read }
}

const MOUNT: &[&str] = &["mount"];
const SHARD: &[&str] = &["shard"];

/// For each mount one number.
macro_rules! each_mount {
    (|$mount:ident| $value:expr) => {
        |scene, out| scene.mounts.iter().for_each(|$mount| out.number(&[$mount.path()], $value))
    };
}

/// For each mount one number per member of a closed set.
macro_rules! each_mount_and {
    ($all:expr, |$mount:ident, $reason:ident| $value:expr) => {
        |scene, out| {
            scene.mounts.iter().for_each(|$mount| $all.into_iter().for_each(|$reason| out.count(&[$mount.path(), $reason.label()], $value)))
        }
    };
}

/// For each mount one histogram.
macro_rules! each_mount_histogram {
    ($field:ident) => {
        |scene, out| {
            let view = |mount: &MountScene| mount.entry.handle.broadcast.counters.$field.view();
            scene.mounts.iter().for_each(|mount| out.histogram(&[mount.path()], &view(mount)))
        }
    };
}

/// For each shard one number.
macro_rules! each_shard {
    (|$counters:ident| $value:expr) => {
        |scene, out| scene.shards().for_each(|(shard, $counters)| out.number(&[&shard], $value))
    };
}

/// Every metric of ours, in the order of the text.
#[rustfmt::skip] // a table reads better in its columns
pub static CATALOGUE: &[Metric] = {
    use Kind::{Counter, Gauge, Histogram};
    &[
        // The server.
        metric(Gauge, "flumen_build_info", &["version"], "Always 1; the label tells what runs.",
            |_, out| out.count(&[env!("CARGO_PKG_VERSION")], 1)),
        metric(Gauge, "flumen_start_time_seconds", &[], "When the server was started, in seconds since 1970; an upgrade is no start.",
            |scene, out| out.number(&[], unix_millis(scene.measured.started_at) as f64 / 1e3)),
        metric(Gauge, "flumen_config_last_reload_successful", &[], "Whether the configuration was good when it was last read.",
            |scene, out| out.count(&[], scene.measured.reload.successful.load(Ordering::Relaxed).into())),
        metric(Gauge, "flumen_config_last_reload_timestamp_seconds", &[], "When a good configuration was last read, in seconds since 1970.",
            |scene, out| out.number(&[], read(&scene.measured.reload.at) as f64 / 1e3)),
        metric(Counter, "flumen_upgrades_total", &["result"], "Times that another binary was to take over, by what came of it.",
            |scene, out| {
                let upgrades = &scene.measured.upgrades;
                [(UpgradeState::DONE, &upgrades.done), (UpgradeState::FAILED, &upgrades.failed)].into_iter()
                    .for_each(|(result, count)| out.count(&[result], read(count)));
            }),
        metric(Gauge, "flumen_upgrade_stall_seconds", &[], "How long listeners stood still when this process took over from another; zero if it did not.",
            |scene, out| out.number(&[], read(&scene.measured.upgrades.stall_micros) as f64 / 1e6)),
        // What is told to others.
        metric(Counter, "flumen_log_dropped_total", &["log"], "Log lines that were dropped because whoever takes them was too slow, or full.",
            |scene, out| {
                out.count(&["event"], scene.measured.events_dropped());
                out.count(&["access"], scene.measured.registry.witnesses().journal.dropped());
            }),
        metric(Counter, "flumen_webhook_events_total", &["result"], "Events for webhooks, by what became of them.",
            |scene, out| scene.measured.registry.witnesses().webhooks.outcomes().all().iter().for_each(|(word, n)| out.count(&[word], *n))),
        metric(Counter, "flumen_auth_requests_total", &["result"],
            "Questions to authentication backends: granted, refused, failed (no answer that means anything), and spared a backend that had failed.",
            |scene, out| scene.measured.registry.witnesses().bouncer.asked().all().iter().for_each(|(word, n)| out.count(&[word], *n))),
        metric(Counter, "flumen_auth_notices_total", &["result"],
            "What authentication backends were told of listeners and sources that came and went, by what became of it.",
            |scene, out| scene.measured.registry.witnesses().bouncer.told().all().iter().for_each(|(word, n)| out.count(&[word], *n))),
        // The audience.
        metric(Gauge, "flumen_listeners", MOUNT, "Listeners now.", each_mount!(|m| m.listeners() as f64)),
        metric(Gauge, "flumen_listeners_peak", MOUNT, "The most listeners there were at once since the start.",
            each_mount!(|m| m.entry.handle.places.peak().max(m.listeners()) as f64)),
        metric(Gauge, "flumen_listeners_limit", MOUNT,
            "The most listeners there may be, max_listeners; absent where there is none; mount is empty for the server's own.",
            |scene, out| {
                let mut tell = |mount: &str, most: u64| if most < u64::MAX { out.count(&[mount], most) };
                tell("", scene.measured.registry.places().most());
                scene.mounts.iter().for_each(|m| tell(m.path(), m.entry.handle.places.most()));
            }),
        metric(Counter, "flumen_listener_joins_total", MOUNT, "Listeners that joined.", each_mount!(|m| m.joins as f64)),
        metric(Counter, "flumen_listener_departures_total", &["mount", "reason"], "Listeners that left, by reason.",
            each_mount_and!(Departure::ALL, |m, why| m.departures[why.index()])),
        metric(Counter, "flumen_refusals_total", &["mount", "reason"],
            "Requests turned away before joining, by reason; mount is empty where none was found.",
            |scene, out| {
                let registry = &scene.measured.registry;
                for why in Refusal::ALL {
                    let outside = if why == Refusal::Banned { scene.measured.patrol.turned_away() } else { 0 };
                    out.count(&["", why.label()], registry.refusals(None, why) + outside);
                    scene.mounts.iter().for_each(|m| out.count(&[m.path(), why.label()], registry.refusals(Some(&m.entry), why)));
                }
            }),
        metric(Gauge, "flumen_peer_load_ratio", &["peer"], "How full a server is that newcomers may be sent to, 0 to 1; absent while it does not answer.",
            |scene, out| scene.measured.peers.all().iter().for_each(|peer| if let Some(load) = peer.load { out.number(&[&peer.address], load as f64 / FULL as f64) })),
        metric(Counter, "flumen_peer_redirects_total", &["peer"], "Newcomers sent to another server, before this one is full or when it is.",
            |scene, out| scene.measured.peers.all().iter().for_each(|peer| out.count(&[&peer.address], peer.sent))),
        metric(Histogram, "flumen_first_byte_seconds", MOUNT, "From a listener's connection to the first byte of its stream.",
            each_mount_histogram!(first_byte)),
        metric(Histogram, "flumen_session_seconds", &[], "How long listeners stayed, counted when they leave, over all mounts.",
            |scene, out| {
                let views = scene.mounts.iter().map(|m| m.entry.handle.broadcast.counters.session.view());
                if let Some(view) = sum(views.chain(scene.sessions.iter().cloned())) { out.histogram(&[], &view); }
            }),
        // Quality.
        metric(Histogram, "flumen_listener_lag_seconds", MOUNT, "Stream time that waits to be sent to a listener, sampled.",
            each_mount_histogram!(lag)),
        metric(Counter, "flumen_recoveries_total", &["mount", "policy"], "Times a listener that was too slow was moved on, by policy.",
            each_mount_and!(RecoverPolicy::ALL, |m, policy| read(&m.entry.handle.broadcast.counters.recoveries[policy.index()]))),
        metric(Counter, "flumen_dropped_chunks_total", MOUNT, "Chunks that listeners were not sent because they were too slow.",
            each_mount!(|m| read(&m.entry.handle.broadcast.counters.dropped_chunks) as f64)),
        metric(Counter, "flumen_unsynced_starts_total", MOUNT, "Newcomers who were given the stream without a keyframe, for none came in time.",
            each_mount!(|m| read(&m.entry.handle.broadcast.counters.unsynced_starts) as f64)),
        // Sources.
        metric(Gauge, "flumen_source_up", MOUNT, "1 while the source delivers.",
            each_mount!(|m| f64::from(u8::from(m.entry.handle.status().up)))),
        metric(Counter, "flumen_source_restarts_total", MOUNT, "Times the source was started anew.",
            each_mount!(|m| read(&m.entry.handle.source.restarts) as f64)),
        metric(Gauge, "flumen_source_last_chunk_timestamp_seconds", MOUNT, "When the source last delivered, in seconds since 1970; 0: never.",
            each_mount!(|m| read(&m.entry.handle.source.last_chunk_unix_ms) as f64 / 1e3)),
        metric(Counter, "flumen_received_bytes_total", MOUNT, "Stream bytes that the source delivered into the ring.",
            each_mount!(|m| read(&m.entry.handle.source.received_bytes) as f64)),
        metric(Counter, "flumen_received_chunks_total", MOUNT, "Chunks that the source delivered into the ring.",
            each_mount!(|m| read(&m.entry.handle.source.received_chunks) as f64)),
        metric(Counter, "flumen_skipped_bytes_total", MOUNT, "Bytes of the source that made no sense and were left out.",
            each_mount!(|m| read(&m.entry.handle.source.skipped_bytes) as f64)),
        metric(Counter, "flumen_metadata_updates_total", MOUNT, "Times that something else was being played.",
            each_mount!(|m| read(&m.entry.handle.source.metadata_updates) as f64)),
        metric(Gauge, "flumen_ring_bytes", MOUNT, "Payload that the ring holds.", each_mount!(|m| m.ring_bytes as f64)),
        metric(Gauge, "flumen_ring_seconds", MOUNT, "Stream time that the ring holds.", each_mount!(|m| m.ring_time.as_secs_f64())),
        metric(Gauge, "flumen_ring_chunks", MOUNT, "Chunks that the ring holds.", each_mount!(|m| m.ring_chunks as f64)),
        // The network.
        metric(Counter, "flumen_sent_bytes_total", MOUNT, "Stream and streamheader bytes sent to listeners; response heads do not count.",
            each_mount!(|m| m.entry.handle.sent_bytes() as f64)),
        metric(Counter, "flumen_send_calls_total", SHARD, "System calls to send.", each_shard!(|c| read(&c.send_calls) as f64)),
        metric(Gauge, "flumen_connections", &["kind"], "Connections: of listeners, and of guests that are still being asked what they want.",
            |scene, out| {
                out.count(&["listener"], scene.mounts.iter().map(MountScene::listeners).sum());
                out.count(&["guest"], read(&scene.measured.door.guests));
            }),
        metric(Counter, "flumen_accept_errors_total", &["reason"], "Connections that could not be taken in, by reason.",
            |scene, out| {
                AcceptError::ALL.iter().zip(&scene.measured.door.errors).for_each(|(why, errors)| out.count(&[why.label()], read(errors)));
            }),
        metric(Counter, "flumen_proxy_headers_total", &["result"], "PROXY headers of connections on sockets that expect one, by result.",
            |scene, out| {
                let counts = &scene.measured.door.headers;
                Outcome::ALL.iter().zip(counts).for_each(|(result, count)| out.count(&[result.label()], read(count)));
            }),
        metric(Gauge, "flumen_bans", &[], "Bans that hold now, those of a file not counted.",
            |scene, out| out.count(&[], scene.measured.patrol.ban_count())),
        metric(Gauge, "flumen_connected_addresses", &[], "Different addresses that are connected now; of IPv6, networks of 64 bits.",
            |scene, out| out.count(&[], scene.measured.patrol.addresses() as u64)),
        metric(Gauge, "flumen_group_listeners", &["group"], "Listeners of a group of addresses as configured.",
            |scene, out| scene.measured.registry.groups().iter().for_each(|group| out.count(&[&group.name], group.places.taken()))),
        metric(Gauge, "flumen_memory_pressure", &["refuses"], "Whether memory is so short that nobody else may listen, or that nobody is let in.",
            |scene, out| {
                let pressure = scene.measured.patrol.pressure();
                out.count(&["listeners"], u64::from(pressure >= Pressure::Listeners));
                out.count(&["connections"], u64::from(pressure >= Pressure::Everybody));
            }),
        metric(Counter, "flumen_tls_handshakes_total", &["result"], "TLS handshakes, by result.",
            |scene, out| {
                let counts = &scene.measured.door.handshakes;
                Handshake::ALL.iter().zip(counts).for_each(|(result, count)| out.count(&[result.label()], read(count)));
            }),
        metric(Counter, "flumen_tls_certificate_reloads_total", &["result"], "Certificates read anew: new ones, and failures that left the one before in use.",
            |scene, out| {
                let (renewed, failed) = scene.measured.keyring.renewals();
                [("ok", renewed), ("failed", failed)].into_iter().for_each(|(result, count)| out.count(&[result], count));
            }),
        metric(Gauge, "flumen_tls_certificate_expiry_timestamp_seconds", &["certificate"],
            "When a certificate ends, in seconds since 1970, by its file as configured.",
            |scene, out| scene.measured.keyring.expiries().iter().for_each(|(path, expires)| out.count(&[path], *expires))),
        // The threads.
        metric(Histogram, "flumen_runtime_lag_seconds", &["thread"],
            "How late a thread was on which tasks run, asked once a second: the main one, that of the mounts, those of HTTP.",
            |scene, out| Thread::ALL.into_iter().for_each(|thread| out.histogram(&[thread.label()], &scene.measured.pulses.view(thread)))),
        metric(Histogram, "flumen_shard_turn_seconds", &[], "How long turns of the sending threads took, over all of them.",
            |scene, out| {
                let views = scene.shards().map(|(_, counters)| counters.turn.view());
                if let Some(view) = sum(views) { out.histogram(&[], &view); }
            }),
        metric(Gauge, "flumen_shard_busy_ratio", SHARD, "Share of its time that the sending thread spends working, 0 to 1.",
            each_shard!(|c| read(&c.busy_permille) as f64 / 1e3)),
        metric(Gauge, "flumen_coalesce_window_seconds", SHARD, "The longest that data waits to be sent together.",
            each_shard!(|c| read(&c.window_micros) as f64 / 1e6)),
    ]
};

/// What the process collector adds, in Prometheus' own words.
pub const PROCESS_METRICS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];
