//! One look at the house: plain numbers and words, so that what follows from them is a function.

use std::time::{Duration, SystemTime};

use crate::engine::broadcast::Rules;
use crate::engine::crew::Hand;
use crate::fanout::departure::{Departure, Refusal};
use crate::fanout::stats::{HistogramView, read};
use crate::mount::Registry;
use crate::mount::actor::KILLED;
use crate::mount::registry::Entry;
use crate::units::{Extent, Extents};

/// Characters of a fault that are kept: GStreamer's may be long.
const FAULT_MOST: usize = 500;

/// The house at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// When, in seconds since 1970.
    pub at: f64,
    /// Every mount, by path.
    pub mounts: Vec<MountScene>,
    /// Every sending thread.
    pub shards: Vec<ShardScene>,
    /// Places taken, and how many there are.
    pub places: (u64, u64),
    /// Whether nobody is let in any more.
    pub draining: bool,
    /// Each certificate's file, and when it ends, in seconds since 1970.
    pub certificates: Vec<(String, u64)>,
    /// How often certificates were renewed, and how often that failed.
    pub renewals: (u64, u64),
    /// Whether the configuration that was read last was wrong.
    pub reload_failed: bool,
    /// Lines that a log has lost: of events, of visits.
    pub log_dropped: (u64, u64),
    /// Webhooks' events that were given up or dropped.
    pub webhooks_lost: u64,
}

/// Who fills a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filler {
    /// A pipeline of ours.
    Pipeline,
    /// Another server, all the time.
    Relay,
    /// Another server, while somebody listens.
    OnDemand,
    /// An encoder that comes by itself.
    #[default]
    Encoder,
}

impl Filler {
    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Relay => "relay",
            Self::OnDemand => "relay_on_demand",
            Self::Encoder => "encoder",
        }
    }
}

/// A mount at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MountScene {
    /// Its path.
    pub path: String,
    /// Who fills it.
    pub filler: Filler,
    /// Whether a source delivers.
    pub up: bool,
    /// Whether it needs a source, and has none.
    pub lacking: bool,
    /// The number of the source that writes; each has another.
    pub writer: u64,
    /// When its source last came or went, as long ago as this.
    pub changed_ago: Option<Duration>,
    /// Why the last source went.
    pub fault: Option<String>,
    /// Times its source was started anew.
    pub restarts: u64,
    /// The media type.
    pub content_type: Option<String>,
    /// What is being played.
    pub title: String,
    /// Bits per second of stream time.
    pub bitrate_bps: Option<u64>,
    /// The history, in seconds of stream time.
    pub ring_seconds: f64,
    /// Joins so far.
    pub joins: u64,
    /// Departures so far, by [`Departure::index`].
    pub departures: [u64; Departure::ALL.len()],
    /// Refusals so far, by [`Refusal::index`].
    pub refusals: [u64; Refusal::ALL.len()],
    /// Recoveries so far.
    pub recoveries: u64,
    /// Chunks that listeners were not sent.
    pub dropped_chunks: u64,
    /// Bytes sent to listeners.
    pub sent_bytes: u64,
    /// Bytes that the source delivered.
    pub received_bytes: u64,
    /// Chunks that were turned away.
    pub refused_chunks: u64,
    /// How long ago the source delivered last; `None`: never.
    pub silent: Option<Duration>,
    /// Sampled lags, all that there ever were.
    pub lag: Vec<(f64, u64)>,
    /// How many there were.
    pub lag_count: u64,
    /// The furthest that anybody is behind.
    pub lag_max: Duration,
    /// Beyond this lag a listener is recovered, if the limit is in time.
    pub soft_limit: Option<Duration>,
    /// Beyond this lag a listener is removed, if the limit is in time.
    pub hard_limit: Option<Duration>,
    /// The most listeners there may be.
    pub most: Option<u64>,
}

impl MountScene {
    /// Listeners at this moment.
    pub fn listeners(&self) -> u64 {
        self.joins.saturating_sub(self.departures.iter().sum())
    }

    /// Whether an operator stopped what filled it.
    pub fn was_killed(&self) -> bool {
        self.fault.as_deref() == Some(KILLED)
    }

    /// Departures of those who could not keep up.
    pub fn lost(&self) -> u64 {
        self.departures[Departure::TooSlow.index()] + self.departures[Departure::Stalled.index()]
    }
}

