//! Bans: who is not let in, for how long, and why.
//!
//! No request here has a body, so what is asked for stands in the query. A ban holds for the next connection; who is inside is
//! removed only if that is asked for.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{json, text};
use super::api::{Problem, problem};
use super::dates::rfc3339;
use super::icecast::query::Parameters;
use super::operate::{audit, permitted};
use super::removal::listened_to;
use super::{House, shards};
use crate::access::ban;
use crate::access::network::{Network, Networks};
use crate::door::patrol::Unchanged;
use crate::engine::broadcast::{ListenerView, Peer};
use crate::units::{UnitError, parse_duration};

/// The longest ban that ends.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/api/v1/bans")
            .route(web::get().to(list))
            .route(web::head().to(list))
            .route(web::post().to(add))
            .route(web::delete().to(remove))
            .default_service(web::to(|| async {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Bans are read with GET, made with POST and lifted with DELETE.");
                answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD, POST, DELETE"));
                answer
            })),
    );
}

/// Addresses that are not let in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ban {
    /// An address (`/32`, `/128`) or a network.
    #[schema(example = "192.0.2.0/24")]
    address: String,
    /// Why, as somebody wrote it.
    reason: String,
    /// Since when (RFC 3339); null for one of the configuration's file.
    since: Option<String>,
    /// Until when (RFC 3339); null: for good.
    until: Option<String>,
    /// Whether it is one of the configuration's file, and can be lifted only there.
    configured: bool,
}

impl Ban {
    fn of(ban: &ban::Ban) -> Self {
        Self {
            address: ban.network.to_string(),
            reason: ban.reason.clone(),
            since: Some(rfc3339(ban.since)),
            until: ban.until.map(rfc3339),
            configured: false,
        }
    }

    fn configured(network: Network) -> Self {
        Self { address: network.to_string(), reason: String::new(), since: None, until: None, configured: true }
    }
}

/// A ban that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Banned {
    #[serde(flatten)]
    ban: Ban,
    /// Listeners that were removed for it.
    kicked: u64,
    /// Whether it survives the server: it does where `state_dir` is set.
    kept: bool,
}

/// All bans that hold now: the file's first, at most ten thousand of those, then the others as they were made. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/bans",
    responses(
        (status = 200, description = "The bans", body = Vec<Ban>),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not see this", body = Problem),
    )
)]
pub(super) async fn list(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(denied) = permitted(&request, &house, "list bans", "").await {
        return denied;
    }
    let listed = house.patrol.listed().into_iter().take(ban::BANS_MOST).map(Ban::configured);
    let bans: Vec<_> = listed.chain(house.patrol.bans().iter().map(Ban::of)).collect();
    json(StatusCode::OK, &bans)
}

