//! A cluster of real processes for tests and benches: [`Cluster`].

mod cluster;
mod leftovers;

pub use cluster::{Cluster, Options, binary, http_get};
