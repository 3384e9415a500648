//! One visit as a line: NCSA combined as every tool reads it, with what a stream adds at its end, or JSON.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// The longest target and agent that are written; more is cut.
const TEXT_MOST: usize = 400;
/// The longest line: six texts of clients and one of ours, where each character is written as six, and what is between them.
pub(super) const LINE_MOST: usize = 7 * 6 * TEXT_MOST + 512;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Somebody asked for something, and this came of it. What is unknown is empty.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Which connection asked, by the number that lines of the event log have; `None`: see `listener`. In JSON only.
    pub connection: Option<u64>,
    /// Which listener it was, by the number that the event log, the API and webhooks have. In JSON only.
    pub listener: Option<u64>,
    /// From where: an address without its port, or `unix`.
    pub peer: &'a str,
    /// Who it said it was, if that was true.
    pub user: &'a str,
    /// When it asked.
    pub at: SystemTime,
    /// How.
    pub method: &'a str,
    /// For what: a path without its query, which may hold what is nobody's business.
    pub target: &'a str,
    /// In which version of HTTP.
    pub version: &'a str,
    /// What it was answered.
    pub status: u16,
    /// Bytes of the body, or of the stream; `None`: nobody counted.
    pub bytes: Option<u64>,
    /// Which page sent it.
    pub referer: &'a str,
    /// What it says it is.
    pub agent: &'a str,
    /// How long it took, or stayed.
    pub lasted: Duration,
    /// Why it left, if it listened.
    pub departure: &'a str,
    /// Where it listened.
    pub mount: &'a str,
}

impl Default for Visit<'_> {
    fn default() -> Self {
        Self {
            connection: None,
            listener: None,
            peer: "",
            user: "",
            at: SystemTime::UNIX_EPOCH,
            method: "",
            target: "",
            version: "",
            status: 200,
            bytes: None,
            referer: "",
            agent: "",
            lasted: Duration::ZERO,
            departure: "",
            mount: "",
        }
    }
}

#[derive(Serialize)]
struct Fields<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    peer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    method: &'a str,
    target: &'a str,
    version: &'a str,
    status: u16,
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    referer: &'a str,
    agent: &'a str,
    seconds: f64,
    #[serde(skip_serializing_if = "str::is_empty")]
    departure: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mount: &'a str,
}

impl Visit<'_> {
    /// `192.0.2.1 - - [25/Nov/2026:14:39:00 +0000] "GET /radio.mp3 HTTP/1.1" 200 16000 "-" "mpv 0.38" 1.000 hung_up /radio.mp3`
    pub fn combined(&self) -> String {
        let mut line = String::with_capacity(200);
        bare(&mut line, self.peer);
        line.push_str(" - ");
        bare(&mut line, self.user);
        let Date { year, month, day, time } = Date::of(self.at);
        let _ = write!(line, " [{day}/{}/{year}:{time} +0000] \"", MONTHS[month - 1]); // a string takes everything
        for (i, part) in [self.method, self.target, self.version].into_iter().filter(|part| !part.is_empty()).enumerate() {
            if i > 0 {
                line.push(' ');
            }
            escape(&mut line, part);
        }
        let _ = write!(line, "\" {} ", self.status);
        match self.bytes {
            Some(bytes) => drop(write!(line, "{bytes}")),
            None => line.push('-'),
        }
        for text in [self.referer, self.agent] {
            line.push_str(" \"");
            escape(&mut line, if text.is_empty() { "-" } else { text });
            line.push('"');
        }
        let _ = write!(line, " {:.3} ", self.lasted.as_secs_f64());
        bare(&mut line, self.departure);
        line.push(' ');
        bare(&mut line, self.mount);
        line
    }

    /// The same as an object, in one line.
    pub fn json(&self) -> String {
        let Date { year, month, day, time } = Date::of(self.at);
        let fields = Fields {
            time: format!("{year}-{month:02}-{day}T{time}Z"),
            connection: self.connection,
            id: self.listener,
            peer: self.peer,
            user: cut(self.user),
            method: cut(self.method),
            target: cut(self.target),
            version: self.version,
            status: self.status,
            bytes: self.bytes,
            referer: cut(self.referer),
            agent: cut(self.agent),
            seconds: (self.lasted.as_secs_f64() * 1e3).round() / 1e3,
            departure: self.departure,
            mount: self.mount,
        };
        serde_json::to_string(&fields).unwrap_or_default() // texts and numbers can always be written
    }
}

struct Date {
    year: String,
    /// From 1.
    month: usize,
    day: String,
    time: String,
}

impl Date {
    fn of(moment: SystemTime) -> Self {
        let text = httpdate::fmt_http_date(moment.max(SystemTime::UNIX_EPOCH)); // Sun, 06 Nov 1994 08:49:37 GMT
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
        let month = MONTHS.iter().position(|month| *month == part(8..11)).map_or(1, |index| index + 1);
        Self { year: part(12..16), month, day: part(5..7), time: part(17..25) }
    }
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(TEXT_MOST).map_or(text, |(end, _)| &text[..end])
}

