//! `[push]`: encoders in general.

use std::net::SocketAddr;

use super::address::{self, Claim};
use super::reader::Reader;
use super::secret::{self, Keys};
use super::value::word;
use crate::access::Password;
use crate::mount;
use crate::units::MountPath;

/// What `[push]` says.
#[derive(Debug, Default)]
pub(super) struct Push {
    /// The password of every mount that has none of its own.
    pub(super) password: Option<Password>,
    /// Where SHOUTcast encoders connect, with their places.
    pub(super) shoutcast: Vec<Claim<SocketAddr>>,
    /// Where they go that name no mount.
    shoutcast_mount: Option<MountPath>,
}

/// Reads `[push]`.
pub(super) fn read(reader: &mut Reader<'_>) -> Push {
    Push {
        password: secret::password(reader, Keys { plain: "password", file: "password_file", hash: "password_hash" }),
        shoutcast: reader.take("shoutcast", address::inets).unwrap_or_default(),
        shoutcast_mount: reader.take("shoutcast_mount", word),
    }
}

impl Push {
    /// Gives the mounts what they do not say themselves; says where SHOUTcast encoders go.
    pub(super) fn complete(&self, mounts: &mut [mount::Settings], patterns: &mut [mount::Pattern]) -> Option<MountPath> {
        for push in mounts.iter_mut().chain(patterns.iter_mut().map(|pattern| &mut pattern.mounts)).filter_map(|mount| mount.push.as_mut())
        {
            if push.password.is_none() {
                push.password.clone_from(&self.password);
            }
        }
        let first = || mounts.iter().find(|mount| mount.push.is_some()).map(|mount| mount.path.clone());
        self.shoutcast_mount.clone().or_else(first)
    }
}
