//! The shape of an executor's call, checked before anything is looked up.

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::executor::{Call, call};
use mezzo_proto::v1::task_status::Source;
use mezzo_types::{ExecutorId, Uuid16};

/// Checks what can be said of a call without knowing the agent's state. The text completes
/// "Failed to validate Executor::Call: …".
///
/// Checks and their order: Mesos 1.11, `src/common/validation.cpp`.
///
/// # Errors
/// One sentence that names field and rule.
pub fn validate_call(call: &Call) -> Result<(), String> {
    let Some(number) = call.r#type else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    let absent = |part: &str| Err(format!("Expecting '{part}' to be present"));
    match call::Type::try_from(number).unwrap_or(call::Type::Unknown) {
        call::Type::Subscribe if call.subscribe.is_none() => absent("subscribe"),
        call::Type::Message if call.message.is_none() => absent("message"),
        call::Type::Update => match &call.update {
            None => absent("update"),
            Some(sent) => update(&sent.status, &(&call.executor_id).into()),
        },
        _ => Ok(()),
    }
}

/// Checks a status of an executor.
pub(super) fn update(status: &v1::TaskStatus, executor: &ExecutorId) -> Result<(), String> {
    let Some(uuid) = status.uuid.as_deref() else {
        return Err("Expecting 'uuid' to be present".to_owned());
    };
    if Uuid16::from_slice(uuid).is_none() {
        return Err(format!("update.status.uuid has {} bytes but a UUID has 16", uuid.len()));
    }
    if let Some(named) = &status.executor_id
        && named.value != executor.as_str()
    {
        return Err(format!(
            "ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {}",
            named.value
        ));
    }
    // Unset, it is read as SOURCE_MASTER.
    if status.source != Some(Source::Executor as i32) {
        return Err(format!(
            "Received Call from executor {executor} with invalid source, expecting 'SOURCE_EXECUTOR'"
        ));
    }
    if status.state() == TaskState::TaskStaging {
        return Err(format!("Received TASK_STAGING from executor {executor} which is not allowed"));
    }
    Ok(())
}
