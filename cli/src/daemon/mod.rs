//! The daemons: `mezzo master`, `mezzo agent`, and both at once as `mezzo dev`.

pub(crate) mod agent;
pub(crate) mod dev;
pub(crate) mod master;
mod repair;
