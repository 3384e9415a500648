//! Listening sockets that were there before us: a service manager binds them and hands them over (`LISTEN_FDS`).
//!
//! - They are matched by address with those of the configuration, whose purpose they get; a manager knows no purposes. What is not found
//!   among them is bound as usual.
//! - `[::]` that takes v4 peers as well serves for `0.0.0.0` of the same port, for that could not be bound beside it.
//! - Those that nothing names are closed, and said: whoever connected there would wait for ever.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use socket2::Socket;

use super::ListenAddress;

/// Most sockets that are taken over.
const SOCKETS_MOST: usize = 1024;

/// Sockets that listen, or can, and have no purpose yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(ListenAddress, Socket)>,
    /// What is of no use, in words: it is found before there is a log.
    strange: Vec<String>,
}

impl Inherited {
    /// Those that the service manager gave to this process. Only once, and before other threads and programs are started: it takes the
    /// variables out of the environment.
    pub fn from_service_manager() -> Self {
        let mut given = ListenFd::from_env();
        let mut found = Self::default();
        for i in 0..given.len().min(SOCKETS_MOST) {
            let tcp = given.take_tcp_listener(i).ok().flatten().map(Socket::from);
            let socket = tcp.or_else(|| given.take_unix_listener(i).ok().flatten().map(Socket::from));
            match socket.ok_or_else(|| io::Error::other("it is no socket that listens")).and_then(|socket| found.add(socket)) {
                Ok(()) => {}
                Err(error) => found.strange.push(format!("number {} is of no use: {error}", i + 1)),
            }
        }
        found
    }

    fn add(&mut self, socket: Socket) -> io::Result<()> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        let local = socket.local_addr()?;
        let address = match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => ListenAddress::Inet(address),
            (None, Some(path)) => ListenAddress::Unix(path.to_owned()),
            (None, None) => return Err(io::Error::other("it has no address")),
        };
        self.sockets.push((address, socket));
        Ok(())
    }

    /// The one for this address, if there is one.
    pub fn take(&mut self, address: &ListenAddress) -> Option<Socket> {
        let exact = self.sockets.iter().position(|(found, _)| found == address);
        let found = exact.or_else(|| self.sockets.iter().position(|(found, socket)| serves_for(found, socket, address)))?;
        Some(self.sockets.swap_remove(found).1)
    }

    /// What is to be said of those that nobody has taken. They are closed.
    pub fn left(self) -> impl Iterator<Item = String> {
        let left = self.sockets.into_iter().map(|(address, _)| format!("{address} is closed: no key of the configuration names it"));
        self.strange.into_iter().chain(left)
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
            inherited.add(socket).expect("an address");
        }
        let inet = |text: String| ListenAddress::Inet(text.parse().expect("an address"));
        assert!(inherited.take(&inet(format!("127.0.0.1:{port6}"))).is_none());
        assert!(inherited.take(&inet(format!("0.0.0.0:{port4}"))).is_none());
        let found = inherited.take(&inet(format!("0.0.0.0:{port6}"))).expect("[::] takes those as well");
        assert!(rustix::io::fcntl_getfd(&found).expect("flags").contains(FdFlags::CLOEXEC));
        assert!(inherited.take(&inet(format!("127.0.0.1:{port4}"))).is_some());
        assert!(inherited.take(&inet(format!("127.0.0.1:{port4}"))).is_none(), "once");
        assert!(inherited.take(&ListenAddress::Unix(path.clone())).is_some());
        inherited.add(std::net::TcpListener::bind("127.0.0.1:0").expect("bound").into()).expect("an address");
        assert_eq!(inherited.left().count(), 1);
        std::fs::remove_file(path).expect("removed");
    }
}
