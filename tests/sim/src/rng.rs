//! Everything random in a run: a tree of generators that grows from one seed.

use mezzo_types::IdSource;

/// One branch of the tree. Two parts of the world that draw from branches of their own do not
/// disturb each other: what one draws does not depend on how often the other did.
#[derive(Clone, Debug)]
pub struct Rng(IdSource);

impl Rng {
    /// The branch `branch` of `seed`.
    pub fn new(seed: u64, branch: u64) -> Self {
        Rng(IdSource::new([seed, branch]))
    }

    pub fn fork(&mut self, branch: u64) -> Self {
        Rng::new(self.draw(), branch)
    }

    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn uuid(&mut self) -> [u8; 16] {
        *self.0.next_uuid().as_bytes()
    }

    /// Uniform in `0..bound`; zero for no bound at all.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Uniform over the orders of magnitude between `low` and `high` (which is positive): most draws
    /// are small, some are large. What delays of disks and networks look like.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let doublings = u64::from(64 - (high / low.max(1)).leading_zeros());
        let top = low.max(1) << self.below(doublings.max(1)).min(40);
        self.between(low, top.min(high))
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them; `None` of none.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.below(among.len() as u64) as usize)
    }

    /// An index, each with the chance that its weight has in the sum; `None` if all are zero.
    pub fn weighted(&mut self, weights: &[u64]) -> Option<usize> {
        let sum = weights.iter().sum::<u64>();
        let mut left = (sum > 0).then(|| self.below(sum))?;
        weights.iter().position(|weight| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn draws_keep_within_their_bounds() {
        let mut rng = Rng::new(1, 2);
        for _ in 0..10_000 {
            assert!(rng.below(7) < 7);
            assert!((3..=5).contains(&rng.between(3, 5)));
            assert!((10..=100_000).contains(&rng.skewed(10, 100_000)));
            assert_eq!(rng.weighted(&[0, 3, 0]), Some(1));
        }
        assert_eq!(rng.weighted(&[0, 0]), None);
        assert_eq!(rng.pick::<u8>(&[]), None);
        assert_eq!(Rng::new(9, 9).draw(), Rng::new(9, 9).draw());
    }
}
