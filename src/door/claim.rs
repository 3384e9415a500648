//! A handler's hold on the connection of its request, and what the hull is told by it.
//!
//! ```text
//!            head handed out          body of the answer dropped           flushed
//!   Idle ───────────────────▶ Serving ──────────────────────────▶ Answered ───────▶ Idle
//! ```
//! - One request at a time: the framework decodes ahead, and would then answer one request by the method and version of another.
//!   So the next head is handed out only when the answer to the one before has left.
//! - The one thing that happens to every answer, whoever gives it, is that its body is dropped when all of it has been written:
//!   a [`Watched`] body tells the hull.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{Bytes, BytesMut};

use super::acceptor::Guest;
use super::io::Io;
use super::portion::{self, Parcel};
use crate::bouncer::Pass;
use crate::engine::admission::Seat;
use crate::engine::broadcast::{Broadcast, Peer};
use crate::engine::inbox::Permit;
use crate::engine::listener::{Inlay, Intro};
use crate::engine::socket::Socket;
use crate::engine::trail::Trail;
use crate::fanout::placement::{Placement, Wish};
use crate::units::{ListenerId, Moment};
use crate::wire::head::Body;

/// Where a request is sent whose head was refused. Whoever asks for it by name gets a 404: there is no refusal in the slot.
pub const REFUSED_PATH: &str = "/*refused";

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
    /// What it was promised between the bytes of the stream.
    pub inlay: Option<Inlay>,
    /// Who.
    pub id: ListenerId,
    /// What it says it is.
    pub user_agent: Box<str>,
    /// What it was let in with, where somebody was asked.
    pub pass: Option<Arc<Pass>>,
    /// The mounts that it was to hear instead.
    pub trail: Trail,
    /// What is sent between the head and the stream.
    pub intro: Option<Intro>,
}

/// A connection that has left with its request's body still to come.
#[derive(Debug)]
pub struct Departing {
    /// The connection.
    pub io: Io,
    /// The answer's head, which has not been sent.
    pub answer: Vec<u8>,
    /// What has come of the body.
    pub begun: BytesMut,
    /// Counts as a connection until dropped.
    pub guest: Guest,
}

/// Who takes over a connection that leaves.
pub(super) enum Berth {
    /// A shard.
    Listener(Box<Ticket>),
    /// Somebody who reads what the peer sends.
    Publisher(Box<dyn FnOnce(Departing)>),
}

impl fmt::Debug for Berth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener(_) => "Listener",
            Self::Publisher(_) => "Publisher",
        })
    }
}

/// What follows a request head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// How its body is framed.
    pub body: Body,
    /// The peer sends the body when it is told to go on.
    pub expects_continue: bool,
}

/// Whose turn it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The peer's: a request head may come.
    Idle,
    /// Ours: a request is being answered.
    Serving,
    /// The answer is written, and not yet flushed.
    Answered,
}

