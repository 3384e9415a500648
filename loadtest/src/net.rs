//! Sockets of listeners: made non-blocking, bound to a loopback source address where asked, read or emptied unread.
//!
//! Emptying uses MSG_TRUNC, which on a TCP socket makes the kernel drop the bytes without copying them (tcp(7)); the scratch buffer
//! only says how many at most.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::net::RecvFlags;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::Nanos;

/// The most source addresses there can be: 127.0.0.1 … 127.0.3.250.
pub(crate) const SOURCES_MAX: usize = 1000;

/// Starts to connect. On the loopback interface the connection usually stands when this returns.
pub(crate) fn connect(to: SocketAddr, from: Option<Ipv4Addr>, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(address) = from {
        // Each source address has ephemeral ports of its own.
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Connects to a peer that may not be there yet, within a bound.
pub(crate) fn connect_patiently(to: SocketAddr, patience: Duration) -> io::Result<std::net::TcpStream> {
    let end = Nanos::now().after(patience);
    loop {
        match std::net::TcpStream::connect(to) {
            Err(_) if Nanos::now() < end => thread::sleep(Duration::from_millis(50)),
            decided => return decided,
        }
    }
}

/// The source address of the `at`-th listener, when `sources` of them are shared out.
pub(crate) fn source(at: usize, sources: usize) -> Option<Ipv4Addr> {
    let which = (sources > 1).then(|| at % sources)?;
    Some(Ipv4Addr::new(127, 0, (which / 250) as u8, (which % 250 + 1) as u8))
}

/// Reads into `into`; 0 is the end of the stream.
pub(crate) fn read(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let (_, length) = rustix::net::recv(socket, into, RecvFlags::DONTWAIT)?;
    Ok(length)
}

/// Drops up to `scratch.len()` received bytes in the kernel and says how many; 0 is the end of the stream.
pub(crate) fn discard(socket: &TcpStream, scratch: &mut [u8]) -> io::Result<usize> {
    let (_, length) = rustix::net::recv(socket, scratch, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    Ok(length)
}

/// Raises the soft limit of open files to the hard one and says what it is now.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn discarding_drops_the_bytes_and_leaves_the_scratch_untouched() {
        let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = connect(door.local_addr().expect("bound"), Some(Ipv4Addr::new(127, 0, 0, 7)), None).expect("connects");
        let (mut peer, from) = door.accept().expect("accepts");
        assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 7));
        peer.write_all(b"0123456789").expect("sends");
        let mut scratch = [0xAA; 6];
        assert_eq!(discard(&socket, &mut scratch).expect("reads"), 6);
        assert_eq!(scratch, [0xAA; 6]);
        assert_eq!(read(&socket, &mut scratch).expect("reads"), 4);
        assert_eq!(&scratch[..4], b"6789");
        assert_eq!(discard(&socket, &mut scratch).expect_err("empty").kind(), io::ErrorKind::WouldBlock);
        drop(peer);
        assert_eq!(discard(&socket, &mut scratch).expect("ended"), 0);
    }

    #[test]
    fn every_source_address_is_loopback_and_distinct() {
        let all: std::collections::BTreeSet<_> = (0..SOURCES_MAX).filter_map(|at| source(at, SOURCES_MAX)).collect();
        assert_eq!(all.len(), SOURCES_MAX);
        assert!(all.iter().all(|address| address.is_loopback()));
        assert_eq!(source(5, 1), None);
    }
}
