//! A small town for the tests of this room: mounts, two shards, and a real door on a loopback port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::web::Data;

use super::{House, Settings as AdminSettings, routes};
use crate::chronicle::Chronicle;
use crate::door::acceptor::DoorCounters;
use crate::door::bound::Bound;
use crate::door::patrol::{self, Patrol};
use crate::door::{Door, ListenAddress};
use crate::engine::admission::Seat;
use crate::engine::broadcast::Peer;
use crate::engine::crew::{Clock, Crew};
use crate::engine::inbox::Command;
use crate::engine::listener::Arrival;
use crate::engine::socket::Socket;
use crate::fanout::chunk::Marks;
use crate::fanout::streamheader::Headers;
use crate::mount::actor::OpenGate;
use crate::mount::{Delivery, Profile, Registry, Settings};
use crate::units::ByteCount;

/// The settings of a mount in the town.
pub(super) fn settings(path: &str) -> Settings {
    let profile = Profile {
        name: (path == "/a.mp3").then(|| "The \"A\" & <b>".into()),
        url: Some(if path == "/a.mp3" { "javascript:alert(1)" } else { "https://example.org/" }.into()),
        hidden: path.contains("hidden"),
        ..Profile::default()
    };
    Settings { profile, pipeline: Some("fakesrc".into()), keep: "5s".parse().expect("an extent"), ..crate::mount::testing::settings(path) }
}

/// The town. Its mounts and its door live on a thread of their own.
pub(super) struct Town {
    /// Where the door is.
    pub(super) address: SocketAddr,
    registry: Arc<Registry>,
    chronicle: Arc<Chronicle>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
}

impl Town {
    /// A town with these mounts.
    pub(super) fn with(paths: &[&str]) -> Self {
        Self::of(AdminSettings::default(), paths)
    }

    /// A town with these mounts, and operators as these settings say.
    pub(super) fn of(admin: AdminSettings, paths: &[&str]) -> Self {
        let settings: Vec<_> = paths.iter().map(|path| settings(path)).collect();
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let clock = Clock::default();
                let crew = Crew::start(2, clock).expect("shards");
                let registry = Arc::new(Registry::new(crew, 10_000));
                let arbiter = actix_rt::Arbiter::new();
                for settings in settings {
                    registry.open(settings, &arbiter.handle()).expect("opened");
                }
                let (orders, told) = super::operate::orders();
                drop(told); // nobody here carries out anything
                let counters = Arc::new(DoorCounters::default());
                let patrol = Patrol::new(&patrol::Settings::default());
                let house = Data::new(House::new(admin, Arc::clone(&registry), (Arc::clone(&counters), Arc::clone(&patrol)), orders));
                let chronicle = Arc::clone(&house.chronicle);
                let address = ListenAddress::Inet(([127, 0, 0, 1], 0).into());
                let bound = Bound::http(&address, &[]).expect("a port");
                let local = bound.local_address().expect("an address");
                let door_settings = crate::door::Settings {
                    listen: vec![address],
                    tls: Vec::new(),
                    header_timeout: Duration::from_secs(5),
                    max_header_size: ByteCount(8192),
                    max_connections: 100,
                    patrol: patrol::Settings::default(),
                };
                let configure = move |config: &mut actix_web::web::ServiceConfig| {
                    config.app_data(house.clone());
                    routes(config);
                };
                let nobody = || -> crate::door::Greet { std::rc::Rc::new(|departing, _| drop(departing)) };
                let door =
                    Door::open(&door_settings, vec![bound], (counters, &patrol), clock, Box::new(|| 0), configure, nobody).expect("a door");
                tell.send((local, registry, chronicle)).expect("the test waits");
                let _ = stopped.await;
                drop(door);
                arbiter.stop();
            });
        });
        let (address, registry, chronicle) = told.recv().expect("a town");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { address, registry, chronicle, stop: Some(stop), thread: Some(thread), runtime }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// Sends a request as it is, reads to the end; returns status, head and body.
    pub(super) fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and its end");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), head.to_ascii_lowercase(), body.into())
    }

    /// Asks with this method.
    pub(super) fn ask(&self, method: &str, path: &str, fields: &str) -> (u16, String, String) {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n", self.address))
    }

    /// Gets; returns status and body.
    pub(super) fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path, "");
        (status, body)
    }

    /// Lets a mount's source deliver a few chunks.
    pub(super) fn on_air(&self, path: &str, content_type: &str) {
        let entry = self.registry.find(path).expect("a mount");
        let gate = self.runtime.block_on(entry.actor.send(OpenGate)).expect("a gate");
        let marks = |i: u64| Marks { keyframe: true, pts: Some(i * 100_000_000), ..Marks::default() };
        let chunk = |i| Delivery::Chunk(gate.chunk(vec![0; 1000].into(), marks(i), &Headers::none()).expect("room"));
        gate.deliver((0..20).map(chunk).collect(), Some(&content_type.into())).expect("delivered");
        self.until(|| entry.handle.status().up);
    }

    /// Lets so many listen on a mount; returns their ends, in the order of their numbers.
    pub(super) fn listen(&self, path: &str, count: usize) -> Vec<UnixStream> {
        let entry = self.registry.find(path).expect("a mount");
        let before = entry.handle.listeners();
        let ends = (0..count)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                theirs.set_nonblocking(true).expect("set");
                let arrival = Arrival {
                    wire: Socket::new(theirs).expect("a socket"),
                    broadcast: Arc::clone(&entry.handle.broadcast),
                    head: Box::default(),
                    wish: None,
                    placed: None,
                    inlay: None,
                    id: self.registry.next_listener(),
                    peer: Peer::Unix,
                    user_agent: "test/1".into(),
                    pass: None,
                    trail: crate::engine::trail::Trail::default(),
                    intro: None,
                    accepted: self.registry.crew().clock().now(),
                    seat: Seat::take(self.registry.places(), &entry.handle.places).expect("a place"),
                };
                self.registry.crew().reserve().expect("room").send(Command::Join(Box::new(arrival)));
                ours
            })
            .collect();
        self.until(|| entry.handle.listeners() == before + count as u64);
        ends
    }

    /// Waits for something that comes soon.
    pub(super) fn until(&self, mut true_now: impl FnMut() -> bool) {
        let start = Instant::now();
        while !true_now() {
            assert!(start.elapsed() < Duration::from_secs(10), "it never came true");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.registry.crew().stop();
    }
}
