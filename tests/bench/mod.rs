//! One mount on one real shard, a source that pushes exact chunks, and clients at the other end of real sockets.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use flumen::engine::admission::{Places, Seat};
use flumen::engine::broadcast::{Broadcast, ListenerView, Obituary, Peer, Reports, Rules};
use flumen::engine::crew::{Clock, Crew};
use flumen::engine::inbox::{Command, Reply};
use flumen::engine::listener::Arrival;
use flumen::engine::pace::Coalesce;
use flumen::engine::socket::Socket;
use flumen::fanout::chunk::{Chunk, Marks};
use flumen::fanout::departure::Departure;
use flumen::fanout::history::History;
use flumen::fanout::placement::{SyncMethod, Wish};
use flumen::fanout::recovery::{Limits, RecoverPolicy};
use flumen::fanout::retention::Retention;
use flumen::fanout::streamheader::Headers;
use flumen::units::{ListenerId, Moment};

/// Nothing takes so long unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Obituary>>>);

impl Reports for Log {
    fn departed(&self, gone: Vec<Obituary>) {
        self.0.lock().expect("no panic").extend(gone);
    }
}

/// One mount on one shard.
pub(crate) struct Bench {
    pub(crate) crew: Arc<Crew>,
    pub(crate) broadcast: Arc<Broadcast>,
    pub(crate) history: History,
    headers: Arc<Headers>,
    log: Log,
    places: Arc<Places>,
    pub(crate) pushed: u64,
    joined: u64,
}

/// Nobody is recovered or removed, nothing waits, and send buffers are as small as they get.
pub(crate) fn rules() -> Rules {
    Rules {
        wish: wish(SyncMethod::Latest, "none", "none"),
        limits: Limits::default(),
        recover: RecoverPolicy::None,
        resend_streamheader: true,
        patience: Duration::ZERO,
        idle_timeout: None,
        max_duration: None,
        coalesce: Coalesce { min: Duration::ZERO, max: Duration::ZERO },
        send_buffer: Some(4096),
        dscp: None,
        keep_half_closed: false,
        memory_max: 256 << 20,
    }
}

pub(crate) fn wish(method: SyncMethod, burst: &str, burst_max: &str) -> Wish {
    Wish { method, burst: burst.parse().expect(burst), burst_max: burst_max.parse().expect(burst_max) }
}

impl Bench {
    /// A shard and a mount with these rules.
    pub(crate) fn new(rules: Rules) -> Self {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let log = Log::default();
        let keep = "1h".parse().expect("an hour");
        let history = History::new(Retention::new(keep, &rules.wish, &rules.limits, rules.recover, 128 << 20));
        let broadcast = Arc::new(Broadcast::new(0, "/test".parse().expect("a path"), &crew.alarms(), rules, Arc::new(log.clone())));
        let places = Arc::new(Places::new(None));
        Self { crew, broadcast, history, headers: Headers::none(), log, places, pushed: 0, joined: 0 }
    }

