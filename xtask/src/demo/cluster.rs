//! The master and the agent as processes, and their removal.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use super::processes;
use crate::cargo;

/// Between two looks at something that has no other way of telling.
const LOOK: Duration = Duration::from_millis(20);
/// For a daemon to be up, an agent to be back, a group to be empty.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a log is shown when something failed.
const LOG_LINES: usize = 30;

/// A master and an agent of this demonstration, and all that they leave.
pub struct Cluster {
    directory: TempDir,
    mezzo: PathBuf,
    master_port: u16,
    agent_port: u16,
    cgroup: String,
    daemons: Vec<(&'static str, Child)>,
    interrupted: Arc<AtomicBool>,
}

impl Cluster {
    pub fn new() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("cannot watch for signals")?;
        }
        let mezzo = cargo::binaries()?.join("mezzo");
        let directory = tempfile::Builder::new().prefix("mezzo-demo-").tempdir();
        Ok(Cluster {
            directory: directory.context("cannot make a temporary directory")?,
            mezzo,
            master_port: free_port()?,
            agent_port: free_port()?,
            cgroup: format!("mezzo-demo-{}", std::process::id()),
            daemons: Vec::new(),
            interrupted,
        })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// # Errors
    /// Once Ctrl-C was pressed, or the demo was told to end.
    pub fn interrupted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    pub fn start_master(&mut self) -> Result<()> {
        let port = self.master_port.to_string();
        let work = self.path("master");
        let arguments = [
            "master",
            "--ip",
            "127.0.0.1",
            "--port",
            &port,
            "--work-dir",
            &work,
            "--root-submissions",
        ];
        self.start("master", &arguments)
    }

    pub fn start_agent(&mut self) -> Result<()> {
        let master = self.address();
        let port = self.agent_port.to_string();
        let (work, runtime) = (self.path("agent"), self.path("run"));
        let cgroup = self.cgroup.clone();
        let arguments = [
            "agent",
            "--master",
            &master,
            "--ip",
            "127.0.0.1",
            "--port",
            &port,
            "--work-dir",
            &work,
            "--runtime-dir",
            &runtime,
            "--cgroups-root",
            &cgroup,
        ];
        self.start("agent", &arguments)
    }

    /// Until the master has exactly one agent, active.
    pub fn wait_for_agent(&mut self) -> Result<()> {
        self.wait("the agent to be registered", |cluster| {
            let agents = cluster.list("agents");
            let active = agents.iter().filter(|agent| agent["state"] == "active");
            Ok((active.count() == 1).then_some(()))
        })
    }

    /// What `kill -9` does to the agent.
    pub fn murder_agent(&mut self) -> Result<()> {
        let at = self.daemons.iter().position(|(name, _)| *name == "agent");
        let (_, mut agent) = self.daemons.remove(at.context("no agent runs")?);
        agent.kill().context("cannot kill the agent")?;
        agent.wait().context("cannot wait for the agent")?;
        Ok(())
    }

