//! Metrics: one catalogue of names, read from atomics when Prometheus asks.
//!
//! ```text
//!   shards, actors, door ──add──▶ atomics ◀──read at scrape── Scene ──▶ CATALOGUE ──▶ text
//! ```
//! - Nothing here is on a stream's way. A scrape takes each ring's lock once, for three numbers, and looks at no listener.
//! - Within one scrape, joins − departures = listeners: they are read together, before anything is written.
//! - Labels come from closed sets: mounts as configured, reasons, policies, shards. Never an address, an agent, a path as typed.
//! - This is the one file that knows the `prometheus` crate.
//!
//! Deliberately absent: counters of its own on the data path, global registries, averages (Prometheus computes those).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, TextEncoder, proto};

use crate::delivery::peers::Peers;
use crate::door::acceptor::{AcceptError, DoorCounters};
use crate::door::certificate::Keyring;
use crate::door::patrol::{Patrol, Pressure};
use crate::door::proxied::Outcome;
use crate::door::tls::Handshake;
use crate::engine::admission::FULL;
use crate::fanout::departure::{Departure, Refusal};
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::stats::{HistogramView, read};
use crate::handover::Words;
use crate::mount::Registry;
use crate::mount::registry::Entry;

/// How the configuration fared when it was last read. Whoever reads it says so here.
#[derive(Debug)]
pub struct ReloadState {
    successful: AtomicBool,
    /// Milliseconds since 1970 of the last time it went well.
    at: AtomicU64,
}

impl ReloadState {
    /// The configuration was read at start, and well, or there would be no server.
    pub fn loaded_at(start: SystemTime) -> Self {
        Self { successful: AtomicBool::new(true), at: AtomicU64::new(unix_millis(start)) }
    }

    /// The configuration was read anew.
    pub fn note(&self, successful: bool, now: SystemTime) {
        if successful {
            self.at.store(unix_millis(now), Ordering::Relaxed);
        }
        self.successful.store(successful, Ordering::Relaxed);
    }
}

/// How upgrades fared: those by which this process came to be, and those that it did not end by.
#[derive(Debug, Default)]
pub struct UpgradeState {
    done: AtomicU64,
    failed: AtomicU64,
    stall_micros: AtomicU64,
}

impl UpgradeState {
    const DONE: &str = "done";
    const FAILED: &str = "failed";

    /// Another binary was to take over and did not.
    pub fn note_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// As plain data.
    pub fn pack(&self) -> Words {
        [(Self::DONE, &self.done), (Self::FAILED, &self.failed)].map(|(word, count)| (word.to_owned(), read(count))).into()
    }

