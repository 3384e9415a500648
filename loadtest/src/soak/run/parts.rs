//! What a session is made of, from its settings.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::ask::Door;
use crate::check::{Book, Start};
use crate::clock::Nanos;
use crate::http::Version;
use crate::roster::Roster;
use crate::schedule::Mix;
use crate::soak::faults::Faults;
use crate::soak::feeder::Feeder;
use crate::soak::scrape::Scrape;
use crate::soak::settings::Settings;
use crate::soak::watcher::look;
use crate::swarm::Plan;
use crate::target::{Protocol, Target};
use crate::units::{ByteRate, Share};

/// Generous: a slow machine is not a slow server.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const SOURCES_UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SLOW_BUFFER: usize = 16 << 10;

pub(super) fn door_and_paths(targets: &[Target]) -> anyhow::Result<(Door, Vec<String>)> {
    let mut paths = Vec::new();
    let mut door = None;
    for target in targets {
        let Protocol::Http { host, path } = &target.protocol else { bail!("`{}`: http://… is wanted", target.typed) };
        door = Some(Door { address: target.address, host: host.clone() });
        paths.push(path.clone());
    }
    Ok((door.context("no target")?, paths))
}

pub(super) fn feeders(settings: &Settings, session: u32, books: &[Arc<Book>]) -> anyhow::Result<Vec<Feeder>> {
    let every = Duration::from_secs_f64(settings.faults_every_s);
    let mut feeders = Vec::new();
    for (at, (feed, book)) in settings.feeds.iter().zip(books).enumerate() {
        let seed = settings.seed.wrapping_add(u64::from(session) << 32);
        let faults = (settings.harmed(at) && !every.is_zero()).then(|| Faults::new(seed, at, every));
        feeders.push(Feeder::start(*feed, settings.shape(), book.clone(), faults)?);
    }
    Ok(feeders)
}

pub(super) fn plan(settings: &Settings, targets: Vec<Target>, books: Vec<Arc<Book>>, roster: Arc<Roster>) -> Plan {
    let slow = (settings.slow_share > 0.0).then_some((Share(settings.slow_share), ByteRate(settings.slow_rate)));
    Plan {
        targets,
        tls: None,
        listeners: settings.listeners,
        // Every second healthy listener is measured, and so never leaves of its own: those hear every fault of their source.
        mix: Mix { stalled: Share(settings.stalled_share), slow, measure_every: 2, verify: settings.verify },
        version: Version::Http11,
        sources: 1,
        join_timeout: JOIN_TIMEOUT,
        reconnect: true,
        longest_period: Duration::from_millis(500),
        format: None,
        start: Start::Exact,
        slow_buffer: Some(SLOW_BUFFER),
        books,
        roster: Some(roster),
    }
}

/// The page of a server whose sources are all there: nobody is refused because the soak was too early.
pub(super) fn await_sources(door: &Door, fed: &[String]) -> anyhow::Result<Scrape> {
    let patience = Nanos::now().after(SOURCES_UP_WITHIN);
    loop {
        let page = look(door, None).page;
        match page {
            Ok(page) if fed.iter().all(|path| page.mounts.get(path).is_some_and(|mount| mount.source_up)) => return Ok(page),
            Err(why) if Nanos::now() > patience => bail!("the server's /metrics: {why}"),
            Ok(_) if Nanos::now() > patience => bail!("not all of {} have their source", fed.join(", ")),
            _ => thread::sleep(LOOK_EVERY),
        }
    }
}
