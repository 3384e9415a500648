//! What `flumen check` prints: the effective settings, as a file that says the same, and the most memory they can take.

use std::fmt::Write;

use super::value::shown_bandwidth;
use super::{Config, LogFormat, MemoryLimit, auth, mount, reports};
use crate::access::ban::BANS_MOST;
use crate::access::rule::Rule;
use crate::acme;
use crate::bouncer;
use crate::chronicle::{WATCHERS_BYTES, WATCHERS_MOST};
use crate::door::patrol;
use crate::door::tls::{self, TlsSettings};
use crate::engine::admission::Limits;
use crate::engine::socket::SEND_BUFFER_MOST;
use crate::engine::tls as session;
use crate::fanout::ring::Ring;
use crate::ingest::framing::HELD_MOST;
use crate::mount::{Announce, Cors, Pattern, Refuge, Settings};
use crate::units::{ByteCount, Extent, Extents, format_duration};

/// What the caller knows of memory that no setting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// User memory of one listener, its share of all tables included.
    pub listener_bytes: u64,
    /// User memory of one open connection that is not a listener, without the heads it may send.
    pub connection_bytes: u64,
    /// The largest SO_SNDBUF that the kernel grants ([`socket_buffer_max`]).
    pub socket_buffer_max: u64,
    /// Shards where the configuration wants one per core.
    pub cores: u64,
}

/// The largest SO_SNDBUF that this machine's kernel grants; what Linux has by default where that cannot be read.
pub fn socket_buffer_max() -> u64 {
    let told = std::fs::read_to_string("/proc/sys/net/core/wmem_max").ok();
    told.and_then(|text| text.trim().parse().ok()).unwrap_or(212_992)
}

/// The effective settings as TOML that loads to the same [`Config`], then the worst case of memory as comments.
pub fn describe(config: &Config, costs: Costs) -> String {
    let mut out = format!("# Effective settings, from {}\n", config.origin);
    describe_settings(&mut out, config);
    for mount in &config.mounts {
        describe_mount(&mut out, mount.path.as_str(), mount);
    }
    for pattern in &config.patterns {
        describe_pattern(&mut out, pattern);
    }
    out.push('\n');
    describe_memory(&mut out, config, costs);
    out
}

fn describe_tls(out: &mut String, section: &TlsSettings, wanted: &[acme::Settings]) {
    out.push_str("\n[[server.tls]]\n");
    let listen: Vec<_> = section.listen.iter().map(|address| quoted(&address.to_string())).collect();
    entry(out, "listen", format_args!("[{}]", listen.join(", ")));
    entry(out, "auto", section.auto);
    let path = |path: &std::path::Path| quoted(&path.to_string_lossy());
    let order = |files: &_| wanted.iter().find(|wanted| wanted.files() == *files);
    let pairs = section.certificates.iter().filter(|files| order(files).is_none());
    let pairs = pairs.map(|files| format!("{{ cert = {}, key = {} }}", path(&files.cert), path(&files.key)));
    entry(out, "certificates", format_args!("[{}]", pairs.collect::<Vec<_>>().join(", ")));
    for acme::Settings { domains, folder, directory, contact, ca } in section.certificates.iter().filter_map(order) {
        let domains: Vec<_> = domains.iter().map(|domain| quoted(domain)).collect();
        let mut keys = format!("domains = [{}], folder = {}, directory = {}", domains.join(", "), path(folder), quoted(directory));
        let further = [("contact", contact.as_deref().map(quoted)), ("ca", ca.as_deref().map(path))];
        further.into_iter().for_each(|(key, value)| keys.extend(value.map(|value| format!(", {key} = {value}"))));
        entry(out, "acme", format_args!("{{ {keys}, agree = true }}"));
    }
}

