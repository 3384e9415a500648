//! One request and its whole answer, on a connection of its own, within a time and a size. For pages and API calls.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::clock::Nanos;
use crate::http::{self, Dechunker, Parsed};

const PATIENCE: Duration = Duration::from_secs(20);
/// No page or list is longer.
const LONGEST: usize = 32 << 20;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Where a server is asked: the address that was on the command line, and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
}

impl Door {
    /// Asks, and reads to the end of the answer.
    pub(crate) fn ask(&self, method: &str, path: &str) -> io::Result<Answer> {
        let deadline = Nanos::now().after(PATIENCE);
        let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        let agent = concat!("flumen-loadtest/", env!("CARGO_PKG_VERSION"));
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n", self.host);
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(request.as_bytes())?;
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let left = deadline.since(Nanos::now());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "no whole answer in time"));
            }
            socket.set_read_timeout(Some(left))?;
            match socket.read(&mut piece) {
                Ok(0) => return answer(&bytes),
                Ok(n) if bytes.len() + n > LONGEST => return Err(io::Error::other("the answer is too long")),
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(io::Error::new(ErrorKind::TimedOut, "no whole answer in time")),
                Err(e) => return Err(e),
            }
        }
    }
}

fn answer(bytes: &[u8]) -> io::Result<Answer> {
    let Parsed::Whole(head) = http::parse_head(bytes) else {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed within the answer's head"));
    };
    let rest = &bytes[head.length..];
    if !head.chunked {
        return Ok(Answer { status: head.status, body: rest.to_vec() });
    }
    let mut body = Vec::new();
    let broken = || io::Error::new(ErrorKind::InvalidData, "broken chunked framing");
    Dechunker::default().feed(rest, broken, |payload| {
        body.extend_from_slice(payload);
        Ok(())
    })?;
    Ok(Answer { status: head.status, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(with: &'static str) -> io::Result<Answer> {
        let door = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = Door { address: door.local_addr().expect("bound"), host: "h".to_owned() };
        let server = std::thread::spawn(move || {
            let (mut peer, _) = door.accept().expect("accepts");
            let mut request = [0; 512];
            let n = peer.read(&mut request).expect("reads");
            peer.write_all(with.as_bytes()).expect("answers");
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let answer = at.ask("DELETE", "/x");
        assert!(server.join().expect("asked").starts_with("DELETE /x HTTP/1.1\r\nHost: h\r\n"));
        answer
    }

    #[test]
    fn an_answer_is_read_whole_plain_or_chunked() {
        for text in ["HTTP/1.1 404 No\r\n\r\nbody", "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"]
        {
            let answer = answered(text).expect("an answer");
            assert_eq!((answer.status, answer.body.as_slice()), (404, &b"body"[..]), "{text}");
        }
    }

    #[test]
    fn half_an_answer_is_none() {
        assert!(answered("HTTP/1.1 200 OK\r\nContent-").is_err());
    }
}
