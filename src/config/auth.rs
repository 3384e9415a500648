//! `listen_auth`, `stream_auth`, `mount_add`, `mount_remove`: who may listen and publish, and who is told.
//!
//! ```toml
//! listen_auth = { any = [{ allow = ["10.0.0.0/8"] }, { all = [{ htpasswd = "users" }, { not = { agent = "*bot*" } }] }] }
//! ```
//! A rule is a table with one of the keys of [`KINDS`], and perhaps options of that kind. Files are read here already, so that a bad
//! one is an error of the configuration; their paths count from the file that they are written in.

use std::sync::Arc;
use std::time::Duration;

use super::describe::quoted;
use super::reader::{Parsed, Reader, Wrong, all, nearest};
use super::secret;
use super::tree::{Node, Table, Value, parse_value};
use super::value::{duration, line, one_of, path, texts, web_address, word_of};
use crate::access::network::{Network, Networks};
use crate::access::rule::{OnError, Rule, UrlAuth};
use crate::access::{Credentials, Secret};
use crate::bouncer::files;
use crate::mount::Announce;
use crate::units::format_duration;

/// What a rule can be, and which options each has.
const KINDS: [(&str, &[&str]); 10] = [
    ("htpasswd", &[]),
    ("url", URL_OPTIONS),
    ("signed", &[]),
    ("jwt", &["audience"]),
    ("any", &[]),
    ("all", &[]),
    ("not", &[]),
    ("allow", &[]),
    ("deny", &[]),
    ("agent", &[]),
];
const URL_OPTIONS: &[&str] = &[
    "remove_url",
    "timeout",
    "on_error",
    "auth_header",
    "timelimit_header",
    "headers",
    "header_prefix",
    "user",
    "password",
    "password_file",
];
/// Of an encoder's backend: it is not told of anybody's end.
const STREAM_OPTIONS: &[&str] = &["timeout", "on_error", "auth_header", "user", "password", "password_file"];
const ON_ERROR: [(&str, OnError); 2] = [("deny", OnError::Deny), ("allow", OnError::Allow)];
const RULE_REMEDY: &str = "write one such as { htpasswd = \"users\" } or { url = \"http://127.0.0.1:8080/auth\" }";
const STREAM_REMEDY: &str = "write stream_auth = { url = \"http://127.0.0.1:8080/auth\" }";
/// The longest that a backend may take, and what it is given where nothing is written.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Header fields of a listener that a backend is told, and how long their names are.
pub(super) const HEADERS_MOST: usize = 8;
const HEADER_NAME_MOST: usize = 64;
/// Networks of one rule.
const NETWORKS_MOST: usize = 100_000;
/// Patterns of one rule.
const PATTERNS_MOST: usize = 64;

/// Who may listen; raw ports have no rule.
pub(super) fn listen(reader: &mut Reader<'_>, has_tcp: bool) -> Option<Arc<Rule>> {
    let rule = reader.take("listen_auth", |node| {
        let rule = rule(node, 1)?;
        let leaves = rule.leaves().len();
        if leaves > Rule::LEAVES_MOST {
            return Err(vec![Wrong::new(format!("has {leaves} rules in it"), format!("write at most {}", Rule::LEAVES_MOST))]);
        }
        Ok(Arc::new(rule))
    });
    if rule.is_some() && has_tcp {
        let at = reader.whereabouts("tcp");
        reader.wrong(
            "listen_auth",
            format!("is written beside tcp{at}, whose listeners cannot be asked who they are"),
            "leave one of the two out; a second mount may have the other",
        );
    }
    rule
}

/// Who decides which encoder may publish.
pub(super) fn stream(reader: &mut Reader<'_>) -> Option<Arc<UrlAuth>> {
    reader.take("stream_auth", |node| {
        let table = table(node, STREAM_REMEDY)?;
        if !table.contains_key("url") {
            return Err(vec![Wrong::new("has no url", STREAM_REMEDY)]);
        }
        known(&table, "url", STREAM_OPTIONS)?;
        backend(&table, false)
    })
}

