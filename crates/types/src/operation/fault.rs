//! What an operation can break.

use crate::message::ResourceError;
use crate::resources::Resources;
use crate::scalar::Scalar;

/// The rule that an operation breaks. Each sentence names the field within the operation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OperationFault {
    #[error("the operation has no type, or one that is not known")]
    NoType,
    #[error("its type is {0}, which is no operation on resources")]
    NoResources(&'static str),
    #[error("its type is {kind} but it has no '{field}'")]
    NoBody { kind: &'static str, field: &'static str },
    #[error("'{field}' is invalid: {error}")]
    Resource { field: &'static str, error: ResourceError },
    #[error("'{0}' is empty: name what the operation is about")]
    Empty(&'static str),
    #[error("'{0}' has resources of several resource providers: use one operation for each")]
    SeveralProviders(&'static str),
    #[error(
        "'{field}' has {resource} of the resource provider '{provider}': this version of Mezzo has no resource providers"
    )]
    NoProvider { field: &'static str, resource: String, provider: String },
    #[error(
        "{kind} is for disks of a resource provider, and this version of Mezzo has none: make volumes of the agent's own disk with RESERVE and CREATE"
    )]
    DiskOfProvider { kind: &'static str },
    #[error("'{field}' has {resource}, which is not dynamically reserved")]
    NotDynamic { field: &'static str, resource: String },
    #[error(
        "'{field}' has resources with different reservations, {first} and {other}: with 'reserve.source' all must be reserved alike"
    )]
    MixedReservations { field: &'static str, first: String, other: String },
    #[error(
        "'reserve.source' and 'reserve.resources' differ beyond reservations: {source_text} is not {target}"
    )]
    DifferentAmounts { source_text: String, target: String },
    #[error(
        "'unreserve.resources' has the persistent volume {0}: destroy the volume first, then unreserve its disk"
    )]
    UnreservesVolume(String),
    #[error(
        "'reserve.resources' has the persistent volume {0}: its disk is reserved before the volume is made"
    )]
    ReservesVolume(String),
    #[error(
        "'{field}' has {resource}, which is no persistent volume: it has no 'disk.persistence'"
    )]
    NoVolume { field: &'static str, resource: String },
    #[error(
        "'{field}' has {resource} without 'disk.volume': it says where in the sandbox the volume is to be"
    )]
    NoMount { field: &'static str, resource: String },
    #[error(
        "'{field}' has {resource} with 'disk.volume.mode' RO: a persistent volume is made to be written to"
    )]
    ReadOnly { field: &'static str, resource: String },
    #[error(
        "'{field}' has {resource} with 'disk.volume.host_path': where a persistent volume lies is the agent's choice"
    )]
    HostPath { field: &'static str, resource: String },
    #[error(
        "'{field}' has {resource} whose 'disk.volume.container_path' is '{path}', which {rule}"
    )]
    ContainerPath { field: &'static str, resource: String, path: String, rule: &'static str },
    #[error(
        "'{field}' has {resource} on a {kind} disk: volumes are made on the agent's own disk, PATH and MOUNT disks"
    )]
    DiskKind { field: &'static str, resource: String, kind: &'static str },
    #[error("'{field}' has {resource} whose 'disk' has neither 'persistence' nor 'source'")]
    EmptyDisk { field: &'static str, resource: String },
    #[error("'{field}' names the persistence id '{id}' twice for role '{role}': it must be unique")]
    RepeatedId { field: &'static str, id: String, role: String },
    #[error("'{0}' is a shared volume, whose size cannot change")]
    Shared(&'static str),
    #[error("'{field}' is {amount}: it must be greater than 0")]
    NotPositive { field: &'static str, amount: f64 },
    #[error(
        "'grow_volume.addition' is {addition}, which is no more of the disk {disk} that the volume lies on"
    )]
    OtherDisk { addition: String, disk: String },
    #[error("'grow_volume.volume' is on a MOUNT disk, which is given out whole")]
    GrowsMount,
    #[error("'shrink_volume.volume' is on a MOUNT disk, which is given out whole")]
    ShrinksMount,
    #[error(
        "'shrink_volume.subtract' is {subtract}: it must be less than the volume's size, {size}"
    )]
    ShrinksToNothing { subtract: Scalar, size: Scalar },
}

/// Why a step of an operation cannot be carried out on some resources.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConversionError {
    #[error("it takes {wanted}, but there is {left}")]
    Missing { wanted: Resources, left: Resources },
    #[error("{volume} is in use elsewhere: a shared volume is destroyed when nobody uses it")]
    OtherCopies { volume: Resources },
}
