//! Where a newcomer starts: decided once, at join, from what the ring holds then.
//!
//! The methods are multihandlesink's. Unlike there, placement does not wait for the next arrival, bursts are exact in every
//! unit and in lists of extents, and a ring that holds less than the minimum gives everything it holds.

use std::str::FromStr;

use super::ring::Ring;
use crate::units::{Extents, Seq, UnitError};

/// How a newcomer is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMethod {
    /// At the newest chunk, whatever it is.
    Latest,
    /// At the next keyframe to arrive.
    NextKeyframe,
    /// At the newest keyframe held, else at the next to arrive.
    LatestKeyframe,
    /// So far back that the burst reaches its minimum.
    Burst,
    /// Like burst, but on a keyframe: further back if the maximum allows it, else nearer, else the next to arrive.
    BurstKeyframe,
    /// Like burst, but on a keyframe further back if the maximum allows it; else where the burst is, keyframe or not.
    BurstWithKeyframe,
}

impl SyncMethod {
    /// All methods.
    pub const ALL: [Self; 6] =
        [Self::Latest, Self::NextKeyframe, Self::LatestKeyframe, Self::Burst, Self::BurstKeyframe, Self::BurstWithKeyframe];

    /// The word in configuration and queries (GStreamer's nick).
    pub fn label(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::NextKeyframe => "next-keyframe",
            Self::LatestKeyframe => "latest-keyframe",
            Self::Burst => "burst",
            Self::BurstKeyframe => "burst-keyframe",
            Self::BurstWithKeyframe => "burst-with-keyframe",
        }
    }

    /// Whether the method needs a keyframe in the ring, so that retention must see to it that one is there.
    pub fn wants_keyframe_held(self) -> bool {
        matches!(self, Self::LatestKeyframe | Self::BurstKeyframe | Self::BurstWithKeyframe)
    }
}

impl FromStr for SyncMethod {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::ALL.into_iter().find(|method| method.label() == text).ok_or_else(|| UnitError {
            problem: format!("{text:?} is not a sync method"),
            remedy: "write one of latest, next-keyframe, latest-keyframe, burst, burst-keyframe, burst-with-keyframe",
        })
    }
}

/// What a newcomer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How to be placed.
    pub method: SyncMethod,
    /// Minimum burst: all of it is to be reached.
    pub burst: Extents,
    /// Maximum burst: none of it is passed, inclusive. It wins over the minimum.
    pub burst_max: Extents,
}

/// Where a newcomer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first chunk it may be given.
    pub at: Seq,
    /// Whether it waits there for a keyframe.
    pub await_keyframe: bool,
}

