//! The `source` command: records at a steady rate to stdout, to a server, to an Icecast mount, or to everyone who connects.
//!
//! - A new receiver gets the streamheader, then records from the next keyframe on; from there every record once.
//! - A receiver that does not read is let go when its outbox is full: it never slows the others, nor the numbering.
//! - A record's time is taken when it is made; one that is late (a stopped process) is made late, not skipped.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::cli::SourceArgs;
use crate::clock::Nanos;
use crate::gdp::{self, FLAG_DELTA_UNIT, FLAG_HEADER, Timing};
use crate::lobby::Lobby;
use crate::net;
use crate::record::{Kind, Record, SHORTEST};
use crate::schedule::due;
use crate::units::ByteRate;

const RECEIVERS_MAX: usize = 64;
const OUTBOX_MAX: usize = 8 << 20;
/// Records made in a row before the outboxes are emptied.
const RECORDS_PER_TURN: u64 = 1024;
const TURN: Duration = Duration::from_millis(5);
/// How long the other side of `--connect` may take to be there.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a stream looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) gdp: bool,
    pub(crate) rate: ByteRate,
    pub(crate) record_size: u32,
    pub(crate) keyframe_every: u64,
}

impl Shape {
    pub(crate) fn records_per_second(&self) -> f64 {
        self.rate.0 / f64::from(self.record_size)
    }
}

/// Makes the stream's bytes. Pure but for the times that are handed in.
#[derive(Debug)]
pub(crate) struct Maker {
    run: u64,
    gdp: bool,
    keyframe_every: u64,
    payload: Vec<u8>,
    nanos_per_record: f64,
    /// The number of the next record: so many have been made.
    pub(crate) next: u64,
}

impl Maker {
    pub(crate) fn new(shape: &Shape, run: u64) -> Self {
        Self {
            run,
            gdp: shape.gdp,
            keyframe_every: shape.keyframe_every,
            payload: vec![0; shape.record_size as usize - SHORTEST],
            nanos_per_record: 1e9 / shape.records_per_second(),
            next: 0,
        }
    }

    /// What the streamheader says: which run this is.
    pub(crate) fn about(&self) -> String {
        format!("flumen-test run={:016x} keyframe-every={}", self.run, self.keyframe_every)
    }

    /// What a receiver gets first: the streamheader, in GDP behind stream-start, caps and segment.
    pub(crate) fn preamble(&self) -> Vec<u8> {
        let about = self.about();
        let mut header = Vec::new();
        Record { kind: Kind::Streamheader, sequence: 0, sent: Nanos(0), payload: about.as_bytes() }.encode(&mut header);
        if !self.gdp {
            return header;
        }
        let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
        let caps = format!("application/x-flumen-test, streamheader=(buffer)< {hex} >");
        let mut out = gdp::preamble(&format!("flumen-test-{:016x}", self.run), &caps);
        gdp::buffer(&mut out, &header, None, FLAG_HEADER);
        out
    }

    /// Appends the next record to `out` and says whether a receiver may begin with it.
    pub(crate) fn record(&mut self, sent: Nanos, out: &mut Vec<u8>) -> bool {
        let sequence = self.next;
        self.next += 1;
        let keyframe = sequence.is_multiple_of(self.keyframe_every);
        // Different in every record, cheap to make.
        let (head, fill) = (sequence.to_be_bytes(), sequence as u8);
        self.payload.fill(fill);
        let n = head.len().min(self.payload.len());
        self.payload[..n].copy_from_slice(&head[..n]);
        let record = Record { kind: if keyframe { Kind::Keyframe } else { Kind::Delta }, sequence, sent, payload: &self.payload };
        if self.gdp {
            let mut plain = Vec::with_capacity(SHORTEST + self.payload.len());
            record.encode(&mut plain);
            let pts = (sequence as f64 * self.nanos_per_record) as u64;
            let timing = Timing { pts, duration: self.nanos_per_record as u64 };
            gdp::buffer(out, &plain, Some(timing), if keyframe { 0 } else { FLAG_DELTA_UNIT });
        } else {
            record.encode(out);
        }
        keyframe
    }
}

