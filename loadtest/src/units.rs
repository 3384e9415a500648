//! What people type: `60s`, `2KiB/s`, `128kbit/s`, `50/s`, `5%`, `5%@2KiB/s`. Pure.

use std::{str::FromStr, time::Duration};

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("`{typed}` is not {wanted}")]
pub(crate) struct UnitError {
    typed: String,
    wanted: &'static str,
}

impl UnitError {
    pub(crate) fn new(typed: &str, wanted: &'static str) -> Self {
        Self { typed: typed.to_owned(), wanted }
    }
}

/// `250ms`, `60s`, `5m`, `2h`.
pub(crate) fn duration(typed: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::new(typed, "a duration such as 250ms, 60s, 5m or 2h");
    let (number, unit) = split(typed).ok_or_else(wrong)?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3_600.0,
        "d" => number * 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// `1400`, `2KiB`, `64kB`, `1MiB`.
pub(crate) fn bytes(typed: &str) -> Result<u32, UnitError> {
    let wrong = || UnitError::new(typed, "a size such as 1400, 2KiB or 1MiB");
    let (number, unit) = split(typed).ok_or_else(wrong)?;
    let value = number * size_of_unit(unit).ok_or_else(wrong)?;
    if value > f64::from(u32::MAX) { Err(wrong()) } else { Ok(value as u32) }
}

fn size_of_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "B" => 1.0,
        "kB" => 1e3,
        "KiB" => 1024.0,
        "MB" => 1e6,
        "MiB" => 1024.0 * 1024.0,
        _ => return None,
    })
}

/// How many bytes a second: `2KiB/s`, `16000`, `128kbit/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ByteRate(pub(crate) f64);

impl FromStr for ByteRate {
    type Err = UnitError;
    fn from_str(typed: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(typed, "a rate such as 2KiB/s, 16000 or 128kbit/s");
        let (number, unit) = split(typed.strip_suffix("/s").unwrap_or(typed)).ok_or_else(wrong)?;
        let scale = match unit {
            "bit" => 0.125,
            "kbit" => 125.0,
            "Mbit" => 125_000.0,
            other => size_of_unit(other).ok_or_else(wrong)?,
        };
        if number > 0.0 { Ok(Self(number * scale)) } else { Err(wrong()) }
    }
}

/// How often: `1000/s`, `0.5/s`, or just the number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PerSecond(pub(crate) f64);

impl FromStr for PerSecond {
    type Err = UnitError;
    fn from_str(typed: &str) -> Result<Self, UnitError> {
        match split(typed.strip_suffix("/s").unwrap_or(typed)) {
            Some((number, "")) if number > 0.0 => Ok(Self(number)),
            _ => Err(UnitError::new(typed, "a frequency such as 50/s")),
        }
    }
}

/// A part of the listeners: `5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl FromStr for Share {
    type Err = UnitError;
    fn from_str(typed: &str) -> Result<Self, UnitError> {
        match split(typed) {
            Some((number, "%")) if number <= 100.0 => Ok(Self(number / 100.0)),
            _ => Err(UnitError::new(typed, "a share such as 5%")),
        }
    }
}

/// A share that reads at a rate of its own: `5%@2KiB/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slow {
    pub(crate) share: Share,
    pub(crate) rate: ByteRate,
}

impl FromStr for Slow {
    type Err = UnitError;
    fn from_str(typed: &str) -> Result<Self, UnitError> {
        let (share, rate) = typed.split_once('@').ok_or_else(|| UnitError::new(typed, "a share and a rate such as 5%@2KiB/s"))?;
        Ok(Self { share: share.parse()?, rate: rate.parse()? })
    }
}

/// The number in front and what follows it. Never negative, never infinite.
fn split(typed: &str) -> Option<(f64, &str)> {
    let typed = typed.trim();
    let end = typed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(typed.len());
    let number = typed[..end].parse::<f64>().ok()?;
    number.is_finite().then(|| (number, typed[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (typed, want) in [("250ms", 250), ("60s", 60_000), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(typed), Ok(Duration::from_millis(want)), "{typed}");
        }
    }

    #[test]
    fn sizes_and_rates_are_read_in_every_unit() {
        assert_eq!(bytes("2KiB"), Ok(2048));
        assert_eq!(bytes("417"), Ok(417));
        assert_eq!("2KiB/s".parse(), Ok(ByteRate(2048.0)));
        assert_eq!("128kbit/s".parse(), Ok(ByteRate(16_000.0)));
        assert_eq!("50/s".parse(), Ok(PerSecond(50.0)));
        assert_eq!("5%@2KiB/s".parse(), Ok(Slow { share: Share(0.05), rate: ByteRate(2048.0) }));
    }

    #[test]
    fn nonsense_is_refused_with_an_example_of_what_is_right() {
        for typed in ["", "s", "-1s", "1 fortnight", "1e400s", "999999999999999999999h"] {
            let complaint = duration(typed).expect_err(typed).to_string();
            assert!(complaint.contains("such as"), "{complaint}");
        }
        assert!("105%".parse::<Share>().is_err());
        assert!("0/s".parse::<PerSecond>().is_err());
        assert!("0B/s".parse::<ByteRate>().is_err());
        assert!(bytes("5000MiB").is_err());
    }
}
