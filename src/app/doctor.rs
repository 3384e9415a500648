//! `flumen doctor`: whether this machine is fit for this configuration, and what would make it so.
//!
//! Rules are pure: what was found goes in, a finding with its advice comes out. Looking is done at the end of the file.
//!
//! Deliberately absent: changing anything, and what `flumen check` says already (the settings, and the most memory they take).

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{StartError, sockets};
use crate::config::{Access, Config, Origin, socket_buffer_max};
use crate::door::ListenAddress;
use crate::door::bound::Bound;
use crate::door::certificate::Keyring;
use crate::door::tls::Port;
use crate::ingest;

/// Descriptors beside those of connections: logs, threads, pipelines.
const DESCRIPTORS_BESIDE: u64 = 128;
/// What a storm of reconnecting listeners needs of the kernel's queue.
const QUEUE_LEAST: u64 = 1024;
/// A connection that is cut should be noticed within so many seconds.
const KEEPALIVE_MOST: u64 = 600;
/// A certificate that ends so soon should have been renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// No clock that is right says less: 2026-01-01.
const LEAST_TIME: u64 = 1_767_225_600;
/// What usual pipelines are made of, and the Debian packages that have it.
const ELEMENTS: [(&str, &str); 12] = [
    ("vorbisenc", "gstreamer1.0-plugins-base"),
    ("oggmux", "gstreamer1.0-plugins-base"),
    ("opusenc", "gstreamer1.0-plugins-base"),
    ("tcpserversrc", "gstreamer1.0-plugins-base"),
    ("flacparse", "gstreamer1.0-plugins-good"),
    ("vp8enc", "gstreamer1.0-plugins-good"),
    ("webmmux", "gstreamer1.0-plugins-good"),
    ("lamemp3enc", "gstreamer1.0-plugins-good"),
    ("mpegaudioparse", "gstreamer1.0-plugins-good"),
    ("mpegtsmux", "gstreamer1.0-plugins-bad"),
    ("fdkaacenc", "gstreamer1.0-plugins-bad"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
];

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Good,
    /// It works, and could be better.
    Advice,
    /// The server does not run like this, or not as it is told to.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    weight: Weight,
    said: String,
    /// What would help; empty where nothing need.
    advice: String,
}

impl Finding {
    fn good(what: &'static str, said: impl Into<String>) -> Self {
        Self { what, weight: Weight::Good, said: said.into(), advice: String::new() }
    }

    fn advice(what: &'static str, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, weight: Weight::Advice, said: said.into(), advice: advice.into() }
    }

    fn bad(what: &'static str, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, weight: Weight::Bad, said: said.into(), advice: advice.into() }
    }
}

// ---- rules ----

fn descriptors(hard_limit: Option<u64>, connections: u64) -> Finding {
    let needed = connections + DESCRIPTORS_BESIDE;
    match hard_limit {
        Some(limit) if limit < needed => Finding::bad(
            "descriptors",
            format!("the hard limit is {limit}, and max_connections = {connections} needs {needed}"),
            format!("LimitNOFILE={} in the unit, or ulimit -Hn; or lower max_connections", needed.next_power_of_two()),
        ),
        Some(limit) => Finding::good("descriptors", format!("{limit} for {needed}")),
        None => Finding::good("descriptors", "without limit"),
    }
}

fn queue(somaxconn: Option<u64>) -> Finding {
    match somaxconn {
        Some(length) if length < QUEUE_LEAST => Finding::advice(
            "kernel: queue",
            format!("net.core.somaxconn is {length}: of more who come at once some wait for seconds"),
            "sysctl net.core.somaxconn=4096 (packaging/flumen.sysctl)",
        ),
        Some(length) => Finding::good("kernel: queue", format!("net.core.somaxconn is {length}")),
        None => Finding::advice("kernel: queue", "net.core.somaxconn cannot be read", "look whether /proc is mounted"),
    }
}

