//! Pages for people at the addresses that Icecast has them: a small administration, and the ways to the status page.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::answers::{answer, text};
use super::super::{House, SERVER};
use super::facts;
use crate::engine::broadcast::ListenerView;
use crate::mount::Handle;
use crate::mount::registry::Entry;

/// Nothing is loaded, run, framed, or sent elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Listeners that a page shows; programs get all.
const SHOWN_MOST: usize = 1000;

pub(super) fn routes(config: &mut ServiceConfig) {
    // Where Icecast's pages are, people look for ours.
    for (from, to) in [("/status.xsl", "/"), ("/server_version.xsl", "/"), ("/admin", "/admin/")] {
        config.service(web::redirect(from, to));
    }
}

#[derive(Template)]
#[template(path = "admin.html")]
struct Page {
    view: View,
    server: &'static str,
}

enum View {
    Response { message: String, done: bool },
    Index { mounts: Vec<Row> },
    Listeners { mount: Row, listeners: Vec<Listener> },
    Metadata { mount: Row },
}

/// A mount on a page.
struct Row {
    path: String,
    /// The path as a query has it.
    query: String,
    listeners: u64,
    media_type: String,
    song: String,
}

impl Row {
    fn of(handle: &Handle) -> Self {
        let path = handle.settings.path.to_string();
        Self {
            query: utf8_percent_encode(&path, NON_ALPHANUMERIC).to_string(),
            path,
            listeners: handle.listeners(),
            media_type: facts::media_type(handle),
            song: facts::song(handle),
        }
    }
}

struct Listener {
    id: u64,
    address: String,
    seconds: u64,
    agent: String,
}

/// A text that may stand in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;").replace('"', "&#34;")
}

fn page(view: View) -> HttpResponse {
    match (Page { view, server: SERVER }).render() {
        Ok(body) => {
            let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", body);
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(POLICY));
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the page cannot be written: {error}")),
    }
}

/// What became of an order.
pub(super) fn response(message: &str, done: bool) -> HttpResponse {
    page(View::Response { message: message.to_owned(), done })
}

/// The mounts that are on air, and what can be done with them.
pub(super) fn index(house: &House) -> HttpResponse {
    let mounts = house.registry.all().into_iter().filter(|entry| entry.handle.status().up).map(|entry| Row::of(&entry.handle));
    page(View::Index { mounts: mounts.collect() })
}

/// The listeners of a mount, the first of them.
pub(super) fn listeners(entry: &Entry, listeners: &[ListenerView]) -> HttpResponse {
    let one = |view: &ListenerView| Listener {
        id: view.id.0,
        address: facts::address(view.peer),
        seconds: view.stayed.as_secs(),
        agent: view.user_agent.to_string(),
    };
    page(View::Listeners { mount: Row::of(&entry.handle), listeners: listeners.iter().take(SHOWN_MOST).map(one).collect() })
}

/// A form for what is playing.
pub(super) fn update_metadata(entry: &Entry) -> HttpResponse {
    page(View::Metadata { mount: Row::of(&entry.handle) })
}
