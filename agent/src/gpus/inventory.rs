//! What GPUs a machine has.

use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{Access, Device, DeviceKind};

use crate::device_node::device_at;

/// Who told of a GPU, which decides by what variables its user is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// NVML: the id is one that CUDA and NVIDIA's container tools understand.
    Nvidia,
    /// The operator: it may be anybody's.
    Unknown,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its UUID as NVML tells it, `GPU-…`; of one that the operator named, the path of its node. The same after every restart.
    pub id: String,
    /// Its node, such as `/dev/nvidia0`.
    pub path: PathBuf,
    pub device: Device,
    pub maker: Maker,
}

/// Major number of NVIDIA's GPUs (Linux, `Documentation/admin-guide/devices.txt`).
const NVIDIA_MAJOR: u32 = 195;

impl Gpu {
    /// Whether it is driven by NVIDIA's driver, whoever told of it.
    pub fn is_nvidia(&self) -> bool {
        self.maker == Maker::Nvidia
            || (self.device.kind == DeviceKind::Character && self.device.major == NVIDIA_MAJOR)
    }
}

/// The GPUs of a machine, in the order in which they are given out. Ids and devices differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    gpus: Vec<Gpu>,
}

impl Inventory {
    /// A GPU whose id or device is another's already is left out; it is returned as the second.
    pub(crate) fn new(found: Vec<Gpu>) -> (Self, Vec<Gpu>) {
        let mut gpus: Vec<Gpu> = Vec::new();
        let mut twice = Vec::new();
        for gpu in found {
            if gpus.iter().any(|known| known.id == gpu.id || known.device == gpu.device) {
                twice.push(gpu);
            } else {
                gpus.push(gpu);
            }
        }
        (Inventory { gpus }, twice)
    }

    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    pub fn len(&self) -> usize {
        self.gpus.len()
    }

    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// The GPU of this id. A path is also that of a GPU which the operator names by another path now.
    pub fn find(&self, id: &str) -> Option<&Gpu> {
        let named = self.gpus.iter().find(|gpu| gpu.id == id);
        named.or_else(|| {
            let path = Path::new(id);
            let device = path.is_absolute().then(|| device_at(path, Access::READ_WRITE).ok())??;
            self.gpus.iter().find(|gpu| gpu.device == device)
        })
    }
}
