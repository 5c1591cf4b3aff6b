//! Resources as messages: reading with every rule checked, writing in either format.
//!
//! Two formats for reservations are in use. The newer one has the stack in `reservations`; the
//! older one has one level, as `role` and `reservation`. Both are read; frameworks without the
//! capability RESERVATION_REFINEMENT are sent the older.

use std::sync::Arc;

use mezzo_proto::v1;
use mezzo_proto::v1::resource::disk_info::source as wire_source;
use mezzo_proto::v1::resource::{self as wire, disk_info, reservation_info};
use mezzo_proto::v1::value as wire_value;

use crate::item_set::{ItemSet, RepeatedItem};
use crate::ranges::{RangeError, Ranges};
use crate::resource::{
    DiskInfo, DiskKind, DiskSource, Labels, Persistence, Reservation, ReservationKind,
    Reservations, Resource, ResourceName,
};
use crate::resources::Resources;
use crate::role::{RoleError, UNRESERVED_ROLE, is_strict_subrole, validate_role};
use crate::scalar::{Scalar, ScalarError};
use crate::value::Value;

/// A resource that breaks a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("resource {} (`{name}`): {fault}", .index + 1)]
pub struct ResourceError {
    /// Position in the list, from 0.
    pub index: usize,
    pub name: String,
    pub fault: ResourceFault,
}