/// Every section but the mounts.
pub(super) fn describe_settings(out: &mut String, config: &Config) {
    out.push_str("\n[server]\n");
    let listen: Vec<_> = config.door.listen.iter().map(|address| quoted(&address.to_string())).collect();
    entry(out, "listen", format_args!("[{}]", listen.join(", ")));
    entry(out, "shards", config.shards);
    if let Some(identity) = &config.identity {
        entry(out, "user", quoted(&identity.user));
        identity.group.iter().for_each(|group| entry(out, "group", quoted(group)));
    }
    entry(out, "max_listeners", config.max_listeners);
    entry(out, "max_connections", config.door.max_connections);
    describe_limits(out, &config.limits);
    if !config.peers.peers.is_empty() {
        entry(out, "redirect_peers", list(config.peers.peers.iter().map(ToString::to_string)));
        entry(out, "redirect_from", quoted(&format!("{}%", config.peers.from / 10)));
    }
    describe_patrol(out, &config.door.patrol);
    let memory = match config.memory_limit {
        MemoryLimit::Auto => "auto".to_owned(),
        MemoryLimit::None => "none".to_owned(),
        MemoryLimit::Bytes(bytes) => exact(ByteCount(bytes)),
    };
    entry(out, "memory_limit", quoted(&memory));
    entry(out, "header_timeout", quoted(&format_duration(config.door.header_timeout)));
    entry(out, "max_header_size", quoted(&exact(config.door.max_header_size)));
    for section in &config.door.tls {
        describe_tls(out, section, &config.acme);
    }
    for group in &config.groups {
        out.push_str("\n[[address_group]]\n");
        entry(out, "name", quoted(&group.name));
        match &group.file {
            Some(file) => entry(out, "file", quoted(&file.to_string_lossy())),
            None => entry(out, "networks", list(group.networks.iter().map(|network| network.to_string()))),
        }
        entry(out, "max_listeners", or_none(group.max_listeners.map(|most| most.to_string())));
    }
    out.push_str("\n[log]\n");
    entry(out, "format", quoted(label(&LogFormat::WORDS, config.log.format)));
    entry(out, "access", quoted(&config.log.access.shown()));
    entry(out, "access_format", quoted(label(&reports::ACCESS_FORMATS, config.log.access_format)));
    out.push_str("\n[metrics]\n");
    entry(out, "icecast_exporter", config.metrics.icecast_exporter);
    out.push_str("\n[push]\n");
    let shoutcast: Vec<_> = config.shoutcast.iter().map(|address| quoted(&address.to_string())).collect();
    entry(out, "shoutcast", format_args!("[{}]", shoutcast.join(", ")));
    if let Some(mount) = &config.shoutcast_mount {
        entry(out, "shoutcast_mount", quoted(mount.as_str()));
    }
    for hook in &config.webhooks {
        out.push_str("\n[[webhook]]\n");
        entry(out, "url", quoted(&hook.url));
        let events: Vec<_> = hook.events.iter().map(|kind| quoted(kind.label())).collect();
        entry(out, "events", format_args!("[{}]", events.join(", ")));
        if let Some(ca) = &hook.ca {
            entry(out, "ca", quoted(&ca.to_string_lossy()));
        }
    }
    describe_admin(out, config);
    for directory in &config.directories {
        out.push_str("\n[[directory]]\n");
        entry(out, "url", quoted(&directory.url));
        entry(out, "server", quoted(&directory.server));
    }
    for mirror in &config.mirrors {
        out.push_str("\n[[mirror]]\n");
        entry(out, "from", quoted(mirror.server.upstreams.first().map_or("", |from| from)));
        entry(out, "on_demand", mirror.server.on_demand);
        entry(out, "interval", quoted(&format_duration(mirror.interval)));
        entry(out, "max_mounts", mirror.most);
        if let Some(ca) = &mirror.server.ca {
            entry(out, "ca", quoted(&ca.to_string_lossy()));
        }
        if let Some(login) = &mirror.server.login {
            let _ = writeln!(out, "# user = {}, with a password", quoted(&login.user));
        }
    }
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "\"none\"".to_owned())
}

fn list(texts: impl Iterator<Item = String>) -> String {
    format!("[{}]", texts.map(|text| quoted(&text)).collect::<Vec<_>>().join(", "))
}

/// What a mount and the server have alike.
fn describe_limits(out: &mut String, limits: &Limits) {
    entry(out, "max_listeners_per_address", or_none(limits.per_address.map(|most| most.to_string())));
    entry(out, "max_listeners_per_user", or_none(limits.per_user.map(|most| most.to_string())));
    entry(out, "max_bandwidth", or_none(limits.bandwidth.map(|most| quoted(&shown_bandwidth(most)))));
    entry(out, "max_join_rate", or_none(limits.join_rate.map(|most| most.to_string())));
}

