//! The new process: it is given everything by the one that started it.
//!
//! - Until it has said that it has taken over it sends nothing to anybody, accepts nobody and removes nothing. If it ends before,
//!   nobody has noticed.
//! - It goes by the old one's clock, so that moments mean the same in both.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::channel::{Channel, ChannelError, Message, monotonic};

use crate::door::acceptor::DoorCounters;
use crate::door::bound::Bound;
use crate::door::patrol::Patrol;
use crate::engine::crew::Clock;
use crate::handover::{self, FORMAT, House, Payloads, Rubbish, Span};
use crate::metrics::Measured;
use crate::mount::Registry;
use crate::mount::registry::{Arrived, Pushing};
use crate::supervisor::mirror::{Reopened, Reopening};
use crate::units::Moment;

/// The longest that the old process may take for anything; it has shorter deadlines of its own.
const MOST: Duration = Duration::from_secs(60);
/// The longest that the old one's sources may take to stop.
const FREE_MOST: Duration = Duration::from_secs(8);
/// The largest text of a state: a hundred thousand listeners.
const TEXT_MOST: u64 = 256 * 1024 * 1024;

/// Why there is nothing to take over.
#[derive(Debug, thiserror::Error)]
pub enum HeirError {
    /// The other process is not as it should be.
    #[error("cannot take over: {0}")]
    Channel(String),
    /// What it handed over is not.
    #[error("cannot take over: {0}")]
    Rubbish(#[from] Rubbish),
}

impl From<ChannelError> for HeirError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error.to_string())
    }
}

impl From<std::io::Error> for HeirError {
    fn from(error: std::io::Error) -> Self {
        Self::Channel(error.to_string())
    }
}

/// The way to the old process.
#[derive(Clone, Debug)]
pub(in crate::app) struct Heir {
    channel: Arc<Channel>,
    /// The clock of both.
    pub(in crate::app) clock: Clock,
}

/// What has come.
struct Inheritance {
    house: House,
    payloads: Memory,
    /// By their numbers; taken one by one.
    sockets: Vec<Option<OwnedFd>>,
}

/// Payloads in a memory file.
#[derive(Debug)]
struct Memory {
    file: File,
    len: u64,
}

impl Payloads for Memory {
    fn take(&self, span: Span) -> Result<Box<[u8]>, Rubbish> {
        let wrong = || Rubbish::new(format!("{} bytes at {} of {}", span.len, span.at, self.len));
        if span.at.checked_add(span.len).is_none_or(|end| end > self.len) {
            return Err(wrong());
        }
        let mut bytes = vec![0; usize::try_from(span.len).map_err(|_| wrong())?];
        self.file.read_exact_at(&mut bytes, span.at).map_err(|_| wrong())?;
        Ok(bytes.into())
    }
}

impl Heir {
    /// Finds the other process at the standard input, which it leaves empty.
    pub(in crate::app) fn greet() -> Result<Self, HeirError> {
        let channel = Channel::inherited(std::io::stdin().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(std::io::Error::from)?;
        let (format, version, origin) = channel.expect(Instant::now() + MOST, |message| match message {
            Message::Hello { format, version, origin } => Ok((format, version, origin)),
            other => Err(other),
        })?;
        if format != FORMAT {
            let why = format!(
                "flumen {} takes over in format {FORMAT}, and flumen {version} hands over in format {format}: this needs a new start",
                env!("CARGO_PKG_VERSION")
            );
            channel.refuse(&why);
            return Err(HeirError::Channel(why));
        }
        let age = Duration::from_nanos(monotonic().saturating_sub(origin));
        Ok(Self { channel: Arc::new(channel), clock: Clock::running_since(age) })
    }

    /// Says why it ends without taking over.
    pub(in crate::app) fn refuse(&self, why: &str) {
        self.channel.refuse(why);
    }

    /// Everything is prepared: waits for what there is to take over. Blocks.
    fn receive(&self) -> Result<Inheritance, HeirError> {
        let until = Instant::now() + MOST;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.channel.say(&Message::Prepared { format: FORMAT, version }, &[], until)?;
        let (message, files) = self.channel.hear(until)?;
        let Message::State { sockets: count } = message else { return Err(ChannelError::Strange(format!("{message:?}")).into()) };
        let [text, payloads]: [OwnedFd; 2] = files.try_into().map_err(|_| Rubbish::new("a state without its two files"))?;
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let (message, with) = self.channel.hear(until)?;
            if !matches!(message, Message::Sockets) || with.is_empty() || sockets.len() + with.len() > count {
                return Err(ChannelError::Strange(format!("{message:?} with {} descriptors", with.len())).into());
            }
            sockets.extend(with.into_iter().map(Some));
        }
        let (text, payloads) = (File::from(text), File::from(payloads));
        let len = text.metadata()?.len();
        if len > TEXT_MOST {
            return Err(Rubbish::new(format!("a state of {len} bytes")).into());
        }
        let mut bytes = vec![0; len as usize];
        text.read_exact_at(&mut bytes, 0)?;
        let house = House::parse(&bytes)?;
        Ok(Inheritance { house, payloads: Memory { len: payloads.metadata()?.len(), file: payloads }, sockets })
    }

    /// Takes over. Blocks. After this everything is ours, and nobody can give it back.
    fn take(&self) -> Result<(), HeirError> {
        let until = Instant::now() + MOST;
        self.channel.say(&Message::Ready, &[], until)?;
        self.channel.expect(until, |message| if matches!(message, Message::Go) { Ok(()) } else { Err(message) })?;
        Ok(self.channel.say(&Message::Taken, &[], until)?)
    }

