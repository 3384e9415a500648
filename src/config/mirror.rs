//! `[[mirror]]`: servers whose mounts are mounts here.

use std::time::Duration;

use super::error::{ConfigError, Place};
use super::reader::{Parsed, Reader, Wrong};
use super::relay::{ca, login};
use super::tree::{Node, Table};
use super::value::{boolean, duration, number, web_address};
use crate::ingest::relay::Upstream;
use crate::mount::{self, RelaySettings};
use crate::supervisor::mirror::Settings;

/// Most servers that are mirrored.
const MIRRORS_MOST: usize = 16;
/// Most mounts of one of them.
const MOUNTS_MOST: u64 = 10_000;

/// Reads every section; the mounts are what `[mount_defaults]` says.
pub(super) fn read(tables: Vec<(Place, Table)>, defaults: &mount::Settings, errors: &mut Vec<ConfigError>) -> Vec<Settings> {
    let mut mirrors = Vec::new();
    for (i, (place, table)) in tables.into_iter().enumerate() {
        let mut reader = Reader::new(format!("mirror[{i}]"), place, table, errors);
        let section = section(&mut reader, defaults);
        if mirrors.iter().any(|other: &Settings| section.as_ref().is_some_and(|section| section.address() == other.address())) {
            reader.wrong("from", "is mirrored already", "write one section for each server");
        }
        mirrors.extend(section);
        if i >= MIRRORS_MOST {
            reader.wrong("from", format!("is one of more than {MIRRORS_MOST} mirrored servers"), "leave some out");
        }
        reader.finish();
    }
    mirrors
}

/// Reads one section.
pub(super) fn section(reader: &mut Reader<'_>, defaults: &mount::Settings) -> Option<Settings> {
    let seconds = Duration::from_secs;
    let from = reader.take("from", server);
    if from.is_none() && !reader.failed("from") {
        reader.wrong("from", "is missing", "write the server's address, such as from = \"http://master.example:8000\"");
    }
    let server = RelaySettings {
        upstreams: from.iter().map(|from| from.as_str().into()).collect(),
        on_demand: reader.take("on_demand", boolean).unwrap_or(false),
        login: login(reader, "user", ["password", "password_file"]),
        ca: reader.take("ca", ca),
        mirrored: true,
    };
    let interval = reader.take("interval", duration(seconds(1)..=seconds(86_400), false)).unwrap_or(seconds(120));
    let most = reader.take("max_mounts", number(1..=MOUNTS_MOST, false)).unwrap_or(100);
    let mut mounts = defaults.clone();
    // They are filled from there, and by nothing else.
    (mounts.pipeline, mounts.push) = (None, None);
    mounts.tcp.clear();
    from.map(|_| Settings { server, interval, most: usize::try_from(most).unwrap_or(usize::MAX), mounts })
}

/// The address of a server as a whole.
fn server(node: &Node) -> Parsed<String> {
    let address = web_address(node)?;
    let bare = address.trim_end_matches('/');
    let remedy = "write the server's address without a path, such as \"http://master.example:8000\"";
    let wrong = |problem: &str| Err(vec![Wrong::new(problem, remedy)]);
    match bare.split_once("://") {
        Some((_, rest)) if rest.contains(['/', '?', '#']) => wrong("has a path in it"),
        Some((_, rest)) if rest.contains('@') => wrong("has a user in it: that has keys of its own, user and password"),
        _ => Upstream::parse(bare).map(|_| bare.to_owned()).or_else(wrong),
    }
}
