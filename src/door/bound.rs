//! Sockets that listen: binding them, and what comes out of them.
//!
//! - `[::]` takes v4 peers as well, unless somebody of us listens for those on the same port.
//! - A unix socket that nobody answers on is a left-over of an earlier run and replaced; a living server's is not, and what is no
//!   socket is somebody's file.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Type};

use super::ListenAddress;
use super::tls::Port;
use crate::engine::admission::Hold;
use crate::engine::broadcast::Peer;
use crate::engine::crew::Clock;
use crate::engine::socket::Socket;
use crate::units::Moment;

/// Connections that the kernel completes before we accept them; it cuts this to its own `somaxconn`.
const BACKLOG: i32 = 4096;
/// What the kernel may hold for a connection that does not listen (it doubles this). Left alone it takes as much as `tcp_wmem` allows,
/// 4 MiB, of answers that nobody reads; and a flood of requests is answered until all of that is full. Who listens has the mount's.
pub const GUEST_SEND_BUFFER: u32 = 64 * 1024;

/// A connection as accepted.
#[derive(Debug)]
pub enum Accepted {
    /// From the internet.
    Tcp(std::net::TcpStream),
    /// From this machine.
    Unix(UnixStream),
}

impl Accepted {
    /// Where the peer reached us; `None` on a unix socket.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(canonical),
            Self::Unix(_) => None,
        }
    }
}

impl From<Accepted> for OwnedFd {
    fn from(accepted: Accepted) -> Self {
        match accepted {
            Accepted::Tcp(stream) => stream.into(),
            Accepted::Unix(stream) => stream.into(),
        }
    }
}

/// What becomes of a raw connection; it counts as one as long as its hold is held.
pub type TakeRaw = Box<dyn Fn(Socket, Peer, Moment, Option<Hold>) + Send>;

/// What becomes of the connections to a socket.
pub enum Purpose {
    /// HTTP.
    Http,
    /// Encoders that greet as SHOUTcast's do.
    Shoutcast,
    /// HTTP over TLS, or both.
    Https(Arc<Port>),
    /// The bytes of a stream and nothing else.
    Raw(TakeRaw),
}

impl fmt::Debug for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "Http",
            Self::Shoutcast => "Shoutcast",
            Self::Https(_) => "Https",
            Self::Raw(_) => "Raw",
        })
    }
}

impl Purpose {
    /// How its connections speak TLS, if they do.
    pub(super) fn tls(&self) -> Option<&Arc<Port>> {
        match self {
            Self::Https(port) => Some(port),
            Self::Http | Self::Shoutcast | Self::Raw(_) => None,
        }
    }

    /// Whether somebody who is turned away can be told so in plain HTTP.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::Http => true,
            Self::Https(port) => port.auto,
            Self::Shoutcast | Self::Raw(_) => false,
        }
    }
}

/// A socket that is bound and listens.
pub struct Bound {
    pub(super) fd: socket2::Socket,
    address: ListenAddress,
    unix: Option<UnixPath>,
    pub(super) purpose: Purpose,
    /// Whether its connections begin with a PROXY header.
    pub(super) proxied: bool,
    /// A service manager has bound it and keeps it, whatever we do.
    held: bool,
    /// Whether somebody may be waiting to be accepted.
    pub(super) more: bool,
}

/// A listening socket for another process.
#[derive(Debug)]
pub struct Lent {
    /// Where it listens, as it was told.
    pub address: ListenAddress,
    /// The socket.
    pub socket: OwnedFd,
    /// What belongs to it in the file system is removed with it.
    pub owned: bool,
    /// A service manager has bound it and keeps it.
    pub held: bool,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Bound {
    /// Binds a socket for HTTP; `all` are the addresses that this server binds.
    ///
    /// # Errors
    /// When the address is taken, or not ours.
    pub fn http(address: &ListenAddress, all: &[ListenAddress]) -> io::Result<Self> {
        Self::new(address, all, Purpose::Http)
    }

    /// Where it was told to listen.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// What becomes of its connections.
    pub fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// Where it listens; with port 0 asked for, the port that was given.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.fd.local_addr().ok()?.as_socket()
    }

    /// Binds a socket; `all` as for HTTP.
    ///
    /// # Errors
    /// When the address is taken, or not ours.
    pub fn new(address: &ListenAddress, all: &[ListenAddress], purpose: Purpose) -> io::Result<Self> {
        let (fd, unix) = match address {
            ListenAddress::Inet(address) => {
                let fd = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                fd.set_reuse_address(true)?;
                if address.is_ipv6() {
                    // [::] takes v4 peers too, unless somebody else of us listens for those on the same port.
                    let v4 =
                        |other: &ListenAddress| matches!(other, ListenAddress::Inet(SocketAddr::V4(v4)) if v4.port() == address.port());
                    fd.set_only_v6(all.iter().any(v4))?;
                }
                fd.bind(&SockAddr::from(*address))?;
                (fd, None)
            }
            ListenAddress::Unix(path) => {
                clear_the_way(path)?;
                let listener = UnixListener::bind(path)?;
                (socket2::Socket::from(listener), Some(UnixPath::made(path)?))
            }
        };
        fd.listen(BACKLOG)?;
        fd.set_nonblocking(true)?;
        Ok(Self { fd, address: address.clone(), unix, purpose, proxied: false, held: false, more: false })
    }

