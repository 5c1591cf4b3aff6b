//! What a seed makes of machines and frameworks before anything happens.

use mezzo_proto::v1;
use mezzo_types::Resources;

use crate::agent::Agent;
use crate::framework::{Framework, Temper};
use crate::host::Host;
use crate::rng::Rng;
use crate::store::Store;
use crate::world::MS;

/// Machines, some with walls around what is in them.
const MACHINES: [&str; 4] = [
    "cpus:4;mem:2048;disk:10000;ports:[31000-31009]",
    "cpus:2;mem:1024",
    "cpus:1;mem:512;cpus(prod):2;mem(prod):1024",
    "cpus:2;mem:1024;cpus(prod):1;mem(prod):512;disk(prod):2000",
];

const ROLES: [&str; 3] = ["*", "prod", "dev"];

pub(crate) fn agents(rng: &mut Rng) -> Vec<Agent> {
    let count = rng.between(1, 4);
    (0..count).map(|number| agent(rng, number)).collect()
}

fn agent(rng: &mut Rng, number: u64) -> Agent {
    let machine = rng.pick(&MACHINES).copied().unwrap_or_default();
    let resources = Resources::parse(machine, "*").unwrap_or_default();
    let mut resources = resources.to_proto();
    for resource in &mut resources {
        // The reserved disk holds a volume.
        if resource.name == "disk" && !resource.reservations.is_empty() {
            let persistence = v1::resource::disk_info::Persistence {
                id: format!("volume-{number}"),
                principal: None,
            };
            let volume = v1::Volume {
                mode: v1::volume::Mode::Rw as i32,
                container_path: "data".to_owned(),
                ..v1::Volume::default()
            };
            resource.disk = Some(Box::new(v1::resource::DiskInfo {
                persistence: Some(persistence),
                volume: Some(volume),
                source: None,
            }));
        }
    }
    let info =
        v1::AgentInfo { hostname: format!("host-{number}"), resources, ..v1::AgentInfo::default() };
    Agent {
        process: None,
        starts: 0,
        boots: 0,
        store: Store::default(),
        host: Host::default(),
        rng: rng.fork(100 + number),
        info,
        cut_until: 0,
        disk_fails: false,
        full: false,
        sync_max_ns: rng.skewed(MS, 500 * MS),
        starting: true,
    }
}

pub(crate) fn frameworks(rng: &mut Rng) -> Vec<Framework> {
    let count = rng.between(1, 4);
    (0..count).map(|number| framework(rng, number)).collect()
}

fn framework(rng: &mut Rng, number: u64) -> Framework {
    let tempers = [Temper::Greedy, Temper::Slow, Temper::Crashing, Temper::Lying];
    let temper = rng.pick(&tempers).copied().unwrap_or(Temper::Greedy);
    let aware = rng.chance(60);
    let role = rng.pick(&ROLES).copied().unwrap_or("*");
    let failover_s = [0, 5, 30, 600][rng.weighted(&[1, 2, 3, 4]).unwrap_or(3)];
    Framework::new(rng.fork(200 + number), temper, aware, role, f64::from(failover_s))
}
