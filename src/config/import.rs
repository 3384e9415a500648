//! `flumen import-icecast`: from an Icecast configuration (2.4, 2.5, icecast-kh) to one that says the same here.
//!
//! ```text
//!   icecast.xml ─▶ elements ─▶ sections of TOML      what has no place there ─▶ a list of what was left out
//! ```
//! - The result loads: a value that would not is left out, and said. A key that this version does not support yet stands there as a
//!   comment; which those are, the lists of the readers know.
//! - Every element is either carried over, of no meaning here, or in the list, with its line. Nothing is passed over in silence.
//! - No password is made up, and one that everybody knows is not carried over.

mod elements;
mod mounts;
mod sections;

use std::io::Read;
use std::path::Path;

use super::error::{ConfigError, ConfigErrors, Place};
use crate::access::network::Network;
use crate::mount::{Login, PushSettings};
use elements::Element;
use sections::Sections;

/// A configuration is written by people; what is larger is another file by mistake.
const LARGEST_BYTES: u64 = 4 << 20;

/// What became of an Icecast configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// A flumen.toml.
    pub toml: String,
    /// What it could not take over, a line each.
    pub left_out: Vec<String>,
}

/// Reads an Icecast configuration.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn import_icecast(path: &Path) -> Result<Imported, ConfigErrors> {
    let name = path.display().to_string();
    let wrong = |line, problem: String, remedy: &str| {
        let place = Place::File { name: name.as_str().into(), line };
        ConfigErrors::from(ConfigError { place, key: String::new(), value: String::new(), problem, remedy: remedy.to_owned() })
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| wrong(0, format!("cannot be read: {error}"), "name Icecast's configuration, often /etc/icecast2/icecast.xml"))?;
    if bytes.len() as u64 > LARGEST_BYTES {
        return Err(wrong(0, "is larger than 4MiB".to_owned(), "name Icecast's configuration"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(0, "is not UTF-8".to_owned(), "convert it first, for example with iconv"))?;
    import(&name, &text).map_err(|(line, problem)| wrong(line, problem, "name an icecast.xml that Icecast itself can read"))
}

/// The same from a text that has no file; `None` if it is no such configuration.
#[cfg(any(test, feature = "fuzzing"))]
pub fn import_text(text: &str) -> Option<Imported> {
    import("a text", text).ok()
}

/// The same from a text; the error has its line.
fn import(name: &str, text: &str) -> Result<Imported, (usize, String)> {
    let document = roxmltree::Document::parse(text).map_err(|error| (error.pos().row as usize, format!("is no XML: {error}")))?;
    let root = Element::new(&document, document.root_element(), name);
    if root.name() != "icecast" {
        return Err((root.line(), format!("is no configuration of Icecast: its root is <{}>", root.name())));
    }
    let mut sections = Sections::new(name);
    top(&root, &mut sections);
    Ok(sections.finish())
}

/// Elements directly below the root, and those of one value below them.
fn top(root: &Element<'_>, to: &mut Sections) {
    mounts::defaults_first(root, to);
    for element in root.children() {
        match element.name() {
            "location" | "admin" => {
                let key = if element.name() == "admin" { "contact" } else { "location" };
                to.admin.line(&element, key, 255, &mut to.left_out);
            }
            "hostname" => hostname(&element, to),
            "limits" => limits(&element, to),
            "authentication" => authentication(&element, to),
            "listen-socket" => to.listen(&element),
            // Long ago these stood here.
            "port" | "bind-address" => {
                if element.name() == "port" {
                    to.listen(root);
                }
            }
            "source-password" | "relay-user" | "relay-password" | "admin-user" | "admin-password" => credential(&element, root, to),
            "mount" => mounts::mount(&element, to),
            "relay" => mounts::relay(&element, to),
            "paths" => paths(&element, to),
            "logging" => logging(&element, to),
            "security" => security(&element, to),
            "directory" | "yp-directory" => mounts::directory(&element, root, to),
            "http-headers" => headers(&element, to),
            "fileserve" => {
                if element.flag() {
                    to.leave(&element, "flumen serves no files: leave that to a web server");
                }
            }
            "shoutcast-mount" => {
                let port = root.child("listen-socket").and_then(|socket| socket.child("port")?.number(1..=65_534));
                to.shoutcast(port.unwrap_or(8000), element.text());
            }
            "master-server" => mounts::mirror(&element, root, to),
            "master-redirect" => {
                to.leave(
                    &element,
                    "write this server's address into redirect_peers of the master: it sends newcomers on before it is full",
                );
            }
            "master-server-port"
            | "master-update-interval"
            | "master-username"
            | "master-password"
            | "relays-on-demand"
            | "master-relay-auth"
            | "master-ssl-port"
            | "max-redirect-slaves" => {}
            "server-id" => to.leave(&element, "the server says what it is"),
            "event-bindings" => to.leave(&element, "what is to happen on events has no equivalent yet"),
            _ => to.unknown(&element),
        }
    }
}

fn hostname(element: &Element<'_>, to: &mut Sections) {
    let name = element.text();
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte)) && (1..=253).contains(&name.len()) {
        if name != "localhost" {
            to.admin.text("hostname", name);
        }
    } else {
        to.leave(element, "it is no host name");
    }
}

