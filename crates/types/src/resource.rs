//! One resource: an amount of something, and what makes it unlike other amounts of the same.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use mezzo_proto::v1;

use crate::role::UNRESERVED_ROLE;
use crate::value::Value;

/// What a resource is of. The names every agent has are kept without allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Name);

// In alphabetical order, so that lists of resources print sorted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Cpus,
    Disk,
    Gpus,
    Mem,
    Ports,
    Other(Arc<str>),
}

impl ResourceName {
    /// Processors; fractions allowed.
    pub const CPUS: ResourceName = ResourceName(Name::Cpus);
    /// Disk space, MB (2^20 bytes).
    pub const DISK: ResourceName = ResourceName(Name::Disk);
    /// GPUs, whole.
    pub const GPUS: ResourceName = ResourceName(Name::Gpus);
    /// Memory, MB (2^20 bytes).
    pub const MEM: ResourceName = ResourceName(Name::Mem);
    /// Port numbers.
    pub const PORTS: ResourceName = ResourceName(Name::Ports);

    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Cpus => "cpus",
            Name::Disk => "disk",
            Name::Gpus => "gpus",
            Name::Mem => "mem",
            Name::Ports => "ports",
            Name::Other(name) => name,
        }
    }
}

impl From<&str> for ResourceName {
    fn from(name: &str) -> Self {
        ResourceName(match name {
            "cpus" => Name::Cpus,
            "disk" => Name::Disk,
            "gpus" => Name::Gpus,
            "mem" => Name::Mem,
            "ports" => Name::Ports,
            other => Name::Other(other.into()),
        })
    }
}

impl From<&ResourceName> for ResourceName {
    fn from(name: &ResourceName) -> Self {
        name.clone()
    }
}

impl AsRef<str> for ResourceName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for ResourceName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ResourceName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Key-value pairs as users attach them; sorted, because their order carries no meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Vec<(String, Option<String>)>);

impl Labels {
    pub fn new(pairs: impl IntoIterator<Item = (String, Option<String>)>) -> Labels {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable();
        Labels(pairs)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a reservation came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReservationKind {
    /// By the agent's configuration.
    Static,
    /// By a framework or an operator.
    Dynamic,
}

/// One level of the reservation stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservation {
    pub role: Arc<str>,
    pub kind: ReservationKind,
    pub principal: Option<Arc<str>>,
    pub labels: Labels,
}

/// The stack of reservations, from ancestor to descendant; empty: unreserved.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservations(Option<Arc<[Reservation]>>);

impl Reservations {
    /// Unreserved.
    pub const NONE: Reservations = Reservations(None);

    /// A static reservation for `role`; none for `*`.
    pub fn fixed(role: &str) -> Reservations {
        if role == UNRESERVED_ROLE {
            return Reservations::NONE;
        }
        Reservations::from(vec![Reservation {
            role: role.into(),
            kind: ReservationKind::Static,
            principal: None,
            labels: Labels::default(),
        }])
    }

    /// One more level on top.
    pub fn pushed(&self, reservation: Reservation) -> Reservations {
        let mut stack = self.to_vec();
        stack.push(reservation);
        Reservations::from(stack)
    }

    /// Without the top level.
    pub fn popped(&self) -> Reservations {
        match self.split_last() {
            Some((_, rest)) => Reservations::from(rest.to_vec()),
            None => Reservations::NONE,
        }
    }
}

impl From<Vec<Reservation>> for Reservations {
    fn from(stack: Vec<Reservation>) -> Self {
        Reservations((!stack.is_empty()).then(|| stack.into()))
    }
}

impl std::ops::Deref for Reservations {
    type Target = [Reservation];

    fn deref(&self) -> &[Reservation] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Reservations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What makes disk space a particular disk or volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskInfo {
    pub persistence: Option<Persistence>,
    /// How a task sees it. Says nothing about the resource itself, so comparisons ignore it.
    pub volume: Option<v1::Volume>,
    /// Where the space comes from; `None`: the file system of the agent's data directory.
    pub source: Option<DiskSource>,
}

/// A persistent volume's name. The principal that made it does not tell volumes apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    pub id: Arc<str>,
    pub principal: Option<Arc<str>>,
}

/// What kind of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskKind {
    /// A directory whose space can be split.
    Path,
    /// A mounted file system, given out whole.
    Mount,
    /// A block device, given out whole.
    Block,
    /// Storage that a resource provider can turn into a mount or a block device.
    Raw,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskSource {
    pub kind: DiskKind,
    pub root: Option<Arc<str>>,
    pub vendor: Option<Arc<str>>,
    pub id: Option<Arc<str>>,
    pub metadata: Labels,
    pub profile: Option<Arc<str>>,
}

impl DiskInfo {
    fn persistence_id(&self) -> Option<&str> {
        self.persistence.as_ref().map(|persistence| &*persistence.id)
    }

