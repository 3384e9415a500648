//! All mounts as plain data, for the process that goes on with them, and back.
//!
//! - What is in the configuration is read there anew and does not go this way. A mount that the new one does not have, and that
//!   somebody listens to, is a reason not to begin: an upgrade is no reload. One that a publisher had made is made there again, and
//!   one that was opened for what another server has is opened by whoever knows of that.
//! - Sources stand still while this is packed, those that can ([`Still`]). Of a relay in frames its bookmark goes this way, of an
//!   encoder its connection and what has come of it: they go on with the very next byte. Others do not go this way. The ring bridges
//!   the time until they deliver again; to its readers they are new sources.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use super::super::absence::RESUMED_GRACE;
use super::super::actor::{Resume, Settled};
use super::super::fallback::Refuge;
use super::super::handle::{Handle, Said};
use super::super::standstill::Luggage;
use super::{Entry, Profile, Registry};
use crate::engine::admission::{Seat, Who};
use crate::engine::broadcast::Broadcast;
use crate::engine::frost::Frost;
use crate::engine::inbox::{Command, Reply};
use crate::engine::listener::{Arrival, Carried, Inlay, peer_at};
use crate::engine::socket::Socket;
use crate::engine::trail::Trail;
use crate::fanout::departure::{Departure, Refusal};
use crate::fanout::passing::{Packing, Unpacked, unpack_block};
use crate::fanout::placement::Wish;
use crate::fanout::stats::{add, read};
use crate::fanout::streamheader::Headers;
use crate::handover::{self, Outgoing, Payloads, Rubbish, Words};
use crate::units::{Moment, MountPath, Seq};

/// What is on its way out.
#[derive(Debug, Default)]
pub struct Packed<'a> {
    /// All but the payloads.
    pub house: handover::House,
    /// The listeners' sockets, and before them whatever was there.
    pub sockets: Vec<BorrowedFd<'a>>,
    /// The numbers of the mounts that are in there.
    pub slots: Vec<usize>,
    /// Listeners that cannot be passed on.
    pub left: usize,
}

/// What has come, checked and not yet begun.
#[derive(Debug, Default)]
pub struct Arrived {
    mounts: Vec<(Arc<Broadcast>, Vec<Carried<Socket>>)>,
    /// Encoders that push. Their mounts are theirs already.
    pub encoders: Vec<Pushing>,
}

/// An encoder that has come, and what it has sent that is in no history yet.
#[derive(Debug)]
pub struct Pushing {
    /// Its mount.
    pub entry: Entry,
    /// What was said of it.
    pub packed: handover::Encoder,
    /// Its connection.
    pub socket: OwnedFd,
    /// What of its stream waits for its rest.
    pub held: Box<[u8]>,
    /// The streamheaders that its next chunk needs.
    pub headers: Option<Arc<Headers>>,
}

/// Sources stand still, as far as they can. Dropped, they go on as if nothing had been.
#[derive(Debug)]
pub struct Still {
    halted: Vec<Arc<Handle>>,
    mounts: Vec<Stood>,
    gone: bool,
}

/// A mount all of whose sources that can stand still do.
#[derive(Debug)]
struct Stood {
    handle: Arc<Handle>,
    left: Vec<Luggage>,
    time: handover::StreamTime,
}

impl Still {
    fn of(&self, handle: &Handle) -> Option<&Stood> {
        self.mounts.iter().find(|stood| stood.handle.is_same(handle))
    }

    /// Encoders that another process can go on with.
    pub fn encoders(&self) -> usize {
        self.mounts.iter().map(|stood| stood.left.len()).sum()
    }

    /// Another process goes on with whatever was packed.
    pub fn gone(mut self) {
        self.gone = true;
        self.release(true);
    }

    fn release(&self, gone: bool) {
        self.halted.iter().for_each(|handle| handle.standstill.release(gone));
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        if !self.gone {
            self.release(false);
        }
    }
}

fn words<const N: usize>(counters: &super::Refusals, all: [Refusal; N]) -> Words {
    all.into_iter().map(|why| (why.label().to_owned(), read(&counters[why.index()]))).collect()
}

