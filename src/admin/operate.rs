//! What an operator does to a running server: reload, drain, start and stop sources.
//!
//! - Nothing is done here. An [`Order`] goes to whoever wires the house, who carries orders out one after the other and answers;
//!   the queue is bounded, and so is the wait.
//! - Every act is in the log, with who asked for it and what came of it. Of those that are not allowed the like of one are counted.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use super::answers::{json, text};
use super::api::{Problem, full, no_mount, problem};
use super::{House, admission};
use crate::door::claim::Claim;
use crate::door::origin::user_agent;
use crate::engine::admission::customer;
use crate::journal::Kind;

/// Orders that may wait; one more is refused.
const ORDERS_MOST: usize = 64;
/// The longest that an order may take. Pipelines are built to be checked, and elements take their time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What an operator asks for.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration anew.
    Reload(oneshot::Sender<Result<Reloaded, NotReloaded>>),
    /// Let nobody in any more, and send everybody away with what is queued.
    Drain(oneshot::Sender<Draining>),
    /// Let another binary take over.
    Upgrade(oneshot::Sender<Result<Upgraded, String>>),
    /// Do something to the source of a mount.
    Source {
        /// The mount's path.
        path: String,
        /// What.
        act: SourceAct,
        /// Whether it was done.
        reply: oneshot::Sender<Result<(), SourceError>>,
    },
}

/// What can be done to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAct {
    /// It is started, if it was stopped or waits after a failure.
    Start,
    /// It is stopped, until it is started.
    Stop,
    /// It begins anew.
    Restart,
}

impl SourceAct {
    const ALL: [(&'static str, Self); 3] = [("start", Self::Start), ("stop", Self::Stop), ("restart", Self::Restart)];
}

/// Why nothing was done to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such mount.
    #[error("there is no such mount")]
    NoMount,
    /// Its source is not ours.
    #[error("the mount has neither pipeline nor relay: whoever sends to it starts and stops that")]
    NotOurs,
}

/// What a new configuration has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Mounts that were opened.
    pub added: Vec<String>,
    /// Mounts that are closed: who listened is sent what is queued, and leaves as `shutting_down`.
    pub removed: Vec<String>,
    /// Mounts that have other settings. Their listeners stay.
    pub changed: Vec<ChangedMount>,
    /// Mounts whose source is started, stopped or begins anew because their pipeline changed.
    pub sources: Vec<String>,
    /// Addresses where connections are accepted from now on.
    pub opened: Vec<String>,
    /// Addresses where they are accepted no more. Who came that way stays.
    pub closed: Vec<String>,
    /// Keys of other sections that hold from now on.
    pub settings: Vec<String>,
    /// Keys that say something else now, and hold only when the server is started anew.
    pub needs_restart: Vec<String>,
    /// What is allowed and hardly meant.
    pub warnings: Vec<String>,
}

/// A mount that has other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangedMount {
    /// Its path.
    pub mount: String,
    /// The keys that say something else.
    pub keys: Vec<String>,
}

/// Why a new configuration has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotReloaded {
    /// In a sentence.
    pub error: String,
    /// Everything that is wrong with it.
    pub errors: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// File and line, or what else it was read from.
    pub place: String,
    /// The key.
    pub key: String,
    /// What is written there.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// A server that lets nobody in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Draining {
    /// Listeners that are sent what is queued for them, and then leave.
    pub listeners: u64,
}

/// A server that has handed over to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Upgraded {
    /// The new process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Listeners that go on there.
    pub listeners: u64,
    /// Listeners that could not be passed on (TLS): they are sent what is queued for them, and leave.
    pub left: u64,
    /// How long those stood still that go on, in milliseconds, as far as the new process has said.
    pub stall_ms: Option<u64>,
}

