//! The directory of one run of an executor: where its task starts, and where its output goes.
//!
//! `<work_dir>/slaves/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>`, as Mesos lays it out, with `runs/latest`
//! a link to the newest run. Directories above the run belong to the agent; the run and what is in it belong to the task's user. Nothing
//! in the run is ever opened through a link that the task may have put there.
//!
//! - `log`, `rotation`: output is rotated by size while the task writes it.
//! - `collector`, `removal`: sandboxes of ended runs go by age and disk headroom.
//! - `beneath`, `changes`: reading and following what a task may have made hostile.
//! - `sandboxes`: all of it, for the containerizer.

pub(crate) mod beneath;
pub(crate) mod changes;
mod collector;
pub(crate) mod log;
mod removal;
mod rotation;
mod sandboxes;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, fchown, symlink};
use std::path::{Path, PathBuf};

use mezzo_types::{AgentId, ContainerId, ExecutorId, FrameworkId};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

pub use log::LogLimits;
pub(crate) use log::PIECES_MAX;
pub(crate) use removal::remove_tree;
pub(crate) use rotation::OUTPUTS;
pub use sandboxes::SandboxOptions;
pub(crate) use sandboxes::Sandboxes;

/// Longest name of a directory on Linux's file systems, in bytes.
const NAME_MAX: usize = 255;

/// Whose run it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SandboxOf {
    pub agent: AgentId,
    pub framework: FrameworkId,
    pub executor: ExecutorId,
    pub container: ContainerId,
}

