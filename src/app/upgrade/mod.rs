//! Another binary goes on with everything: the old process's side.
//!
//! ```text
//!   prepare   the new process is started, checks the configuration, starts its threads      nobody notices
//!   halt      sockets lent; sources that can be passed on stand still between two reads     nobody notices
//!   freeze    shards stand still, everything packed and sent                                ┐ a stall of some
//!   commit    the new one says that it has everything, is told to go, says that it goes     ┘ hundred milliseconds
//!   leave     sources stop, who cannot be passed on is sent what is queued                  the old process ends
//! ```
//! - Whatever goes wrong before the new process has said that it goes, it is ended, and this one goes on as if nothing had happened.
//!   Which of the two it was is never in doubt: one message, sent by the new one before it does anything.
//! - Passed on: listening sockets, plain listeners with their places to the byte, histories, titles, counters, encoders that push, and the
//!   bookmarks of framed relays, which connect again and go on. Not passed on: TLS listeners and encoders (rustls makes no connection of
//!   a session's state), connections that are being asked what they want (they are answered here; who then wants a stream is passed
//!   on as a newcomer), and other sources: pipelines begin anew there, relays of bytes connect again. Rings bridge that.
//! - What the old process is left with when everybody has gone (what backends and hooks have not heard, what it has counted since) it
//!   passes on at its end.
//! - What is started is the file that this process was started from, as it is now. No request can name another.

pub(super) mod channel;
pub(super) mod heir;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use channel::{AT_ONCE, Channel, ChannelError, Message, monotonic};

use super::Signals;
use crate::admin::operate::Upgraded;
use crate::cli::TAKE_OVER;
use crate::door::Lender;
use crate::engine::crew::{Clock, Crew};
use crate::engine::frost::NotFrozen;
use crate::engine::listener::Arrival;
use crate::engine::socket::Socket;
use crate::handover::{self, FORMAT, Outgoing, Tallies};
use crate::metrics::{self, Measured};
use crate::mount::Registry;
use crate::mount::registry::Packed;

/// The longest that the new process may take to read the configuration and to start its threads. It builds every pipeline.
const PREPARE_MOST: Duration = Duration::from_secs(45);
/// How often it is looked whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// The longest that listeners stand still.
const STILL_MOST: Duration = Duration::from_secs(10);
/// The longest that the door and the shards may take to stand still; a turn takes milliseconds.
const FREEZE_MOST: Duration = Duration::from_secs(2);
/// The longest that sources may take to stand still. One that delivers is between two reads in no time; one whose mount takes no more is
/// not waited for.
const HALT_MOST: Duration = Duration::from_millis(500);
/// Who has been told that it may listen is on its way to a shard for so long at most.
const BOARDING: Duration = Duration::from_millis(20);
/// The longest that the new process may take to serve everybody once it has begun; it is only asked for the figure.
const SERVING_MOST: Duration = Duration::from_secs(10);

/// Those who may wait to be passed on when everybody has gone; one more is served here with what there is.
const LATECOMERS: usize = 1024;
/// The longest that passing on one of them may take, or all that the old process is left with.
const LATE_MOST: Duration = Duration::from_secs(5);

