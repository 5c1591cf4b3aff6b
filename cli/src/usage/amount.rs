//! Amounts, as people read them.

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// In the place of what is not measured.
pub(crate) fn absent() -> String {
    "-".to_owned()
}

pub(crate) fn cpus(cpus: f64) -> String {
    format!("{cpus:.2}")
}

/// In the largest unit that leaves a number of one digit at least.
pub(crate) fn bytes(bytes: u64) -> String {
    let (value, power) = scaled(bytes as f64);
    format!("{} {}", digits(value, power), UNITS[power])
}

/// The same in six characters at most, without a fraction of less than a tenth: `12.0M`, `0`.
pub(crate) fn short_bytes(bytes: f64) -> String {
    let (value, power) = scaled(bytes);
    let unit = if power == 0 { "" } else { &UNITS[power][..1] };
    format!("{}{unit}", digits(value, power))
}

fn scaled(mut value: f64) -> (f64, usize) {
    let mut power = 0;
    while value >= 1024.0 && power + 1 < UNITS.len() {
        value /= 1024.0;
        power += 1;
    }
    (value, power)
}

/// Whole in the smallest unit, and where there are three digits anyhow.
fn digits(value: f64, power: usize) -> String {
    if power == 0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A short time, given in nanoseconds: `8us`, `1.0ms`, `524ms`, `2.1s`.
pub(crate) fn wait(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000_000 => return format!("{:.0}us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    format!("{}{unit}", digits(value, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_fitting_unit() {
        for (amount, text, short) in [
            (0, "0 B", "0"),
            (1023, "1023 B", "1023"),
            (1536, "1.5 KiB", "1.5K"),
            (200 << 20, "200 MiB", "200M"),
            (1023 << 30, "1023 GiB", "1023G"),
            (5 << 40, "5.0 TiB", "5.0T"),
        ] {
            assert_eq!(bytes(amount), text);
            assert_eq!(short_bytes(amount as f64), short);
        }
    }

    #[test]
    fn waits_have_a_fitting_unit() {
        for (ns, text) in
            [(1024, "1us"), (131_072, "131us"), (1_048_576, "1.0ms"), (8_589_934_592, "8.6s")]
        {
            assert_eq!(wait(ns), text);
        }
    }
}
