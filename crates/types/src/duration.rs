//! Durations as Mesos writes them: a number and a unit, without a space.

use std::time::Duration;

/// Units, ascending, with their length in nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("secs", 1_000_000_000),
    ("mins", 60 * 1_000_000_000),
    ("hrs", 3_600 * 1_000_000_000),
    ("days", 86_400 * 1_000_000_000),
    ("weeks", 604_800 * 1_000_000_000),
];

/// More decimals than these are cut off: no unit has use for them.
const DECIMALS_MAX: usize = 18;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{0}` does not begin with a number; write e.g. 5secs or 1.5mins")]
    NoNumber(String),
    #[error(
        "`{text}` has no unit; write e.g. {text}secs (units: ns, us, ms, secs, mins, hrs, days, weeks)"
    )]
    NoUnit { text: String },
    #[error(
        "`{text}` has the unknown unit `{unit}`; units are ns, us, ms, secs, mins, hrs, days and weeks"
    )]
    UnknownUnit { text: String, unit: String },
    #[error("`{0}` is negative; durations are not")]
    Negative(String),
    #[error("`{0}` is too long; the longest duration is about 584 years")]
    TooLong(String),
}

/// Reads `5secs`, `1.5mins`, `1weeks`: exactly, in whole nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let trimmed = text.trim();
    let owned = || trimmed.to_owned();
    if trimmed.starts_with('-') {
        return Err(DurationError::Negative(owned()));
    }
    let unit_at = trimmed
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(unit_at);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError::NoNumber(owned()));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(DurationError::NoUnit { text: owned() });
    }
    let Some((_, unit_ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(DurationError::UnknownUnit { text: owned(), unit: unit.to_owned() });
    };
    let fraction = &fraction[..fraction.len().min(DECIMALS_MAX)];
    let digits = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u128>().ok(),
    };
    let scale = 10u128.pow(fraction.len() as u32);
    let nanos = digits(whole).zip(digits(fraction)).and_then(|(whole, fraction)| {
        let from_fraction = fraction.checked_mul(*unit_ns)? / scale;
        whole.checked_mul(*unit_ns)?.checked_add(from_fraction)
    });
    nanos
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| DurationError::TooLong(owned()))
}

/// Writes in the largest unit that needs at most three decimals: `1.5mins`, `1001ms`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, unit_ns) in UNITS.iter().rev() {
        let thousandths = nanos * 1000;
        if nanos < *unit_ns || !thousandths.is_multiple_of(*unit_ns) {
            continue;
        }
        let (whole, part) = (nanos / unit_ns, thousandths / unit_ns % 1000);
        if part == 0 {
            return format!("{whole}{unit}");
        }
        let digits = format!("{part:03}");
        return format!("{whole}.{}{unit}", digits.trim_end_matches('0'));
    }
    "0ns".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        let nanos = |text| parse_duration(text).map(|duration| duration.as_nanos());
        assert_eq!(nanos("7ns"), Ok(7));
        assert_eq!(nanos("1.5us"), Ok(1_500));
        assert_eq!(nanos("2ms"), Ok(2_000_000));
        assert_eq!(nanos("5secs"), Ok(5_000_000_000));
        assert_eq!(nanos("1.5mins"), Ok(90_000_000_000));
        assert_eq!(nanos(" 2 hrs "), Ok(7_200_000_000_000));
        assert_eq!(nanos("1days"), Ok(86_400_000_000_000));
        assert_eq!(nanos("1weeks"), Ok(604_800_000_000_000));
        assert_eq!(nanos(".5secs"), Ok(500_000_000));
        assert_eq!(nanos("0.0000000000000000000000001weeks"), Ok(0));
    }

    #[test]
    fn says_what_is_wrong() {
        let say = |text: &str| parse_duration(text).unwrap_err().to_string();
        assert_eq!(
            say("5"),
            "`5` has no unit; write e.g. 5secs (units: ns, us, ms, secs, mins, hrs, days, weeks)"
        );
        assert_eq!(
            say("5s"),
            "`5s` has the unknown unit `s`; units are ns, us, ms, secs, mins, hrs, days and weeks"
        );
        assert_eq!(say(""), "`` does not begin with a number; write e.g. 5secs or 1.5mins");
        assert_eq!(
            say("1.2.3secs"),
            "`1.2.3secs` does not begin with a number; write e.g. 5secs or 1.5mins"
        );
        assert_eq!(say("-1secs"), "`-1secs` is negative; durations are not");
        assert_eq!(
            say("40000weeks"),
            "`40000weeks` is too long; the longest duration is about 584 years"
        );
    }

    #[test]
    fn writes_in_the_largest_unit_that_fits() {
        let write = |nanos| format_duration(Duration::from_nanos(nanos));
        assert_eq!(write(0), "0ns");
        assert_eq!(write(90_000_000_000), "1.5mins");
        assert_eq!(write(5_000_000_000), "5secs");
        assert_eq!(write(1_001_000_000), "1.001secs");
        assert_eq!(write(1_000_100_000), "1000.1ms");
        assert_eq!(write(604_800_000_000_000), "1weeks");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos: u64, coarse in 0u64..4) {
            let step = [1, 1_000_000, 1_000_000_000, 60_000_000_000][coarse as usize];
            let duration = Duration::from_nanos(nanos / step * step);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
