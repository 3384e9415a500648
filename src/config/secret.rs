//! Passwords: written, in a file, or as a hash. What is wrong with one is said without showing it.

use std::path::Path;

use super::reader::{Parsed, Reader, Wrong};
use super::tree::{Node, Value};
use crate::access::{Password, Secret, Unfit};

/// The largest file of one value.
const FILE_MOST: u64 = 4096;
/// The longest password that is shown to another server.
const SHOWN_MOST: usize = 256;

/// The names of the three keys of a password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) plain: &'static str,
    pub(super) file: &'static str,
    pub(super) hash: &'static str,
}

/// Reads a password from whichever of its keys is written; two are one too many.
pub(super) fn password(reader: &mut Reader<'_>, keys: Keys) -> Option<Password> {
    let plain = reader.take_secret(keys.plain, |node| text(node).and_then(|text| checked(Password::plain(text))));
    let file = reader.take_secret(keys.file, |node| {
        let text = read(Path::new(text(node)?))?;
        checked(Password::plain(text.trim_end_matches(['\r', '\n'])))
    });
    let hash = reader.take_secret(keys.hash, |node| text(node).and_then(|text| checked(Password::hashed(text))));
    let written = [keys.plain, keys.file, keys.hash].into_iter().filter(|key| reader.given(key)).collect::<Vec<_>>();
    if let [first, second, ..] = written[..] {
        let at = reader.whereabouts(first);
        reader.wrong(second, format!("is written beside {first}{at}"), "write one of the two");
    }
    plain.or(file).or(hash)
}

/// Reads a password that is shown to another server, whose business it is whether it is a good one.
pub(super) fn shown_elsewhere(reader: &mut Reader<'_>, [plain_key, file_key]: [&'static str; 2]) -> Option<Secret> {
    let plain = reader.take_secret(plain_key, shown);
    let file = reader.take_secret(file_key, |node| in_file(Path::new(text(node)?)));
    if reader.given(plain_key) && reader.given(file_key) {
        let at = reader.whereabouts(plain_key);
        reader.wrong(file_key, format!("is written beside {plain_key}{at}"), "write one of the two");
    }
    plain.or(file)
}

/// Such a password.
pub(super) fn shown(node: &Node) -> Parsed<Secret> {
    fit(text(node)?)
}

/// The same from a file.
pub(super) fn in_file(path: &Path) -> Parsed<Secret> {
    fit(read(path)?.trim_end_matches(['\r', '\n']))
}

fn fit(text: &str) -> Parsed<Secret> {
    if text.is_empty() || text.len() > SHOWN_MOST || text.chars().any(char::is_control) {
        let problem = format!("is no password: empty, longer than {SHOWN_MOST} bytes, or with control characters");
        return Err(vec![Wrong::new(problem, "write the password that the other server asks for")]);
    }
    Ok(Secret::new(text))
}

fn text(node: &Node) -> Parsed<&str> {
    match &node.value {
        Value::Text(text) | Value::Loose(text) => Ok(text),
        _ => Err(vec![Wrong::new("is not a text", "write it in quotes")]),
    }
}

fn checked(password: Result<Password, Unfit>) -> Parsed<Password> {
    password.map_err(|unfit| {
        let remedy = match unfit {
            Unfit::NoHash => "make one with `htpasswd -nbB user PASSWORD` (what follows the colon)",
            Unfit::Slow => "make one that costs less: a cost of 10 to 12 for bcrypt, 19 MiB for argon2",
            Unfit::Empty | Unfit::Famous | Unfit::Long => "choose one that nobody guesses: `openssl rand -hex 12` makes one",
        };
        vec![Wrong::new(unfit.to_string(), remedy)]
    })
}

/// The text of a file that holds one value, such as a secret: no more of it than the largest has.
///
/// # Errors
/// When it cannot be read, or is not UTF-8.
pub fn text_of(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MOST).read_to_string(&mut text)?;
    Ok(text)
}

fn read(path: &Path) -> Parsed<String> {
    text_of(path).map_err(|error| {
        let problem = format!("the file {} cannot be read: {error}", path.display());
        vec![Wrong::new(problem, "name a file that the server may read, with the secret and nothing else in it")]
    })
}
