//! Every scenario by the clock: `make bench-time`, or `cargo bench --bench timed -- turn` for some of them.
//!
//! The figures are those of one machine in one mood. What is compared from change to change is counted (`instructions`).

mod scenario;

use divan::Bencher;
use divan::counter::ItemsCount;

use scenario::{ALL, Scenario};

fn main() {
    divan::main();
}

/// Items are the scenario's units.
#[divan::bench(args = ALL, sample_count = 20, max_time = 2)]
fn run(bencher: Bencher, scenario: &Scenario) {
    let mut run = (scenario.prepare)();
    bencher.counter(ItemsCount::new(scenario.units)).bench_local(&mut run);
}
