//! Mounts and relays of an Icecast configuration.

use super::super::auth::{HEADERS_MOST, names_header};
use super::super::describe::{exact, quoted};
use super::super::discretion::discreet;
use super::super::mount::{collision, load_intro};
use super::super::value::is_media_type;
use super::elements::Element;
use super::sections::{Section, Sections};
use crate::access::rule::Rule;
use crate::bouncer::files;
use crate::ingest::relay::Upstream;
use crate::mount::PathPattern;
use crate::units::{ByteCount, MountPath};
use crate::wire::charset::Charset;

/// The longest time that a key takes, in seconds.
const YEAR: u64 = 366 * 86_400;
/// The largest history.
const HISTORY_MOST: u64 = 16 << 30;

/// What the rest needs to know first, wherever it stands: the paths of files, and what holds for all mounts.
pub(super) fn defaults_first(root: &Element<'_>, to: &mut Sections) {
    let paths = root.child("paths");
    let folder = |name| paths.and_then(|paths| paths.text_of(&[name])).unwrap_or_default().trim_end_matches('/').to_owned();
    (to.webroot, to.log_folder) = (folder("webroot"), folder("logdir"));
    let certificate = paths.and_then(|paths| paths.text_of(&["ssl-certificate", "tls-certificate"]));
    let context = root.child("security").and_then(|security| security.child("tls-context"));
    let certificate = certificate.or_else(|| context.and_then(|context| context.text_of(&["tls-certificate"])));
    if let Some(cert) = certificate {
        let key = paths
            .and_then(|paths| paths.text_of(&["ssl-private-key"]))
            .or_else(|| context.and_then(|context| context.text_of(&["tls-key"])));
        to.certificate(cert, key.unwrap_or(cert)); // one file may hold both
    }
    for element in root.children().filter(is_default) {
        let mut defaults = std::mem::replace(&mut to.defaults, Section::new(""));
        keys(&element, &mut defaults, to);
        to.defaults = defaults;
    }
}

/// Whether it says what holds for all mounts.
fn is_default(element: &Element<'_>) -> bool {
    element.name() == "mount" && element.attribute("type") == Some("default")
}

/// A mount; the defaults have been seen to before.
pub(super) fn mount(element: &Element<'_>, to: &mut Sections) {
    if is_default(element) {
        return;
    }
    let Some(path) = element.text_of(&["mount-name"]) else { return to.leave(element, "it has no name") };
    let mut section = section_of(element, path, to);
    keys(element, &mut section, to);
    to.mounts.push(section);
}

/// A mount that another server fills.
pub(super) fn relay(element: &Element<'_>, to: &mut Sections) {
    let upstreams: Vec<_> = element.children().filter(|child| ["upstream", "master", "host"].contains(&child.name())).collect();
    // What one of several upstreams does not say itself, the relay says for all of them.
    let from = |upstream: &Element<'_>| {
        if let Some(uri) = upstream.text_of(&["uri"]) {
            return Some(uri.to_owned());
        }
        let said = |names: &[&str]| upstream.text_of(names).or_else(|| element.text_of(names));
        let host = said(&["server", "ip"])?;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let (port, path) = (said(&["port"]).unwrap_or("8000"), said(&["mount"]).unwrap_or("/"));
        let tls = [upstream, element].into_iter().find_map(|element| element.child("tls").or_else(|| element.child("ssl")));
        let scheme = if tls.is_some_and(|tls| tls.flag()) { "https" } else { "http" };
        Some(format!("{scheme}://{host}:{port}{path}"))
    };
    let itself = upstreams.is_empty() || element.text_of(&["mount", "uri"]).is_some();
    let mut urls: Vec<_> = upstreams.iter().filter_map(from).chain(itself.then(|| from(element)).flatten()).collect();
    let mut seen = std::collections::HashSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    let (urls, unfit): (Vec<_>, Vec<_>) = urls.into_iter().partition(|url| Upstream::parse(url).is_ok());
    for url in unfit {
        to.leave(element, &format!("{}: a relay pulls from http:// and https:// addresses", discreet(&url)));
    }
    let Some(path) = element.text_of(&["local-mount", "mount"]) else { return to.leave(element, "it has no mount") };
    if urls.is_empty() {
        return to.leave(element, "it has no server");
    }
    if PathPattern::is_meant(path) {
        return to.leave(element, "a relay fills one mount, and not a pattern");
    }
    let mut section = section_of(element, path, to);
    section.set("relay", format!("[{}]", urls.iter().map(|url| quoted(url)).collect::<Vec<_>>().join(", ")), "");
    if element.child("on-demand").is_some_and(|demand| demand.flag()) {
        section.set("relay_on_demand", true, "");
    }
    for child in element.children() {
        match child.name() {
            "server"
            | "ip"
            | "port"
            | "mount"
            | "local-mount"
            | "on-demand"
            | "relay-shoutcast-metadata"
            | "upstream"
            | "master"
            | "host"
            | "ssl"
            | "tls"
            | "enable"
            | "run-on"
            | "retry-delay"
            | "timeout" => {}
            "username" => {}
            "password" => login(element, &child, "relay_", &mut section, &mut to.left_out),
            _ => to.unknown(&child),
        }
    }
    to.mounts.push(section);
}

