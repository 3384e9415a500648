//! What another server answers when its stream is pulled: the head, in the manner of HTTP or of SHOUTcast, and metadata between
//! the bytes. Pure: bytes in, meaning out.

use super::charset::Charset;
use super::head::Body;

/// The largest head of an answer.
pub const HEAD_MOST: usize = 16 * 1024;
/// Most header lines of an answer.
const LINES_MOST: usize = 64;
/// The largest distance between two blocks of metadata.
const METAINT_MOST: usize = 1024 * 1024;

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How the body is framed.
    pub body: Body,
    /// Names in lower case, and values.
    pub fields: Vec<(String, String)>,
    /// Bytes of the head.
    pub length: usize,
}

impl Answer {
    /// The value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Bytes of the stream between two blocks of metadata, if there are such.
    pub fn metaint(&self) -> Option<usize> {
        self.field("icy-metaint")?.parse().ok().filter(|metaint| (1..=METAINT_MOST).contains(metaint))
    }
}

/// Reads a head; `None` while it is not complete.
///
/// # Errors
/// When it is none.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    const ICY: &[u8] = b"ICY ";
    const HTTP: &[u8] = b"HTTP/1.0 ";
    if bytes.len() < ICY.len() && ICY.starts_with(bytes) {
        return Ok(None);
    }
    let shouted = bytes.starts_with(ICY);
    let text = if shouted { [HTTP, &bytes[ICY.len()..]].concat() } else { bytes.to_vec() };
    let mut lines = [httparse::EMPTY_HEADER; LINES_MOST];
    let mut response = httparse::Response::new(&mut lines);
    let length = match response.parse(&text) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MOST => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head of its answer is too large"),
        Err(_) => return Err("its answer is not HTTP"),
    };
    let fields: Vec<_> = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()))
        .collect();
    let mut answer = Answer {
        status: response.code.unwrap_or(0),
        body: Body::UntilClose,
        fields,
        length: if shouted { length - (HTTP.len() - ICY.len()) } else { length },
    };
    let chunked = answer.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    answer.body = match answer.field("content-length").and_then(|length| length.parse().ok()) {
        _ if chunked => Body::Chunked,
        Some(0) => Body::None,
        Some(length) => Body::Length(length),
        None => Body::UntilClose,
    };
    Ok(Some(answer))
}

/// Takes the metadata out of a stream.
#[derive(Debug)]
pub struct Interleaved {
    metaint: usize,
    /// Bytes of the stream up to the next block.
    left: usize,
    /// The block that comes, once its length is known.
    block: Option<(usize, Vec<u8>)>,
}

/// What is found in an interleaved stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Bytes of the stream.
    Bytes(&'a [u8]),
    /// A block of metadata that is not empty.
    Block(Vec<u8>),
}

impl Interleaved {
    /// A stream that begins, with so many bytes between two blocks.
    pub fn new(metaint: usize) -> Self {
        Self { metaint, left: metaint, block: None }
    }

    /// Whether a block has begun and is not whole.
    pub fn mid_block(&self) -> bool {
        self.block.is_some()
    }

    /// Takes bytes; gives what is in them, in order.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8], mut give: impl FnMut(Found<'a>)) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let most = self.left.min(bytes.len());
                give(Found::Bytes(&bytes[..most]));
                self.left -= most;
                bytes = &bytes[most..];
                continue;
            }
            match &mut self.block {
                None => {
                    bytes = rest;
                    self.block = Some((usize::from(first) * 16, Vec::new()));
                }
                Some((length, block)) => {
                    let most = (*length - block.len()).min(bytes.len());
                    block.extend_from_slice(&bytes[..most]);
                    bytes = &bytes[most..];
                }
            }
            if let Some((length, block)) = self.block.take_if(|(length, block)| *length == block.len()) {
                self.left = self.metaint;
                if length > 0 {
                    give(Found::Block(block));
                }
            }
        }
    }
}

/// The value of a key in a block: `StreamTitle='…';`. A quote in the value is not its end unless a semicolon follows. Text that
/// is not UTF-8 is taken for what this charset makes of it.
pub fn metadata(block: &[u8], key: &str, charset: Charset) -> Option<String> {
    let end = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = charset.guessed(&block[..end]);
    let start = text.find(&format!("{key}='"))? + key.len() + 2;
    let value = &text[start..];
    let end = value.find("';").or_else(|| value.strip_suffix('\'').map(str::len))?;
    Some(value[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_read_in_either_manner() {
        for (head, status, body) in [
            ("HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-metaint: 16000\r\n\r\n", 200, Body::UntilClose),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nicy-metaint:16000\r\n\r\n", 200, Body::Chunked),
            ("ICY 200 OK\r\nicy-name:x\r\nicy-metaint:16000\r\n\r\n", 200, Body::UntilClose),
            ("HTTP/1.1 302 Found\r\nLocation: http://b/\r\nContent-Length: 5\r\nicy-metaint: 16000\r\n\r\n", 302, Body::Length(5)),
        ] {
            let bytes = [head.as_bytes(), b"rest"].concat();
            let found = answer(&bytes).expect(head).expect(head);
            assert_eq!((found.status, found.body, found.length, found.metaint()), (status, body, head.len(), Some(16000)), "{head}");
            for cut in 0..head.len() {
                assert_eq!(answer(&bytes[..cut]), Ok(None), "{:?}", &head[..cut]);
            }
        }
        assert!(answer(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(answer(&[b"HTTP/1.0 200 OK\r\nA: ".to_vec(), vec![b'x'; HEAD_MOST]].concat()).is_err());
    }

    #[test]
    fn a_title_is_found_whatever_is_in_it() {
        for (block, want) in [
            (&b"StreamTitle='A - B';StreamUrl='';\0\0"[..], Some("A - B")),
            (b"StreamTitle='It's me';", Some("It's me")),
            (b"StreamTitle='no end'", Some("no end")),
            (b"StreamTitle='Gr\xFC\xDFe';", Some("Gr\u{fc}\u{df}e")),
            (b"StreamTitle='';", Some("")),
            (b"StreamUrl='x';", None),
            (b"", None),
        ] {
            assert_eq!(metadata(block, "StreamTitle", Charset::default()).as_deref(), want);
        }
    }

    fn taken(stream: &[u8], metaint: usize, cut: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut interleaved, mut bytes, mut blocks) = (Interleaved::new(metaint), Vec::new(), Vec::new());
        for part in stream.chunks(cut) {
            interleaved.take(part, |found| match found {
                Found::Bytes(some) => bytes.extend_from_slice(some),
                Found::Block(block) => blocks.push(block),
            });
        }
        (bytes, blocks)
    }

    proptest! {
        #[test]
        fn what_was_interleaved_comes_apart(
            stream in proptest::collection::vec(any::<u8>(), 0..300), metaint in 1_usize..40, cut in 1_usize..50, sizes in proptest::collection::vec(0_usize..4, 1..8)
        ) {
            let (mut mixed, mut want) = (Vec::new(), Vec::new());
            for (i, part) in stream.chunks(metaint).enumerate() {
                mixed.extend_from_slice(part);
                if part.len() == metaint {
                    let size = sizes[i % sizes.len()];
                    mixed.push(size as u8);
                    mixed.extend(vec![b'm'; size * 16]);
                    if size > 0 {
                        want.push(vec![b'm'; size * 16]);
                    }
                }
            }
            prop_assert_eq!(taken(&mixed, metaint, cut), (stream, want));
        }

        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (answer(&bytes), metadata(&bytes, "StreamTitle", Charset::default()), taken(&bytes, 7, 5));
        }
    }
}
