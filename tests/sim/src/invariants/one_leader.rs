//! `one-leader`: stale terms are refused everywhere.

use std::collections::BTreeMap;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;

use super::Invariant;
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct OneLeader {
    term: u64,
    /// The highest term that an agent took for the leader's.
    seen: BTreeMap<usize, u64>,
    /// The highest term that an agent told a master of, by agent.
    told: BTreeMap<usize, u64>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one-leader"
    }

    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Leads { term, .. } => {
                if *term <= self.term {
                    return Err(format!("a master leads in term {term} after {}", self.term));
                }
                self.term = *term;
            }
            Fact::Registered { agent, term } => {
                let seen = self.seen.entry(*agent).or_default();
                if *term < *seen {
                    return Err(format!("agent {agent} follows term {term} after {seen}"));
                }
                *seen = *term;
            }
            // An agent that leaves forgets what it was; the next one knows no term.
            Fact::Leaves { agent } => {
                self.seen.remove(agent);
                self.told.remove(agent);
            }
            Fact::Reports { agent, message: ToMaster::Register(register), .. } => {
                self.told.insert(*agent, register.highest_term);
            }
            Fact::Ordered { agent, term, message: ToAgent::Registered(_), .. } => {
                let told = self.told.get(agent).copied().unwrap_or_default();
                // The agent may have registered anew, with another master, meanwhile.
                let seen = self.seen.get(agent).copied().unwrap_or_default();
                if told > *term && seen <= told {
                    return Err(format!("the master of term {term} admits an agent of {told}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
