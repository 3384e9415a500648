//! The text against the interface, and the sums against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::delivery::peers::{self, Known, Peers};
use crate::door::acceptor::AcceptError;
use crate::door::certificate::Files;
use crate::door::tls::{Handshake, Port, TlsSettings};
use crate::engine::crew::{Clock, Crew};
use crate::fanout::departure::Refusal;
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::stats::add;
use crate::mount::groups::GroupSettings;

/// What the interface promises: names without prefix, kinds, labels.
const PROMISED: &str = "
    build_info gauge version | start_time_seconds gauge | listeners gauge mount | listeners_peak gauge mount | listeners_limit gauge mount
    listener_joins_total counter mount | listener_departures_total counter mount,reason | refusals_total counter mount,reason
    listener_lag_seconds histogram mount | recoveries_total counter mount,policy | dropped_chunks_total counter mount
    unsynced_starts_total counter mount | sent_bytes_total counter mount | received_bytes_total counter mount | received_chunks_total counter mount
    send_calls_total counter shard | first_byte_seconds histogram mount | session_seconds histogram | source_up gauge mount
    source_restarts_total counter mount | source_last_chunk_timestamp_seconds gauge mount | ring_bytes gauge mount
    ring_seconds gauge mount | ring_chunks gauge mount | shard_turn_seconds histogram | shard_busy_ratio gauge shard
    coalesce_window_seconds gauge shard | runtime_lag_seconds histogram thread | connections gauge kind | accept_errors_total counter reason
    skipped_bytes_total counter mount | metadata_updates_total counter mount | config_last_reload_successful gauge | config_last_reload_timestamp_seconds gauge
    upgrades_total counter result | upgrade_stall_seconds gauge | auth_requests_total counter result | auth_notices_total counter result
    log_dropped_total counter log | webhook_events_total counter result | tls_handshakes_total counter result
    bans gauge | connected_addresses gauge | group_listeners gauge group | memory_pressure gauge refuses | proxy_headers_total counter result
    peer_load_ratio gauge peer | peer_redirects_total counter peer
    tls_certificate_reloads_total counter result | tls_certificate_expiry_timestamp_seconds gauge certificate";

/// One, that has answered.
fn peers() -> Arc<Peers> {
    let peers = Peers::default();
    peers.settle(&peers::Settings { peers: vec!["http://b".into()], from: 800 });
    peers.note("http://b", Some(Known::default()));
    Arc::new(peers)
}

/// A server with two mounts and two shards, as measured after `act`.
fn measure(act: impl FnOnce(&Measured)) -> String {
    actix_rt::System::new().block_on(async {
        let crew = Crew::start(2, Clock::default()).expect("shards");
        let registry = Arc::new(Registry::new(Arc::clone(&crew), 100));
        let arbiter = actix_rt::Arbiter::new();
        for path in ["/a.mp3", "/b.ogg"] {
            registry.open(crate::mount::testing::settings(path), &arbiter.handle()).expect("opened");
        }
        let group = GroupSettings { name: "de".into(), networks: Arc::default(), file: None, max_listeners: None };
        registry.limit(100, &crate::engine::admission::Limits::default(), &[group]);
        let started_at = UNIX_EPOCH + Duration::from_secs(1_795_407_962);
        let measured = Measured {
            registry,
            door: Arc::default(),
            patrol: Patrol::new(&crate::door::patrol::Settings::default()),
            peers: peers(),
            keyring: keyring(),
            started_at,
            reload: Arc::new(ReloadState::loaded_at(started_at)),
            upgrades: Arc::default(),
            pulses: Arc::default(),
            events: None,
            events_before: 0.into(),
            icecast_exporter: false.into(),
        };
        act(&measured);
        let text = text(&measured, &|path| format!("http://radio.example:8000{path}")).expect("a text");
        crew.stop();
        arbiter.stop();
        String::from_utf8(text).expect("text")
    })
}

/// A keyring with one certificate.
fn keyring() -> Arc<Keyring> {
    let made = rcgen::generate_simple_self_signed(vec!["radio.example".to_owned()]).expect("a certificate");
    let folder = std::env::temp_dir().join(format!("flumen-metrics-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let files = Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    let keyring = Arc::new(Keyring::default());
    Port::open(&TlsSettings { listen: Vec::new(), auto: false, certificates: vec![files] }, &keyring).expect("a port");
    std::fs::remove_dir_all(&folder).expect("removed");
    keyring
}

/// The value of one series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in\n{text}")).parse().expect("a number")
}

#[test]
fn the_catalogue_is_what_the_interface_promises() {
    let promised: BTreeSet<_> = PROMISED
        .split(['|', '\n'])
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| !words.is_empty())
        .map(|words| (format!("flumen_{}", words[0]), words[1].to_owned(), words.get(2).copied().unwrap_or_default().to_owned()))
        .collect();
    let ours: BTreeSet<_> =
        CATALOGUE.iter().map(|m| (m.name.to_owned(), format!("{:?}", m.kind).to_lowercase(), m.labels.join(","))).collect();
    assert_eq!(ours, promised);
    assert_eq!(CATALOGUE.len(), promised.len(), "each name once");
}

