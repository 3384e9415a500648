//! A listener as plain data, for the process that goes on with it, and back.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{About, Arrival, Inlay, Listener, Woven};
use crate::bouncer::Pass;
use crate::engine::admission::Seat;
use crate::engine::broadcast::Peer;
use crate::engine::trail::Trail;
use crate::fanout::cursor::Cursor;
use crate::fanout::departure::Departure;
use crate::fanout::frames::Frames;
use crate::fanout::passing::{Packing, Unpacked};
use crate::handover::{self, Payloads, Rubbish};
use crate::units::{ListenerId, Moment, Seq};
use crate::wire::icy::Interleave;

/// A listener that has come from another process, on its way to a shard.
#[derive(Debug)]
pub struct Carried<W>(pub(in crate::engine) Listener<W>);

impl<W> Listener<W> {
    /// As plain data; its socket has this number among the descriptors.
    pub(in crate::engine) fn pack<T: Write>(&self, fd: u32, mount: &mut Packing<'_, T>) -> io::Result<handover::Listener> {
        let about = &*self.about;
        let (icy, frames) = match self.woven.as_deref() {
            None => (None, None),
            Some(Woven::Titles(icy)) => {
                let (packed, due) = icy.pack();
                (Some(handover::Icy { due: due.map(|block| mount.block(block)).transpose()?, ..packed }), None)
            }
            Some(Woven::Frames(frames)) => (None, Some(mount.bytes(frames.rest())?)),
        };
        Ok(handover::Listener {
            fd,
            id: about.id.0,
            peer: address_of(about.peer),
            user_agent: about.user_agent.to_string(),
            pass: about.pass.as_ref().map(|pass| pass.pack()),
            trail: about.trail.pack(),
            accepted: about.accepted.nanos(),
            joined: about.joined.nanos(),
            joined_unix_ms: about.joined_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            head: mount.bytes(&about.front(self.head_left).concat())?,
            send_buffer: self.send_buffer,
            received: self.received,
            overdraft: self.overdraft,
            served: self.served,
            read_closed: self.read_closed,
            leaving: self.leaving.map(|why| why.label().to_owned()),
            icy,
            frames,
            cursor: self.cursor.pack(mount)?,
        })
    }
}

impl<W> Arrival<W> {
    /// As plain data: where it was placed, if it was, is no place of the other process.
    pub fn pack(&self) -> handover::Arrival {
        handover::Arrival {
            mount: self.broadcast.path.to_string(),
            head: self.head.to_vec(), // without an intro: the titles behind it would not be where they are promised
            wish: self.wish.as_ref().map(|wish| handover::Wish {
                method: wish.method.label().to_owned(),
                burst: wish.burst.exact(),
                burst_max: wish.burst_max.exact(),
            }),
            icy: if let Some(Inlay::Titles(interval)) = self.inlay { Some(interval) } else { None },
            frames: self.inlay == Some(Inlay::Frames),
            peer: address_of(self.peer),
            user_agent: self.user_agent.to_string(),
            pass: self.pass.as_ref().map(|pass| pass.pack()),
            trail: self.trail.pack(),
            accepted: self.accepted.nanos(),
        }
    }
}

fn address_of(peer: Peer) -> Option<String> {
    match peer {
        Peer::Inet(address) => Some(address.to_string()),
        Peer::Unix => None,
    }
}

/// From an address, if there is one.
///
/// # Errors
/// When it is none.
pub fn peer_at(address: Option<&str>) -> Result<Peer, Rubbish> {
    let Some(address) = address else { return Ok(Peer::Unix) };
    address.parse().map(Peer::Inet).map_err(|_| Rubbish::new(format!("{address:?} is no address")))
}

impl<W> Carried<W> {
    /// From plain data, with its socket, its place, and what it was let in with.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn unpack(
        packed: &handover::Listener,
        wire: W,
        (seat, pass): (Seat, Option<Arc<Pass>>),
        instance: u64,
        mount: &Unpacked,
        payloads: &(impl Payloads + ?Sized),
    ) -> Result<Self, Rubbish> {
        let head = payloads.take(packed.head)?;
        let accepted = Moment::from_nanos(packed.accepted);
        let until = pass.as_ref().and_then(|pass| pass.lasts).map(|lasts| accepted + lasts);
        let peer = peer_at(packed.peer.as_deref())?;
        let leaving = match &packed.leaving {
            None => None,
            Some(word) => Some(Departure::of_word(word).ok_or_else(|| Rubbish::new(format!("{word:?} is no reason to leave")))?),
        };
        let woven = match (&packed.icy, packed.frames) {
            (None, None) => None,
            (Some(icy), _) => {
                let due = icy.due.map(|number| mount.block(number).cloned()).transpose()?;
                Some(Box::new(Woven::Titles(Interleave::unpack(icy, due)?)))
            }
            (None, Some(begun)) => Some(Box::new(Woven::Frames(Frames::resume(instance, payloads.take(begun)?.into_vec())))),
        };
        Ok(Self(Listener {
            wire,
            cursor: Cursor::unpack(&packed.cursor, mount)?,
            head_left: u32::try_from(head.len()).map_err(|_| Rubbish::new("a response head of gigabytes"))?,
            send_buffer: packed.send_buffer,
            received: packed.received,
            progress: Moment::ZERO,
            full_since: Moment::ZERO,
            judged: Seq::ZERO,
            newly_full: false,
            overdraft: packed.overdraft,
            generation: 0,
            blocked: false,
            listed: false,
            queued: false,
            served: packed.served,
            read_closed: packed.read_closed,
            expires: until.is_some(),
            leaving,
            woven,
            about: Box::new(About {
                id: ListenerId(packed.id),
                peer,
                user_agent: packed.user_agent.as_str().into(),
                pass,
                trail: Trail::unpack(&packed.trail)?,
                intro: None,
                until,
                accepted,
                joined: Moment::from_nanos(packed.joined),
                joined_at: SystemTime::UNIX_EPOCH + Duration::from_millis(packed.joined_unix_ms.min(1 << 50)),
                head,
                seat,
            }),
        }))
    }
}