/// Why another binary did not take over. This one goes on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotUpgraded {
    /// It cannot be started.
    #[error("cannot start {}: {cause}", .program.display())]
    Start { program: PathBuf, cause: io::Error },
    /// It ended before it said anything.
    #[error("{} ended ({status}) without taking over; its words are in the log", .program.display())]
    Ended { program: PathBuf, status: String },
    /// It speaks another format.
    #[error("flumen {version} takes over in format {format}, and this one hands over in format {FORMAT}: this needs a new start")]
    Skew { version: String, format: u32 },
    /// It does not do as it should, or says why not.
    #[error("the new process does not take over: {0}")]
    Channel(#[from] ChannelError),
    /// A shard does not stand still.
    #[error(transparent)]
    Frozen(#[from] NotFrozen),
    /// The system does not do it.
    #[error("cannot hand over: {0}")]
    System(#[from] io::Error),
    /// Process 1 of a container: it would end with us.
    #[error("this is the first process of its container, which ends with it: start another container instead")]
    First,
    /// The server was told to stop meanwhile.
    #[error("the server is stopping")]
    Stopping,
}

/// What is started, and with which arguments.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The file that this process was started from, whatever lies there by the time it is asked for. To be called early: paths are
    /// as of the directory we are in.
    pub(super) fn of_process(arguments: Vec<OsString>) -> io::Result<Self> {
        let named = std::env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let path = match named {
            // By the name it was called: that may be a link, to be turned to another version.
            Some(name) => std::env::current_dir()?.join(name),
            None => std::env::current_exe()?,
        };
        Ok(Self { path, arguments })
    }
}

/// A new process that has prepared everything.
#[derive(Debug)]
pub(super) struct Prepared {
    child: Child,
    channel: Channel,
    program: PathBuf,
    version: String,
}

/// What was handed over.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) pid: u32,
    pub(super) version: String,
    /// Listeners that go on there.
    pub(super) listeners: u64,
    /// Listeners that cannot be passed on.
    pub(super) left: u64,
    /// How long those stood still that go on, as the new process says.
    pub(super) stall: Option<Duration>,
    channel: Arc<Channel>,
    /// Those who came here after that.
    latecomers: Option<Late>,
    /// What was counted until then.
    counted: Tallies,
}

impl HandedOver {
    /// Passes on who still comes here, for as long as there are shards.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn pass_on_latecomers(&mut self) -> io::Result<()> {
        let Some(latecomers) = self.latecomers.take() else { return Ok(()) };
        let channel = Arc::clone(&self.channel);
        let pass_on = move || {
            for arrival in latecomers {
                // One that cannot be passed on is closed, as if it had come a moment later.
                let said = channel.say(&Message::Late(Box::new(arrival.pack())), &[arrival.wire.as_fd()], Instant::now() + LATE_MOST);
                match said {
                    // Who has it counts it out.
                    Ok(()) => arrival.pass.iter().for_each(|pass| pass.hand_over()),
                    Err(error) => tracing::warn!(%error, peer = %arrival.peer, "somebody who came late could not be passed on"),
                }
            }
        };
        std::thread::Builder::new().name("latecomers".into()).spawn(pass_on).map(drop)
    }

    /// Passes on what backends could not be told, and what was counted since the others have gone. Blocks.
    pub(super) fn pass_on_rest(&self, letters: Vec<handover::Letter>, counted: &Tallies) {
        let until = Instant::now() + LATE_MOST;
        let waiting = letters.len();
        let passed = letters.into_iter().map_while(|letter| self.channel.say(&Message::Letter(Box::new(letter)), &[], until).ok()).count();
        if passed < waiting {
            tracing::warn!(left = waiting - passed, "what backends could not be told could not be passed on, and is given up");
        }
        let _ = self.channel.say(&Message::Tallies(metrics::since(&self.counted, counted)), &[], until); // else it counts a little less
    }

    /// As operators are told.
    pub(super) fn told(&self) -> Upgraded {
        let stall_ms = self.stall.map(|stall| u64::try_from(stall.as_millis()).unwrap_or(u64::MAX));
        Upgraded { pid: self.pid, version: self.version.clone(), listeners: self.listeners, left: self.left, stall_ms }
    }

    /// Our sources have let go of their ports and devices.
    pub(super) fn free(&self) {
        let _ = self.channel.say(&Message::Free, &[], Instant::now() + LOOK); // it goes on without, after a while
    }
}

impl Prepared {
    /// Starts the new process and waits until it has prepared everything, or is not `wanted` any more. Blocks.
    pub(super) fn start(program: &Program, clock: Clock, wanted: &AtomicBool) -> Result<Self, NotUpgraded> {
        if std::process::id() == 1 {
            return Err(NotUpgraded::First);
        }
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(&program.path);
        command.arg(TAKE_OVER).args(&program.arguments).stdin(Stdio::from(theirs));
        command.env_remove("WATCHDOG_PID"); // it is the watched one soon, under another number
        let spawned = command.spawn();
        drop(command); // and with it the other end, so that we notice when that is gone
        let child = spawned.map_err(|cause| NotUpgraded::Start { program: program.path.clone(), cause })?;
        let mut prepared = Self { child, channel, program: program.path.clone(), version: String::new() };
        match prepared.await_prepared(clock, wanted) {
            Ok(version) => Ok(Self { version, ..prepared }),
            Err(error) => Err(prepared.end(error)),
        }
    }

