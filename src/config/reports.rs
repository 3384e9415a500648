//! `[log]`, `[metrics]` and `[[webhook]]`: what is told of what happens here, and to whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::{Parsed, Reader, Wrong};
use super::tree::{Node, Table, Value};
use super::value::{boolean, line, one_of, texts, web_address};
use super::{ConfigError, LogFormat, Place};
use crate::journal::Form;
use crate::metrics;
use crate::webhook::{self, Kind};

/// Most webhooks: each has a thread.
const WEBHOOKS_MOST: usize = 16;

/// The words of `access_format`.
pub(super) const ACCESS_FORMATS: [(&str, Form); 2] = [("combined", Form::Combined), ("json", Form::Json)];

/// What `[log]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// How lines of the event log are written.
    pub format: LogFormat,
    /// Where the access log goes.
    pub access: Access,
    /// How its lines are written.
    pub access_format: Form,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// To stdout, unless that is a terminal: then departures are in the event log, and that is enough for the eye.
    #[default]
    Auto,
    /// To stdout.
    Stdout,
    /// Nowhere.
    None,
    /// Into a file.
    File(PathBuf),
}

impl Access {
    /// As it is written.
    pub fn shown(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Stdout => "stdout".to_owned(),
            Self::None => "none".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Reads `[log]`.
pub(super) fn read_log(reader: &mut Reader<'_>) -> Log {
    Log {
        format: reader.take("format", one_of(&LogFormat::WORDS)).unwrap_or_default(),
        access: reader.take("access", access).unwrap_or_default(),
        access_format: reader.take("access_format", one_of(&ACCESS_FORMATS)).unwrap_or_default(),
    }
}

/// Reads `[metrics]`.
pub(super) fn read_metrics(reader: &mut Reader<'_>) -> metrics::Settings {
    metrics::Settings { icecast_exporter: reader.take("icecast_exporter", boolean).unwrap_or_default() }
}

fn access(node: &Node) -> Parsed<Access> {
    let text = line(4096)(node)?;
    Ok(match text.as_str() {
        "auto" => Access::Auto,
        "stdout" => Access::Stdout,
        "none" => Access::None,
        path if path.contains('/') => Access::File(path.into()),
        _ => {
            let remedy = "write \"stdout\", \"none\", \"auto\", or a path such as \"/var/log/flumen/access.log\"";
            return Err(vec![Wrong::new("is no word known here, and no path", remedy)]);
        }
    })
}

/// Reads every `[[webhook]]`.
pub(super) fn read_webhooks(tables: Vec<(Place, Table)>, errors: &mut Vec<ConfigError>) -> Vec<webhook::Settings> {
    let mut hooks = Vec::new();
    for (i, (place, table)) in tables.into_iter().enumerate() {
        let mut reader = Reader::new(format!("webhook[{i}]"), place, table, errors);
        let url = reader.take("url", web_address);
        let events = reader.take("events", kinds).unwrap_or_else(|| Kind::WORDS.map(|(_, kind)| kind).to_vec());
        if url.is_none() && !reader.failed("url") {
            reader.wrong("url", "is missing: events have to go somewhere", "write one such as url = \"http://127.0.0.1:8080/hook\"");
        }
        if i == WEBHOOKS_MOST {
            reader.wrong("url", format!("is one of more than {WEBHOOKS_MOST} webhooks"), "let one program pass them on");
        }
        let ca = reader.take("ca", ca);
        if ca.is_some() && url.as_ref().is_some_and(|url: &String| !url.starts_with("https://")) {
            reader.wrong("ca", "is of no use where the hook is not told by TLS", "write url = \"https://…\", or leave it out");
        }
        reader.finish();
        hooks.extend(url.map(|url| webhook::Settings { url, events, ca }));
    }
    hooks
}

/// A file with the certificates that are believed; looked at once here, and again when the hook is opened.
fn ca(node: &Node) -> Parsed<Arc<Path>> {
    let path = super::value::path(node)?;
    webhook::check_ca(&path).map_err(|why| {
        vec![Wrong::new(why, "name a PEM file with the certificate of who signed the hook's (-----BEGIN CERTIFICATE-----)")]
    })?;
    Ok(path.into())
}

fn kinds(node: &Node) -> Parsed<Vec<Kind>> {
    const REMEDY: &str = "write one such as [\"source_up\", \"source_down\"], or leave it out for all";
    let one = one_of(&Kind::WORDS);
    let kinds = match &node.value {
        Value::List(_) | Value::Loose(_) => texts(node, "[\"source_up\"]", |text, item| one(&Node::loose(text, item.place.clone())))?,
        _ => Vec::new(),
    };
    if kinds.is_empty() { Err(vec![Wrong::new("is no list of events", REMEDY)]) } else { Ok(kinds) }
}
