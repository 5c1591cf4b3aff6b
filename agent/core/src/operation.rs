//! Operations on the agent's resources: reservations and volumes.
//!
//! What the agent has outlives tasks, frameworks, boots and even its membership, and so does the data of
//! its volumes. An operation is carried out in this order:
//!
//! 1. It is held against the total: one that rests on something that is not there is dropped.
//! 2. The directories of new volumes are made, and orders that come meanwhile wait.
//! 3. The new total and the operation with its update are forced to the disk, together.
//! 4. The directories of destroyed volumes are moved away. A start repeats this step for every destruction
//!    that was written down and whose update was not acknowledged, so that nothing is left that a later
//!    volume of the same name would find.
//! 5. The update is sent, until it is acknowledged.

use bytes::Bytes;
use mezzo_proto::internal::v1::{
    AcknowledgeOperation, AgentOperation, ApplyOperation, OperationUpdate, agent_to_master,
};
use mezzo_proto::storage::v1::{OperationRecord, ResourcesRecord};
use mezzo_proto::v1;
use mezzo_proto::v1::OperationState;
use mezzo_status_updates::{Acknowledged, Effect as Sending, Update};
use mezzo_types::deliberate_bug::{Bug, is_on};
use mezzo_types::{Now, Position, Resource, ResourceOperation, Resources, Uuid16};

use crate::core::Core;
use crate::effect::{Change, Effect, ViewChange};
use crate::input::LinkId;

/// An operation until its update was acknowledged.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Empty for an operator's.
    pub(crate) framework_id: String,
    pub(crate) info: v1::offer::Operation,
    pub(crate) latest: v1::OperationStatus,
}

/// An operation as it was ordered.
#[derive(Debug)]
struct Ordered {
    uuid: Uuid16,
    framework_id: String,
    info: v1::offer::Operation,
}

/// An operation whose directories are being made.
#[derive(Debug)]
pub(crate) struct Applying {
    ordered: Ordered,
    /// What the agent has if all goes well.
    total: Resources,
}

/// An update as it waits for its turn.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingOperation {
    pub(crate) framework_id: String,
    pub(crate) status: Box<v1::OperationStatus>,
    /// Where it was written down.
    pub(crate) after: Position,
}

impl Core {
    /// Carries an operation out, once: an order whose position was seen is passed over.
    pub(crate) fn apply_operation(&mut self, now: Now, link: LinkId, apply: ApplyOperation) {
        let position = apply.position.unwrap_or_default();
        if !self.take_order(link, position, "an operation", |all| &mut all.operations_repeated) {
            return;
        }
        let uuid = Uuid16::from_slice(&apply.operation_uuid);
        let (Some(uuid), Some(info)) = (uuid, apply.info) else {
            // The master made it, so this is nobody's fault who could be told. Registering anew tells the
            // master that the operation arrived and is unknown, which ends it there.
            self.persist(vec![Change::PutLastLaunch(position)], false);
            return self.close_link(link, "an operation arrived that cannot be read");
        };
        if self.operations.contains_key(&uuid) {
            self.statistics.operations_repeated += 1;
            return self.persist(vec![Change::PutLastLaunch(position)], false);
        }
        let ordered = Ordered { uuid, framework_id: apply.framework_id, info };
        match self.examine_operation(&ordered.info) {
            Err((state, message)) => {
                self.end_operation(now, ordered, state, Some(message), Vec::new());
            }
            Ok((ResourceOperation::Create { volumes }, total)) => {
                self.applying = Some(Applying { ordered, total });
                let after = self.position;
                self.effects.push_back(Effect::MakeVolumes { operation: uuid, volumes, after });
            }
            Ok((operation, total)) => {
                let gone = match operation {
                    ResourceOperation::Destroy { volumes } => volumes,
                    _ => Resources::default(),
                };
                self.finish_operation(now, ordered, total, gone);
            }
        }
    }

