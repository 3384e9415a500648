//! Listeners that go on with another mount.
//!
//! A shard moves its own, between two turns of sending, a few at a time: each of them gets a burst there. A shard that does not answer is
//! named, never waited for without end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::handle::Handle;
use crate::engine::crew::{Crew, Hand};
use crate::engine::inbox::{Command, Reply};
use crate::engine::socket::Socket;
use crate::engine::trail::Movers;
use crate::units::MountPath;

/// The longest that a shard is waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Listeners that a shard moves at once.
const MOVED_AT_ONCE: usize = 64;

/// A shard did not answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sending thread {0} did not answer in time")]
pub struct Silent(pub usize);

/// Puts a question. A shard whose inbox is full drops it, and whoever waits for the answer learns that at once.
pub fn ask<T: Send + 'static>(hand: &Hand, question: impl FnOnce(Reply<T>) -> Command<Socket>) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    hand.inbox.tell(question(Reply::new(move |answer| {
        let _ = sender.send(answer); // whoever asked may have gone
    })));
    receiver
}

/// How many of a mount's listeners have moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// So many have.
    pub moved: usize,
    /// There was no place for so many.
    pub stayed: usize,
}

/// Whether somebody who listens to a mount was sent on from this one.
///
/// # Errors
/// When a shard does not answer.
pub async fn has_strays(crew: &Crew, there: &Handle, from: &MountPath) -> Result<bool, Silent> {
    for (index, hand) in crew.hands().iter().enumerate() {
        let answer = ask(hand, |reply| Command::HasStrays { slot: there.broadcast.slot, from: from.clone(), reply });
        if timeout(PATIENCE, answer).await.ok().and_then(Result::ok).ok_or(Silent(index))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lets a mount's listeners (or some of them) go on with another, each on its shard.
///
/// # Errors
/// When a shard does not answer; those before it have moved theirs.
pub async fn move_listeners(crew: &Crew, here: &Handle, there: &Handle, who: &Movers) -> Result<Moved, Silent> {
    let mut all = Moved::default();
    for (index, hand) in crew.hands().iter().enumerate() {
        let mut next = Some(0);
        while let Some(from) = next {
            let (slot, to, places) = (here.broadcast.slot, Arc::clone(&there.broadcast), Arc::clone(&there.places));
            let answer = ask(hand, |reply| Command::Move { slot, who: who.clone(), to, places, from, most: MOVED_AT_ONCE, reply });
            let part = timeout(PATIENCE, answer).await.ok().and_then(Result::ok).ok_or(Silent(index))?;
            all.moved += part.moved;
            all.stayed += part.stayed;
            next = part.next;
        }
    }
    Ok(all)
}
