//! Finding a task by its id, and the agent that has its sandbox.

use mezzo_sdk::v1::master::response::GetTasks;
use mezzo_sdk::v1::{self, Task};
use mezzo_sdk::{Agent, Master, agent_addresses, is_terminal};

use crate::failure::Failure;

/// The one task meant by `id`: an active one before those that are over, and among those the
/// newest. Ids are unique within a framework only, so two active tasks may share one.
pub(crate) fn task<'t>(
    tasks: &'t GetTasks,
    id: &str,
    framework: Option<&str>,
) -> Result<&'t Task, Failure> {
    let matches = |task: &&Task| {
        task.task_id.value == id
            && framework.is_none_or(|framework| task.framework_id.value == framework)
    };
    let active: Vec<&Task> = tasks
        .tasks
        .iter()
        .chain(&tasks.unreachable_tasks)
        .filter(matches)
        .filter(|task| !is_terminal(task.state()))
        .collect();
    match active.as_slice() {
        [task] => return Ok(task),
        [] => {}
        several => {
            let frameworks: Vec<&str> =
                several.iter().map(|task| task.framework_id.value.as_str()).collect();
            return Err(Failure::new(format!(
                "{} active tasks have the id {id:?}, in the frameworks {}",
                several.len(),
                frameworks.join(", ")
            ))
            .hint("--framework ID says which one is meant"));
        }
    }
    tasks
        .completed_tasks
        .iter()
        .chain(&tasks.tasks)
        .filter(matches)
        .max_by(|a, b| last_news(a).total_cmp(&last_news(b)))
        .ok_or_else(|| {
            let of = framework.map_or(String::new(), |id| format!(" of the framework {id}"));
            Failure::new(format!("the master knows no task {id:?}{of}"))
                .hint("`mezzo ps --all` lists the tasks, also those that are over")
        })
}

/// When the newest status was made, in seconds since 1970.
pub(crate) fn last_news(task: &Task) -> f64 {
    task.statuses.iter().filter_map(|status| status.timestamp).fold(0.0, f64::max)
}

/// Where the agent may be reached: `host:port`, the likeliest first.
pub(crate) async fn addresses(
    master: &Master,
    agent_id: &v1::AgentId,
) -> Result<Vec<String>, Failure> {
    let agents = master.agents().await?;
    agents
        .agents
        .iter()
        .find(|agent| agent.agent_info.id.as_ref() == Some(agent_id))
        .map(agent_addresses)
        .ok_or_else(|| {
            Failure::new(format!(
                "the agent {} of the task is not connected to the master",
                agent_id.value
            ))
            .hint("the task's files are on that agent's machine; `mezzo agents` lists those connected")
        })
}

/// A connection to the agent that runs or ran a task.
pub(crate) async fn agent(master: &Master, agent_id: &v1::AgentId) -> Result<Agent, Failure> {
    let addresses = addresses(master, agent_id).await?;
    Agent::connect_any(&addresses).await.map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1::{TaskState, TaskStatus};

    use super::*;

    fn entry(id: &str, framework: &str, state: TaskState, timestamp: f64) -> Task {
        Task {
            task_id: v1::TaskId { value: id.to_owned() },
            framework_id: v1::FrameworkId { value: framework.to_owned() },
            state: state as i32,
            statuses: vec![TaskStatus { timestamp: Some(timestamp), ..Default::default() }],
            ..Default::default()
        }
    }

    fn cluster() -> GetTasks {
        GetTasks {
            tasks: vec![
                entry("web", "f1", TaskState::TaskRunning, 5.0),
                entry("twin", "f1", TaskState::TaskRunning, 5.0),
                entry("twin", "f2", TaskState::TaskStaging, 6.0),
            ],
            completed_tasks: vec![
                entry("web", "f0", TaskState::TaskFinished, 9.0),
                entry("old", "f1", TaskState::TaskFailed, 1.0),
                entry("old", "f2", TaskState::TaskFinished, 2.0),
            ],
            ..Default::default()
        }
    }

    fn check(id: &str, framework: Option<&str>, expect: Result<&str, &str>) {
        let tasks = cluster();
        match (task(&tasks, id, framework), expect) {
            (Ok(task), Ok(expected)) => assert_eq!(task.framework_id.value, expected),
            (Err(failure), Err(part)) => {
                let text = format!("{failure:?}");
                assert!(text.contains(part), "{text}");
            }
            (got, _) => panic!("{id}: {got:?}"),
        }
    }

    #[test]
    fn active_before_completed_and_newest_among_those() {
        check("web", None, Ok("f1"));
        check("web", Some("f0"), Ok("f0"));
        check("old", None, Ok("f2"));
    }

    #[test]
    fn twins_and_strangers_are_told() {
        check("twin", None, Err("f1, f2"));
        check("twin", Some("f2"), Ok("f2"));
        check("nobody", None, Err("knows no task"));
        check("web", Some("f9"), Err("of the framework f9"));
    }
}
