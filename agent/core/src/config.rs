//! What an agent is told at its start.

use std::time::Duration;

use mezzo_proto::v1;
use mezzo_status_updates::Backoff;

/// Time between SIGTERM and SIGKILL where neither kill nor task says otherwise (Mesos' value).
pub const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(3);

/// Mesos' values of what an executor's life is bounded by.
pub const DEFAULT_EXECUTOR_REGISTRATION_TIMEOUT: Duration = Duration::from_secs(60);
pub const DEFAULT_EXECUTOR_REREGISTRATION_TIMEOUT: Duration = Duration::from_secs(2);
pub const DEFAULT_EXECUTOR_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The agent as its flags and its host describe it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Without `id`: that comes from the record, or from the master at the first registration.
    pub info: v1::AgentInfo,
    /// Version that the master shows of this agent.
    pub version: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Address under which the tasks' ports are reached; goes into every status.
    pub ip: String,
    pub kill_grace: Duration,
    /// How long an executor may take to subscribe after its launch was ordered.
    pub executor_registration_timeout: Duration,
    /// How long an executor may take to subscribe again after the agent's start.
    pub executor_reregistration_timeout: Duration,
    /// How long an executor may take to end after SHUTDOWN, where it does not say otherwise.
    pub executor_shutdown_grace: Duration,
    pub backoff: Backoff,
    /// What may have changed since the agent joined the cluster.
    pub reconfiguration_policy: ReconfigurationPolicy,
    /// The operator does not care which port it is: another one is no change.
    pub any_port: bool,
}

/// What an agent that joined the cluster may change of itself (Mesos' `--reconfiguration_policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReconfigurationPolicy {
    /// Nothing.
    #[default]
    Equal,
    /// Resources and attributes may grow and be added, and a domain be added.
    Additive,
}

impl Config {
    pub fn new(info: v1::AgentInfo, version: &str, boot_id: &str, ip: &str) -> Self {
        Config {
            info,
            version: version.to_owned(),
            boot_id: boot_id.to_owned(),
            ip: ip.to_owned(),
            kill_grace: DEFAULT_KILL_GRACE,
            executor_registration_timeout: DEFAULT_EXECUTOR_REGISTRATION_TIMEOUT,
            executor_reregistration_timeout: DEFAULT_EXECUTOR_REREGISTRATION_TIMEOUT,
            executor_shutdown_grace: DEFAULT_EXECUTOR_SHUTDOWN_GRACE,
            backoff: Backoff::default(),
            reconfiguration_policy: ReconfigurationPolicy::default(),
            any_port: false,
        }
    }
}
