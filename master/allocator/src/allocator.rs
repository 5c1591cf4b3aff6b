//! The trait between the master and whatever decides who is offered what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mezzo_types::{
    AgentId, Conversion, ConversionError, FrameworkId, Now, Quantities, ResourceName, Resources,
    Scalar,
};

/// The longest time for which a refusal is remembered; longer ones are cut to it.
pub const MAXIMUM_REFUSAL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Decides which framework is offered which agent's free resources, in which role.
///
/// Roles are full paths (`eng/web`); that they are valid is the caller's business. Ids that were
/// never added, or were removed, are ignored: a late message about them is no fault.
pub trait Allocator: Send {
    /// A framework subscribed, or was recovered. It starts active.
    ///
    /// What it already holds on agents (see [`Allocator::add_agent`]) counts for it at once. Adding
    /// a framework that is known already is the same as updating and activating it.
    fn add_framework(&mut self, now: Now, framework: &FrameworkId, options: FrameworkOptions);

    /// Replaces the options of a framework. Filters of roles that it left are forgotten; what it
    /// holds in them stays counted until recovered.
    fn update_framework(&mut self, now: Now, framework: &FrameworkId, options: FrameworkOptions);

    /// Forgets a framework and its filters. What it holds stays counted until recovered.
    fn remove_framework(&mut self, framework: &FrameworkId);

    /// The framework is connected again; it may be offered resources. Its filters were forgotten
    /// when it was deactivated.
    fn activate_framework(&mut self, now: Now, framework: &FrameworkId);

    /// The framework is disconnected: no offers, and its filters are forgotten. What it holds stays
    /// allocated; the caller recovers the offers that it rescinds.
    fn deactivate_framework(&mut self, framework: &FrameworkId);

    /// No offers to the framework in these roles until revived; no roles means all of its roles.
    fn suppress(&mut self, framework: &FrameworkId, roles: &[String]);

    /// Ends a suppression and forgets the framework's filters in these roles; no roles means all.
    fn revive(&mut self, now: Now, framework: &FrameworkId, roles: &[String]);

    /// An agent registered. It starts active.
    ///
    /// `used` says what runs there already, by framework and role; the frameworks need not be
    /// known. An agent that is known already is replaced: its old books are dropped.
    fn add_agent(
        &mut self,
        now: Now,
        agent: &AgentId,
        total: Resources,
        used: BTreeMap<(FrameworkId, String), Resources>,
        options: AgentOptions,
    );

    /// The agent's resources changed. What is allocated stays allocated, even where it no longer
    /// fits; nothing is offered of a resource until the overrun is recovered.
    fn update_agent(&mut self, now: Now, agent: &AgentId, total: Resources);

    /// Forgets an agent, what is allocated on it, and the filters that name it.
    fn remove_agent(&mut self, agent: &AgentId);

    /// The agent's resources may be offered (again).
    fn activate_agent(&mut self, now: Now, agent: &AgentId);

    /// The agent's resources are not offered until it is activated. What is allocated stays so.
    fn deactivate_agent(&mut self, agent: &AgentId);

    /// Sets the weight of one role: with twice the weight of its siblings, twice their share.
    /// Unset is 1. The role need not exist yet. Weights are positive; others are ignored.
    fn set_weight(&mut self, now: Now, role: &str, weight: f64);

    /// Counts resources as allocated that were not given out by `allocate`, as for a task that an
    /// agent reports after a fail-over. The allocation role is the one in the resources.
    fn charge(&mut self, framework: &FrameworkId, agent: &AgentId, resources: &Resources);

    /// Gives back what was allocated: an offer was declined or rescinded, the rest of an accepted
    /// one, a task ended. The allocation role is the one in the resources.
    ///
    /// `refuse`: the framework does not want these resources, or less, in this role from this agent
    /// for that long. `Some(ZERO)` is "offer again as soon as you like", which is paced by
    /// [`AllocatorConfig::pause`]; `None` is no refusal at all. Giving back what was not allocated
    /// changes nothing and shows in `check_invariants`.
    fn recover(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
        refuse: Option<Duration>,
    );

