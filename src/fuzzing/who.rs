//! Readers of who somebody is: signed addresses, tokens, what proxies say, lists of networks.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use super::{is_one_harmless_line, parted};
use crate::access::ban::{self, Bans};
use crate::access::network::Network;
use crate::access::query::parameter;
use crate::access::signed::{self, Secrets, Signed};
use crate::access::token::{self, Keys};
use crate::wire::head::{Look, look};
use crate::wire::{forwarded, proxy};

/// The moment at which everything is shown.
const NOW: u64 = 1_795_617_540;
const MOUNT: &str = "/radio.mp3";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Whoever is let in shows what was signed, unaltered: for this mount, with this secret, from there and no longer.
pub(super) fn of_signed(bytes: &[u8]) {
    static OURS: LazyLock<Secrets> = LazyLock::new(|| Secrets::parse(SECRET).expect("a secret"));
    static THEIRS: LazyLock<Secrets> = LazyLock::new(|| Secrets::parse(&"x".repeat(32)).expect("a secret"));
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    if let Err(why) = Secrets::parse(query) {
        assert!(!query.contains(why.as_str()) || query.len() < 16, "a secret does not print");
    }
    let granted = |secrets: &Secrets, mount, from, now| signed::granted(secrets, mount, query, from, now);
    let Some(grant) = granted(&OURS, MOUNT, Some(HERE), NOW) else { return };
    let given = |name| parameter(query, name).unwrap_or_default();
    let (address, user) = (given("address"), given("user"));
    let expires: u64 = given("expires").parse().expect("a number");
    let again = Signed { mount: MOUNT, expires, address: &address, user: &user }.query(&OURS);
    assert_eq!(parameter(&again, "signature"), Some(given("signature").to_ascii_lowercase()), "{query:?}");
    assert!(expires > NOW && grant.lasts == Some(Duration::from_secs(expires - NOW)));
    assert_eq!(grant.user.as_deref().unwrap_or_default(), user);
    assert!(is_one_harmless_line(&user), "{user:?}");
    for (secrets, mount, from, now) in [
        (&*THEIRS, MOUNT, Some(HERE), NOW),
        (&*OURS, "/other.mp3", Some(HERE), NOW),
        (&*OURS, MOUNT, Some(HERE), expires),
        (
            &*OURS,
            MOUNT,
            if address.is_empty() { None } else { Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) },
            if address.is_empty() { expires } else { NOW },
        ),
    ] {
        assert!(granted(secrets, mount, from, now).is_none(), "{query:?} at {mount} for {from:?} at {now}");
    }
}

