//! What is compared: how many listeners of which stream, sent in which window, joining how. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Preset;
use crate::units::{ByteRate, Share, UnitError};

/// Above this it is video: bigger records, keyframes far apart.
const AUDIO_MOST: f64 = 40_000.0;
/// An MP3 frame of 128 kbit/s.
const AUDIO_RECORD: u32 = 417;
const PICTURES_PER_SECOND: f64 = 25.0;
const PICTURES_PER_GROUP: u64 = 50;
/// Faster than anybody can connect: all at once.
const AT_ONCE: f64 = 1e6;

/// So many listeners of a stream with this rate: `10000x128kbit/s`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Work {
    pub(crate) listeners: usize,
    pub(crate) rate: ByteRate,
    /// The rate as it was typed.
    typed: String,
}

impl FromStr for Work {
    type Err = UnitError;

    fn from_str(typed: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(typed, "listeners and a rate such as 10000x128kbit/s");
        let (listeners, rate) = typed.split_once('x').ok_or_else(wrong)?;
        let listeners = listeners.trim().parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        Ok(Self { listeners, rate: rate.trim().parse()?, typed: rate.trim().to_owned() })
    }
}

impl Work {
    fn of(listeners: usize, rate: &str) -> Self {
        Self { listeners, rate: rate.parse().expect("the presets are parsed in a test"), typed: rate.to_owned() }
    }

    pub(crate) fn record_size(&self) -> u32 {
        if self.rate.0 <= AUDIO_MOST { AUDIO_RECORD } else { (self.rate.0 / PICTURES_PER_SECOND) as u32 }
    }

    /// Audio may begin at every frame, video at every group of pictures.
    pub(crate) fn keyframe_every(&self) -> u64 {
        if self.rate.0 <= AUDIO_MOST { 1 } else { PICTURES_PER_GROUP }
    }

    /// Bytes between two keyframes.
    pub(crate) fn group_bytes(&self) -> u64 {
        u64::from(self.record_size()) * self.keyframe_every()
    }
}

/// How long data may wait to be sent together, where a server has such a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Window {
    Fixed(Duration),
    /// Each server's own default.
    Default,
}

impl FromStr for Window {
    type Err = UnitError;

    fn from_str(typed: &str) -> Result<Self, UnitError> {
        if typed == "default" { Ok(Self::Default) } else { crate::units::duration(typed).map(Self::Fixed) }
    }
}

/// One row of a comparison: the same for every server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) window: Window,
    /// Joins per second.
    pub(crate) ramp: f64,
    pub(crate) stalled: Share,
    /// The refused and the lost come back, so that the load is what was asked for.
    pub(crate) reconnect: bool,
    pub(crate) settle: Duration,
    pub(crate) duration: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.work.listeners, self.work.typed)?;
        match self.window {
            Window::Fixed(window) => write!(f, ", {} ms", window.as_millis())?,
            Window::Default => f.write_str(", default window")?,
        }
        if self.stalled.0 > 0.0 {
            write!(f, ", {:.0} % stalled", self.stalled.0 * 100.0)?;
        }
        if self.ramp >= AT_ONCE { f.write_str(", all at once") } else { Ok(()) }
    }
}

/// What a row says of itself in the JSON document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RowFacts {
    pub(crate) row: String,
    pub(crate) listeners: usize,
    pub(crate) bytes_per_second: f64,
    pub(crate) record_size: u32,
    pub(crate) keyframe_every: u64,
    pub(crate) window_ms: Option<f64>,
    pub(crate) joins_per_second: f64,
    pub(crate) stalled_share: f64,
    pub(crate) steady_seconds: f64,
}

impl Row {
    pub(crate) fn facts(&self) -> RowFacts {
        RowFacts {
            row: self.to_string(),
            listeners: self.work.listeners,
            bytes_per_second: self.work.rate.0,
            record_size: self.work.record_size(),
            keyframe_every: self.work.keyframe_every(),
            window_ms: match self.window {
                Window::Fixed(window) => Some(window.as_secs_f64() * 1e3),
                Window::Default => None,
            },
            joins_per_second: self.ramp,
            stalled_share: self.stalled.0,
            steady_seconds: self.duration.as_secs_f64(),
        }
    }

