//! The hull: the IO type under the HTTP service, from which a routed connection leaves with its socket.
//!
//! ```text
//!  socket ─▶ Hull ─▶ actix-http ─▶ handler ─▶ Claim::board(ticket) ─▶ response with a `Gangway` body
//!              ▲                                                          │ first poll: arms the hull
//!              └── writes captured (the response head) ◀──────────────────┘
//!                  next flush: socket + captured bytes ─▶ shard; the HTTP side ends
//! ```
//! - It reads every request head itself (`wire::head`) and hands it out when the answer before it has left: so nothing is ever
//!   unflushed when a hull is armed. What is refused is given to the framework as a request for [`REFUSED_PATH`], so that the
//!   answer is routed, logged and ordered like any.
//! - Bodies are not handed out to the framework, and what follows one is not a head: a request with a body is the last of its
//!   connection. What has come of a body is held, with a bound, until somebody takes the connection over or it is refused.
//! - Nothing waits without a deadline: a head, a portion of an answer, and the end have one each; an answer has its
//!   handler's; and between requests the framework keeps time.
//! - While a request is served its peer is still listened to, with a bound, so that a hang-up is noticed.
//! - Only public traits of actix-http are relied upon: a write or flush error ends the connection.
//! - A ticket that is not used (the peer went away meanwhile) gives its place back by being dropped.
//!
//! Deliberately absent: reading bodies, and any knowledge of what the response is.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_web::http::Uri;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::acceptor::{Connection, Guest};
use super::claim::{Berth, Claim, Departing, Following, REFUSED_PATH, Slot, Turn};
use super::io::Io;
use super::patrol::{Barred, Patrol};
use super::proxied;
use super::tls::{self, Spoken, Vestibule};
use crate::engine::admission::Hold;
use crate::engine::broadcast::Peer;
use crate::engine::crew::Clock;
use crate::engine::inbox::Command;
use crate::engine::listener::Arrival;
use crate::engine::socket::Socket;
use crate::units::Moment;
use crate::wire::forwarded;
use crate::wire::head::{self, Body, Head, Look};

/// Most bytes of a response head that is captured; ours have some hundreds.
const CAPTURED_MOST: usize = 16 * 1024;
/// How long a peer's bytes are still read when all has been said. Closing over unread bytes resets the connection, and a reset
/// destroys the answer on its way.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes read at once.
const READ_AT_ONCE: usize = 4096;

/// How request heads are taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) timeout: Duration,
    pub(super) size: usize,
}

type Deadline = Option<Pin<Box<Sleep>>>;

/// Whether a deadline is over; it is set when it is first asked for.
fn is_over(deadline: &mut Deadline, after: Duration, cx: &mut Context<'_>) -> bool {
    deadline.get_or_insert_with(|| Box::pin(sleep(after))).as_mut().poll(cx).is_ready()
}

/// The IO type under the HTTP service.
#[derive(Debug)]
pub(super) struct Hull {
    stream: Option<Io>,
    slot: Rc<Slot>,
    limits: HeadLimits,
    clock: Clock,
    /// The request handed out last is the last: what follows it is its body, or thrown away.
    last: bool,
    /// What follows is a body that somebody may want.
    holds_body: bool,
    /// Bytes read and not yet looked at; at most one more than a head may have.
    unseen: BytesMut,
    /// When the first of them came; for the first head, when the connection was accepted.
    arrived: Option<Moment>,
    /// A head, for the framework.
    seen: BytesMut,
    captured: Vec<u8>,
    /// Of the head that has begun; of the first one from the start.
    head_deadline: Deadline,
    /// Of what is to be written next and waits for room: a portion of an answer, whole.
    write_deadline: Deadline,
    /// Of the end.
    farewell: Deadline,
    /// Whoever reads, while a request is served.
    reader: Option<Waker>,
    /// Counts the connection for as long as it is on this side.
    guest: Option<Guest>,
    patrol: Arc<Patrol>,
    /// Who is connected: where that is a proxy, each request may be somebody else's.
    connected: Connected,
    /// Counts the connection as one of whoever the request is of that a proxy has passed on.
    hold: Option<(Peer, Option<Hold>)>,
}

