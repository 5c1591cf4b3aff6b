//! What one write changes.

/// Changes that land together or not at all, applied in the order they were added.
///
/// Families are the constants of the [`Layout`](crate::Layout) that the store was opened with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put {
        family: &'static str,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        family: &'static str,
        key: Vec<u8>,
    },
    /// Every key in `from..to`.
    DeleteRange {
        family: &'static str,
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put and hands the batch on, for building in one expression.
    #[must_use]
    pub fn put(
        mut self,
        family: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Self {
        self.add_put(family, key, value);
        self
    }

    /// Adds a delete and hands the batch on.
    #[must_use]
    pub fn delete(mut self, family: &'static str, key: impl Into<Vec<u8>>) -> Self {
        self.add_delete(family, key);
        self
    }

    /// Adds a put in place, for building in a loop.
    pub fn add_put(
        &mut self,
        family: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) {
        self.changes.push(Change::Put { family, key: key.into(), value: value.into() });
    }

    /// Adds a delete in place; deleting what is not there is no error.
    pub fn add_delete(&mut self, family: &'static str, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete { family, key: key.into() });
    }

    /// Deletes every key in `from..to` (`to` excluded). Costs the same for one key and for a million.
    pub fn add_delete_range(
        &mut self,
        family: &'static str,
        from: impl Into<Vec<u8>>,
        to: impl Into<Vec<u8>>,
    ) {
        let (from, to) = (from.into(), to.into());
        if from < to {
            self.changes.push(Change::DeleteRange { family, from, to });
        }
    }

    /// Deletes every key that starts with `prefix`, which must not be empty or all `0xff`: such a
    /// prefix has no end that a range could name.
    pub fn add_delete_prefix(&mut self, family: &'static str, prefix: impl Into<Vec<u8>>) {
        let from = prefix.into();
        let to = prefix_end(&from).expect("a prefix to delete has a byte below 0xff");
        self.changes.push(Change::DeleteRange { family, from, to });
    }

    /// Appends the changes of `other` after the own ones.
    pub fn append(&mut self, other: Batch) {
        self.changes.extend(other.changes);
    }

    /// Bytes of its keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let of = |change: &Change| match change {
            Change::Put { key, value, .. } => key.len() + value.len(),
            Change::Delete { key, .. } => key.len(),
            Change::DeleteRange { from, to, .. } => from.len() + to.len(),
        };
        self.changes.iter().map(of).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Number of changes; a range counts once.
    pub fn len(&self) -> usize {
        self.changes.len()
    }
}

/// The smallest key above every key that starts with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefix_end_separates(prefix in prop::collection::vec(any::<u8>(), 0..6),
                                key in prop::collection::vec(any::<u8>(), 0..8)) {
            match prefix_end(&prefix) {
                Some(end) => prop_assert_eq!(key.starts_with(&prefix), key >= prefix && key < end),
                None => prop_assert!(prefix.iter().all(|byte| *byte == 0xff)),
            }
        }
    }

    #[test]
    fn an_empty_range_is_left_out() {
        let mut batch = Batch::new();
        batch.add_delete_range("f", *b"b", *b"b");
        batch.add_delete_range("f", *b"c", *b"b");
        assert!(batch.is_empty());
    }
}
