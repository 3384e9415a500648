//! A pretend source: what it makes, how often, and what else it does that sources do.

use std::time::Duration;

use super::World;
use super::ear::CHUNK_LEAST;
use crate::units::nanos;

/// What a source does besides delivering: each the chance per chunk, 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quirks {
    /// The chunk is empty.
    pub(crate) empty: f64,
    /// The chunk has `huge_size` bytes.
    pub(crate) huge: f64,
    pub(crate) huge_size: u32,
    /// The chunk has no stamp.
    pub(crate) unstamped: f64,
    /// Stamps jump to somewhere else.
    pub(crate) jump: f64,
    /// New streamheaders from here on; sometimes none, sometimes the same bytes again.
    pub(crate) epoch: f64,
    /// Everything so far is void.
    pub(crate) flush: f64,
    /// Nothing for up to so long.
    pub(crate) pause: f64,
    pub(crate) pause_most: Duration,
    /// Several chunks at once, as many as `clump_most`; the next come later accordingly.
    pub(crate) clump: f64,
    pub(crate) clump_most: u32,
    /// The source ends and another takes its place.
    pub(crate) restart: f64,
}

/// A source of one mount.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) mount: usize,
    /// Time between two chunks.
    pub(crate) every: Duration,
    /// Sizes of chunks.
    pub(crate) sizes: (u32, u32),
    /// Chunks from keyframe to keyframe; 1: all are keyframes.
    pub(crate) gop: u64,
    pub(crate) quirks: Quirks,
    /// When the next chunk comes; `u64::MAX`: never.
    pub(crate) next_at: u64,
    header: Option<u32>,
    stamp: u64,
    since_keyframe: u64,
    last_header: u32,
}

impl Source {
    /// A source that delivers chunks of this size this often, with streamheaders.
    pub(crate) fn new(mount: usize, every: Duration, size: u32, gop: u64) -> Self {
        Self {
            mount,
            every,
            sizes: (size, size),
            gop,
            quirks: Quirks::default(),
            next_at: 0,
            header: Some(0),
            stamp: 0,
            since_keyframe: 0,
            last_header: 0,
        }
    }

    /// Nothing more comes, until somebody sets it going again.
    pub(crate) fn silence(&mut self) {
        self.next_at = u64::MAX;
    }

    /// Bytes a second, on average and without quirks.
    pub(crate) fn rate(&self) -> u64 {
        (f64::from(self.sizes.0 + self.sizes.1) / 2.0 / self.every.as_secs_f64()) as u64
    }

    /// Delivers what is due now.
    pub(crate) fn tick(&mut self, world: &mut World) {
        let (q, now) = (self.quirks, world.now());
        let mut chance = |p: f64| p > 0.0 && world.rng.f64() < p;
        let (restart, flush, epoch) = (chance(q.restart), chance(q.flush), chance(q.epoch));
        let (pause, clump) = (chance(q.pause), chance(q.clump));
        if restart {
            world.restart_source(self.mount);
            self.stamp = world.rng.u64(..1 << 40);
        }
        if flush {
            world.flush(self.mount);
        }
        if restart || epoch {
            self.change_header(world);
        }
        if restart || epoch || flush {
            self.since_keyframe = 0;
        }
        let count = if clump { world.rng.u32(1..=q.clump_most) } else { 1 };
        for i in 0..count {
            self.make(world, i == 0 && (restart || epoch));
        }
        self.next_at = now + nanos(self.every) * u64::from(count);
        if pause {
            self.next_at += world.rng.u64(..=nanos(q.pause_most));
        }
    }

    fn change_header(&mut self, world: &mut World) {
        world.new_epoch(self.mount);
        self.header = match world.rng.u8(..10) {
            0 => None,
            1 | 2 => self.header, // other caps, the same bytes
            _ => {
                self.last_header += 1;
                Some(self.last_header)
            }
        };
    }

    fn make(&mut self, world: &mut World, first_of_epoch: bool) {
        let q = self.quirks;
        let mut size = world.rng.u32(self.sizes.0..=self.sizes.1).max(CHUNK_LEAST);
        if world.rng.f64() < q.huge {
            size = q.huge_size;
        }
        if world.rng.f64() < q.empty && !first_of_epoch {
            size = 0;
        }
        if world.rng.f64() < q.jump {
            self.stamp = world.rng.u64(..1 << 50);
        }
        let keyframe = self.since_keyframe.is_multiple_of(self.gop);
        self.since_keyframe += 1;
        let stamp = (world.rng.f64() >= q.unstamped).then_some(self.stamp);
        self.stamp += nanos(self.every);
        world.push(self.mount, size, keyframe, self.header, stamp);
    }
}
