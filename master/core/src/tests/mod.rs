//! The core as a whole, driven by hand: a small cluster with readable inputs and outputs.

mod absence;
mod accept;
mod agents;
mod calls;
mod cluster;
mod departure;
mod executors;
mod operations;
mod orders;
mod promises;
mod random;
mod room;
mod statistics;
mod throttle;
mod updates;
