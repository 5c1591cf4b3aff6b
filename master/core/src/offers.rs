//! Offers: made from allocations, taken back when something they rest on goes.

use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_master_allocator::{Allocation, MAXIMUM_REFUSAL};
use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability::Type as Capability;
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_types::{AgentId, FrameworkId, Now, OfferId, Position, Resources};
use prost::Message;

use crate::effect::{OfferNews, ViewChange};
use crate::framework::has_capability;
use crate::master::Master;
use crate::timers::Timer;

/// An outstanding offer.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) framework: FrameworkId,
    pub(crate) agent: AgentId,
    pub(crate) role: String,
    /// Allocated to `role`.
    pub(crate) resources: Resources,
    /// When it is taken back.
    pub(crate) due_ns: Option<u64>,
}

/// How long a refused resource is not offered again unless the filter says otherwise (Mesos).
const DEFAULT_REFUSE: Duration = Duration::from_secs(5);

/// What `Filters.refuse_seconds` means: absent or nonsense 5 s, at most a year; zero is no filter.
pub(crate) fn refuse_duration(filters: Option<&v1::Filters>) -> Duration {
    let Some(seconds) = filters.and_then(|f| f.refuse_seconds) else {
        return DEFAULT_REFUSE;
    };
    if seconds.is_nan() || seconds < 0.0 {
        return DEFAULT_REFUSE;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(MAXIMUM_REFUSAL).min(MAXIMUM_REFUSAL)
}

impl Master {
    /// Turns what the allocator gave into offers; one OFFERS event per framework.
    pub(crate) fn make_offers(&mut self, now: Now, allocations: Vec<Allocation>) {
        // With what the offers rest on: an agent that a crash could take back is not offered.
        let mut by_framework: BTreeMap<FrameworkId, (Position, Vec<v1::Offer>)> = BTreeMap::new();
        for allocation in allocations {
            let unavailability = self.unavailability_of(&allocation.agent);
            let Some(agent) = self.agents.get_mut(&allocation.agent) else { continue };
            let Some(framework) = self.frameworks.get_mut(&allocation.framework) else { continue };
            let id = OfferId::from(format!("{}-O{}", self.config.master_info.id, self.next_offer));
            self.next_offer += 1;
            let offer = v1::Offer {
                id: (&id).into(),
                framework_id: (&allocation.framework).into(),
                agent_id: (&allocation.agent).into(),
                hostname: agent.info.hostname.clone(),
                url: Some(agent_url(&agent.info)),
                domain: agent.info.domain.clone(),
                resources: on_the_wire(&framework.info, &allocation.resources),
                attributes: agent.info.attributes.clone(),
                allocation_info: Some(v1::resource::AllocationInfo {
                    role: Some(allocation.role.clone()),
                }),
                executor_ids: agent
                    .executors_of(&allocation.framework)
                    .map(|(executor, _)| executor.into())
                    .collect(),
                unavailability,
            };
            if unavailability.is_some() {
                self.inverse_offers.look_at(&allocation.agent);
            }
            let due_ns = self.config.offer_timeout.map(|timeout| now.plus(timeout));
            if let Some(due) = due_ns {
                self.timers.set(due, Timer::OfferTimeout(id.clone()));
            }
            agent.offers.insert(id.clone());
            framework.offers.insert(id.clone());
            let (after, offers) = by_framework.entry(allocation.framework.clone()).or_default();
            *after = agent.admitted.max(*after);
            let news = OfferNews {
                id: id.clone(),
                framework: allocation.framework.clone(),
                agent: allocation.agent.clone(),
                resources: allocation.resources.clone(),
                encoded: offer.encode_to_vec().into(),
            };
            offers.push(offer);
            self.offers.insert(
                id,
                Offer {
                    framework: allocation.framework,
                    agent: allocation.agent,
                    role: allocation.role,
                    resources: allocation.resources,
                    due_ns,
                },
            );
            self.statistics.offers_sent += 1;
            if let Some(counts) = self.statistics.framework(&framework.id) {
                counts.offers_sent.add(1);
            }
            self.view(ViewChange::Offer(news));
        }
        for (id, (after, offers)) in by_framework {
            let Some(stream) = self.frameworks.get(&id).and_then(|f| f.stream) else { continue };
            let event = Event {
                r#type: Some(event::Type::Offers as i32),
                offers: Some(event::Offers { offers }),
                ..Event::default()
            };
            self.send_event(stream, event, after);
        }
    }

    /// Forgets an offer; what becomes of its resources is the caller's business.
    pub(crate) fn take_offer(&mut self, now: Now, id: &OfferId) -> Option<Offer> {
        let offer = self.offers.swap_remove(id)?;
        self.allocator.offer_ended(now, &offer.agent, &offer.resources);
        if let Some(due) = offer.due_ns {
            self.timers.cancel(due, Timer::OfferTimeout(id.clone()));
        }
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.offers.remove(id);
        }
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.remove(id);
        }
        self.view(ViewChange::OfferRemoved(id.clone()));
        Some(offer)
    }

    /// RESCIND to the framework that has the offer.
    pub(crate) fn rescind_offer(&mut self, now: Now, id: &OfferId) {
        let Some(offer) = self.take_offer(now, id) else { return };
        self.statistics.offers_rescinded += 1;
        if let Some(counts) = self.statistics.framework(&offer.framework) {
            counts.offers_rescinded.add(1);
        }
        self.allocator.recover(now, &offer.framework, &offer.agent, &offer.resources, None);
        let stream = self.frameworks.get(&offer.framework).and_then(|f| f.stream);
        let Some(stream) = stream else { return };
        let event = Event {
            r#type: Some(event::Type::Rescind as i32),
            rescind: Some(event::Rescind { offer_id: id.into() }),
            ..Event::default()
        };
        self.send_event(stream, event, Position(0));
    }

    /// DECLINE, or an ACCEPT without operations.
    pub(crate) fn decline(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        offers: &[v1::OfferId],
        filters: Option<&v1::Filters>,
    ) {
        let refuse = refuse_duration(filters);
        for id in offers {
            let id = OfferId::from(id);
            if self.offers.get(&id).is_none_or(|offer| offer.framework != *framework) {
                continue;
            }
            if let Some(offer) = self.take_offer(now, &id) {
                self.statistics.offers_declined += 1;
                if let Some(counts) = self.statistics.framework(framework) {
                    counts.offers_declined.add(1);
                }
                self.allocator.recover(
                    now,
                    framework,
                    &offer.agent,
                    &offer.resources,
                    Some(refuse),
                );
            }
        }
    }

    /// The framework went away: nothing need be told.
    pub(crate) fn remove_offers_of_framework(&mut self, now: Now, id: &FrameworkId) {
        let offers: Vec<OfferId> = match self.frameworks.get(id) {
            Some(framework) => framework.offers.iter().cloned().collect(),
            None => return,
        };
        for id in offers {
            if let Some(offer) = self.take_offer(now, &id) {
                self.allocator.recover(now, &offer.framework, &offer.agent, &offer.resources, None);
            }
        }
    }

    /// RESCIND of what was offered to roles in which the framework is no longer.
    pub(crate) fn rescind_offers_of_left_roles(&mut self, now: Now, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let left = |offer: &OfferId| {
            self.offers.get(offer).is_some_and(|offer| !framework.roles.contains(&offer.role))
        };
        let offers: Vec<OfferId> = framework.offers.iter().filter(|id| left(id)).cloned().collect();
        for id in offers {
            self.rescind_offer(now, &id);
        }
    }

    /// The agent went away: RESCIND to every framework that has an offer of it.
    pub(crate) fn rescind_offers_of_agent(&mut self, now: Now, id: &AgentId) {
        let offers: Vec<OfferId> = match self.agents.get(id) {
            Some(agent) => agent.offers.iter().cloned().collect(),
            None => return,
        };
        for id in offers {
            self.rescind_offer(now, &id);
        }
    }

    /// Nobody answered the offer for as long as an operator lets it be out.
    pub(crate) fn offer_timeout(&mut self, now: Now, id: &OfferId) {
        self.rescind_offer(now, id);
    }
}

