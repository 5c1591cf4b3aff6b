//! Commands beside a container's own: where they run, as whom, what is heard of them, and that nothing of them stays.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use mezzo_agent_launcher::{CheckReport, ClientError, Enter, RefusalCode, Step, check_socket};
use mezzo_agent_sys::PidFd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::Pid;

use crate::fixture::{Fixture, PATIENCE, Setup, children, line, wait_gone};

/// A command that was asked for.
struct Beside {
    socket: Option<OwnedFd>,
}

impl Beside {
    /// A shell script in the container that `pid` is the first process of, as nobody, in the fixture's directory.
    fn run(fixture: &Fixture, pid: i32, script: &str) -> Beside {
        Beside::with(fixture, pid, |enter| enter.arguments.push(script.into())).expect("entered")
    }

    fn with(
        fixture: &Fixture,
        pid: i32,
        change: impl FnOnce(&mut Enter<'_>),
    ) -> Result<Beside, ClientError> {
        let pidfd = PidFd::open(pid).expect("it runs");
        Beside::within(fixture, pidfd.as_fd(), &[], change)
    }

    fn within(
        fixture: &Fixture,
        pidfd: BorrowedFd<'_>,
        cgroup_procs: &[BorrowedFd<'_>],
        change: impl FnOnce(&mut Enter<'_>),
    ) -> Result<Beside, ClientError> {
        let null = File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
        let (socket, report) = check_socket().expect("socket");
        let mut enter = Enter {
            program: "sh".into(),
            arguments: vec!["sh".into(), "-c".into()],
            environment: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".into(), "WHO=me".into()],
            uid: 65_534,
            gid: 65_533,
            groups: vec![65_533, 100],
            directory: fixture.directory.path().to_owned(),
            output: Some("stderr".into()),
            pidfd,
            stdin: null.as_fd(),
            report: report.as_fd(),
            cgroup_procs: cgroup_procs.to_vec(),
        };
        change(&mut enter);
        let (answered, answer) = mpsc::channel();
        fixture.client().enter_then(&enter, move |outcome| {
            // The test may have failed meanwhile.
            let _ = answered.send(outcome);
        });
        answer.recv_timeout(PATIENCE).expect("an answer")?;
        Ok(Beside { socket: Some(socket) })
    }

    /// The next report; `None` at the end.
    fn next(&self) -> Option<CheckReport> {
        let socket = self.socket.as_ref().expect("open");
        let mut packet = [0; CheckReport::SIZE];
        let patience = PollTimeout::try_from(PATIENCE).expect("in range");
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, patience).expect("poll"), 1, "a report in time");
        match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(length) => packet.get(..length).and_then(CheckReport::parse),
            Err(errno) => panic!("{errno}"),
        }
    }

    #[track_caller]
    fn expect_ended(&self) -> i32 {
        assert_eq!(self.next(), Some(CheckReport::Started));
        match self.next() {
            Some(CheckReport::Ended(status)) => status,
            other => panic!("the command should have ended: {other:?}"),
        }
    }
}

fn output(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.path("stderr")).expect("output")
}

/// A container in all namespaces that runs as nobody, and the file for the output.
fn container(fixture: &Fixture) -> i32 {
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(fixture.directory.path(), open).expect("mode");
    let file = File::create(fixture.path("stderr")).expect("file");
    nix::unistd::fchown(&file, Some(65_534.into()), None).expect("owner");
    let mut setup: Setup<'_> = fixture.shell("c", "exec sleep 1000");
    setup.ids = (65_534, 65_533, vec![65_533, 100]);
    setup.hostname = Some("inside".to_owned());
    let (pid, _) = setup.launch();
    fixture.expect_started("c");
    pid
}

#[test]
fn it_runs_where_the_container_is() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let script = "id -u; id -G; pwd; umask; uname -n; echo $WHO $HOME; cat /proc/1/comm; \
                  pgrep -x sleep; env | grep -c .; ls /proc/self/fd | tr '\\n' ' '; echo; \
                  grep -E '^(Sig(Blk|Ign)|CapEff)' /proc/self/status | tr -d '\\n\\t'; exit 5";
    let status = Beside::run(&fixture, pid, script).expect_ended();
    assert_eq!(status, 5 << 8);
    let directory = fixture.directory.path().display().to_string();
    let out = output(&fixture);
    let lines: Vec<&str> = out.lines().collect();
    // The container's command is process 2; PATH, WHO and the PWD that the shell adds.
    let expected =
        ["65534", "65533 100", &directory, "0022", "inside", "me", "mezzo-init", "2", "3"];
    assert_eq!(lines.get(..9), Some(&expected[..]), "{out}");
    // The fourth is that of the directory that `ls` reads.
    assert_eq!(lines.get(9), Some(&"0 1 2 3 "), "{out}");
    assert!(
        lines[10].starts_with("SigBlk:0000000000000000SigIgn:0000000000000000CapEff:000"),
        "{out}"
    );
    // All namespaces are the very ones of the container.
    for kind in ["pid", "mnt", "ipc", "uts", "net", "cgroup"] {
        let status = Beside::run(
            &fixture,
            pid,
            &format!("test $(readlink /proc/self/ns/{kind}) = $(readlink /proc/2/ns/{kind})"),
        );
        assert_eq!(status.expect_ended(), 0, "{kind}");
    }
}

