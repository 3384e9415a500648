//! What is being played on a mount: artist, title, address.
//!
//! - Texts are made harmless once, here: bounded, one line, no control characters. Who shows them still has to quote them.
//! - Nothing and an empty text are the same.
//! - It belongs to what is heard. So it is forgotten together with the history: at once where listeners leave with the source,
//!   else when the source has been away for so long that its history is void. A source that only stumbles, or is replaced while
//!   it delivers, keeps what was said of it until somebody says something else.

use std::sync::Arc;

/// The longest artist, title or address, in bytes; what is longer is cut between two characters. One alone fits into what ICY
/// listeners can be sent at once.
pub const TEXT_MOST: usize = 2048;

/// What is being played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Who plays.
    pub artist: Option<Arc<str>>,
    /// What is played. Often all that is known, artist included.
    pub title: Option<Arc<str>>,
    /// Where to read more of it.
    pub url: Option<Arc<str>>,
}

impl Metadata {
    /// From texts of whatever origin and length.
    pub fn new(artist: Option<&str>, title: Option<&str>, url: Option<&str>) -> Self {
        Self { artist: artist.and_then(tame), title: title.and_then(tame), url: url.and_then(tame) }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// In one line: `artist - title`, or whichever there is.
    pub fn line(&self) -> String {
        match (&self.artist, &self.title) {
            (Some(artist), Some(title)) => format!("{artist} - {title}"),
            (one, other) => one.as_ref().or(other.as_ref()).map(|text| text.to_string()).unwrap_or_default(),
        }
    }
}

/// One line without control characters, not too long; `None` if nothing is left.
fn tame(text: &str) -> Option<Arc<str>> {
    // Far more than can be kept is not looked at: somebody may send megabytes.
    let mut end = text.len().min(4 * TEXT_MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut tame = String::new();
    for c in text[..end].trim_start().chars() {
        let c = match c {
            '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => ' ',
            c if c.is_control() => continue,
            c => c,
        };
        if tame.len() + c.len_utf8() > TEXT_MOST {
            break;
        }
        tame.push(c);
    }
    let tame = tame.trim();
    (!tame.is_empty()).then(|| tame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_one_harmless_line() {
        for (text, want) in [
            ("A title", Some("A title")),
            ("", None),
            (" \t\r\n", None),
            ("\0\u{1b}[31m", Some("[31m")),
            ("a\r\nb\u{2028}c\0d", Some("a  b cd")),
            ("  \u{202e}אבג 😀 ", Some("\u{202e}אבג 😀")),
            ("';<b>&\"", Some("';<b>&\"")),
        ] {
            assert_eq!(tame(text).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn a_megabyte_is_cut_between_characters() {
        for (c, want) in [("x", TEXT_MOST), ("音", TEXT_MOST - TEXT_MOST % 3)] {
            assert_eq!(tame(&c.repeat(1 << 20)).map(|text| text.len()), Some(want), "{c}");
        }
        assert_eq!(tame(&" ".repeat(1 << 20)), None);
    }

    #[test]
    fn one_line_says_what_there_is() {
        for (artist, title, want) in
            [(Some("A"), Some("T"), "A - T"), (None, Some("T"), "T"), (Some("A"), None, "A"), (None, Some(""), ""), (None, None, "")]
        {
            assert_eq!(Metadata::new(artist, title, None).line(), want);
        }
        assert!(Metadata::new(Some(" "), None, Some("\n")).is_empty());
    }
}
