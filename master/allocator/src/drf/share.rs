//! A dominant share as an integer.
//!
//! Floats would make the order of two roles depend on the order of additions; here a share is the
//! whole part of `allocated / (total × weight) × 2^40`, computed in one division, so that equal
//! ratios are equal shares and the same history gives the same order on every machine.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_types::{Quantities, ResourceName};

/// Fractional bits of a share: a trillionth of a cluster still makes a difference.
const FRACTION_BITS: u32 = 40;
/// A weight of one. Weights are held in millionths.
const WEIGHT_ONE: u64 = 1_000_000;
/// A million. With it, `total × weight` keeps within 103 bits for every total.
const WEIGHT_MAXIMUM: u64 = WEIGHT_ONE * 1_000_000;

/// A positive weight in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight(u64);

impl Default for Weight {
    fn default() -> Self {
        Weight(WEIGHT_ONE)
    }
}

impl Weight {
    /// The nearest weight from a millionth to a million, or `None` for what is not positive.
    pub(super) fn from_f64(weight: f64) -> Option<Weight> {
        if weight.is_nan() || weight <= 0.0 {
            return None;
        }
        // A float-to-integer `as` saturates, infinity included.
        let millionths = (weight * WEIGHT_ONE as f64).round() as u64;
        Some(Weight(millionths.clamp(1, WEIGHT_MAXIMUM)))
    }
}

/// Dominant share over weight; the smaller is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share(u128);

/// Thousandths of each scalar resource, by name; names that sum to zero are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<ResourceName, i64>);

impl Tally {
    pub(super) fn add(&mut self, quantities: &Quantities) {
        for (name, amount) in quantities.iter() {
            self.change(name, amount.thousandths());
        }
    }

    pub(super) fn subtract(&mut self, quantities: &Quantities) {
        for (name, amount) in quantities.iter() {
            self.change(name, amount.thousandths().saturating_neg());
        }
    }

    pub(super) fn get(&self, name: &ResourceName) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub(super) fn merge(&mut self, other: &Tally) {
        for (name, amount) in &other.0 {
            self.change(name, *amount);
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The largest fraction of any resource, over the weight.
    pub(super) fn share(
        &self,
        total: &Tally,
        weight: Weight,
        excluded: &BTreeSet<String>,
    ) -> Share {
        let fraction = |(name, allocated): (&ResourceName, &i64)| {
            let total = u128::try_from(*total.0.get(name)?).ok().filter(|t| *t > 0)?;
            let allocated = u128::try_from(*allocated).ok()?;
            if excluded.contains(name.as_str()) {
                return None;
            }
            let scaled = (allocated << FRACTION_BITS) * u128::from(WEIGHT_ONE);
            Some(scaled / (total * u128::from(weight.0)))
        };
        Share(self.0.iter().filter_map(fraction).max().unwrap_or(0))
    }

    fn change(&mut self, name: &ResourceName, by: i64) {
        let sum = self.0.get(name).copied().unwrap_or(0).saturating_add(by);
        if sum == 0 {
            self.0.remove(name);
        } else {
            self.0.insert(name.clone(), sum);
        }
    }
}
