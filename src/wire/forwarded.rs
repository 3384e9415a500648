//! Who asks through a proxy: `X-Forwarded-For` and `Forwarded` (RFC 7239), as far as they can be believed.
//!
//! - Each proxy adds whom it was asked by at the right. What a trusted one has added is believed; the first that is not trusted is
//!   the client, and all to its left is what the client wrote itself.
//! - Rubbish ends the chain: behind it nobody can be known, and the last one who was counts.
//! - Where both fields come, `X-Forwarded-For` counts: nearly every proxy writes that one, and passes the other on as it came.
//! - The fields are those that the one reader of heads ([`head`](super::head)) has found. Nothing is looked for a second time: what
//!   another reader could not find, nobody would have said, and the client would pass for its proxy.
//!
//! Deliberately absent: who is trusted. Nothing here may be asked for a peer that is not.

use std::net::{IpAddr, SocketAddr};

/// Hops that are looked at, from the right.
pub const HOPS_MOST: usize = 32;

/// The fields of proxies in one request head, each in the order in which they came: no more than the head had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    listed: Vec<String>,
    standard: Vec<String>,
    scheme: Vec<String>,
    host: Vec<String>,
}

impl Fields {
    /// Keeps a header line if it is one of them.
    pub fn note(&mut self, name: &str, value: &[u8]) {
        let fields = match name {
            _ if name.eq_ignore_ascii_case("x-forwarded-for") => &mut self.listed,
            _ if name.eq_ignore_ascii_case("forwarded") => &mut self.standard,
            _ if name.eq_ignore_ascii_case("x-forwarded-proto") => &mut self.scheme,
            _ if name.eq_ignore_ascii_case("x-forwarded-host") => &mut self.host,
            _ => return,
        };
        // What is no text makes rubbish of the hop that it is in, not of those that proxies have added in the same line.
        fields.push(String::from_utf8_lossy(value).into_owned());
    }
}

/// What trusted proxies say of a request. What they do not say, or nobody can believe, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Who asks; the port is zero where none is said.
    pub client: Option<SocketAddr>,
    /// Whether by TLS.
    pub secure: Option<bool>,
    /// For which host.
    pub host: Option<String>,
    /// Some field of a proxy was there, believed or not.
    pub any: bool,
}

/// What these fields say; `trusted` says who is a proxy.
pub fn read(fields: &Fields, trusted: impl Fn(IpAddr) -> bool) -> Forwarded {
    let Fields { listed, standard, scheme, host } = fields;
    let last = |fields: &[String]| fields.last().and_then(|field| field.rsplit(',').next()).map(|value| value.trim().to_owned());
    let mut said = Forwarded {
        any: *fields != Fields::default(),
        secure: last(scheme).and_then(|word| is_secure(&word)),
        host: last(host).filter(|host| is_host(host)),
        client: None,
    };
    if listed.is_empty() {
        let hops = standard.iter().rev().flat_map(|field| field.rsplit(','));
        said.client = client(hops.map(|hop| parameter(hop, "for").unwrap_or_default()), trusted);
        if let Some(hop) = standard.last().and_then(|field| field.rsplit(',').next()) {
            said.secure = said.secure.or_else(|| parameter(hop, "proto").and_then(|word| is_secure(&word)));
            said.host = said.host.or_else(|| parameter(hop, "host").filter(|host| is_host(host)));
        }
    } else {
        said.client = client(listed.iter().rev().flat_map(|field| field.rsplit(',')).map(str::to_owned), trusted);
    }
    said
}

/// The client, by the hops from the right.
fn client(hops: impl Iterator<Item = String>, trusted: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
    let mut known = None;
    for hop in hops.take(HOPS_MOST) {
        let Some(address) = address(hop.trim()) else { break };
        known = Some(address);
        if !trusted(address.ip()) {
            break;
        }
    }
    known
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(hop: &str) -> Option<SocketAddr> {
    let bare = |text: &str| text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0));
    let bracketed = || bare(hop.strip_prefix('[')?.strip_suffix(']')?);
    let found = hop.parse().ok().or_else(|| bare(hop)).or_else(bracketed)?;
    Some(SocketAddr::new(found.ip().to_canonical(), found.port()))
}

/// One parameter of a hop in `Forwarded`: `for="[2001:db8::1]";proto=https`.
fn parameter(hop: &str, name: &str) -> Option<String> {
    let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value).to_owned())
}

fn is_secure(word: &str) -> Option<bool> {
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    if is("https") { Some(true) } else { is("http").then_some(false) }
}