    /// A row as it is if nothing else is asked for.
    pub(crate) fn plain(work: Work, window: Window) -> Self {
        Self {
            work,
            window,
            ramp: 1000.0,
            stalled: Share(0.0),
            reconnect: true,
            settle: Duration::from_secs(3),
            duration: Duration::from_secs(30),
        }
    }

    /// The same with so many times fewer listeners, to try a preset on a small machine.
    pub(crate) fn shrunk(mut self, times: usize) -> Self {
        self.work.listeners = (self.work.listeners / times).max(1);
        if self.ramp < AT_ONCE {
            self.ramp = (self.ramp / times as f64).max(20.0);
        }
        self
    }
}

impl Preset {
    pub(crate) fn rows(self) -> Vec<Row> {
        let fixed = |ms| Window::Fixed(Duration::from_millis(ms));
        let audio = |listeners, window| Row::plain(Work::of(listeners, "128kbit/s"), window);
        match self {
            Self::Audio => vec![audio(10_000, fixed(250)), audio(10_000, fixed(500))],
            Self::Video => [(2_000, "1Mbit/s"), (1_000, "2.5Mbit/s")]
                .into_iter()
                .flat_map(|(listeners, rate)| [100, 250].map(|ms| Row::plain(Work::of(listeners, rate), fixed(ms))))
                .collect(),
            Self::Scale => [100, 1_000, 5_000, 10_000].map(|listeners| audio(listeners, fixed(250))).into(),
            Self::Latency => [100, 10_000].map(|listeners| audio(listeners, Window::Default)).into(),
            // Who is refused stays away here: how a server takes the rush is what is measured.
            Self::Join => [1000.0, AT_ONCE]
                .map(|ramp| Row { ramp, reconnect: false, duration: Duration::from_secs(5), ..audio(10_000, fixed(250)) })
                .into(),
            Self::Stalled => [0.0, 0.5].map(|share| Row { stalled: Share(share), ..audio(10_000, fixed(250)) }).into(),
            Self::Quick => {
                let short = Duration::from_millis(1_500);
                vec![Row { ramp: 100.0, settle: Duration::from_millis(300), duration: short, ..audio(40, fixed(100)) }]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn work_is_read_as_people_write_it() {
        for (typed, want) in [
            ("10000x128kbit/s", Some((10_000, 16_000.0))),
            ("1000 x 2.5Mbit/s", Some((1_000, 312_500.0))),
            ("5x16000", Some((5, 16_000.0))),
            ("0x128kbit/s", None),
            ("x128kbit/s", None),
            ("10000", None),
            ("10x0kbit/s", None),
        ] {
            assert_eq!(typed.parse::<Work>().ok().map(|work| (work.listeners, work.rate.0)), want, "{typed}");
        }
    }

    #[test]
    fn audio_begins_at_every_frame_and_video_at_a_group_of_pictures() {
        for (rate, record, every) in [("128kbit/s", 417, 1), ("1Mbit/s", 5_000, 50), ("2.5Mbit/s", 12_500, 50)] {
            let work = Work::of(1, rate);
            assert_eq!((work.record_size(), work.keyframe_every()), (record, every), "{rate}");
        }
    }

    #[test]
    fn every_preset_has_rows_whose_names_differ() {
        for preset in Preset::value_variants() {
            let names: Vec<String> = preset.rows().iter().map(Row::to_string).collect();
            let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
            assert!(!names.is_empty() && distinct.len() == names.len(), "{preset:?}: {names:?}");
        }
    }

    #[test]
    fn a_row_says_what_is_special_about_it() {
        let names = |preset: Preset| preset.rows().iter().map(Row::to_string).collect::<Vec<_>>();
        assert_eq!(names(Preset::Join), ["10000 × 128kbit/s, 250 ms", "10000 × 128kbit/s, 250 ms, all at once"]);
        assert_eq!(names(Preset::Stalled)[1], "10000 × 128kbit/s, 250 ms, 50 % stalled");
        assert_eq!(names(Preset::Latency)[0], "100 × 128kbit/s, default window");
    }

    #[test]
    fn a_shrunk_row_keeps_its_shape() {
        let row = Preset::Audio.rows().remove(0).shrunk(10);
        assert_eq!((row.work.listeners, row.ramp), (1_000, 100.0));
        let at_once = Preset::Join.rows().remove(1).shrunk(100_000);
        assert_eq!((at_once.work.listeners, at_once.ramp), (1, AT_ONCE));
    }
}
