//! Quotas of top-level roles: what a role may have at most, and what is kept free for it.
//!
//! A role consumes what is reserved for it or for a role below it, used or not, and what its subtree
//! holds of the rest; revocable resources do not count (Mesos: `consumedQuota`). Two rules bound
//! what one more offer may hold of a resource that is neither reserved nor revocable:
//!
//! - **Limit**: no more than what is left of the role's limit.
//! - **Headroom**: what is free on all active agents must go on covering every guarantee that is
//!   not met. A role may always have what its own guarantee lacks.
//!
//! An agent of which a rule held something back is remembered with that rule. When the rule gives
//! way, those agents are looked at again, a few in each pass.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_types::{
    AgentId, DiskKind, Quantities, Resource, ResourceName, Resources, Scalar, Value,
};

use super::agents::AgentNo;
use super::check::require;
use super::share::Tally;
use crate::{Quota, Violation};

/// Agents that one pass takes up of those that a rule held back: what came free is rarely enough for
/// more, and a pass stays short.
const WOKEN_PER_PASS: usize = 64;

/// The part of a role's path that quotas are set on.
pub(super) fn top(role: &str) -> &str {
    role.split('/').next().unwrap_or(role)
}

/// See the module.
#[derive(Default)]
pub(super) struct Quotas {
    books: BTreeMap<String, Book>,
    awaited: BTreeMap<AgentId, Awaited>,
    /// What is free on each active agent, while somebody has a guarantee.
    free_on: BTreeMap<AgentNo, Quantities>,
    /// The sum of `free_on`.
    free: Tally,
    headroom: Withheld,
}

/// A role with a quota.
#[derive(Default)]
struct Book {
    quota: Quota,
    consumed: Tally,
    withheld: Withheld,
}

impl Book {
    /// What the guarantee lacks.
    fn unmet(&self, name: &ResourceName) -> i64 {
        let guaranteed = self.quota.guarantees.get(name).thousandths();
        guaranteed.saturating_sub(self.consumed.get(name)).max(0)
    }

    fn is_unmet(&self) -> bool {
        self.quota.guarantees.iter().any(|(name, _)| self.unmet(name) > 0)
    }

    /// What is left of the limit; `None` where there is none.
    fn left(&self, name: &ResourceName) -> Option<i64> {
        let limit = self.quota.limits.get(name)?.thousandths();
        Some(limit.saturating_sub(self.consumed.get(name)).max(0))
    }
}

/// An agent that a new leader knows from before and that did not come back yet.
struct Awaited {
    total: Resources,
    used: BTreeMap<String, Resources>,
}

/// The agents of which one rule held something back.
#[derive(Default)]
struct Withheld {
    agents: BTreeSet<AgentNo>,
    /// The rule gave way: agents after this one are still to be looked at.
    trying: Option<AgentNo>,
}

impl Withheld {
    fn give_way(&mut self) {
        if !self.agents.is_empty() {
            self.trying = Some(AgentNo::FIRST);
        }
    }

    /// The next agents to look at; empty once each had its turn.
    fn next(&mut self) -> Vec<AgentNo> {
        let Some(from) = self.trying else { return Vec::new() };
        let some = Vec::from_iter(self.agents.range(from..).take(WOKEN_PER_PASS).copied());
        for agent in &some {
            self.agents.remove(agent);
        }
        self.trying = some.last().map(|last| AgentNo(last.0.saturating_add(1)));
        some
    }
}

/// What is left of an agent's eligible part, and whose rule took the rest.
pub(super) struct Chopped {
    pub(super) resources: Resources,
    pub(super) by_limit: bool,
    pub(super) by_headroom: bool,
}

