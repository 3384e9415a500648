//! Listening sockets in the service manager's hands: who connects while a server that has crashed is on its way back waits in the
//! kernel's queue and is served.
//!
//! ```text
//!   start, reload ── FDSTORE=1, FDNAME, the socket ─▶ the manager keeps it        an address is given up ── FDSTOREREMOVE=1 ─▶
//!   the process ends, however ─▶ started anew, it finds them among LISTEN_FDS by their addresses (`door::inherited`)
//! ```
//! - It is done where the manager says that it keeps some (`FDSTORE`, a number: systemd from version 254 on says so by itself where the
//!   unit has `FileDescriptorStoreMax=`; ours says so in any case). Elsewhere nothing is said.
//! - One that the manager has bound for us (a socket unit) it keeps anyway.
//! - Who listened is not kept: the place of a listener in the stream was in the memory of the process that is gone.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::door::ListenAddress;
use crate::door::bound::Bound;
use crate::door::inherited::STORED;

/// The longest name that a manager takes, in bytes.
const NAME_MOST: usize = 255;

/// Where listening sockets are kept for the next process, if somebody does that.
#[derive(Debug)]
pub(super) struct Store {
    to: Option<UnixDatagram>,
    /// Those that are given away when the server is ready.
    waiting: Vec<(ListenAddress, OwnedFd)>,
}

/// The name of an address among those that are kept.
fn name(address: &ListenAddress) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' };
    let mut name: String = STORED.chars().chain(address.to_string().chars().map(plain)).collect();
    name.truncate(NAME_MOST); // all of it is ASCII
    name
}

/// Whether a manager says that it keeps some.
fn keeps(fdstore: Option<&str>) -> bool {
    fdstore.and_then(|most| most.trim().parse::<u64>().ok()).is_some_and(|most| most > 0)
}

fn connected(to: &std::ffi::OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match to.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(to)?,
    }
    Ok(socket)
}

impl Store {
    /// The service manager's, if it has one.
    pub(super) fn of_service_manager() -> Self {
        let wished = keeps(std::env::var("FDSTORE").ok().as_deref());
        let to = std::env::var_os("NOTIFY_SOCKET").filter(|_| wished).and_then(|to| {
            let connected = connected(&to);
            connected.inspect_err(|error| tracing::warn!(%error, "the service manager cannot be given sockets to keep")).ok()
        });
        Self { to, waiting: Vec::new() }
    }

    /// These are kept from when the server is ready: what another process says that has not been told yet to be the service, nobody hears.
    pub(super) fn prepare(&mut self, bound: &[Bound]) {
        bound.iter().for_each(|bound| self.wait(bound));
    }

    fn wait(&mut self, bound: &Bound) {
        if self.to.is_none() || bound.is_held() {
            return;
        }
        match bound.as_fd().try_clone_to_owned() {
            Ok(socket) => self.waiting.push((bound.address().clone(), socket)),
            Err(error) => tracing::warn!(%error, address = %bound.address(), "a listening socket is not kept for the next process"),
        }
    }

    /// The server is ready.
    pub(super) fn keep_waiting(&mut self) {
        for (address, socket) in std::mem::take(&mut self.waiting) {
            self.say(&address, "FDSTORE=1\nFDPOLL=0", Some(socket.as_fd()));
        }
    }

    /// One more.
    pub(super) fn keep(&mut self, bound: &Bound) {
        self.wait(bound);
        self.keep_waiting();
    }

    /// An address is given up.
    pub(super) fn forget(&self, address: &ListenAddress) {
        self.say(address, "FDSTOREREMOVE=1", None);
    }

    /// What was kept and is wanted no more.
    pub(super) fn forget_all(&self, left: &[String]) {
        left.iter().for_each(|name| self.tell(name, "FDSTOREREMOVE=1", None));
    }

    fn say(&self, address: &ListenAddress, what: &str, socket: Option<BorrowedFd<'_>>) {
        self.tell(&name(address), what, socket);
    }

    fn tell(&self, name: &str, what: &str, socket: Option<BorrowedFd<'_>>) {
        let Some(to) = &self.to else { return };
        let (text, sockets) = (format!("{what}\nFDNAME={name}\n"), socket.as_slice());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let beside_it = sockets.is_empty() || beside.push(SendAncillaryMessage::ScmRights(sockets));
        let said = rustix::net::sendmsg(to, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::NOSIGNAL);
        if let (true, Err(error)) = (beside_it, said) {
            tracing::warn!(%error, name, "the service manager was not told of a listening socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_that_a_manager_takes() {
        for (address, want) in [("127.0.0.1:8000", "flumen-listen-127.0.0.1_8000"), ("[::1]:80", "flumen-listen-___1__80")] {
            assert_eq!(name(&ListenAddress::Inet(address.parse().expect(address))), want);
        }
        let path = ListenAddress::Unix(format!("/run/{}", "ä".repeat(300)).into());
        assert!(name(&path).len() == NAME_MOST && name(&path).starts_with("flumen-listen-unix__run_"));
    }

    #[test]
    fn sockets_are_given_to_those_only_who_say_that_they_keep_them() {
        for (said, want) in
            [(None, false), (Some(""), false), (Some("0"), false), (Some("yes"), false), (Some("1"), true), (Some("512"), true)]
        {
            assert_eq!(keeps(said), want, "{said:?}");
        }
    }
}
