//! The units of the house: positions, moments, amounts of stream, names of mounts.
//!
//! Every other room speaks in these. They are plain values: no clock is read here, nothing is locked, nothing allocates
//! behind the caller's back. Parsing accepts what an operator writes (`"512KiB"`, `"2s"`, `"200 chunks"`) and its errors
//! say what would be right.
//!
//! Deliberately absent: conversions between units. What a byte is in seconds depends on the stream, and only a ring knows.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

/// Place of a chunk in a mount's history. Grows by one per chunk, is never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The place of the first chunk of a mount.
    pub const ZERO: Self = Self(0);

    /// A place that no chunk will ever have.
    pub const LAST: Self = Self(u64::MAX);

    /// The place with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number behind the place, for people and files.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place `chunks` further on.
    #[must_use]
    pub const fn ahead(self, chunks: u64) -> Self {
        Self(self.0 + chunks)
    }

    /// The place `chunks` earlier, or the first one.
    #[must_use]
    pub const fn back(self, chunks: u64) -> Self {
        Self(self.0.saturating_sub(chunks))
    }

    /// Distance in chunks from an earlier place. Callers compare before they subtract.
    pub fn since(self, earlier: Self) -> u64 {
        debug_assert!(earlier <= self, "distance asked backwards: {earlier:?} to {self:?}");
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment of the server's own monotonic clock: nanoseconds since some start that never moves.
///
/// Moments come in as arguments everywhere below the engine, which is what lets a test run months in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// A moment from nanoseconds since the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from an earlier moment to this one; zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// Whole nanoseconds of a duration; five centuries and more are all the same.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Names one listener for as long as the process lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u64);

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is wrong with a text that should have been a unit, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct UnitError {
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: &'static str,
}

const BYTES_REMEDY: &str = "write a size such as \"48KiB\", \"2MiB\" or \"500000B\"";
const TIME_REMEDY: &str = "write a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\"";
const EXTENT_REMEDY: &str = "write an extent such as \"512KiB\", \"5s\" or \"20 chunks\"";

/// Splits `"48KiB"` or `"20 chunks"` into number and unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

fn whole(number: f64) -> Option<u64> {
    // 2^53 is where f64 stops to count one by one; no sensible setting comes near.
    (number.fract() == 0.0 && (0.0..9.0e15).contains(&number)).then_some(number as u64)
}

/// An amount of bytes; prints and parses with binary units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl ByteCount {
    fn of(number: f64, unit: &str) -> Option<Self> {
        let factor: u64 = match unit {
            "B" | "bytes" | "byte" => 1,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        whole((number * factor as f64).round()).map(Self)
    }
}

impl FromStr for ByteCount {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        number_and_unit(text)
            .and_then(|(number, unit)| Self::of(number, unit))
            .ok_or_else(|| UnitError { problem: format!("{text:?} is not a size"), remedy: BYTES_REMEDY })
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= unit {
                return if self.0.is_multiple_of(unit) {
                    write!(f, "{}{name}", self.0 / unit)
                } else {
                    write!(f, "{:.1}{name}", self.0 as f64 / unit as f64)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

fn duration_of(number: f64, unit: &str) -> Option<Duration> {
    let nanos: f64 = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        _ => return None,
    };
    // Up to the five centuries that fit into nanoseconds; beyond a hundred days f64 is good to some microseconds.
    let nanos = (number * nanos).round();
    (0.0..1.8e19).contains(&nanos).then(|| Duration::from_nanos(nanos as u64))
}

/// Parses `"250ms"`, `"5s"`, `"2m"`, `"1h"`, `"7d"`.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    number_and_unit(text)
        .and_then(|(number, unit)| duration_of(number, unit))
        .ok_or_else(|| UnitError { problem: format!("{text:?} is not a duration"), remedy: TIME_REMEDY })
}

/// A duration as an operator would write it: the largest unit that leaves a whole number.
pub fn format_duration(span: Duration) -> String {
    let n = nanos(span);
    for (unit, name) in
        [(86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
    {
        if n >= unit && n.is_multiple_of(unit) {
            return format!("{}{name}", n / unit);
        }
    }
    format!("{n}ns")
}

/// An amount of stream, in the unit the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many chunks (GStreamer: buffers).
    Chunks(u64),
    /// So many bytes of payload; streamheaders do not count.
    Bytes(ByteCount),
    /// So much stream time: the difference between the stamps of two chunks.
    Time(Duration),
}

impl FromStr for Extent {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { problem: format!("{text:?} is not an extent"), remedy: EXTENT_REMEDY };
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        if matches!(unit, "chunks" | "chunk" | "buffers" | "buffer") {
            return whole(number).map(Self::Chunks).ok_or_else(wrong);
        }
        ByteCount::of(number, unit).map(Self::Bytes).or_else(|| duration_of(number, unit).map(Self::Time)).ok_or_else(wrong)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunks(1) => f.write_str("1 chunk"),
            Self::Chunks(n) => write!(f, "{n} chunks"),
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Time(span) => f.write_str(&format_duration(*span)),
        }
    }
}

/// Several extents at once. As a minimum all of them are to be reached, as a maximum none is to be passed;
/// which of the two it is, the user of the list knows. Empty means: no such minimum, no such maximum (`"none"`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// How many extents one list may hold; one of each unit says everything, a few more do no harm.
    pub const MOST: usize = 8;

    /// No extent at all.
    pub const NONE: Self = Self(Vec::new());

    /// A list of extents, at most [`Self::MOST`].
    ///
    /// # Errors
    /// When there are more.
    pub fn new(extents: Vec<Extent>) -> Result<Self, UnitError> {
        if extents.len() > Self::MOST {
            return Err(UnitError {
                problem: format!("{} extents in one list", extents.len()),
                remedy: "one of each unit says everything; write at most 8",
            });
        }
        Ok(Self(extents))
    }

    /// The extents in the order written.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is no extent at all.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// A text that is read to the same extents: what is printed has quotes, and sizes rounded for the eye.
    pub fn exact(&self) -> String {
        if self.is_none() {
            return "none".to_owned();
        }
        let exact = |extent: &Extent| match extent {
            Extent::Bytes(bytes) => format!("{}B", bytes.0),
            other => other.to_string(),
        };
        self.0.iter().map(exact).collect::<Vec<_>>().join(",")
    }
}

