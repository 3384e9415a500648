//! One self-contained HTML page from headings, tables and plots: the report that can be kept, sent and opened anywhere.
//!
//! ```text
//!   Page { blocks } ──▶ HTML: one style sheet, inline SVG ──▶ a file
//! ```
//! - Nothing is fetched and nothing runs: no scripts, no fonts, no pictures from elsewhere. The page's own policy forbids them.
//! - Whatever comes from outside (names, addresses, faults in words) is escaped, in text and in plots.
//! - Its size is bounded: series are thinned, long tables cut with a word about it, whatever the run's length.
//! - Light and dark follow the reader's setting; the plots' colours are changed by the style sheet, not drawn twice.
//!
//! Deliberately absent: templates, themes, anything interactive.

mod plot;

use std::fmt::Write as _;

/// Rows of a table beyond these are only counted.
const ROWS_MAX: usize = 400;
const STYLE: &str = include_str!("page/style.css");

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) blocks: Vec<Block>,
}

#[derive(Debug)]
pub(crate) enum Block {
    Heading(String),
    Text(String),
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    /// Several series over a common x axis.
    Lines {
        title: String,
        x: &'static str,
        y: &'static str,
        series: Vec<Series>,
    },
    /// Groups of bars, each bar a median with its spread.
    Bars {
        title: String,
        y: &'static str,
        groups: Vec<Group>,
    },
}

/// Thinned by the page to a bounded number of points, keeping extremes.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Page {
    pub(crate) fn html(&self) -> anyhow::Result<String> {
        let title = escaped(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
             <style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
            plot::style()
        );
        let mut in_row = false;
        for block in &self.blocks {
            // Neighbouring plots share a row where the window is wide enough.
            let is_plot = matches!(block, Block::Lines { .. } | Block::Bars { .. });
            if is_plot != in_row {
                out.push_str(if is_plot { "<div class=\"plots\">\n" } else { "</div>\n" });
                in_row = is_plot;
            }
            write_block(&mut out, block)?;
        }
        if in_row {
            out.push_str("</div>\n");
        }
        out.push_str("</main>\n</body>\n</html>\n");
        Ok(out)
    }
}

fn write_block(out: &mut String, block: &Block) -> anyhow::Result<()> {
    match block {
        Block::Heading(text) => writeln!(out, "<h2>{}</h2>", escaped(text))?,
        Block::Text(text) => writeln!(out, "<p>{}</p>", escaped(text))?,
        Block::Table { head, rows } => write_table(out, head, rows),
        Block::Lines { title, x, y, series } => {
            let svg = plot::lines(x, y, series)?;
            write_figure(out, title, svg.as_deref(), series.iter().map(|series| series.name.as_str()));
        }
        Block::Bars { title, y, groups } => {
            let names = plot::bar_names(groups);
            let svg = plot::bars(y, groups, &names)?;
            write_figure(out, title, svg.as_deref(), names.into_iter());
        }
    }
    Ok(())
}

fn write_table(out: &mut String, head: &[String], rows: &[Vec<String>]) {
    let shown = &rows[..rows.len().min(ROWS_MAX)];
    // Figures stand on the right, under each other; a column with a word in it is none of figures.
    let figures = |column: usize| {
        let mut cells = shown.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| is_figure(cell))
    };
    let classes: Vec<&str> =
        (0..shown.iter().map(Vec::len).max().unwrap_or(0)).map(|at| if figures(at) { " class=\"n\"" } else { "" }).collect();
    let row = |tag: &str, cells: &[String]| {
        let cell = |(at, text): (usize, &String)| format!("<{tag}{}>{}</{tag}>", classes.get(at).unwrap_or(&""), escaped(text));
        format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    out.push_str("<div class=\"wide\"><table>\n");
    if !head.is_empty() {
        out.push_str(&format!("<thead>{}</thead>\n", row("th", head)));
    }
    out.push_str(&format!("<tbody>\n{}</tbody></table></div>\n", shown.iter().map(|cells| row("td", cells)).collect::<String>()));
    if rows.len() > shown.len() {
        out.push_str(&format!("<p>… and {} more rows</p>\n", rows.len() - shown.len()));
    }
}

/// A number, with a unit perhaps.
fn is_figure(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || "+-−".contains(c)) && text.split_whitespace().count() <= 2 && text.len() <= 24
}

fn write_figure<'a>(out: &mut String, title: &str, svg: Option<&str>, names: impl Iterator<Item = &'a str>) {
    out.push_str(&format!("<figure><figcaption>{}</figcaption>\n", escaped(title)));
    let Some(svg) = svg else {
        out.push_str("<p class=\"none\">Nothing was measured.</p></figure>\n");
        return;
    };
    out.push_str("<ul>");
    for (at, name) in names.take(plot::SERIES_MAX).enumerate() {
        out.push_str(&format!("<li><i class=\"c{}\"></i>{}</li>", at % plot::COLOURS, escaped(name)));
    }
    out.push_str("</ul>\n");
    out.push_str(svg);
    out.push_str("</figure>\n");
}

/// Text that may stand in an element or an attribute; what no document may hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
