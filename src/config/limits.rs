//! Who may come in, and how many: the keys of `[server]` and of mounts that say so, and `[[address_group]]`.

use std::path::Path;
use std::sync::Arc;

use super::address::{self, Claim};
use super::error::{ConfigError, Place};
use super::reader::{Parsed, Reader, Wrong};
use super::tree::{Node, Table, Value};
use super::value::{bandwidth, line, networks, number, or_none, path, size, texts, web_address};
use crate::access::ban;
use crate::access::network::Networks;
use crate::delivery::peers::{self, PEERS_MOST};
use crate::door::patrol;
use crate::engine::admission::Limits;
use crate::ingest::relay::Upstream;
use crate::mount::groups::{GROUPS_MOST, GroupSettings};

/// Networks that a file may list.
const LISTED_MOST: usize = 1_000_000;
/// The largest file that lists networks.
const FILE_MOST: u64 = 64 << 20;
const COUNT_MOST: u64 = 1_000_000;

/// When memory is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// As much as the control group of the process may use, if it says.
    #[default]
    Auto,
    /// Never.
    None,
    /// So many bytes of resident memory.
    Bytes(u64),
}

/// Reads `auto`, `none`, or a size.
pub(super) fn memory(node: &Node) -> Parsed<MemoryLimit> {
    match &node.value {
        Value::Text(text) | Value::Loose(text) if text.trim() == "auto" => Ok(MemoryLimit::Auto),
        Value::Text(text) | Value::Loose(text) if text.trim() == "none" => Ok(MemoryLimit::None),
        _ => size(64 << 20..=1 << 50)(node).map(|size| MemoryLimit::Bytes(size.0)).map_err(|wrongs| {
            let more = |mut wrong: Wrong| {
                wrong.remedy.push_str(", \"auto\" or \"none\"");
                wrong
            };
            wrongs.into_iter().map(more).collect()
        }),
    }
}

/// Reads the limits that a mount and the server have alike; `max_listeners` is the mount's, which no other can be above.
pub(super) fn read(reader: &mut Reader<'_>, max_listeners: Option<u64>) -> Limits {
    let mut count = |key| reader.take(key, or_none(number(1..=COUNT_MOST, true))).flatten();
    let per_address = count("max_listeners_per_address");
    let per_user = count("max_listeners_per_user");
    let join_rate = count("max_join_rate");
    for (key, each) in [("max_listeners_per_address", per_address), ("max_listeners_per_user", per_user)] {
        if let Some((each, all)) = each.zip(max_listeners).filter(|(each, all)| each > all) {
            let at = reader.whereabouts("max_listeners");
            reader.wrong(key, format!("is {each}, more than the {all} of max_listeners{at}"), "lower it, or remove it: it never acts");
        }
    }
    let bandwidth = reader.take("max_bandwidth", or_none(bandwidth)).flatten();
    Limits { per_address, per_user, bandwidth, join_rate }
}

/// Where those go for whom a mount has no room.
pub(super) fn redirect(reader: &mut Reader<'_>) -> Option<Arc<str>> {
    let address = reader.take("redirect_on_overflow", or_none(web_address)).flatten()?;
    if address.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(address.into());
    }
    reader.wrong("redirect_on_overflow", "has characters that no address has", "write them percent-encoded");
    None
}

/// From which load on newcomers are sent to peers, unless it is said.
const REDIRECT_FROM: u64 = 800;

/// Reads where newcomers are sent before the server is full.
pub(super) fn peers(reader: &mut Reader<'_>) -> peers::Settings {
    let peers = reader.take("redirect_peers", |node| texts(node, "[\"http://b.example:8000\"]", peer)).unwrap_or_default();
    if peers.len() > PEERS_MOST {
        let problem = format!("names {} servers, more than {PEERS_MOST}", peers.len());
        reader.wrong("redirect_peers", problem, "leave some out");
    }
    if peers.iter().enumerate().any(|(at, peer)| peers[..at].contains(peer)) {
        reader.wrong("redirect_peers", "names a server twice", "name each once");
    }
    let from = reader.take("redirect_from", share);
    if from.is_some() && peers.is_empty() && !reader.failed("redirect_peers") {
        reader.wrong("redirect_from", "says from when on, and nothing says where to", "write redirect_peers, or remove it");
    }
    peers::Settings { peers, from: from.unwrap_or(REDIRECT_FROM) }
}

/// A server's web address, with nothing after the port.
fn peer(text: &str, _: &Node) -> Parsed<Arc<str>> {
    const REMEDY: &str = "write one such as \"http://b.example:8000\": what is asked for here is asked for there";
    let bare = text.strip_suffix('/').unwrap_or(text);
    if let Err(problem) = Upstream::parse(bare) {
        return Err(vec![Wrong::new(problem, REMEDY)]);
    }
    let plain = bare.split_once("://").is_some_and(|(_, rest)| !rest.contains(['/', '?', '#', '@']));
    if plain { Ok(bare.into()) } else { Err(vec![Wrong::new("is more than a server", REMEDY)]) }
}

