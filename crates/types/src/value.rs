//! What a resource amounts to: a scalar, ranges or a set.

use std::fmt;

use crate::{ItemSet, Ranges, Scalar};

/// The value of a resource. Values of different kinds never mix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Scalar(Scalar),
    Ranges(Ranges),
    Set(ItemSet),
}

impl Value {
    /// The rank of the kind, to sort and compare by.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Value::Scalar(_) => 0,
            Value::Ranges(_) => 1,
            Value::Set(_) => 2,
        }
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Scalar(scalar) => scalar.is_zero(),
            Value::Ranges(ranges) => ranges.is_empty(),
            Value::Set(set) => set.is_empty(),
        }
    }

    /// Whether `other` is of the same kind and all of it is in here.
    pub fn contains(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Scalar(held), Value::Scalar(asked)) => held >= asked,
            (Value::Ranges(held), Value::Ranges(asked)) => held.contains(asked),
            (Value::Set(held), Value::Set(asked)) => held.contains(asked),
            _ => false,
        }
    }

    /// Sum or union. The caller has made sure of the kinds; other kinds are left alone.
    pub(crate) fn add(&mut self, other: &Value) {
        match (self, other) {
            (Value::Scalar(held), Value::Scalar(more)) => *held = held.saturating_add(*more),
            (Value::Ranges(held), Value::Ranges(more)) => held.add(more),
            (Value::Set(held), Value::Set(more)) => held.add(more),
            _ => debug_assert!(false, "values of different kinds were added"),
        }
    }

    /// Difference. The caller has made sure that `self` contains `other`.
    pub(crate) fn subtract(&mut self, other: &Value) {
        match (self, other) {
            (Value::Scalar(held), Value::Scalar(less)) => *held = held.saturating_sub(*less),
            (Value::Ranges(held), Value::Ranges(less)) => held.subtract(less),
            (Value::Set(held), Value::Set(less)) => held.subtract(less),
            _ => debug_assert!(false, "values of different kinds were subtracted"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Scalar(scalar) => scalar.fmt(f),
            Value::Ranges(ranges) => ranges.fmt(f),
            Value::Set(set) => set.fmt(f),
        }
    }
}
