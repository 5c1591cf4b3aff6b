//! ACCEPT: offers become tasks, reservations and volumes.
//!
//! | module | what lives there |
//! |---|---|
//! | here | one ACCEPT from its offers to its remainder |
//! | `offers` | whether the offers are good; what is told when they are not |
//! | `walk` | the operations one after the other; what came of them is committed and sent |
//! | `launch` | LAUNCH |
//! | `executor` | LAUNCH of tasks for an executor, and LAUNCH_GROUP |
//! | `operation` | RESERVE, CREATE and the other operations on resources |

mod executor;
mod launch;
mod offers;
mod operation;
mod walk;

use std::collections::BTreeSet;

use bytes::Bytes;
use mezzo_proto::v1::scheduler::call;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{FrameworkId, Now, OfferId, Resources};

use self::walk::Walk;
use crate::master::Master;
use crate::offers::{Offer, refuse_duration};

impl Master {
    /// ACCEPT: validates the offers, then each operation in order against what is left of them;
    /// places the tasks in the ledger, then sends them to the agent.
    ///
    /// `task_infos` are the received bytes of the tasks, in order; where they do not match the
    /// decoded ones in number, the tasks are encoded anew.
    pub(crate) fn accept(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        accept: call::Accept,
        task_infos: &[Bytes],
    ) {
        if accept.operations.is_empty() {
            self.decline(now, framework, &accept.offer_ids, accept.filters.as_ref());
            return;
        }
        let refuse = refuse_duration(accept.filters.as_ref());
        let checked = self.check_offers(framework, &accept.offer_ids);
        let offers: Vec<Offer> = accept
            .offer_ids
            .iter()
            .map(OfferId::from)
            .filter(|id| self.offers.get(id).is_some_and(|o| o.framework == *framework))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter_map(|id| self.take_offer(now, &id))
            .collect();
        if let Err(message) = checked {
            for offer in &offers {
                self.allocator.recover(now, framework, &offer.agent, &offer.resources, None);
            }
            let reason = Reason::InvalidOffers;
            self.refuse_operations(now, framework, &accept.operations, reason, &message);
            return;
        }
        if let Some(shortage) = self.shortage.clone() {
            // Offered again only after the filter's time: the framework is not asked in a circle.
            for offer in &offers {
                let resources = &offer.resources;
                self.allocator.recover(now, framework, &offer.agent, resources, Some(refuse));
            }
            let reason = Reason::ContainerLaunchFailed;
            self.refuse_operations(now, framework, &accept.operations, reason, &shortage);
            return;
        }
        let Some(first) = offers.first() else { return };
        self.statistics.offers_accepted += offers.len() as u64;
        if let Some(counts) = self.statistics.framework(framework) {
            counts.offers_accepted.add(offers.len() as u64);
        }
        let mut remaining = Resources::default();
        for offer in &offers {
            remaining += &offer.resources;
        }
        let (agent, role) = (first.agent.clone(), first.role.clone());
        let mut walk = Walk::new(framework.clone(), agent, role, remaining);
        self.walk_operations(now, &mut walk, accept.operations, task_infos);
        let rest = self.commit_walk(walk);
        // What operations made of the offers was not offered yet, so it cannot be refused.
        if !rest.made.is_empty() {
            self.allocator.recover(now, framework, &rest.agent, &rest.made, None);
        }
        if !rest.declined.is_empty() {
            self.allocator.recover(now, framework, &rest.agent, &rest.declined, Some(refuse));
        }
    }
}