    /// The same; whether its connections begin with a PROXY header.
    pub fn proxied(mut self, proxied: bool) -> Self {
        self.proxied = proxied;
        self
    }

    /// For another process.
    pub(super) fn lend(&self) -> io::Result<Lent> {
        Ok(Lent { address: self.address.clone(), socket: self.fd.try_clone()?.into(), owned: self.unix.is_some(), held: self.held })
    }

    /// A socket that another process has bound and listens on. What belongs to it in the file system stays that process's, if need
    /// be until [`Self::inherit`].
    pub fn handed_over(fd: OwnedFd, address: &ListenAddress, purpose: Purpose) -> Self {
        Self { fd: socket2::Socket::from(fd), address: address.clone(), unix: None, purpose, proxied: false, held: false, more: false }
    }

    /// The other process is out of it, and what belonged to it there is ours.
    pub fn inherit(&mut self) {
        if let ListenAddress::Unix(path) = &self.address {
            self.unix = UnixPath::made(path).ok(); // somebody may have removed it
        }
    }

    /// The same; whether a service manager has bound it and keeps it.
    pub fn held(mut self, held: bool) -> Self {
        self.held = held;
        self
    }

    /// Whether a service manager has bound it and keeps it.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Another process has it from now on.
    pub(super) fn bequeath(&mut self) {
        self.unix = None;
    }

    /// Takes over a socket that somebody else has bound; its path, if it has one, is theirs too.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn adopt(address: &ListenAddress, fd: socket2::Socket, purpose: Purpose) -> io::Result<Self> {
        fd.listen(BACKLOG)?; // it may do so already; then this is the length of its queue
        fd.set_nonblocking(true)?;
        Ok(Self { fd, address: address.clone(), unix: None, purpose, proxied: false, held: true, more: false })
    }

    /// Takes the next connection.
    pub(super) fn accept(&self, clock: Clock) -> io::Result<(Accepted, Peer, Moment)> {
        let (socket, address) = self.fd.accept()?;
        let accepted = clock.now();
        socket.set_nonblocking(true)?;
        Ok(match address.as_socket() {
            Some(address) => {
                socket.set_tcp_nodelay(true)?;
                if !matches!(self.purpose, Purpose::Raw(_)) {
                    socket.set_send_buffer_size(GUEST_SEND_BUFFER as usize)?;
                }
                (Accepted::Tcp(socket.into()), Peer::Inet(canonical(address)), accepted)
            }
            None => (Accepted::Unix(socket.into()), Peer::Unix, accepted),
        })
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(unix) = &self.unix
            && Inode::at(&unix.path).is_ok_and(|inode| inode == unix.inode)
        {
            let _ = std::fs::remove_file(&unix.path); // somebody may have tidied up before us
        }
    }
}

/// What a path leads to, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn at(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { device: found.dev(), number: found.ino() })
    }
}

/// A unix socket that we made, told from one that another server has put in its place since.
#[derive(Debug)]
struct UnixPath {
    path: PathBuf,
    inode: Inode,
}

impl UnixPath {
    fn made(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: Inode::at(path)? })
    }
}

/// Removes the socket of a server that is gone. What answers is a living server's, and what is no socket is somebody's file:
/// connecting to one of those is refused as well, so its kind is asked for first.
fn clear_the_way(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket at this path, which stays as it is"))
        }
        Ok(_) if UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) => {
            std::fs::remove_file(path)
        }
        Ok(_) => Ok(()), // binding says that it is taken
    }
}

/// One address for one peer: v4-mapped v6 is v4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => SocketAddr::new(address.ip().to_canonical(), address.port()),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_one_address() {
        for (given, want) in
            [("[::ffff:192.0.2.1]:80", "192.0.2.1:80"), ("[2001:db8::1]:80", "[2001:db8::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(canonical(given.parse().expect(given)).to_string(), want);
        }
    }

    #[test]
    fn a_living_servers_unix_socket_is_not_replaced_and_a_dead_ones_is() {
        let path = std::env::temp_dir().join(format!("flumen-acceptor-{}.sock", std::process::id()));
        let address = ListenAddress::Unix(path.clone());
        let living = Bound::http(&address, &[]).expect("bound");
        assert_eq!(Bound::http(&address, &[]).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        drop(living);
        assert!(!path.exists(), "a server tidies up");
        drop(UnixListener::bind(&path).expect("a server that dies without tidying up"));
        assert!(path.exists());
        drop(Bound::http(&address, &[]).expect("replaced"));
    }

    #[test]
    fn what_is_no_socket_is_somebodys_and_stays() {
        let dir = std::env::temp_dir().join(format!("flumen-acceptor-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("directory")).expect("directories");
        let (file, link, socket) = (dir.join("file"), dir.join("link"), dir.join("socket"));
        std::fs::write(&file, "precious").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        for path in [&file, &link, &dir.join("directory")] {
            let error = Bound::http(&ListenAddress::Unix(path.clone()), &[]).expect_err("no socket");
            assert!(error.to_string().contains("something else than a socket"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&link).expect("it is there"), "precious");
        let ours = Bound::http(&ListenAddress::Unix(socket.clone()), &[]).expect("bound");
        std::fs::remove_file(&socket).expect("removed under us");
        let theirs = UnixListener::bind(&socket).expect("another server took the path");
        drop(ours);
        assert!(UnixStream::connect(&socket).is_ok(), "we tidy up what is ours");
        drop(theirs);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
