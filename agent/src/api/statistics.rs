//! What tasks use: GET_CONTAINERS, `/containers` and `/monitor/statistics` as Mesos has them, and the same over gRPC.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{GetContainers, get_containers};
use mezzo_proto::v1::agent::{StatisticsRequest, StatisticsResponse, TaskStatistics};
use mezzo_types::{FrameworkId, TaskId};
use serde_json::{Value, json};

use super::Context;
use super::encoding::Refusal;
use crate::meter::{Reading, Readings};

/// Runs what blocks for a while where it holds up nobody.
pub(super) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal {
        code: StatusCode::INTERNAL_SERVER_ERROR,
        message: "the agent could not measure its tasks; its log says why".to_owned(),
    })
}

async fn read(context: &Context) -> Result<Readings, Refusal> {
    let meter = context.meter.clone();
    off_the_loop(move || meter.all().0).await
}

/// A command task is its own executor.
fn executor(reading: &Reading) -> v1::ExecutorId {
    v1::ExecutorId { value: reading.of.task.to_string() }
}

/// GET_CONTAINERS.
pub(super) async fn containers(context: &Context) -> Result<GetContainers, Refusal> {
    let container = |reading: Reading| get_containers::Container {
        framework_id: Some((&reading.of.framework).into()),
        executor_id: Some(executor(&reading)),
        executor_name: Some(reading.of.name),
        container_id: reading.of.container.to_proto(),
        container_status: reading.of.status,
        resource_statistics: Some(reading.statistics),
    };
    let readings = read(context).await?;
    Ok(GetContainers { containers: readings.tasks.into_iter().map(container).collect() })
}

/// The call of the agent's gRPC service.
pub(super) async fn of_tasks(
    context: &Context,
    request: StatisticsRequest,
) -> Result<StatisticsResponse, Refusal> {
    let only = match (request.framework_id, request.task_id) {
        (None, None) => None,
        (Some(framework), Some(task)) => Some((FrameworkId::from(&framework), TaskId::from(&task))),
        _ => {
            let message = "Expecting 'framework_id' and 'task_id', or neither".to_owned();
            return Err(Refusal::bad(message));
        }
    };
    let meter = context.meter.clone();
    let (readings, mut denials) = match only.clone() {
        Some(key) => off_the_loop(move || meter.one(&key)).await?,
        None => (read(context).await?, Vec::new()),
    };
    if let (Some((framework, task)), []) = (only, readings.tasks.as_slice()) {
        return Err(Refusal {
            code: StatusCode::NOT_FOUND,
            message: format!("no task '{task}' of framework '{framework}' runs here"),
        });
    }
    let Readings { tasks, features } = readings;
    let statistics = |reading: Reading| TaskStatistics {
        framework_id: Some((&reading.of.framework).into()),
        task_id: Some((&reading.of.task).into()),
        executor_id: Some(executor(&reading)),
        container_id: Some(reading.of.container.to_proto()),
        kernel: reading.kernel(&features),
        name: reading.of.name,
        role: reading.of.role,
        statistics: Some(reading.statistics),
        // There is one task if there are any.
        denials: std::mem::take(&mut denials),
    };
    let tasks = tasks.into_iter().map(statistics).collect();
    Ok(StatisticsResponse { tasks, features_off: features.told() })
}

/// `/monitor/statistics`, and `/containers`, which tells the container and its status as well.
pub(super) async fn list(context: &Context, with_container: bool) -> Response {
    let readings = match read(context).await {
        Ok(readings) => readings,
        Err(refusal) => return refusal.into_response(),
    };
    let entry = |reading: &Reading| {
        let mut entry = json!({
            "executor_id": reading.of.task.as_str(),
            "executor_name": reading.of.name,
            "framework_id": reading.of.framework.as_str(),
            "source": reading.of.task.as_str(),
            "statistics": value(&json::to_vec(&reading.statistics)),
        });
        if with_container {
            entry["container_id"] = reading.of.container.as_str().into();
            let status = reading.of.status.as_ref();
            entry["status"] = status.map_or_else(|| json!({}), |s| value(&json::to_vec(s)));
        }
        entry
    };
    let list = Value::from_iter(readings.tasks.iter().map(entry));
    ([(header::CONTENT_TYPE, "application/json")], list.to_string()).into_response()
}

/// What was written as JSON a moment ago.
fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}
