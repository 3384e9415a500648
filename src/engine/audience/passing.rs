//! An audience that another process goes on with, or that this one takes over.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::{Audience, Place, TurnContext};
use crate::engine::broadcast::Broadcast;
use crate::engine::frost::Frost;
use crate::engine::listener::Carried;
use crate::engine::socket::Wire;
use crate::fanout::departure::Departure;
use crate::fanout::passing::Packing;
use crate::fanout::ring::Ring;

impl<W: Wire + AsFd> Frost<W> {
    /// Those of a mount's listeners that can be passed on, as plain data. Their sockets are added to `sockets`, whose places there
    /// are their numbers. Returns how many cannot be passed on.
    ///
    /// # Errors
    /// When a payload cannot be written.
    pub fn pack<'a, T: Write>(
        &'a self,
        broadcast: &Broadcast,
        mount: &mut Packing<'_, T>,
        sockets: &mut Vec<BorrowedFd<'a>>,
    ) -> io::Result<usize> {
        let mut left = 0;
        for listener in self.audiences(broadcast.slot).flat_map(|audience| audience.table.iter().flatten()) {
            if !listener.wire.portable() {
                left += 1;
                continue;
            }
            let packed = listener.pack(sockets.len() as u32, mount)?;
            mount.mount.listeners.push(packed);
            sockets.push(listener.wire.as_fd());
        }
        Ok(left)
    }
}

impl<W: Wire> Audience<W> {
    /// The shard's copy of the ring.
    pub(in crate::engine) fn copy(&self) -> &Ring {
        &self.ring
    }

    /// Those who can be passed on have been, and are nobody of ours any more. They have not left.
    pub(in crate::engine) fn let_go(&mut self, mut unwatch: impl FnMut(&mut W)) {
        for (index, place) in self.table.iter_mut().enumerate() {
            if let Some(listener) = place.as_mut().filter(|listener| listener.wire.portable()) {
                unwatch(&mut listener.wire);
                listener.handed_over(false);
                *place = None;
                self.free.push(index as u32);
                self.count -= 1;
            }
        }
        if self.count == 0 {
            self.ring = Ring::default();
            self.broadcast.feed.leave(self.shard);
        }
    }

    /// What sockets have said meanwhile is said again.
    pub(in crate::engine) fn rewatch(&mut self, mut rewatch: impl FnMut(&mut W, Place) -> io::Result<()>) {
        for (index, place) in self.table.iter_mut().enumerate() {
            if let Some(listener) = place {
                let place = Place { index: index as u32, generation: listener.generation };
                let _ = rewatch(&mut listener.wire, place); // it was watched before: what can fail then, the next send says as well
            }
        }
    }

    /// Listeners of the process before this go on here, each from the very byte at which it stood. They are no newcomers: nobody is
    /// told of them, nothing is placed anew. Returns how many go on.
    pub(in crate::engine) fn resume(
        &mut self,
        listeners: Vec<Carried<W>>,
        turn: TurnContext,
        mut watch: impl FnMut(&mut W, Place) -> io::Result<()>,
    ) -> usize {
        let mut places = Vec::with_capacity(listeners.len());
        for Carried(mut listener) in listeners {
            let place = self.next_place(turn);
            listener.handed_over(true);
            listener.generation = place.generation;
            (listener.progress, listener.full_since, listener.judged) = (turn.now, turn.now, self.ring.next());
            let _ = listener.cursor.cut(&self.ring); // a flush that it has not seen
            self.count += 1;
            let watched = watch(&mut listener.wire, place);
            self.table[place.index as usize] = Some(listener);
            match watched {
                Ok(()) => places.push(place),
                Err(_) => self.leave(place.index, Departure::IoError, turn.now),
            }
        }
        // All are seated before the first is served: no one's burst is another's stall, and each send is bounded.
        for &place in &places {
            self.serve(place.index, turn);
        }
        places.len()
    }
}
