//! Tokens (JWT, RFC 7519), as somebody else's login gives them out.
//!
//! - What a key is for, the key says and not the token: HMAC-SHA256 (`HS256`) for a shared secret, Ed25519 (`EdDSA`) for a public key.
//!   A token that names another algorithm, or none, is none.
//! - A token without an end is refused. One that is made for somebody (`aud`) is taken only where that is us.
//!
//! Deliberately absent: encryption, RSA and curves of the NIST, and keys that are fetched: the file is whoever's who runs the server.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde::Deserialize;

use super::rule::Grant;

/// The longest token that is looked at.
const TOKEN_MOST: usize = 4096;
/// Keys of one file.
const KEYS_MOST: usize = 16;
/// The shortest shared secret, as RFC 7518 asks for.
const SECRET_LEAST: usize = 32;
/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 30;
/// The longest name.
const USER_MOST: usize = 255;

#[derive(Clone)]
enum Key {
    Shared(hmac::Key),
    Public(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Shared(_) => "HS256",
            Self::Public(_) => "EdDSA",
        }
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Shared(key) => hmac::verify(key, text, signature).is_ok(),
            Self::Public(key) => signature::UnparsedPublicKey::new(&signature::ED25519, key).verify(text, signature).is_ok(),
        }
    }
}

/// The keys of a file.
#[derive(Clone, Debug)]
pub struct Keys(Vec<(Option<String>, Key)>);

#[derive(Deserialize)]
struct File {
    keys: Vec<Written>,
}

/// A key as RFC 7517 writes it.
#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    x: Option<String>,
    d: Option<String>,
}

impl Written {
    fn key(&self) -> Result<Key, String> {
        let bytes = |text: &Option<String>, name: &str| {
            let text = text.as_deref().ok_or_else(|| format!("has no {name:?}"))?;
            BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| format!("has a {name:?} that is no base64url"))
        };
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => {
                let secret = bytes(&self.k, "k")?;
                if secret.len() < SECRET_LEAST {
                    return Err(format!("is a shared secret of fewer than {SECRET_LEAST} bytes"));
                }
                Key::Shared(hmac::Key::new(hmac::HMAC_SHA256, &secret))
            }
            ("OKP", Some("Ed25519")) if self.d.is_some() => return Err("is a private key, which is nobody's business here".to_owned()),
            ("OKP", Some("Ed25519")) => match bytes(&self.x, "x")? {
                key if key.len() == 32 => Key::Public(key),
                _ => return Err("is no public key of Ed25519, which has 32 bytes".to_owned()),
            },
            (kty, _) => return Err(format!("is of the kind {kty:?}: here are \"oct\" (HS256) and \"OKP\" with \"Ed25519\" (EdDSA)")),
        };
        match &self.alg {
            Some(alg) if alg != key.algorithm() => Err(format!("is said to be for {alg:?}, and can be for {:?}", key.algorithm())),
            _ if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") => Err("is not for signatures".to_owned()),
            _ => Ok(key),
        }
    }
}

impl Keys {
    /// Reads the text of a file: a set of keys in JSON (RFC 7517).
    ///
    /// # Errors
    /// Says what is wrong, without showing a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| {
            format!("it is no set of keys, {{\"keys\": [{{\"kty\": …}}]}}: wrong at line {}, column {}", error.line(), error.column())
        })?;
        if file.keys.is_empty() || file.keys.len() > KEYS_MOST {
            return Err(format!("it has {} keys, where 1 to {KEYS_MOST} belong", file.keys.len()));
        }
        let keys = file.keys.into_iter().enumerate().map(|(index, written)| {
            let key = written.key().map_err(|why| format!("its key number {} {why}", index + 1))?;
            Ok((written.kid, key))
        });
        keys.collect::<Result<_, String>>().map(Self)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What must be understood; nothing of that is here.
    crit: Option<serde_json::Value>,
}

/// One text, or some.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Some(Vec<String>),
}

impl Texts {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(text) => text == wanted,
            Self::Some(texts) => texts.iter().any(|text| text == wanted),
        }
    }
}

/// A moment in seconds since 1970; RFC 7519 allows fractions.
#[derive(Clone, Copy, Deserialize)]
struct Seconds(f64);

