//! Sets of names.

use std::fmt;
use std::sync::Arc;

/// Sorted, distinct names.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemSet(Vec<Arc<str>>);

/// The same name twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the item `{0}` appears twice")]
pub struct RepeatedItem(pub String);

impl ItemSet {
    pub const fn new() -> ItemSet {
        ItemSet(Vec::new())
    }

    /// Names in any order; each may appear once.
    pub fn from_items<T: Into<Arc<str>>>(
        items: impl IntoIterator<Item = T>,
    ) -> Result<ItemSet, RepeatedItem> {
        let mut items: Vec<Arc<str>> = items.into_iter().map(Into::into).collect();
        items.sort_unstable();
        match items.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(RepeatedItem(pair[0].to_string())),
            None => Ok(ItemSet(items)),
        }
    }

    /// One name.
    pub fn single(item: &str) -> ItemSet {
        ItemSet(vec![item.into()])
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|item| &**item)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn contains_item(&self, item: &str) -> bool {
        self.0.binary_search_by(|held| (**held).cmp(item)).is_ok()
    }

    pub fn contains(&self, other: &ItemSet) -> bool {
        other.iter().all(|item| self.contains_item(item))
    }

    /// Union.
    pub fn add(&mut self, other: &ItemSet) {
        self.0.extend(other.0.iter().cloned());
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// Difference.
    pub fn subtract(&mut self, other: &ItemSet) {
        self.0.retain(|item| !other.contains_item(item));
    }
}

/// `{a,b}`, as Mesos writes them.
impl fmt::Display for ItemSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, item) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{item}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_and_difference_keep_the_items_sorted_and_distinct() {
        let mut set = ItemSet::from_items(["b", "a"]).unwrap();
        set.add(&ItemSet::from_items(["c", "b"]).unwrap());
        assert_eq!(set.to_string(), "{a,b,c}");
        assert!(set.contains(&ItemSet::from_items(["a", "c"]).unwrap()));
        set.subtract(&ItemSet::from_items(["b", "z"]).unwrap());
        assert_eq!(set.to_string(), "{a,c}");
        assert!(!set.contains_item("b"));
        assert_eq!(
            ItemSet::from_items(["x", "y", "x"]).unwrap_err().to_string(),
            "the item `x` appears twice"
        );
    }
}