fn half_open(backlog: Option<u64>) -> Finding {
    match backlog {
        Some(length) if length < QUEUE_LEAST => Finding::advice(
            "kernel: backlog",
            format!("net.ipv4.tcp_max_syn_backlog is {length}: of more who begin to connect at once some begin again, seconds later"),
            "sysctl net.ipv4.tcp_max_syn_backlog=4096 (packaging/flumen.sysctl)",
        ),
        Some(length) => Finding::good("kernel: backlog", format!("net.ipv4.tcp_max_syn_backlog is {length}")),
        None => Finding::advice(
            "kernel: backlog",
            "net.ipv4.tcp_max_syn_backlog cannot be read",
            "look whether /proc and the network are there",
        ),
    }
}

fn keepalive(seconds: Option<u64>) -> Finding {
    match seconds {
        Some(seconds) if seconds > KEEPALIVE_MOST => Finding::advice(
            "kernel: probes",
            format!(
                "net.ipv4.tcp_keepalive_time is {seconds}: what a pipeline is connected to and was cut is noticed after so many seconds"
            ),
            "sysctl net.ipv4.tcp_keepalive_time=600 (packaging/flumen.sysctl); flumen's own sockets ask for less already",
        ),
        Some(seconds) => Finding::good("kernel: probes", format!("net.ipv4.tcp_keepalive_time is {seconds}")),
        None => {
            Finding::advice("kernel: probes", "net.ipv4.tcp_keepalive_time cannot be read", "look whether /proc and the network are there")
        }
    }
}

fn send_buffers(granted: u64, largest_wanted: Option<u32>) -> Finding {
    match largest_wanted.map(u64::from) {
        Some(wanted) if wanted > granted => Finding::advice(
            "kernel: buffers",
            format!("net.core.wmem_max is {granted}, and a mount wants a send_buffer of {wanted}"),
            format!("sysctl net.core.wmem_max={wanted} (packaging/flumen.sysctl has 1048576)"),
        ),
        _ => Finding::good("kernel: buffers", format!("net.core.wmem_max is {granted}")),
    }
}

fn clock(now: SystemTime, file_written: Option<SystemTime>) -> Finding {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < LEAST_TIME {
        return Finding::bad("clock", "it is before 2026", "set the clock (timedatectl set-ntp true): certificates are judged by it");
    }
    if file_written.is_some_and(|written| written.duration_since(now).is_ok_and(|ahead| ahead > Duration::from_secs(3600))) {
        return Finding::advice("clock", "it is behind the time at which the configuration was written", "timedatectl set-ntp true");
    }
    Finding::good("clock", "plausible")
}

fn certificate(path: &str, expires: u64, now: u64) -> Finding {
    match expires.checked_sub(now) {
        None => Finding::bad("certificate", format!("{path} has expired {} days ago", (now - expires) / 86_400), "renew it"),
        Some(left) if left < RENEW_BEFORE.as_secs() => Finding::advice(
            "certificate",
            format!("{path} expires in {} days", left / 86_400),
            "renew it, and see why that has not been done by itself; the server takes a new one by itself",
        ),
        Some(left) => Finding::good("certificate", format!("{path}: {} days", left / 86_400)),
    }
}

fn plugins(missing: &[(&str, &str)]) -> Finding {
    if missing.is_empty() {
        return Finding::good("plugins", "those of usual pipelines are there");
    }
    let names: Vec<_> = missing.iter().map(|(element, _)| *element).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    Finding::advice(
        "plugins",
        format!("not there: {}", names.join(", ")),
        format!("if you want them: apt-get install {}", packages.join(" ")),
    )
}

fn address(address: &ListenAddress, purpose: &str, bound: Result<(), io::ErrorKind>) -> Finding {
    let address = format!("{address} ({purpose})");
    match bound {
        Ok(()) => Finding::good("address", format!("{address} is free")),
        Err(io::ErrorKind::AddrInUse) => Finding::advice(
            "address",
            format!("{address} is in use"),
            "by a flumen that runs already? Else choose another (ss -ltnp shows who)",
        ),
        Err(io::ErrorKind::PermissionDenied) => Finding::bad(
            "address",
            format!("{address} is not for everybody to bind"),
            "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, a socket unit, or start as root with user = in [server]",
        ),
        Err(error) => Finding::bad("address", format!("{address} cannot be bound: {error}"), "name an address of this machine (ip addr)"),
    }
}

