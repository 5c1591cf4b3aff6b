//! What befalls a directory while its daemon is away, and disks that only the sandboxes have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mezzo_sdk::v1::TaskState;
use mezzo_sdk::v1::task_status::Reason;
use mezzo_store::{Batch, Layout, Store};
use mezzo_tests::{Cluster, Disk, Options};

use crate::disks::{SMALL, ends_well, tell, until_told};
use crate::framework::{Probe, task};
use crate::sandbox::sandboxes;

/// One thing after another befalls the agent's directory, and its master's. Each time it says what is wrong, or mends it
/// without a word; and its task lives through all of it.
#[tokio::test]
async fn a_task_outlives_what_befalls_its_agents_directory() {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let _disk = Disk::mount(&cluster.agent_work_dir(), SMALL).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    meets_another_cluster(&mut cluster);
    has_a_torn_log(&mut cluster);
    may_not_write(&mut cluster);
    has_a_damaged_log(&mut cluster, &mut probe).await;
    tell(&cluster);
    ends_well(&mut probe, "runs").await;
}

/// A master that began anew leads another cluster: the agent is no member of it, and keeps its task for its own.
fn meets_another_cluster(cluster: &mut Cluster) {
    let (own, away) = (cluster.master_work_dir(), cluster.directory().join("away"));
    cluster.kill_master().expect("killed");
    fs::rename(&own, &away).expect("moves");
    cluster.start_master().expect("another cluster's");
    let refused = |cluster: &Cluster| {
        let text = cluster.logs();
        let told = text.contains("belongs to the cluster '")
            && text.contains("give the agent its own master with --master");
        told.then_some(())
    };
    cluster.wait("the agent to be refused", refused).expect("is refused");
    assert_eq!(cluster.master_metric("master/slaves_active").expect("answers"), 0.0);
    cluster.kill_master().expect("killed");
    fs::remove_dir_all(&own).expect("removes");
    fs::rename(&away, &own).expect("moves back");
    cluster.start_master().expect("its own");
    let back = |cluster: &Cluster| {
        (cluster.master_metric("master/slaves_active").ok()? == 1.0).then_some(())
    };
    cluster.wait("the agent to be back", back).expect("is back");
}

