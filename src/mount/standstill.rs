//! Sources that stand still while another process is given everything: what they have, and what the history has, then fits together to
//! the byte.
//!
//! ```text
//!   halt ─▶ each source stands between two reads, and leaves what is needed to go on with it ─▶ collect ─▶ release
//!                                                                          it goes on here ◀── Moving ──┤
//!                                                          whoever was collected goes on there ◀── Gone ┘
//! ```
//! - Only those are waited for that can stand still ([`Mover`]), and only for so long: one that cannot deliver just now is left.
//!   Such a one, and one that comes too late, goes on here, and with this process it ends.
//! - What a mover has delivered before it stands is in the actor's mailbox; whoever needs it in the history asks the actor.
//!
//! Bounded by the mount's sources: an encoder and another that relieves it, or a relay and a preferred upstream of its.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::fanout::streamheader::Headers;
use crate::handover;

/// What an encoder leaves for whoever goes on with it.
#[derive(Debug)]
pub struct Luggage {
    /// What there is to say of it, but for what is beside it here.
    pub encoder: handover::Encoder,
    /// Its connection.
    pub socket: OwnedFd,
    /// What of its stream waits for its rest.
    pub held: Vec<u8>,
    /// The streamheaders that its next chunk needs.
    pub headers: Option<Arc<Headers>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Moving,
    Halted,
    /// Whoever was collected is another process's.
    Gone,
}

#[derive(Debug)]
enum Stance {
    Moving,
    Still(Option<Box<Luggage>>),
    /// What it left has been taken.
    Collected,
}

#[derive(Debug, Default)]
struct Floor {
    movers: BTreeMap<u64, Stance>,
    last: u64,
}

/// Where a mount's sources stand still.
#[derive(Debug, Default)]
pub struct Standstill {
    floor: Mutex<Floor>,
    stood: Condvar,
    phase: watch::Sender<Phase>,
}

impl Standstill {
    fn lock(&self) -> MutexGuard<'_, Floor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source comes that can stand still. It looks whether it has to before it delivers anything.
    pub fn enter(self: &Arc<Self>) -> Mover {
        let mut floor = self.lock();
        floor.last += 1;
        let number = floor.last;
        floor.movers.insert(number, Stance::Moving);
        Mover { standstill: Arc::clone(self), number, told: self.phase.subscribe() }
    }

    /// From now on they are to stand still, until released.
    pub(super) fn halt(&self) {
        let _floor = self.lock(); // who enters has entered before, or sees it
        self.phase.send_replace(Phase::Halted);
    }

    /// Waits until all stand still, or until then. What they leave; `None`: one does not.
    pub(super) fn collect(&self, until: Instant) -> Option<Vec<Luggage>> {
        let mut floor = self.lock();
        while floor.movers.values().any(|stance| matches!(stance, Stance::Moving)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            floor = self.stood.wait_timeout(floor, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = floor.movers.values_mut().filter_map(|stance| match stance {
            Stance::Still(luggage @ Some(_)) => {
                let luggage = luggage.take();
                *stance = Stance::Collected;
                luggage.map(|luggage| *luggage)
            }
            Stance::Still(None) | Stance::Moving | Stance::Collected => None,
        });
        Some(left.collect())
    }

    /// They go on; whoever was collected only if it is not `gone`.
    pub(super) fn release(&self, gone: bool) {
        self.phase.send_replace(if gone { Phase::Gone } else { Phase::Moving });
    }
}

/// A source that can stand still, until dropped.
#[derive(Debug)]
pub struct Mover {
    standstill: Arc<Standstill>,
    number: u64,
    told: watch::Receiver<Phase>,
}

impl Mover {
    /// Whether it is to stand still now.
    pub fn is_asked(&self) -> bool {
        *self.told.borrow() == Phase::Halted
    }

    /// Waits until it is to stand still.
    pub async fn asked(&mut self) {
        if self.told.wait_for(|phase| *phase == Phase::Halted).await.is_err() {
            std::future::pending::<()>().await; // nobody is left who could ask
        }
    }

    /// Stands still, and leaves this. Returns whether it goes on; if not, another process has what it left.
    pub async fn stand(&mut self, luggage: Option<Luggage>) -> bool {
        self.take_stance(Stance::Still(luggage.map(Box::new)));
        let gone = self.told.wait_for(|phase| *phase != Phase::Halted).await.is_ok_and(|phase| *phase == Phase::Gone);
        let stood = self.take_stance(Stance::Moving);
        !(gone && matches!(stood, Some(Stance::Collected)))
    }

    fn take_stance(&self, stance: Stance) -> Option<Stance> {
        let before = self.standstill.lock().movers.insert(self.number, stance);
        self.standstill.stood.notify_all();
        before
    }
}

/// Waits until a source that can stand still is to; for ever, if it cannot.
pub async fn asked(mover: &mut Option<Mover>) {
    match mover {
        Some(mover) => mover.asked().await,
        None => std::future::pending().await,
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.standstill.lock().movers.remove(&self.number);
        self.standstill.stood.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn luggage(name: &str) -> Luggage {
        let socket = std::fs::File::open("/dev/null").expect("it is there").into();
        let encoder = handover::Encoder { user_agent: name.to_owned(), ..handover::Encoder::default() };
        Luggage { encoder, socket, held: Vec::new(), headers: None }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn collected(standstill: &Arc<Standstill>, until: Instant) -> impl Future<Output = Option<Vec<String>>> + use<> {
        let standstill = Arc::clone(standstill);
        let collect = move || Some(standstill.collect(until)?.into_iter().map(|luggage| luggage.encoder.user_agent).collect());
        async move { actix_rt::task::spawn_blocking(collect).await.expect("no panic") }
    }

    #[actix::test]
    async fn who_is_collected_goes_on_in_one_place_only_and_everybody_else_here() {
        for (gone, encoder_stays) in [(false, true), (true, false)] {
            let standstill = Arc::new(Standstill::default());
            let (mut encoder, mut relay) = (standstill.enter(), standstill.enter());
            standstill.halt();
            let standing = actix_rt::spawn(async move {
                encoder.asked().await;
                encoder.stand(Some(luggage("encoder"))).await
            });
            let resting = actix_rt::spawn(async move {
                relay.asked().await;
                relay.stand(None).await
            });
            assert_eq!(collected(&standstill, soon()).await, Some(vec!["encoder".to_owned()]));
            let mut late = standstill.enter();
            assert!(late.is_asked(), "who comes now has to stand as well");
            let late = actix_rt::spawn(async move { late.stand(Some(luggage("late"))).await });
            tokio::task::yield_now().await;
            standstill.release(gone);
            assert_eq!(standing.await.expect("it ends"), encoder_stays, "gone: {gone}");
            assert!(resting.await.expect("it ends") && late.await.expect("it ends"), "nobody has what they left");
        }
    }

    #[actix::test]
    async fn who_does_not_stand_still_is_not_waited_for_without_end_and_who_leaves_not_at_all() {
        let standstill = Arc::new(Standstill::default());
        let busy = standstill.enter();
        standstill.halt();
        assert_eq!(collected(&standstill, Instant::now() + Duration::from_millis(20)).await, None);
        let waiting = collected(&standstill, soon());
        drop(busy);
        assert_eq!(waiting.await, Some(Vec::new()));
        standstill.release(false);
        assert!(!standstill.enter().is_asked(), "it is over");
    }
}