/// Who is connected, whoever asks.
#[derive(Clone, Copy, Debug)]
struct Connected {
    peer: Peer,
    secure: bool,
    relayed: bool,
}

impl Hull {
    /// A hull for an accepted connection, after its handshake if there is one. `None`: there was one, and it came to nothing.
    pub(super) async fn receive(
        connection: Connection,
        vestibule: &Vestibule,
        limits: HeadLimits,
        clock: Clock,
        patrol: &Arc<Patrol>,
    ) -> io::Result<Option<Self>> {
        let Connection { stream, mut peer, mut local, accepted, tls, proxied, mut guest, .. } = connection;
        let io = Io::new(stream)?;
        let mut barred = None;
        if proxied {
            let Some(announced) = proxied::announced(&io, limits.timeout, vestibule.counters()).await else { return Ok(None) };
            peer = announced.client.map_or(peer, Peer::Inet);
            local = announced.reached.or(local);
            match patrol.admit(peer) {
                Ok(hold) => guest.hold = hold,
                Err(_) if tls.is_some() => return Ok(None), // no handshake for this
                Err(why) => barred = Some(why),
            }
        }
        let (stream, misplaced) = match (io, tls) {
            // In a box of its own, lest every connection's task be as large as a handshake.
            (Io::Tcp(stream), Some(port)) => match Box::pin(vestibule.receive(stream, &port)).await {
                Some(Spoken::Plain(stream)) => (Io::Tcp(stream), false),
                Some(Spoken::Misplaced(stream)) => (Io::Tcp(stream), true),
                Some(Spoken::Tls(stream)) => (Io::Tls(stream), false),
                None => return Ok(None),
            },
            (io, _) => (io, false),
        };
        let secure = matches!(stream, Io::Tls(_));
        let connected = Connected { peer, secure, relayed: proxied };
        let mut hull = Self::new(
            stream,
            Slot::new((guest.number(), peer), local, secure, accepted),
            guest,
            limits,
            clock,
            (Arc::clone(patrol), connected),
        );
        hull.slot.relayed.set(proxied);
        if misplaced {
            hull.refuse(400, tls::MISPLACED);
        } else if let Some(why) = barred {
            hull.refuse(why.status(), why.sentence());
        }
        Ok(Some(hull))
    }

    fn new(stream: Io, slot: Slot, guest: Guest, limits: HeadLimits, clock: Clock, (patrol, connected): (Arc<Patrol>, Connected)) -> Self {
        Self {
            stream: Some(stream),
            arrived: Some(slot.began.get()),
            slot: Rc::new(slot),
            limits,
            clock,
            last: false,
            holds_body: false,
            unseen: BytesMut::new(),
            seen: BytesMut::new(),
            captured: Vec::new(),
            head_deadline: Some(Box::pin(sleep(limits.timeout))),
            write_deadline: None,
            farewell: None,
            reader: None,
            guest: Some(guest),
            patrol,
            connected,
            hold: None,
        }
    }

    /// Finds out who asks, where a trusted proxy passes requests on.
    fn identify(&mut self, head: &Head) -> Result<(), Barred> {
        if !self.patrol.trusts_peer(self.connected.peer) {
            return Ok(());
        }
        let said = forwarded::read(&head.proxies, |address| self.patrol.trusts(address));
        let peer = said.client.map_or(self.connected.peer, Peer::Inet);
        self.slot.peer.set(peer);
        self.slot.secure.set(said.secure.unwrap_or(self.connected.secure));
        self.slot.relayed.set(self.connected.relayed || said.any);
        self.slot.host.replace(said.host);
        if said.client.is_some() && self.hold.as_ref().is_none_or(|(held, _)| *held != peer) {
            self.hold = None; // the one before is done
            self.hold = Some((peer, self.patrol.admit(peer)?));
        }
        Ok(())
    }

    /// What counts the connection as one of whoever asks.
    fn take_hold(&mut self) -> Option<Hold> {
        match self.hold.take() {
            Some((_, hold)) => hold,
            None => self.guest.as_mut().and_then(|guest| guest.hold.take()),
        }
    }

