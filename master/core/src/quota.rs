//! Quotas of roles: limits that offers keep to, and guarantees that are kept free.

use std::collections::BTreeMap;

use mezzo_master_allocator::Quota;
use mezzo_proto::storage::v1::PutQuotas;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::v1::quota::{QuotaConfig, QuotaRequest};
use mezzo_types::{
    Now, OfferId, Quantities, ResourceName, Resources, Scalar, is_same_or_subrole,
    is_strict_subrole,
};

use crate::effect::{Refusal, ViewChange};
use crate::master::Master;
use crate::order::Outcome;
use crate::registry::{Registry, is_no_quota};
use crate::validation;

impl Master {
    /// UPDATE_QUOTA, by the rules of Mesos 1.11 (`src/master/quota_handler.cpp`).
    pub(crate) fn update_quotas(
        &mut self,
        now: Now,
        quotas: Vec<QuotaConfig>,
        force: bool,
    ) -> Outcome {
        for quota in &quotas {
            validation::quota_config(quota).map_err(Refusal::BadRequest)?;
        }
        if !force {
            for quota in &quotas {
                self.check_consumption(quota)?;
            }
            self.check_capacity(&quotas).map_err(|over| {
                Refusal::BadRequest(format!(
                    "quota_configs: {over}: give 'force' to set it all the same"
                ))
            })?;
        }
        Ok(self.put_quotas(now, quotas))
    }

    /// SET_QUOTA: the role must have none.
    pub(crate) fn set_quota(&mut self, now: Now, request: QuotaRequest) -> Outcome {
        let quota = validation::quota_request(&request).map_err(Refusal::BadRequest)?;
        if self.quotas.contains_key(&quota.role) {
            return Err(Refusal::BadRequest(format!(
                "role '{}' has a quota already: change it with UPDATE_QUOTA, or remove it first",
                quota.role
            )));
        }
        if !request.force.unwrap_or(false) {
            // A conflict, where UPDATE_QUOTA is a bad request: both as with Mesos.
            self.check_capacity(std::slice::from_ref(&quota)).map_err(|over| {
                Refusal::Conflict(format!("{over}: give 'force' to set it all the same"))
            })?;
        }
        Ok(self.put_quotas(now, vec![quota]))
    }

    /// REMOVE_QUOTA.
    pub(crate) fn remove_quota(&mut self, now: Now, role: &str) -> Outcome {
        mezzo_types::validate_role(role).map_err(|error| {
            Refusal::BadRequest(format!("remove_quota.role '{role}' is invalid: {error}"))
        })?;
        if !self.quotas.contains_key(role) {
            return Err(Refusal::BadRequest(format!(
                "role '{role}' has no quota to remove: GET_QUOTA lists those that have one"
            )));
        }
        let none = QuotaConfig { role: role.to_owned(), ..QuotaConfig::default() };
        Ok(self.put_quotas(now, vec![none]))
    }

    /// A limit below what the role consumes could only be kept by ending its tasks, which is for
    /// somebody else to do.
    fn check_consumption(&self, quota: &QuotaConfig) -> Result<(), Refusal> {
        if quota.limits.is_empty() {
            return Ok(());
        }
        let consumed = self.quota_consumption(&quota.role);
        for (name, limit) in &of(quota).limits {
            let consumed = consumed.get(name);
            if consumed > *limit {
                return Err(Refusal::BadRequest(format!(
                    "quota_configs: role '{}' consumes {name}:{consumed} already, more than its limit \
                     {name}:{limit}: give 'force' to set it all the same",
                    quota.role
                )));
            }
        }
        Ok(())
    }

    /// Reserved for the role or one below it, used or not, and used by its subtree of the rest. What
    /// is offered does not count. Looks at every task and agent: an operator asks rarely.
    fn quota_consumption(&self, role: &str) -> Quantities {
        let mut consumed = Quantities::new();
        let present = |agent: &&crate::agent::Agent| agent.unreachable_since_unix_ns.is_none();
        for agent in self.agents.values().map(|agent| &**agent).filter(present) {
            let reserved = agent.total.filter(|resource| {
                let holder = resource.reservation_role();
                !resource.revocable && holder.is_some_and(|holder| is_same_or_subrole(holder, role))
            });
            consumed.add_all(&reserved.quantities());
        }
        for framework in self.frameworks.values() {
            let holding = framework.tasks.values().filter(|task| task.holds_resources);
            for task in holding.filter(|task| is_same_or_subrole(&task.role, role)) {
                consumed.add_all(&task.resources.unreserved().non_revocable().quantities());
            }
        }
        consumed
    }

