//! A first look at a request head, stricter than the HTTP framework behind it: what it could read in two ways, or would refuse
//! without a word, is refused here with a reason.
//!
//! Deliberately absent: routing, and everything the framework does well. This looks, counts bytes and says yes or no.

/// Most header lines of one request.
const HEADERS_MOST: usize = 64;

/// How the bytes after a head belong to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes, often none; then the next head.
    Length(u64),
    /// Framed in chunks: where it ends, only the framework will know.
    Chunked,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The beginning of a head, perhaps.
    Partial,
    /// A head of so many bytes.
    Complete { length: usize, body: Body },
    /// Nothing that can be answered otherwise.
    Refuse { status: u16, why: &'static str },
}

fn refuse(status: u16, why: &'static str) -> Look {
    Look::Refuse { status, why }
}

/// Looks at what has come of a request head; `most` is the largest head allowed, in bytes.
pub fn look(bytes: &[u8], most: usize) -> Look {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MOST];
    let mut request = httparse::Request::new(&mut lines);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= most => length,
        Ok(httparse::Status::Partial) if bytes.len() < most => return Look::Partial,
        Ok(_) => return refuse(431, "the request head is larger than this server accepts"),
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "the request has more header lines than this server accepts"),
        Err(httparse::Error::Version) => return refuse(505, "this server speaks HTTP/1.0 and HTTP/1.1"),
        Err(_) => return refuse(400, "the request head is not HTTP"),
    };
    if has_bare_line_feed(&bytes[..length]) {
        return refuse(400, "a header line ends in a bare line feed");
    }
    check_lines(request.version, request.headers).map_or_else(|refusal| refusal, |body| Look::Complete { length, body })
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(i, &byte)| byte == b'\n' && (i == 0 || head[i - 1] != b'\r'))
}

fn check_lines(version: Option<u8>, headers: &[httparse::Header<'_>]) -> Result<Body, Look> {
    let (mut hosts, mut length, mut chunked) = (0, None, false);
    for header in headers {
        if header.name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok().map(str::trim);
            let value = value
                .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|value| value.parse().ok());
            let value: u64 = value.ok_or_else(|| refuse(400, "Content-Length is not a number"))?;
            if length.replace(value).is_some() {
                return Err(refuse(400, "Content-Length is given twice"));
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(refuse(400, "the only Transfer-Encoding understood is chunked, once"));
            }
            chunked = true;
        }
    }
    match (version, hosts, length, chunked) {
        (Some(1), 0, ..) => Err(refuse(400, "an HTTP/1.1 request names its Host")),
        (_, 2.., ..) => Err(refuse(400, "Host is given twice")),
        (_, _, Some(_), true) => Err(refuse(400, "Content-Length and Transfer-Encoding exclude each other")),
        (Some(0), _, _, true) => Err(refuse(400, "HTTP/1.0 knows no Transfer-Encoding")),
        (.., true) => Ok(Body::Chunked),
        (.., length, false) => Ok(Body::Length(length.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1024;

    #[test]
    fn a_good_head_is_measured() {
        for (head, body) in [
            ("GET / HTTP/1.0\r\n\r\n", Body::Length(0)),
            ("GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n", Body::Length(0)),
            ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n", Body::Length(12)),
            ("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", Body::Chunked),
        ] {
            let mut bytes = head.as_bytes().to_vec();
            bytes.extend(b"GET /next");
            assert_eq!(look(&bytes, MOST), Look::Complete { length: head.len(), body }, "{head:?}");
            for cut in 0..head.len() {
                assert_eq!(look(&bytes[..cut], MOST), Look::Partial, "{:?}", &head[..cut]);
            }
        }
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
            ("\x16\x03\x01\x02\x00\x01", 400),
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
