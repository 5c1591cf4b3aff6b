//! Operations on resources: what each turns into what.
//!
//! | operation | what goes | what comes |
//! |---|---|---|
//! | RESERVE | the resources without their topmost reservation, or `source` | the resources |
//! | UNRESERVE | the resources | the same without their topmost reservation |
//! | CREATE | disk | a persistent volume of that size |
//! | DESTROY | a persistent volume | the disk that it was |
//! | GROW_VOLUME | a volume and some disk | one larger volume |
//! | SHRINK_VOLUME | a volume | a smaller one and some disk |
//!
//! The rules are Mesos' (`src/master/validation.cpp`, `src/common/resources_utils.cpp`). Here are those
//! that the operation alone decides; who may carry it out on which agent is the master's business.
//! Quantities are conserved by every one of them.

mod fault;
mod read;
#[cfg(test)]
mod tests;

use mezzo_proto::v1;
use mezzo_proto::v1::offer::operation as wire;
use mezzo_proto::v1::offer::operation::Type;

pub use self::fault::{ConversionError, OperationFault};
pub use self::read::validate_container_path;
use crate::resource::{DiskInfo, ReservationKind, Reservations, Resource};
use crate::resources::Resources;
use crate::scalar::Scalar;
use crate::value::Value;

/// An operation on resources that obeys every rule which needs no context.
#[derive(Clone, Debug, PartialEq)]
pub enum ResourceOperation {
    /// `source` is what the resources are made of: by default they are reserved by one level less.
    Reserve {
        source: Resources,
        resources: Resources,
    },
    Unreserve {
        resources: Resources,
    },
    Create {
        volumes: Resources,
    },
    Destroy {
        volumes: Resources,
    },
    Grow {
        volume: Resource,
        addition: Resource,
    },
    Shrink {
        volume: Resource,
        subtract: Scalar,
    },
}

/// One step of an operation: `consumed` goes, `converted` comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    pub consumed: Resources,
    pub converted: Resources,
    /// No further copy of what is consumed may be left: a shared volume is destroyed as a whole.
    pub last_copy: bool,
}

impl Conversion {
    fn new(consumed: Resources, converted: Resources) -> Self {
        Conversion { consumed, converted, last_copy: false }
    }

    /// The way back.
    pub fn reversed(&self) -> Conversion {
        Conversion::new(self.converted.clone(), self.consumed.clone())
    }

    /// The same of resources that are allocated to nobody.
    pub fn unallocated(&self) -> Conversion {
        Conversion {
            consumed: self.consumed.unallocated(),
            converted: self.converted.unallocated(),
            last_copy: self.last_copy,
        }
    }
}

impl ResourceOperation {
    /// Reads an operation and checks it. Resources may be in either reservation format.
    ///
    /// # Errors
    /// The first rule that is broken; that it is no operation on resources at all.
    pub fn from_proto(operation: &v1::offer::Operation) -> Result<Self, OperationFault> {
        read::read(operation)
    }

    /// The steps, in order; see [`Resources::convert`].
    pub fn conversions(&self) -> Vec<Conversion> {
        match self {
            Self::Reserve { source, resources } => {
                vec![Conversion::new(source.clone(), resources.clone())]
            }
            Self::Unreserve { resources } => each(resources, |one| one.pop_reservation()),
            Self::Create { volumes } => volumes
                .iter()
                .map(|volume| Conversion::new(without_volume(volume).into(), volume.clone().into()))
                .collect(),
            Self::Destroy { volumes } => volumes
                .iter()
                .map(|volume| Conversion {
                    consumed: volume.clone().into(),
                    converted: without_volume(volume).into(),
                    last_copy: true,
                })
                .collect(),
            Self::Grow { volume, addition } => {
                let mut consumed = Resources::from(volume.clone());
                consumed.insert(addition.clone());
                let grown = with_size(volume, size(volume).saturating_add(size(addition)));
                vec![Conversion::new(consumed, grown.into())]
            }
            Self::Shrink { volume, subtract } => {
                let shrunk = with_size(volume, size(volume).saturating_sub(*subtract));
                let mut converted = Resources::from(shrunk);
                converted.insert(with_size(&without_volume(volume), *subtract));
                vec![Conversion::new(volume.clone().into(), converted)]
            }
        }
    }

    /// Everything that goes.
    pub fn consumed(&self) -> Resources {
        self.conversions().into_iter().map(|step| step.consumed).sum()
    }

    /// Everything that comes.
    pub fn converted(&self) -> Resources {
        self.conversions().into_iter().map(|step| step.converted).sum()
    }

    /// What the operation names: what it makes, or what it works on.
    pub fn subject(&self) -> Resources {
        match self {
            Self::Reserve { resources, .. } | Self::Unreserve { resources } => resources.clone(),
            Self::Create { volumes } | Self::Destroy { volumes } => volumes.clone(),
            Self::Grow { volume, .. } | Self::Shrink { volume, .. } => volume.clone().into(),
        }
    }

