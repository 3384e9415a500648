//! Every target of `flumen::fuzzing`, one at a time: FLUMEN_FUZZ_TARGET says which. One program, for linking takes longest.
#![no_main]

use std::sync::LazyLock;

use flumen::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FLUMEN_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.unwrap_or_else(|| panic!("FLUMEN_FUZZ_TARGET is {name:?}, and not one of {names:?}")).1
});

fuzz_target!(|bytes: &[u8]| CHOSEN(bytes));
