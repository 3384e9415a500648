//! Shards that stand still and go on, and listeners that go on with other shards: over real sockets, with real threads.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Places, Seat, Who};
use super::broadcast::{Broadcast, Obituary, Peer, Reports, Rules};
use super::crew::{Clock, Crew};
use super::frost::NotFrozen;
use super::inbox::{Command, Reply};
use super::listener::{Arrival, Carried, Inlay};
use super::socket::Socket;
use super::world::{limits, ms, rules};
use crate::fanout::chunk::{Chunk, Marks};
use crate::fanout::passing::{Packing, Unpacked};
use crate::fanout::stats::read;
use crate::fanout::streamheader::Headers;
use crate::handover::Outgoing;
use crate::units::ListenerId;
use crate::wire::icy;

#[derive(Debug)]
struct Nobody;

impl Reports for Nobody {
    fn departed(&self, gone: Vec<Obituary>) {
        assert!(gone.is_empty(), "nobody is to leave: {gone:?}");
    }
}

/// A crew with one mount.
struct Hall {
    crew: Arc<Crew>,
    broadcast: Arc<Broadcast>,
    server: Arc<Places>,
    mount: Arc<Places>,
}

impl Hall {
    fn new() -> Self {
        Self::under(rules())
    }

    fn under(rules: Rules) -> Self {
        let crew = Crew::start(2, Clock::default()).expect("shards");
        let rules = Rules { memory_max: 1 << 30, ..rules };
        let broadcast = Broadcast::new(3, "/a".parse().expect("a path"), &crew.alarms(), rules, Arc::new(Nobody));
        broadcast.title.set(icy::block("a title", None));
        let [server, mount] = [(); 2].map(|()| Arc::new(Places::new(None)));
        Self { crew, broadcast: Arc::new(broadcast), server, mount }
    }

    fn push(&self, headers: &Arc<Headers>, payload: &[u8]) {
        let marks = Marks { keyframe: true, ..Marks::default() };
        let chunk = Arc::new(Chunk::new(payload.into(), marks, Arc::clone(headers), &self.broadcast.account));
        self.broadcast.feed.write(|ring| ring.push(chunk, ring.next().number() * 1_000_000));
    }

    fn join(&self, id: u64, icy: Option<u32>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let arrival = Arrival {
            wire: Socket::new(ours).expect("a socket"),
            broadcast: Arc::clone(&self.broadcast),
            head: format!("head {id};").into_bytes().into(),
            wish: None,
            placed: None,
            inlay: icy.map(Inlay::Titles),
            id: ListenerId(id),
            peer: Peer::Unix,
            user_agent: "ears".into(),
            pass: None,
            trail: crate::engine::trail::Trail::default(),
            intro: None,
            accepted: self.crew.clock().now(),
            seat: Seat::take(&self.server, &self.mount).expect("a seat"),
        };
        self.crew.reserve().expect("room").send(Command::Join(Box::new(arrival)));
        theirs
    }
}

/// Reads exactly so many bytes.
fn hear(mut from: &UnixStream, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    from.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    from.read_exact(&mut heard).expect("bytes of the stream");
    heard
}

fn is_silent(mut from: &UnixStream) -> bool {
    from.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    from.read(&mut [0]).is_err()
}

#[test]
fn shards_that_are_frozen_send_nothing_and_thaw_as_if_nothing_had_been() {
    let hall = Hall::new();
    let headers = Headers::new(&["<h>"], false, &hall.broadcast.account);
    let peers: Vec<_> = (1..=4).map(|id| hall.join(id, None)).collect();
    hall.push(&headers, b"one,");
    peers.iter().enumerate().for_each(|(i, peer)| assert_eq!(hear(peer, 14), format!("head {};<h>one,", i + 1).as_bytes()));
    let mut others = Vec::new(); // who goes away would be told
    for _ in 0..3 {
        let frost = hall.crew.freeze(Duration::from_secs(5)).expect("they stand still");
        hall.push(&headers, b"two,");
        let late = hall.join(9, None);
        assert!(is_silent(&peers[0]) && is_silent(&late));
        drop(frost);
        peers.iter().for_each(|peer| assert_eq!(hear(peer, 4), b"two,"));
        assert_eq!(hear(&late, 14), b"head 9;<h>two,");
        others.push(late);
    }
    assert_eq!(read(&hall.broadcast.counters.departures[0]), 0);
}