    /// What the operation makes of the total, or why it does not.
    fn examine_operation(
        &self,
        info: &v1::offer::Operation,
    ) -> Result<(ResourceOperation, Resources), (OperationState, String)> {
        if self.leaving.is_some() {
            let message = "the agent is leaving the cluster".to_owned();
            return Err((OperationState::OperationDropped, message));
        }
        let operation = ResourceOperation::from_proto(info)
            .map_err(|fault| (OperationState::OperationError, fault.to_string()))?
            .unallocated();
        // A destruction makes room.
        if let Some(shortage) = &self.shortage
            && !matches!(operation, ResourceOperation::Destroy { .. })
        {
            return Err((OperationState::OperationFailed, shortage.clone()));
        }
        let total = self.total.convert(&operation.conversions()).map_err(|error| {
            let message = format!("the agent's resources do not allow it: {error}");
            (OperationState::OperationDropped, message)
        })?;
        if let ResourceOperation::Destroy { volumes } = &operation {
            let used = volumes.iter().find_map(|volume| Some((volume, self.user_of(volume)?)));
            if let Some((volume, task)) = used {
                let message = format!("task '{task}' uses the persistent volume {volume}");
                return Err((OperationState::OperationFailed, message));
            }
        }
        Ok((operation, total))
    }

    /// Of these resources, what an operation would have had to make and none did (Mesos looks at those
    /// that are checkpointed: dynamically reserved ones and persistent volumes).
    pub(crate) fn unknown_resources(&self, resources: &Resources) -> Option<Resources> {
        let made = resources.unallocated().filter(Resource::is_made_by_operation);
        let unknown = made.filter(|resource| !self.total.contains_resource(resource));
        (!unknown.is_empty()).then_some(unknown)
    }

    /// A task that has not ended, or an executor, and uses the volume.
    fn user_of(&self, volume: &Resource) -> Option<&str> {
        let uses = |task: &&crate::task::Task| {
            let resources = Resources::from_proto(&task.info.resources).unwrap_or_default();
            !task.ended() && resources.unallocated().contains_resource(volume)
        };
        let task = self.tasks.values().find(uses).map(|task| task.info.task_id.value.as_str());
        let has = |executor: &&crate::executor::Executor| {
            let resources = Resources::from_proto(&executor.info.resources).unwrap_or_default();
            resources.unallocated().contains_resource(volume)
        };
        let executor = || self.executors.values().find(has);
        task.or_else(|| executor().map(|executor| executor.info.executor_id.value.as_str()))
    }

    /// The shell made the directories of an operation's volumes, or could not.
    pub(crate) fn volumes_made(&mut self, now: Now, uuid: Uuid16, outcome: Result<(), String>) {
        let applying = self.applying.take_if(|applying| applying.ordered.uuid == uuid);
        let Some(Applying { ordered, total }) = applying else { return };
        match outcome {
            Ok(()) => self.finish_operation(now, ordered, total, Resources::default()),
            Err(message) => {
                let state = OperationState::OperationFailed;
                self.end_operation(now, ordered, state, Some(message), Vec::new());
            }
        }
        // A link that came up meanwhile waited for the operation's ending.
        self.introduce();
        self.take_waiting(now);
    }

    fn finish_operation(&mut self, now: Now, ordered: Ordered, total: Resources, gone: Resources) {
        self.total = total;
        let changes = vec![self.resources_record()];
        self.end_operation(now, ordered, OperationState::OperationFinished, None, changes);
        if !gone.is_empty() {
            let early = is_on(Bug::AgentRemovesEarly);
            let after = if early { Position::NONE } else { self.position };
            self.effects.push_back(Effect::RemoveVolumes { volumes: gone, after });
        }
        self.view(ViewChange::Total(Box::new(self.total.clone())));
    }

