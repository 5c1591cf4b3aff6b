use std::collections::BTreeMap;

use mezzo_agent_accounting::{Access, Device, Devices, PortPolicy};
use mezzo_proto::v1;
use mezzo_types::Resources;

use super::*;

fn demand(cpus: f64, mem: f64, limits: &[(&str, f64)]) -> Result<Demand, DemandError> {
    let scalar = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    };
    let resources =
        Resources::from_proto(&[scalar("cpus", cpus), scalar("mem", mem)]).expect("resources");
    let limits: BTreeMap<_, _> = limits
        .iter()
        .map(|(name, value)| ((*name).to_owned(), v1::value::Scalar { value: *value }))
        .collect();
    Demand::new(resources, &limits)
}

#[test]
fn a_demand_has_the_limits_of_its_task() {
    let plain = demand(0.5, 64.0, &[]).expect("demand");
    assert_eq!((plain.cpu_millis(), plain.cpu_limit_millis()), (500, Some(500)));
    assert_eq!((plain.memory_bytes(), plain.memory_limit_bytes()), (64 << 20, Some(64 << 20)));
    let burst = demand(0.5, 64.0, &[("cpus", f64::INFINITY), ("mem", 128.0)]).expect("demand");
    assert_eq!((burst.cpu_limit_millis(), burst.memory_limit_bytes()), (None, Some(128 << 20)));
    let half = demand(0.1, 32.5, &[]).expect("demand");
    assert_eq!(half.memory_bytes(), 65 << 19);
    for (name, value) in [("cpus", -1.0), ("cpus", f64::NAN), ("mem", 0.0)] {
        let refused = demand(0.5, 64.0, &[(name, value)]).expect_err("must be refused");
        assert!(matches!(refused, DemandError::BadLimit { .. }), "{name}={value}: {refused}");
    }
    let refused = demand(0.5, 64.0, &[("mem", 63.0)]).expect_err("must be refused");
    assert_eq!(refused.to_string(), "limit 'mem' is 63, less than the 64 that the task asks for");
}

#[test]
fn isolation_lists_are_read() {
    let parse = |list: &str| Isolators::parse(list, &IsolationOptions::default());
    assert_eq!(
        parse(DEFAULT_ISOLATION).expect("default").names(),
        ["cpu", "memory", "pids", "ports", "devices", "namespaces"]
    );
    assert_eq!(
        parse(" cgroups/mem , cgroups/cpu,namespaces/pid").expect("aliases").names(),
        ["memory", "cpu", "namespaces"]
    );
    assert_eq!(parse("").expect("nothing").names(), [""; 0]);
    let unknown = parse("cpu,gpu/amd").expect_err("unknown").to_string();
    assert!(unknown.contains("'gpu/amd'") && unknown.contains("memory (cgroups/mem)"), "{unknown}");
    let twice = parse("cpu,cgroups/cpu").expect_err("twice").to_string();
    assert_eq!(twice, "--isolation names 'cpu' twice");
    assert_eq!(parse("gpu/nvidia,cgroups/devices").expect("aliases").names(), ["gpus", "devices"]);
    let alone = parse("cpu,gpus").expect_err("unguarded");
    assert_eq!(alone, IsolationError::GpusWithoutDevices);
}