impl From<Extent> for Extents {
    fn from(extent: Extent) -> Self {
        Self(vec![extent])
    }
}

impl FromStr for Extents {
    type Err = UnitError;
    /// One extent, several separated by commas, or `none`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim() == "none" {
            return Ok(Self::NONE);
        }
        Self::new(text.split(',').map(Extent::from_str).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Extents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("\"none\""),
            [one] => write!(f, "\"{one}\""),
            many => {
                f.write_str("[")?;
                for (i, extent) in many.iter().enumerate() {
                    write!(f, "{}\"{extent}\"", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The path of a mount: `/radio.mp3`. Starts with a slash, has no empty, dot or odd segments, is at most 255 bytes long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountPath(std::sync::Arc<str>);

impl MountPath {
    /// Longest path of a mount, in bytes.
    pub const LONGEST: usize = 255;

    /// What stands for all paths of a pattern. Nobody can declare a mount there or publish to it, for `*` belongs into no path.
    pub(crate) fn of_pattern(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Whether it stands for the paths of a pattern.
    pub(crate) fn is_of_pattern(&self) -> bool {
        self.0.contains('*')
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MountPath {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = |problem: &str| {
            Err(UnitError {
                problem: format!("{text:?} {problem}"),
                remedy: "write a path such as \"/radio.mp3\": letters, digits, and - _ . ~ + between slashes",
            })
        };
        let Some(rest) = text.strip_prefix('/') else { return wrong("does not start with a slash") };
        if text.len() > Self::LONGEST {
            return wrong("is longer than 255 bytes");
        }
        if rest.split('/').any(|segment| segment.is_empty() || segment == "." || segment == "..") {
            return wrong("has an empty or dot segment");
        }
        if !rest.chars().all(|c| c.is_alphanumeric() || "-_.~+/@=,".contains(c)) {
            return wrong("has a character that does not belong into a path");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for MountPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_may_be_as_long_as_a_machine_runs() {
        for (text, days) in [("105d", 105), ("366d", 366), ("8784h", 366), ("36500d", 36_500)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(days * 86_400)), "{text}");
        }
        assert!(parse_duration("1000000d").is_err(), "beyond what can be counted");
    }

    #[test]
    fn an_extent_is_read_in_the_unit_the_operator_chose() {
        for (text, want) in [
            ("512KiB", Extent::Bytes(ByteCount(512 * 1024))),
            ("1.5KiB", Extent::Bytes(ByteCount(1536))),
            ("64 KB", Extent::Bytes(ByteCount(64_000))),
            ("0B", Extent::Bytes(ByteCount(0))),
            ("5s", Extent::Time(Duration::from_secs(5))),
            ("0.25s", Extent::Time(Duration::from_millis(250))),
            ("250ms", Extent::Time(Duration::from_millis(250))),
            ("2m", Extent::Time(Duration::from_secs(120))),
            ("20 chunks", Extent::Chunks(20)),
            ("1 chunk", Extent::Chunks(1)),
            ("3buffers", Extent::Chunks(3)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_extent_is_refused_with_a_remedy() {
        for text in ["", "5", "s", "-5s", "1e3s", "5 parsecs", "1.5 chunks", "99999999999999999999 chunks", "5s 3"] {
            let error = text.parse::<Extent>().expect_err(text);
            assert!(error.remedy.contains("20 chunks"), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for text in ["\"none\"", "\"5s\"", "[\"5s\", \"48KiB\"]", "\"1500ms\"", "\"20 chunks\""] {
            let plain: String = text.chars().filter(|c| !"[]\"".contains(*c)).collect();
            assert_eq!(plain.parse::<Extents>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_written_exactly_is_read_to_the_same() {
        for text in ["none", "5s", "5s,49153B", "1500ms,20 chunks", "1234567ns,1 chunk,1048577B"] {
            let extents: Extents = text.parse().expect(text);
            assert_eq!(extents.exact().parse(), Ok(extents), "{text}");
        }
    }

    #[test]
    fn a_mount_path_is_a_clean_absolute_path() {
        for good in ["/radio.mp3", "/a/b/c.ogg", "/Grüße.ogg"] {
            assert_eq!(good.parse::<MountPath>().expect(good).as_str(), good);
        }
        let long = format!("/{}", "x".repeat(255));
        for bad in ["", "radio", "/", "//a", "/a/../b", "/a/.", "/a b", "/a%00", "/a\0", "/a\\b", "/a?b", long.as_str()] {
            assert!(bad.parse::<MountPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_moment_never_goes_below_zero_nor_over_the_end() {
        assert_eq!(Moment::ZERO.since(Moment::from_nanos(5)), Duration::ZERO);
        assert_eq!((Moment::from_nanos(u64::MAX) + Duration::from_secs(1)).nanos(), u64::MAX);
    }
}
