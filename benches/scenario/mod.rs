//! What is measured: the hot paths, each as a scenario that can be run again and again.
//!
//! ```text
//!   ALL ──prepare──▶ a function that does `units` units of work ──▶ instructions (counted) · timed (by the clock)
//! ```
//! - A run does the same work as the one before it: virtual time goes on, rings stay as long as they were, whoever came has left.
//! - Nothing in a run depends on a clock, a seed or an address, so that its instructions can be counted and compared.
//! - Sockets are pretended: what the kernel costs is not here, but in `loadtest`.

mod containers;
mod core;
mod hall;
mod looking;

use std::fmt;

/// Does its units of work, once.
pub(crate) type Run = Box<dyn FnMut()>;

/// One hot path.
pub(crate) struct Scenario {
    /// What it is called in the tables.
    pub(crate) name: &'static str,
    /// What one unit of its work is.
    pub(crate) unit: &'static str,
    /// How many units one run does.
    pub(crate) units: u64,
    /// Builds what it needs; the answer is a run.
    pub(crate) prepare: fn() -> Run,
}

/// As the timed variant prints it.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}s", self.name, self.unit)
    }
}

const fn scenario(name: &'static str, unit: &'static str, units: u64, prepare: fn() -> Run) -> Scenario {
    Scenario { name, unit, units, prepare }
}

/// Every scenario, in the order of the tables.
#[rustfmt::skip] // a table reads better in its columns
pub(crate) const ALL: &[Scenario] = &[
    scenario("push_10s",              "chunk",         core::PUSHES,      || core::push("10s")),
    scenario("push_1h",               "chunk",         core::PUSHES,      || core::push("1h")),
    scenario("follow",                "chunk",         core::PUSHES,      core::follow),
    scenario("gather_mp3_100ms",      "visit",         core::VISITS,      || core::gather_mp3(4)),
    scenario("gather_mp3_250ms",      "visit",         core::VISITS,      || core::gather_mp3(10)),
    scenario("gather_mp3_500ms",      "visit",         core::VISITS,      || core::gather_mp3(20)),
    scenario("gather_mp3_1s",         "visit",         core::VISITS,      || core::gather_mp3(40)),
    scenario("gather_webm_100ms",     "visit",         core::VISITS,      core::gather_webm),
    scenario("place_latest_10s",      "newcomer",      core::NEWCOMERS,   || core::place("latest", 400)),
    scenario("place_latest_1h",       "newcomer",      core::NEWCOMERS,   || core::place("latest", core::AN_HOUR)),
    scenario("place_next_key_10s",    "newcomer",      core::NEWCOMERS,   || core::place("next-keyframe", 400)),
    scenario("place_next_key_1h",     "newcomer",      core::NEWCOMERS,   || core::place("next-keyframe", core::AN_HOUR)),
    scenario("place_latest_key_10s",  "newcomer",      core::NEWCOMERS,   || core::place("latest-keyframe", 400)),
    scenario("place_latest_key_1h",   "newcomer",      core::NEWCOMERS,   || core::place("latest-keyframe", core::AN_HOUR)),
    scenario("place_burst_10s",       "newcomer",      core::NEWCOMERS,   || core::place("burst", 400)),
    scenario("place_burst_1h",        "newcomer",      core::NEWCOMERS,   || core::place("burst", core::AN_HOUR)),
    scenario("place_burst_key_10s",   "newcomer",      core::NEWCOMERS,   || core::place("burst-keyframe", 400)),
    scenario("place_burst_key_1h",    "newcomer",      core::NEWCOMERS,   || core::place("burst-keyframe", core::AN_HOUR)),
    scenario("place_burst_with_10s",  "newcomer",      core::NEWCOMERS,   || core::place("burst-with-keyframe", 400)),
    scenario("place_burst_with_1h",   "newcomer",      core::NEWCOMERS,   || core::place("burst-with-keyframe", core::AN_HOUR)),
    scenario("turn_100ms",            "visit",         100_000,           || hall::served(100)),
    scenario("turn_250ms",            "visit",         40_000,            || hall::served(250)),
    scenario("turn_500ms",            "visit",         20_000,            || hall::served(500)),
    scenario("turn_half_blocked",     "visit",         20_000,            hall::half_blocked),
    scenario("judge_blocked",         "listener",      hall::LISTENERS,   hall::judged),
    scenario("judge_recovered",       "listener",      hall::LISTENERS,   hall::recovered),
    scenario("join_and_leave",        "newcomer",      hall::NEWCOMERS,   hall::join_and_leave),
    scenario("list_shard",            "listener",      hall::LISTENERS,   hall::list),
    scenario("list_json",             "listener",      looking::LISTED,   looking::list),
    scenario("scrape",                "scrape",        1,                 looking::scrape),
    scenario("frame_mp3",             "KiB",           containers::KIB,   containers::mp3),
    scenario("frame_ogg",             "KiB",           containers::KIB,   containers::ogg),
    scenario("frame_webm",            "KiB",           containers::KIB,   containers::webm),
    scenario("frame_ts",              "KiB",           containers::KIB,   containers::ts),
];
