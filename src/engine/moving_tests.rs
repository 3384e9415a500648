//! Listeners that go on with another mount: what they hear, what is counted, and who stays.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::admission::{Places, Seat};
use super::alarm::Alarm;
use super::broadcast::{Broadcast, Peer, Rules};
use super::counters::ShardCounters;
use super::inbox::{Command, Inbox, MovePart, Reply};
use super::listener::{Arrival, Inlay, Intro};
use super::shard::{Readiness, Shard, Token, Watch};
use super::socket::{Discarded, Wire};
use super::trail::{Movers, Trail};
use super::world::{World, rules};
use crate::fanout::chunk::{Chunk, Marks};
use crate::fanout::departure::Departure;
use crate::fanout::stats::read;
use crate::fanout::streamheader::Headers;
use crate::units::{ListenerId, Moment};
use crate::wire::icy;
use crate::wire::upstream::{Found, Interleaved};

/// A connection that takes so many bytes.
#[derive(Clone)]
struct Tape {
    heard: Rc<RefCell<Vec<u8>>>,
    room: Rc<Cell<usize>>,
}

impl Tape {
    fn with_room(room: usize) -> Self {
        Self { heard: Rc::default(), room: Rc::new(Cell::new(room)) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard.borrow()).into_owned()
    }
}

impl Wire for Tape {
    fn prepare(&mut self, _: &Rules) -> io::Result<()> {
        Ok(())
    }
    fn set_send_buffer(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn give_up(&mut self) {}
    fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let shown: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = shown.len().min(self.room.get());
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room.set(self.room.get() - taken);
        self.heard.borrow_mut().extend_from_slice(&shown[..taken]);
        Ok(taken)
    }
    fn discard(&mut self) -> io::Result<Discarded> {
        Ok(Discarded::Dry(0))
    }
}

/// The tokens given out, in order, and those given to connections that had one already.
#[derive(Default)]
struct Tokens {
    first: Vec<Token>,
    again: Vec<Token>,
}

impl Watch<Tape> for Tokens {
    fn watch(&mut self, _: &mut Tape, token: Token) -> io::Result<()> {
        self.first.push(token);
        Ok(())
    }
    fn rewatch(&mut self, _: &mut Tape, token: Token) -> io::Result<()> {
        self.again.push(token);
        Ok(())
    }
}

/// Two mounts and a shard.
struct Stage {
    from: Arc<Broadcast>,
    to: Arc<Broadcast>,
    here: Arc<Places>,
    there: Arc<Places>,
    server: Arc<Places>,
    inbox: Arc<Inbox<Tape>>,
    shard: Shard<Tape>,
    tokens: Tokens,
    now: Moment,
    listeners: u64,
    _world: World,
}

impl Stage {
    fn with_places(there: Option<u64>) -> Self {
        let mut world = World::seeded(40, 1);
        let [from, to] = [(); 2].map(|()| world.mount(rules(), "10s", 1 << 20)).map(|mount| Arc::clone(&world.mount_at(mount).broadcast));
        let [server, here] = [(); 2].map(|()| Arc::new(Places::new(None)));
        Self {
            from,
            to,
            here,
            there: Arc::new(Places::new(there)),
            server,
            inbox: Inbox::new(Alarm::silent()),
            shard: Shard::new(0, Arc::new(ShardCounters::default()), Moment::ZERO),
            tokens: Tokens::default(),
            now: Moment::ZERO,
            listeners: 0,
            _world: world,
        }
    }

    fn push(&self, to: &Arc<Broadcast>, payload: &str, headers: &Arc<Headers>) {
        let marks = Marks { keyframe: true, ..Marks::default() };
        let chunk = Arc::new(Chunk::new(payload.as_bytes().into(), marks, Arc::clone(headers), &to.account));
        to.feed.write(|ring| ring.push(chunk, ring.next().number()));
    }

    fn join(&mut self, room: usize) -> Tape {
        self.join_with(room, None)
    }

    fn join_with(&mut self, room: usize, interval: Option<u32>) -> Tape {
        self.join_hearing(room, interval, None)
    }

    fn join_hearing(&mut self, room: usize, interval: Option<u32>, intro: Option<Intro>) -> Tape {
        let tape = Tape::with_room(room);
        self.listeners += 1;
        let arrival = Arrival {
            wire: tape.clone(),
            broadcast: Arc::clone(&self.from),
            head: Box::default(),
            wish: None,
            placed: None,
            inlay: interval.map(Inlay::Titles),
            id: ListenerId(self.listeners),
            peer: Peer::Unix,
            user_agent: "".into(),
            pass: None,
            trail: Trail::default(),
            intro,
            accepted: Moment::ZERO,
            seat: Seat::take(&self.server, &self.here).expect("a seat"),
        };
        assert!(self.inbox.tell(Command::Join(Box::new(arrival))));
        self.turn();
        tape
    }

    /// Two turns: what the first finds, everybody's time in the window has come for in the second.
    fn turn(&mut self) {
        for _ in 0..2 {
            self.now = self.now + super::world::ms(200);
            self.shard.turn(self.now, &self.inbox, &mut self.tokens);
        }
    }

