//! The agent of a Mezzo cluster: a machine's containers, and their word to the master.
//!
//! - [`cgroups`]: control groups of v1-hybrid and pure v2 machines behind one facade.
//! - [`isolators`]: what a container may use, composed by `--isolation`.
//! - [`fetcher`]: a task's files, fetched and unpacked into its sandbox.
//! - [`sandbox`]: a run's directory and its `stdout` and `stderr`.
//! - [`containerizer`]: the road of one container, from its sandbox to its removal.

pub mod cgroups;
pub mod fetcher;
pub mod isolators;
pub mod sandbox;
