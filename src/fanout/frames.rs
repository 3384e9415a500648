//! One relay's place in the stream: that of a [`Cursor`], with a frame around each set of streamheaders and each chunk.
//!
//! - [`Frames::show`] writes what stands before each piece that comes next, [`Frames::gather`] shows that and the pieces, and
//!   [`Frames::take`] says how much of it was taken. All walk the same way, and the ring must not change between them.
//! - A frame that has begun is finished, whatever becomes of the stream: its piece is in the cursor's flight with its first byte.
//! - What is held beside the cursor is what stands before [`PIECES_MOST`] pieces, some kilobytes. No payload is copied.
//! - A relay is told of every set of streamheaders where it changes, in band or not: it decides for its own listeners.

use std::io::IoSlice;
use std::sync::Arc;

use super::chunk::Chunk;
use super::cursor::{Cursor, MOST_SLICES, Slices};
use super::ring::Ring;
use crate::units::Seq;
use crate::wire::relay::{self, ChunkHead};

/// Pieces that are shown at once: each takes two slices, and two more finish what is in flight.
const PIECES_MOST: usize = (MOST_SLICES - 4) / 2;

/// What is said of the stream as a whole, as it goes over the wire, and its number: a mount's notices are numbered from zero.
#[derive(Debug, Default)]
pub struct Notice {
    /// Tells it from those before it.
    pub number: u64,
    /// The frame.
    pub frame: Box<[u8]>,
}

/// A piece that is shown: where what stands before it ends, and whether it is a set of streamheaders.
#[derive(Clone, Copy, Debug)]
struct Piece {
    end: usize,
    headers: bool,
}

/// What goes out before the pieces of one relay.
#[derive(Debug)]
pub struct Frames {
    instance: u64,
    /// The number of the notice it was told last.
    told: Option<u64>,
    /// What stands before the piece in flight and has not gone.
    begun: Vec<u8>,
    sent: usize,
    /// What stands before the pieces that are shown, one after the other.
    heads: Vec<u8>,
    pieces: Vec<Piece>,
    /// The number of the notice that is shown.
    tells: Option<u64>,
}

impl Frames {
    /// A newcomer in a mount that is this instance.
    pub fn new(instance: u64) -> Self {
        Self { instance, told: None, begun: Vec::new(), sent: 0, heads: Vec::new(), pieces: Vec::new(), tells: None }
    }

    /// One that goes on from another process, with what stands before the piece in flight and has not gone. It is told the notice
    /// once more.
    pub fn resume(instance: u64, begun: Vec<u8>) -> Self {
        Self { begun, ..Self::new(instance) }
    }

    /// What stands before the piece in flight and has not gone.
    pub fn rest(&self) -> &[u8] {
        &self.begun[self.sent..]
    }

    /// The relay goes on with another mount. A frame that has begun is finished.
    pub fn go_elsewhere(&mut self, instance: u64) {
        (self.instance, self.told) = (instance, None);
        self.forget();
    }

    /// Whether a notice with this number is news.
    pub fn wants(&self, number: u64) -> bool {
        self.told != Some(number)
    }

    /// Whether a frame has begun whose piece may be empty: then there is something to send, whatever the cursor says.
    pub fn mid_frame(&self) -> bool {
        self.sent < self.begun.len()
    }

    fn forget(&mut self) {
        self.heads.clear();
        self.pieces.clear();
        self.tells = None;
    }

    /// Writes what stands before the pieces that come next: of chunks before `upto`, and no more than `budget` bytes of them (but
    /// always something, if there is anything). `news` is told with the first chunk.
    pub fn show(&mut self, cursor: &Cursor, ring: &Ring, upto: Seq, budget: usize, news: Option<&Notice>) {
        self.forget();
        let mut bytes = self.begun.len() - self.sent + cursor.rest().len();
        let (mut given, mut place) = (cursor.given(), cursor.at());
        for chunk in cursor.waiting(ring, upto) {
            if bytes >= budget || self.pieces.len() + 2 > PIECES_MOST {
                break;
            }
            if given.is_none_or(|given| !Arc::ptr_eq(given, chunk.headers())) {
                let headers = chunk.headers();
                relay::put_epoch(&mut self.heads, self.instance, headers.in_band(), headers.lengths());
                self.pieces.push(Piece { end: self.heads.len(), headers: true });
                bytes += headers.bytes().len();
                given = Some(headers);
            }
            if let (None, Some(news)) = (self.tells, news) {
                self.heads.extend_from_slice(&news.frame);
                self.tells = Some(news.number);
            }
            relay::put_chunk(&mut self.heads, &head_of(chunk, place, ring), chunk.payload().len());
            self.pieces.push(Piece { end: self.heads.len(), headers: false });
            bytes += chunk.payload().len();
            place = place.next();
        }
    }

    /// Adds what was shown to `out`, and what is in flight before it. Returns the number of bytes.
    pub fn gather<'a>(&'a self, cursor: &'a Cursor, ring: &'a Ring, upto: Seq, out: &mut Slices<'a>) -> usize {
        let mut bytes = 0;
        let mut put = |slice: &'a [u8]| {
            if !slice.is_empty() && out.try_push(IoSlice::new(slice)).is_ok() {
                bytes += slice.len();
            }
        };
        put(self.rest());
        put(cursor.rest());
        let (mut start, mut chunks) = (0, cursor.waiting(ring, upto).peekable());
        for piece in &self.pieces {
            put(&self.heads[start..piece.end]);
            start = piece.end;
            if piece.headers
                && let Some(chunk) = chunks.peek()
            {
                put(chunk.headers().bytes());
            } else if let Some(chunk) = chunks.next() {
                put(chunk.payload());
            }
        }
        bytes
    }

    /// Takes note that so many bytes of what was gathered have gone. Returns how many of them belong to the stream.
    pub fn take(&mut self, cursor: &mut Cursor, ring: &Ring, mut taken: usize) -> usize {
        let of_begun = taken.min(self.begun.len() - self.sent);
        self.sent += of_begun;
        taken -= of_begun;
        let mut of_stream = cursor.go_on(taken);
        taken -= of_stream;
        let mut start = 0;
        for piece in &self.pieces {
            if taken == 0 {
                break;
            }
            let head = &self.heads[start..piece.end];
            let of_head = taken.min(head.len());
            taken -= of_head;
            self.begun.clear();
            self.begun.extend_from_slice(&head[of_head..]);
            self.sent = 0;
            cursor.begin(ring, piece.headers);
            if !piece.headers {
                self.told = self.tells.take().or(self.told); // it stands before the first chunk
            }
            let of_piece = cursor.go_on(taken);
            (taken, of_stream, start) = (taken - of_piece, of_stream + of_piece, piece.end);
        }
        debug_assert_eq!(taken, 0, "more was taken than shown");
        self.forget();
        of_stream
    }
}

fn head_of(chunk: &Chunk, place: Seq, ring: &Ring) -> ChunkHead {
    let marks = chunk.marks();
    ChunkHead {
        place: place.number(),
        time: ring.time_of(place),
        pts: marks.pts,
        dts: marks.dts,
        keyframe: marks.keyframe,
        discont: marks.discont,
        gap: marks.gap,
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
