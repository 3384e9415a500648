//! Who the process is. Ports below 1024 take root, or `CAP_NET_BIND_SERVICE`; nothing after that does.
//!
//! ```text
//!   root ─▶ group and supplementary groups of the user ─▶ acts as the user ─▶ root for each bind ─▶ the user, for good
//! ```
//! - With `user` in the configuration a server that was started by root acts as that user from the beginning: files it opens or makes
//!   are ones that it can open again. Only sockets are bound as root. Before anybody is accepted the way back is closed, and that it is
//!   closed is tried.
//! - Nobody gains anything by a program that we start: `NO_NEW_PRIVS`, whoever we are.
//!
//! Deliberately absent: filters of system calls and views of the file system. GStreamer loads what an operator's launch strings name, and
//! nobody here knows what that needs; the service manager has both (`packaging/flumen.service`), where an operator can widen them.

use std::ffi::CString;
use std::io;

use nix::sys::prctl;
use nix::unistd::{Uid, geteuid, getresuid, initgroups, seteuid, setgid, setuid};

use crate::config::Identity;

/// Why the server cannot be who it is told to be.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Only root becomes somebody else.
    #[error(
        "server.user = \"{0}\": only root can become another user; start flumen as root, or as that user (then the key may stay), or leave the key out"
    )]
    NotRoot(String),
    /// The system does not let us.
    #[error("cannot become the user {user}: {cause}")]
    Refused {
        user: String,
        #[source]
        cause: io::Error,
    },
    /// It did, but not really.
    #[error("became the user {0}, and could still go back to root: the server does not run like that")]
    NotForGood(String),
}

/// Whatever this process starts is no more than it is.
pub(super) fn renounce() {
    if let Err(error) = prctl::set_no_new_privs() {
        tracing::warn!(%error, "programs that are started might have privileges of their own");
    }
}

/// Who the process is on its way to be.
#[derive(Debug)]
pub(super) struct Descent<'a> {
    /// Whoever it is to become, if it is root that becomes them.
    identity: Option<&'a Identity>,
}

impl<'a> Descent<'a> {
    /// Acts as the user from now on, and still can be root.
    pub(super) fn begin(identity: Option<&'a Identity>) -> Result<Self, PrivilegeError> {
        let Some(wanted) = identity else {
            if geteuid().is_root() {
                tracing::warn!("the server runs as root, and nothing of it needs that once it listens: write user = \"…\" in [server]");
            }
            return Ok(Self { identity: None });
        };
        if geteuid() == wanted.uid {
            return Ok(Self { identity: None });
        }
        if !geteuid().is_root() {
            return Err(PrivilegeError::NotRoot(wanted.user.clone()));
        }
        let refused = |error: nix::Error| PrivilegeError::Refused { user: wanted.user.clone(), cause: error.into() };
        let name = CString::new(wanted.user.as_str()).map_err(|_| refused(nix::Error::EINVAL))?;
        // Groups first: afterwards nobody may.
        initgroups(&name, wanted.gid).map_err(refused)?;
        setgid(wanted.gid).map_err(refused)?;
        seteuid(wanted.uid).map_err(refused)?;
        Ok(Self { identity })
    }

    /// Does something as root, if that is possible.
    pub(super) fn as_root<T>(&self, act: impl FnOnce() -> T) -> T {
        let Some(wanted) = self.identity else { return act() };
        let raised = seteuid(Uid::from_raw(0)).is_ok();
        let done = act();
        if raised && let Err(error) = seteuid(wanted.uid) {
            tracing::error!(%error, "cannot act as {} again", wanted.user); // `finish` refuses to go on like that
        }
        done
    }

    /// Is the user from now on, and nobody else.
    pub(super) fn finish(self) -> Result<(), PrivilegeError> {
        let Some(wanted) = self.identity else { return Ok(()) };
        let refused = |error: nix::Error| PrivilegeError::Refused { user: wanted.user.clone(), cause: error.into() };
        seteuid(Uid::from_raw(0)).map_err(refused)?;
        setuid(wanted.uid).map_err(refused)?;
        let now = getresuid().map_err(refused)?;
        if [now.real, now.effective, now.saved] != [wanted.uid; 3] || seteuid(Uid::from_raw(0)).is_ok() {
            return Err(PrivilegeError::NotForGood(wanted.user.clone()));
        }
        tracing::info!(user = %wanted.user, uid = wanted.uid.as_raw(), gid = wanted.gid.as_raw(), "privileges are dropped");
        Ok(())
    }
}
