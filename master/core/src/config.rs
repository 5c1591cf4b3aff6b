//! What an operator may set, as the core needs it.

use std::time::Duration;

use mezzo_proto::v1;

use crate::throttle::CallRates;

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
    /// How fast agents may be marked unreachable; `None` is at once.
    pub agent_removal_rate_limit: Option<RateLimit>,
    /// Of the agents that a new leader knows from its registry, at most this share (in percent, 0 to
    /// 100) may be marked unreachable for not coming back; beyond it the master halts.
    pub recovery_agent_removal_limit_percent: f64,
    /// How fast the calls of frameworks are carried out (`--rate-limits`).
    pub call_rates: CallRates,
    /// The lists of unreachable and of gone agents are pruned this often.
    pub registry_gc_interval: Duration,
    /// Entries of these lists older than this are dropped.
    pub registry_max_agent_age: Duration,
    /// The oldest entries of each of these lists beyond so many are dropped.
    pub registry_max_agent_count: usize,
}

/// So many of something in so much time, spread evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub permits: u32,
    pub per: Duration,
}

impl RateLimit {
    /// The least time between two permits.
    pub fn interval(self) -> Duration {
        self.per / self.permits.max(1)
    }
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
            agent_removal_rate_limit: None,
            recovery_agent_removal_limit_percent: 100.0,
            call_rates: CallRates::default(),
            registry_gc_interval: Duration::from_secs(15 * 60),
            registry_max_agent_age: Duration::from_secs(2 * 7 * 24 * 60 * 60),
            registry_max_agent_count: 102_400,
        }
    }
}
