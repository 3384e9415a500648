//! Who comes into a world.

use super::Pull;
use crate::fanout::departure::Departure;
use crate::fanout::placement::Wish;

/// Who a listener is, and what may become of it.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) mount: usize,
    pub(crate) pull: Pull,
    /// Its send buffer, in bytes.
    pub(crate) buffer: u64,
    /// Its connection encrypts, in records of so many bytes; 0: it does not.
    pub(crate) record: u64,
    /// Bytes of a response head before the stream.
    pub(crate) head: usize,
    pub(crate) wish: Option<Wish>,
    /// It wants a block of metadata after so many bytes.
    pub(crate) icy: Option<u32>,
    /// Reasons for which it may leave.
    pub(crate) may_leave: Vec<Departure>,
    /// It takes everything at once, so it is to get each chunk within the window, and none is to be missing.
    pub(crate) fast: bool,
    /// The numbers of what it hears are written down.
    pub(crate) recorded: bool,
}

impl Guest {
    /// Takes everything at once and leaves for no reason of its own.
    pub(crate) fn fast(mount: usize) -> Self {
        Self {
            mount,
            pull: Pull::AtOnce,
            buffer: 64 * 1024,
            record: 0,
            head: 17,
            wish: None,
            icy: None,
            may_leave: Vec::new(),
            fast: true,
            recorded: false,
        }
    }

    /// Takes so many bytes a second; may be thrown out for that.
    pub(crate) fn slow(mount: usize, rate: u64, buffer: u64) -> Self {
        let may_leave = vec![Departure::TooSlow, Departure::Stalled];
        Self { pull: Pull::Rate(rate), buffer, may_leave, fast: false, ..Self::fast(mount) }
    }

    /// Takes what fits into the buffer, and never reads.
    pub(crate) fn stalled(mount: usize, buffer: u64) -> Self {
        Self { pull: Pull::Nothing, ..Self::slow(mount, 0, buffer) }
    }

    pub(crate) fn may(mut self, why: Departure) -> Self {
        self.may_leave.push(why);
        self
    }
}
