//! How long tests wait for what must come.

use std::time::Duration;

/// So many seconds; `MEZZO_TEST_TIME_SCALE` times as many on a machine that is slow, such as a translated one.
///
/// # Panics
/// When the variable is not a whole number.
pub fn patience(seconds: u64) -> Duration {
    let scale = std::env::var("MEZZO_TEST_TIME_SCALE").ok();
    let scale = scale.map_or(1, |scale| scale.parse().expect("MEZZO_TEST_TIME_SCALE is a number"));
    Duration::from_secs(seconds) * scale
}
