//! One measurement: a source, a server, listeners, each a process of its own, and what the listeners found.
//!
//! ```text
//!  loadtest source ──▶ server ──▶ loadtest listen ──JSON──▶ figures
//!         (or, for a server that is pushed to, the server first)
//! ```
//! Everything is started anew for every measurement, so that no server profits or suffers from what was before.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::children::{Child, Home, Interrupt, Ports};
use super::figures::{Figures, Heard};
use super::setup::{self, Feed, PASSWORD, PATH, Place, Servant, Setup};
use super::work::Row;
use crate::cli::{PeerName, loopback};
use crate::clock::Nanos;
use crate::http::{self, Parsed, Version};
use crate::target::Protocol;

/// How long a server may take until a first listener hears something.
const READY: Duration = Duration::from_secs(20);
const ATTEMPT: Duration = Duration::from_millis(500);
/// How long the history for bursts is waited for at most.
const HISTORY_MOST: Duration = Duration::from_secs(8);
/// Beyond what a run of `listen` takes by its own bounds.
const SPARE: Duration = Duration::from_secs(60);
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// More loopback addresses of listeners than one need ports for.
const SOURCE_ADDRESSES: usize = 4;
/// About so many listeners are measured exactly.
const MEASURED: usize = 200;
const VERIFIED: usize = 16;

/// What all measurements have in common.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) burst: u32,
    pub(super) servant: Option<Servant>,
    pub(super) cores: usize,
    pub(super) own: PathBuf,
    pub(super) interrupt: &'a Interrupt,
}

/// What a server said and how it fared.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) figures: Figures,
    /// Its `Server` header.
    pub(super) server: Option<String>,
}