    /// Operations turned resources that the framework holds on the agent into others, and the agent's
    /// total with them. The allocation role is the one in the resources; all steps have the same.
    ///
    /// # Errors
    /// The framework does not hold what a step consumes; nothing is changed then.
    fn convert_allocated(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError>;

    /// Operations turned resources of the agent that nobody holds into others.
    ///
    /// # Errors
    /// What a step consumes is not there, or somebody holds it; nothing is changed then.
    fn convert_available(
        &mut self,
        now: Now,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError>;

    /// An offer of these resources is over, however it ended: shared volumes among them may be offered
    /// to others, whether or not tasks use them now. To be called before anything of it is recovered.
    fn offer_ended(&mut self, now: Now, agent: &AgentId, resources: &Resources);

    /// What to offer now. Empty before the time that `poll_timeout` named.
    ///
    /// The resources carry their allocation role and count as allocated from here on. At most one
    /// allocation per (framework, role, agent) comes out of one call.
    fn allocate(&mut self, now: Now) -> Vec<Allocation>;

    /// When `allocate` should be called next, in nanoseconds of the monotonic clock: a time that is
    /// past means at once, `None` means not until something happens.
    fn poll_timeout(&self) -> Option<u64>;

    /// Checks the books against each other. Slow: it looks at everything.
    ///
    /// # Errors
    /// The first contradiction found.
    fn check_invariants(&self) -> Result<(), Violation>;
}

/// What a framework wants and can handle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameworkOptions {
    /// The roles in which it is subscribed.
    pub roles: BTreeSet<String>,
    /// Those of its roles in which it wants no offers.
    pub suppressed: BTreeSet<String>,
    /// Which resources it understands.
    pub capabilities: Capabilities,
    /// By role, replacing [`AllocatorConfig::min_allocatable`]: an offer holds at least one of the
    /// alternatives. An empty list means that any resource at all is worth an offer.
    pub min_allocatable: BTreeMap<String, Vec<Quantities>>,
}

/// Which resources a framework understands; others are never offered to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `GPU_RESOURCES`: it is offered agents that have GPUs.
    pub gpu: bool,
    /// `REVOCABLE_RESOURCES`
    pub revocable: bool,
    /// `SHARED_RESOURCES`
    pub shared: bool,
    /// `RESERVATION_REFINEMENT`: reservations within reservations.
    pub reservation_refinement: bool,
    /// `REGION_AWARE`: it is offered agents of other regions than the master's.
    pub region_aware: bool,
}

/// What an agent is, beside its resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentOptions {
    /// It is in another region than the master.
    pub remote_region: bool,
}

/// One agent's resources for one framework in one role.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    pub framework: FrameworkId,
    pub role: String,
    pub agent: AgentId,
    /// With `role` as their allocation role.
    pub resources: Resources,
}

/// What an operator may choose.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocatorConfig {
    /// The least time between two passes; the first event after a quiet time does not wait.
    pub coalesce: Duration,
    /// The shortest refusal: what a refusal of zero, or of less than this, is taken for. Without
    /// it a framework that declines everything "for zero seconds" would keep the master busy.
    pub pause: Duration,
    /// An offer holds at least one of these alternatives. Empty: anything is worth an offer.
    pub min_allocatable: Vec<Quantities>,
    /// Whether agents with GPUs are kept for frameworks that have the capability.
    pub filter_gpu_resources: bool,
    /// Scalar resources that do not count towards a share.
    pub excluded_from_shares: BTreeSet<String>,
}

impl Default for AllocatorConfig {
    fn default() -> Self {
        let least = |name, amount| Quantities::from_iter([(name, amount)]);
        let some_cpu = least(ResourceName::CPUS, Scalar::from_thousandths(10));
        let some_mem = least(ResourceName::MEM, Scalar::from_units(32));
        AllocatorConfig {
            coalesce: Duration::from_millis(5),
            pause: Duration::from_millis(100),
            min_allocatable: vec![some_cpu, some_mem],
            filter_gpu_resources: true,
            excluded_from_shares: BTreeSet::new(),
        }
    }
}

/// A contradiction in the allocator's books: a fault of the program, never of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allocator invariant `{name}` is broken: {detail}")]
pub struct Violation {
    /// Which invariant.
    pub name: &'static str,
    /// Who and how much.
    pub detail: String,
}
