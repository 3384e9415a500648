//! `[server]` and `[log]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::LogFormat;
use super::address::{self, Claim};
use super::error::Place;
use super::reader::Reader;
use super::tree::Table;
use super::value::{duration, number, one_of, size};
use crate::door::{self, ListenAddress};
use crate::units::ByteCount;

/// Keys of `[server]` that another version will know.
pub(super) const LATER: &[&str] = &["trusted_proxies", "proxy_protocol"];
/// Keys of `[log]` that another version will know.
pub(super) const LOG_LATER: &[&str] = &["access"];

const LISTENERS: u64 = 10_000;
const CONNECTIONS: u64 = 12_000;
const LISTENERS_MOST: u64 = 1_000_000;

/// What `[server]` says.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) shards: usize,
    pub(super) max_listeners: u64,
    pub(super) door: door::Settings,
    /// The addresses once more, with their places.
    pub(super) claims: Vec<Claim>,
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
    let (max_listeners, max_connections) = places(reader);
    let header_timeout = reader.take("header_timeout", duration(Duration::from_secs(1)..=Duration::from_secs(300), false));
    let max_header_size = reader.take("max_header_size", size(1 << 10..=64 << 10));
    let door = door::Settings {
        listen,
        tls: Vec::new(),
        header_timeout: header_timeout.unwrap_or(Duration::from_secs(15)),
        max_header_size: max_header_size.unwrap_or(ByteCount(8 << 10)),
        max_connections,
    };
    let tls = reader.take_tables("tls");
    Server { shards: shards as usize, max_listeners, door, claims, tls }
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

/// Reads `[log]`.
pub(super) fn read_log(reader: &mut Reader<'_>) -> LogFormat {
    reader.take("format", one_of(&LogFormat::WORDS)).unwrap_or_default()
}
