//! Questions to the shards, each with a deadline.
//!
//! A shard answers between two turns of sending, so nothing here asks for much at once: lists come in parts. A shard that
//! does not answer is named, never waited for without end.

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::engine::broadcast::ListenerView;
use crate::engine::crew::{Crew, Hand};
use crate::engine::inbox::Command;
use crate::fanout::departure::Departure;
use crate::fanout::stats::read;
use crate::mount::moving::{PATIENCE, Silent, ask};
use crate::units::ListenerId;

/// Listeners that a shard lists at once.
const PART: usize = 512;
/// Listeners that are listed in all. Far beyond what one machine serves; it bounds the memory of an answer.
pub(super) const LISTED_MOST: usize = 100_000;
/// Lists that operators may have made at once, and that all others may.
const LISTS_AT_ONCE: [usize; 2] = [2, 1];
/// What one listener takes of a list in the making, as it is taken apart and as text.
const LISTED_BYTES: u64 = 1024;
/// The number of a mount that does not exist: asking about it asks whether anybody is there.
const NO_SLOT: usize = usize::MAX;

/// Memory of lists in the making at the very most, where there are so many listeners.
pub fn lists_bytes(listeners: u64) -> u64 {
    let lists: usize = LISTS_AT_ONCE.iter().sum();
    listeners.min(LISTED_MOST as u64) * LISTED_BYTES * lists as u64
}

/// Turns to list listeners. A list of thousands takes megabytes and milliseconds while it is made, and everybody may ask for one: few
/// are made at a time, and those of operators do not wait for anybody else's.
#[derive(Debug)]
pub(super) struct Lists([Semaphore; 2]);

impl Default for Lists {
    fn default() -> Self {
        Self(LISTS_AT_ONCE.map(Semaphore::new))
    }
}

impl Lists {
    /// Waits for a turn, to be kept until the answer is written. `None`: too many wait before.
    pub(super) async fn turn(&self, operator: bool) -> Option<SemaphorePermit<'_>> {
        timeout(PATIENCE, self.0[usize::from(!operator)].acquire()).await.ok()?.ok()
    }
}

/// What is said where there is no turn.
pub(super) const BUSY: &str = "too many ask who listens: come again";

/// All listeners of a mount, on every shard, in the order in which they were let in. Two parts of a list are two moments:
/// who comes or goes between them may be missing, but nobody is listed twice.
pub(super) async fn listeners(crew: &Crew, slot: usize) -> Result<Vec<ListenerView>, Silent> {
    let mut all = Vec::new();
    for (index, hand) in crew.hands().iter().enumerate() {
        let mut from = Some(0);
        while let Some(start) = from
            && all.len() < LISTED_MOST
        {
            let answer = ask(hand, |reply| Command::List { slot, from: start, most: PART.min(LISTED_MOST - all.len()), reply });
            let part = timeout(PATIENCE, answer).await.ok().and_then(Result::ok).ok_or(Silent(index))?;
            all.extend(part.listeners);
            from = part.next;
        }
    }
    all.sort_by_key(|listener| listener.id);
    Ok(all)
}

/// Removes a listener, wherever it is served. Returns whether it was there.
pub(super) async fn kick(crew: &Crew, slot: usize, id: ListenerId) -> Result<bool, Silent> {
    let asked: Vec<_> =
        crew.hands().iter().map(|hand| ask(hand, |reply| Command::Kick { slot, id, why: Departure::Kicked, reply })).collect();
    let mut silent = None;
    for (index, answer) in asked.into_iter().enumerate() {
        match timeout(PATIENCE, answer).await {
            Ok(Ok(true)) => return Ok(true),
            Ok(Ok(false)) => {}
            Ok(Err(_)) | Err(_) => silent = Some(Silent(index)),
        }
    }
    silent.map_or(Ok(false), Err)
}

/// What came of removing several.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removal {
    /// So many are gone.
    pub(super) removed: usize,
    /// One that did not answer; some of its listeners may still be here.
    pub(super) silent: Option<Silent>,
}

/// Removes every listener of these mounts who fits, part by part: no list of them is ever held.
pub(super) async fn kick_all(crew: &Crew, slots: &[usize], fits: impl Fn(&ListenerView) -> bool) -> Removal {
    let mut removal = Removal::default();
    for (index, hand) in crew.hands().iter().enumerate() {
        // One that does not answer is not waited for again.
        if kick_here(hand, slots, &fits, &mut removal.removed).await.is_none() {
            removal.silent.get_or_insert(Silent(index));
        }
    }
    removal
}

/// The same on one shard. `None`: it does not answer.
async fn kick_here(hand: &Hand, slots: &[usize], fits: &impl Fn(&ListenerView) -> bool, removed: &mut usize) -> Option<()> {
    for &slot in slots {
        let mut from = Some(0);
        while let Some(start) = from {
            let answer = ask(hand, |reply| Command::List { slot, from: start, most: PART, reply });
            let part = timeout(PATIENCE, answer).await.ok()?.ok()?;
            for id in part.listeners.iter().filter(|view| fits(view)).map(|view| view.id) {
                let answer = ask(hand, |reply| Command::Kick { slot, id, why: Departure::Kicked, reply });
                *removed += usize::from(timeout(PATIENCE, answer).await.ok()?.ok()?);
            }
            from = part.next;
        }
    }
    Some(())
}

/// The shards whose loops do not turn: they neither answer nor count a turn for as long as they are waited for.
pub(super) async fn stuck(crew: &Crew) -> Vec<usize> {
    let asked: Vec<_> = crew
        .hands()
        .iter()
        .map(|hand| {
            let turns = read(&hand.counters.turns);
            (turns, ask(hand, |reply| Command::List { slot: NO_SLOT, from: 0, most: 0, reply }))
        })
        .collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut stuck = Vec::new();
    for (index, (turns, answer)) in asked.into_iter().enumerate() {
        if matches!(tokio::time::timeout_at(deadline, answer).await, Ok(Ok(_))) {
            continue;
        }
        // No answer, or no place for the question: busy is not dead, but what is dead does not turn.
        tokio::time::sleep_until(deadline).await;
        if read(&crew.hands()[index].counters.turns) == turns {
            stuck.push(index);
        }
    }
    stuck
}
