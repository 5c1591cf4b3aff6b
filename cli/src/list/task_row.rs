//! A line of `mezzo ps`.

use mezzo_sdk::v1::{Task, TaskState};
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
}

impl TaskRow {
    pub(crate) fn new(task: &Task, hostname: Option<&str>, now: f64) -> Self {
        let newest = task.statuses.last();
        let since = Some(last_news(task)).filter(|time| *time > 0.0);
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
        }
    }

    /// Active tasks first, each group by id.
    pub(crate) fn order(&self) -> (bool, &str, &str) {
        let over = TaskState::from_str_name(self.state).is_some_and(is_terminal);
        (over, &self.task_id, &self.framework_id)
    }

    fn ending(&self) -> String {
        match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => String::new(),
        }
    }
}

impl Row for TaskRow {
    const HEADINGS: &'static [&'static str] =
        &["TASK", "NAME", "STATE", "SINCE", "AGENT", "CPUS", "MEM", "PORTS", "ENDING"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.task_id.clone(),
            self.name.clone(),
            self.state.trim_start_matches("TASK_").to_lowercase(),
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
            ["web.1", "web", "failed", "1m05s", "node1", "0.1", "32 MB", "", "signal 9"]
        );
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
                r#""disk_mb":0.0,"ports":"","since":30.0,"started":10.0,"exit_code":null,"#,
                r#""signal":9,"reason":"REASON_CONTAINER_LIMITATION_MEMORY","#,
                r#""message":"out of memory"}"#
            )
        );
    }
}
