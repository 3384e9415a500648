//! Listeners that are relays of our own kind: what they ask for, and where they start. They are let in as every listener is, and
//! count as such.

use actix_web::http::header::HeaderMap;

use crate::fanout::placement::{Placement, SyncMethod, Wish};
use crate::fanout::ring::Ring;
use crate::mount::Handle;
use crate::units::Seq;
use crate::wire::relay::{Asked, FIELD};

/// What somebody asks for who wants frames.
pub(super) fn asked(fields: &HeaderMap) -> Option<Asked> {
    Asked::parse(fields.get(FIELD)?.to_str().ok()?)
}

/// How a relay is placed that begins: with as much as it asks for, but no more than the mount gives anybody.
pub(super) fn wish(asked: &Asked, rules: &Wish) -> Option<Wish> {
    let burst = asked.history.clone()?;
    let method = if burst.iter().next().is_none() { SyncMethod::LatestKeyframe } else { SyncMethod::BurstKeyframe };
    Some(Wish { method, burst, burst_max: rules.burst_max.clone() })
}

/// Where a relay goes on that has been here before: where it stopped, else with the least that is lost. `None`: it begins.
pub(super) fn resumed(asked: &Asked, handle: &Handle) -> Option<Placement> {
    let (_, next) = asked.resume.filter(|(instance, _)| *instance == handle.broadcast.instance())?;
    handle.broadcast.feed.read(|ring| place(ring, Seq::new(next)))
}

fn place(ring: &Ring, next: Seq) -> Option<Placement> {
    if next > ring.next() {
        return None; // nobody has been there yet
    }
    if next >= ring.oldest() {
        return Some(Placement { at: next, await_keyframe: false });
    }
    let keyframe = ring.keyframe_at_or_after(ring.oldest());
    Some(Placement { at: keyframe.unwrap_or(ring.next()), await_keyframe: keyframe.is_none() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::testing::{ring_of, seq};

    #[test]
    fn a_relay_goes_on_where_it_stopped_or_with_the_least_that_is_lost() {
        let mut ring = ring_of("K..K..");
        ring.trim(seq(2));
        let at = |place, await_keyframe| Some(Placement { at: seq(place), await_keyframe });
        for (next, want) in [(2, at(2, false)), (4, at(4, false)), (6, at(6, false)), (7, None), (1, at(3, false)), (0, at(3, false))] {
            assert_eq!(place(&ring, seq(next)), want, "{next}");
        }
        ring.trim(seq(4));
        assert_eq!(place(&ring, seq(1)), at(6, true), "no keyframe is held: the next to arrive");
    }

    #[test]
    fn a_relay_begins_with_what_it_asks_for_within_what_the_mount_gives() {
        let rules =
            Wish { method: SyncMethod::Latest, burst: "1s".parse().expect("a burst"), burst_max: "2MiB".parse().expect("a maximum") };
        for (history, method) in [("none", SyncMethod::LatestKeyframe), ("5s, 48KiB", SyncMethod::BurstKeyframe)] {
            let asked = Asked { history: Some(history.parse().expect(history)), resume: None };
            let want = Wish { method, burst: history.parse().expect(history), burst_max: rules.burst_max.clone() };
            assert_eq!(wish(&asked, &rules), Some(want));
        }
        assert_eq!(wish(&Asked::default(), &rules), None, "as every newcomer");
    }
}
