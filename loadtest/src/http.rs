//! The little HTTP a listener needs: write a request, read the head of an answer, take chunked framing off. Pure.

use crate::target::Protocol;

/// No answer's head may be longer.
pub(crate) const HEAD_LIMIT: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Version {
    #[value(name = "1.0")]
    Http10,
    #[value(name = "1.1")]
    Http11,
}

/// What is sent after connecting: nothing on a raw TCP port.
pub(crate) fn request(protocol: &Protocol, version: Version) -> Vec<u8> {
    let Protocol::Http { host, path } = protocol else { return Vec::new() };
    let (number, close) = match version {
        Version::Http10 => ("1.0", ""),
        Version::Http11 => ("1.1", "Connection: close\r\n"),
    };
    let agent = concat!("flumen-loadtest/", env!("CARGO_PKG_VERSION"));
    format!("GET {path} HTTP/{number}\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{close}\r\n").into_bytes()
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    /// What answers, in its own words.
    pub(crate) server: Option<String>,
    pub(crate) chunked: bool,
    /// Where the body begins.
    pub(crate) length: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Whole(Head),
    Partial,
    Nonsense,
}

/// Accepts `HTTP/1.x` and the `ICY` of old servers.
pub(crate) fn parse_head(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() < HEAD_LIMIT { Parsed::Partial } else { Parsed::Nonsense };
    };
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let (protocol, rest) = status_line.split_once(' ').unwrap_or_default();
    let status = rest.get(..3).and_then(|digits| digits.parse().ok());
    let (true, Some(status)) = (protocol.starts_with("HTTP/1.") || protocol == "ICY", status) else {
        return Parsed::Nonsense;
    };
    let mut head = Head { status, content_type: None, server: None, chunked: false, length: end + 4 };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-type") {
            head.content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("server") {
            head.server = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked |= value.to_ascii_lowercase().contains("chunked");
        }
    }
    Parsed::Whole(head)
}

/// Takes chunked framing off a body, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Dechunker {
    state: Chunk,
}

#[derive(Debug)]
enum Chunk {
    /// Reading a size line, with what it says so far.
    Size {
        value: u64,
        digits: u32,
        extension: bool,
    },
    Payload {
        left: u64,
    },
    /// The line end behind a payload.
    Behind {
        left: u8,
    },
}

impl Default for Chunk {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0, extension: false }
    }
}

impl Dechunker {
    /// Hands every piece of payload to `body`. `Err` when the framing is broken.
    pub(crate) fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        broken: impl Fn() -> E,
        mut body: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.state {
                Chunk::Size { value, digits, extension } => {
                    bytes = rest;
                    match (first as char).to_digit(16) {
                        _ if first == b'\n' && *digits > 0 => self.state = Chunk::Payload { left: *value },
                        Some(digit) if !*extension && *digits < 8 => {
                            (*value, *digits) = (*value * 16 + u64::from(digit), *digits + 1);
                        }
                        _ if *extension || (*digits > 0 && matches!(first, b'\r' | b';' | b' ')) => *extension = true,
                        _ => return Err(broken()),
                    }
                }
                Chunk::Payload { left: 0 } => self.state = Chunk::Behind { left: 2 },
                Chunk::Payload { left } => {
                    let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    let (payload, rest) = bytes.split_at(here);
                    bytes = rest;
                    body(payload)?;
                }
                Chunk::Behind { left } => {
                    if first != if *left == 2 { b'\r' } else { b'\n' } {
                        return Err(broken());
                    }
                    bytes = rest;
                    *left -= 1;
                    if *left == 0 {
                        self.state = Chunk::default();
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_whole_partial_or_not_at_all() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-TYPE: audio/mpeg\r\nTransfer-Encoding: Chunked\r\n\r\nbody";
        let want = Head { status: 200, content_type: Some("audio/mpeg".to_owned()), server: None, chunked: true, length: head.len() - 4 };
        assert_eq!(parse_head(head), Parsed::Whole(want));
        assert_eq!(parse_head(&head[..30]), Parsed::Partial);
        assert!(matches!(parse_head(b"ICY 200 OK\r\n\r\n"), Parsed::Whole(Head { status: 200, .. })));
        assert_eq!(parse_head(b"SSH-2.0-x\r\n\r\n"), Parsed::Nonsense);
        assert_eq!(parse_head(&[b'a'; HEAD_LIMIT]), Parsed::Nonsense);
    }

    #[test]
    fn requests_say_their_version_and_raw_tcp_says_nothing() {
        let http = Protocol::Http { host: "h:1".to_owned(), path: "/p".to_owned() };
        assert!(request(&http, Version::Http10).starts_with(b"GET /p HTTP/1.0\r\nHost: h:1\r\n"));
        assert!(request(&http, Version::Http11).ends_with(b"Connection: close\r\n\r\n"));
        assert_eq!(request(&Protocol::Tcp, Version::Http11), b"");
    }

    fn dechunked(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
        let (mut dechunker, mut out) = (Dechunker::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            let taken = dechunker.feed(
                piece,
                || (),
                |payload| {
                    out.extend_from_slice(payload);
                    Ok(())
                },
            );
            taken.ok()?;
        }
        Some(out)
    }

    #[test]
    fn chunked_framing_comes_off_however_it_is_cut() {
        let bytes = b"5\r\nhello\r\nC;x=y\r\n, world and \r\n1\r\n.\r\n";
        for piece in 1..bytes.len() {
            assert_eq!(dechunked(bytes, piece).as_deref(), Some(&b"hello, world and ."[..]), "{piece}");
        }
    }

    #[test]
    fn broken_chunked_framing_is_noticed() {
        for bytes in [&b"5\r\nhelloX"[..], b"zz\r\n", b"\r\n", b"123456789\r\n"] {
            assert_eq!(dechunked(bytes, 3), None, "{bytes:?}");
        }
    }
}
