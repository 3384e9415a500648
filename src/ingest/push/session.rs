//! One encoder from its first byte to its last.

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
use crate::units::format_duration;
use crate::wire::head::Body;

/// Bytes read at once.
const READ_AT_ONCE: usize = 16 * 1024;
/// The longest that an encoder takes to read some hundred bytes of ours.
const WRITE_MOST: Duration = Duration::from_secs(10);

/// An encoder that has been let in.
#[derive(Debug)]
pub(super) struct Session {
    io: Io,
    framing: Framing,
    pump: Pump,
    press: Press,
    entry: Entry,
    timeout: Duration,
    _guest: Guest,
}

impl Session {
    /// A session of an encoder whose stream, or a part of it, comes on `io`.
    pub(super) fn new(io: Io, guest: Guest, body: Body, (pump, press): (Pump, Press), entry: Entry) -> Self {
        let framing = Framing::of(body);
        let timeout = entry.handle.settings.push.as_ref().map_or(WRITE_MOST, |push| push.source_timeout);
        Self { io, framing, pump, press, entry, timeout, _guest: guest }
    }

    /// Says `hello`, takes the stream, of which `begun` has come, and says `farewell` when all of it has. Where `parking` is given
    /// the stream may go on with another request.
    pub(super) async fn run(mut self, hello: &[u8], begun: &[u8], farewell: &[u8], parking: Option<(&Arc<Parking>, Likeness)>) {
        let fault = self.stream(hello, begun).await.err();
        let mount = &self.entry.handle.settings.path;
        if let (None, Some((parking, likeness))) = (&fault, parking) {
            let number = parking.park(mount.clone(), Parked { likeness, pump: self.pump, press: self.press });
            bid_farewell(self.io, farewell).await;
            drop(self._guest);
            return parking.watch(mount, number).await;
        }
        tracing::info!(%mount, reason = fault.as_deref().unwrap_or("end of stream"), "encoder left");
        add(&self.entry.handle.source.restarts, 1);
        let (press, ended) = (self.press, fault.is_none());
        self.pump.finish(fault, || press.arrive()).await;
        drop(press);
        bid_farewell(self.io, if ended { farewell } else { &[] }).await;
    }

    async fn stream(&mut self, hello: &[u8], begun: &[u8]) -> Result<(), Arc<str>> {
        let said = timeout(WRITE_MOST, say(&mut self.io, hello)).await;
        said.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten().map_err(lost)?;
        self.take(begun).await?;
        let mut bytes = vec![0; READ_AT_ONCE];
        while !self.framing.is_done() {
            let read = tokio::select! {
                biased;
                cut = self.press.cut() => return Err(cut.to_string().into()),
                read = timeout(self.timeout, self.io.read(&mut bytes)) => read,
            };
            match read {
                Err(_) => return Err(format!("the encoder has sent nothing for {}", format_duration(self.timeout)).into()),
                Ok(Err(error)) => return Err(lost(error)),
                Ok(Ok(0)) if self.framing.ends_with_connection() => return Ok(()),
                Ok(Ok(0)) => return Err("the encoder hung up in the middle of its stream".into()),
                Ok(Ok(count)) => self.take(&bytes[..count]).await?,
            }
        }
        Ok(())
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