/// Where the stream goes.
enum Outlet {
    Stdout { greeted: bool },
    Door { door: Door, receivers: Vec<Receiver> },
    Peer(Receiver),
}

/// Where receivers come in.
enum Door {
    Raw(TcpListener),
    /// With a request first, which is answered.
    Http(Box<Lobby>),
}

struct Receiver {
    socket: TcpStream,
    peer: SocketAddr,
    outbox: VecDeque<u8>,
    begun: bool,
}

pub(crate) fn run(args: &SourceArgs) -> anyhow::Result<()> {
    let started = Nanos::now();
    let shape = Shape { gdp: args.gdp, rate: args.rate, record_size: args.record_size, keyframe_every: args.keyframe_every };
    let mut maker = Maker::new(&shape, started.0);
    let mut outlet = Outlet::open(args)?;
    let end = started.after(args.duration);
    let per_second = shape.records_per_second();
    // A peer that had to be waited for gets no flood of records that were due in the meantime.
    let origin = Nanos::now();
    let mut record = Vec::new();
    while Nanos::now() < end {
        outlet.welcome(&maker)?;
        let wanted = due(Nanos::now().since(origin), per_second);
        for _ in maker.next..wanted.min(maker.next + RECORDS_PER_TURN) {
            record.clear();
            let keyframe = maker.record(Nanos::now(), &mut record);
            outlet.give(&record, keyframe, &maker)?;
        }
        if !outlet.flush()? {
            break;
        }
        if maker.next >= wanted {
            let next_due = Duration::from_secs_f64((maker.next + 1) as f64 / per_second);
            thread::sleep(next_due.saturating_sub(Nanos::now().since(origin)).min(TURN));
        }
    }
    Ok(())
}

impl Outlet {
    fn open(args: &SourceArgs) -> anyhow::Result<Self> {
        if let Some(address) = args.listen {
            let context = || format!("--listen {address}");
            let door = if args.serve_http {
                Door::Http(Box::new(Lobby::open(address, &args.content_type, "loadtest source").with_context(context)?))
            } else {
                let door = TcpListener::bind(address).with_context(context)?;
                door.set_nonblocking(true)?;
                Door::Raw(door)
            };
            return Ok(Self::Door { door, receivers: Vec::new() });
        }
        if let Some(mount) = &args.icecast {
            let address = mount.address();
            let socket = mount.open(&args.content_type, PATIENCE).with_context(|| format!("--icecast {address}"))?;
            return Ok(Self::Peer(Receiver::new(socket, address)?));
        }
        let Some(address) = args.connect else { return Ok(Self::Stdout { greeted: false }) };
        let socket = net::connect_patiently(address, PATIENCE).with_context(|| format!("--connect {address}"))?;
        Ok(Self::Peer(Receiver::new(socket, address)?))
    }

