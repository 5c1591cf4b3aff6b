//! The invariants of the design (`ARCHITECTURE.md`), one file each.
//!
//! Each watches the facts of a run and keeps books of its own, so that it does not believe what the
//! cores say of themselves; what they do say, in their `check_invariants`, is asked after every input.

mod bounded;
pub mod deterministic;
mod limits_hold;
mod no_double_offer;
mod no_task_lost;
mod one_leader;
mod persist_before_promise;
mod tasks_outlive_us;
mod updates_in_order;
mod volumes_are_sacred;

use crate::fact::Fact;
use crate::world::World;

/// What must hold in every run.
pub trait Invariant: Send {
    /// As the design has it.
    fn name(&self) -> &'static str;

    /// # Errors
    /// What was seen and must never be, as a sentence.
    fn see(&mut self, fact: &Fact<'_>) -> Result<(), String>;

    /// Whether everything has come to its end. Asked again and again once there are no faults.
    ///
    /// # Errors
    /// What has not.
    fn settled(&self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub name: String,
    pub detail: String,
}

/// All invariants, and the first that broke.
pub(crate) struct Watch {
    invariants: Vec<Box<dyn Invariant>>,
    failure: Option<Failure>,
}

impl Default for Watch {
    fn default() -> Self {
        let invariants: Vec<Box<dyn Invariant>> = vec![
            Box::<no_double_offer::NoDoubleOffer>::default(),
            Box::<no_task_lost::NoTaskLost>::default(),
            Box::<updates_in_order::UpdatesInOrder>::default(),
            Box::<persist_before_promise::PersistBeforePromise>::default(),
            Box::<one_leader::OneLeader>::default(),
            Box::<tasks_outlive_us::TasksOutliveUs>::default(),
            Box::<volumes_are_sacred::VolumesAreSacred>::default(),
            Box::<limits_hold::LimitsHold>::default(),
            Box::<bounded::Bounded>::default(),
        ];
        Watch { invariants, failure: None }
    }
}

impl Watch {
    pub(crate) fn see(&mut self, fact: &Fact<'_>) {
        for invariant in &mut self.invariants {
            if let Err(detail) = invariant.see(fact) {
                let name = invariant.name().to_owned();
                self.failure.get_or_insert(Failure { name, detail });
            }
        }
    }

    pub(crate) fn fail(&mut self, name: impl Into<String>, detail: String) {
        self.failure.get_or_insert(Failure { name: name.into(), detail });
    }

    /// `text` begins with the invariant's name and a colon.
    pub(crate) fn fail_text(&mut self, text: String) {
        let (name, detail) = text.split_once(": ").unwrap_or(("agent", &text));
        self.fail(name, detail.to_owned());
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    pub(crate) fn settled(&self, world: &World) -> Result<(), Failure> {
        for invariant in &self.invariants {
            let name = || invariant.name().to_owned();
            invariant.settled(world).map_err(|detail| Failure { name: name(), detail })?;
        }
        Ok(())
    }
}
