//! `no-double-offer`: per agent and resource, offered + allocated + reserved elsewhere ≤ total.
//!
//! Told from what the master tells its readers, not from its books. In the end everything that an
//! agent has must be offered again: what is neither used nor offered is lost.

use std::collections::BTreeMap;

use mezzo_master_core::ViewChange;
use mezzo_proto::v1;
use mezzo_types::{Resources, is_terminal};
use prost::Message;

use super::Invariant;
use crate::fact::{Fact, TaskKey};
use crate::world::World;

#[derive(Debug, Default)]
struct Claim {
    agent: String,
    resources: Resources,
}

/// What one master says is out.
#[derive(Debug, Default)]
struct Books {
    totals: BTreeMap<String, Resources>,
    offers: BTreeMap<String, Claim>,
    /// Tasks that have not ended.
    tasks: BTreeMap<TaskKey, Claim>,
}

#[derive(Default)]
pub(super) struct NoDoubleOffer {
    masters: BTreeMap<usize, Books>,
}

fn plain(resources: &[v1::Resource]) -> Resources {
    Resources::from_proto(resources).unwrap_or_default().unallocated()
}

impl Books {
    fn offered(&self, agent: &str) -> Resources {
        let mut sum = Resources::default();
        for claim in self.offers.values().filter(|claim| claim.agent == agent) {
            sum += &claim.resources;
        }
        sum
    }

    fn check(&self, agent: &str) -> Result<(), String> {
        let offered = self.offered(agent);
        let mut out = offered.clone();
        for claim in self.tasks.values().filter(|claim| claim.agent == agent) {
            out += &claim.resources;
        }
        let total = self.totals.get(agent).cloned().unwrap_or_default();
        // A task may have been launched with what an operation was to make that failed; the agent refuses
        // it. Until it says so the amounts must be there, and nothing of what is not may be offered.
        let amounts = total.quantities().contains(&out.quantities());
        if total.contains(&out) || amounts && total.contains(&offered) {
            return Ok(());
        }
        Err(format!("agent {agent} has {total}, but {out} is out, {offered} of it offered"))
    }

    fn apply(&mut self, change: &ViewChange) -> Result<(), String> {
        match change {
            ViewChange::Agent { info, total, .. } => {
                let id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
                self.totals.insert(id, plain(total));
            }
            ViewChange::AgentRemoved(id) => {
                self.totals.remove(id.as_str());
            }
            ViewChange::Offer(news) => {
                // What the framework is told counts.
                let offer = v1::Offer::decode(news.encoded.clone()).map_err(|e| e.to_string())?;
                let agent = offer.agent_id.value.clone();
                let resources = plain(&offer.resources);
                let claim = Claim { agent: agent.clone(), resources };
                self.offers.insert(offer.id.value.clone(), claim);
                self.check(&agent)?;
            }
            ViewChange::OfferRemoved(id) => {
                self.offers.remove(id.as_str());
            }
            ViewChange::Task(task) => {
                let key = (task.framework_id.value.clone(), task.task_id.value.clone());
                if is_terminal(task.state()) {
                    self.tasks.remove(&key);
                } else {
                    let agent = task.agent_id.value.clone();
                    self.tasks.insert(key, Claim { agent, resources: plain(&task.resources) });
                }
            }
            ViewChange::TaskNews(news) if is_terminal(news.state) => {
                self.tasks.remove(&(news.framework.to_string(), news.task.to_string()));
            }
            ViewChange::TaskCompleted(framework, task) => {
                self.tasks.remove(&(framework.to_string(), task.to_string()));
            }
            ViewChange::FrameworkCompleted { id, .. } => {
                self.tasks.retain(|(framework, _), _| *framework != id.as_str());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Invariant for NoDoubleOffer {
    fn name(&self) -> &'static str {
        "no-double-offer"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Leads { master, .. } => {
                self.masters.insert(*master, Books::default());
                Ok(())
            }
            Fact::View { master, change } => self.masters.entry(*master).or_default().apply(change),
            _ => Ok(()),
        }
    }

    /// Offers are held in the end, so all that somebody may have is offered.
    fn settled(&self, world: &World) -> Result<(), String> {
        let books = world.leader.and_then(|leader| self.masters.get(&leader));
        let books = books.ok_or("nobody leads")?;
        for agent in &world.agents {
            let process = agent.process.as_ref().ok_or("an agent is down")?;
            let id = process.core.info().and_then(|info| info.id.as_ref());
            let id = id.map(|id| id.value.as_str()).ok_or("an agent is not registered")?;
            let offered = books.offered(id);
            let total = books.totals.get(id).ok_or("an agent is not known")?;
            let wanted = total.filter(|resource| {
                world.frameworks.iter().any(|framework| {
                    let may = Resources::from(resource.clone()).eligible_for(framework.role);
                    framework.subscribed && !may.is_empty()
                })
            });
            // What is left over for a role may be too little for an offer of its own.
            let left = wanted.without(&offered);
            let worth = world.frameworks.iter().filter(|framework| framework.subscribed).any(|f| {
                let left = left.eligible_for(f.role);
                left.cpus().thousandths() >= 10 || left.mem_mb().thousandths() >= 32_000
            });
            if worth {
                return Err(format!("of agent {id} only {offered} of {wanted} is offered"));
            }
        }
        Ok(())
    }
}