    /// Writes the operation's ending down together with `changes`, and sends it then.
    fn end_operation(
        &mut self,
        now: Now,
        ordered: Ordered,
        state: OperationState,
        message: Option<String>,
        mut changes: Vec<Change>,
    ) {
        let Ordered { uuid, framework_id, info } = ordered;
        *self.statistics.operations_ended.entry(state).or_default() += 1;
        let status_uuid = self.ids.next_uuid();
        let status = v1::OperationStatus {
            operation_id: info.id.clone(),
            state: state as i32,
            message,
            uuid: Some(v1::Uuid { value: Bytes::copy_from_slice(status_uuid.as_bytes()) }),
            agent_id: self.agent_id().cloned(),
            ..v1::OperationStatus::default()
        };
        let operation =
            Operation { framework_id: framework_id.clone(), info, latest: status.clone() };
        self.operations.insert(uuid, operation);
        let body = OutgoingOperation {
            framework_id,
            status: Box::new(status),
            after: self.position.next(),
        };
        let update = Update { uuid: status_uuid, terminal: true, body };
        let pushed = self.operation_updates.push(now, uuid, update);
        debug_assert!(pushed.is_ok(), "an operation ends once");
        changes.push(Change::PutLastLaunch(self.last_launch));
        changes.extend(self.operation_record(uuid));
        self.persist(changes, true);
        self.view_operation(uuid);
    }

    pub(crate) fn acknowledge_operation(&mut self, now: Now, message: &AcknowledgeOperation) {
        let uuids = Uuid16::from_slice(&message.operation_uuid)
            .zip(Uuid16::from_slice(&message.status_uuid));
        let acknowledged = uuids.and_then(|(operation, status)| {
            let outcome = self.operation_updates.acknowledge(now, &operation, status).ok()?;
            Some((operation, outcome))
        });
        match acknowledged {
            None => {
                self.statistics.operation_acknowledgements_invalid += 1;
                return;
            }
            Some((operation, Acknowledged::Closed)) => {
                self.operations.remove(&operation);
                self.persist(vec![Change::DeleteOperation(operation)], false);
                self.view(ViewChange::OperationGone(operation));
            }
            Some((operation, Acknowledged::Advanced)) => {
                let record = self.operation_record(operation);
                self.persist(record.into_iter().collect(), false);
            }
            Some((_, Acknowledged::Duplicate)) => {}
        }
        self.statistics.operation_acknowledgements_valid += 1;
    }

    /// Hands on what is due, over the link that the master confirmed.
    pub(crate) fn forward_operations(&mut self) {
        while let Some(Sending::Send { stream, update }) = self.operation_updates.poll_effect() {
            let link = self.link.as_ref().filter(|link| link.registered.is_some());
            let Some(id) = link.map(|link| link.id) else { continue };
            let message = OperationUpdate {
                framework_id: update.body.framework_id,
                operation_uuid: Bytes::copy_from_slice(stream.as_bytes()),
                status: Some(*update.body.status),
            };
            let message = agent_to_master::Message::OperationUpdate(Box::new(message));
            self.send(id, message, update.body.after);
        }
    }

    /// For the registration: what the agent has, if that is not just what it was configured with.
    pub(crate) fn registered_total(&self) -> Vec<v1::Resource> {
        let configured = Resources::from_proto(&self.config.info.resources).unwrap_or_default();
        if self.total == configured { Vec::new() } else { self.total.to_proto() }
    }

    pub(crate) fn registered_operations(&self) -> Vec<AgentOperation> {
        let report = |(uuid, operation): (&Uuid16, &Operation)| AgentOperation {
            operation_uuid: Bytes::copy_from_slice(uuid.as_bytes()),
            framework_id: operation.framework_id.clone(),
            info: Some(operation.info.clone()),
            latest: Some(operation.latest.clone()),
        };
        self.operations.iter().map(report).collect()
    }

    fn resources_record(&self) -> Change {
        Change::PutResources(Box::new(ResourcesRecord {
            total: self.total.to_proto(),
            configured: self.config.info.resources.clone(),
        }))
    }

