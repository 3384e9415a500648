//! Bytes of dialects, pure: request heads and playlists. What comes in are slices, what goes out are values.

pub mod head;
pub mod playlist;
