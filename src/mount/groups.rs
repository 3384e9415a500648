//! Groups of addresses: so many listeners from each, whatever they listen to. What a group stands for (a country, a customer, a
//! network) is the operator's business: it is a list.
//!
//! The first group that has an address counts; an address in none of them has no such limit.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::access::network::Networks;
use crate::engine::admission::Places;

/// Groups of one server.
pub const GROUPS_MOST: usize = 256;

/// The checked settings of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its name: a label in the metrics.
    pub name: Arc<str>,
    /// Who is in it.
    pub networks: Arc<Networks>,
    /// The file that says so, as written.
    pub file: Option<std::path::PathBuf>,
    /// Most listeners.
    pub max_listeners: Option<u64>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    networks: Arc<Networks>,
    /// Its listeners' places.
    pub places: Arc<Places>,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups(RwLock<Arc<[Group]>>);

impl Default for Groups {
    fn default() -> Self {
        Self(RwLock::new(Arc::from([])))
    }
}

impl Groups {
    pub(super) fn all(&self) -> Arc<[Group]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these are there. One that was there before keeps its listeners.
    pub(super) fn settle(&self, settings: &[GroupSettings]) {
        let before = self.all();
        let group = |settings: &GroupSettings| {
            let known = before.iter().find(|group| group.name == settings.name).map(|group| Arc::clone(&group.places));
            let places = known.unwrap_or_else(|| Arc::new(Places::new(None)));
            places.set_most(settings.max_listeners);
            Group { name: Arc::clone(&settings.name), networks: Arc::clone(&settings.networks), places }
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings.iter().map(group).collect();
    }

    pub(super) fn of(&self, address: IpAddr) -> Option<Arc<Places>> {
        self.all().iter().find(|group| group.networks.contains(address)).map(|group| Arc::clone(&group.places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ban::list;

    fn settings(name: &str, networks: &str, most: u64) -> GroupSettings {
        let networks = Arc::new(list(networks, 10).expect("a list"));
        GroupSettings { name: name.into(), networks, file: None, max_listeners: Some(most) }
    }

    #[test]
    fn the_first_group_that_has_an_address_counts_and_keeps_its_listeners() {
        let groups = Groups::default();
        groups.settle(&[settings("a", "192.0.2.0/25", 1), settings("b", "192.0.2.0/24\n2001:db8::/32", 2)]);
        let most = |address: &str| groups.of(address.parse().expect(address)).map(|places| places.most());
        let asked = ["192.0.2.1", "192.0.2.200", "2001:db8::1", "198.51.100.1"];
        assert_eq!(asked.map(most), [Some(1), Some(2), Some(2), None]);
        let before = groups.of([192, 0, 2, 1].into()).expect("a group");
        groups.settle(&[settings("a", "198.51.100.0/24", 5)]);
        assert_eq!(asked.map(most), [None, None, None, Some(5)]);
        assert!(Arc::ptr_eq(&before, &groups.all()[0].places));
    }
}
