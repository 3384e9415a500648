//! Parsers of single values: each takes what was written and gives the checked value, or says what would be right.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::error::Place;
use super::reader::{Parsed, Wrong, all};
use super::tree::{Node, Value, parse_value};
use crate::access::network::{Network, Networks};
use crate::engine::pace::Coalesce;
use crate::mount::Cors;
use crate::units::{ByteCount, Extent, Extents, UnitError, format_duration, parse_duration};
use crate::wire::media;

/// The word that switches a limit off.
const NONE: &str = "none";
const EXTENT_REMEDY: &str = "write an extent such as \"5s\", \"48KiB\" or \"20 chunks\"";

/// A unit's own error, without the value that an error of the configuration shows anyway.
fn unit_error(text: &str, error: &UnitError) -> Wrong {
    let shown = format!("{text:?} ");
    let problem = error.problem.strip_prefix(&shown).unwrap_or(&error.problem);
    Wrong::new(problem, error.remedy)
}

/// A text; `hint` says what to write instead of a value of another type.
fn text(node: &Node, hint: impl Fn(&str) -> String) -> Result<&str, Wrong> {
    match &node.value {
        Value::Text(text) | Value::Loose(text) => Ok(text),
        _ => Err(Wrong::new(format!("is {}, not a text", node.kind()), hint(&node.shown()))),
    }
}

/// One value, or nothing for the word `none`.
pub(super) fn or_none<T>(parse: impl Fn(&Node) -> Parsed<T>) -> impl Fn(&Node) -> Parsed<Option<T>> {
    move |node| match &node.value {
        Value::Text(text) | Value::Loose(text) if text.trim() == NONE => Ok(None),
        _ => parse(node).map(Some),
    }
}

/// A whole number within a range. `none` says whether the word would do as well.
pub(super) fn number(range: RangeInclusive<u64>, none: bool) -> impl Fn(&Node) -> Parsed<u64> {
    move |node| {
        let or_none = if none { ", or \"none\" for no limit" } else { "" };
        let remedy = || format!("write a number from {} to {}{or_none}", range.start(), range.end());
        let number = match &node.value {
            Value::Integer(number) => *number,
            Value::Loose(text) => text.trim().parse().map_err(|_| vec![Wrong::new("is not a whole number", remedy())])?,
            Value::Text(text) if text.trim().parse::<u64>().is_ok() => {
                return Err(vec![Wrong::new("is a text, not a number", format!("write {} without quotes", text.trim()))]);
            }
            _ => return Err(vec![Wrong::new("is not a whole number", remedy())]),
        };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(vec![Wrong::new("is out of range", remedy())]),
        }
    }
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Parsed<bool> {
    match &node.value {
        Value::Boolean(yes) => Ok(*yes),
        Value::Loose(text) => text.trim().parse().map_err(|_| vec![Wrong::new("is neither true nor false", "write true or false")]),
        _ => Err(vec![Wrong::new("is neither true nor false", "write true or false, without quotes")]),
    }
}

/// A word out of a closed set, by its own parser.
pub(super) fn word<T: FromStr<Err = UnitError>>(node: &Node) -> Parsed<T> {
    let text = text(node, |_| "write a word in quotes".to_owned()).map_err(|wrong| vec![wrong])?;
    word_of(text)
}

/// The same of an item of a list.
pub(super) fn word_of<T: FromStr<Err = UnitError>>(text: &str) -> Parsed<T> {
    text.trim().parse().map_err(|error| vec![unit_error(text, &error)])
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Node) -> Parsed<T> {
    move |node| {
        let remedy = || {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("write one of {}", words.join(", "))
        };
        let text = text(node, |_| remedy()).map_err(|wrong| vec![wrong])?.trim();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| vec![Wrong::new("is not known here", remedy())])
    }
}

/// A duration within a range. `none` says whether the word would do as well.
pub(super) fn duration(range: RangeInclusive<Duration>, none: bool) -> impl Fn(&Node) -> Parsed<Duration> {
    move |node| {
        let or_none = if none { ", or \"none\" for no limit" } else { "" };
        let text = text(node, |shown| format!("write \"{shown}s\" or \"{shown}ms\"")).map_err(|wrong| vec![wrong])?;
        let span = parse_duration(text).map_err(|error| {
            let mut wrong = unit_error(text, &error);
            wrong.remedy.push_str(or_none);
            vec![wrong]
        })?;
        if range.contains(&span) {
            return Ok(span);
        }
        let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
        Err(vec![Wrong::new("is out of range", format!("write a duration from \"{least}\" to \"{most}\"{or_none}"))])
    }
}

