//! Addresses to listen at: texts to sockets' addresses, host names resolved, and no two that cannot both be had.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::reader::{Parsed, Wrong};
use super::tree::Node;
use super::value::texts;
use crate::door::ListenAddress;

/// A longer one does not fit into `sockaddr_un`.
const UNIX_PATH_BYTES: usize = 107;
const INET_REMEDY: &str = "write host:port such as \"0.0.0.0:8000\" or \"[::]:8000\"";
const LISTEN_REMEDY: &str = "write host:port such as \"0.0.0.0:8000\" or \"[::]:8000\", or unix:/path";

/// An address, and where it was asked for.
#[derive(Debug)]
pub(super) struct Claim<A = ListenAddress> {
    pub(super) address: A,
    pub(super) place: Place,
    pub(super) shown: String,
}

/// A list of addresses of any kind, never empty; a host name may stand for several.
pub(super) fn listen(node: &Node) -> Parsed<Vec<Claim>> {
    let found = some(node)?;
    if found.is_empty() {
        return Err(vec![Wrong::new("leaves nowhere to listen", LISTEN_REMEDY)]);
    }
    Ok(found)
}

/// The same, perhaps empty.
pub(super) fn some(node: &Node) -> Parsed<Vec<Claim>> {
    let found = texts(node, "[\"0.0.0.0:8000\"]", |text, item| match text.strip_prefix("unix:") {
        Some(path) => Ok(claims(vec![ListenAddress::Unix(unix(path)?)], item)),
        None => Ok(claims(inet(text, LISTEN_REMEDY)?.into_iter().map(ListenAddress::Inet).collect(), item)),
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// A list of internet addresses.
pub(super) fn inets(node: &Node) -> Parsed<Vec<Claim<SocketAddr>>> {
    let found = texts(node, "[\"127.0.0.1:9000\"]", |text, item| Ok(claims(inet(text, INET_REMEDY)?, item)))?;
    Ok(found.into_iter().flatten().collect())
}

fn claims<A>(addresses: Vec<A>, item: &Node) -> Vec<Claim<A>> {
    addresses.into_iter().map(|address| Claim { address, place: item.place.clone(), shown: item.shown() }).collect()
}

fn unix(path: &str) -> Parsed<PathBuf> {
    let wrong = |problem: &str| Err(vec![Wrong::new(problem, "write a path of at most 107 bytes, such as \"unix:/run/flumen.sock\"")]);
    match path {
        "" => wrong("has no path"),
        path if path.len() > UNIX_PATH_BYTES => wrong("has too long a path"),
        path if path.contains('\0') => wrong("has a zero byte in its path"),
        path => Ok(PathBuf::from(path)),
    }
}

fn inet(text: &str, remedy: &str) -> Parsed<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let wrong = |problem: String| Err(vec![Wrong::new(problem, remedy)]);
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        return wrong("has no host or no port".to_owned());
    };
    if port.parse::<u16>().is_err() {
        return wrong("has no number for a port".to_owned());
    }
    if host.contains([':', '[', ']', '/', ' ', '@']) {
        return wrong("is not an address".to_owned());
    }
    match text.to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(found) if !found.is_empty() => Ok(ours(found)),
        Ok(_) => wrong(format!("names a host ({host}) that has no address")),
        Err(error) => wrong(format!("names a host ({host}) that cannot be resolved: {error}")),
    }
}

/// Of a name's addresses those this machine has (`localhost` often has one too many); all of them if it has none, for then the
/// error that binding gives is the clearest.
fn ours(mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    found.sort_unstable();
    found.dedup();
    let here: Vec<_> = found.iter().copied().filter(|address| UdpSocket::bind((address.ip(), 0)).is_ok()).collect();
    if here.is_empty() { found } else { here }
}

/// Every address that has been claimed, by key.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<String, Vec<(String, Claim)>>);

impl Claims {
    /// Takes note of one more; reports when another key has claimed the same, or a part of it.
    pub(super) fn add(&mut self, key: &str, claim: Claim, errors: &mut Vec<ConfigError>) {
        let group = match &claim.address {
            ListenAddress::Inet(address) if address.port() == 0 => return, // any free port: never twice the same
            ListenAddress::Inet(address) => address.port().to_string(),
            ListenAddress::Unix(path) => path.display().to_string(),
        };
        let others = self.0.entry(group).or_default();
        if let Some((other_key, other)) = others.iter().find(|(_, other)| overlap(&claim.address, &other.address)) {
            let problem = if claim.address == other.address {
                format!("is listened at already by {other_key} ({})", other.place)
            } else {
                format!("is covered already by {} of {other_key} ({})", other.shown, other.place)
            };
            let (place, key, value) = (claim.place.clone(), key.to_owned(), claim.shown.clone());
            errors.push(ConfigError { place, key, value, problem, remedy: "use another port, or remove one of them".to_owned() });
        }
        others.push((key.to_owned(), claim));
    }
}

/// Whether both cannot be bound. `[::]` takes v4 peers as well, unless somebody asks for those on the same port.
fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    let (ListenAddress::Inet(a), ListenAddress::Inet(b)) = (a, b) else { return a == b };
    let covers = |wide: IpAddr, other: IpAddr| wide.is_unspecified() && wide.is_ipv4() == other.is_ipv4();
    a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_in_every_usual_form() {
        for (text, want) in [("0.0.0.0:8000", "0.0.0.0:8000"), ("[::1]:80", "[::1]:80"), ("127.0.0.1:0", "127.0.0.1:0")] {
            assert_eq!(inet(text, "").expect(text), vec![want.parse().expect(want)]);
        }
        assert!(!inet("localhost:8000", "").expect("localhost").is_empty());
        for bad in ["", "8000", ":8000", "localhost", "0.0.0.0:80000", "::1:80", "http://a:80", "0.0.0.0:", "no.such.host.invalid:80"] {
            assert!(inet(bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_cannot_both_be_bound_collide() {
        for (a, b, want) in [
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", false),
            ("127.0.0.1:80", "[::]:80", false),
            ("[::1]:80", "[::]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (mut claims, mut errors) = (Claims::default(), Vec::new());
            for text in [a, b] {
                let (address, place) = (ListenAddress::Inet(text.parse().expect(text)), Place::Argument(text.into()));
                claims.add(text, Claim { address, place, shown: String::new() }, &mut errors);
            }
            assert_eq!(!errors.is_empty(), want, "{a} {b}");
        }
    }
}
