//! What an operator does to one mount: its title, its listeners' place, its source's end. Nothing here needs whoever wires the
//! house; each act is in the log, with who asked for it and what came of it.
//!
//! What there is to say comes in the query: bodies are read only from encoders.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::House;
use super::answers::{json, text};
use super::api::{Problem, full, no_mount, problem};
use super::operate::{audit, permitted};
use crate::engine::trail::Movers;
use crate::mount::moving::move_listeners;
use crate::mount::registry::Entry;
use crate::mount::{Handle, Metadata};
use crate::units::ListenerId;

pub(super) fn routes(config: &mut ServiceConfig) {
    let post = |path: &str| by("POST", web::resource(path));
    config
        .service(post("/api/v1/mounts/{path:.+}/metadata").route(web::post().to(metadata)))
        .service(post("/api/v1/mounts/{path:.+}/listeners/move").route(web::post().to(relocate)))
        .service(post("/api/v1/mounts/{path:.+}/listeners/{id}/move").route(web::post().to(relocate_one)))
        .service(by("DELETE", web::resource("/api/v1/mounts/{path:.+}/source")).route(web::delete().to(kill)));
}

/// A resource that takes one method; who comes with another is told which.
fn by(method: &'static str, resource: Resource) -> Resource {
    resource.default_service(web::to(move || async move {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("This is asked for with {method}, and nothing else."));
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(method));
        answer
    }))
}

fn done() -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-cache, no-store")).finish()
}

/// The mount that an operator means; who is none is told so, and is in the log.
async fn meant(request: &HttpRequest, house: &House, act: &str, path: &str) -> Result<Entry, HttpResponse> {
    permitted(request, house, act, &full(path)).await?;
    house.registry.find(&full(path)).ok_or_else(|| no_mount(path))
}

/// What the query says, or what is wrong with it.
fn query<T: serde::de::DeserializeOwned>(request: &HttpRequest) -> Result<T, String> {
    Query::<T>::from_query(request.query_string()).map(Query::into_inner).map_err(|error| error.to_string())
}

/// What is being played.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Playing {
    /// Who plays.
    artist: Option<String>,
    /// What is played.
    title: Option<String>,
    /// Where to read more of it.
    url: Option<String>,
}

/// Says what is being played on a mount. What is left out is unknown from now on; nothing at all: nothing is known.
#[utoipa::path(
    post,
    path = "/api/v1/mounts/{path}/metadata",
    params(
        ("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3"),
        Playing,
    ),
    responses(
        (status = 204, description = "It is told to those who listen"),
        (status = 400, description = "The query makes no sense", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount", body = Problem),
    )
)]
pub(super) async fn metadata(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    let entry = match meant(&request, &house, "metadata", &path).await {
        Ok(entry) => entry,
        Err(answer) => return answer,
    };
    match query(&request) {
        Ok(Playing { artist, title, url }) => {
            let metadata = Metadata::new(artist.as_deref(), title.as_deref(), url.as_deref());
            audit(&request, "metadata", entry.handle.settings.path.as_str(), &metadata.line());
            entry.handle.set_metadata(metadata);
            done()
        }
        Err(why) => problem(StatusCode::BAD_REQUEST, why),
    }
}

/// Takes the source off a mount. An encoder is hung up on; a pipeline or a relay begins anew, as after any failure.
#[utoipa::path(
    delete,
    path = "/api/v1/mounts/{path}/source",
    params(("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount", body = Problem),
        (status = 409, description = "It has no source", body = Problem),
    )
)]
pub(super) async fn kill(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    let entry = match meant(&request, &house, "remove source", &path).await {
        Ok(entry) => entry,
        Err(answer) => return answer,
    };
    let mount = entry.handle.settings.path.as_str();
    if !entry.handle.status().up && entry.handle.publishers.current().is_none() {
        audit(&request, "remove source", mount, "there is none");
        return problem(StatusCode::CONFLICT, "the mount has no source");
    }
    entry.kill_source();
    audit(&request, "remove source", mount, "done");
    done()
}

