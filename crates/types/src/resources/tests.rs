use proptest::prelude::*;

use super::*;
use crate::resource::{
    DiskInfo, DiskKind, DiskSource, Labels, Persistence, ReservationKind, Reservations,
};

fn parse(text: &str) -> Resources {
    Resources::parse(text, "*").unwrap()
}

fn scalar(thousandths: i64) -> Value {
    Value::Scalar(Scalar::from_thousandths(thousandths))
}

fn reservation(role: &str, kind: ReservationKind) -> Reservation {
    Reservation { role: role.into(), kind, principal: None, labels: Labels::default() }
}

fn volume(id: &str, shared: bool) -> Resource {
    let persistence = Some(Persistence { id: id.into(), principal: None });
    Resource {
        reservations: Reservations::fixed("web"),
        disk: Some(Arc::new(DiskInfo { persistence, ..Default::default() })),
        shared,
        ..Resource::new("disk", scalar(64_000))
    }
}

fn disk_of(kind: DiskKind, root: &str, id: Option<&str>) -> Resource {
    let source = DiskSource {
        kind,
        root: Some(root.into()),
        vendor: None,
        id: id.map(Arc::from),
        metadata: Labels::default(),
        profile: None,
    };
    Resource {
        disk: Some(Arc::new(DiskInfo { source: Some(source), ..Default::default() })),
        ..Resource::new("disk", scalar(100_000))
    }
}

#[test]
fn fungible_resources_merge_and_others_stay_apart() {
    assert_eq!(parse("cpus:1;mem:2") + parse("cpus:0.5"), parse("cpus:1.5;mem:2"));
    assert_eq!((parse("cpus:1") + parse("cpus(web):1")).to_string(), "cpus:1; cpus(web):1");
    let allocated = parse("cpus:1").allocate("web");
    assert_eq!(
        (parse("cpus:1") + allocated.clone()).to_string(),
        "cpus:1; cpus(allocated to web):1"
    );
    assert_eq!(allocated.unallocated(), parse("cpus:1"));
    let mut revocable = Resource::new("cpus", scalar(1000));
    revocable.revocable = true;
    assert_eq!(
        (parse("cpus:1") + revocable.clone().into()).to_string(),
        "cpus:1; cpus{revocable}:1"
    );
    let mut provided = Resource::new("cpus", scalar(1000));
    provided.provider_id = Some("p".into());
    assert_eq!((parse("cpus:1") + provided.into()).iter().count(), 2);
    // The same name may even be of two types.
    assert_eq!((parse("slots:1") + parse("slots:[1-2]")).to_string(), "slots:1; slots:[1-2]");
}

#[test]
fn reservations_differ_by_kind_principal_and_labels() {
    let with = |change: fn(&mut Reservation)| {
        let mut level = reservation("web", ReservationKind::Dynamic);
        change(&mut level);
        parse("cpus:1").push_reservation(&level)
    };
    let all = [
        with(|_| ()),
        with(|level| level.kind = ReservationKind::Static),
        with(|level| level.principal = Some("alice".into())),
        with(|level| level.labels = Labels::new([("k".into(), None)])),
    ];
    assert_eq!(all.iter().sum::<Resources>().iter().count(), 4);
    assert_eq!(
        with(|_| ()) + with(|_| ()),
        parse("cpus:2").push_reservation(&reservation("web", ReservationKind::Dynamic))
    );
    assert_eq!(all[2].to_string(), "cpus(dynamic web by alice):1");
}

#[test]
fn reservations_stack_and_unstack() {
    let cpus = parse("cpus:1");
    let outer = cpus.push_reservation(&reservation("eng", ReservationKind::Static));
    assert_eq!(outer, parse("cpus(eng):1"));
    let inner = outer.push_reservation(&reservation("eng/web", ReservationKind::Dynamic));
    assert_eq!(inner.to_string(), "cpus(eng)(dynamic eng/web):1");
    assert_eq!(inner.reserved("eng/web"), inner);
    assert!(inner.reserved("eng").is_empty());
    assert_eq!(inner.pop_reservation(), outer);
    assert_eq!(inner.pop_reservation().pop_reservation(), cpus);
    assert_eq!(cpus.pop_reservation(), cpus);
}

#[test]
fn a_role_may_use_what_is_unreserved_or_reserved_for_it_or_above_it() {
    let all = parse("cpus:1;cpus(eng):2;cpus(eng/web):4;cpus(ops):8");
    assert_eq!(all.eligible_for("eng/web").cpus(), Scalar::from_units(7));
    assert_eq!(all.eligible_for("eng").cpus(), Scalar::from_units(3));
    assert_eq!(all.eligible_for("engine").cpus(), Scalar::from_units(1));
    assert_eq!(all.unreserved(), parse("cpus:1"));
    assert_eq!(all.reserved("eng"), parse("cpus(eng):2"));
}

