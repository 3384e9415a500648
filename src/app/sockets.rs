//! Where connections are accepted, and what becomes of them: at the start, and when the configuration says something else.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::StartError;
use super::privileges::Descent;
use crate::config::Config;
use crate::delivery;
use crate::door::ListenAddress;
use crate::door::bound::{Bound, Purpose};
use crate::door::certificate::{Flaw, Keyring};
use crate::door::inherited::{Inherited, Taken};
use crate::door::patrol::Patrol;
use crate::door::tls::{Port, TlsSettings};
use crate::mount::Registry;
use crate::units::MountPath;

/// What becomes of connections to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use<'a> {
    Http,
    Tls(&'a TlsSettings),
    Raw(&'a MountPath),
    Shoutcast,
}

/// What becomes of connections to an address, and whether they begin with a PROXY header.
type Wanted<'a> = (Use<'a>, bool);

/// Every address of a configuration, and what it is for.
fn uses(config: &Config) -> Vec<(ListenAddress, Wanted<'_>)> {
    let proxied = &config.door.patrol.proxied;
    let mut all: Vec<_> =
        plain_uses(config).into_iter().map(|(address, wanted)| (address.clone(), (wanted, proxied.contains(&address)))).collect();
    let alone = proxied.iter().filter(|address| !all.iter().any(|(known, _)| known == *address)).cloned().collect::<Vec<_>>();
    all.extend(alone.into_iter().map(|address| (address, (Use::Http, true))));
    all
}

/// Every address of a configuration.
pub(super) fn addresses(config: &Config) -> Vec<ListenAddress> {
    uses(config).into_iter().map(|(address, _)| address).collect()
}

/// The same, each with a word for what it is for.
pub(super) fn addresses_with_uses(config: &Config) -> Vec<(ListenAddress, String)> {
    let word = |(wanted, proxied): Wanted<'_>| {
        let word = match wanted {
            Use::Http => "HTTP".to_owned(),
            Use::Tls(_) => "TLS".to_owned(),
            Use::Raw(mount) => format!("raw, {mount}"),
            Use::Shoutcast => "SHOUTcast".to_owned(),
        };
        if proxied { word + ", behind a proxy" } else { word }
    };
    uses(config).into_iter().map(|(address, wanted)| (address, word(wanted))).collect()
}

fn plain_uses(config: &Config) -> Vec<(ListenAddress, Use<'_>)> {
    let http = config.door.listen.iter().map(|address| (address.clone(), Use::Http));
    let tls = config.door.tls.iter().flat_map(|section| section.listen.iter().map(move |address| (*address, Use::Tls(section))));
    let raw = config.mounts.iter().flat_map(|mount| mount.tcp.iter().map(|address| (*address, Use::Raw(&mount.path))));
    let shoutcast = config.shoutcast.iter().map(|address| (*address, Use::Shoutcast));
    http.chain(tls.chain(raw).chain(shoutcast).map(|(address, purpose)| (ListenAddress::Inet(address), purpose))).collect()
}

