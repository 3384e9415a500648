//! Accepting: one thread for every listening socket.
//!
//! - A full house is answered, not ignored: beyond `max_connections` a connection gets a 503 and is closed.
//! - Out of descriptors, it spends the one it keeps in reserve on telling the newcomer so, waits, and never spins.
//! - HTTP connections go to the workers in turn, through bounded queues; raw ones go straight to whoever asked for them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use actix_web::http::header::HttpDate;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::ListenAddress;
use super::bound::{Accepted, Bound, Lent, Purpose};
use super::patrol::{Barred, Patrol, Pressure};
use super::proxied::Outcome;
use super::tls::{Handshake, Port};
use crate::engine::admission::Hold;
use crate::engine::broadcast::Peer;
use crate::engine::crew::Clock;
use crate::engine::socket::Socket;
use crate::fanout::stats::{add, read};
use crate::handover;
use crate::units::Moment;

/// Connections taken from one socket before the others get their turn.
const ACCEPTS_AT_ONCE: usize = 256;
/// How long to leave a socket alone after the system refused us a descriptor or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long to leave newcomers in the kernel's queue when every worker's is full.
const WORKERS_BUSY: Duration = Duration::from_millis(1);
/// Connections that may wait for one worker.
pub(super) const WORKER_QUEUE: usize = 1024;

/// Seconds after which somebody who found no room should ask again, give or take a half.
const RETRY_AFTER: f64 = 10.0;
const SERVER: &str = concat!("flumen/", env!("CARGO_PKG_VERSION"));

const WAKE: Token = Token(usize::MAX);

/// Why accepting failed. Closed, for it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// No descriptor left, in the process or in the system, or so few that they are kept for those inside.
    Descriptors,
    /// No memory left in the kernel, or so little in the process that it is kept for those inside.
    Memory,
    /// `max_connections` was reached.
    Connections,
    /// `max_connections_per_address` was reached.
    Address,
    /// No worker was left.
    Workers,
    /// The peer was gone again, and anything else.
    Other,
}

impl AcceptError {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 6] = [Self::Descriptors, Self::Memory, Self::Connections, Self::Address, Self::Workers, Self::Other];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Workers => "workers",
            Self::Other => "other",
        }
    }
}

/// What the door counts.
#[derive(Debug, Default)]
pub struct DoorCounters {
    /// Connections that were asked what they want, so far.
    pub accepted: AtomicU64,
    /// Connections that are being asked what they want.
    pub guests: AtomicU64,
    /// Failures, in the order of [`AcceptError::ALL`].
    pub errors: [AtomicU64; AcceptError::ALL.len()],
    /// TLS handshakes, in the order of [`Handshake::ALL`].
    pub handshakes: [AtomicU64; Handshake::ALL.len()],
    /// PROXY headers, in the order of [`Outcome::ALL`].
    pub headers: [AtomicU64; Outcome::ALL.len()],
}

impl DoorCounters {
    /// As plain data.
    pub fn pack(&self) -> handover::Door {
        let errors = AcceptError::ALL.iter().zip(&self.errors).map(|(why, count)| (why.label().to_owned(), read(count)));
        let handshakes = Handshake::ALL.iter().zip(&self.handshakes).map(|(how, count)| (how.label().to_owned(), read(count)));
        let headers = Outcome::ALL.iter().zip(&self.headers).map(|(how, count)| (how.label().to_owned(), read(count)));
        handover::Door {
            accepted: read(&self.accepted),
            errors: errors.collect(),
            handshakes: handshakes.collect(),
            headers: headers.collect(),
        }
    }

    /// Goes on counting where another process stopped.
    pub fn absorb(&self, packed: &handover::Door) {
        let of = |words: &handover::Words, word: &str| words.get(word).copied().unwrap_or(0);
        add(&self.accepted, packed.accepted);
        AcceptError::ALL.iter().zip(&self.errors).for_each(|(why, count)| add(count, of(&packed.errors, why.label())));
        Handshake::ALL.iter().zip(&self.handshakes).for_each(|(how, count)| add(count, of(&packed.handshakes, how.label())));
        Outcome::ALL.iter().zip(&self.headers).for_each(|(how, count)| add(count, of(&packed.headers, how.label())));
    }

    pub(super) fn fail(&self, why: AcceptError) {
        add(&self.errors[why as usize], 1);
    }
}

/// Counts a connection until dropped.
#[derive(Debug)]
pub struct Guest {
    counters: Arc<DoorCounters>,
    /// Which of all connections it is that were asked what they want. A process that takes over counts on.
    number: u64,
    /// Counts it as one of its address.
    pub(super) hold: Option<Hold>,
}

impl Guest {
    fn new(counters: &Arc<DoorCounters>, hold: Option<Hold>) -> Self {
        add(&counters.guests, 1);
        let number = counters.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Self { counters: Arc::clone(counters), number, hold }
    }
}

impl Guest {
    /// A connection that another process has accepted and counted. Whoever would not be let in now stays all the same.
    pub fn resumed(counters: &Arc<DoorCounters>, patrol: &Patrol, (peer, number): (Peer, u64)) -> Self {
        add(&counters.guests, 1);
        Self { counters: Arc::clone(counters), number, hold: patrol.admit(peer).ok().flatten() }
    }
}

