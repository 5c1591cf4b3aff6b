//! Nodes of devices, which stand for numbers.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{Access, Device, DeviceKind};
use nix::sys::stat::{major, minor};

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

/// The device behind a node, for this access.
pub(crate) fn device_at(path: &Path, access: Access) -> Result<Device, NodeError> {
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
    Ok(Device { kind, major, minor: Some(minor), access })
}
