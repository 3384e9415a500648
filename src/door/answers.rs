//! How the door's handlers answer: a short text that says why, and streams without framing.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder};

/// Seconds after which somebody who found no room should ask again, give or take a half, lest all come back at once.
const RETRY_AFTER: f64 = 10.0;
/// What the server calls itself.
pub const SERVER: &str = concat!("flumen/", env!("CARGO_PKG_VERSION"));

/// A short text that says why.
pub fn plain(status: StatusCode, why: impl Into<String>) -> HttpResponse {
    plain_builder(status).body(why.into() + "\n")
}

/// The beginning of an answer with a text.
pub fn plain_builder(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::SERVER, SERVER))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"));
    response
}

/// There is no room, or nothing to hear, for now.
pub fn unavailable(why: &str) -> HttpResponse {
    let seconds = RETRY_AFTER * (0.5 + fastrand::f64());
    plain_builder(StatusCode::SERVICE_UNAVAILABLE)
        .insert_header((header::RETRY_AFTER, (seconds as u64).to_string()))
        .body(format!("{why}\n"))
}

/// A live body ends when the connection does; no framing, whatever the version of the request.
pub fn unframed(mut response: HttpResponse) -> HttpResponse {
    response.head_mut().no_chunking(true);
    response
}
