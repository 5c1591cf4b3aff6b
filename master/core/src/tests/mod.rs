//! The core as a whole, driven by hand: a small cluster with readable inputs and outputs.

mod absence;
mod accept;
mod agents;
mod calls;
mod cluster;
mod departure;
mod executors;
mod operations;
mod promises;
mod random;
mod room;
mod throttle;
mod updates;
