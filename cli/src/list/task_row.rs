//! A line of `mezzo ps`.

use mezzo_sdk::v1::{CheckStatusInfo, Task, TaskState};
use mezzo_sdk::{Ending, is_terminal, state_name};
use serde::Serialize;

use crate::find::last_news;
use crate::list::amount;
use crate::output::Row;
use crate::quantity;

/// The JSON form of a task. Times are seconds since 1970.
#[derive(Debug, Serialize)]
pub(crate) struct TaskRow {
    task_id: String,
    name: String,
    /// As Mesos spells it, `TASK_RUNNING`.
    state: &'static str,
    framework_id: String,
    agent_id: String,
    /// The agent's host name, if it is connected.
    agent: Option<String>,
    user: Option<String>,
    role: Option<String>,
    cpus: f64,
    mem_mb: f64,
    disk_mb: f64,
    /// As in `31000-31002,31007`; empty without ports.
    ports: String,
    /// What its health check found last, if it has one and that has found anything.
    healthy: Option<bool>,
    /// What its check found last: the exit code, the HTTP status, or whether there was a connection.
    check: Option<String>,
    /// When the state was entered.
    since: Option<f64>,
    /// When the task was first seen running.
    started: Option<f64>,
    exit_code: Option<u8>,
    signal: Option<u8>,
    reason: Option<&'static str>,
    message: Option<String>,

    #[serde(skip)]
    age_seconds: Option<f64>,
    /// It has a health check.
    #[serde(skip)]
    unknown_health: bool,
}

impl TaskRow {
    pub(crate) fn new(task: &Task, hostname: Option<&str>, now: f64) -> Self {
        let newest = task.statuses.last();
        let since = Some(last_news(task)).filter(|time| *time > 0.0);
        let running = newest.filter(|status| status.state() == TaskState::TaskRunning);
        let unknown = running.is_some() && task.health_check.is_some();
        let ending = newest.and_then(Ending::of);
        let role = task
            .resources
            .iter()
            .filter_map(|resource| resource.allocation_info.as_ref())
            .find_map(|allocation| allocation.role.clone());
        TaskRow {
            task_id: task.task_id.value.clone(),
            name: task.name.clone(),
            state: state_name(task.state),
            framework_id: task.framework_id.value.clone(),
            agent_id: task.agent_id.value.clone(),
            agent: hostname.map(str::to_owned),
            user: task.user.clone(),
            role,
            cpus: quantity::scalar(&task.resources, "cpus"),
            mem_mb: quantity::scalar(&task.resources, "mem"),
            disk_mb: quantity::scalar(&task.resources, "disk"),
            ports: quantity::ports(&task.resources),
            healthy: running.and_then(|status| status.healthy),
            check: running.and_then(|status| status.check_status.as_ref()).and_then(check_result),
            since,
            started: task
                .statuses
                .iter()
                .find(|status| status.state() == TaskState::TaskRunning)
                .and_then(|status| status.timestamp),
            exit_code: match ending {
                Some(Ending::Exited(code)) => Some(code),
                _ => None,
            },
            signal: match ending {
                Some(Ending::Signaled(signal)) => Some(signal),
                _ => None,
            },
            reason: newest
                .filter(|status| status.reason.is_some())
                .map(|status| status.reason().as_str_name()),
            message: newest.and_then(|status| status.message.clone()),
            age_seconds: since.map(|since| now - since),
            unknown_health: unknown,
        }
    }

    /// Active tasks first, each group by id.
    pub(crate) fn order(&self) -> (bool, &str, &str) {
        let over = TaskState::from_str_name(self.state).is_some_and(is_terminal);
        (over, &self.task_id, &self.framework_id)
    }

    /// `healthy`, `unhealthy` or, before the first result, `starting`; and the result of the check.
    fn health(&self) -> String {
        let health = match self.healthy {
            Some(true) => Some("healthy"),
            Some(false) => Some("unhealthy"),
            None if self.unknown_health => Some("starting"),
            None => None,
        };
        let parts: Vec<&str> = health.into_iter().chain(self.check.as_deref()).collect();
        parts.join(", ")
    }

    fn ending(&self) -> String {
        match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => String::new(),
        }
    }
}

