//! Bytes, durations and times as people read them.

use jiff::Timestamp;

/// Bytes in powers of 1024: `0B`, `1023B`, `1.5KiB`, `12MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    // Tenths of the unit, rounded down, so that 1048575 stays below 1MiB.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths < 100 {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{}{}", tenths / 10, UNITS[unit])
    }
}

/// Milliseconds in at most two units: `350ms`, `12s`, `5m12s`, `3h4m`, `2d3h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        small => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) => format!("{ms}ms"),
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => two(minutes, "m", seconds % 60, "s"),
        (0, hours, minutes, _) => two(hours, "h", minutes % 60, "m"),
        (days, hours, _, _) => two(days, "d", hours % 24, "h"),
    }
}

/// Milliseconds since the epoch as RFC 3339 in UTC, whole seconds; `None` for 0, which the API uses for "not known".
pub fn time(unix_ms: i64) -> Option<String> {
    let seconds = unix_ms.div_euclid(1000);
    if unix_ms == 0 {
        return None;
    }
    Timestamp::from_second(seconds).ok().map(|at| at.to_string())
}

/// How long ago `unix_ms` was at `now_unix_ms`; `-` where it is not known, `0ms` where clocks disagree.
pub fn since(now_unix_ms: i64, unix_ms: i64) -> String {
    if unix_ms == 0 {
        return "-".into();
    }
    duration(u64::try_from(now_unix_ms.saturating_sub(unix_ms)).unwrap_or(0))
}

/// `1 call`, `2 calls`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_two_digits_and_never_round_up_to_the_next_unit() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            (10240, "10KiB"),
            (1_048_575, "1023KiB"),
            (1_048_576, "1.0MiB"),
            (5_368_709_120, "5.0GiB"),
            (u64::MAX, "15EiB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (312_000, "5m12s"),
            (3_600_000, "1h"),
            (11_045_000, "3h4m"),
            (183_600_000, "2d3h"),
        ];
        for (value, text) in cases {
            assert_eq!(duration(value), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_and_zero_is_not_known() {
        assert_eq!(time(0), None);
        assert_eq!(time(1_795_255_200_999).as_deref(), Some("2026-11-21T10:00:00Z"));
        assert_eq!(since(5_000, 0), "-");
        assert_eq!(since(65_000, 5_000), "1m");
        assert_eq!(since(4_000, 5_000), "0ms");
    }
}