/// A server whose mounts are mounts here.
pub(super) fn mirror(element: &Element<'_>, root: &Element<'_>, to: &mut Sections) {
    let port = root.child("master-server-port").and_then(|port| port.number(1..=65_535)).unwrap_or(8000);
    let host = if element.text().contains(':') { format!("[{}]", element.text()) } else { element.text().to_owned() };
    let from = format!("http://{host}:{port}");
    if element.text().contains(['/', '@', '?', '#', '[']) || Upstream::parse(&from).is_err() {
        return to.leave(element, "it is no host");
    }
    let mut section = Section::new("[[mirror]]");
    section.text("from", &from);
    if let Some(interval) = root.child("master-update-interval") {
        match interval.number(1..=86_400) {
            Some(seconds) => section.set("interval", format!("\"{seconds}s\""), ""),
            None => to.leave(&interval, "it is no number of seconds from 1 to 86400"),
        }
    }
    if let Some(password) = root.child("master-password") {
        login(root, &password, "", &mut section, &mut to.left_out);
    }
    if root.child("relays-on-demand").is_some_and(|demand| demand.flag()) {
        section.set("on_demand", true, "");
    }
    to.directories.push(section);
}

/// Who asks the other server: two keys that begin with `prefix`, written where they are of use.
pub(super) fn login(element: &Element<'_>, password: &Element<'_>, prefix: &str, section: &mut Section, left_out: &mut Vec<String>) {
    let (user, word) = (element.text_of(&["username", "master-username"]), password.text());
    let fit = |text: &str, most| !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control);
    if !fit(word, 256) {
        return left_out.push(format!("{}: it is no password", password.place()));
    }
    section.text(&format!("{prefix}password"), word);
    match user {
        Some(user) if fit(user, 64) && !user.contains(':') => section.text(&format!("{prefix}user"), user),
        Some(_) => left_out.push(format!("{}: its user is no name of at most 64 bytes without a colon", password.place())),
        None => {}
    }
}

/// A path as it is written here.
fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// The section of the mount at this path; one that is there already (a mount and its relay) is gone on with.
fn section_of(element: &Element<'_>, path: &str, to: &mut Sections) -> Section {
    let rooted = rooted(path);
    if let Some(index) = to.mounts.iter().position(|section| section.is_of(&rooted)) {
        return to.mounts.remove(index);
    }
    let mut section = Section::new("[[mount]]");
    section.place(&rooted);
    let fault = match rooted.parse::<MountPath>() {
        Err(_) if rooted.parse::<PathPattern>().is_ok() => None,
        Err(error) => Some(format!("its path {}", error.problem)),
        Ok(path) => collision(path.as_str()).map(|whose| format!("its path is taken by {whose}")),
    };
    if let Some(fault) = fault {
        to.leave(element, &fault);
        section.comment_out();
    }
    section
}