fn absorb(counters: &super::Refusals, words: &Words) {
    for why in Refusal::ALL {
        add(&counters[why.index()], words.get(why.label()).copied().unwrap_or(0));
    }
}

impl Registry {
    /// Lets all sources stand still that can, for at most so long in all. Blocks. Those that do not in time are not passed on.
    pub fn halt(&self, most: Duration) -> Still {
        let until = Instant::now() + most;
        let all = self.all();
        let mut still = Still { halted: all.iter().map(|entry| Arc::clone(&entry.handle)).collect(), mounts: Vec::new(), gone: false };
        all.iter().for_each(|entry| entry.handle.standstill.halt());
        for entry in all {
            // What they have delivered is to be in the history.
            let Some(left) = entry.handle.standstill.collect(until) else { continue };
            let (reply, time) = mpsc::channel();
            entry.actor.do_send(Settled(reply));
            match time.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(time) => still.mounts.push(Stood { handle: entry.handle, left, time }),
                Err(_) => tracing::warn!(mount = %entry.handle.settings.path, "the mount does not answer: its source is not passed on"),
            }
        }
        still
    }

    /// Packs every mount, and those of its listeners that can be passed on.
    ///
    /// # Errors
    /// When a payload cannot be written.
    pub fn pack<'a, W: Write>(
        &self,
        (frost, still): (&'a Frost<Socket>, &'a Still),
        payloads: &mut Outgoing<W>,
        packed: &mut Packed<'a>,
    ) -> io::Result<()> {
        let house = &mut packed.house;
        house.last_listener = self.last_listener.load(Ordering::Relaxed);
        house.peak = self.places.peak();
        house.refusals = words(&self.unknown, Refusal::ALL);
        house.sessions = {
            let departed = self.departed();
            let sum = crate::fanout::stats::Histogram::new(&crate::fanout::stats::SESSION_BOUNDS);
            departed.closing.iter().for_each(|counters| sum.absorb(&counters.session));
            sum.absorb(&departed.sessions);
            sum.pack()
        };
        house.shards = self.crew.hands().iter().map(|hand| hand.counters.pack()).collect();
        for entry in self.all() {
            let (mount, left) = entry.pack((frost, still), payloads, &mut packed.sockets)?;
            packed.house.mounts.push(mount);
            packed.slots.push(entry.handle.broadcast.slot);
            packed.left += left;
        }
        Ok(())
    }

    /// Takes over what was packed: the mounts that are here go on from where they were, and their listeners are made ready. Nobody
    /// is sent anything before [`Self::begin`]. What is neither here nor made by publishers, `reopen` may open.
    ///
    /// # Errors
    /// When it makes no sense, or somebody listens to a mount that is not here.
    pub fn unpack(
        self: &Arc<Self>,
        house: &handover::House,
        payloads: &(impl Payloads + ?Sized),
        sockets: &mut [Option<OwnedFd>],
        mut reopen: impl FnMut(&handover::Mount) -> Option<Entry>,
    ) -> Result<Arrived, Rubbish> {
        self.last_listener.fetch_max(house.last_listener, Ordering::Relaxed);
        absorb(&self.unknown, &house.refusals);
        self.departed().sessions.absorb_packed(&house.sessions);
        let hands = self.crew.hands();
        for (shard, packed) in house.shards.iter().enumerate() {
            hands[shard % hands.len()].counters.absorb(packed);
        }
        let mut arrived = Arrived::default();
        for mount in &house.mounts {
            let Some(entry) = self.find(&mount.path).or_else(|| self.remade(mount)).or_else(|| reopen(mount)) else {
                if mount.listeners.is_empty() {
                    continue;
                }
                return Err(Rubbish::new(format!(
                    "{} listen to {}, which the configuration does not have",
                    mount.listeners.len(),
                    mount.path
                )));
            };
            let entry = self.with_fallback(entry, mount);
            let listeners = self.unpack_mount(&entry, mount, payloads, (sockets, &mut arrived.encoders))?;
            arrived.mounts.push((Arc::clone(&entry.handle.broadcast), listeners));
        }
        self.places.note_peak(house.peak);
        Ok(arrived)
    }

    /// A mount that a publisher had made, if one may still be made there.
    fn remade(self: &Arc<Self>, mount: &handover::Mount) -> Option<Entry> {
        let path = mount.path.parse().ok().filter(|_| mount.made)?;
        self.find_or_make(&path).ok()
    }

    /// The mount, with the fallback that an operator has given it, if it still leads anywhere but back.
    fn with_fallback(&self, entry: Entry, mount: &handover::Mount) -> Entry {
        let Some(to) = mount.fallback.as_deref().and_then(|path| path.parse::<MountPath>().ok()) else { return entry };
        let mut settings = entry.handle.settings.clone();
        if self.chain(&to).contains(&settings.path) {
            tracing::warn!(mount = %settings.path, fallback = %to, "the fallback that was ordered leads back to the mount, and is left out");
            return entry;
        }
        (settings.fallback.to, settings.fallback.ordered) = (Some(Refuge::Mount(to)), true);
        self.settle(settings);
        self.find(&mount.path).unwrap_or(entry)
    }

    fn unpack_mount(
        &self,
        entry: &Entry,
        mount: &handover::Mount,
        payloads: &(impl Payloads + ?Sized),
        (sockets, encoders): (&mut [Option<OwnedFd>], &mut Vec<Pushing>),
    ) -> Result<Vec<Carried<Socket>>, Rubbish> {
        let handle = &entry.handle;
        if let Some(instance) = mount.instance {
            handle.broadcast.resume(instance);
        }
        let unpacked = Unpacked::new(mount, payloads, &handle.broadcast.account)?;
        let mut listeners = Vec::with_capacity(mount.listeners.len());
        for packed in &mount.listeners {
            let socket = sockets.get_mut(packed.fd as usize).and_then(Option::take);
            let socket = socket.ok_or_else(|| Rubbish::new(format!("a listener without a socket: number {}", packed.fd)))?;
            let socket = Socket::new(socket).map_err(|error| Rubbish::new(error.to_string()))?;
            let address = packed.peer.as_deref().and_then(|peer| peer.parse::<std::net::SocketAddr>().ok()).map(|address| address.ip());
            let group = address.and_then(|address| self.group_of(address));
            let pass = packed.pass.as_ref().map(|pass| Arc::new(self.witnesses.bouncer.unpack(pass)));
            let user = pass.as_ref().and_then(|pass| pass.counted());
            let seat = Seat::keep(&self.places, &handle.places, group.as_ref(), Who { address, user, ..Who::default() });
            listeners.push(Carried::unpack(packed, socket, (seat, pass), handle.broadcast.instance(), &unpacked, payloads)?);
        }
        let title = unpack_block(&mount.playing.block, payloads)?;
        let handover::Playing { artist, title: line, url, .. } = &mount.playing;
        handle.set_metadata(super::super::Metadata::new(artist.as_deref(), line.as_deref(), url.as_deref()));
        handle.broadcast.title.resume(title);
        let handover::Said { name, description, genre, url, through } = mount.said.clone();
        handle.set_said(Said { profile: Profile { name, description, genre, url, ..Profile::default() }, through });
        handle.places.note_peak(mount.peak);
        handle.broadcast.counters.absorb(&mount.counters);
        handle.source.absorb(&mount.counters);
        absorb(&entry.refusals, &mount.counters.refusals);
        let now = self.crew.clock().now();
        handle.give_grace(RESUMED_GRACE);
        if let Some(time) = unpacked.ring.newest_time() {
            entry.actor.do_send(Resume { time, clock: mount.time.clone() });
        }
        handle.stopped.store(mount.stopped, Ordering::Relaxed);
        mount.bookmark.iter().for_each(|bookmark| handle.bookmark.resume(bookmark));
        let mut pushed = false;
        for packed in &mount.encoders {
            let socket = sockets.get_mut(packed.fd as usize).and_then(Option::take);
            let socket = socket.ok_or_else(|| Rubbish::new(format!("an encoder without a socket: number {}", packed.fd)))?;
            let headers = packed.stream.outlet.as_ref().and_then(|outlet| outlet.headers);
            let headers = headers.map(|set| unpacked.headers(set).map(Arc::clone)).transpose()?;
            let held = payloads.take(packed.stream.held)?;
            pushed |= packed.stream.outlet.is_some();
            encoders.push(Pushing { entry: entry.clone(), packed: packed.clone(), socket, held, headers });
        }
        handle.broadcast.feed.write(|ring| {
            *ring = unpacked.ring;
            ring.read_upto(Seq::LAST);
        });
        // The process before may have been allowed more: what comes has room beside it, and makes the history as short as it is to be.
        handle.bounds.allow_for(handle.broadcast.account.held_bytes(), &handle.settings);
        let content_type = mount.content_type.as_deref().map(Arc::from);
        handle.change(|status| {
            let since = mount.since.map(Moment::from_nanos);
            status.up = mount.up && pushed;
            status.up_since = since.filter(|_| status.up).and_then(|since| SystemTime::now().checked_sub(now.since(since)));
            // Of others it is as if the source had gone a moment ago, or when it has.
            status.since = if mount.up && !pushed { Some(now) } else { since };
            status.content_type = handle.settings.content_type.clone().or(content_type);
        });
        Ok(listeners)
    }

    /// The listeners that have arrived go on. Answers when all have been offered what there is for them; the number of those who
    /// stayed.
    ///
    /// # Errors
    /// When a shard is dead.
    pub fn begin(&self, arrived: Arrived) -> Result<usize, Rubbish> {
        let hands = self.crew.hands();
        let (reply, replies) = std::sync::mpsc::channel();
        let mut asked = 0;
        for (broadcast, listeners) in arrived.mounts {
            let mut parts: Vec<Vec<_>> = hands.iter().map(|_| Vec::new()).collect();
            for (i, listener) in listeners.into_iter().enumerate() {
                parts[i % hands.len()].push(listener);
            }
            for (hand, listeners) in hands.iter().zip(parts) {
                if listeners.is_empty() {
                    continue;
                }
                let (broadcast, reply) = (Arc::clone(&broadcast), reply.clone());
                let reply = Reply::new(move |count| {
                    let _ = reply.send(count); // who waited has given up
                });
                if !hand.inbox.tell(Command::Resume { broadcast, listeners, reply }) {
                    return Err(Rubbish::new("a sending thread takes no orders"));
                }
                asked += 1;
            }
        }
        drop(reply);
        Ok(replies.iter().take(asked).sum())
    }
}

