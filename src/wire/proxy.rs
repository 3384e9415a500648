//! The PROXY protocol, versions 1 and 2: what a proxy says of its client before the client's own first byte.
//!
//! - Read strictly: what is not exactly such a header is refused, for whoever sends it is not the proxy that was expected.
//! - Nothing behind the header is asked for: how many bytes are surely still part of it is said with every look.
//! - A proxy that speaks for itself (`LOCAL`), for nobody it knows (`UNKNOWN`, unspecified) or for a process on its own machine
//!   (unix family) names no address: then the one it has itself counts.
//!
//! Source: haproxy.org/download/2.9/doc/proxy-protocol.txt. Deliberately absent: what else version 2 carries; it is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken. Addresses and the usual extras are some hundred bytes.
pub const HEADER_MOST: usize = 2048;
/// The longest line of version 1, its end included.
const LINE_MOST: usize = 107;
/// The shortest line of version 1.
const LINE_LEAST: usize = "PROXY UNKNOWN\r\n".len();
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the command, the family, and the length of the rest.
const FIXED: usize = SIGNATURE.len() + 4;

/// Whom a proxy speaks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Its client, by an address in its one form; `None`: it names nobody.
    pub client: Option<SocketAddr>,
    /// Where the client reached the proxy.
    pub reached: Option<SocketAddr>,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The beginning of a header, of which so many bytes are still to come at the least; never none.
    Partial(usize),
    /// A header, and nothing else.
    Complete(Announced),
    /// No header.
    Refuse(&'static str),
}

/// Looks at what has come, which is never more than was asked for.
pub fn look(bytes: &[u8]) -> Look {
    if bytes.first() == SIGNATURE.first() { binary(bytes) } else { line(bytes) }
}

fn line(bytes: &[u8]) -> Look {
    const WORD: &[u8] = b"PROXY ";
    if !bytes.starts_with(&WORD[..bytes.len().min(WORD.len())]) {
        return Look::Refuse("it does not begin with a PROXY header");
    }
    if bytes.len() < LINE_LEAST {
        return Look::Partial(LINE_LEAST - bytes.len());
    }
    if bytes[..bytes.len() - 1].contains(&b'\n') {
        return Look::Refuse("its PROXY line is not one");
    }
    if !bytes.ends_with(b"\n") {
        if bytes.len() >= LINE_MOST {
            return Look::Refuse("its PROXY line is too long");
        }
        return Look::Partial(if bytes.ends_with(b"\r") { 1 } else { 2.min(LINE_MOST - bytes.len()) });
    }
    let Some(text) = bytes.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(&line[WORD.len()..]).ok()) else {
        return Look::Refuse("its PROXY line is not one");
    };
    let mut words = text.split(' ');
    let v4 = |word: Option<&str>| word.and_then(|word| word.parse::<Ipv4Addr>().ok()).map(IpAddr::from);
    let v6 = |word: Option<&str>| word.and_then(|word| word.parse::<Ipv6Addr>().ok()).map(IpAddr::from);
    let (from, to) = match words.next() {
        Some("UNKNOWN") => return Look::Complete(Announced::default()), // the rest of the line is to be ignored
        Some("TCP4") => (v4(words.next()), v4(words.next())),
        Some("TCP6") => (v6(words.next()), v6(words.next())),
        _ => return Look::Refuse("its PROXY line names a family that is not known"),
    };
    let port = |word: Option<&str>| word.filter(|word| is_number(word)).and_then(|word| word.parse::<u16>().ok());
    let (from_port, to_port) = (port(words.next()), port(words.next()));
    match (from.zip(from_port), to.zip(to_port), words.next()) {
        (Some(from), Some(to), None) => Look::Complete(Announced { client: Some(canonical(from)), reached: Some(canonical(to)) }),
        _ => Look::Refuse("its PROXY line has no two addresses with their ports"),
    }
}

/// Digits alone, as a port is written.
fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'))
}

