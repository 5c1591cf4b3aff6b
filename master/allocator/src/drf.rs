//! Hierarchical weighted dominant resource fairness, event by event.
//!
//! An event changes the books and marks the agents that it concerns: one agent for freed resources
//! or an expired filter, all *candidates* (agents with something left that is worth an offer) for
//! a framework that appears or is revived. A pass looks at the marked agents only. Whoever has the
//! smallest share is served first, and gets an agent's whole eligible remainder.
//!
//! A shared volume is offered to one framework at a time, whoever uses it meanwhile.

mod agents;
mod check;
mod convert;
mod filters;
mod pass;
mod quotas;
mod roles;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{
    AgentId, Conversion, ConversionError, FrameworkId, IdMap, Now, Resources, UNRESERVED_ROLE,
};

use self::agents::{Agent, AgentNo};
use self::filters::Filters;
use self::quotas::Quotas;
use self::roles::{NodeId, RoleTree};
use self::share::Weight;
use crate::{
    AgentOptions, Allocation, Allocator, AllocatorConfig, FrameworkOptions, MAXIMUM_REFUSAL, Quota,
    Violation,
};

/// The allocator that ships. See [`Allocator`] for what it does, the module for how.
pub struct DrfAllocator {
    config: AllocatorConfig,
    tree: RoleTree,
    filters: Filters,
    quotas: Quotas,
    frameworks: BTreeMap<FrameworkId, Framework>,
    /// How many frameworks bring their own minimum of an offer.
    lenient: u64,
    agents: BTreeMap<AgentNo, Agent>,
    numbers: IdMap<AgentId, AgentNo>,
    next_agent: u64,
    /// On how many agents a client holds something; absent for none.
    spread: BTreeMap<NodeId, u64>,
    /// Active agents with something left that somebody may call an offer.
    candidates: BTreeSet<AgentNo>,
    /// The candidates that the next pass looks at.
    marked: BTreeSet<AgentNo>,
    /// When that pass is due; set exactly while agents are marked.
    due: Option<u64>,
    last_pass: Option<u64>,
    /// The first call that contradicted the books.
    fault: Option<Violation>,
}

struct Framework {
    options: FrameworkOptions,
    active: bool,
}

impl Framework {
    fn wants_offers_in(&self, role: &str) -> bool {
        self.active && self.options.roles.contains(role) && !self.options.suppressed.contains(role)
    }

    /// The roles that a call names: those of the framework's that are listed, or all of them.
    fn named(&self, roles: &[String]) -> Vec<String> {
        let named = |role: &&String| roles.is_empty() || roles.contains(role);
        self.options.roles.iter().filter(named).cloned().collect()
    }
}

impl DrfAllocator {
    pub fn new(config: AllocatorConfig) -> Self {
        DrfAllocator {
            tree: RoleTree::new(config.excluded_from_shares.clone()),
            config,
            filters: Filters::default(),
            quotas: Quotas::default(),
            frameworks: BTreeMap::new(),
            lenient: 0,
            agents: BTreeMap::new(),
            numbers: IdMap::default(),
            next_agent: 0,
            spread: BTreeMap::new(),
            candidates: BTreeSet::new(),
            marked: BTreeSet::new(),
            due: None,
            last_pass: None,
            fault: None,
        }
    }

    /// The agent is to be looked at, if there is anything to see.
    fn mark(&mut self, now: Now, agent: AgentNo) {
        if self.candidates.contains(&agent) {
            self.marked.insert(agent);
            self.schedule(now);
        }
    }

    /// Looks at agents again of which a quota held something back, if it gave way.
    fn wake(&mut self, now: Now) {
        if self.quotas.is_trying() {
            for agent in self.quotas.woken() {
                self.mark(now, agent);
            }
        }
    }

    fn mark_all(&mut self, now: Now) {
        if !self.candidates.is_empty() {
            self.marked.extend(&self.candidates);
            self.schedule(now);
        }
    }

    /// At once after a quiet time, else no sooner than `coalesce` after the pass before.
    fn schedule(&mut self, now: Now) {
        let coalesce = u64::try_from(self.config.coalesce.as_nanos()).unwrap_or(u64::MAX);
        let earliest = self.last_pass.map_or(0, |last| last.saturating_add(coalesce));
        self.due.get_or_insert(now.mono_ns.max(earliest));
    }

    fn unmark(&mut self, agent: AgentNo) {
        self.marked.remove(&agent);
        if self.marked.is_empty() {
            self.due = None;
        }
    }

