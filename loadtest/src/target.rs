//! What may be sent to: the addresses on the command line, resolved once at the start. Redirects are never followed.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) typed: String,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// Over TLS.
    pub(crate) secure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The stream begins with the first byte.
    Tcp,
    Http {
        host: String,
        path: String,
    },
}

impl Target {
    pub(crate) fn resolve(typed: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = typed.split_once("://").with_context(|| format!("`{typed}`: http://…, https://… or tcp://… is wanted"))?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (default_port, http) = match scheme {
            "http" => (Some(80), true),
            "https" => (Some(443), true),
            "tcp" => (None, false),
            other => bail!("`{typed}`: scheme `{other}` is not known; http, https and tcp are"),
        };
        let bad = |c: char| c.is_ascii_control() || c == ' ';
        if rest.contains(bad) || authority.contains('@') {
            bail!("`{typed}`: spaces, control characters and user names are not for addresses here");
        }
        let (host, port) = host_and_port(authority, default_port).with_context(|| format!("`{typed}`: host:port is wanted"))?;
        let address = (host, port)
            .to_socket_addrs()
            .with_context(|| format!("`{typed}`: cannot resolve `{host}`"))?
            .next()
            .with_context(|| format!("`{typed}`: `{host}` has no address"))?;
        let protocol = match http {
            true => Protocol::Http { host: authority.to_owned(), path: path.to_owned() },
            false => Protocol::Tcp,
        };
        Ok(Self { typed: typed.to_owned(), address, protocol, secure: scheme == "https" })
    }

    pub(crate) fn is_ipv4_loopback(&self) -> bool {
        matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback())
    }
}

fn host_and_port(authority: &str, default: Option<u16>) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default?,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_defaults() {
        for (typed, address, protocol) in [
            ("http://127.0.0.1/live", "127.0.0.1:80", Some(("127.0.0.1", "/live"))),
            ("http://127.0.0.1:8000", "127.0.0.1:8000", Some(("127.0.0.1:8000", "/"))),
            ("http://[::1]:8000/a?b=c", "[::1]:8000", Some(("[::1]:8000", "/a?b=c"))),
            ("https://127.0.0.1/live", "127.0.0.1:443", Some(("127.0.0.1", "/live"))),
            ("tcp://127.0.0.1:9000", "127.0.0.1:9000", None),
        ] {
            let target = Target::resolve(typed).expect(typed);
            let http = protocol.map(|(host, path)| Protocol::Http { host: host.to_owned(), path: path.to_owned() });
            assert_eq!(target.address, address.parse().expect("an address"), "{typed}");
            assert_eq!(target.secure, typed.starts_with("https"), "{typed}");
            assert_eq!(target.protocol, http.unwrap_or(Protocol::Tcp), "{typed}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for typed in ["127.0.0.1:80", "ftp://127.0.0.1/", "tcp://127.0.0.1", "http://:80/", "http://a b/", "http://u:p@127.0.0.1/"] {
            assert!(Target::resolve(typed).is_err(), "{typed}");
        }
    }
}
