//! What tasks use: GET_CONTAINERS, `/containers` and `/monitor/statistics` as Mesos has them, and the same over gRPC.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use mezzo_http_server::query_value;
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{GetContainers, get_containers};
use mezzo_proto::v1::agent::{StatisticsRequest, StatisticsResponse, TaskStatistics};
use mezzo_types::{FrameworkId, TaskId};
use serde_json::{Value, json};

use super::Context;
use super::browse::answer_text;
use super::encoding::Refusal;
use crate::meter::{Metered, Reading, Readings};

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

/// Which containers are asked for: one, those of a framework, that of an executor, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    container: Option<String>,
    framework: Option<String>,
    executor: Option<String>,
}

impl Wanted {
    fn of(query: Option<&str>) -> Result<Self, Refusal> {
        let wanted = Wanted {
            container: query_value(query, "container_id"),
            framework: query_value(query, "framework_id"),
            executor: query_value(query, "executor_id"),
        };
        match (&wanted.container, &wanted.framework, &wanted.executor) {
            (Some(_), None, None) | (None, Some(_), _) | (None, None, None) => Ok(wanted),
            _ => Err(Refusal::bad(
                "Supported query parameters are container_id only, framework_id only, or \
                 executor_id and framework_id only"
                    .to_owned(),
            )),
        }
    }

    fn accepts(&self, of: &Metered) -> bool {
        let is = |wanted: &Option<String>, id: &str| wanted.as_ref().is_none_or(|want| want == id);
        is(&self.container, of.container.as_str())
            && is(&self.framework, of.framework.as_str())
            // Known by the id of what the container is for.
            && is(&self.executor, of.task.as_str())
    }
}

/// `/containers`: what those use that the query asks for, and the container's status.
pub(super) async fn containers_json(context: &Context, query: Option<&str>) -> Response {
    let wanted = match Wanted::of(query) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal.into_response(),
    };
    let meter = context.meter.clone();
    let read = match wanted == Wanted::default() {
        true => read(context).await,
        false => off_the_loop(move || meter.some(|of| wanted.accepts(of))).await,
    };
    list(query, read, |reading| {
        let mut entry = entry(reading);
        entry["container_id"] = reading.of.container.as_str().into();
        let status = reading.of.status.as_ref();
        entry["status"] = status.map_or_else(|| json!({}), |s| value(&json::to_vec(s)));
        entry
    })
}

/// `/monitor/statistics`.
pub(super) async fn statistics_json(context: &Context, query: Option<&str>) -> Response {
    list(query, read(context).await, entry)
}

fn list(
    query: Option<&str>,
    read: Result<Readings, Refusal>,
    entry: impl Fn(&Reading) -> Value,
) -> Response {
    let list = read.map(|readings| Value::from_iter(readings.tasks.iter().map(entry)));
    let answered = list.and_then(|list| answer_text(query, &list.to_string()));
    answered.unwrap_or_else(IntoResponse::into_response)
}

fn entry(reading: &Reading) -> Value {
    json!({
        "executor_id": reading.of.task.as_str(),
        "executor_name": reading.of.name,
        "framework_id": reading.of.framework.as_str(),
        "source": reading.of.task.as_str(),
        "statistics": value(&json::to_vec(&reading.statistics)),
    })
}

/// What was written as JSON a moment ago.
fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_chosen_as_mesos_chooses_them() {
        let of = Metered {
            framework: "f".into(),
            task: "e".into(),
            name: String::new(),
            role: "*".to_owned(),
            container: "c".into(),
            status: None,
            cpus: 1.0,
            cpus_limit: None,
        };
        for (query, expected) in [
            (None, true),
            (Some("jsonp=show"), true),
            (Some("container_id=c"), true),
            (Some("container_id=zzz"), false),
            (Some("container_id="), false),
            (Some("framework_id=f"), true),
            (Some("framework_id=g"), false),
            (Some("framework_id=f&executor_id=e"), true),
            (Some("framework_id=f&executor_id=x"), false),
            (Some("framework_id=g&executor_id=e"), false),
        ] {
            assert_eq!(Wanted::of(query).unwrap().accepts(&of), expected, "{query:?}");
        }
        for bad in
            ["executor_id=e", "container_id=c&framework_id=f", "container_id=c&executor_id=e"]
        {
            assert_eq!(Wanted::of(Some(bad)).unwrap_err().code, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
