//! What caps say: the media type, and the streamheaders.

use std::sync::Arc;

use gstreamer as gst;

/// Most bytes of streamheaders that are believed; a set of comments with a cover picture fits.
pub const HEADERS_MOST: usize = 4 * 1024 * 1024;

/// What caps say of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// The name of the caps: `application/ogg`.
    pub name: String,
    /// `mpegversion`, which tells MP3 from AAC.
    pub mpegversion: Option<i32>,
    /// The media type for HTTP.
    pub content_type: Arc<str>,
    /// The `streamheader` array.
    pub headers: Vec<Vec<u8>>,
}

impl Media {
    /// Reads caps; `None` for caps without a structure.
    pub fn of(caps: &gst::CapsRef) -> Option<Self> {
        let structure = caps.structure(0)?;
        let name = structure.name().to_string();
        let mpegversion = structure.get::<i32>("mpegversion").ok();
        let field = |name: &str| structure.get::<String>(name).ok();
        let content_type = content_type(&name, mpegversion, structure.get::<i32>("layer").ok(), &field).into();
        Some(Self { name, mpegversion, content_type, headers: streamheaders(structure) })
    }
}

fn streamheaders(structure: &gst::StructureRef) -> Vec<Vec<u8>> {
    let Ok(array) = structure.get::<gst::Array>("streamheader") else { return Vec::new() };
    let mut total = 0;
    let buffers = array.iter().filter_map(|value| value.get::<gst::Buffer>().ok());
    buffers
        .filter_map(|buffer| buffer.map_readable().ok().map(|map| map.to_vec()))
        .take_while(|bytes| {
            total += bytes.len();
            total <= HEADERS_MOST
        })
        .collect()
}

/// GStreamer's names and those that HTTP clients know are mostly the same.
fn content_type(name: &str, mpegversion: Option<i32>, layer: Option<i32>, field: &dyn Fn(&str) -> Option<String>) -> String {
    match (name, mpegversion) {
        ("audio/mpeg", Some(2 | 4)) if layer.is_none() => "audio/aac".into(),
        ("video/mpegts", _) => "video/mp2t".into(),
        ("audio/x-wav", _) => "audio/wav".into(),
        ("audio/x-flac", _) => "audio/flac".into(),
        ("video/quicktime", _) => "video/mp4".into(),
        ("multipart/x-mixed-replace", _) => match field("boundary") {
            Some(boundary) if boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) => {
                format!("{name};boundary={boundary}")
            }
            _ => name.into(),
        },
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn the_media_type_is_the_one_that_players_know() {
        gst::init().expect("GStreamer");
        for (caps, want) in [
            ("audio/mpeg,mpegversion=1,layer=3", "audio/mpeg"),
            ("audio/mpeg,mpegversion=4,stream-format=adts", "audio/aac"),
            ("application/ogg", "application/ogg"),
            ("video/webm", "video/webm"),
            ("video/mpegts,packetsize=188", "video/mp2t"),
            ("multipart/x-mixed-replace,boundary=ThisRandomString", "multipart/x-mixed-replace;boundary=ThisRandomString"),
            ("multipart/x-mixed-replace,boundary=(string)\"a b\"", "multipart/x-mixed-replace"),
            ("application/x-gdp", "application/x-gdp"),
        ] {
            let media = Media::of(&gst::Caps::from_str(caps).expect(caps)).expect(caps);
            assert_eq!(&*media.content_type, want, "{caps}");
        }
    }

    #[test]
    fn streamheaders_come_in_their_order() {
        gst::init().expect("GStreamer");
        let caps = gst::Caps::from_str("application/x-test,streamheader=(buffer)<6261, 6263>").expect("caps");
        assert_eq!(Media::of(&caps).expect("media").headers, [b"ba", b"bc"]);
    }
}
