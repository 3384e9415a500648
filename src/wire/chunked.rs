//! The chunked framing of a request body, taken off. Pure: bytes in, ranges of payload out.
//!
//! Sizes, extensions and trailers are bounded; what is not chunked framing ends the body with a reason, and nothing of it is
//! taken for payload.
//!
//! Deliberately absent: writing it. Nothing that flumen sends is chunked by flumen.

use serde::{Deserialize, Serialize};

/// The longest line of framing, extensions included.
const LINE_MOST: usize = 256;
/// Most bytes of trailers.
const TRAILERS_MOST: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// In a line that says how long the next chunk is.
    Size,
    /// In a chunk, with so many bytes to come.
    Payload(u64),
    /// In the line end after a chunk.
    After,
    /// In the trailers; so many bytes of the present line.
    Trailers(usize),
    /// Behind it all.
    Done,
}

/// Why a body is not chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not chunked as it claims to be")]
pub struct NotChunked;

/// A body on its way through. It can be written down and read again: another process may go on with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Chunked {
    state: State,
    line: Vec<u8>,
    trailers: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size, line: Vec::new(), trailers: 0 }
    }
}

impl Chunked {
    /// Whether the last chunk and the trailers have come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes; gives the payload in them, in order. What follows the end of the body is ignored.
    ///
    /// # Errors
    /// When this is not chunked framing; what came before it has been given.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8], mut payload: impl FnMut(&'a [u8])) -> Result<(), NotChunked> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Size => {
                    bytes = rest;
                    if first != b'\n' {
                        self.line.push(first);
                        if self.line.len() > LINE_MOST {
                            return Err(NotChunked);
                        }
                        continue;
                    }
                    let size = size(&std::mem::take(&mut self.line)).ok_or(NotChunked)?;
                    self.state = if size == 0 { State::Trailers(0) } else { State::Payload(size) };
                }
                State::Payload(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    payload(&bytes[..most]);
                    bytes = &bytes[most..];
                    let left = left - most as u64;
                    self.state = if left == 0 { State::After } else { State::Payload(left) };
                }
                State::After => {
                    bytes = rest;
                    match first {
                        b'\r' => {}
                        b'\n' => self.state = State::Size,
                        _ => return Err(NotChunked),
                    }
                }
                State::Trailers(length) => {
                    bytes = rest;
                    self.trailers += 1;
                    if self.trailers > TRAILERS_MOST {
                        return Err(NotChunked);
                    }
                    self.state = match first {
                        b'\n' if length == 0 => State::Done,
                        b'\n' => State::Trailers(0),
                        b'\r' => State::Trailers(length),
                        _ => State::Trailers(length + 1),
                    };
                }
                State::Done => return Ok(()),
            }
        }
        Ok(())
    }
}

/// The size in a line, without its line feed.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    let plain = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(body: &[u8], cut: usize) -> (Vec<u8>, Result<bool, NotChunked>) {
        let (mut chunked, mut payload) = (Chunked::default(), Vec::new());
        for part in body.chunks(cut.max(1)) {
            if let Err(error) = chunked.take(part, |bytes| payload.extend_from_slice(bytes)) {
                return (payload, Err(error));
            }
        }
        (payload, Ok(chunked.is_done()))
    }

    #[test]
    fn payload_comes_out_whole_however_the_bytes_are_cut() {
        let body = b"5\r\nhello\r\n1;name=value\r\n \r\n0005\r\nworld\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n";
        for cut in 1..body.len() {
            assert_eq!(taken(body, cut), (b"hello world".to_vec(), Ok(true)), "cut every {cut}");
        }
        assert_eq!(taken(b"5\r\nhel", 3), (b"hel".to_vec(), Ok(false)));
    }

    #[test]
    fn what_is_not_chunked_ends_the_body() {
        for (body, before) in [
            (&b"hello\r\n"[..], &b""[..]),
            (b"\r\n\r\n", b""),
            (b"-5\r\nhello", b""),
            (b"5\r\nhelloX\r\n", b"hello"),
            (b"11111111111111111\r\n", b""),
            (&[b'1'; 1000], b""),
        ] {
            assert_eq!(taken(body, 7), (before.to_vec(), Err(NotChunked)), "{body:?}");
        }
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(2000)].concat();
        assert_eq!(taken(&trailers, 1000).1, Err(NotChunked), "trailers have an end");
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_back(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..10), cut in 1_usize..50) {
            let mut body = Vec::new();
            for part in &parts {
                body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                body.extend_from_slice(part);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(taken(&body, cut), (parts.concat(), Ok(true)));
        }

        #[test]
        fn no_bytes_make_chunks_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 1_usize..50) {
            let _ = taken(&bytes, cut);
        }
    }
}
