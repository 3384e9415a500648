//! `[server]`, `[admin]`, `[relay]` and `[[directory]]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::address::{self, Claim};
use super::error::{ConfigError, Place};
use super::identity::{self, Identity};
use super::limits::{self, MemoryLimit};
use super::reader::{Parsed, Reader, Wrong};
use super::secret::{self, Keys};
use super::tree::Node;
use super::tree::Table;
use super::value::{duration, line, number, size, web_address};
use crate::access::Role;
use crate::admin;
use crate::delivery::peers;
use crate::directory;
use crate::door::{self, ListenAddress};
use crate::engine::admission::Limits;
use crate::mount::{Login, PushSettings};
use crate::units::ByteCount;

const LISTENERS: u64 = 10_000;
const CONNECTIONS: u64 = 12_000;
const LISTENERS_MOST: u64 = 1_000_000;

/// What `[server]` says.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) shards: usize,
    pub(super) identity: Option<Identity>,
    pub(super) max_listeners: u64,
    pub(super) limits: Limits,
    pub(super) peers: peers::Settings,
    pub(super) memory_limit: MemoryLimit,
    pub(super) door: door::Settings,
    /// The addresses once more, with their places.
    pub(super) claims: Vec<Claim>,
    /// Those that expect a PROXY header.
    pub(super) proxied: Vec<Claim>,
    /// The sections `[[server.tls]]`, and where each stands.
    pub(super) tls: Vec<(Place, Table)>,
}

/// Reads `[server]`.
pub(super) fn read(reader: &mut Reader<'_>) -> Server {
    let claims = reader.take("listen", address::listen).unwrap_or_else(|| {
        let address = ListenAddress::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8000));
        let shown = format!("\"{address}\" (the default)");
        vec![Claim { address, place: reader.place().clone(), shown }]
    });
    let listen = claims.iter().map(|claim| claim.address.clone()).collect();
    let shards = reader.take("shards", number(0..=256, false)).unwrap_or(0);
    let identity = identity::read(reader);
    let (max_listeners, max_connections) = places(reader);
    let header_timeout = reader.take("header_timeout", duration(Duration::from_secs(1)..=Duration::from_secs(300), false));
    let max_header_size = reader.take("max_header_size", size(1 << 10..=64 << 10));
    let (patrol, proxied) = limits::patrol(reader);
    let door = door::Settings {
        listen,
        tls: Vec::new(),
        header_timeout: header_timeout.unwrap_or(Duration::from_secs(15)),
        max_header_size: max_header_size.unwrap_or(ByteCount(8 << 10)),
        max_connections,
        patrol,
    };
    let tls = reader.take_tables("tls");
    let limits = limits::read(reader, None);
    let peers = limits::peers(reader);
    let memory_limit = reader.take("memory_limit", limits::memory).unwrap_or_default();
    Server { shards: shards as usize, identity, max_listeners, limits, peers, memory_limit, door, claims, proxied, tls }
}

/// Listeners and connections. A default gives way to what is written.
fn places(reader: &mut Reader<'_>) -> (u64, u64) {
    let listeners = reader.take("max_listeners", number(1..=LISTENERS_MOST, false));
    let connections = reader.take("max_connections", number(2..=2 * LISTENERS_MOST, false));
    match (listeners, connections) {
        (Some(listeners), Some(connections)) => {
            let least = listeners + spare(listeners);
            if connections < least {
                let problem = format!(
                    "leaves no places for status and admin requests beside max_listeners = {listeners}{}",
                    reader.whereabouts("max_listeners")
                );
                reader.wrong("max_connections", problem, format!("write at least {least}"));
            }
            (listeners, connections)
        }
        (Some(listeners), None) => (listeners, CONNECTIONS.max(listeners + listeners / 5)),
        (None, Some(connections)) => (LISTENERS.min(connections - spare(connections)), connections),
        (None, None) => (LISTENERS, CONNECTIONS),
    }
}

/// Places that listeners leave to everybody else.
fn spare(of: u64) -> u64 {
    (of / 8).clamp(1, 16)
}

