//! The child between fork and exec: from a copy of the launcher to a container's first process.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mezzo_agent_sys::{default_signals, execute, fork_beside};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{
    Gid, Uid, chdir, fchdir, setgroups, sethostname, setresgid, setresuid, setsid, write,
};

use crate::enter::EnterPlan;
use crate::failure::{Failure, Step, failure_record};
use crate::launch::Plan;
use crate::protocol::{EXIT_FD, STATUS_FD};

/// Files that a command creates are not writable by others unless it wants so.
const UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// What every container gets from the launcher.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// `mezzo-init`, in memory.
    pub init: OwnedFd,
    /// Soft and hard limit of open files that the launcher itself was started with.
    pub open_files: (rlim_t, rlim_t),
    /// The launcher is spared when memory runs out, which its containers must not be.
    pub spared: bool,
}

/// Runs in the forked child, never returns. Failures go to `status`.
pub(crate) fn run(plan: &Plan, surroundings: &Surroundings, status: BorrowedFd<'_>) -> i32 {
    if let Err(failure) = prepare(plan, surroundings) {
        report(status, failure);
        return 255;
    }
    // The position in the array is the number in `mezzo-init`.
    const _: () = assert!(EXIT_FD == 3 && STATUS_FD == 4);
    let [stdin, stdout, stderr] = &plan.output;
    let descriptors =
        [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), plan.exit_file.as_fd(), status];
    execute(
        surroundings.init.as_fd(),
        &plan.arguments,
        &plan.environment,
        &descriptors,
        status,
        |status, error| {
            report(status, Failure::new(Step::Init, errno_of(&error)));
        },
    )
}

fn report(status: BorrowedFd<'_>, failure: Failure) {
    // Nobody reads: the launcher is gone, and the exit code is all that is left to say.
    let _ = write(status, &failure_record(&failure));
}

/// The order matters: cgroups first, so that all that follows is charged and limited; the file
/// system before the user changes, ids last because each gives up the right to the one before.
fn prepare(plan: &Plan, surroundings: &Surroundings) -> Result<(), Failure> {
    let at = |step| move |errno| Failure::new(step, errno);
    // All signals are blocked here, and stay so until `mezzo-init` can queue them.
    default_signals();
    setsid().map_err(at(Step::Session))?;
    join(&plan.cgroup_procs)?;
    // Before the mount namespace, which takes the working directory over into its own copy of the
    // mounts; entered afterwards, the directory would still lie in the host's.
    fchdir(&plan.directory).map_err(at(Step::Directory))?;
    if plan.namespaces.mount {
        unshare(CloneFlags::CLONE_NEWNS).map_err(at(Step::Mounts))?;
        // Mounts of the host still arrive here, none goes back.
        let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(at(Step::Mounts))?;
    }
    give_up_protection(surroundings)?;
    if plan.namespaces.pid {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(at(Step::Proc))?;
    }
    if let Some(hostname) = &plan.hostname {
        sethostname(hostname).map_err(at(Step::Hostname))?;
    }
    limit(surroundings)?;
    become_user(plan.uid, plan.gid, &plan.groups)
}

fn join(cgroup_procs: &[OwnedFd]) -> Result<(), Failure> {
    for (index, procs) in cgroup_procs.iter().enumerate() {
        // "0" is the writer, in whatever pid namespace.
        write(procs, b"0").map_err(|errno| Failure {
            index: u8::try_from(index).unwrap_or(u8::MAX),
            ..Failure::new(Step::Cgroup, errno)
        })?;
    }
    Ok(())
}

fn give_up_protection(surroundings: &Surroundings) -> Result<(), Failure> {
    if !surroundings.spared {
        return Ok(());
    }
    std::fs::write("/proc/self/oom_score_adj", "0")
        .map_err(|error| Failure::new(Step::OomScore, errno_of(&error)))
}

fn limit(surroundings: &Surroundings) -> Result<(), Failure> {
    let (soft, hard) = surroundings.open_files;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)
        .map_err(|errno| Failure::new(Step::Limits, errno))?;
    umask(UMASK);
    Ok(())
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Failure> {
    let at = |step| move |errno| Failure::new(step, errno);
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(at(Step::Groups))?;
    let gid = Gid::from_raw(gid);
    setresgid(gid, gid, gid).map_err(at(Step::Gid))?;
    let uid = Uid::from_raw(uid);
    setresuid(uid, uid, uid).map_err(at(Step::Uid))
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Runs in a forked child, which makes a process beside another one and ends. Failures go to the report socket.
pub(crate) fn enter(plan: &EnterPlan, surroundings: &Surroundings) -> i32 {
    default_signals();
    let entered =
        join(&plan.cgroup_procs).and_then(|()| give_up_protection(surroundings)).and_then(|()| {
            fork_beside(plan.pidfd.as_fd(), || beside(plan, surroundings))
                .map_err(|error| Failure::new(Step::Enter, errno_of(&error)))
        });
    match entered {
        Ok(_) => 0,
        Err(failure) => {
            report(plan.report.as_fd(), failure);
            255
        }
    }
}

/// In the namespaces of the other process.
fn beside(plan: &EnterPlan, surroundings: &Surroundings) -> i32 {
    let prepared = || {
        limit(surroundings)?;
        // The way there may not be the user's to go.
        chdir(plan.directory.as_c_str()).map_err(|errno| Failure::new(Step::Directory, errno))?;
        become_user(plan.uid, plan.gid, &plan.groups)
    };
    if let Err(failure) = prepared() {
        report(plan.report.as_fd(), failure);
        return 255;
    }
    // By the user's own rights: what lies there is the task's to choose.
    let opened = appended(&plan.output);
    let output = opened.as_ref().map_or(plan.stdin.as_fd(), AsFd::as_fd);
    let stdin = plan.stdin.as_fd();
    const _: () = assert!(EXIT_FD == 3 && STATUS_FD == 4);
    let descriptors = [stdin, output, output, stdin, plan.report.as_fd()];
    execute(
        surroundings.init.as_fd(),
        &plan.arguments,
        &plan.environment,
        &descriptors,
        plan.report.as_fd(),
        |status, error| report(status, Failure::new(Step::Init, errno_of(&error))),
    )
}

/// A regular file of the working directory, for appending.
fn appended(name: &CStr) -> Option<OwnedFd> {
    if name.is_empty() {
        return None;
    }
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = open(name, flags | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let kind = SFlag::from_bits_truncate(fstat(&file).ok()?.st_mode) & SFlag::S_IFMT;
    (kind == SFlag::S_IFREG).then_some(file)
}