/// Where to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Destination {
    /// Another mount's path, with its first slash.
    to: String,
}

/// What became of those who were to move.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Relocated {
    /// So many listen to the other mount now.
    moved: usize,
    /// So many stayed: there was no place for them.
    stayed: usize,
}

/// Why nobody of this mount can go on with that one: a player does not change its mind about what it plays.
fn obstacle(here: &Handle, there: &Handle) -> Option<String> {
    if here.settings.path == there.settings.path {
        return Some("that is the mount they listen to already".to_owned());
    }
    let (from, to) = (here.status(), there.status());
    if !to.up {
        return Some(format!("{} has no source now", there.settings.path));
    }
    (from.content_type != to.content_type).then(|| {
        let name = |kind: &Option<std::sync::Arc<str>>| kind.as_deref().unwrap_or("something unknown").to_owned();
        format!("a player of {} cannot go on with {}", name(&from.content_type), name(&to.content_type))
    })
}

async fn relocated(request: &HttpRequest, path: &str, only: Option<ListenerId>, house: &House) -> Result<Relocated, HttpResponse> {
    let act = only.map_or_else(|| "move listeners".to_owned(), |id| format!("move listener {}", id.0));
    let here = meant(request, house, &act, path).await?;
    let Destination { to } = query(request).map_err(|why| problem(StatusCode::BAD_REQUEST, why))?;
    let there = house.registry.find(&to).ok_or_else(|| no_mount(&to))?;
    if let Some(why) = obstacle(&here.handle, &there.handle) {
        return Err(problem(StatusCode::CONFLICT, why));
    }
    let moved = move_listeners(house.registry.crew(), &here.handle, &there.handle, &only.map_or(Movers::All, Movers::One)).await;
    let moved = moved.map_err(|silent| problem(StatusCode::SERVICE_UNAVAILABLE, silent.to_string()))?;
    audit(request, &act, here.handle.settings.path.as_str(), &format!("{} moved to {to}, {} stayed", moved.moved, moved.stayed));
    Ok(Relocated { moved: moved.moved, stayed: moved.stayed })
}

/// Lets all listeners of a mount go on with another one, which plays the same kind of stream.
#[utoipa::path(
    post,
    path = "/api/v1/mounts/{path}/listeners/move",
    params(
        ("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3"),
        Destination,
    ),
    responses(
        (status = 200, description = "What became of them", body = Relocated),
        (status = 400, description = "The query makes no sense", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount", body = Problem),
        (status = 409, description = "They cannot go on there", body = Problem),
        (status = 503, description = "A sending thread did not answer", body = Problem),
    )
)]
pub(super) async fn relocate(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    relocated(&request, &path, None, &house).await.map_or_else(|answer| answer, |moved| json(StatusCode::OK, &moved))
}

