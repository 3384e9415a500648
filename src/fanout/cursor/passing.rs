//! A cursor as plain data, and back.

use std::io::{self, Write};
use std::sync::Arc;

use super::{Cursor, Flight, Tally};
use crate::fanout::passing::{Packing, Unpacked};
use crate::handover::{self, Rubbish};
use crate::units::Seq;

impl Cursor {
    /// As plain data, its half sent chunk among the mount's.
    ///
    /// # Errors
    /// When a payload cannot be written.
    pub fn pack<W: Write>(&self, mount: &mut Packing<'_, W>) -> io::Result<handover::Cursor> {
        Ok(handover::Cursor {
            at: self.at.number(),
            until: self.until.map(Seq::number),
            flight: match &self.flight {
                Flight::Nothing => handover::Flight::Nothing,
                Flight::Headers(headers, sent) => handover::Flight::Headers(mount.headers(headers)?, *sent as u64),
                Flight::Chunk(chunk, sent, place) => handover::Flight::Chunk(mount.chunk(chunk)?, *sent as u64, place.number()),
            },
            given: self.given.as_ref().map(|headers| mount.headers(headers)).transpose()?,
            await_keyframe: self.await_keyframe,
            skips_count: self.skips_count,
            followed: self.followed,
            bytes: self.tally.bytes,
            dropped_chunks: self.tally.dropped_chunks,
            dropped_times: self.tally.dropped_times,
        })
    }

    /// From plain data.
    ///
    /// # Errors
    /// When it is not of this mount's history, or more of something has gone than there is.
    pub fn unpack(packed: &handover::Cursor, mount: &Unpacked) -> Result<Self, Rubbish> {
        let sent_of = |sent: u64, bytes: usize| {
            let sent = usize::try_from(sent).ok().filter(|&sent| sent < bytes);
            sent.ok_or_else(|| Rubbish::new(format!("more has gone than the {bytes} bytes there were")))
        };
        let at = Seq::new(packed.at);
        if at > mount.ring.next() {
            return Err(Rubbish::new(format!("a listener at {at:?}, where nothing has come yet")));
        }
        Ok(Self {
            at,
            until: packed.until.map(Seq::new),
            flight: match packed.flight {
                handover::Flight::Nothing => Flight::Nothing,
                handover::Flight::Headers(number, sent) => {
                    let headers = mount.headers(number)?;
                    Flight::Headers(Arc::clone(headers), sent_of(sent, headers.bytes().len())?)
                }
                handover::Flight::Chunk(number, sent, place) => {
                    let chunk = mount.chunk(number)?;
                    Flight::Chunk(Arc::clone(chunk), sent_of(sent, chunk.payload().len())?, Seq::new(place))
                }
            },
            given: packed.given.map(|number| mount.headers(number).cloned()).transpose()?,
            await_keyframe: packed.await_keyframe,
            skips_count: packed.skips_count,
            followed: packed.followed,
            tally: Tally { bytes: packed.bytes, dropped_chunks: packed.dropped_chunks, dropped_times: packed.dropped_times },
        })
    }
}
