//! What a mount remembers: enough for every burst, every limit and every keyframe that its settings ask for, and no more, but
//! for what some reader of the ring has not looked at yet (a source may deliver faster than any shard can look).
//!
//! Nothing here depends on listeners: a stalled one pins nothing. Memory is bounded by `cost_max` whatever the settings in
//! time or chunks would like to keep; where no limit says how far behind a listener may be, memory alone does.

use super::placement::Wish;
use super::recovery::{Limits, RecoverPolicy};
use super::ring::Ring;
use crate::units::{Extents, Seq};

/// How much history a mount keeps.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Minimums: as much as reaches each of them is kept.
    least: Vec<Extents>,
    /// Limits: as much as is inside each of them is kept, so that whoever is within the limit finds its next chunk.
    limits: Vec<Extents>,
    /// Listeners may be as far behind as memory allows: everything is kept that there is room for.
    unlimited: bool,
    /// Whether the history is to start on a keyframe, however much older it is.
    keyframe: bool,
    /// Most memory of the chunks held, in bytes; it wins over everything else.
    cost_max: u64,
}

impl Retention {
    /// What `keep`, the placement of newcomers and the limits ask for, within `cost_max` bytes of memory.
    pub fn new(keep: Extents, wish: &Wish, limits: &Limits, recover: RecoverPolicy, cost_max: u64) -> Self {
        Self {
            least: vec![keep, wish.burst.clone()],
            limits: vec![limits.soft.clone(), limits.hard.clone()].into_iter().filter(|limit| !limit.is_none()).collect(),
            unlimited: limits.hard.is_none() && (limits.soft.is_none() || recover == RecoverPolicy::None),
            keyframe: wish.method.wants_keyframe_held(),
            cost_max,
        }
    }

    /// The oldest chunk worth keeping.
    pub fn keep_from(&self, ring: &Ring) -> Seq {
        let end = ring.next();
        let reaching = self.least.iter().map(|least| ring.reaching(least, end).unwrap_or(ring.oldest()));
        let within = self.limits.iter().map(|limit| ring.within(limit, end));
        // The newest chunk is always kept: it is what `latest` gives.
        let from = reaching.chain(within).fold(end.back(1), Seq::min);
        if self.keyframe { ring.keyframe_at_or_before(from).unwrap_or(ring.oldest()) } else { from }
    }

    /// Forgets what is not worth keeping. Returns whether memory alone forced more to be forgotten than the settings asked for.
    pub fn trim(&self, ring: &mut Ring) -> bool {
        let wanted = self.keep_from(ring);
        if !self.unlimited {
            ring.trim(wanted.min(ring.unread()));
        }
        while ring.cost() > self.cost_max && ring.len() > 1 {
            ring.trim(ring.oldest().next());
        }
        ring.shrink();
        ring.oldest() > wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::chunk::OVERHEAD_BYTES;
    use crate::fanout::placement::SyncMethod;
    use crate::fanout::testing::{ring_of, seq};

    fn kept(picture: &str, method: SyncMethod, keep: &str, burst: &str, soft: &str, hard: &str) -> u64 {
        let wish = Wish { method, burst: burst.parse().expect(burst), burst_max: Extents::NONE };
        let limits = Limits { soft: soft.parse().expect(soft), hard: hard.parse().expect(hard) };
        let mut ring = ring_of(picture);
        assert!(!Retention::new(keep.parse().expect(keep), &wish, &limits, RecoverPolicy::Keyframe, 1 << 20).trim(&mut ring));
        ring.oldest().number()
    }

    #[test]
    fn history_follows_from_burst_limits_and_keyframe_needs() {
        use SyncMethod::{Burst, BurstKeyframe, Latest, LatestKeyframe, NextKeyframe};
        for (method, keep, burst, soft, hard, want) in [
            //                                                             K....K....K....K 0-15
            (Latest, "none", "none", "none", "1 chunk", 15),
            (Latest, "3 chunks", "none", "none", "1 chunk", 13),
            (Latest, "60ms", "none", "none", "1 chunk", 12),
            (Latest, "none", "none", "4 chunks", "none", 12),
            (Latest, "none", "none", "4 chunks", "96B", 10),
            (Burst, "none", "5 chunks", "none", "1 chunk", 11),
            (Burst, "none", "5 chunks, 112B", "none", "1 chunk", 9),
            (NextKeyframe, "none", "5 chunks", "none", "1 chunk", 11),
            (BurstKeyframe, "none", "5 chunks", "none", "1 chunk", 10), // down to the keyframe before
            (BurstKeyframe, "none", "5 chunks", "none", "140ms", 5),
            (LatestKeyframe, "none", "none", "none", "1 chunk", 15),
            (LatestKeyframe, "2 chunks", "none", "none", "1 chunk", 10),
            (Latest, "1h", "none", "none", "1 chunk", 0),   // holds less: everything
            (Latest, "1 chunk", "none", "none", "none", 0), // nobody is too far behind while memory lasts
        ] {
            assert_eq!(
                kept("K....K....K....K", method, keep, burst, soft, hard),
                want,
                "{method:?} keep {keep} burst {burst} soft {soft} hard {hard}"
            );
        }
    }

    #[test]
    fn a_soft_limit_bounds_the_history_only_if_it_recovers() {
        let wish = Wish { method: SyncMethod::Latest, burst: Extents::NONE, burst_max: Extents::NONE };
        let limits = Limits { soft: "4 chunks".parse().expect("four"), hard: Extents::NONE };
        for recover in RecoverPolicy::ALL {
            let mut ring = ring_of("K.........");
            Retention::new(Extents::NONE, &wish, &limits, recover, 1 << 20).trim(&mut ring);
            assert_eq!(ring.oldest(), seq(if recover == RecoverPolicy::None { 0 } else { 6 }), "{recover:?}");
        }
    }

    /// A retention that keeps what memory allows, or what `hard` asks for.
    fn by_memory(method: SyncMethod, hard: &str, cost_max: u64) -> Retention {
        let wish = Wish { method, burst: Extents::NONE, burst_max: Extents::NONE };
        let limits = Limits { soft: Extents::NONE, hard: hard.parse().expect(hard) };
        Retention::new(Extents::NONE, &wish, &limits, RecoverPolicy::None, cost_max)
    }

    #[test]
    fn memory_wins_over_every_other_wish() {
        let retention = by_memory(SyncMethod::BurstKeyframe, "1h", 4 * (16 + OVERHEAD_BYTES));
        let mut ring = ring_of("K.........");
        assert!(retention.trim(&mut ring), "it says that it was forced");
        assert_eq!((ring.oldest(), ring.len()), (seq(6), 4));
    }

    #[test]
    fn what_a_reader_has_not_looked_at_is_kept_while_memory_lasts() {
        for (cost_max, unread, want) in [(1 << 20, 5, 5), (1 << 20, 10, 9), (3 * (16 + OVERHEAD_BYTES), 5, 7)] {
            let mut ring = ring_of("K.........");
            ring.read_upto(seq(unread));
            assert!(!by_memory(SyncMethod::Latest, "1 chunk", cost_max).trim(&mut ring));
            assert_eq!(ring.oldest(), seq(want), "{cost_max} bytes, unread from {unread}");
        }
    }

    #[test]
    fn the_newest_chunk_stays_even_if_it_is_larger_than_the_bound() {
        let mut ring = ring_of("KKK");
        by_memory(SyncMethod::Latest, "none", 1).trim(&mut ring);
        assert_eq!(ring.oldest(), seq(2));
    }
}