/// A queue for orders: the sender is for the [`House`], the receiver for whoever carries them out.
pub fn orders() -> (mpsc::Sender<Order>, mpsc::Receiver<Order>) {
    mpsc::channel(ORDERS_MOST)
}

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(only_post("/api/v1/reload", web::post().to(reload)))
        .service(only_post("/api/v1/drain", web::post().to(drain)))
        .service(only_post("/api/v1/upgrade", web::post().to(upgrade)))
        .service(only_post("/api/v1/mounts/{path:.+}/source/{act:start|stop|restart}", web::post().to(source)));
}

fn only_post(path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(web::to(|| async {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "This is asked for with POST, and nothing else.");
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        answer
    }))
}

/// Writes down who did what, and what came of it.
pub(super) fn audit(request: &HttpRequest, act: &str, mount: &str, outcome: &str) {
    let claim = request.conn_data::<Claim>();
    let peer = claim.map(|claim| claim.peer().to_string());
    tracing::info!(
        target: "flumen::audit",
        act,
        mount,
        peer = peer.as_deref().unwrap_or("unknown"),
        connection = claim.map(Claim::connection),
        agent = &*user_agent(request),
        outcome,
        "an operator acts"
    );
}

/// Lets operators pass, and nobody else; who tries is in the log, though not each time: anybody may try, again and again.
///
/// # Errors
/// What the others are told.
pub(super) async fn permitted(request: &HttpRequest, house: &House, act: &str, mount: &str) -> Result<(), HttpResponse> {
    let standing = admission::operator(request, house).await;
    if standing.is_err() {
        // The path of a mount that there is not is anybody's choice.
        let known = house.registry.find(mount).is_some();
        let from = request.conn_data::<Claim>().and_then(|claim| claim.peer().ip());
        let kind = Kind { what: "not allowed", mount: known.then(|| mount.into()), from: from.map(customer).into(), why: act.into() };
        if house.registry.witnesses().hearsay.is_news(kind) {
            audit(request, act, mount, "not allowed");
        }
    }
    standing
}

/// Gives an order, if that is allowed, and waits for what comes of it.
async fn carry_out<T>(
    request: &HttpRequest,
    house: &House,
    what: (&str, &str),
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<T, HttpResponse> {
    let (act, mount) = what;
    permitted(request, house, act, mount).await?;
    let unavailable = |why| {
        audit(request, act, mount, why);
        problem(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    let (reply, answer) = oneshot::channel();
    if house.orders.try_send(order(reply)).is_err() {
        return Err(unavailable("too many orders wait, or the server is stopping"));
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(unavailable("the server is stopping")),
        Err(_) => Err(unavailable("it takes very long; the log says when it is done")),
    }
}

/// Reads the configuration anew, and applies what is different. Nobody who listens notices, but on mounts that are no more. A wrong
/// one changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    responses(
        (status = 200, description = "It was read; this is what changed", body = Reloaded),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 422, description = "It is wrong, and nothing has changed", body = NotReloaded),
        (status = 503, description = "It could not be done now", body = Problem),
    )
)]
pub(super) async fn reload(request: HttpRequest, house: Data<House>) -> HttpResponse {
    match carry_out(&request, &house, ("reload", ""), Order::Reload).await {
        Ok(Ok(reloaded)) => {
            audit(&request, "reload", "", "done");
            json(StatusCode::OK, &reloaded)
        }
        Ok(Err(refused)) => {
            audit(&request, "reload", "", "refused");
            json(StatusCode::UNPROCESSABLE_ENTITY, &refused)
        }
        Err(answer) => answer,
    }
}

/// Lets nobody in any more, and sends everybody what is queued for them; then they leave. Not to be undone but by a new start.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    responses(
        (status = 200, description = "Nobody is let in any more", body = Draining),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 503, description = "It could not be done now", body = Problem),
    )
)]
pub(super) async fn drain(request: HttpRequest, house: Data<House>) -> HttpResponse {
    match carry_out(&request, &house, ("drain", ""), Order::Drain).await {
        Ok(draining) => {
            audit(&request, "drain", "", "done");
            json(StatusCode::OK, &draining)
        }
        Err(answer) => answer,
    }
}

