//! Titles that encoders send: in whatever charset, for whatever mount they have the password of.

use std::sync::Arc;

use encoding_rs::{Encoding, WINDOWS_1252};

use super::query::Parameters;
use crate::access::Password;
use crate::access::rule::UrlAuth;
use crate::mount::registry::Entry;
use crate::mount::{Metadata, PushSettings};

/// Characters of a text that are kept; ICY metadata have no room for more.
const TEXT_MOST: usize = 1000;

/// Who says who a mount's source is, where a backend does.
pub(super) fn backend_of(entry: &Entry) -> Option<&Arc<UrlAuth>> {
    entry.handle.settings.push.as_ref()?.stream_auth.as_ref()
}

/// The name and the password of a mount's source, where encoders may push and it is the password that counts.
pub(super) fn source_of(entry: &Entry) -> Option<(&'static str, &Password)> {
    let push = entry.handle.settings.push.as_ref()?;
    push.password.as_ref().filter(|_| push.stream_auth.is_none()).map(|password| (PushSettings::USER, password))
}

/// What an update says is playing; `None`: it says nothing.
pub(super) fn update(parameters: &Parameters) -> Option<Metadata> {
    let charset = parameters.text("charset");
    let text = |name| parameters.bytes(name).map(|value| tamed(&decoded(value, charset.as_deref())));
    let url = text("url");
    let (artist, title) = match text("song") {
        Some(song) => (None, Some(song)),
        None => (text("artist"), text("title")),
    };
    (artist.is_some() || title.is_some()).then(|| Metadata::new(artist.as_deref(), title.as_deref(), url.as_deref()))
}

/// A text in the charset that it is said to be in; else in UTF-8 if it can be, and else in that of old encoders.
fn decoded(text: &[u8], charset: Option<&str>) -> String {
    let named = charset.and_then(|name| Encoding::for_label(name.trim().as_bytes()));
    let encoding = match (named, std::str::from_utf8(text)) {
        (Some(encoding), _) => encoding,
        (None, Ok(text)) => return text.to_owned(),
        (None, Err(_)) => WINDOWS_1252,
    };
    encoding.decode_without_bom_handling(text).0.into_owned()
}

/// One line, not endless, without what controls a terminal.
fn tamed(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MOST).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_read_in_its_charset() {
        for (query, want) in [
            ("song=Gr%C3%BC%C3%9Fe", "Grüße"),
            ("song=Gr%FC%DFe", "Grüße"),
            ("song=Gr%FC%DFe&charset=ISO-8859-1", "Grüße"),
            ("song=Gr%FC%DFe&charset=latin1", "Grüße"),
            ("song=%CC%F3%E7%FB%EA%E0&charset=windows-1251", "Музыка"),
            ("song=%C3%BC&charset=UTF-8", "ü"),
            ("song=%C3%BC&charset=", "ü"),
            ("song=%C3%BC&charset=nosuch", "ü"),
            ("song=a%0Ab%1B%5B31m+", "a b [31m"),
        ] {
            let metadata = update(&Parameters::of(query)).expect(query);
            assert_eq!((metadata.artist, metadata.title.as_deref()), (None, Some(want)), "{query}");
        }
        let long = update(&Parameters::of(&format!("song={}", "%C3%BC".repeat(5000)))).expect("a title");
        assert!(long.title.is_some_and(|title| (1..=TEXT_MOST).contains(&title.chars().count())));
    }

    #[test]
    fn an_update_says_a_song_or_who_plays_what() {
        let read = |query| update(&Parameters::of(query));
        assert_eq!(read("artist=A&title=B&url=http://u"), Some(Metadata::new(Some("A"), Some("B"), Some("http://u"))));
        assert_eq!(read("artist=A&title=B&song=C"), Some(Metadata::new(None, Some("C"), None)));
        assert_eq!(read("title=B"), Some(Metadata::new(None, Some("B"), None)));
        assert_eq!(read("song="), Some(Metadata::default()), "silence is said, too");
        assert_eq!(read("url=http://u&mode=updinfo"), None);
    }
}
