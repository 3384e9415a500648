//! What was made, and what a peer makes of what it hears: the model that every byte is held against.
//!
//! Each chunk and each streamheader carries its number, so a [`Book`] of what was made is enough to tell whether a stream of
//! bytes is a run of whole chunks, in order, each once, each under its own headers, with no gap that was not announced. An
//! [`Ear`] reads bytes as they come and keeps nothing of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::fanout::account::Account;
use crate::fanout::recovery::RecoverPolicy;
use crate::fanout::streamheader::Headers;
use crate::wire::charset::Charset;
use crate::wire::upstream::{Found, Interleaved, metadata};

/// Mark, number, length of the filling, end mark: the least that a chunk needs to be known by.
pub(crate) const CHUNK_LEAST: u32 = 14;
/// Chunks whose notes are kept.
const NOTES: usize = 20_000;

fn frame(marks: [u8; 2], number: u64, size: u32) -> Vec<u8> {
    let filling = size.saturating_sub(CHUNK_LEAST);
    let mut bytes = Vec::with_capacity(size as usize);
    bytes.push(marks[0]);
    bytes.extend(number.to_be_bytes());
    bytes.extend(filling.to_be_bytes());
    bytes.extend(std::iter::repeat_n(fill(number), filling as usize));
    bytes.push(marks[1]);
    bytes
}

/// The filling of a chunk: not the same as its neighbours', and no mark.
fn fill(number: u64) -> u8 {
    128 + (number % 120) as u8
}

/// The payload of the chunk with this number: nothing, or at least [`CHUNK_LEAST`] bytes.
pub(crate) fn payload(number: u64, size: u32) -> Vec<u8> {
    if size == 0 { Vec::new() } else { frame(*b"[]", number, size) }
}

/// The streamheaders with this number; every fourth is one that the stream repeats in band.
pub(crate) fn headers(number: Option<u32>, account: &Arc<Account>) -> Arc<Headers> {
    number.map_or_else(Headers::none, |number| Headers::new(&[frame(*b"HE", number.into(), 40)], in_band(number), account))
}

fn in_band(header: u32) -> bool {
    header % 4 == 3
}

/// What was made of one chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) size: u32,
    pub(crate) keyframe: bool,
    pub(crate) header: Option<u32>,
    /// When, in nanoseconds.
    pub(crate) made: u64,
    /// Empty chunks of the whole history before this one.
    empties_before: u64,
}

/// What was made for one mount.
#[derive(Debug)]
pub(crate) struct Book {
    notes: VecDeque<Note>,
    /// Number of `notes[0]`.
    first: u64,
    empties: u64,
    /// Gaps need an excuse where nothing is recovered: those across the cut of a flush, and those of the server's own stalls.
    cuts: VecDeque<u64>,
    /// The oldest chunk that the mount's ring holds.
    pub(crate) oldest: u64,
    pub(crate) resend: bool,
    pub(crate) recover: RecoverPolicy,
    /// What was made before this moment may be late, or left out: the server itself stood still.
    pub(crate) forgiven: u64,
}

impl Book {
    pub(crate) fn new(resend: bool, recover: RecoverPolicy) -> Self {
        Self { notes: VecDeque::new(), first: 0, empties: 0, cuts: VecDeque::new(), oldest: 0, resend, recover, forgiven: 0 }
    }

    /// The number of the next chunk.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.notes.len() as u64
    }

    pub(crate) fn write(&mut self, size: u32, keyframe: bool, header: Option<u32>, made: u64) {
        self.notes.push_back(Note { size, keyframe, header, made, empties_before: self.empties });
        self.empties += u64::from(size == 0);
        if self.notes.len() > NOTES {
            self.notes.pop_front();
            self.first += 1;
        }
    }

    /// A flush: what is older is void.
    pub(crate) fn cut(&mut self) {
        self.cuts.push_back(self.next());
        if self.cuts.len() > 64 {
            self.cuts.pop_front();
        }
    }

    pub(crate) fn note(&self, number: u64) -> Option<&Note> {
        self.notes.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Empty chunks of the whole history.
    pub(crate) fn empties(&self) -> u64 {
        self.empties
    }

    fn excused(&self, last: u64, number: u64) -> bool {
        self.cuts.iter().any(|&cut| last < cut && cut <= number) || self.note(last + 1).is_none_or(|note| note.made <= self.forgiven)
    }
}

#[derive(Clone, Copy, Debug)]
enum Expect {
    Head { left: usize },
    Mark,
    Number { of_header: bool, have: usize, bytes: [u8; 12] },
    Filling { of_header: bool, number: u64, left: u32 },
    End { of_header: bool, number: u64 },
}

