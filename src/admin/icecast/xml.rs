//! XML as Icecast's library writes it: no white space between elements, and nothing that XML cannot hold.

use std::fmt::{self, Write};

/// A document on its way to its text.
#[derive(Debug)]
pub(super) struct Document {
    text: String,
    open: Vec<&'static str>,
    /// The start tag of the innermost element still lacks its end, for it may turn out to be empty.
    pending: bool,
}

impl Document {
    /// A document with this root.
    pub(super) fn new(root: &'static str) -> Self {
        let mut document = Self { text: "<?xml version=\"1.0\"?>\n".to_owned(), open: Vec::new(), pending: false };
        document.begin(root, &[]);
        document
    }

    /// Begins an element.
    pub(super) fn begin(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.settle();
        self.text.push('<');
        self.text.push_str(name);
        for (key, value) in attributes {
            self.text.push(' ');
            self.text.push_str(key);
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
        }
        self.open.push(name);
        self.pending = true;
    }

    /// Ends the innermost element.
    pub(super) fn end(&mut self) {
        let Some(name) = self.open.pop() else { return };
        if std::mem::take(&mut self.pending) {
            self.text.push_str("/>");
            return;
        }
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// An element with a text in it.
    pub(super) fn leaf(&mut self, name: &'static str, text: impl fmt::Display) {
        self.begin(name, &[]);
        self.settle(); // an empty text is a text
        escape(&mut self.text, &text.to_string(), false);
        self.end();
    }

    /// The text, everything that is open ended.
    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.text.push('\n');
        self.text
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.text.push('>');
        }
    }
}

fn escape(out: &mut String, text: &str, attribute: bool) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\r' => out.push_str("&#13;"),
            '"' if attribute => out.push_str("&quot;"),
            '\n' if attribute => out.push_str("&#10;"),
            '\t' if attribute => out.push_str("&#9;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c if c.is_ascii() => out.push(c),
            c => {
                // Writing to a String does not fail.
                let _ = write!(out, "&#x{:X};", u32::from(c));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_as_icecasts_library_does() {
        let mut document = Document::new("icestats");
        document.begin("source", &[("mount", "/a\"<&>\t.mp3")]);
        document.leaf("fallback", "");
        document.leaf("title", "Grüße & <b>\"x\"</b>\r\n\u{1}\u{1f600}");
        document.leaf("listeners", 5);
        document.end();
        document.begin("source", &[]);
        let want = "<?xml version=\"1.0\"?>\n<icestats><source mount=\"/a&quot;&lt;&amp;&gt;&#9;.mp3\"><fallback></fallback>\
                    <title>Gr&#xFC;&#xDF;e &amp; &lt;b&gt;\"x\"&lt;/b&gt;&#13;\n&#x1F600;</title><listeners>5</listeners></source>\
                    <source/></icestats>\n";
        assert_eq!(document.finish(), want);
    }
}