fn is_host(text: &str) -> bool {
    (1..=260).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::head::{Look, look};

    /// Proxies are those in 10.0.0.0/8.
    fn trusted(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
    }

    fn said(fields: &str) -> Forwarded {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let Look::Complete(head) = look(head.as_bytes(), 64 * 1024) else { panic!("{head}") };
        read(&head.proxies, trusted)
    }

    #[test]
    fn the_client_is_the_first_from_the_right_who_is_no_proxy() {
        for (fields, want) in [
            ("", None),
            ("X-Forwarded-For: 192.0.2.1\r\n", Some("192.0.2.1:0")),
            ("x-forwarded-for: 192.0.2.1:4711\r\n", Some("192.0.2.1:4711")),
            ("X-Forwarded-For: 2001:db8::1\r\n", Some("[2001:db8::1]:0")),
            ("X-Forwarded-For: [2001:db8::1]:4711\r\n", Some("[2001:db8::1]:4711")),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", Some("192.0.2.1:0")),
            ("X-Forwarded-For: 198.51.100.9, 192.0.2.1\r\n", Some("192.0.2.1:0")),
            ("X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.0.0.1, 10.0.0.2\r\n", Some("192.0.2.1:0")),
            ("X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 192.0.2.1\r\n", Some("192.0.2.1:0")),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", Some("10.0.0.3:0")),
            ("X-Forwarded-For: garbage, 192.0.2.1\r\n", Some("192.0.2.1:0")),
            ("X-Forwarded-For: 192.0.2.1, garbage, 10.0.0.1\r\n", Some("10.0.0.1:0")),
            ("X-Forwarded-For: 192.0.2.1, garbage\r\n", None),
            ("X-Forwarded-For: \r\n", None),
            ("X-Forwarded-For: 192.0.2.1,\r\n", None),
            ("X-Forwarded-For: 192.0.2.1 198.51.100.9\r\n", None),
            ("Forwarded: for=192.0.2.1\r\n", Some("192.0.2.1:0")),
            ("Forwarded: for=198.51.100.9, For=\"[2001:db8::1]:4711\";proto=https\r\n", Some("[2001:db8::1]:4711")),
            ("Forwarded: for=198.51.100.9;by=10.0.0.1, proto=http;for=10.0.0.1\r\n", Some("198.51.100.9:0")),
            ("Forwarded: for=192.0.2.1, for=unknown\r\n", None),
            ("Forwarded: for=192.0.2.1, for=_hidden, for=10.0.0.1\r\n", Some("10.0.0.1:0")),
            ("Forwarded: proto=https\r\n", None),
            ("Forwarded: for=198.51.100.9\r\nX-Forwarded-For: 192.0.2.1\r\n", Some("192.0.2.1:0")),
        ] {
            let found = said(fields);
            assert_eq!(found.client, want.map(|want| want.parse().expect(want)), "{fields:?}");
            assert_eq!(found.any, !fields.is_empty(), "{fields:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_rubbish_for_their_own_hop_only() {
        for (value, want) in [
            (b"\xFF, 192.0.2.1" as &[u8], Some("192.0.2.1:0")),
            (b"\xC3, 192.0.2.1, 10.0.0.1", Some("192.0.2.1:0")),
            (b"192.0.2.1, \xFF", None),
        ] {
            let mut fields = Fields::default();
            fields.note("X-Forwarded-For", value);
            assert_eq!(read(&fields, trusted).client, want.map(|want| want.parse().expect(want)), "{value:?}");
        }
    }

    /// A body adds two lines to what is passed on.
    #[test]
    fn however_many_lines_a_head_has_and_whatever_follows_it_who_asks_is_read() {
        for body in ["", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            let others = 64 - 2 - body.lines().count();
            let fields = format!("{body}{}X-Forwarded-For: 192.0.2.1\r\n", "A: b\r\n".repeat(others));
            assert_eq!(said(&fields).client, Some(([192, 0, 2, 1], 0).into()), "{body:?}");
        }
    }

    #[test]
    fn a_chain_without_end_is_looked_at_as_far_as_the_bound() {
        let chain = format!("X-Forwarded-For: 192.0.2.1{}\r\n", ", 10.0.0.1".repeat(1000));
        assert_eq!(said(&chain).client, Some(([10, 0, 0, 1], 0).into()), "nobody looks as far as the client");
    }

    #[test]
    fn scheme_and_host_are_those_that_the_nearest_proxy_says() {
        for (fields, secure, host) in [
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Host: radio.example\r\n", Some(true), Some("radio.example")),
            ("X-Forwarded-Proto: HTTP\r\nX-Forwarded-Host: a.example, radio.example:8000\r\n", Some(false), Some("radio.example:8000")),
            ("X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a/b\r\n", None, None),
            (
                "Forwarded: for=10.0.0.1;proto=http;host=a, for=10.0.0.1;proto=https;host=radio.example\r\n",
                Some(true),
                Some("radio.example"),
            ),
        ] {
            let found = said(fields);
            assert_eq!((found.secure, found.host.as_deref()), (secure, host), "{fields:?}");
        }
    }

    proptest! {
        /// Whatever a client writes itself, who it is does not change by that.
        #[test]
        fn nobody_becomes_somebody_else(written in "[ -~]{0,200}", client in any::<[u8; 4]>().prop_filter("no proxy", |address| address[0] != 10)) {
            let client = SocketAddr::from((client, 0));
            let fields = format!("X-Forwarded-For: {written}\r\nForwarded: {written}\r\nX-Forwarded-For: {}, 10.0.0.1\r\n", client.ip());
            prop_assert_eq!(said(&fields).client, Some(client));
        }

        /// Nothing that comes makes it panic.
        #[test]
        fn whatever_comes_is_read_or_not(value in prop::collection::vec(any::<u8>(), 0..200)) {
            for name in ["X-Forwarded-For", "Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host"] {
                let mut fields = Fields::default();
                fields.note(name, &value);
                prop_assert!(read(&fields, trusted).any);
            }
        }
    }
}
