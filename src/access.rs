//! Secrets, passwords, what a request brings of them, and the rules by which somebody is let in. Pure: who asks for what, others know.
//!
//! - A [`Secret`] does not print, whoever formats what it is in.
//! - Passwords are compared in a time that does not tell how much of them was right.
//! - What comes from outside (tokens, signed addresses, fields) is bounded before it is looked at.
//!
//! Deliberately absent: files, clocks and backends (`bouncer` has them), and how often somebody may try.

pub mod ban;
pub mod htpasswd;
pub mod network;
pub mod pattern;
pub mod query;
pub mod rule;
pub mod signed;
pub mod token;

use std::fmt;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

/// The longest password that is looked at: a hash of more would only cost time.
const PASSWORD_MOST: usize = 256;
/// What comparing one password may cost: some tenths of a second of a core, and this much memory, in KiB.
const BCRYPT_COST_MOST: u32 = 14;
const ARGON2_MEMORY_MOST: u32 = 256 * 1024;
const ARGON2_WORK_MOST: u64 = 1 << 20;
/// Passwords that everybody knows: Icecast's and its containers' defaults.
const FAMOUS: [&str; 4] = ["hackme", "changeme", "password", "icecast"];

const SHA1_BYTES: usize = 20;

/// A text that is nobody's business.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a text into keeping.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for those who need it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

/// Why a text is no password for a server on the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing, or blanks.
    #[error("is empty")]
    Empty,
    /// A default that everybody knows.
    #[error("is one of the defaults that everybody knows")]
    Famous,
    /// More than is ever looked at.
    #[error("is longer than {PASSWORD_MOST} bytes")]
    Long,
    /// Neither argon2 nor bcrypt.
    #[error("is no hash by argon2 ($argon2id$…) or bcrypt ($2b$…)")]
    NoHash,
    /// It was made to be slow, beyond measure.
    #[error("takes longer to compare, or more memory, than a server can spare")]
    Slow,
}

/// What a password is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Plain(Secret),
    /// A hash by bcrypt.
    Bcrypt(Secret),
    /// A hash by argon2, in the format of the password hashing competition.
    Argon2(Secret),
    /// A hash by SHA-1, in base64. For files that others have made: whoever gets one finds most of its passwords.
    Sha1(Secret),
}

impl Password {
    /// A password as it is typed.
    ///
    /// # Errors
    /// When it protects nothing.
    pub fn plain(text: &str) -> Result<Self, Unfit> {
        match text {
            text if text.trim().is_empty() => Err(Unfit::Empty),
            text if FAMOUS.contains(&text) => Err(Unfit::Famous),
            text if text.len() > PASSWORD_MOST => Err(Unfit::Long),
            text => Ok(Self::Plain(Secret::new(text))),
        }
    }

    /// A hash of a password.
    ///
    /// # Errors
    /// When it is no hash that is understood here.
    pub fn hashed(hash: &str) -> Result<Self, Unfit> {
        let hash = hash.trim();
        if let Ok(parts) = hash.parse::<bcrypt::HashParts>() {
            return match parts.get_cost() {
                4..=BCRYPT_COST_MOST => Ok(Self::Bcrypt(Secret::new(hash))),
                ..4 => Err(Unfit::NoHash),
                _ => Err(Unfit::Slow),
            };
        }
        let known = PasswordHash::new(hash).ok().filter(|_| hash.starts_with("$argon2"));
        let params = known.as_ref().and_then(|hash| Params::try_from(hash).ok()).ok_or(Unfit::NoHash)?;
        let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
        if params.m_cost() > ARGON2_MEMORY_MOST || work > ARGON2_WORK_MOST {
            return Err(Unfit::Slow);
        }
        Ok(Self::Argon2(Secret::new(hash)))
    }

    /// A hash as it stands in a file of users.
    ///
    /// # Errors
    /// When it is no hash that is understood here.
    fn listed(hash: &str) -> Result<Self, Unfit> {
        match hash.strip_prefix("{SHA}") {
            Some(sha) if BASE64_STANDARD.decode(sha).is_ok_and(|bytes| bytes.len() == SHA1_BYTES) => Ok(Self::Sha1(Secret::new(sha))),
            Some(_) => Err(Unfit::NoHash),
            None => Self::hashed(hash),
        }
    }

