//! What `flumen check` prints: the effective settings, as a file that says the same, and the most memory they can take.

use std::fmt::Write;

use super::memory::{Costs, describe_memory};
use super::value::shown_bandwidth;
use super::{Config, LogFormat, MemoryLimit, auth, mount, reports};
use crate::access::Password;
use crate::acme;
use crate::door::patrol;
use crate::door::tls::TlsSettings;
use crate::engine::admission::Limits;
use crate::mount::{Cors, Pattern, Refuge, Settings};
use crate::units::{ByteCount, Extent, Extents, format_duration};

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
    describe_password(out, admin.password.as_ref(), "operators are those on this machine, and nobody else");
    entry(out, "contact", quoted(&admin.contact));
    entry(out, "location", quoted(&admin.location));
    if let Some(hostname) = &admin.hostname {
        entry(out, "hostname", quoted(hostname));
    }
    out.push_str("\n[relay]\n");
    entry(out, "user", quoted(&admin.relay.user));
    describe_password(out, admin.relay.password.as_ref(), "relays are listeners like any other");
}

/// That there is one, or what it means that there is none.
fn describe_password(out: &mut String, password: Option<&Password>, without: &str) {
    let _ = match password {
        None => writeln!(out, "# no password: {without}"),
        Some(password) if password.is_hashed() => writeln!(out, "# password_hash = \"…\""),
        Some(_) => writeln!(out, "# password = \"…\""),
    };
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
    entry(out, "charset", quoted(&mount.charset.to_string()));
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
