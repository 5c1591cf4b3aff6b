//! Files of sandboxes, read by others while tasks write them.
//!
//! A sandbox belongs to a task that may be hostile: paths are resolved by the kernel with the sandbox as
//! their bound, and only regular files are read. Following is by notification (inotify) and by the task's
//! end; nothing is polled.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezzo_agent_core::TaskStage;
use mezzo_proto::v1::agent::{FileChunk, ReadFileRequest};
use mezzo_types::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tokio::sync::{mpsc, watch};

use super::source::Source;
use crate::sandbox::beneath::{Refused, is_beneath};
use crate::sandbox::changes::Changes;
use crate::sandbox::log::LogLocks;
use crate::sandbox::{SandboxOf, sandbox_path};
use crate::view::{Located, View};

/// Bytes per message: large enough to be cheap, small enough to be prompt.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of a slow reader; more are read when it has taken these.
pub(super) const CHUNKS_AHEAD: usize = 8;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{0} is missing: name the task and the file to read")]
    Incomplete(&'static str),
    #[error("path '{path}' must be relative to the sandbox, without '..'")]
    Path { path: String },
    #[error("frameworks {owners} have a task '{task}': name one of them in framework_id")]
    Ambiguous { task: TaskId, owners: String },
    #[error("task '{task}' is not known to this agent")]
    NoTask { task: TaskId },
    #[error("task '{task}' has no sandbox: its container was never made")]
    NoSandbox { task: TaskId },
    #[error("there is no file '{path}' in the sandbox of task '{task}'")]
    NoFile { path: String, task: TaskId },
    #[error("'{path}' in the sandbox of task '{task}' is not read: {why}")]
    Refused { path: String, task: TaskId, why: Refused },
    #[error("could not read '{path}'")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// The sandboxes of this agent.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(super) view: View,
    pub(super) work_dir: Arc<Path>,
    pub(super) locks: LogLocks,
    changes: Changes,
}

impl Files {
    /// Must be called within a runtime. Fails if no inotify instance is to be had.
    pub(crate) fn new(view: View, work_dir: &Path, locks: LogLocks) -> io::Result<Self> {
        Ok(Files { view, work_dir: work_dir.into(), locks, changes: Changes::start()? })
    }

    /// Reads a file from an offset; with `follow`, what is appended as well, until the task has ended. Output that is followed or read
    /// `with_rotated` has the offsets that its bytes had when they were written, whatever was rotated since.
    pub(crate) async fn read(
        &self,
        request: ReadFileRequest,
    ) -> Result<mpsc::Receiver<Result<FileChunk, FileError>>, FileError> {
        let task = request.task_id.as_ref().ok_or(FileError::Incomplete("task_id"))?;
        let task = TaskId::from(task);
        let framework = request.framework_id.as_ref().map(FrameworkId::from);
        if request.path.is_empty() {
            return Err(FileError::Incomplete("path"));
        }
        if !is_beneath(&request.path) {
            return Err(FileError::Path { path: request.path });
        }
        let located = self.locate(framework.as_ref(), &task)?;
        let (directory, stage) = match located {
            Some(mut located) => {
                if request.follow {
                    // Its sandbox is being made.
                    located.stage.wait_for(|stage| *stage != TaskStage::Launching).await.ok();
                }
                (self.sandbox(&located)?, Some(located.stage))
            }
            None => {
                let framework = framework.ok_or(FileError::NoTask { task: task.clone() })?;
                let executor = task.as_str().into();
                let latest = self.find_run(&framework, &executor, None);
                (latest.ok_or(FileError::NoTask { task: task.clone() })?, None)
            }
        };
        let read_error = |source| FileError::Read { path: request.path.clone(), source };
        let (path, locks) = (request.path.clone(), self.locks.clone());
        let positions = request.follow || request.with_rotated;
        let opened = tokio::task::spawn_blocking(move || {
            let source = Source::open(open_run(&directory)?, &path, locks)?;
            let span = source.span()?;
            Ok((source, span))
        });
        let opened = opened.await.map_err(|error| read_error(io::Error::other(error)))?;
        let (source, span) = opened.map_err(|why| match why {
            Refused::Missing => FileError::NoFile { path: request.path.clone(), task },
            Refused::Failed(source) => read_error(source),
            why => FileError::Refused { path: request.path.clone(), task, why },
        })?;
        let begin = if positions { span.kept } else { span.held };
        let base = if positions { 0 } else { span.held };
        let from = match u64::try_from(request.offset) {
            Ok(offset) => base.saturating_add(offset),
            Err(_) => span.end.saturating_sub(request.offset.unsigned_abs()),
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let mut reader = Reader {
            source: Arc::new(source),
            position: from.clamp(begin, span.end.max(begin)),
            base,
            // What is appended while it is read is for those who follow.
            until: if request.follow { u64::MAX } else { span.end },
            sender,
        };
        let (changes, path) = (self.changes.clone(), request.path);
        tokio::spawn(async move {
            let followed = match stage.filter(|_| request.follow) {
                Some(stage) => reader.follow(&changes, stage).await,
                None => reader.read_to_end().await,
            };
            if let Err(Stop::Failed(source)) = followed {
                // Nobody is left to tell if this fails.
                let _ = reader.sender.send(Err(FileError::Read { path, source })).await;
            }
        });
        Ok(chunks)
    }

    fn locate(
        &self,
        framework: Option<&FrameworkId>,
        task: &TaskId,
    ) -> Result<Option<Located>, FileError> {
        self.view.locate(framework, task).map_err(|owners| {
            let owners: Vec<String> = owners.iter().map(|id| format!("'{id}'")).collect();
            FileError::Ambiguous { task: task.clone(), owners: owners.join(", ") }
        })
    }

    fn sandbox(&self, located: &Located) -> Result<PathBuf, FileError> {
        let no_sandbox = || FileError::NoSandbox { task: located.task.clone() };
        let container = located.container.clone().ok_or_else(no_sandbox)?;
        let executor = &located.executor;
        self.find_run(&located.framework, executor, Some(container)).ok_or_else(no_sandbox)
    }

    /// The directory of a run, or of the newest: of the agent's present id if it has one, else of an earlier one.
    pub(super) fn find_run(
        &self,
        framework: &FrameworkId,
        executor: &ExecutorId,
        container: Option<ContainerId>,
    ) -> Option<PathBuf> {
        let present = self.view.agent().and_then(|info| info.id).map(AgentId::from);
        let entries = std::fs::read_dir(self.work_dir.join("slaves")).into_iter().flatten();
        let earlier = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let earlier = earlier.map(|id| AgentId::from(id.as_str()));
        present.into_iter().chain(earlier).find_map(|agent| {
            let of = |container| SandboxOf {
                agent: agent.clone(),
                framework: framework.clone(),
                executor: executor.clone(),
                container,
            };
            let container = match container.clone() {
                Some(container) => container,
                None => {
                    let runs = sandbox_path(&self.work_dir, &of("any".into())).ok()?;
                    let newest = std::fs::read_link(runs.with_file_name("latest")).ok()?;
                    newest.to_str()?.into()
                }
            };
            let path = sandbox_path(&self.work_dir, &of(container)).ok()?;
            std::fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir()).then_some(path)
        })
    }
}

