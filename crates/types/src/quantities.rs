//! Scalars by name: resources without identity, for shares, quotas and totals.

use std::fmt;

use crate::Scalar;
use crate::resource::ResourceName;

/// Amounts by resource name, sorted; a name that is absent has amount zero.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Quantities(Vec<(ResourceName, Scalar)>);

impl Quantities {
    pub const fn new() -> Quantities {
        Quantities(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, Scalar)> {
        self.0.iter().map(|(name, scalar)| (name, *scalar))
    }

    pub fn get(&self, name: &ResourceName) -> Scalar {
        self.position(name).map(|at| self.0[at].1).unwrap_or_default()
    }

    pub fn add(&mut self, name: &ResourceName, amount: Scalar) {
        if amount.is_zero() {
            return;
        }
        match self.position(name) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(amount),
            Err(at) => self.0.insert(at, (name.clone(), amount)),
        }
    }

    pub fn add_all(&mut self, other: &Quantities) {
        for (name, amount) in other.iter() {
            self.add(name, amount);
        }
    }

    /// What is left; an amount that would go below zero becomes zero.
    pub fn subtract(&mut self, name: &ResourceName, amount: Scalar) {
        let Ok(at) = self.position(name) else { return };
        self.0[at].1 = self.0[at].1.saturating_sub(amount);
        if self.0[at].1.is_zero() {
            self.0.remove(at);
        }
    }

    pub fn subtract_all(&mut self, other: &Quantities) {
        for (name, amount) in other.iter() {
            self.subtract(name, amount);
        }
    }

    pub fn contains(&self, other: &Quantities) -> bool {
        other.iter().all(|(name, amount)| self.get(name) >= amount)
    }

    fn position(&self, name: &ResourceName) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.cmp(name))
    }
}

impl FromIterator<(ResourceName, Scalar)> for Quantities {
    fn from_iter<I: IntoIterator<Item = (ResourceName, Scalar)>>(amounts: I) -> Self {
        let mut all = Quantities::new();
        for (name, amount) in amounts {
            all.add(&name, amount);
        }
        all
    }
}

impl fmt::Display for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, amount)) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{name}:{amount}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_zero_and_zero_is_absent() {
        let one = Quantities::from_iter([(ResourceName::CPUS, Scalar::ONE)]);
        let mut sum = one.clone();
        sum.add(&ResourceName::MEM, Scalar::from_units(64));
        assert_eq!(sum.to_string(), "cpus:1; mem:64");
        assert!(sum.contains(&one) && !one.contains(&sum));
        sum.subtract_all(&one);
        assert_eq!(sum.to_string(), "mem:64");
        assert_eq!(sum.get(&ResourceName::CPUS), Scalar::ZERO);
        sum.subtract_all(&Quantities::from_iter([(ResourceName::MEM, Scalar::from_units(65))]));
        assert!(sum.is_empty());
    }
}
