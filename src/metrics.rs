//! Metrics: one catalogue of names, read from atomics when Prometheus asks.
//!
//! ```text
//!   shards, actors, door ──add──▶ atomics ◀──read at scrape── Scene ──▶ CATALOGUE ──▶ text
//! ```
//! - Nothing here is on a stream's way. A scrape looks at no listener, and takes each ring's lock once, for as long as it takes to
//!   load three numbers and subtract two: shorter than a shard's own look, and far from what a push may cost. (As atomics they would
//!   be stored at each push, to be read every quarter of a minute.)
//! - Within one scrape, joins − departures = listeners: they are read together, before anything is written.
//! - Labels come from closed sets: mounts as configured, reasons, policies, shards. Never an address, an agent, a path as typed.
//! - This is the one room that knows the `prometheus` crate.
//!
//! Deliberately absent: counters of its own on the data path, global registries, averages (Prometheus computes those).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Responder};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, TextEncoder, proto};

use crate::delivery::peers::Peers;
use crate::door::acceptor::DoorCounters;
use crate::door::certificate::Keyring;
use crate::door::origin;
use crate::door::patrol::Patrol;
use crate::engine::pulse::Pulses;
use crate::fanout::departure::Departure;
use crate::fanout::stats::{HistogramView, read};
use crate::handover::Words;
use crate::mount::Registry;
use crate::mount::registry::Entry;

mod catalogue;
mod icecast;
mod passing;

pub use catalogue::{CATALOGUE, PROCESS_METRICS};
pub use icecast::{ICECAST_CATALOGUE, Settings};
pub use passing::since;

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
    /// When the server was started: the first of its processes, if others have taken over since.
    pub started_at: SystemTime,
    /// How the configuration fared.
    pub reload: Arc<ReloadState>,
    /// How upgrades fared.
    pub upgrades: Arc<UpgradeState>,
    /// Lines of the event log that were dropped; `None`: there is no such log.
    pub events: Option<tracing_appender::non_blocking::ErrorCounter>,
    /// The same in the processes before.
    pub events_before: AtomicU64,
    /// How late the threads are on which tasks run.
    pub pulses: Arc<Pulses>,
    /// Whether exporters' names for Icecast's numbers are told as well.
    pub icecast_exporter: AtomicBool,
}

impl Measured {
    /// Lines of the event log that were dropped, in this process and those before.
    fn events_dropped(&self) -> u64 {
        read(&self.events_before) + self.events.as_ref().map_or(0, |events| events.dropped_lines() as u64)
    }

    /// When the server was started, in milliseconds since 1970.
    pub fn started_unix_ms(&self) -> u64 {
        unix_millis(self.started_at)
    }

    /// From now on this is told.
    pub fn settle(&self, settings: Settings) {
        self.icecast_exporter.store(settings.icecast_exporter, Ordering::Relaxed);
    }
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

async fn scrape(request: HttpRequest, measured: Data<Measured>) -> impl Responder {
    match text(&measured, &|path| origin::url(&request, path)) {
        Ok(body) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .insert_header((header::CACHE_CONTROL, "no-cache, no-store"))
            .body(body),
        Err(error) => HttpResponse::InternalServerError().content_type("text/plain; charset=utf-8").body(format!("{error}\n")),
    }
}

/// The whole text of one scrape, for somebody who reaches the mount at a path by this address.
///
/// # Errors
/// When a metric has no name or no value, which the catalogue's test rules out.
pub fn text(measured: &Measured, address: &dyn Fn(&str) -> String) -> prometheus::Result<Vec<u8>> {
    let scene = Scene::of(measured, address);
    let exporter: &[Metric] = if measured.icecast_exporter.load(Ordering::Relaxed) { ICECAST_CATALOGUE } else { &[] };
    let mut families: Vec<_> = CATALOGUE.iter().chain(exporter).map(|metric| metric.family(&scene)).collect();
    families.extend(ProcessCollector::for_self().collect());
    families.retain(|family| !family.get_metric().is_empty()); // no mounts, no series
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

/// The moment of a scrape: what must fit together is read at once.
struct Scene<'a> {
    measured: &'a Measured,
    /// Where whoever asks reaches the mount at a path.
    address: &'a dyn Fn(&str) -> String,
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
    fn of(measured: &'a Measured, address: &'a dyn Fn(&str) -> String) -> Self {
        let (mounts, sessions) = measured.registry.census();
        Self { measured, address, mounts: mounts.into_iter().map(MountScene::of).collect(), sessions }
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

#[cfg(test)]
mod tests;
