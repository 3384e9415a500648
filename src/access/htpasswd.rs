//! Files of users as `htpasswd` writes them: `name:hash`, a line each.
//!
//! What cannot be held against a password in an honest way is refused with its line: the old crypt, MD5 (`$apr1$`), and passwords
//! as they are typed.

use std::collections::HashMap;

use super::{Password, Unfit};

/// Users of one file.
const USERS_MOST: usize = 100_000;
/// The longest name.
const NAME_MOST: usize = 255;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Flaw {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

/// Users and what their passwords are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(HashMap<Box<str>, Password>);

impl Users {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// At the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_of = |problem: String| Flaw { line: index + 1, problem };
            let written = line.trim();
            if written.is_empty() || written.starts_with('#') {
                continue;
            }
            let (name, rest) = written.split_once(':').ok_or_else(|| line_of("it has no colon between a name and a hash".to_owned()))?;
            if name.is_empty() || name.len() > NAME_MOST || name.chars().any(char::is_control) {
                return Err(line_of(format!("a name has 1 to {NAME_MOST} bytes and no control character")));
            }
            // What follows a second colon is a remark.
            let hash = rest.split(':').next().unwrap_or_default();
            let password = Password::listed(hash).map_err(|unfit| {
                line_of(match unfit {
                    Unfit::NoHash => {
                        format!("the hash of {name:?} is neither bcrypt, argon2 nor {{SHA}}: make one with `htpasswd -B FILE {name}`")
                    }
                    unfit => format!("the hash of {name:?} {unfit}"),
                })
            })?;
            if users.insert(name.into(), password).is_some() {
                return Err(line_of(format!("{name:?} stands there twice")));
            }
            if users.len() > USERS_MOST {
                return Err(line_of(format!("there are more than {USERS_MOST} users: let a program of yours decide, by url")));
            }
        }
        Ok(Self(users))
    }

    /// What the password of this user is held against.
    pub fn get(&self, name: &str) -> Option<&Password> {
        self.0.get(name)
    }

    /// Somebody's, to be compared in place of one that is not there: else the time that an answer takes tells who is.
    pub fn decoy(&self) -> Option<&Password> {
        self.0.values().find(|password| password.is_hashed())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By bcrypt at the least cost, of `right`, as htpasswd and as others write it.
    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC";
    /// `printf right | openssl sha1 -binary | base64`.
    const SHA: &str = "{SHA}/SjUr6J4qBBlHZt+8hKs48fAFiE=";

    #[test]
    fn users_are_found_with_what_their_passwords_are_held_against() {
        let sha = format!("{{SHA}}{}", sha_of("right"));
        let text = format!("# a remark\n\nanna:{BCRYPT}\r\nbert:{sha}:his remark\n");
        let users = Users::parse(&text).expect("users");
        for name in ["anna", "bert"] {
            let password = users.get(name).expect(name);
            assert!(password.verify("right") && !password.verify("wrong") && !password.verify(""), "{name}");
        }
        assert!(users.get("carl").is_none() && users.get("").is_none() && users.len() == 2);
        assert!(users.decoy().is_some_and(|decoy| decoy.is_hashed()));
        assert!(!format!("{users:?}").contains("abcdefghijkl"), "hashes are not printed");
    }

    fn sha_of(text: &str) -> String {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        let good = format!("anna:{BCRYPT}\n");
        for (line, part) in [
            ("anna", "no colon"),
            (":x", "a name has"),
            ("carl:$apr1$abcdefgh$0123456789012345678901", "neither bcrypt"),
            ("carl:rqXexS6ZhobKA", "neither bcrypt"),
            ("carl:right", "neither bcrypt"),
            ("carl:{SHA}short", "neither bcrypt"),
            ("carl:$2y$31$abcdefghijklmnopqrstuuFmEfrkTQnczNzw475xE2VhDrK1uwJiC", "takes longer"),
            ("carl:$argon2id$v=19$m=4194304,t=3,p=4$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "takes longer"),
            (good.trim(), "twice"),
        ] {
            let flaw = Users::parse(&format!("{good}{line}\n")).expect_err(line);
            assert!(flaw.line == 2 && flaw.problem.contains(part), "{line}: {flaw}");
        }
        assert!(Users::parse(&format!("a:{SHA}")).is_ok());
    }

    proptest! {
        /// Whatever stands in a file, it is read or refused.
        #[test]
        fn whatever_stands_there_is_read_or_refused(text in "([a-z:$\\{\\}A-Z0-9./=\n#]|\\PC){0,200}") {
            if let Ok(users) = Users::parse(&text) {
                prop_assert!(users.len() <= text.lines().count());
            }
        }
    }
}
