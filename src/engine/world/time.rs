//! How time passes in a world: from event to event, each shard turning when it would.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::World;
use super::pipe::Epoll;
use crate::engine::shard::Next;
use crate::units::{Moment, nanos};

/// What a send costs a shard's thread, and a turn in any case.
const SEND_NANOS: u64 = 8_000;
const TURN_NANOS: u64 = 2_000;
/// Turns without any time passing that cannot be but a loop.
const TURNS_AT_ONCE: u32 = 50_000;

impl World {
    /// A shard's thread does not run for so long, while everything else goes on.
    pub(crate) fn stall_shard(&mut self, shard: usize, span: Duration) {
        let until = self.now() + nanos(span);
        self.hands[shard].busy_until = until;
        for mount in &self.mounts {
            let mut book = mount.book.borrow_mut();
            book.forgiven = book.forgiven.max(until);
        }
    }

    /// Something happens, so long from now.
    pub(crate) fn after(&mut self, span: Duration, act: impl FnOnce(&mut Self) + 'static) {
        let at = self.now() + nanos(span);
        self.scripted += 1; // what is said first happens first
        self.script.insert((at, self.scripted), Box::new(act));
    }

    /// Lets so much time pass.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now() + nanos(span);
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.clock.set(next.max(self.now()));
            self.happen();
        }
        self.clock.set(end.max(self.now())); // what happened may itself have let time pass
    }

    fn next_event(&mut self) -> Option<u64> {
        let now = self.now();
        let mut wakes = [u64::MAX; 8];
        for (wake, hand) in wakes.iter_mut().zip(&self.hands) {
            *wake = if hand.woken.load(Ordering::Relaxed) { now } else { hand.wake_at.unwrap_or(u64::MAX) };
        }
        for present in &self.present {
            if let Some(at) = present.line.borrow_mut().next_event() {
                wakes[present.shard] = wakes[present.shard].min(at);
            }
        }
        let shards = wakes.iter().zip(&self.hands).map(|(&wake, hand)| wake.max(hand.busy_until));
        let sources = self.sources.iter().map(|source| source.next_at);
        let script = self.script.first_key_value().map(|((at, _), _)| *at);
        shards.chain(sources).chain(script).min().filter(|&next| next < u64::MAX)
    }

    /// Whatever is due now: the script, then sources, then shards.
    fn happen(&mut self) {
        let now = self.now();
        while self.script.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            let (_, act) = self.script.pop_first().expect("just seen");
            act(self);
        }
        for i in 0..self.sources.len() {
            if self.sources[i].next_at <= now {
                let mut source = self.sources[i].clone();
                source.tick(self);
                self.sources[i] = source;
            }
        }
        for shard in 0..self.hands.len() {
            let hand = &self.hands[shard];
            let due = hand.woken.load(Ordering::Relaxed) || hand.wake_at.is_some_and(|at| at <= now);
            let said = || self.present.iter().any(|p| p.shard == shard && p.line.borrow_mut().next_event().is_some_and(|at| at <= now));
            if hand.busy_until <= now && (due || said()) {
                self.turn(shard);
            }
        }
    }

    /// What `crew` does with a shard when its poll returns.
    pub(super) fn turn(&mut self, shard: usize) {
        let (now, moment) = (self.now(), self.moment());
        self.turns += 1;
        self.at_once = if self.at_once.0 == now { (now, self.at_once.1 + 1) } else { (now, 0) };
        assert!(self.at_once.1 < TURNS_AT_ONCE, "the shards spin");
        let hand = &mut self.hands[shard];
        hand.woken.store(false, Ordering::Relaxed);
        for present in self.present.iter().filter(|present| present.shard == shard) {
            let said = present.line.borrow_mut().take_event();
            if let Some((token, readiness)) = said {
                hand.shard.event(token, readiness, moment);
            }
        }
        hand.wake_at = match hand.shard.turn(moment, &hand.inbox, &mut Epoll) {
            Next::Sleep(sleep) => sleep.map(|sleep| {
                // As epoll does: in whole milliseconds, never too early.
                let late = if sleep.is_zero() { 0 } else { self.rng.u64(..=nanos(self.lateness)) };
                now + nanos(sleep).next_multiple_of(1_000_000) + late
            }),
            Next::Quit => None,
        };
        let sends = hand.counters.send_calls.load(Ordering::Relaxed);
        let took = TURN_NANOS + SEND_NANOS * (sends - hand.sends);
        hand.sends = sends;
        hand.busy_until = now + took;
        hand.shard.note(Duration::from_nanos(took), Moment::from_nanos(now + took));
        self.inspect_turn(shard);
    }
}