/// Lets the binary take over that lies where this one was started from, with the configuration as it is. Listeners go on there; those
/// over TLS are sent what is queued for them, and leave. If anything is wrong with it, nothing has changed.
#[utoipa::path(
    post,
    path = "/api/v1/upgrade",
    responses(
        (status = 200, description = "The new process serves", body = Upgraded),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 409, description = "It did not take over, and nothing has changed", body = Problem),
        (status = 503, description = "It could not be done now", body = Problem),
    )
)]
pub(super) async fn upgrade(request: HttpRequest, house: Data<House>) -> HttpResponse {
    match carry_out(&request, &house, ("upgrade", ""), Order::Upgrade).await {
        Ok(Ok(upgraded)) => {
            audit(&request, "upgrade", "", "done");
            json(StatusCode::OK, &upgraded)
        }
        Ok(Err(why)) => {
            audit(&request, "upgrade", "", "refused");
            problem(StatusCode::CONFLICT, why)
        }
        Err(answer) => answer,
    }
}

/// Starts, stops or restarts the source of a mount that has a pipeline. A restart costs no listener; a stop does as the mount's
/// `on_source_end` says.
#[utoipa::path(
    post,
    path = "/api/v1/mounts/{path}/source/{act}",
    params(
        ("path" = String, Path, description = "The mount's path without its first slash; slashes in it as %2F", example = "radio.mp3"),
        ("act" = String, Path, description = "`start`, `stop` or `restart`", example = "restart"),
    ),
    responses(
        (status = 204, description = "It was done; a stopped source has stopped"),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such mount", body = Problem),
        (status = 409, description = "The mount has neither pipeline nor relay", body = Problem),
        (status = 503, description = "It could not be done now", body = Problem),
    )
)]
pub(super) async fn source(request: HttpRequest, path: Path<(String, String)>, house: Data<House>) -> HttpResponse {
    let (path, word) = path.into_inner();
    let Some((_, act)) = SourceAct::ALL.into_iter().find(|(known, _)| *known == word) else {
        return problem(StatusCode::NOT_FOUND, "a source can be asked to start, stop or restart");
    };
    let (mount, what) = (full(&path), format!("source {word}"));
    let done = carry_out(&request, &house, (&what, &mount), |reply| Order::Source { path: mount.clone(), act, reply }).await;
    let done = match done {
        Ok(done) => done,
        Err(answer) => return answer,
    };
    let outcome = done.err().map_or_else(|| "done".to_owned(), |why| why.to_string());
    audit(&request, &what, &mount, &outcome);
    match done {
        Ok(()) => HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-cache, no-store")).finish(),
        Err(SourceError::NoMount) => no_mount(&path),
        Err(why @ SourceError::NotOurs) => problem(StatusCode::CONFLICT, why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Town;

    #[test]
    fn orders_are_for_operators_are_posted_and_are_answered_even_if_nobody_carries_them_out() {
        let town = Town::with(&["/a.mp3", "/source/start"]);
        for path in ["/api/v1/reload", "/api/v1/drain", "/api/v1/upgrade", "/api/v1/mounts/a.mp3/source/stop"] {
            let (status, _, body) = town.ask("POST", path, "Content-Length: 0\r\n");
            assert!(status == 503 && body.contains("stopping"), "{path}: {status} {body}");
            let (status, _, body) = town.ask("POST", path, "Content-Length: 0\r\nX-Forwarded-For: 192.0.2.1\r\n");
            assert!(status == 403 && body.contains("proxy"), "{path}: {status} {body}");
            let (status, head, _) = town.ask("GET", path, "");
            assert!(status == 405 && head.contains("allow: post"), "{path}: {head}");
        }
        assert_eq!(town.get("/api/v1/mounts/a.mp3").0, 200);
        assert_eq!(town.get("/api/v1/mounts/source%2Fstart").0, 200, "a mount's path may look like an order");
        assert_eq!(town.ask("POST", "/api/v1/mounts/a.mp3/source/explode", "Content-Length: 0\r\n").0, 405);
    }
}
