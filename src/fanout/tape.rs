//! The newest small chunks once more, one behind the other as the listeners get them.
//!
//! A stream of audio is thousands of chunks of some hundred bytes. Sent as they are, a second of it is dozens of slices for the kernel to
//! import, per listener and window; from a tape it is one. Each shard's copy of a ring keeps one, so what is on it is copied once per
//! shard, never per listener.
//!
//! - It is bounded by [`Tape::MOST`] bytes, and given back with the ring.
//! - What is on it is without holes. A chunk that is large enough to be a slice of its own ends the run: the tape of pictures is
//!   empty and costs nothing.
//! - Places are payload bytes of the mount's whole history, as the ring counts them.

/// A larger chunk is worth a slice of its own.
const SMALL: usize = 2 * 1024;
/// What is kept at least: more than is worth waiting for to send it together.
const KEEP: usize = 32 * 1024;

/// The newest small chunks in one piece.
#[derive(Debug, Default)]
pub(super) struct Tape {
    bytes: Vec<u8>,
    /// Place of `bytes[0]`.
    start: u64,
}

impl Tape {
    /// Bytes it takes in memory at the most.
    pub(super) const MOST: usize = 2 * KEEP;

    /// Where it ends: what comes next is to begin there.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// From where on chunks are worth putting on it, if the history ends at `end`.
    pub(super) fn wants_from(&self, end: u64) -> u64 {
        self.end().max(end.saturating_sub(KEEP as u64))
    }

    /// Adds a chunk whose first byte has this place.
    pub(super) fn push(&mut self, place: u64, payload: &[u8]) {
        if payload.len() > SMALL || place != self.end() {
            self.bytes.clear();
            self.start = place;
        }
        if payload.len() > SMALL {
            self.start += payload.len() as u64;
            return;
        }
        if self.bytes.len() + payload.len() > Self::MOST {
            let gone = self.bytes.len() - KEEP;
            self.bytes.drain(..gone);
            self.start += gone as u64;
        }
        let needed = self.bytes.len() + payload.len();
        if needed > self.bytes.capacity() {
            let room = (2 * self.bytes.capacity()).clamp(needed, Self::MOST);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
    }

    /// All that it holds is void.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What lies between two places, if all of it is here.
    pub(super) fn between(&self, from: u64, upto: u64) -> Option<&[u8]> {
        let offset = |place: u64| usize::try_from(place.checked_sub(self.start)?).ok();
        self.bytes.get(offset(from)?..offset(upto)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_newest_small_chunks_in_one_piece_and_knows_what_it_has_not() {
        let (mut tape, history) = (Tape::default(), (0..=250u8).cycle().take(300_000).collect::<Vec<u8>>());
        let mut place = 0;
        for size in (1..600).cycle() {
            let Some(payload) = history.get(place..place + size) else { break };
            tape.push(place as u64, payload);
            place += size;
            assert_eq!(tape.end(), place as u64);
            assert!(tape.bytes.len() <= Tape::MOST && tape.bytes.capacity() <= Tape::MOST);
            let kept = place.saturating_sub(KEEP);
            assert_eq!(tape.between(kept as u64, place as u64), Some(&history[kept..place]));
            assert_eq!(tape.between(place as u64, place as u64 + 1), None, "not yet");
        }
        assert_eq!(tape.between(0, 10), None, "gone");
    }

    #[test]
    fn a_large_chunk_or_a_hole_begins_it_anew() {
        let mut tape = Tape::default();
        tape.push(0, b"0123");
        tape.push(4, &[0; SMALL + 1]);
        assert_eq!((tape.end(), tape.between(0, 4), tape.bytes.len()), (4 + SMALL as u64 + 1, None, 0));
        tape.push(tape.end(), b"abc");
        assert_eq!(tape.between(tape.end() - 3, tape.end()), Some(&b"abc"[..]));
        tape.push(1_000_000, b"behind a hole");
        assert_eq!((tape.between(999_999, 1_000_001), tape.between(1_000_000, 1_000_006)), (None, Some(&b"behind"[..])));
        tape.clear();
        assert_eq!(tape.between(1_000_000, 1_000_006), None);
        assert_eq!(tape.wants_from(1_000_000), 1_000_000);
        assert_eq!(tape.wants_from(2_000_000), 2_000_000 - KEEP as u64);
    }
}
