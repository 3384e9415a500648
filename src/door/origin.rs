//! Where a client reached us, for the addresses that we give it: playlists, and Icecast's document.
//!
//! What the client itself did counts: the authority it asked for, its Host, else the socket it is connected to. What a proxy adds is
//! believed only of those that are trusted, for any client can write that as well; and a proxy that keeps the Host needs no belief.

use std::net::SocketAddr;
use std::sync::LazyLock;

use actix_web::HttpRequest;
use actix_web::http::header;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::claim::Claim;

/// What is escaped in a path that becomes part of an address.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'#').add(b'?').add(b'%');

/// Host and port under which this client knows the server.
pub fn authority(request: &HttpRequest) -> String {
    let asked = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let claim = request.conn_data::<Claim>();
    let relayed = claim.and_then(Claim::relayed_host);
    choose([relayed.as_deref(), asked, host], claim.and_then(Claim::local_address))
}

/// The address of a path on this server, as this client can reach it.
pub fn url(request: &HttpRequest, path: &str) -> String {
    let scheme = request.conn_data::<Claim>().map_or("http", Claim::scheme);
    format!("{scheme}://{}{}", authority(request), utf8_percent_encode(path, PATH))
}

/// How this server calls itself, and one of its mounts, in a `Via`.
pub fn via(mount: &str) -> String {
    const COMMENT: &AsciiSet = &PATH.add(b',').add(b'(').add(b')');
    format!("{} ({})", via_server(), utf8_percent_encode(mount, COMMENT))
}

/// How this server calls itself in a `Via`. It does so wherever it may be sent on to an address that others choose: one on this machine,
/// where whoever speaks for nobody else is an operator.
pub fn via_server() -> String {
    format!("1.1 flumen-{:016x}", *NUMBER)
}

/// Whether somebody who asks wants to know where a stream has come through: a relay of ours does.
pub fn asks_for_via(request: &HttpRequest) -> bool {
    request.headers().get(header::VIA).is_some_and(|via| via.to_str().is_ok_and(|via| via.contains(" flumen-")))
}

/// Tells this process from every other.
static NUMBER: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));

/// The longest user agent that is kept; more is cut.
const USER_AGENT_MOST: usize = 200;

/// What a client says it is, as it may appear in a log line: short, and without control characters.
pub fn user_agent(request: &HttpRequest) -> Box<str> {
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.chars().filter(|c| !c.is_control()).take(USER_AGENT_MOST).collect()
}

/// A path with its percent signs resolved; `None` if that is not text, or hides what a path must not hold.
pub fn decoded_path(path: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    (!decoded.chars().any(|c| c.is_control() || c == '\\')).then(|| decoded.into_owned())
}

/// What a client says is repeated only if it cannot break out of a line or a markup.
fn choose<const N: usize>(named: [Option<&str>; N], local: Option<SocketAddr>) -> String {
    let plain = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    let local = || local.map_or_else(|| "localhost".to_owned(), |local| SocketAddr::new(local.ip(), local.port()).to_string());
    named.into_iter().flatten().find(plain).map_or_else(local, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_hides_nothing() {
        for (path, want) in [
            ("/radio.mp3", Some("/radio.mp3")),
            ("/Gr%C3%BC%C3%9Fe.ogg", Some("/Grüße.ogg")),
            ("/a%2fb", Some("/a/b")),
            ("/a%252fb", Some("/a%2fb")),
            ("/a%00", None),
            ("/a%5cb", None),
            ("/a%ff", None),
            ("/a%0ab", None),
        ] {
            assert_eq!(decoded_path(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn the_clients_own_word_counts_where_it_is_plain_and_its_socket_otherwise() {
        for (asked, host, local, want) in [
            (None, Some("radio.example:8000"), Some("192.0.2.1:80"), "radio.example:8000"),
            (None, Some("[::1]:8000"), None, "[::1]:8000"),
            (Some("a.example"), Some("b.example"), None, "a.example"),
            (Some("user:word@a.example"), Some("b.example"), None, "b.example"),
            (None, Some("a<b"), Some("192.0.2.1:80"), "192.0.2.1:80"),
            (None, Some(""), Some("[2001:db8::1]:80"), "[2001:db8::1]:80"),
            (None, None, Some("192.0.2.1:80"), "192.0.2.1:80"),
            (None, None, None, "localhost"),
        ] {
            assert_eq!(choose([asked, host], local.map(|local| local.parse().expect(local))), want, "{asked:?} {host:?} {local:?}");
        }
    }
}