impl Guest {
    /// By which number logs name the connection.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.counters.guests.fetch_sub(1, Ordering::Relaxed);
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
    /// It came to a socket for encoders that do not speak HTTP.
    pub(super) shoutcast: bool,
    /// How its socket speaks TLS, if it does.
    pub(super) tls: Option<Arc<Port>>,
    /// It begins with a PROXY header, which says whether it is let in.
    pub(super) proxied: bool,
    pub(super) guest: Guest,
}

/// What the accepting thread is told while it runs.
pub(super) enum Order {
    /// Accepts here as well.
    Open(Bound),
    /// Accepts here no more; whoever has come already is taken in first.
    Close(ListenAddress),
    /// Connections to this address become something else, and begin with a PROXY header or not.
    Repurpose(ListenAddress, Purpose, bool),
    /// The most connections of every kind.
    Limit(u64),
    /// Accepts nobody, until told to resume; whoever comes waits in the kernel's queue. Answered with the sockets.
    Lend(mpsc::Sender<io::Result<Vec<Lent>>>),
    /// Accepts again.
    Resume,
    /// Another process has the sockets: what belongs to them in the file system is its.
    Bequeath,
}

/// The accepting thread's end of things.
pub(super) struct Acceptor {
    pub(super) bound: Vec<Bound>,
    /// Orders; given before the waker is called.
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) workers: Vec<tokio::sync::mpsc::Sender<Connection>>,
    pub(super) counters: Arc<DoorCounters>,
    /// Listeners served by the engine now; they count as connections.
    pub(super) seated: Box<dyn Fn() -> u64 + Send>,
    pub(super) max_connections: u64,
    pub(super) patrol: Arc<Patrol>,
    pub(super) clock: Clock,
    /// Nobody is accepted at present.
    pub(super) lent: bool,
}

impl Acceptor {
    /// Accepts until `stop` says so (and the waker is called).
    pub(super) fn run(mut self, mut poll: Poll, stop: &std::sync::atomic::AtomicBool) {
        let mut reserve = reserve();
        (0..self.bound.len()).for_each(|i| self.watch(&poll, i));
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
            let stopped = stop.load(Ordering::Acquire); // and then orders given before that
            for event in &events {
                if let Some(bound) = self.bound.get_mut(event.token().0) {
                    bound.more = true;
                }
            }
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order, &poll, &mut next_worker, &mut reserve);
            }
            if stopped {
                return;
            }
            timeout = None;
            for i in 0..self.bound.len() {
                if self.bound[i].more && !self.lent {
                    let wait = self.accept_some(i, &mut next_worker, &mut reserve);
                    timeout = timeout.into_iter().chain(wait).min();
                }
            }
        }
    }

    fn watch(&mut self, poll: &Poll, i: usize) {
        let bound = &mut self.bound[i];
        bound.more = true; // whoever came before we watched
        if let Err(error) = poll.registry().register(&mut SourceFd(&bound.fd.as_raw_fd()), Token(i), Interest::READABLE) {
            tracing::error!(%error, address = %bound.address(), "cannot watch a listening socket");
        }
    }

    fn obey(&mut self, order: Order, poll: &Poll, next_worker: &mut usize, reserve: &mut Option<OwnedFd>) {
        match order {
            Order::Open(bound) => {
                self.bound.push(bound);
                self.watch(poll, self.bound.len() - 1);
            }
            Order::Close(address) => {
                let Some(i) = self.bound.iter().position(|bound| *bound.address() == address) else { return };
                self.accept_some(i, next_worker, reserve);
                drop(self.bound.swap_remove(i)); // closed, it is watched no more
                if let Some(moved) = self.bound.get(i) {
                    let raw = moved.fd.as_raw_fd();
                    if let Err(error) = poll.registry().reregister(&mut SourceFd(&raw), Token(i), Interest::READABLE) {
                        tracing::error!(%error, address = %moved.address(), "cannot watch a listening socket");
                    }
                }
            }
            Order::Repurpose(address, purpose, proxied) => {
                if let Some(bound) = self.bound.iter_mut().find(|bound| *bound.address() == address) {
                    (bound.purpose, bound.proxied) = (purpose, proxied);
                }
            }
            Order::Limit(most) => self.max_connections = most,
            Order::Lend(reply) => {
                self.lent = true;
                let lent = Bound::lend;
                let _ = reply.send(self.bound.iter().map(lent).collect()); // who does not wait any more says resume
            }
            Order::Resume => {
                self.lent = false;
                self.bound.iter_mut().for_each(|bound| bound.more = true);
            }
            Order::Bequeath => self.bound.iter_mut().for_each(Bound::bequeath),
        }
    }

    /// Accepts a bounded number. Returns when to come back, if there may be more.
    fn accept_some(&mut self, i: usize, next_worker: &mut usize, reserve: &mut Option<OwnedFd>) -> Option<Duration> {
        for _ in 0..ACCEPTS_AT_ONCE {
            // Nobody else fills the workers' queues: what has room now will have it in a moment.
            if !matches!(self.bound[i].purpose, Purpose::Raw(_))
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
        let (purpose, proxied) = (&self.bound[i].purpose, self.bound[i].proxied);
        let shortage = if connections >= self.max_connections {
            Some(AcceptError::Connections)
        } else if is_among_the_last(&stream) {
            Some(AcceptError::Descriptors)
        } else {
            (self.patrol.pressure() == Pressure::Everybody).then_some(AcceptError::Memory)
        };
        if let Some(why) = shortage {
            self.counters.fail(why);
            return turn_away(stream, purpose, NO_ROOM, 503);
        }
        // Who is behind a proxy is asked about when it has said so.
        let hold = match if proxied { Ok(None) } else { self.patrol.admit(peer) } {
            Ok(hold) => hold,
            Err(barred) => {
                if barred == Barred::Crowded {
                    self.counters.fail(AcceptError::Address);
                }
                return turn_away(stream, purpose, barred.sentence(), barred.status());
            }
        };
        match purpose {
            Purpose::Raw(take) => match Socket::new(stream) {
                Ok(socket) => take(socket, peer, accepted, hold),
                Err(_) => self.counters.fail(AcceptError::Other),
            },
            Purpose::Http | Purpose::Https(_) | Purpose::Shoutcast => {
                let (local, tls, shoutcast) = (stream.local_address(), purpose.tls().cloned(), matches!(purpose, Purpose::Shoutcast));
                let guest = Guest::new(&self.counters, hold);
                let mut connection = Connection { stream, peer, local, accepted, shoutcast, tls, proxied, guest };
                for _ in 0..self.workers.len() {
                    *next_worker = (*next_worker + 1) % self.workers.len();
                    match self.workers[*next_worker].try_send(connection) {
                        Ok(()) => return,
                        Err(error) => connection = error.into_inner(),
                    }
                }
                self.counters.fail(AcceptError::Workers);
                turn_away(connection.stream, purpose, NO_ROOM, 503);
            }
        }
    }

    /// Out of descriptors: the reserved one is spent on an answer.
    fn apologise(&self, i: usize, reserved: &mut Option<OwnedFd>) {
        drop(reserved.take());
        if let Ok((stream, ..)) = self.bound[i].accept(self.clock) {
            turn_away(stream, &self.bound[i].purpose, NO_ROOM, 503);
        }
        *reserved = reserve();
    }
}