/// The rule it breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ResourceFault {
    #[error("it has no name")]
    NoName,
    #[error("its type is {0}; resources are SCALAR, RANGES or SET")]
    Type(String),
    #[error("its type is {kind} but it has no `{field}`")]
    NoValue { kind: &'static str, field: &'static str },
    #[error("its type is {kind} but it also has `{field}`; a resource has one value")]
    TwoValues { kind: &'static str, field: &'static str },
    #[error("its amount {value} {error}")]
    Amount { value: f64, error: ScalarError },
    #[error("its amount is {0}; amounts must not be negative")]
    Negative(f64),
    #[error("its amount {0} rounds to 0; the smallest amount is 0.001")]
    RoundsToZero(f64),
    #[error("its amount is {0}; GPUs are given out whole")]
    FractionOfGpu(Scalar),
    #[error("{0}")]
    Range(RangeError),
    #[error("the ranges {0}-{1} and {2}-{3} overlap")]
    Overlap(u64, u64, u64, u64),
    #[error("{0}")]
    Item(RepeatedItem),
    #[error("{0}")]
    Role(RoleError),
    #[error(
        "it has `role` or `reservation` beside `reservations`, and they disagree; use `reservations` alone"
    )]
    BothFormats,
    #[error("role `*` cannot be reserved; set `role` to the role the reservation is for")]
    ReservedForNobody,
    #[error("`reservation.{0}` belongs to the newer format; use `reservations`")]
    NewerField(&'static str),
    #[error("level {level} of `reservations` has no `{field}`")]
    NoReservationField { level: usize, field: &'static str },
    #[error("level {level} of `reservations` is STATIC; only the first can be")]
    StaticRefinement { level: usize },
    #[error(
        "role `{role}` of level {level} of `reservations` is not below role `{above}` of the level before"
    )]
    NotBelow { level: usize, role: String, above: String },
    #[error("it has `disk`, which only resources named `disk` can have")]
    DiskInfo,
    #[error("its `disk.source` has no type; use PATH, MOUNT, BLOCK or RAW")]
    DiskSourceType,
    #[error("its `disk.source.{0}` does not go with the type of the source")]
    DiskSourceField(&'static str),
    #[error("its `disk.persistence.id` {0}")]
    PersistenceId(crate::IdError),
    #[error("a persistent volume must be reserved; reserve the disk first")]
    UnreservedVolume,
    #[error("it is revocable and {0}; revocable resources cannot be")]
    Revocable(&'static str),
    #[error("it is shared; only persistent volumes can be")]
    Shared,
}

impl Resources {
    /// Reads a list of messages, either reservation format each. The first resource that breaks a
    /// rule is the error; empty resources are dropped.
    pub fn from_proto(messages: &[v1::Resource]) -> Result<Resources, ResourceError> {
        let mut all = Resources::new();
        for (index, message) in messages.iter().enumerate() {
            all.insert(Resource::from_proto(message).map_err(|fault| ResourceError {
                index,
                name: message.name.clone(),
                fault,
            })?);
        }
        Ok(all)
    }

    /// The messages, with `reservations`; one for each use of a shared volume, so that reading
    /// them gives the same list.
    pub fn to_proto(&self) -> Vec<v1::Resource> {
        self.entries()
            .flat_map(|(resource, copies)| vec![resource.to_proto(); copies as usize])
            .collect()
    }

    /// The messages in the older format; `None` if a reservation is refined, which that format
    /// cannot say.
    pub fn to_proto_unrefined(&self) -> Option<Vec<v1::Resource>> {
        let mut messages = Vec::new();
        for (resource, copies) in self.entries() {
            let message = resource.to_proto_unrefined()?;
            messages.extend(std::iter::repeat_n(message, copies as usize));
        }
        Some(messages)
    }
}

impl TryFrom<&[v1::Resource]> for Resources {
    type Error = ResourceError;

    fn try_from(messages: &[v1::Resource]) -> Result<Self, ResourceError> {
        Resources::from_proto(messages)
    }
}

impl From<&Resources> for Vec<v1::Resource> {
    fn from(resources: &Resources) -> Self {
        resources.to_proto()
    }
}

impl Resource {
    /// Reads one message and checks it.
    pub fn from_proto(message: &v1::Resource) -> Result<Resource, ResourceFault> {
        if message.name.trim().is_empty() {
            return Err(ResourceFault::NoName);
        }
        let name = ResourceName::from(message.name.as_str());
        let value = read_value(message)?;
        if let Value::Scalar(scalar) = &value
            && name == ResourceName::GPUS
            && scalar.thousandths() % 1000 != 0
        {
            return Err(ResourceFault::FractionOfGpu(*scalar));
        }
        let reservations = read_reservations(message)?;
        let allocation_role = match &message.allocation_info {
            Some(wire::AllocationInfo { role: Some(role) }) => {
                validate_role(role).map_err(ResourceFault::Role)?;
                Some(Arc::from(role.as_str()))
            }
            _ => None,
        };
        let disk = message.disk.as_deref().map(read_disk).transpose()?.map(Arc::new);
        let resource = Resource {
            name,
            value,
            reservations,
            allocation_role,
            disk,
            revocable: message.revocable.is_some(),
            shared: message.shared.is_some(),
            provider_id: message.provider_id.as_ref().map(|id| id.value.as_str().into()),
        };
        resource.check_combination()?;
        Ok(resource)
    }

    /// Rules about which properties go together.
    fn check_combination(&self) -> Result<(), ResourceFault> {
        if self.disk.is_some() && self.name != ResourceName::DISK {
            return Err(ResourceFault::DiskInfo);
        }
        let persistent = self.persistence_id().is_some();
        if persistent && self.reservations.is_empty() {
            return Err(ResourceFault::UnreservedVolume);
        }
        if self.revocable {
            if persistent {
                return Err(ResourceFault::Revocable("a persistent volume"));
            }
            if self.reservations.iter().any(|level| level.kind == ReservationKind::Dynamic) {
                return Err(ResourceFault::Revocable("dynamically reserved"));
            }
        }
        if self.shared && !persistent {
            return Err(ResourceFault::Shared);
        }
        Ok(())
    }

    /// The message, with `reservations`.
    pub fn to_proto(&self) -> v1::Resource {
        let mut message = v1::Resource {
            name: self.name.as_str().to_owned(),
            provider_id: self
                .provider_id
                .as_ref()
                .map(|id| v1::ResourceProviderId { value: id.to_string() }),
            allocation_info: self
                .allocation_role
                .as_ref()
                .map(|role| wire::AllocationInfo { role: Some(role.to_string()) }),
            reservations: self.reservations.iter().map(write_reservation).collect(),
            disk: self.disk.as_deref().map(|disk| Box::new(write_disk(disk))),
            revocable: self.revocable.then(wire::RevocableInfo::default),
            shared: self.shared.then(wire::SharedInfo::default),
            ..Default::default()
        };
        match &self.value {
            Value::Scalar(scalar) => {
                message.set_type(wire_value::Type::Scalar);
                message.scalar = Some(wire_value::Scalar { value: scalar.to_f64() });
            }
            Value::Ranges(ranges) => {
                message.set_type(wire_value::Type::Ranges);
                message.ranges = Some(write_ranges(ranges));
            }
            Value::Set(set) => {
                message.set_type(wire_value::Type::Set);
                message.set =
                    Some(wire_value::Set { item: set.iter().map(str::to_owned).collect() });
            }
        }
        message
    }

    /// The message in the older format; `None` if the reservation is refined.
    #[expect(deprecated, reason = "the older format is what its readers understand")]
    pub fn to_proto_unrefined(&self) -> Option<v1::Resource> {
        let mut message = self.to_proto();
        message.reservations.clear();
        match &*self.reservations {
            [] => message.role = Some(UNRESERVED_ROLE.to_owned()),
            [only] => {
                message.role = Some(only.role.to_string());
                if only.kind == ReservationKind::Dynamic {
                    message.reservation = Some(wire::ReservationInfo {
                        principal: only.principal.as_deref().map(str::to_owned),
                        labels: write_labels(&only.labels),
                        ..Default::default()
                    });
                }
            }
            _ => return None,
        }
        Some(message)
    }
}

fn read_value(message: &v1::Resource) -> Result<Value, ResourceFault> {
    let kind = wire_value::Type::try_from(message.r#type)
        .map_err(|unknown| ResourceFault::Type(unknown.0.to_string()))?;
    let kind_name = kind.as_str_name();
    let only = |wanted: &'static str| {
        let present = [
            ("scalar", message.scalar.is_some()),
            ("ranges", message.ranges.is_some()),
            ("set", message.set.is_some()),
        ];
        match present.iter().find(|(field, present)| *present && *field != wanted) {
            Some((field, _)) => Err(ResourceFault::TwoValues { kind: kind_name, field }),
            None => Ok(()),
        }
    };
    let missing = |field| ResourceFault::NoValue { kind: kind_name, field };
    match kind {
        wire_value::Type::Scalar => {
            only("scalar")?;
            let value = message.scalar.as_ref().ok_or(missing("scalar"))?.value;
            read_amount(value).map(Value::Scalar)
        }
        wire_value::Type::Ranges => {
            only("ranges")?;
            let ranges = message.ranges.as_ref().ok_or(missing("ranges"))?;
            read_ranges(ranges).map(Value::Ranges)
        }
        wire_value::Type::Set => {
            only("set")?;
            let set = message.set.as_ref().ok_or(missing("set"))?;
            ItemSet::from_items(set.item.iter().map(String::as_str))
                .map(Value::Set)
                .map_err(ResourceFault::Item)
        }
        wire_value::Type::Text => Err(ResourceFault::Type(kind_name.to_owned())),
    }
}

fn read_amount(value: f64) -> Result<Scalar, ResourceFault> {
    let scalar = Scalar::from_f64(value).map_err(|error| ResourceFault::Amount { value, error })?;
    if value < 0.0 {
        return Err(ResourceFault::Negative(value));
    }
    if scalar.is_zero() && value != 0.0 {
        return Err(ResourceFault::RoundsToZero(value));
    }
    Ok(scalar)
}

pub(crate) fn read_ranges(ranges: &wire_value::Ranges) -> Result<Ranges, ResourceFault> {
    let mut pairs: Vec<(u64, u64)> =
        ranges.range.iter().map(|range| (range.begin, range.end)).collect();
    if let Some(&(begin, end)) = pairs.iter().find(|(begin, end)| begin > end) {
        return Err(ResourceFault::Range(RangeError { begin, end }));
    }
    pairs.sort_unstable();
    if let Some(two) = pairs.windows(2).find(|two| two[1].0 <= two[0].1) {
        return Err(ResourceFault::Overlap(two[0].0, two[0].1, two[1].0, two[1].1));
    }
    Ranges::from_pairs(pairs).map_err(ResourceFault::Range)
}

pub(crate) fn write_ranges(ranges: &Ranges) -> wire_value::Ranges {
    let range = ranges.iter().map(|(begin, end)| wire_value::Range { begin, end }).collect();
    wire_value::Ranges { range }
}

#[expect(deprecated, reason = "the older format is still sent by older frameworks")]
fn read_reservations(message: &v1::Resource) -> Result<Reservations, ResourceFault> {
    let old_role = message.role.as_deref().unwrap_or(UNRESERVED_ROLE);
    if message.reservations.is_empty() {
        return read_old_reservation(old_role, message.reservation.as_ref());
    }
    let mut stack: Vec<Reservation> = Vec::with_capacity(message.reservations.len());
    for (at, info) in message.reservations.iter().enumerate() {
        stack.push(read_level(at + 1, info, stack.last())?);
    }
    let stack = Reservations::from(stack);
    // Some senders fill in both formats. Fine, as long as they say the same.
    let says_old =
        message.role.is_some() && old_role != UNRESERVED_ROLE || message.reservation.is_some();
    if says_old {
        let old = read_old_reservation(old_role, message.reservation.as_ref())?;
        if old != stack {
            return Err(ResourceFault::BothFormats);
        }
    }
    Ok(stack)
}

fn read_old_reservation(
    role: &str,
    dynamic: Option<&wire::ReservationInfo>,
) -> Result<Reservations, ResourceFault> {
    validate_role(role).map_err(ResourceFault::Role)?;
    let Some(info) = dynamic else {
        return Ok(Reservations::fixed(role));
    };
    if role == UNRESERVED_ROLE {
        return Err(ResourceFault::ReservedForNobody);
    }
    if info.r#type.is_some() {
        return Err(ResourceFault::NewerField("type"));
    }
    if info.role.is_some() {
        return Err(ResourceFault::NewerField("role"));
    }
    Ok(Reservations::from(vec![Reservation {
        role: role.into(),
        kind: ReservationKind::Dynamic,
        principal: info.principal.as_deref().map(Arc::from),
        labels: read_labels(info.labels.as_ref()),
    }]))
}

