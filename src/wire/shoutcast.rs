//! The greeting of a SHOUTcast v1 encoder: a line with the password, then fields, then the stream.
//!
//! ```text
//!   encoder: secret\r\n            or  /mount:secret\r\n  (to choose a mount)
//!   server:  OK2\r\nicy-caps:11\r\n\r\n        or  invalid password\r\n
//!   encoder: icy-name:…\r\ncontent-type:audio/mpeg\r\n…\r\n\r\n  and the stream
//! ```
//! Pure: bytes in, meaning out.

/// The longest line with a password.
pub const LINE_MOST: usize = 512;
/// The largest set of fields.
pub const FIELDS_MOST: usize = 8 * 1024;
/// What an encoder is told whose password is right.
pub const WELCOME: &[u8] = b"OK2\r\nicy-caps:11\r\n\r\n";
/// What an encoder is told whose password is wrong.
pub const WRONG_PASSWORD: &[u8] = b"invalid password\r\n";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knock {
    /// The mount it asks for, if it does.
    pub mount: Option<String>,
    /// The password.
    pub password: String,
    /// Bytes of the line, with its end.
    pub length: usize,
}

/// Reads the first line; `None` while it is not complete.
///
/// # Errors
/// When it is too long, or not text.
pub fn knock(bytes: &[u8]) -> Result<Option<Knock>, &'static str> {
    let Some(end) = bytes.iter().take(LINE_MOST).position(|&byte| byte == b'\n') else {
        return if bytes.len() >= LINE_MOST { Err("the line with the password is too long") } else { Ok(None) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "the line with the password is not text")?;
    let line = line.trim_end_matches('\r');
    let (mount, password) = match line.strip_prefix('/').and_then(|_| line.split_once(':')) {
        Some((mount, password)) => (Some(mount.to_owned()), password),
        None => (None, line),
    };
    Ok(Some(Knock { mount, password: password.to_owned(), length: end + 1 }))
}

/// Fields, their names in lower case, and how many bytes they take with their end.
pub type Fields = (Vec<(String, String)>, usize);

/// Reads the fields, up to the empty line; `None` while they are not complete.
///
/// # Errors
/// When they are too many.
pub fn fields(bytes: &[u8]) -> Result<Option<Fields>, &'static str> {
    let mut fields = Vec::new();
    let mut at = 0;
    while let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\n').map(|end| at + end) {
        if end > FIELDS_MOST {
            break;
        }
        let line = bytes[at..end].trim_ascii();
        at = end + 1;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        let line = String::from_utf8_lossy(line);
        if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    if bytes.len() > FIELDS_MOST { Err("the fields before the stream are too large") } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_may_come_with_a_mount() {
        for (bytes, mount, password) in [
            ("s3cret\r\nrest", None, "s3cret"),
            ("s3cret\n", None, "s3cret"),
            ("a:b\r\n", None, "a:b"),
            ("/live.mp3:s3:cret\r\n", Some("/live.mp3"), "s3:cret"),
            ("/live.mp3\r\n", None, "/live.mp3"),
        ] {
            let found = knock(bytes.as_bytes()).expect(bytes).expect(bytes);
            assert_eq!((found.mount.as_deref(), found.password.as_str()), (mount, password), "{bytes}");
            assert_eq!(found.length, bytes.find('\n').expect("a line") + 1);
        }
        assert_eq!(knock(b"half a li"), Ok(None));
        assert!(knock(&[b'x'; LINE_MOST]).is_err());
        assert!(knock(b"\xff\xfe\r\n").is_err());
    }

    #[test]
    fn fields_end_at_the_empty_line() {
        let bytes = b"icy-name:My: radio\r\nContent-Type: audio/mpeg \r\nnonsense\r\n\r\n\xff\xfb";
        let (found, length) = fields(bytes).expect("fields").expect("complete");
        assert_eq!(found, [("icy-name".into(), "My: radio".into()), ("content-type".into(), "audio/mpeg".into())]);
        assert_eq!(&bytes[length..], b"\xff\xfb");
        assert_eq!(fields(b"\r\nX"), Ok(Some((vec![], 2))));
        for cut in 0..length {
            assert_eq!(fields(&bytes[..cut]), Ok(None), "{cut}");
        }
        assert!(fields(&b"a: b\r\n".repeat(2000)).is_err());
        assert!(fields(&[b'x'; FIELDS_MOST + 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_greeting_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let _ = (knock(&bytes), fields(&bytes));
        }
    }
}