fn user(is_root: bool, becomes: Option<&str>) -> Finding {
    match (is_root, becomes) {
        (true, Some(user)) => Finding::good("user", format!("root, who becomes {user}")),
        (false, _) => Finding::good("user", "not root"),
        (true, None) => Finding::advice("user", "the server would stay root", "write user = \"flumen\" in [server], or User= in the unit"),
    }
}

fn log_folder(path: &Path, writable: bool) -> Finding {
    match writable {
        true => Finding::good("access log", format!("{} may be written", path.display())),
        false => Finding::bad(
            "access log",
            format!("{} may not be written", path.display()),
            "make its folder, and give it to the server's user",
        ),
    }
}

// ---- telling ----

fn told(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, weight, said, advice } in findings {
        let mark = match weight {
            Weight::Good => "ok",
            Weight::Advice => "note",
            Weight::Bad => "BAD",
        };
        let _ = writeln!(text, "{mark:<5} {what:<16} {said}"); // a string takes everything
        if !advice.is_empty() {
            let _ = writeln!(text, "{:22} -> {advice}", "");
        }
    }
    text
}

/// What was found, in lines, and how much of it is bad.
pub(super) fn examine(loaded: Result<Config, StartError>) -> (String, usize) {
    let findings = match loaded {
        Ok(config) => look(&config),
        Err(error) => vec![Finding::bad("configuration", error.to_string(), "flumen check says the same once it is mended")],
    };
    let bad = findings.iter().filter(|finding| finding.weight == Weight::Bad).count();
    (told(&findings), bad)
}

// ---- looking ----

fn look(config: &Config) -> Vec<Finding> {
    let mut found =
        vec![Finding::good("configuration", format!("{}: {} mounts, every pipeline can be built", config.origin, config.mounts.len()))];
    let of_file = match &config.origin {
        Origin::File(path) => std::fs::metadata(path).and_then(|facts| facts.modified()).ok(),
        Origin::Demo | Origin::CommandLine => None,
    };
    found.push(clock(SystemTime::now(), of_file));
    found.push(descriptors(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum, config.door.max_connections));
    let is_root = rustix::process::geteuid().is_root();
    found.push(user(is_root, config.identity.as_ref().map(|identity| identity.user.as_str())));
    found.push(queue(number_in("/proc/sys/net/core/somaxconn")));
    found.push(half_open(number_in("/proc/sys/net/ipv4/tcp_max_syn_backlog")));
    found.push(keepalive(number_in("/proc/sys/net/ipv4/tcp_keepalive_time")));
    let wanted = config.mounts.iter().filter_map(|mount| mount.rules.send_buffer).max();
    found.push(send_buffers(socket_buffer_max(), wanted));
    let missing: Vec<_> = ELEMENTS.into_iter().filter(|(element, _)| !ingest::is_there(element)).collect();
    found.push(plugins(&missing));
    found.extend(certificates(config));
    let uses = sockets::addresses_with_uses(config);
    let all: Vec<_> = uses.iter().map(|(address, _)| address.clone()).collect();
    // A socket in the file system is made anew at each start, and would be taken from a server that runs.
    found.extend(uses.iter().filter(|(listen, _)| matches!(listen, ListenAddress::Inet(_))).map(|(listen, purpose)| {
        let bound = Bound::http(listen, &all).map(drop).map_err(|error| error.kind());
        address(listen, purpose, bound)
    }));
    if let Access::File(path) = &config.log.access {
        let place = if path.exists() { path.clone() } else { path.parent().map_or_else(PathBuf::new, Path::to_owned) };
        found.push(log_folder(path, rustix::fs::access(&place, rustix::fs::Access::WRITE_OK).is_ok()));
    }
    found
}

fn certificates(config: &Config) -> Vec<Finding> {
    let keyring = Keyring::default();
    let flaws = config.door.tls.iter().filter_map(|section| Port::open(section, &keyring).err());
    let mut found: Vec<_> = flaws.map(|flaw| Finding::bad("certificate", flaw.to_string(), "mend it, then flumen reload")).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    found.extend(keyring.expiries().into_iter().map(|(path, expires)| certificate(&path, expires, now)));
    found
}