fn read_level(
    level: usize,
    info: &wire::ReservationInfo,
    above: Option<&Reservation>,
) -> Result<Reservation, ResourceFault> {
    let missing = |field| ResourceFault::NoReservationField { level, field };
    let kind = match info.r#type() {
        reservation_info::Type::Static if level > 1 => {
            return Err(ResourceFault::StaticRefinement { level });
        }
        reservation_info::Type::Static => ReservationKind::Static,
        reservation_info::Type::Dynamic => ReservationKind::Dynamic,
        reservation_info::Type::Unknown => return Err(missing("type")),
    };
    let role = info.role.as_deref().ok_or(missing("role"))?;
    validate_role(role).map_err(ResourceFault::Role)?;
    if role == UNRESERVED_ROLE {
        return Err(ResourceFault::ReservedForNobody);
    }
    if let Some(above) = above
        && !is_strict_subrole(role, &above.role)
    {
        let (role, above) = (role.to_owned(), above.role.to_string());
        return Err(ResourceFault::NotBelow { level, role, above });
    }
    Ok(Reservation {
        role: role.into(),
        kind,
        principal: info.principal.as_deref().map(Arc::from),
        labels: read_labels(info.labels.as_ref()),
    })
}

fn write_reservation(reservation: &Reservation) -> wire::ReservationInfo {
    let kind = match reservation.kind {
        ReservationKind::Static => reservation_info::Type::Static,
        ReservationKind::Dynamic => reservation_info::Type::Dynamic,
    };
    wire::ReservationInfo {
        r#type: Some(kind as i32),
        role: Some(reservation.role.to_string()),
        principal: reservation.principal.as_deref().map(str::to_owned),
        labels: write_labels(&reservation.labels),
    }
}

