//! Networks: who is at an address, in lists of any length.
//!
//! - A v4 address has one form: written as v6 (`::ffff:192.0.2.1`) it is the same, here and in the lists.
//! - A set is ranges in order that do not touch, so that asking costs a binary search, however long the list is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::units::UnitError;

const REMEDY: &str = "write an address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"";

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first of them.
    first: IpAddr,
    /// How many bits they have in common.
    bits: u8,
}

/// A v4 address in its one form.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Network {
    /// One address by itself.
    pub fn of(address: IpAddr) -> Self {
        let first = canonical(address);
        Self { first, bits: if first.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether this address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.range(), canonical(address)) {
            (Range::V4(first, last), IpAddr::V4(address)) => (first..=last).contains(&u32::from(address)),
            (Range::V6(first, last), IpAddr::V6(address)) => (first..=last).contains(&u128::from(address)),
            _ => false,
        }
    }

    fn range(&self) -> Range {
        match self.first {
            IpAddr::V4(first) => {
                let first = u32::from(first);
                Range::V4(first, first | u32::MAX.checked_shr(self.bits.into()).unwrap_or(0))
            }
            IpAddr::V6(first) => {
                let first = u128::from(first);
                Range::V6(first, first | u128::MAX.checked_shr(self.bits.into()).unwrap_or(0))
            }
        }
    }

    /// Whether all bits are zero behind those that count.
    fn is_tidy(&self) -> bool {
        match self.first {
            IpAddr::V4(first) => u32::from(first).checked_shl(self.bits.into()).unwrap_or(0) == 0,
            IpAddr::V6(first) => u128::from(first).checked_shl(self.bits.into()).unwrap_or(0) == 0,
        }
    }
}

enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl FromStr for Network {
    type Err = UnitError;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or an address by itself. What stands behind the common bits must be zero: else one of
    /// the two numbers is a mistake.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = |problem: &str| UnitError { problem: format!("{text:?} {problem}"), remedy: REMEDY };
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let written: IpAddr = address.parse().map_err(|_| wrong("is no address"))?;
        let Some(bits) = bits else { return Ok(Self::of(written)) };
        let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u8 = bits.parse().ok().filter(|_| digits).ok_or_else(|| wrong("has no number of bits after the slash"))?;
        let most = if written.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(wrong("has more bits after the slash than an address"));
        }
        let first = canonical(written);
        let bits = match (written, first) {
            (IpAddr::V6(_), IpAddr::V4(_)) => {
                bits.checked_sub(96).ok_or_else(|| wrong("mixes v4 and v6 addresses: write a v4 network by itself"))?
            }
            _ => bits,
        };
        let network = Self { first, bits };
        if network.is_tidy() { Ok(network) } else { Err(wrong("has bits set behind those that count")) }
    }
}

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    written: Vec<Network>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// Those networks together.
    pub fn new(written: Vec<Network>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in &written {
            match network.range() {
                Range::V4(first, last) => v4.push((first, last)),
                Range::V6(first, last) => v6.push((first, last)),
            }
        }
        Self { written, v4: joined(v4), v6: joined(v6) }
    }

    /// Whether this address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match canonical(address) {
            IpAddr::V4(address) => is_within(&self.v4, u32::from(address)),
            IpAddr::V6(address) => is_within(&self.v6, u128::from(address)),
        }
    }

    /// Each of them, as it was written.
    pub fn iter(&self) -> impl Iterator<Item = Network> + '_ {
        self.written.iter().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self::new(networks.into_iter().collect())
    }
}

/// The same ranges in order, those that overlap as one.
fn joined<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn is_within<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= value);
    after > 0 && value <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error: UnitError| panic!("{error:?}"))
    }

    #[test]
    fn a_network_is_read_in_its_one_form_or_refused_with_a_remedy() {
        for (text, want) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("192.0.2.1", Some("192.0.2.1/32")),
            (" 192.0.2.1/32 ", Some("192.0.2.1/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("::1", Some("::1/128")),
            ("::/0", Some("::/0")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:192.0.2.1", Some("192.0.2.1/32")),
            ("10.0.0.1/8", None),
            ("2001:db8::1/32", None),
            ("10.0.0.0/33", None),
            ("::/129", None),
            ("::ffff:10.0.0.0/8", None),
            ("10.0.0/8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/8/8", None),
            ("10.0.0.0 /8", None),
            ("example.org", None),
            ("", None),
        ] {
            let found = text.parse::<Network>().map(|network| network.to_string());
            assert_eq!(found.as_deref().ok(), want, "{text}");
        }
    }

    #[test]
    fn an_address_is_in_a_network_whichever_way_it_is_written() {
        for (text, address, want) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("192.0.2.1", "192.0.2.1", true),
        ] {
            let (network, address) = (network(text), address.parse().expect(address));
            assert_eq!(network.contains(address), want, "{text} {address}");
            assert_eq!(Networks::new(vec![network]).contains(address), want, "{text} {address}");
        }
        assert!(!Networks::default().contains([127, 0, 0, 1].into()) && Networks::default().is_empty());
    }

    proptest! {
        /// A set answers as its networks do one by one, and each is written as it is read.
        #[test]
        fn a_set_is_its_networks(
            list in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            wide in prop::collection::vec((any::<u128>(), 0_u8..=128), 0..20),
            asked in any::<u32>(),
            asked_wide in any::<u128>(),
        ) {
            let v4 = list.iter().map(|&(address, bits)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Network { first: Ipv4Addr::from(address & mask).into(), bits }
            });
            let v6 = wide.iter().map(|&(address, bits)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                (address & mask, bits)
            });
            let v6 = v6.map(|(address, bits)| Network { first: Ipv6Addr::from(address).into(), bits }).filter(|network| network.first.to_canonical().is_ipv6());
            let networks: Vec<_> = v4.chain(v6).collect();
            let set = Networks::new(networks.clone());
            for address in [IpAddr::from(Ipv4Addr::from(asked)), Ipv6Addr::from(asked_wide).into()].into_iter().chain(networks.iter().map(|network| network.first)) {
                prop_assert_eq!(set.contains(address), networks.iter().any(|network| network.contains(address)));
            }
            for network in &networks {
                prop_assert_eq!(network.to_string().parse::<Network>().ok(), Some(*network));
            }
        }

        /// Nothing that is typed makes it panic.
        #[test]
        fn whatever_is_typed_is_read_or_refused(text in "[0-9a-f:./ ]{0,40}|\\PC{0,20}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert!(network.contains(network.first));
            }
        }
    }
}
