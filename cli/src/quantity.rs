//! Amounts and times, as people type and read them.

use std::time::Duration;

use mezzo_sdk::v1;

/// A positive finite amount.
pub(crate) fn parse_amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount > 0.0 => Ok(amount),
        Ok(_) => Err("the amount must be greater than zero".to_owned()),
        Err(_) => Err("not a number, such as 0.5".to_owned()),
    }
}

/// A time such as `500ms`, `30s`, `1.5m`, `2h` or `1d`; a bare number is seconds. Mesos' spelling
/// of the units (`5secs`, `10mins`) is understood, too.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" | "sec" | "secs" => 1.0,
        "m" | "min" | "mins" => 60.0,
        "h" | "hr" | "hrs" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m, h or d")),
    };
    let number: f64 =
        number.trim().parse().map_err(|_| "not a time, such as 30s or 5m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "the time must be greater than zero and not beyond all bounds".to_owned())
}

/// Sum of a scalar resource, in thousandths inside so that tenths add up.
pub(crate) fn scalar(resources: &[v1::Resource], name: &str) -> f64 {
    let thousandths: i64 = resources
        .iter()
        .filter(|resource| resource.name == name)
        .filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| (scalar.value * 1000.0).round() as i64)
        .sum();
    thousandths as f64 / 1000.0
}

/// Ranges of ports, as in `31000-31005,31010`.
pub(crate) fn ports(resources: &[v1::Resource]) -> String {
    let ranges: Vec<String> = resources
        .iter()
        .filter(|resource| resource.name == "ports")
        .flat_map(|resource| resource.ranges.iter().flat_map(|ranges| &ranges.range))
        .map(|range| {
            if range.begin == range.end {
                range.begin.to_string()
            } else {
                format!("{}-{}", range.begin, range.end)
            }
        })
        .collect();
    ranges.join(",")
}

/// The time since, in the two largest units at most: `12s`, `3m20s`, `5h`, `2d`.
pub(crate) fn age(seconds: f64) -> String {
    let seconds = if seconds.is_finite() && seconds > 0.0 { seconds as u64 } else { 0 };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("30", 30_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("10mins", 600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, part) in [
            ("5y", "unknown unit \"y\""),
            ("", "not a time"),
            ("s", "not a time"),
            ("0s", "greater than zero"),
            ("-1s", "greater than zero"),
            ("99999999999999999999999d", "bounds"),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn amounts_are_positive() {
        assert_eq!(parse_amount("0.1"), Ok(0.1));
        for text in ["0", "-1", "NaN", "inf"] {
            assert_eq!(parse_amount(text), Err("the amount must be greater than zero".to_owned()));
        }
        assert!(parse_amount("1 cpu").is_err());
    }

    #[test]
    fn ages() {
        let cases =
            [(-3.0, "0s"), (59.9, "59s"), (61.0, "1m01s"), (3_660.0, "1h01m"), (90_000.0, "1d01h")];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn tenths_add_up() {
        let tenth = v1::Resource {
            name: "cpus".to_owned(),
            scalar: Some(v1::value::Scalar { value: 0.1 }),
            ..Default::default()
        };
        assert_eq!(scalar(&[tenth.clone(), tenth.clone(), tenth], "cpus"), 0.3);
    }
}
