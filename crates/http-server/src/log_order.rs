//! The query of `/logging/toggle`, as libprocess reads it.

use std::time::Duration;

use mezzo_types::parse_duration;

use crate::query_value;

/// `level=1&duration=15mins`: how much is to be logged, and for how long; `None` if neither is there, which asks for
/// the level.
///
/// # Errors
/// What is wrong, in a sentence with its line end, as libprocess answers.
pub fn log_order(query: Option<&str>) -> Result<Option<(u32, Duration)>, String> {
    let (level, duration) = match (query_value(query, "level"), query_value(query, "duration")) {
        (None, None) => return Ok(None),
        (Some(level), Some(duration)) => (level, duration),
        (Some(_), None) => return Err("Expecting 'duration=value' in query.\n".to_owned()),
        (None, Some(_)) => return Err("Expecting 'level=value' in query.\n".to_owned()),
    };
    let number: i32 =
        level.parse().map_err(|_| format!("Failed to convert '{level}' to number.\n"))?;
    let level = u32::try_from(number)
        .map_err(|_| format!("Invalid level '{number}': 0 is as the process was started.\n"))?;
    let duration = parse_duration(&duration)
        .map_err(|error| format!("duration is '{duration}': {error}.\n"))?;
    Ok(Some((level, duration)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_libprocess_reads_them() {
        assert_eq!(log_order(None), Ok(None));
        assert_eq!(log_order(Some("jsonp=x")), Ok(None));
        let expected = (2, Duration::from_secs(5));
        assert_eq!(log_order(Some("level=2&duration=5secs")), Ok(Some(expected)));
        for (query, sentence) in [
            ("level=1", "Expecting 'duration=value' in query.\n"),
            ("duration=1secs", "Expecting 'level=value' in query.\n"),
            ("level=x&duration=1secs", "Failed to convert 'x' to number.\n"),
            ("level=-1&duration=1secs", "Invalid level '-1': 0 is as the process was started.\n"),
        ] {
            assert_eq!(log_order(Some(query)), Err(sentence.to_owned()), "{query}");
        }
        let unit = log_order(Some("level=1&duration=5")).expect_err("no unit");
        assert!(unit.contains("has no unit"), "{unit}");
    }
}