#[derive(Deserialize)]
struct Claims {
    exp: Seconds,
    nbf: Option<Seconds>,
    aud: Option<Texts>,
    sub: Option<String>,
    mount: Option<Texts>,
}

/// What a token grants at a mount, where we are `audience`, now (in seconds since 1970).
pub fn granted(keys: &Keys, token: &str, mount: &str, audience: Option<&str>, now: u64) -> Option<Grant> {
    if token.len() > TOKEN_MOST {
        return None;
    }
    let (text, signed) = token.rsplit_once('.')?;
    let (header, claims) = text.split_once('.')?;
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    let signed = decode(signed)?;
    if header.crit.is_some() {
        return None;
    }
    let named = |kid: &Option<String>| header.kid.is_none() || kid.is_none() || *kid == header.kid;
    let mut fitting = keys.0.iter().filter(|(kid, key)| key.algorithm() == header.alg && named(kid));
    if !fitting.any(|(_, key)| key.verifies(text.as_bytes(), &signed)) {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
    let now_within = |from: f64, to: f64| from <= (now + LEEWAY) as f64 && (now as f64) < to;
    if !claims.exp.0.is_finite() || !now_within(claims.nbf.map_or(0.0, |nbf| nbf.0), claims.exp.0) {
        return None;
    }
    let ours = match (&claims.aud, audience) {
        (None, None) => true,
        (Some(aud), Some(audience)) => aud.has(audience),
        _ => false,
    };
    if !ours || claims.mount.is_some_and(|mounts| !mounts.has(mount) && !mounts.has("*")) {
        return None;
    }
    let user = claims.sub.filter(|sub| !sub.is_empty());
    if user.as_ref().is_some_and(|sub| sub.len() > USER_MOST || sub.chars().any(char::is_control)) {
        return None;
    }
    Some(Grant::until(user.as_deref(), (claims.exp.0 - now as f64).ceil() as u64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use ring::signature::KeyPair;

    use super::*;

    const NOW: u64 = 1_795_617_540;
    const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    fn pair() -> signature::Ed25519KeyPair {
        signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed")
    }

    fn keys() -> Keys {
        let public = encode(pair().public_key());
        let text = format!(
            r#"{{"keys":[{{"kty":"oct","kid":"s","k":"{}"}},{{"kty":"OKP","crv":"Ed25519","kid":"e","alg":"EdDSA","use":"sig","x":"{public}"}}]}}"#,
            encode(SECRET)
        );
        Keys::parse(&text).expect("keys")
    }

    fn shared(header: &str, claims: &str) -> String {
        let text = format!("{}.{}", encode(header), encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), text.as_bytes());
        format!("{text}.{}", encode(tag))
    }

    fn public(header: &str, claims: &str) -> String {
        let text = format!("{}.{}", encode(header), encode(claims));
        format!("{text}.{}", encode(pair().sign(text.as_bytes())))
    }

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const EDDSA: &str = r#"{"alg":"EdDSA"}"#;

    #[test]
    fn a_token_grants_what_its_claims_say() {
        let exp = NOW + 100;
        for (claims, audience, want) in [
            (format!(r#"{{"exp":{exp}}}"#), None, Some((None, 100))),
            (format!(r#"{{"exp":{exp}.5,"sub":"anna"}}"#), None, Some((Some("anna"), 101))),
            (format!(r#"{{"exp":{exp},"mount":"/a"}}"#), None, Some((None, 100))),
            (format!(r#"{{"exp":{exp},"mount":["/b","/a"]}}"#), None, Some((None, 100))),
            (format!(r#"{{"exp":{exp},"mount":"*"}}"#), None, Some((None, 100))),
            (format!(r#"{{"exp":{exp},"mount":"/b"}}"#), None, None),
            (format!(r#"{{"exp":{exp},"mount":[]}}"#), None, None),
            (format!(r#"{{"exp":{exp},"aud":"radio"}}"#), Some("radio"), Some((None, 100))),
            (format!(r#"{{"exp":{exp},"aud":["x","radio"]}}"#), Some("radio"), Some((None, 100))),
            (format!(r#"{{"exp":{exp},"aud":"x"}}"#), Some("radio"), None),
            (format!(r#"{{"exp":{exp}}}"#), Some("radio"), None),
            (format!(r#"{{"exp":{exp},"aud":"radio"}}"#), None, None),
            (format!(r#"{{"exp":{exp},"nbf":{NOW}}}"#), None, Some((None, 100))),
            (format!(r#"{{"exp":{exp},"nbf":{}}}"#, NOW + LEEWAY), None, Some((None, 100))),
            (format!(r#"{{"exp":{exp},"nbf":{}}}"#, NOW + LEEWAY + 1), None, None),
            (format!(r#"{{"exp":{NOW}}}"#), None, None),
            (format!(r#"{{"exp":"{exp}"}}"#), None, None),
            (format!(r#"{{"exp":{exp},"nbf":"soon"}}"#), None, None),
            (r#"{"sub":"anna"}"#.to_owned(), None, None),
            (format!(r#"{{"exp":{exp},"sub":"a\nb"}}"#), None, None),
            ("[]".to_owned(), None, None),
        ] {
            let want =
                want.map(|(user, seconds)| Grant { user: user.map(|user: &str| user.into()), lasts: Some(Duration::from_secs(seconds)) });
            for token in [shared(HS256, &claims), public(EDDSA, &claims)] {
                assert_eq!(granted(&keys(), &token, "/a", audience, NOW), want, "{claims} {audience:?}");
            }
        }
    }

    #[test]
    fn what_a_key_is_for_the_key_says() {
        let claims = format!(r#"{{"exp":{}}}"#, NOW + 100);
        let public_key = encode(pair().public_key());
        // The public key as if it were a shared secret: what everybody knows signs nothing.
        let confused = {
            let text = format!("{}.{}", encode(HS256), encode(&claims));
            format!("{text}.{}", encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pair().public_key().as_ref()), text.as_bytes())))
        };
        let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims));
        for (token, want) in [
            (shared(r#"{"alg":"HS256","kid":"s"}"#, &claims), true),
            (shared(r#"{"alg":"HS256","kid":"e"}"#, &claims), false),
            (public(r#"{"alg":"EdDSA","kid":"e"}"#, &claims), true),
            (public(r#"{"alg":"EdDSA","kid":"x"}"#, &claims), false),
            (shared(EDDSA, &claims), false),
            (public(HS256, &claims), false),
            (shared(r#"{"alg":"HS512"}"#, &claims), false),
            (shared(r#"{"alg":"hs256"}"#, &claims), false),
            (shared(r#"{"alg":"none"}"#, &claims), false),
            (shared(r#"{"alg":"HS256","crit":["exp"]}"#, &claims), false),
            (shared("{}", &claims), false),
            (confused, false),
            (unsigned, false),
            (String::new(), false),
            ("..".to_owned(), false),
            (format!("{}.", shared(HS256, &claims)), false),
            ("x".repeat(5000), false),
        ] {
            assert_eq!(granted(&keys(), &token, "/a", None, NOW).is_some(), want, "{token}");
        }
        for (text, part) in [
            ("", "no set of keys"),
            ("{\"keys\":[]}", "0 keys"),
            (r#"{"keys":[{"kty":"RSA","n":"x"}]}"#, "of the kind"),
            (r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#, "fewer than 32"),
            (r#"{"keys":[{"kty":"oct"}]}"#, "has no \"k\""),
            (&format!(r#"{{"keys":[{{"kty":"oct","alg":"HS512","k":"{}"}}]}}"#, encode(SECRET)), "HS512"),
            (&format!(r#"{{"keys":[{{"kty":"oct","use":"enc","k":"{}"}}]}}"#, encode(SECRET)), "not for signatures"),
            (&format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{public_key}","d":"x"}}]}}"#), "private"),
            (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"eA"}]}"#, "32 bytes"),
        ] {
            let why = Keys::parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(!format!("{:?}", keys()).contains(&encode(SECRET)));
    }

    proptest! {
        /// Of what is signed nothing can be changed, and whatever is sent is a token or not.
        #[test]
        fn nothing_of_it_can_be_changed(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]", sent in "\\PC{0,80}", parts in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}") {
            let token = shared(HS256, &format!(r#"{{"exp":{},"sub":"anna"}}"#, NOW + 100));
            let at = at.index(token.len());
            let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            prop_assert_eq!(granted(&keys(), &changed, "/a", None, NOW).is_some(), changed == token, "{}", changed);
            for other in [sent, parts] {
                prop_assert_eq!(granted(&keys(), &other, "/a", None, NOW), None);
            }
        }
    }
}
