//! What the kernel kept a container from.

use std::time::{Duration, SystemTime};

use mezzo_agent_accounting::{Event, Happening};

/// A port or a device that was not the container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub time: SystemTime,
    /// As the host numbers it.
    pub process: u32,
    /// The name of its program, at most 15 bytes.
    pub command: String,
    /// [`Happening::PortDenied`] or [`Happening::DeviceDenied`].
    pub what: Happening,
}

impl Refusal {
    /// `None` for events that are no refusals.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let refused =
            matches!(event.what, Happening::PortDenied { .. } | Happening::DeviceDenied(_));
        refused.then(|| Refusal {
            time: time_of(event),
            process: event.process,
            command: event.command.clone(),
            what: event.what,
        })
    }
}

/// From the clock of events, which counts from the boot.
fn time_of(event: &Event) -> SystemTime {
    let ago = mezzo_agent_sys::monotonic().saturating_sub(Duration::from_nanos(event.time_ns));
    SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}
