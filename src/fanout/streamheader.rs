//! Streamheaders: what a decoder must see before its first chunk, and when it must see them again.
//!
//! Each chunk carries the headers that were valid when it arrived (its *epoch*). A listener remembers the last set it was
//! given, and compares at each chunk it is about to begin. So a lagging listener finishes the old data first, then gets the
//! new header, then the new data. (GStreamer 1.x asks the pad's current caps at send time and sends the new header in front
//! of old data.)

use std::sync::Arc;

use super::account::{Account, Booking};

/// What a set costs beside its bytes: its own fields and the allocator's share. Stated high, so that a flood of tiny sets is bounded
/// as well.
const SET_BYTES: u64 = 192;
/// What each part costs beside its bytes.
const PART_BYTES: u64 = size_of::<usize>() as u64;

/// One set of streamheaders, in the order of the caps' `streamheader` array.
#[derive(Debug, Default)]
pub struct Headers {
    /// All parts, one after the other: what a listener is sent.
    joined: Box<[u8]>,
    /// Where each part ends in `joined`.
    ends: Box<[usize]>,
    in_band: bool,
    /// A set is booked once, however many chunks share it; that of a stream that needs none not at all.
    booking: Option<Booking>,
}

impl Headers {
    /// The set of a stream that needs none.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// What a set of these parts costs in memory, in bytes.
    pub fn cost_of<P: AsRef<[u8]>>(parts: &[P]) -> u64 {
        SET_BYTES + parts.iter().map(|part| PART_BYTES + part.as_ref().len() as u64).sum::<u64>()
    }

    /// A set from its parts. `in_band`: whoever follows the stream without a gap finds the same in the chunks, so only
    /// newcomers and those who jumped need the set (MPEG-TS tables, FLV sequence headers).
    pub fn new<P: AsRef<[u8]>>(parts: &[P], in_band: bool, account: &Arc<Account>) -> Arc<Self> {
        let mut joined = Vec::with_capacity(parts.iter().map(|part| part.as_ref().len()).sum());
        let mut ends = Vec::with_capacity(parts.len());
        for part in parts {
            joined.extend_from_slice(part.as_ref());
            ends.push(joined.len());
        }
        let booking = Some(Booking::new(account, Self::cost_of(parts)));
        Arc::new(Self { joined: joined.into(), ends: ends.into(), in_band, booking })
    }

    /// What the set costs in memory, in bytes.
    pub fn cost(&self) -> u64 {
        self.booking.as_ref().map_or(0, Booking::bytes)
    }

    /// All bytes of the set.
    pub fn bytes(&self) -> &[u8] {
        &self.joined
    }

    /// Where each part ends, and whether the set is in band.
    pub(super) fn layout(&self) -> (&[usize], bool) {
        (&self.ends, self.in_band)
    }

    /// The length of each part, in their order.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + Clone + '_ {
        (0..self.ends.len()).map(|i| self.ends[i] - if i > 0 { self.ends[i - 1] } else { 0 })
    }

    /// Whether who follows the stream finds the same in the chunks.
    pub fn in_band(&self) -> bool {
        self.in_band
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    /// Whether both have the same parts.
    fn same_as(&self, other: &Self) -> bool {
        self.joined == other.joined && self.ends == other.ends
    }

    /// Whether the set is one of these parts, sent in this way.
    pub fn consists_of<P: AsRef<[u8]>>(&self, parts: &[P], in_band: bool) -> bool {
        let mut start = 0;
        self.in_band == in_band
            && self.ends.len() == parts.len()
            && self.ends.iter().zip(parts).all(|(&end, part)| self.joined[std::mem::replace(&mut start, end)..end] == *part.as_ref())
    }

    /// Whether a header-flagged buffer is a member of the set: then it is not queued, for everybody gets it with the set.
    pub fn holds(&self, buffer: &[u8]) -> bool {
        let mut start = 0;
        self.ends.iter().any(|&end| {
            let part = &self.joined[start..end];
            start = end;
            part == buffer
        })
    }
}