    /// Whether it is given out whole: a persistent volume, or a disk that cannot be split.
    fn is_whole(&self) -> bool {
        self.persistence.is_some()
            || self.source.as_ref().is_some_and(|source| match source.kind {
                DiskKind::Path => false,
                DiskKind::Mount | DiskKind::Block => true,
                DiskKind::Raw => source.id.is_some(),
            })
    }
}

/// An amount of one thing. Two resources are fungible, and can be added, if all but the value is
/// the same and neither is whole or shared.
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: ResourceName,
    pub value: Value,
    pub reservations: Reservations,
    /// The role it is offered to or used by; `None` while nobody has it.
    pub allocation_role: Option<Arc<str>>,
    pub disk: Option<Arc<DiskInfo>>,
    /// May be taken back at any time.
    pub revocable: bool,
    /// A persistent volume that several tasks may use at once.
    pub shared: bool,
    /// The resource provider it comes from; `None`: the agent itself.
    pub provider_id: Option<Arc<str>>,
}

impl Resource {
    /// Unreserved, unallocated, the agent's own.
    pub fn new(name: impl Into<ResourceName>, value: Value) -> Resource {
        Resource {
            name: name.into(),
            value,
            reservations: Reservations::NONE,
            allocation_role: None,
            disk: None,
            revocable: false,
            shared: false,
            provider_id: None,
        }
    }

    /// The role it is reserved for, the most refined one; `None`: unreserved.
    pub fn reservation_role(&self) -> Option<&str> {
        self.reservations.last().map(|top| &*top.role)
    }

    /// The id of the persistent volume that it is.
    pub fn persistence_id(&self) -> Option<&str> {
        self.disk.as_ref().and_then(|disk| disk.persistence_id())
    }

    /// Whether both are the same but for the amount; of volumes and whole disks, exactly the same.
    pub fn is_alike(&self, other: &Resource) -> bool {
        self.order(other) == Ordering::Equal
    }

    /// Whether copies of it are counted instead of their values added: shared volumes, persistent
    /// volumes and whole disks.
    pub(crate) fn is_counted(&self) -> bool {
        self.shared || self.disk.as_ref().is_some_and(|disk| disk.is_whole())
    }

    /// The order of resources in a list. Equal: fungible, or copies of the same counted resource.
    pub(crate) fn order(&self, other: &Resource) -> Ordering {
        self.name
            .cmp(&other.name)
            .then_with(|| self.value.kind().cmp(&other.value.kind()))
            .then_with(|| self.reservations.cmp(&other.reservations))
            .then_with(|| self.allocation_role.cmp(&other.allocation_role))
            .then_with(|| self.revocable.cmp(&other.revocable))
            .then_with(|| self.shared.cmp(&other.shared))
            .then_with(|| self.provider_id.cmp(&other.provider_id))
            .then_with(|| disk_order(self.disk.as_deref(), other.disk.as_deref()))
            .then_with(|| match self.is_counted() {
                true => self.value.cmp(&other.value),
                false => Ordering::Equal,
            })
    }
}

fn disk_order(left: Option<&DiskInfo>, right: Option<&DiskInfo>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(left), Some(right)) => left
            .source
            .cmp(&right.source)
            .then_with(|| left.persistence_id().cmp(&right.persistence_id())),
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Resource) -> bool {
        self.order(other) == Ordering::Equal && self.value == other.value
    }
}

impl Eq for Resource {}

/// `cpus:2`, `cpus(web):2` for a static reservation, and every further property in brackets of
/// its own: `disk(dynamic web by alice)[mount:/mnt/d1][volume data]{revocable}<shared>:512`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for reservation in self.reservations.iter() {
            match reservation.kind {
                ReservationKind::Static => write!(f, "({}", reservation.role)?,
                ReservationKind::Dynamic => write!(f, "(dynamic {}", reservation.role)?,
            }
            if let Some(principal) = &reservation.principal {
                write!(f, " by {principal}")?;
            }
            for (key, value) in reservation.labels.iter() {
                write!(f, " {key}={}", value.unwrap_or_default())?;
            }
            f.write_str(")")?;
        }
        if let Some(role) = &self.allocation_role {
            write!(f, "(allocated to {role})")?;
        }
        if let Some(disk) = &self.disk {
            if let Some(source) = &disk.source {
                let kind = match source.kind {
                    DiskKind::Path => "path",
                    DiskKind::Mount => "mount",
                    DiskKind::Block => "block",
                    DiskKind::Raw => "raw",
                };
                write!(f, "[{kind}")?;
                let parts = [&source.vendor, &source.id, &source.profile, &source.root];
                for part in parts.into_iter().flatten() {
                    write!(f, ":{part}")?;
                }
                f.write_str("]")?;
            }
            if let Some(persistence) = &disk.persistence {
                write!(f, "[volume {}]", persistence.id)?;
            }
        }
        if let Some(provider) = &self.provider_id {
            write!(f, "[provider {provider}]")?;
        }
        if self.revocable {
            f.write_str("{revocable}")?;
        }
        if self.shared {
            f.write_str("<shared>")?;
        }
        write!(f, ":{}", self.value)
    }
}