fn limits(limits: &Element<'_>, to: &mut Sections) {
    for element in limits.children() {
        match element.name() {
            "clients" | "max-listeners" => match element.number(1..=1_000_000) {
                Some(number) => to.server.set("max_listeners", number, "Icecast counts every client here, flumen listeners only"),
                None => to.leave(&element, "it is no number from 1 to 1000000"),
            },
            "header-timeout" => match element.number(1..=300) {
                Some(seconds) => to.server.set("header_timeout", format!("\"{seconds}s\""), ""),
                None => to.leave(&element, "it is no number of seconds from 1 to 300"),
            },
            "queue-size" | "max-queue-size" => mounts::queue(&element, &mut to.defaults, &mut to.left_out),
            "source-timeout" => mounts::source_timeout(&element, &mut to.defaults, &mut to.left_out),
            "burst-on-connect" => {
                if !element.flag() {
                    to.defaults.text("burst", "none");
                }
            }
            "burst-size" | "min-queue-size" | "default-burst" => {
                let on = limits.child("burst-on-connect").is_none_or(|on| on.flag());
                if on && element.name() != "min-queue-size" {
                    mounts::burst(&element, &mut to.defaults, &mut to.left_out);
                }
            }
            "max-bandwidth" => {
                to.leave(&element, "it is counted otherwise here: write max_bandwidth = \"500Mbit/s\" in [server] or a mount");
            }
            // Timeouts that flumen has otherwise, and threads of which it has as many as there are cores.
            "client-timeout" | "threadpool" | "workers" | "body-timeout" => {}
            "sources" => match element.number(1..=10_000) {
                Some(most) => to.sources = Some(most),
                None => to.leave(&element, "it is no number from 1 to 10000"),
            },
            "body-size-limit" => to.leave(&element, "no request here has a body, but a source's"),
            _ => to.unknown(&element),
        }
    }
}

fn authentication(authentication: &Element<'_>, to: &mut Sections) {
    for element in authentication.children() {
        match element.name() {
            "source-password" | "relay-password" | "admin-user" | "admin-password" | "relay-user" => {
                credential(&element, authentication, to);
            }
            "role" => to.leave(&element, "roles have no equivalent: there are an operator, relays and, for each mount, a source"),
            _ => to.unknown(&element),
        }
    }
}

fn credential(element: &Element<'_>, among: &Element<'_>, to: &mut Sections) {
    match element.name() {
        "admin-user" | "relay-user" if element.text().contains(':') => to.leave(element, "a user name cannot have a colon in it"),
        "admin-user" if element.text().trim() == PushSettings::USER => {
            to.leave(element, "it is the name of encoders: whoever has both would be what they are not");
        }
        "admin-user" => to.admin.line(element, "user", 64, &mut to.left_out),
        "admin-password" => to.admin.password(element, "password", &mut to.left_out),
        "source-password" => to.push.password(element, "password", &mut to.left_out),
        "relay-user" | "relay-password" if !relay_has_a_name(among) => {
            to.leave(element, "an operator or a source has the name of relays as well: write [relay] with another, and tell them");
        }
        "relay-user" => to.relay.line(element, "user", 64, &mut to.left_out),
        _ => to.relay.password(element, "password", &mut to.left_out),
    }
}

/// Whether relays have a name that is nobody else's: Icecast does not ask for that.
fn relay_has_a_name(among: &Element<'_>) -> bool {
    let name = |element, usual| {
        let fits = |name: &&str| name.len() <= 64 && !name.chars().any(|c| c.is_control() || c == ':');
        among.text_of(&[element]).filter(fits).unwrap_or(usual)
    };
    ![name("admin-user", "admin"), PushSettings::USER].contains(&name("relay-user", Login::USER))
}

