//! The most memory a configuration can take.

use super::*;

#[test]
fn the_worst_case_of_memory_is_said() {
    let text = "[server]\nmax_listeners = 1000\nmax_connections = 1500\n[[mount]]\npath = \"/a\"\nring_max = \"8MiB\"\nsend_buffer = \"64KiB\"\n[[mount]]\npath = \"/b\"\nmax_listeners = 100\n";
    let config = good(text);
    let described = describe(&config, COSTS);
    let memory = described.split_once("# Memory").expect("a table").1;
    let bounds: u64 = config.mounts.iter().map(mounts::Settings::memory_bound).sum();
    // 100 listeners of /b at twice the 1 MiB that the kernel grants, the other 900 of /a at twice 64 KiB.
    // And 500 guests, who have as much.
    let kernel = 100 * 2 * (1 << 20) + 900 * 2 * (64 << 10) + 500 * 2 * (64 << 10);
    let bounds = bounds + 2 * (10 << 20); // what framers hold
    // Nothing keeps a place for listeners: those who do not listen may take every connection, each with four heads of 8 KiB and an answer.
    let guests = 1500 * (8192 + 4 * 8192 + 3 * 8192);
    let answers = (64 << 20) + 3 * 1000 * 1024; // and three lists in the making
    let bans = 10_000 * 2048;
    let pieces = 2 * COSTS.cores * crate::fanout::ring::Ring::COPY_MOST;
    let logs = COSTS.event_log_bytes + crate::journal::QUEUED_BYTES;
    let total = bounds + guests + crate::chronicle::WATCHERS_BYTES + bans + pieces + answers + logs + crate::bouncer::PASSWORDS_BYTES;
    for (what, bytes) in [
        ("/a", 28 << 20),
        ("/a", 2 << 20), // the largest chunk
        ("/b", 154 << 20),
        ("mounts", bounds),
        ("guests", guests),
        ("large answers", answers),
        ("newest chunks", pieces),
        ("bans", bans),
        ("log lines that wait", logs),
        ("events for webhooks", 0),
        ("questions to backends", 0),
        ("passwords, TLS sessions", crate::bouncer::PASSWORDS_BYTES),
        ("lists of other servers' mounts", 0),
        ("total", total),
        ("kernel", kernel),
    ] {
        let line = memory.lines().find(|line| line.starts_with(&format!("# {what}"))).expect(what);
        assert!(line.contains(&crate::units::ByteCount(bytes).to_string()), "{bytes}: {line}");
    }
    assert!(described.lines().skip_while(|line| !line.starts_with("# Memory")).all(|line| line.starts_with('#')), "comments only");
}
