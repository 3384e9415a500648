//! Where a stream is pulled from: an address, who asks there, and whom it is believed to be.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use actix_web::http::Uri;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::access::Secret;
use crate::mount::RelaySettings;
use crate::wire::relay::{Asked, FIELD};

/// Where a stream is pulled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    path: String,
    /// User and password, as the Basic scheme sends them.
    authorization: Option<Secret>,
    /// A file with the certificates that vouch for it; `None`: the system's.
    pub(super) ca: Option<Arc<Path>>,
}

impl Upstream {
    /// Reads an address such as `https://user:word@host:8000/live`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.trim().parse().map_err(|_| "is not a web address")?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("does not begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or("names no host")?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        let plain = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        if authority.host().is_empty() {
            return Err("names no host");
        }
        Ok(Self {
            secure,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authorization: user.map(|user| basic(&plain(user))),
            ca: None,
        })
    }

    /// The same, asked by whom and believed by what the settings say. User and password in the address win.
    #[must_use]
    pub fn with(mut self, settings: &RelaySettings) -> Self {
        if let (None, Some(login)) = (&self.authorization, &settings.login) {
            self.authorization = Some(basic(format!("{}:{}", login.user, login.password.reveal()).as_bytes()));
        }
        self.ca.clone_from(&settings.ca);
        self
    }

    /// The same server at another path, as it is and not encoded.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'#').add(b'?').add(b'%');
        Self { path: utf8_percent_encode(path, PATH).to_string(), ..self.clone() }
    }

    /// Whether it is known there who asks.
    pub(super) fn has_login(&self) -> bool {
        self.authorization.is_some()
    }

    /// Where a redirect leads. A password goes along to the same server only, and never from TLS to where everybody can read it.
    pub(super) fn redirected(&self, location: &str) -> Result<Self, &'static str> {
        if let Some(rest) = location.strip_prefix('/')
            && !rest.starts_with('/')
        {
            return Ok(Self { path: location.to_owned(), ..self.clone() });
        }
        let mut next = Self::parse(location)?;
        let same = next.host.eq_ignore_ascii_case(&self.host) && (next.port == self.port || (next.secure && !self.secure));
        if self.secure && !next.secure && (next.authorization.is_some() || self.authorization.is_some()) {
            return Err("leads from TLS to plain HTTP, which would give the password away");
        }
        if same && next.authorization.is_none() {
            next.authorization.clone_from(&self.authorization);
        }
        next.ca.clone_from(&self.ca);
        Ok(next)
    }

    /// The request for the stream, which has come through `through` and is wanted in frames, if the other side has such.
    pub(super) fn request(&self, through: &str, asked: &Asked) -> String {
        self.plain_request(through, &format!("Icy-MetaData: 1\r\n{FIELD}: {asked}\r\n"))
    }

    /// A request with these lines in its head, which says for whom it is.
    pub(super) fn plain_request(&self, through: &str, more: &str) -> String {
        let authorization =
            self.authorization.as_ref().map_or_else(String::new, |basic| format!("Authorization: Basic {}\r\n", basic.reveal()));
        format!(
            "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: flumen/{}\r\nAccept: */*\r\nVia: {through}\r\n{more}{authorization}Connection: close\r\n\r\n",
            self.path,
            self.host,
            self.port,
            env!("CARGO_PKG_VERSION"),
        )
    }

    /// The host as a name or an address, without brackets.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn basic(login: &[u8]) -> Secret {
    Secret::new(&BASE64_STANDARD.encode(login))
}

impl fmt::Display for Upstream {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// The upstreams of a mount, in order of preference.
pub fn upstreams(settings: &RelaySettings) -> Vec<Upstream> {
    settings.upstreams.iter().filter_map(|text| Upstream::parse(text).ok()).map(|upstream| upstream.with(settings)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_read_and_shown_without_its_password() {
        for (text, shown) in [
            ("http://radio.example/live.ogg", Ok("http://radio.example:80/live.ogg")),
            ("http://user:word@radio.example:8000/live?a=b", Ok("http://radio.example:8000/live?a=b")),
            ("http://[::1]:8000", Ok("http://[::1]:8000/")),
            ("https://radio.example/", Ok("https://radio.example:443/")),
            ("ftp://radio.example/", Err("does not begin with http:// or https://")),
            ("radio.example", Err("does not begin with http:// or https://")),
            ("http://", Err("is not a web address")),
        ] {
            let found = Upstream::parse(text).map(|upstream| upstream.to_string());
            assert_eq!(found.as_deref().map_err(|why| *why), shown, "{text}");
        }
        let upstream = Upstream::parse("http://us%40er:word@h:1/a").expect("an address");
        assert!(upstream.request("1.1 x", &Asked::default()).contains("Authorization: Basic dXNAZXI6d29yZA==\r\n"));
        assert!(!format!("{upstream:?}").contains("dXN"), "not even where it is shown for debugging");
    }

    #[test]
    fn a_redirect_takes_the_password_to_the_same_server_only_and_never_out_of_tls() {
        for (from, location, want, login) in [
            ("http://a:8000/x", "/y", Some("http://a:8000/y"), false),
            ("http://u:p@a:8000/x", "/y", Some("http://a:8000/y"), true),
            ("http://u:p@a:8000/x", "http://A:8000/z", Some("http://A:8000/z"), true),
            ("http://u:p@a:8000/x", "https://a/z", Some("https://a:443/z"), true),
            ("http://u:p@a:8000/x", "http://a:9000/z", Some("http://a:9000/z"), false),
            ("http://u:p@a:8000/x", "https://b/z", Some("https://b:443/z"), false),
            ("http://a:8000/x", "http://b/z", Some("http://b:80/z"), false),
            ("https://a/x", "http://a/z", Some("http://a:80/z"), false),
            ("https://u:p@a/x", "http://a/z", None, false),
            ("https://a/x", "http://u:p@a/z", None, false),
            ("http://a:8000/x", "y", None, false),
            ("http://a:8000/x", "//c/y", None, false),
        ] {
            let found = Upstream::parse(from).expect(from).redirected(location).ok();
            assert_eq!(found.as_ref().map(Upstream::to_string).as_deref(), want, "{from} {location}");
            assert_eq!(found.is_some_and(|found| found.authorization.is_some()), login, "{from} {location}");
        }
    }
}
