//! How backends are reached: no redirects, no bodies read, every request with a deadline. TLS trusts whom the machine trusts.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::access::Credentials;
use crate::webhook;

/// The largest head of an answer; its body is not read.
const HEAD_MOST: usize = 16 * 1024;

/// For this address, and others at the same host. Blocks: for TLS it reads files.
pub(super) fn agent(url: &str) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_response_header_size(HEAD_MOST)
        .user_agent(concat!("flumen/", env!("CARGO_PKG_VERSION")));
    let config = if url.starts_with("https://") { config.tls_config(webhook::trust()) } else { config };
    config.build().into()
}

/// Sends a form; the answer's head.
pub(super) fn post(
    agent: &Agent,
    url: &str,
    login: Option<&Credentials>,
    form: &str,
    within: Duration,
) -> Result<Response<Body>, Box<ureq::Error>> {
    let mut request = agent.post(url).content_type("application/x-www-form-urlencoded").config().timeout_global(Some(within)).build();
    if let Some(Credentials { user, password }) = login {
        let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()));
        request = request.header("authorization", format!("Basic {pair}"));
    }
    request.send(form).map_err(Box::new)
}

/// Whether the backend may have heard of a request that failed.
pub(super) fn may_have_heard(error: &ureq::Error) -> bool {
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    !match error {
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => true,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
        ureq::Error::Io(error) => refused(error),
        _ => false,
    }
}

/// Host and port of an address.
pub(super) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}