#[test]
fn what_cannot_be_run_is_told() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let missing = Beside::with(&fixture, pid, |enter| enter.program = "no-such-program".into());
    match missing.expect("entered").next() {
        Some(CheckReport::Failed(failure)) => assert_eq!(failure.step, Step::Exec),
        other => panic!("{other:?}"),
    }
    let nowhere = Beside::with(&fixture, pid, |enter| enter.directory = "/no/such/place".into());
    match nowhere.expect("entered").next() {
        Some(CheckReport::Failed(failure)) => assert_eq!(failure.step, Step::Directory),
        other => panic!("{other:?}"),
    }
    let bad = Beside::with(&fixture, pid, |enter| enter.directory = "x".into());
    match bad.map(|_| ()) {
        Err(ClientError::Refused { code, .. }) => assert_eq!(code, RefusalCode::Invalid),
        other => panic!("{other:?}"),
    }
    // A process that has ended is entered by nobody.
    let pidfd = PidFd::open(pid).expect("it runs");
    fixture.client().kill("c").expect("kill");
    fixture.next_event();
    let late = Beside::within(&fixture, pidfd.as_fd(), &[], |enter| {
        enter.arguments.push("true".into());
    });
    match late.expect("asked").next() {
        Some(CheckReport::Failed(failure)) => assert_eq!(failure.step, Step::Enter),
        other => panic!("{other:?}"),
    }
}

/// Shell functions that leave a process in a session of its own, whose parent is gone, and print its pid on the host.
const STRAY: &str = "setsid sh -c 'sleep 1000 & exec sleep 1000' </dev/null >/dev/null 2>&1 & \
                     (sleep 1000 & sleep 1000 &) ; sleep 1000 & ";

/// The processes of the container, but for its own two.
fn strangers(pid: i32) -> Vec<i32> {
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).expect("namespace");
    let inside = |entry: fs::DirEntry| {
        let other: i32 = entry.file_name().to_str()?.parse().ok()?;
        (fs::read_link(entry.path().join("ns/pid")).ok()? == namespace).then_some(other)
    };
    let own = children(pid);
    let all = fs::read_dir("/proc").expect("/proc").filter_map(|e| inside(e.expect("entry")));
    // Those that `children` lists are the container's command.
    all.filter(|other| *other != pid && !own.contains(other)).collect()
}

#[test]
fn all_that_descends_from_it_ends_with_the_socket() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let mut beside = Beside::run(&fixture, pid, &format!("{STRAY} echo ready >&2; wait"));
    assert_eq!(beside.next(), Some(CheckReport::Started));
    let end = std::time::Instant::now() + PATIENCE;
    // Its keeper, the shell, and five that sleep.
    while strangers(pid).len() < 7 || !output(&fixture).contains("ready") {
        assert!(std::time::Instant::now() < end, "{:?}", strangers(pid));
        std::thread::yield_now();
    }
    let all = strangers(pid);
    beside.socket = None;
    for process in all {
        wait_gone(process);
    }
    assert_eq!(strangers(pid), []);
    kill(Pid::from_raw(pid), None).expect("the container goes on");
    assert!(fixture.state("c").is_some());
}

#[test]
fn what_it_leaves_ends_with_it() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let beside = Beside::run(&fixture, pid, STRAY);
    assert_eq!(beside.expect_ended(), 0);
    assert_eq!(beside.next(), None, "the keeper ends when all have");
    let end = std::time::Instant::now() + PATIENCE;
    while !strangers(pid).is_empty() {
        assert!(std::time::Instant::now() < end, "{:?}", strangers(pid));
        std::thread::yield_now();
    }
}

