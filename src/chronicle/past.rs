//! What must be remembered to tell a stumble from a habit: of each mount and each shard a few numbers, for ten minutes.

use std::collections::{HashMap, VecDeque};

use super::scene::{Filler, MountScene, Scene};

/// How far back it is looked, in seconds.
pub(super) const MEMORY: f64 = 600.0;
/// How often sums are noted, in seconds.
const NOTE_EVERY: f64 = 30.0;
/// Falls of one source that are remembered; more say no more.
const FALLS_MOST: usize = 32;

/// Sums that only grow, of one mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Listeners lost because they were too slow.
    pub lost: u64,
    /// Who was turned away because there was no place.
    pub full: u64,
    /// Chunks of the source that were turned away.
    pub refused_chunks: u64,
}

impl Sums {
    fn of(mount: &MountScene) -> Self {
        let full = mount.refusals[crate::fanout::departure::Refusal::Full.index()];
        Self { lost: mount.lost(), full, refused_chunks: mount.refused_chunks }
    }

    fn since(self, before: Self) -> Self {
        Self {
            lost: self.lost.saturating_sub(before.lost),
            full: self.full.saturating_sub(before.full),
            refused_chunks: self.refused_chunks.saturating_sub(before.refused_chunks),
        }
    }
}

/// Sums of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerSums {
    /// Lines that logs have lost.
    pub log_dropped: (u64, u64),
    /// Events that webhooks did not take.
    pub webhooks_lost: u64,
    /// Renewals of certificates that failed.
    pub renewals_failed: u64,
    /// Renewals of certificates that went well.
    pub renewed: u64,
}

