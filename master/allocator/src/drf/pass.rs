//! One allocation pass: the marked agents, each offered to whoever is to be served first.

use std::ops::ControlFlow;

use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{Now, Quantities, Resources};

use super::agents::{Agent, AgentNo};
use super::roles::{Client, NodeId};
use super::{DrfAllocator, Framework};
use crate::{Allocation, Capabilities};

/// Agents per pass: what keeps one pass within milliseconds when a whole large cluster is marked.
/// The rest is due at once, after the caller had its turn.
const AGENTS_PER_PASS: usize = 1024;

/// One client's eligible part of an agent.
struct Pick {
    client: NodeId,
    who: Client,
    resources: Resources,
}

impl DrfAllocator {
    pub(super) fn pass(&mut self, now: Now) -> Vec<Allocation> {
        for agent in self.filters.expire(now.mono_ns) {
            self.mark(now, agent);
        }
        if self.due.is_none_or(|due| due > now.mono_ns) {
            return Vec::new();
        }
        self.last_pass = Some(now.mono_ns);
        self.tree.refresh();
        let mut allocations = Vec::new();
        for _ in 0..AGENTS_PER_PASS {
            let Some(number) = self.marked.pop_first() else { break };
            while let Some(pick) = self.pick(number) {
                allocations.extend(self.grant(number, pick));
            }
            self.reindex(number);
        }
        self.due = (!self.marked.is_empty()).then_some(now.mono_ns);
        allocations
    }

    /// The first client in order for whom the agent has something that it may and would take.
    fn pick(&self, number: AgentNo) -> Option<Pick> {
        let agent = self.agents.get(&number)?;
        if !self.is_candidate(agent) {
            return None;
        }
        // Frameworks of one role follow each other and are mostly alike.
        let mut last: Option<(String, Capabilities, Resources)> = None;
        self.tree.visit(|client, who| {
            let Some(framework) = self.frameworks.get(&who.framework) else {
                return ControlFlow::Continue(());
            };
            let capabilities = framework.options.capabilities;
            if !self.may_see(agent, capabilities) {
                return ControlFlow::Continue(());
            }
            let eligible = match last.take() {
                Some(same) if same.0 == who.role && same.1 == capabilities => same.2,
                _ => eligible(agent, &who.role, capabilities),
            };
            if is_worth_an_offer(&eligible, self.minimum(framework, &who.role))
                && !self.filters.blocks(client, number, &eligible)
            {
                let who = who.clone();
                return ControlFlow::Break(Pick { client, who, resources: eligible });
            }
            last = Some((who.role.clone(), capabilities, eligible));
            ControlFlow::Continue(())
        })
    }

    fn grant(&mut self, number: AgentNo, pick: Pick) -> Option<Allocation> {
        let agent = self.agents.get_mut(&number)?;
        let more = agent.counted(pick.client, &pick.resources);
        if agent.take(pick.client, &pick.resources) {
            *self.spread.entry(pick.client).or_default() += 1;
        }
        agent.lend(&pick.resources);
        self.tree.serve(pick.client, &more);
        Some(Allocation {
            agent: agent.id.clone(),
            framework: pick.who.framework,
            resources: pick.resources.allocate(&pick.who.role),
            role: pick.who.role,
        })
    }

    fn may_see(&self, agent: &Agent, capabilities: Capabilities) -> bool {
        let gpus = !agent.has_gpus || !self.config.filter_gpu_resources || capabilities.gpu;
        let region = !agent.options.remote_region || capabilities.region_aware;
        gpus && region
    }

    fn minimum<'a>(&'a self, framework: &'a Framework, role: &str) -> &'a [Quantities] {
        framework.options.min_allocatable.get(role).unwrap_or(&self.config.min_allocatable)
    }
}

/// What is left of the agent that the role may use and the framework understands.
fn eligible(agent: &Agent, role: &str, capabilities: Capabilities) -> Resources {
    let left = agent.left();
    let all = is_on(Bug::AllocatorIgnoresReservations);
    let open = if all { left.clone() } else { left.eligible_for(role) };
    open.filter(|resource| {
        (capabilities.revocable || !resource.revocable)
            && (capabilities.shared || !resource.shared)
            && (capabilities.reservation_refinement || resource.reservations.len() < 2)
    })
}

/// Whether the resources hold one of the alternatives; with none given, whether there are any.
pub(super) fn is_worth_an_offer(resources: &Resources, minimum: &[Quantities]) -> bool {
    if minimum.is_empty() {
        return !resources.is_empty();
    }
    let has = resources.quantities();
    minimum.iter().any(|least| has.contains(least))
}
