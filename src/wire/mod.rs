//! Bytes of dialects, pure: request heads, framed bodies, greetings, playlists, metadata. What comes in are slices, what goes out are
//! values.

pub mod charset;
pub mod chunked;
pub mod forwarded;
pub mod head;
pub mod icy;
pub mod listing;
pub mod media;
pub mod playlist;
pub mod proxy;
pub mod range;
pub mod relay;
pub mod shoutcast;
pub mod tags;
pub mod upstream;