/// Who is told when a source comes and goes.
pub(super) fn announce(reader: &mut Reader<'_>) -> Announce {
    let mut address = |key| reader.take(key, web_address).map(Arc::from);
    Announce { add: address("mount_add"), remove: address("mount_remove") }
}

fn table(node: &Node, remedy: &str) -> Parsed<Table> {
    match &node.value {
        Value::Table(table) => Ok(table.clone()),
        Value::Loose(text) => match parse_value(text.trim(), &node.place) {
            Some(Node { value: Value::Table(table), .. }) => Ok(table),
            _ => Err(vec![Wrong::new("is no table", remedy)]),
        },
        _ => Err(vec![Wrong::new(format!("is {}, not a table", node.kind()), remedy)]),
    }
}

/// Refuses keys that a table of this kind has not.
fn known(table: &Table, kind: &str, options: &[&'static str]) -> Parsed<()> {
    let strange = table.keys().filter(|key| *key != kind && !options.contains(&key.as_str()));
    let wrongs: Vec<_> = strange
        .map(|key| {
            let others = KINDS.iter().any(|(other, _)| other == key);
            let remedy = match nearest(key, options) {
                _ if others => format!("a rule is one of the two: put both in a list, {{ all = [{{ {kind} = … }}, {{ {key} = … }}] }}"),
                Some(near) => format!("did you mean {near:?}?"),
                None if options.is_empty() => format!("{kind:?} has no options"),
                None => format!("the options of {kind:?} are {}", options.join(", ")),
            };
            Wrong::new(format!("has {key:?} beside {kind:?}"), remedy)
        })
        .collect();
    if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
}

/// Says in which part of a rule something is wrong.
fn within<T>(part: &str, parsed: Parsed<T>) -> Parsed<T> {
    parsed.map_err(|wrongs| {
        let name = |wrong: Wrong| {
            let index = wrong.item.map_or_else(String::new, |(index, ..)| format!("[{index}]"));
            Wrong::new(format!("in {part}{index}: it {}", wrong.problem.trim_start_matches("it ")), wrong.remedy)
        };
        wrongs.into_iter().map(name).collect()
    })
}

fn rule(node: &Node, depth: usize) -> Parsed<Rule> {
    let wrong = |problem: String, remedy: &str| Err(vec![Wrong::new(problem, remedy)]);
    if depth > Rule::DEEPEST {
        return wrong(format!("has rules in rules, more than {} deep", Rule::DEEPEST), "write it in fewer steps");
    }
    let table = table(node, RULE_REMEDY)?;
    let Some((kind, options)) = KINDS.iter().find(|(kind, _)| table.contains_key(*kind)) else {
        let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
        let near = table.keys().find_map(|key| nearest(key, &kinds).map(|near| (key, near)));
        return match near {
            Some((key, near)) => wrong(format!("has no rule in it, but {key:?}"), &format!("did you mean {near:?}?")),
            None => wrong("has no rule in it".to_owned(), &format!("a rule has one of the keys {}", kinds.join(", "))),
        };
    };
    known(&table, kind, options)?;
    let value = &table[*kind];
    let file = || path(value);
    let rule = match *kind {
        "htpasswd" => file().map(Rule::Htpasswd),
        "signed" => file().map(Rule::Signed),
        "jwt" => file().and_then(|keys| {
            let audience = table.get("audience").map(|node| within("audience", line(255)(node))).transpose()?;
            Ok(Rule::Jwt { keys, audience: audience.map(Into::into) })
        }),
        "url" => return backend(&table, true).map(Rule::Url),
        "allow" => networks(value).map(Rule::Allow),
        "deny" => networks(value).map(Rule::Deny),
        "agent" => {
            let patterns = texts(value, "[\"*bot*\"]", |text, _| word_of(text));
            patterns.and_then(|patterns| match patterns.len() {
                1..=PATTERNS_MOST => Ok(Rule::Agent(patterns)),
                count => wrong(format!("has {count} patterns"), &format!("write 1 to {PATTERNS_MOST}")),
            })
        }
        "not" => self::rule(value, depth + 1).map(|rule| Rule::Not(Box::new(rule))),
        combined => match &value.value {
            Value::List(items) if !items.is_empty() => {
                let part = |(index, item): (usize, &Node)| within(&format!("{combined}[{index}]"), self::rule(item, depth + 1));
                let rules = all(items.iter().enumerate().map(part))?;
                return Ok(if combined == "any" { Rule::Any(rules) } else { Rule::All(rules) });
            }
            _ => wrong("is no list of rules".to_owned(), "write { any = [{ htpasswd = \"users\" }, { allow = [\"10.0.0.0/8\"] }] }"),
        },
    };
    let rule = within(kind, rule)?;
    match files::check(&rule) {
        Ok(()) => Ok(rule),
        Err(why) => wrong(why, "name a file that the server may read, and mend what is wrong in it"),
    }
}

fn networks(node: &Node) -> Parsed<Networks> {
    let list: Vec<Network> = texts(node, "[\"10.0.0.0/8\"]", |text, _| word_of(text))?;
    match list.len() {
        1..=NETWORKS_MOST => Ok(Networks::new(list)),
        count => Err(vec![Wrong::new(format!("has {count} networks"), format!("write 1 to {NETWORKS_MOST}, such as \"10.0.0.0/8\""))]),
    }
}

/// A web address without user and password, and those.
fn address(node: &Node) -> Parsed<(Arc<str>, Option<Credentials>)> {
    let url = web_address(node)?;
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
    let host_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..host_ends].rfind('@') else { return Ok((url.into(), None)) };
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    let login = Credentials { user: decoded(user), password: Secret::new(&decoded(password)) };
    Ok((format!("{scheme}://{}", &rest[at + 1..]).into(), Some(login)))
}