/// What one listener has heard.
#[derive(Debug)]
pub(crate) struct Ear {
    book: Rc<RefCell<Book>>,
    joined: u64,
    expect: Expect,
    /// What the last chunk begun was to be decoded with; `None` before the first.
    given: Option<Option<u32>>,
    /// A header that came after the last chunk.
    pending: Option<u32>,
    /// The first chunk begun.
    pub(crate) first: Option<u64>,
    /// The last chunk begun.
    pub(crate) last: Option<u64>,
    empties_before_last: u64,
    /// Empty chunks before the first one begun.
    pub(crate) empties_before_first: u64,
    /// Whole chunks.
    pub(crate) chunks: u64,
    /// Chunks missing between those begun: all, and those of them that were empty.
    pub(crate) missing: u64,
    pub(crate) missing_empty: u64,
    /// Bytes after the head.
    pub(crate) bytes: u64,
    /// Gaps that neither a flush nor a stall of the server explains.
    pub(crate) unexcused: u64,
    /// When it last heard something; the join counts.
    pub(crate) last_heard: u64,
    /// The longest that a chunk took from being made (or the join) to being here whole, in nanoseconds.
    pub(crate) slowest: u64,
    /// Numbers of chunks begun, where a test wants them.
    pub(crate) heard: Option<Vec<u64>>,
    /// Takes out the titles, if it wanted any.
    pub(crate) icy: Option<Interleaved>,
    /// The titles it was told, by number.
    pub(crate) titles: Vec<u64>,
    /// What was wrong, first of all.
    pub(crate) fault: Option<String>,
}

impl Ear {
    /// The ear of somebody who is to be sent a head of so many bytes `h` first.
    pub(crate) fn new(book: &Rc<RefCell<Book>>, head: usize, now: u64) -> Self {
        Self {
            book: Rc::clone(book),
            joined: now,
            expect: if head > 0 { Expect::Head { left: head } } else { Expect::Mark },
            given: None,
            pending: None,
            first: None,
            last: None,
            empties_before_last: 0,
            empties_before_first: 0,
            chunks: 0,
            missing: 0,
            missing_empty: 0,
            bytes: 0,
            unexcused: 0,
            last_heard: now,
            slowest: 0,
            heard: None,
            icy: None,
            titles: Vec::new(),
            fault: None,
        }
    }

    /// Whether everything begun has been heard to its end.
    pub(crate) fn whole(&self) -> bool {
        matches!(self.expect, Expect::Mark) && !self.icy.as_ref().is_some_and(Interleaved::mid_block)
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(what);
    }

    /// Takes the next bytes.
    pub(crate) fn hear(&mut self, bytes: &[u8], now: u64) {
        self.last_heard = now;
        let head = if let Expect::Head { left } = self.expect { left.min(bytes.len()) } else { 0 };
        let (head, body) = bytes.split_at(head);
        self.hear_stream(head, now);
        let Some(mut icy) = self.icy.take() else { return self.hear_stream(body, now) };
        let mut blocks = Vec::new();
        icy.take(body, |found| match found {
            Found::Bytes(bytes) => self.hear_stream(bytes, now),
            Found::Block(block) => blocks.push(block),
        });
        self.icy = Some(icy);
        for block in blocks {
            let title = metadata(&block, "StreamTitle", Charset::default());
            match title.as_deref().and_then(|title| title.parse().ok()) {
                Some(number) if self.titles.last().is_none_or(|&last| last < number) => self.titles.push(number),
                _ => self.wrong(|| format!("{title:?} where a title should be, and a newer one")),
            }
        }
    }

