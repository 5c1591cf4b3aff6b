//! How containers end, and how they fail to begin.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use mezzo_agent_launcher::{
    ClientError, ContainerState, Event, Namespaces, RefusalCode, Step, read_exit_file,
};
use nix::libc::{EACCES, ENOENT, SIGKILL, SIGTERM, SIGUSR1};

use crate::fixture::{Fixture, Setup, line};

#[test]
fn statuses_are_exact_in_event_list_and_file() {
    let fixture = Fixture::new();
    for (id, script, status) in [
        ("true", "exit 0", 0),
        ("false", "exit 1", 1 << 8),
        ("three", "exit 3", 3 << 8),
        ("high", "exit 255", 255 << 8),
        ("like-a-signal", "exit 137", 137 << 8),
        ("term", "kill -TERM $$", 15),
        ("kill", "kill -KILL $$", 9),
        ("usr1", "kill -USR1 $$", 10),
    ] {
        fixture.shell(id, script).launch();
        fixture.expect_started(id);
        assert_eq!(fixture.expect_exited(id), status, "{id}");
        let state = ContainerState::Exited { status, recorded: true };
        assert_eq!(fixture.state(id), Some(state), "{id}");
        let file = File::open(Setup::exit_path(&fixture, id)).expect("exit file");
        assert_eq!(read_exit_file(&file).expect("read"), Some(status), "{id}");
        fixture.client().forget(id).expect("forget");
        assert_eq!(fixture.state(id), None);
    }
}

#[test]
fn sigterm_ends_a_command_that_does_not_handle_it() {
    let fixture = Fixture::new();
    // As process 1 of its namespace `sleep` would ignore it.
    fixture.container("sleep", &["sleep", "1000"]).launch();
    fixture.expect_started("sleep");
    fixture.client().signal("sleep", SIGTERM).expect("signal");
    assert_eq!(fixture.expect_exited("sleep"), SIGTERM);
}

#[test]
fn handlers_of_the_command_are_honoured() {
    let fixture = Fixture::new();
    // The shell itself remarks on its killed child.
    let script = "exec 2>/dev/null; trap 'echo usr1' USR1; trap 'exit 7' TERM; echo ready; \
                  while :; do sleep 1000 & wait $!; done";
    let (_, mut output) = fixture.shell("handler", script).launch();
    fixture.expect_started("handler");
    assert_eq!(line(&mut output), "ready");
    fixture.client().signal("handler", SIGUSR1).expect("signal");
    assert_eq!(line(&mut output), "usr1");
    fixture.client().signal("handler", SIGTERM).expect("signal");
    assert_eq!(fixture.expect_exited("handler"), 7 << 8);
}

#[test]
fn signals_reach_the_whole_process_group() {
    let fixture = Fixture::new();
    let script = "sh -c 'trap \"echo child; exit\" TERM; echo ready; sleep 1000 & wait' & \
                  trap 'wait; exit 5' TERM; wait";
    let (_, mut output) = fixture.shell("group", script).launch();
    fixture.expect_started("group");
    assert_eq!(line(&mut output), "ready");
    fixture.client().signal("group", SIGTERM).expect("signal");
    assert_eq!(line(&mut output), "child");
    assert_eq!(fixture.expect_exited("group"), 5 << 8);
}

#[test]
fn kill_ends_everything_in_the_pid_namespace() {
    let fixture = Fixture::new();
    let script = "trap '' TERM; setsid sleep 1000 & echo ready; wait; sleep 1000";
    let (_, mut output) = fixture.shell("stubborn", script).launch();
    fixture.expect_started("stubborn");
    assert_eq!(line(&mut output), "ready");
    fixture.client().kill("stubborn").expect("kill");
    let event = fixture.next_event();
    let container = "stubborn".to_owned();
    assert_eq!(event, Event::Exited { container, status: SIGKILL, recorded: false });
    // The output ends only when the last process is gone.
    assert_eq!(line(&mut output), "");
    match fixture.client().kill("stubborn") {
        Err(ClientError::Refused { code: RefusalCode::Ended, .. }) => {}
        other => panic!("it has ended: {other:?}"),
    }
}

