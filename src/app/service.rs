//! What systemd is told: that the server is ready, reads its configuration, stops, and is alive. Elsewhere nobody listens, and nothing
//! is said.

use std::sync::Arc;

use sd_notify::NotifyState;

use crate::admin;
use crate::engine::crew::Crew;

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Connections are accepted, with the configuration that was read last.
pub(super) fn ready() {
    say(&[NotifyState::Ready]);
}

/// The configuration is being read; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// Another process is the service from now on.
pub(super) fn passed_on(pid: u32) {
    say(&[NotifyState::MainPid(pid)]);
}

/// Nobody is let in any more.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Says that the server is alive, as long as its sending threads turn and this one does.
pub(super) fn feed_watchdog(crew: &Arc<Crew>) {
    let Some(deadline) = sd_notify::watchdog_enabled() else { return };
    let (crew, every) = (Arc::clone(crew), deadline / 3);
    actix_rt::spawn(async move {
        loop {
            if admin::alive(&crew).await {
                say(&[NotifyState::Watchdog]);
            }
            tokio::time::sleep(every).await;
        }
    });
}