    pub(super) fn claim(&self) -> Claim {
        Claim(Rc::clone(&self.slot))
    }

    fn stream(&mut self) -> io::Result<&mut Io> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Looks for a head in what has come, and hands it out.
    fn sift(&mut self) {
        match head::look(&self.unseen, self.limits.size) {
            Look::Partial => {}
            Look::Refuse { status, why } => self.refuse(status, why),
            Look::Complete(head) if !is_target(&head) => {
                self.refuse(
                    400,
                    "the request target is no path: percent-encode what is not a letter, a digit or one of -._~!$&'()*+,;=:@/?",
                );
            }
            Look::Complete(head) => {
                self.unseen.advance(head.length);
                if let Err(barred) = self.identify(&head) {
                    return self.refuse(barred.status(), barred.sentence());
                }
                self.holds_body = head.body != Body::None;
                self.slot.following.set(Following { body: head.body, expects_continue: head.expects_continue });
                self.hand_out(&head.text, self.holds_body);
            }
        }
    }

    fn hand_out(&mut self, head: &[u8], last: bool) {
        self.seen.extend_from_slice(head);
        self.last = last;
        self.head_deadline = None;
        self.slot.turn.set(Turn::Serving);
        if let Some(arrived) = self.arrived.take() {
            self.slot.began.set(arrived);
        }
        if self.holds_body {
            // Whoever takes the connection over gets what has come.
        } else if last {
            self.unseen = BytesMut::new();
        } else if !self.unseen.is_empty() {
            self.arrived = Some(self.clock.now());
        }
    }

    /// Lets the framework answer a refusal.
    fn refuse(&mut self, status: u16, why: &'static str) {
        self.slot.refusal.set(Some((status, why)));
        self.hand_out(format!("GET {REFUSED_PATH} HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n").as_bytes(), true);
    }

    /// Reads some bytes, at most `most`; none: the peer has ended its side.
    fn poll_take(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let mut scratch = [0_u8; READ_AT_ONCE];
        let mut read = ReadBuf::new(&mut scratch[..most.min(READ_AT_ONCE)]);
        ready!(Pin::new(self.stream()?).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            self.slot.hang_up();
        } else if self.holds_body {
            self.unseen.extend_from_slice(read.filled());
        } else if !self.last {
            let clock = self.clock;
            self.arrived.get_or_insert_with(|| clock.now());
            self.unseen.extend_from_slice(read.filled());
        }
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Bytes of heads, or of a body, that may still be held. One more than the largest head has is enough to know that it is too large.
    fn room(&self) -> usize {
        if self.last && !self.holds_body { READ_AT_ONCE } else { (self.limits.size + 1).saturating_sub(self.unseen.len()) }
    }

    /// Somebody is being answered: nothing is handed out, but a hang-up or a reset is noticed.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reader = Some(cx.waker().clone());
        while !self.slot.has_hung_up() && self.room() > 0 {
            ready!(self.poll_take(cx, self.room()))?;
        }
        Poll::Pending
    }

    /// The hand-over. What the framework has written so far, and the socket, go to a shard.
    fn embark(&mut self) -> io::Result<()> {
        let (Some(stream), Some(berth)) = (self.stream.take(), self.slot.berth.take()) else {
            return Ok(());
        };
        head::say_close(&mut self.captured);
        let ticket = match berth {
            Berth::Listener(ticket) => ticket,
            Berth::Publisher(take) => {
                let (answer, begun) = (std::mem::take(&mut self.captured), std::mem::take(&mut self.unseen));
                let hold = self.take_hold(); // a request's that a proxy has passed on, or the guest's own
                if let Some(mut guest) = self.guest.take() {
                    guest.hold = hold;
                    take(Departing { io: stream, answer, begun, guest });
                }
                return Ok(());
            }
        };
        let wire = match stream {
            Io::Tcp(stream) => Socket::new(stream.into_std()?)?,
            Io::Unix(stream) => Socket::new(stream.into_std()?)?,
            Io::Tls(stream) => {
                let (stream, session) = tls::part(*stream, self.slot.has_hung_up())?;
                Socket::with_tls(stream, session)?
            }
        };
        let mut seat = ticket.seat;
        seat.hold(self.take_hold());
        ticket.permit.send(Command::Join(Box::new(Arrival {
            wire,
            broadcast: ticket.broadcast,
            head: std::mem::take(&mut self.captured).into(),
            wish: ticket.wish,
            placed: ticket.placed,
            inlay: ticket.inlay,
            id: ticket.id,
            peer: self.slot.peer.get(),
            user_agent: ticket.user_agent,
            pass: ticket.pass,
            trail: ticket.trail,
            intro: ticket.intro,
            accepted: self.slot.began.get(),
            seat,
        })));
        Ok(())
    }
}

