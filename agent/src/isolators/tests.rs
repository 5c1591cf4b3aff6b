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
    assert_eq!(grant("cpu,memory"), Grant::default());
}
