//! What happens, while it happens, and what needs attention: for operators, their console, and `flumen status`.
//!
//! A watcher is a connection that holds a bounded queue; how many there may be is the chronicle's to say. One that takes nothing is
//! let go, by the queue or by the door's deadline for answers.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answers::{json, readable};
use super::api::{Problem, problem};
use super::{House, admission};
use crate::chronicle::{Advice, Level, Severity, Wants};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/api/v1/events", events)).service(readable("/api/v1/health", health));
}

/// What somebody wants to see.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wish {
    /// Log lines of this level and above: `debug`, `info`, `warn` or `error`; left out, none.
    log: Option<String>,
    /// `0`: no numbers each second.
    stats: Option<u8>,
}

impl Wish {
    fn wants(&self, after: Option<u64>) -> Result<Wants, String> {
        let known = |word: &str| Level::WORDS.iter().find(|(known, _)| *known == word).map(|(_, level)| *level);
        let lines = match &self.log {
            None => None,
            Some(word) => Some(known(word).ok_or_else(|| format!("log={word:?} is no level: write debug, info, warn or error"))?),
        };
        Ok(Wants { lines, stats: self.stats != Some(0), after })
    }
}

/// What happens, as server-sent events, for operators. First what was kept of the last while (with `Last-Event-ID` only what came
/// after that), then what happens. `stats` come once a second, `health` when the advice changes, `log` if asked for; every other
/// message is an event with `at`, `event`, `says` and mostly `mount`. Who is too slow is told `late`, and let go.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    params(Wish, ("Last-Event-ID" = Option<String>, Header, description = "The id of the event that was seen last")),
    responses(
        (status = 200, description = "Events, until somebody hangs up", content_type = "text/event-stream", body = String),
        (status = 400, description = "The query makes no sense", body = Problem),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not see this", body = Problem),
        (status = 503, description = "Too many watch already", body = Problem),
    )
)]
pub(super) async fn events(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(answer) = admission::operator(&request, &house).await {
        return answer;
    }
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| house.chronicle.number_of(id));
    let wish = Query::<Wish>::from_query(request.query_string()).map_err(|error| error.to_string());
    let wants = match wish.and_then(|wish| wish.wants(last)) {
        Ok(wants) => wants,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    let mut head = HttpResponse::Ok();
    head.insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-cache, no-store"))
        .insert_header(("x-accel-buffering", "no")); // a proxy that waits for more delays everything
    if *request.method() == actix_web::http::Method::HEAD {
        return head.finish();
    }
    match house.chronicle.watch(wants) {
        Ok(watching) => head.streaming(watching),
        Err(crowded) => {
            let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, crowded.to_string());
            answer.headers_mut().insert(header::RETRY_AFTER, 10.into());
            answer
        }
    }
}

/// Whether all is well, and what to do where it is not.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, or the weight of what matters most: `note`, `warning`, `critical`.
    #[schema(example = "warning")]
    status: &'static str,
    /// What needs attention, what matters most first.
    advice: Vec<Hint>,
}

/// One thing that needs attention.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hint {
    /// What it is, in a word.
    #[schema(example = "source_flapping")]
    about: &'static str,
    /// `note`, `warning` or `critical`.
    severity: &'static str,
    /// Which mount; null: the server.
    mount: Option<String>,
    /// What else it is about: a shard, a file.
    subject: Option<String>,
    /// What is the case.
    says: String,
    /// What to do about it.
    remedy: &'static str,
}

impl From<Advice> for Hint {
    fn from(advice: Advice) -> Self {
        let Advice { about, severity, mount, subject, says, remedy } = advice;
        Self { about, severity: severity.label(), mount, subject, says, remedy }
    }
}

/// What needs attention, in words. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/health",
    responses(
        (status = 200, description = "What needs attention; nothing: all is well", body = Health),
        (status = 401, description = "The password of [admin] is needed, or the one given is wrong"),
        (status = 403, description = "Whoever asks may not see this", body = Problem),
    )
)]
pub(super) async fn health(request: HttpRequest, house: Data<House>) -> HttpResponse {
    if let Err(answer) = admission::operator(&request, &house).await {
        return answer;
    }
    let advice = house.chronicle.advice();
    let status = advice.iter().map(|advice| advice.severity).max().map_or("ok", Severity::label);
    json(StatusCode::OK, &Health { status, advice: advice.into_iter().map(Hint::from).collect() })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::super::testing::Town;

    #[test]
    fn events_are_for_operators_and_a_query_that_makes_no_sense_is_said_so() {
        let town = Town::with(&["/a.mp3"]);
        for path in ["/api/v1/events", "/api/v1/health"] {
            let (status, _, body) = town.ask("GET", path, "X-Forwarded-For: 192.0.2.1\r\n");
            assert!(status == 403 && body.contains("proxy"), "{path}: {body}");
            let (status, _, body) = town.ask("GET", path, "Origin: http://evil.example\r\n");
            assert!(status == 403 && body.contains("elsewhere"), "{path}: {body}");
        }
        for query in ["log=loud", "stats=x", "nonsense=1"] {
            let (status, body) = town.get(&format!("/api/v1/events?{query}"));
            assert_eq!(status, 400, "{query}: {body}");
            assert!(body.contains("error"), "{body}");
        }
        let (status, head, body) = town.ask("HEAD", "/api/v1/events", "");
        assert!(status == 200 && head.contains("text/event-stream") && body.is_empty(), "{head}");
        assert_eq!(town.get("/api/v1/health"), (200, r#"{"status":"ok","advice":[]}"#.into()));
    }

    #[test]
    fn a_watcher_sees_what_happens_and_there_are_only_so_many() {
        let town = Town::with(&["/a.mp3"]);
        let watch = || {
            let mut stream = TcpStream::connect(town.address).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
            write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", town.address).expect("sent");
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while !text.contains("\n\n") {
                let count = stream.read(&mut buffer).expect("an answer");
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                if count == 0 || text.starts_with("HTTP/1.1 503") {
                    break;
                }
            }
            (stream, text)
        };
        let mut all: Vec<_> = (0..crate::chronicle::WATCHERS_MOST).map(|_| watch()).collect();
        assert!(all.iter().all(|(_, text)| text.starts_with("HTTP/1.1 200") && text.contains("event: health\ndata: []")), "{all:?}");
        assert!(watch().1.starts_with("HTTP/1.1 503"));
        let chronicle = town.chronicle();
        chronicle.tell(&crate::chronicle::Event::now(crate::chronicle::Kind::Title, Some("/a.mp3"), "A - <b>T"));
        let (stream, _) = &mut all[3];
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).expect("an event");
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(text.contains("event: title") && text.contains("A - <b>T") && text.contains("id: "), "{text}");
        drop(all);
        town.until(|| {
            chronicle.tell(&crate::chronicle::Event::now(crate::chronicle::Kind::Title, Some("/a.mp3"), "next"));
            watch().1.starts_with("HTTP/1.1 200")
        });
    }
}
