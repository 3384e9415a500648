//! Moments of the civil calendar, as programs and Icecast write them. Always UTC: a server's readers are everywhere.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970 began on a Thursday
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

struct Civil {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
    weekday: &'static str,
    time: String,
    millis: u32,
}

/// The calendar's view of a moment; moments before 1970 are 1970.
fn civil(moment: SystemTime) -> Civil {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Counted from 1 March of the year 0, leap days come last in a year, and an era is 400 years (146,097 days).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: of_year - (153 * from_march + 2) / 5 + 1,
        weekday: DAYS[(days % 7) as usize],
        time: format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        millis: since.subsec_millis(),
    }
}

/// `2026-11-23T04:26:02.123Z`, as RFC 3339 has it.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    let Civil { year, month, day, time, millis, .. } = civil(moment);
    format!("{year:04}-{month:02}-{day:02}T{time}.{millis:03}Z")
}

/// `2026-11-23T04:26:02+0000`, as Icecast writes what it calls ISO 8601.
pub(super) fn icecast_iso(moment: SystemTime) -> String {
    let Civil { year, month, day, time, .. } = civil(moment);
    format!("{year:04}-{month:02}-{day:02}T{time}+0000")
}

/// `Mon, 23 Nov 2026 04:26:02 +0000`, as Icecast writes dates for people.
pub(super) fn icecast_date(moment: SystemTime) -> String {
    let Civil { year, month, day, weekday, time, .. } = civil(moment);
    format!("{weekday}, {day:02} {} {year:04} {time} +0000", MONTHS[month as usize - 1])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_has_its_day_in_the_calendar() {
        for (seconds, want) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_407_962, "Mon, 23 Nov 2026 04:26:02 +0000"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 +0000"), // 2100 has no leap day
        ] {
            assert_eq!(icecast_date(UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
        let moment = UNIX_EPOCH + Duration::from_millis(1_795_407_962_123);
        assert_eq!(rfc3339(moment), "2026-11-23T04:26:02.123Z");
        assert_eq!(icecast_iso(moment), "2026-11-23T04:26:02+0000");
    }
}
