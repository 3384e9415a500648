//! What a listener is offered who gets something between the bytes of the stream: titles, or a relay's frames.

use std::io::{self, IoSlice};

use super::BYTES_PER_VISIT;
use crate::engine::listener::Woven;
use crate::engine::socket::Wire;
use crate::engine::title::Title;
use crate::fanout::cursor::{Cursor, Slices};
use crate::fanout::ring::Ring;

/// Offers the rest of the head, then the stream with what is woven into it, as far as one call takes it. Says how much was offered
/// and what became of it; `None`: there is nothing to send.
#[inline(never)] // out of the way of those who want none
pub(super) fn offer<W: Wire>(
    wire: &mut W,
    head: [&[u8]; 2],
    woven: &mut Woven,
    title: &Title,
    cursor: &Cursor,
    ring: &Ring,
    resend: bool,
) -> Option<(usize, io::Result<usize>)> {
    let (next, mut shown) = (ring.next(), head[0].len() + head[1].len());
    let (mut stream, mut slices) = (Slices::new(), Slices::new());
    slices.extend(head.into_iter().filter(|part| !part.is_empty()).map(IoSlice::new));
    match woven {
        Woven::Titles(icy) => {
            title.tell(icy);
            cursor.gather(ring, next, resend, BYTES_PER_VISIT, &mut stream);
            icy.weave(stream.iter().map(|slice| &**slice), |slice| {
                let room = slices.try_push(IoSlice::new(slice)).is_ok();
                shown += if room { slice.len() } else { 0 };
                room
            });
        }
        Woven::Frames(frames) => {
            let news = title.news(frames);
            frames.show(cursor, ring, next, BYTES_PER_VISIT, news.as_deref());
            shown += frames.gather(cursor, ring, next, &mut slices);
        }
    }
    (!slices.is_empty() || wire.holds()).then(|| (shown, wire.send(&slices)))
}
