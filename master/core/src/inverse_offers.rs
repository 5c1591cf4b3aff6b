//! Inverse offers: frameworks are asked to leave agents that will be unavailable, and answer.
//!
//! Whoever holds something of such an agent, a task or an offer, is asked once; asked again when the
//! filter of its answer has ended and it still holds something. Answers are recorded for operators and
//! bind nobody. They are not replicated: a new leader asks anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mezzo_proto::v1;
use mezzo_proto::v1::allocator::{InverseOfferStatus, inverse_offer_status};
use mezzo_proto::v1::scheduler::{Event, event};
use mezzo_types::{AgentId, FrameworkId, Now, OfferId, Position};

use crate::effect::ViewChange;
use crate::master::Master;
use crate::offers::{agent_url, refuse_duration};
use crate::timers::Timer;
use crate::validation::MachineKey;

/// The least time between an answer and the next question (Mesos: its allocation interval). Without it
/// an answer without a filter would be a loop.
const PAUSE: Duration = Duration::from_secs(1);

/// Who was asked what, and answered what.
#[derive(Debug, Default)]
pub(crate) struct InverseOffers {
    out: BTreeMap<OfferId, (AgentId, FrameworkId)>,
    /// Of agents that will be unavailable; never more than frameworks that hold something there.
    asked: BTreeMap<(AgentId, FrameworkId), Asked>,
    /// Agents whose holders are to be asked at the end of this input.
    due: BTreeSet<AgentId>,
}

#[derive(Debug)]
struct Asked {
    machine: MachineKey,
    outstanding: Option<OfferId>,
    /// Monotonic time until which it wants no question.
    refused_until_ns: u64,
    answer: Option<InverseOfferStatus>,
}

impl InverseOffers {
    /// Something about the agent changed: its holders may have to be asked.
    pub(crate) fn look_at(&mut self, agent: &AgentId) {
        self.due.insert(agent.clone());
    }

    /// What was answered about a machine, by framework.
    pub(crate) fn answers_for(&self, machine: &MachineKey) -> Vec<InverseOfferStatus> {
        let of_it = self.asked.values().filter(|asked| asked.machine == *machine);
        of_it.filter_map(|asked| asked.answer.clone()).collect()
    }

    /// What does not fit: each question that is out was asked of exactly one holder.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let out = self.out.iter().find(|(offer, key)| {
            self.asked.get(*key).and_then(|asked| asked.outstanding.as_ref()) != Some(*offer)
        });
        let asked = self.asked.values().filter_map(|asked| asked.outstanding.as_ref());
        let stray = asked.into_iter().find(|offer| !self.out.contains_key(*offer));
        let offer = out.map(|(offer, _)| offer).or(stray)?;
        Some(format!("inverse offer '{offer}' is out on one side only"))
    }

    /// The framework is removed for good.
    pub(crate) fn forget_answers_of(&mut self, framework: &FrameworkId) {
        self.asked.retain(|(_, of), _| of != framework);
    }

    fn of_agent(&self, agent: &AgentId) -> Vec<FrameworkId> {
        let from = (agent.clone(), FrameworkId::from(""));
        let here = self.asked.range(from..).take_while(|((of, _), _)| of == agent);
        here.map(|((_, framework), _)| framework.clone()).collect()
    }
}

impl Master {
    /// Asks whoever has to be asked.
    pub(crate) fn ask_to_leave(&mut self, now: Now) {
        let mut events: BTreeMap<FrameworkId, (Position, Vec<v1::InverseOffer>)> = BTreeMap::new();
        while let Some(id) = self.inverse_offers.due.pop_first() {
            let Some(agent) = self.agents.get(&id).filter(|agent| agent.link.is_some()) else {
                continue;
            };
            let Some(unavailability) = self.maintenance.unavailability(agent) else { continue };
            let Some(machine) = self.maintenance.machine_of(agent) else { continue };
            let (url, admitted) = (agent_url(&agent.info), agent.admitted);
            let mut holders: BTreeSet<FrameworkId> =
                agent.tasks.iter().map(|(framework, _)| framework.clone()).collect();
            let offers = agent.offers.iter().filter_map(|offer| self.offers.get(offer));
            holders.extend(offers.map(|offer| offer.framework.clone()));
            for framework in holders {
                let connected = self.frameworks.get(&framework).is_some_and(|f| f.stream.is_some());
                let key = (id.clone(), framework.clone());
                let asked = self.inverse_offers.asked.get(&key);
                let wants = asked.is_none_or(|asked| {
                    asked.outstanding.is_none() && now.reached(asked.refused_until_ns)
                });
                if !connected || !wants {
                    continue;
                }
                let offer =
                    OfferId::from(format!("{}-O{}", self.config.master_info.id, self.next_offer));
                self.next_offer += 1;
                let inverse = v1::InverseOffer {
                    id: (&offer).into(),
                    url: Some(url.clone()),
                    framework_id: (&framework).into(),
                    agent_id: Some((&id).into()),
                    unavailability,
                    ..v1::InverseOffer::default()
                };
                let machine = machine.clone();
                let asked = self.inverse_offers.asked.entry(key.clone()).or_insert(Asked {
                    machine,
                    outstanding: None,
                    refused_until_ns: 0,
                    answer: None,
                });
                asked.outstanding = Some(offer.clone());
                self.inverse_offers.out.insert(offer, key);
                self.view(ViewChange::InverseOffer(inverse.clone()));
                let (after, all) = events.entry(framework).or_default();
                *after = admitted.max(*after);
                all.push(inverse);
            }
        }
        for (framework, (after, inverse_offers)) in events {
            let Some(stream) = self.frameworks.get(&framework).and_then(|f| f.stream) else {
                continue;
            };
            let event = Event {
                r#type: Some(event::Type::InverseOffers as i32),
                inverse_offers: Some(event::InverseOffers { inverse_offers }),
                ..Event::default()
            };
            // Nobody is told of plans that a crash could undo.
            self.send_event(stream, event, after.max(self.everything_so_far()));
        }
    }

