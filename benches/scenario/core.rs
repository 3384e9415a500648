//! The pure core: a push, a shard's copy, one listener's next bytes, a newcomer's place.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use flumen::engine::alarm::Alarm;
use flumen::engine::feed::Feed;
use flumen::fanout::account::Account;
use flumen::fanout::chunk::{Chunk, Marks};
use flumen::fanout::cursor::{Cursor, Slices};
use flumen::fanout::history::History;
use flumen::fanout::placement::{self, Placement, SyncMethod, Wish};
use flumen::fanout::recovery::{Limits, RecoverPolicy};
use flumen::fanout::retention::Retention;
use flumen::fanout::ring::Ring;
use flumen::fanout::streamheader::Headers;
use flumen::units::{Extents, Moment};

use super::Run;

/// Chunks pushed in one run.
pub(crate) const PUSHES: u64 = 1000;
/// Listeners visited in one run.
pub(crate) const VISITS: u64 = 1000;
/// Newcomers placed in one run.
pub(crate) const NEWCOMERS: u64 = 1000;
/// Chunks in an hour of MP3.
pub(crate) const AN_HOUR: u64 = 144_000;

/// An MP3 frame of 128 kbit/s, a little longer than it is, so that 40 make a second.
const MP3: Stream = Stream { every: Duration::from_millis(25), size: 417, gop: 1, headers: 0 };
/// WebM of 2.5 Mbit/s: 25 blocks of picture a second and a streamheader; a keyframe every two seconds.
const WEBM: Stream = Stream { every: Duration::from_millis(20), size: 6250, gop: 100, headers: 400 };

/// What a stream is made of.
#[derive(Clone, Copy)]
struct Stream {
    every: Duration,
    size: usize,
    gop: u64,
    headers: usize,
}

/// Makes the chunks of a stream.
pub(super) struct Maker {
    stream: Stream,
    payload: Box<[u8]>,
    headers: Arc<Headers>,
    account: Arc<Account>,
    made: u64,
}

impl Maker {
    fn of(stream: Stream, account: &Arc<Account>) -> Self {
        let headers =
            if stream.headers == 0 { Headers::none() } else { Headers::new(&[vec![b'h'; stream.headers]], false, &Arc::default()) };
        Self { stream, payload: vec![b'x'; stream.size].into(), headers, account: Arc::clone(account), made: 0 }
    }

    pub(super) fn of_mp3(account: &Arc<Account>) -> Self {
        Self::of(MP3, account)
    }

    /// The next chunk, and when it comes.
    pub(super) fn next(&mut self) -> (Arc<Chunk>, Moment) {
        let arrival = Moment::ZERO + self.stream.every * self.made as u32;
        let marks = Marks { keyframe: self.made.is_multiple_of(self.stream.gop), pts: Some(arrival.nanos()), ..Marks::default() };
        self.made += 1;
        (Arc::new(Chunk::new(self.payload.clone(), marks, Arc::clone(&self.headers), &self.account)), arrival)
    }

    /// Writes so many chunks into a ring, as a mount's actor does.
    pub(super) fn write(&mut self, history: &mut History, ring: &mut Ring, chunks: u64) {
        for _ in 0..chunks {
            let (chunk, arrival) = self.next();
            history.push(ring, chunk, arrival);
        }
    }

    /// Adds so many chunks to a ring that forgets nothing.
    pub(super) fn fill(&mut self, ring: &mut Ring, chunks: u64) {
        for _ in 0..chunks {
            let (chunk, arrival) = self.next();
            ring.push(chunk, arrival.nanos());
        }
    }
}

fn extents(text: &str) -> Extents {
    text.parse().expect(text)
}

/// A burst for the ear and for browsers, recovery after ten seconds: what an operator writes.
pub(super) fn retention(keep: &str) -> Retention {
    let wish = Wish { method: SyncMethod::BurstKeyframe, burst: extents("5s, 48KiB"), burst_max: Extents::NONE };
    let limits = Limits { soft: extents("10s"), hard: extents("30s") };
    Retention::new(extents(keep), &wish, &limits, RecoverPolicy::Keyframe, 1 << 30)
}

/// Chunks are made, written into a feed under its lock, and as many of the oldest are forgotten.
pub(crate) fn push(keep: &str) -> Run {
    let feed = Feed::new(&[Alarm::silent()]);
    let mut maker = Maker::of_mp3(&Arc::default());
    let mut history = History::new(retention(keep));
    feed.write(|ring| maker.write(&mut history, ring, if keep == "1h" { AN_HOUR + 2 } else { 1202 }));
    Box::new(move || {
        for _ in 0..PUSHES {
            let (chunk, arrival) = maker.next();
            black_box(feed.write(|ring| history.push(ring, chunk, arrival)));
        }
    })
}

/// Chunks are made, written, shared with a shard's copy one by one, and forgotten on both sides.
pub(crate) fn follow() -> Run {
    let feed = Feed::new(&[Alarm::silent()]);
    let mut maker = Maker::of_mp3(&Arc::default());
    let mut copy = Ring::default();
    feed.write(|ring| maker.fill(ring, 400));
    feed.follow(0, &mut copy);
    Box::new(move || {
        for _ in 0..PUSHES {
            let (chunk, arrival) = maker.next();
            feed.write(|ring| {
                ring.push(chunk, arrival.nanos());
                ring.trim(ring.oldest().next());
            });
            let (_, oldest) = feed.follow(0, &mut copy);
            copy.unroll();
            copy.trim(oldest);
        }
    })
}

/// Listeners that take everything are visited, each once; so many chunks have come since the last time.
pub(crate) fn gather_mp3(chunks: u64) -> Run {
    gather(MP3, chunks)
}

/// The same on pictures and sound: fewer and larger chunks, and streamheaders to compare.
pub(crate) fn gather_webm() -> Run {
    gather(WEBM, 5)
}

fn gather(stream: Stream, chunks: u64) -> Run {
    let (mut ring, mut maker) = (Ring::default(), Maker::of(stream, &Arc::default()));
    maker.fill(&mut ring, 1200);
    let mut cursors: Vec<_> = (0..VISITS).map(|_| Cursor::new(Placement { at: ring.next(), await_keyframe: false })).collect();
    Box::new(move || {
        maker.fill(&mut ring, chunks);
        ring.unroll();
        ring.trim(ring.oldest().ahead(chunks));
        for cursor in &mut cursors {
            let bytes = {
                let mut slices = Slices::new();
                let bytes = cursor.gather(&ring, ring.next(), true, usize::MAX, &mut slices);
                black_box(&slices);
                bytes
            };
            cursor.advance(&ring, true, bytes);
        }
    })
}

/// Newcomers are placed on a history of so many chunks, a keyframe among fifty.
pub(crate) fn place(method: &str, chunks: u64) -> Run {
    let mut ring = Ring::default();
    Maker::of(Stream { gop: 50, ..MP3 }, &Arc::default()).fill(&mut ring, chunks);
    let wish = Wish { method: method.parse().expect(method), burst: extents("5s, 48KiB"), burst_max: extents("20s") };
    Box::new(move || {
        for _ in 0..NEWCOMERS {
            black_box(placement::place(black_box(&wish), black_box(&ring)));
        }
    })
}
