//! The status page: what is on air, and a player for it.
//!
//! One document without anything from elsewhere. It says all it has to say without scripts; the little one in it refreshes
//! the numbers, and lets go of the stream when somebody pauses, so that a pause does not keep a place.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::answers::{answer, readable, text};
use super::{House, SERVER};
use crate::door::origin;
use crate::mount::Handle;

/// Nothing is loaded from elsewhere, and nothing but what the page itself says is run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; \
                      media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'";

/// The same, in whoever's page it is.
const EMBEDDED: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; \
                        media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *";

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/", page)).service(readable("/player", player));
}

/// What a browser can do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Player {
    Audio,
    Video,
    /// Pictures that follow one another.
    Image,
    /// It is for other programs.
    None,
}

impl Player {
    fn of(content_type: Option<&str>) -> Self {
        let bare = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match bare.as_str() {
            "video/mp2t" | "video/x-flv" | "video/x-ms-asf" | "video/x-ms-wmv" | "audio/x-ms-wma" => Self::None,
            "application/ogg" => Self::Audio,
            "multipart/x-mixed-replace" => Self::Image,
            kind if kind.starts_with("audio/") => Self::Audio,
            kind if kind.starts_with("video/") => Self::Video,
            _ => Self::None,
        }
    }
}

/// A player for one mount, to be shown within other pages.
#[derive(Template)]
#[template(path = "player.html")]
struct Embedded {
    card: Card,
}

/// Which mount a player is for.
#[derive(Deserialize)]
struct Wanted {
    mount: String,
}

#[derive(Template)]
#[template(path = "status.html")]
struct Page {
    cards: Vec<Card>,
    on_air: usize,
    listeners: u64,
    uptime: String,
    server: &'static str,
}

/// One mount on the page.
struct Card {
    path: String,
    name: String,
    description: Option<String>,
    /// What is being played; empty: nobody has said.
    playing: String,
    genre: Option<String>,
    /// Only what a link may lead to.
    url: Option<String>,
    content_type: Option<String>,
    bitrate: Option<String>,
    up: bool,
    listeners: u64,
    player: Player,
    /// What a page has to say to show the player.
    embed: String,
}

impl Card {
    fn of(handle: &Handle, request: &HttpRequest) -> Self {
        let (status, profile) = (handle.status(), handle.profile());
        let path = handle.settings.path.to_string();
        let player = utf8_percent_encode(&path, NON_ALPHANUMERIC);
        let player = format!("{}?mount={player}", origin::url(request, "/player"));
        let rate = handle.broadcast.feed.read(|ring| ring.bytes_per_second());
        Self {
            name: profile.name.clone().unwrap_or_else(|| path.clone()),
            description: profile.description.clone(),
            playing: handle.metadata().line(),
            genre: profile.genre.clone(),
            url: profile.url.filter(|url| url.starts_with("http://") || url.starts_with("https://")),
            bitrate: rate.filter(|_| status.up).map(bitrate),
            up: status.up,
            listeners: handle.listeners(),
            player: Player::of(status.content_type.as_deref()),
            content_type: status.content_type.as_deref().map(Into::into),
            embed: format!("<iframe src=\"{player}\" width=\"360\" height=\"150\" allow=\"autoplay\"></iframe>"),
            path,
        }
    }
}

/// `128 kbit/s`, `2.4 Mbit/s`.
fn bitrate(bytes_per_second: f64) -> String {
    let kilobits = bytes_per_second * 8.0 / 1000.0;
    if kilobits < 1000.0 { format!("{kilobits:.0} kbit/s") } else { format!("{:.1} Mbit/s", kilobits / 1000.0) }
}

