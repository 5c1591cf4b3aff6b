//! Reading an operation with every rule checked that it alone decides.

use std::collections::BTreeSet;

use mezzo_proto::v1;
use mezzo_proto::v1::offer::operation::Type;

use super::{OperationFault, ResourceOperation, without_volume};
use crate::resource::{DiskKind, Reservation, ReservationKind, Resource};
use crate::resources::Resources;
use crate::scalar::Scalar;
use crate::value::Value;

type Fault = OperationFault;

pub(super) fn read(operation: &v1::offer::Operation) -> Result<ResourceOperation, Fault> {
    let kind = operation.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.filter(|kind| *kind != Type::Unknown).ok_or(Fault::NoType)?;
    let no_body = |field| Fault::NoBody { kind: kind.as_str_name(), field };
    match kind {
        Type::Reserve => reserve(operation.reserve.as_ref().ok_or(no_body("reserve"))?),
        Type::Unreserve => {
            let body = operation.unreserve.as_ref().ok_or(no_body("unreserve"))?;
            unreserve(&body.resources)
        }
        Type::Create => {
            let body = operation.create.as_ref().ok_or(no_body("create"))?;
            let volumes = volumes("create.volumes", &body.volumes)?;
            Ok(ResourceOperation::Create { volumes })
        }
        Type::Destroy => {
            let body = operation.destroy.as_ref().ok_or(no_body("destroy"))?;
            let volumes = volumes("destroy.volumes", &body.volumes)?;
            Ok(ResourceOperation::Destroy { volumes })
        }
        Type::GrowVolume => grow(operation.grow_volume.as_ref().ok_or(no_body("grow_volume"))?),
        Type::ShrinkVolume => {
            shrink(operation.shrink_volume.as_ref().ok_or(no_body("shrink_volume"))?)
        }
        Type::CreateDisk | Type::DestroyDisk => {
            Err(Fault::DiskOfProvider { kind: kind.as_str_name() })
        }
        Type::Launch | Type::LaunchGroup | Type::Unknown => {
            Err(Fault::NoResources(kind.as_str_name()))
        }
    }
}

fn reserve(body: &v1::offer::operation::Reserve) -> Result<ResourceOperation, Fault> {
    let field = "reserve.resources";
    let resources = list(field, &body.resources)?;
    for resource in resources.iter() {
        if !is_dynamic(resource) {
            return Err(Fault::NotDynamic { field, resource: resource.to_string() });
        }
        // Where its data lies depends on the role.
        if resource.persistence_id().is_some() {
            return Err(Fault::ReservesVolume(resource.to_string()));
        }
    }
    if body.source.is_empty() {
        let source = resources.pop_reservation();
        return Ok(ResourceOperation::Reserve { source, resources });
    }
    let source = list("reserve.source", &body.source)?;
    alike("reserve.source", &source)?;
    alike(field, &resources)?;
    let plain = |resources: &Resources| {
        resources.map(|resource| resource.reservations = Default::default())
    };
    if plain(&source) != plain(&resources) {
        return Err(Fault::DifferentAmounts {
            source_text: plain(&source).to_string(),
            target: plain(&resources).to_string(),
        });
    }
    Ok(ResourceOperation::Reserve { source, resources })
}

fn unreserve(messages: &[v1::Resource]) -> Result<ResourceOperation, Fault> {
    let field = "unreserve.resources";
    let resources = list(field, messages)?;
    for resource in resources.iter() {
        if !is_dynamic(resource) {
            return Err(Fault::NotDynamic { field, resource: resource.to_string() });
        }
        if resource.persistence_id().is_some() {
            return Err(Fault::UnreservesVolume(resource.to_string()));
        }
    }
    Ok(ResourceOperation::Unreserve { resources })
}

fn grow(body: &v1::offer::operation::GrowVolume) -> Result<ResourceOperation, Fault> {
    let volume = volume("grow_volume.volume", &body.volume)?;
    let field = "grow_volume.addition";
    let amount = body.addition.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
    let addition =
        list(field, std::slice::from_ref(&body.addition)).map_err(|fault| match fault {
            Fault::Empty(field) => Fault::NotPositive { field, amount },
            fault => fault,
        })?;
    if volume.shared {
        return Err(Fault::Shared("grow_volume.volume"));
    }
    if is_on(&volume, DiskKind::Mount) {
        return Err(Fault::GrowsMount);
    }
    let Some(addition) = addition.iter().next().cloned() else {
        return Err(Fault::NotPositive { field, amount });
    };
    // The disk of the volume and the addition must be one and the same: adding them gives one resource.
    let mut both = Resources::from(without_volume(&volume));
    both.insert(addition.clone());
    if both.iter().count() != 1 {
        let disk = without_volume(&volume).to_string();
        return Err(Fault::OtherDisk { addition: addition.to_string(), disk });
    }
    Ok(ResourceOperation::Grow { volume, addition })
}

