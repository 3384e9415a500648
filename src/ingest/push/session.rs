//! One encoder from its first byte to its last; or to where another process goes on with it, which may be between any two reads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::parking::{Likeness, Parked, Parking};
use crate::door::Io;
use crate::door::acceptor::Guest;
use crate::fanout::stats::add;
use crate::ingest::framed::Framing;
use crate::ingest::pump::Pump;
use crate::mount::publishers::Press;
use crate::mount::registry::Entry;
use crate::mount::standstill;
use crate::units::format_duration;

/// Bytes read at once.
const READ_AT_ONCE: usize = 16 * 1024;
/// The longest that an encoder takes to read some hundred bytes of ours.
const WRITE_MOST: Duration = Duration::from_secs(10);

/// An encoder that has been let in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) io: Io,
    pub(super) framing: Framing,
    pub(super) pump: Pump,
    pub(super) press: Press,
    pub(super) entry: Entry,
    /// What it is told when all of its stream has come.
    pub(super) farewell: Vec<u8>,
    /// Its stream may go on with another request.
    pub(super) goes_on: Option<(Arc<Parking>, Likeness)>,
    timeout: Duration,
    pub(super) guest: Guest,
}

/// How a stream ended, if nothing went wrong.
enum End {
    /// All of it has come.
    Over,
    /// Another process goes on with it.
    Passed,
}

impl Session {
    /// A session of an encoder whose stream, or a part of it, comes on `io` framed as `framing` says.
    pub(super) fn new(io: Io, guest: Guest, framing: Framing, (pump, press): (Pump, Press), entry: Entry) -> Self {
        let timeout = entry.handle.settings.push.as_ref().map_or(WRITE_MOST, |push| push.source_timeout);
        Self { io, framing, pump, press, entry, farewell: Vec::new(), goes_on: None, timeout, guest }
    }

    /// The same, which says this when all of the stream has come. Where `goes_on` is given it may go on with another request.
    pub(super) fn saying(self, farewell: Vec<u8>, goes_on: Option<(Arc<Parking>, Likeness)>) -> Self {
        Self { farewell, goes_on, ..self }
    }

    /// Says `hello`, and takes the stream, of which `begun` has come.
    pub(super) async fn run(mut self, hello: &[u8], begun: &[u8]) {
        let fault = match self.stream(hello, begun).await {
            Ok(End::Passed) => return self.let_go(),
            Ok(End::Over) => None,
            Err(fault) => Some(fault),
        };
        let mount = &self.entry.handle.settings.path;
        if let (None, Some((parking, likeness))) = (&fault, self.goes_on) {
            let number = parking.park(mount.clone(), Parked { likeness, pump: self.pump, press: self.press });
            bid_farewell(self.io, &self.farewell).await;
            drop(self.guest);
            return parking.watch(mount, number).await;
        }
        tracing::info!(%mount, connection = self.guest.number(), reason = fault.as_deref().unwrap_or("end of stream"), "encoder left");
        add(&self.entry.handle.source.restarts, 1);
        let (press, ended) = (self.press, fault.is_none());
        self.pump.finish(fault, || press.arrive()).await;
        drop(press);
        bid_farewell(self.io, if ended { &self.farewell } else { &[] }).await;
    }

    /// The connection is closed here and stays open there: nothing is said on it, and nobody is told of an end.
    fn let_go(self) {
        self.pump.let_go();
    }

    async fn stream(&mut self, hello: &[u8], begun: &[u8]) -> Result<End, Arc<str>> {
        let said = timeout(WRITE_MOST, say(&mut self.io, hello)).await;
        said.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten().map_err(lost)?;
        self.take(begun).await?;
        let mut bytes = vec![0; READ_AT_ONCE];
        let mut mover = self.can_be_passed_on().then(|| self.entry.handle.standstill.enter());
        while !self.framing.is_done() {
            let read = tokio::select! {
                biased;
                cut = self.press.cut() => return Err(cut.to_string().into()),
                () = standstill::asked(&mut mover) => {
                    let luggage = self.pack();
                    let stays = match &mut mover {
                        Some(mover) => mover.stand(luggage).await,
                        None => true,
                    };
                    if stays {
                        continue;
                    }
                    return Ok(End::Passed);
                }
                read = timeout(self.timeout, self.io.read(&mut bytes)) => read,
            };
            match read {
                Err(_) => return Err(format!("the encoder has sent nothing for {}", format_duration(self.timeout)).into()),
                Ok(Err(error)) => return Err(lost(error)),
                Ok(Ok(0)) if self.framing.ends_with_connection() => return Ok(End::Over),
                Ok(Ok(0)) => return Err("the encoder hung up in the middle of its stream".into()),
                Ok(Ok(count)) => self.take(&bytes[..count]).await?,
            }
        }
        Ok(End::Over)
    }

    /// Takes bytes of the connection.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), Arc<str>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let framed = self.framing.take(bytes, |part| parts.push(part));
        for part in parts {
            self.pump.push(part, || self.press.arrive()).await.map_err(|error| Arc::from(error.to_string()))?;
        }
        framed.map_err(|error| error.to_string().into())
    }
}

/// The last that is said on a connection. Who does not wait for it has it anyway.
async fn bid_farewell(mut io: Io, farewell: &[u8]) {
    let _ = timeout(WRITE_MOST, say(&mut io, farewell)).await;
    let _ = timeout(WRITE_MOST, io.shutdown()).await;
}

/// Writes, and over TLS does not keep anything back.
async fn say(io: &mut Io, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is turned into another")]
fn lost(error: io::Error) -> Arc<str> {
    format!("the encoder's connection is lost: {error}").into()
}
