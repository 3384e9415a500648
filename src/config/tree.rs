//! What was written, before anybody knows what it means: values with the places where they stand.
//!
//! A tree is grown from a TOML text; the environment and the command line then put their own leaves into it. Those are
//! [`Value::Loose`]: a text whose type only the reader of the key knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::discretion::{HIDDEN, beginning, discreet};
use super::error::{ConfigError, Place};

/// A table's entries.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value as written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text of the type the key wants, from the environment or the command line.
    Loose(String),
    Text(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
    /// What no key takes: a float, a date.
    Other(String),
}

/// How much of a long value an error repeats.
const SHOWN_CHARS: usize = 120;

impl Node {
    /// A leaf from outside the file.
    pub(super) fn loose(text: &str, place: Place) -> Self {
        Self { value: Value::Loose(text.to_owned()), place }
    }

    /// The value as an error repeats it: without secrets, and not all of a long one.
    pub(super) fn shown(&self) -> String {
        cut(self.written())
    }

    fn written(&self) -> String {
        match &self.value {
            Value::Loose(text) | Value::Text(text) => format!("{:?}", discreet(text)),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(yes) => yes.to_string(),
            Value::Other(text) => text.clone(),
            Value::Table(_) => "{…}".to_owned(),
            Value::List(nodes) => {
                let items: Vec<_> = nodes.iter().take(8).map(Self::written).collect();
                format!("[{}{}]", items.join(", "), if nodes.len() > 8 { ", …" } else { "" })
            }
        }
    }

    /// What kind of value it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Loose(_) | Value::Text(_) => "a text",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(_) => "a value of another type",
        }
    }
}

/// As much of a text as an error repeats.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Which byte of a text is in which line.
struct Lines<'a> {
    file: &'a Arc<str>,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &str, file: &'a Arc<str>) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, starts }
    }

    fn line(&self, byte: usize) -> usize {
        self.starts.partition_point(|&start| start <= byte)
    }

    fn place(&self, byte: usize) -> Place {
        Place::File { name: self.file.clone(), line: self.line(byte) }
    }
}

/// Grows a tree from a TOML text.
///
/// # Errors
/// Every error of syntax. What such a text means is not looked at.
pub(super) fn parse(text: &str, file: &Arc<str>) -> Result<Table, Vec<ConfigError>> {
    let lines = Lines::of(text, file);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(grow_table(table.get_ref(), &lines));
    }
    let mut errors: Vec<_> = errors.iter().map(|error| syntax_error(error, text, &lines)).collect();
    errors.dedup_by(|later, first| later.place == first.place); // the first of a line is the one to mend
    Err(errors)
}

/// Grows a single value, as written on the right of a `=`. All of it stands at `place`.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let name = Arc::from("");
    let mut node = grow(value.get_ref(), 0, &Lines::of(text, &name));
    node.move_to(place);
    Some(node)
}

impl Node {
    fn move_to(&mut self, place: &Place) {
        self.place = place.clone();
        if let Value::List(nodes) = &mut self.value {
            nodes.iter_mut().for_each(|node| node.move_to(place));
        }
    }
}

fn syntax_error(error: &toml::de::Error, text: &str, lines: &Lines<'_>) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let line = lines.line(at);
    let before = &text[..lines.starts[line - 1]];
    let within_text = ["\"\"\"", "'''"].iter().any(|quotes| before.matches(quotes).count() % 2 == 1);
    let written = match text.lines().nth(line - 1).unwrap_or("").trim() {
        "" => String::new(),
        _ if within_text => HIDDEN.to_owned(),
        line => format!("`{}`", cut(beginning(line))),
    };
    ConfigError {
        place: lines.place(at),
        key: String::new(),
        value: written,
        problem: cut(error.message().replace('\n', ", ")),
        remedy: "write TOML: `key = value` under `[section]`, texts and extents in quotes (burst = \"5s\"), each key once".to_owned(),
    }
}

fn grow_table(table: &DeTable<'_>, lines: &Lines<'_>) -> Table {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), grow(value.get_ref(), key.span().start, lines))).collect()
}

fn grow(value: &DeValue<'_>, at: usize, lines: &Lines<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX)),
        DeValue::Boolean(yes) => Value::Boolean(*yes),
        DeValue::Float(number) => Value::Other(number.to_string()),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(items) => Value::List(items.iter().map(|item| grow(item.get_ref(), item.span().start, lines)).collect()),
        DeValue::Table(table) => Value::Table(grow_table(table, lines)),
    };
    Node { value, place: lines.place(at) }
}
