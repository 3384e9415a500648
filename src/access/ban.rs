//! Bans: addresses and networks that are not let in, each with its reason, and until when.
//!
//! - There are at most [`BANS_MOST`], however they come; asking whether somebody is banned costs a search of as many steps as their
//!   number has bits, and once in a while, after one has expired, a look at each.
//! - Times are of the wall clock, for a ban outlives the process.
//! - As text they are plain data in JSON; fields that are not known are ignored.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::network::{Network, Networks};

/// Bans that there may be.
pub const BANS_MOST: usize = 10_000;
/// The longest reason that is kept, in characters; more is cut.
const REASON_MOST: usize = 200;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub network: Network,
    /// Why, for operators.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
    /// Until when; `None`: for good.
    pub until: Option<SystemTime>,
}

impl Ban {
    /// From now on, for so long; what people write is made one line, and short.
    pub fn new(network: Network, reason: &str, now: SystemTime, lasts: Option<Duration>) -> Self {
        let reason = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_MOST).collect();
        Self { network, reason, since: now, until: lasts.and_then(|lasts| now.checked_add(lasts)) }
    }

    fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// There are as many bans as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {BANS_MOST} bans already: lift some, or ban a network in place of its addresses")]
pub struct TooMany;

/// All bans.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    /// Newest last, each network once.
    all: Vec<Ban>,
    networks: Networks,
}

impl Bans {
    /// Whether an address is banned now.
    pub fn contains(&self, address: IpAddr, now: SystemTime) -> bool {
        // Those that are over may still be in the networks.
        self.networks.contains(address) && self.all.iter().any(|ban| !ban.is_over(now) && ban.network.contains(address))
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that hold now, the newest last.
    pub fn iter(&self, now: SystemTime) -> impl Iterator<Item = &Ban> {
        self.all.iter().filter(move |ban| !ban.is_over(now))
    }

    /// Adds one, in place of any of the same network. What is over is forgotten.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn add(&mut self, ban: Ban, now: SystemTime) -> Result<(), TooMany> {
        let there = |known: &Ban| known.network == ban.network;
        let others = self.iter(now).filter(|known| !there(known)).count();
        if others >= BANS_MOST {
            return Err(TooMany);
        }
        self.all.retain(|known| !there(known) && !known.is_over(now));
        self.all.push(ban);
        self.settle();
        Ok(())
    }

    /// Lifts one; whether there was any of this network.
    pub fn remove(&mut self, network: Network, now: SystemTime) -> bool {
        let held = self.iter(now).any(|ban| ban.network == network);
        self.all.retain(|ban| ban.network != network && !ban.is_over(now));
        self.settle();
        held
    }

    fn settle(&mut self) {
        self.networks = self.all.iter().map(|ban| ban.network).collect();
    }

    /// Those that hold now, as text.
    pub fn write(&self, now: SystemTime) -> String {
        let bans: Vec<_> = self.iter(now).map(Line::of).collect();
        serde_json::to_string_pretty(&Sheet { bans }).unwrap_or_default() // texts and numbers can always be written
    }

    /// What [`Self::write`] has written.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(text: &str, now: SystemTime) -> Result<Self, String> {
        let sheet: Sheet = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if sheet.bans.len() > BANS_MOST {
            return Err(TooMany.to_string());
        }
        let all: Vec<_> = sheet.bans.into_iter().map(Line::ban).collect::<Result<_, _>>()?;
        let mut bans = Self { all: all.into_iter().filter(|ban| !ban.is_over(now)).collect(), networks: Networks::default() };
        bans.settle();
        Ok(bans)
    }
}

