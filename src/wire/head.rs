//! A first look at a request head, stricter than the HTTP framework behind it: what it could read in two ways, or would refuse
//! without a word, is refused here with a reason. What is let through is written anew, as it was understood here: nothing in it
//! is left for a second opinion.
//!
//! - Only an encoder's request has a body that anybody reads, and not the framework: that is told that there is none. How the body
//!   is framed is said here ([`Body`]); what follows such a head is never looked at for another.
//! - Encoders of twenty years ago are understood: `SOURCE`, the version `ICE/1.0`, lines that end in a line feed alone. They
//!   may be, for their request is the last of its connection.
//! - Old players send their paths in raw UTF-8, and other servers play them: such bytes are percent-encoded on the way.
//!
//! Deliberately absent: routing, and everything the framework does well.

use std::borrow::Cow;
use std::ops::Range;

use super::forwarded;

/// Most header lines of one request.
const HEADERS_MOST: usize = 64;
/// The method of Icecast's first encoders.
const SOURCE: &str = "SOURCE";
/// The first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// Fields about this hop, which have been understood here: framing, what becomes of the connection, and offers we do not take.
const OURS: [&str; 7] = ["content-length", "transfer-encoding", "connection", "expect", "upgrade", "http2-settings", "proxy-connection"];

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Up to the end of the connection.
    UntilClose,
}

/// A head that may be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many of the bytes that came are the head.
    pub length: usize,
    /// What is passed on in their place.
    pub text: Vec<u8>,
    /// The request target in it.
    pub target: Range<usize>,
    /// What proxies have added, as it came.
    pub proxies: forwarded::Fields,
    /// What follows. Anything but nothing makes the request the last of its connection: nobody looks for another head in a body.
    pub body: Body,
    /// The peer sends the body when it is told to go on.
    pub expects_continue: bool,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The beginning of a head, perhaps.
    Partial,
    /// A head.
    Complete(Head),
    /// Nothing that can be answered otherwise.
    Refuse { status: u16, why: &'static str },
}

fn refuse(status: u16, why: &'static str) -> Look {
    Look::Refuse { status, why }
}

/// Looks at what has come of a request head; `most` is the largest head allowed, in bytes.
pub fn look(bytes: &[u8], most: usize) -> Look {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return refuse(400, "this is the beginning of TLS, and this port speaks plain HTTP: write http:// in place of https://");
    }
    if may_become_modern(bytes) && bytes.len() < most {
        return Look::Partial;
    }
    let text = modern(encoded(bytes));
    let added = text.len() - bytes.len();
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MOST];
    let mut request = httparse::Request::new(&mut lines);
    let length = match request.parse(&text) {
        Ok(httparse::Status::Complete(length)) if length <= most => length,
        Ok(httparse::Status::Partial) if bytes.len() < most => return Look::Partial,
        Ok(_) => return refuse(431, "the request head is larger than this server accepts"),
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "the request has more header lines than this server accepts"),
        Err(httparse::Error::Version) if has_spaced_target(&text) => {
            return refuse(400, "the request target has a space in it: write it as %20");
        }
        Err(httparse::Error::Version) => return refuse(505, "this server speaks HTTP/1.0 and HTTP/1.1"),
        Err(_) => return refuse(400, "the request head is not HTTP"),
    };
    if request.method != Some(SOURCE) && has_bare_line_feed(&text[..length]) {
        return refuse(400, "a header line ends in a bare line feed");
    }
    let asked = match understand(&request) {
        Ok(asked) => asked,
        Err((status, why)) => return refuse(status, why),
    };
    let (text, target) = written(&request, &asked);
    let Asked { body, expects_continue, proxies, .. } = asked;
    Look::Complete(Head { length: length - added, text, target, proxies, body, expects_continue })
}

/// Whether the first line breaks off in the version that Icecast's first encoders wrote.
fn may_become_modern(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start();
    let last = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    !line.contains(&b'\n') && !last.is_empty() && b"ICE/1.0".starts_with(last)
}