/// A share such as `80%`, in thousandths.
fn share(node: &Node) -> Parsed<u64> {
    let (Value::Text(text) | Value::Loose(text)) = &node.value else {
        return Err(vec![Wrong::new("is no share", "write one such as \"80%\"")]);
    };
    let share = text.trim().strip_suffix('%').and_then(|text| text.trim_end().parse::<u64>().ok());
    match share {
        Some(share @ 1..=100) => Ok(share * 10),
        _ => Err(vec![Wrong::new("is no share from \"1%\" to \"100%\"", "write one such as \"80%\"")]),
    }
}

/// Reads who may come in at all. Also returns the sockets that expect a PROXY header, with their places.
pub(super) fn patrol(reader: &mut Reader<'_>) -> (patrol::Settings, Vec<Claim>) {
    let (trusted, trusts_unix) = reader.take("trusted_proxies", proxies).unwrap_or_default();
    let proxied = reader.take("proxy_protocol", address::some).unwrap_or_default();
    let per_address = reader.take("max_connections_per_address", or_none(number(1..=COUNT_MOST, true))).flatten();
    let listed = reader.take("banned_file", file).map_or((None, Networks::default()), |(path, networks)| (Some(path), networks));
    let state_dir = reader.take("state_dir", or_none(folder)).flatten();
    let settings = patrol::Settings {
        trusted,
        trusts_unix,
        proxied: proxied.iter().map(|claim| claim.address.clone()).collect(),
        per_address,
        banned: listed.1,
        banned_file: listed.0,
        state_dir,
    };
    (settings, proxied)
}

/// Networks of proxies, and whether `unix` is among them: whoever uses a unix socket.
fn proxies(node: &Node) -> Parsed<(Networks, bool)> {
    match &node.value {
        Value::List(items) => {
            let is_unix = |item: &Node| matches!(&item.value, Value::Text(text) if text.trim() == "unix");
            let rest = items.iter().filter(|item| !is_unix(item)).cloned().collect::<Vec<_>>();
            let unix = rest.len() < items.len();
            Ok((networks(&Node { value: Value::List(rest), place: node.place.clone() })?, unix))
        }
        Value::Text(text) | Value::Loose(text) if text.trim() == "unix" => Ok((Networks::default(), true)),
        _ => Ok((networks(node)?, false)),
    }
}

/// A folder that is there.
fn folder(node: &Node) -> Parsed<std::path::PathBuf> {
    let path = path(node)?;
    if path.is_dir() {
        return Ok(path);
    }
    Err(vec![Wrong::new("is no folder that is there", "make it, and give it to the user that flumen runs as")])
}

/// A file that lists addresses and networks, with what it lists.
fn file(node: &Node) -> Parsed<(std::path::PathBuf, Networks)> {
    let path = path(node)?;
    let listed = listed(&path)?;
    Ok((path, listed))
}

pub(super) fn listed(path: &Path) -> Parsed<Networks> {
    use std::io::Read;
    const REMEDY: &str = "write one address or network to a line, such as 192.0.2.0/24; # begins a remark";
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MOST + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(vec![Wrong::new(format!("cannot be read: {error}"), "name a file that the server may read")]),
        Ok(read) if read as u64 > FILE_MOST => Err(vec![Wrong::new("is larger than 64MiB", "join networks that lie side by side")]),
        Ok(_) => ban::list(&text, LISTED_MOST).map_err(|(at, problem)| {
            vec![Wrong::new(format!("has a line that is no network, {}:{at}: {problem}", path.display()), REMEDY)]
        }),
    }
}

/// Reads every `[[address_group]]`.
pub(super) fn groups(tables: Vec<(Place, Table)>, errors: &mut Vec<ConfigError>) -> Vec<GroupSettings> {
    let mut groups: Vec<GroupSettings> = Vec::new();
    for (i, (place, table)) in tables.into_iter().enumerate() {
        let mut reader = Reader::new(format!("address_group[{i}]"), place, table, errors);
        let name: Option<Arc<str>> = reader.take("name", line(64)).map(Into::into);
        if name.is_none() && !reader.failed("name") {
            reader.wrong("name", "is missing: a group is known by its name", "write one such as name = \"de\"");
        }
        if name.as_ref().is_some_and(|name| groups.iter().any(|group| group.name == *name)) {
            reader.wrong("name", "is another group's already", "give each a name of its own");
        }
        if i >= GROUPS_MOST {
            reader.wrong("name", format!("is one of more than {GROUPS_MOST} groups"), "join some");
        }
        let written = reader.take("networks", networks);
        let file = reader.take("file", file);
        match (&written, &file) {
            (Some(_), Some(_)) => {
                let at = reader.whereabouts("networks");
                reader.wrong("file", format!("is written beside networks{at}"), "write one of the two");
            }
            (None, None) if !reader.failed("networks") && !reader.failed("file") => {
                reader.wrong("networks", "is missing: a group is a list", "write networks = [\"192.0.2.0/24\"] or file = \"list.txt\"");
            }
            _ => {}
        }
        let max_listeners = reader.take("max_listeners", or_none(number(1..=COUNT_MOST, true))).flatten();
        reader.finish();
        if let Some(name) = name {
            let (file, networks) = file.map_or((None, written.unwrap_or_default()), |(path, networks)| (Some(path), networks));
            groups.push(GroupSettings { name, networks: Arc::new(networks), file, max_listeners });
        }
    }
    groups
}
