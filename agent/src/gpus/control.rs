//! What belongs to no GPU and is needed for each.

use std::path::Path;

use mezzo_agent_accounting::{Access, Device};

use crate::device_node::device_at;

/// What whoever uses an NVIDIA GPU opens besides it (NVIDIA's documentation of the driver, "Device files").
const CONTROL_NODES: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// The devices beside the GPU itself that the user of an NVIDIA GPU needs, of those whose nodes are there now: the driver makes
/// some of them when they are first asked for, so they are looked for at each launch.
pub fn control_devices() -> Vec<Device> {
    CONTROL_NODES
        .iter()
        .filter_map(|path| device_at(Path::new(path), Access::READ_WRITE).ok())
        .collect()
}
