//! How this room answers: never kept by a cache, and a refusal says why.

use actix_web::dev::Handler;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{FromRequest, HttpResponse, HttpResponseBuilder, Resource, Responder, web};
use serde::Serialize;

/// A body in the media type `kind`.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: String) -> HttpResponse {
    HttpResponseBuilder::new(status)
        .insert_header((header::CONTENT_TYPE, kind))
        .insert_header((header::CACHE_CONTROL, "no-cache, no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Widgets live on other people's sites. What is for operators is not told to them (`admission`).
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .body(body)
}

/// A line or some for people. Ends in a line feed, for those who read it in a terminal.
pub(super) fn text(status: StatusCode, body: &str) -> HttpResponse {
    answer(status, "text/plain; charset=utf-8", format!("{body}\n"))
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_string(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the answer cannot be written as JSON: {error}")),
    }
}

/// A resource that can be looked at and nothing else: GET and HEAD, and OPTIONS for pages that ask before.
pub(super) fn readable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args> + Clone,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path).route(web::get().to(handler.clone())).route(web::head().to(handler)).default_service(web::to(only_to_read))
}

/// What a readable resource answers to other methods.
async fn only_to_read(method: Method) -> HttpResponse {
    const ALLOWED: header::HeaderValue = header::HeaderValue::from_static("GET, HEAD, OPTIONS");
    let mut answer = match method {
        Method::OPTIONS => HttpResponse::NoContent()
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, "86400"))
            .finish(),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "This can be read with GET or HEAD, and nothing else."),
    };
    answer.headers_mut().insert(header::ALLOW, ALLOWED);
    answer
}
