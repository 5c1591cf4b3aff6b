//! On the real kernel, with the real launcher. They need root and fail without it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mezzo_agent_core::{CheckKind, CheckOutcome, Probe, Workload};
use mezzo_proto::storage::v1::ContainerRecord;
use mezzo_proto::v1;
use mezzo_types::{ContainerId, Resources};
use tokio::sync::mpsc;

use super::*;
use crate::gpus::{GpuOptions, Gpus, discover};

/// A test that waits longer for one event has found a bug; machines of CI are slow and shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// The launcher beside the tests' own directory, built if need be.
fn launcher() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            // Cargo tells its tests where it is; it does not build other packages' programs for them. With the
            // whole workspace's features, as those who test the launcher itself have it.
            if let Some(cargo) = std::env::var_os("CARGO") {
                let built = Command::new(cargo)
                    .args(["build", "--quiet", "--workspace", "--bin", "mezzo-launcher"])
                    .status()
                    .expect("cargo runs");
                assert!(built.success(), "mezzo-launcher could not be built");
            }
            let tests = std::env::current_exe().expect("own path");
            let found = std::env::var_os("MEZZO_LAUNCHER").map(PathBuf::from).or_else(|| {
                tests
                    .ancestors()
                    .skip(1)
                    .map(|dir| dir.join("mezzo-launcher"))
                    .find(|p| p.is_file())
            });
            found.expect("mezzo-launcher is built beside the tests")
        })
        .clone()
}

/// An agent's containers in directories and a cgroup root of this test's own.
struct Fixture {
    root: Root,
    home: tempfile::TempDir,
    containers: Containerizer,
    events: mpsc::Receiver<ContainerEvent>,
}

/// Name of a cgroup root; a failing test leaves nothing in it.
struct Root(String);

impl std::ops::Deref for Root {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let mut dirs: Vec<PathBuf> = hierarchies().map(|dir| dir.join(&self.0)).collect();
        for name in groups(&self.0).iter().map(String::as_str).chain(["launcher"]) {
            dirs.splice(0..0, hierarchies().map(|dir| dir.join(&self.0).join(name)));
        }
        for pid in dirs.iter().flat_map(|dir| pids_in(dir)) {
            if let Ok(process) = mezzo_agent_sys::PidFd::open(pid) {
                let _ = process.signal(nix::libc::SIGKILL);
                let _ = process.wait(Some(PATIENCE));
            }
        }
        for dir in &dirs {
            let _ = fs::remove_dir(dir);
            // Goes with the last test.
            let _ = dir.parent().map(fs::remove_dir);
        }
    }
}