    /// All guarantees together must fit into the cluster.
    fn check_capacity(&self, changed: &[QuotaConfig]) -> Result<(), String> {
        let mut guaranteed = Quantities::new();
        let kept = self.quotas.values().filter(|q| !changed.iter().any(|c| c.role == q.role));
        for quota in kept.chain(changed) {
            guaranteed.add_all(&of(quota).guarantees);
        }
        let mut capacity = Quantities::new();
        // Those that are away for a moment count, those that are given up do not.
        for agent in self.agents.values().filter(|a| a.unreachable_since_unix_ns.is_none()) {
            capacity.add_all(&agent.total.non_revocable().quantities());
        }
        for (name, amount) in guaranteed.iter() {
            if amount > capacity.get(name) {
                return Err(format!(
                    "the guarantees of all roles come to {name}:{amount}, but the cluster has \
                     {name}:{}",
                    capacity.get(name)
                ));
            }
        }
        Ok(())
    }

    fn put_quotas(&mut self, now: Now, quotas: Vec<QuotaConfig>) -> mezzo_types::Position {
        let first = self.quotas.is_empty();
        let put = PutQuotas { quotas: quotas.clone() };
        let position = self.persist(CommandKind::PutQuotas(put));
        if first {
            self.count_the_away();
        }
        for quota in quotas {
            self.allocator.set_quota(now, &quota.role, of(&quota));
            self.rescind_for_quota(now, &quota);
            if is_no_quota(&quota) {
                self.quotas.remove(&quota.role);
            } else {
                self.quotas.insert(quota.role.clone(), quota);
            }
        }
        self.view(ViewChange::Quotas(self.quotas.clone()));
        position
    }

    /// Takes offers back that the new quota would not allow, or that its guarantee wants. As in Mesos
    /// rather a few too many: they are given out again at once, by the new rules.
    fn rescind_for_quota(&mut self, now: Now, quota: &QuotaConfig) {
        let Quota { guarantees, limits } = of(quota);
        let within = |role: &str| role == quota.role || is_strict_subrole(role, &quota.role);
        let mut own = Quantities::new();
        let mut own_offers: Vec<OfferId> = Vec::new();
        let mut others: Vec<(OfferId, Quantities)> = Vec::new();
        for (id, offer) in &self.offers {
            let open = offer.resources.unreserved().non_revocable().quantities();
            if within(&offer.role) {
                own.add_all(&open);
                own_offers.push(id.clone());
            } else {
                others.push((id.clone(), open));
            }
        }
        let mut has = self.quota_consumption(&quota.role);
        has.add_all(&own);
        if limits.iter().any(|(name, limit)| has.get(name) > *limit) {
            for offer in own_offers {
                self.rescind_offer(now, &offer);
            }
        }
        for (offer, open) in others {
            if has.contains(&guarantees) {
                break;
            }
            has.add_all(&open);
            self.rescind_offer(now, &offer);
        }
    }

    /// Agents that did not come back yet consume quota, as far as the ledger knows.
    fn count_the_away(&mut self) {
        for id in &self.recovered {
            let Some(agent) = self.agents.get(id) else { continue };
            let mut used: BTreeMap<String, Resources> = BTreeMap::new();
            for (framework, task) in &agent.tasks {
                let task = self.frameworks.get(framework).and_then(|f| f.tasks.get(task));
                let Some(task) = task.filter(|task| task.holds_resources) else { continue };
                *used.entry(task.role.clone()).or_default() += &task.resources;
            }
            self.allocator.await_agent(id, agent.total.clone(), used);
        }
    }

    pub(crate) fn recover_quotas(&mut self, now: Now, registry: &Registry) {
        self.quotas = registry.quotas.clone();
        for (role, quota) in &registry.quotas {
            self.allocator.set_quota(now, role, of(quota));
        }
        if !self.quotas.is_empty() {
            self.count_the_away();
        }
        self.view(ViewChange::Quotas(self.quotas.clone()));
    }
}

/// As the allocator takes it. What is no amount was refused before it got here.
fn of(quota: &QuotaConfig) -> Quota {
    let amount = |(name, scalar): (&String, &mezzo_proto::v1::value::Scalar)| {
        let amount = Scalar::from_f64(scalar.value).unwrap_or(Scalar::MAX);
        (ResourceName::from(name.as_str()), amount)
    };
    Quota {
        guarantees: quota.guarantees.iter().map(amount).collect(),
        limits: quota.limits.iter().map(amount).collect(),
    }
}
