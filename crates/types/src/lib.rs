//! Values that every part of Mezzo speaks in, and that do no I/O: ids ([`FrameworkId`] and its
//! kin, [`IdSource`]), time as an argument ([`Now`]), what messages wait for ([`Position`]), roles
//! ([`validate_role`]) and, above all, resources.
//!
//! A [`Resources`] is a canonical list of [`Resource`]s: an amount ([`Value`]: [`Scalar`],
//! [`Ranges`] or [`ItemSet`]) of something, with the properties that keep it apart from other
//! amounts of the same (reservations, disk, role it is allocated to…). It is read from messages
//! and from command lines with every rule checked, so that code which holds one need not check
//! again.

mod attributes;
pub mod deliberate_bug;
mod duration;
mod id_map;
mod id_source;
mod ids;
mod item_set;
mod message;
mod now;
mod operation;
mod position;
mod quantities;
mod ranges;
mod resource;
mod resources;
mod resources_text;
mod role;
mod scalar;
mod syntax;
mod task_state;
mod value;

pub use attributes::{
    Attribute, AttributeError, AttributeFault, AttributeValue, Attributes, ParseAttributesError,
};
pub use duration::{DurationError, format_duration, parse_duration};
pub use id_map::IdMap;
pub use id_source::{IdSource, Uuid16};
pub use ids::{
    AgentId, ContainerId, ExecutorId, FrameworkId, ID_MAX_BYTES, IdError, OfferId, TaskId,
    validate_id,
};
pub use item_set::{ItemSet, RepeatedItem};
pub use message::{ResourceError, ResourceFault};
pub use now::Now;
pub use operation::{
    Conversion, ConversionError, OperationFault, ResourceOperation, validate_container_path,
};
pub use position::Position;
pub use quantities::Quantities;
pub use ranges::{RangeError, Ranges};
pub use resource::{
    DiskInfo, DiskKind, DiskSource, Labels, Persistence, Reservation, ReservationKind,
    Reservations, Resource, ResourceName,
};
pub use resources::Resources;
pub use resources_text::{ParseResourcesError, RESOURCES_SYNTAX_HINT};
pub use role::{RoleError, UNRESERVED_ROLE, is_same_or_subrole, is_strict_subrole, validate_role};
pub use scalar::{Scalar, ScalarError};
pub use syntax::SyntaxError;
pub use task_state::is_terminal;
pub use value::Value;