#[test]
fn a_keeper_that_is_killed_is_heard_of_and_the_launcher_keeps_nothing() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let launcher = fixture.launcher_pid();
    let before = (crate::fixture::descriptors(launcher), children(launcher));
    let beside = Beside::run(&fixture, pid, "kill -KILL $PPID; exec sleep 1000");
    // It may not have come to tell of the start.
    let first = beside.next();
    assert!(matches!(first, None | Some(CheckReport::Started)), "{first:?}");
    assert!(first.is_none() || beside.next().is_none());
    let end = std::time::Instant::now() + PATIENCE;
    while (crate::fixture::descriptors(launcher), children(launcher)) != before {
        assert!(std::time::Instant::now() < end, "{:?}", children(launcher));
        std::thread::yield_now();
    }
}

#[test]
fn output_goes_only_where_the_user_may_write() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let secret = fixture.path("secret");
    fs::write(&secret, "untouched").expect("file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::remove_file(fixture.path("stderr")).expect("remove");
    for (what, lie) in [("link", 0), ("hard link", 1), ("pipe", 2)] {
        let path = fixture.path("stderr");
        match lie {
            0 => std::os::unix::fs::symlink(&secret, &path).expect("link"),
            1 => fs::hard_link(&secret, &path).expect("link"),
            _ => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::all()).expect("pipe"),
        }
        assert_eq!(Beside::run(&fixture, pid, "echo lost").expect_ended(), 0, "{what}");
        fs::remove_file(&path).expect("remove");
    }
    assert_eq!(fs::read_to_string(&secret).expect("read"), "untouched");
}

#[test]
fn it_goes_on_while_the_launcher_is_upgraded() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let beside = Beside::run(&fixture, pid, "while test ! -e go; do sleep 0.05; done; exit 3");
    assert_eq!(beside.next(), Some(CheckReport::Started));
    let program = File::open(&fixture.launcher.program).expect("program");
    fixture.client().upgrade(program.as_fd()).expect("upgraded");
    fs::write(fixture.path("go"), "").expect("file");
    assert_eq!(beside.next(), Some(CheckReport::Ended(3 << 8)));
}

#[test]
fn the_socket_does_not_block() {
    let (own, _report) = check_socket().expect("socket");
    let mut packet = [0; CheckReport::SIZE];
    let error = recv(own.as_raw_fd(), &mut packet, MsgFlags::empty()).expect_err("nothing there");
    assert_eq!(std::io::Error::from(error).kind(), ErrorKind::WouldBlock);
}

#[test]
fn control_groups_are_joined() {
    let fixture = Fixture::new();
    let pid = container(&fixture);
    let root = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .into_iter()
        .map(std::path::PathBuf::from)
        .find(|root| root.join("cgroup.procs").exists())
        .expect("control groups");
    let group = root.join(format!("mezzo-beside-{}", std::process::id()));
    fs::create_dir(&group).expect("create a cgroup: root is needed");
    let procs: OwnedFd =
        File::options().write(true).open(group.join("cgroup.procs")).expect("procs").into();
    let pidfd = PidFd::open(pid).expect("it runs");
    let beside = Beside::within(&fixture, pidfd.as_fd(), &[procs.as_fd()], |enter| {
        enter.arguments.push("read line < pipe".into());
    });
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    // The mask of this process would take the right away.
    let pipe = fixture.path("pipe");
    nix::unistd::mkfifo(&pipe, mode).expect("pipe");
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o666)).expect("mode");
    let beside = beside.expect("entered");
    assert_eq!(beside.next(), Some(CheckReport::Started));
    let members = fs::read_to_string(group.join("cgroup.procs")).expect("members");
    assert!(members.lines().count() >= 1, "{members:?}");
    drop(beside);
    let end = std::time::Instant::now() + PATIENCE;
    while fs::remove_dir(&group).is_err() {
        assert!(std::time::Instant::now() < end, "nothing may be left in the group");
        std::thread::yield_now();
    }
}

#[test]
fn lines_of_the_container_and_of_the_command_mix() {
    let fixture = Fixture::new();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(fixture.directory.path(), open).expect("mode");
    let file = File::create(fixture.path("stderr")).expect("file");
    nix::unistd::fchown(&file, Some(65_534.into()), None).expect("owner");
    let (pid, mut out) = fixture.shell("c", "echo up; read line; exec sleep 1000").launch();
    assert_eq!(line(&mut out), "up");
    fixture.expect_started("c");
    for number in 0..3 {
        let beside = Beside::run(&fixture, pid, &format!("echo {number}"));
        assert_eq!(beside.expect_ended(), 0);
    }
    assert_eq!(output(&fixture), "0\n1\n2\n");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    fixture.next_event();
}
