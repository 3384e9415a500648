//! Who may do more than look. The one place where authentication is asked.
//!
//! An operator is who knows the password of `[admin]`, from wherever; and, without any, somebody on this machine: a loopback address
//! or the unix socket. Such a connection may still speak for somebody else, and whatever shows that is refused:
//! - a proxy on this machine speaks for the whole world: its fields, and HTTP/1.0, which is what proxies speak by themselves;
//! - a browser speaks for every page it shows, with a password that it remembers, or from this machine: a page of another origin
//!   names that, and one whose name was made to point here has that name as its Host.
//!
//! Whoever says to be a relay is one, or nobody: also on this machine.
//!
//! Wrong passwords are refused wherever they are given, also where none is needed, and counted ([`crate::bouncer::keys`]).

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::{StatusCode, Version, header};
use actix_web::{HttpRequest, HttpResponse};

use super::answers::text;
use super::api::problem;
use super::{House, Settings};
use crate::access::rule::{Shown, UrlAuth};
use crate::access::{Credentials, Password, Secret, basic};
use crate::bouncer::Visitor;
use crate::bouncer::keys::{Aim, Denied};
use crate::door::claim::Claim;
use crate::engine::broadcast::Peer;

/// Header fields by which a proxy gives itself away.
const PROXY_FIELDS: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
/// What a browser calls the place that a name and a password are for.
const CHALLENGE: &str = "Basic realm=\"flumen\"";
/// What the relay is told that wants more.
pub(super) const NOT_FOR_RELAYS: &str =
    "this is for operators: a relay may ask which mounts there are (/admin/streamlist, /admin/streamlist.txt), and listen to them";
const FROM_ELSEWHERE: &str = "this is not allowed for a page from elsewhere";

/// What somebody is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// May do what an operator does.
    Operator,
    /// Knows the password of a mount's source.
    Source,
    /// Knows the password of servers that relay from here.
    Relay,
    /// May look at what everybody may. Says why no more.
    Stranger(&'static str),
}

/// What the one who asks is.
///
/// # Errors
/// When credentials are given and not taken; a right pair would have been.
pub(super) async fn standing(request: &HttpRequest, house: &House) -> Result<Standing, Denied> {
    let settings = house.settings();
    let given = credentials(request)?;
    if let Some((given, relay)) = given.as_ref().and_then(|given| Some((given, settings.relay.of(given)?))) {
        house.keys().check(address(request), Aim::Relay, given, &[relay]).await?;
        return Ok(unless_from_elsewhere(request, Standing::Relay));
    }
    match (given, &settings.password) {
        (Some(given), Some(password)) => {
            house.keys().check(address(request), aim(&given, &settings), &given, &[(&settings.user, password)]).await?;
            Ok(unless_from_elsewhere(request, Standing::Operator))
        }
        _ => Ok(local(request).map_or_else(Standing::Stranger, |()| Standing::Operator)),
    }
}

/// What the one who asks is, where the source of a mount may do something as well: its user and its password.
///
/// # Errors
/// When credentials are given and not taken.
pub(super) async fn standing_at(request: &HttpRequest, house: &House, source: Option<(&str, &Password)>) -> Result<Standing, Denied> {
    let settings = house.settings();
    match (credentials(request)?, source) {
        (Some(given), Some(source)) if settings.relay.of(&given).is_none() => {
            let admin = settings.password.as_ref().map(|password| (settings.user.as_str(), password));
            let accepted: Vec<_> = admin.into_iter().chain([source]).collect();
            house.keys().check(address(request), aim(&given, &settings), &given, &accepted).await?;
            let standing = if given.user == settings.user { Standing::Operator } else { Standing::Source };
            Ok(unless_from_elsewhere(request, standing))
        }
        _ => standing(request, house).await,
    }
}

