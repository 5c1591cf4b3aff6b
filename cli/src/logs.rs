//! `mezzo logs TASK`.

use mezzo_sdk::{FileRequest, Master, is_terminal};
use tokio::sync::watch;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::find;
use crate::follow::{self, Interrupted, Source};

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArguments {
    /// Id of the task.
    task: String,

    /// Go on with what the task writes, until it ends.
    #[arg(short, long)]
    follow: bool,

    /// Print what the task wrote to stderr instead of stdout.
    #[arg(long)]
    stderr: bool,

    /// Print another file of the task's sandbox; without it, what was rotated and is still kept is
    /// printed, too.
    #[arg(long, value_name = "PATH", conflicts_with = "stderr")]
    file: Option<String>,

    /// Begin so many bytes before the end.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1..))]
    tail: Option<i64>,

    /// Id of the task's framework, needed where two frameworks have a task of that id.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,
}

impl LogsArguments {
    fn path(&self) -> &str {
        match &self.file {
            Some(path) => path,
            None if self.stderr => "stderr",
            None => "stdout",
        }
    }

    /// As the agent counts: negative from the end.
    fn offset(&self) -> i64 {
        self.tail.map_or(0, |bytes| -bytes)
    }
}

pub(crate) async fn logs(global: &Global, arguments: &LogsArguments) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let tasks = master.tasks().await?;
    let task = find::task(&tasks, &arguments.task, arguments.framework.as_deref())?;
    let request = FileRequest {
        framework_id: task.framework_id.clone(),
        task_id: task.task_id.clone(),
        path: arguments.path().to_owned(),
        offset: arguments.offset(),
        follow: arguments.follow,
        with_rotated: true,
    };
    let agent = find::agent(&master, &task.agent_id).await?;
    // Says so when there is no such file; the copy below takes it for an empty one.
    drop(agent.read_file(FileRequest { follow: false, ..request.clone() }).await?);

    let source = Source { addresses: vec![agent.address().to_owned()], request };
    let (_over, is_over) = watch::channel(!arguments.follow || is_terminal(task.state()));
    match follow::copy(source, follow::stdout()?, is_over).await {
        Ok(()) => Ok(()),
        Err(Interrupted::ReaderGone) => Err(Failure::broken_pipe()),
        Err(Interrupted::Write(error)) => Err(Failure::from(error)),
        Err(Interrupted::Read(problem)) => {
            Err(Failure::new(format!("the output of {} is incomplete: {problem}", arguments.task)))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        logs: LogsArguments,
    }

    fn check(line: &[&str], path: &str, offset: i64) {
        let line = std::iter::once("logs").chain(line.iter().copied());
        let arguments = Line::try_parse_from(line).expect("valid").logs;
        assert_eq!((arguments.path(), arguments.offset()), (path, offset));
    }

    #[test]
    fn which_file_and_where_to_begin() {
        check(&["t"], "stdout", 0);
        check(&["-f", "--stderr", "t"], "stderr", 0);
        check(&["--file", "a/b", "--tail", "10", "t"], "a/b", -10);
        assert!(Line::try_parse_from(["logs", "--tail", "0", "t"]).is_err());
        assert!(Line::try_parse_from(["logs"]).is_err());
    }
}