/// What the hull and the handlers of one connection share.
#[derive(Debug)]
pub(super) struct Slot {
    /// By which number logs name the connection.
    pub(super) number: u64,
    pub(super) berth: RefCell<Option<Berth>>,
    /// What follows the request that is served.
    pub(super) following: Cell<Following>,
    pub(super) armed: Cell<bool>,
    pub(super) turn: Cell<Turn>,
    pub(super) refusal: Cell<Option<(u16, &'static str)>>,
    /// Who asks: who is connected, or for whom he speaks.
    pub(super) peer: Cell<Peer>,
    /// Where it reached us; `None` on a unix socket.
    pub(super) local: Option<SocketAddr>,
    /// Whether who asks speaks TLS, with us or with a proxy that is believed.
    pub(super) secure: Cell<bool>,
    /// For which host it asked a proxy that is believed, if that says.
    pub(super) host: RefCell<Option<String>>,
    /// Somebody speaks for somebody else.
    pub(super) relayed: Cell<bool>,
    /// When the connection was accepted or, for a later request on it, when its head began.
    pub(super) began: Cell<Moment>,
    /// Whether the peer has ended its side, and who wants to know.
    hung_up: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Slot {
    pub(super) fn new((number, peer): (u64, Peer), local: Option<SocketAddr>, secure: bool, began: Moment) -> Self {
        Self {
            number,
            berth: RefCell::default(),
            following: Cell::default(),
            armed: Cell::new(false),
            turn: Cell::new(Turn::Idle),
            refusal: Cell::new(None),
            peer: Cell::new(peer),
            local,
            secure: Cell::new(secure),
            host: RefCell::default(),
            relayed: Cell::new(false),
            began: Cell::new(began),
            hung_up: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    pub(super) fn has_hung_up(&self) -> bool {
        self.hung_up.get()
    }

    pub(super) fn hang_up(&self) {
        self.hung_up.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// A handler's hold on the connection of its request.
#[derive(Clone, Debug)]
pub struct Claim(pub(super) Rc<Slot>);

impl Claim {
    /// Gives the connection away: answer with the [`Gangway`], and the socket leaves with the response head.
    pub fn board(&self, ticket: Ticket) -> Gangway {
        self.leave_for(Berth::Listener(Box::new(ticket)))
    }

    /// Gives the connection away to somebody who reads the request's body: answer with the [`Gangway`], and it leaves with the
    /// answer's head, which whoever takes it sends.
    pub fn publish(&self, take: impl FnOnce(Departing) + 'static) -> Gangway {
        self.leave_for(Berth::Publisher(Box::new(take)))
    }

    fn leave_for(&self, berth: Berth) -> Gangway {
        self.0.berth.replace(Some(berth));
        Gangway(Rc::clone(&self.0))
    }

    /// What follows the head of the request that is served.
    pub fn following(&self) -> Following {
        self.0.following.get()
    }

    /// Whether the connection has been given away: what comes of it is told when the listener leaves.
    pub(super) fn has_boarded(&self) -> bool {
        self.0.berth.borrow().is_some()
    }

    /// Who asks: who is at the other end, or for whom he speaks if he is believed.
    pub fn peer(&self) -> Peer {
        self.0.peer.get()
    }

    /// By which number logs name the connection: lines of the same one have the same.
    pub fn connection(&self) -> u64 {
        self.0.number
    }

    /// Whether somebody asks for somebody else, whoever that is.
    pub fn is_relayed(&self) -> bool {
        self.0.relayed.get()
    }

    /// For which host a proxy was asked, if it says so and is believed.
    pub fn relayed_host(&self) -> Option<String> {
        self.0.host.borrow().clone()
    }

    /// The address at which the peer reached us; `None` on a unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.0.local
    }

    /// How an address begins under which the peer reached us: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.0.secure.get() { "https" } else { "http" }
    }

    /// Why the request was refused before it was a request, if it was.
    pub fn refusal(&self) -> Option<(u16, &'static str)> {
        self.0.refusal.get()
    }

    /// Waits until the peer has ended its side. It may still read: whether that is a hang-up, the asker knows.
    pub fn hung_up(&self) -> impl Future<Output = ()> {
        let slot = Rc::clone(&self.0);
        poll_fn(move |cx| {
            if slot.has_hung_up() {
                return Poll::Ready(());
            }
            slot.waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
    }

    pub(super) fn serving(&self) -> Serving {
        Serving(Rc::clone(&self.0))
    }
}

/// A request that is being answered. Dropped when the answer has been written, or will not be.
#[derive(Debug)]
pub(super) struct Serving(Rc<Slot>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.turn.set(Turn::Answered);
    }
}

/// The body of any answer, in portions; when it is dropped the answer is complete.
#[derive(Debug)]
pub(super) struct Watched {
    body: BoxBody,
    /// What the body has given and nobody has been given yet.
    rest: Bytes,
    _parcel: Option<Parcel>,
    _serving: Option<Serving>,
}

impl Watched {
    pub(super) fn new(body: BoxBody, parcel: Option<Parcel>, serving: Option<Serving>) -> Self {
        Self { body, rest: Bytes::new(), _parcel: parcel, _serving: serving }
    }
}

impl MessageBody for Watched {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let watched = self.get_mut();
        if watched.rest.is_empty() {
            match ready!(Pin::new(&mut watched.body).poll_next(cx)) {
                Some(Ok(bytes)) => watched.rest = bytes,
                other => return Poll::Ready(other),
            }
        }
        Poll::Ready(Some(Ok(portion::next(&mut watched.rest))))
    }
}

/// The body of a response whose socket leaves. It has no bytes of its own. Where it is dropped before that, nobody leaves: what was
/// reserved is given back at once, not only when the connection ends.
#[derive(Debug)]
pub struct Gangway(Rc<Slot>);

impl Drop for Gangway {
    fn drop(&mut self) {
        drop(self.0.berth.take());
    }
}

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

#[cfg(test)]
mod tests {
    use actix_web::HttpResponse;

    use super::*;

    #[test]
    fn an_answer_that_cannot_be_made_gives_the_place_back_at_once() {
        for (field, leaves) in [("a field", true), ("a field\r\nand another", false)] {
            let claim = Claim(Rc::new(Slot::new((1, Peer::Unix), None, false, Moment::ZERO)));
            let place = Rc::new(());
            let reserved = Rc::clone(&place);
            let gangway = claim.publish(move |_| drop(reserved));
            let answer = HttpResponse::Ok().insert_header(("icy-name", field)).body(gangway);
            assert_eq!((answer.status() == 200, claim.has_boarded(), Rc::strong_count(&place) == 2), (leaves, leaves, leaves), "{field:?}");
            drop(answer);
            assert_eq!((claim.has_boarded(), Rc::strong_count(&place)), (false, 1));
        }
    }
}