#[test]
fn orphans_are_reaped_with_and_without_a_pid_namespace() {
    let fixture = Fixture::new();
    // The daemon's parent ends, so the daemon is a child of mezzo-init; when killed it must vanish,
    // which a zombie does not.
    let script = "daemon=$(sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'); \
                  grep -w PPid /proc/$daemon/status; kill $daemon; \
                  while [ -e /proc/$daemon ]; do :; done; echo gone";
    for namespaces in [Namespaces::ALL, Namespaces { pid: false, ..Namespaces::ALL }] {
        let id = if namespaces.pid { "own" } else { "shared" };
        let mut setup = fixture.shell(id, script);
        setup.namespaces = namespaces;
        let (pid, mut output) = setup.launch();
        let parent = if namespaces.pid { 1 } else { pid };
        assert_eq!(line(&mut output), format!("PPid:\t{parent}"), "{id}");
        assert_eq!(line(&mut output), "gone", "{id}");
        fixture.expect_started(id);
        assert_eq!(fixture.expect_exited(id), 0, "{id}");
    }
}

#[test]
fn a_command_that_cannot_be_executed_is_a_failed_launch() {
    let fixture = Fixture::new();
    fs::write(fixture.path("plain"), "#!/bin/sh\n").expect("file");
    let plain = fixture.path("plain").to_str().expect("text").to_owned();
    for (id, program, errno) in [
        ("lookup", "no-such-program-here", ENOENT),
        ("path", "/no/such/program", ENOENT),
        ("denied", plain.as_str(), EACCES),
        ("directory", "/tmp", EACCES),
        ("empty", "", ENOENT),
    ] {
        fixture.container(id, &[program]).launch();
        let failure = match fixture.next_event() {
            Event::LaunchFailed { container, failure } if container == id => failure,
            other => panic!("container {id} should have failed: {other:?}"),
        };
        assert_eq!((failure.step, failure.errno), (Step::Exec, errno), "{id}");
        assert_eq!(fixture.state(id), Some(ContainerState::Failed(failure)), "{id}");
        let file = File::open(Setup::exit_path(&fixture, id)).expect("exit file");
        // For an agent whose launcher is gone.
        assert_eq!(read_exit_file(&file).expect("read"), Some(127 << 8), "{id}");
    }
}

#[test]
fn programs_are_found_in_the_path_of_the_container_and_scripts_go_to_the_shell() {
    let fixture = Fixture::new();
    let directory = fixture.path("bin");
    fs::create_dir(&directory).expect("directory");
    fs::write(directory.join("greet"), "echo hello $1\n").expect("script");
    fs::set_permissions(directory.join("greet"), fs::Permissions::from_mode(0o755)).expect("mode");
    let mut setup = fixture.container("script", &["greet", "you"]);
    setup.environment = vec![("PATH".into(), format!("/nowhere:{}", directory.display()))];
    let (_, mut output) = setup.launch();
    assert_eq!(line(&mut output), "hello you");
    fixture.expect_started("script");
    assert_eq!(fixture.expect_exited("script"), 0);
}

#[test]
fn steps_before_the_exec_are_named() {
    let fixture = Fixture::new();
    let read_only = || File::open("/dev/null").expect("/dev/null").into();
    let mut setup = fixture.container("cgroup", &["true"]);
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    setup.cgroup_procs = vec![null.into(), read_only()];
    setup.launch();
    match fixture.next_event() {
        Event::LaunchFailed { failure, .. } => {
            assert_eq!((failure.step, failure.index), (Step::Cgroup, 1));
            assert_eq!(failure.to_string(), "cannot join cgroup number 1: Bad file number");
        }
        other => panic!("should have failed: {other:?}"),
    }
    let mut setup = fixture.container("directory", &["true"]);
    fs::write(fixture.path("file"), "").expect("file");
    setup.directory = fixture.path("file");
    setup.launch();
    match fixture.next_event() {
        Event::LaunchFailed { failure, .. } => assert_eq!(failure.step, Step::Directory),
        other => panic!("should have failed: {other:?}"),
    }
}
