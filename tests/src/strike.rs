//! `kill -9`, and what comes after: daemons that are started without being waited for, since they
//! may be meant to die on the way up.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;

/// Which of the two processes that an operator starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    Master,
    Agent,
}

/// The first process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    pub pid: i32,
    pub task: String,
}

/// What program each daemon is, if it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub master: Option<PathBuf>,
    pub agent: Option<PathBuf>,
}

impl Cluster {
    /// Starts a daemon that ran before, on its old port, and does not wait for it.
    pub fn revive(&mut self, daemon: Daemon, environment: &[(&str, &str)]) -> Result<()> {
        let (mut command, log) = match daemon {
            Daemon::Master => self.master_command()?,
            Daemon::Agent => self.agent_command()?,
        };
        command.envs(environment.iter().copied()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start the {daemon:?}"))?;
        match daemon {
            Daemon::Master => self.master = Some(child),
            Daemon::Agent => self.agent = Some(child),
        }
        Ok(())
    }

    /// How the daemon ended, if it did; also when it is not there at all.
    pub fn ended(&mut self, daemon: Daemon) -> Result<Option<ExitStatus>> {
        let child = match daemon {
            Daemon::Master => &mut self.master,
            Daemon::Agent => &mut self.agent,
        };
        let Some(running) = child else { return Ok(Some(ExitStatus::default())) };
        let ended = running.try_wait().context("cannot wait for a daemon")?;
        if ended.is_some() {
            *child = None;
        }
        Ok(ended)
    }

    /// What program each daemon is.
    pub fn programs(&self) -> Programs {
        let program = |child: &Option<std::process::Child>| {
            std::fs::read_link(format!("/proc/{}/exe", child.as_ref()?.id())).ok()
        };
        Programs { master: program(&self.master), agent: program(&self.agent) }
    }

    /// The launcher, if one runs.
    pub fn launcher(&self) -> Option<i32> {
        let groups = self.leftovers.roots().into_iter().map(|root| root.join("launcher"));
        // A child on its way into a container still bears the launcher's name, and is younger.
        let named = groups
            .flat_map(|group| processes(&group))
            .filter(|pid| name(*pid).as_deref() == Some("mezzo-launcher"));
        named.min_by_key(|pid| (started(*pid), *pid))
    }

    /// `kill -9` of the launcher; whether there was one.
    pub fn kill_launcher(&self) -> Result<bool> {
        self.launcher().map_or(Ok(false), kill_process)
    }

    /// The first processes of all containers.
    pub fn inits(&self) -> Vec<Init> {
        let mut inits = Vec::new();
        for pid in self.leftovers.containers().iter().flat_map(|group| processes(group)) {
            let known = inits.iter().any(|init: &Init| init.pid == pid);
            if known || name(pid).as_deref() != Some("mezzo-init") {
                continue;
            }
            if let Some(task) = variable(pid, "MESOS_TASK_ID") {
                inits.push(Init { pid, task });
            }
        }
        inits.sort_unstable_by_key(|init| init.pid);
        inits
    }

    /// `kill -9` of a container's first process; `false` if it had ended.
    pub fn kill_init(&self, init: &Init) -> Result<bool> {
        kill_process(init.pid)
    }

    /// What is left after all tasks have ended and been forgotten, beside the daemons and the launcher:
    /// processes, control groups, mounts below the cluster's directory, exit files, entries in the kernel's accounts.
    pub fn strays(&self) -> Vec<String> {
        let daemons = [&self.master, &self.agent].into_iter().flatten();
        let mut known: Vec<i32> =
            daemons.filter_map(|child| i32::try_from(child.id()).ok()).collect();
        known.extend(self.launcher());
        let processes = self.leftovers.processes().into_iter().filter(|pid| {
            // A zombie waits for process 1 of the machine, not for us.
            !known.contains(pid) && state(*pid).is_some_and(|state| state != 'Z')
        });
        let mut strays: Vec<String> = processes
            .map(|pid| format!("process {pid}: {}", name(pid).unwrap_or_default()))
            .collect();
        let groups = self.leftovers.containers();
        strays.extend(groups.iter().map(|group| format!("control group {}", group.display())));
        let directory = self.directory().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains(&directory));
        strays.extend(mounts.map(|line| format!("mount {line}")));
        let exits = std::fs::read_dir(self.directory().join("run").join("exits"));
        let exits = exits.into_iter().flatten().flatten();
        strays.extend(exits.map(|entry| format!("exit file {}", entry.path().display())));
        let accounted = self.leftovers.accounted();
        strays.extend(
            (accounted > 0).then(|| format!("{accounted} entries in the kernel's accounts")),
        );
        strays
    }

    /// Directories of runs that the agent keeps.
    pub fn sandboxes(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_runs(&self.agent_work_dir(), &mut found);
        found
    }
}

fn collect_runs(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        match directory.ends_with("runs") {
            true => found.push(entry.path()),
            false => collect_runs(&entry.path(), found),
        }
    }
}

/// `false` if it had ended.
fn kill_process(pid: i32) -> Result<bool> {
    match kill(Pid::from_raw(pid), Signal::SIGKILL) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("cannot kill process {pid}")),
    }
}

fn processes(group: &Path) -> Vec<i32> {
    let listed = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

fn name(pid: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The fields of `/proc/<pid>/stat` after the name, from the third on.
fn fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn state(pid: i32) -> Option<char> {
    fields(pid)?.first()?.chars().next()
}

/// In clock ticks after the boot.
fn started(pid: i32) -> u64 {
    let ticks = fields(pid).and_then(|fields| fields.get(19)?.parse().ok());
    ticks.unwrap_or(u64::MAX)
}

fn variable(pid: i32, wanted: &str) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|variable| {
        let (name, value) = variable.split_once('=')?;
        (name == wanted).then(|| value.to_owned())
    })
}
