//! Accepting: one thread for every listening socket.
//!
//! - A full house is answered, not ignored: beyond `max_connections` a connection gets a 503 and is closed.
//! - Out of descriptors, it spends the one it keeps in reserve on telling the newcomer so, waits, and never spins.
//! - HTTP connections go to the workers in turn, through bounded queues; raw ones go straight to whoever asked for them.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, SockAddr, Type};

use super::ListenAddress;
use crate::engine::broadcast::Peer;
use crate::engine::crew::Clock;
use crate::engine::socket::Socket;
use crate::fanout::stats::add;
use crate::units::Moment;

/// Connections that the kernel completes before we accept them; it cuts this to its own `somaxconn`.
const BACKLOG: i32 = 4096;
/// Connections taken from one socket before the others get their turn.
const ACCEPTS_AT_ONCE: usize = 256;
/// How long to leave a socket alone after the system refused us a descriptor or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long to leave newcomers in the kernel's queue when every worker's is full.
const WORKERS_BUSY: Duration = Duration::from_millis(1);
/// Connections that may wait for one worker.
pub(super) const WORKER_QUEUE: usize = 1024;

const WAKE: Token = Token(usize::MAX);

/// Why accepting failed. Closed, for it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// No descriptor left, in the process or in the system.
    Descriptors,
    /// No memory left in the kernel.
    Memory,
    /// `max_connections` was reached.
    Connections,
    /// No worker was left.
    Workers,
    /// The peer was gone again, and anything else.
    Other,
}

impl AcceptError {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Descriptors, Self::Memory, Self::Connections, Self::Workers, Self::Other];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::Workers => "workers",
            Self::Other => "other",
        }
    }
}

/// What the door counts.
#[derive(Debug, Default)]
pub struct DoorCounters {
    /// Connections that are being asked what they want.
    pub guests: AtomicU64,
    /// Failures, in the order of [`AcceptError::ALL`].
    pub errors: [AtomicU64; AcceptError::ALL.len()],
}

impl DoorCounters {
    fn fail(&self, why: AcceptError) {
        add(&self.errors[why as usize], 1);
    }
}

/// A connection as accepted.
#[derive(Debug)]
pub enum Accepted {
    /// From the internet.
    Tcp(std::net::TcpStream),
    /// From this machine.
    Unix(UnixStream),
}

impl Accepted {
    fn local_address(&self) -> Option<SocketAddr> {
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

/// Counts a connection until dropped.
#[derive(Debug)]
pub(super) struct Guest(Arc<DoorCounters>);

impl Guest {
    fn new(counters: &Arc<DoorCounters>) -> Self {
        add(&counters.guests, 1);
        Self(Arc::clone(counters))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Accepted,
    pub(super) peer: Peer,
    /// Where it reached us; `None` on a unix socket.
    pub(super) local: Option<SocketAddr>,
    pub(super) accepted: Moment,
    pub(super) guest: Guest,
}

/// What becomes of a raw connection.
pub type TakeRaw = Box<dyn Fn(Socket, Peer, Moment) + Send>;

enum Purpose {
    Http,
    Raw(TakeRaw),
}

/// A socket that is bound and listens.
pub struct Bound {
    fd: socket2::Socket,
    unix: Option<UnixPath>,
    purpose: Purpose,
    more: bool,
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
        Self::bind(address, all, Purpose::Http)
    }

    /// Binds a socket whose connections get the bytes of a stream and nothing else; `all` as for HTTP.
    ///
    /// # Errors
    /// When the address is taken, or not ours.
    pub fn raw(address: SocketAddr, all: &[ListenAddress], take: TakeRaw) -> io::Result<Self> {
        Self::bind(&ListenAddress::Inet(address), all, Purpose::Raw(take))
    }

    /// Where it listens; with port 0 asked for, the port that was given.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.fd.local_addr().ok()?.as_socket()
    }

    fn bind(address: &ListenAddress, all: &[ListenAddress], purpose: Purpose) -> io::Result<Self> {
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
        Ok(Self { fd, unix, purpose, more: false })
    }

    fn accept(&self, clock: Clock) -> io::Result<(Accepted, Peer, Moment)> {
        let (socket, address) = self.fd.accept()?;
        let accepted = clock.now();
        socket.set_nonblocking(true)?;
        Ok(match address.as_socket() {
            Some(address) => {
                socket.set_tcp_nodelay(true)?;
                (Accepted::Tcp(socket.into()), Peer::Inet(canonical(address)), accepted)
            }
            None => (Accepted::Unix(socket.into()), Peer::Unix, accepted),
        })
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

/// The accepting thread's end of things.
pub(super) struct Acceptor {
    pub(super) bound: Vec<Bound>,
    pub(super) workers: Vec<tokio::sync::mpsc::Sender<Connection>>,
    pub(super) counters: Arc<DoorCounters>,
    /// Listeners served by the engine now; they count as connections.
    pub(super) seated: Box<dyn Fn() -> u64 + Send>,
    pub(super) max_connections: u64,
    pub(super) clock: Clock,
}

impl Acceptor {
    /// Accepts until `stop` says so (and the waker is called).
    pub(super) fn run(mut self, mut poll: Poll, stop: &std::sync::atomic::AtomicBool) {
        let mut reserve = reserve();
        for (i, bound) in self.bound.iter_mut().enumerate() {
            bound.more = true; // whoever came before we watched
            if let Err(error) = poll.registry().register(&mut SourceFd(&bound.fd.as_raw_fd()), Token(i), Interest::READABLE) {
                tracing::error!(%error, "cannot watch a listening socket");
            }
        }
        let mut events = Events::with_capacity(64);
        let mut next_worker = 0;
        let mut timeout = Some(Duration::ZERO);
        loop {
            if let Err(error) = poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the accepting thread ends");
                return;
            }
            if stop.load(Ordering::Acquire) {
                return;
            }
            for event in &events {
                if let Some(bound) = self.bound.get_mut(event.token().0) {
                    bound.more = true;
                }
            }
            timeout = None;
            for i in 0..self.bound.len() {
                if self.bound[i].more {
                    let wait = self.accept_some(i, &mut next_worker, &mut reserve);
                    timeout = timeout.into_iter().chain(wait).min();
                }
            }
        }
    }

    /// Accepts a bounded number. Returns when to come back, if there may be more.
    fn accept_some(&mut self, i: usize, next_worker: &mut usize, reserve: &mut Option<OwnedFd>) -> Option<Duration> {
        for _ in 0..ACCEPTS_AT_ONCE {
            // Nobody else fills the workers' queues: what has room now will have it in a moment.
            if matches!(self.bound[i].purpose, Purpose::Http)
                && self.workers.iter().all(|worker| worker.capacity() == 0 && !worker.is_closed())
            {
                return Some(WORKERS_BUSY);
            }
            match self.bound[i].accept(self.clock) {
                Ok((stream, peer, accepted)) => self.receive(i, stream, peer, accepted, next_worker),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.bound[i].more = false;
                    return None;
                }
                Err(error) => match rustix::io::Errno::from_io_error(&error) {
                    Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                        self.counters.fail(AcceptError::Descriptors);
                        self.apologise(i, reserve);
                        return Some(BACK_OFF);
                    }
                    Some(rustix::io::Errno::NOBUFS | rustix::io::Errno::NOMEM) => {
                        self.counters.fail(AcceptError::Memory);
                        return Some(BACK_OFF);
                    }
                    _ => self.counters.fail(AcceptError::Other),
                },
            }
        }
        Some(Duration::ZERO)
    }

