use mezzo_proto::json;
use proptest::prelude::*;

use super::*;
use crate::resource::{Labels, Persistence, Reservation, ReservationKind};

fn parse(text: &str) -> Resources {
    Resources::parse(text, "*").unwrap()
}

fn dynamic(role: &str, principal: Option<&str>) -> Reservation {
    Reservation {
        role: role.into(),
        kind: ReservationKind::Dynamic,
        principal: principal.map(Into::into),
        labels: Labels::default(),
    }
}

fn reserved(text: &str, role: &str) -> Resources {
    parse(text).push_reservation(&dynamic(role, None))
}

/// A volume of so many MB for `role`.
fn volume(id: &str, role: &str, mb: u32) -> Resource {
    let disk = reserved(&format!("disk:{mb}"), role);
    let mut volume = disk.iter().next().unwrap().clone();
    let mount = v1::Volume {
        container_path: "data".to_owned(),
        mode: v1::volume::Mode::Rw as i32,
        ..Default::default()
    };
    let info = DiskInfo {
        persistence: Some(Persistence { id: id.into(), principal: None }),
        volume: Some(mount),
        source: None,
    };
    volume.disk = Some(info.into());
    volume
}

fn read(text: &str) -> Result<ResourceOperation, OperationFault> {
    let operation: v1::offer::Operation = json::from_slice(text.as_bytes()).unwrap();
    ResourceOperation::from_proto(&operation)
}

fn refuse(text: &str) -> String {
    match read(text) {
        Ok(operation) => panic!("{text} was read as {operation:?}"),
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn a_volume_lives_and_dies_on_reserved_disk() {
    let agent = parse("cpus:2;disk:100");
    let reserve = ResourceOperation::Reserve {
        source: parse("disk:60"),
        resources: reserved("disk:60", "web"),
    };
    let agent = agent.convert(&reserve.conversions()).unwrap();
    assert_eq!(agent.to_string(), "cpus:2; disk:40; disk(dynamic web):60");
    let create = ResourceOperation::Create { volumes: volume("v", "web", 50).into() };
    let agent = agent.convert(&create.conversions()).unwrap();
    assert_eq!(
        agent.to_string(),
        "cpus:2; disk:40; disk(dynamic web):10; disk(dynamic web)[volume v]:50"
    );
    let addition = reserved("disk:10", "web").iter().next().unwrap().clone();
    let grow = ResourceOperation::Grow { volume: volume("v", "web", 50), addition };
    let agent = agent.convert(&grow.conversions()).unwrap();
    assert_eq!(agent.to_string(), "cpus:2; disk:40; disk(dynamic web)[volume v]:60");
    let shrink = ResourceOperation::Shrink {
        volume: volume("v", "web", 60),
        subtract: Scalar::from_units(20),
    };
    let agent = agent.convert(&shrink.conversions()).unwrap();
    assert_eq!(
        agent.to_string(),
        "cpus:2; disk:40; disk(dynamic web):20; disk(dynamic web)[volume v]:40"
    );
    let destroy = ResourceOperation::Destroy { volumes: volume("v", "web", 40).into() };
    let agent = agent.convert(&destroy.conversions()).unwrap();
    let unreserve = ResourceOperation::Unreserve { resources: reserved("disk:60", "web") };
    assert_eq!(agent.convert(&unreserve.conversions()).unwrap(), parse("cpus:2;disk:100"));
}

#[test]
fn what_is_not_there_cannot_be_converted() {
    let reserve = ResourceOperation::Reserve {
        source: parse("cpus:3"),
        resources: reserved("cpus:3", "web"),
    };
    let error = parse("cpus:2").convert(&reserve.conversions()).unwrap_err();
    assert_eq!(error.to_string(), "it takes cpus:3, but there is cpus:2");
}

#[test]
fn a_shared_volume_is_destroyed_with_its_last_use() {
    let mut shared = volume("v", "web", 10);
    shared.shared = true;
    let destroy = ResourceOperation::Destroy { volumes: shared.clone().into() }.conversions();
    let one = Resources::from(shared.clone());
    assert_eq!(one.convert(&destroy).unwrap(), reserved("disk:10", "web"));
    let error = (one.clone() + one).convert(&destroy).unwrap_err().to_string();
    assert!(error.contains("is in use elsewhere"), "{error}");
}

#[test]
fn a_reservation_moves_to_another_role_in_one_step() {
    let text = r#"{"type": "RESERVE", "reserve": {
        "source": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1},
                    "reservations": [{"type": "DYNAMIC", "role": "eng/a", "principal": "p"}]}],
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1},
                       "reservations": [{"type": "DYNAMIC", "role": "eng/b", "principal": "p"}]}]}}"#;
    let operation = read(text).unwrap();
    let held = parse("cpus:1").push_reservation(&dynamic("eng/a", Some("p")));
    let moved = parse("cpus:1").push_reservation(&dynamic("eng/b", Some("p")));
    assert_eq!(held.convert(&operation.conversions()).unwrap(), moved);
    assert_eq!(ResourceOperation::from_proto(&operation.to_proto()), Ok(operation));
}

