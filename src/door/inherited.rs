//! Listening sockets that were there before us: a service manager binds them and hands them over (`LISTEN_FDS`).
//!
//! - They are matched by address with those of the configuration, whose purpose they get; a manager knows no purposes. What is not found
//!   among them is bound as usual.
//! - `[::]` that takes v4 peers as well serves for `0.0.0.0` of the same port, for that could not be bound beside it.
//! - Those that nothing names are closed, and said: whoever connected there would wait for ever.
//! - Some were given to the manager by an earlier process of ours, which may have crashed ([`STORED`]): those are ours to tidy up.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use socket2::Socket;

use super::ListenAddress;

/// How the name of a socket begins that an earlier process of ours has given to the manager.
pub const STORED: &str = "flumen-listen-";

/// Most sockets that are taken over.
const SOCKETS_MOST: usize = 1024;

/// Sockets that listen, or can, and have no purpose yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Given>,
    /// The names of those that were stored and that nothing names.
    unwanted: Vec<String>,
    /// What is of no use, in words: it is found before there is a log.
    strange: Vec<String>,
}

/// A socket that was given to us.
#[derive(Debug)]
struct Given {
    address: ListenAddress,
    socket: Socket,
    /// By which an earlier process of ours has stored it.
    stored_as: Option<String>,
}

/// A socket that is wanted.
#[derive(Debug)]
pub struct Taken {
    /// The socket.
    pub socket: Socket,
    /// An earlier process of ours has bound it; of others the manager does with it as it likes.
    pub ours: bool,
}

impl Inherited {
    /// Those that the service manager gave to this process. Only once, and before other threads and programs are started: it takes the
    /// variables out of the environment.
    pub fn from_service_manager() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<_> = names.split(':').collect();
        let mut given = ListenFd::from_env();
        let mut found = Self::default();
        for i in 0..given.len().min(SOCKETS_MOST) {
            let tcp = given.take_tcp_listener(i).ok().flatten().map(Socket::from);
            let socket = tcp.or_else(|| given.take_unix_listener(i).ok().flatten().map(Socket::from));
            match socket
                .ok_or_else(|| io::Error::other("it is no socket that listens"))
                .and_then(|socket| found.add(socket, names.get(i).copied()))
            {
                Ok(()) => {}
                Err(error) => found.strange.push(format!("number {} is of no use: {error}", i + 1)),
            }
        }
        found
    }

    fn add(&mut self, socket: Socket, name: Option<&str>) -> io::Result<()> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        let local = socket.local_addr()?;
        let address = match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => ListenAddress::Inet(address),
            (None, Some(path)) => ListenAddress::Unix(path.to_owned()),
            (None, None) => return Err(io::Error::other("it has no address")),
        };
        let stored_as = name.filter(|name| name.starts_with(STORED)).map(str::to_owned);
        self.sockets.push(Given { address, socket, stored_as });
        Ok(())
    }

    /// Closes what none of these addresses wants, before one of them is bound beside it; and what was stored and can be reached no more,
    /// for somebody has removed its path.
    pub fn keep_only(&mut self, wanted: &[ListenAddress]) {
        let (kept, others) = std::mem::take(&mut self.sockets).into_iter().partition(|given| {
            let is_wanted = wanted.iter().any(|address| given.address == *address || serves_for(&given.address, &given.socket, address));
            is_wanted && (given.stored_as.is_none() || can_be_reached(&given.address))
        });
        self.sockets = kept;
        for Given { address, stored_as, .. } in others {
            match stored_as {
                Some(name) => self.unwanted.push(name),
                None => self.strange.push(format!("{address} is closed: no key of the configuration names it")),
            }
        }
    }

    /// The names of those that were stored and are closed: they are to be forgotten.
    pub fn unwanted(&self) -> &[String] {
        &self.unwanted
    }

    /// The one for this address, if there is one. Of two that listen there it is the manager's own.
    pub fn take(&mut self, address: &ListenAddress) -> Option<Taken> {
        let find = |wanted: &dyn Fn(&Given) -> bool| {
            let all = || self.sockets.iter().enumerate().filter(|(_, given)| wanted(given));
            all().find(|(_, given)| given.stored_as.is_none()).or_else(|| all().next()).map(|(at, _)| at)
        };
        let found = find(&|given| given.address == *address);
        let found = found.or_else(|| find(&|given| serves_for(&given.address, &given.socket, address)))?;
        let Given { socket, stored_as, .. } = self.sockets.swap_remove(found);
        Some(Taken { socket, ours: stored_as.is_some() })
    }

    /// What is to be said of those that nobody has taken. They are closed.
    pub fn left(self) -> impl Iterator<Item = String> {
        let twice = self.sockets.into_iter().filter(|given| given.stored_as.is_none());
        self.strange.into_iter().chain(twice.map(|given| format!("{} is closed: there is another one", given.address)))
    }
}