#[test]
fn a_container_gets_the_gpus_that_are_its_own() {
    use crate::gpus::{Gpu, Gpus, Inventory, Maker};
    let gpu = |id: &str, maker, major, minor| Gpu {
        id: id.to_owned(),
        path: format!("/dev/of-{id}").into(),
        device: Device::character(major, minor, Access::READ_WRITE),
        maker,
    };
    let inventory = Inventory::new(vec![
        gpu("GPU-1", Maker::Nvidia, 240, 0),
        gpu("GPU-2", Maker::Nvidia, 240, 1),
        gpu("/dev/dri", Maker::Unknown, 226, 128),
    ]);
    let gpus = Gpus::new(inventory.0, 3);
    let allowed = vec![Device::character(240, 1, Access { mknod: true, ..Access::READ })];
    let options = IsolationOptions { gpus, allowed_devices: allowed, ..Default::default() };
    let plan = |list: &str, ids: &[&str]| {
        let gpu_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let demand = Demand { gpu_ids, ..Demand::default() };
        Isolators::parse(list, &options).expect("list").prepare(&demand).expect("plan")
    };
    let none = plan("devices,gpus", &[]);
    assert_eq!(none.grant.devices, Devices::Only(options.allowed_devices.clone()));
    assert_eq!(none.environment, []);
    let one = plan("devices,gpus", &["GPU-2"]);
    let Devices::Only(devices) = &one.grant.devices else { panic!("unguarded") };
    // Both ways to have it add up. Beside it there is what NVIDIA's driver has for all, if this machine has any.
    assert_eq!(devices[0], Device::character(240, 1, Access::ALL));
    assert_eq!(devices[1..], crate::gpus::control_devices());
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        one.environment,
        [
            variable("MEZZO_GPUS", "GPU-2"),
            variable("MEZZO_GPU_DEVICES", "/dev/of-GPU-2"),
            variable("CUDA_VISIBLE_DEVICES", "GPU-2"),
            variable("NVIDIA_VISIBLE_DEVICES", "GPU-2"),
        ]
    );
    // Whatever the order; and whose id means nothing to CUDA, CUDA is not told.
    let named = plan("gpus,devices", &["/dev/dri", "gone"]);
    let render = Device::character(226, 128, Access::READ_WRITE);
    let expected = vec![render, options.allowed_devices[0]];
    assert_eq!(named.grant.devices, Devices::Only(expected));
    assert_eq!(
        named.environment,
        [variable("MEZZO_GPUS", "/dev/dri"), variable("MEZZO_GPU_DEVICES", "/dev/of-/dev/dri"),]
    );
}

#[test]
fn gpus_are_whole_and_all_there() {
    let with = |gpus: f64, ids: &[&str]| {
        let resource = v1::Resource {
            name: "gpus".to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value: gpus }),
            ..Default::default()
        };
        let resources = Resources::from_proto(&[resource]).expect("resources");
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let demand = Demand { resources, ..Demand::default() }.with_gpus(ids);
        demand.map(|demand| demand.gpu_ids.len()).map_err(|error| error.to_string())
    };
    assert_eq!(with(2.0, &["a", "b"]), Ok(2));
    let refused = with(2.0, &[]).expect_err("too few");
    assert!(refused.starts_with("it asks for 2 GPUs but has 0: the others of"), "{refused}");
}

#[test]
fn namespaces_are_planned() {
    let plan = |list: &str| {
        let isolators = Isolators::parse(list, &IsolationOptions::default()).expect("list");
        isolators.prepare(&Demand::default()).expect("plan").namespaces
    };
    assert_eq!(plan("cpu"), NamespaceSet::default());
    assert_eq!(plan("namespaces"), NamespaceSet { pid: true, mount: true, ipc: true, uts: true });
    // Own process numbers need a /proc of their own, hence own mounts.
    assert_eq!(
        plan("namespaces/pid"),
        NamespaceSet { pid: true, mount: true, ..NamespaceSet::default() }
    );
}

#[test]
fn a_plan_grants_the_ports_and_devices_of_its_task() {
    let options = IsolationOptions {
        ports_policy: PortPolicy::Enforce,
        ports_ephemeral: true,
        allowed_devices: vec![Device::character(10, 229, Access::READ_WRITE)],
        ..IsolationOptions::default()
    };
    let resources = Resources::parse("ports:[31000-31002,31005-31005,65535-70000]", "*");
    let demand = Demand { resources: resources.expect("resources"), ..Demand::default() };
    let grant = |list: &str| {
        let isolators = Isolators::parse(list, &options).expect("list");
        isolators.prepare(&demand).expect("plan").grant
    };
    let granted = grant(DEFAULT_ISOLATION);
    assert_eq!(granted.ports.ranges, [(31000, 31002), (31005, 31005), (65535, 65535)]);
    assert_eq!((granted.ports.policy, granted.ports.ephemeral), (PortPolicy::Enforce, true));
    assert_eq!(granted.devices, Devices::Only(options.allowed_devices.clone()));
    let refused = Isolators::parse("cpu,memory", &options).expect_err("must be refused");
    assert_eq!(refused, IsolationError::PortsNotIsolated);
    let isolators = Isolators::parse("cpu,memory", &IsolationOptions::default()).expect("list");
    assert_eq!(isolators.prepare(&demand).expect("plan").grant, Grant::default());
}
