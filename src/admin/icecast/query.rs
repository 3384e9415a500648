//! The parameters of a request, as bytes: encoders write titles in charsets of their own.

use percent_encoding::percent_decode;

/// Parameters of one request that are looked at.
const MOST: usize = 32;

/// The parameters of one request.
#[derive(Debug)]
pub(in crate::admin) struct Parameters(Vec<(String, Vec<u8>)>);

impl Parameters {
    /// Reads what follows the `?`.
    pub(in crate::admin) fn of(query: &str) -> Self {
        let one = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (String::from_utf8_lossy(&decoded(name)).into_owned(), decoded(value))
        };
        Self(query.split('&').filter(|pair| !pair.is_empty()).take(MOST).map(one).collect())
    }

    /// The value of one; the last counts.
    pub(in crate::admin) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    /// The value of one that is plain text.
    pub(in crate::admin) fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decoded_once_and_the_last_of_a_name_counts() {
        let parameters = Parameters::of("mount=%2Fa.mp3&song=A+%2B+B%20%e4&mode&x=1&x=2&=3&song2=a%2541");
        for (name, want) in [
            ("mount", Some(&b"/a.mp3"[..])),
            ("song", Some(b"A + B \xe4")),
            ("mode", Some(b"")),
            ("x", Some(b"2")),
            ("song2", Some(b"a%41")),
            ("y", None),
        ] {
            assert_eq!(parameters.bytes(name), want, "{name}");
        }
        assert_eq!(parameters.text("song").as_deref(), Some("A + B \u{fffd}"));
        assert_eq!(Parameters::of(&"a=1&".repeat(1000)).0.len(), MOST);
    }
}
