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
use crate::patience::patience;
use crate::strike::Daemon;

const LOOK: Duration = Duration::from_millis(10);
const PATIENCE_S: u64 = 60;

/// Lays its first argument over the kernel's boot id, then becomes the program of the others.
const BOOT_ID_OVER: &str = r#"mount --bind "$1" /proc/sys/kernel/random/boot_id; shift; exec "$@""#;

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the agent offers.
    pub resources: String,
    /// Whether tasks may run as root.
    pub root_submissions: bool,
    /// More flags of the master.
    pub master_flags: Vec<String>,
    /// More flags of the agent.
    pub agent_flags: Vec<String>,
    /// A file that the agent sees as the kernel's boot id: it is started in a mount namespace of its own
    /// where this file lies over `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<PathBuf>,
    /// Variables that both daemons find.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        let resources = "cpus:64;mem:65536;disk:65536;ports:[31000-31999]".to_owned();
        Self {
            resources,
            root_submissions: true,
            master_flags: Vec::new(),
            agent_flags: Vec::new(),
            boot_id: None,
            environment: Vec::new(),
        }
    }
}

/// One master and one agent on loopback, with everything they own under one directory. Dropping it
/// ends and removes all of it.
pub struct Cluster {
    directory: TempDir,
    options: Options,
    pub(crate) leftovers: Leftovers,
    pub(crate) master: Option<Child>,
    pub(crate) agent: Option<Child>,
    address: String,
    agent_address: String,
    program: Option<PathBuf>,
    /// From the start of the latest master and agent to their word that they serve.
    master_start: Duration,
    agent_start: Duration,
}

