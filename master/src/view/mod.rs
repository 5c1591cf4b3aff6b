//! The readers' copy of the state, fed by the core's effects.
//!
//! The leader's loop changes it with [`View::apply`], which takes the same short time however much there is and
//! whoever reads. A reader takes a [`Snapshot`], a handful of handles, and makes its answer of that; what was encoded
//! for one reader serves the next until it changes.
//!
//! | module | what lives there |
//! |---|---|
//! | `state` | the copy that is written |
//! | `pages` | lists in pages, copied on write, with their encodings |
//! | `task`, `agent`, `framework`, `small` | what is in the lists |
//! | `sum`, `role`, `totals` | what things have together, kept up to date |
//! | `snapshot` | all of it at one moment, and the v1 answers |
//! | `endpoints` | the answers of Mesos' first endpoints |
//! | `parts`, `scan` | answers in pieces; encoded messages looked into |
//! | `idle` | encodings that nobody asks for |
//! | `event`, `watch` | the stream of events for operators |

mod agent;
mod endpoints;
mod event;
mod framework;
mod idle;
mod pages;
mod parts;
mod role;
mod scan;
mod small;
mod snapshot;
mod state;
mod sum;
mod task;
mod totals;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezzo_master_core::ViewChange;

pub(crate) use endpoints::{MasterFacts, TasksQuery};
pub(crate) use framework::FrameworkFigures;
pub(crate) use parts::Answer;
pub(crate) use snapshot::{Read, Snapshot};
pub(crate) use state::Memory;
pub(crate) use totals::Totals;
pub(crate) use watch::{Cut, Watch};

use idle::Asked;
use state::State;
use watch::Hub;

use crate::decisions::Decisions;

/// Listeners to events at a time (Mesos: `--max_operator_event_stream_subscribers`).
pub(crate) const SUBSCRIBERS_MAX: usize = 1000;

/// What GET_STATE and its like answer from.
#[derive(Debug, Clone)]
pub(crate) struct View {
    state: Arc<Mutex<State>>,
    hub: Arc<Hub>,
    asked: Arc<Asked>,
    decisions: Decisions,
}

impl Default for View {
    fn default() -> Self {
        View::new(Memory::default(), SUBSCRIBERS_MAX)
    }
}

impl View {
    pub(crate) fn new(memory: Memory, subscribers_max: usize) -> View {
        View {
            state: Arc::new(Mutex::new(State::new(memory))),
            hub: Arc::new(Hub::new(subscribers_max)),
            asked: Arc::default(),
            decisions: Decisions::default(),
        }
    }

    /// Takes over one change.
    pub(crate) fn apply(&self, change: ViewChange) {
        self.decisions.apply(&change);
        let news = {
            let mut state = self.lock();
            state.apply(change);
            !state.events.is_empty()
        };
        if news {
            self.hub.noted.notify_one();
        }
    }

    /// All of it as it is now, but for roles.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.lock(), false, &self.asked)
    }

    /// All of it as it is now.
    pub(crate) fn snapshot_with_roles(&self) -> Snapshot {
        Snapshot::of(&self.lock(), true, &self.asked)
    }

    /// What all agents have, and what of it is taken.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().roles.sums.totals.clone()
    }

    /// Frameworks that are there, in numbers; none if there are more than `most`.
    pub(crate) fn framework_figures(&self, most: usize) -> Vec<FrameworkFigures> {
        let frameworks = self.lock().frameworks.clone();
        if frameworks.len() > most {
            return Vec::new();
        }
        frameworks.iter().map(|framework| framework.figures()).collect()
    }

    /// What operators decided.
    pub(crate) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// How many listen to events.
    pub(crate) fn subscribers(&self) -> usize {
        self.hub.count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changes do not panic half-way; and if one did, its list would still be one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
