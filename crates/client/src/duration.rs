//! Durations as an operator writes and reads them: always with a unit.

use std::time::Duration;

/// Reads `900ms`, `30s`, `5m`, `2h` or `7d`.
///
/// # Errors
/// A number without a unit, with another unit, with a fraction or too large. The message gives what to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = match number.parse() {
        Ok(number) => number,
        Err(_) if number.is_empty() => return Err("a duration is a number and a unit, like `30s` or `900ms`".into()),
        Err(_) => return Err("the number is too large".into()),
    };
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs).ok_or("the number is too large");
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(seconds(1)?),
        "m" => Ok(seconds(60)?),
        "h" => Ok(seconds(3600)?),
        "d" => Ok(seconds(24 * 3600)?),
        "" => Err(format!("a duration needs a unit: write `{number}s` or `{number}ms`")),
        _ => Err(format!("the unit is `{unit}`, not ms, s, m, h or d")),
    }
}

/// Reads a duration that is longer than nothing.
///
/// # Errors
/// As [`parse`], and zero.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("must be longer than 0".into()),
        duration => Ok(duration),
    }
}

/// Shows a duration that was measured: milliseconds below ten seconds, and above whole seconds, rounded up, so that what is
/// above a limit is never shown as the limit.
#[must_use]
pub fn show_measured(duration: Duration) -> String {
    if duration.as_secs() < 10 { show(duration) } else { format!("{}s", duration.as_millis().div_ceil(1000)) }
}

/// Shows whole seconds as `42s`, anything else as `1500ms`: as [`parse`] reads it.
#[must_use]
pub fn show(duration: Duration) -> String {
    // A deadline is shown at each step of a run: so without the machinery of `format!`.
    if duration.subsec_millis() == 0 {
        [&*duration.as_secs().to_string(), "s"].concat()
    } else {
        [&*duration.as_millis().to_string(), "ms"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_required() {
        assert_eq!(parse("30").unwrap_err(), "a duration needs a unit: write `30s` or `30ms`");
        assert_eq!(parse("900ms"), Ok(Duration::from_millis(900)));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(604_800)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "-1s", "1.5s", "1 s", "30S", "1w", "18446744073709551616s", "18446744073709551615h"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0ms").is_err());
    }

    #[test]
    fn a_duration_is_shown_in_the_unit_it_needs() {
        assert_eq!(show(Duration::from_secs(42)), "42s");
        assert_eq!(show(Duration::from_millis(900)), "900ms");
        assert_eq!(show(Duration::from_millis(1500)), "1500ms");
        for (measured, shown) in [
            (0, "0s"),
            (1500, "1500ms"),
            (9999, "9999ms"),
            (10_000, "10s"),
            (30_000, "30s"),
            (30_001, "31s"),
            (3_600_895, "3601s"),
        ] {
            assert_eq!(show_measured(Duration::from_millis(measured)), shown);
        }
    }
}
