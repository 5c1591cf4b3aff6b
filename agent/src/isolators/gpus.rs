//! `gpus`: whole GPUs, each for one container at a time; its device and nothing else of the kind.

use mezzo_agent_accounting::Device;

use super::{Demand, Isolator, IsolatorError, Plan};
use crate::gpus::{Gpu, Gpus, Maker, control_devices};

/// Adds a container's own GPUs to its plan: their devices, and variables that tell of them.
#[derive(Debug)]
pub struct GpusIsolator {
    gpus: Gpus,
}

impl GpusIsolator {
    pub fn new(gpus: Gpus) -> Self {
        GpusIsolator { gpus }
    }
}

impl Isolator for GpusIsolator {
    fn name(&self) -> &'static str {
        "gpus"
    }

    fn prepare(&self, demand: &Demand, plan: &mut Plan) -> Result<(), IsolatorError> {
        // One that a record names but the machine has not any more is told of when the record is read.
        let gpus: Vec<&Gpu> = demand.gpu_ids.iter().filter_map(|id| self.gpus.find(id)).collect();
        if gpus.is_empty() {
            return Ok(());
        }
        let mut devices: Vec<Device> = gpus.iter().map(|gpu| gpu.device).collect();
        if gpus.iter().any(|gpu| gpu.is_nvidia()) {
            devices.extend(control_devices());
        }
        plan.allow_devices(&devices);
        plan.environment.extend(variables(&gpus));
        Ok(())
    }
}

/// What a task is told: ids and nodes of its GPUs, separated by commas; of NVIDIA's also as CUDA (`CUDA_VISIBLE_DEVICES`) and
/// NVIDIA's container tools (`NVIDIA_VISIBLE_DEVICES`) want to hear it.
fn variables(gpus: &[&Gpu]) -> Vec<(String, String)> {
    let list =
        |of: fn(&Gpu) -> String| gpus.iter().map(|gpu| of(gpu)).collect::<Vec<_>>().join(",");
    let ids = list(|gpu| gpu.id.clone());
    let mut variables = vec![
        ("MEZZO_GPUS", ids.clone()),
        ("MEZZO_GPU_DEVICES", list(|gpu| gpu.path.to_string_lossy().into_owned())),
    ];
    if gpus.iter().all(|gpu| gpu.maker == Maker::Nvidia) {
        variables.push(("CUDA_VISIBLE_DEVICES", ids.clone()));
        variables.push(("NVIDIA_VISIBLE_DEVICES", ids));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
