//! A recording that is heard again and again while a mount's source is away: a file, at its own speed.
//!
//! ```text
//!   file ─ pieces of 16 KiB ─▶ framer ─▶ tempo ─▶ wait until it is due ─▶ gate
//! ```
//! - What is due is given, and no more: who joins gets what the mount's burst asks for of what has been played, never the file at once.
//! - Read piece by piece, never held as a whole. What a framer finds in one piece is held until it is due.
//! - It yields. As soon as a source delivers, the way into the mount is closed to it (`mount::gate`).
//!
//! Deliberately absent: when it is to be heard (the supervisor's), and every kind of file for which no time is known (`framing::tempo`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;

use super::framing::kind::{self, Kind, PROOF_MOST, Verdict};
use super::framing::tempo::Tempo;
use super::framing::{Framed, Framer, Piece};
use super::outlet::Outlet;
use crate::fanout::chunk::Marks;
use crate::mount::Gate;
use crate::mount::GateError;

/// Bytes read at once.
const READ_AT_ONCE: usize = 16 * 1024;
/// What is due within this time is given together.
const STEP: Duration = Duration::from_millis(20);
/// Who is late by more than this does not catch up: the machine stood still.
const LATE_MOST: Duration = Duration::from_secs(1);
/// Bytes of a file in which something must be found that can be played.
const LOOKED_AT: u64 = 1024 * 1024;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is nothing that is known here, or nothing whose time is.
    #[error("it is no MP3, AAC (ADTS) or audio in Ogg, or nothing can be heard in its beginning")]
    Kind,
    /// Players have been told that they play something else.
    #[error("it is of another kind than {promised}, which players have been told that they play")]
    Other { promised: Arc<str> },
    /// The mount takes no more of it.
    #[error("the mount takes no more of it")]
    Gate(#[from] GateError),
}

/// What a file is that can be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    path: Arc<Path>,
    kind: Kind,
    /// The media type by which it is served.
    pub content_type: Arc<str>,
}

impl Recording {
    /// The media type by which bytes are served, if it is known.
    pub fn media_type_of(bytes: &[u8]) -> Option<Arc<str>> {
        match kind::judge(&bytes[..bytes.len().min(PROOF_MOST)], None) {
            Verdict::Known(kind) => Some(kind.content_type(None)),
            Verdict::Unknown | Verdict::NeedMore => None,
        }
    }

    /// Looks at the beginning of a file. Blocks.
    ///
    /// # Errors
    /// When it cannot be played.
    pub fn open(path: &Arc<Path>) -> Result<Self, RecordingError> {
        let mut begun = Vec::new();
        File::open(path)?.take(LOOKED_AT).read_to_end(&mut begun)?;
        let Verdict::Known(kind) = kind::judge(&begun[..begun.len().min(PROOF_MOST)], None) else { return Err(RecordingError::Kind) };
        let (Some(mut framer), Some(mut tempo)) = (kind.framer(), Tempo::of(kind)) else { return Err(RecordingError::Kind) };
        let lasts = found(&mut framer, &begun).iter().fold(Duration::ZERO, |_, framed| tempo.after(framed));
        if lasts.is_zero() {
            return Err(RecordingError::Kind);
        }
        Ok(Self { path: Arc::clone(path), kind, content_type: kind.content_type(None) })
    }

    /// Whether a player of this media type can go on with it.
    pub fn is_of(&self, media_type: &str) -> bool {
        Kind::of_media_type(kind::essence(media_type)) == Some(self.kind)
    }

