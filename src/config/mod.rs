//! From a TOML file, the environment and the command line to every room's checked settings.
//!
//! ```text
//!   file ─▶ tree ◀─ FLUMEN_… ◀─ --set      tree ─▶ readers ─▶ Config (door, mounts, …)
//! ```
//! - Settings are checked here, once; who holds a [`Config`] checks nothing again.
//! - Bad input is answered in full: every error at once, each with its place, its key, its value and a remedy.
//! - `config/` knows all rooms, and no room knows `config/`. GStreamer it does not know either: whether a pipeline is one, a
//!   callback says.
//!
//! Beside that, `import` turns another server's configuration into one of ours.
//!
//! Deliberately absent: writing files, watching them, and any setting that has no reader yet.

mod address;
mod auth;
#[cfg(test)]
mod auth_tests;
mod describe;
mod difference;
mod discretion;
mod environment;
mod error;
mod fallback;
mod identity;
mod import;
mod limits;
mod memory;
mod mirror;
mod mount;
mod push;
mod reader;
mod relay;
mod reports;
mod secret;
mod server;
mod source;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod tls_tests;
mod tree;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::acme;
use crate::admin;
use crate::delivery::peers;
use crate::directory;
use crate::door::{self, ListenAddress};
use crate::engine::admission::Limits;
use crate::metrics;
use crate::mount as mounts;
use crate::mount::groups::GroupSettings;
use crate::supervisor::mirror as mirrors;
use crate::units::MountPath;
use crate::webhook;
use address::{Claim, Claims};
use mount::Where;
use reader::Reader;
use tree::{Node, Table};

pub use describe::describe;
pub use difference::{Difference, SECRET, difference};
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors, Place};
pub use identity::Identity;
#[cfg(any(test, feature = "fuzzing"))]
pub use import::import_text;
pub use import::{Imported, import_icecast};
pub use limits::MemoryLimit;
pub use memory::{Costs, socket_buffer_max};
pub use reports::{Access, Log};
pub use secret::text_of;
pub use source::{DEMO, Source, locate};

/// Everything the server is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sending threads; 0: one per core.
    pub shards: usize,
    /// Who the server is once its sockets are bound; `None`: whoever started it.
    pub identity: Option<Identity>,
    /// Most listeners of all mounts together.
    pub max_listeners: u64,
    /// What there is only so much of for all mounts together, beside places.
    pub limits: Limits,
    /// Where newcomers are sent before the server is full.
    pub peers: peers::Settings,
    /// Listeners from these addresses are limited.
    pub groups: Vec<GroupSettings>,
    /// When memory is short.
    pub memory_limit: MemoryLimit,
    /// The door's settings.
    pub door: door::Settings,
    /// Certificates that an authority is asked for.
    pub acme: Vec<acme::Settings>,
    /// Where SHOUTcast encoders connect.
    pub shoutcast: Vec<SocketAddr>,
    /// Where they go that name no mount.
    pub shoutcast_mount: Option<MountPath>,
    /// What is logged, how, and where.
    pub log: Log,
    /// What Prometheus is told beside what it is told anyway.
    pub metrics: metrics::Settings,
    /// Who is told of what happens.
    pub webhooks: Vec<webhook::Settings>,
    /// Who is an operator, who is a relay, and what status documents say.
    pub admin: admin::Settings,
    /// Directories that public mounts are announced to.
    pub directories: Vec<directory::Settings>,
    /// The mounts, in the order written.
    pub mounts: Vec<mounts::Settings>,
    /// What publishers may make mounts of, in the order written.
    pub patterns: Vec<mounts::Pattern>,
    /// Servers whose mounts are mounts here.
    pub mirrors: Vec<mirrors::Settings>,
    /// Where all this comes from.
    pub origin: Origin,
}

