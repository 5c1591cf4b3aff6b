//! GPUs: whole, each one task's own, and nobody else's. They are nodes of devices that no driver has: what may open one gets
//! ENXIO, who may not EPERM.

use std::path::Path;

use mezzo_sdk::v1::{self, TaskState};
use mezzo_sdk::{Event, Task};
use mezzo_tests::{Cluster, Options};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::framework::{Probe, task};

const ISOLATION: &str = "cpu,memory,pids,namespaces,devices,gpus";
/// NVIDIA's number, and minors that no driver of a machine with a few GPUs has.
const MAJOR: u64 = 195;
const MINORS: [u64; 2] = [240, 241];

/// Says in a file which of both nodes its task may open, and which GPUs it was told are its own; once more when it is asked to.
const LOOK: &str = r#"
look() {
    for gpu in gpu0 gpu1; do
        if (: < "$DIR/$gpu") 2>&1 | grep -q 'not permitted'; then echo -n "- "; else echo -n "$gpu "; fi
    done
    echo "$MEZZO_GPUS"
}
look > "$DIR/$MESOS_TASK_ID.now"; mv "$DIR/$MESOS_TASK_ID.now" "$DIR/$MESOS_TASK_ID.first"
until [ -e "$DIR/again" ]; do sleep 0.1; done
look > "$DIR/$MESOS_TASK_ID.now"; mv "$DIR/$MESOS_TASK_ID.now" "$DIR/$MESOS_TASK_ID.second"
sleep 1000
"#;

fn cluster(ebpf: &str) -> Cluster {
    let options = Options {
        resources: "cpus:4;mem:4096;disk:4096;ports:[]".to_owned(),
        ..Options::default()
    };
    let mut cluster = Cluster::prepare(options).expect("a cluster");
    let nodes = ["gpu0", "gpu1"].map(|name| cluster.directory().join(name));
    for (path, minor) in nodes.iter().zip(MINORS) {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(path, SFlag::S_IFCHR, mode, makedev(MAJOR, minor)).expect("a node");
    }
    let devices = format!("{},{}", nodes[0].display(), nodes[1].display());
    cluster.set_agent_flags(&["--isolation", ISOLATION, "--ebpf", ebpf, "--gpu-devices", &devices]);
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    cluster
}

/// What a task has written: the nodes that it may open, and what it was told.
fn seen(cluster: &mut Cluster, task: &str, time: &str) -> (Vec<String>, Vec<String>) {
    let path = cluster.directory().join(format!("{task}.{time}"));
    let text = cluster.wait("a task to look", |_| std::fs::read_to_string(&path).ok());
    let text = text.expect("it looks");
    let (nodes, told) = text.trim_end_matches('\n').rsplit_once(' ').expect("two parts");
    let nodes = nodes.split(' ').filter(|name| *name != "-").map(str::to_owned);
    let name = |path: &str| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    let told = told.split(',').filter(|path| !path.is_empty()).map(name);
    (nodes.collect(), told.collect())
}

/// A whole number of GPUs is taken, and no other.
async fn refuse_half_a_gpu(probe: &mut Probe) {
    let offer = loop {
        if let Event::Offers(mut offers) = probe.events.next().await.expect("lives") {
            break offers.swap_remove(0);
        }
    };
    let scalar = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: offer.allocation_info.clone(),
        ..Default::default()
    };
    let resources = vec![scalar("cpus", 0.1), scalar("mem", 32.0), scalar("gpus", 0.5)];
    let half = task("half").shell("true").on(offer.agent_id.clone(), resources);
    probe.calls.launch(&offer, vec![half]).await.expect("is sent");
    let status = probe.ending("half").await;
    assert_eq!(status.state(), TaskState::TaskError);
    assert!(status.message().contains("GPUs are given out whole"), "{}", status.message());
}

async fn check(ebpf: &str) {
    let mut cluster = cluster(ebpf);
    let mut probe = Probe::connect_for_gpus(&cluster).await;
    refuse_half_a_gpu(&mut probe).await;

    let directory = cluster.directory().display().to_string();
    let looks = |id: &str| -> Task { task(id).env("DIR", &directory).shell(LOOK) };
    for id in ["one", "two"] {
        probe.launch(looks(id).gpus(1));
    }
    probe.launch(looks("none"));
    for id in ["one", "two", "none"] {
        probe.until_running(id).await;
    }
    let (one, two) = (seen(&mut cluster, "one", "first"), seen(&mut cluster, "two", "first"));
    assert!(one.1.len() == 1 && two.1.len() == 1 && one.1 != two.1, "{one:?} {two:?}");
    let none = seen(&mut cluster, "none", "first");
    // Where neither eBPF nor v1's controller is there, nobody keeps a task from a node.
    let guarded = ebpf == "auto" || Path::new("/sys/fs/cgroup/devices").is_dir();
    if guarded {
        assert_eq!((&one.0, &two.0), (&one.1, &two.1));
        assert_eq!(none, (vec![], vec![]));
    } else {
        assert_eq!((one.0.len(), two.0.len(), none.0.len()), (2, 2, 2));
    }
    let metrics = cluster.get(cluster.agent_address(), "/metrics/snapshot").expect("is there");
    for (name, is) in [("guarded", guarded), ("guarded_by_ebpf", ebpf == "auto")] {
        let line = format!("\"slave/devices_{name}\":{}", u8::from(is));
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }

    // Who has which survives the agent; and both are taken.
    cluster.kill_agent().expect("killed");
    cluster.start_agent().expect("starts again");
    std::fs::write(cluster.directory().join("again"), "").expect("writes");
    assert_eq!(seen(&mut cluster, "two", "second"), two);
    assert_eq!(seen(&mut cluster, "none", "second"), none);
    probe.launch(looks("three").gpus(1));
    probe.calls.kill(v1::TaskId { value: "one".to_owned() }, None, None).await.expect("accepted");
    assert_eq!(probe.ending("one").await.state(), TaskState::TaskKilled);
    probe.until_running("three").await;
    assert_eq!(seen(&mut cluster, "three", "first"), one);
    assert!(probe.end_of("two").is_none());
}

#[tokio::test]
async fn a_gpu_is_one_tasks_alone() {
    check("auto").await;
}

#[tokio::test]
async fn a_gpu_is_one_tasks_alone_without_ebpf() {
    check("off").await;
}

/// The master hears of a task's end before its container is gone: the next task waits for the GPU, and fails for nothing.
#[test]
fn gpus_go_from_task_to_task() {
    let mut cluster = cluster("auto");
    let run =
        ["run", "--gpus", "2", "--instances", "10", "--", "sh", "-c", "test -n \"$MEZZO_GPUS\""];
    let output = cluster.mezzo(&run).expect("runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    cluster.end_agent(nix::sys::signal::Signal::SIGTERM).expect("ends");
}
