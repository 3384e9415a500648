//! One listener on its shard, and the door through which it came.
//!
//! ```text
//!   Arrival ──join──▶ Listener ──leave──▶ Obituary
//!   (moves the socket)          (closes the socket)
//! ```
//! What every turn touches lies in the table itself; what is asked for once in a while lies in a box beside it.

mod passing;

pub use passing::{Carried, peer_at};

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::admission::{Places, Seat};
use super::broadcast::{Broadcast, ListenerView, Newcomer, Obituary, Peer};
use super::socket::Wire;
use super::trail::{Movers, Trail};
use crate::bouncer::Pass;
use crate::fanout::cursor::Cursor;
use crate::fanout::departure::Departure;
use crate::fanout::frames::Frames;
use crate::fanout::placement::{self, Placement, Wish};
use crate::fanout::recovery::Limits;
use crate::fanout::ring::Ring;
use crate::units::{ListenerId, Moment, Seq};
use crate::wire::icy::Interleave;

/// What is put between the bytes of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inlay {
    /// A block of metadata after so many bytes.
    Titles(u32),
    /// The frames of a relay.
    Frames,
}

/// What is sent before the stream to everybody who comes: one copy for all of them.
#[derive(Clone, Debug)]
pub struct Intro {
    /// As it is sent: with places for titles, where those were promised.
    pub bytes: Arc<[u8]>,
    /// Bytes of the stream in it.
    pub plain: u64,
}

/// The same, as it is for one listener.
#[derive(Debug)]
pub(super) enum Woven {
    Titles(Interleave),
    Frames(Frames),
}

/// Everything the engine needs to serve a listener. Moving it is the hand-over: the sender keeps nothing, the receiver closes.
#[derive(Debug)]
pub struct Arrival<W> {
    /// The connection.
    pub wire: W,
    /// The mount.
    pub broadcast: Arc<Broadcast>,
    /// What is sent before the stream: a response head, or nothing.
    pub head: Box<[u8]>,
    /// What is sent between that and the stream.
    pub intro: Option<Intro>,
    /// How it asks to be placed, if not as the mount's rules say.
    pub wish: Option<Box<Wish>>,
    /// Where it was placed already, if it had to wait for the mount's first chunk: that chunk decides, not what has come since.
    pub placed: Option<Placement>,
    /// What it was promised between the bytes of the stream.
    pub inlay: Option<Inlay>,
    /// Who.
    pub id: ListenerId,
    /// From where.
    pub peer: Peer,
    /// What it says it is.
    pub user_agent: Box<str>,
    /// What it was let in with, where somebody was asked.
    pub pass: Option<Arc<Pass>>,
    /// The mounts that it was to hear instead.
    pub trail: Trail,
    /// When it was accepted.
    pub accepted: Moment,
    /// Its place in the mount and in the server.
    pub seat: Seat,
}

/// What is rarely looked at.
#[derive(Debug)]
struct About {
    id: ListenerId,
    peer: Peer,
    user_agent: Box<str>,
    pass: Option<Arc<Pass>>,
    trail: Trail,
    /// When its pass ends.
    until: Option<Moment>,
    accepted: Moment,
    joined: Moment,
    joined_at: SystemTime,
    head: Box<[u8]>,
    intro: Option<Arc<[u8]>>,
    /// Given back by dropping.
    seat: Seat,
}

impl About {
    /// What is left of the head and of the intro, if there are so many bytes of both.
    fn front(&self, left: u32) -> [&[u8]; 2] {
        let (head, intro) = (&*self.head, self.intro.as_deref().unwrap_or_default());
        let of_intro = intro.len().min(left as usize);
        [&head[head.len() - (left as usize - of_intro)..], &intro[intro.len() - of_intro..]]
    }
}

/// One listener.
#[derive(Debug)]
pub(super) struct Listener<W> {
    pub(super) wire: W,
    pub(super) cursor: Cursor,
    /// Bytes of the head and the intro that have not gone yet.
    head_left: u32,
    /// The send buffer it was given, in bytes.
    pub(super) send_buffer: u32,
    /// Bytes it sent us, which we threw away.
    pub(super) received: u32,
    /// When it last took something.
    pub(super) progress: Moment,
    /// Since when its socket is full; counts only while `blocked`.
    pub(super) full_since: Moment,
    /// It has been judged as of all chunks before this, or had room when they came.
    pub(super) judged: Seq,
    /// It stands in the audience's list of those whose sockets are newly full.
    pub(super) newly_full: bool,
    /// How many chunks it was behind when it joined, if its burst is beyond a limit ([`Self::spared`]). Zero: the limits hold.
    pub(super) overdraft: u64,
    /// Tells this listener from an earlier one in the same place of the table.
    pub(super) generation: u16,
    /// Its socket takes no more; it is judged.
    pub(super) blocked: bool,
    /// It stands in the audience's list of blocked listeners.
    pub(super) listed: bool,
    /// It stands in the audience's list of those to be served next.
    pub(super) queued: bool,
    /// Its first body byte has gone.
    pub(super) served: bool,
    /// The peer sends no more.
    pub(super) read_closed: bool,
    /// Its pass ends some time.
    expires: bool,
    /// Why it will leave when it is drained.
    pub(super) leaving: Option<Departure>,
    /// What is woven into its stream, if anything is.
    woven: Option<Box<Woven>>,
    about: Box<About>,
}

