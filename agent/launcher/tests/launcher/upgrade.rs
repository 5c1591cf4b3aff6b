//! Other builds of the launcher take over in place, or fail to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use mezzo_agent_launcher::{
    ClientError, ContainerState, Event, Launcher, LauncherClient, RefusalCode, Upgrade,
    UpgradeError, read_exit_file,
};
use mezzo_agent_sys::{PidFd, start_time};
use nix::libc::{ENOEXEC, SIGKILL, SIGTERM};

use crate::fixture::{Fixture, PATIENCE, Setup, children, descriptors, line, wait_gone};

/// A launcher whose file differs. Made by another process: a file that this one has open for writing,
/// if only in a child that a neighbouring test is forking, cannot be executed.
fn build(fixture: &Fixture, name: &str, change: &str) -> PathBuf {
    let path = fixture.path(name);
    let script = format!("cp \"$1\" \"$2\" && {change}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(env!("CARGO_BIN_EXE_mezzo-launcher")).arg(&path);
    assert!(shell.env("LC_ALL", "C").status().expect("sh").success());
    path
}

/// Works, but is not the same.
fn successor(fixture: &Fixture, name: &str) -> PathBuf {
    build(fixture, name, "printf later >>\"$2\"")
}

/// Reads states of another format only.
fn stranger(fixture: &Fixture) -> PathBuf {
    build(fixture, "stranger", "sed -i 's/formats 1\\.\\.1/formats 2..2/' \"$2\"")
}

fn launcher(fixture: &Fixture, program: &Path) -> Launcher {
    Launcher { program: program.to_owned(), ..fixture.launcher.clone() }
}

fn upgrade(fixture: &Fixture, program: &Path) -> Result<Upgrade, UpgradeError> {
    launcher(fixture, program).upgrade(fixture.client())
}

#[track_caller]
fn expect_image(pid: i32, program: &Path) {
    let image = fs::read(format!("/proc/{pid}/exe")).expect("image");
    assert!(image == fs::read(program).expect("program"), "{program:?} runs as {pid}");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).expect("name");
    assert_eq!(name, "mezzo-launcher\n");
}

/// A v2 group whose members stand still, so that a launch stays on its way.
struct Frozen(PathBuf);

impl Frozen {
    fn new(name: &str) -> Frozen {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists());
        let name = format!("mezzo-test-{}-{name}", std::process::id());
        let path = root.expect("a v2 hierarchy").join(name);
        fs::create_dir(&path).expect("create a cgroup: root is needed");
        let frozen = Frozen(path);
        frozen.freeze("1");
        frozen
    }

    fn freeze(&self, state: &str) {
        fs::write(self.0.join("cgroup.freeze"), state).expect("freeze");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            wait_gone(pid.parse().expect("pid"));
        }
        fs::remove_dir(&self.0).expect("remove the cgroup: nothing may be left in it");
    }
}

#[test]
fn another_build_takes_over_with_everything_as_it_was() {
    let frozen = Frozen::new("upgrade");
    let fixture = Fixture::new();
    let (own, next) = (fixture.launcher.program.clone(), successor(&fixture, "next"));
    let pid = fixture.launcher_pid();
    let ticks = start_time(pid).expect("start time");

    let (live, mut output) =
        fixture.shell("live", "trap 'exit 9' TERM; echo ready; sleep 1000 & wait").launch();
    fixture.expect_started("live");
    assert_eq!(line(&mut output), "ready");
    fixture.shell("ended", "exit 3").launch();
    fixture.expect_started("ended");
    assert_eq!(fixture.expect_exited("ended"), 3 << 8);
    fixture.container("failed", &["/no/such/program"]).launch();
    assert!(matches!(fixture.next_event(), Event::LaunchFailed { .. }));
    let mut launching = fixture.shell("launching", "exit 5");
    let procs = File::options().write(true).open(frozen.0.join("cgroup.procs")).expect("procs");
    launching.cgroup_procs = vec![procs.into()];
    launching.launch();
    let list = fixture.client().list().expect("list");
    assert_eq!(fixture.state("launching"), Some(ContainerState::Launching));
    let open = descriptors(pid).len();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");

    assert_eq!(upgrade(&fixture, &own).expect("same"), Upgrade::Current);
    expect_image(pid, &own);
    for program in [&next, &own, &next] {
        assert_eq!(upgrade(&fixture, program).expect("upgrade"), Upgrade::Done);
        expect_image(pid, program);
        assert_eq!(fixture.client().list().expect("list"), list);
        assert_eq!(descriptors(pid).len(), open, "no descriptor is left");
        assert_eq!(children(pid).len(), 2);
    }
    assert_eq!(start_time(pid).expect("start time"), ticks, "it is the same process");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits"), limits);

    // What was on its way arrives, on the connection of before.
    frozen.freeze("0");
    fixture.expect_started("launching");
    assert_eq!(fixture.expect_exited("launching"), 5 << 8);
    fixture.client().signal("live", SIGTERM).expect("signal");
    assert_eq!(fixture.expect_exited("live"), 9 << 8);
    assert_eq!(children(pid), [], "no zombie is left, and {live} is gone");
    for id in ["live", "ended", "failed", "launching"] {
        fixture.client().forget(id).expect("forget");
    }
    let (_, mut output) = fixture.shell("new", "ulimit -Sn; ls /proc/self/fd | wc -l").launch();
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
    assert_eq!(line(&mut output), soft.to_string(), "containers have the limits of before");
    assert_eq!(line(&mut output), "4", "three streams and the directory");
    fixture.expect_started("new");
    assert_eq!(fixture.expect_exited("new"), 0);
}