/// The user that the task runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// A sandbox with its files open, ready for a launch.
#[derive(Debug)]
pub struct Sandbox {
    pub path: PathBuf,
    pub directory: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(
        "{what} id '{id}' cannot name a directory: it must be 1 to {NAME_MAX} bytes without '/' and control characters, and not '.' or '..'"
    )]
    BadComponent { what: &'static str, id: String },
    #[error("could not create directory {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not give {path} to user {uid}, group {gid}")]
    Own {
        path: PathBuf,
        uid: u32,
        gid: u32,
        #[source]
        source: io::Error,
    },
    #[error("could not point {path} to the newest run")]
    Link {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where the sandbox of a run is, whether or not it exists.
pub fn sandbox_path(work_dir: &Path, of: &SandboxOf) -> Result<PathBuf, SandboxError> {
    let mut path = work_dir.to_owned();
    for (group, what, id) in [
        ("slaves", "agent", of.agent.as_str()),
        ("frameworks", "framework", of.framework.as_str()),
        ("executors", "executor", of.executor.as_str()),
        ("runs", "container", of.container.as_str()),
    ] {
        path.push(group);
        path.push(component(what, id)?);
    }
    Ok(path)
}

impl SandboxOf {
    /// Whose run the directory `path` is; `None` if it is none below `work_dir`.
    pub(crate) fn of_path(work_dir: &Path, path: &Path) -> Option<SandboxOf> {
        let below: Vec<&str> = path
            .strip_prefix(work_dir)
            .ok()?
            .iter()
            .map(|part| part.to_str())
            .collect::<Option<_>>()?;
        match below.as_slice() {
            [
                "slaves",
                agent,
                "frameworks",
                framework,
                "executors",
                executor,
                "runs",
                container,
            ] => Some(SandboxOf {
                agent: (*agent).into(),
                framework: (*framework).into(),
                executor: (*executor).into(),
                container: (*container).into(),
            }),
            _ => None,
        }
    }
}

fn component<'a>(what: &'static str, id: &'a str) -> Result<&'a str, SandboxError> {
    if id.is_empty()
        || id.len() > NAME_MAX
        || matches!(id, "." | "..")
        || id.chars().any(|c| c == '/' || c.is_control())
    {
        return Err(SandboxError::BadComponent { what, id: id.to_owned() });
    }
    // "latest" would be taken for the link.
    if what == "container" && id == "latest" {
        return Err(SandboxError::BadComponent { what, id: id.to_owned() });
    }
    Ok(id)
}

impl Sandbox {
    /// Makes the sandbox of a new run, with empty `stdout` and `stderr`, owned by `owner` (by the agent's user if `None`).
    pub fn create(
        work_dir: &Path,
        of: &SandboxOf,
        owner: Option<Owner>,
    ) -> Result<Self, SandboxError> {
        let path = sandbox_path(work_dir, of)?;
        let runs = path.parent().unwrap_or(work_dir);
        fs::create_dir_all(runs)
            .map_err(|source| SandboxError::Create { path: runs.to_owned(), source })?;
        // Not recursive: the run must be new. Its group may read, others may not.
        DirBuilder::new()
            .mode(0o750)
            .create(&path)
            .map_err(|source| SandboxError::Create { path: path.clone(), source })?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = open(&path, flags | OFlag::O_RDONLY, Mode::empty())
            .map_err(|errno| SandboxError::Open { path: path.clone(), source: errno.into() })?;
        give(&directory, &path, owner)?;
        let stdout = output(&directory, &path, "stdout", owner)?;
        let stderr = output(&directory, &path, "stderr", owner)?;
        point_latest(runs, of.container.as_str())?;
        Ok(Sandbox { path, directory, stdout, stderr })
    }
}

/// Creates a file that the task's output is appended to.
fn output(
    directory: &OwnedFd,
    sandbox: &Path,
    name: &str,
    owner: Option<Owner>,
) -> Result<OwnedFd, SandboxError> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_EXCL
        | OFlag::O_APPEND
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC;
    let path = || sandbox.join(name);
    let file = openat(directory, name, flags, Mode::from_bits_truncate(0o644))
        .map_err(|errno: Errno| SandboxError::Open { path: path(), source: errno.into() })?;
    give(&file, &path(), owner)?;
    Ok(file)
}

fn give(file: impl AsFd, path: &Path, owner: Option<Owner>) -> Result<(), SandboxError> {
    let Some(Owner { uid, gid }) = owner else { return Ok(()) };
    fchown(file, Some(uid), Some(gid)).map_err(|source| SandboxError::Own {
        path: path.to_owned(),
        uid,
        gid,
        source,
    })
}

/// Makes `runs/latest` point to the newest run, in one step: readers always find some run behind it.
fn point_latest(runs: &Path, container: &str) -> Result<(), SandboxError> {
    let path = runs.join("latest");
    let fresh = runs.join(format!(".latest.{container}"));
    let failed = |source| SandboxError::Link { path: path.clone(), source };
    symlink(container, &fresh).map_err(failed)?;
    fs::rename(&fresh, &path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn of(container: &str) -> SandboxOf {
        SandboxOf {
            agent: "a-1".into(),
            framework: "f-1".into(),
            executor: "my task".into(),
            container: container.into(),
        }
    }

    #[test]
    fn a_run_is_laid_out_and_owned() {
        let work = tempfile::tempdir().expect("tempdir");
        let owner = Owner { uid: 65534, gid: 65534 };
        let first = Sandbox::create(work.path(), &of("c1"), Some(owner)).expect("create");
        assert_eq!(
            first.path,
            work.path().join("slaves/a-1/frameworks/f-1/executors/my task/runs/c1")
        );
        for path in [first.path.clone(), first.path.join("stdout"), first.path.join("stderr")] {
            let meta = fs::symlink_metadata(&path).expect("metadata");
            assert_eq!((meta.uid(), meta.gid()), (65534, 65534), "{path:?}");
        }
        assert_eq!(SandboxOf::of_path(work.path(), &first.path), Some(of("c1")));
        assert_eq!(SandboxOf::of_path(work.path(), &first.path.join("stdout")), None);
        assert_eq!(fs::metadata(&first.path).expect("metadata").mode() & 0o777, 0o750);
        let runs = first.path.parent().expect("parent");
        assert_eq!(fs::metadata(runs).expect("metadata").uid(), 0);
        assert_eq!(fs::read_link(runs.join("latest")).expect("link"), Path::new("c1"));

        let second = Sandbox::create(work.path(), &of("c2"), Some(owner)).expect("create");
        assert_eq!(fs::read_link(runs.join("latest")).expect("link"), Path::new("c2"));
        File::from(second.stdout).write_all(b"out").expect("write");
        assert_eq!(fs::read(runs.join("latest/stdout")).expect("read"), b"out");

        let again = Sandbox::create(work.path(), &of("c1"), None).expect_err("must be new");
        assert!(matches!(again, SandboxError::Create { .. }), "{again}");
    }

    #[test]
    fn ids_cannot_lead_elsewhere() {
        let work = Path::new("/work");
        for bad in ["", ".", "..", "a/b", "a\0b", "latest", &"x".repeat(256)] {
            let refused = sandbox_path(work, &of(bad)).expect_err("must be refused");
            assert!(matches!(refused, SandboxError::BadComponent { what: "container", .. }));
        }
        sandbox_path(work, &of("fine.id_1-2")).expect("a path");
    }
}
