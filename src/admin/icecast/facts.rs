//! What Icecast's statistics say of the server and of each source: the same names, in the same order, from what is known here.
//!
//! What Icecast counts and nobody here does is zero, and so it stays true: there are no files to serve and no statistics clients.

use std::fmt;

use actix_web::HttpRequest;
use serde::Serialize;

use super::super::dates::{icecast_date, icecast_iso};
use super::super::{House, SERVER};
use crate::door::origin;
use crate::engine::broadcast::Peer;
use crate::fanout::departure::Departure;
use crate::fanout::stats::read;
use crate::mount::Handle;

/// One thing that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Fact {
    Number(u64),
    Text(String),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<u64> for Fact {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Facts by name, in the order of their names.
pub(super) type Facts = Vec<(&'static str, Fact)>;

/// Of the server as a whole.
pub(super) fn server(house: &House, request: &HttpRequest) -> Facts {
    let all = house.registry.all();
    let joins: u64 = all.iter().map(|entry| read(&entry.handle.broadcast.counters.joins)).sum();
    let listeners: u64 = all.iter().map(|entry| entry.handle.listeners()).sum();
    let sources = all.iter().filter(|entry| entry.handle.status().up).count() as u64;
    // A pipeline or a relay that begins counts as a source that connects.
    let starts: u64 = all.iter().map(|entry| read(&entry.handle.source.restarts) + u64::from(entry.handle.status().up)).sum();
    let (settings, accepted) = (house.settings(), read(&house.door.accepted));
    vec![
        ("admin", settings.contact.as_str().into()),
        ("client_connections", accepted.into()),
        ("clients", (read(&house.door.guests) + listeners).into()),
        ("connections", accepted.into()),
        ("file_connections", 0_u64.into()),
        ("host", host(house, request).into()),
        ("listener_connections", joins.into()),
        ("listeners", listeners.into()),
        ("location", settings.location.as_str().into()),
        ("server_id", SERVER.into()),
        ("server_start", icecast_date(house.started_at).into()),
        ("server_start_iso8601", icecast_iso(house.started_at).into()),
        ("source_client_connections", starts.into()),
        ("source_relay_connections", 0_u64.into()),
        ("source_total_connections", starts.into()),
        ("sources", sources.into()),
        ("stats", 0_u64.into()),
        ("stats_connections", 0_u64.into()),
    ]
}

/// Of a mount that is on air; `None` for any other.
pub(super) fn source(handle: &Handle, request: &HttpRequest) -> Option<Facts> {
    let status = handle.status();
    if !status.up {
        return None;
    }
    let (profile, metadata, listeners) = (handle.profile(), handle.metadata(), handle.listeners());
    let publisher = handle.publishers.current();
    let or = |text: &Option<String>, otherwise: &str| Fact::Text(text.clone().unwrap_or_else(|| otherwise.into()));
    let some = |name, text: Option<String>| text.map(|text| (name, Fact::Text(text)));
    let slow = &handle.broadcast.counters.departures[Departure::TooSlow.index()];
    let facts = [
        some("artist", metadata.artist.as_deref().map(str::to_owned)),
        bitrate(handle).map(|rate| ("bitrate", rate.into())),
        Some(("genre", or(&profile.genre, "various"))),
        Some(("listener_peak", handle.places.peak().max(listeners).into())),
        Some(("listeners", listeners.into())),
        Some(("listenurl", origin::url(request, handle.settings.path.as_str()).into())),
        Some(("max_listeners", handle.settings.max_listeners.map_or("unlimited".into(), Fact::Number))),
        Some(("public", u64::from(profile.public).into())),
        Some(("server_description", or(&profile.description, "Unspecified description"))),
        Some(("server_name", or(&profile.name, "Unspecified name"))),
        Some(("server_type", media_type(handle).into())),
        some("server_url", profile.url.clone()),
        Some(("slow_listeners", read(slow).into())),
        some("source_ip", publisher.as_ref().map(|publisher| address(publisher.peer))),
        some("stream_start", status.up_since.map(icecast_date)),
        some("stream_start_iso8601", status.up_since.map(icecast_iso)),
        some("title", metadata.title.as_deref().map(str::to_owned)),
        Some(("total_bytes_read", read(&handle.source.received_bytes).into())),
        Some(("total_bytes_sent", handle.sent_bytes().into())),
        some("user_agent", publisher.map(|publisher| publisher.user_agent.into())),
    ];
    Some(facts.into_iter().flatten().collect())
}

/// Kilobits per second, as measured. Icecast repeats what the encoder claims.
pub(super) fn bitrate(handle: &Handle) -> Option<u64> {
    handle.broadcast.feed.read(|ring| ring.bytes_per_second()).map(|rate| (rate * 8e-3).round() as u64)
}

pub(super) fn media_type(handle: &Handle) -> String {
    handle.status().content_type.as_deref().unwrap_or("application/octet-stream").into()
}

/// Where somebody is, as Icecast says it: without the port.
pub(super) fn address(peer: Peer) -> String {
    match peer {
        Peer::Inet(address) => address.ip().to_canonical().to_string(),
        Peer::Unix => "unix".to_owned(),
    }
}

/// `artist - title`, or whichever is known.
pub(super) fn song(handle: &Handle) -> String {
    handle.metadata().line()
}

/// The server's name: as configured, else as this client knows it.
pub(super) fn host(house: &House, request: &HttpRequest) -> String {
    house.settings().hostname.clone().unwrap_or_else(|| without_port(&origin::authority(request)).to_owned())
}

/// The name in `name:8000` and `[::1]:8000`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (host, want) in [("h", "h"), ("h:8000", "h"), ("[::1]:8000", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1")] {
            assert_eq!(without_port(host), want);
        }
    }
}
