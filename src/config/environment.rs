//! What comes from outside the file: `FLUMEN_SERVER__MAX_LISTENERS=500`, `ICECAST_ADMIN_PASSWORD=…` and `--set server.max_listeners=5`.
//! Of sections that there may be several of, the one with a number is meant: `FLUMEN_MOUNT__0__BURST=2s`.
//!
//! - All put a leaf into the tree, in place of what the file says there; its reader knows the type.
//! - A variable with a section in its name that does not fit is an error, like a key that does not. Other `FLUMEN_` names are
//!   somebody else's (a container platform invents `FLUMEN_PORT`) and are left alone; at the start they are told, once.
//! - The names that Icecast's container images know mean the same here. Any of them also ends in `_FILE`, for a file with the value.
//!   Where both are given, flumen's own name wins.
//! - A password from outside takes the place of the file's, in whatever way that is written there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Launch;
use super::discretion::{HIDDEN, is_secret};
use super::error::{ConfigError, Place};
use super::reader::nearest;
use super::secret::text_of;
use super::tree::{Node, Table, Value};

const PREFIX: &str = "FLUMEN_";
const SECTIONS: [&str; 12] =
    ["server", "log", "metrics", "admin", "relay", "push", "mount_defaults", "mount", "webhook", "directory", "mirror", "address_group"];
/// Those that there may be several of: the number follows.
const LISTS: [&str; 5] = ["mount", "webhook", "directory", "mirror", "address_group"];
/// The same within a section.
const INNER_LISTS: [(&str, &str); 1] = [("server", "tls")];

/// What Icecast's container images call things, and what they are here.
const ICECAST: [(&str, &str, &str); 9] = [
    ("ICECAST_SOURCE_PASSWORD", "push", "password"),
    ("ICECAST_RELAY_PASSWORD", "relay", "password"),
    ("ICECAST_ADMIN_PASSWORD", "admin", "password"),
    ("ICECAST_ADMIN_USERNAME", "admin", "user"),
    ("ICECAST_ADMIN_USER", "admin", "user"),
    ("ICECAST_ADMIN_EMAIL", "admin", "contact"),
    ("ICECAST_LOCATION", "admin", "location"),
    ("ICECAST_HOSTNAME", "admin", "hostname"),
    ("ICECAST_MAX_CLIENTS", "server", "max_listeners"),
];

/// The variables whose names begin with `FLUMEN_`, and those that Icecast's container images know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The file named by `FLUMEN_CONFIG`.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.0.get("FLUMEN_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The first few that begin as ours do and name no key: somebody else's, or mistyped.
    pub fn strangers(&self) -> Vec<String> {
        const SHOWN: usize = 8;
        let known = ["FLUMEN_CONFIG", "FLUMEN_LOG"];
        let names = self.0.keys().filter(|name| name.starts_with(PREFIX) && !name.contains("__") && !known.contains(&name.as_str()));
        names.take(SHOWN).map(|name| name.chars().take(64).collect()).collect()
    }

    /// Puts every override into the tree.
    pub(super) fn overlay(&self, tree: &mut Table, errors: &mut Vec<ConfigError>) {
        let (ours, icecasts): (Vec<_>, Vec<_>) = self.0.iter().partition(|(name, _)| name.starts_with(PREFIX));
        for (name, value) in icecasts.into_iter().chain(ours) {
            let overlaid = match name.strip_prefix(PREFIX) {
                Some(path) => overlay_variable(name, &path.to_ascii_lowercase(), value, tree),
                None => overlay_icecast(name, value, tree),
            };
            if let Err((problem, remedy)) = overlaid {
                let place = Place::Variable(name.as_str().into());
                let value = shown(name, &Node::loose(&value.to_string_lossy(), place.clone()));
                errors.push(ConfigError { place, key: String::new(), value, problem, remedy });
            }
        }
    }
}

/// A value from outside as an error repeats it.
fn shown(name: &str, node: &Node) -> String {
    if is_secret(name) { HIDDEN.to_owned() } else { node.shown() }
}

/// What one of Icecast's names stands for: section, key, and whether it names a file.
fn icecast(name: &str) -> Option<(&'static str, &'static str, bool)> {
    let known = |name: &str| ICECAST.iter().find(|(known, ..)| *known == name).map(|(_, section, key)| (*section, *key));
    let file = || name.strip_suffix("_FILE").and_then(known);
    known(name).map(|(section, key)| (section, key, false)).or_else(|| file().map(|(section, key)| (section, key, true)))
}

