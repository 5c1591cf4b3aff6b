//! Tables by id.

/// A table whose order is that of insertion until something is removed, and the same in every run that does the same: cores
/// are simulated. Ids share long prefixes and lie elsewhere in memory, so that finding one of 50,000 in a tree takes sixteen
/// comparisons that each wait for memory. The hash is not keyed: for ids of our own making, not for those that clients choose.
pub type IdMap<K, V> = indexmap::IndexMap<K, V, foldhash::fast::FixedState>;