impl Bench<'_> {
    pub(super) fn measure(&self, peer: PeerName, program: &Path, row: &Row, ports: &mut Ports, number: u32) -> anyhow::Result<Found> {
        let home = Home::new(number)?;
        let (port, source_port) = (ports.free()?, ports.free()?);
        let place =
            Place { row, burst: self.burst, port, source_port, home: home.path(), servant: self.servant.as_ref(), cores: self.cores };
        let setup = setup::setup(peer, &place);
        // Dropped in reverse order: first the source would only make servers complain.
        let (mut source, mut server);
        if setup.feed == Feed::Push {
            server = start_server(peer, program, &setup, home.path())?;
            self.until_open(port, &mut server)?;
            source = self.start_source(setup.feed, row, &place)?;
        } else {
            source = self.start_source(setup.feed, row, &place)?;
            self.until_open(source_port, &mut source)?;
            server = start_server(peer, program, &setup, home.path())?;
        }
        let name = self.until_heard(port, &mut server, &mut source)?;
        let history = Duration::from_secs_f64(f64::from(self.burst) / row.work.rate.0).min(HISTORY_MOST);
        self.interrupt.sleep(history)?;
        let most = if row.reconnect { setup::joins_per_second_most(peer) } else { f64::INFINITY };
        let gentle = Row { ramp: row.ramp.min(most), ..row.clone() };
        let heard = self.listen(&setup, &gentle, port, server.pid(), home.path())?;
        server.check()?;
        source.check()?;
        ensure!(heard.joined() > 0, "nobody was served; {}: {}", peer.label(), server.last_words());
        let figures = Figures::of(&heard, row.work.listeners, row.work.rate.0, row.stalled.0);
        Ok(Found { figures, server: name })
    }

    fn start_source(&self, feed: Feed, row: &Row, place: &Place<'_>) -> anyhow::Result<Child> {
        let work = &row.work;
        let mut arguments: Vec<String> = ["source", "--rate", &work.rate.0.to_string()].map(str::to_owned).into();
        arguments.extend(["--record-size".to_owned(), work.record_size().to_string()]);
        arguments.extend(["--keyframe-every".to_owned(), work.keyframe_every().to_string()]);
        let listen = ["--listen".to_owned(), loopback(place.source_port).to_string()];
        match feed {
            Feed::Gdp => arguments.extend(listen.into_iter().chain(["--gdp".to_owned()])),
            Feed::Plain => arguments.extend(listen),
            Feed::Http => arguments.extend(listen.into_iter().chain(["--serve-http".to_owned()])),
            Feed::Push => {
                arguments.extend(["--icecast".to_owned(), format!("http://source:{PASSWORD}@{}{PATH}", loopback(place.port))]);
            }
        }
        Child::start("source", &self.own, &arguments, place.home)
    }

    fn listen(&self, setup: &Setup, row: &Row, port: u16, pid: u32, home: &Path) -> anyhow::Result<Heard> {
        let (result, listeners) = (home.join("result.json"), row.work.listeners);
        let words = [
            ("-n", listeners.to_string()),
            ("--ramp", format!("{}/s", row.ramp)),
            ("--settle", milliseconds(row.settle)),
            ("--duration", milliseconds(row.duration)),
            ("--interval", "10s".to_owned()),
            ("--join-timeout", milliseconds(JOIN_TIMEOUT)),
            ("--source-addresses", SOURCE_ADDRESSES.to_string()),
            ("--measure-every", (listeners / MEASURED).clamp(1, 50).to_string()),
            ("--verify", VERIFIED.min(listeners.div_ceil(2)).to_string()),
            ("--verify-as", "records".to_owned()),
            ("--start", if setup.exact { "exact" } else { "anywhere" }.to_owned()),
            ("--stalled", format!("{}%", row.stalled.0 * 100.0)),
            ("--slow-buffer", "16KiB".to_owned()),
            ("--pid", pid.to_string()),
            ("--format", "json".to_owned()),
            ("--json", result.display().to_string()),
        ];
        let mut arguments = vec!["listen".to_owned(), format!("http://{}{PATH}", loopback(port))];
        arguments.extend(words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        arguments.extend(row.reconnect.then(|| "--reconnect".to_owned()));
        let ramp = Duration::from_secs_f64(listeners as f64 / row.ramp);
        let patience = ramp + JOIN_TIMEOUT + row.settle + row.duration + SPARE;
        let mut child = Child::start("listen", &self.own, &arguments, home)?;
        // Its exit code is a verdict on the server; whether there is a result says how the tool fared.
        child.finish(patience, self.interrupt)?;
        let text = fs::read_to_string(&result).with_context(|| format!("no result: {}", child.last_words()))?;
        serde_json::from_str(&text).context("the result cannot be read")
    }

    /// Waits until somebody listens on a port.
    fn until_open(&self, port: u16, child: &mut Child) -> anyhow::Result<()> {
        let end = Nanos::now().after(READY);
        while TcpStream::connect_timeout(&loopback(port), ATTEMPT).is_err() {
            child.check()?;
            ensure!(Nanos::now() < end, "nobody listens on port {port}: {}", child.last_words());
            self.interrupt.sleep(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Waits until a listener hears something, and says what the server calls itself.
    fn until_heard(&self, port: u16, server: &mut Child, source: &mut Child) -> anyhow::Result<Option<String>> {
        let end = Nanos::now().after(READY);
        let mut last = String::from("nothing tried");
        while Nanos::now() < end {
            server.check()?;
            source.check()?;
            match one_listener(port, end, self.interrupt) {
                Ok(name) => return Ok(name),
                Err(why) => last = format!("{why:#}"),
            }
            self.interrupt.sleep(Duration::from_millis(50))?;
        }
        anyhow::bail!("no stream within {} s ({last}); the server: {}", READY.as_secs(), server.last_words())
    }
}

fn start_server(peer: PeerName, program: &Path, setup: &Setup, home: &Path) -> anyhow::Result<Child> {
    let mut arguments = setup.arguments.clone();
    if let Some(text) = &setup.config {
        let path = home.join("config");
        fs::write(&path, text)?;
        arguments.push(path.display().to_string());
    }
    Child::start(peer.label(), program, &arguments, home)
}

/// A listener who leaves at the first body byte.
fn one_listener(port: u16, end: Nanos, interrupt: &Interrupt) -> anyhow::Result<Option<String>> {
    let mut socket = TcpStream::connect_timeout(&loopback(port), ATTEMPT)?;
    socket.set_read_timeout(Some(ATTEMPT))?;
    socket.set_write_timeout(Some(ATTEMPT))?;
    let protocol = Protocol::Http { host: loopback(port).to_string(), path: PATH.to_owned() };
    socket.write_all(&http::request(&protocol, Version::Http11))?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while Nanos::now() < end {
        interrupt.check()?;
        match socket.read(&mut piece) {
            Ok(0) => anyhow::bail!("it hung up"),
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            // A server may hold back until it has a burst.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
        match http::parse_head(&answer) {
            Parsed::Nonsense => anyhow::bail!("its answer is not HTTP"),
            Parsed::Whole(head) if head.status != 200 => anyhow::bail!("it answered {}", head.status),
            Parsed::Whole(head) if answer.len() > head.length => return Ok(head.server),
            Parsed::Whole(_) | Parsed::Partial => {}
        }
    }
    anyhow::bail!("its answer has no body")
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
