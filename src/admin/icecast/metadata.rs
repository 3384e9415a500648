//! Titles that encoders send: in whatever charset, for whatever mount they have the password of.

use std::sync::Arc;

use super::query::Parameters;
use crate::access::Password;
use crate::access::rule::UrlAuth;
use crate::mount::registry::Entry;
use crate::mount::{Metadata, PushSettings};
use crate::wire::charset::Charset;

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

/// What an update says is playing, in the charset that it says, else in UTF-8 if it can be, and else in the mount's; `None`: it says
/// nothing.
pub(super) fn update(parameters: &Parameters, usual: Charset) -> Option<Metadata> {
    let said = parameters.text("charset").and_then(|name| Charset::named(&name));
    let decoded = |text| said.map_or_else(|| usual.guessed(text), |said| said.decoded(text));
    let text = |name| parameters.bytes(name).map(|value| tamed(&decoded(value)));
    let url = text("url");
    let (artist, title) = match text("song") {
        Some(song) => (None, Some(song)),
        None => (text("artist"), text("title")),
    };
    (artist.is_some() || title.is_some()).then(|| Metadata::new(artist.as_deref(), title.as_deref(), url.as_deref()))
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
            let metadata = update(&Parameters::of(query), Charset::default()).expect(query);
            assert_eq!((metadata.artist, metadata.title.as_deref()), (None, Some(want)), "{query}");
        }
        let koi = "koi8-r".parse().expect("a charset");
        for (query, want) in [
            ("song=%ED%D5%DA%D9%CB%C1", "Музыка"),
            ("song=%D0%9C", "М"), // UTF-8 is UTF-8 whatever is usual
            ("song=%CC%F3%E7%FB%EA%E0&charset=windows-1251", "Музыка"),
        ] {
            assert_eq!(update(&Parameters::of(query), koi).and_then(|metadata| metadata.title).as_deref(), Some(want), "{query}");
        }
        let long = update(&Parameters::of(&format!("song={}", "%C3%BC".repeat(5000))), Charset::default()).expect("a title");
        assert!(long.title.is_some_and(|title| (1..=TEXT_MOST).contains(&title.chars().count())));
    }

    #[test]
    fn an_update_says_a_song_or_who_plays_what() {
        let read = |query| update(&Parameters::of(query), Charset::default());
        assert_eq!(read("artist=A&title=B&url=http://u"), Some(Metadata::new(Some("A"), Some("B"), Some("http://u"))));
        assert_eq!(read("artist=A&title=B&song=C"), Some(Metadata::new(None, Some("C"), None)));
        assert_eq!(read("title=B"), Some(Metadata::new(None, Some("B"), None)));
        assert_eq!(read("song="), Some(Metadata::default()), "silence is said, too");
        assert_eq!(read("url=http://u&mode=updinfo"), None);
    }
}
