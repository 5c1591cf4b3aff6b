//! Asking all agents what their tasks use, and comparing it with what they said before.

use std::collections::HashMap;
use std::time::Duration;

use mezzo_sdk::v1::agent::{StatisticsResponse, TaskStatistics};
use mezzo_sdk::{Agent, Master, agent_addresses};
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::usage::figures::{Figures, Place};

/// An agent that takes longer is left out this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Agents that are asked at the same time.
const AT_ONCE: usize = 64;

/// Framework and task.
type Key = (String, String);

/// What was seen of the whole cluster the last time.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    connections: HashMap<String, Agent>,
    before: HashMap<Key, TaskStatistics>,
    asked: bool,
}

/// One look at the cluster.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) tasks: Vec<Figures>,
    pub(crate) agents: usize,
    /// Host names of agents that did not answer.
    pub(crate) silent: Vec<String>,
    /// Agents whose kernels do not count everything.
    pub(crate) partial: usize,
    /// There was a look before this one, so rates are known.
    pub(crate) compared: bool,
}

impl Survey {
    /// Asks every agent that is connected to the master, or the one of this id or host name.
    pub(crate) async fn look(
        &mut self,
        master: &Master,
        only: Option<&str>,
    ) -> Result<Seen, Failure> {
        let agents = master.agents().await?.agents;
        let mut seen = Seen { compared: self.asked, ..Seen::default() };
        let mut before = std::mem::take(&mut self.before);
        let mut asking = JoinSet::new();
        let mut connections = std::mem::take(&mut self.connections);
        for agent in agents {
            let hostname = agent.agent_info.hostname.clone();
            let agent_id =
                agent.agent_info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
            if only.is_some_and(|only| only != agent_id && only != hostname) {
                continue;
            }
            seen.agents += 1;
            let place = Place { agent_id, hostname };
            let known = connections.remove(&place.agent_id);
            let addresses = agent_addresses(&agent);
            if asking.len() >= AT_ONCE
                && let Some(Ok(answer)) = asking.join_next().await
            {
                self.take(answer, &mut before, &mut seen);
            }
            asking.spawn(async move {
                let answer = tokio::time::timeout(PATIENCE, ask(known, addresses)).await;
                (place, answer.ok().flatten())
            });
        }
        while let Some(answer) = asking.join_next().await {
            if let Ok(answer) = answer {
                self.take(answer, &mut before, &mut seen);
            }
        }
        if let (Some(only), 0) = (only, seen.agents) {
            return Err(Failure::new(format!("no agent {only:?} is connected to the master"))
                .hint("`mezzo agents` lists them"));
        }
        self.asked = true;
        Ok(seen)
    }

    fn take(
        &mut self,
        (place, answer): (Place, Option<(Agent, StatisticsResponse)>),
        before: &mut HashMap<Key, TaskStatistics>,
        seen: &mut Seen,
    ) {
        let Some((agent, told)) = answer else { return seen.silent.push(place.hostname) };
        seen.partial += usize::from(!told.features_off.is_empty());
        for task in told.tasks {
            let id = |id: Option<&String>| id.cloned().unwrap_or_default();
            let key = (
                id(task.framework_id.as_ref().map(|id| &id.value)),
                id(task.task_id.as_ref().map(|id| &id.value)),
            );
            seen.tasks.push(Figures::new(&task, before.remove(&key).as_ref(), &place));
            self.before.insert(key, task);
        }
        self.connections.insert(place.agent_id, agent);
    }
}

async fn ask(known: Option<Agent>, addresses: Vec<String>) -> Option<(Agent, StatisticsResponse)> {
    if let Some(agent) = known
        && let Ok(told) = agent.statistics(None).await
    {
        return Some((agent, told));
    }
    let agent = Agent::connect_any(&addresses).await.ok()?;
    let told = agent.statistics(None).await.ok()?;
    Some((agent, told))
}
