//! Messages, endings and operations under Mesos' names: counters of the core that come in many kinds.

use mezzo_master_core::{OPERATION_TYPES, Statistics};
use mezzo_proto::v1::OperationState;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_proto::v1::scheduler::call::Type as CallType;
use mezzo_proto::v1::task_status::{Reason, Source};
use mezzo_telemetry::Readings;

/// What Mesos counts and cannot happen here.
const NEVER: [&str; 8] = [
    // Messages that a master drops while it does not lead, or has not recovered: here it listens only then.
    "master/dropped_messages",
    // Messages of drivers that are older than the v1 API; frameworks of today just close their stream.
    "master/messages_deactivate_framework",
    // Callers do not authenticate by messages.
    "master/messages_authenticate",
    // Agents tell of their resources when they register, and of changes by way of operations.
    "master/messages_update_slave",
    // A new agent at the address of an old one leaves the old one to its timeout.
    "master/slave_removals/reason_registered",
    // Mesos keeps these names and counts nothing under them any more either: agents are marked unreachable.
    "master/slave_shutdowns_scheduled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_canceled",
];

/// States of operations that Mesos has names for. Those of unreachable agents stay what they were, so there is no
/// `unreachable`.
const OPERATION_STATES: [(OperationState, &str); 7] = [
    (OperationState::OperationPending, "pending"),
    (OperationState::OperationRecovering, "recovering"),
    (OperationState::OperationFinished, "finished"),
    (OperationState::OperationFailed, "failed"),
    (OperationState::OperationError, "error"),
    (OperationState::OperationDropped, "dropped"),
    (OperationState::OperationGoneByOperator, "gone_by_operator"),
];

pub(super) fn read(statistics: &Statistics, readings: &mut Readings) {
    for name in NEVER {
        readings.counter(name, 0);
    }
    let calls = |kind: CallType| {
        let at = usize::try_from(kind as i32).ok();
        at.and_then(|at| statistics.calls_by_type.get(at)).copied().unwrap_or_default()
    };
    let again = statistics.subscribes_again;
    let agents = &statistics.agent_messages;
    for (name, value) in [
        ("register_framework", calls(CallType::Subscribe).saturating_sub(again)),
        ("reregister_framework", again),
        ("unregister_framework", calls(CallType::Teardown)),
        // As in Mesos, a LAUNCH of nothing declines.
        ("launch_tasks", statistics.launches),
        ("decline_offers", calls(CallType::Decline) + statistics.launches_empty),
        ("revive_offers", calls(CallType::Revive)),
        ("suppress_offers", calls(CallType::Suppress)),
        ("resource_request", calls(CallType::Request)),
        ("kill_task", calls(CallType::Kill)),
        ("status_update_acknowledgement", calls(CallType::Acknowledge)),
        ("operation_status_update_acknowledgement", calls(CallType::AcknowledgeOperationStatus)),
        ("reconcile_tasks", calls(CallType::Reconcile)),
        ("reconcile_operations", calls(CallType::ReconcileOperations)),
        ("framework_to_executor", calls(CallType::Message)),
        ("executor_to_framework", agents.of_executor),
        ("register_slave", agents.register),
        ("reregister_slave", agents.reregister),
        ("unregister_slave", agents.unregister),
        ("status_update", agents.status_update),
        ("operation_status_update", agents.operation_update),
        ("exited_executor", agents.executor_exited),
    ] {
        readings.counter(format!("master/messages_{name}"), value);
    }
    for (name, value) in [
        ("valid_operation_status_updates", statistics.operation_updates_valid),
        ("invalid_operation_status_updates", statistics.operation_updates_invalid),
        (
            "valid_operation_status_update_acknowledgements",
            statistics.operation_acknowledgements_valid,
        ),
        (
            "invalid_operation_status_update_acknowledgements",
            statistics.operation_acknowledgements_invalid,
        ),
    ] {
        readings.counter(format!("master/{name}"), value);
    }
    read_endings(statistics, readings);
    read_operations(statistics, readings);
}

/// `master/task_lost/source_master/reason_slave_removed`; made as they occur, as in Mesos.
fn read_endings(statistics: &Statistics, readings: &mut Readings) {
    for ((state, source, reason), count) in statistics.endings.iter() {
        let (Ok(state), Ok(source), Ok(reason)) =
            (TaskState::try_from(*state), Source::try_from(*source), Reason::try_from(*reason))
        else {
            continue;
        };
        let parts = [state.as_str_name(), source.as_str_name(), reason.as_str_name()];
        let [state, source, reason] = parts.map(old_name);
        readings.counter(format!("master/{state}/{source}/{reason}"), count.get());
    }
}

/// Mesos' metrics speak the language of its API before v1, in which agents are slaves.
fn old_name(name: &str) -> String {
    name.to_lowercase().replace("_agent", "_slave")
}

/// Gauges, as in Mesos: what was removed before it ended is taken off again.
fn read_operations(statistics: &Statistics, readings: &mut Readings) {
    let mut all = [0; OPERATION_STATES.len()];
    for number in (1..).take(OPERATION_TYPES - 1) {
        let Ok(kind) = OperationType::try_from(number) else { continue };
        // Launches are told of by the states of their tasks.
        if matches!(kind, OperationType::Launch | OperationType::LaunchGroup) {
            continue;
        }
        let counts = statistics.operations.of(kind);
        let shown = OPERATION_STATES.map(|(state, _)| {
            let at = usize::try_from(state as i32).ok();
            at.and_then(|at| counts.get(at)).copied().unwrap_or_default()
        });
        let name = kind.as_str_name().to_lowercase();
        read_states(&format!("master/operations/{name}"), &shown, readings);
        for (sum, count) in all.iter_mut().zip(shown) {
            *sum += count;
        }
    }
    read_states("master/operations", &all, readings);
}

fn read_states(prefix: &str, counts: &[i64; OPERATION_STATES.len()], readings: &mut Readings) {
    readings.gauge(format!("{prefix}/total"), counts.iter().sum::<i64>() as f64);
    for ((_, name), count) in OPERATION_STATES.iter().zip(counts) {
        readings.gauge(format!("{prefix}/{name}"), *count as f64);
    }
}
