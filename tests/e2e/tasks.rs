//! Tasks: endings exact, isolation real, limits held, nothing left behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mezzo_sdk::is_terminal;
use mezzo_sdk::v1::TaskState;
use mezzo_sdk::v1::task_status::{Reason, Source};
use mezzo_tests::{Cluster, Options};

use crate::framework::{Probe, task};

/// 200 tasks at once: each ends exactly once, as it should, in cgroups, namespaces and a sandbox of
/// its own, and nothing of it stays but the sandbox.
#[tokio::test]
async fn two_hundred_tasks_end_exactly_once_each_in_a_world_of_its_own() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    const WORLD: &str = "for n in pid mnt ipc uts; do readlink /proc/self/ns/$n; done; \
                         grep -o '[^/]*$' /proc/self/cgroup | sort -u | tail -1; pwd";
    for n in 0..200 {
        probe.launch(task(&format!("t.{n}")).shell(WORLD));
    }
    probe
        .until("200 endings", |probe| (0..200).all(|n| probe.end_of(&format!("t.{n}")).is_some()))
        .await;
    // What came twice would come now, before the answer to one more call.
    probe.run(task("after").shell("true")).await;
    let mut worlds = BTreeSet::new();
    for n in 0..200 {
        let id = format!("t.{n}");
        let updates = &probe.updates[&id];
        let endings: Vec<_> = updates.iter().filter(|s| is_terminal(s.state())).collect();
        assert_eq!(endings.len(), 1, "{id} ended once: {endings:?}");
        assert_eq!(endings[0].state(), TaskState::TaskFinished, "{:?}", endings[0]);
        let states: Vec<_> = updates.iter().map(|s| s.state()).collect();
        assert!(
            states.windows(2).all(|pair| !is_terminal(pair[0])),
            "{id}: an ending is last: {states:?}"
        );
        assert!(states.contains(&TaskState::TaskRunning), "{id}: {states:?}");
        let output = cluster.mezzo(&["logs", &id]).expect("runs");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<_> = output.lines().map(str::to_owned).collect();
        assert!(lines.len() >= 6, "{id}: {output:?}");
        assert!(lines[5].contains("/runs/"), "works in its sandbox: {output}");
        // A pid namespace's number is used again once it is gone; cgroup and sandbox never are.
        worlds.insert((lines[4].clone(), lines[5].clone()));
        let host = std::fs::read_link("/proc/self/ns/pid").expect("own namespace");
        assert_ne!(lines[0], host.to_string_lossy(), "not the host's pid namespace");
    }
    assert_eq!(worlds.len(), 200, "cgroups and sandboxes are nobody else's");
    cluster
        .wait("the control groups to go", |cluster| {
            (cluster.container_cgroups().is_empty() && cluster.accounted() == 0).then_some(())
        })
        .expect("nothing stays");
}

#[tokio::test]
async fn exit_codes_and_signals_are_exact() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    for code in [0, 1, 3, 127, 255] {
        let status = probe.run(task(&format!("exit.{code}")).shell(format!("exit {code}"))).await;
        let expected = if code == 0 { TaskState::TaskFinished } else { TaskState::TaskFailed };
        assert_eq!(status.state(), expected, "{status:?}");
        let termination = status.termination.expect("an exit is told");
        assert_eq!((termination.exit_code, termination.signal), (Some(code), None));
        assert_eq!(status.message.as_deref(), Some(&*format!("Command exited with status {code}")));
        assert_eq!(status.source.map(|s| s == Source::Executor as i32), Some(true));
    }
    for (name, signal) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
        let status = probe.run(task(name).shell(format!("kill -{name} $$"))).await;
        assert_eq!(status.state(), TaskState::TaskFailed, "{status:?}");
        let termination = status.termination.expect("a signal is told");
        assert_eq!((termination.exit_code, termination.signal), (None, Some(signal)));
    }
    // Without a shell: argv as given.
    let status = probe.run(task("argv").argv(["/bin/sh", "-c", "test \"$0\" = x", "x"])).await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
    let status = probe.run(task("none").argv(["/no/such/program"])).await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert_eq!(status.reason(), Reason::ContainerLaunchFailed);
    assert!(status.message().contains("No such file"), "{}", status.message());
    let status = probe.run(task("user").user("no-such-user").shell("true")).await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert_eq!(status.reason(), Reason::ContainerLaunchFailed);
    assert!(status.message().contains("no-such-user"), "{}", status.message());
}

