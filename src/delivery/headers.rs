//! What a response head says of a mount beside HTTP's own: the `icy-*` fields of radio players, and who may read it from other
//! pages. Players show what they find, so texts are sent as they are written, in UTF-8, as other servers send them.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::mount::{Cors, Handle, IcyMetadata, Settings};

/// What scripts of other pages may read of a head.
const EXPOSED: &str = "icy-br, icy-description, icy-genre, icy-metaint, icy-name, icy-pub, icy-url, Retry-After";

/// After how many bytes a listener is sent a place for a title, if it wants any.
pub(super) fn interval(settings: &Settings, content_type: &str, asked: &HeaderMap) -> Option<u32> {
    let wanted = asked.get("icy-metadata").is_some_and(|value| value.as_bytes().trim_ascii() == b"1");
    (wanted && fits(settings.icy_metadata, content_type)).then_some(settings.icy_metaint)
}

/// Whether players of such a stream look for titles in it. In an Ogg stream, which has its own, most would stumble.
fn fits(when: IcyMetadata, content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match when {
        IcyMetadata::Always => true,
        IcyMetadata::Off => false,
        IcyMetadata::Auto => ["audio/mpeg", "audio/mp3", "audio/x-mpeg", "audio/aac", "audio/aacp", "audio/x-aac"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(essence)),
    }
}

/// Adds what is known of the mount, whether it was asked for or not, as Icecast does.
pub(super) fn describe(response: &mut HttpResponseBuilder, handle: &Handle, interval: Option<u32>) {
    let profile = handle.profile();
    let mut add = |name: &'static str, value: &str| {
        if let Some(value) = line(value) {
            response.insert_header((HeaderName::from_static(name), value));
        }
    };
    for (name, text) in
        [("icy-name", &profile.name), ("icy-description", &profile.description), ("icy-genre", &profile.genre), ("icy-url", &profile.url)]
    {
        add(name, text.as_deref().unwrap_or_default());
    }
    add("icy-pub", if profile.public { "1" } else { "0" });
    // As measured, over what the ring holds: nobody has to claim it.
    if let Some(rate) = handle.broadcast.feed.read(|ring| ring.bytes_per_second()) {
        add("icy-br", &format!("{:.0}", rate * 8e-3));
    }
    if let Some(interval) = interval {
        add("icy-metaint", &interval.to_string());
    }
}

/// A text as the value of a field: one line; `None` if nothing is left.
fn line(text: &str) -> Option<HeaderValue> {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.is_empty() { None } else { HeaderValue::from_bytes(line.as_bytes()).ok() }
}

/// Says which pages may read an answer of a mount with this policy, to a request from `origin`.
pub(super) fn say_cors(policy: &Cors, origin: Option<&HeaderValue>, head: &mut HeaderMap) {
    let allowed = match policy {
        Cors::Any => Some(HeaderValue::from_static("*")),
        Cors::None => None,
        Cors::Origins(origins) => {
            head.append(header::VARY, HeaderValue::from_static("Origin"));
            origin.filter(|origin| origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))).cloned()
        }
    };
    if let Some(allowed) = allowed {
        head.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        head.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    } else {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_MAX_AGE,
        ] {
            head.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_go_where_players_look_for_them() {
        use IcyMetadata::{Always, Auto, Off};
        for (when, content_type, want) in [
            (Auto, "audio/mpeg", true),
            (Auto, "Audio/AACP; codecs=mp4a.40.5", true),
            (Auto, "audio/aac", true),
            (Auto, "application/ogg", false),
            (Auto, "video/mpeg", false),
            (Auto, "", false),
            (Always, "application/ogg", true),
            (Off, "audio/mpeg", false),
        ] {
            assert_eq!(fits(when, content_type), want, "{when:?} {content_type}");
        }
    }

    #[test]
    fn a_text_cannot_break_out_of_its_field() {
        for (text, want) in [("A\r\nSet-Cookie: x", Some("A  Set-Cookie: x")), ("Grüße\0", Some("Grüße")), (" \t\n", None), ("", None)]
        {
            assert_eq!(line(text).as_ref().map(HeaderValue::as_bytes), want.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_read_what_the_mount_allows() {
        let some = Cors::Origins(vec!["https://a.example".into(), "http://b.example:8080".into()]);
        for (policy, origin, want, varies) in [
            (&Cors::Any, Some("https://x.example"), Some("*"), false),
            (&Cors::Any, None, Some("*"), false),
            (&Cors::None, Some("https://x.example"), None, false),
            (&some, Some("https://a.example"), Some("https://a.example"), true),
            (&some, Some("HTTP://b.example:8080"), Some("HTTP://b.example:8080"), true),
            (&some, Some("http://a.example"), None, true),
            (&some, Some("null"), None, true),
            (&some, None, None, true),
        ] {
            let origin = origin.map(HeaderValue::from_static);
            let mut head = HeaderMap::new();
            for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_ALLOW_HEADERS] {
                head.insert(name, HeaderValue::from_static("*"));
            }
            say_cors(policy, origin.as_ref(), &mut head);
            let found = head.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().expect("text"));
            assert_eq!(found, want, "{policy:?} {origin:?}");
            assert_eq!(head.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS), want.is_some());
            assert_eq!(head.contains_key(header::VARY), varies, "{policy:?}");
        }
    }
}
