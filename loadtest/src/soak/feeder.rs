//! A source of a soak: feeds one mount with numbered records, and dies, flaps, stalls and changes its streamheader by schedule.
//!
//! ```text
//!  Away ──connection──▶ a run: streamheader, records 0, 1, 2 … ──fault──▶ Away
//!                          ▲                                └─new header─┘ (the next run, same connection)
//! ```
//! - Every run is written into the mount's book before its first byte is sent, and marked when it has ended in order.
//! - Records are made at a steady rate while there is a connection; nothing is made up for after a stall.
//! - A thread of its own; it ends when it is told to, within a second or so, its last run in order.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use super::faults::{Fault, Faults};
use super::settings::Feed;
use crate::check::Book;
use crate::clock::Nanos;
use crate::schedule::due;
use crate::source::{Maker, Shape};

const TURN: Duration = Duration::from_millis(5);
const OUTBOX_MAX: usize = 4 << 20;
/// A server that does not take its source back in this time has given up. Its own waits may grow to half a minute.
const UNWANTED: Duration = Duration::from_secs(120);
/// Within this time after calling, a hang-up means that the server before its restart was called.
const CALLED_TOO_EARLY: Duration = Duration::from_secs(3);
/// How long a server may take to close after the stream's end; generous, for the machine may be slow.
const FAREWELL: Duration = Duration::from_secs(30);
const COMPLAINTS_KEPT: usize = 20;

/// What others may know of a source.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) records: AtomicU64,
    pub(crate) runs: AtomicU64,
    /// Runs that did not end in order: their last records may never have arrived.
    pub(crate) torn: AtomicU64,
    /// Since when it has been delivering, by the monotonic clock; 0: it is not.
    delivering_since: AtomicU64,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    complaints: Mutex<Vec<String>>,
}

impl Standing {
    pub(crate) fn delivering_for(&self, now: Nanos) -> Option<Duration> {
        let since = self.delivering_since.load(Ordering::Relaxed);
        (since > 0).then(|| now.since(Nanos(since)))
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the server did to it without a reason, since this was last asked.
    pub(crate) fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut *self.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn complain(&self, what: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_KEPT {
            complaints.push(what);
        }
    }

    fn note(&self, fault: Fault) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner).entry(fault.label()).or_default() += 1;
    }
}

/// The thread, and what it shares.
#[derive(Debug)]
pub(crate) struct Feeder {
    pub(crate) standing: Arc<Standing>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// `faults`: none for a source that never comes to harm.
    pub(crate) fn start(feed: Feed, shape: Shape, book: Arc<Book>, faults: Option<Faults>) -> anyhow::Result<Self> {
        let door = match feed {
            Feed::Listen(address) => {
                let door = TcpListener::bind(address).with_context(|| format!("cannot listen on {address} for the server's source"))?;
                door.set_nonblocking(true)?;
                Some(door)
            }
            Feed::Connect(_) => None,
        };
        let (standing, stop) = (Arc::new(Standing::default()), Arc::new(AtomicBool::new(false)));
        let mut source = Source { feed, door, shape, book, faults, standing: standing.clone(), stop: stop.clone(), flaps_left: 0 };
        let thread = thread::Builder::new().name("feeder".to_owned()).spawn(move || source.live())?;
        Ok(Self { standing, stop, thread: Some(thread) })
    }

    /// Ends its run in order and waits for the thread.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been told on stderr already.
            let _ = thread.join();
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Source {
    feed: Feed,
    door: Option<TcpListener>,
    shape: Shape,
    book: Arc<Book>,
    faults: Option<Faults>,
    standing: Arc<Standing>,
    stop: Arc<AtomicBool>,
    flaps_left: u32,
}

/// How a connection ended.
enum End {
    InOrder,
    TornOff,
    HungUp(io::Error),
}

impl Source {
    fn live(&mut self) {
        while let Some(socket) = self.connection() {
            let begun = Nanos::now();
            let mut runs = 0;
            let end = Pipe::new(socket).map_or_else(End::HungUp, |pipe| self.serve(pipe, &mut runs));
            self.standing.delivering_since.store(0, Ordering::Relaxed);
            match end {
                End::InOrder => {}
                End::TornOff => self.torn_off(runs),
                End::HungUp(why) => {
                    self.torn_off(runs);
                    let too_early = self.door.is_none() && Nanos::now().since(begun) < CALLED_TOO_EARLY;
                    if !too_early && !self.stopped() {
                        self.standing.complain(format!("{:?}: the server let go of a good source: {why}", self.feed));
                    }
                }
            }
            // Whoever calls must not reach the server that is still closing.
            self.sleep(Duration::from_millis(if self.door.is_none() { 400 } else { 50 }));
        }
    }

