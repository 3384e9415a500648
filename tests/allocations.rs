//! Where memory is asked for while listeners are served, and where it is not: ten thousand are visited without any.
//!
//! The counting allocator is this test's own; it counts for each thread by itself.

#[path = "../benches/scenario/mod.rs"]
mod scenario;

/// Chunks that come in a second.
const CHUNKS: u64 = 40;
/// A payload, and the chunk that has it. What the pipeline delivers is copied into the first; the second is what everybody shares.
const PER_CHUNK: u64 = 2;

/// Allocations in one run of a scenario that has settled.
fn allocations(name: &str) -> u64 {
    let scenario = scenario::ALL.iter().find(|scenario| scenario.name == name).expect("a scenario");
    let mut run = (scenario.prepare)();
    run();
    let counted = allocation_counter::measure(&mut run);
    eprintln!("{name}: {} allocations for {} units ({})", counted.count_total, scenario.units, scenario.unit);
    counted.count_total
}

#[test]
fn serving_allocates_nothing_per_listener_and_turn() {
    // Half a thousand turns, tens of thousands of visits.
    for name in ["turn_100ms", "turn_250ms", "turn_500ms", "turn_half_blocked"] {
        assert_eq!(allocations(name), CHUNKS * PER_CHUNK, "{name}: the chunks, and nothing else");
    }
}

#[test]
fn a_chunk_costs_two_allocations_however_many_wait_for_it() {
    for (name, chunks) in [("push_10s", 1000), ("follow", 1000), ("judge_blocked", 1), ("judge_recovered", 1)] {
        assert_eq!(allocations(name), chunks * PER_CHUNK, "{name}");
    }
}

#[test]
fn gathering_and_placing_allocate_nothing() {
    // A thousand listeners each.
    for (name, chunks) in [("gather_mp3_250ms", 10), ("gather_webm_100ms", 5), ("place_latest_key_10s", 0), ("place_burst_key_10s", 0)] {
        assert_eq!(allocations(name), chunks * PER_CHUNK, "{name}: the chunks that come, and nothing else");
    }
}

#[test]
fn what_another_server_lists_takes_memory_only_for_what_is_kept_of_it() {
    use flumen::wire::listing::{LIST_BYTES, occupancy};
    let list = |source: &str| format!(r#"{{"icestats":{{"source":[{}{{}}]}}}}"#, source.repeat((4 << 20) / source.len()));
    for (source, most) in [(r#"{"":0},"#, 1 << 10), (r#"[{"a":["b",{"c":1}]}],"#, 1 << 10), (r#"{"listenurl":"http://h/a"},"#, LIST_BYTES)]
    {
        let text = list(source);
        let counted = allocation_counter::measure(|| assert!(occupancy(&text).is_some()));
        assert!(counted.bytes_max <= most, "{} bytes for {} of {source}", counted.bytes_max, text.len());
    }
}

#[test]
fn a_newcomer_costs_a_few_allocations_once() {
    // On the way: the arrival's box, the head, the agent. Here: what is rarely looked at. And tables that grow and shrink for all.
    assert!(allocations("join_and_leave") <= 128 * 4 + 64);
}
