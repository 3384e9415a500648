//! Who is too slow, and what becomes of it: soft limit first (recover), hard limit after (remove).
//!
//! A verdict is given for a position as of a certain newest chunk (`upto` is the place after it), so that it is the same
//! whether chunks are looked at one by one or many at once. Whether a listener may be judged at all (it had its chance to
//! send, the server itself was not late) is the engine's business.

use std::str::FromStr;

use super::ring::Ring;
use crate::units::{Extents, Seq, UnitError};

/// Where a listener beyond its soft limit goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoverPolicy {
    /// Where it is.
    None,
    /// At the newest chunk.
    Latest,
    /// At the soft limit: it loses least, and is beyond the limit again at the next chunk it does not take.
    SoftLimit,
    /// At the oldest keyframe inside the soft limit, else at the next to arrive. Never on a delta.
    Keyframe,
}

impl RecoverPolicy {
    /// All policies, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::None, Self::Latest, Self::SoftLimit, Self::Keyframe];

    /// The word in configuration and metrics (GStreamer's nick).
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Latest => "latest",
            Self::SoftLimit => "soft-limit",
            Self::Keyframe => "keyframe",
        }
    }

    /// Its place in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for RecoverPolicy {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::ALL.into_iter().find(|policy| policy.label() == text).ok_or_else(|| UnitError {
            problem: format!("{text:?} is not a recover policy"),
            remedy: "write one of none, latest, soft-limit, keyframe",
        })
    }
}

/// The limits of a mount. A limit acts when a lag passes any of its extents; no extents, no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Beyond it a listener is recovered.
    pub soft: Extents,
    /// Beyond it a listener is removed.
    pub hard: Extents,
}

/// Both limits as places, as of one newest chunk: whoever is before a place is beyond that limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    /// The earliest place inside the soft limit.
    pub soft: Seq,
    /// The earliest place inside the hard limit.
    pub hard: Seq,
    /// The place after the newest chunk.
    pub upto: Seq,
}

impl Limits {
    /// The limits as places; made once for all listeners of a mount.
    pub fn edges(&self, ring: &Ring, upto: Seq) -> Edges {
        Edges { soft: ring.within(&self.soft, upto), hard: ring.within(&self.hard, upto), upto }
    }
}

/// What becomes of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on where it is.
    Stay,
    /// It goes on further ahead.
    Jump {
        /// The next chunk it may be given.
        to: Seq,
        /// Whether it waits there for a keyframe.
        await_keyframe: bool,
    },
    /// It is removed as too slow.
    Evict,
}

/// Judges a listener whose next chunk is `at`.
pub fn judge(policy: RecoverPolicy, at: Seq, edges: Edges, ring: &Ring) -> Verdict {
    if at >= edges.soft && at >= edges.hard {
        return Verdict::Stay; // the ring's oldest chunk is not after either edge, so `at` is held
    }
    let verdict = if at < edges.soft { recover(policy, edges, ring) } else { Verdict::Stay };
    match verdict {
        Verdict::Stay if at < edges.hard || at < ring.oldest() => Verdict::Evict,
        Verdict::Jump { to, await_keyframe: false } if to < edges.hard => Verdict::Evict,
        verdict => verdict,
    }
}