#[test]
fn every_metric_is_in_the_text_with_its_kind_its_help_and_its_labels() {
    let text = measure(|_| {});
    let kinds: BTreeMap<_, _> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for metric in CATALOGUE {
        assert_eq!(kinds.get(metric.name).copied(), Some(format!("{:?}", metric.kind).to_lowercase().as_str()), "{}", metric.name);
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
    let expected: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name).chain(PROCESS_METRICS).collect();
    assert_eq!(kinds.into_keys().collect::<BTreeSet<_>>(), expected);
    for why in Departure::ALL {
        assert_eq!(value(&text, &format!("flumen_listener_departures_total{{mount=\"/b.ogg\",reason=\"{}\"}}", why.label())), 0.0);
    }
    for why in Refusal::ALL {
        for mount in ["", "/a.mp3", "/b.ogg"] {
            assert_eq!(value(&text, &format!("flumen_refusals_total{{mount=\"{mount}\",reason=\"{}\"}}", why.label())), 0.0);
        }
    }
    assert_eq!(value(&text, "flumen_start_time_seconds"), 1_795_407_962.0);
    assert_eq!(value(&text, "flumen_config_last_reload_successful"), 1.0);
}

#[test]
fn what_was_counted_is_what_is_told_and_listeners_are_joins_without_departures() {
    let text = measure(|measured| {
        let entry = measured.registry.find("/a.mp3").expect("open");
        let counters = &entry.handle.broadcast.counters;
        add(&counters.joins, 7);
        add(&counters.departures[Departure::TooSlow.index()], 2);
        add(&counters.departures[Departure::Kicked.index()], 1);
        add(&counters.recoveries[RecoverPolicy::Keyframe.index()], 3);
        counters.first_byte.observe(Duration::from_millis(3));
        counters.session.observe(Duration::from_secs(20));
        measured.registry.find("/b.ogg").expect("open").handle.broadcast.counters.session.observe(Duration::from_secs(30));
        add(&entry.handle.source.received_bytes, 1234);
        entry.handle.source.last_chunk_unix_ms.store(1_795_407_962_500, Ordering::Relaxed);
        measured.registry.refuse(None, Refusal::BadRequest);
        measured.registry.refuse(Some(&entry), Refusal::Full);
        add(&measured.door.guests, 5);
        add(&measured.door.errors[AcceptError::Memory as usize], 1);
        add(&measured.door.handshakes[Handshake::Timeout as usize], 4);
        measured.reload.note(false, SystemTime::now());
        entry.handle.places.set_most(Some(50));
    });
    assert!(!text.contains("flumen_listeners_limit{mount=\"/b.ogg\"}"), "no limit is no number");
    for (series, want) in [
        ("flumen_listener_joins_total{mount=\"/a.mp3\"}", 7.0),
        ("flumen_listeners{mount=\"/a.mp3\"}", 4.0),
        ("flumen_listeners{mount=\"/b.ogg\"}", 0.0),
        ("flumen_listeners_limit{mount=\"/a.mp3\"}", 50.0),
        ("flumen_listeners_limit{mount=\"\"}", 100.0),
        ("flumen_listener_departures_total{mount=\"/a.mp3\",reason=\"too_slow\"}", 2.0),
        ("flumen_recoveries_total{mount=\"/a.mp3\",policy=\"keyframe\"}", 3.0),
        ("flumen_first_byte_seconds_bucket{mount=\"/a.mp3\",le=\"0.002\"}", 0.0),
        ("flumen_first_byte_seconds_bucket{mount=\"/a.mp3\",le=\"0.005\"}", 1.0),
        ("flumen_first_byte_seconds_bucket{mount=\"/a.mp3\",le=\"+Inf\"}", 1.0),
        ("flumen_session_seconds_count", 2.0),
        ("flumen_session_seconds_sum", 50.0),
        ("flumen_received_bytes_total{mount=\"/a.mp3\"}", 1234.0),
        ("flumen_source_last_chunk_timestamp_seconds{mount=\"/a.mp3\"}", 1_795_407_962.5),
        ("flumen_refusals_total{mount=\"\",reason=\"bad_request\"}", 1.0),
        ("flumen_refusals_total{mount=\"/a.mp3\",reason=\"full\"}", 1.0),
        ("flumen_connections{kind=\"listener\"}", 4.0),
        ("flumen_connections{kind=\"guest\"}", 5.0),
        ("flumen_accept_errors_total{reason=\"memory\"}", 1.0),
        ("flumen_tls_handshakes_total{result=\"timeout\"}", 4.0),
        ("flumen_tls_handshakes_total{result=\"ok\"}", 0.0),
        ("flumen_tls_certificate_reloads_total{result=\"failed\"}", 0.0),
        ("flumen_config_last_reload_successful", 0.0),
        ("flumen_config_last_reload_timestamp_seconds", 1_795_407_962.0),
    ] {
        assert_eq!(value(&text, series), want, "{series}");
    }
}

#[test]
fn exporters_names_are_told_where_they_are_wanted_and_of_no_mount_that_is_not_on_air() {
    let told = measure(|measured| measured.settle(Settings { icecast_exporter: true }));
    let theirs: Vec<_> = told.lines().filter(|line| line.starts_with("icecast_")).collect();
    assert_eq!(theirs, ["icecast_up 1", "icecast_server_start 1795407962"]);
    assert!(!measure(|_| {}).contains("icecast_"), "unless they are asked for");
}
