//! The API: mounts and listeners as JSON, and the listener's way out.
//!
//! `{path}` is a mount's path without its first slash; its other slashes may be written as they are or as `%2F`, and must be
//! where a mount's path itself ends as an address of its parts does (`/listeners`, `/source`, `/metadata`). The description at `/api/v1/openapi.json` is made from what is below.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::admission::Standing;
use super::answers::{json, readable};
use super::dates::rfc3339;
use super::{House, acts, admission, bans, live, operate, removal, shards};
use crate::engine::broadcast::ListenerView;
use crate::fanout::stats::read;
use crate::mount::Handle;
use crate::mount::registry::Entry;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/api/v1/openapi.json", openapi))
        .service(readable("/api/v1/mounts", mounts))
        .service(
            web::resource("/api/v1/mounts/{path:.+}/listeners/{id}")
                .route(web::delete().to(removal::kick))
                .default_service(web::to(removal::only_to_kick)),
        )
        .service(readable("/api/v1/mounts/{path:.+}/listeners", listeners).route(web::delete().to(removal::kick_user)))
        .service(readable("/api/v1/mounts/{path:.+}", mount));
}

#[derive(OpenApi)]
#[openapi(
    info(title = "flumen", description = "A live streaming server: its mounts and their listeners."),
    paths(
        mounts,
        mount,
        listeners,
        removal::kick_user,
        removal::kick_user_everywhere,
        removal::kick,
        operate::reload,
        operate::drain,
        operate::upgrade,
        operate::source,
        acts::metadata,
        acts::kill,
        acts::relocate,
        acts::relocate_one,
        live::events,
        live::health,
        bans::list,
        bans::add,
        bans::remove,
    )
)]
struct Description;

async fn openapi() -> HttpResponse {
    json(StatusCode::OK, &Description::openapi())
}

/// A mount.
#[derive(Debug, Serialize, ToSchema)]
struct Mount {
    /// Its path, with its first slash.
    #[schema(example = "/radio.mp3")]
    path: String,
    /// Its name, for people.
    name: Option<String>,
    /// A sentence or two.
    description: Option<String>,
    /// The kind of programme.
    genre: Option<String>,
    /// Where to read more.
    url: Option<String>,
    /// Whether directories may list it.
    public: bool,
    /// Whether the status page leaves it out.
    hidden: bool,
    /// Who is being played, if anybody has said.
    artist: Option<String>,
    /// What is being played; often all that is known, artist included.
    title: Option<String>,
    /// The media type, once known.
    content_type: Option<String>,
    /// Bits per second of stream time, measured over the history; null while that is too short to tell.
    bitrate_bps: Option<u64>,
    /// Listeners now.
    listeners: u64,
    /// The most listeners there were at once.
    listeners_peak: u64,
    /// The furthest that anybody is behind now, in seconds of the stream.
    lag_seconds_max: f64,
    /// The most listeners there may be; null: as many as the server takes.
    listeners_max: Option<u64>,
    /// Stream and streamheader bytes sent so far, to all listeners.
    sent_bytes: u64,
    source: Source,
    ring: Ring,
}

/// Where a mount's stream comes from.
#[derive(Debug, Serialize, ToSchema)]
struct Source {
    /// Whether it delivers.
    up: bool,
    /// Whether the mount is of no use without one: it has a pipeline of its own, and that is not up.
    lacking: bool,
    /// When it came up (RFC 3339); null while it is not up.
    up_since: Option<String>,
    /// Times it was started anew.
    restarts: u64,
    /// Bytes it delivered so far.
    received_bytes: u64,
    /// Chunks it delivered so far.
    received_chunks: u64,
    /// Chunks that were turned away: too large, or more than could be taken in.
    refused_chunks: u64,
    /// When its last chunk came (RFC 3339); null: never.
    last_chunk_at: Option<String>,
    /// Why the last one went. Told to operators only, for it may quote the pipeline.
    fault: Option<String>,
}

/// The history that a mount holds.
#[derive(Debug, Serialize, ToSchema)]
struct Ring {
    chunks: u64,
    bytes: u64,
    seconds: f64,
}