    fn hear_stream(&mut self, mut bytes: &[u8], now: u64) {
        while !bytes.is_empty() && self.fault.is_none() {
            let part = match &mut self.expect {
                Expect::Head { left } => {
                    let part = bytes.len().min(*left);
                    *left -= part;
                    let (good, over) = (bytes[..part].iter().all(|&byte| byte == b'h'), *left == 0);
                    if !good {
                        self.wrong(|| "the head is torn".into());
                    }
                    if over {
                        self.expect = Expect::Mark;
                    }
                    bytes = &bytes[part..];
                    continue;
                }
                Expect::Mark => {
                    match bytes[0] {
                        b'[' => self.expect = Expect::Number { of_header: false, have: 0, bytes: [0; 12] },
                        b'H' => self.expect = Expect::Number { of_header: true, have: 0, bytes: [0; 12] },
                        other => {
                            let last = self.last;
                            self.wrong(|| format!("byte {other} where something should begin, after chunk {last:?}"));
                        }
                    }
                    1
                }
                Expect::Number { of_header, have, bytes: number } => {
                    let part = bytes.len().min(12 - *have);
                    number[*have..*have + part].copy_from_slice(&bytes[..part]);
                    *have += part;
                    if *have == 12 {
                        let (of_header, bytes) = (*of_header, *number);
                        let number = u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
                        let left = u32::from_be_bytes(bytes[8..].try_into().expect("four bytes"));
                        if of_header {
                            self.begin_header(number as u32);
                        } else {
                            self.begin_chunk(number, left);
                        }
                        self.expect =
                            if left == 0 { Expect::End { of_header, number } } else { Expect::Filling { of_header, number, left } };
                    }
                    part
                }
                Expect::Filling { of_header, number, left } => {
                    let part = bytes.len().min(*left as usize);
                    *left -= part as u32;
                    let (of_header, number, over) = (*of_header, *number, *left == 0);
                    if bytes[..part].iter().any(|&byte| byte != fill(number)) {
                        self.wrong(|| format!("{} {number} is torn", if of_header { "header" } else { "chunk" }));
                    }
                    if over {
                        self.expect = Expect::End { of_header, number };
                    }
                    part
                }
                Expect::End { of_header, number } => {
                    let (of_header, number) = (*of_header, *number);
                    if bytes[0] != if of_header { b'E' } else { b']' } {
                        self.wrong(|| format!("{} {number} is torn at its end", if of_header { "header" } else { "chunk" }));
                    }
                    self.expect = Expect::Mark;
                    if !of_header {
                        self.end_chunk(number, now);
                    }
                    1
                }
            };
            self.bytes += part as u64;
            bytes = &bytes[part..];
        }
    }

    fn begin_header(&mut self, header: u32) {
        if self.pending.or(self.given.flatten()) == Some(header) {
            self.wrong(|| format!("header {header} twice"));
        }
        self.pending = Some(header);
    }

    fn begin_chunk(&mut self, number: u64, filling: u32) {
        let book = Rc::clone(&self.book);
        let book = book.borrow();
        let Some(&note) = book.note(number) else { return self.wrong(|| format!("chunk {number} was never made, or long ago")) };
        if note.size != CHUNK_LEAST + filling {
            self.wrong(|| format!("chunk {number} has another size"));
        }
        let (mut between, mut empty) = (0, 0);
        if let Some(last) = self.last {
            if number <= last {
                return self.wrong(|| format!("chunk {number} after {last}"));
            }
            (between, empty) = (number - last - 1, note.empties_before - self.empties_before_last);
            if between > empty {
                if book.recover == RecoverPolicy::Keyframe && !note.keyframe {
                    self.wrong(|| format!("after {last} it goes on with {number}, a delta"));
                }
                let excused = book.excused(last, number);
                self.unexcused += u64::from(!excused);
                // Somebody slow may have to go on where the ring begins.
                if book.recover == RecoverPolicy::None && !excused && last + 1 >= book.oldest {
                    self.wrong(|| format!("from {last} to {number}, though nothing is ever recovered"));
                }
            }
        }
        // After a gap that ends at an empty chunk, both are right: it may have been passed over or left out.
        let unclear =
            (between > empty || self.last.is_none()) && number > 0 && book.note(number - 1).is_some_and(|before| before.size == 0);
        let followed = unclear || between == empty && self.last.is_some();
        let due = match (self.pending.map(Some).or(self.given), note.header) {
            (_, None) => false,
            (_, Some(header)) if in_band(header) && followed => false,
            (None | Some(None), Some(_)) => true,
            (Some(given), header) => book.resend && given != header,
        };
        if let (false, Some(pending), Some(given)) = (book.resend || unclear, self.pending, self.given.flatten()) {
            self.wrong(|| format!("header {pending} after {given}, although changed headers are not to be sent again"));
        }
        if due {
            let last = self.last;
            self.wrong(|| format!("chunk {number} without its header {:?}, after chunk {last:?}", note.header));
        }
        if let Some(pending) = self.pending.take()
            && note.header != Some(pending)
            && self.last.is_some()
            && between == 0
        {
            self.wrong(|| format!("header {pending} in front of chunk {number}, whose header is {:?}", note.header));
        }
        self.given = Some(note.header);
        self.missing += between;
        self.missing_empty += empty;
        self.empties_before_last = note.empties_before;
        if self.first.is_none() {
            (self.first, self.empties_before_first) = (Some(number), note.empties_before);
        }
        self.last = Some(number);
        if let Some(heard) = &mut self.heard {
            heard.push(number);
        }
    }

    fn end_chunk(&mut self, number: u64, now: u64) {
        self.chunks += 1;
        let book = self.book.borrow();
        if let Some(note) = book.note(number) {
            let since = note.made.max(self.joined);
            if since >= book.forgiven {
                self.slowest = self.slowest.max(now - since);
            }
        }
    }
}