/// A size within a range.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Parsed<ByteCount> {
    move |node| {
        let text = text(node, |shown| format!("write \"{shown}B\" or \"{shown}KiB\"")).map_err(|wrong| vec![wrong])?;
        let size: ByteCount = text.parse().map_err(|error| vec![unit_error(text, &error)])?;
        if range.contains(&size.0) {
            return Ok(size);
        }
        let (least, most) = (ByteCount(*range.start()), ByteCount(*range.end()));
        Err(vec![Wrong::new("is out of range", format!("write a size from \"{least}\" to \"{most}\""))])
    }
}

/// Most networks in a list.
const NETWORKS_MOST: usize = 4096;

/// A list of addresses and networks.
pub(super) fn networks(node: &Node) -> Parsed<Networks> {
    let found = texts(node, "[\"10.0.0.0/8\"]", |text, _| text.parse::<Network>().map_err(|error| vec![unit_error(text, &error)]))?;
    if found.len() > NETWORKS_MOST {
        return Err(vec![Wrong::new("has too many networks", format!("write at most {NETWORKS_MOST}, or put them into a file"))]);
    }
    Ok(Networks::new(found))
}

/// Units of a bandwidth, and how many bits per second each is; the largest first.
const BANDWIDTHS: [(&str, u64); 4] = [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1000), ("bit/s", 1)];

/// A bandwidth, in bytes per second: `500Mbit/s`.
pub(super) fn bandwidth(node: &Node) -> Parsed<u64> {
    const REMEDY: &str =
        "write a bandwidth such as \"500Mbit/s\" or \"10Gbit/s\", from \"8kbit/s\" to \"10000Gbit/s\", or \"none\" for no limit";
    let wrong = |problem: &str| vec![Wrong::new(problem, REMEDY)];
    let text = text(node, |shown| format!("write \"{shown}Mbit/s\"")).map_err(|wrong| vec![wrong])?.trim();
    let found = BANDWIDTHS.iter().find_map(|(unit, bits)| text.strip_suffix(unit).map(|number| (number.trim(), *bits)));
    let (number, bits) = found.ok_or_else(|| wrong("is no bandwidth"))?;
    let number: f64 = number.parse().map_err(|_| wrong("is no bandwidth"))?;
    let bits = number * bits as f64;
    if (8e3..=1e13).contains(&bits) { Ok((bits / 8.0).round() as u64) } else { Err(wrong("is out of range")) }
}

/// A bandwidth as it is written.
pub(super) fn shown_bandwidth(bytes: u64) -> String {
    let bits = bytes.saturating_mul(8);
    let (unit, of) = BANDWIDTHS.iter().find(|(_, of)| bits.is_multiple_of(*of)).unwrap_or(&BANDWIDTHS[3]);
    format!("{}{unit}", bits / of)
}

/// A path, counted from the folder of the file it is written in.
pub(super) fn path(node: &Node) -> Parsed<PathBuf> {
    let remedy = "write a path, absolute or counted from the configuration's own folder";
    let written = match &node.value {
        Value::Text(text) | Value::Loose(text) if !text.is_empty() && !text.contains('\0') => text,
        _ => return Err(vec![Wrong::new("is no path", remedy)]),
    };
    Ok(beside(&node.place, written))
}

/// What a path means that is written at this place.
fn beside(place: &Place, written: &str) -> PathBuf {
    let beside = match place {
        Place::File { name, .. } => Path::new(&**name).parent().map(|folder| folder.join(written)),
        _ => None,
    };
    let path = beside.unwrap_or_else(|| written.into());
    std::path::absolute(&path).unwrap_or(path)
}

/// The file that a text names as `file:…`; `None`: it does not.
pub(super) fn file(node: &Node) -> Option<PathBuf> {
    let (Value::Text(text) | Value::Loose(text)) = &node.value else { return None };
    let written = text.strip_prefix("file:")?.trim_start_matches("//");
    (!written.is_empty() && !written.contains('\0')).then(|| beside(&node.place, written))
}

fn extent(node: &Node) -> Parsed<Extent> {
    let text = text(node, |shown| match node.value {
        Value::Integer(_) => format!("write \"{shown}s\" (or \"{shown}KiB\", \"{shown} chunks\")"),
        _ => EXTENT_REMEDY.to_owned(),
    });
    let text = text.map_err(|wrong| vec![wrong])?;
    text.parse().map_err(|error| vec![unit_error(text, &error)])
}

