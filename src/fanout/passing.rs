//! A ring and the cursors in it as plain data, for the process that goes on with them, and back.
//!
//! - Who shares something here shares it there: chunks and streamheaders are listed once, and named by their places in the lists.
//!   That is more than thrift: readers tell sets of streamheaders by identity first.
//! - What comes in is checked before anything is made of it: an index that leads nowhere, a place outside of the history or more
//!   bytes sent than there are is an error, never a panic and never a listener with a gap.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use super::account::Account;
use super::chunk::{Chunk, Marks};
use super::ring::Ring;
use super::streamheader::Headers;
use crate::handover::{self, Outgoing, Payloads, Rubbish, Span};
use crate::units::Seq;
use crate::wire::icy::Block;

/// A mount on its way out.
#[derive(Debug)]
pub struct Packing<'a, W> {
    payloads: &'a mut Outgoing<W>,
    /// What is known of it so far.
    pub mount: handover::Mount,
    headers: HashMap<usize, u32>,
    chunks: HashMap<usize, u32>,
    blocks: HashMap<usize, u32>,
}

fn identity<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared) as usize
}

impl<'a, W: Write> Packing<'a, W> {
    /// Begins with the history: everything that some listener may still have to be sent.
    ///
    /// # Errors
    /// When payloads cannot be written; so it is below.
    pub fn new(ring: &Ring, payloads: &'a mut Outgoing<W>) -> io::Result<Self> {
        let mount = handover::Mount::default();
        let mut packing = Self { payloads, mount, headers: HashMap::new(), chunks: HashMap::new(), blocks: HashMap::new() };
        let mut times = Vec::with_capacity(ring.len());
        for (chunk, time) in ring.timed() {
            packing.chunk(chunk)?;
            times.push(time);
        }
        packing.mount.ring = handover::Ring {
            oldest: ring.oldest().number(),
            times,
            before: ring.bytes_before(),
            flushed: ring.flushed().number(),
            begun: ring.begun().number(),
        };
        Ok(packing)
    }

    /// Some bytes.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<Span> {
        if bytes.is_empty() { Ok(Span::default()) } else { self.payloads.put(bytes) }
    }

    /// The number of a set of streamheaders.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn headers(&mut self, headers: &Arc<Headers>) -> io::Result<u32> {
        if let Some(&known) = self.headers.get(&identity(headers)) {
            return Ok(known);
        }
        let number = self.mount.headers.len() as u32;
        let bytes = self.bytes(headers.bytes())?;
        let (ends, in_band) = headers.layout();
        self.mount.headers.push(handover::Headers { bytes, ends: ends.to_vec(), in_band });
        self.headers.insert(identity(headers), number);
        Ok(number)
    }

    /// The number of a chunk.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub(super) fn chunk(&mut self, chunk: &Arc<Chunk>) -> io::Result<u32> {
        if let Some(&known) = self.chunks.get(&identity(chunk)) {
            return Ok(known);
        }
        let number = self.mount.chunks.len() as u32;
        let (headers, payload) = (self.headers(chunk.headers())?, self.bytes(chunk.payload())?);
        let Marks { keyframe, discont, gap, pts, dts } = *chunk.marks();
        self.mount.chunks.push(handover::Chunk { payload, headers, keyframe, discont, gap, pts, dts });
        self.chunks.insert(identity(chunk), number);
        Ok(number)
    }

    /// The number of a title.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn block(&mut self, block: &Arc<Block>) -> io::Result<u32> {
        if let Some(&known) = self.blocks.get(&identity(block)) {
            return Ok(known);
        }
        let number = self.mount.blocks.len() as u32;
        let bytes = self.bytes(&block.bytes)?;
        self.mount.blocks.push(handover::Block { number: block.number, bytes });
        self.blocks.insert(identity(block), number);
        Ok(number)
    }
}

/// A mount that has come: what its listeners refer to.
#[derive(Debug)]
pub struct Unpacked {
    /// The history.
    pub ring: Ring,
    headers: Vec<Arc<Headers>>,
    chunks: Vec<Arc<Chunk>>,
    blocks: Vec<Arc<Block>>,
}