/// The bytes with the version that Icecast's first encoders wrote in place of their own.
fn modern(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    const ICE: &[u8] = b" ICE/1.0";
    let start = text.iter().position(|&byte| !b"\r\n".contains(&byte)).unwrap_or(text.len());
    let Some(end) = text[start..].iter().position(|&byte| byte == b'\n').map(|end| start + end) else { return text };
    let line = text[start..end].trim_ascii_end();
    if !line.ends_with(ICE) {
        return text;
    }
    let at = start + line.len() - ICE.len();
    [&text[..at], b" HTTP/1.0", &text[at + ICE.len()..]].concat().into()
}

/// The bytes with what is not ASCII in the request target percent-encoded.
fn encoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    let start = bytes.iter().position(|&byte| !b"\r\n".contains(&byte)).unwrap_or(bytes.len());
    let line = bytes[start..].split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some(method) = line.iter().position(|&byte| byte == b' ').filter(|_| !line.is_ascii()) else { return bytes.into() };
    let (target, end) = (start + method, start + line.len());
    let mut text = bytes[..target].to_vec();
    for &byte in &bytes[target..end] {
        match byte {
            ..0x80 => text.push(byte),
            _ => text.extend_from_slice(percent_encoding::percent_encode_byte(byte).as_bytes()),
        }
    }
    text.extend_from_slice(&bytes[end..]);
    text.into()
}

/// Whether the first line has a version at its end, and more than a target before it.
fn has_spaced_target(text: &[u8]) -> bool {
    let line = text.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")) && line.iter().filter(|&&byte| byte == b' ').count() > 2
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(i, &byte)| byte == b'\n' && (i == 0 || head[i - 1] != b'\r'))
}

/// What a head says of its connection, and of who it is from.
#[derive(Debug, Default)]
struct Asked {
    proxies: forwarded::Fields,
    body: Body,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
}

fn understand(request: &httparse::Request<'_, '_>) -> Result<Asked, (u16, &'static str)> {
    let (mut hosts, mut length, mut chunked, mut asked) = (0, None, false, Asked::default());
    for header in &*request.headers {
        if header.name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok().map(str::trim);
            let value = value
                .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|value| value.parse().ok());
            let value: u64 = value.ok_or((400, "Content-Length is not a number"))?;
            if length.replace(value).is_some() {
                return Err((400, "Content-Length is given twice"));
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err((400, "the only Transfer-Encoding understood is chunked, once"));
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("expect") {
            asked.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
        } else if header.name.eq_ignore_ascii_case("connection") {
            for word in header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                asked.close |= word.eq_ignore_ascii_case(b"close");
                asked.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
            }
        } else {
            asked.proxies.note(header.name, header.value);
        }
    }
    // Encoders send without saying how long it will be; CONNECT begins something else altogether.
    let endless = request.method.is_some_and(|method| ["PUT", "POST", SOURCE, "CONNECT"].contains(&method));
    asked.body = match length {
        _ if chunked => Body::Chunked,
        Some(0) => Body::None,
        Some(length) => Body::Length(length),
        None if endless => Body::UntilClose,
        None => Body::None,
    };
    match (request.version, hosts, length, chunked) {
        (Some(1), 0, ..) => Err((400, "an HTTP/1.1 request names its Host")),
        (_, 2.., ..) => Err((400, "Host is given twice")),
        (_, _, Some(_), true) => Err((400, "Content-Length and Transfer-Encoding exclude each other")),
        (Some(0), _, _, true) => Err((400, "HTTP/1.0 knows no Transfer-Encoding")),
        _ => Ok(asked),
    }
}

