//! Copying a file of a sandbox as it grows, across restarts of the agent.

use std::os::fd::AsFd;
use std::time::Duration;

use mezzo_sdk::{Agent, FileRequest, OperatorError};
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::failure::warn;

/// Between attempts to reach an agent that is away, for instance because it restarts.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long an agent that is away is waited for once the task is over.
const PATIENCE_AFTER_END: Duration = Duration::from_secs(10);

/// This process's stdout, to be written without blocking a thread of the runtime.
pub(crate) fn stdout() -> std::io::Result<File> {
    Ok(File::from_std(std::io::stdout().as_fd().try_clone_to_owned()?.into()))
}

/// This process's stderr, likewise.
pub(crate) fn stderr() -> std::io::Result<File> {
    Ok(File::from_std(std::io::stderr().as_fd().try_clone_to_owned()?.into()))
}

/// Why a copy is incomplete.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The reader of the copy has gone.
    ReaderGone,
    /// The copy could not be written.
    Write(std::io::Error),
    /// The agent refuses, or is away for too long.
    Read(String),
}

/// A file to copy and the agent to copy it from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) addresses: Vec<String>,
    pub(crate) request: FileRequest,
}

/// Copies until the task has ended and the file with it. `over` says when the task is over. A file
/// that does not exist is an empty one.
pub(crate) async fn copy(
    source: Source,
    mut sink: impl AsyncWrite + Unpin,
    over: watch::Receiver<bool>,
) -> Result<(), Interrupted> {
    let mut request = source.request;
    // Where the next byte is, once it is known.
    let mut expected = u64::try_from(request.offset).ok().filter(|offset| *offset > 0);
    let mut given_up_at: Option<Instant> = None;
    loop {
        let problem = match Agent::connect_any(&source.addresses).await {
            Err(error) => error.to_string(),
            Ok(agent) => match read(&agent, &mut request, &mut expected, &mut sink).await {
                Ok(()) => return Ok(()),
                Err(Stop::Interrupted(interrupted)) => return Err(interrupted),
                Err(Stop::Operator(error)) if error.is_not_found() => return Ok(()),
                Err(Stop::Operator(error)) if error.is_lost() => error.to_string(),
                Err(Stop::Operator(error)) => return Err(Interrupted::Read(error.to_string())),
            },
        };
        if *over.borrow() {
            let deadline = *given_up_at.get_or_insert(Instant::now() + PATIENCE_AFTER_END);
            if Instant::now() >= deadline {
                return Err(Interrupted::Read(problem));
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}

enum Stop {
    Operator(OperatorError),
    Interrupted(Interrupted),
}

/// Copies from `request.offset` on, and keeps it at what has been written.
async fn read(
    agent: &Agent,
    request: &mut FileRequest,
    expected: &mut Option<u64>,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Stop> {
    let mut reader = agent.read_file(request.clone()).await.map_err(Stop::Operator)?;
    while let Some(chunk) = reader.next().await.map_err(Stop::Operator)? {
        if let Some(jump) = expected.and_then(|expected| jump(expected, chunk.offset)) {
            warn(&jump);
        }
        write(sink, &chunk.data).await.map_err(Stop::Interrupted)?;
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        request.offset = i64::try_from(end).unwrap_or(i64::MAX);
        *expected = Some(end);
    }
    Ok(())
}

/// What happened between the end of one chunk and the next, if not nothing.
fn jump(expected: u64, offset: u64) -> Option<String> {
    match offset.checked_sub(expected) {
        Some(0) => None,
        Some(lost) => Some(format!("{lost} bytes were rotated away before they could be read")),
        None => Some("the file was cut short; it is read anew".to_owned()),
    }
}

async fn write(sink: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> Result<(), Interrupted> {
    let written = async {
        sink.write_all(data).await?;
        sink.flush().await
    };
    written.await.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Interrupted::ReaderGone,
        _ => Interrupted::Write(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_told_with_what_was_lost() {
        assert_eq!(jump(5, 5), None);
        assert!(jump(5, 12).expect("a jump").contains("7 bytes"));
        assert!(jump(5, 0).expect("a jump").contains("cut short"));
    }
}