/// An extent, a list of extents, or `none`.
pub(super) fn extents(node: &Node) -> Parsed<Extents> {
    let found = match &node.value {
        Value::Text(text) | Value::Loose(text) if text.trim() == NONE => Vec::new(),
        Value::List(items) if items.is_empty() => {
            return Err(vec![Wrong::new("is an empty list", "write \"none\", or at least one extent")]);
        }
        Value::Loose(text) if text.trim().is_empty() => return Err(vec![Wrong::new("is empty", EXTENT_REMEDY)]),
        _ => all(items(node).iter().enumerate().map(|(i, item)| {
            let one = match &item.value {
                Value::Text(text) if text.trim() == NONE => Err(vec![Wrong::new("is no extent", "write \"none\" alone, not in a list")]),
                _ => extent(item),
            };
            indexed(one, node, i, item)
        }))?,
    };
    Extents::new(found).map_err(|error| vec![Wrong::new(error.problem, error.remedy)])
}

/// Texts, each parsed by itself: a list, or a single one without brackets.
pub(super) fn texts<T>(node: &Node, example: &'static str, parse: impl Fn(&str, &Node) -> Parsed<T>) -> Parsed<Vec<T>> {
    all(items(node).iter().enumerate().map(|(i, item)| {
        let one = match text(item, |_| format!("write a list of texts such as {example}")) {
            Ok(text) => parse(text.trim(), item),
            Err(wrong) => Err(vec![wrong]),
        };
        indexed(one, node, i, item)
    }))
}

/// The items of a list, of a loose text with commas or brackets, or the value itself as the only one.
fn items(node: &Node) -> Vec<Node> {
    match &node.value {
        Value::List(items) => items.clone(),
        Value::Loose(text) if text.trim().starts_with('[') => match parse_value(text.trim(), &node.place) {
            Some(Node { value: Value::List(items), .. }) => items,
            _ => vec![node.clone()],
        },
        Value::Loose(text) if text.trim().is_empty() => Vec::new(),
        Value::Loose(text) => text.split(',').map(|item| Node::loose(item.trim(), node.place.clone())).collect(),
        _ => vec![node.clone()],
    }
}

/// Names the item of a list that is wrong; a value which is no list needs no name.
fn indexed<T>(parsed: Parsed<T>, list: &Node, index: usize, item: &Node) -> Parsed<T> {
    let is_list = matches!(list.value, Value::List(_));
    parsed.map_err(|wrongs| wrongs.into_iter().map(|wrong| if is_list { wrong.at(index, item) } else { wrong }).collect())
}

/// A line of text for people: bounded, without control characters, not empty.
pub(super) fn line(longest: usize) -> impl Fn(&Node) -> Parsed<String> {
    move |node| {
        let text = text(node, |shown| format!("write \"{shown}\"")).map_err(|wrong| vec![wrong])?;
        let wrong = |problem: String, remedy: &str| Err(vec![Wrong::new(problem, remedy)]);
        if text.trim().is_empty() {
            return wrong("is empty".to_owned(), "write a text, or remove the key");
        }
        if text.len() > longest {
            return wrong(format!("is {} bytes long", text.len()), &format!("write at most {longest} bytes"));
        }
        if let Some(odd) = text.chars().find(|c| c.is_control()) {
            return wrong(format!("has a control character ({odd:?})"), "write one line of plain text");
        }
        Ok(text.to_owned())
    }
}

/// A web address.
pub(super) fn web_address(node: &Node) -> Parsed<String> {
    let text = line(2048)(node)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) || text.contains(char::is_whitespace) {
        return Err(vec![Wrong::new("is not a web address", "write one such as \"https://example.org/\"")]);
    }
    Ok(text)
}

/// A media type with its parameters.
pub(super) fn media_type(node: &Node) -> Parsed<String> {
    let text = line(media::MOST)(node)?;
    if is_media_type(&text) {
        Ok(text)
    } else {
        Err(vec![Wrong::new("is not a media type", "write one such as \"audio/mpeg\" or \"application/ogg\"")])
    }
}