    fn await_prepared(&mut self, clock: Clock, wanted: &AtomicBool) -> Result<String, NotUpgraded> {
        let end = Instant::now() + PREPARE_MOST;
        let hello = Message::Hello {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: monotonic().saturating_sub(clock.now().nanos()),
        };
        self.channel.say(&hello, &[], end)?;
        loop {
            match self.channel.hear(end.min(Instant::now() + LOOK)) {
                Ok((Message::Prepared { format: FORMAT, version }, _)) => return Ok(version),
                Ok((Message::Prepared { format, version }, _)) => return Err(NotUpgraded::Skew { version, format }),
                Ok((other, _)) => return Err(ChannelError::Strange(format!("{other:?}")).into()),
                Err(ChannelError::Silent) if !wanted.load(Ordering::Acquire) => return Err(NotUpgraded::Stopping),
                Err(ChannelError::Silent) if Instant::now() < end => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends the new process. The error, with what its end says of it.
    fn end(&mut self, error: NotUpgraded) -> NotUpgraded {
        let gone = matches!(error, NotUpgraded::Channel(ChannelError::Gone));
        if gone {
            // It closes its end a moment before it can be waited for.
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill(); // it may have ended by itself
        match self.child.wait() {
            Ok(status) if gone => NotUpgraded::Ended { program: self.program.clone(), status: status.to_string() },
            _ => error,
        }
    }
}

/// Those who come when everybody has gone.
type Late = Receiver<Box<Arrival<Socket>>>;

/// What is handed over, and by whom.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) registry: Arc<Registry>,
    pub(super) crew: Arc<Crew>,
    pub(super) lender: Lender,
    pub(super) measured: Arc<Measured>,
}

/// What was handed over, and who could not be.
struct Gone {
    listeners: u64,
    left: u64,
    latecomers: Late,
    counted: Tallies,
}

impl Old {
    /// Hands everything over. Blocks, for less than [`STILL_MOST`]. If it cannot be done the new process is ended, and here everything is
    /// as it was.
    pub(super) fn hand_over(&self, mut heir: Prepared) -> Result<HandedOver, NotUpgraded> {
        let outcome = self.try_to_hand_over(&mut heir);
        if outcome.is_err() {
            self.measured.patrol.take_back();
            self.lender.resume();
        }
        let Gone { listeners, left, latecomers, counted } = outcome?;
        self.lender.bequeath();
        let serving = heir.channel.expect(Instant::now() + SERVING_MOST, |message| match message {
            Message::Serving { listeners, stall } => Ok((listeners, Duration::from_micros(stall))),
            other => Err(other),
        });
        let (listeners, stall) = match serving {
            Ok((listeners, stall)) => (listeners, Some(stall)),
            Err(error) => {
                tracing::error!(%error, "the new process has taken over and does not say how it fares");
                (listeners, None)
            }
        };
        Ok(HandedOver {
            pid: heir.child.id(),
            version: heir.version,
            listeners,
            left,
            stall,
            channel: Arc::new(heir.channel),
            latecomers: Some(latecomers),
            counted,
        })
    }

    fn try_to_hand_over(&self, heir: &mut Prepared) -> Result<Gone, NotUpgraded> {
        let until = Instant::now() + STILL_MOST;
        let lent = self.lender.lend(FREEZE_MOST)?;
        std::thread::sleep(BOARDING);
        let still = self.registry.halt(HALT_MOST);
        let frost = self.crew.freeze(FREEZE_MOST)?;
        let packed = (|| {
            let mut packed = Packed::default();
            packed.house.frozen_at = self.crew.clock().now().nanos();
            for (fd, lent) in lent.iter().enumerate() {
                packed.house.sockets.push(handover::Socket {
                    address: lent.address.to_string(),
                    fd: fd as u32,
                    owned: lent.owned,
                    held: lent.held,
                });
                packed.sockets.push(lent.socket.as_fd());
            }
            packed.house.started_unix_ms = self.measured.started_unix_ms();
            packed.house.door = self.measured.door.pack();
            packed.house.upgrades = self.measured.upgrades.pack();
            packed.house.tallies = self.measured.pack();
            packed.house.bans = Some(self.measured.patrol.hand_over());
            let mut payloads = Outgoing::new(BufWriter::with_capacity(1 << 20, memory_file("flumen-payloads")?));
            self.registry.pack((&frost, &still), &mut payloads, &mut packed)?;
            let payloads = payloads.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            let mut text = BufWriter::with_capacity(1 << 20, memory_file("flumen-state")?);
            serde_json::to_writer(&mut text, &packed.house).map_err(io::Error::from)?;
            text.flush()?;
            let text = text.into_inner().map_err(io::IntoInnerError::into_error)?;
            send(&heir.channel, &packed, [text.as_fd(), payloads.as_fd()], until)?;
            let (listeners, left) = (packed.house.listeners() as u64, packed.left as u64);
            Ok::<_, NotUpgraded>((listeners, left, packed.slots, packed.house.tallies))
        })();
        // Whoever may not go on must be gone before shards do.
        let (listeners, left, slots, counted) = packed.map_err(|error| heir.end(error))?;
        if let Err(error) = commit(&heir.channel, until) {
            let error = heir.end(error.into());
            if !has_taken(&heir.channel) {
                frost.thaw();
                return Err(error);
            }
            tracing::error!(%error, "the new process ended right after it had taken over; its listeners are lost");
        }
        tracing::info!(encoders = still.encoders(), "encoders that push go on with the new process");
        still.gone();
        let (late, latecomers) = mpsc::sync_channel(LATECOMERS);
        frost.release(slots.into_iter().collect::<HashSet<_>>(), &late);
        Ok(Gone { listeners, left, latecomers, counted })
    }
}

/// Sends everything.
fn send(channel: &Channel, packed: &Packed<'_>, files: [BorrowedFd<'_>; 2], until: Instant) -> Result<(), ChannelError> {
    channel.say(&Message::State { sockets: packed.sockets.len() }, &files, until)?;
    packed.sockets.chunks(AT_ONCE).try_for_each(|some| channel.say(&Message::Sockets, some, until))
}

/// Lets the new process go, if it has everything.
fn commit(channel: &Channel, until: Instant) -> Result<(), ChannelError> {
    channel.expect(until, |message| if matches!(message, Message::Ready) { Ok(()) } else { Err(message) })?;
    channel.say(&Message::Go, &[], until)?;
    channel.expect(until, |message| if matches!(message, Message::Taken) { Ok(()) } else { Err(message) })
}

/// Whether a process that is no more has said that it had taken over.
fn has_taken(channel: &Channel) -> bool {
    while let Ok((message, _)) = channel.hear(Instant::now() + LOOK) {
        if matches!(message, Message::Taken) {
            return true;
        }
    }
    false
}

fn memory_file(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// Lets another binary take over, unless the server is told to stop before it begins to.
pub(super) async fn attempt(program: &Program, old: Old, signals: &mut Signals) -> Result<HandedOver, NotUpgraded> {
    let wanted = Arc::new(AtomicBool::new(true));
    let (program, clock, watched) = (program.clone(), old.crew.clock(), Arc::clone(&wanted));
    let mut preparing = spawn_blocking(move || Prepared::start(&program, clock, &watched));
    let prepared = tokio::select! {
        prepared = &mut preparing => prepared,
        () = signals.stop() => {
            wanted.store(false, Ordering::Release);
            match preparing.await {
                Ok(Ok(mut late)) => Ok(Err(late.end(NotUpgraded::Stopping))),
                _ => Ok(Err(NotUpgraded::Stopping)),
            }
        }
    };
    let prepared = prepared.map_err(io::Error::other)??;
    tracing::info!(pid = prepared.child.id(), version = prepared.version, "the new process is prepared; listeners are handed over");
    spawn_blocking(move || old.hand_over(prepared)).await.map_err(io::Error::other)?
}