fn keys(mount: &Element<'_>, section: &mut Section, to: &mut Sections) {
    for element in mount.children() {
        let left_out = &mut to.left_out;
        match element.name() {
            "mount-name" | "no-mount" | "subtype" | "bitrate" | "mp3-metadata-interval" | "wait-time" | "file-seekable" => {}
            "stream-name" => section.line(&element, "name", 255, left_out),
            "stream-description" => section.line(&element, "description", 1024, left_out),
            "genre" => section.line(&element, "genre", 255, left_out),
            "stream-url" => url(&element, section, left_out),
            // What is UTF-8 is read so wherever it comes from.
            "charset" if element.text().eq_ignore_ascii_case("utf8") || element.text().eq_ignore_ascii_case("utf-8") => {}
            "charset" => match element.text().parse::<Charset>() {
                Ok(charset) => section.text("charset", &charset.to_string()),
                Err(error) => left_out.push(format!("{}: {}", element.place(), error.problem)),
            },
            "type" => {
                if is_media_type(element.text()) {
                    section.text("content_type", element.text());
                } else {
                    left_out.push(format!("{}: it is no media type", element.place()));
                }
            }
            "public" => section.set("public", element.flag(), ""),
            "no-yp" => section.set("public", !element.flag(), ""),
            "hidden" => section.set("hidden", element.flag(), ""),
            "max-listeners" => match element.number(1..=1_000_000) {
                Some(number) => section.set("max_listeners", number, ""),
                None if element.text().starts_with('-') => {}
                None => left_out.push(format!("{}: it is no number from 1 to 1000000", element.place())),
            },
            "max-listener-duration" => seconds(&element, "max_listener_duration", section, left_out),
            "source-timeout" => source_timeout(&element, section, left_out),
            "queue-size" | "max-queue-size" => queue(&element, section, left_out),
            "burst-size" => burst(&element, section, left_out),
            "burst-on-connect" => {
                if !element.flag() {
                    section.text("burst", "none");
                }
            }
            "fallback-mount" => match rooted(element.text()).parse::<MountPath>() {
                Ok(path) if to.fallbacks.take(section.path(), &path) => section.text("fallback", path.as_str()),
                Ok(_) => left_out.push(format!("{}: it would lead round in a circle", element.place())),
                Err(error) => left_out.push(format!("{}: {}", element.place(), error.problem)),
            },
            "fallback-override" => {
                if element.flag() || ["all", "own"].contains(&element.text()) {
                    section.set("override", true, "");
                }
            }
            "intro" => {
                let file = format!("{}/{}", to.webroot, element.text().trim_start_matches('/'));
                match load_intro(std::path::Path::new(&file), 1) {
                    Ok(_) => section.text("intro", &format!("file:{file}")),
                    Err(why) => left_out.push(format!("{}: {file} {why}", element.place())),
                }
            }
            "password" => section.password(&element, "push_password", left_out),
            "username" => {
                if element.text() != "source" {
                    left_out.push(format!("{}: an encoder logs in as \"source\"", element.place()));
                }
            }
            "max-bandwidth" => {
                left_out.push(format!("{}: it is counted otherwise here: write max_bandwidth = \"500Mbit/s\"", element.place()));
            }
            "redirect" => section.text("redirect_on_overflow", element.text()),
            "limit-rate" | "filter-theora" | "filter-opus" | "skip-accesslog" | "intro-skip-replay" | "linger-on" | "ban-client" => {
                left_out.push(format!("{}: it has no equivalent", element.place()));
            }
            "fallback-when-full" => {
                if element.flag() {
                    section.set("fallback_when_full", true, "");
                }
            }
            "dump-file" => left_out.push(format!("{}: streams are not written to files yet", element.place())),
            "on-connect" | "on-disconnect" | "event-bindings" => {
                left_out.push(format!(
                    "{}: programs are not started on events; mount_add and mount_remove tell a web address",
                    element.place()
                ));
            }
            "cluster-password" => {}
            "http-headers" => super::headers(&element, to),
            "authentication" => authentication(&element, section, to),
            _ => to.unknown(&element),
        }
    }
}