/// Lets operators pass, and nobody else.
///
/// # Errors
/// What the others are told.
pub(super) async fn operator(request: &HttpRequest, house: &House) -> Result<(), HttpResponse> {
    match standing(request, house).await {
        Ok(Standing::Operator) => Ok(()),
        Ok(Standing::Stranger(why)) => {
            let mut answer = problem(status_for_strangers(request, house), why);
            challenge(&mut answer);
            Err(answer)
        }
        Ok(Standing::Source) => Err(problem(StatusCode::FORBIDDEN, "this is for operators")),
        Ok(Standing::Relay) => Err(problem(StatusCode::FORBIDDEN, NOT_FOR_RELAYS)),
        Err(denied) => Err(refusal(denied)),
    }
}

/// What the one who asks is, where a backend says who is the source of a mount.
///
/// # Errors
/// When credentials are given and not taken.
pub(super) async fn standing_by(request: &HttpRequest, house: &House, mount: &str, backend: &Arc<UrlAuth>) -> Result<Standing, Denied> {
    let settings = house.settings();
    let given = credentials(request)?.filter(|given| given.user != settings.user && settings.relay.of(given).is_none());
    if given.is_none() {
        return standing(request, house).await;
    }
    let shown = Shown { credentials: given, ..Shown::default() };
    let visitor = Visitor { number: 0, mount, query: "", address: address(request), agent: "", shown: &shown };
    match house.registry.witnesses().bouncer.may_publish(backend, &visitor, true).await {
        Some(true) => Ok(unless_from_elsewhere(request, Standing::Source)),
        Some(false) => Err(Denied::Wrong),
        None => Err(Denied::Busy),
    }
}

/// Whether a password that came without a name, and in another way than by a header, is one of those that are accepted.
///
/// # Errors
/// Says why not.
pub(super) async fn check_nameless(request: &HttpRequest, house: &House, given: &Secret, accepted: &[&Password]) -> Result<(), Denied> {
    house.keys().check_nameless(address(request), given, accepted).await
}

/// What is told to those whose credentials are not taken, or who have none.
pub(super) fn refusal(denied: Denied) -> HttpResponse {
    let (status, why, retry_after) = match denied {
        Denied::Wrong => (StatusCode::UNAUTHORIZED, "the user name or the password is wrong", None),
        Denied::Wait(wait) => (
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong passwords came from your address: wait, then try again",
            Some(wait.as_secs() + 1),
        ),
        Denied::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being checked: try again", Some(1)),
    };
    let mut answer = text(status, why);
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    challenge(&mut answer);
    answer
}

/// Makes a browser ask for a name and a password, where an answer says that one is needed.
pub(super) fn challenge(answer: &mut HttpResponse) {
    if answer.status() == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(CHALLENGE));
    }
}

/// The status for somebody who may not do something: 401 where a password would help, and was not given.
pub(super) fn status_for_strangers(request: &HttpRequest, house: &House) -> StatusCode {
    let would_help = house.settings().password.is_some() && !request.headers().contains_key(header::AUTHORIZATION);
    if would_help && !is_from_elsewhere(request) { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN }
}

/// Whether a change by a mere GET may be what a page from elsewhere wants, of a browser that does not say.
pub(super) fn is_blind(request: &HttpRequest) -> bool {
    let has = |name| request.headers().contains_key(name);
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("Mozilla/")) && !has("authorization") && !has("sec-fetch-site") && !has("origin")
}

fn credentials(request: &HttpRequest) -> Result<Option<Credentials>, Denied> {
    let field = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().map_err(|_| Denied::Wrong)).transpose()?;
    Ok(field.and_then(basic))
}

/// Whose password it is that somebody gives who does not say to be a relay. Nobody guesses the operator's with another name than his.
fn aim(given: &Credentials, settings: &Settings) -> Aim {
    if given.user == settings.user { Aim::Operator } else { Aim::Source }
}

fn peer(request: &HttpRequest) -> Option<Peer> {
    request.conn_data::<Claim>().map(Claim::peer)
}

fn address(request: &HttpRequest) -> Option<IpAddr> {
    peer(request).and_then(|peer| peer.ip())
}

/// On which connection, for the log.
pub(super) fn connection(request: &HttpRequest) -> Option<u64> {
    request.conn_data::<Claim>().map(Claim::connection)
}

/// Who asks, for the log.
pub(super) fn asker(request: &HttpRequest) -> String {
    peer(request).map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
}

