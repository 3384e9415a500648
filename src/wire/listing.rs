//! What another server says which mounts it has: Icecast's `streamlist.txt`, and the document that everybody may read. Pure.
//!
//! Paths come out as they are, decoded; whether one is a path that a mount can have here, others know.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::units::MountPath;

/// A field beside that document, by a flumen: how full it is, in thousandths.
pub const LOAD_FIELD: &str = "flumen-load";
/// Most paths that are believed.
pub const PATHS_MOST: usize = 10_000;
/// The most memory that a list takes: its paths, none longer than a mount's, with their listeners and the allocator's share.
pub const LIST_BYTES: u64 = PATHS_MOST as u64 * (MountPath::LONGEST as u64 + 97);

/// The paths in a `streamlist.txt`: one a line.
pub fn streamlist(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with('/') && line.len() <= MountPath::LONGEST);
    lines.take(PATHS_MOST).map(str::to_owned).collect()
}

/// The paths in Icecast's `status-json.xsl`. `None`: it is no such document.
pub fn status(text: &str) -> Option<Vec<String>> {
    Some(occupancy(text)?.into_iter().map(|(path, _)| path).collect())
}

/// The same, each with its listeners. The document has an object where there is one source, and an array where there are several.
/// Nothing is kept of it but that: what else is in it may be as much as its sender likes.
pub fn occupancy(text: &str) -> Option<Vec<(String, u64)>> {
    let (mut found, mut document) = (Found::default(), serde_json::Deserializer::from_str(text));
    Reader { place: Place::Document, found: &mut found }.deserialize(&mut document).ok()?;
    document.end().ok()?;
    found.known.then_some(found.sources)
}

/// The path of a web address.
fn path(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let path = percent_encoding::percent_decode_str(&rest[rest.find('/')?..]).decode_utf8().ok()?;
    (path.len() <= MountPath::LONGEST).then(|| path.into())
}

/// What has been found.
#[derive(Debug, Default)]
struct Found {
    /// It is such a document.
    known: bool,
    sources: Vec<(String, u64)>,
    /// Of the source that is being read.
    path: Option<String>,
    listeners: u64,
}

/// Where in the document a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Document,
    Stats,
    Sources,
    Source,
    Address,
    Listeners,
}

/// The names that mean something here.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Icestats,
    Source,
    Listenurl,
    Listeners,
    #[serde(other)]
    Other,
}

/// Reads a value that stands at this place. What cannot be there is passed over.
struct Reader<'a> {
    place: Place,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status document")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { place, found } = self;
        found.known |= place == Place::Stats;
        let is_source = matches!(place, Place::Sources | Place::Source);
        if is_source {
            (found.path, found.listeners) = (None, 0);
        }
        while let Some(name) = map.next_key()? {
            let place = match (place, name) {
                (Place::Document, Name::Icestats) => Place::Stats,
                (Place::Stats, Name::Source) => Place::Sources,
                (Place::Sources | Place::Source, Name::Listenurl) => Place::Address,
                (Place::Sources | Place::Source, Name::Listeners) => Place::Listeners,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(Reader { place, found })?;
        }
        if is_source
            && let Some(path) = found.path.take()
            && found.sources.len() < PATHS_MOST
        {
            found.sources.push((path, found.listeners));
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        let Self { place, found } = self;
        if place == Place::Sources {
            while found.sources.len() < PATHS_MOST && list.next_element_seed(Reader { place: Place::Source, found })?.is_some() {}
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.place == Place::Address {
            self.found.path = path(text);
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        if self.place == Place::Listeners {
            self.found.listeners = number;
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_streams_is_read_line_by_line() {
        assert_eq!(streamlist("/a.mp3\r\n\n /b \nnonsense\n"), ["/a.mp3", "/b"]);
        assert_eq!(streamlist(&"/x\n".repeat(2 * PATHS_MOST)).len(), PATHS_MOST);
    }

    #[test]
    fn the_status_document_is_read_with_all_its_oddities() {
        for (text, want) in [
            (r#"{"icestats":{"host":"x"}}"#, Some(vec![])),
            (r#"{"icestats":{"source":{"listenurl":"http://h:8000/a%20b"}}}"#, Some(vec!["/a b"])),
            (
                r#"{"icestats":{"source":[{"listenurl":"http://h/a"},{"dummy":null},{"listenurl":"https://h/b/c"}]}}"#,
                Some(vec!["/a", "/b/c"]),
            ),
            (r#"{"icestats":{"source":{"listenurl":"h/a"}}}"#, Some(vec![])),
            (r#"{"icestats":{"source":{"listenurl":"http://h"}}}"#, Some(vec![])),
            (
                r#"{"icestats":{"source":[7,-1,0.5,true,"x",[{"listenurl":"http://h/no"}],{"listenurl":{"listenurl":"http://h/no"}}]}}"#,
                Some(vec![]),
            ),
            (r#"{"source":{"listenurl":"http://h/no"},"icestats":{"admin":{"listenurl":"http://h/no"},"source":null}}"#, Some(vec![])),
            (r#"{"icestats":{}} and more"#, None),
            ("{}", None),
            ("7", None),
            ("<html>", None),
        ] {
            assert_eq!(status(text), want.map(|paths| paths.into_iter().map(str::to_owned).collect()), "{text}");
        }
        let text = r#"{"icestats":{"source":[{"listenurl":"http://h/a","listeners":7},{"listenurl":"http://h/b","listeners":"x"}]}}"#;
        assert_eq!(occupancy(text), Some(vec![("/a".to_owned(), 7), ("/b".to_owned(), 0)]));
    }

    #[test]
    fn what_is_kept_of_a_list_is_bounded_whatever_it_lists() {
        let many = format!(r#"{{"icestats":{{"source":[{}{{}}]}}}}"#, r#"{"listenurl":"http://h/a"},"#.repeat(2 * PATHS_MOST));
        assert_eq!(status(&many).map(|paths| paths.len()), Some(PATHS_MOST));
        let [longest, longer] = [0, 1].map(|more| format!("/{}", "a".repeat(MountPath::LONGEST - 1 + more)));
        for (path, kept) in [(longest, 1), (longer, 0)] {
            assert_eq!(streamlist(&path).len(), kept);
            assert_eq!(
                status(&format!(r#"{{"icestats":{{"source":{{"listenurl":"http://h{path}"}}}}}}"#)).map(|paths| paths.len()),
                Some(kept)
            );
        }
    }
}
