//! Bytes of dialects, pure: request heads, framed bodies, greetings and playlists. What comes in are slices, what goes out are values.

pub mod chunked;
pub mod head;
pub mod playlist;
pub mod shoutcast;
pub mod upstream;
