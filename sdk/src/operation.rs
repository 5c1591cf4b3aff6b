//! Operations on offers, to be given to [`crate::Calls::accept`] in the order in which they are to
//! be applied: each finds the resources as the ones before have left them.
//!
//! The master reports how an operation went if it has an id, see [`with_id`]; launches report by
//! the updates of their tasks.

use crate::v1;
use crate::v1::offer::Operation;
use crate::v1::offer::operation::{
    Create, CreateDisk, Destroy, DestroyDisk, GrowVolume, Launch, LaunchGroup, Reserve,
    ShrinkVolume, Type, Unreserve,
};

/// Launches tasks, each on its own.
pub fn launch(tasks: impl IntoIterator<Item = v1::TaskInfo>) -> Operation {
    Operation {
        launch: Some(Launch { task_infos: tasks.into_iter().collect() }),
        ..of(Type::Launch)
    }
}

/// Launches tasks that live and die together, under one executor.
pub fn launch_group(
    executor: v1::ExecutorInfo,
    tasks: impl IntoIterator<Item = v1::TaskInfo>,
) -> Operation {
    let task_group = v1::TaskGroupInfo { tasks: tasks.into_iter().collect() };
    Operation {
        launch_group: Some(Box::new(LaunchGroup { executor, task_group })),
        ..of(Type::LaunchGroup)
    }
}

/// Reserves resources. They are given as they are to be, see [`crate::resource::reserved`].
pub fn reserve(resources: impl IntoIterator<Item = v1::Resource>) -> Operation {
    Operation {
        reserve: Some(Reserve { source: Vec::new(), resources: resources.into_iter().collect() }),
        ..of(Type::Reserve)
    }
}

/// Moves a reservation from one role to another: the resources as they are and as they are to be.
pub fn reserve_from(
    source: impl IntoIterator<Item = v1::Resource>,
    resources: impl IntoIterator<Item = v1::Resource>,
) -> Operation {
    Operation {
        reserve: Some(Reserve {
            source: source.into_iter().collect(),
            resources: resources.into_iter().collect(),
        }),
        ..of(Type::Reserve)
    }
}

/// Takes the last reservation off resources, which are given as they are.
pub fn unreserve(resources: impl IntoIterator<Item = v1::Resource>) -> Operation {
    Operation {
        unreserve: Some(Unreserve { resources: resources.into_iter().collect() }),
        ..of(Type::Unreserve)
    }
}

/// Makes persistent volumes out of reserved disk, see [`crate::resource::volume`].
pub fn create(volumes: impl IntoIterator<Item = v1::Resource>) -> Operation {
    Operation {
        create: Some(Create { volumes: volumes.into_iter().collect() }),
        ..of(Type::Create)
    }
}

/// Destroys persistent volumes with all that is in them.
pub fn destroy(volumes: impl IntoIterator<Item = v1::Resource>) -> Operation {
    Operation {
        destroy: Some(Destroy { volumes: volumes.into_iter().collect() }),
        ..of(Type::Destroy)
    }
}

/// Adds disk of the same reservation to a volume.
pub fn grow_volume(volume: v1::Resource, addition: v1::Resource) -> Operation {
    Operation {
        grow_volume: Some(Box::new(GrowVolume { volume, addition })),
        ..of(Type::GrowVolume)
    }
}

/// Takes so many megabytes off a volume.
pub fn shrink_volume(volume: v1::Resource, subtract_mb: f64) -> Operation {
    let subtract = v1::value::Scalar { value: subtract_mb };
    Operation {
        shrink_volume: Some(Box::new(ShrinkVolume { volume, subtract })),
        ..of(Type::ShrinkVolume)
    }
}

/// Makes a disk out of a resource provider's raw storage.
pub fn create_disk(
    source: v1::Resource,
    target: v1::resource::disk_info::source::Type,
    profile: Option<String>,
) -> Operation {
    Operation {
        create_disk: Some(Box::new(CreateDisk {
            source,
            target_type: target as i32,
            target_profile: profile,
        })),
        ..of(Type::CreateDisk)
    }
}

/// Turns a resource provider's disk into raw storage again.
pub fn destroy_disk(source: v1::Resource) -> Operation {
    Operation { destroy_disk: Some(Box::new(DestroyDisk { source })), ..of(Type::DestroyDisk) }
}

/// The operation with an id of the framework's choice, so that news of it come as
/// [`crate::Event::OperationUpdate`]. Not for launches.
pub fn with_id(operation: Operation, id: impl Into<String>) -> Operation {
    Operation { id: Some(v1::OperationId { value: id.into() }), ..operation }
}

fn of(kind: Type) -> Operation {
    Operation { r#type: Some(kind as i32), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{reserved, scalar, volume};

    #[test]
    fn each_operation_has_its_type_and_its_body() {
        let disk = || reserved(scalar("disk", 10.0), "r", None);
        let volume = || volume(disk(), "v", "path");
        let check = |operation: Operation, kind: Type| {
            assert_eq!(operation.r#type(), kind);
            let bodies = [
                operation.launch.is_some(),
                operation.launch_group.is_some(),
                operation.reserve.is_some(),
                operation.unreserve.is_some(),
                operation.create.is_some(),
                operation.destroy.is_some(),
                operation.grow_volume.is_some(),
                operation.shrink_volume.is_some(),
                operation.create_disk.is_some(),
                operation.destroy_disk.is_some(),
            ];
            assert_eq!(bodies.iter().filter(|is| **is).count(), 1, "{operation:?}");
        };
        check(launch([]), Type::Launch);
        check(launch_group(v1::ExecutorInfo::default(), []), Type::LaunchGroup);
        check(reserve([disk()]), Type::Reserve);
        check(reserve_from([disk()], [disk()]), Type::Reserve);
        check(unreserve([disk()]), Type::Unreserve);
        check(create([volume()]), Type::Create);
        check(destroy([volume()]), Type::Destroy);
        check(grow_volume(volume(), disk()), Type::GrowVolume);
        check(shrink_volume(volume(), 1.0), Type::ShrinkVolume);
        let mount = v1::resource::disk_info::source::Type::Mount;
        check(create_disk(disk(), mount, None), Type::CreateDisk);
        check(destroy_disk(disk()), Type::DestroyDisk);
        let id = with_id(reserve([disk()]), "op-1").id.map(|id| id.value);
        assert_eq!(id.as_deref(), Some("op-1"));
    }
}