/// Whether the framework can make something of the request target; it would refuse others without a word.
fn is_target(head: &Head) -> bool {
    Uri::try_from(&head.text[head.target.clone()]).is_ok()
}

impl AsyncRead for Hull {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let hull = &mut *self;
        loop {
            if hull.slot.armed.get() || hull.stream.is_none() {
                return Poll::Pending; // what else the peer sends is the engine's to discard
            }
            if !hull.seen.is_empty() {
                let count = hull.seen.len().min(buf.remaining());
                buf.put_slice(&hull.seen[..count]);
                hull.seen.advance(count);
                return Poll::Ready(Ok(()));
            }
            if hull.slot.turn.get() != Turn::Idle {
                return hull.poll_listen(cx);
            }
            if hull.last {
                return Poll::Ready(Ok(())); // the answer said close: this is the end of file
            }
            if !hull.unseen.is_empty() {
                hull.sift();
                if !hull.seen.is_empty() {
                    continue;
                }
            }
            if hull.slot.has_hung_up() {
                return Poll::Ready(Ok(()));
            }
            if (hull.head_deadline.is_some() || !hull.unseen.is_empty()) && is_over(&mut hull.head_deadline, hull.limits.timeout, cx) {
                if hull.unseen.is_empty() {
                    return Poll::Ready(Ok(())); // nothing was ever asked
                }
                hull.refuse(408, "the request head took too long");
                continue;
            }
            ready!(hull.poll_take(cx, hull.room().max(1)))?;
        }
    }
}

impl AsyncWrite for Hull {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let hull = &mut *self;
        if hull.slot.armed.get() {
            if hull.captured.len() + buf.len() > CAPTURED_MOST {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            hull.captured.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(hull.stream()?).poll_write(cx, buf);
        // Not begun anew by each few bytes that are taken, but by all that was to be written (`poll_flush`).
        if written.is_pending() && is_over(&mut hull.write_deadline, hull.limits.timeout, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into())); // an answer that nobody takes
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let hull = &mut *self;
        if hull.slot.armed.get() {
            hull.embark()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match Pin::new(hull.stream()?).poll_flush(cx) {
            Poll::Ready(flushed) => flushed?,
            // Only what TLS has sealed can wait here.
            Poll::Pending if is_over(&mut hull.write_deadline, hull.limits.timeout, cx) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => return Poll::Pending,
        }
        hull.write_deadline = None;
        // The framework flushes when it has written all that it has: a complete answer is now out.
        if hull.slot.turn.get() == Turn::Answered {
            hull.slot.turn.set(Turn::Idle);
            if let Some(reader) = hull.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let hull = &mut *self;
        if hull.stream.is_none() {
            return Poll::Ready(Ok(()));
        }
        if hull.farewell.is_none() {
            match Pin::new(hull.stream()?).poll_shutdown(cx) {
                Poll::Ready(done) => done?,
                Poll::Pending if is_over(&mut hull.write_deadline, hull.limits.timeout, cx) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        (hull.last, hull.holds_body) = (true, false); // nobody wants the rest
        hull.unseen = BytesMut::new();
        while !is_over(&mut hull.farewell, FAREWELL, cx) {
            if ready!(hull.poll_take(cx, READ_AT_ONCE))? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