fn can_be_reached(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Inet(_) => true,
        ListenAddress::Unix(path) => std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()),
    }
}

fn serves_for(found: &ListenAddress, socket: &Socket, wanted: &ListenAddress) -> bool {
    let (ListenAddress::Inet(SocketAddr::V6(found)), ListenAddress::Inet(SocketAddr::V4(wanted))) = (found, wanted) else { return false };
    found.ip().is_unspecified() && wanted.ip().is_unspecified() && found.port() == wanted.port() && socket.only_v6().is_ok_and(|only| !only)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_address_and_once() {
        let path = std::env::temp_dir().join(format!("flumen-inherited-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut inherited = Inherited::default();
        let v4 = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let v6 = std::net::TcpListener::bind("[::]:0").expect("bound");
        let (port4, port6) = (v4.local_addr().expect("bound").port(), v6.local_addr().expect("bound").port());
        for socket in [v4.into(), v6.into(), UnixListener::bind(&path).expect("bound").into()] {
            inherited.add(socket, Some("flumen.socket")).expect("an address");
        }
        let inet = |text: String| ListenAddress::Inet(text.parse().expect("an address"));
        assert!(inherited.take(&inet(format!("127.0.0.1:{port6}"))).is_none());
        assert!(inherited.take(&inet(format!("0.0.0.0:{port4}"))).is_none());
        let found = inherited.take(&inet(format!("0.0.0.0:{port6}"))).expect("[::] takes those as well");
        assert!(rustix::io::fcntl_getfd(&found.socket).expect("flags").contains(FdFlags::CLOEXEC));
        assert!(inherited.take(&inet(format!("127.0.0.1:{port4}"))).is_some());
        assert!(inherited.take(&inet(format!("127.0.0.1:{port4}"))).is_none(), "once");
        assert!(inherited.take(&ListenAddress::Unix(path.clone())).is_some());
        inherited.add(std::net::TcpListener::bind("127.0.0.1:0").expect("bound").into(), None).expect("an address");
        inherited.keep_only(&[]);
        assert!(inherited.unwanted().is_empty() && inherited.left().count() == 1);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn what_was_stored_is_ours_and_what_of_it_nobody_wants_is_to_be_forgotten() {
        let path = std::env::temp_dir().join(format!("flumen-stored-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let unix = ListenAddress::Unix(path.clone());
        let mut inherited = Inherited::default();
        let bound = || std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let (wanted, other) = (bound(), bound());
        let address = ListenAddress::Inet(wanted.local_addr().expect("bound"));
        let again = wanted.try_clone().expect("another handle");
        for (socket, name) in [
            (Socket::from(again), "flumen-listen-wanted"),
            (wanted.into(), "flumen.socket"),
            (other.into(), "flumen-listen-other"),
            (UnixListener::bind(&path).expect("bound").into(), "flumen-listen-unix"),
        ] {
            inherited.add(socket, Some(name)).expect("an address");
        }
        let all = [address.clone(), unix.clone()];
        inherited.keep_only(&all);
        assert_eq!(inherited.unwanted(), ["flumen-listen-other"]);
        assert_eq!(inherited.take(&address).map(|taken| taken.ours), Some(false), "the manager's own comes first");
        std::fs::remove_file(&path).expect("removed");
        inherited.keep_only(&all);
        assert_eq!(inherited.unwanted(), ["flumen-listen-other", "flumen-listen-unix"]);
        assert!(inherited.take(&unix).is_none(), "nobody can connect there");
        assert_eq!(inherited.left().count(), 0, "the same socket twice is no news");
    }
}
