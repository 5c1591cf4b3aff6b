//! Amounts: fixed point with three decimals.

use std::fmt;

/// An amount in thousandths. Arithmetic is exact, so that no number of launches and terminations
/// makes an agent gain or lose a sliver of CPU; on the wire an amount is a double.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scalar(i64);

/// Why a double or a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    #[error("is not a finite number")]
    NotFinite,
    #[error("is beyond 10^12, the largest amount")]
    TooLarge,
}

impl Scalar {
    pub const ZERO: Scalar = Scalar(0);
    pub const ONE: Scalar = Scalar(1000);
    /// 10^12: an exabyte in MB. Thousandths of it are whole numbers in a double, so that every
    /// amount crosses the wire unharmed, and thousands of them still add up without overflow.
    pub const MAX: Scalar = Scalar(1_000_000_000_000_000);

    pub const fn from_thousandths(thousandths: i64) -> Scalar {
        Scalar(thousandths)
    }

    pub const fn from_units(units: u32) -> Scalar {
        Scalar(units as i64 * 1000)
    }

    /// Rounds to the nearest thousandth, halves away from zero.
    pub fn from_f64(value: f64) -> Result<Scalar, ScalarError> {
        if !value.is_finite() {
            return Err(ScalarError::NotFinite);
        }
        let thousandths = (value * 1000.0).round();
        if thousandths.abs() > Scalar::MAX.0 as f64 {
            return Err(ScalarError::TooLarge);
        }
        Ok(Scalar(thousandths as i64))
    }

    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub const fn thousandths(self) -> i64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn checked_add(self, other: Scalar) -> Option<Scalar> {
        self.0.checked_add(other.0).map(Scalar)
    }

    pub fn checked_sub(self, other: Scalar) -> Option<Scalar> {
        self.0.checked_sub(other.0).map(Scalar)
    }

    pub fn saturating_add(self, other: Scalar) -> Scalar {
        Scalar(self.0.saturating_add(other.0))
    }

    /// Never less than zero: for "what is left of this".
    pub fn saturating_sub(self, other: Scalar) -> Scalar {
        Scalar(self.0.saturating_sub(other.0).max(0))
    }
}

/// As short as it can be: `2`, `0.5`, `1.125`.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = if part == 0 {
            format!("{sign}{whole}")
        } else {
            let digits = format!("{part:03}");
            format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
        };
        f.pad(&text)
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_to_the_nearest_thousandth_away_from_zero() {
        let thousandths = |value| Scalar::from_f64(value).unwrap().thousandths();
        assert_eq!(thousandths(0.1), 100);
        assert_eq!(thousandths(0.0005), 1);
        assert_eq!(thousandths(0.000_499), 0);
        assert_eq!(thousandths(-0.0005), -1);
        assert_eq!(thousandths(1e12), 1_000_000_000_000_000);
        assert_eq!(Scalar::from_f64(1.1e12), Err(ScalarError::TooLarge));
        assert_eq!(Scalar::from_f64(f64::NAN), Err(ScalarError::NotFinite));
        assert_eq!(Scalar::from_f64(f64::INFINITY), Err(ScalarError::NotFinite));
    }

    #[test]
    fn prints_without_trailing_zeros() {
        let print = |thousandths| Scalar::from_thousandths(thousandths).to_string();
        assert_eq!(print(500), "0.5");
        assert_eq!(print(2000), "2");
        assert_eq!(print(1125), "1.125");
        assert_eq!(print(-10), "-0.01");
        assert_eq!(print(0), "0");
    }

    /// A double would be off after the first few of these.
    #[test]
    fn a_million_operations_leave_no_drift() {
        let tenth = Scalar::from_f64(0.1).unwrap();
        let third = Scalar::from_f64(1.0 / 3.0).unwrap();
        let mut sum = Scalar::from_units(64);
        for _ in 0..250_000 {
            sum = sum.checked_add(tenth).unwrap();
            sum = sum.checked_add(third).unwrap();
            // Through the wire type each time, as offers and tasks go.
            sum = Scalar::from_f64(sum.to_f64()).unwrap();
            sum = sum.checked_sub(tenth).unwrap();
            sum = sum.checked_sub(third).unwrap();
        }
        assert_eq!(sum, Scalar::from_units(64));
    }

    proptest! {
        #[test]
        fn every_amount_survives_the_wire(thousandths in -Scalar::MAX.0..=Scalar::MAX.0) {
            let scalar = Scalar::from_thousandths(thousandths);
            prop_assert_eq!(Scalar::from_f64(scalar.to_f64()), Ok(scalar));
            let read: f64 = scalar.to_string().parse().unwrap();
            prop_assert_eq!(Scalar::from_f64(read), Ok(scalar));
        }
    }
}