    /// Lets in who waits at the door.
    fn welcome(&mut self, maker: &Maker) -> io::Result<()> {
        match self {
            Self::Stdout { greeted: greeted @ false } => {
                *greeted = true;
                io::stdout().write_all(&maker.preamble())
            }
            Self::Stdout { .. } | Self::Peer(_) => Ok(()),
            Self::Door { door, receivers } => {
                while receivers.len() < RECEIVERS_MAX {
                    match door.next() {
                        Ok(newcomers) if newcomers.is_empty() => break,
                        Ok(newcomers) => receivers.extend(newcomers.into_iter().filter_map(Receiver::of)),
                        Err(e) => {
                            eprintln!("loadtest source: accept: {e}");
                            break;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn give(&mut self, record: &[u8], keyframe: bool, maker: &Maker) -> io::Result<()> {
        match self {
            Self::Stdout { .. } => io::stdout().write_all(record),
            Self::Peer(receiver) => {
                receiver.give(record, keyframe, maker);
                Ok(())
            }
            Self::Door { receivers, .. } => {
                receivers.iter_mut().for_each(|receiver| receiver.give(record, keyframe, maker));
                Ok(())
            }
        }
    }

    /// Sends what is waiting. `false` when there is nobody left to send to and nobody can come.
    fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Stdout { .. } => match io::stdout().flush() {
                Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
                other => other.map(|()| true),
            },
            Self::Peer(receiver) => Ok(receiver.flush()),
            Self::Door { receivers, .. } => {
                receivers.retain_mut(Receiver::flush);
                Ok(true)
            }
        }
    }
}

impl Door {
    /// Who has come since; nobody when that is all.
    fn next(&mut self) -> io::Result<Vec<TcpStream>> {
        match self {
            Self::Http(lobby) => lobby.turn(Duration::ZERO),
            Self::Raw(door) => match door.accept() {
                Ok((socket, _)) => Ok(vec![socket]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Vec::new()),
                Err(e) => Err(e),
            },
        }
    }
}

impl Receiver {
    /// `None` for one that is gone already.
    fn of(socket: TcpStream) -> Option<Self> {
        let peer = socket.peer_addr().ok()?;
        Self::new(socket, peer).ok()
    }

    fn new(socket: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, peer, outbox: VecDeque::new(), begun: false })
    }

    fn give(&mut self, record: &[u8], keyframe: bool, maker: &Maker) {
        if !self.begun && keyframe {
            self.begun = true;
            self.outbox.extend(maker.preamble());
        }
        if self.begun {
            self.outbox.extend(record);
        }
    }

    /// `false` when the receiver is gone or hopelessly behind.
    fn flush(&mut self) -> bool {
        match self.try_flush() {
            Ok(()) => true,
            Err(e) => {
                eprintln!("loadtest source: {} is gone: {e}", self.peer);
                false
            }
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        // What a receiver says is of no interest; that it hung up is.
        match self.socket.read(&mut [0; 512]) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "hung up")),
            Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        while !self.outbox.is_empty() {
            match self.socket.write(self.outbox.as_slices().0) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock && self.outbox.len() <= OUTBOX_MAX => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(io::Error::other("reads too slowly")),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::verdict;
    use crate::check::{Format, Start};

    fn maker(gdp: bool) -> Maker {
        Maker::new(&Shape { gdp, rate: ByteRate(16_000.0), record_size: 100, keyframe_every: 4 }, 7)
    }

    #[test]
    fn what_the_source_makes_its_own_checkers_accept() {
        for (gdp, format, packets) in [(false, Format::Records, 1), (true, Format::Gdp, 4)] {
            let mut maker = maker(gdp);
            let mut bytes = maker.preamble();
            for at in 0..20 {
                assert_eq!(maker.record(Nanos(at), &mut bytes), at % 4 == 0);
            }
            assert_eq!(verdict(format, Start::Exact, &bytes), Ok(packets + 20));
        }
    }

    #[test]
    fn a_record_has_the_size_that_was_asked_for() {
        let mut out = Vec::new();
        maker(false).record(Nanos(1), &mut out);
        assert_eq!(out.len(), 100);
    }

    #[test]
    fn a_receiver_begins_with_the_preamble_and_a_keyframe() {
        let door = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(door.local_addr().expect("bound")).expect("connects");
        let (mut peer, address) = door.accept().expect("accepts");
        let (mut receiver, mut maker) = (Receiver::new(socket, address).expect("set"), maker(false));
        let mut all = Vec::new();
        for skipped_then_given in 1..12 {
            all.clear();
            // The maker is ahead by one: the receiver comes in the middle of a group.
            let keyframe = maker.record(Nanos(1), &mut all);
            if skipped_then_given > 1 {
                receiver.give(&all, keyframe, &maker);
            }
        }
        assert!(receiver.flush());
        drop(receiver);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).expect("reads");
        assert_eq!(verdict(Format::Records, Start::Exact, &got), Ok(1 + 7));
    }
}
