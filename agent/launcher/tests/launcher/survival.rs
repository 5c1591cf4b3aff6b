//! Agents that go and come, launchers that are killed.

use std::fs::{self, File};
use std::os::fd::AsFd;

use mezzo_agent_launcher::{
    ClientError, ContainerState, Event, Launcher, LauncherClient, RefusalCode, SpawnError,
    read_exit_file,
};
use mezzo_agent_sys::{PidFd, start_time};
use nix::libc::{SIGKILL, SIGTERM};

use crate::fixture::{Fixture, PATIENCE, Setup, line, wait_gone};

#[test]
fn an_agent_that_was_away_finds_what_happened() {
    let mut fixture = Fixture::new();
    let (live, _) = fixture.shell("live", "sleep 1000").launch();
    let started = start_time(live).expect("start time");
    fixture.expect_started("live");
    let (quick, mut output) = fixture.shell("quick", "echo ready; read line; sleep 1000").launch();
    fixture.expect_started("quick");
    assert_eq!(line(&mut output), "ready");
    let watch = PidFd::open(quick).expect("pidfd");
    fixture.client = None;
    watch.signal(SIGTERM).expect("signal");
    assert!(watch.wait(Some(PATIENCE)).expect("poll"), "it ends without an agent");
    assert!(!fixture.reconnect(), "the launcher is the same");
    let list = fixture.client().list().expect("list");
    let states: Vec<_> = list.iter().map(|c| (c.id.as_str(), c.pid, c.state)).collect();
    let exited = ContainerState::Exited { status: SIGTERM, recorded: true };
    assert_eq!(states, [("live", live, ContainerState::Running), ("quick", quick, exited)]);
    assert_eq!(list[0].start_time_ticks, started);
    // And what happens from now on is told again.
    fixture.client().signal("live", SIGTERM).expect("signal");
    assert_eq!(fixture.expect_exited("live"), SIGTERM);
}

#[test]
fn all_connections_hear_events_and_only_the_asker_the_answer() {
    let fixture = Fixture::new();
    let (sender, events) = std::sync::mpsc::channel();
    let on_event = move |event| {
        let _ = sender.send(event);
    };
    let second = LauncherClient::connect(&fixture.launcher.socket, on_event).expect("connect");
    assert_eq!(second.list().expect("list"), []);
    fixture.shell("c", "exit 4").launch();
    fixture.expect_started("c");
    assert_eq!(fixture.expect_exited("c"), 4 << 8);
    let first = events.recv_timeout(PATIENCE).expect("event");
    assert!(matches!(first, Event::Started { .. }), "{first:?}");
    let then = events.recv_timeout(PATIENCE).expect("event");
    assert_eq!(then, Event::Exited { container: "c".into(), status: 4 << 8, recorded: true });
    drop(second);
    assert_eq!(events.recv_timeout(PATIENCE).expect("event"), Event::Disconnected);
    events.recv_timeout(PATIENCE).expect_err("that was the last");
}

/// The first process has nobody to tell that the command runs, and its own SIGPIPE is no order.
#[test]
fn a_command_outlives_a_launcher_that_dies_before_it_hears_of_the_start() {
    let scripts = tempfile::tempdir().expect("directory");
    for (id, argv, status) in [
        ("runs", ["sh", "-c", "sleep 0.1; exit 5"].as_slice(), 5 << 8),
        ("is-missing", &["/no/such/program"], 127 << 8),
    ] {
        let mut fixture = Fixture::dying_at("launcher.launch.booked", scripts.path());
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        match fixture.container(id, argv).try_launch_to(writer.as_fd()) {
            Err(ClientError::Disconnected) => {}
            other => {
                let log = std::fs::read_to_string(fixture.path("launcher.log"));
                panic!("{id}: the launcher should have died: {other:?}; {log:?}");
            }
        }
        drop(writer);
        // The end of the output is the end of the command; its first process records it right after.
        std::io::Read::read_to_end(&mut reader, &mut Vec::new()).expect("output");
        let path = Setup::exit_path(&fixture, id);
        let end = std::time::Instant::now() + PATIENCE;
        let recorded = loop {
            let recorded = read_exit_file(&File::open(&path).expect("exit file")).expect("reads");
            if recorded.is_some() || std::time::Instant::now() > end {
                break recorded;
            }
            std::thread::yield_now();
        };
        assert_eq!(recorded, Some(status), "{id}");
        fixture.client = None;
    }
}

