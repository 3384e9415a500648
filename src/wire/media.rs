//! What somebody calls the stream that he sends: a media type, as far as it can be believed. Pure.

/// The longest media type, in bytes; one that an operator writes is no longer either.
pub const MOST: usize = 255;

/// A media type that somebody claims, if it can be passed on as it is: in the head of an answer, in a line of the log. Pages cannot:
/// what they do in a browser they do in the name of this server, and of whoever operates it.
pub fn believed(claimed: &str) -> Option<&str> {
    let plain = |claimed: &&str| claimed.len() <= MOST && claimed.contains('/') && claimed.bytes().all(|byte| (b' '..0x7F).contains(&byte));
    Some(claimed.trim()).filter(plain).filter(|claimed| !is_page(claimed))
}

/// Whether a browser shows this as a page that can run scripts, runs it as one, or looks itself what it may be (as the standard of
/// sniffing has it). Some take what is behind a comma for another type.
fn is_page(media_type: &str) -> bool {
    media_type.split([';', ',']).any(|part| {
        let part = part.trim().to_ascii_lowercase();
        let sub = part.split_once('/').map_or("", |(_, sub)| sub);
        ["xml", "html", "script", "svg", "pdf", "unknown", "*"].iter().any(|what| sub.contains(what))
    })
}

/// Whether parts of any type may be within: a browser shows them, one after the other, as if they were the stream itself.
pub fn has_parts(media_type: &str) -> bool {
    media_type.trim_start().get(..10).is_some_and(|main| main.eq_ignore_ascii_case("multipart/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_believed_that_can_be_a_field_of_an_answer() {
        let longest = format!("audio/{}", "x".repeat(MOST - 6));
        for (media_type, has) in
            [("multipart/x-mixed-replace;boundary=x", true), ("Multipart/mixed", true), ("audio/mpeg", false), ("", false)]
        {
            assert_eq!(has_parts(media_type), has, "{media_type}");
        }
        for good in ["audio/mpeg", "multipart/x-mixed-replace;boundary=x", "audio/ogg; codecs=\"opus\"", &longest] {
            assert_eq!(believed(&format!(" {good} ")), Some(good));
        }
        for page in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "audio/mpeg, text/html",
            "audio/mpeg;text/html",
            "application/xhtml+xml",
            "image/svg+xml",
            "text/xml",
            "application/javascript",
            "text/ecmascript",
            "unknown/unknown",
            "*/*",
        ] {
            assert_eq!(believed(page), None, "{page}");
        }
        for bad in ["", "mpeg", "audio/\u{7}", "audio/mpeg\r\nX: y", "audio/\0", "audio/ö", &format!("{longest}x"), &"a/".repeat(32_767)] {
            assert_eq!(believed(bad), None, "{bad:.20}");
        }
    }
}