    /// `mezzo …` against this master, not started yet.
    pub fn mezzo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.mezzo);
        // Ctrl-C is for the demo, which then ends all of this in order.
        command.args(arguments).env("MEZZO_MASTER", self.address()).process_group(0);
        command.stdin(Stdio::null());
        command
    }

    /// Runs `mezzo …` to its end, watching for Ctrl-C.
    pub fn output(&mut self, mut command: Command, limit: Duration) -> Result<Output> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start mezzo")?;
        let ended = self.wait_child(&mut child, limit);
        if ended.is_err() {
            // Its output ends with it; without this the read below might never.
            let _ = child.kill();
        }
        let output = child.wait_with_output().context("cannot read what mezzo says")?;
        ended.map(|_| output)
    }

    pub fn wait_child(&mut self, child: &mut Child, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().context("cannot wait for mezzo")? {
                return Ok(status);
            }
            self.alive()?;
            std::thread::sleep(LOOK);
        }
        bail!("mezzo did not end within {} s", limit.as_secs())
    }

    /// Looks until there is something to see.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Cluster) -> Result<Option<T>>,
    ) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(seen) = look(self)? {
                return Ok(seen);
            }
            self.alive()?;
            std::thread::sleep(LOOK);
        }
        bail!("waited {} s for {what}", PATIENCE.as_secs())
    }

    /// Lets time pass, for measurements.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.alive()?;
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// `mezzo ps|agents|frameworks` as JSON; nothing while the master does not answer.
    pub fn list(&mut self, what: &str) -> Vec<Value> {
        let mut command = self.mezzo([what, "--output", "json"]);
        let Ok(output) = command.stderr(Stdio::null()).output() else { return Vec::new() };
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub fn print_logs(&self) {
        for name in ["master", "agent"] {
            let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines = Vec::from_iter(log.lines());
            eprintln!("-- the end of the {name}'s log:");
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                eprintln!("   {line}");
            }
        }
    }

    /// Ends every process, unmounts, removes the control groups and the files.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn clean_up(mut self) -> Result<()> {
        let swept = self.sweep();
        let directory = self.directory.path().display().to_string();
        // Before `Drop` does it silently.
        let empty = TempDir::new().context("cannot make a temporary directory")?;
        let own = std::mem::replace(&mut self.directory, empty);
        own.close().with_context(|| format!("cannot remove {directory}"))?;
        swept
    }

    fn sweep(&mut self) -> Result<()> {
        let daemons = std::mem::take(&mut self.daemons);
        for (_, daemon) in &daemons {
            // It may have ended already.
            let _ = kill(pid(daemon), Signal::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(5);
        for (_, mut daemon) in daemons {
            while Instant::now() < end && matches!(daemon.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Tasks and their launcher outlive the agent by design, so they are ended by hand.
        let end = Instant::now() + PATIENCE;
        loop {
            let mut left = processes::in_cgroup(&self.cgroup);
            left.extend(processes::with_path_below(self.directory.path()));
            if left.is_empty() {
                break;
            }
            if Instant::now() > end {
                bail!("these processes do not end: {left:?}");
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
        self.unmount()?;
        for group in self.cgroups() {
            remove_cgroup(&group)?;
        }
        Ok(())
    }

    fn unmount(&self) -> Result<()> {
        let mounts =
            std::fs::read_to_string("/proc/self/mountinfo").context("cannot list mounts")?;
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut ours = Vec::from_iter(points.filter(|at| self.holds(Path::new(at))));
        ours.reverse();
        for point in ours {
            let flags = nix::mount::MntFlags::MNT_DETACH;
            nix::mount::umount2(point, flags).with_context(|| format!("cannot unmount {point}"))?;
        }
        Ok(())
    }

    fn holds(&self, path: &Path) -> bool {
        path.starts_with(self.directory.path())
    }

    /// This demonstration's group in every hierarchy, of whichever version.
    fn cgroups(&self) -> Vec<PathBuf> {
        let base = Path::new("/sys/fs/cgroup");
        let below = std::fs::read_dir(base).into_iter().flatten().flatten();
        let hierarchies = below.map(|entry| entry.path()).chain([base.to_owned()]);
        let groups = hierarchies.map(|hierarchy| hierarchy.join(&self.cgroup));
        // `cpu` is often a link to `cpu,cpuacct`: one group, removed once.
        let mut groups = Vec::from_iter(groups.filter_map(|group| group.canonicalize().ok()));
        groups.sort();
        groups.dedup();
        groups
    }

    fn start(&mut self, name: &'static str, arguments: &[&str]) -> Result<()> {
        let log = self.log(name);
        let log = File::options().create(true).append(true).open(log).context("cannot log")?;
        let again = log.try_clone().context("cannot log")?;
        let mut command = self.mezzo(arguments.iter().copied());
        command.stdout(log).stderr(again);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", self.mezzo.display()))?;
        self.daemons.push((name, child));
        Ok(())
    }

    /// # Errors
    /// When a daemon ended by itself, or the demo is to end.
    fn alive(&mut self) -> Result<()> {
        self.interrupted()?;
        for (name, daemon) in &mut self.daemons {
            if let Some(status) = daemon.try_wait().context("cannot wait for a daemon")? {
                bail!("the {name} ended with {status}");
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.master_port)
    }
}

/// A panic must not leave a cluster behind either.
impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.sweep() {
            eprintln!("error: {error:#}");
        }
    }
}

/// All that a child has written, when it has ended.
pub fn read_all(from: &mut Option<impl Read>) -> String {
    let mut text = String::new();
    if let Some(from) = from {
        // What is no text is of no interest here.
        let _ = from.read_to_string(&mut text);
    }
    text
}

/// Removes a control group, innermost first. A group whose last process was just killed is busy
/// for a moment.
fn remove_cgroup(group: &Path) -> Result<()> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path())?;
    }
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match std::fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(error).with_context(|| format!("cannot remove {}", group.display()));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}

fn pid(child: &Child) -> Pid {
    // A pid fits: the kernel's largest is 2^22.
    Pid::from_raw(child.id() as i32)
}