#[test]
fn whatever_happens_during_upgrades_is_told_once() {
    const ROUNDS: usize = 20;
    const PER_ROUND: usize = 10;
    let fixture = Fixture::new();
    let programs = [successor(&fixture, "next"), fixture.launcher.program.clone()];
    let pid = fixture.launcher_pid();
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    for round in 0..ROUNDS {
        for number in 0..PER_ROUND {
            let code = (round * PER_ROUND + number) % 100;
            let id = format!("c{}", round * PER_ROUND + number);
            fixture.shell(&id, &format!("exit {code}")).launch_to(null.as_fd());
        }
        // Those containers are anywhere between the fork and their end now.
        let upgraded = upgrade(&fixture, &programs[round % 2]).expect("upgrade");
        assert_eq!(upgraded, Upgrade::Done);
    }
    let mut seen: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    while seen.values().flatten().filter(|status| **status >= 0).count() < ROUNDS * PER_ROUND {
        match fixture.next_event() {
            Event::Started { container, .. } => seen.entry(container).or_default().push(-1),
            Event::Exited { container, status, recorded: true } => {
                seen.entry(container).or_default().push(status);
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    for (id, seen) in seen {
        let number: i32 = id[1..].parse().expect("number");
        assert_eq!(seen, [-1, (number % 100) << 8], "{id}");
    }
    assert_eq!(fixture.launcher_pid(), pid);
    assert_eq!(children(pid), [], "no zombie is left");
}

#[test]
fn other_connections_and_what_waits_for_them_come_along() {
    const LISTS: usize = 400;
    let fixture = Fixture::new();
    let second = LauncherClient::connect(&fixture.launcher.socket, |_| {}).expect("connect");
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    for number in 0..40 {
        let id = format!("{number:02}-{}", "x".repeat(200));
        fixture.shell(&id, "exit 0").launch_to(null.as_fd());
        fixture.expect_started(&id);
        fixture.expect_exited(&id);
    }
    let list = fixture.client().list().expect("list");
    assert_eq!(list.len(), 40);
    // Askers that do not wait for one another: more answers than a socket holds.
    let askers = std::thread::scope(|scope| {
        let ask = || assert_eq!(second.list().expect("list"), list);
        let askers: Vec<_> = (0..LISTS).map(|_| scope.spawn(ask)).collect();
        assert_eq!(
            upgrade(&fixture, &successor(&fixture, "next")).expect("upgrade"),
            Upgrade::Done
        );
        askers.into_iter().map(|asker| asker.join()).filter(Result::is_ok).count()
    });
    assert_eq!(askers, LISTS);
    assert_eq!(second.hello().expect("hello"), fixture.client().hello().expect("hello"));
}

#[test]
fn an_image_that_does_not_understand_gives_back() {
    let fixture = Fixture::new();
    let stranger = stranger(&fixture);
    let pid = fixture.launcher_pid();
    fixture.shell("live", "sleep 1000").launch();
    fixture.expect_started("live");
    let open = descriptors(pid);
    match upgrade(&fixture, &stranger) {
        Err(UpgradeError::Format { format: 1, .. }) => {}
        other => panic!("it says which formats it takes: {other:?}"),
    }
    // And where nobody asks it before:
    for _ in 0..3 {
        let program = File::open(&stranger).expect("open");
        match fixture.client().upgrade(program.as_fd()) {
            Err(ClientError::Refused { code: RefusalCode::Failed, message, .. }) => {
                assert!(message.contains("format 1, this image takes up 2 to 2"), "{message}");
            }
            other => panic!("it cannot: {other:?}"),
        }
        expect_image(pid, &fixture.launcher.program);
        assert_eq!(descriptors(pid).len(), open.len(), "no descriptor is left");
    }
    assert_eq!(fixture.state("live"), Some(ContainerState::Running));
    fixture.client().signal("live", SIGTERM).expect("signal");
    assert_eq!(fixture.expect_exited("live"), SIGTERM);
}

#[test]
fn what_cannot_run_changes_nothing() {
    let fixture = Fixture::new();
    let pid = fixture.launcher_pid();
    fixture.shell("live", "sleep 1000").launch();
    fixture.expect_started("live");
    let open = descriptors(pid);
    let text = build(&fixture, "text", "echo nonsense >\"$2\"");
    assert!(matches!(upgrade(&fixture, &text), Err(UpgradeError::Run { .. })));
    let missing = Path::new("/no/such/launcher");
    assert!(matches!(upgrade(&fixture, missing), Err(UpgradeError::Compare { .. })));
    for other in ["/bin/true", "/bin/false"] {
        match upgrade(&fixture, Path::new(other)) {
            Err(UpgradeError::Unfit { .. }) => {}
            outcome => panic!("{other} is no launcher: {outcome:?}"),
        }
    }
    let program = File::open(&text).expect("open");
    match fixture.client().upgrade(program.as_fd()) {
        Err(ClientError::Refused { code: RefusalCode::Failed, errno: ENOEXEC, message }) => {
            assert!(message.contains("execute the new launcher"), "{message}");
        }
        other => panic!("text is no program: {other:?}"),
    }
    expect_image(pid, &fixture.launcher.program);
    assert_eq!(descriptors(pid), open);
    let (_, mut output) = fixture.shell("after", "ls /proc/self/fd | wc -l").launch();
    assert_eq!(line(&mut output), "4", "what was to survive the exec reaches no container");
    fixture.expect_started("after");
    assert_eq!(fixture.expect_exited("after"), 0);
    assert_eq!(fixture.state("live"), Some(ContainerState::Running));
}

#[test]
fn a_launcher_killed_on_the_way_is_one_that_died() {
    let mut fixture = Fixture::new();
    let next = successor(&fixture, "next");
    for round in 0..10 {
        let id = format!("c{round}");
        let (pid, mut output) =
            fixture.shell(&id, "trap 'exit 9' TERM; echo ready; sleep 1000 & wait").launch();
        fixture.expect_started(&id);
        assert_eq!(line(&mut output), "ready");
        let process = PidFd::open(pid).expect("the container");
        let launcher_pid = fixture.client().hello().expect("hello").pid;
        let launcher_process = PidFd::open(launcher_pid).expect("the launcher");
        let (next, client) = (launcher(&fixture, &next), fixture.client());
        let outcome = std::thread::scope(|scope| {
            let upgrading = scope.spawn(|| next.upgrade(client));
            launcher_process.signal(SIGKILL).expect("kill");
            upgrading.join().expect("no panic")
        });
        // It was killed before, during or after.
        match outcome {
            Ok(_) => {}
            Err(UpgradeError::Compare { .. }) => {}
            Err(error) => assert!(error.is_disconnected(), "{error:?}"),
        }
        wait_gone(launcher_pid);
        assert!(fixture.reconnect(), "a new launcher is needed");
        assert_eq!(fixture.client().list().expect("list"), []);
        process.signal(SIGTERM).expect("signal");
        assert!(process.wait(Some(PATIENCE)).expect("poll"));
        let file = File::open(Setup::exit_path(&fixture, &id)).expect("exit file");
        assert_eq!(read_exit_file(&file).expect("read"), Some(9 << 8));
    }
}
