//! TLS at the door: which sockets speak it, and the handshake.
//!
//! ```text
//!   accepted ─▶ first byte? ─ TLS ─▶ a place ─▶ handshake ─▶ hull (TLS)
//!                  └─ not TLS ─▶ hull (plain): where both are spoken as usual, else a 400 that says so
//! ```
//! - A handshake is a task of a worker and ends by the deadline that a request head has, counted from the first moment. Whoever is
//!   served already lives on a shard and notices nothing of it.
//! - So many handshakes at once, for each takes memory that its peer decides on; a place is taken with the first byte. Who finds
//!   none waits, up to the deadline. While others wait, a handshake that has taken long makes room: who is slow on purpose holds
//!   a place for a moment, not for the whole deadline.
//! - TLS 1.2 and 1.3, tickets and a bounded cache to resume with, and HTTP/1.1 as the one protocol: others could not be taken
//!   from the framework.
//!
//! Deliberately absent: records and sessions after the handshake (`engine::tls`), certificates (`certificate`).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::acceptor::DoorCounters;
use super::certificate::{Files, Flaw, Keyring, Pair};
use crate::fanout::stats::add;

/// Handshakes of one worker at a time. A client may send 64 KiB before it has sent a greeting.
const HANDSHAKES_AT_ONCE: usize = 256;
/// A handshake that has taken so long makes room when others wait: three round trips to the other side of the world.
const LONG: Duration = Duration::from_secs(2);
/// How often one that has taken long looks whether others wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of answers that a session may hold, sealed.
const HELD_MOST: usize = 16 * 1024;
/// Sessions of one section that are remembered for clients which cannot keep tickets.
const SESSIONS_REMEMBERED: usize = 1024;
/// Memory of those of one section at the very most: some hundred bytes each, with a name that was asked for of 255.
pub const REMEMBERED_BYTES: u64 = SESSIONS_REMEMBERED as u64 * 1024;
/// The first byte of every TLS connection.
const HANDSHAKE: u8 = 0x16;

/// User memory of a connection's TLS at the very most, while it does not listen: a record that is sealed, one that is read, one
/// that has come and is not read yet, and the session. In a handshake it is no more.
pub const SESSION_BYTES: u64 = 72 * 1024;

/// What plain HTTP on a socket for TLS is told.
pub(super) const MISPLACED: &str = "this port speaks TLS: write https:// in place of http://";

/// The checked settings of some sockets that speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where connections are accepted.
    pub listen: Vec<SocketAddr>,
    /// Whether plain HTTP is served on the same sockets.
    pub auto: bool,
    /// The certificates, never none; who asks for a name that none of them has gets the first.
    pub certificates: Vec<Files>,
}

/// What became of a handshake. Closed, for it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is done.
    Ok,
    /// The peer did not speak TLS, or none that we speak, or went away.
    Failed,
    /// It took too long.
    Timeout,
    /// There was no place for it.
    Refused,
}

impl Handshake {
    /// All results, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Failed, Self::Timeout, Self::Refused];

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
        }
    }
}

/// How some listening sockets speak TLS.
pub struct Port {
    config: Arc<ServerConfig>,
    /// Whether plain HTTP is spoken as well.
    pub(super) auto: bool,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("auto", &self.auto).finish_non_exhaustive()
    }
}

impl Port {
    /// Sockets that speak TLS with certificates of this keyring, which takes in those it does not have yet.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn open(settings: &TlsSettings, keyring: &Keyring) -> Result<Arc<Self>, Flaw> {
        let pairs = settings.certificates.iter().map(|files| keyring.pair(files)).collect::<Result<_, _>>()?;
        let provider = Arc::new(ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let versions = versions.expect("the provider has suites for TLS 1.2 and for 1.3");
        let mut config = versions.with_no_client_auth().with_cert_resolver(Arc::new(Choice(pairs)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_REMEMBERED);
        match ring::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            // The system has no random numbers to give; sessions in memory do not need any more of those.
            Err(error) => tracing::warn!(%error, "no tickets to resume TLS sessions with"),
        }
        Ok(Arc::new(Self { config: Arc::new(config), auto: settings.auto }))
    }
}

