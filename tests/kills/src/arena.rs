//! The cluster under the load, and what is done to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mezzo_fault_points::POINTS;
use mezzo_tests::{Cluster, Daemon, Options};
use tempfile::TempDir;

use crate::journal::Reader;
use crate::random::Random;
use crate::schedule::{Step, Strike, Target, Trap};
use crate::verdict::{Evidence, Tally, Verdict};

const LOOK: Duration = Duration::from_millis(5);
/// For the cluster to end tasks again after a strike, and for all of them to end at the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// For a daemon to come by the point where it is to die; then it is killed where it is.
const TRAP_PATIENCE: Duration = Duration::from_millis(1500);

/// A cluster, a framework, and the books about both.
pub struct Arena {
    /// For what is not the cluster's.
    directory: TempDir,
    cluster: Cluster,
    framework: Option<Child>,
    seed: u64,
    /// Chooses among what is there, which no seed can foresee.
    random: Random,
    reader: Reader,
    verdict: Verdict,
    evidence: Evidence,
    pub kills: u32,
    /// Of these, at a point.
    pub trapped: u32,
    traps: u32,
    /// The agent may end by itself once: the launcher that it needs to start was made to die.
    pardoned: bool,
}

impl Arena {
    pub fn open(seed: u64) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let seen = directory.path().join("seen");
        let variable = ("MEZZO_FAULT_POINTS_SEEN".to_owned(), seen.display().to_string());
        let cluster =
            Cluster::start(Options { environment: vec![variable], ..Options::default() })?;
        let reader = Reader::new(&cluster.directory().join("load").join("journal"));
        std::fs::create_dir(cluster.directory().join("load")).context("cannot make a directory")?;
        let mut arena = Arena {
            directory,
            cluster,
            framework: None,
            seed,
            random: Random::new(seed, u64::MAX),
            reader,
            verdict: Verdict::new(seed),
            evidence: Evidence::default(),
            kills: 0,
            trapped: 0,
            traps: 0,
            pardoned: false,
        };
        arena.start_framework()?;
        arena.until_tasks_end()?;
        Ok(arena)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.directory().join("load").join(name)
    }

    /// Does what the step says, and looks at what came of it.
    pub fn take(&mut self, step: &Step) -> Result<()> {
        match &step.strike {
            Strike::Moment { targets, after_ms } => {
                // The moment is what the schedule varies; nothing is awaited here.
                std::thread::sleep(Duration::from_millis(*after_ms));
                for target in targets {
                    self.kill(*target)?;
                }
                self.revive(&[])?;
            }
            Strike::Point { trap } => self.spring(*trap)?,
        }
        if step.recovers {
            self.until_tasks_end()?;
        }
        self.judge(false)
    }

    fn kill(&mut self, target: Target) -> Result<()> {
        let hit = match target {
            Target::Master => self.kill_daemon(Daemon::Master)?,
            Target::Agent => self.kill_daemon(Daemon::Agent)?,
            Target::Launcher => self.cluster.kill_launcher()?,
            Target::Init => {
                let inits = self.cluster.inits();
                match self.random.choose(&inits) {
                    Some(init) => {
                        // Before the deed, lest its consequence be judged without it.
                        self.evidence.struck.insert(init.task.clone());
                        self.cluster.kill_init(init)?
                    }
                    None => false,
                }
            }
            Target::Framework => match self.framework.take() {
                Some(mut framework) => {
                    framework.kill().context("cannot kill the framework")?;
                    framework.wait().context("cannot wait for the framework")?;
                    true
                }
                None => false,
            },
        };
        self.kills += u32::from(hit);
        Ok(())
    }

    fn kill_daemon(&mut self, daemon: Daemon) -> Result<bool> {
        let running = self.cluster.ended(daemon)?.is_none();
        match daemon {
            Daemon::Master => self.cluster.kill_master()?,
            Daemon::Agent => self.cluster.kill_agent()?,
        }
        Ok(running)
    }

    /// Starts again what is not there. The launcher is the agent's to start.
    fn revive(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        for daemon in [Daemon::Master, Daemon::Agent] {
            if self.cluster.ended(daemon)?.is_some() {
                self.cluster.revive(daemon, environment)?;
            }
        }
        if self.framework.is_none() {
            self.start_framework()?;
        }
        Ok(())
    }

    /// Has a daemon die at a point.
    fn spring(&mut self, trap: Trap) -> Result<()> {
        let target = trap.target;
        let daemon = match target {
            Target::Master => Daemon::Master,
            _ => Daemon::Agent,
        };
        self.pardoned = target == Target::Launcher;
        if target == Target::Launcher {
            self.kill(Target::Launcher)?;
        }
        self.kill(if daemon == Daemon::Master { Target::Master } else { Target::Agent })?;
        self.traps += 1;
        // The one who dies takes the file away, so that it dies once.
        let token = self.path(&format!("trap.{}", self.traps));
        File::create(&token).context("cannot set a trap")?;
        let points = format!("{}=kill@{}", trap.point, trap.hit);
        let token_path = token.display().to_string();
        self.revive(&[("MEZZO_FAULT_POINTS", &points), ("MEZZO_FAULT_POINTS_ONCE", &token_path)])?;
        let end = Instant::now() + TRAP_PATIENCE;
        while token.exists() && Instant::now() < end && self.cluster.ended(daemon)?.is_none() {
            std::thread::sleep(LOOK);
        }
        if std::fs::remove_file(&token).is_err() {
            self.kills += 1;
            self.trapped += 1;
        } else {
            self.kill(target)?;
        }
        if target != Target::Launcher {
            // It may have stumbled a moment ago without having ended yet.
            self.kill_daemon(daemon)?;
        }
        self.revive(&[])
    }

    fn start_framework(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.path("framework.log"));
        let log = log.context("cannot log")?;
        let own = std::env::current_exe().context("cannot tell where this executable is")?;
        let mut command = Command::new(own);
        command.arg("framework").args(["--master", self.cluster.address()]);
        command.arg("--directory").arg(self.path("")).args(["--seed", &self.seed.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.framework = Some(command.spawn().context("cannot start the framework")?);
        Ok(())
    }

    /// Until more tasks have ended than now.
    fn until_tasks_end(&mut self) -> Result<()> {
        self.read()?;
        let before = self.verdict.ended();
        self.wait("a task to end", |arena| arena.verdict.ended() > before)
    }

    fn read(&mut self) -> Result<()> {
        for entry in self.reader.read()? {
            self.verdict.take(entry);
        }
        Ok(())
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Arena) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.read()?;
            if done(self) {
                return Ok(());
            }
            for daemon in [Daemon::Master, Daemon::Agent] {
                let Some(status) = self.cluster.ended(daemon)? else { continue };
                if daemon == Daemon::Agent && std::mem::take(&mut self.pardoned) {
                    self.cluster.revive(daemon, &[])?;
                } else {
                    bail!("the {daemon:?} ended by itself with {status}");
                }
            }
            if let Some(framework) = &mut self.framework
                && let Some(status) = framework.try_wait().context("cannot wait")?
                && !status.success()
            {
                bail!("the framework ended by itself with {status}");
            }
            if Instant::now() > end {
                let breaches = self.verdict.breaches(&self.evidence, true);
                let shown = breaches.len().min(20);
                let open = breaches[..shown].join("\n  ");
                bail!("waited {} s for {what}; open or wrong:\n  {open}", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn judge(&mut self, over: bool) -> Result<()> {
        // The witness last: what the journal tells of has been witnessed before.
        self.read()?;
        let witness = std::fs::read_to_string(self.path("witness")).unwrap_or_default();
        self.evidence.read_witness(&witness);
        // What was begun since the journal was read is in it now.
        self.read()?;
        let breaches = self.verdict.breaches(&self.evidence, over);
        ensure!(breaches.is_empty(), "promises were broken:\n  {}", breaches.join("\n  "));
        Ok(())
    }

    /// Ends the load and sees that everything is accounted for and nothing is left.
    pub fn close(&mut self) -> Result<Tally> {
        File::create(self.path("stop")).context("cannot stop the load")?;
        self.wait("all tasks to end", |arena| arena.verdict.settled())?;
        self.judge(true)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let strays = self.cluster.strays();
            if strays.is_empty() {
                break;
            }
            if Instant::now() > end {
                bail!("left behind:\n  {}", strays.join("\n  "));
            }
            std::thread::sleep(LOOK);
        }
        let tally = self.verdict.tally(&self.evidence);
        let sandboxes = self.cluster.sandboxes().len();
        ensure!(
            sandboxes <= tally.launched,
            "{sandboxes} sandboxes for {} launched tasks",
            tally.launched
        );
        Ok(tally)
    }

    /// The ends of all logs, for a failure.
    pub fn logs(&self) -> String {
        let text = std::fs::read_to_string(self.path("framework.log")).unwrap_or_default();
        let lines = Vec::from_iter(text.lines());
        let mut logs = self.cluster.logs();
        for line in &lines[lines.len().saturating_sub(30)..] {
            logs.push_str(&format!("\n  framework: {line}"));
        }
        logs
    }

    /// Points that no daemon has passed.
    pub fn never_passed(&self) -> Vec<&'static str> {
        let seen = std::fs::read_to_string(self.directory.path().join("seen")).unwrap_or_default();
        let seen: BTreeSet<&str> = seen.lines().collect();
        POINTS.iter().map(|point| point.name).filter(|name| !seen.contains(name)).collect()
    }

    /// Copies logs, journal and witness out of the directory that goes with the cluster.
    pub fn keep(&self, target: &std::path::Path) -> Result<()> {
        std::fs::create_dir_all(target).context("cannot make the directory to keep things in")?;
        let base = self.cluster.directory();
        let files = ["master.log", "agent.log", "run/launcher.log", "load/framework.log"];
        for name in files.into_iter().chain(["load/journal", "load/witness"]) {
            let kept = target.join(name.rsplit('/').next().unwrap_or(name));
            if base.join(name).exists() {
                std::fs::copy(base.join(name), kept)
                    .with_context(|| format!("cannot keep {name}"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(mut framework) = self.framework.take() {
            // It may have ended already.
            let _ = framework.kill();
            let _ = framework.wait();
        }
    }
}