    /// Each resource changed: to allocate them, or to take the allocation away.
    pub fn map(&self, change: impl FnMut(&mut Resource) + Clone) -> ResourceOperation {
        let all = |resources: &Resources| resources.map(change.clone());
        let one = |resource: &Resource| {
            let mut resource = resource.clone();
            change.clone()(&mut resource);
            resource
        };
        match self {
            Self::Reserve { source, resources } => {
                Self::Reserve { source: all(source), resources: all(resources) }
            }
            Self::Unreserve { resources } => Self::Unreserve { resources: all(resources) },
            Self::Create { volumes } => Self::Create { volumes: all(volumes) },
            Self::Destroy { volumes } => Self::Destroy { volumes: all(volumes) },
            Self::Grow { volume, addition } => {
                Self::Grow { volume: one(volume), addition: one(addition) }
            }
            Self::Shrink { volume, subtract } => {
                Self::Shrink { volume: one(volume), subtract: *subtract }
            }
        }
    }

    pub fn unallocated(&self) -> ResourceOperation {
        self.map(|resource| resource.allocation_role = None)
    }

    /// The message, with `reservations`. `id` is the caller's to set.
    pub fn to_proto(&self) -> v1::offer::Operation {
        let mut message =
            v1::offer::Operation { r#type: Some(self.kind() as i32), ..Default::default() };
        match self {
            Self::Reserve { source, resources } => {
                let implied = *source == resources.pop_reservation();
                message.reserve = Some(wire::Reserve {
                    source: if implied { Vec::new() } else { source.to_proto() },
                    resources: resources.to_proto(),
                });
            }
            Self::Unreserve { resources } => {
                message.unreserve = Some(wire::Unreserve { resources: resources.to_proto() });
            }
            Self::Create { volumes } => {
                message.create = Some(wire::Create { volumes: volumes.to_proto() });
            }
            Self::Destroy { volumes } => {
                message.destroy = Some(wire::Destroy { volumes: volumes.to_proto() });
            }
            Self::Grow { volume, addition } => {
                message.grow_volume = Some(Box::new(wire::GrowVolume {
                    volume: volume.to_proto(),
                    addition: addition.to_proto(),
                }));
            }
            Self::Shrink { volume, subtract } => {
                message.shrink_volume = Some(Box::new(wire::ShrinkVolume {
                    volume: volume.to_proto(),
                    subtract: v1::value::Scalar { value: subtract.to_f64() },
                }));
            }
        }
        message
    }

    pub fn kind(&self) -> Type {
        match self {
            Self::Reserve { .. } => Type::Reserve,
            Self::Unreserve { .. } => Type::Unreserve,
            Self::Create { .. } => Type::Create,
            Self::Destroy { .. } => Type::Destroy,
            Self::Grow { .. } => Type::GrowVolume,
            Self::Shrink { .. } => Type::ShrinkVolume,
        }
    }
}

impl Resources {
    /// Carries the steps out one after the other.
    ///
    /// # Errors
    /// The first step whose `consumed` is not there; nothing is changed then.
    pub fn convert(&self, steps: &[Conversion]) -> Result<Resources, ConversionError> {
        let mut left = self.clone();
        for step in steps {
            let Some(rest) = left.checked_sub(&step.consumed) else {
                return Err(ConversionError::Missing { wanted: step.consumed.clone(), left });
            };
            if step.last_copy && rest.contains(&step.consumed) {
                return Err(ConversionError::OtherCopies { volume: step.consumed.clone() });
            }
            left = rest;
            left += &step.converted;
        }
        Ok(left)
    }
}

impl Resource {
    /// Whether no configuration can say it: a dynamic reservation or a persistent volume. (Mesos'
    /// `needCheckpointing`.)
    pub fn is_made_by_operation(&self) -> bool {
        let dynamic = self.reservations.iter().any(|level| level.kind == ReservationKind::Dynamic);
        dynamic || self.persistence_id().is_some()
    }

    /// The operations that made it, as one step from what an agent is configured with: without dynamic
    /// reservations and without a volume.
    pub fn made_of_configured(&self) -> Conversion {
        let mut configured = without_volume(self);
        let fixed = self.reservations.iter().take(1);
        let fixed = fixed.filter(|level| level.kind == ReservationKind::Static).cloned();
        configured.reservations = Reservations::from(Vec::from_iter(fixed));
        Conversion::new(configured.into(), self.clone().into())
    }
}

fn each(resources: &Resources, change: impl Fn(&Resources) -> Resources) -> Vec<Conversion> {
    let step = |resource: &Resource| {
        let consumed = Resources::from(resource.clone());
        let converted = change(&consumed);
        Conversion::new(consumed, converted)
    };
    resources.iter().map(step).collect()
}

/// The disk that a volume lies on.
pub(crate) fn without_volume(volume: &Resource) -> Resource {
    let mut disk = volume.clone();
    let source = volume.disk.as_ref().and_then(|disk| disk.source.clone());
    disk.disk = source
        .map(|source| DiskInfo { persistence: None, volume: None, source: Some(source) }.into());
    disk.shared = false;
    disk
}

fn size(disk: &Resource) -> Scalar {
    match &disk.value {
        Value::Scalar(scalar) => *scalar,
        Value::Ranges(_) | Value::Set(_) => Scalar::ZERO,
    }
}

fn with_size(disk: &Resource, size: Scalar) -> Resource {
    let mut disk = disk.clone();
    disk.value = Value::Scalar(size);
    disk
}