fn text_of<'r>(request: &'r HttpRequest, name: &str) -> Option<&'r str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or_default())
}

fn host(request: &HttpRequest) -> &str {
    request.uri().authority().map(|authority| authority.as_str()).or_else(|| text_of(request, "host")).unwrap_or_default()
}

fn unless_from_elsewhere(request: &HttpRequest, standing: Standing) -> Standing {
    if is_from_elsewhere(request) { Standing::Stranger(FROM_ELSEWHERE) } else { standing }
}

/// Whether a browser says that another origin's page makes it ask.
fn is_from_elsewhere(request: &HttpRequest) -> bool {
    // What comes to us in the clear may have come to a proxy by TLS; what comes by TLS has done so all the way.
    let in_the_clear = request.conn_data::<Claim>().is_none_or(|claim| claim.scheme() == "http");
    let ours = |address: &str| {
        let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://").filter(|_| in_the_clear));
        rest.and_then(|rest| rest.split('/').next()) == Some(host(request))
    };
    match text_of(request, "sec-fetch-site") {
        Some(site) if !["none", "same-origin"].contains(&site) => true,
        _ => ["origin", "referer"].iter().filter_map(|name| text_of(request, name)).any(|address| !ours(address)),
    }
}

/// Whether somebody without credentials is on this machine, and speaks for nobody else.
fn local(request: &HttpRequest) -> Result<(), &'static str> {
    let (local, by_name) = match peer(request) {
        Some(Peer::Inet(address)) => (address.ip().is_loopback(), true),
        Some(Peer::Unix) => (true, false), // no browser gets there, so a name cannot mislead one
        None => (false, true),
    };
    if !local {
        return Err("this is allowed only with the password of [admin], or from the machine that the server runs on: a loopback address \
                    or its unix socket");
    }
    let relayed = request.conn_data::<Claim>().is_some_and(Claim::is_relayed);
    if relayed || request.version() < Version::HTTP_11 || PROXY_FIELDS.iter().any(|field| request.headers().contains_key(*field)) {
        return Err(
            "this is not allowed through a proxy (nor by HTTP/1.0, as proxies speak it), for the server cannot tell who is behind it",
        );
    }
    if by_name && !is_loopback(host(request)) {
        return Err("this is allowed only under the name localhost, or a loopback address: another name may be a trap for a browser");
    }
    if is_from_elsewhere(request) {
        return Err(FROM_ELSEWHERE);
    }
    Ok(())
}

/// Whether a Host means this machine, whoever resolves it.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || literal.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Town;
    use super::*;

    #[test]
    fn a_host_that_means_this_machine_is_known() {
        for here in ["localhost", "LocalHost:8000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in
            ["", "radio.example", "localhost.example:8000", "127.0.0.1.example", "192.0.2.1:80", "[2001:db8::1]", "127.0.0.1:x"]
        {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn who_speaks_for_somebody_else_is_no_operator() {
        let town = Town::with(&["/a.mp3"]);
        let here = format!("Host: {}\r\n", town.address);
        let port = town.address.port();
        for (version, fields, status) in [
            ("1.1", here.clone(), 404), // allowed, but there is no such listener
            ("1.1", format!("Host: localhost:{port}\r\n"), 404),
            ("1.1", format!("{here}Origin: http://{}\r\n", town.address), 404),
            ("1.1", "Host: rebound.example\r\n".to_owned(), 403),
            ("1.1", format!("{here}Origin: http://evil.example\r\n"), 403),
            ("1.1", format!("{here}Origin: null\r\n"), 403),
            ("1.1", format!("{here}X-Forwarded-For: 192.0.2.1\r\n"), 403),
            ("1.0", here, 403),
        ] {
            let request = format!("DELETE /api/v1/mounts/a.mp3/listeners/1 HTTP/{version}\r\nConnection: close\r\n{fields}\r\n");
            let (found, _, body) = town.raw(&request);
            assert_eq!(found, status, "{request}{body}");
            assert!(status == 404 || body.contains("allowed"), "{body}");
        }
    }
}
