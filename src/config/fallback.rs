//! What mounts fall back to, all of them together: no circle.

use std::collections::{HashMap, HashSet};

use super::error::{ConfigError, Place};
use crate::mount::fallback::circle;
use crate::mount::pattern::choose;
use crate::mount::{Pattern, Settings};
use crate::units::MountPath;

/// What stands in the file of one mount's fallback.
#[derive(Debug)]
pub(super) struct Written {
    /// The key, with its section.
    pub(super) key: String,
    /// Where it stands.
    pub(super) place: Place,
    /// What it says.
    pub(super) value: String,
    /// The mount that it names.
    pub(super) to: MountPath,
}

/// Every mount that is declared or may be made.
struct Known<'a> {
    declared: HashMap<&'a MountPath, &'a Settings>,
    patterns: &'a [Pattern],
}

impl<'a> Known<'a> {
    fn new(mounts: &'a [Settings], patterns: &'a [Pattern]) -> Self {
        Self { declared: mounts.iter().map(|mount| (&mount.path, mount)).collect(), patterns }
    }

    fn at(&self, path: &MountPath) -> Option<&'a Settings> {
        self.declared.get(path).copied().or_else(|| choose(self.patterns, path).map(|pattern| &pattern.mounts))
    }
}

/// Refuses each circle, once, where it is written first.
pub(super) fn check(written: Vec<Written>, mounts: &[Settings], patterns: &[Pattern], errors: &mut Vec<ConfigError>) {
    let known = Known::new(mounts, patterns);
    let next = |path: &MountPath| known.at(path)?.fallback.mount().cloned();
    let mut refused: HashSet<MountPath> = HashSet::new();
    for Written { key, place, value, to } in written {
        let Some(round) = circle(&to, next).filter(|_| !refused.contains(&to)) else { continue };
        let names: Vec<_> = round.iter().chain([&to]).map(MountPath::as_str).collect();
        let problem = format!("leads round in a circle: {}", names.join(" → "));
        let remedy = "let one of them have no fallback, or one that is none of them".to_owned();
        errors.push(ConfigError { place, key, value, problem, remedy });
        refused.extend(round);
    }
}

/// Fallbacks that nobody will ever hear.
pub(super) fn warnings<'a>(mounts: &'a [Settings], patterns: &'a [Pattern]) -> impl Iterator<Item = String> + 'a {
    let declared = mounts.iter().map(|mount| (mount.path.as_str(), mount));
    let all = declared.chain(patterns.iter().map(|pattern| (pattern.paths.as_str(), &pattern.mounts)));
    let known = Known::new(mounts, patterns);
    all.filter_map(move |(path, mount)| {
        let to = mount.fallback.mount().filter(|to| known.at(to).is_none())?;
        Some(format!("mount {path}: fallback = \"{to}\" is no mount that is declared, nor one that a pattern makes; it may be mirrored"))
    })
}
