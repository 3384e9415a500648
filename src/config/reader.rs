//! Reads one table key by key. What is left at the end nobody knows, and is an error.
//!
//! A reader never stops at an error: a key that is wrong reads as absent, so that its default stands in and everything else
//! is looked at too. The errors are what counts in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::discretion::{HIDDEN, is_secret, name_only};
use super::error::{ConfigError, Place};
use super::tree::{Node, Table, Value};

/// Something wrong with a value, or with one item of a list.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The item, its place and what it says; `None`: it is the value as a whole.
    pub(super) item: Option<(usize, Place, String)>,
    /// What is wrong.
    pub(super) problem: String,
    /// What would be right.
    pub(super) remedy: String,
}

impl Wrong {
    /// The value as a whole is wrong.
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { item: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// It is the item with this index.
    pub(super) fn at(mut self, index: usize, node: &Node) -> Self {
        self.item = Some((index, node.place.clone(), node.shown()));
        self
    }
}

/// What a value is read to, or everything that is wrong with it.
pub(super) type Parsed<T> = Result<T, Vec<Wrong>>;

/// A table on its way to settings.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    name: String,
    place: Place,
    table: Table,
    known: Vec<&'static str>,
    given: BTreeMap<&'static str, (Place, String)>,
    failed: BTreeSet<&'static str>,
    errors: &'a mut Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Reads the table called `name` (empty: the whole file), which stands at `place`.
    pub(super) fn new(name: impl Into<String>, place: Place, table: Table, errors: &'a mut Vec<ConfigError>) -> Self {
        Self { name: name.into(), place, table, known: Vec::new(), given: BTreeMap::new(), failed: BTreeSet::new(), errors }
    }

    /// The value of a key; `None` when it is not there or wrong.
    pub(super) fn take<T>(&mut self, key: &'static str, parse: impl FnOnce(&Node) -> Parsed<T>) -> Option<T> {
        self.take_shown(key, Node::shown, parse)
    }

    /// The same for a user's name, beside which a password may stand by mistake.
    pub(super) fn take_name<T>(&mut self, key: &'static str, parse: impl FnOnce(&Node) -> Parsed<T>) -> Option<T> {
        self.take_shown(key, |node| name_only(&node.shown()), parse)
    }

    /// The same for a value that must not appear in an error.
    pub(super) fn take_secret<T>(&mut self, key: &'static str, parse: impl FnOnce(&Node) -> Parsed<T>) -> Option<T> {
        self.take_shown(key, |_| HIDDEN.to_owned(), parse)
    }

    fn take_shown<T>(
        &mut self,
        key: &'static str,
        shown: impl FnOnce(&Node) -> String,
        parse: impl FnOnce(&Node) -> Parsed<T>,
    ) -> Option<T> {
        self.known.push(key);
        let node = self.table.remove(key)?;
        match parse(&node) {
            Ok(value) => {
                self.given.insert(key, (node.place.clone(), shown(&node)));
                Some(value)
            }
            Err(wrongs) => {
                let shown = shown(&node);
                self.failed.insert(key);
                for Wrong { item, problem, remedy } in wrongs {
                    let name = self.full(key);
                    let (key, place, value) = match item {
                        Some((index, place, value)) => (format!("{name}[{index}]"), place, value),
                        None => (name, node.place.clone(), shown.clone()),
                    };
                    self.errors.push(ConfigError { place, key, value, problem, remedy });
                }
                None
            }
        }
    }

    /// The table of a key, and where it stands.
    pub(super) fn take_table(&mut self, key: &'static str) -> Option<(Place, Table)> {
        self.take(key, |node| match &node.value {
            Value::Table(table) => Ok((node.place.clone(), table.clone())),
            _ => Err(vec![Wrong::new(format!("{}, where a section belongs", node.kind()), format!("write [{key}]"))]),
        })
    }

    /// The tables of a key, and where each stands.
    pub(super) fn take_tables(&mut self, key: &'static str) -> Vec<(Place, Table)> {
        let name = self.full(key);
        let remedy = || format!("write [[{name}]] above the keys of each {key}");
        let tables = self.take(key, |node| match &node.value {
            Value::List(nodes) => {
                let tables = nodes.iter().enumerate().map(|(i, node)| match &node.value {
                    Value::Table(table) => Ok((node.place.clone(), table.clone())),
                    _ => Err(vec![Wrong::new(format!("{}, where a section belongs", node.kind()), remedy()).at(i, node)]),
                });
                all(tables)
            }
            _ => Err(vec![Wrong::new(format!("{}, where a list of sections belongs", node.kind()), remedy())]),
        });
        tables.unwrap_or_default()
    }

    /// Where the table stands.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether a key was there, and right.
    pub(super) fn given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Whether a key was there, and wrong.
    pub(super) fn failed(&self, key: &str) -> bool {
        self.failed.contains(key)
    }

    /// The keys that were asked for.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// Where a key stands, for errors about another one: ` (flumen.toml:7)`.
    pub(super) fn whereabouts(&self, key: &str) -> String {
        self.given.get(key).map_or_else(|| " (the default)".to_owned(), |(place, _)| format!(" ({place})"))
    }

    /// Where a key stands and what it says, if it was there, and right.
    pub(super) fn written(&self, key: &str) -> Option<(Place, String)> {
        self.given.get(key).cloned()
    }

    /// Reports what is wrong with a key that by itself was right.
    pub(super) fn wrong(&mut self, key: &'static str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.failed.insert(key);
        let (place, value) = self.given.get(key).cloned().unwrap_or_else(|| (self.place.clone(), String::new()));
        let key = self.full(key);
        self.errors.push(ConfigError { place, key, value, problem: problem.into(), remedy: remedy.into() });
    }

    /// Reports every key that nobody took. Returns the keys that were wrong.
    pub(super) fn finish(mut self) -> BTreeSet<&'static str> {
        for (key, node) in std::mem::take(&mut self.table) {
            let near = nearest(&key, &self.known);
            let remedy = match near {
                Some(near) => format!("did you mean {:?}?", self.full(near)),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            let problem = "is not a key flumen knows".to_owned();
            // A mistyped password is one all the same, by its own letters or by those that were meant.
            let secret = is_secret(&key) || near.is_some_and(is_secret);
            let value = if secret { HIDDEN.to_owned() } else { node.shown() };
            let name = self.full(&key);
            self.errors.push(ConfigError { place: node.place.clone(), key: name, value, problem, remedy });
        }
        self.failed
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// All values, or everything that is wrong with any of them.
pub(super) fn all<T>(parsed: impl Iterator<Item = Parsed<T>>) -> Parsed<Vec<T>> {
    let (mut values, mut wrongs) = (Vec::new(), Vec::new());
    for one in parsed {
        match one {
            Ok(value) => values.push(value),
            Err(more) => wrongs.extend(more),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}

/// The known word that a mistyped one most likely was meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let (distance, near) = known.iter().map(|&other| (edits(&word, other), other)).min()?;
    (distance <= 2.max(word.len() / 3)).then_some(near)
}

/// How many letters are to be inserted, removed or replaced between two words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_recognised() {
        let known = ["burst", "burst_max", "keep", "soft_limit"];
        for (word, want) in [
            ("brust", Some("burst")),
            ("Burst", Some("burst")),
            ("burst-max", Some("burst_max")),
            ("softlimit", Some("soft_limit")),
            ("kep", Some("keep")),
            ("mountpoint", None),
        ] {
            assert_eq!(nearest(word, &known), want, "{word}");
        }
    }
}
