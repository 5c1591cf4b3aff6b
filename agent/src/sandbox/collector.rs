//! Garbage collection: sandboxes of ended runs go by age and disk headroom.
//!
//! The rule is the core's ([`Collection`], [`Retention`]); here are the clock, the disk and the directories. A sandbox's time of
//! ending is its modification time: the agent sets it when a run ends, so a later agent, also one with another id, reads
//! it off the directory. A sandbox that goes is first moved to `removing/`, in one step, and removed there: nobody sees half a
//! sandbox, and what a crash leaves there is removed by the next agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mezzo_agent_core::{Collection, Retention};
use mezzo_agent_sys::clear_protection;
use mezzo_types::ContainerId;
use nix::sys::statvfs::statvfs;
use tokio::sync::{Notify, Semaphore};

use super::removal::{RemovalError, remove_tree};
use super::{SandboxOf, sandbox_path};
use crate::clock::Clock;

/// Trees that are removed at the same time: a huge one does not keep the others waiting, and the disk is the tasks'.
const REMOVALS_AT_ONCE: usize = 2;
/// Where sandboxes are, in the work directory. They may have a disk of their own there.
const SANDBOXES: &str = "slaves";
/// Where sandboxes go to be removed: in the work directory, or among the sandboxes if they have a disk of their own.
const REMOVING: &str = "removing";
const REMOVING_OF_OWN: &str = ".removing";

/// What the collector has done and has to do, for `gc/…` metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removals {
    pub(crate) pending: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

