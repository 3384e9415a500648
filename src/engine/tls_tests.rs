//! A session against a real client, over a pretend socket that takes as little as it likes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{
    AlertDescription, CipherSuiteCommon, ClientConfig, ClientConnection, Error, ProtocolVersion, RootCertStore, ServerConfig,
    SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite, Tls13CipherSuite,
};

use super::*;
use crate::engine::admission::{Places, Seat};
use crate::engine::alarm::Alarm;
use crate::engine::broadcast::{Broadcast, Peer, Rules};
use crate::engine::counters::ShardCounters;
use crate::engine::inbox::{Command, Inbox};
use crate::engine::listener::Arrival;
use crate::engine::shard::{Next, Readiness, Shard, Token, Watch};
use crate::engine::socket::Wire;
use crate::engine::world::{World, rules, window};
use crate::fanout::departure::Departure;
use crate::fanout::testing::chunk;
use crate::units::{ListenerId, Moment};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// The socket between the two: it takes so many bytes, then none.
#[derive(Default)]
struct Choke {
    room: usize,
    to_client: Vec<u8>,
    to_server: VecDeque<u8>,
    ended: bool,
}

impl Choke {
    fn wide() -> Self {
        Self { room: usize::MAX, ..Self::default() }
    }

    /// What the client has to say gets here.
    fn hear_from(&mut self, client: &mut ClientConnection) {
        while client.wants_write() {
            client.write_tls(&mut self.to_server).expect("written");
        }
    }

    /// Lets the client have what has come through; returns what it heard, and whether it was told that this is the end.
    fn tell(&mut self, client: &mut ClientConnection) -> Result<(Vec<u8>, bool), Error> {
        let (mut rest, mut heard, mut ended) = (&self.to_client[..], Vec::new(), false);
        while !rest.is_empty() {
            if client.read_tls(&mut rest).expect("read") == 0 {
                break; // nothing counts behind the end
            }
            ended = client.process_new_packets()?.peer_has_closed();
            let _ = client.reader().read_to_end(&mut heard); // it ends with WouldBlock
        }
        self.to_client.clear();
        Ok((heard, ended))
    }

    /// The lengths of the records that came through.
    fn records(&self) -> Vec<usize> {
        let (mut rest, mut lengths) = (&self.to_client[..], Vec::new());
        while let [_, _, _, high, low, ..] = rest {
            let length = usize::from(*high) << 8 | usize::from(*low);
            lengths.push(length);
            rest = &rest[5 + length..];
        }
        lengths
    }
}

impl Write for Choke {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.to_client.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Choke {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.to_server.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.to_server.read(buffer)
    }
}

/// Suites whose keys are used up with so many records, however good they are.
fn limited(most: u64) -> CryptoProvider {
    let limit =
        |of: &CipherSuiteCommon| CipherSuiteCommon { confidentiality_limit: most, suite: of.suite, hash_provider: of.hash_provider };
    let mut provider = default_provider();
    for suite in &mut provider.cipher_suites {
        *suite = match *suite {
            SupportedCipherSuite::Tls12(of) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: limit(&of.common),
                prf_provider: of.prf_provider,
                kx: of.kx,
                sign: of.sign,
                aead_alg: of.aead_alg,
            }))),
            SupportedCipherSuite::Tls13(of) => SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: limit(&of.common),
                hkdf_provider: of.hkdf_provider,
                aead_alg: of.aead_alg,
                quic: of.quic,
            }))),
        };
    }
    provider
}

/// Two ends that have shaken hands.
fn shaken(version: &'static SupportedProtocolVersion) -> (Session, ClientConnection) {
    shaken_by(version, default_provider())
}

fn shaken_by(version: &'static SupportedProtocolVersion, provider: CryptoProvider) -> (Session, ClientConnection) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let provider = Arc::new(provider);
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).expect("a version");
    let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).expect("a pair");
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().expect("a name")).expect("a client");
    let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
    let mut socket = Choke::wide();
    while client.is_handshaking() || server.is_handshaking() {
        socket.hear_from(&mut client);
        while !socket.to_server.is_empty() {
            server.read_tls(&mut socket).expect("read");
            server.process_new_packets().expect("a handshake");
        }
        while server.wants_write() {
            server.write_tls(&mut socket).expect("written");
        }
        socket.tell(&mut client).expect("a handshake");
    }
    assert!([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3].contains(&server.protocol_version().expect("a version")));
    (Session::new(server), client)
}

