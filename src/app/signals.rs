//! What signals ask for: TERM and INT to stop, HUP to reload, USR2 to let another binary take over.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Those that the server minds.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    user2: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits until the server is told something.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
            _ = self.user2.recv() => Told::Upgrade,
        }
    }

    /// Waits until the server is told to stop. Before it runs and while it stops there is nothing to reload.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Stop,
    Reload,
    Upgrade,
}