#[derive(Debug)]
pub(super) struct Collector {
    work_dir: PathBuf,
    /// On the same disk as the sandboxes, so that they go there in one step.
    removing_dir: PathBuf,
    clock: Clock,
    retention: Retention,
    interval: Duration,
    state: Mutex<State>,
    /// Read while directories for a run are made, written while empty ones are removed.
    pub(super) layout: RwLock<()>,
    changed: Notify,
    turns: Arc<Semaphore>,
    removing: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

/// As large as the set of sandboxes that are there.
#[derive(Debug, Default)]
struct State {
    /// Containers that have not ended, with their sandboxes if those are known.
    living: BTreeMap<ContainerId, Option<SandboxOf>>,
    ended: Collection<SandboxOf>,
    /// Could not be put away. Tried again after the next look at the disk, not at once: what is in the way seldom goes
    /// sooner.
    refused: Vec<SandboxOf>,
    /// In `removing/`, and could not be removed entirely. Tried again at each look at the disk.
    stuck: BTreeSet<String>,
    next: u64,
}

impl Collector {
    pub(super) fn new(work_dir: &Path, retention: Retention, interval: Duration) -> Arc<Collector> {
        let removing_dir = removing_dir(work_dir);
        // On a full disk it could not be made any more, and nothing could be removed. If it cannot be made now, it is
        // when it is needed, and that says why not.
        let _ = make_private(&removing_dir);
        Arc::new(Collector {
            work_dir: work_dir.to_owned(),
            removing_dir,
            clock: Clock::start(),
            retention,
            interval,
            state: Mutex::default(),
            layout: RwLock::default(),
            changed: Notify::new(),
            turns: Arc::new(Semaphore::new(REMOVALS_AT_ONCE)),
            removing: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// A container that is about to run, or was found running: its sandbox stays.
    pub(super) fn begin(&self, container: &ContainerId, sandbox: Option<SandboxOf>) {
        self.state().living.insert(container.clone(), sandbox);
    }

    /// The container has ended, from now on its sandbox ages. A few calls of the file system.
    pub(super) fn ended(&self, container: &ContainerId) {
        let sandbox = self.state().living.remove(container);
        // One that is not known yet is found by the scan.
        if let Some(Some(sandbox)) = sandbox {
            self.age_from_now(sandbox);
        }
    }

    fn age_from_now(&self, sandbox: SandboxOf) {
        let Ok(path) = sandbox_path(&self.work_dir, &sandbox) else { return };
        match note_ending(&path) {
            Ok(()) => {}
            // The launch did not come as far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the time of a run's ending could not be noted");
            }
        }
        let now = self.clock.now();
        self.state().ended.add(now, sandbox, now.unix_ns);
        self.changed.notify_one();
    }

    /// Looks for sandboxes of earlier agents, also of earlier ids of this one. `recorded` are those whose ending was not seen: the
    /// machine went down under them. Blocks.
    pub(super) fn scan(&self, recorded: &BTreeSet<ContainerId>) {
        let mut found = 0;
        for (sandbox, modified_unix_ns) in sandboxes(&self.work_dir) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let mut state = self.state();
            if let Some(living) = state.living.get_mut(&sandbox.container) {
                *living = Some(sandbox);
                continue;
            }
            found += 1;
            if recorded.contains(&sandbox.container) {
                drop(state);
                self.age_from_now(sandbox);
            } else {
                state.ended.add(self.clock.now(), sandbox, modified_unix_ns);
            }
        }
        let left = fs::read_dir(&self.removing_dir).into_iter().flatten().flatten();
        let left = left.filter_map(|entry| entry.file_name().into_string().ok());
        self.state().stuck.extend(left);
        tracing::debug!(found, "looked for sandboxes of ended runs");
        self.changed.notify_one();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn removals(&self) -> Removals {
        let state = self.state();
        let waiting = state.ended.len() + state.refused.len() + state.stuck.len();
        Removals {
            pending: waiting as u64 + self.removing.load(Ordering::Relaxed),
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// What the formula gives for the disk as it is now.
    pub(super) fn allowed_age(&self) -> Duration {
        self.retention.allowed_age(disk_usage(&disk_of_sandboxes(&self.work_dir)))
    }

    /// Collects for ever. While nothing waits, nothing wakes it.
    pub(super) async fn collect(self: Arc<Self>) {
        let mut allowed = self.allowed_age();
        let mut measured = self.clock.now();
        loop {
            if self.clock.now().since(measured.mono_ns) >= self.interval {
                allowed = self.allowed_age();
                measured = self.clock.now();
                self.retry_refused();
                self.retry_stuck();
            }
            self.remove_older(allowed);
            let next = {
                let state = self.state();
                let due = state.ended.poll_timeout(allowed);
                let left = !state.refused.is_empty() || !state.stuck.is_empty();
                let waiting = due.is_some() || left;
                let look = waiting.then(|| measured.plus(self.interval));
                // With all turns taken, the one that ends tells.
                let due = due.filter(|_| self.turns.available_permits() > 0);
                look.into_iter().chain(due).min()
            };
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(self.clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Cancel-safe: a permit that is not taken stays.
                () = self.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn remove_older(self: &Arc<Self>, allowed: Duration) {
        while let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            let (sandbox, name) = {
                let mut state = self.state();
                let Some(sandbox) = state.ended.take_older(self.clock.now(), allowed) else {
                    return;
                };
                // Different from every name that an earlier agent may have left.
                let name = format!("{}.{}", self.clock.now().unix_ns, state.next);
                state.next += 1;
                (sandbox, name)
            };
            self.removing.fetch_add(1, Ordering::Relaxed);
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                match this.put_away(&sandbox, &name) {
                    Ok(true) => this.remove(name, false),
                    // Somebody else removed it.
                    Ok(false) => {}
                    Err(error) => {
                        this.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(
                            container = %sandbox.container,
                            %error,
                            "a sandbox could not be removed; it is tried again later"
                        );
                        this.state().refused.push(sandbox);
                    }
                }
                this.removing.fetch_sub(1, Ordering::Relaxed);
                drop(turn);
                this.changed.notify_one();
            });
        }
    }

    /// They age anew, unless the disk is so full that no age is allowed.
    fn retry_refused(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        for sandbox in std::mem::take(&mut state.refused) {
            state.ended.add(now, sandbox, now.unix_ns);
        }
    }

    fn retry_stuck(self: &Arc<Self>) {
        while let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            let Some(name) = self.state().stuck.pop_first() else { return };
            self.removing.fetch_add(1, Ordering::Relaxed);
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                this.remove(name, true);
                this.removing.fetch_sub(1, Ordering::Relaxed);
                drop(turn);
                this.changed.notify_one();
            });
        }
    }

    /// Removes what was put away. Blocks for as long as it takes.
    fn remove(&self, name: String, again: bool) {
        match remove_tree(&self.removing_dir, &name, &self.stop) {
            Ok(()) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
            }
            Err(RemovalError::Stopped) => {}
            Err(error) => {
                if !again {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    let error = mezzo_telemetry::chain(&error).to_string();
                    tracing::warn!(
                        error,
                        "a sandbox could not be removed entirely; it is tried again"
                    );
                }
                self.state().stuck.insert(name);
            }
        }
    }