impl Unpacked {
    /// What was handed over of a mount, booked on its account.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn new(mount: &handover::Mount, payloads: &(impl Payloads + ?Sized), account: &Arc<Account>) -> Result<Self, Rubbish> {
        let headers = mount.headers.iter().map(|set| unpack_headers(set, payloads, account)).collect::<Result<Vec<_>, _>>()?;
        let chunk = |chunk: &handover::Chunk| {
            let &handover::Chunk { payload, headers: set, keyframe, discont, gap, pts, dts } = chunk;
            let marks = Marks { keyframe, discont, gap, pts, dts };
            Ok(Arc::new(Chunk::new(payloads.take(payload)?, marks, Arc::clone(find(&headers, set)?), account)))
        };
        let chunks = mount.chunks.iter().map(chunk).collect::<Result<Vec<_>, _>>()?;
        let block = |block: &handover::Block| unpack_block(block, payloads).map(Arc::new);
        let blocks = mount.blocks.iter().map(block).collect::<Result<Vec<_>, _>>()?;
        let handover::Ring { oldest, times, before, flushed, begun } = &mount.ring;
        let end = oldest.checked_add(times.len() as u64).filter(|&end| end < u64::MAX / 2);
        if times.len() > chunks.len()
            || !times.is_sorted()
            || end.is_none_or(|end| *flushed > end || *begun > end)
            || *before > u64::MAX / 2
        {
            return Err(Rubbish::new(format!("a history of {} chunks from {oldest} on", times.len())));
        }
        let mut ring = Ring::resumed(Seq::new(*oldest), *before, Seq::new(*flushed), Seq::new(*begun));
        for (chunk, &time) in chunks.iter().zip(times) {
            ring.push(Arc::clone(chunk), time);
        }
        Ok(Self { ring, headers, chunks, blocks })
    }

    /// The set of streamheaders with this number in the list.
    ///
    /// # Errors
    /// When there is none.
    pub fn headers(&self, number: u32) -> Result<&Arc<Headers>, Rubbish> {
        find(&self.headers, number)
    }

    pub(super) fn chunk(&self, number: u32) -> Result<&Arc<Chunk>, Rubbish> {
        find(&self.chunks, number)
    }

    /// The title with this number in the list.
    ///
    /// # Errors
    /// When there is none.
    pub fn block(&self, number: u32) -> Result<&Arc<Block>, Rubbish> {
        find(&self.blocks, number)
    }
}

/// A title.
///
/// # Errors
/// When it is none: one has a byte at least, and no more than its first byte says.
pub fn unpack_block(block: &handover::Block, payloads: &(impl Payloads + ?Sized)) -> Result<Block, Rubbish> {
    let bytes = payloads.take(block.bytes)?;
    let whole = bytes.first().is_some_and(|&units| bytes.len() == 1 + usize::from(units) * 16);
    if whole { Ok(Block { number: block.number, bytes }) } else { Err(Rubbish::new(format!("a title of {} bytes", bytes.len()))) }
}

fn unpack_headers(set: &handover::Headers, payloads: &(impl Payloads + ?Sized), account: &Arc<Account>) -> Result<Arc<Headers>, Rubbish> {
    let bytes = payloads.take(set.bytes)?;
    if !set.ends.is_sorted() || set.ends.last().copied().unwrap_or(0) != bytes.len() {
        return Err(Rubbish::new(format!("streamheaders that end at {:?}", set.ends)));
    }
    if set.ends.is_empty() {
        return Ok(Headers::none());
    }
    let mut start = 0;
    let parts: Vec<&[u8]> = set.ends.iter().map(|&end| &bytes[std::mem::replace(&mut start, end)..end]).collect();
    Ok(Headers::new(&parts, set.in_band, account))
}

fn find<T>(list: &[Arc<T>], number: u32) -> Result<&Arc<T>, Rubbish> {
    list.get(number as usize).ok_or_else(|| Rubbish::new(format!("number {number} of {}", list.len())))
}

#[cfg(test)]
#[path = "passing_tests.rs"]
mod tests;