fn url(element: &Element<'_>, section: &mut Section, left_out: &mut Vec<String>) {
    let text = element.text();
    if !is_web_address(text) {
        left_out.push(format!("{}: it is no web address", element.place()));
    } else {
        section.text("url", text);
    }
}

/// What a mount says that nobody may listen to, until somebody sees to it.
const NOBODY: &str = "{ deny = [\"0.0.0.0/0\", \"::/0\"] }";

/// Who may listen and publish, and who is told. A mount that asked and cannot go on asking is closed, not opened.
fn authentication(element: &Element<'_>, section: &mut Section, to: &mut Sections) {
    let options: Vec<_> = element.children().filter(|child| child.name() == "option").collect();
    let option = |name: &str| {
        let value = options.iter().find(|option| option.attribute("name") == Some(name)).and_then(|option| option.attribute("value"));
        value.filter(|value| !value.is_empty())
    };
    let fit =
        |name: &str| option(name).filter(|value| value.len() <= 255 && !value.trim().is_empty() && !value.chars().any(char::is_control));
    match element.attribute("type") {
        Some("htpasswd") => match option("filename") {
            Some(file) => match files::check(&Rule::Htpasswd(file.into())) {
                Ok(()) => section.set("listen_auth", format!("{{ htpasswd = {} }}", quoted(file)), ""),
                Err(why) => close(element, &format!("{why} (Icecast's own are MD5: make new ones)"), section, to),
            },
            None => close(element, "it names no file", section, to),
        },
        Some("url") => {
            let login: String = [("user", fit("username")), ("password", fit("password"))]
                .into_iter()
                .filter_map(|(key, value)| Some(format!(", {key} = {}", quoted(value?))))
                .collect();
            let login = if fit("username").is_some() { login } else { String::new() };
            let header = fit("auth_header").map(|header| format!(", auth_header = {}", quoted(header.trim()))).unwrap_or_default();
            let told = told(&fit, element, to);
            let found = |name: &str| option(name).filter(|url| is_web_address(url));
            for name in ["listener_add", "listener_remove", "stream_auth", "mount_add", "mount_remove"] {
                if option(name).is_some() && found(name).is_none() {
                    to.leave(element, &format!("{name} is no web address"));
                }
            }
            match (option("listener_add"), found("listener_add")) {
                (_, Some(url)) => {
                    let remove = quoted(found("listener_remove").unwrap_or("none"));
                    section.set("listen_auth", format!("{{ url = {}, remove_url = {remove}{header}{told}{login} }}", quoted(url)), "");
                }
                (Some(_), None) => section.set("listen_auth", NOBODY, "nobody, for now: see what was left out"),
                (None, None) if option("listener_remove").is_some() => {
                    to.leave(element, "listener_remove without listener_add has no equivalent: see [[webhook]]");
                }
                (None, None) => {}
            }
            if let Some(url) = found("stream_auth") {
                section.set("stream_auth", format!("{{ url = {}{header}{login} }}", quoted(url)), "");
            }
            for name in ["mount_add", "mount_remove"] {
                if let Some(url) = found(name) {
                    section.text(name, url);
                }
            }
        }
        Some("anonymous") => {}
        _ => close(element, "it has no equivalent", section, to),
    }
    if option("allow_duplicate_users") == Some("0") {
        section.set("max_listeners_per_user", 1, "allow_duplicate_users");
    }
    for option in &options {
        match option.attribute("name").unwrap_or_default() {
            "filename"
            | "listener_add"
            | "listener_remove"
            | "stream_auth"
            | "mount_add"
            | "mount_remove"
            | "username"
            | "password"
            | "auth_header"
            | "timelimit_header"
            | "headers"
            | "header_prefix"
            | "allow_duplicate_users" => {}
            name => to.leave(option, &format!("{name}: it has no equivalent")),
        }
    }
}