fn number_in(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_weighs_what_was_found() {
        let day = 86_400;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(LEAST_TIME + 400 * day);
        let later = now + Duration::from_secs(7200);
        let here = ListenAddress::Inet("127.0.0.1:80".parse().expect("an address"));
        for (finding, weight, part) in [
            (descriptors(Some(1024), 12_000), Weight::Bad, "LimitNOFILE=16384"),
            (descriptors(Some(12_128), 12_000), Weight::Good, ""),
            (descriptors(None, 12_000), Weight::Good, ""),
            (queue(Some(128)), Weight::Advice, "somaxconn=4096"),
            (queue(Some(4096)), Weight::Good, ""),
            (queue(None), Weight::Advice, "/proc"),
            (send_buffers(212_992, Some(1 << 20)), Weight::Advice, "wmem_max=1048576"),
            (send_buffers(212_992, Some(65_536)), Weight::Good, ""),
            (send_buffers(212_992, None), Weight::Good, ""),
            (clock(SystemTime::UNIX_EPOCH, None), Weight::Bad, "set the clock"),
            (clock(SystemTime::UNIX_EPOCH - Duration::from_secs(5), None), Weight::Bad, "set the clock"),
            (clock(now, Some(later)), Weight::Advice, "set-ntp"),
            (clock(now, Some(now)), Weight::Good, ""),
            (certificate("/a", 100 * day, 101 * day), Weight::Bad, "renew"),
            (certificate("/a", 100 * day, 90 * day), Weight::Advice, "renew"),
            (certificate("/a", 100 * day, 10 * day), Weight::Good, ""),
            (plugins(&[]), Weight::Good, ""),
            (plugins(&[("a", "p"), ("b", "p")]), Weight::Advice, "apt-get install p"),
            (half_open(Some(128)), Weight::Advice, "tcp_max_syn_backlog=4096"),
            (half_open(Some(1024)), Weight::Good, ""),
            (half_open(None), Weight::Advice, "/proc"),
            (keepalive(Some(7200)), Weight::Advice, "tcp_keepalive_time=600"),
            (keepalive(Some(600)), Weight::Good, ""),
            (keepalive(None), Weight::Advice, "/proc"),
            (address(&here, "HTTP", Ok(())), Weight::Good, ""),
            (address(&here, "HTTP", Err(io::ErrorKind::AddrInUse)), Weight::Advice, "ss -ltnp"),
            (address(&here, "HTTP", Err(io::ErrorKind::PermissionDenied)), Weight::Bad, "CAP_NET_BIND_SERVICE"),
            (address(&here, "HTTP", Err(io::ErrorKind::AddrNotAvailable)), Weight::Bad, "ip addr"),
            (user(true, None), Weight::Advice, "user = "),
            (user(true, Some("x")), Weight::Good, ""),
            (user(false, None), Weight::Good, ""),
            (log_folder(Path::new("/a/b"), false), Weight::Bad, "folder"),
            (log_folder(Path::new("/a/b"), true), Weight::Good, ""),
        ] {
            assert_eq!(finding.weight, weight, "{finding:?}");
            assert!(finding.advice.contains(part) && finding.advice.is_empty() == (weight == Weight::Good), "{finding:?}");
        }
    }

    #[test]
    fn whatever_the_packages_sysctl_file_sets_is_looked_at() {
        let file = include_str!("../../packaging/flumen.sysctl");
        let settings: Vec<_> = file.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = ")).collect();
        assert_eq!(settings.len(), 4, "{settings:?}");
        let missing = [queue(Some(0)), half_open(Some(0)), send_buffers(0, Some(1_048_576)), keepalive(Some(u64::MAX))];
        for (key, value) in settings {
            let advised = format!("sysctl {key}={value} ");
            assert!(missing.iter().any(|finding| finding.advice.contains(&advised)), "{advised}: {missing:?}");
        }
    }

    #[test]
    fn what_is_found_is_told_with_what_helps() {
        let text = told(&[Finding::good("clock", "plausible"), Finding::bad("certificate", "/a has expired", "renew it")]);
        assert_eq!(text, "ok    clock            plausible\nBAD   certificate      /a has expired\n                       -> renew it\n");
    }
}