#[tokio::test]
async fn the_environment_is_mesos_and_the_sandbox_is_the_users() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let file = cluster.directory().join("payload");
    std::fs::write(&file, "fetched\n").expect("writes");
    let test = "set -e; test \"$(cat payload)\" = fetched; test \"$GREETING\" = hello; \
                test \"$MESOS_TASK_ID\" = env; test -n \"$MESOS_FRAMEWORK_ID\"; \
                test \"$MESOS_EXECUTOR_ID\" = env; test -n \"$MESOS_SLAVE_ID\"; \
                test \"$MESOS_SANDBOX\" = \"$PWD\"; test \"$MESOS_DIRECTORY\" = \"$PWD\"; \
                test \"$PORT0\" -ge 31000; test \"$PORT1\" -ge 31000; test \"$PORT\" = \"$PORT0\"; \
                test \"$(id -un)\" = nobody; touch mine; test -z \"$MEZZO_MASTER\"";
    let task = task("env")
        .ports(2)
        .env("GREETING", "hello")
        .user("nobody")
        .uri(file.display().to_string())
        .shell(test);
    let status = probe.run(task).await;
    let errors = cluster.mezzo(&["logs", "--stderr", "env"]).expect("runs");
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?} {errors:?}");
}

#[tokio::test]
async fn a_killed_task_gets_sigterm_and_ends_at_once() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("default").kill_grace(Duration::from_secs(60)).shell("sleep 1000"));
    probe.launch(
        task("handles")
            .kill_grace(Duration::from_secs(60))
            .shell("trap 'echo terminated; exit 7' TERM; sleep 1000 & echo up; wait"),
    );
    probe.launch(
        task("ignores")
            .kill_grace(Duration::from_millis(300))
            .shell("trap '' TERM; echo up; sleep 1000"),
    );
    for id in ["default", "handles", "ignores"] {
        probe.until_running(id).await;
    }
    // A trap holds from when the shell has come to it.
    for id in ["handles", "ignores"] {
        let up = || cluster.mezzo(&["logs", id]).is_ok_and(|output| output.stdout == b"up\n");
        let end = Instant::now() + Duration::from_secs(30);
        while !up() {
            assert!(Instant::now() < end, "the trap of {id} is never set");
        }
    }
    let began = Instant::now();
    for id in ["default", "handles", "ignores"] {
        let id = mezzo_sdk::v1::TaskId { value: id.to_owned() };
        probe.calls.kill(id, None, None).await.expect("accepted");
    }
    for id in ["default", "handles", "ignores"] {
        let status = probe.ending(id).await;
        assert_eq!(status.state(), TaskState::TaskKilled, "{status:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "nobody waits for the grace period");
    let end_of = |id: &str| probe.end_of(id).and_then(|s| s.termination).expect("told");
    assert_eq!(end_of("default").signal, Some(15));
    assert_eq!(end_of("handles").exit_code, Some(7));
    assert_eq!(end_of("ignores").signal, Some(9));
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_ended() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.limit("late", Duration::from_millis(200));
    probe.launch(task("late").shell("sleep 1000"));
    let status = probe.ending("late").await;
    assert_eq!(status.state(), TaskState::TaskFailed, "{status:?}");
    assert_eq!(status.reason(), Reason::MaxCompletionTimeReached);
}

#[tokio::test]
async fn a_memory_hog_is_killed_and_reported_with_the_numbers() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    // tail keeps all that it may have to print.
    const HOG: &str = "head -c 1000000000 /dev/zero | tail -c 900000000 >/dev/null";
    let status = probe.run(task("hog").mem(40.0).shell(HOG)).await;
    assert_eq!(status.state(), TaskState::TaskFailed, "{status:?}");
    assert_eq!(status.reason(), Reason::ContainerLimitationMemory);
    assert!(status.message().contains("Memory limit exceeded"), "{}", status.message());
    assert!(status.message().contains("40"), "names the limit: {}", status.message());
    assert!(status.limitation.is_some());
    assert_eq!(status.termination.and_then(|t| t.oom), Some(true));
}

/// The quota of the cgroup is the task's share, hard: so much CPU time takes its time, however idle or
/// busy the machine.
#[tokio::test]
async fn a_cpu_burner_is_held_to_its_share() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    // Burns half a second of CPU time (50 ticks, proc(5)), whatever its start took, and says when it began and ended.
    const BURN: &str = "used() { read a b c d e f g h i j k l m user system rest < /proc/self/stat; \
        ticks=$((user + system)); }; read began _ < /proc/uptime; used; before=$ticks; \
        while used; [ $((ticks - before)) -lt 50 ]; do :; done; \
        read ended _ < /proc/uptime; echo $began $ended";
    let status = probe.run(task("burn").cpus(0.2).shell(BURN)).await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
    let output = cluster.mezzo(&["logs", "burn"]).expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let times = Vec::from_iter(text.split_whitespace().map(|word| word.parse::<f64>()));
    let [Ok(began), Ok(ended)] = times[..] else { panic!("{text}") };
    // 2.5 s at 0.2 cpus, less a period of burst at either end.
    assert!(ended - began > 2.2, "{:.2} s of wall time for 0.5 s of CPU time", ended - began);
}