/// Bans an address or a network, in place of any ban of the same; a POST to it again changes reason and end. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/bans",
    params(
        ("address" = String, Query, description = "An address or a network", example = "192.0.2.0/24"),
        ("reason" = Option<String>, Query, description = "Why; at most 200 characters are kept"),
        ("duration" = Option<String>, Query, description = "For how long; for good if this is not there", example = "24h"),
        ("kick" = Option<bool>, Query, description = "`true`: who listens from there is removed"),
    ),
    responses(
        (status = 201, description = "It is banned", body = Banned),
        (status = 400, description = "That is no address, or no duration", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 409, description = "There are as many bans as there may be", body = Problem),
        (status = 503, description = "Another process takes over at this moment", body = Problem),
    )
)]
pub(super) async fn add(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(denied) = permitted(&request, &house, "ban", "").await {
        return denied;
    }
    let query = Parameters::of(request.query_string());
    let network = match network(&query) {
        Ok(network) => network,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    let lasts = match query.text("duration").filter(|text| !text.is_empty()).map(|text| parse_duration(&text)).transpose() {
        Ok(lasts) if lasts.is_none_or(|lasts| lasts <= LONGEST) => lasts,
        Ok(_) => return problem(StatusCode::BAD_REQUEST, "duration: longer than a hundred years is for good: leave it out"),
        Err(UnitError { problem: why, remedy }) => return problem(StatusCode::BAD_REQUEST, format!("duration: {why}; {remedy}")),
    };
    let kick = match query.text("kick").as_deref() {
        Some("true" | "1") => true,
        None | Some("false" | "0") => false,
        Some(_) => return problem(StatusCode::BAD_REQUEST, "kick: write true or false"),
    };
    let made = match house.patrol.ban(network, &query.text("reason").unwrap_or_default(), lasts) {
        Ok(made) => made,
        Err(why) => return unchanged(why),
    };
    let kicked = if kick { removed(&house, network).await } else { 0 };
    audit(&request, &format!("ban {network}"), "", &format!("done; {kicked} listeners removed"));
    let banned = Banned { ban: Ban::of(&made), kicked, kept: house.patrol.keeps_bans() };
    json(StatusCode::CREATED, &banned)
}

/// Lifts a ban of just this address or network. For operators.
#[utoipa::path(
    delete,
    path = "/api/v1/bans",
    params(("address" = String, Query, description = "The address or network, as the list has it", example = "192.0.2.0/24")),
    responses(
        (status = 204, description = "It is lifted"),
        (status = 400, description = "That is no address", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not do this", body = Problem),
        (status = 404, description = "There is no such ban", body = Problem),
        (status = 503, description = "Another process takes over at this moment", body = Problem),
    )
)]
pub(super) async fn remove(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(denied) = permitted(&request, &house, "lift ban", "").await {
        return denied;
    }
    let network = match network(&Parameters::of(request.query_string())) {
        Ok(network) => network,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    let lifted = match house.patrol.lift(network) {
        Ok(lifted) => lifted,
        Err(why) => return unchanged(why),
    };
    audit(&request, &format!("lift ban {network}"), "", if lifted { "done" } else { "there is no such ban" });
    if lifted {
        return HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-cache, no-store")).finish();
    }
    let configured = house.patrol.listed().contains(&network);
    let why = if configured { "is in the configuration's banned_file: take it out there, and reload" } else { "is not banned by itself" };
    problem(StatusCode::NOT_FOUND, format!("{network} {why}"))
}

/// What is answered where nothing has changed.
fn unchanged(why: Unchanged) -> HttpResponse {
    let status = match why {
        Unchanged::TooMany(_) => StatusCode::CONFLICT,
        Unchanged::HandedOver => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, why.to_string())
}

/// Whom it is about, or what is wrong with what is written.
fn network(query: &Parameters) -> Result<Network, String> {
    let Some(text) = query.text("address") else {
        return Err("address is missing: ?address=192.0.2.1, or a network such as 192.0.2.0/24".to_owned());
    };
    text.parse().map_err(|UnitError { problem, remedy }| format!("address: {problem}; {remedy}"))
}

/// Removes who listens from there; how many there were. Who comes meanwhile is not let in any more.
async fn removed(house: &House, network: Network) -> u64 {
    let there = Networks::new(vec![network]);
    let from_there = |view: &ListenerView| matches!(view.peer, Peer::Inet(address) if there.contains(address.ip()));
    shards::kick_all(house.registry.crew(), &listened_to(house), from_there).await.removed as u64
}

#[cfg(test)]
mod tests {
    use super::super::testing::Town;

    #[test]
    fn bans_are_made_listed_and_lifted_by_operators() {
        let town = Town::with(&["/a.mp3"]);
        let post = |query: &str| town.ask("POST", &format!("/api/v1/bans?{query}"), "Content-Length: 0\r\n");
        let (status, _, body) = post("address=192.0.2.0/24&reason=a+crowd&duration=24h");
        assert!(status == 201 && body.contains("\"kept\":false") && body.contains("192.0.2.0/24"), "{status} {body}");
        assert_eq!(post("address=2001%3Adb8%3A%3A%2F32").0, 201);
        let (_, list) = town.get("/api/v1/bans");
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
        assert_eq!((&list[0]["reason"], &list[1]["until"]), (&"a crowd".into(), &serde_json::Value::Null), "{list}");
        for (query, part) in [
            ("", "address is missing"),
            ("address=example.org", "is no address"),
            ("address=192.0.2.1/24", "bits set"),
            ("address=192.0.2.1&duration=soon", "duration:"),
            ("address=192.0.2.1&duration=900000h", "for good"),
            ("address=192.0.2.1&kick=perhaps", "true or false"),
        ] {
            let (status, _, body) = post(query);
            assert!(status == 400 && body.contains(part), "{query}: {status} {body}");
        }
        let lift = |address: &str| town.ask("DELETE", &format!("/api/v1/bans?address={address}"), "").0;
        assert_eq!([lift("192.0.2.0/24"), lift("192.0.2.0/24"), lift("x")], [204, 404, 400]);
        let relayed = town.ask("GET", "/api/v1/bans", "X-Forwarded-For: 192.0.2.1\r\n");
        assert_eq!(relayed.0, 403, "it names people's addresses");
        let (status, head, _) = town.ask("PUT", "/api/v1/bans", "Content-Length: 0\r\n");
        assert!(status == 405 && head.contains("allow: get, head, post, delete"), "{head}");
    }
}
