//! A pretend connection: a bounded send buffer that a peer empties at its own pace, or not at all.
//!
//! One that encrypts takes as much as makes a record, and holds what the buffer has no room for.
//! It behaves as a socket does under edge-triggered epoll, no better: room is reported once, and only after a send found none;
//! what the peer does (sends something, closes its side, breaks off) is reported once. Time is the world's clock.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;

use super::super::broadcast::Rules;
use super::super::shard::{Readiness, Token, Watch};
use super::super::socket::{Discarded, Wire};
use super::ear::Ear;

/// How a peer takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// At once: its buffer is always empty.
    AtOnce,
    /// So many bytes a second.
    Rate(u64),
    /// Not at all.
    Nothing,
}

/// Bytes taken from the peer in one call.
const READ_AT_ONCE: u32 = 16 * 1024;

/// The world's side of a connection.
pub(crate) struct Line {
    clock: Rc<Cell<u64>>,
    capacity: u64,
    pull: Pull,
    queued: u64,
    /// What it takes at once and may hold, like a connection that encrypts; 0 for one that does not.
    pub(crate) record: u64,
    /// Taken, and not yet in the buffer.
    pub(crate) held: u64,
    /// Up to when the peer's taking is accounted for, and the byte-nanoseconds left over.
    settled: u64,
    left_over: u128,
    /// A send found no room, and nobody has been told since that there is some.
    starved: bool,
    /// Something else is to be reported.
    news: bool,
    token: Option<Token>,
    unread: u32,
    half_closed: bool,
    reset: bool,
    /// The engine has not closed it.
    pub(crate) open: bool,
    /// Calls to send.
    pub(crate) sends: u64,
    /// Times that a send found no room.
    pub(crate) refusals: u64,
    /// What the peer makes of the bytes.
    pub(crate) ear: Ear,
}

impl Line {
    pub(crate) fn new(clock: &Rc<Cell<u64>>, capacity: u64, pull: Pull, ear: Ear) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            clock: Rc::clone(clock),
            capacity: capacity.max(1),
            pull,
            queued: 0,
            record: 0,
            held: 0,
            settled: clock.get(),
            left_over: 0,
            starved: false,
            news: false,
            token: None,
            unread: 0,
            half_closed: false,
            reset: false,
            open: true,
            sends: 0,
            refusals: 0,
            ear,
        }))
    }

    /// Accounts for what the peer has taken until now.
    fn settle(&mut self) {
        let now = self.clock.get();
        match self.pull {
            Pull::AtOnce => self.queued = 0,
            Pull::Nothing => {}
            Pull::Rate(rate) => {
                self.left_over += u128::from(now - self.settled) * u128::from(rate);
                let taken = (self.left_over / 1_000_000_000) as u64;
                self.left_over %= 1_000_000_000;
                self.queued = self.queued.saturating_sub(taken);
            }
        }
        self.settled = now;
    }

    /// Room at which a socket is reported writable: a third of the buffer, as in Linux.
    fn worth_reporting(&self) -> u64 {
        (self.capacity / 3).max(1)
    }

    fn room(&self) -> u64 {
        self.capacity - self.queued
    }

    /// What is held goes into the buffer, as far as there is room. Returns how much went.
    fn pass_on(&mut self) -> u64 {
        let moved = self.room().min(self.held);
        self.queued += moved;
        self.held -= moved;
        if self.held > 0 {
            self.starved = true;
            self.refusals += 1;
        }
        moved
    }

    /// From now on the peer takes at this pace.
    pub(crate) fn set_pull(&mut self, pull: Pull) {
        self.settle();
        self.pull = pull;
    }

    /// The peer sends us something nobody asked for.
    pub(crate) fn rubbish(&mut self, bytes: u32) {
        self.unread += bytes;
        self.news = true;
    }

    /// The peer shuts down its sending side.
    pub(crate) fn half_close(&mut self) {
        self.half_closed = true;
        self.news = true;
    }

    /// The connection breaks.
    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.news = true;
    }

    /// When epoll has something to say about it.
    pub(crate) fn next_event(&mut self) -> Option<u64> {
        if !self.open || self.token.is_none() {
            return None;
        }
        if self.news {
            return Some(self.clock.get());
        }
        if !self.starved {
            return None;
        }
        self.settle();
        let wanted = self.worth_reporting().saturating_sub(self.room());
        match self.pull {
            _ if wanted == 0 => Some(self.settled),
            Pull::Rate(rate) if rate > 0 => {
                let nanos = (u128::from(wanted) * 1_000_000_000 - self.left_over).div_ceil(u128::from(rate));
                Some(self.settled.saturating_add(nanos as u64))
            }
            _ => None,
        }
    }

    /// What epoll has to say now, once.
    pub(crate) fn take_event(&mut self) -> Option<(Token, Readiness)> {
        if !self.open {
            return None;
        }
        self.settle();
        let room = self.room() >= self.worth_reporting();
        let (news, room_again) = (std::mem::take(&mut self.news), self.starved && room);
        if room_again {
            self.starved = false;
        }
        if !news && !room_again {
            return None;
        }
        let readable = self.unread > 0 || self.half_closed || self.reset;
        Some((self.token?, Readiness { writable: room, readable: news && readable, broken: self.reset }))
    }
}

/// The engine's side of a connection.
pub(crate) struct Pipe(pub(crate) Rc<RefCell<Line>>);

impl Wire for Pipe {
    fn prepare(&mut self, _: &Rules) -> io::Result<()> {
        Ok(())
    }

    fn set_send_buffer(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn give_up(&mut self) {}

    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        line.sends += 1;
        if line.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        line.settle();
        let shown: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(shown > 0 || line.held > 0, "a send of nothing");
        let moved = line.pass_on();
        if line.held > 0 || shown == 0 {
            return if moved > 0 { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let room = if line.record > 0 { line.record } else { line.room() };
        let taken = room.min(shown as u64) as usize;
        if taken == 0 {
            line.starved = true;
            line.refusals += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.held = taken as u64;
        line.pass_on();
        let mut left = taken;
        for slice in slices {
            let part = &slice[..left.min(slice.len())];
            line.ear.hear(part, line.settled);
            left -= part.len();
        }
        Ok(taken)
    }

    fn holds(&self) -> bool {
        self.0.borrow().held > 0
    }

    fn discard(&mut self) -> io::Result<Discarded> {
        let line = &mut *self.0.borrow_mut();
        if line.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let taken = line.unread.min(READ_AT_ONCE);
        line.unread -= taken;
        Ok(match () {
            () if taken == READ_AT_ONCE => Discarded::More(taken),
            () if line.half_closed => Discarded::Closed,
            () => Discarded::Dry(taken),
        })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.borrow_mut().open = false;
    }
}

/// The pretend epoll instance: a connection carries its own token.
pub(crate) struct Epoll;

impl Watch<Pipe> for Epoll {
    fn watch(&mut self, wire: &mut Pipe, token: Token) -> io::Result<()> {
        let mut line = wire.0.borrow_mut();
        line.token = Some(token);
        line.news = true; // as epoll does: a socket with room is reported right after it is added
        Ok(())
    }
}