/// A token is one of ours, and nobody else's; sets of keys do not print what is in them. A zero byte parts the token from a set.
pub(super) fn of_token(bytes: &[u8]) {
    static OURS: LazyLock<Keys> = LazyLock::new(|| {
        let shared = r#"{"kty":"oct","kid":"s","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}"#;
        let public = r#"{"kty":"OKP","crv":"Ed25519","kid":"e","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}"#;
        Keys::parse(&format!("{{\"keys\":[{shared},{public}]}}")).expect("keys")
    });
    static THEIRS: LazyLock<Keys> =
        LazyLock::new(|| Keys::parse(r#"{"keys":[{"kty":"oct","k":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE"}]}"#).expect("keys"));
    let (token, set) = parted(bytes);
    if let Ok(text) = std::str::from_utf8(set)
        && let Ok(keys) = Keys::parse(text)
    {
        assert!(format!("{keys:?}").len() < 64 * 1024, "what a key is does not print");
    }
    let Ok(token) = std::str::from_utf8(token) else { return };
    let granted = |keys: &Keys, audience, now| token::granted(keys, token, MOUNT, audience, now);
    let Some(grant) = granted(&OURS, None, NOW) else { return };
    assert_eq!(token.matches('.').count(), 2, "{token:?}");
    assert!(grant.user.is_none_or(|user| is_one_harmless_line(&user) && !user.is_empty()));
    let lasts = grant.lasts.expect("a token has an end");
    assert!(granted(&THEIRS, None, NOW).is_none(), "{token:?}");
    assert!(granted(&OURS, Some("somebody"), NOW).is_none(), "it is for nobody in particular: {token:?}");
    if let Some(end) = NOW.checked_add(lasts.as_secs()).filter(|end| *end < 1 << 52) {
        assert!(granted(&OURS, None, end).is_none(), "{token:?} at {end}");
    }
}

/// As the door reads: never more than is surely part of the header. What it names has one form.
pub(super) fn of_proxy(bytes: &[u8]) {
    let mut held = 0;
    loop {
        match proxy::look(&bytes[..held]) {
            proxy::Look::Refuse(why) => return assert!(!why.is_empty()),
            proxy::Look::Complete(announced) => {
                for address in [announced.client, announced.reached].into_iter().flatten() {
                    assert_eq!(address.ip(), address.ip().to_canonical());
                }
                assert!(held <= proxy::HEADER_MOST && (held > 0), "a header of {held} bytes");
                return;
            }
            proxy::Look::Partial(more) => {
                assert!(more > 0 && held + more <= proxy::HEADER_MOST, "{more} more than {held}");
                if held + more > bytes.len() {
                    assert!(!matches!(proxy::look(bytes), proxy::Look::Complete(_)), "more was asked for than there is in a header");
                    return;
                }
                held += more;
            }
        }
    }
}

/// Whatever a client writes, what the proxy beside us has added counts, in a line of its own or in the client's; and what is repeated to
/// others is harmless. Also where the head has as many lines as it may have, and where a body follows it.
pub(super) fn of_forwarded(bytes: &[u8]) {
    const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    const LINES_MOST: usize = 64;
    let trusted = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[0] == 10);
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let padding = "a:b\r\n".repeat(LINES_MOST.saturating_sub(lines + 3));
    for (method, padding) in [("GET", ""), ("PUT", ""), ("GET", &*padding), ("PUT", &*padding)] {
        for (first, last, counts) in [
            ("", "\r\n", false),
            ("", "\r\nX-Forwarded-For: 203.0.113.9\r\n", true),
            ("", "\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.9, 10.1.1.1\r\n", true),
            ("X-Forwarded-For: ", ", 203.0.113.9\r\n", lines == 0),
            ("Forwarded: ", ", for=203.0.113.9;proto=https\r\n", lines == 0),
        ] {
            let start = [method, " / HTTP/1.1\r\nHost: a\r\n", padding, first].concat();
            let head = [start.as_bytes(), bytes, last.as_bytes(), b"\r\n"].concat();
            let Look::Complete(found) = look(&head, 64 * 1024) else { continue };
            let said = forwarded::read(&found.proxies, trusted);
            if let Some(host) = &said.host {
                assert!(
                    host.len() <= 260 && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "<>\"'/\\@".contains(c)),
                    "{host:?}"
                );
            }
            let client = said.client.map(|client| client.ip());
            assert!(client.is_none_or(|client| client == client.to_canonical()));
            if counts && found.length == head.len() {
                assert_eq!(client, Some(STRANGER), "{:?}", String::from_utf8_lossy(&head));
            }
        }
    }
}

/// A list is what its lines are; one line that is none says so by its number. What bans are written as is read as the same.
pub(super) fn of_networks(bytes: &[u8]) {
    const MOST: usize = 100;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ban::list(text, MOST) {
        Ok(set) => {
            let all: Vec<Network> = set.iter().collect();
            assert!(all.len() <= MOST);
            for network in &all {
                let shown = network.to_string();
                assert_eq!(shown.parse(), Ok(*network), "{shown}");
                let first: IpAddr = shown.split('/').next().and_then(|first| first.parse().ok()).expect("an address");
                assert!(network.contains(first) && set.contains(first), "{shown}");
                for near in near(first) {
                    assert_eq!(set.contains(near), all.iter().any(|network| network.contains(near)), "{near} of {shown}");
                }
            }
        }
        Err((line, problem)) => assert!((1..=text.lines().count()).contains(&line) && !problem.is_empty(), "{line}: {problem}"),
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    if let Ok(bans) = Bans::read(text, now) {
        let again = Bans::read(&bans.write(now), now).expect("what was written");
        assert!(bans.iter(now).eq(again.iter(now)));
        assert!(bans.iter(now).all(|ban| is_one_harmless_line(&ban.reason) && bans.contains(first_of(ban.network), now)));
    }
}

fn first_of(network: Network) -> IpAddr {
    network.to_string().split('/').next().and_then(|first| first.parse().ok()).expect("an address")
}

/// Addresses beside this one.
fn near(address: IpAddr) -> [IpAddr; 3] {
    match address {
        IpAddr::V4(address) => [1, u32::MAX, 256].map(|step| Ipv4Addr::from(u32::from(address).wrapping_add(step)).into()),
        IpAddr::V6(address) => [1, u128::MAX, 1 << 64].map(|step| std::net::Ipv6Addr::from(u128::from(address).wrapping_add(step)).into()),
    }
}