impl Mount {
    fn of(handle: &Handle, operator: bool) -> Self {
        let (status, profile, metadata) = (handle.status(), handle.profile(), handle.metadata());
        let (ring, rate) = handle.broadcast.feed.read(|ring| {
            let held = Ring { chunks: ring.len() as u64, bytes: ring.bytes(), seconds: ring.time().as_secs_f64() };
            (held, ring.bytes_per_second())
        });
        let last_chunk = match read(&handle.source.last_chunk_unix_ms) {
            0 => None,
            ms => Some(UNIX_EPOCH + Duration::from_millis(ms)),
        };
        let listeners = handle.listeners();
        Self {
            path: handle.settings.path.to_string(),
            name: profile.name.clone(),
            description: profile.description.clone(),
            genre: profile.genre.clone(),
            url: profile.url.clone(),
            public: profile.public,
            hidden: profile.hidden,
            artist: metadata.artist.as_deref().map(Into::into),
            title: metadata.title.as_deref().map(Into::into),
            content_type: status.content_type.as_deref().map(Into::into),
            bitrate_bps: rate.map(|rate| (rate * 8.0) as u64),
            listeners,
            listeners_peak: handle.places.peak().max(listeners),
            lag_seconds_max: handle.broadcast.counters.lag_max.get().as_secs_f64(),
            listeners_max: handle.settings.max_listeners,
            sent_bytes: handle.sent_bytes(),
            source: Source {
                up: status.up,
                lacking: handle.lacks_source(),
                up_since: status.up_since.filter(|_| status.up).map(rfc3339),
                restarts: read(&handle.source.restarts),
                received_bytes: read(&handle.source.received_bytes),
                received_chunks: read(&handle.source.received_chunks),
                refused_chunks: read(&handle.source.refused_chunks),
                last_chunk_at: last_chunk.map(rfc3339),
                fault: status.fault.as_deref().filter(|_| operator).map(Into::into),
            },
            ring,
        }
    }
}

/// A listener.
#[derive(Debug, Serialize, ToSchema)]
struct Listener {
    /// Its number: never used again while the server runs.
    id: u64,
    /// Address and port, or `unix`; empty for whoever is no operator, for it is somebody's.
    #[schema(example = "192.0.2.7:50123")]
    peer: String,
    /// What it says it is; empty: nothing, or whoever asks is no operator.
    user_agent: String,
    /// Who it is, where it has shown that; null: nobody knows, or whoever asks is no operator.
    user: Option<String>,
    /// When it joined (RFC 3339).
    joined_at: String,
    /// Stream and streamheader bytes sent to it.
    bytes_sent: u64,
    lag: Lag,
    /// Bits per second that it has taken on average since it joined.
    rate_bps: u64,
    dropped: Dropped,
    /// `waiting` for its first bytes or for a keyframe, `live`, or `draining`.
    #[schema(example = "live")]
    phase: &'static str,
}

/// What waits to be sent to a listener, behind the chunk it is being sent.
#[derive(Debug, Serialize, ToSchema)]
struct Lag {
    chunks: u64,
    bytes: u64,
    /// Of stream time.
    seconds: f64,
}

/// What a listener was not sent, because it was too slow.
#[derive(Debug, Serialize, ToSchema)]
struct Dropped {
    chunks: u64,
    /// Times it was recovered.
    times: u64,
}

impl Listener {
    fn of(view: ListenerView, operator: bool) -> Self {
        let stayed = view.stayed.as_secs_f64();
        Self {
            id: view.id.0,
            peer: if operator { view.peer.to_string() } else { String::new() },
            user_agent: if operator { view.user_agent.into() } else { String::new() },
            user: view.user.filter(|_| operator).map(|user| user.to_string()),
            joined_at: rfc3339(view.joined_at),
            bytes_sent: view.tally.bytes,
            lag: Lag { chunks: view.lag.chunks, bytes: view.lag.bytes, seconds: view.lag.time.as_secs_f64() },
            rate_bps: if stayed > 0.0 { (view.tally.bytes as f64 * 8.0 / stayed) as u64 } else { 0 },
            dropped: Dropped { chunks: view.tally.dropped_chunks, times: view.tally.dropped_times.into() },
            phase: view.phase,
        }
    }
}

/// Why there is no other answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// One sentence.
    error: String,
}

pub(super) fn problem(status: StatusCode, error: impl Into<String>) -> HttpResponse {
    json(status, &Problem { error: error.into() })
}

