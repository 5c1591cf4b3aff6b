//! A master and an agent as processes, and their removal.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);
/// Enough for every bench's tasks to run at once: what is measured is Mezzo, not the waiting for
/// room. The tasks do nothing.
const RESOURCES: &str = "cpus:64;mem:65536;disk:65536;ports:[31000-31999]";

pub struct Cluster {
    directory: TempDir,
    cgroup: String,
    address: String,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Started, and the master listens; the agent may still be registering.
    pub fn start() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "tasks are isolated, which takes root");
        let directory = tempfile::Builder::new().prefix("mezzo-bench-").tempdir();
        let mut cluster = Cluster {
            directory: directory.context("cannot make a temporary directory")?,
            cgroup: format!("mezzo-bench-{}", std::process::id()),
            address: format!("127.0.0.1:{}", free_port()?),
            daemons: Vec::new(),
        };
        let own = std::env::current_exe().context("cannot tell where this executable is")?;
        let mezzo = own.with_file_name("mezzo");
        let port = cluster.address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let port = port.context("the address has no port")?;
        let path = |name: &str| cluster.directory.path().join(name).display().to_string();
        let (master, agent, run) = (path("master"), path("agent"), path("run"));
        let (address, cgroup) = (cluster.address.clone(), cluster.cgroup.clone());
        cluster.spawn(
            &mezzo,
            "master",
            &["--port", &port, "--work-dir", &master, "--root-submissions"],
        )?;
        cluster.wait("the master to listen", |cluster| {
            TcpStream::connect(&cluster.address).ok().map(drop)
        })?;
        let flags = [
            "--master",
            &address,
            "--port",
            "0",
            "--work-dir",
            &agent,
            "--runtime-dir",
            &run,
            "--cgroups-root",
            &cgroup,
            "--resources",
            RESOURCES,
        ];
        cluster.spawn(&mezzo, "agent", &flags)?;
        Ok(cluster)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    fn spawn(&mut self, mezzo: &Path, daemon: &str, flags: &[&str]) -> Result<()> {
        let log = self.directory.path().join(daemon).with_extension("log");
        let log = File::create(log).context("cannot log")?;
        let again = log.try_clone().context("cannot log")?;
        let mut command = Command::new(mezzo);
        command.arg(daemon).args(flags).stdin(Stdio::null()).stdout(log).stderr(again);
        let child = command.spawn();
        self.daemons.push(child.with_context(|| format!("cannot start {}", mezzo.display()))?);
        Ok(())
    }

    fn wait<T>(&mut self, what: &str, look: impl Fn(&Cluster) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            for daemon in &mut self.daemons {
                if let Some(status) = daemon.try_wait().context("cannot wait for a daemon")? {
                    bail!("a daemon ended with {status}: {}", self.logs());
                }
            }
            std::thread::sleep(LOOK);
        }
        bail!("waited {} s for {what}: {}", PATIENCE.as_secs(), self.logs())
    }

    /// The ends of the logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for daemon in ["master", "agent"] {
            let log = self.directory.path().join(daemon).with_extension("log");
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let lines = Vec::from_iter(log.lines());
            for line in &lines[lines.len().saturating_sub(20)..] {
                text.push_str(&format!("\n  {daemon}: {line}"));
            }
        }
        text
    }

    fn processes(&self) -> Vec<i32> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let directory = self.directory.path().as_os_str().as_encoded_bytes();
        let ours = |pid: &i32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            groups.split(['/', '\n']).any(|part| part == self.cgroup)
                || command.windows(directory.len()).any(|window| window == directory)
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != own).filter(ours).collect()
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let base = Path::new("/sys/fs/cgroup");
        let below = std::fs::read_dir(base).into_iter().flatten().flatten();
        let hierarchies = below.map(|entry| entry.path()).chain([base.to_owned()]);
        let groups = hierarchies.map(|hierarchy| hierarchy.join(&self.cgroup));
        groups.filter(|group| group.is_dir()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            // It may have ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Tasks and their launcher outlive the agent by design.
        let end = Instant::now() + PATIENCE;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > end {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
        for group in self.cgroups() {
            remove_cgroup(&group);
        }
    }
}

/// Innermost first. A group whose last process was just killed is busy for a moment.
fn remove_cgroup(group: &Path) {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path());
    }
    let end = Instant::now() + Duration::from_secs(2);
    while std::fs::remove_dir(group).is_err() && group.is_dir() && Instant::now() < end {
        std::thread::sleep(LOOK);
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}
