//! What every framer shares: bytes that wait for the rest of their unit, and the stamps of the pieces they came in.

use std::collections::VecDeque;

use super::{Framed, HELD_MOST, Piece};
use crate::fanout::chunk::Marks;

/// One container's grammar.
pub(super) trait Parse: std::fmt::Debug {
    /// Takes as much from the front of `bytes` as is complete, and says how much that was. What is left will come again, longer.
    fn parse(&mut self, bytes: &[u8], stamps: &mut Stamps, out: &mut Vec<Framed>) -> usize;
}

#[derive(Debug)]
struct Stamp {
    /// Where its piece begins, counted from the front of what is held.
    at: usize,
    marks: Marks,
}

/// The stamps of the pieces that are held or being looked at.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    pieces: VecDeque<Stamp>,
    /// Bytes thrown away, to be counted.
    pub(super) skipped: u64,
}

impl Stamps {
    /// The marks for a unit that begins at this place. Each stamp, and each gap, is given once.
    pub(super) fn take(&mut self, at: usize, keyframe: bool) -> Marks {
        let mut marks = Marks::default();
        for piece in self.pieces.iter_mut().take_while(|piece| piece.at <= at) {
            let of_piece = std::mem::take(&mut piece.marks);
            marks = Marks { keyframe, discont: marks.discont | of_piece.discont, gap: marks.gap | of_piece.gap, ..of_piece };
        }
        Marks { keyframe, ..marks }
    }

    /// A unit of these bytes, which begin at `at`.
    pub(super) fn unit(&mut self, at: usize, data: &[u8], keyframe: bool) -> Framed {
        Framed::Unit { data: data.into(), marks: self.take(at, keyframe) }
    }

    fn consumed(&mut self, bytes: usize) {
        for piece in &mut self.pieces {
            piece.at = piece.at.saturating_sub(bytes);
        }
        // Of several that now begin at the front only the last one still matters; a gap among them does too.
        while self.pieces.len() > 1 && self.pieces[1].at == 0 {
            let passed = self.pieces.pop_front().map(|piece| piece.marks).unwrap_or_default();
            self.pieces[0].marks.discont |= passed.discont;
        }
    }
}

/// Bytes that wait for the rest of their unit.
#[derive(Debug, Default)]
pub(super) struct Spool {
    held: Vec<u8>,
    stamps: Stamps,
    pub(super) skipped: u64,
}

impl Spool {
    /// One that holds this.
    pub(super) fn holding(held: Vec<u8>) -> Self {
        Self { held, ..Self::default() }
    }

    /// What waits for its rest.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    pub(super) fn push(&mut self, piece: &Piece<'_>, container: &mut dyn Parse, out: &mut Vec<Framed>) {
        self.stamps.pieces.push_back(Stamp { at: self.held.len(), marks: piece.marks });
        if self.held.is_empty() {
            let consumed = container.parse(piece.data, &mut self.stamps, out);
            self.stamps.consumed(consumed);
            self.held.extend_from_slice(&piece.data[consumed..]);
        } else {
            self.held.extend_from_slice(piece.data);
            let consumed = container.parse(&self.held, &mut self.stamps, out);
            self.stamps.consumed(consumed);
            self.held.drain(..consumed);
        }
        if self.held.is_empty() {
            self.stamps.pieces.clear();
            self.held.shrink_to(64 * 1024);
        } else if self.held.len() > HELD_MOST {
            // No grammar waits for so much; one that does has been led astray.
            self.stamps.skipped += self.held.len() as u64;
            self.clear();
        }
        self.skipped += std::mem::take(&mut self.stamps.skipped);
    }

    /// What is held, to be looked at a last time.
    pub(super) fn rest(&mut self) -> (Vec<u8>, &mut Stamps) {
        (std::mem::take(&mut self.held), &mut self.stamps)
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.stamps.pieces.clear();
    }
}