/// A sending thread at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardScene {
    /// Share of its time that it works, 0 to 1.
    pub busy: f64,
    /// Listeners served there.
    pub listeners: u64,
    /// The longest that data waits to be sent together.
    pub window: Duration,
    /// Lengths of turns, all that there ever were.
    pub turns: Vec<(f64, u64)>,
    /// How many there were.
    pub turn_count: u64,
}

/// The shortest of the limits that are in time.
fn in_time(limit: &Extents) -> Option<Duration> {
    limit.iter().filter_map(|extent| if let Extent::Time(span) = extent { Some(span) } else { None }).min()
}

impl MountScene {
    fn of(entry: &Entry, registry: &Registry, now: f64) -> Self {
        let handle = &entry.handle;
        let (status, counters, settings) = (handle.status(), &handle.broadcast.counters, &handle.settings);
        // Departures first: whoever has left has joined before.
        let departures = std::array::from_fn(|i| read(&counters.departures[i]));
        let HistogramView { cumulative, count, .. } = counters.lag.view();
        let (ring_seconds, rate) = handle.broadcast.feed.read(|ring| (ring.time().as_secs_f64(), ring.bytes_per_second()));
        let Rules { limits, .. } = &settings.rules;
        let last_chunk = read(&handle.source.last_chunk_unix_ms);
        Self {
            path: settings.path.to_string(),
            filler: match (&settings.pipeline, settings.relay.is_empty()) {
                (Some(_), _) => Filler::Pipeline,
                (None, true) => Filler::Encoder,
                (None, false) if settings.relay.on_demand => Filler::OnDemand,
                (None, false) => Filler::Relay,
            },
            up: status.up,
            lacking: handle.lacks_source(),
            writer: handle.writer(),
            changed_ago: status.since.map(|since| registry.crew().clock().now().since(since)),
            fault: status.fault.as_deref().map(|fault| fault.chars().take(FAULT_MOST).collect()),
            restarts: read(&handle.source.restarts),
            content_type: status.content_type.as_deref().map(Into::into),
            title: handle.metadata().line(),
            bitrate_bps: rate.map(|rate| (rate * 8.0) as u64),
            ring_seconds,
            joins: read(&counters.joins).max(departures.iter().sum()),
            departures,
            refusals: std::array::from_fn(|i| registry.refusals(Some(entry), Refusal::ALL[i])),
            recoveries: counters.recoveries.iter().map(read).sum(),
            dropped_chunks: read(&counters.dropped_chunks),
            sent_bytes: handle.sent_bytes(),
            received_bytes: read(&handle.source.received_bytes),
            refused_chunks: read(&handle.source.refused_chunks),
            silent: (last_chunk > 0).then(|| Duration::from_secs_f64((now - last_chunk as f64 / 1e3).max(0.0))),
            lag: cumulative,
            lag_count: count,
            lag_max: counters.lag_max.get(),
            soft_limit: in_time(&limits.soft),
            hard_limit: in_time(&limits.hard),
            most: settings.max_listeners,
        }
    }
}

impl ShardScene {
    fn of(hand: &Hand) -> Self {
        let counters = &hand.counters;
        let HistogramView { cumulative, count, .. } = counters.turn.view();
        Self {
            busy: read(&counters.busy_permille) as f64 / 1e3,
            listeners: read(&counters.listeners),
            window: Duration::from_micros(read(&counters.window_micros)),
            turns: cumulative,
            turn_count: count,
        }
    }
}

impl Scene {
    /// A look at the mounts and the shards. What else there is, is for those who know it.
    pub(super) fn of(registry: &Registry) -> Self {
        let at = super::seconds(SystemTime::now());
        let places = registry.places();
        let [_, (_, failed), (_, dropped)] = registry.witnesses().webhooks.outcomes().all();
        Self {
            at,
            mounts: registry.all().iter().map(|entry| MountScene::of(entry, registry, at)).collect(),
            shards: registry.crew().hands().iter().map(ShardScene::of).collect(),
            places: (places.taken(), places.most()),
            draining: registry.draining(),
            log_dropped: (0, registry.witnesses().journal.dropped()),
            webhooks_lost: failed + dropped,
            ..Self::default()
        }
    }

    /// The mount at this path.
    pub fn mount(&self, path: &str) -> Option<&MountScene> {
        self.mounts.binary_search_by(|mount| mount.path.as_str().cmp(path)).ok().map(|index| &self.mounts[index])
    }
}