fn pids_in(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

impl Fixture {
    async fn new() -> Self {
        Self::with_gpus(Gpus::default()).await
    }

    async fn with_gpus(gpus: Gpus) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = format!("mezzo-test-{}/containers-{number}", std::process::id());
        let home = tempfile::tempdir().expect("tempdir");
        let (containers, events) = Self::start_with(home.path(), &root, launcher(), gpus).await;
        let observed = containers.recover(Vec::new()).await.expect("recover");
        assert_eq!(observed, BTreeMap::new());
        Fixture { home, root: Root(root), containers, events }
    }

    async fn start_with(
        home: &Path,
        root: &str,
        launcher: PathBuf,
        gpus: Gpus,
    ) -> (Containerizer, mpsc::Receiver<ContainerEvent>) {
        let mut config = ContainerizerConfig::new(home.join("work"), home.join("run"), launcher);
        config.cgroups_root = root.to_owned();
        config.isolation.push_str(",gpus");
        config.isolation_options.gpus = gpus;
        // Its own tests are with the whole agent.
        config.accounts.enabled = false;
        config.agent_endpoint = "127.0.0.1:5051".to_owned();
        let (sender, events) = mpsc::channel(16);
        let containers = Containerizer::start(config, sender).await.expect("root and cgroups");
        (containers, events)
    }

    /// The agent dies (as far as containers can tell) and starts again with these records.
    async fn restart(
        self,
        records: Vec<ContainerRecord>,
    ) -> (Self, BTreeMap<ContainerId, Observed>) {
        self.restart_with(records, launcher()).await
    }

    async fn restart_with(
        mut self,
        records: Vec<ContainerRecord>,
        launcher: PathBuf,
    ) -> (Self, BTreeMap<ContainerId, Observed>) {
        self.containers.stop().await;
        drop(self.containers);
        let (containers, events) =
            Self::start_with(self.home.path(), &self.root, launcher, Gpus::default()).await;
        let observed = containers.recover(records).await.expect("recover");
        self = Fixture { containers, events, home: self.home, root: self.root };
        (self, observed)
    }

    async fn event(&mut self) -> ContainerEvent {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("the containerizer lives")
    }

    /// Skips `Prepared`.
    async fn next(&mut self) -> ContainerEvent {
        loop {
            match self.event().await {
                ContainerEvent::Prepared { .. } => {}
                event => return event,
            }
        }
    }

    async fn started(&mut self) -> (i32, u64) {
        match self.next().await {
            ContainerEvent::Started { pid, start_time_ticks, .. } => (pid, start_time_ticks),
            other => panic!("expected a start: {other:?}"),
        }
    }

    async fn exited(&mut self) -> Ending {
        match self.next().await {
            ContainerEvent::Exited { ending, .. } => ending,
            other => panic!("expected an exit: {other:?}"),
        }
    }

    async fn destroyed(&mut self, id: &str) {
        assert_eq!(self.next().await, ContainerEvent::Destroyed { container: id.into() });
        self.containers.forget(&id.into());
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect(what);
    }

    fn output(&self, id: &str, name: &str) -> String {
        fs::read_to_string(self.sandbox(id).join(name)).expect("output")
    }

    fn sandbox(&self, id: &str) -> PathBuf {
        let places = self.containers.places(&"a".into(), &"f".into(), &id.into(), &id.into());
        places.expect("places").sandbox
    }

    fn record(&self, id: &str, pid: i32, start_time_ticks: u64) -> ContainerRecord {
        ContainerRecord {
            container_id: id.to_owned(),
            boot_id: self.containers.boot_id().to_owned(),
            pid,
            start_time_ticks,
            sandbox: self.sandbox(id).display().to_string(),
            ..Default::default()
        }
    }

    /// Nothing may be left: no group, no launcher.
    async fn finish(self) {
        assert_eq!(groups(&self.root), [""; 0], "no container is left");
        self.containers.stop_for_good().await;
        let left: Vec<PathBuf> = hierarchies().map(|dir| dir.join(&*self.root)).collect();
        let left: Vec<&PathBuf> = left.iter().filter(|dir| dir.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn hierarchies() -> impl Iterator<Item = PathBuf> {
    crate::cgroups::Facts::probe().expect("facts").hierarchies.into_iter().map(|h| h.mount_point)
}

/// Container groups below a root, in all hierarchies.
fn groups(root: &str) -> Vec<String> {
    let mut names: Vec<String> = hierarchies()
        .filter_map(|dir| fs::read_dir(dir.join(root)).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir() && entry.file_name() != "launcher")
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

fn spec(id: &str, line: &str) -> LaunchSpec {
    LaunchSpec {
        container_id: id.into(),
        agent_id: "a".into(),
        framework_id: "f".into(),
        executor_id: id.into(),
        framework: Arc::default(),
        workload: Workload::Task(Arc::new(v1::TaskInfo {
            name: id.to_owned(),
            task_id: v1::TaskId { value: id.to_owned() },
            command: Some(v1::CommandInfo { value: Some(line.to_owned()), ..Default::default() }),
            ..Default::default()
        })),
        user: "root".to_owned(),
        resources: Resources::from_proto(&[scalar("cpus", 1.0), scalar("mem", 32.0)])
            .expect("resources"),
    }
}

fn with_task(mut spec: LaunchSpec, change: impl FnOnce(&mut v1::TaskInfo)) -> LaunchSpec {
    if let Workload::Task(task) = &mut spec.workload {
        change(Arc::make_mut(task));
    }
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_in_its_own_world_and_its_status_is_told() {
    let mut f = Fixture::new().await;
    let line = "echo $$ $MESOS_TASK_ID $(pwd); hostname inside 2>/dev/null; whoami >&2; exit 7";
    let mut task = spec("c1", line);
    task.user = "nobody".to_owned();
    f.containers.launch(task);
    let ContainerEvent::Prepared { places, .. } = f.event().await else { panic!("prepared first") };
    assert_eq!(places.sandbox, f.sandbox("c1"));
    let (pid, ticks) = f.started().await;
    assert!(pid > 1 && ticks > 0);
    assert_eq!(f.exited().await, Ending::Status(7 << 8));
    let expected = format!("c1 {}\n", f.sandbox("c1").display());
    let stdout = f.output("c1", "stdout");
    let (own_pid, rest) = stdout.split_once(' ').expect("pid and rest");
    assert_eq!(rest, expected);
    assert!(own_pid.parse::<i32>().expect("a pid") < 10, "numbers of its own: {stdout}");
    assert_eq!(f.output("c1", "stderr"), "nobody\n");
    assert_eq!(groups(&f.root), ["c1"], "it is destroyed on order only");
    f.containers.destroy(&"c1".into());
    f.destroyed("c1").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_command_and_destruction_ends_all_of_it() {
    let mut f = Fixture::new().await;
    f.containers.launch(spec("plain", "sleep 1000"));
    // Before it has started: kept until it has.
    f.containers.signal(&"plain".into(), nix::libc::SIGTERM);
    f.started().await;
    assert_eq!(f.exited().await, Ending::Status(nix::libc::SIGTERM));
    f.containers.destroy(&"plain".into());
    f.destroyed("plain").await;

    f.containers.launch(spec(
        "deaf",
        "trap '' TERM; (setsid sleep 1000 &); echo up; while :; do sleep 1000; done",
    ));
    f.started().await;
    f.until("the trap is set", |f| f.output("deaf", "stdout") == "up\n").await;
    f.containers.signal(&"deaf".into(), nix::libc::SIGTERM);
    f.containers.destroy(&"deaf".into());
    assert_eq!(f.exited().await, Ending::Status(nix::libc::SIGKILL));
    f.destroyed("deaf").await;
    f.containers.destroy(&"never-was".into());
    f.destroyed("never-was").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_launched_says_why() {
    let mut f = Fixture::new().await;
    let mut cases = Vec::new();
    let mut unknown = spec("user", "true");
    unknown.user = "no-such-user-here".to_owned();
    cases.push((unknown, LaunchStage::Task, "user 'no-such-user-here' does not exist"));
    let argv = with_task(spec("program", ""), |task| {
        task.command = Some(v1::CommandInfo {
            shell: Some(false),
            value: Some("/no/such/program".to_owned()),
            ..Default::default()
        });
    });
    cases.push((argv, LaunchStage::Launch, "No such file or directory"));
    let fetch = with_task(spec("fetch", "true"), |task| {
        let uri = v1::command_info::Uri { value: "/no/such/file".to_owned(), ..Default::default() };
        task.command.as_mut().expect("command").uris.push(uri);
    });
    cases.push((fetch, LaunchStage::Fetch, "/no/such/file"));
    let docker = with_task(spec("docker", "true"), |task| {
        task.container = Some(v1::ContainerInfo {
            r#type: v1::container_info::Type::Docker as i32,
            ..Default::default()
        });
    });
    cases.push((docker, LaunchStage::Task, "container.type is not supported"));
    let limit = with_task(spec("limit", "true"), |task| {
        task.limits.insert("mem".to_owned(), v1::value::Scalar { value: 16.0 });
    });
    cases.push((limit, LaunchStage::Task, "limit 'mem' is 16, less than the 32"));
    cases.push((spec("../up", "true"), LaunchStage::Sandbox, "cannot name a directory"));
    for (spec, expected, part) in cases {
        let id = spec.container_id.clone();
        f.containers.launch(spec);
        match f.next().await {
            ContainerEvent::LaunchFailed { container, stage, message } => {
                assert_eq!((&container, stage), (&id, expected), "{message}");
                assert!(message.contains(part), "{message}");
            }
            other => panic!("{id}: {other:?}"),
        }
        f.containers.destroy(&id);
        f.destroyed(id.as_str()).await;
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_is_limited_before_it_exits() {
    let mut f = Fixture::new().await;
    f.containers.launch(spec("hog", "exec tail /dev/zero"));
    f.started().await;
    let limitation = match f.next().await {
        ContainerEvent::Limited { limitation, .. } => limitation,
        other => panic!("expected a limitation: {other:?}"),
    };
    assert_eq!(limitation.reason, v1::task_status::Reason::ContainerLimitationMemory);
    assert!(
        limitation.message.starts_with("Memory limit exceeded: Requested: 32MB"),
        "{limitation:?}"
    );
    assert_eq!(limitation.resources[0].name, "mem");
    f.containers.destroy(&"hog".into());
    assert_eq!(f.exited().await, Ending::Status(nix::libc::SIGKILL));
    f.destroyed("hog").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_is_waited_for_until_its_last_container_is_gone() {
    let options = GpuOptions { devices: vec!["/dev/full".into()], ..GpuOptions::default() };
    let gpus = Gpus::new(discover(&options).expect("a device"), 1);
    let mut f = Fixture::with_gpus(gpus).await;
    let with_gpu = |id: &str, line: &str| {
        let resources = [scalar("cpus", 1.0), scalar("mem", 32.0), scalar("gpus", 1.0)];
        let resources = Resources::from_proto(&resources).expect("resources");
        LaunchSpec { resources, ..spec(id, line) }
    };
    let assign = |f: &Fixture, spec: &LaunchSpec| {
        f.containers.assign_gpus(&spec.container_id, &spec.resources).ok()
    };
    let it = Some(vec!["/dev/full".to_owned()]);
    let first = with_gpu("first", "sleep 1000");
    assert_eq!(assign(&f, &first), it);
    f.containers.launch(first);
    f.started().await;
    // As long as nobody ends it there is none for others.
    let early = with_gpu("early", "true");
    assert_eq!(assign(&f, &early), None);
    f.containers.launch(early);
    let ContainerEvent::LaunchFailed { message, .. } = f.next().await else { panic!("fails") };
    assert!(message.starts_with("it asks for 1 GPUs but has 0"), "{message}");
    f.containers.destroy(&"early".into());
    f.destroyed("early").await;

    f.containers.destroy(&"first".into());
    let next = with_gpu("next", "echo $MEZZO_GPUS");
    assert_eq!(assign(&f, &next), it);
    f.containers.launch(next);
    assert_eq!(f.exited().await, Ending::Status(nix::libc::SIGKILL));
    // Nothing of the next one is prepared before.
    assert_eq!(f.event().await, ContainerEvent::Destroyed { container: "first".into() });
    assert!(f.events.try_recv().is_err());
    f.containers.forget(&"first".into());
    f.started().await;
    assert_eq!(f.exited().await, Ending::Status(0));
    assert_eq!(f.output("next", "stdout"), "/dev/full\n");

    // Whoever is ended while it waits ends at once.
    f.containers.destroy(&"next".into());
    let last = with_gpu("last", "true");
    assert_eq!(assign(&f, &last), it);
    f.containers.launch(last);
    assert_eq!(f.event().await, ContainerEvent::Destroyed { container: "next".into() });
    f.containers.destroy(&"last".into());
    f.destroyed("last").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_end_exactly_once_each() {
    const COUNT: usize = 50;
    let mut f = Fixture::new().await;
    for number in 0..COUNT {
        f.containers.launch(spec(&format!("c{number}"), &format!("exit {}", number % 5)));
    }
    let mut seen: BTreeMap<ContainerId, Vec<&'static str>> = BTreeMap::new();
    let mut destroyed = 0;
    while destroyed < COUNT {
        let event = f.next().await;
        let (container, what) = match event {
            ContainerEvent::Started { container, .. } => (container, "started"),
            ContainerEvent::Exited { container, ending } => {
                let number: i32 = container.as_str()[1..].parse().expect("number");
                assert_eq!(ending, Ending::Status((number % 5) << 8), "{container}");
                f.containers.destroy(&container);
                (container, "exited")
            }
            ContainerEvent::Destroyed { container } => {
                destroyed += 1;
                f.containers.forget(&container);
                (container, "destroyed")
            }
            other => panic!("{other:?}"),
        };
        seen.entry(container).or_default().push(what);
    }
    assert_eq!(seen.len(), COUNT);
    assert!(seen.values().all(|seen| *seen == ["started", "exited", "destroyed"]), "{seen:?}");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_agent() {
    let mut f = Fixture::new().await;
    let mut processes = BTreeMap::new();
    for id in ["stays", "ends", "orphan"] {
        f.containers.launch(spec(id, "while ! [ -e go ]; do sleep 0.05; done; exit 3"));
        processes.insert(id, f.started().await);
    }
    let record = |f: &Fixture, id: &str| f.record(id, processes[id].0, processes[id].1);
    let mut records = vec![record(&f, "stays"), record(&f, "ends"), f.record("prepared", 0, 0)];
    records.push(ContainerRecord { boot_id: "another".to_owned(), ..f.record("older", 1, 1) });
    // "ends" ends while no agent is there; its cgroup tells when.
    f.containers.stop().await;
    fs::write(f.sandbox("ends").join("go"), "").expect("go");
    let (pid, ticks) = processes["ends"];
    let gone = mezzo_agent_sys::PidFd::open_started(pid, ticks).expect("open");
    if let Some(process) = gone {
        assert!(process.wait(Some(PATIENCE)).expect("wait"));
    }
    let (mut f, observed) = f.restart(records).await;
    let (pid, start_time_ticks) = processes["stays"];
    let running =
        |(pid, start_time_ticks)| Observed::Running { pid, start_time_ticks, limitation: None };
    assert_eq!(observed[&ContainerId::from("stays")], running((pid, start_time_ticks)));
    assert_eq!(observed[&ContainerId::from("orphan")], running(processes["orphan"]));
    assert_eq!(
        observed[&ContainerId::from("ends")],
        Observed::Ended { ending: Ending::Status(3 << 8), limitation: None }
    );
    assert_eq!(observed[&ContainerId::from("prepared")], Observed::NotStarted);
    assert_eq!(observed.len(), 4);
    for id in ["ends", "prepared"] {
        f.containers.destroy(&id.into());
        f.destroyed(id).await;
    }
    f.containers.destroy(&"orphan".into());
    assert_eq!(f.exited().await, Ending::Status(nix::libc::SIGKILL));
    f.destroyed("orphan").await;
    fs::write(f.sandbox("stays").join("go"), "").expect("go");
    assert_eq!(f.exited().await, Ending::Status(3 << 8));
    f.containers.destroy(&"stays".into());
    f.destroyed("stays").await;
    f.finish().await;
}

/// The launcher's process, by its own group.
fn launcher_pids(root: &str) -> Vec<i32> {
    let mut pids: Vec<i32> =
        hierarchies().flat_map(|dir| pids_in(&dir.join(root).join("launcher"))).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_launcher() {
    let mut f = Fixture::new().await;
    f.containers.launch(spec("old", "while ! [ -e go ]; do sleep 0.05; done; exit 4"));
    f.started().await;
    let pids = launcher_pids(&f.root);
    let [first] = pids.as_slice() else { panic!("one launcher: {pids:?}") };
    let process = mezzo_agent_sys::PidFd::open(*first).expect("the launcher");
    process.signal(nix::libc::SIGKILL).expect("kill");
    assert!(process.wait(Some(PATIENCE)).expect("wait"));
    // What is asked before the end of the connection is read fails, as nobody can tell what became of it.
    let deadline = Instant::now() + PATIENCE;
    while f.containers.has_launcher() {
        assert!(Instant::now() < deadline, "the launcher's end is never noticed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // A new launcher serves new containers; the old one's end is told by the kernel and its exit file.
    f.containers.launch(spec("new", "exit 5"));
    let mut endings = BTreeMap::new();
    f.started().await;
    endings.insert("new", f.exited().await);
    assert_ne!(launcher_pids(&f.root), [*first]);
    fs::write(f.sandbox("old").join("go"), "").expect("go");
    endings.insert("old", f.exited().await);
    assert_eq!(endings["new"], Ending::Status(5 << 8));
    assert_eq!(endings["old"], Ending::Status(4 << 8));
    for id in ["old", "new"] {
        f.containers.destroy(&id.into());
        f.destroyed(id).await;
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_brings_its_build_of_the_launcher() {
    let mut f = Fixture::new().await;
    let mut records = Vec::new();
    for id in ["stays", "ends"] {
        f.containers.launch(spec(id, "while ! [ -e go ]; do sleep 0.05; done; exit 8"));
        let (pid, ticks) = f.started().await;
        records.push(f.record(id, pid, ticks));
    }
    let pids = launcher_pids(&f.root);
    let [pid] = pids.as_slice() else { panic!("one launcher: {pids:?}") };
    // Made by another process: what this one has open for writing cannot be executed.
    let next = f.home.path().join("mezzo-launcher");
    let mut shell = Command::new("sh");
    shell.args(["-c", "cp \"$1\" \"$2\" && printf later >>\"$2\"", "sh"]);
    assert!(shell.arg(launcher()).arg(&next).status().expect("sh").success());

    f.containers.stop().await;
    fs::write(f.sandbox("ends").join("go"), "").expect("go");
    let (mut f, observed) = f.restart_with(records, next.clone()).await;
    assert_eq!(launcher_pids(&f.root), [*pid], "the same process");
    let image = fs::read(format!("/proc/{pid}/exe")).expect("image");
    assert!(image == fs::read(&next).expect("program"), "another program");
    assert!(matches!(observed[&ContainerId::from("stays")], Observed::Running { .. }));
    match observed[&ContainerId::from("ends")] {
        Observed::Running { .. } => assert_eq!(f.exited().await, Ending::Status(8 << 8)),
        Observed::Ended { ending, .. } => assert_eq!(ending, Ending::Status(8 << 8)),
        Observed::NotStarted | Observed::Launching | Observed::Failed { .. } => panic!("it ran"),
    }
    f.containers.launch(spec("new", "exit 5"));
    f.started().await;
    assert_eq!(f.exited().await, Ending::Status(5 << 8));
    fs::write(f.sandbox("stays").join("go"), "").expect("go");
    assert_eq!(f.exited().await, Ending::Status(8 << 8));
    for id in ["stays", "ends", "new"] {
        f.containers.destroy(&id.into());
        f.destroyed(id).await;
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_launcher_may_both_die() {
    let mut f = Fixture::new().await;
    let mut records = Vec::new();
    for id in ["runs", "ended"] {
        f.containers.launch(spec(id, "while ! [ -e go ]; do sleep 0.05; done; exit 6"));
        let (pid, ticks) = f.started().await;
        records.push(f.record(id, pid, ticks));
    }
    for pid in launcher_pids(&f.root) {
        let process = mezzo_agent_sys::PidFd::open(pid).expect("the launcher");
        process.signal(nix::libc::SIGKILL).expect("kill");
        assert!(process.wait(Some(PATIENCE)).expect("wait"));
    }
    f.containers.stop().await;
    fs::write(f.sandbox("ended").join("go"), "").expect("go");
    let ended = &records[1];
    let process = mezzo_agent_sys::PidFd::open_started(ended.pid, ended.start_time_ticks);
    if let Some(process) = process.expect("open") {
        assert!(process.wait(Some(PATIENCE)).expect("wait"));
    }
    let (mut f, observed) = f.restart(records).await;
    assert_eq!(
        observed[&ContainerId::from("ended")],
        Observed::Ended { ending: Ending::Status(6 << 8), limitation: None }
    );
    assert!(matches!(observed[&ContainerId::from("runs")], Observed::Running { .. }));
    fs::write(f.sandbox("runs").join("go"), "").expect("go");
    assert_eq!(f.exited().await, Ending::Status(6 << 8));
    for id in ["ended", "runs"] {
        f.containers.destroy(&id.into());
        f.destroyed(id).await;
    }
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_is_cancelled_while_it_fetches() {
    let mut f = Fixture::new().await;
    // A server that accepts and never answers.
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let uri = format!("http://{}/file", server.local_addr().expect("address"));
    f.containers.launch(with_task(spec("slow", "true"), |task| {
        let uri = v1::command_info::Uri { value: uri, ..Default::default() };
        task.command.as_mut().expect("command").uris.push(uri);
    }));
    let accepted = tokio::task::spawn_blocking(move || server.accept().expect("a connection"));
    let _connection =
        tokio::time::timeout(PATIENCE, accepted).await.expect("in time").expect("accepted");
    f.containers.destroy(&"slow".into());
    f.destroyed("slow").await;
    f.finish().await;
}

#[tokio::test]
async fn a_bad_configuration_is_named() {
    let start = async |change: fn(&mut ContainerizerConfig)| {
        let mut config = ContainerizerConfig::new("/tmp/w", "/tmp/r", "/no/launcher");
        change(&mut config);
        let (sender, _events) = mpsc::channel(1);
        let refused = Containerizer::start(config, sender).await.expect_err("must be refused");
        chain(&refused)
    };
    let relative = start(|config| config.work_dir = "here".into()).await;
    assert_eq!(relative, "work directory 'here' must be an absolute path");
    let unknown = start(|config| config.isolation = "cpu,magic".to_owned()).await;
    assert!(unknown.contains("--isolation names 'magic', which is unknown"), "{unknown}");
    let root = start(|config| config.cgroups_root = "../x".to_owned()).await;
    assert!(root.contains("cgroup root '../x' is not usable"), "{root}");
}

/// Never left behind by a failing test.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pid_of_another_process_is_not_mistaken() {
    let child = Reaped(Command::new("sleep").arg("1000").spawn().expect("sleep"));
    let pid = i32::try_from(child.0.id()).expect("pid");
    let other = super::process::Process { pid, start_time_ticks: 1 };
    assert!(other.open().expect("open").is_none());
    other.signal(nix::libc::SIGKILL).expect("nothing to signal");
    let ticks = mezzo_agent_sys::start_time(pid).expect("start time");
    assert!(
        super::process::Process { pid, start_time_ticks: ticks }.open().expect("open").is_some()
    );
}

fn executor(id: &str, line: &str) -> LaunchSpec {
    let mut of = v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: id.to_owned() },
        command: Some(v1::CommandInfo { value: Some(line.to_owned()), ..Default::default() }),
        ..Default::default()
    };
    of.resources = vec![scalar("cpus", 0.5), scalar("mem", 32.0)];
    let resources = Resources::from_proto(&of.resources).expect("resources");
    LaunchSpec { workload: Workload::Executor(Arc::new(of)), resources, ..spec(id, "") }
}

fn resources(cpus: f64, mem: f64) -> Resources {
    Resources::from_proto(&[scalar("cpus", cpus), scalar("mem", mem)]).expect("resources")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executors_container_grows_and_shrinks_while_it_runs() {
    let mut f = Fixture::new().await;
    let line = "env; trap 'exit 3' TERM; while :; do sleep 0.05; done";
    f.containers.launch(executor("e1", line));
    // While it is being made: it is answered after the start was asked for.
    f.containers.update(&"e1".into(), &"f".into(), &"e1".into(), resources(1.0, 64.0), 1);
    let (mut started, mut updated) = (false, false);
    while !(started && updated) {
        match f.next().await {
            ContainerEvent::Started { .. } => started = true,
            ContainerEvent::Updated { grant: 1, result: Ok(()), .. } => updated = true,
            other => panic!("expected a start and a change: {other:?}"),
        }
    }
    let limits = |f: &Fixture| {
        let usage = f.containers.usage(&"e1".into()).and_then(|usage| usage.memory);
        let memory = usage.expect("memory is counted");
        (memory.soft_limit_bytes >> 20, memory.limit_bytes >> 20)
    };
    assert_eq!(limits(&f), (64, 64));
    f.containers.update(&"e1".into(), &"f".into(), &"e1".into(), resources(2.0, 128.0), 2);
    assert!(matches!(f.next().await, ContainerEvent::Updated { grant: 2, result: Ok(()), .. }));
    assert_eq!(limits(&f), (128, 128));
    f.containers.update(&"e1".into(), &"f".into(), &"e1".into(), resources(0.5, 32.0), 3);
    assert!(matches!(f.next().await, ContainerEvent::Updated { grant: 3, result: Ok(()), .. }));
    // What is in use cannot be taken back; what is not used is not given to others by a limit.
    assert_eq!(limits(&f), (32, 128));
    f.until("the environment", |f| f.output("e1", "stdout").contains("LIBPROCESS_PORT")).await;
    let environment = f.output("e1", "stdout");
    for line in [
        "MESOS_FRAMEWORK_ID=f",
        "MESOS_EXECUTOR_ID=e1",
        "MESOS_SLAVE_ID=a",
        "MESOS_SLAVE_PID=slave(1)@127.0.0.1:5051",
        "MESOS_AGENT_ENDPOINT=127.0.0.1:5051",
        "MESOS_CHECKPOINT=1",
        "MESOS_HTTP_COMMAND_EXECUTOR=0",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs",
        "MESOS_RECOVERY_TIMEOUT=15mins",
        "MESOS_SUBSCRIPTION_BACKOFF_MAX=2secs",
        &format!("MESOS_DIRECTORY={}", f.sandbox("e1").display()),
        &format!("MESOS_SANDBOX={}", f.sandbox("e1").display()),
    ] {
        assert!(environment.lines().any(|has| has == line), "{line} in {environment}");
    }
    assert!(!environment.contains("MESOS_TASK_ID"), "it is no task");
    f.containers.signal(&"e1".into(), nix::libc::SIGTERM);
    assert_eq!(f.exited().await, Ending::Status(3 << 8));
    f.containers.destroy(&"e1".into());
    f.destroyed("e1").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_made_is_told() {
    let mut f = Fixture::new().await;
    f.containers.launch(executor("e1", "sleep 1000"));
    f.started().await;
    let gpus =
        Resources::from_proto(&[scalar("cpus", 1.0), scalar("mem", 32.0), scalar("gpus", 1.0)]);
    let gpus = gpus.expect("resources");
    f.containers.update(&"e1".into(), &"f".into(), &"e1".into(), gpus, 7);
    let ContainerEvent::Updated { grant: 7, result: Err(message), .. } = f.next().await else {
        panic!("there is no GPU")
    };
    assert!(message.contains("asks for 1 GPUs but has 0"), "{message}");
    f.containers.destroy(&"e1".into());
    assert_eq!(f.exited().await, Ending::Status(9));
    f.destroyed("e1").await;
    f.finish().await;
}

fn check(line: &str, timeout: Option<Duration>) -> Check {
    let command = v1::CommandInfo {
        value: Some(line.to_owned()),
        environment: Some(v1::Environment {
            variables: vec![v1::environment::Variable {
                name: "B".to_owned(),
                value: Some("of the check".to_owned()),
                ..Default::default()
            }],
        }),
        ..Default::default()
    };
    Check { kind: CheckKind::Health, probe: Probe::Command(command), timeout }
}

impl Fixture {
    async fn checked(&mut self, id: &str) -> CheckOutcome {
        match self.next().await {
            ContainerEvent::Checked { container, kind: CheckKind::Health, outcome } => {
                assert_eq!(container.as_str(), id);
                outcome
            }
            other => panic!("expected a result: {other:?}"),
        }
    }

    async fn check(&mut self, id: &str, line: &str) -> CheckOutcome {
        assert!(self.containers.check(&id.into(), check(line, Some(PATIENCE))));
        self.checked(id).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_runs_in_the_world_of_the_command() {
    let mut f = Fixture::new().await;
    let line = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    let mut task = with_task(spec("c1", line), |task| {
        let variable = |name: &str, value: &str| v1::environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        };
        let command = task.command.as_mut().expect("a command");
        let variables = vec![variable("A", "of the task"), variable("B", "of the task")];
        command.environment = Some(v1::Environment { variables });
    });
    task.user = "nobody".to_owned();
    f.containers.launch(task);
    let (pid, ticks) = f.started().await;
    let world = "whoami; pwd; echo $A; echo $B; cat /proc/1/comm; pgrep -c sleep; \
                 cat /proc/self/cgroup > mine; cat /proc/2/cgroup > its; cmp mine its; exit 3";
    assert_eq!(f.check("c1", world).await, CheckOutcome::Exited(3));
    let sandbox = f.sandbox("c1").display().to_string();
    let expected = ["nobody", &sandbox, "of the task", "of the check", "mezzo-init", "1", ""];
    assert_eq!(f.output("c1", "stderr"), expected.join("\n"));
    assert_eq!(f.check("c1", "exit 0").await, CheckOutcome::Exited(0));
    let killed = f.check("c1", "kill -KILL $$").await;
    assert_eq!(
        killed,
        CheckOutcome::Failed("the command was terminated by signal Killed".to_owned())
    );

    // An agent that starts again knows no more than the kernel does.
    let record = f.record("c1", pid, ticks);
    let (mut f, observed) = f.restart(vec![record]).await;
    assert!(matches!(observed["c1"], Observed::Running { .. }));
    assert_eq!(
        f.check("c1", "test \"$A $B\" = 'of the task of the check'").await,
        CheckOutcome::Exited(0)
    );

    f.containers.destroy(&"c1".into());
    f.exited().await;
    f.destroyed("c1").await;
    assert!(!f.containers.check(&"c1".into(), check("true", None)), "it is gone");
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_takes_too_long_ends_with_all_that_descends_from_it() {
    let mut f = Fixture::new().await;
    f.containers.launch(spec("c1", "exec sleep 1000"));
    f.started().await;
    let processes = |f: &Fixture| {
        let dirs = hierarchies().map(|dir| dir.join(&*f.root).join("c1"));
        dirs.map(|dir| pids_in(&dir).len()).max().unwrap_or(0)
    };
    let before = processes(&f);
    let line = "setsid sh -c 'sleep 1000 & exec sleep 1000' & sleep 1000 & wait";
    assert!(f.containers.check(&"c1".into(), check(line, Some(Duration::from_millis(500)))));
    let outcome = f.checked("c1").await;
    let why = "it took longer than timeout_seconds, 0.5 s";
    assert_eq!(outcome, CheckOutcome::Failed(why.to_owned()));
    f.until("all of it ends", |f| processes(f) == before).await;

    // The end of the container is the end of its checks, without a result.
    assert!(f.containers.check(&"c1".into(), check("touch here; exec sleep 1000", None)));
    f.until("it runs", |f| f.sandbox("c1").join("here").exists()).await;
    f.containers.destroy(&"c1".into());
    assert_eq!(f.exited().await, Ending::Status(nix::libc::SIGKILL));
    f.destroyed("c1").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_cannot_be_run_says_why() {
    let mut f = Fixture::new().await;
    f.containers.launch(spec("c1", "exec sleep 1000"));
    f.started().await;
    let mut program = check("/no/such/program", Some(PATIENCE));
    if let Probe::Command(command) = &mut program.probe {
        command.shell = Some(false);
    }
    assert!(f.containers.check(&"c1".into(), program));
    let why = "cannot execute the command: No such file or directory";
    assert_eq!(f.checked("c1").await, CheckOutcome::Failed(why.to_owned()));
    f.containers.destroy(&"c1".into());
    f.exited().await;
    f.destroyed("c1").await;
    f.finish().await;
}
