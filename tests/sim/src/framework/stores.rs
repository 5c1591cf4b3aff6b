//! What a framework does with disks: it reserves, makes volumes, uses them and lets them go.

use mezzo_proto::v1;
use mezzo_proto::v1::offer::Operation;
use mezzo_proto::v1::offer::operation::{self, Type};
use mezzo_types::{ResourceOperation, Resources};

use super::Framework;

/// How many operations a framework asks for in a run.
const OPERATIONS_MAX: u64 = 60;

impl Framework {
    /// Some operations on what an offer has left, each on what the ones before made of it.
    pub(super) fn operations(&mut self, left: &mut Vec<v1::Resource>) -> Vec<Operation> {
        let mut operations = Vec::new();
        if self.role == "*" || !self.rng.chance(60) {
            return operations;
        }
        for _ in 0..self.rng.between(1, 4) {
            if self.next_operation >= OPERATIONS_MAX {
                break;
            }
            let Some(mut operation) = self.operation(left) else { continue };
            self.next_operation += 1;
            let Some(made) = applied(left, &operation) else { continue };
            // What became of a resized volume is for the next ACCEPT.
            let resizes = operation.grow_volume.is_some() || operation.shrink_volume.is_some();
            *left = if resizes { without_volumes(&made) } else { made };
            if self.rng.chance(60) {
                let id = format!("o{}", self.next_operation);
                self.asked.insert(id.clone());
                operation.id = Some(v1::OperationId { value: id });
            }
            operations.push(operation);
        }
        operations
    }

    fn operation(&mut self, left: &[v1::Resource]) -> Option<Operation> {
        let of = |kind: Type| Operation { r#type: Some(kind as i32), ..Operation::default() };
        let resource = self.rng.pick(left)?.clone();
        let dynamic = resource
            .reservations
            .last()
            .is_some_and(|top| top.r#type() == v1::resource::reservation_info::Type::Dynamic);
        let own = resource.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        let amount = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        let part = |amount: f64| v1::Resource {
            scalar: Some(v1::value::Scalar { value: amount }),
            ..resource.clone()
        };
        if own.is_some() && dynamic {
            return Some(match self.rng.between(0, 3) {
                0 => Operation {
                    destroy: Some(operation::Destroy { volumes: vec![resource] }),
                    ..of(Type::Destroy)
                },
                1 if amount > 2.0 => Operation {
                    shrink_volume: Some(Box::new(operation::ShrinkVolume {
                        volume: resource,
                        subtract: v1::value::Scalar { value: 1.0 },
                    })),
                    ..of(Type::ShrinkVolume)
                },
                _ => return None,
            });
        }
        if own.is_some() || resource.scalar.is_none() {
            return None;
        }
        if !dynamic {
            let mut reserved = part(amount.min(if resource.name == "disk" { 50.0 } else { 0.5 }));
            if amount <= 0.0 || !resource.reservations.is_empty() {
                return None;
            }
            reserved.reservations.push(v1::resource::ReservationInfo {
                r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
                role: Some(self.role.to_owned()),
                ..Default::default()
            });
            let reserve = operation::Reserve { source: Vec::new(), resources: vec![reserved] };
            return Some(Operation { reserve: Some(reserve), ..of(Type::Reserve) });
        }
        if resource.name != "disk" || self.rng.chance(30) {
            let unreserve = operation::Unreserve { resources: vec![resource] };
            return Some(Operation { unreserve: Some(unreserve), ..of(Type::Unreserve) });
        }
        let mut volume = part((amount / 2.0).ceil());
        volume.disk = Some(Box::new(v1::resource::DiskInfo {
            persistence: Some(v1::resource::disk_info::Persistence {
                // Few names, so that they come again.
                id: format!("{}-{}", self.role, self.rng.between(1, 4)),
                principal: None,
            }),
            volume: Some(v1::Volume {
                mode: v1::volume::Mode::Rw as i32,
                container_path: "data".to_owned(),
                ..v1::Volume::default()
            }),
            source: None,
        }));
        let create = operation::Create { volumes: vec![volume] };
        Some(Operation { create: Some(create), ..of(Type::Create) })
    }

    /// A volume for a task, if there is one to use.
    pub(super) fn take_volume(&mut self, left: &mut Vec<v1::Resource>) -> Option<v1::Resource> {
        let is_volume = |resource: &v1::Resource| {
            resource.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
        };
        let at = left.iter().position(is_volume)?;
        self.rng.chance(60).then(|| left.remove(at))
    }
}

fn applied(left: &[v1::Resource], operation: &Operation) -> Option<Vec<v1::Resource>> {
    let all = Resources::from_proto(left).ok()?;
    let operation = ResourceOperation::from_proto(operation).ok()?;
    Some(all.convert(&operation.conversions()).ok()?.to_proto())
}

fn without_volumes(resources: &[v1::Resource]) -> Vec<v1::Resource> {
    let volume = |resource: &&v1::Resource| {
        resource.disk.as_ref().is_none_or(|disk| disk.persistence.is_none())
    };
    resources.iter().filter(volume).cloned().collect()
}
