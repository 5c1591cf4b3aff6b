//! What an agent is told at its start.

use std::time::Duration;

use mezzo_proto::v1;
use mezzo_status_updates::Backoff;

/// Time between SIGTERM and SIGKILL where neither kill nor task says otherwise (Mesos' value).
pub const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(3);

/// Time for the last acknowledgements where nobody says otherwise.
pub const DEFAULT_FAREWELL: Duration = Duration::from_secs(5);

/// The agent as its flags and its host describe it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Without `id`: that comes from the record, or from the master at the first registration.
    pub info: v1::AgentInfo,
    /// Version of this program, for the master.
    pub version: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Address under which the tasks' ports are reached; goes into every status.
    pub ip: String,
    pub kill_grace: Duration,
    /// How long an agent that leaves waits for the acknowledgements of its tasks' endings.
    pub farewell: Duration,
    pub backoff: Backoff,
}

impl Config {
    pub fn new(info: v1::AgentInfo, version: &str, boot_id: &str, ip: &str) -> Self {
        Config {
            info,
            version: version.to_owned(),
            boot_id: boot_id.to_owned(),
            ip: ip.to_owned(),
            kill_grace: DEFAULT_KILL_GRACE,
            farewell: DEFAULT_FAREWELL,
            backoff: Backoff::default(),
        }
    }
}