    /// Listeners go on.
    fn serving(&self, listeners: u64, stall: Duration) {
        let stall = u64::try_from(stall.as_micros()).unwrap_or(u64::MAX);
        let _ = self.channel.say(&Message::Serving { listeners, stall }, &[], Instant::now() + MOST); // it is only told
    }

    /// Hears the old process to its end: takes in who comes late and what it could not get rid of, and says when ports and devices of
    /// its sources are free. Blocks.
    fn hear_out(&self, measured: &Measured, free: oneshot::Sender<()>) {
        let registry = &measured.registry;
        let mut free = Some(free);
        loop {
            match self.channel.hear(Instant::now() + MOST) {
                Ok((Message::Free, _)) => {
                    if let Some(free) = free.take() {
                        let _ = free.send(()); // they have waited for long enough
                    }
                }
                Ok((Message::Late(arrival), with)) => {
                    let taken = with.into_iter().next().map_or(Ok(()), |socket| registry.take_late(&arrival, socket));
                    if let Err(error) = taken {
                        tracing::warn!(%error, "somebody who came late is not let in");
                    }
                }
                Ok((Message::Letter(letter), _)) => registry.witnesses().bouncer.go_on_telling(&letter),
                Ok((Message::Tallies(counted), _)) => measured.absorb(&counted),
                // One that says what is news to us may have more to say.
                Ok(_) | Err(ChannelError::Strange(_)) => {}
                Err(_) => break, // it has ended: nobody comes any more
            }
        }
        measured.patrol.keep_anew();
    }
}

/// What was handed over, checked and ready to go on.
pub(in crate::app) struct Estate {
    heir: Heir,
    house: House,
    sockets: Vec<Option<OwnedFd>>,
    arrived: Option<Arrived>,
    /// Mounts that nobody keeps yet.
    pub(in crate::app) reopened: Reopened,
}

impl Estate {
    /// Waits for what there is to take over, and makes everything ready. The mounts of the configuration are open; those of mirrored
    /// servers are opened now.
    pub(in crate::app) async fn receive(
        heir: Heir,
        registry: &Arc<Registry>,
        mut mirrored: Reopening,
        (door, patrol): (&DoorCounters, &Patrol),
    ) -> Result<Self, HeirError> {
        let (waiting, mounts) = (heir.clone(), Arc::clone(registry));
        let received = actix_rt::task::spawn_blocking(move || {
            let Inheritance { house, payloads, mut sockets } = waiting.receive()?;
            let arrived = mounts.unpack(&house, &payloads, &mut sockets, |mount| mirrored.open(mount))?;
            Ok::<_, HeirError>((house, sockets, arrived, mirrored.reopened()))
        });
        let (house, sockets, arrived, reopened) = received.await.map_err(std::io::Error::other)??;
        door.absorb(&house.door);
        house.bans.as_deref().map(|bans| patrol.take_over(bans)).transpose().map_err(|why| Rubbish::new(format!("bans: {why}")))?;
        Ok(Self { heir, house, sockets, arrived: Some(arrived), reopened })
    }

    /// When the first of the processes was started, if the one before has said so.
    pub(in crate::app) fn started_at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.house.started_unix_ms)).filter(|at| *at > UNIX_EPOCH)
    }

    /// The listening sockets, by their addresses, and whether a service manager keeps them.
    pub(in crate::app) fn sockets(&mut self) -> Vec<(String, OwnedFd, bool)> {
        let taken =
            |socket: &handover::Socket| Some((socket.address.clone(), self.sockets.get_mut(socket.fd as usize)?.take()?, socket.held));
        self.house.sockets.iter().filter_map(taken).collect()
    }

    /// Takes over: from here on everything is ours. Answers when every listener has been offered what there is for it, with the encoders
    /// that go on here.
    pub(in crate::app) async fn take(
        &mut self,
        registry: &Arc<Registry>,
        bound: &mut [Bound],
        measured: &Measured,
    ) -> Result<Vec<Pushing>, HeirError> {
        let (heir, mounts, mut arrived) = (self.heir.clone(), Arc::clone(registry), self.arrived.take().unwrap_or_default());
        let encoders = std::mem::take(&mut arrived.encoders);
        let begun = actix_rt::task::spawn_blocking(move || {
            heir.take()?;
            Ok::<_, HeirError>(mounts.begin(arrived)?)
        });
        let listeners = begun.await.map_err(std::io::Error::other)??;
        let owned = |bound: &Bound| self.house.sockets.iter().any(|socket| socket.owned && socket.address == bound.address().to_string());
        bound.iter_mut().filter(|bound| owned(bound)).for_each(Bound::inherit);
        let stall = self.heir.clock.now().since(Moment::from_nanos(self.house.frozen_at));
        measured.upgrades.note_taken_over(&self.house.upgrades, stall);
        measured.absorb(&self.house.tallies);
        self.heir.serving(listeners as u64, stall);
        tracing::info!(listeners, stall_seconds = stall.as_secs_f64(), "taken over: listeners go on");
        Ok(encoders)
    }

    /// Waits until the old one's sources are out of the way, or for as long as that may take. Who comes late is taken in, from now on and
    /// for as long as the old one is there.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(in crate::app) async fn free(self, measured: Arc<Measured>) -> std::io::Result<()> {
        let (free, freed) = oneshot::channel();
        std::thread::Builder::new().name("heir".into()).spawn(move || self.heir.hear_out(&measured, free))?;
        let _ = tokio::time::timeout(FREE_MOST, freed).await; // gone: then they are free, too
        Ok(())
    }
}