fn stream(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

/// A stream as a cursor shows it: chunk by chunk.
fn slices(stream: &[u8]) -> Vec<IoSlice<'_>> {
    stream.chunks(417).take(96).map(IoSlice::new).collect()
}

#[test]
fn however_little_the_peer_takes_at_a_time_it_hears_every_byte_once() {
    let stream = stream(40_000);
    for version in VERSIONS {
        let (mut session, mut client) = shaken(version);
        for step in (1..=200).chain([1000, 16_383, 16_384, 16_400, 16_405, 16_406, 16_407, 39_000, usize::MAX]) {
            // What one step lets through is short where steps are, or this would take for ever.
            let stream = &stream[..stream.len().min(step.saturating_mul(400))];
            let (mut socket, mut sent, mut heard) = (Choke::default(), 0, Vec::new());
            while sent < stream.len() || session.holds() {
                socket.room = step;
                match session.send(&mut socket, &slices(&stream[sent..])) {
                    Ok(taken) => sent += taken,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                heard.extend(socket.tell(&mut client).expect("records").0);
                assert!(sent - heard.len() <= HELD_MOST, "{} bytes are held", sent - heard.len());
            }
            assert!(heard == *stream, "{step} at a time");
        }
    }
}

#[test]
fn what_waits_together_makes_one_record_up_to_the_largest() {
    for version in VERSIONS {
        let (mut session, _) = shaken(version);
        let mut socket = Choke::wide();
        for (shown, want) in [(1, 1), (30 * 417, 30 * 417), (16_384, 16_384), (16_385, 16_384), (39_000, 16_384)] {
            socket.to_client.clear();
            let stream = stream(shown);
            assert_eq!(session.send(&mut socket, &slices(&stream)).expect("sent"), want);
            let records = socket.records();
            assert!(records.len() == 1 && records[0] - want <= 24, "{shown} bytes became records of {records:?}");
        }
    }
}

#[test]
fn progress_of_what_is_held_is_told_from_none_and_nothing_new_is_sealed_meanwhile() {
    for version in VERSIONS {
        let (mut session, mut client) = shaken(version);
        let (mut socket, stream) = (Choke::default(), stream(1000));
        assert_eq!(session.send(&mut socket, &slices(&stream)).expect("taken"), 1000);
        assert!(session.holds());
        for _ in 0..3 {
            assert_eq!(session.send(&mut socket, &slices(&stream)).expect_err("full").kind(), io::ErrorKind::WouldBlock);
            socket.room = 100;
            assert_eq!(session.send(&mut socket, &slices(&stream)).expect("some of it went"), 0);
            assert!(session.holds());
        }
        socket.room = usize::MAX;
        assert_eq!(session.send(&mut socket, &[]).expect("the rest went"), 0);
        assert!(!session.holds());
        assert_eq!(socket.tell(&mut client).expect("a record").0, stream);
    }
}

#[test]
fn what_a_peer_sends_is_counted_and_its_end_is_an_end() {
    for version in VERSIONS {
        for says_goodbye in [true, false] {
            let (mut session, mut client) = shaken(version);
            let mut socket = Choke::wide();
            assert_eq!(session.discard(&mut socket).expect("nothing"), Discarded::Dry(0));
            client.writer().write_all(&stream(3000)).expect("written");
            socket.hear_from(&mut client);
            let all = socket.to_server.len() as u32;
            assert_eq!(session.discard(&mut socket).expect("discarded"), Discarded::Dry(all));
            if says_goodbye {
                client.send_close_notify();
                socket.hear_from(&mut client);
            } else {
                socket.ended = true;
            }
            for _ in 0..2 {
                assert_eq!(session.discard(&mut socket).expect("the end"), Discarded::Closed, "{says_goodbye}");
            }
        }
    }
}

#[test]
fn new_keys_change_nothing_for_the_stream() {
    let (mut session, mut client) = shaken(&rustls::version::TLS13);
    let (mut socket, stream) = (Choke::wide(), stream(20_000));
    for _ in 0..5 {
        client.refresh_traffic_keys().expect("new keys");
        client.writer().write_all(b"?").expect("written");
        socket.hear_from(&mut client);
        assert!(matches!(session.discard(&mut socket).expect("obeyed"), Discarded::Dry(1..)));
        let mut sent = 0;
        while sent < stream.len() {
            sent += session.send(&mut socket, &slices(&stream[sent..])).expect("sent");
        }
        assert!(socket.tell(&mut client).expect("the answer and the stream").0 == stream);
    }
}

#[test]
fn what_was_taken_is_heard_also_where_keys_are_used_up_and_who_cannot_have_new_ones_is_told_in_time() {
    const MOST: u64 = 4096;
    for version in VERSIONS {
        let (mut session, mut client) = shaken_by(version, limited(MOST));
        let (mut socket, stream) = (Choke::wide(), stream(100));
        let (mut taken, mut heard, mut in_time) = (0, 0, None);
        for record in 0..4 * MOST {
            let Ok(bytes) = session.send(&mut socket, &slices(&stream)) else { break };
            taken += bytes;
            let (told, ended) = socket.tell(&mut client).expect("records");
            heard += told.len();
            assert!(!ended && heard == taken, "{heard} of {taken} bytes, in record {record}");
            if in_time.is_none() && session.is_spent() {
                in_time = Some(record);
            }
            // Keys that are new are answered with new ones.
            socket.hear_from(&mut client);
            assert!(matches!(session.discard(&mut socket).expect("obeyed"), Discarded::Dry(_)));
        }
        let renews = version.version == ProtocolVersion::TLSv1_3;
        assert_eq!(taken as u64 / 100, if renews { 4 * MOST } else { MOST - MOST / 512 });
        assert_eq!(in_time, (!renews).then_some(MOST - MOST / 256 - 1));
        session.farewell(&mut socket);
        assert_eq!(socket.tell(&mut client).expect("records"), (Vec::new(), true), "the end is said all the same");
    }
}

#[test]
fn rubbish_ends_a_session_with_an_alert() {
    for version in VERSIONS {
        let (mut session, mut client) = shaken(version);
        let mut socket = Choke::wide();
        socket.to_server.extend([0x17, 3, 3, 0, 32]);
        socket.to_server.extend([7; 32]);
        assert_eq!(session.discard(&mut socket).expect_err("rubbish").kind(), io::ErrorKind::InvalidData);
        let told = socket.tell(&mut client).expect_err("an alert");
        assert!(matches!(told, Error::AlertReceived(AlertDescription::BadRecordMac)), "{told:?}");
    }
}

#[test]
fn a_record_that_never_ends_is_not_waited_for() {
    let (mut session, _) = shaken(&rustls::version::TLS13);
    let mut socket = Choke::wide();
    socket.to_server.extend([0x17, 3, 3, 0x40, 0x10]);
    let mut read = 0;
    loop {
        socket.to_server.extend([7; 500]);
        match session.discard(&mut socket) {
            Ok(Discarded::Dry(bytes)) => read += bytes as usize,
            Ok(other) => panic!("{other:?}"),
            Err(error) => break assert_eq!(error.kind(), io::ErrorKind::InvalidData),
        }
        assert!(read <= BARREN_MOST, "{read} bytes were waited with");
    }
}

#[test]
fn the_end_is_said_behind_everything_else() {
    for version in VERSIONS {
        let (mut session, mut client) = shaken(version);
        let (mut socket, stream) = (Choke { room: 10, ..Choke::default() }, stream(5000));
        assert_eq!(session.send(&mut socket, &slices(&stream)).expect("taken"), 5000);
        socket.room = usize::MAX;
        session.farewell(&mut socket);
        assert_eq!(socket.tell(&mut client).expect("records"), (stream, true));
    }
}

/// A session on a pretend socket, as a shard has it.
struct Line(Session, Rc<RefCell<Choke>>);

impl Wire for Line {
    fn prepare(&mut self, _: &Rules) -> io::Result<()> {
        Ok(())
    }
    fn set_send_buffer(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn give_up(&mut self) {}
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(&mut *self.1.borrow_mut(), slices)
    }
    fn holds(&self) -> bool {
        self.0.holds()
    }
    fn is_spent(&self) -> bool {
        self.0.is_spent()
    }
    fn farewell(&mut self) {
        self.0.farewell(&mut *self.1.borrow_mut());
    }
    fn discard(&mut self) -> io::Result<Discarded> {
        self.0.discard(&mut *self.1.borrow_mut())
    }
}

/// Remembers the one token.
#[derive(Default)]
struct Only(Option<Token>);

impl Watch<Line> for Only {
    fn watch(&mut self, _: &mut Line, token: Token) -> io::Result<()> {
        self.0 = Some(token);
        Ok(())
    }
}

fn arrival(wire: Line, broadcast: Arc<Broadcast>, places: &Arc<Places>) -> Arrival<Line> {
    Arrival {
        wire,
        broadcast,
        head: Box::from(*b"head, "),
        wish: None,
        placed: None,
        inlay: None,
        id: ListenerId(1),
        peer: Peer::Unix,
        user_agent: "".into(),
        pass: None,
        trail: crate::engine::trail::Trail::default(),
        intro: None,
        accepted: Moment::ZERO,
        seat: Seat::take(places, &Arc::new(Places::new(None))).expect("a seat"),
    }
}

#[test]
fn a_listener_whose_keys_are_nearly_used_up_leaves_behind_a_whole_chunk_and_is_told_the_end() {
    let (session, mut client) = shaken_by(&rustls::version::TLS12, limited(8192));
    let socket = Rc::new(RefCell::new(Choke::wide()));
    let mut world = World::seeded(32, 1);
    let mount = world.mount(Rules { coalesce: window(0), ..rules() }, "10s", 1 << 20); // each chunk is a record
    let broadcast = Arc::clone(&world.mount_at(mount).broadcast);
    let (inbox, places, mut watch) = (Inbox::new(Alarm::silent()), Arc::new(Places::new(None)), Only::default());
    assert!(inbox.tell(Command::Join(Box::new(arrival(Line(session, Rc::clone(&socket)), Arc::clone(&broadcast), &places)))));
    let mut shard = Shard::new(0, Arc::new(ShardCounters::default()), Moment::ZERO);
    let (mut now, mut pushed, mut heard, mut ended) = (Moment::ZERO, 0, Vec::new(), false);
    shard.turn(now, &inbox, &mut watch);
    while places.taken() > 0 && pushed < 10_000 {
        broadcast.feed.write(|ring| {
            ring.push(chunk(b"a chunk", true), pushed * 100_000_000);
            ring.trim(ring.next().back(50));
        });
        pushed += 1;
        for _ in 0..2 {
            now = now + Duration::from_millis(50);
            shard.turn(now, &inbox, &mut watch);
        }
        let (told, end) = socket.borrow_mut().tell(&mut client).expect("records");
        heard.extend(told);
        ended |= end;
    }
    assert!((8100..8192).contains(&pushed), "after {pushed} records");
    assert_eq!(broadcast.counters.departures[Departure::SessionLimit.index()].load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(ended && heard == [b"head, ".as_slice(), &b"a chunk".repeat(pushed as usize)].concat());
}

#[test]
fn a_listener_that_leaves_in_order_is_sent_what_its_session_holds_and_told_the_end() {
    for version in VERSIONS {
        let (session, mut client) = shaken(version);
        let socket = Rc::new(RefCell::new(Choke::default()));
        let mut world = World::seeded(31, 1);
        let mount = world.mount(rules(), "10s", 1 << 20);
        let broadcast = Arc::clone(&world.mount_at(mount).broadcast);
        broadcast.feed.write(|ring| ring.push(chunk(b"the whole stream", true), 0));
        let (inbox, places, mut watch) = (Inbox::new(Alarm::silent()), Arc::new(Places::new(None)), Only::default());
        assert!(inbox.tell(Command::Join(Box::new(arrival(Line(session, Rc::clone(&socket)), broadcast, &places)))));
        let mut shard = Shard::new(0, Arc::new(ShardCounters::default()), Moment::ZERO);
        shard.turn(Moment::ZERO, &inbox, &mut watch);
        assert!(inbox.tell(Command::Drain { slot: None, why: Departure::SourceEnded }));
        shard.turn(Moment::ZERO, &inbox, &mut watch);
        assert_eq!(places.taken(), 1, "everything is sealed and nothing has left");
        let writable = |shard: &mut Shard<Line>| {
            shard.event(watch.0.expect("watched"), Readiness { writable: true, ..Readiness::default() }, Moment::ZERO);
            shard.turn(Moment::ZERO, &inbox, &mut Only::default())
        };
        socket.borrow_mut().room = 20;
        assert!(matches!(writable(&mut shard), Next::Sleep(_)));
        assert_eq!(places.taken(), 1, "not all of it has left");
        socket.borrow_mut().room = usize::MAX;
        writable(&mut shard);
        assert_eq!(places.taken(), 0, "on a silent mount, with nothing unsent but what was held");
        assert_eq!(socket.borrow_mut().tell(&mut client).expect("records"), (b"head, the whole stream".to_vec(), true));
    }
}

#[test]
fn a_session_and_its_box_are_small() {
    assert!(size_of::<Session>() as u64 <= SESSION_BYTES / 8, "{} bytes", size_of::<Session>());
}
