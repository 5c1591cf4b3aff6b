//! A cluster of real processes for tests and benches: [`Cluster`].

mod cluster;
mod disk;
pub mod fuzz;
mod leftovers;
mod patience;
mod strike;
mod throttle;
mod wire;

pub use cluster::{Cluster, Options, binary, http_get};
pub use disk::Disk;
pub use patience::patience;
pub use strike::{Daemon, Init, Programs};
pub use throttle::{Speed, Throttle};
pub use wire::{FAR, Host, NEAR, Wire};
