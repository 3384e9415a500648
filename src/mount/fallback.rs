//! Where listeners go while a mount has no source: along a chain of mounts, to the first that they can hear. Pure.
//!
//! ```text
//!   /live ──▶ /backup ──▶ /music          a mount that names itself names nobody
//! ```
//! A circle is refused where it is written. Mounts come and go, though, so a chain is never followed beyond where it has been.

use std::path::Path;
use std::sync::Arc;

use crate::units::MountPath;

/// Mounts that are tried one after the other.
const CHAIN_MOST: usize = 16;

/// What listeners hear while the source is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refuge {
    /// Another mount.
    Mount(MountPath),
    /// A recording, again and again.
    File(Arc<Path>),
}

/// What becomes of listeners while the source is away, and of newcomers for whom there is no place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallback {
    /// Where to; `None`: they wait.
    pub to: Option<Refuge>,
    /// Whether who was sent on is brought back when the source is there again.
    pub brings_back: bool,
    /// Whether who finds the mount full is sent on.
    pub when_full: bool,
    /// An operator has said where to, and no configuration since.
    pub ordered: bool,
}

impl Fallback {
    /// The mount that they are sent on to.
    pub fn mount(&self) -> Option<&MountPath> {
        match &self.to {
            Some(Refuge::Mount(path)) => Some(path),
            _ => None,
        }
    }

    /// The recording that they hear.
    pub fn file(&self) -> Option<&Arc<Path>> {
        match &self.to {
            Some(Refuge::File(path)) => Some(path),
            _ => None,
        }
    }
}

/// The mounts that follow on one, in the order in which they are tried; `next` knows what each falls back to.
pub fn chain(start: &MountPath, next: impl Fn(&MountPath) -> Option<MountPath>) -> Vec<MountPath> {
    let mut chain: Vec<MountPath> = Vec::new();
    let mut here = start.clone();
    while let Some(path) = next(&here) {
        if path == *start || chain.contains(&path) || chain.len() == CHAIN_MOST {
            break;
        }
        chain.push(path.clone());
        here = path;
    }
    chain
}

/// The mounts of a circle that this one is on; a mount that names itself is on none.
pub fn circle(start: &MountPath, next: impl Fn(&MountPath) -> Option<MountPath>) -> Option<Vec<MountPath>> {
    let followed = chain(start, &next);
    let last = followed.last()?;
    (next(last).as_ref() == Some(start)).then(|| [std::slice::from_ref(start), &followed].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn path(name: &str) -> MountPath {
        format!("/{name}").parse().expect("a path")
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_never_round() {
        for (written, start, want, circle) in [
            ("", "a", "", false),
            ("a>b", "a", "b", false),
            ("a>b b>c", "a", "b c", false),
            ("a>b b>c", "b", "c", false),
            ("a>a", "a", "", false),
            ("a>b b>b", "a", "b", false),
            ("a>b b>a", "a", "b", true),
            ("a>b b>c c>a", "a", "b c", true),
            ("a>b b>c c>b", "a", "b c", false), // it leads to one,
            ("b>c c>b", "a", "", false),
        ] {
            let pairs: HashMap<_, _> =
                written.split_whitespace().filter_map(|pair| pair.split_once('>')).map(|(a, b)| (path(a), path(b))).collect();
            let next = |here: &MountPath| pairs.get(here).cloned();
            let names: Vec<_> = chain(&path(start), next).iter().map(|path| path.as_str()[1..].to_owned()).collect();
            assert_eq!((names.join(" ").as_str(), super::circle(&path(start), next).is_some()), (want, circle), "{written} from {start}");
        }
        let endless = |here: &MountPath| Some(path(&format!("{}x", &here.as_str()[1..])));
        assert_eq!(chain(&path("a"), endless).len(), CHAIN_MOST);
    }

    proptest! {
        /// Whatever falls back to whatever: nothing is tried twice, nothing is skipped, and only circles are called so.
        #[test]
        fn no_chain_repeats_and_every_circle_is_found(next in proptest::collection::vec(proptest::option::of(0..8_usize), 8), start in 0..8_usize) {
            let paths: Vec<_> = (0..8).map(|i| path(&i.to_string())).collect();
            let index = |at: &MountPath| paths.iter().position(|other| other == at).expect("known");
            let follow = |at: &MountPath| next[index(at)].map(|to| paths[to].clone());
            let found = chain(&paths[start], follow);
            let mut seen = vec![start];
            for path in &found {
                prop_assert_eq!(next[*seen.last().expect("some")], Some(index(path)));
                prop_assert!(!seen.contains(&index(path)));
                seen.push(index(path));
            }
            // It ended because there is no more, or because it would come back.
            let last = *seen.last().expect("some");
            let again = next[last].is_some_and(|to| seen.contains(&to));
            prop_assert!(next[last].is_none() || again);
            let on_one = next[last] == Some(start) && last != start;
            prop_assert_eq!(circle(&paths[start], follow).map(|circle| circle.len()), on_one.then_some(seen.len()));
        }
    }
}