#[test]
fn persistent_volumes_and_whole_disks_never_merge_or_split() {
    let two = Resources::from(volume("a", false)) + volume("b", false).into();
    assert_eq!(two.iter().count(), 2);
    assert_eq!(two.checked_sub(&volume("a", false).into()), Some(volume("b", false).into()));
    let mut part = volume("a", false);
    part.value = scalar(32_000);
    assert!(!two.contains(&part.clone().into()));
    assert_eq!(two.checked_sub(&part.into()), None);

    let mount = disk_of(DiskKind::Mount, "/mnt/1", None);
    let same_twice = Resources::from_iter([mount.clone(), mount.clone()]);
    assert_eq!(same_twice.iter().count(), 2);
    assert_eq!(same_twice.disk_mb(), Scalar::from_units(200));
    assert_eq!(same_twice.checked_sub(&mount.clone().into()), Some(mount.into()));

    let path = disk_of(DiskKind::Path, "/mnt/2", None);
    let merged = Resources::from_iter([path.clone(), path.clone()]);
    assert_eq!(merged.iter().count(), 1);
    assert_eq!(merged.disk_mb(), Scalar::from_units(200));
    assert_eq!(
        Resources::from_iter([path, disk_of(DiskKind::Path, "/mnt/3", None)]).iter().count(),
        2
    );

    let raw = |id| disk_of(DiskKind::Raw, "", id);
    assert_eq!(Resources::from_iter([raw(None), raw(None)]).iter().count(), 1);
    assert_eq!(Resources::from_iter([raw(Some("x")), raw(Some("x"))]).iter().count(), 2);
}

#[test]
fn a_volume_is_the_same_however_it_is_mounted() {
    let mut seen_as = volume("a", false);
    let disk = DiskInfo {
        persistence: Some(Persistence { id: "a".into(), principal: Some("alice".into()) }),
        volume: Some(mezzo_proto::v1::Volume {
            container_path: "data".into(),
            ..Default::default()
        }),
        source: None,
    };
    seen_as.disk = Some(Arc::new(disk));
    assert_eq!(seen_as, volume("a", false));
    assert!(Resources::from(seen_as).contains(&volume("a", false).into()));
}

#[test]
fn users_of_a_shared_volume_are_counted_and_its_space_is_not() {
    let one = Resources::from(volume("a", true));
    let three: Resources = [&one, &one, &one].into_iter().sum();
    assert_eq!(three.copies(&volume("a", true)), 3);
    assert_eq!(three.iter().count(), 1);
    assert_eq!(three.disk_mb(), Scalar::from_units(64));
    assert!(
        three.contains(&(one.clone() + one.clone())) && !one.contains(&(one.clone() + one.clone()))
    );
    let two = three.checked_sub(&one).unwrap();
    assert_eq!(two.copies(&volume("a", true)), 2);
    assert_ne!(two, one);
    assert_eq!(two.checked_sub(&one).unwrap().checked_sub(&one), Some(Resources::new()));
    assert_eq!(Resources::from_proto(&three.to_proto()), Ok(three));
}

#[test]
fn nothing_is_nothing() {
    let nothing = Resources::new();
    assert_eq!(parse("cpus:0;ports:[];s:{}"), nothing);
    assert!(nothing.contains(&nothing) && parse("cpus:1").contains(&nothing));
    assert!(!nothing.contains(&parse("cpus:0.001")));
    assert_eq!(nothing.to_string(), "{}");
    assert_eq!(parse("cpus:1").checked_sub(&parse("cpus:1")), Some(nothing));
}

#[test]
fn amounts_by_name() {
    let all = parse("cpus:1;cpus(web):0.5;mem:64;ports:[1-2];ports(web):[3-4];s:{a}");
    assert_eq!(all.scalar("cpus"), Some(Scalar::from_thousandths(1500)));
    assert_eq!(all.scalar("ports"), None);
    assert_eq!(all.scalar("gpus"), None);
    assert_eq!(all.mem_mb(), Scalar::from_units(64));
    assert_eq!(all.ports().to_string(), "[1-4]");
    assert_eq!(all.quantities().to_string(), "cpus:1.5; mem:64");
    assert_eq!(
        all.names().iter().map(ResourceName::as_str).collect::<Vec<_>>(),
        ["cpus", "mem", "ports", "s"]
    );
}