    /// Whether this is the password. With a hash it takes some hundredths of a second of a core, by design: ask where that
    /// keeps nobody waiting.
    pub fn verify(&self, given: &str) -> bool {
        if given.len() > PASSWORD_MOST {
            return false;
        }
        match self {
            Self::Plain(password) => password.reveal().as_bytes().ct_eq(given.as_bytes()).into(),
            Self::Bcrypt(hash) => bcrypt::verify(given, hash.reveal()).unwrap_or(false),
            Self::Argon2(hash) => {
                PasswordHash::new(hash.reveal()).is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok())
            }
            Self::Sha1(hash) => {
                let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, given.as_bytes());
                BASE64_STANDARD.decode(hash.reveal()).is_ok_and(|hash| hash.as_slice().ct_eq(digest.as_ref()).into())
            }
        }
    }

    /// Whether [`Self::verify`] may take its time.
    pub fn is_hashed(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// What it is held against, as it was written.
    pub fn written(&self) -> &Secret {
        match self {
            Self::Plain(text) | Self::Bcrypt(text) | Self::Argon2(text) | Self::Sha1(text) => text,
        }
    }
}

/// Whoever is known by a name and a password in the configuration. Without a password nobody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Option<Password>,
}

impl Role {
    /// The pair, where this is the name that somebody gives and there is a password to it.
    pub fn of(&self, given: &Credentials) -> Option<(&str, &Password)> {
        self.password.as_ref().filter(|_| self.user == given.user).map(|password| (self.user.as_str(), password))
    }
}

/// What a request says of who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// Reads the value of an `Authorization` field; `None` for anything but a well-formed `Basic`.
pub fn basic(authorization: &str) -> Option<Credentials> {
    let (scheme, rest) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = BASE64_STANDARD.decode(rest.trim()).ok()?;
    // Passwords in the charsets of old encoders are bytes that no configuration can hold.
    let text = String::from_utf8(text).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let credentials = basic("Basic c291cmNlOnMzY3JldA==").expect("credentials");
        assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("source", "s3cret"));
        let password = Password::plain("s3cret").expect("a password");
        for shown in [format!("{credentials:?}"), format!("{password:?}")] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn a_password_that_protects_nothing_is_refused() {
        for (text, why) in [("", Unfit::Empty), ("  ", Unfit::Empty), ("hackme", Unfit::Famous), (&"x".repeat(300), Unfit::Long)] {
            assert_eq!(Password::plain(text), Err(why), "{text}");
        }
        for hash in ["", "s3cret", "$2b$04$short", "$argon2id$nonsense", "$1$md5", "{SHA}/SjUr6J4qBBlHZt+8hKs48fAFiE="] {
            assert_eq!(Password::hashed(hash), Err(Unfit::NoHash), "{hash}");
        }
    }

    #[test]
    fn the_password_fits_and_no_other_does() {
        // The second is a vector of the reference implementation.
        const ARGON2: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let bcrypt = bcrypt::hash("password", 4).expect("a hash");
        for password in [
            Password::plain("passworD").expect("plain"),
            Password::hashed(&bcrypt).expect("bcrypt"),
            Password::hashed(ARGON2).expect("argon2"),
        ] {
            let right = if password.is_hashed() { "password" } else { "passworD" };
            assert!(password.verify(right), "{password:?}");
            for wrong in ["", "passwor", "password ", "Password", &"password".repeat(100)] {
                assert!(!password.verify(wrong), "{password:?} {wrong}");
            }
        }
    }

    #[test]
    fn what_is_no_basic_field_is_nobody() {
        for (field, user) in [
            ("Basic c291cmNlOmE6Yg==", Some("source")),
            ("basic  c291cmNlOg==", Some("source")),
            ("Basic c291cmNl", None),
            ("Basic !!!", None),
            ("Basic /////w==", None),
            ("Bearer c291cmNlOmE=", None),
            ("Basic", None),
            ("", None),
        ] {
            assert_eq!(basic(field).map(|found| found.user).as_deref(), user, "{field}");
        }
    }
}
