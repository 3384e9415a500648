//! The last step to the peer: a trait that tests can pretend, and the socket that production uses.
//!
//! Socket options are set once, at join. What is deliberately absent: TCP_CORK (sends are already whole), zero copy (a ring
//! that is overwritten must not be what the kernel still reads), and TCP_NOTSENT_LOWAT: the send buffer itself is sized so
//! that lag is seen here and does not hide in the kernel.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};
use rustls::ServerConnection;

use super::broadcast::Rules;
use super::tls::Session;

/// What became of bytes that a peer sent us: they are thrown away, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// So many, and no more for now.
    Dry(u32),
    /// So many, and there may be more.
    More(u32),
    /// The peer sends no more.
    Closed,
}

/// A connection, as the engine uses it: never waits.
pub trait Wire {
    /// Sets what a mount's rules ask of a connection, but for the send buffer.
    ///
    /// # Errors
    /// When the connection is already broken.
    fn prepare(&mut self, rules: &Rules) -> io::Result<()>;

    /// Sets how much the kernel may hold for the peer, in bytes.
    ///
    /// # Errors
    /// When the connection is already broken.
    fn set_send_buffer(&mut self, bytes: u32) -> io::Result<()>;

    /// Closing follows: what the peer does not take soon, the kernel forgets.
    fn give_up(&mut self);

    /// Sends what it can. What it [holds](Self::holds) goes first; then `Ok(0)` says that some of it went, and nothing else did.
    ///
    /// # Errors
    /// `WouldBlock` when the peer takes no more for now; anything else ends the connection.
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Whether it has taken something that has not left: a connection that encrypts cannot give that back. It is sent by the next
    /// [`Self::send`], of nothing if need be.
    fn holds(&self) -> bool {
        false
    }

    /// Whether it can carry little more: it is to end in good order while there is still room for that.
    fn is_spent(&self) -> bool {
        false
    }

    /// Closing follows in good order: what is left to say is said, as far as the peer takes it.
    fn farewell(&mut self) {}

    /// Whether another process can go on with it: nothing of it is in this one's memory.
    fn portable(&self) -> bool {
        true
    }

    /// Throws away what the peer has sent, a bounded amount at a time.
    ///
    /// # Errors
    /// Anything ends the connection.
    fn discard(&mut self) -> io::Result<Discarded>;
}

/// A connected stream socket: TCP or unix, plain or with a TLS session on it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    tls: Option<Box<Session>>,
}

/// The least send buffer that `auto` chooses.
const SEND_BUFFER_LEAST: f64 = 32.0 * 1024.0;
/// The largest send buffer that `auto` chooses.
pub const SEND_BUFFER_MOST: f64 = 1024.0 * 1024.0;
/// A power-cut peer of a silent mount is noticed after idle + interval × count = 60 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;
/// A power-cut peer with data on its way is noticed by then; the kernel takes this for the end of keepalive as well.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that the kernel keeps what a listener that was removed does not take.
const ORPHAN_MOST: Duration = Duration::from_secs(10);

impl Socket {
    /// Takes over a socket.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let fd = fd.into();
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, tls: None })
    }

    /// Takes over a socket with its TLS session, whose handshake is done.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn with_tls(fd: impl Into<OwnedFd>, connection: ServerConnection) -> io::Result<Self> {
        Ok(Self { tls: Some(Box::new(Session::new(connection))), ..Self::new(fd)? })
    }

    /// Its number, for registration only.
    pub(super) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// The kernel's side of a socket; never waits.
struct Raw<'a>(&'a OwnedFd);

impl Raw<'_> {
    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // The usual case, and it spares the kernel a message's head and a list of slices to import.
        if let [slice] = slices {
            return Ok(rustix::net::send(self.0, slice, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?);
        }
        // Not writev: that goes by way of the file layer, and may raise SIGPIPE.
        Ok(rustix::net::sendmsg(self.0, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self.0, buffer, RecvFlags::DONTWAIT)?.1)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The send buffer that a mount's rules ask for. `auto` is about twice what the stream, of `rate` bytes per second, brings in a
/// window and half a second more: enough for a listener that keeps up, little enough that one that does not is seen.
pub(super) fn send_buffer(rules: &Rules, rate: Option<f64>) -> u32 {
    let auto = || 2.0 * rate.unwrap_or(0.0) * (rules.coalesce.max.as_secs_f64() + 0.5);
    rules.send_buffer.unwrap_or_else(|| auto().clamp(SEND_BUFFER_LEAST, SEND_BUFFER_MOST) as u32)
}

impl Wire for Socket {
    fn prepare(&mut self, rules: &Rules) -> io::Result<()> {
        let domain = sockopt::socket_domain(&self.fd)?;
        if domain != rustix::net::AddressFamily::INET && domain != rustix::net::AddressFamily::INET6 {
            return Ok(());
        }
        sockopt::set_tcp_nodelay(&self.fd, true)?;
        sockopt::set_socket_keepalive(&self.fd, true)?;
        sockopt::set_tcp_keepidle(&self.fd, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&self.fd, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&self.fd, KEEPALIVE_COUNT)?;
        // It also ends who takes nothing though it answers, so it must not come before our own verdict on those. Zero: the system's.
        let patience = rules.idle_timeout.map_or(0, |idle| idle.max(USER_TIMEOUT).as_millis());
        sockopt::set_tcp_user_timeout(&self.fd, u32::try_from(patience).unwrap_or(u32::MAX))?;
        if let Some(dscp) = rules.dscp {
            let class = dscp << 2;
            if domain == rustix::net::AddressFamily::INET6 {
                sockopt::set_ipv6_tclass(&self.fd, u32::from(class))?;
            }
            // On a v6 socket this serves v4-mapped peers, and fails for others.
            let as_v4 = sockopt::set_ip_tos(&self.fd, class);
            if domain == rustix::net::AddressFamily::INET {
                as_v4?;
            }
        }
        Ok(())
    }

    fn set_send_buffer(&mut self, bytes: u32) -> io::Result<()> {
        Ok(sockopt::set_socket_send_buffer_size(&self.fd, bytes as usize)?)
    }

    fn give_up(&mut self) {
        // A connection that is closed with data queued is an orphan of the kernel's, outside of every limit of ours. Not a reset:
        // who merely was slow may read what is there. On unix sockets this fails, and there nothing is left over.
        let _ = sockopt::set_tcp_user_timeout(&self.fd, ORPHAN_MOST.as_millis() as u32);
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => Raw(&self.fd).send(slices),
            Some(session) => session.send(&mut Raw(&self.fd), slices),
        }
    }

    fn portable(&self) -> bool {
        self.tls.is_none() // a session's keys and counters are rustls's, and stay there
    }

    fn holds(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.holds())
    }

    fn is_spent(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_spent())
    }

    fn farewell(&mut self) {
        if let Some(session) = &mut self.tls {
            session.farewell(&mut Raw(&self.fd));
        }
    }

    fn discard(&mut self) -> io::Result<Discarded> {
        if let Some(session) = &mut self.tls {
            return session.discard(&mut Raw(&self.fd));
        }
        let mut scratch = [0_u8; 4096];
        let mut total = 0;
        for _ in 0..4 {
            match rustix::net::recv(&self.fd, &mut scratch[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(Discarded::Closed),
                Ok((_, bytes)) => total += bytes as u32,
                Err(rustix::io::Errno::AGAIN) => return Ok(Discarded::Dry(total)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Discarded::More(total))
    }
}
