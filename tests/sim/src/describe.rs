//! Messages as one short line each, for the trace.

use std::fmt::Write as _;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::storage::v1::Command;
use mezzo_proto::storage::v1::command::Command as Kind;
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, Event, call, event};

pub(crate) fn status(status: &v1::TaskStatus) -> String {
    let mut text = format!("{} {}", status.task_id.value, &status.state().as_str_name()[5..]);
    if let Some(uuid) = &status.uuid {
        let _ = write!(text, " #{}", short(uuid));
    }
    if status.reason.is_some() {
        let _ = write!(text, " {}", &status.reason().as_str_name()[7..]);
    }
    text
}

pub(crate) fn short(uuid: &[u8]) -> String {
    uuid.iter().take(3).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn to_master(message: &ToMaster) -> String {
    match message {
        ToMaster::Register(register) => {
            let id = register.agent_info.as_ref().and_then(|info| info.id.as_ref());
            let last = register.last_launch.unwrap_or_default();
            let mut text = format!(
                "Register {} boot={} highest={} last={}.{} tasks=",
                id.map_or("new", |id| &id.value),
                register.boot_id,
                register.highest_term,
                last.term,
                last.sequence
            );
            for task in &register.tasks {
                let latest = task.latest.as_ref().map(status).unwrap_or_default();
                let _ = write!(text, "[{} {latest}]", task.framework_id);
            }
            text
        }
        ToMaster::StatusUpdate(update) => {
            let latest = &update.latest_state().as_str_name()[5..];
            let update_status = update.status.as_ref().map(status).unwrap_or_default();
            format!("StatusUpdate {} {update_status} latest={latest}", update.framework_id)
        }
        ToMaster::Pong(_) => "Pong".to_owned(),
        ToMaster::Unregister(_) => "Unregister".to_owned(),
        ToMaster::OperationUpdate(update) => {
            let state = update.status.as_ref().map(|status| status.state().as_str_name());
            let uuid = short(&update.operation_uuid);
            format!("OperationUpdate {uuid} {}", state.unwrap_or_default())
        }
        ToMaster::ExecutorMessage(message) => format!("ExecutorMessage {}", message.executor_id),
        ToMaster::ExecutorExited(exited) => {
            format!("ExecutorExited {} {}", exited.executor_id, exited.wait_status)
        }
    }
}

pub(crate) fn to_agent(message: &ToAgent) -> String {
    match message {
        ToAgent::Registered(registered) => {
            format!("Registered {} term={}", registered.agent_id, registered.term)
        }
        ToAgent::Refused(refused) => format!("Refused {}: {}", refused.shutdown, refused.message),
        ToAgent::RunTask(run) => {
            let position = run.position.unwrap_or_default();
            let task = <v1::TaskInfo as prost::Message>::decode(run.task_info.as_ref());
            let id = task.map(|task| task.task_id.value).unwrap_or_default();
            format!("RunTask {id} at {}.{}", position.term, position.sequence)
        }
        ToAgent::KillTask(kill) => format!("KillTask {} {}", kill.framework_id, kill.task_id),
        ToAgent::Acknowledge(acknowledge) => format!(
            "Acknowledge {} {} #{}",
            acknowledge.framework_id,
            acknowledge.task_id,
            short(&acknowledge.uuid)
        ),
        ToAgent::ShutdownFramework(shutdown) => {
            format!("ShutdownFramework {}", shutdown.framework_id)
        }
        ToAgent::Ping(_) => "Ping".to_owned(),
        ToAgent::RunTaskGroup(run) => {
            let position = run.position.unwrap_or_default();
            let tasks = run.task_infos.len();
            format!("RunTaskGroup of {tasks} at {}.{}", position.term, position.sequence)
        }
        ToAgent::ShutdownExecutor(shutdown) => format!("ShutdownExecutor {}", shutdown.executor_id),
        ToAgent::ExecutorMessage(message) => format!("ExecutorMessage {}", message.executor_id),
        ToAgent::ApplyOperation(apply) => {
            let position = apply.position.unwrap_or_default();
            let uuid = short(&apply.operation_uuid);
            format!("ApplyOperation {uuid} at {}.{}", position.term, position.sequence)
        }
        ToAgent::AcknowledgeOperation(acknowledge) => {
            let uuid = short(&acknowledge.operation_uuid);
            format!("AcknowledgeOperation {uuid} #{}", short(&acknowledge.status_uuid))
        }
        ToAgent::Drain(drain) => format!("Drain ended={}", drain.ended),
        ToAgent::UpdateFramework(update) => {
            let id = update.framework_info.as_ref().and_then(|info| info.id.as_ref());
            format!("UpdateFramework {}", id.map_or("", |id| &id.value))
        }
    }
}

pub(crate) fn event(event: &Event) -> String {
    match event.r#type() {
        event::Type::Subscribed => {
            let id = event.subscribed.as_ref().map(|s| s.framework_id.value.as_str());
            format!("SUBSCRIBED {}", id.unwrap_or_default())
        }
        event::Type::Offers => {
            let mut text = "OFFERS".to_owned();
            for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                let _ = write!(text, " {}@{}", offer.id.value, offer.agent_id.value);
            }
            text
        }
        event::Type::Rescind => {
            let id = event.rescind.as_ref().map(|rescind| rescind.offer_id.value.as_str());
            format!("RESCIND {}", id.unwrap_or_default())
        }
        event::Type::Update => {
            let update = event.update.as_ref().map(|update| status(&update.status));
            format!("UPDATE {}", update.unwrap_or_default())
        }
        event::Type::Error => {
            let message = event.error.as_ref().map(|error| error.message.as_str());
            format!("ERROR {}", message.unwrap_or_default())
        }
        other => other.as_str_name().to_owned(),
    }
}

