//! Addresses that are signed: who has one may listen to that mount, until it expires.
//!
//! ```text
//!   /radio.mp3?expires=1795617540&signature=5f…        and perhaps &address=192.0.2.7 and &user=anna
//!
//!   signature = hex(HMAC-SHA256(secret, mount ⏎ expires ⏎ address ⏎ user))        what is not there is empty
//! ```
//! So a shell can sign: `printf '/radio.mp3\n1795617540\n\n' | openssl dgst -sha256 -hmac "$SECRET"`.

use std::net::IpAddr;

use ring::hmac;

use super::query::parameter;
use super::rule::Grant;

/// The shortest secret: what is shorter can be found by trying.
const SECRET_LEAST: usize = 16;
/// Secrets of one file: the present one, and those that still hold while addresses made with them are about.
const SECRETS_MOST: usize = 4;
/// Hexadecimal digits of a signature.
const DIGITS: usize = 64;

/// Secrets that sign; the first is the one to sign with.
#[derive(Clone, Debug)]
pub struct Secrets(Vec<hmac::Key>);

impl Secrets {
    /// Reads the text of a file: a secret a line.
    ///
    /// # Errors
    /// Says what is wrong, without showing it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.len() {
            0 => Err("it holds no secret: `openssl rand -hex 32` makes one".to_owned()),
            1..=SECRETS_MOST => match lines.iter().position(|line| line.len() < SECRET_LEAST) {
                Some(index) => {
                    Err(format!("its secret number {} has fewer than {SECRET_LEAST} bytes: `openssl rand -hex 32` makes one", index + 1))
                }
                None => Ok(Self(lines.iter().map(|line| hmac::Key::new(hmac::HMAC_SHA256, line.as_bytes())).collect())),
            },
            _ => Err(format!("it holds more than {SECRETS_MOST} secrets, one a line")),
        }
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The mount's path.
    pub mount: &'a str,
    /// Until when, in seconds since 1970.
    pub expires: u64,
    /// The address that it is bound to; empty: none.
    pub address: &'a str,
    /// For whom; empty: nobody by name.
    pub user: &'a str,
}

impl Signed<'_> {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n{}", self.mount, self.expires, self.address, self.user)
    }

    /// The query of an address that is signed.
    pub fn query(&self, secrets: &Secrets) -> String {
        use std::fmt::Write;
        let mut query = format!("expires={}", self.expires);
        for (name, value) in [("address", self.address), ("user", self.user)] {
            if !value.is_empty() {
                let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
                let _ = write!(query, "&{name}={value}"); // a string takes everything
            }
        }
        query.push_str("&signature=");
        for byte in hmac::sign(&secrets.0[0], self.text().as_bytes()).as_ref() {
            let _ = write!(query, "{byte:02x}");
        }
        query
    }
}

/// What a query grants at a mount, to somebody at this address, now (in seconds since 1970).
pub fn granted(secrets: &Secrets, mount: &str, query: &str, from: Option<IpAddr>, now: u64) -> Option<Grant> {
    let given = |name| parameter(query, name);
    let signature = digits(&given("signature")?)?;
    let expires = given("expires")?;
    // Only as it is written by us, so that one signature is of one text.
    let until: u64 = expires.parse().ok().filter(|until: &u64| until.to_string() == expires && *until > now)?;
    let present = |name| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let optional = |name| if present(name) { given(name) } else { Some(String::new()) };
    let (address, user) = (optional("address")?, optional("user")?);
    if !address.is_empty() {
        let bound: IpAddr = address.parse().ok()?;
        if from.map(|from| from.to_canonical()) != Some(bound.to_canonical()) {
            return None;
        }
    }
    let text = Signed { mount, expires: until, address: &address, user: &user }.text();
    let fits = secrets.0.iter().any(|secret| hmac::verify(secret, text.as_bytes(), &signature).is_ok());
    fits.then(|| Grant::until(Some(&user).filter(|user| !user.is_empty()).map(String::as_str), until - now))
}

