//! What texts are written in that are not UTF-8: encoders have been writing titles in the charsets of their countries for longer than
//! there has been UTF-8, and few say which it is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use encoding_rs::{Encoding, WINDOWS_1252};

use crate::units::UnitError;

/// A charset, by any name that the web has for it: `iso-8859-1`, `windows-1251`, `koi8-r`, `shift_jis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Default for Charset {
    /// What most of what is not UTF-8 is written in, and what Icecast takes it for.
    fn default() -> Self {
        Self(WINDOWS_1252)
    }
}

impl Charset {
    /// The one with this name; `None`: nobody knows it.
    pub fn named(name: &str) -> Option<Self> {
        Encoding::for_label(name.trim().as_bytes()).map(Self)
    }

    /// A text that is in this charset, whatever it looks like.
    pub fn decoded(self, text: &[u8]) -> Cow<'_, str> {
        self.0.decode_without_bom_handling(text).0
    }

    /// A text that is in UTF-8 if it can be, and else in this charset.
    pub fn guessed(self, text: &[u8]) -> Cow<'_, str> {
        std::str::from_utf8(text).map_or_else(|_| self.decoded(text), Cow::Borrowed)
    }
}

impl FromStr for Charset {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let remedy = "write a name such as \"iso-8859-1\", \"windows-1251\" or \"koi8-r\"";
        Self::named(text).ok_or_else(|| UnitError { problem: format!("{text:?} is no charset that is known here"), remedy })
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name().to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_utf8_is_read_so_and_the_rest_as_was_said() {
        for (name, text, want) in [
            ("iso-8859-1", &b"Gr\xfc\xdfe"[..], "Grüße"),
            ("ISO8859-1", b"Gr\xfc\xdfe", "Grüße"),
            ("windows-1251", b"\xcc\xf3\xe7\xfb\xea\xe0", "Музыка"),
            ("koi8-r", b"\xed\xd5\xda\xd9\xcb\xc1", "Музыка"),
            ("shift_jis", b"\x89\xb9\x8ay", "音楽"),
            ("windows-1251", "Музыка".as_bytes(), "Музыка"),
            ("UTF8", b"a\xff", "a\u{fffd}"),
        ] {
            let charset: Charset = name.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(charset.guessed(text), want, "{name}");
            assert_eq!(charset.to_string().parse(), Ok(charset), "its name is one of its names");
        }
        assert_eq!(Charset::default().guessed(b"\xfc"), "ü");
        let error = "klingon".parse::<Charset>().expect_err("nobody knows it");
        assert!(error.problem.contains("klingon") && error.remedy.contains("windows-1251"), "{error:?}");
    }
}