/// Resources in the format that the framework understands: without RESERVATION_REFINEMENT that is
/// Mesos' old one, with `role` (`*` where nothing is reserved).
fn on_the_wire(info: &v1::FrameworkInfo, resources: &Resources) -> Vec<v1::Resource> {
    if has_capability(info, Capability::ReservationRefinement) {
        return resources.to_proto();
    }
    resources.to_proto_unrefined().unwrap_or_else(|| resources.to_proto())
}

/// Where an agent serves its API.
pub(crate) fn agent_url(info: &v1::AgentInfo) -> v1::Url {
    v1::Url {
        scheme: "http".to_owned(),
        address: v1::Address {
            hostname: Some(info.hostname.clone()),
            ip: None,
            port: info.port.unwrap_or(5051),
        },
        path: Some("/slave(1)".to_owned()),
        ..v1::Url::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuse_seconds_follows_mesos() {
        let of =
            |seconds: f64| refuse_duration(Some(&v1::Filters { refuse_seconds: Some(seconds) }));
        assert_eq!(refuse_duration(None), DEFAULT_REFUSE);
        assert_eq!(refuse_duration(Some(&v1::Filters::default())), DEFAULT_REFUSE);
        assert_eq!(of(0.0), Duration::ZERO);
        assert_eq!(of(-3.0), DEFAULT_REFUSE);
        assert_eq!(of(f64::NAN), DEFAULT_REFUSE);
        assert_eq!(of(0.5), Duration::from_millis(500));
        assert_eq!(of(4_294_967_295.0), MAXIMUM_REFUSAL);
        assert_eq!(of(f64::INFINITY), MAXIMUM_REFUSAL);
    }
}
