//! Nodes of devices.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{Access, Device, DeviceKind};
use nix::sys::stat::{major, minor};

/// What whoever uses an NVIDIA GPU opens besides it (NVIDIA's documentation of the driver, "Device files").
const CONTROL_NODES: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// Why a path is no device.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{path} cannot be looked at")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is no device node")]
    NoDevice { path: PathBuf },
    #[error("the device numbers of {path} are out of range")]
    Numbers { path: PathBuf },
}

/// The device behind a node, to be read and written.
pub(super) fn device_at(path: &Path) -> Result<Device, NodeError> {
    let facts = std::fs::metadata(path)
        .map_err(|source| NodeError::Look { path: path.to_owned(), source })?;
    let kind = facts.file_type();
    let kind = if kind.is_char_device() {
        DeviceKind::Character
    } else if kind.is_block_device() {
        DeviceKind::Block
    } else {
        return Err(NodeError::NoDevice { path: path.to_owned() });
    };
    let number = |number: u64| {
        u32::try_from(number).map_err(|_| NodeError::Numbers { path: path.to_owned() })
    };
    let (major, minor) = (number(major(facts.rdev()))?, number(minor(facts.rdev()))?);
    Ok(Device { kind, major, minor: Some(minor), access: Access::READ_WRITE })
}

/// The devices beside the GPU itself that the user of an NVIDIA GPU needs, of those whose nodes are there now: the driver makes
/// some of them when they are first asked for, so they are looked for at each launch.
pub fn control_devices() -> Vec<Device> {
    CONTROL_NODES.iter().filter_map(|path| device_at(Path::new(path)).ok()).collect()
}
