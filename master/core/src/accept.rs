//! ACCEPT: offers become tasks.

mod executor;

use std::collections::BTreeSet;

use bytes::Bytes;
use mezzo_proto::internal::v1::{LaunchPosition, RunTask, master_to_agent};
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::storage::v1::{PlaceTasks, Placement};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_proto::v1::scheduler::{Event, call, event};
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{AgentId, FrameworkId, Now, OfferId, Position, Resources, TaskId};
use prost::Message;

use crate::master::Master;
use crate::offers::{Offer, refuse_duration};
use crate::status::{from_master, lost_or};
use crate::task::{Launch, Task};
use crate::validation;

/// One ACCEPT on its way through its operations: what is left of its offers, and what is to be
/// committed and sent. The orders leave in the order in which they were given.
struct Walk {
    framework: FrameworkId,
    agent: AgentId,
    /// The role that the offers are allocated to.
    role: String,
    /// Allocated to `role`.
    remaining: Resources,
    placements: Vec<Placement>,
    orders: Vec<master_to_agent::Message>,
}

impl Walk {
    /// What a task may use.
    fn available(&self) -> Resources {
        self.remaining.clone()
    }
}

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
            .filter_map(|id| self.take_offer(&id))
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
        let (agent, role) = (first.agent.clone(), first.role.clone());
        let mut remaining = Resources::default();
        for offer in &offers {
            remaining += &offer.resources;
        }
        let decoded = count_tasks(&accept.operations);
        let mut raw =
            if task_infos.len() == decoded { task_infos } else { Default::default() }.iter();
        let mut walk = Walk {
            framework: framework.clone(),
            agent,
            role,
            remaining,
            placements: Vec::new(),
            orders: Vec::new(),
        };
        for operation in accept.operations {
            match operation_type(&operation) {
                Some(OperationType::Launch) => {
                    let tasks = operation.launch.map(|l| l.task_infos).unwrap_or_default();
                    for task in tasks {
                        let bytes = raw.next().cloned();
                        self.launch(now, &mut walk, task, bytes);
                    }
                }
                Some(OperationType::LaunchGroup) => {
                    let group = operation.launch_group.unwrap_or_default();
                    let bytes = raw.by_ref().take(group.task_group.tasks.len()).cloned().collect();
                    self.launch_group(now, &mut walk, group, bytes);
                }
                _ => self.refuse_operation(framework, &walk.agent, &operation),
            }
        }
        let (agent, remaining) = self.commit_walk(walk);
        if !remaining.is_empty() {
            self.allocator.recover(now, framework, &agent, &remaining, Some(refuse));
        }
    }

    /// All offers must be outstanding, distinct, the framework's, of one agent and one role, and
    /// the agent linked.
    fn check_offers(&self, framework: &FrameworkId, ids: &[v1::OfferId]) -> Result<(), String> {
        if ids.is_empty() {
            return Err("offer_ids is empty: ACCEPT must name at least one offer".to_owned());
        }
        let mut seen = BTreeSet::new();
        let mut first: Option<&Offer> = None;
        for id in ids {
            let id = OfferId::from(id);
            if !seen.insert(id.clone()) {
                return Err(format!("offer_ids names '{id}' twice: each offer may appear once"));
            }
            let offer = self.offers.get(&id).filter(|offer| offer.framework == *framework);
            let Some(offer) = offer else {
                return Err(format!(
                    "offer_ids names '{id}', which is no longer valid: it was used, declined or \
                     rescinded, or never was this framework's"
                ));
            };
            let first = *first.get_or_insert(offer);
            if offer.agent != first.agent {
                return Err(format!(
                    "offer_ids names offers of two agents, '{}' and '{}': all must be of one agent",
                    first.agent, offer.agent
                ));
            }
            if offer.role != first.role {
                return Err(format!(
                    "offer_ids names offers to two roles, '{}' and '{}': all must be to one role",
                    first.role, offer.role
                ));
            }
        }
        Ok(())
    }

    /// The offers were not good, or nothing can be promised: every operation on them fails.
    fn refuse_operations(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        operations: &[v1::offer::Operation],
        reason: Reason,
        message: &str,
    ) {
        let aware = self.frameworks.get(framework).is_some_and(|f| f.partition_aware());
        let state = lost_or(aware, TaskState::TaskDropped);
        for operation in operations {
            let launch = operation.launch.iter().flat_map(|l| &l.task_infos);
            let group = operation.launch_group.iter().flat_map(|l| &l.task_group.tasks);
            for task in launch.chain(group) {
                let status = from_master(
                    now,
                    &TaskId::from(&task.task_id),
                    Some(&AgentId::from(&task.agent_id)),
                    state,
                    Some(reason),
                    message,
                );
                self.statistics.task_moved(None, Some(state as i32));
                self.statistics.task_moved(Some(state as i32), None);
                self.send_status(framework, status, Position(0));
            }
            if let Some(id) = &operation.id {
                self.send_operation_error(framework, None, id, message);
            }
        }
    }

    /// An operation of a kind that is not run: says so where the framework asked for feedback.
    fn refuse_operation(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: &v1::offer::Operation,
    ) {
        let Some(id) = &operation.id else { return };
        let name = operation_type(operation).map_or("UNKNOWN", |kind| kind.as_str_name());
        let message =
            format!("operation {name} is not run by this version of Mezzo: only LAUNCH is");
        self.send_operation_error(framework, Some(agent), id, &message);
    }

    fn send_operation_error(
        &mut self,
        framework: &FrameworkId,
        agent: Option<&AgentId>,
        id: &v1::OperationId,
        message: &str,
    ) {
        let Some(stream) = self.frameworks.get(framework).and_then(|f| f.stream) else { return };
        let status = v1::OperationStatus {
            operation_id: Some(id.clone()),
            state: v1::OperationState::OperationError as i32,
            message: Some(message.to_owned()),
            agent_id: agent.map(Into::into),
            ..v1::OperationStatus::default()
        };
        let event = Event {
            r#type: Some(event::Type::UpdateOperationStatus as i32),
            update_operation_status: Some(event::UpdateOperationStatus { status }),
            ..Event::default()
        };
        self.send_event(stream, event, Position(0));
    }

    /// Validates one task and takes its resources out of what is left.
    fn launch(&mut self, now: Now, walk: &mut Walk, task: v1::TaskInfo, bytes: Option<Bytes>) {
        if let (Some(executor), None) = (&task.executor, &task.command) {
            let executor = executor.clone();
            return self.launch_in_executor(now, walk, task, executor, bytes);
        }
        let Some(framework) = self.frameworks.get(&walk.framework) else { return };
        let id = TaskId::from(&task.task_id);
        let context = validation::Context {
            agent: &walk.agent,
            role: &walk.role,
            remaining: &walk.available(),
            framework_user: &framework.info.user,
            root_submissions: self.config.root_submissions,
            id_taken: framework.tasks.contains_key(&id),
        };
        let wanted = match validation::task_info(&task, &context) {
            Ok(wanted) => wanted,
            Err(message) => {
                let reason = Reason::TaskInvalid;
                let (framework, agent) = (&walk.framework, &walk.agent);
                self.task_error(now, framework, &task.task_id, agent, reason, &message);
                return;
            }
        };
        let framework_info = framework.info.clone();
        self.take(walk, &wanted);
        let Some(launch) = self.next_order(&walk.agent) else { return };
        if let Some(agent) = self.agents.get_mut(&walk.agent) {
            agent.tasks.insert((walk.framework.clone(), id.clone()));
        }
        walk.placements.push(Placement {
            framework_id: walk.framework.to_string(),
            task_id: id.to_string(),
            agent_id: walk.agent.to_string(),
            role: walk.role.clone(),
            resources: wanted.to_proto(),
            launch_term: launch.term,
            launch_sequence: launch.sequence,
        });
        let task_info = bytes.unwrap_or_else(|| task.encode_to_vec().into());
        walk.orders.push(master_to_agent::Message::RunTask(RunTask {
            position: Some(LaunchPosition { term: launch.term, sequence: launch.sequence }),
            framework_info: Some(framework_info),
            task_info,
            launch_executor: false,
        }));
        let name = task.name.clone();
        let task = Task {
            framework: walk.framework.clone(),
            id: id.clone(),
            agent: walk.agent.clone(),
            role: walk.role.clone(),
            resources: wanted,
            launch,
            name,
            executor: None,
            info: Some(Box::new(task)),
            state: TaskState::TaskStaging,
            last_status: None,
            unacknowledged: None,
            holds_resources: true,
            kill: None,
            unreachable_since_unix_ns: None,
        };
        self.statistics.task_moved(None, Some(task.state as i32));
        if let Some(framework) = self.frameworks.get_mut(&walk.framework) {
            framework.tasks.insert(id.clone(), task);
        }
        self.view_task(&walk.framework, &id);
    }

    /// Takes what is used out of what is left.
    fn take(&mut self, walk: &mut Walk, wanted: &Resources) {
        if let Some(left) = walk.remaining.checked_sub(wanted) {
            walk.remaining = left;
        }
    }

    /// The position of the next order to the agent that must arrive once.
    fn next_order(&mut self, agent: &AgentId) -> Option<Launch> {
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

    /// Commits everything that one ACCEPT came to together, then sends the orders. Returns what is
    /// left of the offers.
    fn commit_walk(&mut self, walk: Walk) -> (AgentId, Resources) {
        let Walk { agent, remaining, placements, orders, .. } = walk;
        let mut position = Position(0);
        if !placements.is_empty() {
            position = self.persist(CommandKind::PlaceTasks(PlaceTasks { placements }));
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
        (agent, remaining)
    }

    /// TASK_ERROR: the task was never launched.
    fn task_error(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        task: &v1::TaskId,
        agent: &AgentId,
        reason: Reason,
        message: &str,
    ) {
        let state = TaskState::TaskError;
        let status =
            from_master(now, &TaskId::from(task), Some(agent), state, Some(reason), message);
        self.statistics.task_moved(None, Some(state as i32));
        self.statistics.task_moved(Some(state as i32), None);
        self.send_status(framework, status, Position(0));
    }
}

fn operation_type(operation: &v1::offer::Operation) -> Option<OperationType> {
    OperationType::try_from(operation.r#type?).ok()
}

fn count_tasks(operations: &[v1::offer::Operation]) -> usize {
    operations
        .iter()
        .map(|operation| {
            operation.launch.as_ref().map_or(0, |l| l.task_infos.len())
                + operation.launch_group.as_ref().map_or(0, |l| l.task_group.tasks.len())
        })
        .sum()
}