/// Opens the directory of a run.
pub(super) fn open_run(path: &Path) -> Result<OwnedFd, Refused> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

struct Reader {
    source: Arc<Source>,
    position: u64,
    /// Position of what the caller calls offset 0.
    base: u64,
    until: u64,
    sender: mpsc::Sender<Result<FileChunk, FileError>>,
}

impl Reader {
    async fn follow(
        &mut self,
        changes: &Changes,
        mut stage: watch::Receiver<TaskStage>,
    ) -> Result<(), Stop> {
        // The watch is set before the first read: what is written after that read is noticed.
        let mut written = changes.follow(self.source.file()).map_err(Stop::Failed)?;
        let gone = self.sender.clone();
        loop {
            // Read before the file: all that a task wrote is there once it has ended.
            let ended = *stage.borrow_and_update() == TaskStage::Ended;
            self.read_to_end().await?;
            if ended {
                return Ok(());
            }
            tokio::select! {
                // Cancel-safe.
                () = written.changed() => {}
                // Cancel-safe. An error means that the task was forgotten, which is after its end.
                changed = stage.changed() => if changed.is_err() {
                    return self.read_to_end().await;
                },
                // Cancel-safe.
                () = gone.closed() => return Err(Stop::ReaderGone),
            }
        }
    }

    async fn read_to_end(&mut self) -> Result<(), Stop> {
        while self.position < self.until {
            let left = usize::try_from(self.until - self.position).unwrap_or(usize::MAX);
            let (source, position, max) =
                (Arc::clone(&self.source), self.position, left.min(CHUNK_BYTES));
            let read = tokio::task::spawn_blocking(move || source.read(position, max));
            let (position, data) = read
                .await
                .map_err(|error| Stop::Failed(io::Error::other(error)))?
                .map_err(Stop::Failed)?;
            self.position = position + data.len() as u64;
            if data.is_empty() {
                return Ok(());
            }
            let chunk = FileChunk { offset: position.saturating_sub(self.base), data };
            self.sender.send(Ok(chunk)).await.map_err(|_| Stop::ReaderGone)?;
        }
        Ok(())
    }
}

enum Stop {
    ReaderGone,
    Failed(io::Error),
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use mezzo_agent_core::{TaskView, ViewChange};
    use mezzo_proto::v1;

    use super::*;

    struct Fixture {
        work: tempfile::TempDir,
        view: View,
        files: Files,
    }

    impl Fixture {
        fn new() -> Self {
            let work = tempfile::tempdir().unwrap();
            let view = View::default();
            let id = Some(v1::AgentId { value: "S0".into() });
            let info = v1::AgentInfo { id, ..Default::default() };
            view.apply(ViewChange::Agent(Box::new(info)));
            let files = Files::new(view.clone(), work.path(), LogLocks::default()).unwrap();
            let fixture = Fixture { work, view, files };
            std::fs::create_dir_all(fixture.sandbox()).unwrap();
            fixture
        }

