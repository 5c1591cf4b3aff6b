//! The operations of one ACCEPT, one after the other, each against what the ones before have left.

use bytes::Bytes;
use mezzo_proto::internal::v1::master_to_agent;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{OperationPlacement, PlaceTasks, Placement, PutOperations};
use mezzo_proto::v1;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, FrameworkId, Now, Position, Resources};

use crate::master::Master;
use crate::task::Launch;

/// One ACCEPT on its way through its operations: what is left of its offers, and what is to be
/// committed and sent. The orders leave in the order in which they were given.
pub(super) struct Walk {
    pub(super) framework: FrameworkId,
    pub(super) agent: AgentId,
    /// The role that the offers are allocated to.
    pub(super) role: String,
    /// Allocated to `role`.
    pub(super) remaining: Resources,
    /// Shared volumes of the offers, also those that tasks of this ACCEPT use already: any number of
    /// its tasks may use one that was offered.
    pub(super) shared: Resources,
    /// Volumes that were resized: they are given back, but not to a later operation.
    pub(super) resized: Resources,
    /// What the offers held at first.
    pub(super) offered: Resources,
    pub(super) operations: Vec<OperationPlacement>,
    pub(super) placements: Vec<Placement>,
    pub(super) orders: Vec<master_to_agent::Message>,
}

impl Walk {
    pub(super) fn new(
        framework: FrameworkId,
        agent: AgentId,
        role: String,
        remaining: Resources,
    ) -> Self {
        Self {
            framework,
            agent,
            role,
            offered: remaining.clone(),
            shared: remaining.shared(),
            remaining,
            resized: Resources::default(),
            operations: Vec::new(),
            placements: Vec::new(),
            orders: Vec::new(),
        }
    }
}

impl Walk {
    /// What a task may use.
    pub(super) fn available(&self) -> Resources {
        if self.shared.is_empty() {
            return self.remaining.clone();
        }
        self.remaining.non_shared() + self.shared.clone()
    }
}

/// What an ACCEPT leaves of its offers.
pub(super) struct Rest {
    pub(super) agent: AgentId,
    /// What operations made and nothing used.
    pub(super) made: Resources,
    /// What was offered and nothing used.
    pub(super) declined: Resources,
}

impl Master {
    pub(super) fn walk_operations(
        &mut self,
        now: Now,
        walk: &mut Walk,
        operations: Vec<v1::offer::Operation>,
        task_infos: &[Bytes],
    ) {
        let decoded = count_tasks(&operations);
        let mut raw =
            if task_infos.len() == decoded { task_infos } else { Default::default() }.iter();
        for operation in operations {
            // Taken whatever the operation is: one that is no launch may carry tasks all the same, and the bytes of one
            // task must never pass for those of another, which was validated.
            let (launched, grouped) = tasks_in(&operation);
            let launched: Vec<Bytes> = raw.by_ref().take(launched).cloned().collect();
            let grouped: Vec<Bytes> = raw.by_ref().take(grouped).cloned().collect();
            match operation_type(&operation) {
                Some(OperationType::Launch | OperationType::LaunchGroup)
                    if operation.id.is_some() =>
                {
                    self.refuse_launch_id(now, walk, &operation);
                }
                Some(OperationType::Launch) => {
                    let tasks = operation.launch.map(|l| l.task_infos).unwrap_or_default();
                    let mut bytes = launched.into_iter();
                    for mut task in tasks {
                        // What was received is not what is meant, then.
                        let received = bytes.next();
                        let received = if infer_health_check(&mut task) { None } else { received };
                        self.launch(now, walk, task, received);
                    }
                }
                Some(OperationType::LaunchGroup) => {
                    let group = operation.launch_group.unwrap_or_default();
                    self.launch_group(now, walk, *group, grouped);
                }
                Some(
                    OperationType::Reserve
                    | OperationType::Unreserve
                    | OperationType::Create
                    | OperationType::Destroy
                    | OperationType::GrowVolume
                    | OperationType::ShrinkVolume
                    | OperationType::CreateDisk
                    | OperationType::DestroyDisk
                    | OperationType::Unknown,
                )
                | None => self.operate(now, walk, operation),
            }
        }
    }

    /// Takes what is used out of what is left. `wanted` is available. A shared volume that is used once
    /// more than it was offered is counted for the framework once more.
    pub(super) fn take(&mut self, walk: &mut Walk, wanted: &Resources) {
        let more = wanted.shared().without(&walk.remaining.shared());
        if !more.is_empty() {
            self.allocator.charge(&walk.framework, &walk.agent, &more);
        }
        walk.remaining = walk.remaining.without(wanted);
    }

    /// Commits everything that one ACCEPT came to together, then sends the orders. Returns what is
    /// left of the offers.
    pub(super) fn commit_walk(&mut self, walk: Walk) -> Rest {
        let Walk { agent, remaining, resized, offered, operations, placements, orders, .. } = walk;
        let changed = !operations.is_empty();
        let mut position = Position(0);
        if !placements.is_empty() {
            position = self.persist(CommandKind::PlaceTasks(PlaceTasks { placements }));
        }
        if changed {
            position = self.persist(CommandKind::PutOperations(PutOperations { operations }));
            self.offer_after(&agent, position);
        }
        if is_on(Bug::MasterLaunchesEarly) {
            position = Position(0);
        }
        // An offer of an agent whose link is down was rescinded with the link, so there is one. The
        // ledger would tell the framework of an order that never left, all the same.
        if let Some(link) = self.agents.get(&agent).and_then(|a| a.link) {
            for order in orders {
                self.send_agent(link, order, position);
            }
        }
        if changed {
            self.view_agent(&agent);
        }
        let made = (&remaining + &resized).without(&offered);
        let declined = remaining.without(&made);
        Rest { agent, made, declined }
    }

    /// The position of the next order to the agent that must arrive once.
    pub(crate) fn next_order(&mut self, agent: &AgentId) -> Option<Launch> {
        let agent = self.agents.get_mut(agent)?;
        agent.last_launch = Launch {
            term: self.term,
            sequence: if agent.last_launch.term == self.term {
                agent.last_launch.sequence.saturating_add(1)
            } else {
                1
            },
        };
        Some(agent.last_launch)
    }
}

fn operation_type(operation: &v1::offer::Operation) -> Option<OperationType> {
    OperationType::try_from(operation.r#type?).ok()
}

/// Frameworks from before health checks had a type set what it follows from; Mesos tells by that, with LAUNCH
/// only. Whether it was so.
fn infer_health_check(task: &mut v1::TaskInfo) -> bool {
    use v1::health_check::Type;
    let Some(check) = task.health_check.as_mut().filter(|check| check.r#type.is_none()) else {
        return false;
    };
    let kind = match (&check.command, &check.http) {
        (Some(_), None) => Type::Command,
        (None, Some(_)) => Type::Http,
        _ => return false,
    };
    check.r#type = Some(kind as i32);
    true
}

fn count_tasks(operations: &[v1::offer::Operation]) -> usize {
    operations.iter().map(tasks_in).map(|(launched, grouped)| launched + grouped).sum()
}

/// Tasks in its `launch`, and in its `launch_group`: in this order their bytes come.
fn tasks_in(operation: &v1::offer::Operation) -> (usize, usize) {
    let launched = operation.launch.as_ref().map_or(0, |l| l.task_infos.len());
    let grouped = operation.launch_group.as_ref().map_or(0, |l| l.task_group.tasks.len());
    (launched, grouped)
}
