//! `mezzo ps`, `mezzo agents` and `mezzo frameworks`.

mod agent_row;
mod framework_row;
mod task_row;

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use mezzo_sdk::{Master, is_terminal};

use crate::arguments::Global;
use crate::failure::Failure;
use crate::list::agent_row::AgentRow;
use crate::list::framework_row::FrameworkRow;
use crate::list::task_row::TaskRow;
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct PsArguments {
    /// Also list tasks that are over.
    #[arg(short, long)]
    all: bool,

    /// Only the tasks of this framework.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FrameworksArguments {
    /// Also list frameworks that are over.
    #[arg(short, long)]
    all: bool,
}

pub(crate) async fn tasks(global: &Global, arguments: &PsArguments) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let (tasks, agents) = tokio::try_join!(master.tasks(), master.agents())?;
    let hostnames: HashMap<&str, &str> = agents
        .agents
        .iter()
        .filter_map(|agent| {
            let id = agent.agent_info.id.as_ref()?;
            Some((id.value.as_str(), agent.agent_info.hostname.as_str()))
        })
        .collect();
    let now = now_seconds();
    let mut rows: Vec<TaskRow> = tasks
        .tasks
        .iter()
        .chain(&tasks.unreachable_tasks)
        .chain(&tasks.completed_tasks)
        .filter(|task| arguments.all || !is_terminal(task.state()))
        .filter(|task| arguments.framework.as_ref().is_none_or(|id| task.framework_id.value == *id))
        .map(|task| TaskRow::new(task, hostnames.get(task.agent_id.value.as_str()).copied(), now))
        .collect();
    rows.sort_by(|a, b| a.order().cmp(&b.order()));
    output::print(global.output, &rows)
}

pub(crate) async fn agents(global: &Global) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let agents = master.agents().await?;
    let now = now_seconds();
    let mut rows: Vec<AgentRow> = agents
        .agents
        .iter()
        .map(|agent| AgentRow::known(agent, now))
        .chain(agents.recovered_agents.iter().map(AgentRow::recovered))
        .chain(agents.unreachable_agents.iter().map(|a| AgentRow::away(a, "unreachable", now)))
        .chain(agents.gone_agents.iter().map(|a| AgentRow::away(a, "gone", now)))
        .collect();
    rows.sort_by(|a, b| a.order().cmp(&b.order()));
    output::print(global.output, &rows)
}

pub(crate) async fn frameworks(
    global: &Global,
    arguments: &FrameworksArguments,
) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let (frameworks, tasks) = tokio::try_join!(master.frameworks(), master.tasks())?;
    let mut active_tasks: HashMap<&str, usize> = HashMap::new();
    for task in tasks.tasks.iter().filter(|task| !is_terminal(task.state())) {
        *active_tasks.entry(task.framework_id.value.as_str()).or_default() += 1;
    }
    let now = now_seconds();
    let completed: &[_] =
        if arguments.all { frameworks.completed_frameworks.as_slice() } else { &[] };
    let rows: Vec<FrameworkRow> = frameworks
        .frameworks
        .iter()
        .map(|framework| (framework, false))
        .chain(completed.iter().map(|framework| (framework, true)))
        .map(|(framework, completed)| FrameworkRow::new(framework, completed, &active_tasks, now))
        .collect();
    output::print(global.output, &rows)
}

/// Seconds since 1970.
fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// An amount as a table shows it: without a point where none is needed.
fn amount(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}
