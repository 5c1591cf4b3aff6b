//! Files of sandboxes, read by others while tasks write them.
//!
//! A sandbox belongs to a task that may be hostile: paths are resolved by the kernel with the sandbox as
//! their bound, and only regular files are read. Following is by notification (inotify) and by the task's
//! end; nothing is polled.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_agent_core::TaskStage;
use mezzo_proto::v1::agent::{FileChunk, ReadFileRequest};
use mezzo_types::{AgentId, FrameworkId, TaskId};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use crate::sandbox::{SandboxOf, sandbox_path};
use crate::view::{Located, View};

/// Bytes per message: large enough to be cheap, small enough to be prompt.
const CHUNK_BYTES: usize = 64 * 1024;
/// The kernel reads nothing whose end would lie beyond this.
const OFFSET_MAX: u64 = i64::MAX as u64 - CHUNK_BYTES as u64;
/// Chunks read ahead of a slow reader; more are read when it has taken these.
const CHUNKS_AHEAD: usize = 8;

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
    #[error("'{path}' in the sandbox of task '{task}' is not a regular file within it")]
    NotAFile { path: String, task: TaskId },
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
    view: View,
    work_dir: Arc<Path>,
}

impl Files {
    pub(crate) fn new(view: View, work_dir: &Path) -> Self {
        Files { view, work_dir: work_dir.into() }
    }