        fn sandbox(&self) -> PathBuf {
            self.work.path().join("slaves/S0/frameworks/f/executors/t/runs/c")
        }

        fn put(&self, stage: TaskStage) {
            self.view.apply(ViewChange::Task(Box::new(TaskView {
                framework_id: "f".into(),
                task_id: "t".into(),
                executor_id: None,
                info: Arc::default(),
                container: Some("c".into()),
                pid: None,
                stage,
                waiting: false,
                status: None,
            })));
        }

        async fn read(&self, request: ReadFileRequest) -> Result<Vec<u8>, FileError> {
            let mut chunks = self.files.read(request).await?;
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                let chunk = chunk?;
                assert!(!chunk.data.is_empty());
                all.extend_from_slice(&chunk.data);
            }
            Ok(all)
        }
    }

    fn request(path: &str) -> ReadFileRequest {
        ReadFileRequest {
            framework_id: Some(v1::FrameworkId { value: "f".into() }),
            task_id: Some(v1::TaskId { value: "t".into() }),
            path: path.into(),
            offset: 0,
            follow: false,
            with_rotated: false,
        }
    }

    #[tokio::test]
    async fn files_are_read_from_any_offset() {
        let fixture = Fixture::new();
        fixture.put(TaskStage::Running);
        let long = vec![b'x'; CHUNK_BYTES * 2 + 5];
        std::fs::write(fixture.sandbox().join("stdout"), &long).unwrap();
        assert_eq!(fixture.read(request("stdout")).await.unwrap(), long);
        let from = |offset| ReadFileRequest { offset, ..request("stdout") };
        assert_eq!(fixture.read(from(CHUNK_BYTES as i64 * 2)).await.unwrap(), b"xxxxx");
        assert_eq!(fixture.read(from(-3)).await.unwrap(), b"xxx");
        assert_eq!(fixture.read(from(i64::MIN)).await.unwrap().len(), long.len());
        assert_eq!(fixture.read(from(i64::MAX)).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_follower_gets_everything_until_the_task_ends() {
        let fixture = Fixture::new();
        fixture.put(TaskStage::Launching);
        let follow = ReadFileRequest { follow: true, ..request("stdout") };
        let files = fixture.files.clone();
        let (heard, mut listened) = mpsc::channel(16);
        let reading = tokio::spawn(async move {
            let mut chunks = files.read(follow).await.unwrap();
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.extend_from_slice(&chunk.unwrap().data);
                let _ = heard.send(all.len()).await;
            }
            all
        });
        let mut file = File::create(fixture.sandbox().join("stdout")).unwrap();
        file.write_all(b"one").unwrap();
        fixture.put(TaskStage::Running);
        assert_eq!(listened.recv().await, Some(3));
        // Nothing but the write tells the follower of this.
        file.write_all(b"two").unwrap();
        assert_eq!(listened.recv().await, Some(6));
        file.write_all(b"three").unwrap();
        fixture.put(TaskStage::Ended);
        let all = tokio::time::timeout(Duration::from_secs(30), reading).await.unwrap().unwrap();
        assert_eq!(all, b"onetwothree");
    }

    #[tokio::test]
    async fn forgotten_tasks_still_have_their_newest_sandbox() {
        let fixture = Fixture::new();
        std::fs::write(fixture.sandbox().join("stdout"), b"old").unwrap();
        symlink("c", fixture.sandbox().with_file_name("latest")).unwrap();
        assert_eq!(fixture.read(request("stdout")).await.unwrap(), b"old");
        let follow = ReadFileRequest { follow: true, ..request("stdout") };
        assert_eq!(fixture.read(follow).await.unwrap(), b"old");
    }

    #[tokio::test]
    async fn nothing_outside_the_sandbox_is_read() {
        let fixture = Fixture::new();
        fixture.put(TaskStage::Running);
        let sandbox = fixture.sandbox();
        std::fs::write(sandbox.with_file_name("secret"), b"secret").unwrap();
        symlink("/etc/passwd", sandbox.join("absolute")).unwrap();
        symlink("../secret", sandbox.join("up")).unwrap();
        std::fs::write(sandbox.join("stdout"), b"out").unwrap();
        symlink("stdout", sandbox.join("inside")).unwrap();
        nix::unistd::mkfifo(&sandbox.join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(fixture.read(request("inside")).await.unwrap(), b"out");
        for path in ["absolute", "up", "pipe", "."] {
            let error = fixture.read(request(path)).await.unwrap_err();
            assert!(matches!(error, FileError::Refused { .. }), "{path}: {error}");
        }
        for path in ["/etc/passwd", "../secret", "a/../../secret"] {
            let error = fixture.read(request(path)).await.unwrap_err();
            assert!(matches!(error, FileError::Path { .. }), "{path}: {error}");
        }
        let error = fixture.read(request("none")).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no file 'none' in the sandbox of task 't'");
    }
}