fn recover(policy: RecoverPolicy, edges: Edges, ring: &Ring) -> Verdict {
    let to = |to| Verdict::Jump { to, await_keyframe: false };
    match policy {
        RecoverPolicy::None => Verdict::Stay,
        // Where even the newest chunk alone is beyond the limit, the edge is the place after it.
        RecoverPolicy::Latest => to(edges.soft.max(edges.upto.back(1))),
        RecoverPolicy::SoftLimit => to(edges.soft),
        RecoverPolicy::Keyframe => match ring.keyframe_at_or_after(edges.soft).filter(|&keyframe| keyframe < edges.upto) {
            Some(keyframe) => to(keyframe),
            None => Verdict::Jump { to: edges.upto, await_keyframe: true },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::testing::{ring_of, seq};
    use RecoverPolicy::{Keyframe, Latest, None, SoftLimit};

    fn jump(to: u64) -> Verdict {
        Verdict::Jump { to: seq(to), await_keyframe: false }
    }

    fn verdict(policy: RecoverPolicy, at: u64, soft: &str, hard: &str, ring: &Ring) -> Verdict {
        let limits = Limits { soft: soft.parse().expect(soft), hard: hard.parse().expect(hard) };
        judge(policy, seq(at), limits.edges(ring, ring.next()), ring)
    }

    #[test]
    fn a_lagging_listener_is_moved_as_the_policy_says() {
        //  sequence        0123456789012   newest 12; at 8 five chunks wait: exactly the soft limit
        let ring = ring_of("K....K...K...");
        for (policy, at, want) in [
            (None, 1, Verdict::Stay),
            (Latest, 1, jump(12)),
            (SoftLimit, 1, jump(8)),
            (Keyframe, 1, jump(9)),     // the oldest keyframe inside the soft limit
            (Latest, 8, Verdict::Stay), // at the limit, not beyond it
            (SoftLimit, 8, Verdict::Stay),
            (SoftLimit, 7, jump(8)),
            (Keyframe, 13, Verdict::Stay), // caught up
        ] {
            assert_eq!(verdict(policy, at, "5 chunks", "100 chunks", &ring), want, "{policy:?} at {at}");
        }
    }

    #[test]
    fn limits_act_in_every_unit_and_in_lists() {
        let ring = ring_of("K....K...K...");
        for limit in ["5 chunks", "80B", "80ms", "5 chunks, 1MiB", "10s, 80B", "80ms, 10 chunks"] {
            assert_eq!(verdict(SoftLimit, 7, limit, "none", &ring), jump(8), "soft {limit}");
            assert_eq!(verdict(SoftLimit, 8, limit, "none", &ring), Verdict::Stay, "soft {limit}");
            assert_eq!(verdict(None, 7, "none", limit, &ring), Verdict::Evict, "hard {limit}");
            assert_eq!(verdict(None, 8, "none", limit, &ring), Verdict::Stay, "hard {limit}");
        }
    }

    #[test]
    fn a_keyframe_recovery_never_resumes_on_a_delta() {
        let ring = ring_of("K............");
        assert_eq!(verdict(Keyframe, 0, "5 chunks", "none", &ring), Verdict::Jump { to: seq(13), await_keyframe: true });
        assert_eq!(
            verdict(Keyframe, 0, "5 chunks", "6 chunks", &ring),
            Verdict::Jump { to: seq(13), await_keyframe: true },
            "who waits has no lag"
        );
    }

    #[test]
    fn a_listener_is_removed_only_if_recovery_did_not_save_it() {
        let ring = ring_of("K....K...K...");
        assert_eq!(verdict(Latest, 0, "5 chunks", "6 chunks", &ring), jump(12), "saved");
        assert_eq!(verdict(None, 0, "5 chunks", "6 chunks", &ring), Verdict::Evict, "nothing to save it");
        assert_eq!(verdict(Keyframe, 7, "10 chunks", "5 chunks", &ring), Verdict::Evict, "beyond the hard limit alone");
        assert_eq!(
            verdict(SoftLimit, 0, "10 chunks", "5 chunks", &ring),
            Verdict::Evict,
            "recovered to a place still beyond the hard limit"
        );
    }

    #[test]
    fn who_asks_for_what_is_gone_is_judged_even_without_limits() {
        let mut ring = ring_of("K....K...K...");
        ring.trim(seq(6));
        assert_eq!(verdict(None, 3, "none", "none", &ring), Verdict::Evict);
        assert_eq!(verdict(SoftLimit, 3, "none", "none", &ring), jump(6));
        assert_eq!(verdict(Keyframe, 3, "none", "none", &ring), jump(9));
        assert_eq!(verdict(Latest, 3, "none", "none", &ring), jump(12));
    }

    #[test]
    fn a_chunk_larger_than_the_limit_is_left_out_not_chased() {
        let ring = ring_of("KKKK");
        for policy in [Latest, SoftLimit] {
            assert_eq!(verdict(policy, 1, "10B", "none", &ring), jump(4), "{policy:?}");
        }
    }

    proptest::proptest! {
        /// Whatever the ring and the limits: a jump goes forward, lands inside the soft and the hard limit, on a keyframe if the
        /// policy says so, and who stays is inside the hard limit.
        #[test]
        fn verdicts_keep_their_promises(
            picture in "[K.]{1,40}", trimmed in 0u64..30, at in 0u64..40, policy in proptest::sample::select(RecoverPolicy::ALL.to_vec()),
            soft in 0u64..20, hard in 0u64..30,
        ) {
            let mut ring = ring_of(&picture);
            ring.trim(seq(trimmed));
            let at = at.min(ring.next().number());
            match verdict(policy, at, &format!("{soft} chunks"), &format!("{hard} chunks"), &ring) {
                Verdict::Jump { to, await_keyframe } => {
                    proptest::prop_assert!(to > seq(at));
                    let lag = ring.lag(to).chunks;
                    proptest::prop_assert!(lag <= soft && lag <= hard);
                    proptest::prop_assert!(policy != Keyframe || await_keyframe || ring.keyframe_at_or_after(to) == Some(to));
                    proptest::prop_assert!(!await_keyframe || to == ring.next());
                }
                Verdict::Stay => proptest::prop_assert!(at >= ring.oldest().number() && ring.lag(seq(at)).chunks <= hard),
                Verdict::Evict => proptest::prop_assert!(at < ring.oldest().number() || ring.lag(seq(at)).chunks > hard),
            }
        }
    }
}
