//! Sets of whole numbers, as inclusive ranges.

use std::fmt;

/// Sorted, disjoint, never adjacent inclusive ranges: each set has one representation.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u64, u64)>);

/// A range whose end comes before its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range {begin}-{end} ends before it begins")]
pub struct RangeError {
    pub begin: u64,
    pub end: u64,
}

impl Ranges {
    pub const fn new() -> Ranges {
        Ranges(Vec::new())
    }

    /// The union of inclusive ranges, in any order, overlapping or not.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u64, u64)>) -> Result<Ranges, RangeError> {
        let mut pairs: Vec<(u64, u64)> = pairs.into_iter().collect();
        if let Some(&(begin, end)) = pairs.iter().find(|(begin, end)| begin > end) {
            return Err(RangeError { begin, end });
        }
        pairs.sort_unstable();
        Ok(Ranges(coalesce(pairs)))
    }

    /// One number.
    pub fn single(value: u64) -> Ranges {
        Ranges(vec![(value, value)])
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The numbers, ascending.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|&(begin, end)| begin..=end)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers; saturates for the one set that has 2^64.
    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .fold(0u64, |count, (begin, end)| count.saturating_add((end - begin).saturating_add(1)))
    }

    pub fn contains_value(&self, value: u64) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < value);
        self.0.get(at).is_some_and(|&(begin, _)| begin <= value)
    }

    pub fn contains(&self, other: &Ranges) -> bool {
        other.0.iter().all(|&(begin, end)| {
            let at = self.0.partition_point(|&(_, held_end)| held_end < end);
            self.0.get(at).is_some_and(|&(held_begin, _)| held_begin <= begin)
        })
    }

    pub fn overlaps(&self, other: &Ranges) -> bool {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a <= d && c <= b {
                return true;
            }
            if b < c {
                left.next()
            } else {
                right.next()
            };
        }
        false
    }

    /// Union.
    pub fn add(&mut self, other: &Ranges) {
        if other.is_empty() {
            return;
        }
        let mut pairs = std::mem::take(&mut self.0);
        pairs.extend_from_slice(&other.0);
        pairs.sort_unstable();
        self.0 = coalesce(pairs);
    }

    /// Difference: numbers of `other` that are not held do not matter.
    pub fn subtract(&mut self, other: &Ranges) {
        let mut taken = other.0.iter().copied().peekable();
        let mut left = Vec::with_capacity(self.0.len() + other.0.len());
        for &(mut begin, end) in &self.0 {
            while taken.next_if(|&(_, taken_end)| taken_end < begin).is_some() {}
            let mut exhausted = false;
            while let Some(&(taken_begin, taken_end)) = taken.peek() {
                if taken_begin > end {
                    break;
                }
                if taken_begin > begin {
                    left.push((begin, taken_begin - 1));
                }
                if taken_end >= end {
                    exhausted = true;
                    break;
                }
                begin = taken_end + 1;
                taken.next();
            }
            if !exhausted {
                left.push((begin, end));
            }
        }
        self.0 = left;
    }
}

/// Joins sorted pairs that overlap or touch.
fn coalesce(pairs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(pairs.len());
    for (begin, end) in pairs {
        match joined.last_mut() {
            Some((_, last_end)) if begin <= last_end.saturating_add(1) => {
                *last_end = end.max(*last_end);
            }
            _ => joined.push((begin, end)),
        }
    }
    joined
}

/// `[31000-31005,32000-32000]`, as Mesos writes them.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, (begin, end)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{begin}-{end}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Ranges {
        Ranges::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn touching_ranges_become_one() {
        assert_eq!(ranges(&[(5, 6), (1, 2), (3, 4), (6, 9)]).to_string(), "[1-9]");
        assert_eq!(ranges(&[(1, 2), (4, 4)]).to_string(), "[1-2,4-4]");
        assert_eq!(ranges(&[(0, u64::MAX), (u64::MAX, u64::MAX)]).count(), u64::MAX);
        assert_eq!(
            Ranges::from_pairs([(2, 1)]).unwrap_err().to_string(),
            "the range 2-1 ends before it begins"
        );
    }

    #[test]
    fn the_last_number_there_is_can_be_taken_and_given_back() {
        let mut all = ranges(&[(0, u64::MAX)]);
        let last = Ranges::single(u64::MAX);
        all.subtract(&last);
        assert_eq!(all, ranges(&[(0, u64::MAX - 1)]));
        all.add(&last);
        assert_eq!(all, ranges(&[(0, u64::MAX)]));
        all.subtract(&ranges(&[(0, u64::MAX)]));
        assert!(all.is_empty());
    }

    fn some_ranges() -> impl Strategy<Value = Ranges> {
        prop::collection::vec((0u64..60, 0u64..8), 0..8).prop_map(|pairs| {
            Ranges::from_pairs(pairs.into_iter().map(|(begin, more)| (begin, begin + more)))
                .unwrap()
        })
    }

    fn model(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.values().collect()
    }

    fn check_canonical(ranges: &Ranges) {
        assert!(ranges.0.iter().all(|(begin, end)| begin <= end));
        assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges}");
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_numbers(a in some_ranges(), b in some_ranges(), probe in 0u64..70) {
            let (set_a, set_b) = (model(&a), model(&b));
            let mut sum = a.clone();
            sum.add(&b);
            check_canonical(&sum);
            prop_assert_eq!(model(&sum), &set_a | &set_b);
            let mut rest = a.clone();
            rest.subtract(&b);
            check_canonical(&rest);
            prop_assert_eq!(model(&rest), &set_a - &set_b);
            prop_assert_eq!(a.contains(&b), set_a.is_superset(&set_b));
            prop_assert_eq!(a.overlaps(&b), !set_a.is_disjoint(&set_b));
            prop_assert_eq!(a.contains_value(probe), set_a.contains(&probe));
            prop_assert_eq!(a.count(), set_a.len() as u64);
            prop_assert_eq!(Ranges::from_pairs(a.iter()).unwrap(), a);
        }
    }
}