    fn move_some(&mut self, from: usize, most: usize) -> MovePart {
        self.move_those(Movers::All, from, most)
    }

    /// The one mount is the other from now on.
    fn turn_round(&mut self) {
        std::mem::swap(&mut self.from, &mut self.to);
        std::mem::swap(&mut self.here, &mut self.there);
    }

    fn move_those(&mut self, who: Movers, from: usize, most: usize) -> MovePart {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let reply = Reply::new(move |part| *slot.lock().expect("no panic") = Some(part));
        let (to, places) = (Arc::clone(&self.to), Arc::clone(&self.there));
        assert!(self.inbox.tell(Command::Move { slot: self.from.slot, who, to, places, from, most, reply }));
        self.turn();
        let part = answer.lock().expect("no panic").take();
        part.expect("answered in the same turn")
    }

    fn seats(&self) -> [u64; 3] {
        [&self.server, &self.here, &self.there].map(|places| places.taken())
    }
}

const ALL: usize = 1000;

#[test]
fn what_is_half_sent_is_finished_and_then_the_other_mount_begins_with_its_streamheaders() {
    let mut stage = Stage::with_places(None);
    let (from, to) = (Arc::clone(&stage.from), Arc::clone(&stage.to));
    let ours = Headers::new(&[b"<a>"], false, &from.account);
    let theirs = Headers::new(&[b"<b>"], false, &to.account);
    stage.push(&from, "0123456789", &ours);
    stage.push(&to, "old ", &theirs);
    stage.push(&to, "new ", &theirs);
    let (slow, fast) = (stage.join(7), stage.join(ALL));
    assert_eq!((slow.text().as_str(), fast.text().as_str()), ("<a>0123", "<a>0123456789"));

    assert_eq!(stage.move_some(0, ALL), MovePart { moved: 2, stayed: 0, next: None });
    assert_eq!(fast.text(), "<a>0123456789<b>new ", "it is served at once, from where a newcomer begins");
    assert_eq!(slow.text(), "<a>0123", "its socket is still full");
    slow.room.set(ALL);
    let token = stage.tokens.again[0];
    assert_eq!((token.slot, stage.tokens.again.len()), (to.slot, 2), "their sockets speak to the other audience now");
    stage.shard.event(token, Readiness { writable: true, ..Readiness::default() }, stage.now);
    stage.push(&from, "not for them", &ours);
    stage.push(&to, "next", &theirs);
    stage.turn();
    assert_eq!(slow.text(), "<a>0123456789<b>new next");
    assert_eq!(fast.text(), "<a>0123456789<b>new next");

    let counted = |broadcast: &Broadcast| {
        let counters = &broadcast.counters;
        (read(&counters.joins), read(&counters.departures[Departure::Moved.index()]), counters.listeners())
    };
    assert_eq!((counted(&from), counted(&to)), ((2, 2, 0), (2, 0, 2)));
    assert_eq!(stage.seats(), [2, 0, 2]);
    assert!(stage.inbox.tell(Command::Clear { why: Departure::ShuttingDown }));
    stage.turn();
    assert_eq!((stage.seats(), counted(&to).2), ([0, 0, 0], 0));
}

#[test]
fn who_moves_is_told_what_is_played_there_though_its_number_be_the_same_or_it_be_nothing() {
    for (there, want) in [(Some("B"), "StreamTitle='B';"), (None, "StreamTitle='';")] {
        let mut stage = Stage::with_places(None);
        let (from, to) = (Arc::clone(&stage.from), Arc::clone(&stage.to));
        from.title.set(icy::block("A", None));
        if let Some(there) = there {
            to.title.set(icy::block(there, None));
        }
        stage.push(&from, "01234567", &Headers::none());
        stage.push(&to, "89ab", &Headers::none());
        let tape = stage.join_with(ALL, Some(4));
        assert_eq!(stage.move_some(0, ALL).moved, 1);
        stage.push(&to, "cdef", &Headers::none());
        stage.turn();
        let (mut stream, mut titles) = (Vec::new(), Vec::new());
        Interleaved::new(4).take(&tape.heard.borrow(), |found| match found {
            Found::Bytes(bytes) => stream.extend_from_slice(bytes),
            Found::Block(block) => titles.push(String::from_utf8_lossy(&block).trim_end_matches('\0').to_owned()),
        });
        assert_eq!((stream.as_slice(), titles), (&b"0123456789abcdef"[..], vec!["StreamTitle='A';".to_owned(), want.to_owned()]));
    }
}

#[test]
fn who_finds_no_place_stays_where_it_is() {
    let mut stage = Stage::with_places(Some(1));
    let (from, to) = (Arc::clone(&stage.from), Arc::clone(&stage.to));
    let (none, theirs) = (Headers::none(), Headers::none());
    stage.push(&from, "a", &none);
    stage.push(&to, "b", &theirs);
    let tapes = [(); 3].map(|()| stage.join(ALL));
    assert_eq!(stage.move_some(0, ALL), MovePart { moved: 1, stayed: 2, next: None });
    stage.push(&from, "A", &none);
    stage.push(&to, "B", &theirs);
    stage.turn();
    assert_eq!(tapes.map(|tape| tape.text()), ["abB", "aA", "aA"]);
    assert_eq!(stage.seats(), [3, 2, 1]);
}