impl Registry {
    /// Takes in somebody who came to the old process when everybody had gone.
    ///
    /// # Errors
    /// When it makes no sense, or there is no place: then the connection is closed.
    pub fn take_late(&self, packed: &handover::Arrival, socket: OwnedFd) -> Result<(), Rubbish> {
        let no_room = || Rubbish::new(format!("no place on {} for somebody who comes late", packed.mount));
        let entry = self.find(&packed.mount).ok_or_else(no_room)?;
        let wish = match &packed.wish {
            None => None,
            Some(wish) => Some(Box::new(unpack_wish(wish)?)),
        };
        let peer = peer_at(packed.peer.as_deref())?;
        let wire = Socket::new(socket).map_err(|error| Rubbish::new(error.to_string()))?;
        let pass = packed.pass.as_ref().map(|pass| Arc::new(self.witnesses.bouncer.unpack(pass)));
        let address = packed.peer.as_deref().and_then(|peer| peer.parse::<std::net::SocketAddr>().ok()).map(|address| address.ip());
        let user = pass.as_ref().and_then(|pass| pass.counted());
        let who = Who { address, user, rate: entry.handle.bytes_per_second(), now: self.crew.clock().now() };
        let group = address.and_then(|address| self.group_of(address));
        let seat = Seat::claim(&self.places, &entry.handle.places, group.as_ref(), who).ok();
        let Some((permit, seat)) = self.crew.reserve().zip(seat) else {
            self.refuse(Some(&entry), Refusal::Full);
            return Err(no_room());
        };
        pass.iter().for_each(|pass| pass.take_over());
        permit.send(Command::Join(Box::new(Arrival {
            wire,
            broadcast: Arc::clone(&entry.handle.broadcast),
            head: packed.head.as_slice().into(),
            wish,
            placed: None,
            inlay: if packed.frames { Some(Inlay::Frames) } else { packed.icy.map(Inlay::Titles) },
            id: self.next_listener(),
            peer,
            user_agent: packed.user_agent.as_str().into(),
            pass,
            trail: Trail::unpack(&packed.trail)?,
            intro: None,
            accepted: Moment::from_nanos(packed.accepted),
            seat,
        })));
        Ok(())
    }
}