    /// Moves a sandbox to where it is removed, with the directories above that are empty then. Whether it was there.
    fn put_away(&self, sandbox: &SandboxOf, name: &str) -> io::Result<bool> {
        let path = sandbox_path(&self.work_dir, sandbox).map_err(io::Error::other)?;
        make_private(&self.removing_dir)?;
        let to = self.removing_dir.join(name);
        let _guard = self.layout.write().unwrap_or_else(PoisonError::into_inner);
        let moved = match fs::rename(&path, &to) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Only `chattr` can keep root from it.
                let directory = open_directory(&path)?;
                clear_protection(&directory)?;
                fs::rename(&path, &to)
            }
            moved => moved,
        };
        match moved {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        let Some(runs) = path.parent() else { return Ok(true) };
        let latest = runs.join("latest");
        if fs::read_link(&latest)
            .is_ok_and(|target| target == Path::new(sandbox.container.as_str()))
        {
            fs::remove_file(&latest)?;
        }
        // `runs`, the executor, `executors`, the framework, `frameworks`, the agent: whatever is empty.
        for directory in runs.ancestors().take_while(|path| !path.ends_with(SANDBOXES)) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A path on the disk that the sandboxes are on, or will be.
fn disk_of_sandboxes(work_dir: &Path) -> PathBuf {
    let sandboxes = work_dir.join(SANDBOXES);
    if sandboxes.is_dir() { sandboxes } else { work_dir.to_owned() }
}

fn removing_dir(work_dir: &Path) -> PathBuf {
    let disk = |path: &Path| fs::metadata(path).ok().map(|facts| facts.dev());
    let sandboxes = disk_of_sandboxes(work_dir);
    match disk(&sandboxes) == disk(work_dir) {
        true => work_dir.join(REMOVING),
        false => sandboxes.join(REMOVING_OF_OWN),
    }
}

/// Part of the disk that is in use, 0 to 1, of its blocks or of its files, whichever is fuller. What cannot be measured is no number.
fn disk_usage(path: &Path) -> f64 {
    let Ok(facts) = statvfs(path) else { return f64::NAN };
    let used = |total: u64, free: u64| {
        // Some file systems do not count files.
        if total == 0 { 0.0 } else { total.saturating_sub(free) as f64 / total as f64 }
    };
    used(facts.blocks(), facts.blocks_free()).max(used(facts.files(), facts.files_free()))
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Makes the directory's modification time the time of the run's ending.
fn note_ending(path: &Path) -> io::Result<()> {
    open_directory(path)?.set_modified(SystemTime::now())
}

/// Every run's directory, of whatever agent id, with its modification time.
fn sandboxes(work_dir: &Path) -> impl Iterator<Item = (SandboxOf, i64)> {
    below(work_dir.join(SANDBOXES)).flat_map(|(agent, path)| {
        below(path.join("frameworks")).flat_map(move |(framework, path)| {
            let agent = agent.clone();
            below(path.join("executors")).flat_map(move |(executor, path)| {
                let (agent, framework) = (agent.clone(), framework.clone());
                below(path.join("runs")).filter_map(move |(container, path)| {
                    let facts = fs::symlink_metadata(path).ok()?;
                    let modified = facts.mtime().saturating_mul(1_000_000_000);
                    let of = SandboxOf {
                        agent: agent.as_str().into(),
                        framework: framework.as_str().into(),
                        executor: executor.as_str().into(),
                        container: container.as_str().into(),
                    };
                    Some((of, modified.saturating_add(facts.mtime_nsec())))
                })
            })
        })
    })
}

/// Directories in a directory, links aside.
fn below(path: PathBuf) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sandbox::Sandbox;

    const AT_ONCE: Retention = Retention { delay: Duration::ZERO, headroom: 0.0 };
    const NEVER: Retention = Retention { delay: Duration::from_secs(1 << 32), headroom: 0.0 };

    fn of(agent: &str, executor: &str, container: &str) -> SandboxOf {
        SandboxOf {
            agent: agent.into(),
            framework: "f".into(),
            executor: executor.into(),
            container: container.into(),
        }
    }

    struct Fixture {
        work: tempfile::TempDir,
        collector: Arc<Collector>,
    }

    impl Fixture {
        fn new(retention: Retention) -> Fixture {
            let work = tempfile::tempdir().expect("tempdir");
            let collector = Collector::new(work.path(), retention, Duration::from_millis(100));
            Fixture { work, collector }
        }

        /// As a later agent begins.
        fn restart(&mut self, retention: Retention) {
            self.collector.stop();
            self.collector =
                Collector::new(self.work.path(), retention, Duration::from_millis(100));
        }

        fn create(&self, of: &SandboxOf) -> PathBuf {
            Sandbox::create(self.work.path(), of, None).expect("creates").path
        }

        async fn collect_until(&self, what: &str, done: impl Fn(&Fixture) -> bool) {
            let collecting = tokio::spawn(Arc::clone(&self.collector).collect());
            let waited = tokio::time::timeout(Duration::from_secs(30), async {
                while !done(self) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            waited.await.unwrap_or_else(|_| panic!("waited for {what}: {:?}", self.collector));
            collecting.abort();
        }
    }

    #[tokio::test]
    async fn what_cannot_be_put_away_is_tried_again_at_the_next_look_only() {
        let mut fixture = Fixture::new(AT_ONCE);
        let of = of("a", "e", "c");
        let path = fixture.create(&of);
        let removing = fixture.work.path().join(REMOVING);
        fs::remove_dir(&removing).expect("it was made at the start");
        fs::write(&removing, "in the way").expect("writes");
        fixture.restart(AT_ONCE);
        fixture.collector.begin(&of.container, Some(of.clone()));
        fixture.collector.ended(&of.container);
        let began = std::time::Instant::now();
        let failed = |fixture: &Fixture| fixture.collector.removals().failed >= 3;
        fixture.collect_until("three attempts", failed).await;
        assert!(began.elapsed() >= fixture.collector.interval * 2, "no attempt follows at once");
        assert!(path.exists() && fixture.collector.removals().pending == 1);
        fs::remove_file(&removing).expect("removes");
        fixture.collect_until("the sandbox to go", |_| !path.exists()).await;
    }

    #[tokio::test]
    async fn ended_runs_go_with_their_empty_parents_and_living_ones_stay() {
        let fixture = Fixture::new(AT_ONCE);
        let (ended, lives) = (of("a", "e1", "c1"), of("a", "e2", "c2"));
        for of in [&ended, &lives] {
            fixture.collector.begin(&of.container, Some(of.clone()));
            fixture.create(of);
        }
        // A scan that comes late finds both, and takes neither for an ended one.
        fixture.collector.scan(&BTreeSet::new());
        assert_eq!(fixture.collector.removals().pending, 0);
        fixture.collector.ended(&ended.container);
        fixture.collect_until("one removal", |f| f.collector.removals().succeeded == 1).await;
        let executors = fixture.work.path().join("slaves/a/frameworks/f/executors");
        assert!(!executors.join("e1").exists() && executors.join("e2/runs/c2/stdout").exists());
        fixture.collector.ended(&lives.container);
        fixture.collect_until("the other", |f| f.collector.removals().succeeded == 2).await;
        assert!(!fixture.work.path().join("slaves/a").exists(), "all parents were empty");
        assert_eq!(fixture.collector.removals().failed, 0);
    }

    #[tokio::test]
    async fn a_later_agent_finds_runs_of_all_ids_with_their_times() {
        let mut fixture = Fixture::new(NEVER);
        let (old, new, crashed) = (of("a", "e", "c1"), of("b", "e", "c2"), of("b", "e", "c3"));
        for of in [&old, &new, &crashed] {
            let path = fixture.create(of);
            let hour_ago = SystemTime::now() - Duration::from_secs(3600);
            let directory = open_directory(&path).expect("opens");
            directory.set_modified(hour_ago).expect("sets");
        }
        // It ends under the first agent, which notes it.
        fixture.collector.begin(&new.container, Some(new.clone()));
        fixture.collector.ended(&new.container);
        // However full the disk of the test is, an hour is too old for it and a minute is not.
        let fixed = fixture.collector.allowed_age().as_secs_f64() / NEVER.delay.as_secs_f64();
        let half_an_hour = Duration::from_secs_f64(1800.0 / fixed);
        fixture.restart(Retention { delay: half_an_hour, headroom: 0.0 });
        // The third was recorded as running when the machine went down: its time begins now.
        fixture.collector.scan(&BTreeSet::from([crashed.container.clone()]));
        assert_eq!(fixture.collector.removals().pending, 3);
        fixture.collect_until("the old one", |f| f.collector.removals().succeeded == 1).await;
        let runs = |agent: &str| {
            let path = format!("slaves/{agent}/frameworks/f/executors/e/runs");
            below(fixture.work.path().join(path)).map(|(name, _)| name).collect::<BTreeSet<_>>()
        };
        assert!(runs("a").is_empty());
        assert_eq!(runs("b"), BTreeSet::from(["c2".to_owned(), "c3".to_owned()]));
    }

    #[tokio::test]
    async fn what_a_crash_left_half_removed_goes_and_links_are_not_followed() {
        let mut fixture = Fixture::new(NEVER);
        let outside = tempfile::tempdir().expect("tempdir");
        fs::write(outside.path().join("data"), "precious").expect("writes");
        let gone = of("a", "e", "c");
        let path = fixture.create(&gone);
        symlink(outside.path(), path.join("link")).expect("links");
        assert!(fixture.collector.put_away(&gone, "1.0").expect("moves"));
        assert!(!path.exists() && fixture.work.path().join("removing/1.0/stdout").exists());
        fixture.restart(NEVER);
        fixture.collector.scan(&BTreeSet::new());
        fixture.collect_until("the rest", |f| f.collector.removals().succeeded == 1).await;
        assert!(!fixture.work.path().join("removing/1.0").exists());
        assert!(outside.path().join("data").exists());
    }

    #[tokio::test]
    async fn directories_are_made_while_empty_ones_are_removed() {
        let work = tempfile::tempdir().expect("tempdir");
        let options = super::super::SandboxOptions { retention: AT_ONCE, ..Default::default() };
        let sandboxes = super::super::Sandboxes::start(work.path(), options).expect("starts");
        let makers = (0..4).map(|maker| {
            let sandboxes = sandboxes.clone();
            tokio::task::spawn_blocking(move || {
                for run in 0..200 {
                    let of = of("a", "e", &format!("c{maker}-{run}"));
                    sandboxes.create(&of, None).expect("creates, whatever is removed meanwhile");
                    sandboxes.ended(&of.container);
                }
            })
        });
        for maker in makers.collect::<Vec<_>>() {
            maker.await.expect("makes");
        }
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while sandboxes.removals().succeeded < 800 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{:?}", sandboxes.removals()));
        assert!(!work.path().join("slaves/a").exists());
    }
}