/// Whether a text is a media type with its parameters.
pub(super) fn is_media_type(text: &str) -> bool {
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    let quoted = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.is_some_and(|inner| inner.bytes().all(|b| (b == b' ' || b.is_ascii_graphic()) && b != b'"' && b != b'\\' && b != b';'))
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().and_then(|essence| essence.split_once('/'));
    essence.is_some_and(|(kind, sub)| token(kind) && token(sub))
        && parts.all(|part| part.split_once('=').is_some_and(|(name, value)| token(name) && (token(value) || quoted(value))))
}

/// A GStreamer launch string, as far as can be seen without GStreamer.
pub(super) fn pipeline(node: &Node, check: &dyn Fn(&str) -> Result<(), String>) -> Parsed<String> {
    const REMEDY: &str =
        "write GStreamer launch syntax such as \"audiotestsrc is-live=true ! lamemp3enc ! mpegaudioparse\", without a sink";
    let text = text(node, |_| REMEDY.to_owned()).map_err(|wrong| vec![wrong])?;
    if text.trim().is_empty() {
        return Err(vec![Wrong::new("is empty", format!("{REMEDY}, or remove the key"))]);
    }
    if text.contains('\0') {
        return Err(vec![Wrong::new("has a zero byte", REMEDY)]);
    }
    match check(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(vec![Wrong::new(problem, "try it with gst-launch-1.0 (there with a sink at its end)")]),
    }
}

/// The range of the coalescing window: `20ms..500ms`, or one value for both ends.
pub(super) fn coalesce(node: &Node) -> Parsed<Coalesce> {
    const REMEDY: &str = "write a range such as \"20ms..500ms\" or one duration, from \"1ms\" to \"10s\"";
    let allowed = Duration::from_millis(1)..=Duration::from_secs(10);
    let wrong = |problem: &str| vec![Wrong::new(problem, REMEDY)];
    let text = text(node, |shown| format!("write \"{shown}ms\"")).map_err(|wrong| vec![wrong])?;
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let end = |text: &str| parse_duration(text).map_err(|_| wrong("is not a range of durations"));
    let (min, max) = (end(min)?, end(max)?);
    if min > max {
        return Err(wrong("ends before it begins"));
    }
    if !allowed.contains(&min) || !allowed.contains(&max) {
        return Err(wrong("is out of range"));
    }
    Ok(Coalesce { min, max })
}

