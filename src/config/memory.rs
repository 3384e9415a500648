//! The most memory a configuration can take, as `flumen check` tells it.
//!
//! Every room that holds something names its own bound; here they are added up, and nothing is estimated.

use std::borrow::Cow;
use std::fmt::Write;

use super::Config;
use crate::access::ban::BANS_MOST;
use crate::access::rule::Rule;
use crate::admin;
use crate::bouncer;
use crate::chronicle::{WATCHERS_BYTES, WATCHERS_MOST};
use crate::door::bound::GUEST_SEND_BUFFER;
use crate::door::portion;
use crate::door::tls;
use crate::engine::socket::SEND_BUFFER_MOST;
use crate::engine::tls as session;
use crate::fanout::ring::Ring;
use crate::ingest::framing::HELD_MOST;
use crate::mount::{Announce, Pattern, Settings};
use crate::supervisor::mirror::Settings as Mirror;
use crate::units::ByteCount;

mod waiting;

use waiting::Waiting;

/// What the caller knows of memory that no setting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// User memory of one listener, its share of all tables included.
    pub listener_bytes: u64,
    /// User memory of one open connection that is not a listener, without the heads it may send.
    pub connection_bytes: u64,
    /// The largest SO_SNDBUF that the kernel grants ([`socket_buffer_max`]).
    pub socket_buffer_max: u64,
    /// Shards where the configuration wants one per core.
    pub cores: u64,
    /// Lines of the event log that may wait to be written, in all.
    pub event_log_bytes: u64,
}

/// The largest SO_SNDBUF that this machine's kernel grants; what Linux has by default where that cannot be read.
pub fn socket_buffer_max() -> u64 {
    let told = std::fs::read_to_string("/proc/sys/net/core/wmem_max").ok();
    told.and_then(|text| text.trim().parse().ok()).unwrap_or(212_992)
}

/// Every kind of mount that a configuration can have, with what it is called here and how many of it there may be.
fn all_mounts(config: &Config) -> impl Iterator<Item = (String, Cow<'_, Settings>, u64)> {
    let declared = config.mounts.iter().map(|mount| (mount.path.to_string(), Cow::Borrowed(mount), 1));
    let of_pattern = |pattern: &Pattern| format!("{} of {}", pattern.most, pattern.paths);
    let made = config.patterns.iter().map(move |pattern| (of_pattern(pattern), Cow::Borrowed(&pattern.mounts), pattern.most as u64));
    // Its intro is its pattern's, and counted there.
    let recorded = config.patterns.iter().filter_map(Pattern::recording).map(|mount| Settings { intro: None, ..mount });
    let recorded = recorded.map(|mount| (format!("recording of {}", mount.path), Cow::Owned(mount), 1));
    let of_mirror = |mirror: &Mirror| format!("{} of {}", mirror.most, mirror.address());
    let mirrored = config.mirrors.iter().map(move |mirror| (of_mirror(mirror), Cow::Borrowed(&mirror.mounts), mirror.most as u64));
    declared.chain(made).chain(recorded).chain(mirrored)
}