impl<W> Listener<W> {
    /// Places a newcomer by what the ring holds now.
    pub(super) fn join(arrival: Arrival<W>, ring: &Ring, generation: u16, now: Moment) -> Self {
        let wish = arrival.wish.as_deref().unwrap_or(&arrival.broadcast.rules.wish);
        let until = arrival.pass.as_ref().and_then(|pass| pass.lasts).map(|lasts| arrival.accepted + lasts);
        let placed = arrival.placed.unwrap_or_else(|| placement::place(wish, ring));
        Self {
            cursor: Cursor::new(placed),
            wire: arrival.wire,
            head_left: (arrival.head.len() + arrival.intro.as_ref().map_or(0, |intro| intro.bytes.len())) as u32,
            send_buffer: 0,
            received: 0,
            progress: now,
            full_since: now,
            judged: ring.next(),
            newly_full: false,
            overdraft: 0,
            generation,
            blocked: false,
            listed: false,
            queued: false,
            served: false,
            read_closed: false,
            expires: until.is_some(),
            leaving: None,
            woven: arrival.inlay.map(|inlay| {
                Box::new(match inlay {
                    Inlay::Titles(interval) => {
                        Woven::Titles(Interleave::after(interval, arrival.intro.as_ref().map_or(0, |intro| intro.plain)))
                    }
                    Inlay::Frames => Woven::Frames(Frames::new(arrival.broadcast.instance())),
                })
            }),
            about: Box::new(About {
                id: arrival.id,
                peer: arrival.peer,
                user_agent: arrival.user_agent,
                pass: arrival.pass,
                trail: arrival.trail,
                intro: arrival.intro.map(|intro| intro.bytes),
                until,
                accepted: arrival.accepted,
                joined: now,
                joined_at: SystemTime::now(),
                head: arrival.head,
                seat: arrival.seat,
            }),
        }
    }

    /// Ends its session in one mount, to go on in another that has a place for it. Returns the account of the session, or nothing if
    /// it has to stay: there is no place, or it is leaving anyway.
    pub(super) fn depart(&mut self, places: &Arc<Places>, who: &Movers, now: Moment) -> Option<Obituary> {
        if self.leaving.is_some() || !self.about.seat.change(places) {
            return None;
        }
        match who {
            Movers::All | Movers::One(_) => self.about.trail = Trail::default(),
            Movers::Lent(from) => self.about.trail.extend(from),
            Movers::Strayed(_) => {} // where it arrives, it is back
        }
        Some(Obituary {
            id: self.about.id,
            why: Departure::Moved,
            peer: self.about.peer,
            user_agent: self.about.user_agent.clone(),
            pass: self.about.pass.clone(),
            tally: self.cursor.tally(),
            joined_at: self.about.joined_at,
            stayed: now.since(self.about.joined),
        })
    }

    /// Begins a session in another mount: placed by its rules, as a newcomer is. What is half sent is finished first.
    pub(super) fn settle(&mut self, broadcast: &Broadcast, ring: &Ring, generation: u16, now: Moment) {
        self.cursor.transfer(placement::place(&broadcast.rules.wish, ring));
        (self.progress, self.full_since, self.judged, self.generation) = (now, now, ring.next(), generation);
        // Whether its socket has room, the first send will tell.
        (self.blocked, self.listed, self.queued, self.newly_full, self.overdraft) = (false, false, false, false, 0);
        (self.about.joined, self.about.joined_at) = (now, SystemTime::now());
        self.about.trail.back_at(&broadcast.path);
        match self.woven.as_deref_mut() {
            None => {}
            Some(Woven::Titles(icy)) => icy.go_elsewhere(),
            Some(Woven::Frames(frames)) => frames.go_elsewhere(broadcast.instance()),
        }
    }

    /// Gives it a send buffer of at least so many bytes, if what it has is well below: the stream may have been unknown, or
    /// another one, when it came.
    pub(super) fn widen(&mut self, bytes: u32) -> io::Result<()>
    where
        W: Wire,
    {
        if bytes / 2 < self.send_buffer {
            return Ok(());
        }
        self.send_buffer = bytes;
        self.wire.set_send_buffer(bytes)
    }

    /// The mounts that it was to hear instead.
    pub(super) fn trail(&self) -> &Trail {
        &self.about.trail
    }

    pub(super) fn id(&self) -> ListenerId {
        self.about.id
    }

    /// Another process goes on with it, or this one does.
    pub(super) fn handed_over(&self, to_us: bool) {
        if let Some(pass) = &self.about.pass {
            if to_us { pass.take_over() } else { pass.hand_over() }
        }
    }

