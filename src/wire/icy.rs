//! ICY metadata: what is being played, told between the bytes of the stream, as SHOUTcast began it.
//!
//! ```text
//!   interval bytes │ block │ interval bytes │ block │ …        block: a byte n, then 16 × n bytes of text and zeros
//! ```
//! - A block stands after exactly as many stream bytes as were promised (`icy-metaint`), counted for each listener by itself.
//!   Whatever goes into the body counts, streamheaders too.
//! - A block goes out right before the stream byte behind it: who is owed no more of the stream is owed no block either. One
//!   that has begun is finished, whatever becomes of the stream.
//! - The first block says what is being played, later ones only what has changed; all others are one zero byte.
//!
//! Deliberately absent: who gets it, and when a title was true: titles are told when they come, as everybody does. How a stream is
//! taken apart again stands in `upstream`.

use std::sync::Arc;

use crate::handover;

/// The longest text of one block: the byte before it counts in units of 16.
pub const TEXT_MOST: usize = 255 * UNIT;
/// Bytes between two blocks at the most. What comes above is no interval that anybody has sent.
pub const INTERVAL_MOST: u32 = 1 << 24;
const UNIT: usize = 16;
/// The number of a title of another mount: whatever is played here is news.
const ELSEWHERE: u64 = u64::MAX;
/// Nothing has changed.
const NOTHING: &[u8] = &[0];

/// What is being played, as it goes over the wire, and its number: a mount's titles are numbered from one.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Tells it from the titles before it. Zero: nothing has ever been said; told only to who comes from another mount.
    pub number: u64,
    /// Length byte, text, zeros; never empty.
    pub bytes: Box<[u8]>,
}

impl Default for Block {
    /// Nothing is being played.
    fn default() -> Self {
        Self { number: 0, bytes: block("", None) }
    }
}

/// The bytes of a block: `StreamTitle='…';StreamUrl='…';`, the address only where there is one and room for it. A title that is
/// too long is cut between two characters.
///
/// A quote stays as it is, as all servers send it, for players look for `';`. Those two are kept apart by a space.
pub fn block(title: &str, url: Option<&str>) -> Box<[u8]> {
    let mut text = String::with_capacity(64);
    field(&mut text, "StreamTitle", title, TEXT_MOST);
    if let Some(url) = url {
        let mut more = String::new();
        field(&mut more, "StreamUrl", url, usize::MAX);
        if text.len() + more.len() <= TEXT_MOST {
            text.push_str(&more); // half an address would be another address
        }
    }
    let units = text.len().div_ceil(UNIT);
    let mut bytes = Vec::with_capacity(1 + units * UNIT);
    bytes.push(units as u8); // at most 255, by TEXT_MOST
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(1 + units * UNIT, 0);
    bytes.into()
}

fn field(text: &mut String, name: &str, value: &str, most: usize) {
    text.push_str(name);
    text.push_str("='");
    let mut after_quote = true;
    for c in value.chars().filter(|c| !c.is_control()) {
        let apart = c == ';' && after_quote;
        if text.len() + usize::from(apart) + c.len_utf8() + 2 > most {
            break;
        }
        if apart {
            text.push(' ');
        }
        text.push(c);
        after_quote = c == '\'';
    }
    text.push_str("';");
}

/// Where one listener stands between two blocks.
///
/// [`Self::weave`] shows what comes next, [`Self::take`] says how much of it was taken; both walk the same way. Nothing may be
/// adopted in between.
#[derive(Debug)]
pub struct Interleave {
    interval: u32,
    /// Stream bytes until the next block; zero: it is due, or has begun.
    until: u32,
    /// Bytes of the block that have gone.
    sent: u32,
    /// The number of the title it was told last, or is about to be.
    told: u64,
    /// A title for the next block.
    due: Option<Arc<Block>>,
}

impl Interleave {
    /// A newcomer who was promised a block after every so many bytes.
    pub fn new(interval: u32) -> Self {
        let interval = interval.clamp(1, INTERVAL_MOST);
        Self { interval, until: interval, sent: 0, told: 0, due: None }
    }

