//! What a mount remembers: enough for every burst, every limit and every keyframe that its settings ask for, and no more.
//!
//! Nothing here depends on listeners: a stalled one pins nothing. Memory is bounded by `cost_max` whatever the settings in
//! time or chunks would like to keep.

use super::placement::Wish;
use super::recovery::Limits;
use super::ring::Ring;
use crate::units::{Extents, Seq};

/// How much history a mount keeps.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Minimums: as much as reaches each of them is kept.
    least: Vec<Extents>,
    /// Limits: as much as is inside each of them is kept, so that whoever is within the limit finds its next chunk.
    limits: Vec<Extents>,
    /// Whether the history is to start on a keyframe, however much older it is.
    keyframe: bool,
    /// Most memory of the chunks held, in bytes; it wins over everything else.
    cost_max: u64,
    /// Memory that is used in any case.
    cost_least: u64,
}

impl Retention {
    /// What `keep`, the placement of newcomers and the limits ask for, within `cost_max` bytes of memory.
    pub fn new(keep: Extents, wish: &Wish, limits: &Limits, cost_max: u64) -> Self {
        Self {
            least: vec![keep, wish.burst.clone()],
            limits: vec![limits.soft.clone(), limits.hard.clone()].into_iter().filter(|limit| !limit.is_none()).collect(),
            keyframe: wish.method.wants_keyframe_held(),
            cost_max,
            cost_least: 0,
        }
    }

    /// The same, but nothing is forgotten for the sake of less memory than this: a flood of small chunks, faster than any
    /// shard can look, is still all there when it does.
    #[must_use]
    pub fn with_cost_least(self, cost_least: u64) -> Self {
        Self { cost_least: cost_least.min(self.cost_max), ..self }
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
        let keep_from = self.keep_from(ring);
        while ring.oldest() < keep_from && ring.cost() > self.cost_least {
            ring.trim(ring.oldest().next());
        }
        let forced = ring.cost() > self.cost_max;
        while ring.cost() > self.cost_max && ring.len() > 1 {
            ring.trim(ring.oldest().next());
        }
        ring.shrink();
        forced
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
        assert!(!Retention::new(keep.parse().expect(keep), &wish, &limits, 1 << 20).trim(&mut ring));
        ring.oldest().number()
    }

    #[test]
    fn history_follows_from_burst_limits_and_keyframe_needs() {
        use SyncMethod::{Burst, BurstKeyframe, Latest, LatestKeyframe, NextKeyframe};
        for (method, keep, burst, soft, hard, want) in [
            //                                                             K....K....K....K 0-15
            (Latest, "none", "none", "none", "none", 15),
            (Latest, "3 chunks", "none", "none", "none", 13),
            (Latest, "60ms", "none", "none", "none", 12),
            (Latest, "none", "none", "4 chunks", "none", 12),
            (Latest, "none", "none", "4 chunks", "96B", 10),
            (Burst, "none", "5 chunks", "none", "none", 11),
            (Burst, "none", "5 chunks, 112B", "none", "none", 9),
            (NextKeyframe, "none", "5 chunks", "none", "none", 11),
            (BurstKeyframe, "none", "5 chunks", "none", "none", 10), // down to the keyframe before
            (BurstKeyframe, "none", "5 chunks", "none", "140ms", 5),
            (LatestKeyframe, "none", "none", "none", "none", 15),
            (LatestKeyframe, "2 chunks", "none", "none", "none", 10),
            (Latest, "1h", "none", "none", "none", 0), // holds less: everything
        ] {
            assert_eq!(
                kept("K....K....K....K", method, keep, burst, soft, hard),
                want,
                "{method:?} keep {keep} burst {burst} soft {soft} hard {hard}"
            );
        }
    }

    #[test]
    fn memory_wins_over_every_other_wish() {
        let wish = Wish { method: SyncMethod::BurstKeyframe, burst: Extents::NONE, burst_max: Extents::NONE };
        let retention = Retention::new("1h".parse().expect("an hour"), &wish, &Limits::default(), 4 * (16 + OVERHEAD_BYTES));
        let mut ring = ring_of("K.........");
        assert!(retention.trim(&mut ring), "it says that it was forced");
        assert_eq!((ring.oldest(), ring.len()), (seq(6), 4));
    }

    #[test]
    fn a_flood_of_small_chunks_is_kept_whole() {
        let wish = Wish { method: SyncMethod::Latest, burst: Extents::NONE, burst_max: Extents::NONE };
        for (cost_max, want) in [(1 << 20, 5), (3 * (16 + OVERHEAD_BYTES), 7)] {
            let retention = Retention::new(Extents::NONE, &wish, &Limits::default(), cost_max).with_cost_least(5 * (16 + OVERHEAD_BYTES));
            let mut ring = ring_of("K.........");
            assert!(!retention.trim(&mut ring));
            assert_eq!(ring.oldest(), seq(want));
        }
    }

    #[test]
    fn the_newest_chunk_stays_even_if_it_is_larger_than_the_bound() {
        let wish = Wish { method: SyncMethod::Latest, burst: Extents::NONE, burst_max: Extents::NONE };
        let mut ring = ring_of("KKK");
        Retention::new(Extents::NONE, &wish, &Limits::default(), 1).trim(&mut ring);
        assert_eq!(ring.oldest(), seq(2));
    }
}
