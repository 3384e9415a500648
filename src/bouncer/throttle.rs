//! Who has tried too many wrong passwords. Time comes in as an argument.
//!
//! - The first few are free; then each one more costs a wait twice as long, up to a minute. While an address waits, its passwords are
//!   not looked at, not even right ones: else the wait would be none for somebody who guesses.
//! - Who gets their own right in the end is forgiven what they got wrong; nobody is for another name. Else whoever knows one password
//!   could guess at all the others, saying the one they know in between.
//! - An address waits for each kind of password by itself: a machine with an old one shuts nobody out but its like.
//! - The table is bounded; in a full one whoever has been quiet for longest gives way.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

/// Wrong passwords that cost nothing.
const FREE: u32 = 5;
/// What the next one costs.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// What one costs at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After so long without another, all is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Suspects that are remembered.
const SUSPECTS_MOST: usize = 4096;

/// Memory of all of them at the very most: a table is half empty after it has grown.
pub(super) const BYTES: u64 = (2 * SUSPECTS_MOST * (size_of::<(Suspect, Strikes)>() + 1)) as u64;

/// Names of one suspect whose wrong passwords are told apart. Those of more names are forgotten by time alone.
const NAMES_MOST: usize = 4;

/// Whose password somebody tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aim {
    /// Of who listens.
    Listener,
    /// Of an encoder; and whatever is tried without a name, or with one that nobody has.
    Source,
    /// Of a server that relays from here.
    Relay,
    /// Of who operates the server.
    Operator,
}

/// Where somebody is that tries passwords, and whose.
pub type Suspect = (IpAddr, Aim);

#[derive(Clone, Debug)]
struct Strikes {
    count: u32,
    last: Instant,
    /// How many of them were for which name, by its digest.
    names: ArrayVec<(u64, u32), NAMES_MOST>,
}

/// Those who have tried wrong passwords.
#[derive(Debug, Default)]
pub struct Throttle {
    strikes: HashMap<Suspect, Strikes>,
    /// Digests of names; nobody outside can tell which names have the same.
    digests: RandomState,
}

impl Throttle {
    /// How long somebody must still wait; `None`: not at all.
    pub fn wait(&self, who: Suspect, now: Instant) -> Option<Duration> {
        let strikes = self.strikes.get(&who).filter(|strikes| now.saturating_duration_since(strikes.last) < FORGOTTEN)?;
        let beyond = strikes.count.checked_sub(FREE)?;
        let wait = FIRST_WAIT.saturating_mul(1 << beyond.min(16)).min(LONGEST_WAIT);
        wait.checked_sub(now.saturating_duration_since(strikes.last)).filter(|left| !left.is_zero())
    }

    /// It has tried a wrong one for this name.
    pub fn strike(&mut self, who: Suspect, name: &str, now: Instant) {
        if !self.strikes.contains_key(&who) && self.strikes.len() >= SUSPECTS_MOST {
            let quiet = self.strikes.iter().min_by_key(|(_, strikes)| strikes.last).map(|(who, _)| *who);
            quiet.map(|who| self.strikes.remove(&who));
        }
        let name = self.digests.hash_one(name);
        let none = || Strikes { count: 0, last: now, names: ArrayVec::new() };
        let strikes = self.strikes.entry(who).or_insert_with(none);
        if now.saturating_duration_since(strikes.last) >= FORGOTTEN {
            *strikes = none();
        }
        strikes.count = strikes.count.saturating_add(1);
        strikes.last = now;
        match strikes.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => drop(strikes.names.try_push((name, 1))), // else one of many
        }
    }

    /// It has tried the right one for this name.
    pub fn forgive(&mut self, who: Suspect, name: &str) {
        let name = self.digests.hash_one(name);
        let Some(strikes) = self.strikes.get_mut(&who) else { return };
        if let Some(at) = strikes.names.iter().position(|(known, _)| *known == name) {
            let (_, count) = strikes.names.swap_remove(at);
            strikes.count = strikes.count.saturating_sub(count);
        }
        if strikes.count == 0 {
            self.strikes.remove(&who);
        }
    }
}