    /// The same for one who has been sent so many bytes of the stream, with a place for a title after every interval.
    pub fn after(interval: u32, sent: u64) -> Self {
        let icy = Self::new(interval);
        Self { until: icy.interval - (sent % u64::from(icy.interval)) as u32, ..icy }
    }

    /// As plain data, but for the title that is due: its place among the others is for whoever keeps them.
    pub fn pack(&self) -> (handover::Icy, Option<&Arc<Block>>) {
        let &Self { interval, until, sent, told, ref due } = self;
        (handover::Icy { interval, until, sent, told, due: None }, due.as_ref())
    }

    /// From plain data and the title that is due.
    ///
    /// # Errors
    /// When no listener stands there.
    pub fn unpack(packed: &handover::Icy, due: Option<Arc<Block>>) -> Result<Self, handover::Rubbish> {
        let &handover::Icy { interval, until, sent, told, .. } = packed;
        let icy = Self { interval, until, sent, told, due };
        let stands = (1..=INTERVAL_MOST).contains(&interval) && until <= interval && (sent == 0 || until == 0);
        let within = (sent as usize) < icy.next_block().len();
        if stands && within {
            Ok(icy)
        } else {
            Err(handover::Rubbish::new(format!("{until} of {interval} bytes before a title, {sent} of it sent")))
        }
    }

    /// Whether a title with this number is news, and may still be put into the next block.
    pub fn wants(&self, number: u64) -> bool {
        number != self.told && self.sent == 0
    }

    /// The next block says this. Only if it [wants](Self::wants) it.
    pub fn adopt(&mut self, block: Arc<Block>) {
        debug_assert!(self.wants(block.number) && !block.bytes.is_empty(), "a block that is no news, or in the middle of one");
        self.told = block.number;
        self.due = Some(block);
    }

    /// The listener goes on with another mount, whose titles have numbers of their own. A block that has begun is finished.
    pub fn go_elsewhere(&mut self) {
        self.told = ELSEWHERE;
        if self.sent == 0 {
            self.due = None;
        }
    }

    /// Whether a block is half sent: then there is something to send, whatever the stream has.
    pub fn mid_block(&self) -> bool {
        self.sent > 0
    }

    fn next_block(&self) -> &[u8] {
        self.due.as_ref().map_or(NOTHING, |block| &block.bytes)
    }

    /// Shows what goes out for these pieces of the stream, blocks included, until `put` takes no more.
    pub fn weave<'a>(&'a self, stream: impl IntoIterator<Item = &'a [u8]>, mut put: impl FnMut(&'a [u8]) -> bool) {
        let (mut block, mut until) = (&self.next_block()[self.sent as usize..], self.until as usize);
        if self.mid_block() {
            if !put(block) {
                return;
            }
            (block, until) = (NOTHING, self.interval as usize);
        }
        for mut piece in stream {
            while !piece.is_empty() {
                if until == 0 {
                    if !put(block) {
                        return;
                    }
                    (block, until) = (NOTHING, self.interval as usize);
                }
                let (now, later) = piece.split_at(piece.len().min(until));
                if !put(now) {
                    return;
                }
                until -= now.len();
                piece = later;
            }
        }
    }

    /// Takes note that so many bytes of what was shown have gone; returns how many of them belong to the stream.
    pub fn take(&mut self, mut taken: usize) -> usize {
        let mut of_stream = 0;
        while taken > 0 {
            let due = if self.until == 0 { self.next_block().len() - self.sent as usize } else { self.until as usize };
            let part = taken.min(due);
            taken -= part;
            if self.until > 0 {
                self.until -= part as u32;
                of_stream += part;
            } else if part < due {
                self.sent += part as u32;
            } else {
                (self.until, self.sent, self.due) = (self.interval, 0, None);
            }
        }
        of_stream
    }
}

#[cfg(test)]
#[path = "icy_tests.rs"]
mod tests;