/// The result in words; `None` while there is none.
fn check_result(status: &CheckStatusInfo) -> Option<String> {
    if let Some(code) = status.command.and_then(|command| command.exit_code) {
        return Some(format!("exit {code}"));
    }
    if let Some(code) = status.http.and_then(|http| http.status_code) {
        return Some(format!("HTTP {code}"));
    }
    let succeeded = status.tcp.and_then(|tcp| tcp.succeeded)?;
    Some(if succeeded { "connected" } else { "not connected" }.to_owned())
}

impl Row for TaskRow {
    const HEADINGS: &'static [&'static str] =
        &["TASK", "NAME", "STATE", "HEALTH", "SINCE", "AGENT", "CPUS", "MEM", "PORTS", "ENDING"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.task_id.clone(),
            self.name.clone(),
            self.state.trim_start_matches("TASK_").to_lowercase(),
            self.health(),
            self.age_seconds.map_or_else(|| "-".to_owned(), quantity::age),
            self.agent.clone().unwrap_or_else(|| self.agent_id.clone()),
            amount(self.cpus),
            format!("{} MB", amount(self.mem_mb)),
            self.ports.clone(),
            self.ending(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1::{self, TaskStatus, task_status};

    use super::*;

    fn scalar(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.to_owned(),
            scalar: Some(v1::value::Scalar { value }),
            allocation_info: Some(v1::resource::AllocationInfo { role: Some("ads".to_owned()) }),
            ..Default::default()
        }
    }

    fn failed_task() -> Task {
        let status = |state: TaskState, timestamp: f64| TaskStatus {
            state: state as i32,
            timestamp: Some(timestamp),
            ..Default::default()
        };
        Task {
            name: "web".to_owned(),
            task_id: v1::TaskId { value: "web.1".to_owned() },
            framework_id: v1::FrameworkId { value: "f".to_owned() },
            agent_id: v1::AgentId { value: "a".to_owned() },
            state: TaskState::TaskFailed as i32,
            resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0)],
            statuses: vec![
                status(TaskState::TaskRunning, 10.0),
                TaskStatus {
                    reason: Some(task_status::Reason::ContainerLimitationMemory as i32),
                    message: Some("out of memory".to_owned()),
                    termination: Some(task_status::Termination {
                        signal: Some(9),
                        ..Default::default()
                    }),
                    ..status(TaskState::TaskFailed, 30.0)
                },
            ],
            ..Default::default()
        }
    }

    #[test]
    fn cells_match_headings() {
        let row = TaskRow::new(&failed_task(), Some("node1"), 95.0);
        let cells = row.cells();
        assert_eq!(cells.len(), TaskRow::HEADINGS.len());
        assert_eq!(
            cells,
            ["web.1", "web", "failed", "", "1m05s", "node1", "0.1", "32 MB", "", "signal 9"]
        );
    }

    #[test]
    fn health_is_that_of_the_newest_status_while_it_runs() {
        let shown = |task: &Task| TaskRow::new(task, None, 95.0).health();
        let mut task = failed_task();
        task.health_check = Some(v1::HealthCheck::default());
        assert_eq!(shown(&task), "");
        task.statuses.truncate(1);
        assert_eq!(shown(&task), "starting");
        task.statuses[0].healthy = Some(true);
        let http = Some(v1::check_status_info::Http { status_code: Some(503) });
        task.statuses[0].check_status = Some(v1::CheckStatusInfo { http, ..Default::default() });
        assert_eq!(shown(&task), "healthy, HTTP 503");
        task.statuses[0].healthy = Some(false);
        let tcp = Some(v1::check_status_info::Tcp { succeeded: Some(false) });
        task.statuses[0].check_status = Some(v1::CheckStatusInfo { tcp, ..Default::default() });
        assert_eq!(shown(&task), "unhealthy, not connected");
    }

    #[test]
    fn json_members_are_flat_and_complete() {
        let row = TaskRow::new(&failed_task(), None, 95.0);
        let json = serde_json::to_string(&row).expect("json");
        assert_eq!(
            json,
            concat!(
                r#"{"task_id":"web.1","name":"web","state":"TASK_FAILED","framework_id":"f","#,
                r#""agent_id":"a","agent":null,"user":null,"role":"ads","cpus":0.1,"mem_mb":32.0,"#,
                r#""disk_mb":0.0,"ports":"","healthy":null,"check":null,"since":30.0,"started":10.0,"exit_code":null,"#,
                r#""signal":9,"reason":"REASON_CONTAINER_LIMITATION_MEMORY","#,
                r#""message":"out of memory"}"#
            )
        );
    }
}