impl<K: AsRef<OsStr>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let known = |name: &&str| name.starts_with(PREFIX) || icecast(name).is_some();
        let ours = |(name, value): (K, V)| Some((name.as_ref().to_str().filter(known)?.to_owned(), value.into()));
        Self(variables.into_iter().filter_map(ours).collect())
    }
}

impl<K: AsRef<OsStr>, V: Into<OsString>, const N: usize> From<[(K, V); N]> for Environment {
    fn from(variables: [(K, V); N]) -> Self {
        variables.into_iter().collect()
    }
}

/// What is wrong, and what would be right.
type Refusal = (String, String);

fn overlay_variable(name: &str, path: &str, value: &OsStr, tree: &mut Table) -> Result<(), Refusal> {
    let Some((section, key)) = path.split_once("__") else { return single_underscore(path) };
    let Some(text) = value.to_str() else { return Err(("is not UTF-8".to_owned(), "write UTF-8".to_owned())) };
    set(tree, section, key, "__", Node::loose(text, Place::Variable(name.into()))).map_err(|(problem, near)| {
        let remedy = match near {
            Some(near) => format!("did you mean {PREFIX}{}__{}?", near.to_ascii_uppercase(), key.to_ascii_uppercase()),
            None => {
                let form = |section: &&str| {
                    let number = if LISTS.contains(section) { "0__" } else { "" };
                    format!("{PREFIX}{}__{number}KEY", section.to_ascii_uppercase())
                };
                let inner = INNER_LISTS.map(|(section, list)| format!("{section}__{list}__0__key").to_ascii_uppercase());
                let inner = inner.map(|form| format!("{PREFIX}{form}"));
                format!("write {} or {}", SECTIONS.iter().map(form).collect::<Vec<_>>().join(", "), inner.join(", "))
            }
        };
        (problem, remedy)
    })
}

/// The same for one of Icecast's names. An empty one is one that a template left empty.
fn overlay_icecast(name: &str, value: &OsStr, tree: &mut Table) -> Result<(), Refusal> {
    let Some((section, key, in_file)) = icecast(name).filter(|_| !value.is_empty()) else { return Ok(()) };
    let Some(text) = value.to_str() else { return Err(("is not UTF-8".to_owned(), "write UTF-8".to_owned())) };
    let (key, text) = match (in_file, key) {
        (true, "password") => ("password_file", text.to_owned()),
        (true, key) => (key, read(text)?),
        (false, key) => (key, text.to_owned()),
    };
    set(tree, section, key, "__", Node::loose(&text, Place::Variable(name.into()))).map_err(|(problem, _)| (problem, "unset it".to_owned()))
}

fn read(path: &str) -> Result<String, Refusal> {
    let wrong = |error| (format!("names a file that cannot be read: {error}"), "name a file that the server may read".to_owned());
    text_of(Path::new(path)).map(|text| text.trim().to_owned()).map_err(wrong)
}

/// Takes out of a section what else says the password that is about to be put there.
fn displace(table: &mut Table, key: &str) {
    const ENDINGS: [&str; 3] = ["", "_file", "_hash"];
    let Some(stem) =
        ENDINGS[1..].iter().find_map(|ending| key.strip_suffix(ending)).or(Some(key)).filter(|stem| stem.ends_with("password"))
    else {
        return;
    };
    for ending in ENDINGS {
        let other = format!("{stem}{ending}");
        // Two from outside contradict each other; that is for their reader to say.
        let gives_way = |place: &Place| match place {
            Place::File { .. } => true,
            Place::Variable(name) => !name.starts_with(PREFIX),
            Place::Argument(_) => false,
        };
        if table.get(&other).is_some_and(|node| gives_way(&node.place)) {
            table.remove(&other);
        }
    }
}

/// Somebody else's, unless it is one of ours but for an underscore.
fn single_underscore(path: &str) -> Result<(), Refusal> {
    const OFTEN: [(&str, &[&str]); 5] = [
        ("server_", &["listen", "shards", "max_listeners", "max_connections", "header_timeout", "max_header_size"]),
        ("log_", &["format", "access", "access_format"]),
        ("admin_", &["user", "password", "password_file", "password_hash", "hostname", "location", "contact"]),
        ("relay_", &["user", "password", "password_file", "password_hash"]),
        ("mount_defaults_", &["burst", "keep", "sync", "soft_limit", "hard_limit", "ring_max", "max_listeners"]),
    ];
    for (section, keys) in OFTEN {
        if let Some(key) = path.strip_prefix(section).filter(|key| keys.contains(key)) {
            let right = format!("{PREFIX}{}_{}", section.to_ascii_uppercase(), key.to_ascii_uppercase());
            return Err(("has one underscore after the section".to_owned(), format!("write {right}, with two")));
        }
    }
    Ok(())
}

