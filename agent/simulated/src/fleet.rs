//! All simulated agents, from their start to the user's word.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mezzo_agent_core::{Config, RecoverError};
use mezzo_proto::v1;
use mezzo_types::{
    Attributes, IdSource, ParseAttributesError, ParseResourcesError, RESOURCES_SYNTAX_HINT,
    Resources,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

use crate::carrier::{self, Carrier};
use crate::clock::Clock;
use crate::flags::Flags;
use crate::machine::Machine;

/// Where simulated agents say that they serve; nobody does.
const PORT: i32 = 5051;
const IP: &str = "127.0.0.1";

/// Why there is no fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("--master={0} is not HOST:PORT, such as 10.0.0.1:5050")]
    Master(String),
    #[error("--resources cannot be read; {RESOURCES_SYNTAX_HINT}")]
    Resources(#[source] ParseResourcesError),
    #[error("--attributes cannot be read")]
    Attributes(#[source] ParseAttributesError),
    #[error("an agent could not be made")]
    Agent(#[source] RecoverError),
}

/// What the agents have come to, all together.
#[derive(Debug)]
pub(crate) struct Tally {
    registered: watch::Sender<u32>,
    left: AtomicU32,
    /// An attempt failed, and that was said.
    complained: AtomicBool,
}

impl Tally {
    pub(crate) fn registered(&self, registered: bool) {
        self.registered.send_modify(|count| match registered {
            true => *count += 1,
            false => *count -= 1,
        });
        self.complained.store(false, Ordering::Relaxed);
    }

    pub(crate) fn left(&self, reason: Option<&str>) {
        let left = self.left.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(left, reason, "an agent left the cluster");
    }

    /// Said once: that a master is away is not news for each agent.
    pub(crate) fn unreachable(&self, status: &tonic::Status) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            let reason = status.message();
            tracing::warn!(reason, "the master cannot be reached; trying again until it can");
        }
    }
}

/// Agents that run until this is dropped.
#[derive(Debug)]
pub struct Fleet {
    registered: watch::Receiver<u32>,
    agents: u32,
    _stop: watch::Sender<bool>,
    carriers: JoinSet<()>,
}

impl Fleet {
    /// Starts them on the runtime of the caller.
    ///
    /// # Errors
    /// Flags that make no agent. Whether the master can be reached is another matter.
    pub fn start(flags: &Flags) -> Result<Fleet, FleetError> {
        let endpoint = endpoint(&flags.master)?;
        let resources =
            Resources::parse(&flags.resources, "*").map_err(FleetError::Resources)?.to_proto();
        let attributes = match &flags.attributes {
            Some(text) => Attributes::parse(text).map_err(FleetError::Attributes)?.to_proto(),
            None => Vec::new(),
        };
        let clock = Clock::start();
        let (registered, seen) = watch::channel(0);
        let tally = Arc::new(Tally {
            registered,
            left: AtomicU32::new(0),
            complained: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let mut seeds = IdSource::new([random(), random()]);
        let mut carriers = JoinSet::new();
        let mut first = 0;
        while first < flags.agents {
            let last = flags.agents.min(first.saturating_add(flags.agents_per_connection));
            let mut machines = Vec::new();
            for number in first..last {
                let info = v1::AgentInfo {
                    hostname: format!("{}{number}", flags.hostname),
                    port: Some(PORT),
                    resources: resources.clone(),
                    attributes: attributes.clone(),
                    ..v1::AgentInfo::default()
                };
                let config = Config::new(info, env!("CARGO_PKG_VERSION"), "simulated", IP);
                let seed = [seeds.next_u64(), seeds.next_u64()];
                machines.push(Machine::new(clock.now(), config, seed).map_err(FleetError::Agent)?);
            }
            let channel = carrier::channel(endpoint.clone());
            let chance = IdSource::new([seeds.next_u64(), seeds.next_u64()]);
            let carrier = Carrier::new(clock, Arc::clone(&tally), channel, machines, chance);
            carriers.spawn(carrier.run(stopped.clone()));
            first = last;
        }
        Ok(Fleet { registered: seen, agents: flags.agents, _stop: stop, carriers })
    }

    /// Resolves when all are registered at a time. Cancel-safe.
    pub async fn all_registered(&mut self) {
        let agents = self.agents;
        // The sender lives as long as the carriers; without them nothing is ever registered.
        if self.registered.wait_for(|count| *count >= agents).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How many are registered now.
    pub fn registered(&self) -> u32 {
        *self.registered.borrow()
    }

    /// Ends all links: to the master, machines that are cut off.
    pub async fn end(mut self) {
        self.carriers.shutdown().await;
    }
}

fn endpoint(master: &str) -> Result<Endpoint, FleetError> {
    let malformed = || FleetError::Master(master.to_owned());
    let address = master.strip_prefix("http://").unwrap_or(master).trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    if host.is_empty() || host.contains('/') || port == 0 {
        return Err(malformed());
    }
    Endpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())
}

/// Seeds must differ from run to run; the standard library draws one for each `RandomState`.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(endpoint("10.0.0.1:5050").unwrap().uri().to_string(), "http://10.0.0.1:5050/");
        for bad in ["", "host", ":1", "host:0", "a/b:1", "zk://a:2181/mezzo"] {
            assert!(matches!(endpoint(bad), Err(FleetError::Master(_))), "{bad}");
        }
    }
}