fn digits(text: &str) -> Option<Vec<u8>> {
    let plain = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| (0..DIGITS).step_by(2).filter_map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn secrets() -> Secrets {
        Secrets::parse(SECRET).expect("a secret")
    }

    fn query(address: &str, user: &str) -> String {
        Signed { mount: "/radio.mp3", expires: 1000, address, user }.query(&secrets())
    }

    /// `printf '/radio.mp3\n1000\n\n' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef`
    #[test]
    fn what_a_shell_signs_is_what_is_signed_here() {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), b"/radio.mp3\n1000\n\n");
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(query("", ""), format!("expires=1000&signature={hex}"));
    }

    #[test]
    fn who_has_a_signed_address_may_listen_there_until_it_expires() {
        let (plain, bound, named) = (query("", ""), query("192.0.2.7", ""), query("", "anna b"));
        let other = Secrets::parse(&format!("{}\n{SECRET}\n", "x".repeat(16))).expect("secrets");
        for (secrets, mount, query, from, now, want) in [
            (&secrets(), "/radio.mp3", &plain, Some(HERE), 900, Some((None, 100))),
            (&secrets(), "/radio.mp3", &plain, None, 999, Some((None, 1))),
            (&other, "/radio.mp3", &plain, None, 999, Some((None, 1))),
            (&secrets(), "/radio.mp3", &plain, None, 1000, None),
            (&secrets(), "/other.mp3", &plain, None, 900, None),
            (&secrets(), "/radio.mp3", &bound, Some(HERE), 900, Some((None, 100))),
            (&secrets(), "/radio.mp3", &bound, Some([192, 0, 2, 8].into()), 900, None),
            (&secrets(), "/radio.mp3", &bound, None, 900, None),
            (&secrets(), "/radio.mp3", &named, None, 900, Some((Some("anna b"), 100))),
            (&secrets(), "/radio.mp3", &format!("{plain}&user=anna"), None, 900, None),
            (&secrets(), "/radio.mp3", &format!("{named}&user=anna"), None, 900, None),
            (&secrets(), "/radio.mp3", &plain.replace("=1000", "=2000"), None, 900, None),
            (&secrets(), "/radio.mp3", &plain.replace("=1000", "=01000"), None, 900, None),
            (&secrets(), "/radio.mp3", &plain.replace("expires=1000&", ""), None, 900, None),
            (&secrets(), "/radio.mp3", &plain[..plain.len() - 2].to_owned(), None, 900, None),
            (&secrets(), "/radio.mp3", &String::new(), None, 900, None),
            (&Secrets::parse(&"y".repeat(32)).expect("a secret"), "/radio.mp3", &plain, None, 900, None),
        ] {
            let found = granted(secrets, mount, query, from, now);
            let want = want.map(|(user, seconds)| Grant { user: user.map(Into::into), lasts: Some(Duration::from_secs(seconds)) });
            assert_eq!(found, want, "{mount} {query} {from:?} {now}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        for (text, part) in
            [("", "no secret"), ("\n \n", "no secret"), ("short", "fewer than"), (&"0123456789abcdef\n".repeat(5), "more than")]
        {
            let why = Secrets::parse(text).expect_err(text);
            assert!(why.contains(part) && !why.contains("short"), "{why}");
        }
    }

    proptest! {
        /// Of what is signed nothing can be changed; and whatever is typed is no signature.
        #[test]
        fn nothing_of_it_can_be_changed(at in 0_usize..200, to in "[a-z0-9&=%+]", query_typed in "\\PC{0,100}") {
            let signed = query("192.0.2.7", "anna");
            let mut changed: Vec<char> = signed.chars().collect();
            let at = at % changed.len();
            changed[at] = to.chars().next().unwrap_or('x');
            let changed: String = changed.into_iter().collect();
            let same = parameter(&changed, "signature").map(|text| text.to_lowercase()) == parameter(&signed, "signature")
                && ["expires", "address", "user"].iter().all(|name| parameter(&changed, name) == parameter(&signed, name));
            prop_assert_eq!(granted(&secrets(), "/radio.mp3", &changed, Some(HERE), 900).is_some(), same, "{}", changed);
            prop_assert_eq!(granted(&secrets(), "/radio.mp3", &query_typed, Some(HERE), 900), None);
        }
    }
}