    /// Plays it again and again, until the mount takes no more of it. `goes_on` is asked before each piece.
    ///
    /// # Errors
    /// Why it has ended, if nobody ended it.
    pub async fn play(&self, gate: Gate, mut goes_on: impl FnMut() -> bool) -> Result<(), RecordingError> {
        let mut outlet = Outlet::new(gate);
        outlet.content_type = Some(Arc::clone(&self.content_type));
        let mut pace = Pace::begin(Instant::now());
        loop {
            let before = pace.due;
            let path = Arc::clone(&self.path);
            let mut file = blocking(move || File::open(path)).await?;
            let (Some(mut framer), Some(mut tempo)) = (self.kind.framer(), Tempo::of(self.kind)) else { return Err(RecordingError::Kind) };
            let begun = pace.due;
            loop {
                if !goes_on() {
                    return Ok(());
                }
                let (back, piece) = blocking(move || {
                    let mut piece = vec![0; READ_AT_ONCE];
                    let count = file.read(&mut piece)?;
                    piece.truncate(count);
                    Ok((file, piece))
                })
                .await?;
                file = back;
                let mut units = found(&mut framer, &piece);
                if piece.is_empty() {
                    framer.finish(&mut units);
                }
                for framed in units {
                    // What is played is due when what came before it is over.
                    let wait = pace.wait(Instant::now());
                    if wait > STEP {
                        outlet.hand_over_patiently().await?;
                        tokio::time::sleep(wait).await;
                    }
                    pace.due = begun + tempo.after(&framed);
                    outlet.take(vec![framed]);
                }
                outlet.hand_over_patiently().await?;
                if piece.is_empty() {
                    break;
                }
            }
            if pace.due == before {
                return Err(RecordingError::Kind); // another file has taken its place, and it would be read without end
            }
        }
    }
}

/// What a framer finds in a piece.
fn found(framer: &mut Framer, piece: &[u8]) -> Vec<Framed> {
    let mut out = Vec::new();
    framer.push(&Piece { data: piece, marks: Marks::default() }, &mut out);
    out
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(read).await.map_err(io::Error::other)?
}

/// When what is next is due.
#[derive(Debug)]
struct Pace {
    began: Instant,
    /// Since `began`.
    due: Duration,
}

impl Pace {
    fn begin(now: Instant) -> Self {
        Self { began: now, due: Duration::ZERO }
    }

    /// How long to wait until it is due. Who is far too late begins anew, lest all that was missed come at once.
    fn wait(&mut self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.began + self.due);
        if late > LATE_MOST {
            self.began = now.checked_sub(self.due).unwrap_or(now);
        }
        (self.began + self.due).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_caught_up_with_but_not_after_a_standstill() {
        let began = Instant::now();
        let mut pace = Pace::begin(began);
        let ms = Duration::from_millis;
        for (due, now, want) in [(0, 0, 0), (100, 40, 60), (100, 100, 0), (200, 900, 0), (1000, 950, 50), (1100, 5000, 0), (1200, 5040, 60)]
        {
            pace.due = ms(due);
            assert_eq!(pace.wait(began + ms(now)), ms(want), "{due} at {now}");
        }
    }

    #[test]
    fn only_what_can_be_timed_is_a_recording() {
        let dir = std::env::temp_dir().join(format!("flumen-recording-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = |name: &str, bytes: &[u8]| -> Arc<Path> {
            let path = dir.join(name);
            std::fs::write(&path, bytes).expect("written");
            path.into()
        };
        let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
        frame.resize(417, 0);
        let found = Recording::open(&file("a.mp3", &frame.repeat(5))).expect("a recording");
        assert_eq!((found.kind, &*found.content_type), (Kind::Mpeg, "audio/mpeg"));
        for (name, bytes) in [("text", b"nothing that is heard".as_slice()), ("empty", b""), ("webm", &[0x1A, 0x45, 0xDF, 0xA3, 0x80])] {
            assert!(matches!(Recording::open(&file(name, bytes)), Err(RecordingError::Kind)), "{name}");
        }
        assert!(matches!(Recording::open(&dir.join("missing").into()), Err(RecordingError::Io(_))));
        assert!(matches!(Recording::open(&dir.clone().into()), Err(RecordingError::Io(_))), "a folder");
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