/// What a backend is told beside the usual, and by which word it says for how long.
fn told<'v>(option: &impl Fn(&str) -> Option<&'v str>, element: &Element<'_>, to: &mut Sections) -> String {
    let headers = option("headers").into_iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let (mut names, mut told) = (Vec::new(), String::new());
    for name in headers {
        if names_header(name) && names.len() < HEADERS_MOST {
            names.push(quoted(name));
        } else {
            to.leave(element, &format!("headers: {name:?} is no name that can be carried over, or one too many"));
        }
    }
    if !names.is_empty() {
        told += &format!(", headers = [{}]", names.join(", "));
    }
    match option("header_prefix").map(str::trim) {
        Some(prefix) if names_header(prefix) => told += &format!(", header_prefix = {}", quoted(prefix)),
        Some(_) => to.leave(element, "header_prefix has something else than letters, digits, -, _ and dots in it"),
        None => {}
    }
    told + &option("timelimit_header").map(|name| format!(", timelimit_header = {}", quoted(name.trim()))).unwrap_or_default()
}

/// Lets nobody listen, and says why.
fn close(element: &Element<'_>, why: &str, section: &mut Section, to: &mut Sections) {
    to.leave(element, why);
    section.set("listen_auth", NOBODY, "nobody, for now: see what was left out");
}

fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && text.len() <= 2048
}

/// A time in seconds; none at all where Icecast has none.
pub(super) fn seconds(element: &Element<'_>, key: &str, section: &mut Section, left_out: &mut Vec<String>) {
    match element.number(1..=YEAR) {
        Some(seconds) => section.set(key, format!("\"{seconds}s\""), ""),
        None if element.text() == "0" || element.text().starts_with('-') => {}
        None => left_out.push(format!("{}: it is no number of seconds", element.place())),
    }
}

/// How long an encoder may be silent.
pub(super) fn source_timeout(element: &Element<'_>, section: &mut Section, left_out: &mut Vec<String>) {
    match element.number(1..=3600) {
        Some(seconds) => section.set("source_timeout", format!("\"{seconds}s\""), ""),
        None => left_out.push(format!("{}: it is no number of seconds from 1 to 3600", element.place())),
    }
}

/// How much a listener may be behind.
pub(super) fn queue(element: &Element<'_>, section: &mut Section, left_out: &mut Vec<String>) {
    match element.number(1..=HISTORY_MOST) {
        Some(bytes) => {
            section.set("hard_limit", quoted(&exact(ByteCount(bytes))), "see soft_limit and recover: who is behind need not be lost");
        }
        None => left_out.push(format!("{}: it is no number of bytes", element.place())),
    }
}

pub(super) fn burst(element: &Element<'_>, section: &mut Section, left_out: &mut Vec<String>) {
    match element.number(0..=HISTORY_MOST) {
        Some(0) => section.text("burst", "none"),
        Some(bytes) => section.set(
            "burst",
            quoted(&exact(ByteCount(bytes))),
            "in seconds it would be the same for every bit rate: [\"5s\", \"48KiB\"]",
        ),
        None => left_out.push(format!("{}: it is no number of bytes", element.place())),
    }
}

/// Where public mounts are announced.
pub(super) fn directory(element: &Element<'_>, root: &Element<'_>, to: &mut Sections) {
    let url = element.text_of(&["yp-url"]).or_else(|| element.attribute("url"));
    let Some(url) = url.filter(|url| url.starts_with("http://") && !url.contains(char::is_whitespace) && url.len() > "http://".len())
    else {
        return to.leave(element, "its address is not http://…");
    };
    let mut section = Section::new("[[directory]]");
    section.text("url", url);
    let host = root.text_of(&["hostname"]).filter(|host| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
    let port = root.child("listen-socket").and_then(|socket| socket.child("port")?.number(1..=65_535)).unwrap_or(8000);
    section.text("server", &format!("http://{}:{port}", host.unwrap_or("localhost")));
    to.directories.push(section);
}