impl Config {
    /// The settings of every mount, and of those that publishers may make.
    pub fn settings_of_mounts(&self) -> impl Iterator<Item = &mounts::Settings> {
        self.mounts.iter().chain(self.patterns.iter().map(|pattern| &pattern.mounts))
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl LogFormat {
    /// The words in the configuration.
    const WORDS: [(&'static str, Self); 3] = [("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The demo inside the program.
    Demo,
    /// `flumen launch`.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Demo => f.write_str("the embedded demo"),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}

/// Says what is wrong with a GStreamer launch string.
pub type CheckPipeline<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// One mount from the command line, in place of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The GStreamer pipeline, without its sink.
    pub pipeline: String,
    /// The mount's path.
    pub mount: String,
    /// Where to listen; empty: the default.
    pub listen: Vec<String>,
    /// `key=value` of the mount, or with a section: `server.max_listeners=5`.
    pub set: Vec<String>,
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(source: &Source, environment: &Environment, check: CheckPipeline<'_>) -> Result<Config, ConfigErrors> {
    let (name, text) = source.read()?;
    let mut errors = Vec::new();
    let mut tree = tree::parse(&text, &name).map_err(ConfigErrors::new)?;
    environment.overlay(&mut tree, &mut errors);
    let origin = match source {
        Source::File(path) => Origin::File(path.clone()),
        Source::Demo => Origin::Demo,
    };
    checked(tree, origin, &Place::File { name, line: 0 }, errors, check)
}

/// The same from a text, with every launch string taken for one and nothing from the environment.
///
/// # Errors
/// Everything that is wrong with it.
#[cfg(any(test, feature = "fuzzing"))]
pub fn of_text(text: &str) -> Result<Config, ConfigErrors> {
    let name: std::sync::Arc<str> = "a text".into();
    let tree = tree::parse(text, &name).map_err(ConfigErrors::new)?;
    checked(tree, Origin::Demo, &Place::File { name, line: 0 }, Vec::new(), &|_| Ok(()))
}

/// Checks what `flumen launch` was given, by the same rules as a file. The environment counts here too; the command line wins.
///
/// # Errors
/// Everything that is wrong with it.
pub fn launch(launch: &Launch, environment: &Environment, check: CheckPipeline<'_>) -> Result<Config, ConfigErrors> {
    let place = Place::Argument("command line".into());
    let mount = Node { value: tree::Value::Table(Table::new()), place: place.clone() };
    let mut tree = Table::from([("mount".to_owned(), Node { value: tree::Value::List(vec![mount]), place: place.clone() })]);
    let mut errors = Vec::new();
    environment.overlay(&mut tree, &mut errors);
    environment::overlay_arguments(launch, &mut tree, &mut errors);
    checked(tree, Origin::CommandLine, &place, errors, check)
}

fn checked(
    tree: Table,
    origin: Origin,
    place: &Place,
    mut errors: Vec<ConfigError>,
    check: CheckPipeline<'_>,
) -> Result<Config, ConfigErrors> {
    let mut root = Reader::new("", place.clone(), tree, &mut errors);
    let sections = ["server", "log", "metrics", "admin", "relay", "push", "mount_defaults"]
        .map(|name| root.take_table(name).unwrap_or_else(|| (place.clone(), Table::new())));
    let tables = root.take_tables("mount");
    let [webhooks, directories, mirrors] = ["webhook", "directory", "mirror"].map(|name| root.take_tables(name));
    let groups = root.take_tables("address_group");
    root.finish();
    let [server, log, measures, admin, relay, push, mut defaults] = sections;

    let mut reader = Reader::new("server", server.0, server.1, &mut errors);
    let mut server = server::read(&mut reader);
    reader.finish();
    let mut reader = Reader::new("log", log.0, log.1, &mut errors);
    let log = reports::read_log(&mut reader);
    reader.finish();
    let mut reader = Reader::new("metrics", measures.0, measures.1, &mut errors);
    let metrics = reports::read_metrics(&mut reader);
    reader.finish();
    let mut reader = Reader::new("push", push.0, push.1, &mut errors);
    let push = push::read(&mut reader);
    reader.finish();
    let webhooks = reports::read_webhooks(webhooks, &mut errors);
    let mut reader = Reader::new("admin", admin.0, admin.1, &mut errors);
    let mut admin = server::read_admin(&mut reader);
    reader.finish();
    let mut reader = Reader::new("relay", relay.0, relay.1, &mut errors);
    admin.relay = server::read_relay(&mut reader, &admin);
    reader.finish();

    let directories = server::read_directories(directories, &mut errors);
    let groups = limits::groups(groups, &mut errors);

    let mut claims = Claims::default();
    for (i, claim) in server.claims.into_iter().enumerate() {
        claims.add(&format!("server.listen[{i}]"), claim, &mut errors);
    }
    let (tls, acme) = tls::read(server.tls, &mut claims, &mut errors);
    server.door.tls = tls;
    // Such a socket may be one that is listened at already, or one by itself.
    let known: Vec<_> = server.door.tls.iter().flat_map(|section| section.listen.iter().copied().map(ListenAddress::Inet)).collect();
    for (i, claim) in server.proxied.into_iter().enumerate() {
        if !known.contains(&claim.address) && !server.door.listen.contains(&claim.address) {
            claims.add(&format!("server.proxy_protocol[{i}]"), claim, &mut errors);
        }
    }
    let shoutcast = push.shoutcast.iter().map(|claim| claim.address).collect();
    for (i, Claim { address, place, shown }) in push.shoutcast.iter().enumerate() {
        let claim = Claim { address: ListenAddress::Inet(*address), place: place.clone(), shown: shown.clone() };
        claims.add(&format!("push.shoutcast[{i}]"), claim, &mut errors);
    }
    let usual = sound_defaults(&mut defaults, &mut errors, check);
    let mirrors = mirror::read(mirrors, &usual, &mut errors);
    let (mut mounts, mut patterns) = read_mounts(tables, &defaults.1, &mut claims, &mut errors, check);
    if !errors.is_empty() {
        return Err(ConfigErrors::new(errors));
    }
    let shoutcast_mount = push.complete(&mut mounts, &mut patterns);
    admin.shoutcast_mount.clone_from(&shoutcast_mount);
    Ok(Config {
        shards: server.shards,
        identity: server.identity,
        max_listeners: server.max_listeners,
        limits: server.limits,
        peers: server.peers,
        groups,
        memory_limit: server.memory_limit,
        door: server.door,
        acme,
        shoutcast,
        shoutcast_mount,
        log,
        metrics,
        webhooks,
        admin,
        directories,
        mounts,
        patterns,
        mirrors,
        origin,
    })
}

/// Whether a path is one that no page of the server itself has.
pub fn may_be_a_mount(path: &MountPath) -> bool {
    mount::collision(path.as_str()).is_none()
}

/// What is allowed and hardly meant.
pub fn warnings(config: &Config) -> Vec<String> {
    let declared = config.mounts.iter().flat_map(|mount| mount::warnings(mount.path.as_str(), mount));
    let made = config.patterns.iter().flat_map(|pattern| mount::warnings(pattern.paths.as_str(), &pattern.mounts));
    declared.chain(made).chain(fallback::warnings(&config.mounts, &config.patterns)).collect()
}

/// Most mounts of one server: each is an actor, a GStreamer pipeline and a label in the metrics.
const MOUNTS_MOST: usize = 60_000;

/// Most patterns: each is compared with a path that nobody has.
const PATTERNS_MOST: usize = 1000;

/// Reports what is wrong with the defaults once, and leaves only what is right for the mounts to take over. Returns a mount that says
/// nothing itself.
fn sound_defaults((place, table): &mut (Place, Table), errors: &mut Vec<ConfigError>, check: CheckPipeline<'_>) -> mounts::Settings {
    if let Some(node) = table.remove("path") {
        let remedy = "write it under each [[mount]]".to_owned();
        let (key, problem) = ("mount_defaults.path".to_owned(), "no two mounts have the same path".to_owned());
        errors.push(ConfigError { place: node.place.clone(), key, value: node.shown(), problem, remedy });
    }
    let mut reader = Reader::new("mount_defaults", place.clone(), table.clone(), errors);
    let (usual, _) = mount::read(&mut reader, nowhere(), check);
    let known = reader.known().to_vec();
    let failed = reader.finish();
    table.retain(|key, _| known.contains(&key.as_str()) && !failed.contains(key.as_str()));
    usual
}

fn read_mounts(
    tables: Vec<(Place, Table)>,
    defaults: &Table,
    claims: &mut Claims,
    errors: &mut Vec<ConfigError>,
    check: CheckPipeline<'_>,
) -> (Vec<mounts::Settings>, Vec<mounts::Pattern>) {
    let mut paths: HashMap<Where, (usize, Place)> = HashMap::new();
    let (mut mounts, mut patterns, mut fallbacks) = (Vec::with_capacity(tables.len()), Vec::new(), Vec::new());
    for (i, (place, mut table)) in tables.into_iter().enumerate() {
        if i == MOUNTS_MOST {
            let (problem, remedy) = (format!("more than {MOUNTS_MOST} mounts"), "spread them over several servers".to_owned());
            errors.push(ConfigError { place, key: format!("mount[{i}]"), value: String::new(), problem, remedy });
            break;
        }
        for (key, node) in defaults {
            table.entry(key.clone()).or_insert_with(|| node.clone());
        }
        let mut reader = Reader::new(format!("mount[{i}]"), place.clone(), table, errors);
        let path = reader.take("path", mount::path);
        if path.is_none() && !reader.failed("path") {
            reader.wrong("path", "is missing: a mount needs a path", "write one such as path = \"/radio.mp3\"");
        }
        if let Some(path) = &path {
            if let Some((twin, at)) = paths.get(path) {
                let problem = format!("is the path of mount[{twin}] already ({at})");
                reader.wrong("path", problem, "give each mount a path of its own");
            } else {
                paths.insert(path.clone(), (i, place));
            }
        }
        let place = path.unwrap_or_else(|| Where::At(nowhere()));
        let at = if let Where::At(path) = &place { path.clone() } else { nowhere() };
        let (settings, addresses) = mount::read(&mut reader, at, check);
        if let (Some((place, value)), Some(to)) = (reader.written("fallback"), settings.fallback.mount()) {
            fallbacks.push(fallback::Written { key: format!("mount[{i}].fallback"), place, value, to: to.clone() });
        }
        match mount::pattern(&mut reader, &place, &settings) {
            Some(_) if patterns.len() == PATTERNS_MOST => {
                reader.wrong("path", format!("is one of more than {PATTERNS_MOST} patterns"), "let one pattern stand for several");
            }
            Some(pattern) => patterns.push(pattern),
            None => mounts.push(settings),
        }
        reader.finish();
        for (j, Claim { address, place, shown }) in addresses.into_iter().enumerate() {
            let claim = Claim { address: ListenAddress::Inet(address), place, shown };
            claims.add(&format!("mount[{i}].tcp[{j}]"), claim, errors);
        }
    }
    fallback::check(fallbacks, &mounts, &patterns, errors);
    (mounts, patterns)
}

/// A path for settings that are thrown away.
fn nowhere() -> MountPath {
    "/nowhere".parse().expect("a path")
}