impl ServerSums {
    fn of(scene: &Scene) -> Self {
        Self {
            log_dropped: scene.log_dropped,
            webhooks_lost: scene.webhooks_lost,
            renewals_failed: scene.renewals.1,
            renewed: scene.renewals.0,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct MountPast {
    /// When its source fell, in seconds since 1970.
    falls: VecDeque<f64>,
    sums: VecDeque<(f64, Sums)>,
}

/// The last ten minutes.
#[derive(Clone, Debug, Default)]
pub struct Past {
    mounts: HashMap<String, MountPast>,
    server: VecDeque<(f64, ServerSums)>,
    /// For each shard, the looks in a row at which it was overloaded.
    busy: Vec<u32>,
    before: Option<Scene>,
}

/// From this share of its time on a shard that works is overloaded.
pub(super) const OVERLOADED: f64 = 0.85;

impl Past {
    /// Takes note of a look, and forgets what is too old. Looks at a mount that is no more are forgotten at once.
    pub fn note(&mut self, scene: &Scene) {
        let oldest = scene.at - MEMORY;
        // A clock that was set back would keep the future for ever.
        let fresh = |at: f64| at >= oldest && at <= scene.at + 1.0;
        self.mounts.retain(|path, _| scene.mount(path).is_some());
        for mount in &scene.mounts {
            let past = self.mounts.entry(mount.path.clone()).or_default();
            let before = self.before.as_ref().and_then(|before| before.mount(&mount.path));
            let falls = before.map_or(0, |before| falls(before, mount));
            past.falls.extend(std::iter::repeat_n(scene.at, falls.min(FALLS_MOST)));
            past.falls.retain(|at| fresh(*at));
            while past.falls.len() > FALLS_MOST {
                past.falls.pop_front();
            }
            note(&mut past.sums, scene.at, Sums::of(mount), fresh);
        }
        note(&mut self.server, scene.at, ServerSums::of(scene), fresh);
        self.busy.resize(scene.shards.len(), 0);
        for (looks, shard) in self.busy.iter_mut().zip(&scene.shards) {
            *looks = if shard.busy >= OVERLOADED { looks.saturating_add(1) } else { 0 };
        }
        self.before = Some(scene.clone());
    }

    /// The look before.
    pub fn before(&self) -> Option<&Scene> {
        self.before.as_ref()
    }

    /// For how long a mount has been known, in seconds; ten minutes are as good as for ever.
    pub fn known(&self, mount: &MountScene, now: f64) -> f64 {
        self.mounts.get(&mount.path).and_then(|past| past.sums.front()).map_or(0.0, |(at, _)| now - at)
    }

    /// How often the source of a mount fell within the last ten minutes.
    pub fn falls(&self, path: &str) -> usize {
        self.mounts.get(path).map_or(0, |past| past.falls.len())
    }

    /// What was added within the last ten minutes.
    pub fn added(&self, mount: &MountScene) -> Sums {
        let before = self.mounts.get(&mount.path).and_then(|past| past.sums.front());
        before.map_or_else(Sums::default, |(_, before)| Sums::of(mount).since(*before))
    }

    /// What the server's sums were ten minutes ago, or when it started.
    pub fn server(&self) -> ServerSums {
        self.server.front().map(|(_, sums)| *sums).unwrap_or_default()
    }

    /// Looks in a row at which a shard was overloaded.
    pub fn busy(&self, shard: usize) -> u32 {
        self.busy.get(shard).copied().unwrap_or(0)
    }
}

/// How often the source fell between two looks. One that is pulled on demand may go when nobody listens, one that an operator
/// stopped has not fallen, and one that never stood cannot fall.
fn falls(before: &MountScene, after: &MountScene) -> usize {
    let went = before.up && !after.up && !after.was_killed() && (after.filler != Filler::OnDemand || after.fault.is_some());
    let delivered = after.received_bytes > before.received_bytes;
    let restarts = if delivered { after.restarts.saturating_sub(before.restarts) } else { 0 };
    usize::from(went).max(usize::try_from(restarts).unwrap_or(usize::MAX))
}

fn note<T>(kept: &mut VecDeque<(f64, T)>, at: f64, value: T, fresh: impl Fn(f64) -> bool) {
    kept.retain(|(at, _)| fresh(*at));
    if kept.back().is_none_or(|(last, _)| at - last >= NOTE_EVERY) {
        kept.push_back((at, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(at: f64, mount: MountScene) -> Scene {
        Scene { at, mounts: vec![MountScene { path: "/a".into(), ..mount }], ..Scene::default() }
    }

    #[test]
    fn falls_are_remembered_for_ten_minutes_and_are_only_those_nobody_wanted() {
        let mut past = Past::default();
        let up = MountScene { up: true, ..MountScene::default() };
        let (ended, on_demand) = (MountScene::default(), MountScene { filler: Filler::OnDemand, ..MountScene::default() });
        let killed = MountScene { fault: Some(crate::mount::actor::KILLED.into()), ..MountScene::default() };
        for (at, mount, want) in [
            (0.0, up.clone(), 0),
            (1.0, ended, 1),
            (2.0, up.clone(), 1),
            (3.0, on_demand, 1),
            (4.0, up.clone(), 1),
            (5.0, killed, 1),
            (6.0, MountScene { restarts: 3, received_bytes: 1, ..up.clone() }, 4),
            (7.0, MountScene { restarts: 9, received_bytes: 1, ..up.clone() }, 4), // attempts that came to nothing
            (602.0, MountScene { restarts: 9, received_bytes: 1, ..up.clone() }, 3),
            (700.0, MountScene { restarts: 1_000_009, received_bytes: 2, ..up.clone() }, FALLS_MOST),
            (10.0, MountScene { restarts: 1_000_009, received_bytes: 2, ..up }, 0),
        ] {
            past.note(&scene(at, mount));
            assert_eq!(past.falls("/a"), want, "{at}");
        }
        past.note(&Scene { at: 11.0, ..Scene::default() });
        assert!(past.mounts.is_empty(), "a mount that is no more is forgotten");
    }

    #[test]
    fn sums_are_those_of_ten_minutes_and_take_a_bounded_room() {
        let mut past = Past::default();
        for second in 0..2000_u32 {
            let mount = MountScene { refused_chunks: second.into(), ..MountScene::default() };
            past.note(&scene(second.into(), mount));
        }
        let now = MountScene { path: "/a".into(), refused_chunks: 1999, ..MountScene::default() };
        let added = past.added(&now).refused_chunks;
        assert!((570..=600).contains(&added), "{added}");
        assert!(past.mounts["/a"].sums.len() <= 21);
    }
}