/// A time for people: its two largest units.
fn roughly(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "less than a minute".into(),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

async fn page(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let shown = house.registry.all().into_iter().filter(|entry| !entry.handle.settings.profile.hidden);
    let cards: Vec<_> = shown.map(|entry| Card::of(&entry.handle, &request)).collect();
    let page = Page {
        on_air: cards.iter().filter(|card| card.up).count(),
        listeners: cards.iter().map(|card| card.listeners).sum(),
        uptime: roughly(house.started_at.elapsed().unwrap_or_default()),
        server: SERVER,
        cards,
    };
    rendered(&page, POLICY)
}

/// The player of one mount. A hidden one has a player too: who embeds it knows its path.
async fn player(request: HttpRequest, house: Data<House>) -> HttpResponse {
    let Ok(wanted) = Query::<Wanted>::from_query(request.query_string()) else {
        return text(StatusCode::BAD_REQUEST, "say which mount is to be played: /player?mount=/radio.mp3");
    };
    match house.registry.find(&wanted.mount) {
        Some(entry) => rendered(&Embedded { card: Card::of(&entry.handle, &request) }, EMBEDDED),
        None => text(StatusCode::NOT_FOUND, &format!("there is no mount {:?}", wanted.mount)),
    }
}

fn rendered(page: &impl Template, policy: &'static str) -> HttpResponse {
    match page.render() {
        Ok(body) => {
            let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", body);
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(policy));
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the page cannot be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Town;
    use super::*;

    #[test]
    fn a_stream_gets_the_player_that_a_browser_has_for_it() {
        for (content_type, want) in [
            (Some("audio/mpeg"), Player::Audio),
            (Some("application/ogg"), Player::Audio),
            (Some("Video/WebM; codecs=vp8"), Player::Video),
            (Some("multipart/x-mixed-replace;boundary=x"), Player::Image),
            (Some("video/mp2t"), Player::None),
            (Some("application/x-gdp"), Player::None),
            (None, Player::None),
        ] {
            assert_eq!(Player::of(content_type), want, "{content_type:?}");
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!((bitrate(16_001.0), bitrate(300_000.0)), ("128 kbit/s".into(), "2.4 Mbit/s".into()));
        for (seconds, want) in [(59, "less than a minute"), (60, "1 min"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h")] {
            assert_eq!(roughly(Duration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn the_page_shows_what_is_on_air_and_nothing_hidden_or_unescaped() {
        let town = Town::with(&["/a.mp3", "/b.webm", "/c.mp3", "/hidden.mp3"]);
        town.on_air("/a.mp3", "audio/mpeg");
        town.on_air("/b.webm", "video/webm");
        town.on_air("/hidden.mp3", "audio/mpeg");
        let playing = crate::mount::Metadata::new(Some("A & B"), Some("<b>T"), None);
        town.registry().find("/a.mp3").expect("a mount").handle.set_metadata(playing);
        let (status, page) = town.get("/");
        assert_eq!(status, 200);
        for part in [
            "<audio",
            "src=\"/a.mp3\"",
            "<video",
            "src=\"/b.webm\"",
            "/a.mp3.m3u",
            "/a.mp3.xspf",
            "/a.mp3.pls",
            "&#60;b&#62;",
            ">A &#38; B - &#60;b&#62;T<",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        for part in ["<b>", "hidden.mp3", "src=\"/c.mp3\"", "href=\"javascript"] {
            assert!(!page.contains(part), "{part} must not be there");
        }
        assert!(page.contains(&format!("http://{}/player?mount=%2Fa%2Emp3", town.address)), "what to embed");
    }

    #[test]
    fn a_player_is_for_other_pages_and_says_which_mount_it_needs() {
        let town = Town::with(&["/a.mp3", "/b.webm"]);
        town.on_air("/a.mp3", "audio/mpeg");
        town.on_air("/b.webm", "video/webm");
        let (status, head, body) = town.ask("GET", "/player?mount=%2Fa.mp3", "");
        assert!(status == 200 && head.contains("frame-ancestors *") && !head.contains("x-frame-options"), "{head}");
        assert!(body.contains("<audio") && body.contains("The &#34;A&#34; &#38; &#60;b&#62;") && !body.contains("<b>T"), "{body}");
        assert!(town.get("/player?mount=/b.webm").1.contains("<video"));
        assert_eq!((town.get("/player").0, town.get("/player?mount=/no").0), (400, 404));
    }
}
