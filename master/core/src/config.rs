//! What an operator may set, as the core needs it.

use std::time::Duration;

use mezzo_proto::v1;

/// Settings of the master's core. Durations are those of Mesos 1.11 unless noted.
#[derive(Debug, Clone)]
pub struct Config {
    /// What SUBSCRIBED says of this master.
    pub master_info: v1::MasterInfo,
    /// Whether frameworks and tasks may run as root (`--root-submissions`).
    pub root_submissions: bool,
    /// Events of type HEARTBEAT leave this often on every subscription.
    pub heartbeat_interval: Duration,
    /// A PING goes to every linked agent this often.
    pub agent_ping_timeout: Duration,
    /// So many PINGs without an answer make the agent unreachable.
    pub max_agent_ping_timeouts: u32,
    /// An agent whose link broke, or that a new leader knows from its registry only, is marked
    /// unreachable after this long. Frameworks known from the registry only get at least this long
    /// to come back, too.
    pub agent_reregister_timeout: Duration,
}

impl Config {
    /// The defaults of Mesos 1.11 for a master described by `master_info`.
    pub fn new(master_info: v1::MasterInfo) -> Self {
        Self {
            master_info,
            root_submissions: false,
            heartbeat_interval: Duration::from_secs(15),
            agent_ping_timeout: Duration::from_secs(15),
            max_agent_ping_timeouts: 5,
            agent_reregister_timeout: Duration::from_secs(600),
        }
    }
}
