//! What is asked while ten thousand listen: the metrics, and the list of them all.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use flumen::admin;
use flumen::door::patrol::Patrol;
use flumen::engine::broadcast::Rules;
use flumen::engine::crew::{Clock, Crew};
use flumen::engine::pace::Coalesce;
use flumen::fanout::placement::{SyncMethod, Wish};
use flumen::fanout::recovery::{Limits, RecoverPolicy};
use flumen::fanout::stats::add;
use flumen::metrics::{self, Measured, ReloadState};
use flumen::mount::{Cors, IcyMetadata, OggChaining, OnSourceEnd, Profile, Registry, RelaySettings, Settings};
use flumen::units::{ByteCount, Extents};

use super::{Run, hall};

/// Listeners in the list.
pub(crate) const LISTED: u64 = hall::LISTENERS;

/// The answer that lists ten thousand, as of what the shard said of them.
pub(crate) fn list() -> Run {
    let views = hall::views();
    Box::new(move || drop(black_box(admin::listed(views.clone(), true))))
}

fn settings(path: &str) -> Settings {
    let ring_max = ByteCount(1 << 20);
    Settings {
        path: path.parse().expect("a path"),
        profile: Profile::default(),
        content_type: None,
        pipeline: None,
        relay: RelaySettings::default(),
        limits: flumen::engine::admission::Limits::default(),
        redirect_on_overflow: None,
        push: None,
        tcp: Vec::new(),
        keep: Extents::NONE,
        ring_max,
        max_listeners: None,
        on_source_end: OnSourceEnd::Wait,
        linger: None,
        fallback: flumen::mount::Fallback::default(),
        intro: None,
        allow_query: false,
        charset: flumen::wire::charset::Charset::default(),
        icy_metadata: IcyMetadata::Auto,
        icy_metaint: 16_000,
        ogg_chaining: OggChaining::Keep,
        cors: Cors::Any,
        listen_auth: None,
        announce: flumen::mount::Announce::default(),
        rules: Rules {
            wish: Wish { method: SyncMethod::Latest, burst: Extents::NONE, burst_max: Extents::NONE },
            limits: Limits::default(),
            recover: RecoverPolicy::None,
            resend_streamheader: true,
            patience: Duration::ZERO,
            idle_timeout: None,
            max_duration: None,
            coalesce: Coalesce { min: Duration::ZERO, max: Duration::ZERO },
            send_buffer: None,
            dscp: None,
            keep_half_closed: false,
            memory_max: 2 * ring_max.0,
        },
    }
}

/// The text of one scrape: three mounts, two shards, counters that say ten thousand. A scrape looks at no listener, so none are here.
pub(crate) fn scrape() -> Run {
    let system = actix_rt::System::new();
    let crew = Crew::start(2, Clock::default()).expect("shards");
    let registry = Arc::new(Registry::new(Arc::clone(&crew), hall::LISTENERS));
    let arbiter = actix_rt::Arbiter::new();
    for path in ["/radio.mp3", "/radio.ogg", "/live.webm"] {
        let entry = registry.open(settings(path), &arbiter.handle()).expect("opened");
        let counters = &entry.handle.broadcast.counters;
        add(&counters.joins, hall::LISTENERS / 3);
        add(&counters.sent_bytes, 1 << 40);
        (0..hall::LISTENERS).for_each(|i| counters.lag.observe(Duration::from_millis(i % 400)));
    }
    let started_at = UNIX_EPOCH + Duration::from_secs(1_795_407_962);
    let reload = Arc::new(ReloadState::loaded_at(started_at));
    let patrol = Patrol::new(&flumen::door::patrol::Settings::default());
    let measured = Measured {
        patrol,
        registry,
        door: Arc::default(),
        peers: Arc::default(),
        keyring: Arc::default(),
        started_at,
        reload,
        pulses: Arc::default(),
        upgrades: Arc::default(),
        events: None,
        events_before: 0.into(),
        icecast_exporter: false.into(),
    };
    let crew = CrewAtWork(crew, arbiter, system);
    Box::new(move || {
        black_box((&crew, metrics::text(&measured, &str::to_owned).expect("a text")));
    })
}

/// Ends the threads with the scenario.
struct CrewAtWork(Arc<Crew>, actix_rt::Arbiter, #[expect(dead_code, reason = "the arbiters are its threads")] actix_rt::SystemRunner);

impl Drop for CrewAtWork {
    fn drop(&mut self) {
        self.0.stop();
        self.1.stop();
    }
}