    /// Pushes a chunk; they are 20 ms apart.
    pub(crate) fn push_as(&mut self, payload: &[u8], keyframe: bool) {
        let stamp = self.pushed * 20_000_000;
        let marks = Marks { keyframe, pts: Some(stamp), ..Marks::default() };
        let chunk = Arc::new(Chunk::new(payload.into(), marks, Arc::clone(&self.headers), &self.broadcast.account));
        self.pushed += 1;
        self.broadcast.feed.write(|ring| self.history.push(ring, chunk, Moment::from_nanos(stamp)));
    }

    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.push_as(payload, true);
    }

    /// Pushes chunks of 16 bytes with running numbers; `K` is a keyframe.
    pub(crate) fn picture(&mut self, picture: &str) {
        for kind in picture.chars() {
            self.push_as(&numbered(self.pushed), kind == 'K');
        }
    }

    pub(crate) fn caps(&mut self, streamheader: &[&str]) {
        self.headers = Headers::new(streamheader, false, &self.broadcast.account);
    }

    pub(crate) fn join_on(&mut self, fd: impl Into<OwnedFd>, wish: Option<Wish>, head: &[u8]) -> ListenerId {
        self.joined += 1;
        let id = ListenerId(self.joined);
        let arrival = Arrival {
            wire: Socket::new(fd).expect("a socket"),
            broadcast: Arc::clone(&self.broadcast),
            head: head.into(),
            wish: wish.map(Box::new),
            placed: None,
            inlay: None,
            id,
            peer: Peer::Unix,
            user_agent: "test".into(),
            pass: None,
            trail: flumen::engine::trail::Trail::default(),
            intro: None,
            accepted: self.crew.clock().now(),
            seat: Seat::take(&self.places, &self.places).expect("a seat"),
        };
        self.crew.reserve().expect("a place").send(Command::Join(Box::new(arrival)));
        id
    }

    /// A client with a placement of its own. Its join has been served when this returns.
    pub(crate) fn join_as(&mut self, method: SyncMethod, burst: &str, burst_max: &str) -> Client<UnixStream> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let id = self.join_on(theirs, Some(wish(method, burst, burst_max)), b"");
        self.settle();
        Client { id, stream: ours }
    }

    pub(crate) fn join(&mut self) -> Client<UnixStream> {
        self.join_as(SyncMethod::Latest, "none", "none")
    }

    /// Asks the shard for its list. The answer comes after all that was written before has been looked at.
    pub(crate) fn list(&self) -> Vec<ListenerView> {
        let (take, part) = mpsc::channel();
        let reply = Reply::new(move |part| {
            let _ = take.send(part);
        });
        assert!(self.crew.hands()[0].inbox.tell(Command::List { slot: 0, from: 0, most: 1000, reply }));
        part.recv_timeout(PATIENCE).expect("an answer").listeners
    }

    /// Lets the shard turn until it has looked at all that was written, and has served whom it had to serve: the turn it is in
    /// may have begun before, and in the one after that the window (which is zero) begins.
    pub(crate) fn settle(&self) {
        let turns = || self.crew.hands()[0].counters.turns.load(Ordering::Relaxed);
        let enough = turns() + 4;
        while turns() < enough {
            self.list();
        }
    }

    pub(crate) fn view(&self, id: ListenerId) -> ListenerView {
        self.list().into_iter().find(|view| view.id == id).expect("it is here")
    }

    pub(crate) fn drain(&self) {
        self.crew.tell_all(|| Command::Drain { slot: Some(0), why: Departure::SourceEnded });
    }

    /// Removes a client at once; answers whether it was here.
    pub(crate) fn kick(&self, id: ListenerId) -> bool {
        let (take, found) = mpsc::channel();
        let reply = Reply::new(move |found| {
            let _ = take.send(found);
        });
        assert!(self.crew.hands()[0].inbox.tell(Command::Kick { slot: 0, id, why: Departure::Kicked, reply }));
        found.recv_timeout(PATIENCE).expect("an answer")
    }

    /// Waits for the one departure of a client.
    pub(crate) fn departure(&self, id: ListenerId) -> Obituary {
        let start = Instant::now();
        loop {
            let found: Vec<_> = self.log.0.lock().expect("no panic").iter().filter(|gone| gone.id == id).cloned().collect();
            assert!(found.len() <= 1, "{found:?}");
            if let Some(gone) = found.into_iter().next() {
                return gone;
            }
            assert!(start.elapsed() < PATIENCE, "{id:?} does not leave");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whatever a test did, nothing is left of it, and the numbers agree.
impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.crew.tell_all(|| Command::Clear { why: Departure::ShuttingDown });
            self.settle();
            assert_eq!((self.broadcast.counters.listeners(), self.places.taken()), (0, 0));
            assert_eq!(self.log.0.lock().expect("no panic").len() as u64, self.joined, "each leaves once");
        }
        self.crew.stop();
    }
}

pub(crate) struct Client<S> {
    pub(crate) id: ListenerId,
    pub(crate) stream: S,
}

impl Client<UnixStream> {
    /// The next bytes are exactly these.
    pub(crate) fn expect(&mut self, want: impl AsRef<[u8]>) {
        let want = want.as_ref();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut got = vec![0; want.len()];
        self.stream.read_exact(&mut got).expect("as many bytes as wanted");
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(want));
    }

    /// Nothing is here now. Ask only of a shard that has settled.
    pub(crate) fn expect_nothing(&mut self) {
        self.stream.set_nonblocking(true).expect("non-blocking");
        let error = self.stream.read(&mut [0; 1]).map(|_| ()).expect_err("something came");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        self.stream.set_nonblocking(false).expect("blocking");
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("an end");
        rest
    }
}

/// 16 bytes, as in GStreamer's tests.
pub(crate) fn numbered(number: u64) -> [u8; 16] {
    let text = format!("deadbaad{number:08x}");
    text.into_bytes().try_into().expect("sixteen bytes")
}

pub(crate) fn all_numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(numbered).collect()
}

/// A chunk that no send buffer takes at once.
pub(crate) fn large(number: u64) -> Vec<u8> {
    numbered(number).repeat(4096)
}
