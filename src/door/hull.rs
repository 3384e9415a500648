//! The hull: the IO type under the HTTP service, from which a routed connection leaves with its socket.
//!
//! ```text
//!  socket ─▶ Hull ─▶ actix-http ─▶ handler ─▶ Claim::board(ticket) ─▶ response with a `Gangway` body
//!              ▲                                                          │ first poll: arms the hull
//!              └── writes captured (the response head) ◀──────────────────┘
//!                  next flush: socket + captured bytes ─▶ shard; the HTTP side ends
//! ```
//! - Until it is armed the hull passes bytes on. It looks at every request head first (`wire::head`): what is refused there
//!   is given to the framework as a request for [`REFUSED_PATH`], so that the answer is routed, logged and ordered like any.
//! - Only public traits of actix-http are relied upon: a write or flush error ends the connection.
//! - A ticket that is not used (the peer went away meanwhile) gives its place back by being dropped.
//!
//! Deliberately absent: parsing of bodies, and any knowledge of what the response is.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::net::{TcpStream, UnixStream};
use actix_web::body::{BodySize, MessageBody};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::acceptor::Connection;
use crate::engine::admission::Seat;
use crate::engine::broadcast::{Broadcast, Peer};
use crate::engine::inbox::{Command, Permit};
use crate::engine::listener::Arrival;
use crate::engine::socket::Socket;
use crate::fanout::placement::{Placement, Wish};
use crate::units::{ListenerId, Moment};
use crate::wire::head::{self, Body, Look};

/// Where a request is sent whose head was refused. Whoever asks for it by name gets a 404: there is no refusal in the slot.
pub const REFUSED_PATH: &str = "/*refused";

/// Most bytes of a response head that is captured; ours have some hundreds.
const CAPTURED_MOST: usize = 16 * 1024;

/// What a listener needs to board: all its places, reserved.
#[derive(Debug)]
pub struct Ticket {
    /// A place in a shard's inbox.
    pub permit: Permit<Socket>,
    /// A place in the mount and in the server.
    pub seat: Seat,
    /// The mount.
    pub broadcast: Arc<Broadcast>,
    /// How it asks to be placed.
    pub wish: Option<Box<Wish>>,
    /// Where it was placed, if it had to wait for the mount's first chunk.
    pub placed: Option<Placement>,
    /// Who.
    pub id: ListenerId,
    /// What it says it is.
    pub user_agent: Box<str>,
}

#[derive(Debug)]
struct Slot {
    ticket: RefCell<Option<Ticket>>,
    armed: Cell<bool>,
    refusal: Cell<Option<(u16, &'static str)>>,
    peer: Peer,
    /// When the connection was accepted or, for a later request on it, when its head began.
    began: Cell<Moment>,
}

/// A handler's hold on the connection of its request.
#[derive(Clone, Debug)]
pub struct Claim(Rc<Slot>);

impl Claim {
    /// Gives the connection away: answer with the [`Gangway`], and the socket leaves with the response head.
    pub fn board(&self, ticket: Ticket) -> Gangway {
        self.0.ticket.replace(Some(ticket));
        Gangway(Rc::clone(&self.0))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.0.peer
    }

    /// Why the request was refused before it was a request, if it was.
    pub fn refusal(&self) -> Option<(u16, &'static str)> {
        self.0.refusal.get()
    }
}

/// The body of a response whose socket leaves. It has no bytes of its own.
#[derive(Debug)]
pub struct Gangway(Rc<Slot>);

impl MessageBody for Gangway {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        self.0.armed.set(true);
        Poll::Pending // never woken: the connection ends on this side at the next flush
    }
}