/// Places a newcomer.
pub fn place(wish: &Wish, ring: &Ring) -> Placement {
    let end = ring.next();
    let starting_at = |at| Placement { at, await_keyframe: false };
    let next_keyframe = Placement { at: end, await_keyframe: true };
    let begun = ring.begun();
    if !ring.has_begun() {
        // The first chunk decides: it is all there is, so those who may start on a delta start on it.
        let await_keyframe = !matches!(wish.method, SyncMethod::Latest | SyncMethod::Burst | SyncMethod::BurstWithKeyframe);
        return Placement { at: end, await_keyframe };
    }
    let newest = end.back(1);
    match wish.method {
        SyncMethod::Latest => starting_at(newest),
        SyncMethod::NextKeyframe => next_keyframe,
        SyncMethod::LatestKeyframe => {
            ring.keyframe_at_or_before(newest).filter(|&keyframe| keyframe >= begun).map_or(next_keyframe, starting_at)
        }
        SyncMethod::Burst | SyncMethod::BurstKeyframe | SyncMethod::BurstWithKeyframe => {
            let least = ring.reaching(&wish.burst, end).unwrap_or(begun).min(newest);
            let most = ring.within(&wish.burst_max, end).max(begun);
            let start = least.max(most);
            let older = ring.keyframe_at_or_before(start).filter(|&keyframe| keyframe >= most);
            match wish.method {
                SyncMethod::Burst => starting_at(start),
                SyncMethod::BurstWithKeyframe => starting_at(older.unwrap_or(start)),
                _ => older.or_else(|| ring.keyframe_at_or_after(start)).map_or(next_keyframe, starting_at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::testing::{ring_of, seq};
    use SyncMethod::{Burst, BurstKeyframe, BurstWithKeyframe, Latest, LatestKeyframe, NextKeyframe};

    fn wish(method: SyncMethod, burst: &str, burst_max: &str) -> Wish {
        Wish { method, burst: burst.parse().expect(burst), burst_max: burst_max.parse().expect(burst_max) }
    }

    #[test]
    fn a_newcomer_is_placed_at_join_as_its_method_says() {
        const WAIT: Option<u64> = None;
        for (picture, method, burst, max, want) in [
            //                                                 0123456789
            ("K....K....", Latest, "none", "none", Some(9)),
            ("K....K....", NextKeyframe, "none", "none", WAIT),
            ("K....K...K", NextKeyframe, "none", "none", WAIT), // never older than the join
            ("K....K....", LatestKeyframe, "none", "none", Some(5)),
            ("..........", LatestKeyframe, "none", "none", WAIT),
            ("K....K....", Burst, "none", "none", Some(9)), // no minimum: the newest
            ("K....K....", Burst, "5 chunks", "none", Some(5)),
            ("K....K....", Burst, "80B", "none", Some(5)),
            ("K....K....", Burst, "50B", "200B", Some(6)), // GStreamer's unit case: 50/200 of 16 B gives 64
            ("K....K....", Burst, "50B", "50B", Some(7)),  // and 50/50 gives 48
            ("K....K....", Burst, "160B", "none", Some(0)), // exactly what it holds
            ("K....K....", Burst, "800B", "none", Some(0)), // holds less: everything, the oldest keyframe not lost
            ("K....K....", Burst, "60ms", "none", Some(6)),
            ("K....K....", Burst, "60ms, 80B", "none", Some(5)),        // both reached
            ("K....K....", Burst, "60ms, 80B", "3 chunks", Some(7)),    // a maximum in another unit wins
            ("K....K....", Burst, "5 chunks", "15B", Some(10)),         // not even the newest fits: start with the next
            ("K....K....", BurstKeyframe, "2 chunks", "none", Some(5)), // further back
            ("K....K....", BurstKeyframe, "6 chunks", "none", Some(0)),
            ("K....K....", BurstKeyframe, "6 chunks", "9 chunks", Some(5)), // too far back: nearer
            ("K....K....", BurstKeyframe, "6 chunks", "160B", Some(0)),     // a maximum is inclusive
            ("K.........", BurstKeyframe, "3 chunks", "9 chunks", WAIT),
            (".....K....", BurstKeyframe, "9 chunks", "none", Some(5)), // none further back: nearer
            ("K....K....", BurstKeyframe, "800B", "none", Some(0)),
            ("..........", BurstKeyframe, "5 chunks", "none", WAIT),
            ("K....K....", BurstWithKeyframe, "2 chunks", "none", Some(5)),
            ("K....K....", BurstWithKeyframe, "800B", "none", Some(0)),
            ("K.........", BurstWithKeyframe, "3 chunks", "9 chunks", Some(7)), // no keyframe allowed: a delta
            (".....K....", BurstWithKeyframe, "9 chunks", "none", Some(1)),
        ] {
            let got = place(&wish(method, burst, max), &ring_of(picture));
            let want = want.map_or(Placement { at: seq(10), await_keyframe: true }, |at| Placement { at: seq(at), await_keyframe: false });
            assert_eq!(got, want, "{picture} {method:?} burst {burst} max {max}");
        }
    }

    #[test]
    fn nobody_starts_before_the_programme_began() {
        for method in SyncMethod::ALL {
            let mut ring = ring_of("K....");
            ring.begin_anew();
            assert_eq!(place(&wish(method, "5s", "none"), &ring).at, seq(5), "{method:?}: nothing has come yet");
            ring.push(crate::fanout::testing::chunk(b"first", false), 1_000_000_000);
            let wants_keyframe = matches!(method, NextKeyframe | LatestKeyframe | BurstKeyframe);
            let want = Placement { at: seq(if wants_keyframe { 6 } else { 5 }), await_keyframe: wants_keyframe };
            assert_eq!(place(&wish(method, "5s", "none"), &ring), want, "{method:?}");
        }
    }

    #[test]
    fn with_an_empty_ring_the_first_chunk_decides() {
        for (method, await_keyframe) in [
            (Latest, false),
            (Burst, false),
            (BurstWithKeyframe, false),
            (NextKeyframe, true),
            (LatestKeyframe, true),
            (BurstKeyframe, true),
        ] {
            assert_eq!(place(&wish(method, "5s", "none"), &ring_of("")), Placement { at: seq(0), await_keyframe }, "{method:?}");
        }
    }

    proptest::proptest! {
        /// No burst passes its maximum, in any unit, for any ring; and a burst on keyframes starts on one.
        #[test]
        fn a_burst_never_passes_its_maximum(
            picture in "[K.]{0,40}", trimmed in 0u64..20, method in proptest::sample::select(SyncMethod::ALL.to_vec()),
            least in 0u64..600, chunks in 0u64..20, bytes in 0u64..400, ms in 0u64..500,
        ) {
            let mut ring = ring_of(&picture);
            ring.trim(seq(trimmed));
            let wish = wish(method, &format!("{least}B"), &format!("{chunks} chunks, {bytes}B, {ms}ms"));
            let placed = place(&wish, &ring);
            let burst = ring.lag(placed.at);
            if matches!(method, Burst | BurstKeyframe | BurstWithKeyframe) {
                proptest::prop_assert!(burst.chunks <= chunks && burst.bytes <= bytes && burst.time.as_millis() <= u128::from(ms), "{burst:?}");
            }
            proptest::prop_assert!(placed.at >= ring.oldest() && placed.at <= ring.next());
            if matches!(method, LatestKeyframe | BurstKeyframe) && !placed.await_keyframe {
                proptest::prop_assert_eq!(ring.keyframe_at_or_after(placed.at), Some(placed.at));
            }
        }
    }
}
