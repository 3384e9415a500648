//! What another server says which mounts it has: Icecast's `streamlist.txt`, and the document that everybody may read. Pure.
//!
//! Paths come out as they are, decoded; whether one is a path that a mount can have here, others know.

use serde_json::Value;

/// A field beside that document, by a flumen: how full it is, in thousandths.
pub const LOAD_FIELD: &str = "flumen-load";
/// Most paths that are believed.
pub const PATHS_MOST: usize = 10_000;

/// The paths in a `streamlist.txt`: one a line.
pub fn streamlist(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| line.starts_with('/')).take(PATHS_MOST).map(str::to_owned).collect()
}

/// The paths in Icecast's `status-json.xsl`. `None`: it is no such document.
pub fn status(text: &str) -> Option<Vec<String>> {
    Some(occupancy(text)?.into_iter().map(|(path, _)| path).collect())
}

/// The same, each with its listeners. The document has an object where there is one source, and an array where there are several.
pub fn occupancy(text: &str) -> Option<Vec<(String, u64)>> {
    let document: Value = serde_json::from_str(text).ok()?;
    let sources = match document.get("icestats")?.get("source") {
        None => return Some(Vec::new()),
        Some(Value::Array(sources)) => sources.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let listeners = |source: &Value| source.get("listeners").and_then(Value::as_u64).unwrap_or(0);
    let found = sources.iter().filter_map(|source| Some((path(source.get("listenurl")?.as_str()?)?, listeners(source))));
    Some(found.take(PATHS_MOST).collect())
}

/// The path of a web address.
fn path(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let path = &rest[rest.find('/')?..];
    percent_encoding::percent_decode_str(path).decode_utf8().ok().map(Into::into)
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
            ("{}", None),
            ("<html>", None),
        ] {
            assert_eq!(status(text), want.map(|paths| paths.into_iter().map(str::to_owned).collect()), "{text}");
        }
        let text = r#"{"icestats":{"source":[{"listenurl":"http://h/a","listeners":7},{"listenurl":"http://h/b","listeners":"x"}]}}"#;
        assert_eq!(occupancy(text), Some(vec![("/a".to_owned(), 7), ("/b".to_owned(), 0)]));
    }
}