fn describe_patrol(out: &mut String, patrol: &patrol::Settings) {
    let unix = patrol.trusts_unix.then(|| "unix".to_owned());
    entry(out, "trusted_proxies", list(patrol.trusted.iter().map(|network| network.to_string()).chain(unix)));
    entry(out, "proxy_protocol", list(patrol.proxied.iter().map(ToString::to_string)));
    entry(out, "max_connections_per_address", or_none(patrol.per_address.map(|most| most.to_string())));
    if let Some(file) = &patrol.banned_file {
        entry(out, "banned_file", quoted(&file.to_string_lossy()));
        let _ = writeln!(out, "# which lists {}", patrol.banned.iter().count());
    }
    entry(out, "state_dir", or_none(patrol.state_dir.as_ref().map(|path| quoted(&path.to_string_lossy()))));
}

fn describe_admin(out: &mut String, config: &Config) {
    let admin = &config.admin;
    out.push_str("\n[admin]\n");
    entry(out, "user", quoted(&admin.user));
    out.push_str(match &admin.password {
        None => "# no password: operators are those on this machine, and nobody else\n",
        Some(password) if password.is_hashed() => "# password_hash = \"…\"\n",
        Some(_) => "# password = \"…\"\n",
    });
    entry(out, "contact", quoted(&admin.contact));
    entry(out, "location", quoted(&admin.location));
    if let Some(hostname) = &admin.hostname {
        entry(out, "hostname", quoted(hostname));
    }
}

/// What publishers make mounts of.
pub(super) fn describe_pattern(out: &mut String, pattern: &Pattern) {
    describe_mount(out, pattern.paths.as_str(), &pattern.mounts);
    entry(out, "max_mounts", pattern.most);
}

/// One mount.
pub(super) fn describe_mount(out: &mut String, path: &str, mount: &Settings) {
    let rules = &mount.rules;
    out.push_str("\n[[mount]]\n");
    entry(out, "path", quoted(path));
    let profile = &mount.profile;
    let texts = [
        ("pipeline", mount.pipeline.as_deref()),
        ("content_type", mount.content_type.as_deref()),
        ("name", profile.name.as_deref()),
        ("description", profile.description.as_deref()),
        ("genre", profile.genre.as_deref()),
        ("url", profile.url.as_deref()),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            entry(out, key, quoted(text));
        }
    }
    if !mount.relay.is_empty() {
        // Without user and password.
        let relay = &mount.relay;
        let upstreams: Vec<_> = crate::ingest::relay::upstreams(relay).iter().map(|upstream| quoted(&upstream.to_string())).collect();
        entry(out, "relay", format_args!("[{}]", upstreams.join(", ")));
        entry(out, "relay_on_demand", relay.on_demand);
        if let Some(ca) = &relay.ca {
            entry(out, "relay_ca", quoted(&ca.to_string_lossy()));
        }
        if let Some(login) = &relay.login {
            let _ = writeln!(out, "# relay_user = {}, with a password", quoted(&login.user));
        }
    }
    if let Some(push) = &mount.push {
        entry(out, "source_timeout", quoted(&format_duration(push.source_timeout)));
        entry(out, "takeover", push.takeover);
        if let Some(backend) = &push.stream_auth {
            entry(out, "stream_auth", auth::described_backend(backend, false));
        }
        let whose = if push.stream_auth.is_some() {
            "as its backend says"
        } else if push.password.is_some() {
            "with a password"
        } else {
            "by nobody: there is no password"
        };
        out.push_str(&format!("# filled by an encoder that pushes, {whose}\n"));
    }
    entry(out, "public", profile.public);
    entry(out, "hidden", profile.hidden);
    let tcp: Vec<_> = mount.tcp.iter().map(|address| quoted(&address.to_string())).collect();
    entry(out, "tcp", format_args!("[{}]", tcp.join(", ")));
    entry(out, "sync", quoted(rules.wish.method.label()));
    entry(out, "burst", extents(&rules.wish.burst));
    entry(out, "burst_max", extents(&rules.wish.burst_max));
    entry(out, "keep", extents(&mount.keep));
    entry(out, "ring_max", quoted(&exact(mount.ring_max)));
    entry(out, "soft_limit", extents(&rules.limits.soft));
    entry(out, "hard_limit", extents(&rules.limits.hard));
    entry(out, "recover", quoted(rules.recover.label()));
    entry(out, "resend_streamheader", rules.resend_streamheader);
    entry(out, "idle_timeout", or_none(rules.idle_timeout.map(|span| quoted(&format_duration(span)))));
    let (min, max) = (format_duration(rules.coalesce.min), format_duration(rules.coalesce.max));
    entry(out, "coalesce", quoted(&if min == max { min } else { format!("{min}..{max}") }));
    let send_buffer = rules.send_buffer.map_or_else(|| "auto".to_owned(), |bytes| exact(ByteCount(bytes.into())));
    entry(out, "send_buffer", quoted(&send_buffer));
    entry(out, "dscp", or_none(rules.dscp.map(|dscp| dscp.to_string())));
    entry(out, "max_listeners", or_none(mount.max_listeners.map(|most| most.to_string())));
    describe_limits(out, &mount.limits);
    entry(out, "redirect_on_overflow", or_none(mount.redirect_on_overflow.as_deref().map(quoted)));
    entry(out, "max_listener_duration", or_none(rules.max_duration.map(|span| quoted(&format_duration(span)))));
    entry(out, "on_source_end", quoted(label(&mount::ON_SOURCE_END, mount.on_source_end)));
    entry(out, "linger", or_none(mount.linger.map(|span| quoted(&format_duration(span)))));
    let fallback = match &mount.fallback.to {
        None => "none".to_owned(),
        Some(Refuge::Mount(path)) => path.to_string(),
        Some(Refuge::File(path)) => format!("file:{}", path.to_string_lossy()),
    };
    entry(out, "fallback", quoted(&fallback));
    entry(out, "override", mount.fallback.brings_back);
    entry(out, "fallback_when_full", mount.fallback.when_full);
    if let Some(intro) = &mount.intro {
        entry(out, "intro", quoted(&format!("file:{}", intro.path.to_string_lossy())));
    }
    entry(out, "allow_query", mount.allow_query);
    entry(out, "icy_metadata", quoted(label(&mount::ICY_METADATA, mount.icy_metadata)));
    entry(out, "icy_metaint", mount.icy_metaint);
    entry(out, "ogg_chaining", quoted(label(&mount::OGG_CHAINING, mount.ogg_chaining)));
    entry(out, "cors", cors(&mount.cors));
    if let Some(rule) = &mount.listen_auth {
        entry(out, "listen_auth", auth::described(rule));
    }
    for (key, url) in [("mount_add", &mount.announce.add), ("mount_remove", &mount.announce.remove)] {
        if let Some(url) = url {
            entry(out, key, quoted(url));
        }
    }
    entry(out, "half_close", quoted(label(&mount::HALF_CLOSE, rules.keep_half_closed)));
}