/// The newest write-ahead log of the agent's records.
fn log(cluster: &Cluster) -> PathBuf {
    let store = cluster.agent_work_dir().join("meta");
    let files = store.read_dir().expect("lists").map(|entry| entry.expect("lists").path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().expect("there is one")
}

/// The machine went down while a record was written.
fn has_a_torn_log(cluster: &mut Cluster) {
    cluster.kill_agent().expect("killed");
    let path = log(cluster);
    let mut bytes = fs::read(&path).expect("reads");
    // The head of one, and less of it than it says.
    bytes.extend_from_within(..bytes.len().min(20));
    fs::write(&path, bytes).expect("writes");
    cluster.start_agent().expect("starts");
    assert!(!cluster.logs().contains("damaged"), "{}", cluster.logs());
}

/// Modes do not bind root; write protection does.
fn may_not_write(cluster: &mut Cluster) {
    cluster.kill_agent().expect("killed");
    let store = cluster.agent_work_dir().join("meta");
    let protect = |flag: &str| {
        let status = Command::new("chattr").arg(flag).arg(&store).status();
        assert!(status.expect("chattr is installed (e2fsprogs)").success());
    };
    protect("+i");
    cluster.start_agent_alone().expect_err("may not write");
    assert!(cluster.logs().contains("may not be written by this user"), "{}", cluster.logs());
    protect("-i");
    cluster.start_agent().expect("starts");
}

/// In the midst of the log, before records that were on the disk, something went bad: no torn tail.
async fn has_a_damaged_log(cluster: &mut Cluster, probe: &mut Probe) {
    let syncs = |cluster: &Cluster| {
        let snapshot = cluster.get(cluster.agent_address(), "/metrics/snapshot").ok()?;
        let (_, rest) = snapshot.split_once("\"slave/store_syncs\":")?;
        rest.split([',', '}']).next()?.trim().parse::<f64>().ok()
    };
    for id in ["first", "second", "third"] {
        let before = syncs(cluster).expect("a metric");
        let status = probe.run_on_new_offers(id, "true").await;
        assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
        let synced = |cluster: &Cluster| (syncs(cluster)? > before).then_some(());
        cluster.wait("the records to be on the disk", synced).expect("syncs");
    }
    cluster.kill_agent().expect("killed");
    let path = log(cluster);
    let mut bytes = fs::read(&path).expect("reads");
    let early = bytes.len() / 4;
    bytes[early] ^= 0x55;
    fs::write(&path, bytes).expect("writes");
    cluster.start_agent_alone().expect_err("is damaged");
    let logs = cluster.logs();
    assert!(logs.contains("the write-ahead log of store"), "{logs}");
    assert!(logs.contains("`mezzo agent repair`"), "{logs}");
    let work_dir = cluster.agent_work_dir().display().to_string();
    for (yes, code, said) in [(None, 1, "nothing was changed"), (Some("--yes"), 0, "is kept as")] {
        let arguments = ["agent", "repair", "--work-dir", &work_dir].into_iter().chain(yes);
        let output = cluster.mezzo(&Vec::from_iter(arguments)).expect("runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(code) && text.contains(said), "{text}");
    }
    cluster.start_agent().expect("starts");
}

/// Both refuse records of a newer format, also for repair, and leave them to the newer program.
#[test]
fn records_of_a_newer_format_are_refused_and_kept() {
    let cluster = Cluster::prepare(Options::default()).expect("a cluster");
    for (daemon, store) in [("master", "store"), ("agent", "meta")] {
        let work_dir = cluster.directory().join(daemon);
        let newer = Layout::new(daemon, 99, ["later"]);
        let open = || Store::open(work_dir.join(store), &newer).expect("opens");
        open().write_and_sync(Batch::new().put("later", "key", "value")).expect("writes");
        let (work, run) = (text(&work_dir), text(&cluster.directory().join("run")));
        let mut start = vec![daemon, "--port=0", "--work-dir", &work];
        if daemon == "agent" {
            let more = ["--master=127.0.0.1:5050", "--resources=cpus:1;mem:64;disk:64"];
            start.extend(["--runtime-dir", &run].into_iter().chain(more));
        }
        for line in [&start[..], &[daemon, "repair", "--yes", "--work-dir", &work]] {
            let output = cluster.mezzo(line).expect("runs");
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{errors}");
            assert!(errors.contains("has format 99, written by a newer Mezzo"), "{errors}");
        }
        let found = open().get("later", "key").expect("reads");
        assert_eq!(found.as_deref(), Some(&b"value"[..]), "{daemon}");
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Sandboxes may have a disk of their own. When a task fills it, launches that need it fail with a sentence; everybody
/// else goes on, and the disk is freed of what ended tasks left.
#[tokio::test]
async fn a_full_disk_of_the_sandboxes_fails_launches_until_it_is_cleaned() {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let _disk = Disk::mount(&cluster.agent_work_dir().join("slaves"), 32).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("a disk of its own is no earlier agent's");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    // ext4 keeps some blocks for directories: what runs out for a launch are the inodes.
    let fill = "cat /dev/zero > big; i=0; while true > $i; do i=$((i+1)); done; exit 9";
    let fills = probe.run(task("fills").shell(fill)).await;
    assert_eq!(fills.termination.and_then(|t| t.exit_code), Some(9), "{fills:?}");
    let refused = probe.run(task("refused").shell("true")).await;
    assert_eq!(refused.state(), TaskState::TaskFailed, "{refused:?}");
    assert_eq!(refused.reason(), Reason::ContainerLaunchFailed, "{refused:?}");
    let message = refused.message();
    assert!(message.contains("could not create directory"), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(cluster.get(cluster.agent_address(), "/health").expect("is up"), "");

    // The disk is looked at once a minute; here more often.
    cluster.kill_agent().expect("killed");
    cluster.set_agent_flags(&["--disk-watch-interval", "100ms"]);
    cluster.start_agent().expect("starts");
    let clean = |cluster: &Cluster| sandboxes(cluster, "fills").is_empty().then_some(());
    cluster.wait("the full sandbox to go", clean).expect("goes");
    let removed = |cluster: &Cluster| {
        let removing = cluster.agent_work_dir().join("slaves/.removing").read_dir().ok()?;
        (removing.count() == 0).then_some(())
    };
    cluster.wait("what was in it to go", removed).expect("goes");
    let after = probe.run_on_new_offers("after", "true").await;
    assert_eq!(after.state(), TaskState::TaskFinished, "{after:?}");
    tell(&cluster);
    ends_well(&mut probe, "runs").await;
}

/// A used-up quota is waited for, like a full disk: the agent goes on answering, and when there is room it starts again by
/// itself, in the same process. Whatever was ordered meanwhile ends once.
#[tokio::test]
async fn a_used_up_quota_of_the_agent_is_waited_for() {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let disk = Disk::with_quota(&cluster.agent_work_dir(), 256, 128).expect("a disk");
    cluster.start_master().expect("starts");
    // The second one is told a port, on which it serves again when it starts again.
    cluster.start_agent().expect("starts");
    cluster.kill_agent().expect("killed");
    cluster.start_agent().expect("starts");
    let pid = cluster.agent_pid();
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    disk.fill().expect("fills");
    // More than the log of the store has allocated already.
    let many = (0..80).map(|number| format!("large-{number}"));
    for id in many.clone() {
        probe.launch(
            task(&id).cpus(0.1).mem(16.0).shell("true").label("ballast", "x".repeat(100_000)),
        );
    }
    let looking = tokio::task::spawn_blocking(move || {
        let used_up = |cluster: &Cluster| {
            let health = cluster.get(cluster.agent_address(), "/health").ok()?;
            health.contains("is used up: nothing new is taken").then_some(())
        };
        (cluster.wait("the quota to be used up", used_up), cluster)
    });
    let looked = tokio::select! {
        // Launches go on, until their records use it up.
        () = probe.until("nothing", |_| false) => unreachable!(),
        looked = looking => looked,
    };
    let (used_up, mut cluster) = looked.expect("looks");
    used_up.expect("is used up");
    tell(&cluster);
    disk.free().expect("frees");
    let back = |cluster: &Cluster| {
        let health = cluster.get(cluster.agent_address(), "/health").ok()?;
        let registered = cluster.get(cluster.agent_address(), "/metrics/snapshot").ok()?;
        (health.is_empty() && registered.contains("\"slave/registered\":1")).then_some(())
    };
    cluster.wait("the agent to be back", back).expect("is back");
    assert_eq!(cluster.agent_pid(), pid);
    assert!(cluster.logs().contains("was used up and has room again"), "{}", cluster.logs());
    ends_well(&mut probe, "runs").await;
    for id in many {
        probe.ending(&id).await;
    }
    let after = probe.run_on_new_offers("after", "true").await;
    assert_eq!(after.state(), TaskState::TaskFinished, "{after:?}");
}