    /// This process has taken over from one that counted so many; listeners stood still for so long.
    pub fn note_taken_over(&self, before: &Words, stall: Duration) {
        let of = |word: &str| before.get(word).copied().unwrap_or(0);
        self.done.store(of(Self::DONE) + 1, Ordering::Relaxed);
        self.failed.store(of(Self::FAILED), Ordering::Relaxed);
        self.stall_micros.store(u64::try_from(stall.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn unix_millis(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What is measured. The app hands it to the routes as `web::Data<Measured>`.
#[derive(Debug)]
pub struct Measured {
    /// The mounts and the shards.
    pub registry: Arc<Registry>,
    /// What the door counts.
    pub door: Arc<DoorCounters>,
    /// Who may come in.
    pub patrol: Arc<Patrol>,
    /// Where newcomers are sent.
    pub peers: Arc<Peers>,
    /// The certificates.
    pub keyring: Arc<Keyring>,
    /// When the server was started.
    pub started_at: SystemTime,
    /// How the configuration fared.
    pub reload: Arc<ReloadState>,
    /// How upgrades fared.
    pub upgrades: Arc<UpgradeState>,
    /// Lines of the event log that were dropped; `None`: there is no such log.
    pub events: Option<tracing_appender::non_blocking::ErrorCounter>,
}

/// Mounts `GET /metrics`. It needs a `web::Data<Measured>`.
pub fn routes(config: &mut ServiceConfig) {
    let resource = web::resource("/metrics").route(web::get().to(scrape)).route(web::head().to(scrape));
    config.service(resource.default_service(web::to(|| async {
        HttpResponse::MethodNotAllowed()
            .insert_header((header::ALLOW, "GET, HEAD"))
            .content_type("text/plain; charset=utf-8")
            .body("This can be read with GET or HEAD, and nothing else.\n")
    })));
}

async fn scrape(measured: Data<Measured>) -> impl Responder {
    match text(&measured) {
        Ok(body) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .insert_header((header::CACHE_CONTROL, "no-cache, no-store"))
            .body(body),
        Err(error) => HttpResponse::InternalServerError().content_type("text/plain; charset=utf-8").body(format!("{error}\n")),
    }
}

/// The whole text of one scrape.
///
/// # Errors
/// When a metric has no name or no value, which the catalogue's test rules out.
pub fn text(measured: &Measured) -> prometheus::Result<Vec<u8>> {
    let scene = Scene::of(measured);
    let mut families: Vec<_> = CATALOGUE.iter().map(|metric| metric.family(&scene)).collect();
    families.extend(ProcessCollector::for_self().collect());
    families.retain(|family| !family.get_metric().is_empty()); // no mounts, no series
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

/// The moment of a scrape: what must fit together is read at once.
struct Scene<'a> {
    measured: &'a Measured,
    mounts: Vec<MountScene>,
    /// Of mounts that are no more.
    sessions: Vec<HistogramView>,
}

struct MountScene {
    entry: Entry,
    joins: u64,
    departures: [u64; Departure::ALL.len()],
    ring_chunks: u64,
    ring_bytes: u64,
    ring_time: Duration,
}

impl<'a> Scene<'a> {
    fn of(measured: &'a Measured) -> Self {
        let (mounts, sessions) = measured.registry.census();
        Self { measured, mounts: mounts.into_iter().map(MountScene::of).collect(), sessions }
    }

    fn shards(&self) -> impl Iterator<Item = (String, &crate::engine::counters::ShardCounters)> {
        self.measured.registry.crew().hands().iter().enumerate().map(|(index, hand)| (index.to_string(), &*hand.counters))
    }
}

impl MountScene {
    fn of(entry: Entry) -> Self {
        let counters = &entry.handle.broadcast.counters;
        // Departures first: whoever has left has joined before.
        let departures = std::array::from_fn(|i| read(&counters.departures[i]));
        let joins = read(&counters.joins).max(departures.iter().sum());
        let (ring_chunks, ring_bytes, ring_time) = entry.handle.broadcast.feed.read(|ring| (ring.len() as u64, ring.bytes(), ring.time()));
        Self { entry, joins, departures, ring_chunks, ring_bytes, ring_time }
    }

    fn path(&self) -> &str {
        self.entry.handle.settings.path.as_str()
    }

    fn listeners(&self) -> u64 {
        self.joins - self.departures.iter().sum::<u64>()
    }
}

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Values by size.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, prefix included.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
    read: fn(&Scene, &mut Samples),
}

/// The samples of one metric while they are collected.
struct Samples<'a> {
    metric: &'a Metric,
    samples: Vec<proto::Metric>,
}

impl Samples<'_> {
    fn sample(&mut self, values: &[&str]) -> &mut proto::Metric {
        debug_assert_eq!(values.len(), self.metric.labels.len(), "{}", self.metric.name);
        let pairs = self.metric.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value((*value).into());
            pair
        });
        let index = self.samples.len();
        self.samples.push(proto::Metric::from_label(pairs.collect()));
        &mut self.samples[index]
    }

    fn number(&mut self, labels: &[&str], value: f64) {
        let kind = self.metric.kind;
        let sample = self.sample(labels);
        if kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
    }

    fn count(&mut self, labels: &[&str], value: u64) {
        self.number(labels, value as f64);
    }

    fn histogram(&mut self, labels: &[&str], view: &HistogramView) {
        let buckets = view.cumulative.iter().map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(view.count);
        histogram.set_sample_sum(view.sum_seconds);
        self.sample(labels).set_histogram(histogram);
    }
}

impl Metric {
    fn family(&self, scene: &Scene) -> proto::MetricFamily {
        let mut samples = Samples { metric: self, samples: Vec::new() };
        (self.read)(scene, &mut samples);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.name.into());
        family.set_help(self.help.into());
        family.set_field_type(match self.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(samples.samples);
        family
    }
}

/// Histograms with the same bounds, as one.
fn sum(views: impl Iterator<Item = HistogramView>) -> Option<HistogramView> {
    views.reduce(|mut all, one| {
        all.cumulative.iter_mut().zip(&one.cumulative).for_each(|(all, one)| all.1 += one.1);
        all.count += one.count;
        all.sum_seconds += one.sum_seconds;
        all
    })
}

const fn metric(
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
        metric(Gauge, "flumen_start_time_seconds", &[], "When the server was started, in seconds since 1970.",
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
                out.count(&["event"], scene.measured.events.as_ref().map_or(0, |events| events.dropped_lines() as u64));
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
        // The shards.
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

#[cfg(test)]
mod tests;