/// The path in an address, as mounts have it: with its first slash, which nobody minds if it was written.
pub(super) fn full(path: &str) -> String {
    format!("/{}", path.strip_prefix('/').unwrap_or(path))
}

pub(super) fn find(house: &House, path: &str) -> Option<Entry> {
    house.registry.find(&full(path))
}

/// Whether it is an operator who asks, where everybody may.
async fn is_operator(request: &HttpRequest, house: &House) -> Result<bool, HttpResponse> {
    admission::standing(request, house).await.map(|standing| standing == Standing::Operator).map_err(admission::refusal)
}

pub(super) fn no_mount(path: &str) -> HttpResponse {
    problem(StatusCode::NOT_FOUND, format!("there is no mount {:?}", full(path)))
}

/// All mounts, by path; hidden ones only for operators.
#[utoipa::path(get, path = "/api/v1/mounts", responses((status = 200, description = "The mounts", body = Vec<Mount>)))]
async fn mounts(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let operator = match is_operator(&request, &house).await {
        Ok(operator) => operator,
        Err(denied) => return denied,
    };
    let seen = house.registry.all().into_iter().filter(|entry| operator || !entry.handle.settings.profile.hidden);
    let mounts: Vec<_> = seen.map(|entry| Mount::of(&entry.handle, operator)).collect();
    json(StatusCode::OK, &mounts)
}

/// One mount.
#[utoipa::path(
    get,
    path = "/api/v1/mounts/{path}",
    params(("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3")),
    responses(
        (status = 200, description = "The mount", body = Mount),
        (status = 404, description = "There is no such mount", body = Problem),
    )
)]
async fn mount(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    let operator = match is_operator(&request, &house).await {
        Ok(operator) => operator,
        Err(denied) => return denied,
    };
    match find(&house, &path) {
        Some(entry) => json(StatusCode::OK, &Mount::of(&entry.handle, operator)),
        None => no_mount(&path),
    }
}

/// The listeners of a mount, in the order in which they were let in; at most 100,000. Who they are is told to operators only.
#[utoipa::path(
    get,
    path = "/api/v1/mounts/{path}/listeners",
    params(("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3")),
    responses(
        (status = 200, description = "The listeners", body = Vec<Listener>),
        (status = 404, description = "There is no such mount", body = Problem),
        (status = 503, description = "A sending thread did not answer", body = Problem),
    )
)]
async fn listeners(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    let operator = match is_operator(&request, &house).await {
        Ok(operator) => operator,
        Err(denied) => return denied,
    };
    let Some(entry) = find(&house, &path) else { return no_mount(&path) };
    let Some(_turn) = house.lists.turn(operator).await else { return problem(StatusCode::SERVICE_UNAVAILABLE, shards::BUSY) };
    match shards::listeners(house.registry.crew(), entry.handle.broadcast.slot).await {
        Ok(views) => listed(views, operator),
        Err(silent) => problem(StatusCode::SERVICE_UNAVAILABLE, silent.to_string()),
    }
}