    /// Reads a file from an offset; with `follow`, what is appended as well, until the task has ended.
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
        check_path(&request.path)?;
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
                (self.latest_sandbox(framework, &task)?, None)
            }
        };
        let path = request.path.clone();
        let opened = tokio::task::spawn_blocking(move || open_beneath(&directory, &path, &task));
        let read_error = |source| FileError::Read { path: request.path.clone(), source };
        let file = opened.await.map_err(|error| read_error(io::Error::other(error)))??;
        let offset = match u64::try_from(request.offset) {
            Ok(offset) => offset,
            Err(_) => {
                let length = file.metadata().map_err(read_error)?.len();
                length.saturating_sub(request.offset.unsigned_abs())
            }
        };
        let offset = offset.min(OFFSET_MAX);
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let reader = Reader { file: Arc::new(file), offset, path: request.path, sender };
        tokio::spawn(async move {
            let follow = if request.follow { stage } else { None };
            if let Err((error, sender)) = reader.run(follow).await {
                sender.send(Err(error)).await.ok();
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

    fn agent_id(&self, task: &TaskId) -> Result<AgentId, FileError> {
        let id = self.view.agent().and_then(|info| info.id);
        id.map(AgentId::from).ok_or(FileError::NoTask { task: task.clone() })
    }

    fn sandbox(&self, located: &Located) -> Result<PathBuf, FileError> {
        let no_sandbox = || FileError::NoSandbox { task: located.task.clone() };
        let of = SandboxOf {
            agent: self.agent_id(&located.task)?,
            framework: located.framework.clone(),
            executor: located.task.as_str().into(),
            container: located.container.clone().ok_or_else(no_sandbox)?,
        };
        sandbox_path(&self.work_dir, &of).map_err(|_| no_sandbox())
    }

    /// The newest sandbox of a task that was forgotten.
    fn latest_sandbox(&self, framework: FrameworkId, task: &TaskId) -> Result<PathBuf, FileError> {
        let of = SandboxOf {
            agent: self.agent_id(task)?,
            framework,
            executor: task.as_str().into(),
            container: "any".into(),
        };
        let path = sandbox_path(&self.work_dir, &of);
        let path = path.map_err(|_| FileError::NoTask { task: task.clone() })?;
        let latest = path.with_file_name("latest");
        if latest.is_dir() { Ok(latest) } else { Err(FileError::NoTask { task: task.clone() }) }
    }
}

fn check_path(path: &str) -> Result<(), FileError> {
    let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if Path::new(path).components().all(inside) {
        Ok(())
    } else {
        Err(FileError::Path { path: path.to_owned() })
    }
}

/// Opens a regular file below `directory`; whatever links the task made cannot lead out of it.
fn open_beneath(directory: &Path, path: &str, task: &TaskId) -> Result<File, FileError> {
    let no_file = || FileError::NoFile { path: path.to_owned(), task: task.clone() };
    let not_a_file = || FileError::NotAFile { path: path.to_owned(), task: task.clone() };
    let failed = |errno: Errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => no_file(),
        Errno::EXDEV | Errno::ELOOP | Errno::ENXIO => not_a_file(),
        errno => FileError::Read { path: path.to_owned(), source: errno.into() },
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let directory = open(directory, flags, Mode::empty()).map_err(failed)?;
    let how = OpenHow::new()
        // Opening a pipe must not wait for its writer.
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file: OwnedFd = openat2(&directory, path, how).map_err(failed)?;
    let file = File::from(file);
    let metadata = file.metadata();
    let metadata = metadata.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if metadata.is_file() { Ok(file) } else { Err(not_a_file()) }
}

struct Reader {
    file: Arc<File>,
    offset: u64,
    path: String,
    sender: mpsc::Sender<Result<FileChunk, FileError>>,
}

type Failure = (FileError, mpsc::Sender<Result<FileChunk, FileError>>);

impl Reader {
    async fn run(mut self, follow: Option<watch::Receiver<TaskStage>>) -> Result<(), Failure> {
        let outcome = match follow {
            Some(stage) => self.follow(stage).await,
            None => self.read_to_end().await,
        };
        match outcome {
            Ok(()) | Err(Stop::ReaderGone) => Ok(()),
            Err(Stop::Failed(source)) => {
                Err((FileError::Read { path: self.path, source }, self.sender))
            }
        }
    }

    async fn follow(&mut self, mut stage: watch::Receiver<TaskStage>) -> Result<(), Stop> {
        // The watch is set before the first read: what is written after that read is noticed.
        let changes = Changes::of(&self.file).map_err(Stop::Failed)?;
        let gone = self.sender.clone();
        loop {
            // Read before the file: all that a task wrote is there once it has ended.
            let ended = *stage.borrow_and_update() == TaskStage::Ended;
            self.read_to_end().await?;
            if ended {
                return Ok(());
            }
            tokio::select! {
                // Cancel-safe: readiness stays until it is taken.
                changed = changes.next() => changed.map_err(Stop::Failed)?,
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
        loop {
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            let read = tokio::task::spawn_blocking(move || {
                let mut buffer = vec![0; CHUNK_BYTES];
                let length = file.read_at(&mut buffer, offset)?;
                buffer.truncate(length);
                io::Result::Ok(Bytes::from(buffer))
            });
            let data = read
                .await
                .map_err(|error| Stop::Failed(io::Error::other(error)))?
                .map_err(Stop::Failed)?;
            if data.is_empty() {
                return Ok(());
            }
            self.offset += data.len() as u64;
            let chunk = FileChunk { offset, data };
            self.sender.send(Ok(chunk)).await.map_err(|_| Stop::ReaderGone)?;
        }
    }
}

enum Stop {
    ReaderGone,
    Failed(io::Error),
}

/// Notices of writes to one file.
struct Changes {
    inotify: Inotify,
    /// The same open description, for the runtime to wait on.
    ready: AsyncFd<OwnedFd>,
}

impl Changes {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an owned descriptor is what makes it sound"
    )]
    fn of(file: &File) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // By its descriptor: the task may have put another file in its place.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)?;
        let waited_on = inotify.as_fd().try_clone_to_owned()?;
        let ready = AsyncFd::with_interest(waited_on, Interest::READABLE)?;
        Ok(Changes { inotify, ready })
    }

    /// Waits until the file was written to since the last time.
    async fn next(&self) -> io::Result<()> {
        let mut ready = self.ready.readable().await?;
        // Cleared first: a write between the two makes the descriptor ready again.
        ready.clear_ready();
        match self.inotify.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
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
            let files = Files::new(view.clone(), work.path());
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
                info: Arc::default(),
                container: Some("c".into()),
                pid: None,
                stage,
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
        let (heard, mut listened) = mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            let mut chunks = files.read(follow).await.unwrap();
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.extend_from_slice(&chunk.unwrap().data);
                let _ = heard.send(all.len());
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
            assert!(matches!(error, FileError::NotAFile { .. }), "{path}: {error}");
        }
        for path in ["/etc/passwd", "../secret", "a/../../secret"] {
            let error = fixture.read(request(path)).await.unwrap_err();
            assert!(matches!(error, FileError::Path { .. }), "{path}: {error}");
        }
        let error = fixture.read(request("none")).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no file 'none' in the sandbox of task 't'");
    }
}
