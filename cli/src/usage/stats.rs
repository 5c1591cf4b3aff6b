//! `mezzo stats TASK`.

use std::time::Duration;

use mezzo_sdk::{Master, is_terminal};

use crate::arguments::Global;
use crate::failure::Failure;
use crate::find;
use crate::output::{self, Format};
use crate::quantity::parse_duration;
use crate::usage::figures::{Figures, Place};

#[derive(Debug, clap::Args)]
pub(crate) struct StatsArguments {
    /// Id of the task.
    task: String,

    /// Time over which rates are measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,

    /// Id of the task's framework, needed where two frameworks have a task of that id.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,
}

pub(crate) async fn stats(global: &Global, arguments: &StatsArguments) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let tasks = master.tasks().await?;
    let task = find::task(&tasks, &arguments.task, arguments.framework.as_deref())?;
    if is_terminal(task.state()) {
        return Err(Failure::new(format!("{} is over and uses nothing any more", arguments.task))
            .hint("`mezzo ps --all` shows how it ended"));
    }
    let agents = master.agents().await?;
    let hostname = agents.agents.iter().find_map(|agent| {
        let own = agent.agent_info.id.as_ref() == Some(&task.agent_id);
        own.then(|| agent.agent_info.hostname.clone())
    });
    let agent = find::agent(&master, &task.agent_id).await?;
    let only = || Some((task.framework_id.clone(), task.task_id.clone()));
    let before = agent.statistics(only()).await?;
    tokio::time::sleep(arguments.interval).await;
    let now = agent.statistics(only()).await?;
    let place =
        Place { agent_id: task.agent_id.value.clone(), hostname: hostname.unwrap_or_default() };
    let figures = now.first().map(|now| Figures::new(now, before.first(), &place));
    let Some(figures) = figures else {
        return Err(Failure::new(format!("{} has ended meanwhile", arguments.task)));
    };
    match global.output {
        Format::Json => output::print(Format::Json, &[figures]),
        Format::Table => output::print(Format::Table, &figures.lines()),
    }
}