/// The head as it was understood, and where in it the target is.
fn written(request: &httparse::Request<'_, '_>, asked: &Asked) -> (Vec<u8>, Range<usize>) {
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let mut text = format!("{method} {target} HTTP/1.{}\r\n", request.version.unwrap_or(1)).into_bytes();
    let has_body = asked.body != Body::None;
    if has_body {
        text.extend_from_slice(b"content-length: 0\r\n");
    }
    if asked.close || has_body {
        text.extend_from_slice(b"connection: close\r\n");
    } else if asked.keep_alive {
        text.extend_from_slice(b"connection: keep-alive\r\n");
    }
    for header in request.headers.iter().filter(|header| !OURS.iter().any(|ours| header.name.eq_ignore_ascii_case(ours))) {
        for part in [header.name.as_bytes(), b": ", header.value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    let start = method.len() + 1;
    (text, start..start + target.len())
}

/// Makes a response head say that the connection closes, where it does not. The framework leaves that out of HTTP/1.0.
pub fn say_close(head: &mut Vec<u8>) {
    const CLOSE: &[u8] = b"connection: close\r\n";
    if let Some(line) = head.windows(2).position(|pair| pair == b"\r\n")
        && !head.windows(CLOSE.len()).any(|window| window.eq_ignore_ascii_case(CLOSE))
    {
        head.splice(line + 2..line + 2, CLOSE.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1024;

    fn passed(head: &str) -> (String, Body) {
        match look(head.as_bytes(), MOST) {
            Look::Complete(head) => (String::from_utf8(head.text).expect("text"), head.body),
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn a_good_head_is_measured() {
        for (head, body) in [
            ("GET / HTTP/1.0\r\n\r\n", Body::None),
            ("GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n", Body::None),
            ("GET /Gr\u{fc}\u{df}e.ogg HTTP/1.1\r\nHost: x\r\nA: \u{fc}\r\n\r\n", Body::None),
            ("DELETE /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", Body::None),
            ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n", Body::Length(12)),
            ("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", Body::Chunked),
            ("POST /a HTTP/1.0\r\n\r\n", Body::UntilClose),
            ("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", Body::None),
            ("PUT /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", Body::UntilClose),
            ("SOURCE /a HTTP/1.0\r\n\r\n", Body::UntilClose),
            ("SOURCE /a ICE/1.0\r\nice-name: x\r\n\r\n", Body::UntilClose),
            ("SOURCE /a ICE/1.0\nice-name: x\n\n", Body::UntilClose),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", Body::UntilClose),
        ] {
            let mut bytes = head.as_bytes().to_vec();
            bytes.extend(b"GET /next");
            let Look::Complete(found) = look(&bytes, MOST) else { panic!("{head:?}") };
            assert_eq!((found.length, found.body), (head.len(), body), "{head:?}");
            assert_eq!(found.expects_continue, head.contains("100-continue"));
            for cut in 0..head.len() {
                assert_eq!(look(&bytes[..cut], MOST), Look::Partial, "{:?}", &bytes[..cut]);
            }
        }
    }

    #[test]
    fn a_response_says_close_once() {
        for (head, want) in [
            ("HTTP/1.0 200 OK\r\na: b\r\n\r\n", "HTTP/1.0 200 OK\r\nconnection: close\r\na: b\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        ] {
            let mut bytes = head.as_bytes().to_vec();
            say_close(&mut bytes);
            assert_eq!(String::from_utf8(bytes).expect("text"), want);
        }
    }

    #[test]
    fn a_head_is_passed_on_as_it_was_understood() {
        for (head, want) in [
            ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"),
            ("GET / HTTP/1.1\r\nHost:  x \r\nA: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"),
            ("GET /\u{fc}?\u{fc} HTTP/1.0\r\n\r\n", "GET /%C3%BC?%C3%BC HTTP/1.0\r\n\r\n"),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"),
            ("GET / HTTP/1.0\r\nConnection: a, Close\r\n\r\n", "GET / HTTP/1.0\r\nconnection: close\r\n\r\n"),
            ("GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"),
            ("SOURCE /a ICE/1.0\na: b\n\n", "SOURCE /a HTTP/1.0\r\ncontent-length: 0\r\nconnection: close\r\na: b\r\n\r\n"),
            ("PUT / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", "PUT / HTTP/1.0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ] {
            assert_eq!(passed(head).0, want, "{head:?}");
        }
        let Look::Complete(head) = look(b"GET /a HTTP/1.0\r\n\r\n", MOST) else { panic!("a head") };
        assert_eq!(&head.text[head.target], b"/a");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_with_a_reason() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(MOST));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        for (head, want) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /a HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            ("\x16\x03\x01\x02\x00\x01", 400),
            ("\x16", 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (long.as_str(), 431),
            (&long[..MOST + 1], 431),
            (many.as_str(), 431),
        ] {
            assert!(
                matches!(look(head.as_bytes(), MOST), Look::Refuse { status, .. } if status == want),
                "{head:?}: {:?}",
                look(head.as_bytes(), MOST)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            look(&bytes, MOST);
        }
    }
}