/// What sockets are made of.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    registry: &'a Arc<Registry>,
    patrol: &'a Arc<Patrol>,
    keyring: &'a Keyring,
    /// One for each section, whose sockets share what resumes a session.
    ports: Vec<(&'a TlsSettings, Arc<Port>)>,
    /// Sockets that another process has bound, by their addresses, and whether a service manager keeps them.
    inherited: Vec<(String, OwnedFd, bool)>,
    /// How the first sockets come about: some are there already, and others take root.
    start: Option<(&'a Descent<'a>, &'a mut Inherited)>,
}

/// What is to be done to the sockets of a running server.
#[derive(Default)]
pub(super) struct Moves {
    /// New ones.
    pub(super) open: Vec<Bound>,
    /// Those whose connections become something else.
    pub(super) repurpose: Vec<(ListenAddress, Purpose, bool)>,
    /// Those that are no more.
    pub(super) close: Vec<ListenAddress>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(registry: &'a Arc<Registry>, patrol: &'a Arc<Patrol>, keyring: &'a Keyring) -> Self {
        Self { registry, patrol, keyring, ports: Vec::new(), inherited: Vec::new(), start: None }
    }

    /// The same, with sockets that another process has bound: they are taken where their addresses are wanted.
    pub(super) fn inheriting(self, inherited: Vec<(String, OwnedFd, bool)>) -> Self {
        Self { inherited, ..self }
    }

    fn inherited(&mut self, address: &ListenAddress) -> Option<(OwnedFd, bool)> {
        let name = address.to_string();
        let place = self.inherited.iter().position(|(known, ..)| *known == name)?;
        let (_, socket, held) = self.inherited.swap_remove(place);
        Some((socket, held))
    }

    /// At the start of the server sockets that were handed over are taken, and others are bound as root where we are that.
    pub(super) fn binding(mut self, descent: &'a Descent<'a>, inherited: &'a mut Inherited) -> Self {
        self.start = Some((descent, inherited));
        self
    }

    fn bind(&mut self, address: &ListenAddress, all: &[ListenAddress], purpose: Purpose) -> io::Result<Bound> {
        match &mut self.start {
            None => Bound::new(address, all, purpose),
            Some((descent, inherited)) => match (inherited.take(address), address) {
                (Some(Taken { socket, ours }), _) => {
                    let mut bound = Bound::adopt(address, socket, purpose)?.held(!ours);
                    if ours {
                        bound.inherit(); // whoever bound it is gone
                    }
                    Ok(bound)
                }
                // It is the user who must be able to remove it again.
                (None, ListenAddress::Unix(_)) => Bound::new(address, all, purpose),
                (None, ListenAddress::Inet(_)) => descent.as_root(|| Bound::new(address, all, purpose)),
            },
        }
    }

    fn purpose(&mut self, wanted: Use<'a>) -> Result<Purpose, Flaw> {
        Ok(match wanted {
            Use::Http => Purpose::Http,
            Use::Shoutcast => Purpose::Shoutcast,
            Use::Raw(path) => Purpose::Raw(delivery::raw::take(self.registry, self.patrol, path)),
            Use::Tls(section) => {
                if let Some((_, port)) = self.ports.iter().find(|(known, _)| *known == section) {
                    return Ok(Purpose::Https(Arc::clone(port)));
                }
                let port = Port::open(section, self.keyring)?;
                self.ports.push((section, Arc::clone(&port)));
                Purpose::Https(port)
            }
        })
    }

    /// Makes and binds what `new` has and `old` has not; with no `old`, all of it.
    ///
    /// # Errors
    /// When an address cannot be had, or a certificate cannot be used. Then nothing has changed.
    pub(super) fn moves(&mut self, old: Option<&Config>, new: &'a Config) -> Result<Moves, StartError> {
        let (after, mut moves) = (uses(new), Moves::default());
        let before: HashMap<_, _> = old.map(uses).unwrap_or_default().into_iter().collect();
        let all: Vec<_> = after.iter().map(|(address, _)| address.clone()).collect();
        for (address, wanted) in &after {
            let (purpose, proxied) = *wanted;
            match before.get(address) {
                Some(present) if present == wanted => {}
                Some(_) => moves.repurpose.push((address.clone(), self.purpose(purpose)?, proxied)),
                None => {
                    if let Some((fd, held)) = self.inherited(address) {
                        moves.open.push(Bound::handed_over(fd, address, self.purpose(purpose)?).held(held).proxied(proxied));
                        continue;
                    }
                    let purpose = self.purpose(purpose)?;
                    let bound = self.bind(address, &all, purpose).map(|bound| bound.proxied(proxied));
                    moves.open.push(bound.map_err(|cause| StartError::Listen { address: address.to_string(), cause })?);
                }
            }
        }
        moves.close = before.into_keys().filter(|address| !all.contains(address)).collect();
        moves.close.sort_by_key(ToString::to_string);
        Ok(moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Source, load};
    use crate::engine::crew::{Clock, Crew};

    fn config(text: &str) -> Config {
        let path = std::env::temp_dir().join(format!("flumen-sockets-{}.toml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        load(&Source::File(path), &Environment::from([("PATH", "")]), &|_| Ok(())).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn what_is_as_it_was_is_left_alone_and_an_address_may_become_something_else() {
        let crew = Crew::start(1, Clock::default()).expect("a shard");
        let (registry, keyring) = (Arc::new(Registry::new(Arc::clone(&crew), 10)), Keyring::default());
        let patrol = Patrol::new(&crate::door::patrol::Settings::default());
        let old = config(
            "[server]\nlisten = [\"127.0.0.1:39001\", \"127.0.0.1:39002\"]\n[push]\nshoutcast = [\"127.0.0.1:39003\"]\n\
             [[mount]]\npath = \"/a\"\ntcp = [\"127.0.0.1:39004\"]\n",
        );
        // One stays, one becomes raw, one raw port is another mount's, one is given up, none is new.
        let new = config(
            "[server]\nlisten = [\"127.0.0.1:39001\"]\n[push]\nshoutcast = []\n[[mount]]\npath = \"/a\"\ntcp = [\"127.0.0.1:39002\"]\n\
             [[mount]]\npath = \"/b\"\ntcp = [\"127.0.0.1:39004\"]\n",
        );
        let moves = Maker::new(&registry, &patrol, &keyring).moves(Some(&old), &new).expect("nothing is bound");
        let shown = |addresses: Vec<String>| addresses.join(" ");
        assert!(moves.open.is_empty());
        assert_eq!(shown(moves.repurpose.iter().map(|(address, ..)| address.to_string()).collect()), "127.0.0.1:39002 127.0.0.1:39004");
        assert_eq!(shown(moves.close.iter().map(ToString::to_string).collect()), "127.0.0.1:39003");
        let none = Maker::new(&registry, &patrol, &keyring).moves(Some(&new), &new).expect("nothing is bound");
        assert!(none.open.is_empty() && none.repurpose.is_empty() && none.close.is_empty());
        crew.stop();
    }
}