/// Bytes between two places for a title, as a number or a size.
pub(super) fn interval(node: &Node) -> Parsed<u32> {
    const RANGE: RangeInclusive<u64> = 1024..=1 << 20;
    let plain = match &node.value {
        Value::Integer(_) => true,
        Value::Text(text) | Value::Loose(text) => text.trim().bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    let number = if plain { whole(node) } else { size(RANGE)(node).ok().map(|size| size.0) };
    let found = number.filter(|number| RANGE.contains(number)).and_then(|number| u32::try_from(number).ok());
    let remedy = "write a number of bytes from 1024 to 1048576, such as 16000; players read the number, so any will do";
    found.ok_or_else(|| vec![Wrong::new("is no number of bytes in range", remedy)])
}

/// A whole number, also one that is written as a text.
fn whole(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Text(text) | Value::Loose(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Most origins in a list.
const ORIGINS_MOST: usize = 64;

/// Who may read from other pages: `*`, `none`, or a list of origins.
pub(super) fn cors(node: &Node) -> Parsed<Cors> {
    const EXAMPLE: &str = "[\"https://example.org\"]";
    match &node.value {
        Value::Text(text) | Value::Loose(text) if text.trim() == "*" => return Ok(Cors::Any),
        Value::Text(text) | Value::Loose(text) if text.trim() == NONE => return Ok(Cors::None),
        _ => {}
    }
    let origins = texts(node, EXAMPLE, |text, _| {
        let origin = text.to_ascii_lowercase();
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        // A host and perhaps a port: what a browser sends has no path, not even a slash.
        let good = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        if rest.is_some_and(good) {
            Ok(origin)
        } else {
            Err(vec![Wrong::new("is no origin", format!("write \"*\", \"none\", or a list such as {EXAMPLE}, without a path"))])
        }
    })?;
    match origins.len() {
        1..=ORIGINS_MOST => Ok(Cors::Origins(origins)),
        0 => Err(vec![Wrong::new("is an empty list", "write \"none\", or at least one origin")]),
        _ => Err(vec![Wrong::new("has too many origins", format!("write at most {ORIGINS_MOST}, or \"*\""))]),
    }
}

/// SO_SNDBUF, or `auto`.
pub(super) fn send_buffer(node: &Node) -> Parsed<Option<u32>> {
    match &node.value {
        Value::Text(text) | Value::Loose(text) if text.trim() == "auto" => Ok(None),
        _ => {
            let auto = |mut wrong: Wrong| {
                wrong.remedy.push_str(", or \"auto\"");
                wrong
            };
            let size = size(4 << 10..=64 << 20)(node).map_err(|wrongs| wrongs.into_iter().map(auto).collect::<Vec<_>>())?;
            Ok(u32::try_from(size.0).ok())
        }
    }
}

/// A DSCP: its number, or its usual name.
pub(super) fn dscp(node: &Node) -> Parsed<u8> {
    let wrong =
        || vec![Wrong::new("is not a DSCP", "write a number from 0 to 63, a name such as \"EF\", \"AF41\" or \"CS5\", or \"none\"")];
    let number = |number: i128| u8::try_from(number).ok().filter(|number| *number < 64).ok_or_else(wrong);
    let text = match &node.value {
        Value::Integer(value) => return number(*value),
        Value::Text(text) | Value::Loose(text) => text.trim().to_ascii_uppercase(),
        _ => return Err(wrong()),
    };
    let digit =
        |at: usize, range: RangeInclusive<u8>| text.as_bytes().get(at).map(|b| b.wrapping_sub(b'0')).filter(|digit| range.contains(digit));
    let named = match text.as_str() {
        "EF" => Some(46),
        "VA" => Some(44),
        "LE" => Some(1),
        "DF" | "BE" => Some(0),
        name if name.len() == 3 && name.starts_with("CS") => digit(2, 0..=7).map(|class| 8 * class),
        name if name.len() == 4 && name.starts_with("AF") => digit(2, 1..=4).zip(digit(3, 1..=3)).map(|(class, drop)| 8 * class + 2 * drop),
        other => return number(other.parse().map_err(|_| wrong())?),
    };
    named.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose(text: &str) -> Node {
        Node::loose(text, Place::Variable("TEST".into()))
    }

    #[test]
    fn a_media_type_is_checked() {
        for good in [
            "audio/mpeg",
            "application/ogg",
            "video/webm; codecs=\"vp8, opus\"",
            "text/plain;charset=utf-8",
            "multipart/x-mixed-replace;boundary=--x",
        ] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["audio", "audio/", "/mpeg", "audio/mp eg", "audio/mpeg;", "audio/mpeg; x", "audio/mpeg; x=\"a\"b\"", "audio/ä"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }

    #[test]
    fn a_bandwidth_is_a_number_with_its_unit() {
        for (text, bytes, shown) in [
            ("500Mbit/s", 62_500_000, "500Mbit/s"),
            ("1.5 Gbit/s", 187_500_000, "1500Mbit/s"),
            ("128kbit/s", 16_000, "128kbit/s"),
            ("10000bit/s", 1250, "10kbit/s"),
            ("8008bit/s", 1001, "8008bit/s"),
        ] {
            let found = bandwidth(&loose(text)).expect(text);
            assert_eq!((found, shown_bandwidth(found).as_str()), (bytes, shown), "{text}");
        }
        for bad in ["500", "500Mbit", "500MB/s", "-1Mbit/s", "1kbit/s", "NaNGbit/s", "infGbit/s", "20000Gbit/s", "Mbit/s", ""] {
            assert!(bandwidth(&loose(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_dscp_is_a_number_or_its_name() {
        for (text, want) in [("0", 0), ("63", 63), ("EF", 46), ("ef", 46), ("AF41", 34), ("AF11", 10), ("CS0", 0), ("CS7", 56), ("LE", 1)] {
            assert_eq!(dscp(&loose(text)).expect(text), want, "{text}");
        }
        for bad in ["64", "-1", "AF44", "AF51", "AF4", "CS8", "CS", "EF1", "", "CSé"] {
            assert!(dscp(&loose(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_from_outside_may_have_brackets_or_commas() {
        for text in ["5s,48KiB", "5s, 48KiB", "[\"5s\", \"48KiB\"]"] {
            assert_eq!(extents(&loose(text)).expect(text).to_string(), "[\"5s\", \"48KiB\"]", "{text}");
        }
        for bad in ["[\"5s\"", "[5]", ",", "5s,", ""] {
            assert!(extents(&loose(bad)).is_err(), "{bad}");
        }
    }
}