#[test]
fn containers_outlive_a_killed_launcher_and_still_leave_their_status() {
    let mut fixture = Fixture::new();
    let (pid, mut output) =
        fixture.shell("c", "trap 'exit 9' TERM; echo ready; sleep 1000 & wait").launch();
    fixture.expect_started("c");
    assert_eq!(line(&mut output), "ready");
    let ticks = start_time(pid).expect("start time");
    let launcher = fixture.launcher_pid();
    PidFd::open(launcher).expect("launcher").signal(SIGKILL).expect("signal");
    assert_eq!(fixture.next_event(), Event::Disconnected);
    match fixture.client().list() {
        Err(ClientError::Disconnected) => {}
        other => panic!("nobody is there: {other:?}"),
    }
    wait_gone(launcher);
    let init = PidFd::open_started(pid, ticks).expect("open").expect("the container lives");

    assert!(fixture.reconnect(), "a new launcher is needed");
    assert_ne!(fixture.launcher_pid(), launcher);
    assert_eq!(fixture.client().list().expect("list"), []);
    fixture.shell("new", "exit 0").launch();
    fixture.expect_started("new");
    assert_eq!(fixture.expect_exited("new"), 0);

    init.signal(SIGTERM).expect("signal");
    assert!(init.wait(Some(PATIENCE)).expect("poll"));
    let file = File::open(Setup::exit_path(&fixture, "c")).expect("exit file");
    assert_eq!(read_exit_file(&file).expect("read"), Some(9 << 8));
}

#[test]
fn requests_that_make_no_sense_are_refused_in_words() {
    let fixture = Fixture::new();
    let client = fixture.client();
    fixture.shell("c", "sleep 1000").launch();
    fixture.expect_started("c");
    #[track_caller]
    fn check(result: Result<(), ClientError>, expected: RefusalCode, fragment: &str) {
        match result {
            Err(ClientError::Refused { code, message, .. }) if code == expected => {
                assert!(message.contains(fragment), "{message}");
            }
            other => panic!("should be refused as {expected:?}: {other:?}"),
        }
    }
    check(client.forget("nobody"), RefusalCode::Unknown, "\"nobody\"");
    check(client.signal("nobody", SIGTERM), RefusalCode::Unknown, "\"nobody\"");
    check(client.kill("nobody"), RefusalCode::Unknown, "\"nobody\"");
    check(client.signal("c", 99), RefusalCode::Invalid, "signal 99");
    check(client.forget("c"), RefusalCode::Running, "has not ended");
    check(client.shutdown(), RefusalCode::Running, "1 containers run");
    let null = File::open("/dev/null").expect("/dev/null");
    let launch = mezzo_agent_launcher::Launch {
        container: "c".into(),
        program: "true".into(),
        arguments: vec!["true".into()],
        environment: Vec::new(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        namespaces: Default::default(),
        hostname: None,
        directory: null.as_fd(),
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        exit_file: null.as_fd(),
        cgroup_procs: Vec::new(),
    };
    check(client.launch(&launch).map(drop), RefusalCode::Invalid, "exit file");
    let exit_file = tempfile::tempfile().expect("file");
    let launch = mezzo_agent_launcher::Launch { exit_file: exit_file.as_fd(), ..launch };
    check(client.launch(&launch).map(drop), RefusalCode::Exists, "\"c\" exists");
}

#[test]
fn sigterm_moves_only_a_launcher_without_containers() {
    let fixture = Fixture::new();
    fixture.shell("c", "sleep 1000").launch();
    fixture.expect_started("c");
    let launcher = PidFd::open(fixture.launcher_pid()).expect("launcher");
    launcher.signal(SIGTERM).expect("signal");
    assert_eq!(fixture.state("c"), Some(ContainerState::Running), "it stays");
    fixture.client().kill("c").expect("kill");
    fixture.next_event();
    launcher.signal(SIGTERM).expect("signal");
    assert!(launcher.wait(Some(PATIENCE)).expect("poll"));
    assert_eq!(fixture.next_event(), Event::Disconnected);
    assert!(!fixture.launcher.socket.exists(), "the socket is gone with it");
}

#[test]
fn one_socket_has_one_launcher_in_a_session_of_its_own() {
    let fixture = Fixture::new();
    let pid = nix::unistd::Pid::from_raw(fixture.launcher_pid());
    assert_eq!(nix::unistd::getsid(Some(pid)).expect("session"), pid);
    assert_ne!(nix::unistd::getpgid(Some(pid)).expect("group"), nix::unistd::getpgrp());
    // One that holds the lock but cannot be reached: the next one is told.
    fs::rename(&fixture.launcher.socket, fixture.path("moved.sock")).expect("rename");
    match fixture.launcher.connect_or_spawn(|_| {}) {
        Err(SpawnError::Start { message, .. }) => {
            assert!(message.contains("another launcher does"), "{message}");
        }
        other => panic!("the lock is held: {other:?}"),
    }
    let missing = Launcher { program: "/no/such/launcher".into(), ..fixture.launcher.clone() };
    match missing.connect_or_spawn(|_| {}) {
        Err(SpawnError::Run { .. }) => {}
        other => panic!("there is no such program: {other:?}"),
    }
}
