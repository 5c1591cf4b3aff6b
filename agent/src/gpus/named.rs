//! GPUs that the operator names by their nodes.

use std::path::{Path, PathBuf};

use mezzo_agent_accounting::Access;

use super::{Gpu, Inventory, Maker};
use crate::device_node::{NodeError, device_at};

/// Why `--gpu-devices` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    #[error("'{path}' is no absolute path; name nodes such as /dev/dri/renderD128")]
    Relative { path: PathBuf },
    #[error("a path of the list is of no use; correct it, or load the driver that makes the node")]
    Node(#[source] NodeError),
    #[error("{path} is the same device as another of the list; name each once")]
    Twice { path: PathBuf },
}

/// One GPU for each path, known by it: the path is its id.
pub(super) fn named(paths: &[PathBuf]) -> Result<Inventory, NamedError> {
    let gpus = paths.iter().map(|path| gpu(path)).collect::<Result<_, _>>()?;
    match Inventory::new(gpus) {
        (inventory, twice) if twice.is_empty() => Ok(inventory),
        (_, mut twice) => Err(NamedError::Twice { path: twice.swap_remove(0).path }),
    }
}

fn gpu(path: &Path) -> Result<Gpu, NamedError> {
    let id = path.to_str().filter(|_| path.is_absolute());
    let id = id.ok_or_else(|| NamedError::Relative { path: path.to_owned() })?;
    let device = device_at(path, Access::READ_WRITE).map_err(NamedError::Node)?;
    Ok(Gpu { id: id.to_owned(), path: path.to_owned(), device, maker: Maker::Unknown })
}