/// The address that wrong passwords are counted for. One network of IPv6 is one customer; all processes of this machine that use
/// the unix socket are one.
pub fn suspect(from: Option<IpAddr>) -> IpAddr {
    let Some(address) = from else { return Ipv4Addr::UNSPECIFIED.into() };
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> Suspect {
        (Ipv4Addr::from(0x0a00_0000 + last).into(), Aim::Operator)
    }

    #[test]
    fn the_first_few_are_free_and_then_each_wait_is_twice_the_last() {
        let (mut throttle, who, now) = (Throttle::default(), address(1), Instant::now());
        for count in 1..=20 {
            throttle.strike(who, "anna", now);
            let want = match count {
                ..FREE => None,
                count => Some((FIRST_WAIT * (1 << (count - FREE).min(10))).min(LONGEST_WAIT)),
            };
            assert_eq!(throttle.wait(who, now), want, "{count}");
        }
        assert_eq!(throttle.wait(address(2), now), None, "somebody else");
        assert_eq!(throttle.wait((who.0, Aim::Relay), now), None, "a machine behind the same address, with a password of its own");
        assert_eq!(throttle.wait(who, now + LONGEST_WAIT / 3), Some(LONGEST_WAIT * 2 / 3));
        assert_eq!(throttle.wait(who, now + LONGEST_WAIT), None, "it may try again");
        throttle.strike(who, "anna", now + LONGEST_WAIT);
        assert_eq!(throttle.wait(who, now + LONGEST_WAIT), Some(LONGEST_WAIT), "and waits again");
        assert_eq!(throttle.wait(who, now + LONGEST_WAIT + FORGOTTEN), None);
        throttle.strike(who, "anna", now + LONGEST_WAIT + FORGOTTEN);
        assert_eq!(throttle.wait(who, now + LONGEST_WAIT + FORGOTTEN), None, "all was forgotten");
        (0..FREE).for_each(|_| throttle.strike(who, "anna", now + LONGEST_WAIT + FORGOTTEN));
        throttle.forgive(who, "anna");
        assert_eq!(throttle.wait(who, now + LONGEST_WAIT + FORGOTTEN), None);
    }

    #[test]
    fn a_full_table_forgets_who_has_been_quiet_for_longest() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for last in 0..SUSPECTS_MOST as u32 {
            (0..=FREE).for_each(|_| throttle.strike(address(last), "anna", now + Duration::from_micros(last.into())));
        }
        throttle.strike(address(1 << 20), "anna", now);
        assert_eq!(throttle.strikes.len(), SUSPECTS_MOST);
        assert_eq!(throttle.wait(address(0), now), None);
        assert!(throttle.wait(address(1), now).is_some());
    }

    #[test]
    fn who_knows_one_password_cannot_guess_at_others_in_between() {
        let now = Instant::now();
        // Upper case: a wrong password for that name; lower case: the right one.
        for (told, waits) in [
            ("AAAAa", false),
            ("AAAAaAAAA", false),
            ("AAAAAa", false),
            ("AAAAbA", true),
            ("AbAbAbAbA", true),
            ("ABCDABCDabcd", false),
            ("ABCDEFGHabcd", false), // four of them are forgiven
            ("ABCDEFGHIabcdefghi", true),
            ("EFGHI", true),
            ("aaa", false),
        ] {
            let (mut throttle, who) = (Throttle::default(), address(1));
            for name in told.chars() {
                if name.is_uppercase() {
                    throttle.strike(who, &name.to_lowercase().to_string(), now);
                } else {
                    throttle.forgive(who, &name.to_string());
                }
            }
            assert_eq!(throttle.wait(who, now).is_some(), waits, "{told}");
        }
    }

    #[test]
    fn one_network_is_one_suspect() {
        let suspected = |text: &str| suspect(Some(text.parse().expect(text)));
        assert_eq!(suspected("2001:db8:1:2:3::4"), suspected("2001:db8:1:2:ffff::1"));
        assert_ne!(suspected("2001:db8:1:2::1"), suspected("2001:db8:1:3::1"));
        assert_eq!(suspected("::ffff:192.0.2.1"), suspected("192.0.2.1"));
        assert_ne!(suspected("192.0.2.1"), suspect(None));
    }
}