/// Launches and ends of tasks, a million operations: what comes back is what was there.
#[test]
fn a_million_operations_leave_no_drift() {
    let total = parse("cpus:64;mem:262144;ports:[31000-32000]");
    let task = parse("cpus:0.1;mem:33.3;ports:[31500-31501]");
    let mut free = total.clone();
    for _ in 0..500_000 {
        free = free.checked_sub(&task).unwrap();
        free += &task;
    }
    assert_eq!(free, total);
}

/// Resources of every sort: four names, reserved or not, allocated or not, counted or not.
/// `port` and `item` are the only ports and items, so that lists made with different ones are
/// disjoint in them.
fn some_resources(port: std::ops::Range<u64>) -> impl Strategy<Value = Resources> {
    let one = (0..6usize, 1i64..5_000, port, 0..3usize, 0..3usize, any::<bool>()).prop_map(
        |(what, amount, port, reserved, allocated, revocable)| {
            let mut resource = match what {
                0 => Resource::new("cpus", scalar(amount)),
                1 => Resource::new("mem", scalar(amount)),
                2 => Resource::new("ports", Value::Ranges(Ranges::single(port))),
                3 => Resource::new("items", Value::Set(crate::ItemSet::single(&port.to_string()))),
                4 => return volume(["a", "b", "c"][reserved], revocable),
                _ => disk_of(DiskKind::Mount, "/m", None),
            };
            if reserved > 0 {
                resource.reservations = Reservations::fixed(["", "a", "a/b"][reserved]);
            }
            if allocated > 0 {
                resource.allocation_role = Some(["", "a", "b"][allocated].into());
            }
            resource.revocable = revocable && reserved == 0;
            resource
        },
    );
    prop::collection::vec(one, 0..8).prop_map(Resources::from_iter)
}

fn check_canonical(resources: &Resources) {
    assert!(resources.0.iter().all(|entry| !entry.resource.value.is_empty() && entry.copies > 0));
    assert!(
        resources.0.windows(2).all(|two| two[0].resource.order(&two[1].resource).is_lt()),
        "{resources}"
    );
}

proptest! {
    #[test]
    fn addition_is_commutative_and_associative(
        a in some_resources(0..20), b in some_resources(0..20), c in some_resources(0..20),
    ) {
        prop_assert_eq!(&a + &b, &b + &a);
        prop_assert_eq!(&(&a + &b) + &c, &a + &(&b + &c));
        prop_assert_eq!(&a + &Resources::new(), a.clone());
        check_canonical(&(&a + &b));
    }

    /// For ranges and sets addition is union, so it can be undone where nothing was in both.
    #[test]
    fn what_was_added_can_be_taken_away(a in some_resources(0..20), b in some_resources(20..40)) {
        let sum = &a + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        prop_assert_eq!(sum.checked_sub(&b), Some(a.clone()));
        prop_assert_eq!(sum.checked_sub(&a), Some(b));
        prop_assert_eq!(a.checked_sub(&a), Some(Resources::new()));
    }

    #[test]
    fn subtraction_is_defined_exactly_for_what_is_contained(
        a in some_resources(0..4), b in some_resources(0..4), c in some_resources(0..4),
    ) {
        prop_assert!(a.contains(&a));
        match a.checked_sub(&b) {
            Some(rest) => {
                check_canonical(&rest);
                prop_assert!(a.contains(&b) && a.contains(&rest));
                prop_assert_eq!(rest + b.clone(), a.clone());
            }
            None => prop_assert!(!a.contains(&b)),
        }
        if a.contains(&b) && b.contains(&a) {
            prop_assert_eq!(&a, &b);
        }
        if a.contains(&b) && b.contains(&c) {
            prop_assert!(a.contains(&c));
        }
    }

    #[test]
    fn lists_survive_the_wire(a in some_resources(0..20)) {
        prop_assert_eq!(Resources::from_proto(&a.to_proto()), Ok(a.clone()));
        // Only one level of reservation here, so that the older format can say it, too.
        prop_assert_eq!(Resources::from_proto(&a.to_proto_unrefined().unwrap()), Ok(a));
    }

    #[test]
    fn every_resource_is_unreserved_or_reserved_for_one_role(a in some_resources(0..20)) {
        let parts = [a.unreserved(), a.reserved("a"), a.reserved("a/b"), a.reserved("web")];
        prop_assert_eq!(parts.iter().sum::<Resources>(), a.clone());
        prop_assert_eq!(a.shared() + a.non_shared(), a.clone());
        prop_assert_eq!(a.revocable() + a.non_revocable(), a);
    }
}