    /// ACCEPT_INVERSE_OFFERS and DECLINE_INVERSE_OFFERS. One that is not out any more is passed over.
    pub(crate) fn answer_inverse_offers(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        ids: &[v1::OfferId],
        filters: Option<&v1::Filters>,
        accepted: bool,
    ) {
        let until = now.plus(refuse_duration(filters).max(PAUSE));
        let mut answered = false;
        for id in ids {
            let id = OfferId::from(id);
            let out = self.inverse_offers.out.get(&id);
            let Some(key) = out.filter(|(_, of)| of == framework).cloned() else { continue };
            self.inverse_offers.out.remove(&id);
            self.view(ViewChange::InverseOfferRemoved((&id).into()));
            let Some(asked) = self.inverse_offers.asked.get_mut(&key) else { continue };
            use inverse_offer_status::Status;
            let status = if accepted { Status::Accept } else { Status::Decline };
            asked.outstanding = None;
            asked.refused_until_ns = until;
            asked.answer = Some(InverseOfferStatus {
                status: status as i32,
                framework_id: framework.into(),
                timestamp: v1::TimeInfo { nanoseconds: now.unix_ns },
            });
            answered = true;
            self.timers.set(until, Timer::InverseOffer(key.0));
        }
        if answered {
            self.view_maintenance();
        }
    }

    /// A filter ended.
    pub(crate) fn ask_to_leave_later(&mut self, agent: &AgentId) {
        self.inverse_offers.look_at(agent);
    }

    /// The framework is there: it is asked about whatever it holds.
    pub(crate) fn ask_framework_to_leave(&mut self, id: &FrameworkId) {
        if self.maintenance.schedule.windows.is_empty() {
            return;
        }
        let Some(framework) = self.frameworks.get(id) else { return };
        let agents: BTreeSet<AgentId> =
            framework.tasks.values().map(|task| task.agent.clone()).collect();
        self.inverse_offers.due.extend(agents);
    }

    /// Plans for the agent changed, or its link broke: everybody is told, and answers count no more.
    pub(crate) fn rescind_inverse_offers_of_agent(&mut self, id: &AgentId) {
        self.drop_inverse_offers(id, true);
    }

    /// The agent is removed.
    pub(crate) fn forget_inverse_offers_of_agent(&mut self, id: &AgentId) {
        self.inverse_offers.due.remove(id);
        self.drop_inverse_offers(id, false);
    }

    fn drop_inverse_offers(&mut self, id: &AgentId, tell: bool) {
        for framework in self.inverse_offers.of_agent(id) {
            let key = (id.clone(), framework);
            let Some(asked) = self.inverse_offers.asked.remove(&key) else { continue };
            let Some(offer) = asked.outstanding else { continue };
            self.inverse_offers.out.remove(&offer);
            self.view(ViewChange::InverseOfferRemoved((&offer).into()));
            let stream = self.frameworks.get(&key.1).and_then(|f| f.stream);
            let Some(stream) = stream.filter(|_| tell) else { continue };
            let event = Event {
                r#type: Some(event::Type::RescindInverseOffer as i32),
                rescind_inverse_offer: Some(event::RescindInverseOffer {
                    inverse_offer_id: (&offer).into(),
                }),
                ..Event::default()
            };
            self.send_event(stream, event, Position(0));
        }
    }

    /// The framework went away: what it was asked is void, and its filters end. Its answers stay.
    pub(crate) fn forget_inverse_offers_of_framework(&mut self, id: &FrameworkId) {
        for ((_, framework), asked) in &mut self.inverse_offers.asked {
            if framework == id {
                asked.refused_until_ns = 0;
                asked.outstanding = None;
            }
        }
        let of_it = |(_, (_, framework)): &(&OfferId, &(AgentId, FrameworkId))| framework == id;
        let offers = self.inverse_offers.out.iter().filter(of_it);
        let offers: Vec<OfferId> = offers.map(|(offer, _)| offer.clone()).collect();
        for offer in offers {
            self.inverse_offers.out.remove(&offer);
            self.view(ViewChange::InverseOfferRemoved((&offer).into()));
        }
    }
}