    /// Whether its pass has ended.
    pub(super) fn has_expired(&self, now: Moment) -> bool {
        self.expires && self.about.until.is_some_and(|until| now >= until)
    }

    fn user(&self) -> Option<Arc<str>> {
        self.about.pass.as_ref()?.user.clone()
    }

    pub(super) fn joined(&self) -> Moment {
        self.about.joined
    }

    pub(super) fn accepted(&self) -> Moment {
        self.about.accepted
    }

    /// The wire to send on, and what there is to send: the rest of the head and of the intro, then what the cursor gathers, with
    /// something in between or without.
    pub(super) fn parts(&mut self) -> (&mut W, [&[u8]; 2], &Cursor, Option<&mut Woven>) {
        let front = match self.head_left {
            0 => [&[] as &[u8]; 2], // without a look into the box
            left => self.about.front(left),
        };
        (&mut self.wire, front, &self.cursor, self.woven.as_deref_mut())
    }

    /// Takes note that so many bytes of what was shown have gone; returns how many of them belong to the stream.
    pub(super) fn take(&mut self, ring: &Ring, resend: bool, mut sent: usize) -> usize {
        let mut of_intro = 0;
        if self.head_left > 0 {
            let of_front = sent.min(self.head_left as usize);
            let intro_left = self.about.front(self.head_left)[1].len();
            self.head_left -= of_front as u32;
            of_intro = intro_left - intro_left.min(self.head_left as usize);
            if self.head_left == 0 {
                (self.about.head, self.about.intro) = (Box::default(), None);
            }
            sent -= of_front;
        }
        let of_stream = match self.woven.as_deref_mut() {
            None => sent,
            Some(Woven::Titles(icy)) => icy.take(sent),
            Some(Woven::Frames(frames)) => return frames.take(&mut self.cursor, ring, sent),
        };
        self.cursor.advance(ring, resend, of_stream);
        of_intro + of_stream
    }

    /// Whether a block of metadata is half sent, or what stands before a frame.
    fn mid_block(&self) -> bool {
        match self.woven.as_deref() {
            None => false,
            Some(Woven::Titles(icy)) => icy.mid_block(),
            Some(Woven::Frames(frames)) => frames.mid_frame(),
        }
    }

    /// Whether something could be sent now, as of what the ring holds, or is sealed and has not left.
    pub(super) fn has_unsent(&self, ring: &Ring) -> bool
    where
        W: Wire,
    {
        self.head_left > 0 || self.cursor.has_unsent(ring.next()) || self.mid_block() || self.wire.holds()
    }

    /// Whether the limits do not concern it now: it is draining, and what comes is not for it; or it was given a burst beyond a
    /// limit and has not fallen further behind since. The second ends when it is well inside the limits (`eager`), lest it be
    /// judged at the very edge. Who asks for what is gone is never spared.
    pub(super) fn spared(&mut self, eager: &Limits, ring: &Ring) -> bool {
        let at = self.cursor.at();
        if at < ring.oldest() {
            return false;
        }
        if self.overdraft > 0 {
            let well_inside = eager.edges(ring, ring.next());
            if at >= well_inside.soft.max(well_inside.hard) || ring.lag(at).chunks > self.overdraft {
                self.overdraft = 0;
            }
        }
        self.overdraft > 0 || self.cursor.draining()
    }

    /// Whether it has been told to leave and has got all it was to get.
    pub(super) fn done(&self) -> Option<Departure>
    where
        W: Wire,
    {
        self.leaving.filter(|_| self.head_left == 0 && self.cursor.drained() && !self.mid_block() && !self.wire.holds())
    }

    /// Consumes the listener, and with it the socket.
    pub(super) fn leave(mut self, why: Departure, now: Moment) -> Obituary
    where
        W: Wire,
    {
        match why {
            Departure::TooSlow | Departure::Stalled | Departure::Kicked => self.wire.give_up(),
            Departure::HungUp | Departure::IoError => {}
            _ => self.wire.farewell(),
        }
        let about = *self.about;
        Obituary {
            id: about.id,
            why,
            peer: about.peer,
            user_agent: about.user_agent,
            pass: about.pass,
            tally: self.cursor.tally(),
            joined_at: about.joined_at,
            stayed: now.since(about.joined),
        }
    }

    /// What is told of it when it joins.
    pub(super) fn newcomer(&self) -> Newcomer {
        Newcomer { id: self.about.id, peer: self.about.peer, user_agent: self.about.user_agent.clone(), user: self.user() }
    }

    /// What somebody who asks is told.
    pub(super) fn view(&self, ring: &Ring, now: Moment) -> ListenerView {
        ListenerView {
            id: self.about.id,
            peer: self.about.peer,
            user_agent: self.about.user_agent.clone(),
            user: self.user(),
            joined_at: self.about.joined_at,
            stayed: now.since(self.about.joined),
            lag: self.cursor.lag(ring),
            tally: self.cursor.tally(),
            phase: match () {
                () if self.leaving.is_some() => "draining",
                () if self.cursor.awaits_keyframe() || !self.served => "waiting",
                () => "live",
            },
        }
    }
}