fn unpack_wish(wish: &handover::Wish) -> Result<Wish, Rubbish> {
    let wrong = |error: crate::units::UnitError| Rubbish::new(error.to_string());
    Ok(Wish {
        method: wish.method.parse().map_err(wrong)?,
        burst: wish.burst.parse().map_err(wrong)?,
        burst_max: wish.burst_max.parse().map_err(wrong)?,
    })
}

impl Entry {
    fn pack<'a, W: Write>(
        &self,
        (frost, still): (&'a Frost<Socket>, &'a Still),
        payloads: &mut Outgoing<W>,
        sockets: &mut Vec<BorrowedFd<'a>>,
    ) -> io::Result<(handover::Mount, usize)> {
        let handle = &self.handle;
        let broadcast = &handle.broadcast;
        let mut packing = Packing::new(&frost.history(broadcast), payloads)?;
        let left = frost.pack(broadcast, &mut packing, sockets)?;
        if let Some(stood) = still.of(handle) {
            packing.mount.bookmark = handle.bookmark.pack();
            packing.mount.time = Some(stood.time.clone());
            for luggage in &stood.left {
                let mut encoder = luggage.encoder.clone();
                encoder.fd = sockets.len() as u32;
                sockets.push(luggage.socket.as_fd());
                encoder.stream.held = packing.bytes(&luggage.held)?;
                if let (Some(outlet), Some(headers)) = (&mut encoder.stream.outlet, &luggage.headers) {
                    outlet.headers = Some(packing.headers(headers)?);
                }
                packing.mount.encoders.push(encoder);
            }
        }
        let block = broadcast.title.block();
        let bytes = packing.bytes(&block.bytes)?;
        let mut mount = packing.mount;
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let (status, playing, said) = (handle.status(), handle.metadata(), handle.said());
        mount.path = handle.settings.path.to_string();
        mount.made = self.is_made();
        let relay = Some(&handle.settings.relay).filter(|relay| relay.mirrored); // others may have a password in their address
        mount.mirrored_from = relay.and_then(|relay| relay.upstreams.first()).map(|from| from.to_string());
        let ordered = handle.settings.fallback.mount().filter(|_| handle.settings.fallback.ordered);
        mount.fallback = ordered.map(ToString::to_string);
        mount.instance = Some(broadcast.instance());
        mount.content_type = status.content_type.as_deref().map(str::to_owned);
        mount.stopped = handle.stopped.load(Ordering::Relaxed);
        (mount.up, mount.since, mount.peak) = (status.up, status.since.map(Moment::nanos), handle.places.peak());
        mount.playing = handover::Playing {
            artist: text(&playing.artist),
            title: text(&playing.title),
            url: text(&playing.url),
            block: handover::Block { number: block.number, bytes },
        };
        let Profile { name, description, genre, url, .. } = said.profile;
        mount.said = handover::Said { name, description, genre, url, through: said.through };
        broadcast.counters.pack(&mut mount.counters);
        handle.source.pack(&mut mount.counters);
        mount.counters.refusals = words(&self.refusals, Refusal::ALL);
        // Who cannot be passed on leaves, and nobody will ask this process about it.
        *mount.counters.departures.entry(Departure::ShuttingDown.label().to_owned()).or_default() += left as u64;
        Ok((mount, left))
    }
}
