//! The core as a whole, driven by hand: a small cluster with readable inputs and outputs.

mod accept;
mod agents;
mod calls;
mod cluster;
mod promises;
mod random;
mod updates;