/// Whether this can be the name of a header field, or stand before it: its letters mean the same in a head and in a form.
pub(super) fn names_header(text: &str) -> bool {
    (1..=HEADER_NAME_MOST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn header(text: &str) -> Parsed<Box<str>> {
    if names_header(text) {
        return Ok(text.into());
    }
    let problem = format!("{text:?} is no name of a header field that a form can carry");
    Err(vec![Wrong::new(problem, format!("write letters, digits, -, _ and dots, {HEADER_NAME_MOST} at most"))])
}

fn headers(node: &Node) -> Parsed<Vec<Box<str>>> {
    let names = texts(node, "[\"x-token\"]", |text, _| header(text))?;
    if names.len() > HEADERS_MOST {
        return Err(vec![Wrong::new(format!("has {} names", names.len()), format!("write at most {HEADERS_MOST}"))]);
    }
    Ok(names)
}

/// A backend that is asked. Where `tells`, it also hears who has left.
fn backend(table: &Table, tells: bool) -> Parsed<Arc<UrlAuth>> {
    let (url, login) = within("url", address(&table["url"]))?;
    let given = |key: &str| table.get(key);
    let remove_url = match given("remove_url") {
        Some(Node { value: Value::Text(text), .. }) if text == "none" => None,
        Some(node) => Some(within("remove_url", address(node))?.0),
        None => tells.then(|| Arc::clone(&url)),
    };
    let timeout = given("timeout").map(|node| within("timeout", duration(TIMEOUTS, false)(node))).transpose()?;
    let on_error = given("on_error").map(|node| within("on_error", one_of(&ON_ERROR)(node))).transpose()?;
    let auth_header = given("auth_header").map(|node| within("auth_header", line(255)(node))).transpose()?;
    let timelimit_header = given("timelimit_header").map(|node| within("timelimit_header", line(255)(node))).transpose()?;
    let headers = given("headers").map(|node| within("headers", headers(node))).transpose()?;
    let prefix = |node| line(HEADER_NAME_MOST)(node).and_then(|text| header(&text));
    let header_prefix = given("header_prefix").map(|node| within("header_prefix", prefix(node))).transpose()?;
    let user = given("user").map(|node| within("user", line(255)(node))).transpose()?;
    let written = given("password").map(|node| within("password", secret::shown(node))).transpose()?;
    let filed =
        given("password_file").map(|node| within("password_file", path(node).and_then(|path| secret::in_file(&path)))).transpose()?;
    if written.is_some() && filed.is_some() {
        return Err(vec![Wrong::new("has password_file beside password", "write one of the two")]);
    }
    let login = match (user, written.or(filed)) {
        (Some(user), password) => Some(Credentials { user, password: password.unwrap_or_else(|| Secret::new("")) }),
        (None, Some(_)) => return Err(vec![Wrong::new("has a password without a user", "write user = \"…\" beside it")]),
        (None, None) => login,
    };
    Ok(Arc::new(UrlAuth {
        url,
        remove_url,
        timeout: timeout.unwrap_or(TIMEOUT),
        on_error: on_error.unwrap_or_default(),
        auth_header: auth_header.map_or_else(|| UrlAuth::AUTH_HEADER.into(), Into::into),
        timelimit_header: timelimit_header
            .map_or_else(|| UrlAuth::TIMELIMIT_HEADER.into(), |name| name.trim().trim_end_matches(':').into()), // as Icecast writes it
        headers: headers.unwrap_or_default(),
        header_prefix: header_prefix.unwrap_or_default(),
        login,
    }))
}

/// A rule as it is written.
pub(super) fn described(rule: &Rule) -> String {
    let list = |parts: Vec<String>| format!("[{}]", parts.join(", "));
    let networks = |networks: &Networks| list(networks.iter().map(|network| quoted(&network.to_string())).collect());
    let shown = |path: &std::path::Path| quoted(&path.to_string_lossy());
    match rule {
        Rule::Any(rules) => format!("{{ any = {} }}", list(rules.iter().map(described).collect())),
        Rule::All(rules) => format!("{{ all = {} }}", list(rules.iter().map(described).collect())),
        Rule::Not(rule) => format!("{{ not = {} }}", described(rule)),
        Rule::Allow(allowed) => format!("{{ allow = {} }}", networks(allowed)),
        Rule::Deny(denied) => format!("{{ deny = {} }}", networks(denied)),
        Rule::Agent(patterns) => {
            format!("{{ agent = {} }}", list(patterns.iter().map(|pattern| quoted(&pattern.to_string())).collect()))
        }
        Rule::Htpasswd(file) => format!("{{ htpasswd = {} }}", shown(file)),
        Rule::Signed(file) => format!("{{ signed = {} }}", shown(file)),
        Rule::Jwt { keys, audience } => {
            let audience = audience.as_ref().map_or_else(String::new, |audience| format!(", audience = {}", quoted(audience)));
            format!("{{ jwt = {}{audience} }}", shown(keys))
        }
        Rule::Url(backend) => described_backend(backend, true),
    }
}

/// A backend as it is written, but for its password.
pub(super) fn described_backend(backend: &UrlAuth, tells: bool) -> String {
    let on_error = ON_ERROR.iter().find(|(_, known)| *known == backend.on_error).map_or("", |(word, _)| word);
    let mut parts = vec![format!("url = {}", quoted(&backend.url))];
    if tells {
        parts.push(format!("remove_url = {}", quoted(backend.remove_url.as_deref().unwrap_or("none"))));
    }
    parts.push(format!("timeout = {}", quoted(&format_duration(backend.timeout))));
    parts.push(format!("on_error = {}", quoted(on_error)));
    if *backend.auth_header != *UrlAuth::AUTH_HEADER {
        parts.push(format!("auth_header = {}", quoted(&backend.auth_header)));
    }
    if *backend.timelimit_header != *UrlAuth::TIMELIMIT_HEADER {
        parts.push(format!("timelimit_header = {}", quoted(&backend.timelimit_header)));
    }
    if !backend.headers.is_empty() {
        let names: Vec<_> = backend.headers.iter().map(|name| quoted(name)).collect();
        parts.push(format!("headers = [{}]", names.join(", ")));
    }
    if !backend.header_prefix.is_empty() {
        parts.push(format!("header_prefix = {}", quoted(&backend.header_prefix)));
    }
    if let Some(login) = &backend.login {
        parts.push(format!("user = {}", quoted(&login.user)));
    }
    format!("{{ {} }}", parts.join(", "))
}