    /// Whether the agent is a candidate, after its books, its state or the rule changed.
    fn reindex(&mut self, number: AgentNo) {
        if self.quotas.has_guarantees() {
            let agent = self.agents.get(&number).filter(|agent| agent.active);
            self.quotas.set_free(number, agent.map(Agent::left));
        }
        let is = self.agents.get(&number).is_some_and(|agent| self.is_candidate(agent));
        if is {
            self.candidates.insert(number);
        } else {
            self.candidates.remove(&number);
            self.unmark(number);
        }
    }

    fn is_candidate(&self, agent: &Agent) -> bool {
        if self.lenient > 0 {
            return agent.active && !agent.left().is_empty();
        }
        agent.active && pass::is_worth_an_offer(agent.left(), &self.config.min_allocatable)
    }

    /// Tells the tree whether the framework wants offers in the role; forgets the client when it
    /// neither is subscribed nor holds anything.
    fn settle(&mut self, framework: &FrameworkId, role: &str) {
        let known = self.frameworks.get(framework);
        let subscribed = known.is_some_and(|known| known.options.roles.contains(role));
        let willing = known.is_some_and(|known| known.wants_offers_in(role));
        let client = match self.tree.find(framework, role) {
            Some(client) => client,
            None if subscribed => self.tree.client(framework, role),
            None => return,
        };
        self.tree.set_willing(client, willing);
        if !subscribed && !self.spread.contains_key(&client) {
            self.filters.forget_client(client);
            self.tree.prune(client);
        }
    }

    fn settle_all(&mut self, framework: &FrameworkId) {
        let known = self.frameworks.get(framework);
        let roles = known.map(|known| known.options.roles.clone()).unwrap_or_default();
        for role in &roles {
            self.settle(framework, role);
        }
    }

    fn forget_filters<'a>(
        &mut self,
        framework: &FrameworkId,
        roles: impl IntoIterator<Item = &'a String>,
    ) {
        for role in roles {
            if let Some(client) = self.tree.find(framework, role) {
                self.filters.forget_client(client);
            }
        }
    }

    fn set_options(&mut self, framework: &FrameworkId, options: FrameworkOptions, active: bool) {
        let lenient = !options.min_allocatable.is_empty();
        let entry = Framework { options, active };
        let before = self.frameworks.insert(framework.clone(), entry);
        let roles = before.map(|before| {
            self.change_leniency(!before.options.min_allocatable.is_empty(), false);
            before.options.roles
        });
        self.change_leniency(false, lenient);
        self.settle_all(framework);
        for role in roles.unwrap_or_default() {
            let left =
                self.frameworks.get(framework).is_none_or(|f| !f.options.roles.contains(&role));
            if left {
                self.forget_filters(framework, [&role]);
                self.settle(framework, &role);
            }
        }
    }

    fn change_leniency(&mut self, before: bool, after: bool) {
        let was = self.lenient > 0;
        self.lenient = self.lenient + u64::from(after) - u64::from(before);
        if was != (self.lenient > 0) {
            let all = Vec::from_iter(self.agents.keys().copied());
            for agent in all {
                self.reindex(agent);
            }
        }
    }

    /// Books something as held by the client, without asking whether it is there.
    fn hold(&mut self, framework: &FrameworkId, role: &str, number: AgentNo, what: &Resources) {
        if what.is_empty() {
            return;
        }
        let client = self.tree.client(framework, role);
        let Some(agent) = self.agents.get_mut(&number) else { return };
        let more = agent.counted(client, what);
        if agent.take(client, what) {
            *self.spread.entry(client).or_default() += 1;
        }
        self.tree.charge(client, &more);
        self.quotas.charge(role, what);
        self.reindex(number);
    }

    /// The client holds nothing on one agent more.
    fn leave(&mut self, client: NodeId) {
        if let Some(agents) = self.spread.get_mut(&client) {
            *agents -= 1;
            if *agents == 0 {
                self.spread.remove(&client);
            }
        }
        if let Some(who) = self.tree.who(client).cloned() {
            self.settle(&who.framework, &who.role);
        }
    }

    fn give_back(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        number: AgentNo,
        what: &Resources,
        refused_until: Option<u64>,
    ) -> Option<()> {
        let client = self.tree.find(framework, role)?;
        let agent = self.agents.get_mut(&number)?;
        let last = agent.give_back(client, what)?;
        let less = agent.counted(client, what);
        self.tree.discharge(client, &less);
        self.quotas.discharge(role, what);
        if let Some(until) = refused_until
            && let Some(known) = self.frameworks.get(framework)
            && known.active
            && known.options.roles.contains(role)
        {
            self.filters.refuse(client, number, what.clone(), until);
        }
        if last {
            self.leave(client);
        }
        self.reindex(number);
        Some(())
    }
}

