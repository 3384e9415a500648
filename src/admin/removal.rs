//! The API's way out for listeners: one by its number, or all of a user, of one mount or of all. For operators; each removal is in the log.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{json, text};
use super::api::{Problem, find, no_mount, problem};
use super::{House, admission, operate, shards};
use crate::access::query::parameter;
use crate::units::ListenerId;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/api/v1/listeners").route(web::delete().to(kick_user_everywhere)).default_service(web::to(only_to_kick_user)),
    );
}

/// Removes a listener at once. For operators.
#[utoipa::path(
    delete,
    path = "/api/v1/mounts/{path}/listeners/{id}",
    params(
        ("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3"),
        ("id" = u64, Path, description = "The listener's number"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount or listener", body = Problem),
        (status = 429, description = "Too many wrong passwords came from the same address"),
        (status = 503, description = "A sending thread did not answer", body = Problem),
    )
)]
pub(super) async fn kick(request: HttpRequest, path: Path<(String, String)>, house: Data<House>) -> HttpResponse {
    if let Err(refusal) = admission::operator(&request, &house).await {
        return refusal;
    }
    let (path, id) = path.into_inner();
    let Some(entry) = find(&house, &path) else { return no_mount(&path) };
    let unknown = || problem(StatusCode::NOT_FOUND, format!("the mount has no listener {id:?}"));
    let Ok(number) = id.parse() else { return unknown() };
    let kicked = shards::kick(house.registry.crew(), entry.handle.broadcast.slot, ListenerId(number)).await;
    let outcome = if matches!(kicked, Ok(true)) { "done" } else { "there is no such listener, or no answer" };
    operate::audit(&request, &format!("remove listener {number}"), entry.handle.settings.path.as_str(), outcome);
    match kicked {
        Ok(true) => HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-cache, no-store")).finish(),
        Ok(false) => unknown(),
        Err(silent) => problem(StatusCode::SERVICE_UNAVAILABLE, silent.to_string()),
    }
}

/// How many were removed.
#[derive(Debug, Serialize, ToSchema)]
struct Removed {
    removed: usize,
}

/// Removes every listener of a mount who has shown to be this user. For operators.
#[utoipa::path(
    delete,
    path = "/api/v1/mounts/{path}/listeners",
    params(
        ("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3"),
        ("user" = String, Query, description = "The user's name"),
    ),
    responses(
        (status = 200, description = "So many are gone", body = Removed),
        (status = 400, description = "No user is named", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount", body = Problem),
        (status = 429, description = "Too many wrong passwords came from the same address"),
        (status = 503, description = "A sending thread did not answer; so many are gone all the same", body = Problem),
    )
)]
pub(super) async fn kick_user(request: HttpRequest, path: Path<String>, house: Data<House>) -> HttpResponse {
    if let Err(refusal) = admission::operator(&request, &house).await {
        return refusal;
    }
    let Some(entry) = find(&house, &path) else { return no_mount(&path) };
    remove(&request, &house, &[entry.handle.broadcast.slot], entry.handle.settings.path.as_str()).await
}

/// Removes every listener, of whatever mount, who has shown to be this user. Who comes again meanwhile is a newcomer. For operators.
#[utoipa::path(
    delete,
    path = "/api/v1/listeners",
    params(("user" = String, Query, description = "The user's name")),
    responses(
        (status = 200, description = "So many are gone; none, if nobody of that name listens", body = Removed),
        (status = 400, description = "No user is named", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 429, description = "Too many wrong passwords came from the same address"),
        (status = 503, description = "A sending thread did not answer; so many are gone all the same", body = Problem),
    )
)]
pub(super) async fn kick_user_everywhere(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(refusal) = admission::operator(&request, &house).await {
        return refusal;
    }
    remove(&request, &house, &listened_to(&house), "").await
}

/// The mounts that somebody listens to.
pub(super) fn listened_to(house: &House) -> Vec<usize> {
    house.registry.all().iter().filter(|entry| entry.handle.listeners() > 0).map(|entry| entry.handle.broadcast.slot).collect()
}

/// Removes the user that the query names from these mounts; the log calls them `mount`.
async fn remove(request: &HttpRequest, house: &House, slots: &[usize], mount: &str) -> HttpResponse {
    let Some(user) = parameter(request.query_string(), "user").filter(|user| !user.is_empty()) else {
        return problem(StatusCode::BAD_REQUEST, "say whose connections are to go: ?user=NAME; one connection has its own address");
    };
    let shards::Removal { removed, silent } =
        shards::kick_all(house.registry.crew(), slots, |view| view.user.as_deref() == Some(&*user)).await;
    let outcome = silent.map_or_else(|| Ok(removed), |silent| Err(format!("{silent}; {removed} removed")));
    let said = outcome.as_ref().map_or_else(Clone::clone, |removed| format!("{removed} removed"));
    operate::audit(request, &format!("remove user {user:?}"), mount, &said);
    match outcome {
        Ok(removed) => json(StatusCode::OK, &Removed { removed }),
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

pub(super) async fn only_to_kick() -> HttpResponse {
    only_delete("A listener can be removed with DELETE, and nothing else; the list has the rest.")
}

async fn only_to_kick_user() -> HttpResponse {
    only_delete("A user's listeners can be removed with DELETE, and nothing else; the list of a mount has them.")
}

fn only_delete(why: &str) -> HttpResponse {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, why);
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("DELETE"));
    answer
}