    fn torn_off(&self, runs: usize) {
        self.standing.torn.fetch_add(1, Ordering::Relaxed);
        self.book.torn_off(runs);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sleep(&self, length: Duration) {
        let end = Nanos::now().after(length);
        while Nanos::now() < end && !self.stopped() {
            thread::sleep(TURN);
        }
    }

    /// The next connection; `None` when it is time to stop.
    fn connection(&self) -> Option<TcpStream> {
        let mut patience = Nanos::now().after(UNWANTED);
        while !self.stopped() {
            let found = match (&self.door, self.feed) {
                (Some(door), _) => door.accept().map(|(socket, _)| socket),
                (None, Feed::Connect(address) | Feed::Listen(address)) => TcpStream::connect_timeout(&address, Duration::from_secs(1)),
            };
            if let Ok(socket) = found {
                return Some(socket);
            }
            if Nanos::now() > patience {
                self.standing.complain(format!("{:?}: not taken back for {UNWANTED:?}", self.feed));
                patience = Nanos::now().after(UNWANTED);
            }
            self.sleep(Duration::from_millis(if self.door.is_some() { 20 } else { 200 }));
        }
        None
    }

    fn begin_run(&self, pipe: &mut Pipe) -> Maker {
        let number = self.standing.runs.fetch_add(1, Ordering::Relaxed);
        // The clock never shows the same number twice to one thread; the low bits tell runs of one moment apart.
        let maker = Maker::new(&self.shape, Nanos::now().0.wrapping_add(number));
        self.book.begin(maker.about().as_bytes());
        pipe.outbox.extend(maker.preamble());
        self.standing.delivering_since.store(Nanos::now().0, Ordering::Relaxed);
        maker
    }

    fn next_fault(&mut self) -> Option<(Nanos, Fault)> {
        if self.flaps_left > 0 {
            self.flaps_left -= 1;
            return Some((Nanos::now().after(Duration::from_millis(200)), Fault::Die));
        }
        let (wait, fault) = self.faults.as_mut()?.draw();
        Some((Nanos::now().after(wait), fault))
    }

    /// Counts the runs it begins.
    fn serve(&mut self, mut pipe: Pipe, runs: &mut usize) -> End {
        let flapping = self.flaps_left > 0;
        let mut maker = self.begin_run(&mut pipe);
        *runs += 1;
        let mut fault = self.next_fault();
        let (mut origin, mut made, mut record) = (Nanos::now(), 0, Vec::new());
        loop {
            let now = Nanos::now();
            let wanted = due(now.since(origin), self.shape.records_per_second());
            for _ in made..wanted {
                record.clear();
                maker.record(Nanos::now(), &mut record);
                self.standing.records.fetch_add(1, Ordering::Relaxed);
                pipe.outbox.extend(&record);
            }
            made = wanted;
            if let Err(why) = pipe.flush() {
                return End::HungUp(why);
            }
            if self.stopped() {
                return self.end_in_order(pipe, &maker);
            }
            let Some((_, what)) = fault.filter(|(at, _)| *at <= now) else {
                thread::sleep(TURN);
                continue;
            };
            if !flapping {
                self.standing.note(what);
            }
            match what {
                Fault::Die => return self.end_in_order(pipe, &maker),
                Fault::Flap { times } => {
                    self.flaps_left = times;
                    return self.end_in_order(pipe, &maker);
                }
                Fault::TornOff => return pipe.tear_off(),
                Fault::NewHeader => {
                    self.book.ended_in_order(maker.next);
                    maker = self.begin_run(&mut pipe);
                    *runs += 1;
                }
                Fault::Stall(length) => {
                    self.standing.delivering_since.store(0, Ordering::Relaxed);
                    if let Err(why) = self.stall(&mut pipe, length) {
                        return End::HungUp(why);
                    }
                    self.standing.delivering_since.store(Nanos::now().0, Ordering::Relaxed);
                }
            }
            (origin, made) = (Nanos::now(), 0);
            fault = self.next_fault();
        }
    }

    fn stall(&self, pipe: &mut Pipe, length: Duration) -> io::Result<()> {
        let end = Nanos::now().after(length);
        while Nanos::now() < end && !self.stopped() {
            pipe.flush()?;
            thread::sleep(TURN);
        }
        Ok(())
    }

    /// Sends what is left, says that this was all, and waits until the server has closed too.
    fn end_in_order(&self, mut pipe: Pipe, maker: &Maker) -> End {
        self.standing.delivering_since.store(0, Ordering::Relaxed);
        let patience = Nanos::now().after(FAREWELL);
        let mut said = false;
        while Nanos::now() < patience {
            match pipe.flush() {
                Ok(()) if !pipe.outbox.is_empty() => {}
                Ok(()) if said => {}
                Ok(()) => match pipe.socket.shutdown(Shutdown::Write) {
                    Ok(()) => said = true,
                    Err(why) => return End::HungUp(why),
                },
                Err(_) if said => {
                    self.book.ended_in_order(maker.next);
                    return End::InOrder;
                }
                Err(why) => return End::HungUp(why),
            }
            thread::sleep(TURN);
        }
        self.standing.complain(format!("{:?}: the server did not close within {FAREWELL:?} of the stream's end", self.feed));
        End::TornOff
    }
}

/// A connection, and what is to be written to it.
struct Pipe {
    socket: TcpStream,
    outbox: VecDeque<u8>,
}

impl Pipe {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, outbox: VecDeque::new() })
    }

    /// Writes what can be written. An error, too, when the other side has closed or does not read.
    fn flush(&mut self) -> io::Result<()> {
        match self.socket.read(&mut [0; 512]) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "hung up")),
            Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        while !self.outbox.is_empty() {
            match self.socket.write(self.outbox.as_slices().0) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock && self.outbox.len() <= OUTBOX_MAX => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(io::Error::other("its source is not read")),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Closes so that the other side sees a reset.
    fn tear_off(self) -> End {
        // Where that cannot be set, it is an end all the same.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        End::TornOff
    }
}