impl Cluster {
    /// Started: the master leads, the agent is registered.
    pub fn start(options: Options) -> Result<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.start_master()?;
        cluster.start_agent()?;
        Ok(cluster)
    }

    /// With a directory of its own, and nothing started.
    pub fn prepare(options: Options) -> Result<Self> {
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
        Ok(Cluster {
            directory,
            options,
            leftovers,
            master: None,
            agent: None,
            address: "127.0.0.1:0".to_owned(),
            agent_address: "127.0.0.1:0".to_owned(),
            program: None,
            master_start: Duration::ZERO,
            agent_start: Duration::ZERO,
        })
    }

    /// How the daemons are started from now on.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// `host:port` of the master.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` of the agent.
    pub fn agent_address(&self) -> &str {
        &self.agent_address
    }

    /// The master's process.
    pub fn master_pid(&self) -> Option<i32> {
        self.master.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> Option<i32> {
        self.agent.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// How long the latest master took from its start until it led and served.
    pub fn master_start(&self) -> Duration {
        self.master_start
    }

    /// How long the latest agent took from its start until it had taken up what was there and
    /// served; its registration came after.
    pub fn agent_start(&self) -> Duration {
        self.agent_start
    }

    /// Name of the agent's root in every hierarchy of control groups.
    pub fn cgroup(&self) -> &str {
        &self.leftovers.cgroup
    }

    /// Where tests may keep files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The agent's work directory.
    pub fn agent_work_dir(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// The master's work directory.
    pub fn master_work_dir(&self) -> PathBuf {
        self.directory.path().join("master")
    }

    /// The body of a GET on the master or the agent.
    pub fn get(&self, address: &str, path: &str) -> Result<String> {
        http_get(address, path)
    }

    /// The daemons that are started from now on are this program, as after an upgrade.
    pub fn upgrade_to(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// Starts the master; after a kill, on the port that it had.
    pub fn start_master(&mut self) -> Result<()> {
        let (command, log) = self.master_command()?;
        let (child, address, took) = self.until_ready("master", command, log)?;
        self.master = Some(child);
        self.master_start = took;
        self.address = address;
        Ok(())
    }

    /// `mezzo master` with its flags, and the file for its log.
    pub(crate) fn master_command(&self) -> Result<(Command, File)> {
        let port = port_of(&self.address)?;
        let work_dir = self.path("master");
        let mut flags = vec!["--port", &port, "--work-dir", &work_dir];
        if self.options.root_submissions {
            flags.push("--root-submissions");
        }
        flags.extend(self.options.master_flags.iter().map(String::as_str));
        self.daemon("master", &flags)
    }

    /// The next agent gets these flags.
    pub fn set_agent_flags(&mut self, flags: &[&str]) {
        self.options.agent_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts the agent and waits until the master has it.
    pub fn start_agent(&mut self) -> Result<()> {
        self.start_agent_alone()?;
        self.wait("the agent to register", |cluster| {
            let snapshot = http_get(&cluster.address, "/metrics/snapshot").ok()?;
            snapshot.contains("\"master/slaves_active\":1").then_some(())
        })
    }

    /// Starts the agent; whether the master takes it is another matter.
    pub fn start_agent_alone(&mut self) -> Result<()> {
        let (command, log) = self.agent_command()?;
        let (child, address, took) = self.until_ready("agent", command, log)?;
        self.agent = Some(child);
        self.agent_start = took;
        self.agent_address = address;
        Ok(())
    }

    /// `mezzo agent` with its flags, and the file for its log.
    pub(crate) fn agent_command(&self) -> Result<(Command, File)> {
        let port = port_of(&self.agent_address)?;
        let (work_dir, runtime_dir) = (self.path("agent"), self.path("run"));
        let (address, cgroup) = (self.address.clone(), self.leftovers.cgroup.clone());
        let resources = self.options.resources.clone();
        let mut flags = vec![
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
        let more = self.options.agent_flags.clone();
        flags.extend(more.iter().map(String::as_str));
        self.daemon("agent", &flags)
    }

    /// `kill -9` of the master.
    pub fn kill_master(&mut self) -> Result<()> {
        end(&mut self.master, Signal::SIGKILL).context("the master")
    }

    /// `kill -9` of the agent. Its tasks run on.
    pub fn kill_agent(&mut self) -> Result<()> {
        end(&mut self.agent, Signal::SIGKILL).context("the agent")
    }

    /// Sends a signal to the agent, such as SIGSTOP.
    pub fn signal_agent(&self, signal: Signal) -> Result<()> {
        let agent = self.agent.as_ref().context("there is no agent")?;
        Ok(kill(Pid::from_raw(i32::try_from(agent.id())?), signal)?)
    }

    /// Waits until the agent has ended by itself.
    pub fn agent_ended(&mut self) -> Result<std::process::ExitStatus> {
        let mut agent = self.agent.take().context("there is no agent")?;
        let end = Instant::now() + patience(PATIENCE_S);
        while Instant::now() < end {
            if let Some(status) = agent.try_wait().context("cannot wait for the agent")? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        self.agent = Some(agent);
        bail!("waited {} s for the agent to end: {}", patience(PATIENCE_S).as_secs(), self.logs())
    }

    /// Kills everything that a reboot would end: the agent, its tasks and its launcher.
    pub fn kill_host(&mut self) -> Result<()> {
        self.kill_agent()?;
        let end = Instant::now() + patience(PATIENCE_S);
        while Instant::now() < end {
            let left = self.leftovers.processes();
            let master = self.master.as_ref().and_then(|child| i32::try_from(child.id()).ok());
            let left: Vec<i32> = left.into_iter().filter(|pid| Some(*pid) != master).collect();
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                // It may have ended with another one.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
        bail!("processes of the agent cannot be ended: {:?}", self.leftovers.processes())
    }

    /// What the metrics endpoint of the master says of `name`.
    pub fn master_metric(&self, name: &str) -> Result<f64> {
        let snapshot = http_get(&self.address, "/metrics/snapshot")?;
        let key = format!("\"{name}\":");
        let (_, rest) = snapshot.split_once(&key).with_context(|| format!("no metric {name}"))?;
        let number = rest.split([',', '}']).next().unwrap_or_default();
        number.trim().parse().with_context(|| format!("{name} is {number}"))
    }

    /// Sends a signal to the master and waits for its end.
    pub fn end_master(&mut self, signal: Signal) -> Result<()> {
        end(&mut self.master, signal).context("the master")
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
        let end = Instant::now() + patience(PATIENCE_S);
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
        bail!("waited {} s for {what}: {}", patience(PATIENCE_S).as_secs(), self.logs())
    }

    /// Control groups of containers that are there now.
    pub fn container_cgroups(&self) -> Vec<PathBuf> {
        self.leftovers.containers()
    }

    /// How many containers the kernel has in its accounts for the agent.
    pub fn accounted(&self) -> usize {
        self.leftovers.accounted()
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

    /// How many lines of a daemon's log hold this text.
    pub fn logged(&self, daemon: Daemon, text: &str) -> usize {
        let daemon = match daemon {
            Daemon::Master => "master",
            Daemon::Agent => "agent",
        };
        let log = std::fs::read_to_string(self.log(daemon)).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    fn log(&self, daemon: &str) -> PathBuf {
        self.directory.path().join(daemon).with_extension("log")
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Starts a daemon and reads the address that it prints when it is ready; how long that took.
    fn until_ready(
        &self,
        daemon: &str,
        mut command: Command,
        log: File,
    ) -> Result<(Child, String, Duration)> {
        let begin = Instant::now();
        let spawned = command.stderr(log).spawn();
        let mut child = spawned.with_context(|| format!("cannot start the {daemon}"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).context("cannot read")?;
        }
        match line.trim().strip_prefix("ready ") {
            Some(address) => Ok((child, address.to_owned(), begin.elapsed())),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the {daemon} did not start: {}", self.logs())
            }
        }
    }

    /// The command of a daemon, and the file for its log.
    fn daemon(&self, daemon: &str, flags: &[&str]) -> Result<(Command, File)> {
        let log = File::options().create(true).append(true).open(self.log(daemon));
        let log = log.context("cannot log")?;
        let program = match &self.program {
            Some(program) => program.clone(),
            None => binary("mezzo")?,
        };
        let mut command = match self.options.boot_id.as_ref().filter(|_| daemon == "agent") {
            None => Command::new(&program),
            Some(boot_id) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-euc", BOOT_ID_OVER]);
                command.arg("sh").arg(boot_id).arg(&program);
                command
            }
        };
        command.arg(daemon).args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        command.envs(self.options.environment.iter().cloned());
        Ok((command, log))
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
pub fn http_get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience(PATIENCE_S)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(body.to_owned())
}