impl Allocator for DrfAllocator {
    fn add_framework(&mut self, now: Now, framework: &FrameworkId, options: FrameworkOptions) {
        self.set_options(framework, options, true);
        self.mark_all(now);
    }

    fn update_framework(&mut self, now: Now, framework: &FrameworkId, options: FrameworkOptions) {
        let Some(known) = self.frameworks.get(framework) else { return };
        let active = known.active;
        self.set_options(framework, options, active);
        if active {
            self.mark_all(now);
        }
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        let Some(known) = self.frameworks.remove(framework) else { return };
        self.change_leniency(!known.options.min_allocatable.is_empty(), false);
        self.forget_filters(framework, &known.options.roles);
        for role in &known.options.roles {
            self.settle(framework, role);
        }
    }

    fn activate_framework(&mut self, now: Now, framework: &FrameworkId) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        if !std::mem::replace(&mut known.active, true) {
            self.settle_all(framework);
            self.mark_all(now);
        }
    }

    fn deactivate_framework(&mut self, framework: &FrameworkId) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        known.active = false;
        let roles = known.options.roles.clone();
        self.forget_filters(framework, &roles);
        self.settle_all(framework);
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[String]) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let roles = known.named(roles);
        known.options.suppressed.extend(roles);
        self.settle_all(framework);
    }

    fn revive(&mut self, now: Now, framework: &FrameworkId, roles: &[String]) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let roles = known.named(roles);
        known.options.suppressed.retain(|role| !roles.contains(role));
        let active = known.active;
        self.forget_filters(framework, &roles);
        self.settle_all(framework);
        if active {
            self.mark_all(now);
        }
    }

    fn add_agent(
        &mut self,
        now: Now,
        agent: &AgentId,
        total: Resources,
        used: BTreeMap<(FrameworkId, String), Resources>,
        options: AgentOptions,
    ) {
        self.remove_agent(agent);
        let number = AgentNo(self.next_agent);
        self.next_agent += 1;
        let total = total.unallocated();
        self.tree.grow(&total.quantities());
        self.quotas.reserve(&total);
        self.agents.insert(number, Agent::new(agent.clone(), total, options));
        self.numbers.insert(agent.clone(), number);
        self.reindex(number);
        for ((framework, role), resources) in used {
            if is_on(Bug::AllocatorForgetsUse) {
                continue;
            }
            self.hold(&framework, &role, number, &resources.unallocated());
        }
        self.mark(now, number);
        self.wake(now);
    }

    fn update_agent(&mut self, now: Now, agent: &AgentId, total: Resources) {
        let Some(number) = self.numbers.get(agent).copied() else { return };
        let Some(known) = self.agents.get_mut(&number) else { return };
        let total = total.unallocated();
        let before = known.total().quantities();
        let after = total.quantities();
        let (reserved_before, reserved_after) = (known.total().clone(), total.clone());
        known.set_total(total);
        self.tree.shrink(&before);
        self.tree.grow(&after);
        self.quotas.unreserve(&reserved_before);
        self.quotas.reserve(&reserved_after);
        self.reindex(number);
        self.mark(now, number);
        self.wake(now);
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        self.quotas.settle(agent);
        let Some(number) = self.numbers.swap_remove(agent) else {
            return self.wake(Now::default());
        };
        self.filters.forget_agent(number);
        self.quotas.forget_agent(number);
        let Some(gone) = self.agents.remove(&number) else { return };
        self.reindex(number);
        self.tree.shrink(&gone.total().quantities());
        self.quotas.unreserve(gone.total());
        for (client, resources) in gone.held() {
            if let Some(who) = self.tree.who(*client) {
                self.quotas.discharge(&who.role, resources);
            }
            self.tree.discharge(*client, &resources.quantities());
            self.leave(*client);
        }
        // What it held counts against nobody now. A time that is past is at once.
        self.wake(Now::default());
    }

    fn activate_agent(&mut self, now: Now, agent: &AgentId) {
        let Some(number) = self.numbers.get(agent).copied() else { return };
        if let Some(known) = self.agents.get_mut(&number) {
            known.active = true;
        }
        self.reindex(number);
        self.mark(now, number);
        self.wake(now);
    }

    fn deactivate_agent(&mut self, agent: &AgentId) {
        let Some(number) = self.numbers.get(agent).copied() else { return };
        if let Some(known) = self.agents.get_mut(&number) {
            known.active = false;
        }
        self.reindex(number);
    }

    fn set_weight(&mut self, now: Now, role: &str, weight: f64) {
        if let Some(weight) = Weight::from_f64(weight) {
            self.tree.set_weight(role, weight);
            self.mark_all(now);
        }
    }

    fn set_quota(&mut self, now: Now, role: &str, quota: Quota) {
        let had_guarantees = self.quotas.has_guarantees();
        self.quotas.set(role, quota, books(&self.agents, &self.tree));
        match (had_guarantees, self.quotas.has_guarantees()) {
            (true, false) => self.quotas.forget_free(),
            (false, true) => {
                for (number, agent) in &self.agents {
                    let left = agent.active.then(|| agent.left());
                    self.quotas.set_free(*number, left);
                }
            }
            _ => {}
        }
        self.mark_all(now);
    }

    fn await_agent(
        &mut self,
        agent: &AgentId,
        total: Resources,
        used: BTreeMap<String, Resources>,
    ) {
        if self.numbers.contains_key(agent) {
            return;
        }
        let used = used.into_iter().map(|(role, used)| (role, used.unallocated())).collect();
        self.quotas.wait_for(agent.clone(), total.unallocated(), used);
    }

    fn charge(&mut self, framework: &FrameworkId, agent: &AgentId, resources: &Resources) {
        let Some(number) = self.numbers.get(agent).copied() else { return };
        for (role, part) in by_role(resources) {
            self.hold(framework, &role, number, &part);
        }
    }

    fn recover(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
        refuse: Option<Duration>,
    ) {
        let Some(number) = self.numbers.get(agent).copied() else { return };
        let mut until =
            refuse.map(|asked| now.plus(asked.max(self.config.pause).min(MAXIMUM_REFUSAL)));
        if is_on(Bug::AllocatorKeepsFilters) {
            until = until.map(|_| u64::MAX);
        }
        for (role, part) in by_role(resources) {
            if self.give_back(framework, &role, number, &part, until).is_none() {
                self.fault.get_or_insert_with(|| Violation {
                    name: "recovered-was-allocated",
                    detail: format!("{framework} does not hold {part} of {agent} in role {role}"),
                });
            }
        }
        self.mark(now, number);
        self.wake(now);
    }

    fn convert_allocated(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        self.convert_held(now, framework, agent, steps)
    }

    fn convert_available(
        &mut self,
        now: Now,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        self.convert_left(now, agent, steps)
    }

    fn offer_ended(&mut self, now: Now, agent: &AgentId, resources: &Resources) {
        self.return_lent(now, agent, resources);
    }

    fn allocate(&mut self, now: Now) -> Vec<Allocation> {
        self.pass(now)
    }

    fn poll_timeout(&self) -> Option<u64> {
        [self.due, self.filters.next_end()].into_iter().flatten().min()
    }

    fn check_invariants(&self) -> Result<(), Violation> {
        self.check()
    }
}

/// What each agent has, and what is held on it, by role.
fn books<'a>(
    agents: &'a BTreeMap<AgentNo, Agent>,
    tree: &'a RoleTree,
) -> impl Iterator<Item = (&'a Resources, Vec<(String, &'a Resources)>)> + Clone {
    agents.values().map(|agent| {
        let held = agent.held().iter();
        let held = held.filter_map(|(client, held)| Some((tree.who(*client)?.role.clone(), held)));
        (agent.total(), held.collect())
    })
}

/// The resources by allocation role, without it. Those that carry none count for the role `*`.
fn by_role(resources: &Resources) -> BTreeMap<String, Resources> {
    let roles = resources.allocation_roles();
    let of = |role: Option<&str>| {
        let part = resources.filter(|resource| resource.allocation_role.as_deref() == role);
        (role.unwrap_or(UNRESERVED_ROLE).to_owned(), part.unallocated())
    };
    let mut parts: BTreeMap<String, Resources> = roles.iter().map(|role| of(Some(role))).collect();
    let (role, rest) = of(None);
    if !rest.is_empty() {
        *parts.entry(role).or_default() += rest;
    }
    parts
}
