//! Patterns for what a client says it is: bounded, and matched in one pass, whatever they say.

use std::fmt;

use crate::units::UnitError;

/// The longest pattern.
const LONGEST: usize = 200;

/// A part of a text, or with `*` in it a picture of the whole. Upper and lower case are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Whether a text has it.
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(last) = parts.next_back() else { return text.contains(first) };
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        // Each part as early as it can be: what is left for the others is then as much as it can be.
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Pattern {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = |problem: &str| UnitError {
            problem: problem.to_owned(),
            remedy: "write a part of the name such as \"bot\", or a picture of the whole such as \"*curl/7.*\"",
        };
        match text {
            "" => Err(wrong("is empty")),
            text if text.len() > LONGEST => Err(wrong("is longer than 200 bytes")),
            text if text.chars().any(char::is_control) => Err(wrong("has a control character")),
            text => Ok(Self(text.to_lowercase().into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_is_found_anywhere_and_a_picture_is_the_whole() {
        for (pattern, text, want) in [
            ("bot", "GoogleBot/2.1", true),
            ("bot", "VLC", false),
            ("curl/*", "curl/8.5", true),
            ("curl/*", "a curl/8.5", false),
            ("*curl/*", "a curl/8.5", true),
            ("*", "", true),
            ("a*b", "ab", true),
            ("a*b", "a", false),
            ("ab*b", "ab", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("**", "anything", true),
            ("VLC", "vlc/3", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().expect(pattern).matches(text), want, "{pattern} {text}");
        }
        for bad in ["", "a\nb", &"x".repeat(201)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// As the plain definition says, tried in all ways.
        #[test]
        fn a_picture_is_what_it_says(pattern in "[ab*]{1,6}", text in "[ab]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                    Some((byte, rest)) => text.first() == Some(byte) && slow(rest, &text[1..]),
                }
            }
            let want = if pattern.contains('*') { slow(pattern.as_bytes(), text.as_bytes()) } else { text.contains(&pattern) };
            prop_assert_eq!(pattern.parse::<Pattern>().expect("a pattern").matches(&text), want);
        }
    }
}
