//! Paths that have no mount until somebody publishes there: which pattern a path belongs to. Pure.
//!
//! - `*` stands for one character or more, slashes too, and what comes of it must be a path that a mount can have: `/live/*` is
//!   neither `/live` nor `/live/`.
//! - Of several patterns the most specific wins: the one that says most characters itself, then the one with fewer `*`, then the one
//!   that is written first.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Announce, Fallback, OnSourceEnd, Profile, RelaySettings, Settings};
use crate::units::{MountPath, UnitError};

/// What stands for whatever a publisher chooses.
const ANY: char = '*';

/// A path with at least one `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern(Arc<str>);

impl PathPattern {
    /// Whether a text is meant as one.
    pub fn is_meant(text: &str) -> bool {
        text.contains(ANY)
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a path is one of those it stands for.
    pub fn matches(&self, path: &MountPath) -> bool {
        let mut parts = self.0.split(ANY);
        let Some(mut rest) = parts.next().and_then(|first| path.as_str().strip_prefix(first)) else { return false };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            // One character at least, then the next part where it comes first; the last part stands at the very end.
            let Some(skipped) = rest.chars().next().map(char::len_utf8) else { return false };
            if parts.peek().is_none() {
                return rest[skipped..].ends_with(part);
            }
            let Some(at) = rest[skipped..].find(part) else { return false };
            rest = &rest[skipped + at + part.len()..];
        }
        false // it has a `*`
    }

    /// The larger, the more specific: characters that it says itself, and how few are open.
    fn weight(&self) -> (usize, std::cmp::Reverse<usize>) {
        let open = self.0.matches(ANY).count();
        (self.0.chars().count() - open, std::cmp::Reverse(open))
    }
}

impl FromStr for PathPattern {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = |problem: String| UnitError { problem, remedy: "write a pattern such as \"/live/*\"" };
        if text.contains("**") {
            return Err(wrong(format!("{text:?} has two * side by side, where one says the same")));
        }
        // With a letter for each `*` it is to be a path.
        let example: Result<MountPath, UnitError> = text.replace(ANY, "x").parse();
        example.map_err(|error| wrong(error.problem.replace(&text.replace(ANY, "x"), text)))?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What mounts are made of that publishers make on the fly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Where.
    pub paths: PathPattern,
    /// Most of them at a time.
    pub most: usize,
    /// What they are, but for their paths.
    pub mounts: Settings,
}

impl Pattern {
    /// The settings of the mount that it makes at a path.
    pub fn settings(&self, path: MountPath) -> Settings {
        Settings { path, ..self.mounts.clone() }
    }

    /// Where its recording is heard by everybody who asks for a path that nobody publishes to; `None`: it has none.
    pub fn recording_at(&self) -> Option<MountPath> {
        self.mounts.fallback.file().map(|_| MountPath::of_pattern(self.paths.as_str()))
    }

    /// The mount that this takes: its listeners are served as those of any other of the pattern, but nothing fills it.
    pub fn recording(&self) -> Option<Settings> {
        let (path, mounts) = (self.recording_at()?, self.mounts.clone());
        Some(Settings {
            path,
            profile: Profile { public: false, hidden: true, ..mounts.profile },
            pipeline: None,
            relay: RelaySettings::default(),
            push: None,
            tcp: Vec::new(),
            on_source_end: OnSourceEnd::Wait,
            linger: None,
            fallback: Fallback { to: mounts.fallback.to, ..Fallback::default() },
            announce: Announce::default(),
            ..mounts
        })
    }
}

/// The pattern that a path belongs to.
pub fn choose<'a>(patterns: &'a [Pattern], path: &MountPath) -> Option<&'a Pattern> {
    let fitting = patterns.iter().rev().filter(|pattern| pattern.paths.matches(path));
    fitting.max_by_key(|pattern| pattern.paths.weight()) // of equals the last seen, which is the first written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mount::testing::settings;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_star_is_one_character_or_more_and_nothing_else_is() {
        for (paths, path, want) in [
            ("/live/*", "/live/a", true),
            ("/live/*", "/live/a/b.mp3", true),
            ("/live/*", "/live", false),
            ("/live/*", "/lives/a", false),
            ("/live*", "/live", false),
            ("/live*", "/live1", true),
            ("/*", "/x", true),
            ("/*.mp3", "/x.mp3", true),
            ("/*.mp3", "/.mp3", false),
            ("/*.mp3", "/x.mp3.ogg", false),
            ("/*.mp3", "/x.mp3.mp3", true),
            ("/*/live/*", "/a/live/b", true),
            ("/*/live/*", "/a/live", false),
            ("/*/live/*", "/a/live/live/b", true),
            ("/*a*a", "/xaa", false),
            ("/*a*a", "/xaya", true),
            ("/*a*a", "/xaaa", true),
            ("/ä*", "/äß", true),
        ] {
            assert_eq!(pattern(paths).matches(&path.parse().expect(path)), want, "{paths} {path}");
        }
    }

    #[test]
    fn a_pattern_is_a_path_but_for_its_stars() {
        for wrong in ["*", "live/*", "//*", "/a b/*", "/**", "/../*", "/a*?"] {
            let error = wrong.parse::<PathPattern>().expect_err(wrong);
            assert!(error.problem.contains(wrong) && error.remedy.contains("/live/*"), "{error:?}");
        }
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order() {
        let made = |texts: &[&str]| -> Vec<_> {
            let one = |(i, text): (usize, &&str)| Pattern { paths: pattern(text), most: i, mounts: settings("/x") };
            texts.iter().enumerate().map(one).collect()
        };
        for (texts, path, want) in [
            (&["/*", "/live/*"] as &[_], "/live/a", Some("/live/*")),
            (&["/live/*", "/*"], "/live/a", Some("/live/*")),
            (&["/live/*", "/*"], "/a", Some("/*")),
            (&["/live/*", "/live/*.ogg"], "/live/a.ogg", Some("/live/*.ogg")),
            (&["/*/b", "/a*"], "/a/b", Some("/*/b")),
            (&["/*a*", "/*b"], "/xab", Some("/*b")),
            (&["/a*", "/*b"], "/ab", Some("/a*")),
            (&["/a*", "/*b"], "/axb", Some("/a*")),
            (&["/*b", "/a*"], "/axb", Some("/*b")),
            (&["/live/*"], "/other", None),
        ] {
            let patterns = made(texts);
            let found = choose(&patterns, &path.parse().expect(path));
            assert_eq!(found.map(|pattern| pattern.paths.as_str()), want, "{texts:?} {path}");
        }
        assert_eq!(made(&["/a/*"])[0].settings("/a/b".parse().expect("a path")).path.as_str(), "/a/b");
    }

    /// What `matches` is, said in another way.
    fn naive(pattern: &[char], path: &[char]) -> bool {
        match pattern {
            [] => path.is_empty(),
            ['*', rest @ ..] => (1..=path.len()).any(|skipped| naive(rest, &path[skipped..])),
            [first, rest @ ..] => path.first() == Some(first) && naive(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_its_meaning_says(text in "/[ab*]{1,6}", path in "/[ab]{1,8}") {
            prop_assume!(PathPattern::is_meant(&text));
            let Ok(paths) = text.parse::<PathPattern>() else { return Ok(()) };
            let (chars, letters) = (text.chars().collect::<Vec<_>>(), path.chars().collect::<Vec<_>>());
            prop_assert_eq!(paths.matches(&path.parse().expect("a path")), naive(&chars, &letters));
        }
    }
}