#[test]
fn who_was_blocked_before_a_freeze_is_not_judged_for_what_came_while_it_lasted() {
    let hall = Hall::under(Rules { limits: limits("none", "20 chunks"), patience: ms(50), ..rules() });
    let (headers, large) = (Headers::none(), vec![b'.'; 1_000_000]); // more than a socket takes
    let blocked = [1, 2].map(|id| hall.join(id, None));
    let end = Instant::now() + Duration::from_secs(10);
    while hall.broadcast.counters.listeners() < 2 && Instant::now() < end {
        std::thread::sleep(ms(5));
    }
    hall.push(&headers, &large);
    std::thread::sleep(ms(300));
    let frost = hall.crew.freeze(Duration::from_secs(5)).expect("they stand still");
    (0..40).for_each(|_| hall.push(&headers, b"!"));
    // Who joins has the copy brought up to date in the very turn in which the shard stood still.
    let _others = [3, 4].map(|id| hall.join(id, None));
    std::thread::sleep(ms(1500));
    frost.thaw();
    for peer in &blocked {
        let heard = hear(peer, 7 + large.len() + 40);
        assert!(heard.ends_with(&[b'!'; 40]));
    }
    let departures = &hall.broadcast.counters.departures;
    assert_eq!(departures.iter().map(read).sum::<u64>(), 0);
}

#[test]
fn a_shard_that_does_not_stand_still_in_time_leaves_all_others_going() {
    let hall = Hall::new();
    let headers = Headers::new(&["<h>"], false, &hall.broadcast.account);
    let peers: Vec<_> = (1..=4).map(|id| hall.join(id, None)).collect();
    hall.push(&headers, b"one,");
    peers.iter().for_each(|peer| drop(hear(peer, 14)));
    // One shard is busy with something else.
    let busy = Reply::new(|_: bool| std::thread::sleep(Duration::from_millis(500)));
    assert!(hall.crew.hands()[1].inbox.tell(Command::Kick {
        slot: 3,
        id: ListenerId(77),
        why: crate::fanout::departure::Departure::Kicked,
        reply: busy
    }));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(hall.crew.freeze(Duration::from_millis(100)).expect_err("one is late"), NotFrozen);
    hall.push(&headers, b"two,");
    peers.iter().for_each(|peer| assert_eq!(hear(peer, 4), b"two,"));
}

