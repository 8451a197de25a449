//! Points in time as people write them.

use handoff_proto::Micros;

const DAY_S: u64 = 86_400;
/// Days from 0000-03-01, where a cycle of leap years begins, to 1970-01-01.
const EPOCH_DAY: u64 = 719_468;
const CYCLE_DAYS: u64 = 146_097;

/// Writes a point in time as UTC, to the millisecond (RFC 3339).
pub(crate) fn utc(time: Micros) -> String {
    let (seconds, millis) = (time.as_secs(), time.0 / 1000 % 1000);
    let (year, month, day) = date(seconds / DAY_S);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Returns the Gregorian date of a day since 1970-01-01. Years are counted from March, so that the leap day is their last.
fn date(day: u64) -> (u64, u64, u64) {
    let since = day + EPOCH_DAY;
    let (cycle, of_cycle) = (since / CYCLE_DAYS, since % CYCLE_DAYS);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (400 * cycle + year + u64::from(month <= 2), month, of_year - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points_in_time_have_their_date() {
        // By `date -u -d @SECONDS`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_700_000_000, "2023-11-14T22:13:20.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(utc(Micros::from_secs(seconds)), expected);
        }
        assert_eq!(utc(Micros(1_999)), "1970-01-01T00:00:00.001Z");
    }

    #[test]
    fn days_follow_each_other() {
        let mut before = date(0);
        for day in 1..60_000 {
            let (year, month, of_month) = date(day);
            let next = match before {
                (y, m, d) if (year, month) == (y, m) => (y, m, d + 1),
                (y, 12, 31) => (y + 1, 1, 1),
                (y, m, _) => (y, m + 1, 1),
            };
            assert_eq!((year, month, of_month), next, "day {day}");
            before = next;
        }
    }
}