/// The table of mounts, and the sums, as comments.
pub(super) fn describe_memory(out: &mut String, config: &Config, costs: Costs) {
    let mut lines: Vec<[String; 6]> =
        vec![["mount", "history (ring_max)", "pinned by stragglers", "on its way in", "at most", "(largest chunk)"].map(str::to_owned)];
    let (mut user, mut mounts) = (0u64, 0);
    for (name, mount, count) in all_mounts(config) {
        // Each source has a framer; one that relieves another is a second, as is a preferred upstream that is tried beside the one that
        // delivers; a recording in its place is one more.
        let relieved = mount.push.as_ref().is_some_and(|push| push.takeover) || mount.relay.upstreams.len() > 1;
        let framers = 1 + u64::from(relieved) + u64::from(mount.fallback.file().is_some());
        // A relay may get frames in place of bytes: the one that comes, its payload on the way out of it, and before the first chunk
        // the streamheaders that it needs.
        let of_bytes = mount.relay.is_empty() && (mount.push.is_some() || mount.pipeline.is_some());
        let frames = if of_bytes { 0 } else { (1 + u64::from(relieved)) * 3 * mount.chunk_max() };
        let held = (framers * HELD_MOST as u64).max(frames);
        let (ring, bound) = (mount.ring_max.0, mount.memory_bound().saturating_add(held));
        mounts += count;
        let pinned = mount.rules.memory_max - ring;
        let cells = [ring, pinned, bound - mount.rules.memory_max, bound, mount.chunk_max()].map(|bytes| ByteCount(bytes).to_string());
        let [ring, pinned, inbound, bound_text, chunk] = cells;
        lines.push([name, ring, pinned, inbound, bound_text, chunk]);
        user = user.saturating_add(bound.saturating_mul(count));
        // One copy, however many mounts are made with it.
        user = user.saturating_add(mount.intro.as_ref().map_or(0, |intro| intro.held_bytes()));
    }
    out.push_str("# Memory at the very most, whatever listeners do:\n#\n");
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for [name, cells @ ..] in &lines {
        let _ = write!(out, "# {name:<0$}", widths[0]);
        for (cell, width) in cells.iter().zip(&widths[1..]) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
    // Where TLS is spoken, it may be spoken by everybody.
    let (of_session, of_handshake) = if config.door.tls.is_empty() { (0, 0) } else { (session::SESSION_BYTES, tls::SESSION_BYTES) };
    let (of_pass, of_letters) = memory_of_auth(config);
    let listener = costs.listener_bytes + of_session + of_pass;
    let guest = costs.connection_bytes + HEADS_HELD * config.door.max_header_size.0 + portion::ANSWER_BYTES + of_handshake;
    let answers = portion::HELD_MOST + admin::lists_bytes(config.max_listeners);
    let (listeners, guests) = worst_mix(config, listener, guest);
    let [of_listeners, of_guests] = [listeners.saturating_mul(listener), guests.saturating_mul(guest)];
    let kernel = kernel_bytes(config, costs.socket_buffer_max);
    let lists = lists_bytes(config);
    let shards = if config.shards == 0 { costs.cores } else { config.shards as u64 };
    let tapes = mounts * shards * Ring::COPY_MOST;
    let total = user.saturating_add(of_listeners).saturating_add(of_guests).saturating_add(WATCHERS_BYTES).saturating_add(lists);
    let waiting = Waiting::of(config, costs);
    let total = total.saturating_add(of_letters).saturating_add(tapes).saturating_add(answers).saturating_add(waiting.sum());
    let _ = writeln!(
        out,
        "#\n# mounts                            {} (on its way in: {} of that in a framer, for types that have one)\
         \n# newest chunks in one piece        {} ({shards} shards keep {} of each mount they have listeners of)\
         \n# listeners    {listeners:>9} × {:>8} {} (max_listeners is {}; this is the mix of connections that takes most)\
         \n# guests       {guests:>9} × {:>8} {} (connections that do not listen, or not yet)\
         \n# large answers                     {} (on their way to whoever takes his time to read them, and lists in the making)\
         \n# watchers                          {} (consoles and others who follow /api/v1/events, {WATCHERS_MOST} at most)\
         \n# bans, groups of addresses         {}\
         {waiting}\
         \n# total, user memory                {} (and what the program and its pipelines take by themselves)\
         \n# kernel, queued in sockets         {} (listeners × 2 × send_buffer, of which the kernel grants {} by net.core.wmem_max; {} for each guest;\
         \n#                                   \"auto\" counts with its most, {}, and takes 2 × bit rate × (coalesce + 0.5s))",
        ByteCount(user),
        ByteCount(HELD_MOST as u64),
        ByteCount(tapes),
        ByteCount(Ring::COPY_MOST),
        ByteCount(listener).to_string(),
        ByteCount(of_listeners),
        config.max_listeners,
        ByteCount(guest).to_string(),
        ByteCount(of_guests),
        ByteCount(answers),
        ByteCount(WATCHERS_BYTES),
        ByteCount(lists),
        ByteCount(total),
        ByteCount(kernel),
        ByteCount(costs.socket_buffer_max),
        ByteCount(2 * u64::from(GUEST_SEND_BUFFER)),
        ByteCount(SEND_BUFFER_MOST as u64),
    );
    if of_session > 0 {
        let _ = writeln!(
            out,
            "# of that, TLS: {} of each listener (at rest a third of it) and {} of each guest, as if everybody spoke it",
            ByteCount(of_session),
            ByteCount(of_handshake)
        );
    }
    let successor =
        user.saturating_mul(2).saturating_add(of_listeners).saturating_add(listeners.saturating_mul(HANDED_OVER_BYTES + of_pass));
    let _ = writeln!(
        out,
        "# while another binary takes over   {} more (histories in a memory file and in the new process, and listeners there)",
        ByteCount(successor)
    );
    if of_pass > 0 {
        let _ = writeln!(
            out,
            "# of that, who listens: {} of each listener, as if all were asked at length, and {} for what backends have to be told",
            ByteCount(of_pass),
            ByteCount(of_letters)
        );
    }
    for warning in super::warnings(config) {
        let _ = writeln!(out, "#\n# Warning: {warning}");
    }
}

/// What one listener takes as plain data, as text and taken apart, on its way to another process.
const HANDED_OVER_BYTES: u64 = 2048;

/// Memory of what is known of addresses: as many bans as there may be, each with the longest reason, and as text while they are
/// written; and the lists, each network as it is written and as a range.
fn lists_bytes(config: &Config) -> u64 {
    const BAN_BYTES: u64 = 2048;
    const NETWORK_BYTES: u64 = 64;
    let listed = config.door.patrol.banned.iter().count() + config.door.patrol.trusted.iter().count();
    let grouped: usize = config.groups.iter().map(|group| group.networks.iter().count()).sum();
    BANS_MOST as u64 * BAN_BYTES + (listed + grouped) as u64 * NETWORK_BYTES
}

/// What who may listen costs, of each listener and in all: its pass, and what waits to be told to each backend.
fn memory_of_auth(config: &Config) -> (u64, u64) {
    let rules = config.settings_of_mounts().filter_map(|mount| mount.listen_auth.as_deref());
    let leaves: Vec<_> = rules.flat_map(Rule::leaves).collect();
    let told = |leaf: &&&Rule| matches!(leaf, Rule::Url(backend) if backend.remove_url.is_some());
    let farewells = leaves.iter().filter(told).count() as u64;
    let announced = config.settings_of_mounts().filter(|mount| mount.announce != Announce::default()).count() as u64;
    let of_pass = if leaves.is_empty() { 0 } else { bouncer::PASS_BYTES + farewells.min(1) * bouncer::FAREWELL_MOST as u64 };
    (of_pass, (farewells + announced) * bouncer::LETTERS_BYTES_MOST as u64)
}

/// How often the largest head is held for one guest: as it came, as it was passed on, in the framework's buffer (which doubles),
/// and the beginning of the next.
const HEADS_HELD: u64 = 4;

/// Listeners and guests, as many of each as take most memory together. Both use up `max_connections`, and no place of those is
/// kept for listeners.
fn worst_mix(config: &Config, listener: u64, guest: u64) -> (u64, u64) {
    let connections = config.door.max_connections;
    let listeners = if listener > guest { config.max_listeners.min(connections) } else { 0 };
    (listeners, connections - listeners)
}

/// Send buffers at the very most: all listeners where the buffers are largest, as far as a mount takes them, and guests. The kernel
/// doubles what is asked for, and grants no more than `granted`.
fn kernel_bytes(config: &Config, granted: u64) -> u64 {
    let guest = u64::from(GUEST_SEND_BUFFER).min(granted);
    // Where listeners have less than guests, guests may be in their places.
    let buffer = |mount: &Settings| mount.rules.send_buffer.map_or(SEND_BUFFER_MOST as u64, u64::from).min(granted).max(guest);
    let places = |(_, mount, count): (String, Cow<'_, Settings>, u64)| {
        (buffer(&mount), mount.max_listeners.map_or(u64::MAX, |most| most.saturating_mul(count)))
    };
    let mut mounts: Vec<_> = all_mounts(config).map(places).collect();
    mounts.sort_unstable_by(|a, b| b.cmp(a));
    let connections = config.door.max_connections;
    let (mut left, mut bytes) = (config.max_listeners.min(connections), 0u64);
    let others = connections - left;
    for (buffer, most) in mounts {
        let here = left.min(most);
        left -= here;
        bytes = bytes.saturating_add(here.saturating_mul(2 * buffer));
    }
    bytes.saturating_add(others.saturating_add(left).saturating_mul(2 * guest))
}