/// A word that stands without quotes: a blank would end it.
fn bare(line: &mut String, word: &str) {
    if word.is_empty() {
        return line.push('-');
    }
    let start = line.len();
    escape(line, word);
    if line[start..].contains(' ') {
        let closed = line[start..].replace(' ', "\\x20");
        line.truncate(start);
        line.push_str(&closed);
    }
}

/// Text inside of quotes: what would end them, or is no text, is written as what it is.
fn escape(line: &mut String, text: &str) {
    for c in cut(text).chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            c if c.is_control() => drop(write!(line, "\\x{:02x}", u32::from(c))),
            // These turn the rest of a line around in a terminal.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit() -> Visit<'static> {
        Visit {
            peer: "192.0.2.1",
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_617_540),
            method: "GET",
            target: "/radio.mp3",
            version: "HTTP/1.1",
            bytes: Some(16_000),
            agent: "mpv 0.38",
            lasted: Duration::from_millis(1500),
            departure: "hung_up",
            mount: "/radio.mp3",
            ..Visit::default()
        }
    }

    #[test]
    fn a_visit_is_a_line_that_every_tool_reads() {
        let want =
            "192.0.2.1 - - [25/Nov/2026:14:39:00 +0000] \"GET /radio.mp3 HTTP/1.1\" 200 16000 \"-\" \"mpv 0.38\" 1.500 hung_up /radio.mp3";
        assert_eq!(visit().combined(), want);
        let page = Visit { user: "admin", status: 404, bytes: None, referer: "http://a/", departure: "", mount: "", agent: "", ..visit() };
        let want = "192.0.2.1 - admin [25/Nov/2026:14:39:00 +0000] \"GET /radio.mp3 HTTP/1.1\" 404 - \"http://a/\" \"-\" 1.500 - -";
        assert_eq!(page.combined(), want);
        let want = r#"{"time":"2026-11-25T14:39:00Z","peer":"192.0.2.1","method":"GET","target":"/radio.mp3","version":"HTTP/1.1","status":200,"bytes":16000,"agent":"mpv 0.38","seconds":1.5,"departure":"hung_up","mount":"/radio.mp3"}"#;
        assert_eq!(visit().json(), want);
        let named = |connection, listener| Visit { connection, listener, ..visit() };
        assert!(named(Some(17), None).json().starts_with(r#"{"time":"2026-11-25T14:39:00Z","connection":17,"peer""#));
        assert!(named(None, Some(4)).json().starts_with(r#"{"time":"2026-11-25T14:39:00Z","id":4,"peer""#));
        assert_eq!(named(Some(17), Some(4)).combined(), visit().combined(), "tools read that line by its places");
    }

    #[test]
    fn nothing_that_a_client_sends_is_taken_for_a_line_or_a_field() {
        for (agent, want) in [
            ("a\" 200 \"b", "\"a\\\" 200 \\\"b\""),
            ("a\r\n10.0.0.1 - -", "\"a\\x0d\\x0a10.0.0.1 - -\""),
            ("\u{1b}[2Jx", "\"\\x1b[2Jx\""),
            ("\u{9b}2J", "\"\\x9b2J\""),
            ("\\\"", "\"\\\\\\\"\""),
            ("\u{202e}abc", "\"\\u202eabc\""),
            ("Grüße 🎵", "\"Grüße 🎵\""),
        ] {
            let line = Visit { agent, ..visit() }.combined();
            assert!(line.contains(want) && line.lines().count() == 1, "{line}");
            let json = Visit { agent, ..visit() }.json();
            let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            assert!(read["agent"] == agent && json.lines().count() == 1, "{json}");
        }
        let spaced = Visit { user: "a b", mount: "/a b", ..visit() }.combined();
        assert!(spaced.contains(" - a\\x20b [") && spaced.ends_with(" /a\\x20b"), "{spaced}");
        let long = "x".repeat(100_000);
        assert!(Visit { agent: &long, target: &long, user: &long, ..visit() }.combined().len() < 1600);
    }

    #[test]
    fn no_line_is_longer_than_is_counted_with() {
        let path = format!("/{}", "é".repeat(127)); // the longest that a mount has
        for character in ["x", "\"", "\u{1}", "\u{202e}", "\u{1f3b5}"] {
            let long = character.repeat(10_000);
            let visit = Visit {
                user: &long,
                method: &long,
                target: &long,
                referer: &long,
                agent: &long,
                mount: &path,
                bytes: Some(u64::MAX),
                ..visit()
            };
            for line in [visit.combined(), visit.json()] {
                assert!(line.len() <= LINE_MOST, "{character:?}: {} bytes", line.len());
            }
        }
    }

    #[test]
    fn a_clock_before_1970_breaks_nothing() {
        let early = Visit { at: SystemTime::UNIX_EPOCH - Duration::from_secs(5), ..visit() };
        assert!(early.combined().contains("[01/Jan/1970:00:00:00 +0000]"));
    }
}