fn canonical((address, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

fn binary(bytes: &[u8]) -> Look {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Look::Refuse("it does not begin with a PROXY header");
    }
    // Whoever means version 1, or none, has sent this much; more is not asked for before it is sure that this is version 2.
    if bytes.len() < FIXED {
        return Look::Partial(FIXED - bytes.len());
    }
    let (command, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if command >> 4 != 2 {
        return Look::Refuse("its PROXY header is of a version that is not known");
    }
    let local = match command & 0xf {
        0 => true,
        1 => false,
        _ => return Look::Refuse("its PROXY header has a command that is not known"),
    };
    // How many bytes both addresses with their ports take.
    let least = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ if local => 0,
        _ => return Look::Refuse("its PROXY header is about no stream, or about a family that is not known"),
    };
    if !local && length < least {
        return Look::Refuse("its PROXY header is too short for its addresses");
    }
    if FIXED + length > HEADER_MOST {
        return Look::Refuse("its PROXY header is too long");
    }
    if bytes.len() < FIXED + length {
        return Look::Partial(FIXED + length - bytes.len());
    }
    let rest = &bytes[FIXED..];
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let v6 = |at: usize| <[u8; 16]>::try_from(&rest[at..at + 16]).map(Ipv6Addr::from).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let v4 = |at: usize| Ipv4Addr::new(rest[at], rest[at + 1], rest[at + 2], rest[at + 3]);
    let (client, reached) = match family {
        0x11 if !local => ((v4(0).into(), port(8)), (v4(4).into(), port(10))),
        0x21 if !local => ((v6(0).into(), port(32)), (v6(16).into(), port(34))),
        _ => return Look::Complete(Announced::default()),
    };
    Look::Complete(Announced { client: Some(canonical(client)), reached: Some(canonical(reached)) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes a header off the front of these bytes, never asking for more than is said to be part of it.
    fn take(bytes: &[u8]) -> (Look, usize) {
        let mut had = 0;
        loop {
            match look(&bytes[..had]) {
                Look::Partial(0) => panic!("nothing is asked for"),
                Look::Partial(more) if had + more <= bytes.len() => had += more,
                found => return (found, had),
            }
        }
    }

    fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    fn from(client: &str) -> Option<SocketAddr> {
        Some(client.parse().expect(client))
    }

    #[test]
    fn a_line_of_version_1_names_the_client_or_is_refused() {
        let is = |client| Some(from(client));
        for (text, want) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", is("192.0.2.1:4711")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 4711 80\r\n", is("[2001:db8::1]:4711")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", is("192.0.2.1:1")),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 0 65535\r\n", is("192.0.2.1:0")),
            ("PROXY UNKNOWN\r\n", Some(None)),
            ("PROXY UNKNOWN ffff:: ffff:: 1 2\r\n", Some(None)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80 \r\n", None),
            ("PROXY TCP4  192.0.2.1 192.0.2.2 4711 80\r\n", None),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80 9\r\n", None),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n", None),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 +4711 80\r\n", None),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 04711 80\r\n", None),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n", None),
            ("PROXY TCP4 2001:db8::1 2001:db8::2 4711 80\r\n", None),
            ("PROXY TCP6 192.0.2.1 192.0.2.2 4711 80\r\n", None),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\n", None),
            ("PROXY UDP4 192.0.2.1 192.0.2.2 4711 80\r\n", None),
            ("PROXY \r\nxxxxxxxxxxxxxxx", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("proxy TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", None),
        ] {
            let (found, _) = take(text.as_bytes());
            match want {
                Some(client) => {
                    assert!(matches!(found, Look::Complete(announced) if announced.client == client), "{text:?}: {found:?}");
                }
                None => assert!(matches!(found, Look::Refuse(_)), "{text:?}: {found:?}"),
            }
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MOST));
        assert_eq!(take(long.as_bytes()), (Look::Refuse("its PROXY line is too long"), LINE_MOST));
        assert!(matches!(take(b"PROXY TCP4 192.0.2.1 192."), (Look::Partial(_), _)), "it may go on");
    }

    #[test]
    fn a_header_of_version_2_names_the_client_or_is_refused() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 0, 80];
        let six = [&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets()[..], &[0; 16], &[0x12, 0x67, 0, 80]].concat();
        let extras = [&four[..], &[4, 0, 3, 1, 2, 3]].concat();
        let is = |client| Some(from(client));
        for (what, bytes, want) in [
            ("v4", v2(0x21, 0x11, 12, &four), is("192.0.2.1:4711")),
            ("v4 with extras", v2(0x21, 0x11, 18, &extras), is("192.0.2.1:4711")),
            ("v6", v2(0x21, 0x21, 36, &six), is("[2001:db8::1]:4711")),
            ("local", v2(0x20, 0x00, 0, &[]), Some(None)),
            ("local with addresses", v2(0x20, 0x11, 12, &four), Some(None)),
            ("unspecified", v2(0x21, 0x00, 0, &[]), Some(None)),
            ("unix", v2(0x21, 0x31, 216, &[b'/'; 216]), Some(None)),
            ("too short for v4", v2(0x21, 0x11, 11, &four[..11]), None),
            ("too short for v6", v2(0x21, 0x21, 12, &four), None),
            ("too short for unix", v2(0x21, 0x31, 12, &four), None),
            ("a datagram", v2(0x21, 0x12, 12, &four), None),
            ("a family unheard of", v2(0x21, 0x41, 12, &four), None),
            ("a command unheard of", v2(0x22, 0x11, 12, &four), None),
            ("version 3", v2(0x31, 0x11, 12, &four), None),
            ("too long", v2(0x21, 0x11, 65_535, &four), None),
            ("another beginning", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), None),
        ] {
            let (found, had) = take(&bytes);
            match want {
                Some(client) => {
                    assert!(matches!(found, Look::Complete(announced) if announced.client == client), "{what}: {found:?}");
                    assert_eq!(had, bytes.len(), "{what}");
                }
                None => assert!(matches!(found, Look::Refuse(_)), "{what}: {found:?}"),
            }
        }
        assert_eq!(take(&v2(0x21, 0x11, 12, &four[..5])).0, Look::Partial(12), "truncated: more may come");
    }

    proptest! {
        /// What follows a header is never taken with it, whatever it is.
        #[test]
        fn a_header_ends_where_it_ends(
            address in any::<[u8; 4]>(), port in any::<u16>(), extras in prop::collection::vec(any::<u8>(), 0..200),
            first in any::<bool>(), behind in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let client = SocketAddr::from((address, port));
            let header = if first {
                format!("PROXY TCP4 {} 192.0.2.2 {port} 80\r\n", client.ip()).into_bytes()
            } else {
                let addresses = [&address[..], &[192, 0, 2, 2], &port.to_be_bytes(), &[0, 80], &extras].concat();
                v2(0x21, 0x11, addresses.len() as u16, &addresses)
            };
            let (found, had) = take(&[&header[..], &behind].concat());
            prop_assert!(matches!(found, Look::Complete(announced) if announced.client == Some(client)), "{:?}", found);
            prop_assert_eq!(had, header.len());
        }

        /// Nothing that comes makes it panic, wait for nothing, or want more than a header may have.
        #[test]
        fn whatever_comes_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..400), begin in 0_usize..4) {
            let begins: [&[u8]; 4] = [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE];
            let bytes = [begins[begin], &bytes].concat();
            match take(&bytes) {
                (Look::Partial(more), had) => prop_assert!(more > 0 && had + more <= HEADER_MOST),
                (_, had) => prop_assert!(had <= HEADER_MOST),
            }
        }
    }
}
