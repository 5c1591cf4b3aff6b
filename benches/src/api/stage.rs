//! A master with simulated agents, as processes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mezzo_tests::{Cluster, Options, binary};

use crate::counters;

/// For all agents to register.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Stage {
    cluster: Cluster,
    simulators: Option<Child>,
    /// From the start of the simulators until every agent was registered.
    pub joined: Duration,
    /// What the master had used before anybody came.
    pub empty_kib: f64,
}

/// For jemalloc, as the unit of the package sets it.
const LARGE_PAGES: (&str, &str) = ("MALLOC_CONF", "thp:always");

impl Stage {
    /// A master, and nobody else.
    pub fn set() -> Result<Stage> {
        let (name, value) = LARGE_PAGES;
        let environment = vec![(name.to_owned(), value.to_owned())];
        let mut cluster = Cluster::prepare(Options { environment, ..Options::default() })?;
        cluster.start_master()?;
        let master = cluster.master_pid().context("the master has ended")?;
        let empty_kib = counters::resident_kib(master)?;
        Ok(Stage { cluster, simulators: None, joined: Duration::ZERO, empty_kib })
    }

    /// So many agents come; returns when every one is registered.
    pub fn join(&mut self, agents: u32, resources: &str) -> Result<()> {
        let log = File::create(self.cluster.directory().join("agents.log"));
        let begin = Instant::now();
        let mut simulators = Command::new(binary("mezzo-agent-simulated")?)
            .args(["--master", self.cluster.address(), "--agents", &agents.to_string()])
            .args(["--resources", resources, "--log-level", "warn"])
            .env(LARGE_PAGES.0, LARGE_PAGES.1)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.context("cannot log")?)
            .spawn()
            .context("cannot start the simulated agents")?;
        let output = simulators.stdout.take();
        self.simulators = Some(simulators);
        let output = output.context("the agents have no output")?;
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = BufReader::new(output).read_line(&mut text).map(|_| text);
            // Nobody waits any more if it took too long.
            line.send(read).ok();
        });
        let said = lines.recv_timeout(PATIENCE);
        self.joined = begin.elapsed();
        match said {
            Ok(Ok(text)) if text.starts_with("ready ") => Ok(()),
            Ok(_) => bail!("the simulated agents ended: {}", self.logs()),
            Err(_) => {
                bail!("not all agents registered within {} s: {}", PATIENCE.as_secs(), self.logs())
            }
        }
    }

    pub fn address(&self) -> &str {
        self.cluster.address()
    }

    pub fn master(&self) -> Result<i32> {
        self.cluster.master_pid().context("the master has ended")
    }

    pub fn simulators(&self) -> Result<i32> {
        let simulators = self.simulators.as_ref().context("there are no agents")?;
        Ok(i32::try_from(simulators.id())?)
    }

    pub fn logs(&self) -> String {
        let log = self.cluster.directory().join("agents.log");
        let agents = std::fs::read_to_string(log).unwrap_or_default();
        let last = agents.lines().rev().take(10).map(|line| format!("\n  agents: {line}"));
        self.cluster.logs() + &last.collect::<String>()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(simulators) = &mut self.simulators {
            // They may have ended already.
            let _ = simulators.kill();
            let _ = simulators.wait();
        }
    }
}