/// Lets one listener go on with another mount, which plays the same kind of stream.
#[utoipa::path(
    post,
    path = "/api/v1/mounts/{path}/listeners/{id}/move",
    params(
        ("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3"),
        ("id" = u64, Path, description = "The listener's number"),
        Destination,
    ),
    responses(
        (status = 200, description = "What became of it", body = Relocated),
        (status = 400, description = "The query makes no sense", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount or listener", body = Problem),
        (status = 409, description = "It cannot go on there", body = Problem),
        (status = 503, description = "A sending thread did not answer", body = Problem),
    )
)]
pub(super) async fn relocate_one(request: HttpRequest, path: Path<(String, String)>, house: Data<House>) -> HttpResponse {
    let (path, id) = path.into_inner();
    let unknown = || problem(StatusCode::NOT_FOUND, format!("the mount has no listener {id:?}"));
    let Ok(number) = id.parse() else { return unknown() };
    match relocated(&request, &path, Some(ListenerId(number)), &house).await {
        Ok(Relocated { moved: 0, stayed: 0 }) => unknown(),
        Ok(moved) => json(StatusCode::OK, &moved),
        Err(answer) => answer,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::Town;

    #[test]
    fn a_title_is_set_by_operators_and_comes_as_it_was_written() {
        let town = Town::with(&["/a.mp3"]);
        town.on_air("/a.mp3", "audio/mpeg");
        let post = |query: &str, fields: &str| town.ask("POST", &format!("/api/v1/mounts/a.mp3/metadata{query}"), fields).0;
        assert_eq!(post("?artist=Gr%C3%BC%C3%9Fe+%26+co&title=%3Cb%3E", ""), 204);
        let line = || town.registry().find("/a.mp3").expect("a mount").handle.metadata().line();
        assert_eq!(line(), "Grüße & co - <b>");
        assert_eq!(post("?song=x", ""), 400);
        assert_eq!(post("?title=x", "X-Forwarded-For: 192.0.2.1\r\n"), 403);
        assert_eq!(line(), "Grüße & co - <b>");
        assert_eq!((post("", ""), line()), (204, String::new()));
        assert_eq!(town.ask("POST", "/api/v1/mounts/no.mp3/metadata?title=x", "").0, 404);
        let (status, head, _) = town.ask("GET", "/api/v1/mounts/a.mp3/metadata", "");
        assert!(status == 405 && head.contains("allow: post"), "{head}");
    }

    #[test]
    fn listeners_move_together_or_one_by_one_and_only_to_what_their_players_can_play() {
        let town = Town::with(&["/a.mp3", "/b.mp3", "/c.ogg", "/off.mp3"]);
        [("/a.mp3", "audio/mpeg"), ("/b.mp3", "audio/mpeg"), ("/c.ogg", "audio/ogg")]
            .into_iter()
            .for_each(|(path, kind)| town.on_air(path, kind));
        let _ends = town.listen("/a.mp3", 5);
        let post = |what: &str, to: &str| {
            let (status, _, body) = town.ask("POST", &format!("/api/v1/mounts/a.mp3/listeners/{what}?to={to}"), "");
            (status, serde_json::from_str::<Value>(&body).expect("JSON"))
        };
        for (to, status, says) in
            [("/c.ogg", 409, "cannot go on"), ("/off.mp3", 409, "no source"), ("/a.mp3", 409, "already"), ("/no", 404, "no mount")]
        {
            let (found, body) = post("move", to);
            assert!(found == status && body["error"].as_str().is_some_and(|error| error.contains(says)), "{to}: {found} {body}");
        }
        assert_eq!(post("3/move", "/b.mp3"), (200, json!({"moved": 1, "stayed": 0})));
        let listed = |path: &str| {
            let listed: Value = serde_json::from_str(&town.get(&format!("/api/v1/mounts/{path}/listeners")).1).expect("JSON");
            listed.as_array().expect("a list").iter().filter_map(|one| one["id"].as_u64()).collect::<Vec<_>>()
        };
        assert_eq!((listed("a.mp3"), listed("b.mp3")), (vec![1, 2, 4, 5], vec![3]));
        assert_eq!((post("3/move", "/b.mp3").0, post("x/move", "/b.mp3").0), (404, 404));
        assert_eq!(post("move", "/b.mp3"), (200, json!({"moved": 4, "stayed": 0})));
        assert_eq!(listed("b.mp3"), [1, 2, 3, 4, 5]);
        let (status, _, _) = town.ask("POST", "/api/v1/mounts/b.mp3/listeners/move?to=/a.mp3", "Origin: http://evil.example\r\n");
        assert_eq!((status, listed("a.mp3").len()), (403, 0));
    }

    #[test]
    fn a_source_is_removed_by_operators_once() {
        let town = Town::with(&["/a.mp3"]);
        town.on_air("/a.mp3", "audio/mpeg");
        let kill = |fields: &str| town.ask("DELETE", "/api/v1/mounts/a.mp3/source", fields).0;
        assert_eq!(kill("Origin: http://evil.example\r\n"), 403);
        assert!(town.registry().find("/a.mp3").expect("a mount").handle.status().up);
        assert_eq!(kill(""), 204);
        town.until(|| !town.registry().find("/a.mp3").expect("a mount").handle.status().up);
        assert_eq!(kill(""), 409);
    }
}