#[test]
fn both_reservation_formats_say_the_same() {
    let older = read(
        r#"{"type": "RESERVE", "reserve": {"resources": [{"name": "cpus", "type": "SCALAR",
            "scalar": {"value": 1}, "role": "web", "reservation": {"principal": "p"}}]}}"#,
    );
    let newer = read(
        r#"{"type": "RESERVE", "reserve": {"resources": [{"name": "cpus", "type": "SCALAR",
            "scalar": {"value": 1},
            "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "p"}]}]}}"#,
    );
    assert_eq!(older, newer);
    let Ok(ResourceOperation::Reserve { source, .. }) = newer else { panic!("{newer:?}") };
    assert_eq!(source, parse("cpus:1"), "without source it is reserved by one level less");
}

#[test]
fn each_rule_has_its_sentence() {
    let cpus = r#"{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}"#;
    let disk = |more: &str| {
        format!(
            r#"{{"name": "disk", "type": "SCALAR", "scalar": {{"value": 64}},
                "reservations": [{{"type": "DYNAMIC", "role": "web"}}]{more}}}"#
        )
    };
    let volume = |path: &str, more: &str| {
        disk(&format!(
            r#", "disk": {{"persistence": {{"id": "v"}},
                "volume": {{"mode": "RW", "container_path": "{path}"{more}}}}}"#
        ))
    };
    let create =
        |volumes: &str| format!(r#"{{"type": "CREATE", "create": {{"volumes": [{volumes}]}}}}"#);
    let grow = |volume: &str, addition: &str| {
        format!(
            r#"{{"type": "GROW_VOLUME", "grow_volume": {{"volume": {volume}, "addition": {addition}}}}}"#
        )
    };
    let shrink = |by: &str| {
        format!(
            r#"{{"type": "SHRINK_VOLUME", "shrink_volume": {{"volume": {}, "subtract": {{"value": {by}}}}}}}"#,
            volume("d", "")
        )
    };
    let shown = "disk(dynamic web)[volume v]:64";
    let cases = [
        ("{}".to_owned(), "the operation has no type, or one that is not known".to_owned()),
        (
            r#"{"type": "LAUNCH", "launch": {}}"#.to_owned(),
            "its type is LAUNCH, which is no operation on resources".to_owned(),
        ),
        (
            r#"{"type": "RESERVE"}"#.to_owned(),
            "its type is RESERVE but it has no 'reserve'".to_owned(),
        ),
        (
            r#"{"type": "RESERVE", "reserve": {}}"#.to_owned(),
            "'reserve.resources' is empty: name what the operation is about".to_owned(),
        ),
        (
            format!(r#"{{"type": "RESERVE", "reserve": {{"resources": [{cpus}]}}}}"#),
            "'reserve.resources' has cpus:1, which is not dynamically reserved".to_owned(),
        ),
        (
            format!(r#"{{"type": "UNRESERVE", "unreserve": {{"resources": [{cpus}]}}}}"#),
            "'unreserve.resources' has cpus:1, which is not dynamically reserved".to_owned(),
        ),
        (
            format!(
                r#"{{"type": "UNRESERVE", "unreserve": {{"resources": [{}]}}}}"#,
                volume("d", "")
            ),
            format!(
                "'unreserve.resources' has the persistent volume {shown}: destroy the volume first, \
                 then unreserve its disk"
            ),
        ),
        (
            create(&disk("")),
            "'create.volumes' has disk(dynamic web):64, which is no persistent volume: it has no \
             'disk.persistence'"
                .to_owned(),
        ),
        (
            create(&disk(r#", "disk": {}"#)),
            "'create.volumes' has disk(dynamic web):64 whose 'disk' has neither 'persistence' nor \
             'source'"
                .to_owned(),
        ),
        (
            create(&disk(r#", "disk": {"persistence": {"id": "v"}}"#)),
            format!(
                "'create.volumes' has {shown} without 'disk.volume': it says where in the sandbox the \
                 volume is to be"
            ),
        ),
        (
            create(&volume("/d", "")),
            format!(
                "'create.volumes' has {shown} whose 'disk.volume.container_path' is '/d', which is \
                 absolute: name a path within the sandbox"
            ),
        ),
        (
            create(&volume("d/../../x", "")),
            format!(
                "'create.volumes' has {shown} whose 'disk.volume.container_path' is 'd/../../x', \
                 which has an empty, '.' or '..' component"
            ),
        ),
        (
            create(&volume("d", r#", "host_path": "/etc""#)),
            format!(
                "'create.volumes' has {shown} with 'disk.volume.host_path': where a persistent volume \
                 lies is the agent's choice"
            ),
        ),
        (
            create(&volume("d", "").replace("RW", "RO")),
            format!(
                "'create.volumes' has {shown} with 'disk.volume.mode' RO: a persistent volume is made \
                 to be written to"
            ),
        ),
        (
            create(&format!("{},{}", volume("d", ""), volume("e", ""))),
            "'create.volumes' names the persistence id 'v' twice for role 'web': it must be unique"
                .to_owned(),
        ),
        (
            grow(&volume("d", ""), cpus),
            "'grow_volume.addition' is cpus:1, which is no more of the disk disk(dynamic web):64 that \
             the volume lies on"
                .to_owned(),
        ),
        (
            grow(&volume("d", ""), &disk("").replace("64", "0")),
            "'grow_volume.addition' is 0: it must be greater than 0".to_owned(),
        ),
        (
            grow(&volume("d", "").replacen('{', r#"{"shared": {}, "#, 1), &disk("")),
            "'grow_volume.volume' is a shared volume, whose size cannot change".to_owned(),
        ),
        (shrink("0"), "'shrink_volume.subtract' is 0: it must be greater than 0".to_owned()),
        (
            shrink("64"),
            "'shrink_volume.subtract' is 64: it must be less than the volume's size, 64".to_owned(),
        ),
        (
            format!(
                r#"{{"type": "CREATE_DISK", "create_disk": {{"source": {cpus}, "target_type": "MOUNT"}}}}"#
            ),
            "CREATE_DISK is for disks of a resource provider, and this version of Mezzo has none: make \
             volumes of the agent's own disk with RESERVE and CREATE"
                .to_owned(),
        ),
        (
            create(&volume("d", "").replacen('{', r#"{"provider_id": {"value": "p"}, "#, 1)),
            "'create.volumes' has disk(dynamic web)[volume v][provider p]:64 of the resource provider \
             'p': this version of Mezzo has no resource providers"
                .to_owned(),
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(refuse(&text), sentence, "for {text}");
    }
}

/// An agent's resources, and an operation that they allow.
fn possible() -> impl Strategy<Value = (Resources, ResourceOperation)> {
    let amount = 1u32..1000;
    (0usize..6, amount.clone(), amount, any::<bool>(), any::<bool>()).prop_map(
        |(kind, first, second, refined, shared)| {
            let (small, large) = (first.min(second), first.max(second) + 1);
            let role = if refined { "web/inner" } else { "web" };
            let base = if refined { "disk(web):" } else { "disk:" };
            let disk =
                |mb: u32| parse(&format!("{base}{mb}")).push_reservation(&dynamic(role, Some("p")));
            let plain = |mb: u32| parse(&format!("{base}{mb}"));
            let volume = |mb: u32, shared: bool| {
                let mut made = disk(mb).iter().next().unwrap().clone();
                made.disk = volume("v", role, mb).disk;
                made.shared = shared;
                made
            };
            let operation = match kind {
                0 => ResourceOperation::Reserve { source: plain(small), resources: disk(small) },
                1 => ResourceOperation::Unreserve { resources: disk(small) },
                2 => ResourceOperation::Create { volumes: volume(small, shared).into() },
                3 => ResourceOperation::Destroy { volumes: volume(small, shared).into() },
                4 => ResourceOperation::Grow {
                    volume: volume(large, false),
                    addition: disk(small).iter().next().unwrap().clone(),
                },
                _ => ResourceOperation::Shrink {
                    volume: volume(large, false),
                    subtract: Scalar::from_units(small),
                },
            };
            let agent = parse("cpus:4;mem:100") + disk(7) + plain(9) + operation.consumed();
            (agent, operation)
        },
    )
}

proptest! {
    /// Nothing is made or lost; the way back leads back; a message says the same.
    #[test]
    fn quantities_are_conserved_and_every_operation_can_be_undone(
        (agent, operation) in possible()
    ) {
        let steps = operation.conversions();
        let after = agent.convert(&steps).unwrap();
        prop_assert_eq!(after.quantities(), agent.quantities());
        let back: Vec<Conversion> = steps.iter().rev().map(Conversion::reversed).collect();
        prop_assert_eq!(after.convert(&back).unwrap(), agent.clone());
        let read = ResourceOperation::from_proto(&operation.to_proto()).unwrap();
        prop_assert_eq!(&read, &operation);
        let allocated = operation.map(|resource| resource.allocation_role = Some("web".into()));
        prop_assert_eq!(
            agent.allocate("web").convert(&allocated.conversions()).unwrap(),
            after.allocate("web")
        );
        prop_assert_eq!(allocated.unallocated(), operation);
    }

    /// UNRESERVE undoes RESERVE and DESTROY undoes CREATE, as operations.
    #[test]
    fn opposites_cancel((agent, operation) in possible()) {
        let opposite = match &operation {
            ResourceOperation::Reserve { resources, .. } => {
                ResourceOperation::Unreserve { resources: resources.clone() }
            }
            ResourceOperation::Create { volumes } => {
                ResourceOperation::Destroy { volumes: volumes.clone() }
            }
            _ => return Ok(()),
        };
        let after = agent.convert(&operation.conversions()).unwrap();
        prop_assert_eq!(after.convert(&opposite.conversions()).unwrap(), agent);
    }
}
