//! Numbers with their units.

use handoff_proto::control::AcceptQueue;

pub(crate) fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// How many wait, of how many that may.
pub(crate) fn queue(queue: AcceptQueue) -> String {
    format!("{}/{}", queue.length, queue.limit)
}

/// A long time, in its two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A time that is short where it matters.
pub(crate) fn short(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => duration(ms / 1000),
    }
}

/// A time that may be very short, in microseconds.
pub(crate) fn latency(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => short(us / 1000),
    }
}

/// How often or how much a second, in three digits or four.
pub(crate) fn rate(each_second: f64) -> String {
    const STEPS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What rounds up to the next step belongs there.
    match STEPS.iter().find(|(step, _)| each_second >= step * 0.9995) {
        Some((step, letter)) if each_second < step * 9.995 => format!("{:.2}{letter}", each_second / step),
        Some((step, letter)) if each_second < step * 99.95 => format!("{:.1}{letter}", each_second / step),
        Some((step, letter)) => format!("{:.0}{letter}", each_second / step),
        None if each_second == 0.0 || each_second >= 9.95 => format!("{each_second:.0}"),
        None => format!("{each_second:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_fitting_units() {
        let told = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 200_000].map(duration);
        let expected =
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h", "2 d 7 h"];
        assert_eq!(told, expected);
        assert_eq!(
            [0, 999, 1_000, 59_999, 60_000].map(short),
            ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 0 s"]
        );
    }

    #[test]
    fn latencies_and_rates_keep_few_digits() {
        let told = [0, 999, 1_000, 12_345, 999_999, 1_000_000].map(latency);
        assert_eq!(told, ["0 us", "999 us", "1.0 ms", "12.3 ms", "999.9 ms", "1.0 s"]);
        let told = [0.0, 0.25, 9.9, 9.96, 998.0, 999.6, 12_345.0, 123_456.0, 5e6, 9.9999e8].map(rate);
        assert_eq!(told, ["0", "0.2", "9.9", "10", "998", "1.00k", "12.3k", "123k", "5.00M", "1.00G"]);
    }
}