fn shrink(body: &v1::offer::operation::ShrinkVolume) -> Result<ResourceOperation, Fault> {
    let volume = volume("shrink_volume.volume", &body.volume)?;
    let amount = body.subtract.value;
    let subtract = Scalar::from_f64(amount).ok().filter(|subtract| *subtract > Scalar::ZERO);
    let Some(subtract) = subtract else {
        return Err(Fault::NotPositive { field: "shrink_volume.subtract", amount });
    };
    if volume.shared {
        return Err(Fault::Shared("shrink_volume.volume"));
    }
    if is_on(&volume, DiskKind::Mount) {
        return Err(Fault::ShrinksMount);
    }
    match &volume.value {
        Value::Scalar(size) if subtract < *size => {}
        Value::Scalar(size) => return Err(Fault::ShrinksToNothing { subtract, size: *size }),
        Value::Ranges(_) | Value::Set(_) => {
            return Err(Fault::ShrinksToNothing { subtract, size: Scalar::ZERO });
        }
    }
    Ok(ResourceOperation::Shrink { volume, subtract })
}

fn volume(field: &'static str, message: &v1::Resource) -> Result<Resource, Fault> {
    let read = volumes(field, std::slice::from_ref(message))?;
    read.iter().next().cloned().ok_or(Fault::Empty(field))
}

fn volumes(field: &'static str, messages: &[v1::Resource]) -> Result<Resources, Fault> {
    let volumes = list(field, messages)?;
    let mut ids = BTreeSet::new();
    for (volume, copies) in volumes.entries() {
        let resource = || volume.to_string();
        let Some(id) = volume.persistence_id() else {
            return Err(Fault::NoVolume { field, resource: resource() });
        };
        let disk = volume.disk.as_deref();
        let Some(mount) = disk.and_then(|disk| disk.volume.as_ref()) else {
            return Err(Fault::NoMount { field, resource: resource() });
        };
        if mount.mode() == v1::volume::Mode::Ro {
            return Err(Fault::ReadOnly { field, resource: resource() });
        }
        if mount.host_path.is_some() {
            return Err(Fault::HostPath { field, resource: resource() });
        }
        if let Err(rule) = validate_container_path(&mount.container_path) {
            let path = mount.container_path.clone();
            return Err(Fault::ContainerPath { field, resource: resource(), path, rule });
        }
        let source = disk.and_then(|disk| disk.source.as_ref());
        if let Some(kind @ (DiskKind::Block | DiskKind::Raw)) = source.map(|source| source.kind) {
            let kind = if kind == DiskKind::Raw { "RAW" } else { "BLOCK" };
            return Err(Fault::DiskKind { field, resource: resource(), kind });
        }
        let role = volume.reservation_role().unwrap_or_default();
        if copies > 1 || !ids.insert((role.to_owned(), id.to_owned())) {
            let (id, role) = (id.to_owned(), role.to_owned());
            return Err(Fault::RepeatedId { field, id, role });
        }
    }
    Ok(volumes)
}

/// Where a volume may be in a sandbox: at a relative path that stays within. The rule that is broken
/// follows "the path".
pub fn validate_container_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty: name a path within the sandbox");
    }
    if path.starts_with('/') {
        return Err("is absolute: name a path within the sandbox");
    }
    if path.chars().any(char::is_control) {
        return Err("has control characters");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has an empty, '.' or '..' component");
    }
    Ok(())
}

/// Resources of the agent itself, at least one.
fn list(field: &'static str, messages: &[v1::Resource]) -> Result<Resources, Fault> {
    let resources =
        Resources::from_proto(messages).map_err(|error| Fault::Resource { field, error })?;
    let mut providers = BTreeSet::new();
    for resource in resources.iter() {
        providers.insert(resource.provider_id.as_deref());
        if let Some(disk) = resource.disk.as_deref()
            && disk.persistence.is_none()
            && disk.source.is_none()
        {
            return Err(Fault::EmptyDisk { field, resource: resource.to_string() });
        }
    }
    if providers.len() > 1 {
        return Err(Fault::SeveralProviders(field));
    }
    let of_provider = resources.iter().find(|resource| resource.provider_id.is_some());
    if let Some(resource) = of_provider {
        let provider = resource.provider_id.as_deref().unwrap_or_default().to_owned();
        return Err(Fault::NoProvider { field, resource: resource.to_string(), provider });
    }
    if resources.is_empty() {
        return Err(Fault::Empty(field));
    }
    Ok(resources)
}

fn alike(field: &'static str, resources: &Resources) -> Result<(), Fault> {
    let mut all = resources.iter();
    let Some(first) = all.next() else { return Err(Fault::Empty(field)) };
    match all.find(|other| other.reservations != first.reservations) {
        None => Ok(()),
        Some(other) => Err(Fault::MixedReservations {
            field,
            first: first.to_string(),
            other: other.to_string(),
        }),
    }
}

fn is_dynamic(resource: &Resource) -> bool {
    let top: Option<&Reservation> = resource.reservations.last();
    top.is_some_and(|top| top.kind == ReservationKind::Dynamic)
}

fn is_on(volume: &Resource, kind: DiskKind) -> bool {
    let source = volume.disk.as_ref().and_then(|disk| disk.source.as_ref());
    source.is_some_and(|source| source.kind == kind)
}
