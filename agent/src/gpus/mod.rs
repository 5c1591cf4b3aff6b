//! GPUs: which there are, and who has which.
//!
//! - [`discover`]: those that NVML knows, or that the operator names, as an [`Inventory`];
//! - [`Gpus`]: the agent's, each with the container that has it: a GPU is one container's until that is gone.
//!
//! What a container may do with them is the business of the isolator `gpus`.

mod control;
mod discover;
mod handle;
mod holdings;
mod inventory;
mod named;
mod nvml;

#[cfg(test)]
mod tests;

pub use crate::device_node::NodeError;
pub use control::control_devices;
pub use discover::{DiscoverError, GpuOptions, discover};
pub use handle::Gpus;
pub use holdings::TooFew;
pub use inventory::{Gpu, Inventory, Maker};
pub use named::NamedError;