    fn receive(&self, i: usize, stream: Accepted, peer: Peer, accepted: Moment, next_worker: &mut usize) {
        let connections = self.counters.guests.load(Ordering::Relaxed) + (self.seated)();
        let raw = matches!(self.bound[i].purpose, Purpose::Raw(_));
        if connections >= self.max_connections {
            self.counters.fail(AcceptError::Connections);
            return turn_away(stream, raw);
        }
        match &self.bound[i].purpose {
            Purpose::Raw(take) => match Socket::new(stream) {
                Ok(socket) => take(socket, peer, accepted),
                Err(_) => self.counters.fail(AcceptError::Other),
            },
            Purpose::Http => {
                let local = stream.local_address();
                let mut connection = Connection { stream, peer, local, accepted, guest: Guest::new(&self.counters) };
                for _ in 0..self.workers.len() {
                    *next_worker = (*next_worker + 1) % self.workers.len();
                    match self.workers[*next_worker].try_send(connection) {
                        Ok(()) => return,
                        Err(error) => connection = error.into_inner(),
                    }
                }
                self.counters.fail(AcceptError::Workers);
                turn_away(connection.stream, false);
            }
        }
    }

    /// Out of descriptors: the reserved one is spent on an answer.
    fn apologise(&self, i: usize, reserved: &mut Option<OwnedFd>) {
        drop(reserved.take());
        if let Ok((stream, ..)) = self.bound[i].accept(self.clock) {
            turn_away(stream, matches!(self.bound[i].purpose, Purpose::Raw(_)));
        }
        *reserved = reserve();
    }
}

fn reserve() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

/// Answers that there is no room, if that can be done without waiting, and closes.
fn turn_away(stream: Accepted, raw: bool) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\nRetry-After: 10\r\n\
                            Connection: close\r\n\r\nThe server has no room for a connection.\r\n";
    if raw {
        return; // bytes of a stream or nothing
    }
    // A socket that was just accepted has room for this; if not, closing says it too.
    let _ = match stream {
        Accepted::Tcp(mut stream) => stream.write_all(ANSWER).and_then(|()| stream.shutdown(std::net::Shutdown::Write)),
        Accepted::Unix(mut stream) => stream.write_all(ANSWER).and_then(|()| stream.shutdown(std::net::Shutdown::Write)),
    };
}

/// A poll with a waker that ends the accepting thread's sleep.
pub(super) fn poll_and_waker() -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    Ok((poll, waker))
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