impl Quotas {
    pub(super) fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    /// Replaces the quota of a role. `held` is what each agent's holders have, by role, and `totals`
    /// what the agents have: needed where the role had no quota before.
    pub(super) fn set<'a>(
        &mut self,
        role: &str,
        quota: Quota,
        agents: impl Iterator<Item = (&'a Resources, Vec<(String, &'a Resources)>)>,
    ) {
        if quota == Quota::default() {
            self.books.remove(role);
            return;
        }
        if let Some(book) = self.books.get_mut(role) {
            book.quota = quota;
            return;
        }
        let mut consumed = Tally::default();
        let mut reserved = |total: &Resources| {
            for resource in total.iter().filter(|r| reserved_below(r).is_some_and(|r| r == role)) {
                consumed.add(&Resources::from(resource.clone()).quantities());
            }
        };
        let agents = Vec::from_iter(agents);
        agents.iter().for_each(|(total, _)| reserved(total));
        self.awaited.values().for_each(|awaited| reserved(&awaited.total));
        let held = agents.iter().flat_map(|(_, held)| held.iter().map(|(r, held)| (r, *held)));
        let awaited = self.awaited.values().flat_map(|awaited| &awaited.used);
        for (_, held) in held.chain(awaited).filter(|(holder, _)| top(holder) == role) {
            consumed.add(&open(held));
        }
        self.books.insert(role.to_owned(), Book { quota, consumed, ..Book::default() });
    }

    /// Somebody in the role got these resources.
    pub(super) fn charge(&mut self, role: &str, resources: &Resources) {
        if let Some(book) = self.books.get_mut(top(role)) {
            book.consumed.add(&open(resources));
        }
    }

    /// Somebody in the role gave them back: its limit leaves more, and its guarantee may lack more.
    pub(super) fn discharge(&mut self, role: &str, resources: &Resources) {
        if let Some(book) = self.books.get_mut(top(role)) {
            book.consumed.subtract(&open(resources));
            book.withheld.give_way();
            self.headroom.give_way();
        }
    }

    /// An agent with these resources came.
    pub(super) fn reserve(&mut self, total: &Resources) {
        self.each_reserved(total, |book, amount| book.consumed.add(amount));
        // Less may be owed.
        self.headroom.give_way();
    }

    /// It left, or they changed.
    pub(super) fn unreserve(&mut self, total: &Resources) {
        self.each_reserved(total, |book, amount| {
            book.consumed.subtract(amount);
            book.withheld.give_way();
        });
        self.headroom.give_way();
    }

    fn each_reserved(&mut self, total: &Resources, mut change: impl FnMut(&mut Book, &Quantities)) {
        if self.books.is_empty() {
            return;
        }
        for resource in total.iter() {
            let book = reserved_below(resource).and_then(|role| self.books.get_mut(role));
            if let Some(book) = book {
                change(book, &Resources::from(resource.clone()).quantities());
            }
        }
    }

    /// An agent of before counts as it was when it was last heard of.
    pub(super) fn wait_for(
        &mut self,
        agent: AgentId,
        total: Resources,
        used: BTreeMap<String, Resources>,
    ) {
        self.settle(&agent);
        self.reserve(&total);
        for (role, resources) in &used {
            self.charge(role, resources);
        }
        self.headroom.give_way();
        self.awaited.insert(agent, Awaited { total, used });
    }

    /// It came back, or will not.
    pub(super) fn settle(&mut self, agent: &AgentId) {
        let Some(Awaited { total, used }) = self.awaited.remove(agent) else { return };
        self.unreserve(&total);
        for (role, resources) in &used {
            self.discharge(role, resources);
        }
    }

    /// Whether what is free has to be known.
    pub(super) fn has_guarantees(&self) -> bool {
        self.books.values().any(|book| !book.quota.guarantees.is_empty())
    }

    /// What is left of the agent now, if it is active.
    pub(super) fn set_free(&mut self, agent: AgentNo, left: Option<&Resources>) {
        let before = self.free_on.remove(&agent).unwrap_or_default();
        let after = left.map(open).unwrap_or_default();
        self.free.subtract(&before);
        self.free.add(&after);
        if !before.contains(&after) {
            self.headroom.give_way();
        }
        if !after.is_empty() {
            self.free_on.insert(agent, after);
        }
    }

    /// Nobody has a guarantee.
    pub(super) fn forget_free(&mut self) {
        self.free_on.clear();
        self.free = Tally::default();
        self.headroom = Withheld::default();
    }

    /// Whether the role's guarantee is not met: it is served before others then.
    pub(super) fn is_unmet(&self, role: &str) -> bool {
        self.books.get(top(role)).is_some_and(Book::is_unmet)
    }

    pub(super) fn any_unmet(&self) -> bool {
        self.books.values().any(Book::is_unmet)
    }

    /// What the rules let the role have of these resources.
    pub(super) fn chop(&self, role: &str, resources: &Resources) -> Chopped {
        let book = self.books.get(top(role));
        let mut taken = Tally::default();
        let mut chopped =
            Chopped { resources: Resources::default(), by_limit: false, by_headroom: false };
        for resource in resources.iter() {
            let Value::Scalar(amount) = resource.value else {
                chopped.resources.insert(resource.clone());
                continue;
            };
            if !is_open(resource) {
                chopped.resources.insert(resource.clone());
                continue;
            }
            let name = &resource.name;
            let already = taken.get(name);
            let amount = amount.thousandths();
            let by_limit = book.and_then(|book| book.left(name)).map(|left| left - already);
            let by_headroom = self.spare(book, name).map(|spare| spare - already);
            let room = by_limit.unwrap_or(amount).min(by_headroom.unwrap_or(amount)).min(amount);
            chopped.by_limit |= by_limit.is_some_and(|left| left < amount);
            chopped.by_headroom |= by_headroom.is_some_and(|spare| spare < amount);
            let room = if room < amount && is_whole(resource) { 0 } else { room.max(0) };
            if room > 0 {
                let room = Scalar::from_thousandths(room);
                let part = Resource { value: Value::Scalar(room), ..resource.clone() };
                taken.add(&Quantities::from_iter([(name.clone(), room)]));
                chopped.resources.insert(part);
            }
        }
        chopped
    }

    /// What is free beyond all guarantees that are not met, and what the own one lacks; `None` where
    /// nobody waits for any.
    fn spare(&self, own: Option<&Book>, name: &ResourceName) -> Option<i64> {
        let required = self.books.values().map(|book| book.unmet(name));
        let required = required.fold(0i64, i64::saturating_add);
        if required == 0 {
            return None;
        }
        let own = own.map_or(0, |book| book.unmet(name));
        Some(self.free.get(name).saturating_sub(required).max(0).saturating_add(own))
    }

    /// Something of the agent was held back from the role.
    pub(super) fn withhold(&mut self, role: &str, agent: AgentNo, chopped: &Chopped) {
        if chopped.by_headroom {
            self.headroom.agents.insert(agent);
        }
        if chopped.by_limit
            && let Some(book) = self.books.get_mut(top(role))
        {
            book.withheld.agents.insert(agent);
        }
    }

    pub(super) fn forget_agent(&mut self, agent: AgentNo) {
        self.headroom.agents.remove(&agent);
        for book in self.books.values_mut() {
            book.withheld.agents.remove(&agent);
        }
    }

    /// Agents to look at again because a rule gave way.
    pub(super) fn woken(&mut self) -> Vec<AgentNo> {
        let mut woken = self.headroom.next();
        for book in self.books.values_mut() {
            woken.extend(book.withheld.next());
        }
        woken
    }

    /// Whether [`Self::woken`] has more.
    pub(super) fn is_trying(&self) -> bool {
        self.headroom.trying.is_some()
            || self.books.values().any(|book| book.withheld.trying.is_some())
    }

    /// The books say what a count from the beginning says.
    pub(super) fn check<'a>(
        &self,
        agents: impl Iterator<Item = (&'a Resources, Vec<(String, &'a Resources)>)> + Clone,
        free: &Tally,
    ) -> Result<(), Violation> {
        for (role, book) in &self.books {
            let mut fresh = Quotas::default();
            for (agent, awaited) in &self.awaited {
                let Awaited { total, used } = awaited;
                fresh.wait_for(agent.clone(), total.clone(), used.clone());
            }
            fresh.set(role, book.quota.clone(), agents.clone());
            let counted = fresh.books.get(role).map(|book| &book.consumed);
            require(counted == Some(&book.consumed), "quota-consumption-is-the-sum", || {
                format!("`{role}` consumes {counted:?}, its book says {:?}", book.consumed)
            })?;
        }
        require(!self.has_guarantees() || self.free == *free, "headroom-is-the-sum", || {
            format!("{free:?} is free, {:?} is counted", self.free)
        })
    }
}

/// Neither reserved nor revocable: what quotas are about.
fn is_open(resource: &Resource) -> bool {
    resource.reservations.is_empty() && !resource.revocable
}

/// The open part, in amounts.
pub(super) fn open(resources: &Resources) -> Quantities {
    resources.filter(is_open).quantities()
}

/// The top-level role that the reservation counts for.
fn reserved_below(resource: &Resource) -> Option<&str> {
    resource.reservation_role().filter(|_| !resource.revocable).map(top)
}

/// Given out whole or not at all.
fn is_whole(resource: &Resource) -> bool {
    let disk = resource.disk.as_ref();
    disk.is_some_and(|disk| {
        disk.persistence.is_some()
            || disk.source.as_ref().is_some_and(|source| source.kind != DiskKind::Path)
    })
}
