//! Who may do more than look. The one place where authentication will be asked.
//!
//! Until there are passwords, an operator is somebody on this machine: a loopback address or the unix socket. Such a connection
//! may still speak for somebody else, and whatever shows that is refused:
//! - a proxy on this machine speaks for the whole world: its fields, and HTTP/1.0, which is what proxies speak by themselves;
//! - a browser on this machine speaks for every page it shows: a page of another origin names that, and one whose name was made
//!   to point here has that name as its Host.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::{Version, header};

use crate::door::claim::Claim;
use crate::engine::broadcast::Peer;

/// Header fields by which a proxy gives itself away.
const PROXY_FIELDS: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Whether the one who asks may do what an operator does.
///
/// # Errors
/// Says why not.
pub(super) fn operator(request: &HttpRequest) -> Result<(), &'static str> {
    let scheme = request.conn_data::<Claim>().map_or("http", Claim::scheme);
    let (local, by_name) = match request.conn_data::<Claim>().map(Claim::peer) {
        Some(Peer::Inet(address)) => (address.ip().is_loopback(), true),
        Some(Peer::Unix) => (true, false), // no browser gets there, so a name cannot mislead one
        None => (false, true),
    };
    if !local {
        return Err("this is allowed only from the machine that the server runs on: a loopback address or its unix socket");
    }
    if request.version() < Version::HTTP_11 || PROXY_FIELDS.iter().any(|field| request.headers().contains_key(*field)) {
        return Err(
            "this is not allowed through a proxy (nor by HTTP/1.0, as proxies speak it), for the server cannot tell who is behind it",
        );
    }
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST)).unwrap_or_default();
    if by_name && !is_loopback(host) {
        return Err("this is allowed only under the name localhost, or a loopback address: another name may be a trap for a browser");
    }
    let ours = |origin: &str| origin.split_once("://") == Some((scheme, host));
    if text(header::ORIGIN).is_some_and(|origin| !ours(origin)) {
        return Err("this is not allowed for a page from elsewhere");
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