#[test]
fn listeners_go_on_with_other_shards_from_the_very_byte() {
    let (old, new) = (Hall::new(), Hall::new());
    let large: Vec<u8> = (0..1_500_000_u32).map(|i| b'a' + (i % 26) as u8).collect();
    let headers = Headers::new(&["<h>"], false, &old.broadcast.account);
    let interval = 1000;
    // One that keeps up, one in the middle of a chunk, one with titles in between; a head that has not gone.
    let quick = old.join(1, None);
    old.push(&headers, b"begin,");
    assert_eq!(hear(&quick, 16), b"head 1;<h>begin,");
    let (slow, titled) = (old.join(2, None), old.join(3, Some(interval)));
    let end = Instant::now() + Duration::from_secs(10);
    while old.broadcast.counters.listeners() < 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    old.push(&headers, &large);
    let quick_heard = hear(&quick, 1_500_000);
    assert_eq!(quick_heard, large);
    let mut titled_heard = hear(&titled, 777_777);
    let mut slow_heard = hear(&slow, 100); // now it is in the middle of the large chunk

    let frost = old.crew.freeze(Duration::from_secs(5)).expect("they stand still");
    let (mut payloads, mut sockets) = (Outgoing::new(Vec::new()), Vec::new());
    let mut packing = Packing::new(&frost.history(&old.broadcast), &mut payloads).expect("room");
    assert_eq!(frost.pack(&old.broadcast, &mut packing, &mut sockets).expect("room"), 0);
    let mount = packing.mount;
    let payloads = payloads.finish().expect("room");
    let sockets: Vec<_> = sockets.iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
    let unpacked = Unpacked::new(&mount, payloads.as_slice(), &new.broadcast.account).expect("it makes sense");
    let mut packed: Vec<_> = mount.listeners.iter().collect();
    packed.sort_by_key(|listener| listener.id);
    assert_eq!(packed.iter().map(|listener| listener.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(packed[1].cursor.flight, crate::handover::Flight::Chunk(_, 1.., _)), "{:?}", packed[1]);
    let listeners: Vec<_> = packed
        .iter()
        .map(|listener| {
            let socket = Socket::new(sockets[listener.fd as usize].try_clone().expect("a descriptor")).expect("a socket");
            let seat = Seat::keep(&new.server, &new.mount, None, Who::default());
            Carried::unpack(listener, socket, (seat, None), 7, &unpacked, payloads.as_slice()).expect("it makes sense")
        })
        .collect();
    new.broadcast.title.resume(icy::Block { number: old.broadcast.title.block().number, bytes: old.broadcast.title.block().bytes.clone() });
    new.broadcast.counters.absorb(&{
        let mut counters = crate::handover::Counters::default();
        old.broadcast.counters.pack(&mut counters);
        counters
    });
    new.broadcast.feed.write(|ring| *ring = unpacked.ring);
    let (late, latecomers) = std::sync::mpsc::sync_channel(1);
    frost.release([old.broadcast.slot].into(), &late);
    drop(sockets);
    let end = Instant::now() + Duration::from_secs(10);
    while old.server.taken() > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((old.server.taken(), new.server.taken()), (0, 3), "the old shards have nobody any more");
    old.push(&headers, b"not for them");
    let last = old.join(4, None);
    let arrival = latecomers.recv_timeout(Duration::from_secs(10)).expect("who comes late is passed on as well");
    assert_eq!((arrival.pack().head, arrival.pack().mount.as_str()), (b"head 4;".to_vec(), "/a"));
    assert!(is_silent(&last));
    let (reply, resumed) = std::sync::mpsc::channel();
    let reply = Reply::new(move |count| reply.send(count).expect("somebody waits"));
    let broadcast = Arc::clone(&new.broadcast);
    assert!(new.crew.hands()[0].inbox.tell(Command::Resume { broadcast, listeners, reply }));
    assert_eq!(resumed.recv_timeout(Duration::from_secs(10)), Ok(3));
    let others = Headers::new(&["<n>"], false, &new.broadcast.account);
    new.push(&others, b"the end");

    assert_eq!(hear(&quick, 10), b"<n>the end");
    let want = [b"head 2;<h>begin,".as_slice(), &large, b"<n>the end"].concat();
    slow_heard.extend(hear(&slow, want.len() - slow_heard.len()));
    assert!(slow_heard == want, "the slow one has lost or got something");
    let stream = [b"<h>begin,".as_slice(), &large, b"<n>the end"].concat();
    let titles = stream.len() / interval as usize;
    titled_heard.extend(hear(&titled, 7 + stream.len() + titles + 32 - titled_heard.len()));
    let mut rest = titled_heard.strip_prefix(b"head 3;").expect("its head");
    let (mut untitled, mut told) = (Vec::new(), Vec::new());
    while rest.len() > interval as usize {
        let (part, after) = rest.split_at(interval as usize);
        untitled.extend_from_slice(part);
        let length = usize::from(after[0]) * 16;
        told.extend((length > 0).then(|| after[1..=length].to_vec()));
        rest = &after[1 + length..];
    }
    untitled.extend_from_slice(rest);
    assert!(untitled == stream, "titles stand where they were promised");
    assert_eq!(told.len(), 1, "and are told once");
    assert_eq!((new.broadcast.counters.listeners(), read(&new.broadcast.counters.joins)), (3, 3));
    assert!(is_silent(&quick));
}
