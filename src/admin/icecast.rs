//! Icecast's status document, as Icecast 2.4 writes it: dozens of widgets and exporters read it.
//!
//! Its oddities are part of it. `source` is an object when one mount is on air, an array when several are, and absent when
//! none is; every object ends with a `dummy` that is null; dates have a zone without a colon. `?mount=/path` asks for one.
//! `bitrate` is what the stream was measured at (kbit/s), where Icecast repeats what the encoder claimed.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::answers::{json, readable};
use super::dates::{icecast_date, icecast_iso};
use super::{House, SERVER};
use crate::door::origin;
use crate::mount::Handle;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/status-json.xsl", status));
}

#[derive(Debug, Serialize)]
struct Document {
    icestats: Stats,
}

#[derive(Debug, Serialize)]
struct Stats {
    admin: &'static str,
    host: String,
    location: &'static str,
    server_id: &'static str,
    server_start: String,
    server_start_iso8601: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Sources>,
    dummy: (),
}

/// One is not a list of one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Sources {
    One(Box<Source>),
    Many(Vec<Source>),
}

#[derive(Debug, Serialize)]
struct Source {
    #[serde(skip_serializing_if = "Option::is_none")]
    bitrate: Option<u64>,
    genre: String,
    listener_peak: u64,
    listeners: u64,
    listenurl: String,
    server_description: String,
    server_name: String,
    server_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_url: Option<String>,
    stream_start: Option<String>,
    stream_start_iso8601: Option<String>,
    dummy: (),
}

impl Source {
    /// A mount that is on air; `None` for any other.
    fn of(handle: &Handle, request: &HttpRequest) -> Option<Self> {
        let status = handle.status();
        let profile = &handle.settings.profile;
        let or = |text: &Option<String>, otherwise: &str| text.clone().unwrap_or_else(|| otherwise.into());
        let listeners = handle.listeners();
        status.up.then(|| Self {
            bitrate: handle.broadcast.feed.read(|ring| ring.bytes_per_second()).map(|rate| (rate * 8e-3).round() as u64),
            genre: or(&profile.genre, "various"),
            listener_peak: handle.places.peak().max(listeners),
            listeners,
            listenurl: origin::url(request, handle.settings.path.as_str()),
            server_description: or(&profile.description, "Unspecified description"),
            server_name: or(&profile.name, "Unspecified name"),
            server_type: status.content_type.as_deref().unwrap_or("application/octet-stream").into(),
            server_url: profile.url.clone(),
            stream_start: status.up_since.map(icecast_date),
            stream_start_iso8601: status.up_since.map(icecast_iso),
            dummy: (),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
struct Question {
    mount: Option<String>,
}

async fn status(request: HttpRequest, house: Data<House>) -> HttpResponse {
    // A query that makes no sense asks for nothing in particular.
    let asked = Query::<Question>::from_query(request.query_string()).map(|query| query.into_inner().mount).unwrap_or_default();
    let wanted = |path: &str| asked.as_deref().is_none_or(|asked| asked == path);
    let all = house.registry.all().into_iter();
    let shown = all.filter(|entry| !entry.handle.settings.profile.hidden && wanted(entry.handle.settings.path.as_str()));
    let mut sources: Vec<_> = shown.filter_map(|entry| Source::of(&entry.handle, &request)).collect();
    let source = match sources.len() {
        0 => None,
        1 => sources.pop().map(|source| Sources::One(Box::new(source))),
        _ => Some(Sources::Many(sources)),
    };
    let document = Document {
        icestats: Stats {
            admin: "icemaster@localhost",
            host: without_port(&origin::authority(&request)).into(),
            location: "Earth",
            server_id: SERVER,
            server_start: icecast_date(house.started_at),
            server_start_iso8601: icecast_iso(house.started_at),
            source,
            dummy: (),
        },
    };
    json(StatusCode::OK, &document)
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
    use serde_json::{Value, json};

    use super::super::testing::Town;
    use super::*;

    fn stats(town: &Town, query: &str) -> Value {
        let (status, body) = town.get(&format!("/status-json.xsl{query}"));
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&body).expect("JSON")["icestats"].take()
    }

    #[test]
    fn source_is_absent_then_an_object_then_an_array() {
        let town = Town::with(&["/a.mp3", "/b.ogg", "/hidden.mp3"]);
        assert!(stats(&town, "").get("source").is_none());
        town.on_air("/b.ogg", "application/ogg");
        town.on_air("/hidden.mp3", "audio/mpeg");
        let one = stats(&town, "")["source"].take();
        assert_eq!(one["listenurl"], json!(format!("http://{}/b.ogg", town.address)));
        assert_eq!((&one["server_type"], &one["genre"], &one["dummy"]), (&json!("application/ogg"), &json!("various"), &Value::Null));
        town.on_air("/a.mp3", "audio/mpeg");
        let many = stats(&town, "")["source"].take();
        let names: Vec<_> = many.as_array().expect("an array").iter().map(|source| source["server_name"].clone()).collect();
        assert_eq!(names, [json!("The \"A\" & <b>"), json!("Unspecified name")]);
        assert_eq!(stats(&town, "?mount=/b.ogg")["source"]["server_type"], json!("application/ogg"), "one of many is an object");
        assert!(stats(&town, "?mount=/hidden.mp3").get("source").is_none());
    }

    #[test]
    fn an_address_is_where_the_client_reached_us_whatever_a_proxy_claims() {
        let town = Town::with(&["/Grüße.ogg"]);
        town.on_air("/Grüße.ogg", "application/ogg");
        let local = format!("http://{}/Gr%C3%BC%C3%9Fe.ogg", town.address);
        for (request, want) in [
            ("GET /status-json.xsl HTTP/1.0\r\n\r\n", local.as_str()),
            ("GET /status-json.xsl HTTP/1.0\r\nHost: a\"b\r\n\r\n", &local),
            ("GET /status-json.xsl HTTP/1.0\r\nHost: r.example\r\n\r\n", "http://r.example/Gr%C3%BC%C3%9Fe.ogg"),
            ("GET http://a.example:81/status-json.xsl HTTP/1.0\r\nHost: b\r\n\r\n", "http://a.example:81/Gr%C3%BC%C3%9Fe.ogg"),
            (
                "GET /status-json.xsl HTTP/1.0\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: gopher\r\nForwarded: host=evil\r\n\r\n",
                &local,
            ),
        ] {
            let (_, _, body) = town.raw(request);
            let found = serde_json::from_str::<Value>(&body).expect("JSON")["icestats"]["source"]["listenurl"].take();
            assert_eq!(found, json!(want), "{request}");
        }
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (host, want) in [("h", "h"), ("h:8000", "h"), ("[::1]:8000", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1")] {
            assert_eq!(without_port(host), want);
        }
    }
}
