//! `user` and `group` of `[server]`: who the server is once its sockets are bound.

use nix::unistd::{Gid, Group, Uid, User};

use super::reader::{Parsed, Reader, Wrong};
use super::tree::Node;
use super::value::line;

/// The longest name of a user or group.
const NAME_MOST: usize = 64;

/// Who the server becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The user's number, never 0.
    pub uid: Uid,
    /// The group's name, if one was written.
    pub group: Option<String>,
    /// The group's number: the user's own, if none was written.
    pub gid: Gid,
}

/// Reads both keys.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Identity> {
    let user = reader.take("user", user);
    let group = reader.take("group", group);
    if group.is_some() && user.is_none() && !reader.failed("user") {
        reader.wrong("group", "is of no use without a user", "write user = \"flumen\" as well");
        return None;
    }
    let user = user?;
    let (group, gid) = group.map_or((None, user.gid), |group| (Some(group.name), group.gid));
    Some(Identity { user: user.name, uid: user.uid, group, gid })
}

fn user(node: &Node) -> Parsed<User> {
    let name = line(NAME_MOST)(node)?;
    match User::from_name(&name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Err(vec![Wrong::new("is root, who gives nothing up", "name an ordinary user, or leave the key out")])
        }
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(vec![Wrong::new("is no user of this machine", format!("make one: useradd --system --no-create-home {name}"))]),
        Err(error) => Err(vec![Wrong::new(format!("cannot be looked up: {error}"), "look at /etc/passwd and /etc/nsswitch.conf")]),
    }
}

fn group(node: &Node) -> Parsed<Group> {
    let name = line(NAME_MOST)(node)?;
    match Group::from_name(&name) {
        Ok(Some(group)) => Ok(group),
        Ok(None) => Err(vec![Wrong::new("is no group of this machine", format!("make one: groupadd --system {name}"))]),
        Err(error) => Err(vec![Wrong::new(format!("cannot be looked up: {error}"), "look at /etc/group and /etc/nsswitch.conf")]),
    }
}
