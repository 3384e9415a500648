//! Looks at the server when asked: its process and its metrics, on a thread of its own, so that a slow answer delays no listener.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::scrape::Scrape;
use crate::ask::Door;
use crate::probe::{Probe, Pulse, Weight};

/// One look. Whatever could not be had is absent; of the metrics it is said why.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) pulse: Option<Pulse>,
    pub(crate) weight: Option<Weight>,
    pub(crate) page: Result<Scrape, String>,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    ask: SyncSender<()>,
    looks: Receiver<Look>,
}

impl Watcher {
    /// The thread ends with the watcher.
    pub(crate) fn start(door: Door, pid: Option<u32>) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel::<()>(1);
        let (give, looks) = sync_channel(1);
        let probe = pid.map(Probe::of);
        thread::Builder::new().name("watcher".to_owned()).spawn(move || {
            while asked.recv().is_ok() {
                if give.send(look(&door, probe.as_ref())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, looks })
    }

    /// `false` when the last look is still going on.
    pub(crate) fn ask(&self) -> bool {
        self.ask.try_send(()).is_ok()
    }

    /// The look that was asked for, once it is there.
    pub(crate) fn take(&self) -> Option<Look> {
        self.looks.try_recv().ok()
    }
}

pub(crate) fn look(door: &Door, probe: Option<&Probe>) -> Look {
    let page = door.ask("GET", "/metrics").map_err(|e| e.to_string());
    let page = page.and_then(|answer| match answer.status {
        200 => Scrape::parse(&String::from_utf8_lossy(&answer.body)).ok_or_else(|| "no metrics of a flumen".to_owned()),
        status => Err(format!("HTTP {status}")),
    });
    Look { pulse: probe.and_then(|probe| probe.pulse().ok()), weight: probe.and_then(|probe| probe.weight().ok()), page }
}
