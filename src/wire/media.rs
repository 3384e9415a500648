//! What somebody calls the stream that he sends: a media type, as far as it can be believed. Pure.

/// The longest media type, in bytes; one that an operator writes is no longer either.
pub const MOST: usize = 255;

/// A media type that somebody claims, if it can be passed on as it is: in the head of an answer, in a line of the log.
pub fn believed(claimed: &str) -> Option<&str> {
    let plain = |claimed: &&str| claimed.len() <= MOST && claimed.contains('/') && claimed.bytes().all(|byte| (b' '..0x7F).contains(&byte));
    Some(claimed.trim()).filter(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_believed_that_can_be_a_field_of_an_answer() {
        let longest = format!("audio/{}", "x".repeat(MOST - 6));
        for good in ["audio/mpeg", "audio/ogg; codecs=\"opus\"", &longest] {
            assert_eq!(believed(&format!(" {good} ")), Some(good));
        }
        for bad in ["", "mpeg", "audio/\u{7}", "audio/mpeg\r\nX: y", "audio/\0", "audio/ö", &format!("{longest}x"), &"a/".repeat(32_767)] {
            assert_eq!(believed(bad), None, "{bad:.20}");
        }
    }
}
