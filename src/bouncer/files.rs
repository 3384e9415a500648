//! Files that rules rest on: users, secrets, keys. They are read again when they change; a bad one leaves what was there before.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::access::htpasswd::Users;
use crate::access::rule::Rule;
use crate::access::signed::Secrets;
use crate::access::token::Keys;

/// The largest file.
const FILE_MOST: u64 = 8 << 20;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Users,
    Secrets,
    Keys,
}

/// What stands in it.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Users(Arc<Users>),
    Secrets(Secrets),
    Keys(Keys),
}

/// What a rule's leaf reads.
pub(super) fn file_of(leaf: &Rule) -> Option<(Kind, &Path)> {
    match leaf {
        Rule::Htpasswd(path) => Some((Kind::Users, path)),
        Rule::Signed(path) => Some((Kind::Secrets, path)),
        Rule::Jwt { keys, .. } => Some((Kind::Keys, keys)),
        _ => None,
    }
}

/// Reads the file of a leaf, if it has one, only to see whether it is good.
///
/// # Errors
/// Says what is wrong.
pub fn check(leaf: &Rule) -> Result<(), String> {
    file_of(leaf).map_or(Ok(()), |(kind, path)| load(kind, path).map(drop))
}

fn load(kind: Kind, path: &Path) -> Result<Content, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MOST + 1).read_to_string(&mut text));
    read.map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
    if text.len() as u64 > FILE_MOST {
        return Err(format!("the file {} is larger than 8MiB", path.display()));
    }
    let content = match kind {
        Kind::Users => Users::parse(&text).map(|users| Content::Users(Arc::new(users))).map_err(|flaw| flaw.to_string()),
        Kind::Secrets => Secrets::parse(&text).map(Content::Secrets),
        Kind::Keys => Keys::parse(&text).map(Content::Keys),
    };
    content.map_err(|why| format!("the file {} cannot be used: {why}", path.display()))
}

/// How a file was when it was looked at: which one, when written, how large.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}

/// A file that is read again when it changes.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    content: RwLock<Content>,
    /// When it was last read, whatever came of it; and how it was when it was last looked at.
    stamps: Mutex<(Stamp, Stamp)>,
}

impl Watched {
    pub(super) fn open(kind: Kind, path: &Path) -> Result<Self, String> {
        let stamp = stamp(path); // before it is read: what changes meanwhile is seen at the next look
        let content = RwLock::new(load(kind, path)?);
        Ok(Self { kind, path: path.to_owned(), content, stamps: Mutex::new((stamp, stamp)) })
    }

    pub(super) fn content(&self) -> Content {
        self.content.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again if it has changed, and has been at rest since the last look; `now`: in any case, if it has changed.
    pub(super) fn look(&self, now: bool) {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamp(&self.path);
        let rests = std::mem::replace(&mut stamps.1, found) == found;
        if found == stamps.0 || !(rests || now) {
            return;
        }
        stamps.0 = found;
        match load(self.kind, &self.path) {
            Ok(content) => {
                *self.content.write().unwrap_or_else(PoisonError::into_inner) = content;
                tracing::info!(file = %self.path.display(), "an authentication file was read again");
            }
            Err(error) => tracing::error!(error, "an authentication file has gone bad; what it said before holds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_read_again_and_a_bad_one_leaves_what_was_there() {
        let path = std::env::temp_dir().join(format!("flumen-bouncer-{}-users", std::process::id()));
        let users = |watched: &Watched| match watched.content() {
            Content::Users(users) => users.len(),
            _ => 0,
        };
        const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";
        fs::write(&path, format!("a:{HASH}\n")).expect("written");
        let watched = Watched::open(Kind::Users, &path).expect("good");
        assert_eq!(users(&watched), 1);
        fs::write(&path, format!("a:{HASH}\nb:{HASH}\n")).expect("written");
        watched.look(false);
        assert_eq!(users(&watched), 1, "it may be half written");
        watched.look(false);
        assert_eq!(users(&watched), 2);
        fs::write(&path, "a:plain\n").expect("written");
        watched.look(true);
        assert_eq!(users(&watched), 2, "a bad one changes nothing");
        fs::remove_file(&path).expect("removed");
        watched.look(true);
        assert_eq!(users(&watched), 2, "nor does none");
        fs::write(&path, format!("a:{HASH}\n")).expect("written");
        watched.look(true);
        assert_eq!(users(&watched), 1);
        fs::remove_file(&path).expect("removed");
        assert!(Watched::open(Kind::Users, &path).is_err());
        assert!(check(&Rule::Signed(path)).expect_err("gone").contains("cannot be read"));
    }
}
