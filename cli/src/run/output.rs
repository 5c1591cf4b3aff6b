//! The output of the one task of a run, copied while it is written.

use std::time::Duration;

use mezzo_sdk::{FileRequest, Master, v1};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::warn;
use crate::find;
use crate::follow::{self, Interrupted, Source};

/// How long the last of the output may take after the end of the task.
const DRAIN: Duration = Duration::from_secs(15);

/// Copies of `stdout` and `stderr`.
#[derive(Debug)]
pub(crate) struct Output {
    copies: JoinSet<()>,
    over: watch::Sender<bool>,
    reader_gone: mpsc::Receiver<()>,
}

impl Output {
    /// Begins to copy from the agent that has the task.
    pub(crate) fn start(
        master: String,
        agent_id: v1::AgentId,
        framework_id: v1::FrameworkId,
        task_id: v1::TaskId,
    ) -> Self {
        let (over, is_over) = watch::channel(false);
        let (gone, reader_gone) = mpsc::channel(2);
        let mut copies = JoinSet::new();
        for path in ["stdout", "stderr"] {
            let request = FileRequest {
                framework_id: framework_id.clone(),
                task_id: task_id.clone(),
                path: path.to_owned(),
                offset: 0,
                follow: true,
                with_rotated: true,
            };
            let (master, agent_id) = (master.clone(), agent_id.clone());
            let (is_over, gone) = (is_over.clone(), gone.clone());
            copies.spawn(async move {
                match copy(&master, &agent_id, request, is_over).await {
                    Ok(()) => {}
                    // Nobody waits for a second word on it.
                    Err(Interrupted::ReaderGone) => drop(gone.try_send(())),
                    Err(Interrupted::Write(error)) => {
                        warn(&format!("could not print {path}: {error}"))
                    }
                    Err(Interrupted::Read(problem)) => {
                        warn(&format!(
                            "the task's {path} is not shown, or not all of it: {problem}"
                        ));
                    }
                }
            });
        }
        Output { copies, over, reader_gone }
    }

    /// Waits until whoever reads our stdout or stderr has gone; for ever if nobody goes.
    /// Cancel-safe.
    pub(crate) async fn reader_gone(&mut self) {
        if self.reader_gone.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the last of the output of a task that is over.
    pub(crate) async fn finish(mut self) {
        self.over.send_replace(true);
        let drained = timeout(DRAIN, async { while self.copies.join_next().await.is_some() {} });
        if drained.await.is_err() {
            warn(&format!(
                "the end of the output did not come within {} s; `mezzo logs` may show it",
                DRAIN.as_secs()
            ));
        }
    }
}

async fn copy(
    master: &str,
    agent_id: &v1::AgentId,
    request: FileRequest,
    over: watch::Receiver<bool>,
) -> Result<(), Interrupted> {
    let addresses = async {
        let master = Master::connect(master).await?;
        find::addresses(&master, agent_id).await
    };
    let addresses = addresses.await.map_err(|failure| Interrupted::Read(failure.to_string()))?;
    let sink = if request.path == "stderr" { follow::stderr() } else { follow::stdout() };
    let sink = sink.map_err(Interrupted::Write)?;
    follow::copy(Source { addresses, request }, sink, over).await
}