/// Whether a listener must be sent `next` before its next chunk.
///
/// `given` is what it was last given (`None`: it has seen no chunk yet), `resend` the mount's `resend_streamheader`,
/// `followed` whether it has seen the chunk just before. Source of the rule: multihandlesink's `client_queue_buffer`.
pub fn due(given: Option<&Headers>, next: &Headers, resend: bool, followed: bool) -> bool {
    match given {
        _ if next.is_empty() => false,
        None => true,
        Some(_) if next.in_band && followed => false,
        Some(before) if before.is_empty() => true,
        Some(before) => resend && !before.same_as(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(parts: &[&str], in_band: bool) -> Arc<Headers> {
        Headers::new(parts, in_band, &Arc::default())
    }

    #[test]
    fn headers_are_due_as_the_reference_says() {
        let (none, a, b) = (Headers::none(), headers(&["A"], false), headers(&["B"], false));
        let (tables, ab_c, a_bc) = (headers(&["T"], true), headers(&["AB", "C"], false), headers(&["A", "BC"], false));
        for (given, next, resend, followed, want) in [
            (None, &a, true, false, true),             // first chunk
            (None, &a, false, false, true),            // first chunk, also without resend
            (None, &none, true, false, false),         // nothing to send
            (Some(&a), &a, true, true, false),         // equal: nothing
            (Some(&a), &none, true, true, false),      // new caps without header
            (Some(&none), &a, true, true, true),       // old had none
            (Some(&none), &a, false, true, true),      // old had none, also without resend
            (Some(&a), &b, true, true, true),          // changed
            (Some(&ab_c), &a_bc, true, true, true),    // the same bytes in other parts are other headers
            (Some(&a), &b, false, true, false),        // changed, no resend: an old listener never gets it
            (None, &tables, true, false, true),        // in band: a newcomer needs it
            (Some(&a), &tables, true, true, false),    // in band: who follows finds it in the data
            (Some(&none), &tables, true, true, false), // in band: also when the old had none
            (Some(&a), &tables, true, false, true),    // in band: who jumped may have missed it
        ] {
            assert_eq!(due(given.map(|h| &**h), next, resend, followed), want, "{given:?} {next:?} resend={resend} followed={followed}");
        }
    }

    #[test]
    fn a_set_is_booked_with_what_its_parts_cost_also_the_empty_ones() {
        let account = Arc::default();
        let full = Headers::new(&["babe", "deadbeef"], false, &account);
        assert_eq!(full.cost(), SET_BYTES + 2 * PART_BYTES + 12);
        let hollow = Headers::new(&[""; 1000], false, &account);
        assert_eq!(hollow.cost(), SET_BYTES + 1000 * PART_BYTES);
        assert_eq!(account.held_bytes(), full.cost() + hollow.cost());
        drop((full, hollow));
        assert_eq!((account.held_bytes(), Headers::none().cost()), (0, 0));
    }

    #[test]
    fn a_member_is_known_by_its_bytes() {
        let headers = headers(&["babe", "deadbeef"], false);
        assert_eq!(headers.bytes(), b"babedeadbeef");
        assert_eq!(headers.lengths().collect::<Vec<_>>(), [4, 8]);
        assert!(headers.holds(b"babe") && headers.holds(b"deadbeef"));
        assert!(!headers.holds(b"babedeadbeef") && !headers.holds(b"dead") && !headers.holds(b""));
        assert!(headers.consists_of(&["babe", "deadbeef"], false) && Headers::none().consists_of::<&str>(&[], false));
        for (parts, in_band) in [(&["babe", "deadbeef"][..], true), (&["babedead", "beef"], false), (&["babe"], false), (&[], false)] {
            assert!(!headers.consists_of(parts, in_band), "{parts:?}");
        }
    }
}