/// Which certificate a client is shown: the first that is for the name it asks for, else the first.
#[derive(Debug)]
struct Choice(Vec<Arc<Pair>>);

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.0.iter().find(|pair| pair.is_for(name)));
        Some(named.or_else(|| self.0.first())?.key())
    }
}

/// Where the handshakes of one worker take place.
#[derive(Clone, Debug)]
pub(super) struct Vestibule {
    places: Rc<Semaphore>,
    patience: Duration,
    counters: Arc<DoorCounters>,
}

/// What a connection turned out to speak.
#[derive(Debug)]
pub(super) enum Spoken {
    Plain(TcpStream),
    /// Plain HTTP, where only TLS is spoken.
    Misplaced(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Vestibule {
    pub(super) fn new(patience: Duration, counters: Arc<DoorCounters>) -> Self {
        Self { places: Rc::new(Semaphore::new(HANDSHAKES_AT_ONCE)), patience, counters }
    }

    /// What is counted here, and with it.
    pub(super) fn counters(&self) -> &DoorCounters {
        &self.counters
    }

    /// Finds out what a connection speaks and, if that is TLS, shakes hands. `None`: that came to nothing, and the connection is closed.
    pub(super) async fn receive(&self, stream: TcpStream, port: &Port) -> Option<Spoken> {
        let deadline = Instant::now() + self.patience;
        let mut first = [0];
        match timeout_at(deadline, stream.peek(&mut first)).await {
            Ok(Ok(1)) if first == [HANDSHAKE] => {}
            Ok(Ok(1)) if port.auto => return Some(Spoken::Plain(stream)),
            Ok(Ok(1)) => {
                self.note::<()>(Handshake::Failed, &"plain HTTP");
                return Some(Spoken::Misplaced(stream));
            }
            _ if port.auto => return None, // nothing was asked, and nobody knows in what way it would have been
            Ok(_) => return self.note(Handshake::Failed, &"the peer went away"),
            Err(_) => return self.note(Handshake::Timeout, &"the peer said nothing"),
        }
        let Ok(Ok(_place)) = timeout_at(deadline, self.places.acquire()).await else {
            return self.note(Handshake::Refused, &"there are too many at once");
        };
        let shake = TlsAcceptor::from(Arc::clone(&port.config)).accept_with(stream, |session| session.set_buffer_limit(Some(HELD_MOST)));
        tokio::select! {
            biased;
            done = shake => match done {
                Ok(stream) => {
                    self.note::<()>(Handshake::Ok, &"done");
                    Some(Spoken::Tls(Box::new(stream)))
                }
                Err(error) => self.note(Handshake::Failed, &error),
            },
            () = sleep_until(deadline) => self.note(Handshake::Timeout, &"it took too long"),
            () = self.is_pressed() => self.note(Handshake::Timeout, &"it took long, and others waited"),
        }
    }

    /// Waits until a handshake that begins now has taken long and all places are taken.
    async fn is_pressed(&self) {
        sleep(LONG).await;
        while self.places.available_permits() > 0 {
            sleep(LOOK_EVERY).await;
        }
    }

    fn note<T>(&self, result: Handshake, why: &dyn fmt::Display) -> Option<T> {
        add(&self.counters.handshakes[result as usize], 1);
        tracing::debug!(result = result.label(), %why, "TLS handshake");
        None
    }
}

/// Takes a session and its socket from the framework's side. A peer that has said it sends no more has its socket say so too, for
/// the shard hears of it from there.
pub(super) fn part(stream: TlsStream<TcpStream>, hung_up: bool) -> io::Result<(std::net::TcpStream, rustls::ServerConnection)> {
    let (stream, session) = stream.into_inner();
    let stream = stream.into_std()?;
    if hung_up {
        let _ = stream.shutdown(std::net::Shutdown::Read); // it fails where the connection is gone, and that is noticed anyway
    }
    Ok((stream, session))
}
