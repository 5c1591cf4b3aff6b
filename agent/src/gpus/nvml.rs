//! GPUs that NVIDIA's management library knows. The library belongs to the driver: it is looked for when the agent starts,
//! and a machine without it is one without GPUs.

use std::ffi::OsStr;
use std::path::Path;

use mezzo_agent_accounting::Access;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{Gpu, Inventory, Maker};
use crate::device_node::device_at;

/// As the driver's packages install it; the loader finds it.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// More GPUs than any machine has: a library that tells of more is out of its mind.
const GPUS_MAX: u32 = 1024;

/// What asking the library comes to.
#[derive(Debug)]
pub(super) enum Answer {
    Found(Inventory),
    /// There is no library.
    Absent,
    /// It is there, but something is wrong with it or its driver.
    Failed(NvmlError),
}

/// Asks the library at `path`, or the one that the loader finds; `nodes` is where the GPUs' nodes are. May take seconds where the
/// driver has to be woken up.
pub(super) fn ask(path: Option<&OsStr>, nodes: &Path) -> Answer {
    let path = path.unwrap_or(OsStr::new(LIBRARY));
    match list(path, nodes) {
        Ok(gpus) => {
            let (inventory, twice) = Inventory::new(gpus);
            for gpu in twice {
                tracing::warn!(id = gpu.id, path = %gpu.path.display(), "NVML tells of a GPU twice");
            }
            Answer::Found(inventory)
        }
        Err(error) if is_absent(&error, path) => Answer::Absent,
        Err(error) => Answer::Failed(error),
    }
}

fn list(path: &OsStr, nodes: &Path) -> Result<Vec<Gpu>, NvmlError> {
    let library = Nvml::builder().lib_path(path).init()?;
    let count = library.device_count()?;
    if count > GPUS_MAX {
        tracing::warn!(count, used = GPUS_MAX, "NVML tells of more GPUs than are used");
    }
    let mut gpus = Vec::new();
    for index in 0..count.min(GPUS_MAX) {
        // One that has fallen off the bus does not take the others with it.
        match gpu(&library, index, nodes) {
            Ok(gpu) => gpus.extend(gpu),
            Err(error) => {
                tracing::warn!(index, %error, "a GPU is not used: NVML cannot tell of it")
            }
        }
    }
    Ok(gpus)
}

fn gpu(library: &Nvml, index: u32, nodes: &Path) -> Result<Option<Gpu>, NvmlError> {
    let device = library.device_by_index(index)?;
    let (id, minor) = (device.uuid()?, device.minor_number()?);
    let path = nodes.join(format!("nvidia{minor}"));
    match device_at(&path, Access::READ_WRITE) {
        Ok(device) => Ok(Some(Gpu { id, path, device, maker: Maker::Nvidia })),
        Err(error) => {
            let error = crate::containerizer::chain(&error);
            tracing::warn!(
                id,
                error,
                "a GPU is not used: make its node, for instance by `nvidia-modprobe`"
            );
            Ok(None)
        }
    }
}

/// The loader tells a missing file and a damaged one apart in words only.
fn is_absent(error: &NvmlError, path: &OsStr) -> bool {
    let absent =
        format!("{}: cannot open shared object file: No such file", path.to_string_lossy());
    matches!(error, NvmlError::LibloadingError(error) if error.to_string().starts_with(&absent))
}