    fn operation_record(&self, uuid: Uuid16) -> Option<Change> {
        let operation = self.operations.get(&uuid)?;
        let pending = self.operation_updates.pending(&uuid);
        let record = OperationRecord {
            operation_uuid: Bytes::copy_from_slice(uuid.as_bytes()),
            framework_id: operation.framework_id.clone(),
            info: Some(operation.info.clone()),
            updates: pending.map(|update| (*update.body.status).clone()).collect(),
            latest: Some(operation.latest.clone()),
        };
        Some(Change::PutOperation(uuid, Box::new(record)))
    }

    fn view_operation(&mut self, uuid: Uuid16) {
        let Some(operation) = self.operations.get(&uuid) else { return };
        let framework_id = (!operation.framework_id.is_empty())
            .then(|| v1::FrameworkId { value: operation.framework_id.clone() });
        let view = v1::Operation {
            framework_id,
            agent_id: self.agent_id().cloned(),
            info: operation.info.clone(),
            latest_status: operation.latest.clone(),
            statuses: vec![operation.latest.clone()],
            uuid: v1::Uuid { value: Bytes::copy_from_slice(uuid.as_bytes()) },
        };
        self.view(ViewChange::Operation(Box::new(view)));
    }

    /// What an earlier run wrote down. `member`: the agent is still the one that was ordered to.
    pub(crate) fn recover_operations(
        &mut self,
        now: Now,
        records: Vec<OperationRecord>,
        member: bool,
    ) {
        for record in records {
            let uuid = Uuid16::from_slice(&record.operation_uuid);
            let (Some(uuid), Some(info), Some(latest)) = (uuid, record.info, record.latest) else {
                self.statistics.recovery_errors += 1;
                continue;
            };
            self.remove_again(&info, &latest);
            if !member {
                self.persist(vec![Change::DeleteOperation(uuid)], false);
                continue;
            }
            let framework_id = record.framework_id;
            let operation = Operation { framework_id: framework_id.clone(), info, latest };
            self.operations.insert(uuid, operation);
            for status in record.updates {
                let status_uuid = status.uuid.as_ref().and_then(|u| Uuid16::from_slice(&u.value));
                let Some(status_uuid) = status_uuid else {
                    self.statistics.recovery_errors += 1;
                    continue;
                };
                // Behind the record of the total.
                let after = self.position;
                let body = OutgoingOperation {
                    framework_id: framework_id.clone(),
                    status: Box::new(status),
                    after,
                };
                let update = Update { uuid: status_uuid, terminal: true, body };
                if self.operation_updates.push(now, uuid, update).is_err() {
                    self.statistics.recovery_errors += 1;
                }
            }
            self.view_operation(uuid);
        }
    }

    /// A destruction that was written down may have stopped before the data was moved away.
    fn remove_again(&mut self, info: &v1::offer::Operation, latest: &v1::OperationStatus) {
        if latest.state() != OperationState::OperationFinished {
            return;
        }
        let Ok(ResourceOperation::Destroy { volumes }) = ResourceOperation::from_proto(info) else {
            return;
        };
        let lies_where = |a: &Resource, b: &Resource| {
            a.persistence_id() == b.persistence_id()
                && a.reservation_role() == b.reservation_role()
                && a.disk.as_ref().map(|disk| &disk.source)
                    == b.disk.as_ref().map(|disk| &disk.source)
        };
        // One of the same name may have been made since.
        let gone = volumes
            .unallocated()
            .filter(|volume| !self.total.iter().any(|there| lies_where(there, volume)));
        if !gone.is_empty() {
            let after = self.position;
            self.effects.push_back(Effect::RemoveVolumes { volumes: gone, after });
        }
    }

    /// Takes the total of an earlier run up. That run may have been killed before its records were on the
    /// disk: they are forced there before anything is told of them or done for them.
    pub(crate) fn recover_total(&mut self, written: bool) {
        if written || !self.registered_total().is_empty() {
            let record = self.resources_record();
            self.persist(vec![record], true);
        }
        self.view(ViewChange::Total(Box::new(self.total.clone())));
    }
}
