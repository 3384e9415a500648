//! Icecast's status document, as Icecast 2.4 writes it: dozens of widgets and exporters read it.
//!
//! Its oddities are part of it. `source` is an object when one mount is on air, an array when several are, and absent when
//! none is; an object that would end with something left out ends with a `dummy` that is null; dates have a zone without a colon. `?mount=/path` asks for one.
//! What only operators are told in `/admin/stats` is left out.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize, Serializer};

use super::super::House;
use super::super::answers::{json, readable};
use super::facts::{self, Fact, Facts};
use crate::door::patrol::Pressure;
use crate::engine::admission::FULL;
use crate::wire::listing::LOAD_FIELD;

/// What the document says of the server.
const OF_SERVER: [&str; 6] = ["admin", "host", "location", "server_id", "server_start", "server_start_iso8601"];
/// What it leaves out of a source.
const NOT_OF_SOURCE: [&str; 7] =
    ["max_listeners", "public", "slow_listeners", "source_ip", "total_bytes_read", "total_bytes_sent", "user_agent"];

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/status-json.xsl", status));
}

/// What everybody may know of the server.
pub(super) fn public_server(facts: Facts) -> Facts {
    facts.into_iter().filter(|(name, _)| OF_SERVER.contains(name)).collect()
}

/// What everybody may know of a source.
pub(super) fn public_source(facts: Facts) -> Facts {
    facts.into_iter().filter(|(name, _)| !NOT_OF_SOURCE.contains(name)).collect()
}

/// An object whose members stay in the order in which they were put there.
#[derive(Debug)]
pub(super) struct Object(Vec<(&'static str, Member)>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Member {
    Null,
    Fact(Fact),
    One(Object),
    Many(Vec<Object>),
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, member)| (name, member)))
    }
}

impl Object {
    /// Some facts.
    pub(super) fn of(facts: Facts) -> Self {
        Self(facts.into_iter().map(|(name, fact)| (name, Member::Fact(fact))).collect())
    }

    fn with(mut self, name: &'static str, member: Member) -> Self {
        self.0.push((name, member));
        self
    }
}

#[derive(Debug, Default, Deserialize)]
struct Question {
    mount: Option<String>,
}

async fn status(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let mut answer = json(StatusCode::OK, &document(&request, &house));
    // For other servers that send newcomers here.
    let load = if house.patrol.pressure() >= Pressure::Listeners { FULL } else { house.registry.fullness() };
    answer.headers_mut().insert(header::HeaderName::from_static(LOAD_FIELD), load.into());
    answer
}

/// The document: what everybody may know.
pub(super) fn document(request: &HttpRequest, house: &House) -> Object {
    // A query that makes no sense asks for nothing in particular.
    let asked = Query::<Question>::from_query(request.query_string()).map(|query| query.into_inner().mount).unwrap_or_default();
    let wanted = |path: &str| asked.as_deref().is_none_or(|asked| asked == path);
    let all = house.registry.all().into_iter();
    let shown = all.filter(|entry| !entry.handle.settings.profile.hidden && wanted(entry.handle.settings.path.as_str()));
    let facts = shown.filter_map(|entry| facts::source(&entry.handle, request));
    let mut sources: Vec<_> = facts.map(|facts| Object::of(public_source(facts)).with("dummy", Member::Null)).collect();
    let stats = Object::of(public_server(facts::server(house, request)));
    let stats = match sources.len() {
        0 => stats.with("dummy", Member::Null),
        1 => stats.with("source", Member::One(sources.remove(0))), // one is not a list of one
        _ => stats.with("source", Member::Many(sources)),
    };
    Object(vec![("icestats", Member::One(stats))])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::admin::testing::Town;

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
}