fn read_labels(labels: Option<&v1::Labels>) -> Labels {
    let labels = labels.map(|labels| labels.labels.as_slice()).unwrap_or_default();
    Labels::new(labels.iter().map(|label| (label.key.clone(), label.value.clone())))
}

/// Nothing for no labels: an empty list and an absent one mean the same.
fn write_labels(labels: &Labels) -> Option<v1::Labels> {
    let write = |(key, value): (&str, Option<&str>)| v1::Label {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    (!labels.is_empty()).then(|| v1::Labels { labels: labels.iter().map(write).collect() })
}

fn read_disk(disk: &wire::DiskInfo) -> Result<DiskInfo, ResourceFault> {
    let persistence = match &disk.persistence {
        Some(persistence) => {
            crate::validate_id(&persistence.id).map_err(ResourceFault::PersistenceId)?;
            Some(Persistence {
                id: persistence.id.as_str().into(),
                principal: persistence.principal.as_deref().map(Arc::from),
            })
        }
        None => None,
    };
    let source = disk.source.as_ref().map(read_source).transpose()?;
    Ok(DiskInfo { persistence, volume: disk.volume.clone(), source })
}

fn read_source(source: &disk_info::Source) -> Result<DiskSource, ResourceFault> {
    let kind = match wire_source::Type::try_from(source.r#type) {
        Ok(wire_source::Type::Path) => DiskKind::Path,
        Ok(wire_source::Type::Mount) => DiskKind::Mount,
        Ok(wire_source::Type::Block) => DiskKind::Block,
        Ok(wire_source::Type::Raw) => DiskKind::Raw,
        Ok(wire_source::Type::Unknown) | Err(_) => return Err(ResourceFault::DiskSourceType),
    };
    if source.path.is_some() && kind != DiskKind::Path {
        return Err(ResourceFault::DiskSourceField("path"));
    }
    if source.mount.is_some() && kind != DiskKind::Mount {
        return Err(ResourceFault::DiskSourceField("mount"));
    }
    let path_root = source.path.as_ref().and_then(|path| path.root.as_deref());
    let mount_root = source.mount.as_ref().and_then(|mount| mount.root.as_deref());
    Ok(DiskSource {
        kind,
        root: path_root.or(mount_root).map(Arc::from),
        vendor: source.vendor.as_deref().map(Arc::from),
        id: source.id.as_deref().map(Arc::from),
        metadata: read_labels(source.metadata.as_ref()),
        profile: source.profile.as_deref().map(Arc::from),
    })
}

fn write_disk(disk: &DiskInfo) -> wire::DiskInfo {
    wire::DiskInfo {
        persistence: disk.persistence.as_ref().map(|persistence| disk_info::Persistence {
            id: persistence.id.to_string(),
            principal: persistence.principal.as_deref().map(str::to_owned),
        }),
        volume: disk.volume.clone(),
        source: disk.source.as_ref().map(write_source),
    }
}

fn write_source(source: &DiskSource) -> disk_info::Source {
    let root = source.root.as_deref().map(str::to_owned);
    let kind = match source.kind {
        DiskKind::Path => wire_source::Type::Path,
        DiskKind::Mount => wire_source::Type::Mount,
        DiskKind::Block => wire_source::Type::Block,
        DiskKind::Raw => wire_source::Type::Raw,
    };
    disk_info::Source {
        r#type: kind as i32,
        path: (source.kind == DiskKind::Path).then(|| wire_source::Path { root: root.clone() }),
        mount: (source.kind == DiskKind::Mount).then_some(wire_source::Mount { root }),
        vendor: source.vendor.as_deref().map(str::to_owned),
        id: source.id.as_deref().map(str::to_owned),
        metadata: write_labels(&source.metadata),
        profile: source.profile.as_deref().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