#[test]
fn who_is_leaving_anyway_does_not_move() {
    let mut stage = Stage::with_places(None);
    let (from, to) = (Arc::clone(&stage.from), Arc::clone(&stage.to));
    stage.push(&from, "abc", &Headers::none());
    stage.push(&to, "xyz", &Headers::none());
    let tape = stage.join(1);
    assert!(stage.inbox.tell(Command::Drain { slot: Some(from.slot), why: Departure::SourceEnded }));
    assert_eq!(stage.move_some(0, ALL), MovePart { moved: 0, stayed: 1, next: None });
    tape.room.set(ALL);
    stage.shard.event(stage.tokens.first[0], Readiness { writable: true, ..Readiness::default() }, stage.now);
    stage.turn();
    assert_eq!(tape.text(), "abc");
    assert_eq!(read(&from.counters.departures[Departure::SourceEnded.index()]), 1);
}

#[test]
fn a_crowd_moves_in_parts_and_everybody_once() {
    let mut stage = Stage::with_places(None);
    let (from, to) = (Arc::clone(&stage.from), Arc::clone(&stage.to));
    stage.push(&from, "a", &Headers::none());
    stage.push(&to, "b", &Headers::none());
    let tapes: Vec<_> = (0..10).map(|_| stage.join(ALL)).collect();
    let (mut moved, mut parts, mut next) = (0, 0, Some(0));
    while let Some(from) = next {
        let part = stage.move_some(from, 4);
        assert!(part.moved <= 4);
        (moved, parts, next) = (moved + part.moved, parts + 1, part.next);
    }
    assert_eq!((moved, parts), (10, 3));
    assert!(tapes.iter().all(|tape| tape.text() == "ab"));
    assert_eq!((from.counters.listeners(), to.counters.listeners()), (0, 10));
}

#[test]
fn who_was_sent_on_is_called_back_and_nobody_else() {
    let mut stage = Stage::with_places(None);
    let (live, backup) = (stage.from.path.clone(), stage.to.path.clone());
    assert_ne!(live, backup);
    let none = Headers::none();
    let (from, to) = (Arc::clone(&stage.from), Arc::clone(&stage.to));
    stage.push(&from, "live ", &none);
    stage.push(&to, "backup ", &none);
    let sent_on = [stage.join(ALL), stage.join(ALL)];
    let trail = Trail::of(std::slice::from_ref(&live));
    assert_eq!(stage.move_those(Movers::Lent(trail), 0, ALL).moved, 2);
    stage.turn_round();
    let own = stage.join(ALL);
    assert_eq!(stage.move_those(Movers::Strayed(backup), 0, ALL), MovePart::default(), "nobody is from there");
    stage.push(&from, "again ", &none);
    assert_eq!(stage.move_those(Movers::Strayed(live.clone()), 0, ALL).moved, 2);
    sent_on.iter().for_each(|tape| assert_eq!(tape.text(), "live backup again "));
    assert_eq!(own.text(), "backup ");
    // They are back for good: there is nothing to call them back from.
    stage.turn_round();
    assert_eq!(stage.move_some(0, ALL).moved, 2);
    stage.turn_round();
    assert_eq!(stage.move_those(Movers::Strayed(live), 0, ALL), MovePart::default(), "an operator moved them for good");
}

#[test]
fn an_intro_is_heard_between_the_head_and_the_stream_and_titles_stay_where_they_are_promised() {
    let intro = |bytes: &[u8], plain| Some(Intro { bytes: bytes.into(), plain });
    for room in [1, 3, 7, ALL] {
        let mut stage = Stage::with_places(None);
        let from = Arc::clone(&stage.from);
        let headers = Headers::new(&[b"<a>"], false, &from.account);
        stage.push(&from, "0123456789", &headers);
        let plain = stage.join_hearing(room, None, intro(b"intro ", 6));
        let titled = stage.join_hearing(room, Some(5), intro(b"intro\0 ", 6));
        for _ in 0..ALL {
            for (index, tape) in [&plain, &titled].into_iter().enumerate() {
                tape.room.set(room);
                let token = stage.tokens.first[index];
                stage.shard.event(token, Readiness { writable: true, ..Readiness::default() }, stage.now);
            }
            stage.turn();
            if plain.text().ends_with('9') && titled.text().ends_with('9') {
                break;
            }
        }
        assert_eq!(plain.text(), "intro <a>0123456789", "{room}");
        assert_eq!(titled.text(), "intro\x00 <a>0\x0012345\x006789", "{room}");
        assert_eq!(read(&from.counters.sent_bytes), 6 + 7 + 2 * 13, "it counts as what was sent");
    }
}
