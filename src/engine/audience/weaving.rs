//! What a listener is offered who wants titles between the bytes of the stream.

use std::io::{self, IoSlice};

use crate::engine::socket::Wire;
use crate::fanout::cursor::Slices;
use crate::wire::icy::Interleave;

/// Offers the rest of the head, then the stream with its blocks, as far as one call takes it. Says how much was offered and what
/// became of it; `None`: there is nothing to send.
#[inline(never)] // out of the way of those who want none
pub(super) fn offer<'a, W: Wire>(
    wire: &mut W,
    head: &'a [u8],
    icy: &'a Interleave,
    gather: impl FnOnce(&mut Slices<'a>) -> usize,
) -> Option<(usize, io::Result<usize>)> {
    let (mut stream, mut slices) = (Slices::new(), Slices::new());
    gather(&mut stream);
    let mut shown = head.len();
    if !head.is_empty() {
        slices.push(IoSlice::new(head));
    }
    icy.weave(stream.iter().map(|slice| &**slice), |slice| {
        let room = slices.try_push(IoSlice::new(slice)).is_ok();
        shown += if room { slice.len() } else { 0 };
        room
    });
    (!slices.is_empty() || wire.holds()).then(|| (shown, wire.send(&slices)))
}