fn paths(paths: &Element<'_>, to: &mut Sections) {
    for element in paths.children() {
        match element.name() {
            // Icecast's own pages and log files; certificates are seen to with their sockets.
            "basedir" | "logdir" | "webroot" | "adminroot" | "pidfile" | "ssl-certificate" | "tls-certificate" | "ssl-private-key" => {}
            "alias" => {
                let (from, towards) = (element.attribute("source").or_else(|| element.attribute("src")), element.attribute("destination"));
                let towards = towards.or_else(|| element.attribute("dest"));
                if (from, towards) != (Some("/"), Some("/status.xsl")) {
                    to.leave(&element, &format!("{} → {}: a mount has one path", from.unwrap_or("?"), towards.unwrap_or("?")));
                }
            }
            "x-forwarded-for" => {
                let written = element.text().split([',', ' ']).filter(|text| !text.is_empty());
                let (proxies, others): (Vec<_>, Vec<_>) = written.partition(|text| text.parse::<Network>().is_ok());
                if !others.is_empty() {
                    to.leave(&element, &format!("no address or network: {}", others.join(", ")));
                }
                let proxies: Vec<_> = proxies.into_iter().map(super::describe::quoted).collect();
                to.server.set("trusted_proxies", format!("[{}]", proxies.join(", ")), "");
            }
            "deny-ip" => deny_ip(&element, to),
            "allow-ip" => to.leave(&element, "write who may listen in listen_auth of each mount, or use the firewall"),
            "deny-agents" => to.leave(&element, "who is let in does not depend on the agent, which anybody can choose"),
            "ssl-allowed-ciphers" | "tls-allowed-ciphers" | "tls-key" | "tls-ca-file" => to.leave(&element, "flumen chooses the ciphers"),
            "reporting" | "reportxmldb" | "null-file" => {}
            _ => to.unknown(&element),
        }
    }
}

/// The file of banned addresses, if it is there and lists what can be banned.
fn deny_ip(element: &Element<'_>, to: &mut Sections) {
    let path = std::path::Path::new(element.text());
    match path.is_absolute().then(|| super::limits::listed(path)) {
        Some(Ok(_)) => to.server.text("banned_file", element.text()),
        _ => to.leave(element, "write banned_file = \"…\" in [server] when it is there, with one address or network to a line"),
    }
}

fn logging(logging: &Element<'_>, to: &mut Sections) {
    for element in logging.children() {
        match element.name() {
            "accesslog" => {
                let name = element.child("name").map_or_else(|| element.text(), |name| name.text());
                access_log(&element, name, to);
            }
            "errorlog" | "loglevel" | "logsize" | "logarchive" | "memorybacklog" => {
                if element.name() == "errorlog" {
                    to.leave(&element, "the log goes to stderr; FLUMEN_LOG says how much (FLUMEN_LOG=debug)");
                }
            }
            "playlistlog" => to.leave(&element, "titles are in the log"),
            _ => to.unknown(&element),
        }
    }
}

/// Where the access log goes: Icecast's name is below its own folder.
fn access_log(element: &Element<'_>, name: &str, to: &mut Sections) {
    if name.chars().chain(to.log_folder.chars()).any(char::is_control) {
        return to.leave(element, "it is no path of one line");
    }
    match (name, to.log_folder.as_str()) {
        ("-" | "/dev/stdout" | "/dev/stderr", _) => to.log.text("access", "stdout"),
        (name, _) if name.starts_with('/') => to.log.text("access", name),
        ("", _) | (_, "") => to.leave(element, "it has no path"),
        (name, folder) => to.log.text("access", &format!("{folder}/{name}")),
    }
}

fn security(security: &Element<'_>, to: &mut Sections) {
    for element in security.children() {
        match element.name() {
            "chroot" => {
                if element.flag() {
                    to.leave(&element, "the service manager does that better: RootDirectory= or ProtectSystem=");
                }
            }
            "changeowner" => to.leave(&element, "write user and group of [server], or start flumen as that user: User= of the service"),
            "tls-context" => to.leave(&element, "see [[server.tls]]"),
            "prng-seed" => {}
            _ => to.unknown(&element),
        }
    }
}

/// Header fields for every answer: those of CORS are sent anyway.
fn headers(headers: &Element<'_>, to: &mut Sections) {
    for header in headers.children() {
        let (name, value) = (header.attribute("name").unwrap_or_default(), header.attribute("value").unwrap_or_default());
        if !(name.eq_ignore_ascii_case("access-control-allow-origin") && value == "*") {
            to.leave(&header, &format!("{name}: {value}: flumen sends the fields that players and browsers need, and no others"));
        }
    }
}

#[cfg(test)]
mod tests;
