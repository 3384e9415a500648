//! A connection with its peer, whatever it is made of.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::{TcpStream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::bound::Accepted;

/// A connection with its peer.
#[derive(Debug)]
pub enum Io {
    /// From the internet.
    Tcp(TcpStream),
    /// From this machine.
    Unix(UnixStream),
    /// From the internet, over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    pub(super) fn new(accepted: Accepted) -> io::Result<Self> {
        Ok(match accepted {
            Accepted::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream)?),
            Accepted::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// The connection that another process has handed over.
    ///
    /// # Errors
    /// When it is none.
    pub fn resume(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        let unix = socket.domain()? == socket2::Domain::UNIX;
        socket.set_nonblocking(true)?;
        Self::new(if unix { Accepted::Unix(socket.into()) } else { Accepted::Tcp(socket.into()) })
    }

    /// The same connection once more, for another process. `None`: what was negotiated over it cannot be had.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn share(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Tcp(stream) => stream.as_fd().try_clone_to_owned().map(Some),
            Self::Unix(stream) => stream.as_fd().try_clone_to_owned().map(Some),
            Self::Tls(_) => Ok(None),
        }
    }

    /// Waits until there is something to read, before any handshake.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
            Self::Tls(stream) => stream.get_ref().0.readable().await,
        }
    }

    /// Reads what is there, before any handshake.
    pub(super) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(bytes),
            Self::Unix(stream) => stream.try_read(bytes),
            Self::Tls(stream) => stream.get_ref().0.try_read(bytes),
        }
    }
}

macro_rules! delegate {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match $stream {
            Io::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Io::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Io::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(delegate!(self.get_mut(), poll_read, cx, buf)) {
            // Over TLS this is a peer that went without a word of goodbye; most do.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), poll_shutdown, cx)
    }
}