#[derive(Serialize, Deserialize)]
struct Sheet {
    bans: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    address: String,
    #[serde(default)]
    reason: String,
    /// Seconds since 1970.
    #[serde(default)]
    since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl Line {
    fn of(ban: &Ban) -> Self {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { address: ban.network.to_string(), reason: ban.reason.clone(), since: seconds(ban.since), until: ban.until.map(seconds) }
    }

    fn ban(self) -> Result<Ban, String> {
        let network: Network = self.address.parse().map_err(|error: crate::units::UnitError| error.problem)?;
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(|| format!("{seconds} is no time"));
        let (since, until) = (at(self.since)?, self.until.map(at).transpose()?);
        Ok(Ban { until, ..Ban::new(network, &self.reason, since, None) })
    }
}

/// Reads a list of addresses and networks as files have it: one to a line, blank lines and what follows a `#` do not count.
///
/// # Errors
/// The line, counted from 1, and what is wrong with it.
pub fn list(text: &str, most: usize) -> Result<Networks, (usize, String)> {
    let mut networks = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if networks.len() == most {
            return Err((i + 1, format!("is one of more than {most}")));
        }
        networks.push(line.parse::<Network>().map_err(|error| (i + 1, error.problem))?);
    }
    Ok(Networks::new(networks))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn ban(network: &str, lasts: Option<u64>) -> Ban {
        Ban::new(network.parse().expect("a network"), "for the test", at(0), lasts.map(Duration::from_secs))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_ban_holds_until_it_is_over_or_lifted() {
        let mut bans = Bans::default();
        for one in [ban("192.0.2.0/24", Some(60)), ban("2001:db8::/32", None), ban("192.0.2.7", None)] {
            bans.add(one, at(0)).expect("there is room");
        }
        for (who, now, want) in [
            ("192.0.2.1", 0, true),
            ("::ffff:192.0.2.1", 59, true),
            ("192.0.2.1", 60, false),
            ("192.0.2.7", 60, true),
            ("2001:db8::9", 1 << 30, true),
            ("198.51.100.1", 0, false),
        ] {
            assert_eq!(bans.contains(address(who), at(now)), want, "{who} {now}");
        }
        assert!(bans.remove("192.0.2.7".parse().expect("a network"), at(0)));
        assert!(!bans.remove("192.0.2.7".parse().expect("a network"), at(0)), "once");
        bans.add(ban("192.0.2.0/24", None), at(0)).expect("there is room");
        assert_eq!(bans.iter(at(0)).count(), 2, "a network is banned once");
        assert!(bans.contains(address("192.0.2.7"), at(60)), "and now for good");
    }

    #[test]
    fn there_are_so_many_and_those_that_are_over_do_not_count() {
        let mut bans = Bans::default();
        for i in 0..BANS_MOST as u32 {
            let network = Network::of(std::net::Ipv4Addr::from(i).into());
            // Each rebuilds the set; made at once it would be no test of the bound.
            bans.all.push(Ban::new(network, "", at(0), Some(Duration::from_secs(10))));
        }
        bans.settle();
        assert_eq!(bans.add(ban("2001:db8::1", None), at(0)), Err(TooMany));
        assert_eq!(bans.add(ban("0.0.0.5", None), at(0)), Ok(()), "it takes the place of another");
        assert_eq!(bans.add(ban("2001:db8::1", None), at(10)), Ok(()));
        assert_eq!(bans.iter(at(10)).count(), 2);
    }

    #[test]
    fn what_is_written_is_read_and_rubbish_is_refused() {
        let mut bans = Bans::default();
        bans.add(ban("192.0.2.0/24", Some(60)), at(0)).expect("there is room");
        bans.add(Ban::new("2001:db8::1".parse().expect("a network"), "line\r\n\"feed\"", at(0), None), at(0)).expect("there is room");
        let text = bans.write(at(0));
        assert!(!text.contains("\\r"), "a reason is one line: {text}");
        let read = Bans::read(&text, at(0)).expect("it was written here");
        assert_eq!(read.iter(at(0)).collect::<Vec<_>>(), bans.iter(at(0)).collect::<Vec<_>>());
        assert_eq!(Bans::read(&text, at(60)).expect("it was written here").iter(at(60)).count(), 1, "what is over is forgotten");
        assert!(Bans::read("{\"bans\":[{\"address\":\"192.0.2.1\",\"colour\":\"red\"}],\"more\":1}", at(0)).is_ok());
        for bad in [
            "",
            "{",
            "[]",
            "{\"bans\":[{\"address\":\"example.org\"}]}",
            "{\"bans\":[{\"address\":\"::1\",\"until\":18446744073709551615}]}",
        ] {
            assert!(Bans::read(bad, at(0)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_has_one_network_to_a_line() {
        let found = list("# banned\n192.0.2.1\n\n 198.51.100.0/24 # a crowd\r\n2001:db8::/32\n", 3).expect("a list");
        assert_eq!(
            found.iter().map(|network| network.to_string()).collect::<Vec<_>>(),
            ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]
        );
        assert_eq!(list("192.0.2.1\nexample.org\n", 3).expect_err("a name").0, 2);
        assert_eq!(list("192.0.2.1\n192.0.2.2\n", 1).expect_err("too many").0, 2);
    }

    proptest! {
        /// Nothing in a file makes reading it panic.
        #[test]
        fn whatever_is_in_a_file_is_read_or_refused(text in "\\PC{0,200}", lines in "[0-9a-f:./# \n]{0,200}") {
            let _ = Bans::read(&text, at(0));
            let _ = list(&lines, 10);
        }
    }
}
