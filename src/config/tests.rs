//! What an operator writes, and what the answer says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

mod admin;
mod memory;
mod outside;
mod patterns;
mod secrets;

/// A file of a test's own; the name is what errors begin with.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flumen-config-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("written");
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(super) fn check_pipeline(text: &str) -> Result<(), String> {
    if text.contains("nosuch") { Err("no element \"nosuch\"".to_owned()) } else { Ok(()) }
}

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let file = Written::new(text);
    load(&Source::File(file.0.clone()), &variables.iter().copied().collect(), &check_pipeline)
}

pub(super) fn good(text: &str) -> Config {
    load_with(text, &[]).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Asserts that there is exactly one error, that it has all parts, and a remedy.
pub(super) fn assert_refused(result: Result<Config, ConfigErrors>, parts: &[&str], about: &str) {
    let errors = result.map(|config| format!("{config:#?}")).expect_err(about);
    assert_eq!(errors.iter().count(), 1, "{about}\n{errors}");
    let (text, error) = (errors.to_string(), errors.iter().next().expect("one"));
    assert!(!error.remedy.is_empty(), "{text}");
    for part in parts {
        assert!(text.contains(part), "{about}\n{text}\nlacks {part}");
    }
}

#[test]
fn a_bad_key_of_a_mount_is_answered_with_line_key_value_and_remedy() {
    for (line, parts) in [
        ("keep = 10", &["mount[0].keep = 10", "write \"10s\""] as &[_]),
        ("keep = 10.5", &["mount[0].keep = 10.5", "write an extent"]),
        ("keep = \"5 parsecs\"", &["mount[0].keep = \"5 parsecs\": is not an extent", "20 chunks"]),
        ("burst = []", &["mount[0].burst = []", "write \"none\""]),
        ("burst = [\"5s\", \"x\"]", &["mount[0].burst[1] = \"x\": is not an extent", "512KiB"]),
        ("burst = [\"5s\", \"none\"]", &["mount[0].burst[1] = \"none\"", "alone"]),
        ("burst = \"5s\"\nburst_max = \"4s\"", &[":3: mount[0].burst = \"5s\"", "burst_max (", ":4)", "lower burst or raise"]),
        ("soft_limit = \"9s\"\nhard_limit = [\"8s\", \"1MiB\"]", &[":3: mount[0].soft_limit", "8s of hard_limit", "raise hard_limit"]),
        ("ring_max = \"1MiB\"\nkeep = \"2MiB\"", &[":4: mount[0].keep", "1MiB that the history", "raise ring_max"]),
        ("keep = \"17GiB\"", &["mount[0].keep = \"17GiB\"", "at most 16GiB"]),
        ("ring_max = \"1KiB\"", &["mount[0].ring_max", "from \"64KiB\" to \"16GiB\""]),
        ("ring_max = 5", &["mount[0].ring_max = 5", "write \"5B\" or \"5KiB\""]),
        ("max_bandwidth = \"500\"", &["mount[0].max_bandwidth", "is no bandwidth", "\"500Mbit/s\""]),
        ("max_bandwidth = 500", &["mount[0].max_bandwidth = 500", "write \"500Mbit/s\""]),
        ("max_join_rate = 0", &["mount[0].max_join_rate = 0", "from 1", "\"none\""]),
        (
            "max_listeners = 3\nmax_listeners_per_address = 4",
            &["max_listeners_per_address = 4", "more than the 3 of max_listeners", "it never acts"],
        ),
        (
            "max_listeners_per_user = 4\nmax_listeners = 3",
            &["max_listeners_per_user = 4", "more than the 3 of max_listeners", "it never acts"],
        ),
        ("redirect_on_overflow = \"/b\"", &["mount[0].redirect_on_overflow", "is not a web address"]),
        ("sync = \"newest\"", &["mount[0].sync = \"newest\"", "latest-keyframe"]),
        ("recover = \"jump\"", &["mount[0].recover = \"jump\"", "soft-limit"]),
        ("resend_streamheader = \"true\"", &["mount[0].resend_streamheader = \"true\"", "without quotes"]),
        ("public = 1", &["mount[0].public = 1", "true or false"]),
        ("idle_timeout = \"10ms\"", &["mount[0].idle_timeout", "from \"1s\"", "\"none\""]),
        ("idle_timeout = 60", &["mount[0].idle_timeout = 60", "write \"60s\""]),
        ("idle_timeout = \"soon\"", &["is not a duration", "or \"none\""]),
        ("coalesce = \"500ms..20ms\"", &["ends before it begins", "20ms..500ms"]),
        ("coalesce = \"0ms\"", &["is out of range", "\"1ms\" to \"10s\""]),
        ("coalesce = \"1m\"", &["is out of range"]),
        ("coalesce = \"x..y\"", &["is not a range of durations"]),
        ("coalesce = 20", &["write \"20ms\""]),
        ("send_buffer = \"1KiB\"", &["from \"4KiB\" to \"64MiB\", or \"auto\""]),
        ("send_buffer = \"big\"", &["is not a size", "or \"auto\""]),
        ("dscp = 64", &["mount[0].dscp = 64", "0 to 63", "AF41"]),
        ("dscp = \"AF99\"", &["mount[0].dscp = \"AF99\"", "none"]),
        ("max_listeners = 0", &["mount[0].max_listeners = 0", "\"none\" for no limit"]),
        ("max_listeners = \"100\"", &["is a text, not a number", "write 100 without quotes"]),
        ("max_listeners = \"many\"", &["is not a whole number"]),
        ("max_listener_duration = \"0s\"", &["mount[0].max_listener_duration", "out of range"]),
        ("on_source_end = \"stop\"", &["mount[0].on_source_end = \"stop\"", "\"wait\", \"close\""]),
        ("half_close = true", &["mount[0].half_close = true", "\"close\", \"keep\""]),
        ("icy_metadata = true", &["mount[0].icy_metadata = true", "\"auto\", \"always\", \"off\""]),
        ("icy_metaint = 100", &["mount[0].icy_metaint = 100", "from 1024 to 1048576"]),
        ("icy_metaint = \"2MiB\"", &["mount[0].icy_metaint = \"2MiB\"", "such as 16000"]),
        ("cors = \"all\"", &["mount[0].cors = \"all\": is no origin", "\"*\", \"none\""]),
        ("cors = [\"https://a.example\", \"https://b.example/\"]", &["mount[0].cors[1] = \"https://b.example/\"", "without a path"]),
        ("cors = []", &["mount[0].cors = []", "\"none\""]),
        ("content_type = \"mp3\"", &["mount[0].content_type = \"mp3\"", "audio/mpeg"]),
        ("name = \"a\\nb\"", &["mount[0].name", "control character", "one line"]),
        ("name = \"\"", &["mount[0].name = \"\"", "is empty", "remove the key"]),
        ("name = 5", &["mount[0].name = 5: is a number, not a text", "write \"5\""]),
        ("url = \"example.org\"", &["mount[0].url", "https://example.org/"]),
        ("tcp = [\"localhost\"]", &["mount[0].tcp[0] = \"localhost\"", "host:port"]),
        ("tcp = \"unix:/a\"", &["mount[0].tcp = \"unix:/a\"", "host:port"]),
        ("tcp = [9000]", &["mount[0].tcp[0] = 9000", "127.0.0.1:9000"]),
        ("tcp = [\"127.0.0.1:7000\", \"127.0.0.1:7000\"]", &["mount[0].tcp[1]", "already by mount[0].tcp[0]"]),
        ("tcp = [\"127.0.0.1:8000\"]", &["mount[0].tcp[0]", "covered already by \"0.0.0.0:8000\" (the default) of server.listen"]),
        ("pipeline = \"\"", &["mount[0].pipeline = \"\"", "launch syntax"]),
        ("pipeline = \"nosuch ! x\"", &[":3: mount[0].pipeline = \"nosuch ! x\": no element \"nosuch\"", "gst-launch-1.0"]),
        ("brust = \"5s\"", &[":3: mount[0].brust = \"5s\"", "did you mean \"mount[0].burst\"?"]),
        ("colour = 1", &["mount[0].colour = 1", "the keys here are"]),
        ("relay = [\"http://a/\", \"ftp://b/\"]", &["mount[0].relay[1] = \"ftp://b/\"", "does not begin with http:// or https://"]),
        ("relay = \"http://a/\"\npipeline = \"x\"", &["mount[0].relay", "is written beside pipeline"]),
        ("push_password = \"hackme\"", &["mount[0].push_password = …", "everybody knows", "openssl rand"]),
        ("push_password = \"s3cret\"\npush_password_hash = \"$1$x\"", &["mount[0].push_password_hash = …", "no hash"]),
        ("source_timeout = \"0s\"", &["mount[0].source_timeout", "out of range"]),
    ] {
        assert_refused(load_with(&format!("[[mount]]\npath = \"/a\"\n{line}\n"), &[]), parts, line);
    }
}

#[test]
fn a_bad_file_is_answered_with_line_key_value_and_remedy() {
    for (text, parts) in [
        ("[server]\nshards = 257", &[":2: server.shards = 257", "0 to 256"] as &[_]),
        ("[server]\nshards = -1", &["server.shards = -1", "0 to 256"]),
        ("[server]\nlisten = []", &["server.listen = []", "nowhere to listen", "unix:/path"]),
        ("[server]\nlisten = [\"unix:\"]", &["server.listen[0] = \"unix:\"", "has no path"]),
        ("[server]\nlisten = [\n  \"0.0.0.0:1\",\n  \":80\",\n]", &[":4: server.listen[1] = \":80\"", "no host", "0.0.0.0:8000"]),
        ("[server]\nlisten = [\"[::]:80\", \"[::1]:80\"]", &["server.listen[1]", "covered already by \"[::]:80\" of server.listen[0]"]),
        ("[server]\nlisten = [\"unix:/a\", \"unix:/a\"]", &["server.listen[1]", "already"]),
        ("[server]\nmax_listeners = 0", &["server.max_listeners = 0", "1 to 1000000"]),
        ("[server]\nmax_listeners = 100\nmax_connections = 100", &[":3: server.max_connections", "status and admin", "at least 112"]),
        ("[server]\nheader_timeout = \"10m\"", &["server.header_timeout", "\"1s\" to \"5m\""]),
        ("[server]\nmax_header_size = \"128KiB\"", &["server.max_header_size", "\"1KiB\" to \"64KiB\""]),
        ("[server]\nport = 8000", &["server.port = 8000", "the keys here are listen"]),
        ("[log]\nformat = \"xml\"", &[":2: log.format = \"xml\"", "\"auto\", \"text\", \"json\""]),
        ("[log]\naccess = \"here\"", &[":2: log.access = \"here\"", "no path", "/var/log/flumen/access.log"]),
        ("[log]\naccess_format = \"xml\"", &["log.access_format = \"xml\"", "\"combined\", \"json\""]),
        ("[[webhook]]", &["webhook[0].url", "missing", "url = \"http://"]),
        ("[[webhook]]\nurl = \"ftp://a/\"", &["webhook[0].url = \"ftp://a/\"", "https://"]),
        ("[[webhook]]\nurl = \"https://a/\"\nca = \"/nowhere.pem\"", &["webhook[0].ca", "cannot be read", "PEM"]),
        ("[[webhook]]\nurl = \"https://a/\"\nca = \"/dev/null\"", &["webhook[0].ca", "holds no certificate", "PEM"]),
        (
            "[[webhook]]\nurl = \"http://a/\"\nevents = [\"source_up\", \"joined\"]",
            &[":3: webhook[0].events[1] = \"joined\"", "listener_joined"],
        ),
        ("[[webhook]]\nurl = \"http://a/\"\nevents = []", &["webhook[0].events = []", "leave it out"]),
        ("[sever]\nlisten = []", &[":1: sever = {…}", "did you mean \"server\"?"]),
        ("[webhook]\nurl = \"a\"", &[":1: webhook", "where a list of sections belongs", "write [[webhook]]"]),
        ("server = 5", &["server = 5", "write [server]"]),
        ("[mount]\npath = \"/a\"", &[":1: mount", "write [[mount]]"]),
        ("mount = [5]", &["mount[0] = 5", "write [[mount]]"]),
        ("[mount_defaults]\npath = \"/a\"", &[":2: mount_defaults.path", "under each [[mount]]"]),
        ("[mount_defaults]\nkep = \"1s\"\n[[mount]]\npath = \"/a\"", &[":2: mount_defaults.kep", "mount_defaults.keep"]),
        ("[mount_defaults]\nkeep = 5\n[[mount]]\npath = \"/a\"\n[[mount]]\npath = \"/b\"", &[":2: mount_defaults.keep = 5", "5s"]),
        ("[mount_defaults]\nsoft_limit = \"9s\"\nhard_limit = \"8s\"\n[[mount]]\npath = \"/a\"", &[":2: mount_defaults.soft_limit"]),
        ("[mount_defaults]\nhard_limit = \"8s\"\n[[mount]]\npath = \"/a\"\nsoft_limit = \"9s\"", &[":5: mount[0].soft_limit", ":2)"]),
        ("\n[[mount]]\nname = \"x\"", &[":2: mount[0].path", "is missing", "/radio.mp3"]),
        ("[[mount]]\npath = 5", &["mount[0].path = 5"]),
        ("[[mount]]\npath = \"radio\"", &["mount[0].path = \"radio\": does not start with a slash", "/radio.mp3"]),
        ("[[mount]]\npath = \"/metrics\"", &["mount[0].path = \"/metrics\"", "flumen's own", "another path"]),
        ("[[mount]]\npath = \"/a.m3u\"", &["mount[0].path = \"/a.m3u\"", "playlists"]),
        ("[[mount]]\npath = \"/a\"\n[[mount]]\npath = \"/a\"", &[":4: mount[1].path = \"/a\"", "mount[0] already (", ":1)"]),
        ("[[mount]]\npath = \"/a\"\nburst = 5s\n", &[":3: `burst = …`", "in quotes"]),
        ("[[mount]]\npath = \"/a\"\npath = \"/b\"\n", &[":3: ", "duplicate key", "each key once"]),
        ("[[mount]\npath = \"/a\"\n", &[":1: "]),
    ] {
        assert_refused(load_with(text, &[]), parts, text);
    }
}

#[test]
fn every_error_is_reported_at_once_and_in_order() {
    let text = "[server]\nshards = 1000\nmax_listenerz = 5\n[log]\nformat = 5\n[[mount]]\npath = \"/a\"\nkeep = 10\nburst = [\"x\", \"5s\", \"y\"]\n[[mount]]\ncoalesce = \"no\"\n";
    let errors = load_with(text, &[("FLUMEN_MOUNT__1__KEEP", "y")]).expect_err("wrong");
    let places: Vec<_> =
        errors.iter().map(|error| format!("{} {}", error.place.to_string().rsplit(':').next().unwrap_or(""), error.key)).collect();
    let want =
        ["2 server.shards", "3 server.max_listenerz", "5 log.format", "8 mount[0].keep", "9 mount[0].burst[0]", "9 mount[0].burst[2]"];
    assert_eq!(places[..6], want, "{errors}");
    assert_eq!(places[6..], ["10 mount[1].path", "11 mount[1].coalesce", "FLUMEN_MOUNT__1__KEEP mount[1].keep"], "{errors}");
    assert_eq!(errors.to_string().lines().count(), places.len(), "one line each");
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let config = good("[[mount]]\npath = \"/a\"\n");
    assert_eq!((config.shards, config.max_listeners, config.log.clone()), (0, 10_000, Log::default()));
    let described = describe(&config, COSTS);
    for line in [
        "listen = [\"0.0.0.0:8000\"]",
        "max_connections = 12000",
        "header_timeout = \"15s\"",
        "max_header_size = \"8KiB\"",
        "sync = \"burst-keyframe\"",
        "burst = [\"5s\", \"48KiB\"]",
        "burst_max = \"none\"",
        "keep = \"10s\"",
        "soft_limit = \"10s\"",
        "hard_limit = \"30s\"",
        "recover = \"keyframe\"",
        "resend_streamheader = true",
        "idle_timeout = \"1m\"",
        "coalesce = \"20ms..500ms\"",
        "send_buffer = \"auto\"",
        "dscp = \"none\"",
        "max_listeners = \"none\"",
        "max_listener_duration = \"none\"",
        "on_source_end = \"wait\"",
        "linger = \"none\"",
        "allow_query = false",
        "icy_metadata = \"auto\"",
        "icy_metaint = 16000",
        "charset = \"windows-1252\"",
        "ogg_chaining = \"keep\"",
        "cors = \"*\"",
        "half_close = \"close\"",
        "ring_max = \"64MiB\"",
    ] {
        assert!(described.lines().any(|described| described == line), "{line}\n{described}");
    }
}

#[test]
fn a_default_gives_way_to_what_is_written() {
    for (written, want) in [
        ("hard_limit = \"5s\"", "soft_limit = \"5s\""),
        ("hard_limit = [\"20s\", \"1MiB\"]", "soft_limit = \"10s\""),
        ("soft_limit = \"1m\"", "hard_limit = \"1m\""),
        ("burst = \"20s\"", "soft_limit = \"25s\""),
        ("burst = \"20s\"", "hard_limit = \"45s\""),
        ("burst = \"20s\"\nhard_limit = \"22s\"", "soft_limit = \"22s\""),
        ("burst = \"64MiB\"", "soft_limit = \"10s\""),
        ("soft_limit = \"none\"", "hard_limit = \"30s\""),
        ("burst_max = \"2s\"", "burst = [\"2s\", \"48KiB\"]"),
        ("burst_max = \"32KiB\"", "burst = [\"5s\", \"32KiB\"]"),
        ("burst_max = \"3 chunks\"", "burst = [\"5s\", \"48KiB\"]"),
        ("hard_limit = \"100MiB\"", "ring_max = \"200MiB\""),
    ] {
        let described = describe(&good(&format!("[[mount]]\npath = \"/a\"\n{written}\n")), COSTS);
        assert!(described.lines().any(|line| line == want), "{written}: {want}\n{described}");
    }
    for (written, listeners, connections) in [
        ("max_listeners = 20000", 20_000, 24_000),
        ("max_listeners = 5", 5, 12_000),
        ("max_connections = 100", 88, 100),
        ("max_connections = 2", 1, 2),
        ("max_listeners = 3\nmax_connections = 4", 3, 4),
    ] {
        let config = good(&format!("[server]\n{written}\n"));
        assert_eq!((config.max_listeners, config.door.max_connections), (listeners, connections), "{written}");
    }
}

#[test]
fn limits_below_the_burst_are_warned_of() {
    for (written, want) in [
        ("burst = \"20s\"", &[] as &[&str]),
        ("burst = \"20s\"\nsoft_limit = \"10s\"", &["mount /a: soft_limit = \"10s\" is below the 20s of burst"]),
        ("burst = [\"1s\", \"2MiB\"]\nsoft_limit = \"1MiB\"\nhard_limit = \"1MiB\"", &["soft_limit = \"1MiB\"", "hard_limit = \"1MiB\""]),
        ("burst = \"5s\"\nsoft_limit = \"20 chunks\"", &[]),
    ] {
        let config = good(&format!("[[mount]]\npath = \"/a\"\npush_password = \"s3cret\"\n{written}\n"));
        let found = warnings(&config);
        assert_eq!(found.len(), want.len(), "{written}: {found:?}");
        for (found, want) in found.iter().zip(want) {
            assert!(found.contains(want) && describe(&config, COSTS).contains(&format!("# Warning: {found}")), "{found}");
        }
    }
    let found = warnings(&good("[[mount]]\npath = \"/a\"\n"));
    assert!(found.len() == 1 && found[0].contains("nothing will ever be heard"), "{found:?}");
    assert!(warnings(&good("[push]\npassword = \"s3cret\"\n[[mount]]\npath = \"/a\"\n")).is_empty());
}

#[test]
fn a_long_line_of_nonsense_is_not_repeated_in_full() {
    let long = "x".repeat(100_000);
    for text in [format!("[[mount]]\npath = \"/a\"\nburst = \"{long}\"\n"), format!("[{long}\n")] {
        let errors = load_with(&text, &[]).expect_err("no extent, no TOML").to_string();
        assert!(errors.chars().count() < 600 && errors.contains("xx…"), "{} characters", errors.len());
    }
}

pub(super) const COSTS: Costs =
    Costs { listener_bytes: 2048, connection_bytes: 8192, socket_buffer_max: 1 << 20, cores: 2, event_log_bytes: 32 << 20 };

#[test]
fn what_is_described_loads_to_the_same() {
    let every_key = r#"
        server = { listen = ["[::1]:80", "unix:/run/a b"], shards = 2, max_listeners = 7, header_timeout = "1500ms", max_header_size = "1500B" }
        log = { format = "text", access = "/var/log/a \"b\"", access_format = "json" }
        [[webhook]]
        url = "http://example.org/?a=b"
        [[webhook]]
        url = "http://[::1]:1/"
        events = ["source_down", "listener_left"]
        [mount_defaults]
        tcp = []
        genre = "Ärger \"und\" \\ Freude"
        [[mount]]
        path = "/a"
        pipeline = '''
        audiotestsrc name="x\y"
        	! fakesink'''
        content_type = 'video/webm; codecs="vp8, opus"'
        name = "N"
        description = "D"
        url = "https://example.org/?a=\"b\""
        public = true
        hidden = true
        tcp = ["127.0.0.1:9000", "[::1]:9000"]
        sync = "latest"
        burst = ["3 chunks", "1 chunk", "50000B", "1500ms"]
        burst_max = "70001B"
        keep = "none"
        soft_limit = "none"
        hard_limit = ["1h", "90m"]
        recover = "soft-limit"
        resend_streamheader = false
        idle_timeout = "none"
        coalesce = "7ms"
        send_buffer = "50000B"
        dscp = "AF41"
        max_listeners = 5
        max_listener_duration = "7d"
        on_source_end = "close"
        linger = "90s"
        allow_query = true
        icy_metadata = "always"
        icy_metaint = "8KiB"
        charset = "KOI8-R"
        ogg_chaining = "hide"
        cors = ["https://Example.org", "http://[::1]:8080"]
        half_close = "keep"
        ring_max = "100MB"
        [[mount]]
        path = "/b"
        idle_timeout = "90s"
        icy_metaint = "16000"
        cors = "none"
    "#;
    for text in [every_key, "", DEMO] {
        let mut first = good(text);
        let described = describe(&first, COSTS);
        let mut second = good(&described);
        (first.origin, second.origin) = (Origin::Demo, Origin::Demo);
        assert_eq!(format!("{first:#?}"), format!("{second:#?}"), "{described}");
    }
}

#[test]
fn who_may_come_in_is_checked_with_line_key_value_and_remedy() {
    for (text, parts) in [
        ("[server]\ntrusted_proxies = [\"10.0.0.1/8\"]\n", &[":2: server.trusted_proxies[0] = \"10.0.0.1/8\"", "bits set"] as &[_]),
        ("[server]\ntrusted_proxies = [\"proxy.example\"]\n", &["server.trusted_proxies[0]", "is no address", "10.0.0.0/8"]),
        ("[server]\nproxy_protocol = [\"8001\"]\n", &["server.proxy_protocol[0]", "has no host or no port"]),
        (
            "[push]\nshoutcast = [\"127.0.0.1:39011\"]\n[server]\nproxy_protocol = [\"127.0.0.1:39011\"]\n",
            &["is listened at already by server.proxy_protocol[0]"],
        ),
        ("[server]\nbanned_file = \"/no/such\"\n", &["server.banned_file", "cannot be read"]),
        ("[server]\nstate_dir = \"/no/such\"\n", &["server.state_dir", "no folder that is there"]),
        ("[server]\nmemory_limit = \"1MiB\"\n", &["server.memory_limit", "from \"64MiB\"", "\"auto\""]),
        ("[server]\nredirect_peers = [\"b.example\"]\n", &["server.redirect_peers[0]", "http://"]),
        ("[server]\nredirect_peers = [\"http://b/x\"]\n", &["server.redirect_peers[0]", "is more than a server"]),
        ("[server]\nredirect_peers = [\"http://b\", \"http://b/\"]\n", &["server.redirect_peers", "names a server twice"]),
        ("[server]\nredirect_from = \"70%\"\n", &["server.redirect_from", "write redirect_peers"]),
        ("[server]\nredirect_from = 70\nredirect_peers = [\"http://b\"]\n", &["server.redirect_from = 70", "\"80%\""]),
        ("[server]\nredirect_from = \"0%\"\nredirect_peers = [\"http://b\"]\n", &["server.redirect_from", "\"80%\""]),
        ("[server]\nmax_connections_per_address = 0\n", &["server.max_connections_per_address = 0", "from 1"]),
        ("[[address_group]]\nnetworks = [\"::/0\"]\n", &["address_group[0].name", "is missing"]),
        ("[[address_group]]\nname = \"a\"\n", &["address_group[0].networks", "is missing"]),
        ("[[address_group]]\nname = \"a\"\nnetworks = []\nfile = \"/dev/null\"\n", &["address_group[0].file", "beside networks"]),
    ] {
        assert_refused(load_with(text, &[]), parts, text);
    }
    let config = good("[server]\nlisten = [\"127.0.0.1:39011\"]\nproxy_protocol = [\"127.0.0.1:39011\"]\ntrusted_proxies = \"unix\"\n");
    assert_eq!((config.door.patrol.proxied.len(), config.door.patrol.trusts_unix), (1, true));
}
