//! Choices that follow from a seed.

use mezzo_types::IdSource;

/// A source of choices. The same seed makes the same ones on every machine.
#[derive(Debug, Clone)]
pub struct Random(IdSource);

impl Random {
    pub fn new(seed: u64, stream: u64) -> Self {
        Random(IdSource::new([seed, stream]))
    }

    /// A number in `from..to`, which must not be empty. The bias of the remainder is far below what any
    /// schedule could show.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.next_u64() % (to - from)
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 100) < chance
    }

    /// One of them; none of none.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(from.len()).ok().filter(|count| *count > 0)?;
        from.get(usize::try_from(self.between(0, count)).ok()?)
    }

    /// Any order of them (Fisher and Yates).
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.between(0, last as u64 + 1) as usize;
            all.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_all_and_a_seed_repeats() {
        let shuffled = |seed| {
            let mut all: Vec<u32> = (0..20).collect();
            Random::new(seed, 0).shuffle(&mut all);
            all
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        let mut random = Random::new(3, 4);
        assert!((0..100).all(|_| (5..8).contains(&random.between(5, 8))));
        assert_eq!(random.choose::<u32>(&[]), None);
    }
}
