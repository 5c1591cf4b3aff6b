//! `mezzo kill TASK`.

use std::time::Duration;

use mezzo_sdk::{Master, v1};

use crate::arguments::Global;
use crate::failure::{Failure, note};
use crate::quantity::parse_duration;

#[derive(Debug, clap::Args)]
pub(crate) struct KillArguments {
    /// Id of the task.
    task: String,

    /// Id of the task's framework, needed where two frameworks have a task of that id.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,

    /// Time between SIGTERM and SIGKILL; otherwise as the task or its agent has it.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,
}

pub(crate) async fn kill(global: &Global, arguments: KillArguments) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let task_id = v1::TaskId { value: arguments.task.clone() };
    let framework_id = arguments.framework.map(|value| v1::FrameworkId { value });
    let answer =
        master.kill_task(task_id, framework_id, arguments.grace).await.map_err(|error| {
            let unknown = error.is_not_found();
            let failure = Failure::from(error);
            if unknown { failure.hint("`mezzo ps` lists the tasks") } else { failure }
        })?;
    let agent = answer.agent_id.map(|id| format!(" on agent {}", id.value)).unwrap_or_default();
    note(&format!("the order to end {}{agent} is on its way", arguments.task));
    Ok(())
}