fn reserve() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

/// The most descriptors that are kept for those inside: relays, encoders, logs, a reload.
const DESCRIPTORS_KEPT: u64 = 64;

/// Whether a connection has one of the last descriptors. The kernel gives the lowest number that is free.
fn is_among_the_last(stream: &Accepted) -> bool {
    let number = match stream {
        Accepted::Tcp(stream) => stream.as_raw_fd(),
        Accepted::Unix(stream) => stream.as_raw_fd(),
    };
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    u64::try_from(number).is_ok_and(|number| number >= most - DESCRIPTORS_KEPT.min(most / 16))
}

const NO_ROOM: &str = "The server has no room for a connection.";

/// Answers why somebody is turned away, if that can be done without waiting, and closes.
fn turn_away(stream: Accepted, purpose: &Purpose, why: &str, status: u16) {
    if !purpose.is_plain() {
        return; // bytes of a stream or nothing; and no handshake for this
    }
    let answer = turned_away(why, status, fastrand::f64(), SystemTime::now());
    // A socket that was just accepted has room for this; if not, closing says it too.
    let _ = match stream {
        Accepted::Tcp(mut stream) => stream.write_all(answer.as_bytes()).and_then(|()| stream.shutdown(std::net::Shutdown::Write)),
        Accepted::Unix(mut stream) => stream.write_all(answer.as_bytes()).and_then(|()| stream.shutdown(std::net::Shutdown::Write)),
    };
}

/// The answer to a connection that is not taken in; `jitter` is 0 to 1, lest all come back at once.
fn turned_away(why: &str, status: u16, jitter: f64, now: SystemTime) -> String {
    let (line, again) = if status == 503 {
        ("503 Service Unavailable", format!("Retry-After: {}\r\n", (RETRY_AFTER * (0.5 + jitter)) as u64))
    } else {
        ("403 Forbidden", String::new())
    };
    format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{again}\
         Server: {SERVER}\r\nDate: {}\r\nConnection: close\r\n\r\n{why}\n",
        why.len() + 1,
        HttpDate::from(now),
    )
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
    fn who_finds_no_room_is_told_when_to_come_back() {
        for (jitter, seconds) in [(0.0, 5), (0.999, 14)] {
            let answer = turned_away(NO_ROOM, 503, jitter, SystemTime::UNIX_EPOCH);
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            for line in
                [&format!("Retry-After: {seconds}"), &format!("Content-Length: {}", body.len()), "Date: Thu, 01 Jan 1970 00:00:00 GMT"]
            {
                assert!(head.lines().any(|found| found == line), "{line}: {head}");
            }
            assert!(head.contains("Server: flumen/"), "{head}");
        }
    }
}