/// How request heads are taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) timeout: Duration,
    pub(super) size: usize,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! delegate {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match $stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

#[derive(Debug)]
enum Inbound {
    /// Within a request head; its bytes are held back until it is complete.
    Head { deadline: Option<Pin<Box<Sleep>>> },
    /// So many bytes of a body are passed on, then comes a head.
    Body(u64),
    /// Everything is passed on: the framework alone knows where this body ends.
    Open,
    /// Nothing more is read.
    Ended,
}

/// The IO type under the HTTP service.
#[derive(Debug)]
pub(super) struct Hull {
    stream: Option<Stream>,
    slot: Rc<Slot>,
    limits: HeadLimits,
    clock: crate::engine::crew::Clock,
    inbound: Inbound,
    /// Bytes read and not yet looked at.
    unseen: BytesMut,
    /// Bytes looked at, for the framework.
    seen: BytesMut,
    captured: Vec<u8>,
    /// Counts the connection for as long as it is on this side.
    _guest: super::acceptor::Guest,
}

impl Hull {
    pub(super) fn new(connection: Connection, limits: HeadLimits, clock: crate::engine::crew::Clock) -> io::Result<Self> {
        let stream = match connection.stream {
            super::acceptor::Accepted::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            super::acceptor::Accepted::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        let slot = Slot {
            ticket: RefCell::default(),
            armed: Cell::new(false),
            refusal: Cell::new(None),
            peer: connection.peer,
            began: Cell::new(connection.accepted),
        };
        let deadline = Some(Box::pin(tokio::time::sleep(limits.timeout)));
        Ok(Self {
            stream: Some(stream),
            slot: Rc::new(slot),
            limits,
            clock,
            inbound: Inbound::Head { deadline },
            unseen: BytesMut::new(),
            seen: BytesMut::new(),
            captured: Vec::new(),
            _guest: connection.guest,
        })
    }

    pub(super) fn claim(&self) -> Claim {
        Claim(Rc::clone(&self.slot))
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lets the framework answer a refusal.
    fn refuse(&mut self, status: u16, why: &'static str) {
        self.slot.refusal.set(Some((status, why)));
        self.unseen.clear();
        self.seen.extend_from_slice(b"GET ");
        self.seen.extend_from_slice(REFUSED_PATH.as_bytes());
        self.seen.extend_from_slice(b" HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n");
        self.inbound = Inbound::Ended;
    }

    /// Moves what may be passed on from `unseen` to `seen`.
    fn sift(&mut self) {
        while !self.unseen.is_empty() {
            match &mut self.inbound {
                Inbound::Head { .. } => match head::look(&self.unseen, self.limits.size) {
                    Look::Partial => return,
                    Look::Refuse { status, why } => return self.refuse(status, why),
                    Look::Complete { length, body } => {
                        self.seen.unsplit(self.unseen.split_to(length));
                        self.inbound = match body {
                            Body::Length(0) => Inbound::Head { deadline: None },
                            Body::Length(length) => Inbound::Body(length),
                            Body::Chunked => Inbound::Open,
                        };
                    }
                },
                Inbound::Body(left) => {
                    let part = self.unseen.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= part as u64;
                    let done = *left == 0;
                    self.seen.unsplit(self.unseen.split_to(part));
                    if done {
                        self.inbound = Inbound::Head { deadline: None };
                    }
                }
                Inbound::Open => self.seen.unsplit(self.unseen.split()),
                Inbound::Ended => self.unseen.clear(),
            }
            if !self.seen.is_empty() && !matches!(self.inbound, Inbound::Open) {
                return; // one request at a time: the next is looked at when this one has been taken
            }
        }
    }

    /// The hand-over. What the framework has written so far, and the socket, go to a shard.
    fn embark(&mut self) -> io::Result<()> {
        let (Some(stream), Some(ticket)) = (self.stream.take(), self.slot.ticket.take()) else {
            return Ok(());
        };
        let wire = match stream {
            Stream::Tcp(stream) => Socket::new(stream.into_std()?)?,
            Stream::Unix(stream) => Socket::new(stream.into_std()?)?,
        };
        ticket.permit.send(Command::Join(Box::new(Arrival {
            wire,
            broadcast: ticket.broadcast,
            head: std::mem::take(&mut self.captured).into(),
            wish: ticket.wish,
            placed: ticket.placed,
            id: ticket.id,
            peer: self.slot.peer,
            user_agent: ticket.user_agent,
            accepted: self.slot.began.get(),
            seat: ticket.seat,
        })));
        Ok(())
    }
}

impl AsyncRead for Hull {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let hull = &mut *self;
        loop {
            if hull.slot.armed.get() {
                return Poll::Pending; // what else the peer sends is the engine's to discard
            }
            hull.sift();
            if !hull.seen.is_empty() {
                let count = hull.seen.len().min(buf.remaining());
                buf.put_slice(&hull.seen[..count]);
                hull.seen.advance(count);
                return Poll::Ready(Ok(()));
            }
            if matches!(hull.inbound, Inbound::Ended) {
                return Poll::Pending; // the answer says close
            }
            let (waiting, size) = (hull.unseen.is_empty(), hull.limits.size);
            if let Inbound::Head { deadline } = &mut hull.inbound {
                if let Some(sleep) = deadline
                    && sleep.as_mut().poll(cx).is_ready()
                {
                    if waiting {
                        return Poll::Ready(Ok(())); // nothing was ever asked: end of file
                    }
                    hull.refuse(408, "the request head took too long");
                    continue;
                }
                if deadline.is_none() && !waiting {
                    *deadline = Some(Box::pin(tokio::time::sleep_until(Instant::now() + hull.limits.timeout)));
                    continue; // so that it is polled
                }
            }
            let mut scratch = [0_u8; 4096];
            // A head is read at most one byte beyond its bound: enough to know that it is too large.
            let room = (size + 1).saturating_sub(hull.unseen.len()).clamp(1, scratch.len());
            let mut read = ReadBuf::new(&mut scratch[..room]);
            let Some(stream) = hull.stream.as_mut() else { return Poll::Ready(Ok(())) };
            ready!(delegate!(stream, poll_read, cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if waiting && matches!(hull.inbound, Inbound::Head { deadline: None }) {
                hull.slot.began.set(hull.clock.now());
            }
            hull.unseen.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for Hull {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.slot.armed.get() {
            if self.captured.len() + buf.len() > CAPTURED_MOST {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            self.captured.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let stream = self.stream()?;
        delegate!(stream, poll_write, cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.slot.armed.get() {
            self.embark()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let stream = self.stream()?;
        delegate!(stream, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.as_mut() {
            Some(stream) => delegate!(stream, poll_shutdown, cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
