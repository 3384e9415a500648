//! The smallest HTTP door: accepts, reads one request head, answers 200, and hands the socket over. What follows is the caller's.
//!
//! ```text
//!  accept ──▶ [ waiting: head incomplete ] ──head──▶ answered ──▶ the caller's, out of epoll
//! ```
//! - Any path and any method is welcome: this is for stand-ins of servers on one machine, not for strangers.
//! - So many connections wait at most, each for so long; whoever says nothing, or too much, is let go.
//! - It sleeps in epoll, so it costs its host nothing while nobody comes.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::Nanos;
use crate::http::HEAD_LIMIT;

/// All of a storm fits into it; the kernel cuts it to its own limit.
const BACKLOG: i32 = 16_384;
const WAITING_MAX: usize = 4_096;
const PATIENCE: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(1);
const DOOR: Token = Token(usize::MAX);

#[derive(Debug)]
pub(crate) struct Lobby {
    door: TcpListener,
    poll: Poll,
    events: Events,
    /// The door has more than there was room for.
    crowded: bool,
    waiting: HashMap<Token, Waiting>,
    next: usize,
    swept: Nanos,
    answer: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    socket: mio::net::TcpStream,
    head: Vec<u8>,
    since: Nanos,
}

impl Lobby {
    /// `server` is what it says to be.
    pub(crate) fn open(address: SocketAddr, content_type: &str, server: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut door = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut door, DOOR, Interest::READABLE)?;
        let answer = format!(
            "HTTP/1.0 200 OK\r\nServer: {server}\r\nContent-Type: {content_type}\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n"
        );
        Ok(Self {
            door,
            poll,
            events: Events::with_capacity(1024),
            crowded: false,
            waiting: HashMap::new(),
            next: 0,
            swept: Nanos::now(),
            answer: answer.into_bytes(),
        })
    }

    /// Waits at most so long; the non-blocking sockets of those who have their answer.
    pub(crate) fn turn(&mut self, wait: Duration) -> io::Result<Vec<TcpStream>> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(Vec::new()),
            Err(e) => return Err(e),
        }
        let mut ready: Vec<Token> = self.events.iter().map(mio::event::Event::token).collect();
        if self.crowded || ready.contains(&DOOR) {
            self.accept(&mut ready)?;
        }
        let answered = ready.into_iter().filter_map(|token| self.proceed(token)).collect();
        let now = Nanos::now();
        if now.since(self.swept) > SWEEP {
            self.swept = now;
            self.waiting.retain(|_, waiting| now.since(waiting.since) < PATIENCE);
        }
        Ok(answered)
    }

    /// Lets in who waits at the door. Their requests are usually there already, so they count as ready.
    fn accept(&mut self, ready: &mut Vec<Token>) -> io::Result<()> {
        self.crowded = true;
        while self.waiting.len() < WAITING_MAX {
            match self.door.accept() {
                Ok((mut socket, _)) => {
                    let token = Token(self.next);
                    self.next = (self.next + 1) % DOOR.0;
                    self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    self.waiting.insert(token, Waiting { socket, head: Vec::new(), since: Nanos::now() });
                    ready.push(token);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.crowded = false;
                    break;
                }
                Err(e) => {
                    eprintln!("loadtest: accept: {e}");
                    break;
                }
            }
        }
        Ok(())
    }

    fn proceed(&mut self, token: Token) -> Option<TcpStream> {
        let waiting = self.waiting.get_mut(&token)?;
        match waiting.read() {
            Ok(false) => None,
            Ok(true) => {
                let Waiting { mut socket, .. } = self.waiting.remove(&token)?;
                // Whoever cannot be answered is gone, which the caller would only find out later.
                self.poll.registry().deregister(&mut socket).ok()?;
                socket.set_nodelay(true).ok()?;
                socket.write_all(&self.answer).ok()?;
                Some(socket.into())
            }
            Err(_) => {
                self.waiting.remove(&token);
                None
            }
        }
    }
}

impl Waiting {
    /// Whether the head is whole.
    fn read(&mut self) -> io::Result<bool> {
        let mut piece = [0; 2048];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.head.extend_from_slice(&piece[..length]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if self.head.windows(4).any(|four| four == b"\r\n\r\n") {
                return Ok(true);
            }
            if self.head.len() > HEAD_LIMIT {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_once_its_head_is_whole_however_it_comes() {
        let mut lobby = Lobby::open("127.0.0.1:0".parse().expect("an address"), "audio/x", "us").expect("opens");
        let address = lobby.door.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("connects");
        let mut answered = Vec::new();
        for piece in ["GET /a HTTP", "/1.0\r\nHost: x\r\n", "\r\n"] {
            assert!(answered.is_empty(), "answered before {piece:?}");
            client.write_all(piece.as_bytes()).expect("sends");
            for _ in 0..20 {
                answered.extend(lobby.turn(Duration::from_millis(5)).expect("turns"));
            }
        }
        let mut socket = answered.pop().expect("answered");
        socket.write_all(b"body").expect("sends");
        drop(socket);
        let mut got = String::new();
        client.read_to_string(&mut got).expect("reads");
        assert!(got.starts_with("HTTP/1.0 200 OK\r\nServer: us\r\nContent-Type: audio/x\r\n") && got.ends_with("\r\n\r\nbody"), "{got}");
    }
}
