//! A master and an agent as processes, as an operator starts them, and their removal.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::leftovers::Leftovers;

const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the agent offers.
    pub resources: String,
    /// Whether tasks may run as root.
    pub root_submissions: bool,
}

impl Default for Options {
    fn default() -> Self {
        let resources = "cpus:64;mem:65536;disk:65536;ports:[31000-31999]".to_owned();
        Self { resources, root_submissions: true }
    }
}

/// One master and one agent on loopback, with everything they own under one directory. Dropping it
/// ends and removes all of it.
pub struct Cluster {
    directory: TempDir,
    options: Options,
    leftovers: Leftovers,
    master: Option<Child>,
    agent: Option<Child>,
    address: String,
    agent_address: String,
}

impl Cluster {
    /// Started: the master leads, the agent is registered.
    pub fn start(options: Options) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "tasks are isolated by control groups and namespaces, which takes root: run as root"
        );
        let directory = tempfile::Builder::new().prefix("mezzo-e2e-").tempdir();
        let directory = directory.context("cannot make a temporary directory")?;
        // Tasks of other users must reach their sandboxes below it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).context("cannot open the directory")?;
        let name = directory.path().file_name().context("the directory has no name")?;
        let cgroup = name.to_string_lossy().into_owned();
        let leftovers = Leftovers { directory: directory.path().to_owned(), cgroup };
        let mut cluster = Cluster {
            directory,
            options,
            leftovers,
            master: None,
            agent: None,
            address: "127.0.0.1:0".to_owned(),
            agent_address: "127.0.0.1:0".to_owned(),
        };
        cluster.start_master()?;
        cluster.start_agent()?;
        Ok(cluster)
    }

    /// `host:port` of the master.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` of the agent.
    pub fn agent_address(&self) -> &str {
        &self.agent_address
    }

    /// Where tests may keep files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The agent's work directory.
    pub fn agent_work_dir(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Starts the master; after a kill, on the port that it had.
    pub fn start_master(&mut self) -> Result<()> {
        let port = port_of(&self.address)?;
        let work_dir = self.path("master");
        let mut flags = vec!["--port", &port, "--work-dir", &work_dir];
        if self.options.root_submissions {
            flags.push("--root-submissions");
        }
        let (child, address) = self.spawn("master", &flags)?;
        self.master = Some(child);
        self.address = address;
        Ok(())
    }

    /// Starts the agent and waits until the master has it.
    pub fn start_agent(&mut self) -> Result<()> {
        let port = port_of(&self.agent_address)?;
        let (work_dir, runtime_dir) = (self.path("agent"), self.path("run"));
        let (address, cgroup) = (self.address.clone(), self.leftovers.cgroup.clone());
        let resources = self.options.resources.clone();
        let flags = [
            "--master",
            &address,
            "--port",
            &port,
            "--work-dir",
            &work_dir,
            "--runtime-dir",
            &runtime_dir,
            "--cgroups-root",
            &cgroup,
            "--resources",
            &resources,
        ];
        let (child, address) = self.spawn("agent", &flags)?;
        self.agent = Some(child);
        self.agent_address = address;
        self.wait("the agent to register", |cluster| {
            let snapshot = http_get(&cluster.address, "/metrics/snapshot").ok()?;
            snapshot.contains("\"master/slaves_active\":1").then_some(())
        })
    }

    /// `kill -9` of the master.
    pub fn kill_master(&mut self) -> Result<()> {
        end(&mut self.master, Signal::SIGKILL).context("the master")
    }

    /// `kill -9` of the agent. Its tasks run on.
    pub fn kill_agent(&mut self) -> Result<()> {
        end(&mut self.agent, Signal::SIGKILL).context("the agent")
    }

    /// Sends a signal to the agent and waits for its end.
    pub fn end_agent(&mut self, signal: Signal) -> Result<()> {
        end(&mut self.agent, signal).context("the agent")
    }

    /// Runs `mezzo` with these arguments against this cluster, to its end.
    pub fn mezzo(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("mezzo")?);
        command.env("MEZZO_MASTER", &self.address).args(arguments).stdin(Stdio::null());
        command.output().context("cannot run mezzo")
    }

    /// Starts `mezzo` with these arguments against this cluster; its output is piped.
    pub fn mezzo_in_background(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = Command::new(binary("mezzo")?);
        command.env("MEZZO_MASTER", &self.address).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run mezzo")
    }

    /// Looks until `look` sees something.
    pub fn wait<T>(&mut self, what: &str, look: impl Fn(&Cluster) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            let mut ended = None;
            for daemon in [&mut self.master, &mut self.agent].into_iter().flatten() {
                ended = ended.or(daemon.try_wait().context("cannot wait for a daemon")?);
            }
            if let Some(status) = ended {
                bail!("a daemon ended with {status}: {}", self.logs());
            }
            std::thread::sleep(LOOK);
        }
        bail!("waited {} s for {what}: {}", PATIENCE.as_secs(), self.logs())
    }

    /// Control groups of containers that are there now.
    pub fn container_cgroups(&self) -> Vec<PathBuf> {
        self.leftovers.containers()
    }

    /// Processes of this cluster that are there now: tasks and launcher, but for the daemons.
    pub fn other_processes(&self) -> Vec<i32> {
        let daemons = [&self.master, &self.agent];
        let daemons: Vec<i32> = daemons
            .into_iter()
            .flatten()
            .filter_map(|child| i32::try_from(child.id()).ok())
            .collect();
        self.leftovers.processes().into_iter().filter(|pid| !daemons.contains(pid)).collect()
    }

    /// The ends of the logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for daemon in ["master", "agent"] {
            let log = std::fs::read_to_string(self.log(daemon)).unwrap_or_default();
            let lines = Vec::from_iter(log.lines());
            for line in &lines[lines.len().saturating_sub(30)..] {
                text.push_str(&format!("\n  {daemon}: {line}"));
            }
        }
        text
    }

    fn log(&self, daemon: &str) -> PathBuf {
        self.directory.path().join(daemon).with_extension("log")
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Starts a daemon and reads the address that it prints when it is ready.
    fn spawn(&self, daemon: &str, flags: &[&str]) -> Result<(Child, String)> {
        let log = File::options().create(true).append(true).open(self.log(daemon));
        let log = log.context("cannot log")?;
        let mut command = Command::new(binary("mezzo")?);
        command.arg(daemon).args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start the {daemon}"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).context("cannot read")?;
        }
        match line.trim().strip_prefix("ready ") {
            Some(address) => Ok((child, address.to_owned())),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the {daemon} did not start: {}", self.logs())
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in [&mut self.agent, &mut self.master].into_iter().flatten() {
            // It may have ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Tasks and their launcher outlive the agent by design.
        self.leftovers.remove();
        if std::thread::panicking() {
            eprintln!("logs:{}", self.logs());
        }
    }
}

fn end(child: &mut Option<Child>, signal: Signal) -> Result<()> {
    let Some(mut child) = child.take() else { return Ok(()) };
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    child.wait()?;
    Ok(())
}

fn port_of(address: &str) -> Result<String> {
    let (_, port) = address.rsplit_once(':').context("the address has no port")?;
    Ok(port.to_owned())
}

/// A binary of this build: it lies beside the directory of the test executables.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this executable is")?;
    let found = own.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run `cargo build` first"))
}

/// The body of a GET.
pub(crate) fn http_get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(body.to_owned())
}