/// The answer that lists these listeners.
pub fn listed(views: Vec<ListenerView>, operator: bool) -> HttpResponse {
    let listeners: Vec<_> = views.into_iter().map(|view| Listener::of(view, operator)).collect();
    json(StatusCode::OK, &listeners)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::Town;

    fn get(town: &Town, path: &str) -> Value {
        let (status, head, body) = town.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains("cache-control: no-cache, no-store") && head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).expect("JSON")
    }

    #[test]
    fn mounts_are_found_by_their_paths_however_their_slashes_are_written() {
        let town = Town::with(&["/a.mp3", "/deep/er/listeners", "/Grüße.ogg", "/hidden.mp3"]);
        town.on_air("/a.mp3", "audio/mpeg");
        let all = get(&town, "/api/v1/mounts");
        let paths: Vec<_> = all.as_array().expect("a list").iter().map(|mount| mount["path"].clone()).collect();
        assert_eq!(paths, [json!("/Grüße.ogg"), json!("/a.mp3"), json!("/deep/er/listeners"), json!("/hidden.mp3")]);
        let one = get(&town, "/api/v1/mounts/a.mp3");
        assert_eq!((&one["artist"], &one["title"]), (&Value::Null, &Value::Null), "nobody has said");
        let handle = town.registry().find("/a.mp3").expect("a mount").handle;
        handle.set_metadata(crate::mount::Metadata::new(Some("A\""), Some("T"), None));
        let one = get(&town, "/api/v1/mounts/a.mp3");
        assert_eq!((&one["artist"], &one["title"]), (&json!("A\""), &json!("T")));
        assert_eq!((&one["source"]["up"], &one["content_type"], &one["ring"]["chunks"]), (&json!(true), &json!("audio/mpeg"), &json!(20)));
        assert_eq!((&one["bitrate_bps"], &one["source"]["received_bytes"]), (&json!(80_000), &json!(20_000)));
        for (asked, path) in [
            ("deep%2Fer%2Flisteners", "/deep/er/listeners"),
            ("Gr%C3%BC%C3%9Fe.ogg", "/Grüße.ogg"),
            ("/a.mp3", "/a.mp3"),
            ("%2Fa.mp3", "/a.mp3"),
        ] {
            assert_eq!(get(&town, &format!("/api/v1/mounts/{asked}"))["path"], json!(path));
        }
        assert_eq!(get(&town, "/api/v1/mounts/deep/er%2Flisteners/listeners"), json!([]));
    }

    #[test]
    fn all_listeners_of_all_shards_are_listed_once_and_can_be_removed() {
        let town = Town::with(&["/a.mp3", "/b.mp3"]);
        town.on_air("/a.mp3", "audio/mpeg");
        let ends = town.listen("/a.mp3", 1200); // more than one part on each of two shards
        let listed = get(&town, "/api/v1/mounts/a.mp3/listeners");
        let listed = listed.as_array().expect("a list");
        let ids: Vec<_> = listed.iter().map(|listener| listener["id"].as_u64().expect("a number")).collect();
        assert_eq!(ids, (1..=1200).collect::<Vec<_>>());
        let fields: Vec<_> = listed[0].as_object().expect("an object").keys().map(String::as_str).collect();
        let mut wanted = ["id", "peer", "user_agent", "user", "joined_at", "bytes_sent", "lag", "rate_bps", "dropped", "phase"];
        wanted.sort_unstable();
        assert_eq!(fields, wanted);
        assert_eq!((&listed[0]["peer"], &listed[0]["user_agent"]), (&json!("unix"), &json!("test/1")));
        assert_eq!(listed[0]["lag"], json!({"chunks": 0, "bytes": 0, "seconds": 0.0}));
        assert_eq!(get(&town, "/api/v1/mounts/b.mp3/listeners"), json!([]));

        let remove = |path: &str| town.ask("DELETE", path, "");
        let (status, _, body) = remove("/api/v1/mounts/a.mp3/listeners/7");
        assert_eq!((status, body.as_str()), (204, ""));
        for unknown in ["a.mp3/listeners/7", "a.mp3/listeners/999999", "a.mp3/listeners/x", "b.mp3/listeners/8", "no.mp3/listeners/8"] {
            let (status, _, body) = remove(&format!("/api/v1/mounts/{unknown}"));
            assert_eq!(status, 404, "{unknown}");
            assert!(serde_json::from_str::<Value>(&body).expect("JSON")["error"].is_string());
        }
        town.until(|| get(&town, "/api/v1/mounts/a.mp3")["listeners"] == json!(1199));
        drop(ends);
    }

    #[test]
    fn everybody_may_see_how_listeners_fare_and_only_operators_who_they_are() {
        let town = Town::with(&["/a.mp3"]);
        town.on_air("/a.mp3", "audio/mpeg");
        let _ends = town.listen("/a.mp3", 2);
        for (fields, peer, agent) in [("", "unix", "test/1"), ("X-Forwarded-For: 192.0.2.1\r\n", "", "")] {
            let (status, _, body) = town.ask("GET", "/api/v1/mounts/a.mp3/listeners", fields);
            let listed: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!((status, listed.as_array().map(Vec::len)), (200, Some(2)), "{body}");
            assert_eq!((&listed[0]["peer"], &listed[0]["user_agent"]), (&json!(peer), &json!(agent)));
            assert_eq!((&listed[1]["id"], &listed[1]["lag"]["chunks"]), (&json!(2), &json!(0)));
        }
    }

    #[test]
    fn a_listener_is_not_removed_through_a_proxy() {
        let town = Town::with(&["/a.mp3"]);
        let _ends = town.listen("/a.mp3", 1);
        let (status, _, body) = town.ask("DELETE", "/api/v1/mounts/a.mp3/listeners/1", "X-Forwarded-For: 192.0.2.1\r\n");
        assert!(status == 403 && body.contains("proxy"), "{body}");
        assert_eq!(town.registry().find("/a.mp3").expect("a mount").handle.listeners(), 1);
    }

    #[test]
    fn every_page_has_a_head_and_refuses_other_methods() {
        let town = Town::with(&["/a.mp3"]);
        let paths = ["/", "/status-json.xsl", "/healthz", "/api/v1/openapi.json", "/api/v1/mounts", "/api/v1/mounts/a.mp3/listeners"];
        for path in paths {
            let (got, head_of_get, body) = town.ask("GET", path, "");
            let (status, head, none) = town.ask("HEAD", path, "");
            assert_eq!((status, none.as_str()), (got, ""), "{path}");
            let length = format!("content-length: {}", body.len());
            assert!(head.contains(&length) && head_of_get.contains(&length), "{path}: {head}");
            for method in ["POST", "PUT", "DELETE", "SOURCE"] {
                if method == "DELETE" && path.ends_with("/listeners") {
                    continue; // a user's can be removed
                }
                let (status, head, body) = town.ask(method, path, "Content-Length: 0\r\n");
                assert_eq!(status, 405, "{method} {path}");
                assert!(head.contains("allow: get, head, options") && body.contains("GET or HEAD"), "{head}");
            }
            let (status, head, _) = town.ask("OPTIONS", path, "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n");
            assert_eq!(status, 204, "{path}");
            assert!(head.contains("access-control-allow-origin: *") && head.contains("access-control-allow-methods: get, head"), "{head}");
        }
        let (status, head, _) = town.ask("GET", "/api/v1/mounts/a.mp3/listeners/1", "");
        assert!(status == 405 && head.contains("allow: delete"), "{head}");
        let (status, _, body) = town.ask("GET", "/api/v1/mounts/no.mp3", "");
        assert_eq!((status, body.as_str()), (404, r#"{"error":"there is no mount \"/no.mp3\""}"#));
    }

    /// Every address of the API that a file of this room serves, written as the description writes it; but for the description's own.
    fn routed() -> std::collections::BTreeSet<String> {
        let room = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
        let files = std::fs::read_dir(room).expect("the room").map(|entry| entry.expect("an entry").path());
        let texts = files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).expect("a source file"));
        let mut found = std::collections::BTreeSet::new();
        for text in texts {
            let Some((_, routes)) = text.split_once("fn routes(config: &mut ServiceConfig) {") else { continue };
            let routes = routes.split("\n}\n").next().unwrap_or_default();
            for path in routes.split('"').filter(|part| part.starts_with("/api/v1/") && !part.ends_with("openapi.json")) {
                // `{path:.+}` is `{path}` there.
                let mut parts = path.split('{');
                let first = parts.next().unwrap_or_default().to_owned();
                found.insert(parts.fold(first, |path, part| {
                    let (name, rest) = part.split_once('}').expect("a name ends");
                    format!("{path}{{{}}}{rest}", name.split(':').next().unwrap_or_default())
                }));
            }
        }
        found
    }

    /// By hand: `FLUMEN_OPENAPI_TO=/tmp/o.json cargo test openapi && openapi-spec-validator /tmp/o.json`
    #[test]
    fn the_openapi_description_names_every_path_and_every_field() {
        let town = Town::with(&[]);
        let description = get(&town, "/api/v1/openapi.json");
        let described: std::collections::BTreeSet<_> = description["paths"].as_object().expect("paths").keys().cloned().collect();
        assert_eq!(described, routed(), "what is served, and what is described");
        for (path, methods) in description["paths"].as_object().expect("paths") {
            for (method, call) in methods.as_object().expect("methods") {
                let answers = call["responses"].as_object().expect("answers");
                assert_eq!(answers.contains_key("401"), answers.contains_key("403"), "{method} {path}: a password helps, or is not enough");
            }
        }
        let listener = &description["components"]["schemas"]["Listener"];
        assert_eq!(listener["required"].as_array().expect("fields").len(), 9);
        if let Some(path) = std::env::var_os("FLUMEN_OPENAPI_TO") {
            std::fs::write(path, description.to_string()).expect("written");
        }
    }
}