/// The keys of the password of a role.
const PASSWORD: Keys = Keys { plain: "password", file: "password_file", hash: "password_hash" };

/// Reads `[admin]`.
pub(super) fn read_admin(reader: &mut Reader<'_>) -> admin::Settings {
    let usual = admin::Settings::default();
    admin::Settings {
        user: reader.take_name("user", operator).unwrap_or(usual.user),
        password: secret::password(reader, PASSWORD),
        relay: usual.relay, // that is a section of its own
        contact: reader.take("contact", line(255)).unwrap_or(usual.contact),
        location: reader.take("location", line(255)).unwrap_or(usual.location),
        hostname: reader.take("hostname", hostname),
        shoutcast_mount: None, // that is said elsewhere
    }
}

/// Reads `[relay]`: a name that is nobody else's, for it says what somebody is.
pub(super) fn read_relay(reader: &mut Reader<'_>, admin: &admin::Settings) -> Role {
    let relay = Role {
        user: reader.take_name("user", user).unwrap_or(admin::Settings::default().relay.user),
        password: secret::password(reader, PASSWORD),
    };
    let owner = match relay.user.as_str() {
        name if name == admin.user => Some("the operator's name (admin.user)"),
        PushSettings::USER => Some("the name of encoders"),
        _ => None,
    };
    // Where nobody is a relay, nobody's name is taken: what `flumen check` prints then has the usual one, and loads.
    if let Some(owner) = owner.filter(|_| relay.password.is_some()) {
        let free = if admin.user == Login::USER { "edge" } else { Login::USER };
        reader.wrong("user", format!("is {owner}"), format!("give relays a name of their own, such as user = {free:?}"));
    }
    relay
}

/// A user name as the Basic scheme can carry it.
fn user(node: &Node) -> Parsed<String> {
    let name = line(64)(node)?;
    if name.contains(':') {
        return Err(vec![Wrong::new("has a colon in it, which ends a user name", "choose a name without one")]);
    }
    Ok(name)
}

/// The operator's name. The one of encoders says what somebody is, too: whoever has both would be what they are not.
fn operator(node: &Node) -> Parsed<String> {
    let name = user(node)?;
    if name == PushSettings::USER {
        return Err(vec![Wrong::new("is the name of encoders", "give the operator a name of their own, such as user = \"admin\"")]);
    }
    Ok(name)
}

/// A host name, without scheme, port or path.
fn hostname(node: &Node) -> Parsed<String> {
    let name = line(253)(node)?;
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte)) {
        return Ok(name);
    }
    Err(vec![Wrong::new("is no host name", "write one such as \"radio.example.org\"")])
}

/// Directories of one server.
const DIRECTORIES_MOST: usize = 16;

/// Reads every `[[directory]]`.
pub(super) fn read_directories(tables: Vec<(Place, Table)>, errors: &mut Vec<ConfigError>) -> Vec<directory::Settings> {
    let mut directories = Vec::new();
    for (i, (place, table)) in tables.into_iter().enumerate() {
        let mut reader = Reader::new(format!("directory[{i}]"), place, table, errors);
        let [url, server] = ["url", "server"].map(|key| {
            let parse: fn(&Node) -> Parsed<String> = if key == "url" { plain_address } else { web_address };
            let address = reader.take(key, parse);
            if address.is_none() && !reader.failed(key) {
                let remedy = if key == "url" { "http://dir.xiph.org/cgi-bin/yp-cgi" } else { "http://radio.example.org:8000" };
                reader.wrong(key, "is missing", format!("write one such as {key} = \"{remedy}\""));
            }
            address
        });
        if i >= DIRECTORIES_MOST {
            reader.wrong("url", format!("is one of more than {DIRECTORIES_MOST} directories"), "leave some out");
        }
        directories.extend(url.zip(server).map(|(url, server)| directory::Settings { url, server }));
        reader.finish();
    }
    directories
}

/// A web address without TLS.
fn plain_address(node: &Node) -> Parsed<String> {
    let address = web_address(node)?;
    if address.starts_with("https://") {
        return Err(vec![Wrong::new("is reached by TLS, which directories are not told things by", "write its http:// address")]);
    }
    Ok(address)
}
