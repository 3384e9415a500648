//! The shards' threads: epoll, the clock, and who gets which newcomer.
//!
//! Sockets are watched edge-triggered and once for all: the kernel reports room only after a send found none, so a listener
//! that keeps up costs no events at all.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Waker};

use super::alarm::Alarm;
use super::audience::Place;
use super::counters::ShardCounters;
use super::frost::{Frost, NotFrozen};
use super::inbox::{Command, Inbox, Permit};
use super::shard::{Next, Readiness, Shard, Token, Watch};
use super::socket::Socket;
use crate::units::Moment;

/// Events taken from the kernel at once.
const EVENTS_PER_POLL: usize = 1024;
/// The waker's token: no listener has it, for its mount number is out of reach.
const WAKE: mio::Token = mio::Token(usize::MAX);

/// The clock of the process: moments since it was first asked.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// The clock of a process that is so old.
    pub fn running_since(age: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_sub(age).unwrap_or(now))
    }

    /// Now.
    pub fn now(self) -> Moment {
        Moment::from_nanos(crate::units::nanos(self.0.elapsed()))
    }
}

/// One shard as others see it.
#[derive(Debug)]
pub struct Hand {
    /// Where it is told things.
    pub inbox: Arc<Inbox<Socket>>,
    /// How it is woken.
    pub alarm: Alarm,
    /// What it counts.
    pub counters: Arc<ShardCounters>,
}

/// All shards.
#[derive(Debug)]
pub struct Crew {
    hands: Vec<Hand>,
    next: AtomicUsize,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
    clock: Clock,
}

impl Crew {
    /// Starts so many shards.
    ///
    /// # Errors
    /// When the system has no epoll instance or thread left.
    pub fn start(shards: usize, clock: Clock) -> io::Result<Arc<Self>> {
        let mut hands = Vec::with_capacity(shards);
        let mut threads = Vec::with_capacity(shards);
        for index in 0..shards {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            let alarm = Alarm::new(move || {
                // It fails only if the shard is gone, and then there is nobody to wake.
                let _ = waker.wake();
            });
            let inbox = Inbox::new(alarm.clone());
            let counters = Arc::new(ShardCounters::default());
            let (theirs, counted) = (Arc::clone(&inbox), Arc::clone(&counters));
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || keep_running(index, poll, &theirs, &counted, clock))?;
            threads.push(thread);
            hands.push(Hand { inbox, alarm, counters });
        }
        Ok(Arc::new(Self { hands, next: AtomicUsize::new(0), threads: std::sync::Mutex::new(threads), clock }))
    }

    /// Lets every shard stand still, and takes what it has in its hands.
    ///
    /// # Errors
    /// When one does not within this time. Then all go on.
    pub fn freeze(&self, most: Duration) -> Result<Frost<Socket>, NotFrozen> {
        Frost::of(self.hands.iter().map(|hand| &hand.inbox), most)
    }

    /// The clock that shards go by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Every shard.
    pub fn hands(&self) -> &[Hand] {
        &self.hands
    }

    /// The shards' alarms, in order.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.hands.iter().map(|hand| hand.alarm.clone()).collect()
    }

    /// A place in the inbox of the shard whose turn it is, or of any other that has one.
    pub fn reserve(&self) -> Option<Permit<Socket>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.hands.len()).find_map(|i| self.hands[(first + i) % self.hands.len()].inbox.reserve())
    }

    /// Tells every shard.
    pub fn tell_all(&self, command: impl Fn() -> Command<Socket>) {
        for hand in &self.hands {
            if !hand.inbox.tell(command()) {
                tracing::error!("a shard's inbox is full; an order was lost");
            }
        }
    }

    /// Ends the threads and waits for them. Whoever still listens is dropped.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (hand, thread) in self.hands.iter().zip(threads) {
            while !hand.inbox.tell(Command::Quit) && !thread.is_finished() {
                std::thread::sleep(Duration::from_millis(1)); // a full inbox is being emptied
            }
            let _ = thread.join(); // a panic there has been reported there
        }
    }
}

/// Packs a token into the 64 bits that epoll carries: 16 bits mount, 16 bits generation, 32 bits place.
fn pack(token: Token) -> mio::Token {
    mio::Token(token.slot << 48 | usize::from(token.place.generation) << 32 | token.place.index as usize)
}

fn unpack(token: mio::Token) -> Token {
    Token { slot: token.0 >> 48, place: Place { generation: (token.0 >> 32) as u16, index: token.0 as u32 } }
}

struct Epoll<'a>(&'a Registry);

impl Watch<Socket> for Epoll<'_> {
    fn watch(&mut self, wire: &mut Socket, token: Token) -> io::Result<()> {
        self.0.register(&mut SourceFd(&wire.raw()), pack(token), Interest::READABLE | Interest::WRITABLE)
    }

    fn rewatch(&mut self, wire: &mut Socket, token: Token) -> io::Result<()> {
        self.0.reregister(&mut SourceFd(&wire.raw()), pack(token), Interest::READABLE | Interest::WRITABLE)
    }

    fn unwatch(&mut self, wire: &mut Socket) {
        // Closing does not do it: another process has the connection as well.
        let _ = self.0.deregister(&mut SourceFd(&wire.raw()));
    }
}

/// A panic costs the shard its listeners, each with its departure, and nobody else anything: it begins anew.
fn keep_running(index: usize, mut poll: Poll, inbox: &Inbox<Socket>, counters: &Arc<ShardCounters>, clock: Clock) {
    loop {
        let mut shard = Shard::new(index, Arc::clone(counters), clock.now());
        // What a panic may leave half done is thrown away with the shard.
        let ended = catch_unwind(AssertUnwindSafe(|| run(&mut shard, &mut poll, inbox, clock)));
        if ended.is_ok() {
            return;
        }
        tracing::error!(shard = index, "a shard panicked; it begins anew, without its listeners");
        let _ = catch_unwind(AssertUnwindSafe(|| shard.abandon(clock.now()))); // as far as it can still be counted
    }
}

fn run(shard: &mut Shard<Socket>, poll: &mut Poll, inbox: &Inbox<Socket>, clock: Clock) {
    let mut events = Events::with_capacity(EVENTS_PER_POLL);
    let mut timeout: Option<Duration> = None;
    loop {
        if let Err(error) = poll.poll(&mut events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "epoll failed; the shard ends");
            return;
        }
        let now = clock.now();
        for event in &events {
            if event.token() != WAKE {
                let readiness = Readiness {
                    writable: event.is_writable(),
                    readable: event.is_readable() || event.is_read_closed(),
                    broken: event.is_error() || event.is_write_closed(),
                };
                shard.event(unpack(event.token()), readiness, now);
            }
        }
        events.clear();
        match shard.turn(now, inbox, &mut Epoll(poll.registry())) {
            Next::Sleep(sleep) => timeout = sleep,
            Next::Quit => return,
        }
        let end = clock.now();
        shard.note(end.since(now), end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_epoll() {
        for (slot, generation, index) in [(0, 0, 0), (7, 9, 11), (65_534, u16::MAX, u32::MAX)] {
            let token = Token { slot, place: Place { index, generation } };
            assert_eq!(unpack(pack(token)), token);
            assert_ne!(pack(token), WAKE);
        }
    }
}
