//! How many there are of each: connections of an address, listeners of an address or a user. An entry is there as long as somebody
//! is counted in it, so there are never more entries than connections.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts with a lock each, so that nobody waits long.
const PARTS: usize = 16;

/// Counts by key.
#[derive(Debug)]
pub struct Headcount<K> {
    parts: [Mutex<HashMap<K, u64>>; PARTS],
    hasher: RandomState,
    most: AtomicU64,
}

impl<K: Eq + Hash> Headcount<K> {
    /// `None`: without limit. All are counted in any case, for a limit may come later.
    pub fn new(most: Option<u64>) -> Self {
        let most = AtomicU64::new(most.unwrap_or(u64::MAX));
        Self { parts: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new(), most }
    }

    /// From now on there may be so many of each. Who is counted stays.
    pub fn set_most(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn part(&self, key: &K) -> MutexGuard<'_, HashMap<K, u64>> {
        let part = self.hasher.hash_one(key) as usize % PARTS;
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more, if there may be one.
    pub(super) fn take(&self, key: K) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let mut part = self.part(&key);
        let count = part.get(&key).copied().unwrap_or(0);
        let room = count < most;
        if room {
            part.insert(key, count + 1);
        }
        room
    }

    /// Counts one more, whatever the limit is.
    pub(super) fn keep(&self, key: K) {
        *self.part(&key).entry(key).or_insert(0) += 1;
    }

    /// Counts one less.
    pub(super) fn give_back(&self, key: &K) {
        let mut part = self.part(key);
        match part.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                part.remove(key);
                // A storm of addresses leaves no table behind.
                if part.capacity() > 64 && part.len() * 8 < part.capacity() {
                    let fewer = part.len() * 2;
                    part.shrink_to(fewer);
                }
            }
        }
    }

    /// How many there are of one.
    pub fn of(&self, key: &K) -> u64 {
        self.part(key).get(key).copied().unwrap_or(0)
    }

    /// Of how many different ones there are any.
    pub fn different(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

/// The address by which somebody is counted: a network of IPv6 is one customer.
pub fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// One connection, counted until this is dropped.
#[derive(Debug)]
pub struct Hold {
    among: Arc<Headcount<IpAddr>>,
    customer: IpAddr,
}

impl Hold {
    /// Counts a connection from an address, if there may be another.
    pub fn take(among: &Arc<Headcount<IpAddr>>, address: IpAddr) -> Option<Self> {
        let customer = customer(address);
        among.take(customer).then(|| Self { among: Arc::clone(among), customer })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.among.give_back(&self.customer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_of_an_address_goes_to_exactly_one_and_nothing_is_left_of_who_has_gone() {
        let count = Arc::new(Headcount::new(Some(3)));
        let address: IpAddr = [192, 0, 2, 1].into();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let count = Arc::clone(&count);
                std::thread::spawn(move || (0..100).filter_map(|_| Hold::take(&count, address)).collect::<Vec<_>>())
            })
            .collect();
        let holds: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!((holds.len(), count.of(&address)), (3, 3));
        assert!(Hold::take(&count, [192, 0, 2, 2].into()).is_some(), "another address has its own");
        count.set_most(Some(1));
        assert!(Hold::take(&count, address).is_none());
        drop(holds);
        assert_eq!((count.of(&address), count.different()), (0, 0));
    }

    #[test]
    fn a_storm_of_addresses_leaves_no_table_behind() {
        let count = Arc::new(Headcount::new(None));
        let holds: Vec<_> = (0..100_000_u32).filter_map(|i| Hold::take(&count, std::net::Ipv4Addr::from(i).into())).collect();
        assert_eq!((holds.len(), count.different()), (100_000, 100_000));
        drop(holds);
        let held: usize = count.parts.iter().map(|part| part.lock().expect("no panic").capacity()).sum();
        assert!(count.different() == 0 && held <= 128 * PARTS, "room for {held}");
    }

    #[test]
    fn a_customer_is_a_v4_address_or_a_network_of_v6() {
        for (one, other, same) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let [one, other] = [one, other].map(|text| customer(text.parse().expect(text)));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }
}