pub(crate) fn call(call: &Call) -> String {
    let mut text = call.r#type().as_str_name().to_owned();
    match call.r#type() {
        call::Type::Accept => {
            let accept = call.accept.as_ref();
            for id in accept.iter().flat_map(|accept| &accept.offer_ids) {
                let _ = write!(text, " {}", id.value);
            }
            let operations = accept.iter().flat_map(|accept| &accept.operations);
            for task in operations.flat_map(|o| &o.launch).flat_map(|launch| &launch.task_infos) {
                let command = task.command.as_ref().map(|command| command.value());
                let _ = write!(text, " +{}({})", task.task_id.value, command.unwrap_or_default());
            }
        }
        call::Type::Decline => {
            for id in call.decline.iter().flat_map(|decline| &decline.offer_ids) {
                let _ = write!(text, " {}", id.value);
            }
        }
        call::Type::Kill => {
            let id = call.kill.as_ref().map(|kill| kill.task_id.value.as_str());
            let _ = write!(text, " {}", id.unwrap_or_default());
        }
        call::Type::Acknowledge => {
            if let Some(acknowledge) = &call.acknowledge {
                let uuid = short(&acknowledge.uuid);
                let _ = write!(text, " {} #{uuid}", acknowledge.task_id.value);
            }
        }
        call::Type::Reconcile => {
            for task in call.reconcile.iter().flat_map(|reconcile| &reconcile.tasks) {
                let _ = write!(text, " {}", task.task_id.value);
            }
        }
        _ => {}
    }
    text
}

pub(crate) fn command(command: &Command) -> String {
    match &command.command {
        Some(Kind::PutAgent(put)) => {
            let agent = put.agent.clone().unwrap_or_default();
            let id = agent.info.as_ref().and_then(|info| info.id.as_ref());
            format!("PutAgent {} {:?}", id.map_or("", |id| &id.value), agent.state())
        }
        Some(Kind::RemoveAgent(remove)) => format!("RemoveAgent {}", remove.agent_id),
        Some(Kind::PutFramework(put)) => {
            let framework = put.framework.clone().unwrap_or_default();
            let id = framework.info.as_ref().and_then(|info| info.id.as_ref());
            format!("PutFramework {} {:?}", id.map_or("", |id| &id.value), framework.state())
        }
        Some(Kind::RemoveFramework(remove)) => format!("RemoveFramework {}", remove.framework_id),
        Some(Kind::PlaceTasks(place)) => {
            let mut text = "PlaceTasks".to_owned();
            for placement in &place.placements {
                let _ = write!(text, " {}@{}", placement.task_id, placement.agent_id);
            }
            text
        }
        Some(Kind::ForgetTasks(forget)) => {
            let mut text = "ForgetTasks".to_owned();
            for task in &forget.tasks {
                let _ = write!(text, " {}", task.task_id);
            }
            text
        }
        Some(Kind::PutCounters(_)) => "PutCounters".to_owned(),
        Some(Kind::PutOperations(put)) => format!("PutOperations {}", put.operations.len()),
        Some(Kind::ForgetOperations(forget)) => {
            format!("ForgetOperations {}", forget.operation_uuids.len())
        }
        Some(Kind::PutWeights(put)) => format!("PutWeights {}", put.weights.len()),
        Some(Kind::PutQuotas(put)) => format!("PutQuotas {}", put.quotas.len()),
        Some(Kind::PutMaintenance(put)) => format!("PutMaintenance {}", put.machines.len()),
        None => "nothing".to_owned(),
    }
}