fn describe_memory(out: &mut String, config: &Config, costs: Costs) {
    let mut lines: Vec<[String; 6]> =
        vec![["mount", "history (ring_max)", "pinned by stragglers", "on its way in", "at most", "(largest chunk)"].map(str::to_owned)];
    let (mut user, mut mounts) = (0u64, 0);
    let declared = config.mounts.iter().map(|mount| (mount.path.to_string(), mount, 1));
    let mirrored =
        config.mirrors.iter().map(|mirror| (format!("{} of {}", mirror.most, mirror.address()), &mirror.mounts, mirror.most as u64));
    let made =
        config.patterns.iter().map(|pattern| (format!("{} of {}", pattern.most, pattern.paths), &pattern.mounts, pattern.most as u64));
    for (name, mount, count) in declared.chain(made).chain(mirrored) {
        // Each source has a framer; one that relieves another is a second, a recording in its place one more.
        let relieved = mount.push.as_ref().is_some_and(|push| push.takeover);
        let framers = 1 + u64::from(relieved) + u64::from(mount.fallback.file().is_some());
        // A relay may get frames in place of bytes: the one that comes, and its payload on the way out of it.
        let frames = if mount.relay.is_empty() && (mount.push.is_some() || mount.pipeline.is_some()) { 0 } else { 2 * mount.chunk_max() };
        let held = (framers * HELD_MOST as u64).max(frames);
        let (ring, bound) = (mount.ring_max.0, mount.memory_bound().saturating_add(held));
        mounts += count;
        let pinned = mount.rules.memory_max - ring;
        let cells = [ring, pinned, bound - mount.rules.memory_max, bound, mount.chunk_max()].map(|bytes| ByteCount(bytes).to_string());
        let [ring, pinned, inbound, bound_text, chunk] = cells;
        lines.push([name, ring, pinned, inbound, bound_text, chunk]);
        user = user.saturating_add(bound.saturating_mul(count));
        // One copy, however many mounts are made with it.
        user = user.saturating_add(mount.intro.as_ref().map_or(0, |intro| intro.held_bytes()));
    }
    out.push_str("# Memory at the very most, whatever listeners do:\n#\n");
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for [name, cells @ ..] in &lines {
        let _ = write!(out, "# {name:<0$}", widths[0]);
        for (cell, width) in cells.iter().zip(&widths[1..]) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
    // Where TLS is spoken, it may be spoken by everybody.
    let (of_session, of_handshake) = if config.door.tls.is_empty() { (0, 0) } else { (session::SESSION_BYTES, tls::SESSION_BYTES) };
    let (of_pass, of_letters) = memory_of_auth(config);
    let listener = costs.listener_bytes + of_session + of_pass;
    let guest = costs.connection_bytes + HEADS_HELD * config.door.max_header_size.0 + of_handshake;
    let (listeners, guests) = worst_mix(config, listener, guest);
    let [of_listeners, of_guests] = [listeners.saturating_mul(listener), guests.saturating_mul(guest)];
    let kernel = kernel_bytes(config, costs.socket_buffer_max);
    let lists = lists_bytes(config);
    let shards = if config.shards == 0 { costs.cores } else { config.shards as u64 };
    let tapes = mounts * shards * Ring::COPY_MOST;
    let total = user.saturating_add(of_listeners).saturating_add(of_guests).saturating_add(WATCHERS_BYTES).saturating_add(lists);
    let total = total.saturating_add(of_letters).saturating_add(tapes);
    let _ = writeln!(
        out,
        "#\n# mounts                            {} (on its way in: {} of that in a framer, for types that have one)\
         \n# newest chunks in one piece        {} ({shards} shards keep {} of each mount they have listeners of)\
         \n# listeners    {listeners:>9} × {:>8} {} (max_listeners is {}; this is the mix of connections that takes most)\
         \n# guests       {guests:>9} × {:>8} {} (connections that do not listen, or not yet; besides, the answer each is being sent)\
         \n# watchers                          {} (consoles and others who follow /api/v1/events, {WATCHERS_MOST} at most)\
         \n# bans, groups of addresses         {}\
         \n# total, user memory                {} (and what the program and its pipelines take by themselves)\
         \n# kernel, queued in sockets         {} (listeners × 2 × send_buffer, of which the kernel grants {} by net.core.wmem_max;\
         \n#                                   \"auto\" counts with its most, {}, and takes 2 × bit rate × (coalesce + 0.5s))",
        ByteCount(user),
        ByteCount(HELD_MOST as u64),
        ByteCount(tapes),
        ByteCount(Ring::COPY_MOST),
        ByteCount(listener).to_string(),
        ByteCount(of_listeners),
        config.max_listeners,
        ByteCount(guest).to_string(),
        ByteCount(of_guests),
        ByteCount(WATCHERS_BYTES),
        ByteCount(lists),
        ByteCount(total),
        ByteCount(kernel),
        ByteCount(costs.socket_buffer_max),
        ByteCount(SEND_BUFFER_MOST as u64),
    );
    if of_session > 0 {
        let _ = writeln!(
            out,
            "# of that, TLS: {} of each listener (at rest a third of it) and {} of each guest, as if everybody spoke it",
            ByteCount(of_session),
            ByteCount(of_handshake)
        );
    }
    let successor =
        user.saturating_mul(2).saturating_add(of_listeners).saturating_add(listeners.saturating_mul(HANDED_OVER_BYTES + of_pass));
    let _ = writeln!(
        out,
        "# while another binary takes over   {} more (histories in a memory file and in the new process, and listeners there)",
        ByteCount(successor)
    );
    if of_pass > 0 {
        let _ = writeln!(
            out,
            "# of that, who listens: {} of each listener, as if all were asked at length, and {} for what backends have to be told",
            ByteCount(of_pass),
            ByteCount(of_letters)
        );
    }
    for warning in super::warnings(config) {
        let _ = writeln!(out, "#\n# Warning: {warning}");
    }
}

/// What one listener takes as plain data, as text and taken apart, on its way to another process.
const HANDED_OVER_BYTES: u64 = 2048;

/// Memory of what is known of addresses: as many bans as there may be, each with the longest reason, and as text while they are
/// written; and the lists, each network as it is written and as a range.
fn lists_bytes(config: &Config) -> u64 {
    const BAN_BYTES: u64 = 2048;
    const NETWORK_BYTES: u64 = 64;
    let listed = config.door.patrol.banned.iter().count() + config.door.patrol.trusted.iter().count();
    let grouped: usize = config.groups.iter().map(|group| group.networks.iter().count()).sum();
    BANS_MOST as u64 * BAN_BYTES + (listed + grouped) as u64 * NETWORK_BYTES
}

/// What who may listen costs, of each listener and in all: its pass, and what waits to be told to each backend.
fn memory_of_auth(config: &Config) -> (u64, u64) {
    let rules = config.settings_of_mounts().filter_map(|mount| mount.listen_auth.as_deref());
    let leaves: Vec<_> = rules.flat_map(Rule::leaves).collect();
    let told = |leaf: &&&Rule| matches!(leaf, Rule::Url(backend) if backend.remove_url.is_some());
    let farewells = leaves.iter().filter(told).count() as u64;
    let announced = config.settings_of_mounts().filter(|mount| mount.announce != Announce::default()).count() as u64;
    let of_pass = if leaves.is_empty() { 0 } else { bouncer::PASS_BYTES + farewells.min(1) * bouncer::FAREWELL_MOST as u64 };
    (of_pass, (farewells + announced) * bouncer::LETTERS_BYTES_MOST as u64)
}

/// How often the largest head is held for one guest: as it came, as it was passed on, in the framework's buffer (which doubles),
/// and the beginning of the next.
const HEADS_HELD: u64 = 4;

/// Listeners and guests, as many of each as take most memory together. Both use up `max_connections`, and no place of those is
/// kept for listeners.
fn worst_mix(config: &Config, listener: u64, guest: u64) -> (u64, u64) {
    let connections = config.door.max_connections;
    let listeners = if listener > guest { config.max_listeners.min(connections) } else { 0 };
    (listeners, connections - listeners)
}

/// Send buffers at the very most: all listeners where the buffers are largest, as far as a mount takes them. The kernel doubles
/// what is asked for, and grants no more than `granted`.
fn kernel_bytes(config: &Config, granted: u64) -> u64 {
    let buffer = |mount: &Settings| mount.rules.send_buffer.map_or(SEND_BUFFER_MOST as u64, u64::from).min(granted);
    let declared = config.mounts.iter().map(|mount| (mount, 1));
    let made = config.patterns.iter().map(|pattern| (&pattern.mounts, pattern.most as u64));
    let mirrored = config.mirrors.iter().map(|mirror| (&mirror.mounts, mirror.most as u64));
    let places =
        |(mount, count): (&Settings, u64)| (buffer(mount), mount.max_listeners.map_or(u64::MAX, |most| most.saturating_mul(count)));
    let mut mounts: Vec<_> = declared.chain(made).chain(mirrored).map(places).collect();
    mounts.sort_unstable_by(|a, b| b.cmp(a));
    let (mut left, mut bytes) = (config.max_listeners, 0u64);
    for (buffer, most) in mounts {
        let here = left.min(most);
        left -= here;
        bytes = bytes.saturating_add(here.saturating_mul(2 * buffer));
    }
    bytes
}

fn entry(out: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A size that reads back as the same: in the largest unit that leaves a whole number.
pub(super) fn exact(size: ByteCount) -> String {
    let short = size.to_string();
    if short.parse() == Ok(size) { short } else { format!("{}B", size.0) }
}

fn extents(extents: &Extents) -> String {
    let one = |extent| match extent {
        Extent::Bytes(size) => quoted(&exact(size)),
        other => quoted(&other.to_string()),
    };
    let all: Vec<_> = extents.iter().map(one).collect();
    match all.as_slice() {
        [] => "\"none\"".to_owned(),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn cors(cors: &Cors) -> String {
    match cors {
        Cors::Any => quoted("*"),
        Cors::None => quoted("none"),
        Cors::Origins(origins) => format!("[{}]", origins.iter().map(|origin| quoted(origin)).collect::<Vec<_>>().join(", ")),
    }
}

fn label<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}
