//! What everybody hears first who comes to a mount: a file, loaded when the configuration is read. One copy for all, and one more with
//! places for titles where players are promised those.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::listener::{self, Inlay};

/// Bytes of the largest intro: four minutes at 128 kbit/s, and all of it is sent at once.
pub const INTRO_MOST: u64 = 4 * 1024 * 1024;

/// An intro.
#[derive(Debug)]
pub struct Intro {
    /// Where it comes from.
    pub path: Arc<Path>,
    media_type: Arc<str>,
    plain: Arc<[u8]>,
    titled: Arc<[u8]>,
    interval: u32,
    said: AtomicBool,
}

impl PartialEq for Intro {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.plain, self.interval) == (&other.path, &other.plain, other.interval)
    }
}

impl Eq for Intro {}

impl Intro {
    /// An intro of this media type, for players that are promised titles after every so many bytes.
    pub fn new(path: Arc<Path>, media_type: Arc<str>, bytes: &[u8], interval: u32) -> Self {
        // After each whole interval stands a block of no length: nothing new is being played.
        let step = interval.max(1) as usize;
        let parts = bytes.chunks(step).flat_map(|part| [part, if part.len() == step { &[0] } else { &[] }]);
        let titled = parts.collect::<Vec<_>>().concat().into();
        Self { path, media_type, plain: bytes.into(), titled, interval, said: AtomicBool::new(false) }
    }

    /// What it takes in memory.
    pub fn held_bytes(&self) -> u64 {
        (self.plain.len() + self.titled.len()) as u64
    }

    /// What a newcomer gets of it who is promised this between the bytes of a stream of this type; nothing, where it would not be
    /// understood.
    pub(super) fn before(&self, media_type: &str, inlay: Option<Inlay>, mount: &str) -> Option<listener::Intro> {
        if subtype(media_type) != subtype(&self.media_type) {
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!(mount, file = %self.path.display(), intro = &*self.media_type, stream = media_type,
                    "the intro is of another kind than the stream: it is left out");
            }
            return None;
        }
        let bytes = match inlay {
            None => &self.plain,
            Some(Inlay::Titles(interval)) if interval == self.interval => &self.titled,
            // A relay's listeners get the intro of their own server.
            Some(_) => return None,
        };
        Some(listener::Intro { bytes: Arc::clone(bytes), plain: self.plain.len() as u64 })
    }
}

/// What tells one kind of stream from another, whoever names it.
fn subtype(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name = essence.split('/').next_back().unwrap_or_default().trim_start_matches("x-").to_owned();
    match name.as_str() {
        "mp3" | "mpg" | "mpeg3" => "mpeg".to_owned(),
        "aacp" => "aac".to_owned(),
        "opus" | "vorbis" => "ogg".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intro(media_type: &str, bytes: &[u8], interval: u32) -> Intro {
        Intro::new(Path::new("/intro").into(), media_type.into(), bytes, interval)
    }

    #[test]
    fn an_intro_has_its_places_for_titles_where_they_are_promised() {
        for (bytes, titled) in [("abcdefgh", "abc\0def\0gh"), ("abc", "abc\0"), ("ab", "ab"), ("", "")] {
            let intro = intro("audio/mpeg", bytes.as_bytes(), 3);
            let given = |inlay| intro.before("audio/mp3; x=y", inlay, "/a").map(|given| (given.bytes.to_vec(), given.plain));
            assert_eq!(given(None), Some((bytes.into(), bytes.len() as u64)));
            assert_eq!(given(Some(Inlay::Titles(3))), Some((titled.into(), bytes.len() as u64)));
            assert_eq!((given(Some(Inlay::Frames)), given(Some(Inlay::Titles(5)))), (None, None));
            assert_eq!(intro.held_bytes() as usize, bytes.len() + titled.len());
        }
    }

    #[test]
    fn an_intro_is_for_streams_of_its_own_kind() {
        for (intro_type, stream, fits) in [
            ("audio/mpeg", "audio/mpeg", true),
            ("application/ogg", "audio/ogg; codecs=opus", true),
            ("audio/aac", "audio/aacp", true),
            ("audio/flac", "audio/x-flac", true),
            ("audio/mpeg", "audio/aac", false),
            ("application/ogg", "video/webm", false),
        ] {
            let intro = intro(intro_type, b"x", 3);
            assert_eq!(intro.before(stream, None, "/a").is_some(), fits, "{intro_type} {stream}");
        }
    }
}