/// What is wrong with where a leaf is put, and perhaps the section that was meant.
type Misplaced = (String, Option<&'static str>);
/// The section that a leaf is put into, and its key there; `None` where the file has something odd, which its reader reports.
type Found<'t, 'k> = Option<(&'t mut Table, &'k str)>;

/// Puts a leaf into the tree.
fn set(tree: &mut Table, section: &str, key: &str, between: &str, leaf: Node) -> Result<(), Misplaced> {
    let Some(&name) = SECTIONS.iter().find(|known| **known == section) else {
        return Err((format!("there is no section {section:?}"), nearest(section, &SECTIONS)));
    };
    let found = if LISTS.contains(&name) {
        numbered(tree, name, name, key, between)?
    } else {
        let empty = || Node { value: Value::Table(Table::new()), place: leaf.place.clone() };
        let Value::Table(table) = &mut tree.entry(name.to_owned()).or_insert_with(empty).value else {
            return Ok(()); // the file has something odd there, which its reader reports
        };
        let inner = INNER_LISTS.iter().filter(|(outer, _)| *outer == name);
        let inner = inner.filter_map(|(_, list)| Some((*list, key.strip_prefix(list)?.strip_prefix(between)?))).next();
        match inner {
            Some((list, key)) => numbered(table, list, &format!("{name}.{list}"), key, between)?,
            None => Some((table, key)),
        }
    };
    if let Some((table, key)) = found {
        displace(table, key);
        table.insert(key.to_owned(), leaf);
    }
    Ok(())
}

/// One of several sections by the number that the key begins with. None is made here: a number that is too high is a mistake more often
/// than a wish.
fn numbered<'t, 'k>(tree: &'t mut Table, list: &str, name: &str, key: &'k str, between: &str) -> Result<Found<'t, 'k>, Misplaced> {
    let Some((index, key)) = key.split_once(between).and_then(|(index, key)| Some((index.parse::<usize>().ok()?, key))) else {
        return Err((format!("names no {name} by its number"), None));
    };
    let sections = match tree.get_mut(list).map(|node| &mut node.value) {
        Some(Value::List(sections)) => sections.as_mut_slice(),
        _ => &mut [],
    };
    let count = sections.len();
    match sections.get_mut(index).map(|node| &mut node.value) {
        Some(Value::Table(table)) => Ok(Some((table, key))),
        Some(_) => Ok(None),
        None => Err((format!("there is no {name} {index}: the configuration has {count}, counted from 0"), None)),
    }
}

/// Puts what `flumen launch` was given into the tree.
pub(super) fn overlay_arguments(launch: &Launch, tree: &mut Table, errors: &mut Vec<ConfigError>) {
    let mut put = |path: &str, flag: &str, text: &str| {
        let place = Place::Argument(flag.into());
        let (section, key) = match path.split_once('.') {
            Some(("mount", key)) => ("mount", format!("0.{key}")),
            Some((section, key)) => (section, key.to_owned()),
            None => ("mount", format!("0.{path}")),
        };
        if let Err((problem, near)) = set(tree, section, &key, ".", Node::loose(text, place.clone())) {
            let remedy = near.map_or_else(
                || "write key=value of the mount, or section.key=value".to_owned(),
                |near| format!("did you mean {near}.{key}?"),
            );
            let value = shown(path, &Node::loose(text, place.clone()));
            errors.push(ConfigError { place, key: path.to_owned(), value, problem, remedy });
        }
    };
    put("path", "--mount", &launch.mount);
    put("pipeline", "PIPELINE", &launch.pipeline);
    if !launch.listen.is_empty() {
        put("server.listen", "--listen", &launch.listen.join(","));
    }
    let mut malformed = Vec::new();
    for setting in &launch.set {
        match setting.split_once('=') {
            Some((path, text)) if !path.trim().is_empty() => put(path.trim(), &flag(path.trim()), unquoted(text)),
            _ => malformed.push(setting),
        }
    }
    errors.extend(malformed.into_iter().map(|setting| ConfigError {
        place: Place::Argument(flag(setting).into()),
        key: String::new(),
        value: String::new(),
        problem: "has no key, or no value behind it".to_owned(),
        remedy: "write for example --set burst=2s or --set server.max_listeners=5".to_owned(),
    }));
}

/// Where a setting was written. What stands behind the key may be a secret, so it is no part of the place.
fn flag(setting: &str) -> String {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let end = setting.find(|c| !is_key(c)).unwrap_or(setting.len());
    format!("--set {}{}", &setting[..end], if end < setting.len() { HIDDEN } else { "" })
}

/// `"5s"` as in the file is taken like `5s`.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}
