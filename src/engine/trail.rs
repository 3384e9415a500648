//! Where a listener would be if it could: the mounts that it was to hear, and that had no source when it came or was moved.
//!
//! A trail is shared by all who were moved together, and most listeners have none.

use std::sync::Arc;

use crate::handover::Rubbish;
use crate::units::{ListenerId, MountPath, UnitError};

/// The mounts that a listener has been sent on from, the first being the one it asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(Option<Arc<[MountPath]>>);

impl Trail {
    /// Mounts that are kept in mind; the first ones are.
    const MOST: usize = 16;

    /// A trail of these mounts.
    pub fn of(mounts: &[MountPath]) -> Self {
        Self((!mounts.is_empty()).then(|| mounts.iter().take(Self::MOST).cloned().collect()))
    }

    /// As plain data.
    pub fn pack(&self) -> Vec<String> {
        self.mounts().iter().map(ToString::to_string).collect()
    }

    /// From plain data.
    ///
    /// # Errors
    /// When there is something in it that is no path.
    pub fn unpack(mounts: &[String]) -> Result<Self, Rubbish> {
        let mounts: Result<Vec<MountPath>, _> = mounts.iter().map(|mount| mount.parse()).collect();
        mounts.map(|mounts| Self::of(&mounts)).map_err(|error: UnitError| Rubbish::new(error.to_string()))
    }

    /// The mounts.
    pub fn mounts(&self) -> &[MountPath] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether somebody was sent on from this mount.
    pub fn leads_from(&self, mount: &MountPath) -> bool {
        self.mounts().contains(mount)
    }

    /// Sent on from more of them.
    pub(super) fn extend(&mut self, more: &Self) {
        match (self.mounts(), more.mounts()) {
            (_, []) => {}
            ([], _) => *self = more.clone(), // as most are: nothing is copied
            (all, more) => {
                let new: Vec<_> = all.iter().chain(more.iter().filter(|mount| !all.contains(mount))).cloned().collect();
                *self = Self::of(&new);
            }
        }
    }

    /// Back at a mount: what came before it still counts, what came after it does not.
    pub(super) fn back_at(&mut self, mount: &MountPath) {
        if let Some(at) = self.mounts().iter().position(|other| other == mount) {
            *self = Self::of(&self.mounts()[..at]);
        }
    }
}

/// Who of a mount's listeners moves, and what is remembered of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Movers {
    /// Everybody, for good.
    All,
    /// One of them, for good.
    One(ListenerId),
    /// Everybody, until one of these mounts has a source again.
    Lent(Trail),
    /// Those who have been sent on from this mount.
    Strayed(MountPath),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(mounts: &str) -> Trail {
        let mounts: Vec<MountPath> = mounts.split_whitespace().map(|path| path.parse().expect("a path")).collect();
        Trail::of(&mounts)
    }

    #[test]
    fn who_is_sent_on_again_and_again_finds_back_to_where_it_was() {
        for (before, more, want) in
            [("", "", ""), ("/a", "", "/a"), ("", "/a", "/a"), ("/a", "/b /c", "/a /b /c"), ("/a /b", "/b /a", "/a /b")]
        {
            let mut found = trail(before);
            found.extend(&trail(more));
            assert_eq!(found, trail(want), "{before} + {more}");
        }
        for (before, back, want) in [("/a /b /c", "/b", "/a"), ("/a /b", "/a", ""), ("/a", "/x", "/a"), ("", "/x", "")] {
            let mut found = trail(before);
            let path = back.parse().expect("a path");
            assert_eq!(found.leads_from(&path), before.contains(back));
            found.back_at(&path);
            assert_eq!(found, trail(want), "{before} at {back}");
        }
        let long: String = (0..100).map(|i| format!("/{i} ")).collect();
        assert_eq!(trail(&long).mounts().len(), Trail::MOST);
    }
}
