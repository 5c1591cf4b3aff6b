//! Building resources: amounts, reservations, volumes.

use crate::v1;

/// So much of a scalar resource, unreserved: `cpus`, `gpus`, or `mem` and `disk` in megabytes.
pub fn scalar(name: impl Into<String>, amount: f64) -> v1::Resource {
    v1::Resource {
        name: name.into(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value: amount }),
        ..Default::default()
    }
}

/// These ranges of a resource, unreserved, both ends included: `ports`.
pub fn ranges(
    name: impl Into<String>,
    ranges: impl IntoIterator<Item = (u64, u64)>,
) -> v1::Resource {
    let range = |(begin, end)| v1::value::Range { begin, end };
    v1::Resource {
        name: name.into(),
        r#type: v1::value::Type::Ranges as i32,
        ranges: Some(v1::value::Ranges { range: ranges.into_iter().map(range).collect() }),
        ..Default::default()
    }
}

/// The resource with one more reservation: for `role`, which is a role below the one that it is
/// reserved for already, if it is. To be given to a RESERVE operation. `principal` is who
/// reserves, where frameworks authenticate.
pub fn reserved(
    mut resource: v1::Resource,
    role: impl Into<String>,
    principal: Option<String>,
) -> v1::Resource {
    resource.reservations.push(v1::resource::ReservationInfo {
        r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
        role: Some(role.into()),
        principal,
        labels: None,
    });
    resource
}

/// Reserved disk as a persistent volume. `id` is unique for the agent and the role; tasks find the
/// volume at `container_path`, relative to their sandbox. To be given to a CREATE operation.
pub fn volume(
    mut disk: v1::Resource,
    id: impl Into<String>,
    container_path: impl Into<String>,
) -> v1::Resource {
    let principal = disk.reservations.last().and_then(|reserved| reserved.principal.clone());
    let info = disk.disk.get_or_insert_default();
    info.persistence = Some(v1::resource::disk_info::Persistence { id: id.into(), principal });
    info.volume = Some(v1::Volume {
        mode: v1::volume::Mode::Rw as i32,
        container_path: container_path.into(),
        ..Default::default()
    });
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_reserved_disk_with_an_id_and_a_path() {
        let disk = reserved(scalar("disk", 64.0), "db", Some("me".to_owned()));
        let volume = volume(disk, "data-1", "data");
        assert_eq!(volume.scalar.as_ref().map(|scalar| scalar.value), Some(64.0));
        assert_eq!(volume.reservations[0].role.as_deref(), Some("db"));
        let info = volume.disk.expect("disk");
        let persistence = info.persistence.expect("persistence");
        assert_eq!(
            (persistence.id.as_str(), persistence.principal.as_deref()),
            ("data-1", Some("me"))
        );
        let mount = info.volume.expect("volume");
        assert_eq!((mount.container_path.as_str(), mount.mode()), ("data", v1::volume::Mode::Rw));
    }

    #[test]
    fn ranges_keep_both_ends() {
        let ports = ranges("ports", [(31000, 31001), (31005, 31005)]);
        let ranges = ports.ranges.expect("ranges").range;
        assert_eq!((ranges[1].begin, ranges[1].end), (31005, 31005));
    }
}
