//! The last step to the peer: a trait that tests can pretend, and the socket that production uses.
//!
//! Socket options are set once, at join. What is deliberately absent: TCP_CORK (sends are already whole), zero copy (a ring
//! that is overwritten must not be what the kernel still reads), and TCP_NOTSENT_LOWAT: the send buffer itself is sized so
//! that lag is seen here and does not hide in the kernel.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};

use super::broadcast::Rules;

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
    /// Sets what a mount's rules ask of a connection; `rate` is the stream's bytes per second, if known.
    ///
    /// # Errors
    /// When the connection is already broken.
    fn prepare(&mut self, rules: &Rules, rate: Option<f64>) -> io::Result<()>;

    /// Sends what it can.
    ///
    /// # Errors
    /// `WouldBlock` when the peer takes no more for now; anything else ends the connection.
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Throws away what the peer has sent, a bounded amount at a time.
    ///
    /// # Errors
    /// Anything ends the connection.
    fn discard(&mut self) -> io::Result<Discarded>;
}

/// A connected stream socket: TCP or unix.
#[derive(Debug)]
pub struct Socket(OwnedFd);

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

impl Socket {
    /// Takes over a socket.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let fd = fd.into();
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(fd))
    }

    /// Its number, for registration only.
    pub(super) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// About twice what the stream brings in a window and half a second more: enough for a listener that keeps up, little enough
/// that one that does not is seen.
fn auto_send_buffer(rules: &Rules, rate: Option<f64>) -> Option<u32> {
    let bytes = 2.0 * rate? * (rules.coalesce.max.as_secs_f64() + 0.5);
    Some(bytes.clamp(SEND_BUFFER_LEAST, SEND_BUFFER_MOST) as u32)
}

impl Wire for Socket {
    fn prepare(&mut self, rules: &Rules, rate: Option<f64>) -> io::Result<()> {
        let size = rules.send_buffer.or_else(|| auto_send_buffer(rules, rate)).unwrap_or(SEND_BUFFER_LEAST as u32);
        sockopt::set_socket_send_buffer_size(&self.0, size as usize)?;
        let domain = sockopt::socket_domain(&self.0)?;
        if domain != rustix::net::AddressFamily::INET && domain != rustix::net::AddressFamily::INET6 {
            return Ok(());
        }
        sockopt::set_tcp_nodelay(&self.0, true)?;
        sockopt::set_socket_keepalive(&self.0, true)?;
        sockopt::set_tcp_keepidle(&self.0, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&self.0, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&self.0, KEEPALIVE_COUNT)?;
        if rules.idle_timeout.is_some_and(|idle| idle <= USER_TIMEOUT) {
            // It also ends who takes nothing though it answers, so it must not come before our own verdict on those.
            sockopt::set_tcp_user_timeout(&self.0, USER_TIMEOUT.as_millis() as u32)?;
        }
        if let Some(dscp) = rules.dscp {
            let class = dscp << 2;
            if domain == rustix::net::AddressFamily::INET6 {
                sockopt::set_ipv6_tclass(&self.0, u32::from(class))?;
            }
            // On a v6 socket this serves v4-mapped peers, and fails for others.
            let as_v4 = sockopt::set_ip_tos(&self.0, class);
            if domain == rustix::net::AddressFamily::INET {
                as_v4?;
            }
        }
        Ok(())
    }

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not writev: that goes by way of the file layer, and may raise SIGPIPE.
        Ok(rustix::net::sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }

    fn discard(&mut self) -> io::Result<Discarded> {
        let mut scratch = [0_u8; 4096];
        let mut total = 0;
        for _ in 0..4 {
            match rustix::net::recv(&self.0, &mut scratch[..], RecvFlags::DONTWAIT) {
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
