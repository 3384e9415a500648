//! How a run speaks: a live line on a terminal, one JSON line per interval otherwise, and a result at the end.
//!
//! The live line goes to stderr so that the result on stdout can be piped; the JSON lines go to stdout.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::page::Page;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    Table,
    Json,
}

#[derive(Debug)]
pub(crate) struct Output {
    style: Style,
    live: bool,
    file: Option<PathBuf>,
    page: Option<PathBuf>,
}

/// What can be said as a line for people.
pub(crate) trait Spoken: Serialize {
    fn spoken(&self) -> String;
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    r#type: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

impl Output {
    pub(crate) fn new(style: Option<Style>, file: Option<&Path>, page: Option<&Path>) -> Self {
        let style = style.unwrap_or(if io::stdout().is_terminal() { Style::Table } else { Style::Json });
        Self { style, live: io::stderr().is_terminal(), file: file.map(Path::to_owned), page: page.map(Path::to_owned) }
    }

    pub(crate) fn progress(&self, now: &impl Spoken) -> io::Result<()> {
        match self.style {
            Style::Json => json_line(io::stdout().lock(), "progress", now),
            Style::Table if self.live => write!(io::stderr(), "\r\x1b[K{}", now.spoken()),
            Style::Table => writeln!(io::stderr(), "{}", now.spoken()),
        }
    }

    pub(crate) fn result(&self, result: &impl Spoken) -> io::Result<()> {
        if let Some(path) = &self.file {
            let mut file = File::create(path)?;
            serde_json::to_writer_pretty(&mut file, result)?;
            writeln!(file)?;
        }
        match self.style {
            Style::Json => json_line(io::stdout().lock(), "result", result),
            Style::Table => {
                if self.live {
                    write!(io::stderr(), "\r\x1b[K")?;
                }
                write!(io::stdout().lock(), "{}", result.spoken())
            }
        }
    }

    /// Writes a page, if one was asked for. It is made only then.
    pub(crate) fn page(&self, make: impl FnOnce() -> Page) -> anyhow::Result<()> {
        let Some(path) = &self.page else { return Ok(()) };
        std::fs::write(path, make().html()?).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn json_line(mut out: impl Write, kind: &str, content: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut out, &Tagged { r#type: kind, content })?;
    writeln!(out)
}
