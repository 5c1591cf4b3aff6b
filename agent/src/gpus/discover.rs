//! Finding them.

use std::path::{Path, PathBuf};

use super::nvml::Answer;
use super::{Inventory, NamedError, named, nvml};

/// Where GPUs are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// `--gpu-devices`: nodes, each of them a GPU; NVML is not asked then.
    pub devices: Vec<PathBuf>,
    /// `--nvml-library`, where it is not the loader's to find.
    pub nvml_library: Option<PathBuf>,
}

/// Why it is unknown what GPUs there are.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    #[error("--gpu-devices cannot be used")]
    Named(#[source] NamedError),
    #[error(
        "--nvml-library names {0}, which is not there; correct it, or leave it out to have the library found"
    )]
    NoLibrary(PathBuf),
    #[error(
        "NVML did not answer within {0} s: a GPU or its driver hangs, see the kernel's log (dmesg); to go on without GPUs leave 'gpus' out of \
         --isolation"
    )]
    Stuck(u64),
}

/// Looks for GPUs. A machine without NVML has none, nor has one whose NVML fails, which is logged. Blocks, with a driver that
/// sleeps for seconds.
pub fn discover(options: &GpuOptions) -> Result<Inventory, DiscoverError> {
    if !options.devices.is_empty() {
        let inventory = named::named(&options.devices).map_err(DiscoverError::Named)?;
        tracing::info!(gpus = inventory.len(), "GPUs are those of --gpu-devices");
        return Ok(inventory);
    }
    let library = options.nvml_library.as_ref();
    tracing::debug!("asking NVML for GPUs");
    match nvml::ask(library.map(|path| path.as_os_str()), Path::new("/dev")) {
        Answer::Found(inventory) => {
            tracing::info!(gpus = inventory.len(), "GPUs are those that NVML knows");
            Ok(inventory)
        }
        Answer::Absent => match library {
            Some(path) => Err(DiscoverError::NoLibrary(path.clone())),
            None => {
                tracing::info!("no GPUs: NVML is not installed, and --gpu-devices names none");
                Ok(Inventory::default())
            }
        },
        Answer::Failed(error) => {
            tracing::warn!(
                error = crate::containerizer::chain(&error),
                "no GPUs: NVML is there but fails; is the driver loaded, and of the library's version?"
            );
            Ok(Inventory::default())
        }
    }
}
