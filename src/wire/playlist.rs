//! Playlists: one mount, in the three forms that players ask for.

/// The form of a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Extended M3U.
    M3u,
    /// XSPF.
    Xspf,
    /// PLS (Winamp).
    Pls,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::M3u, Self::Xspf, Self::Pls];

    /// What is appended to a mount's path.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::M3u => ".m3u",
            Self::Xspf => ".xspf",
            Self::Pls => ".pls",
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::M3u => "audio/x-mpegurl",
            Self::Xspf => "application/xspf+xml",
            Self::Pls => "audio/x-scpls",
        }
    }

    /// Splits `/radio.mp3.m3u` into the mount's path and the form.
    pub fn split(path: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|form| Some((path.strip_suffix(form.suffix())?, form)))
    }

    /// The playlist of one stream.
    pub fn write(self, title: &str, url: &str) -> String {
        let title = one_line(title);
        match self {
            Self::M3u => format!("#EXTM3U\r\n#EXTINF:-1,{title}\r\n{url}\r\n"),
            Self::Pls => format!("[playlist]\r\nNumberOfEntries=1\r\nFile1={url}\r\nTitle1={title}\r\nLength1=-1\r\nVersion=2\r\n"),
            Self::Xspf => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<playlist version=\"1\" xmlns=\"http://xspf.org/ns/0/\">\n  <trackList>\n    \
                 <track><location>{}</location><title>{}</title></track>\n  </trackList>\n</playlist>\n",
                escape_xml(url),
                escape_xml(&title)
            ),
        }
    }
}

/// A text that cannot break out of its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text that cannot break out of an XML element or attribute, nor the document out of XML.
pub fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No document may have these, in whatever form: one of them, and the whole is none.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_is_told_by_its_suffix() {
        assert_eq!(Form::split("/radio.mp3.m3u"), Some(("/radio.mp3", Form::M3u)));
        assert_eq!(Form::split("/a/b.ogg.xspf"), Some(("/a/b.ogg", Form::Xspf)));
        assert_eq!(Form::split("/radio.mp3"), None);
    }

    #[test]
    fn a_title_cannot_break_out() {
        for form in Form::ALL {
            let text = form.write("a\r\nFile2=evil<&", "http://h/r.mp3?a=1&b=2");
            assert!(!text.contains("\nFile2=evil"), "{text}");
            if form == Form::Xspf {
                assert!(text.contains("a=1&amp;b=2") && text.contains("evil&lt;&amp;"), "{text}");
            } else {
                assert!(text.contains("http://h/r.mp3?a=1&b=2\r\n"), "{text}");
            }
        }
    }

    #[test]
    fn a_character_that_xml_does_not_have_costs_nobody_the_document() {
        let text = Form::Xspf.write("a\u{fffe}b\u{ffff}c\u{7f}d\u{202e}", "http://h/");
        assert!(text.contains("<title>abc d\u{202e}</title>"), "{text:?}");
    }
}
