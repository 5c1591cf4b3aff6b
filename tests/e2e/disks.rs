//! Disks that are full, fail, vanish or lie: clear words, nothing lost, recovery.

use std::path::Path;

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Disk, Options};

use crate::framework::{Probe, task};

/// Size of the small disks, in MiB: an eighth of it is left alone by new launches.
pub(crate) const SMALL: u64 = 96;

/// A task that runs until `go` exists below the cluster's directory.
pub(crate) fn until_told(cluster: &Cluster) -> String {
    let go = cluster.directory().join("go");
    format!("while [ ! -e {} ]; do sleep 0.05; done; exit 5", go.display())
}

pub(crate) fn tell(cluster: &Cluster) {
    std::fs::write(cluster.directory().join("go"), "").expect("writes");
}

/// What a task that was told ends with.
pub(crate) async fn ends_well(probe: &mut Probe, id: &str) {
    let status = probe.ending(id).await;
    assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5), "{status:?}");
}

/// On a full disk new launches are refused with a sentence, what runs ends properly, and the same
/// processes go on when there is space.
async fn full(cluster: Cluster, disk: &Disk, address: String) {
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    disk.fill().expect("fills");
    let refused = probe.run(task("refused").shell("true")).await;
    assert_eq!(refused.state(), TaskState::TaskDropped, "{refused:?}");
    assert!(refused.message().contains("nothing new is taken"), "{refused:?}");
    let health = cluster.get(&address, "/health").expect("is up");
    assert!(health.contains("free some space there"), "{health}");
    tell(&cluster);
    ends_well(&mut probe, "runs").await;
    disk.free().expect("frees");
    let after = probe.run(task("after").shell("true")).await;
    assert_eq!(after.state(), TaskState::TaskFinished, "{after:?}");
    assert_eq!(cluster.get(&address, "/health").expect("is up"), "");
}

#[tokio::test]
async fn a_full_disk_of_the_agent_refuses_launches_and_heals() {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let disk = Disk::mount(&cluster.agent_work_dir(), SMALL).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    let address = cluster.agent_address().to_owned();
    full(cluster, &disk, address).await;
}

#[tokio::test]
async fn a_full_disk_of_the_master_refuses_launches_and_frameworks_and_heals() {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let disk = Disk::mount(&cluster.master_work_dir(), SMALL).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    disk.fill().expect("fills");
    let output = cluster.mezzo(&["run", "--", "true"]).expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("nothing new is taken"), "{errors}");
    disk.free().expect("frees");
    let address = cluster.address().to_owned();
    full(cluster, &disk, address).await;
}

/// A disk that fails under the agent ends it with a sentence; its tasks live on and are found again.
async fn fails(break_it: fn(&Disk), mend: Option<fn(&Disk)>, sentence: &str) {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let disk = Disk::mount(&cluster.agent_work_dir(), SMALL).expect("a disk");
    cluster.start_master().expect("starts");
    cluster.start_agent().expect("starts");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    break_it(&disk);
    probe.launch(task("shows it").shell("true"));
    let status = tokio::select! {
        // The framework goes on offering the launch until the agent has noticed.
        () = probe.until("nothing", |_| false) => unreachable!(),
        status = tokio::task::spawn_blocking(move || (cluster.agent_ended(), cluster)) => status,
    };
    let (status, mut cluster) = status.expect("waits");
    assert_eq!(status.expect("the agent ends").code(), Some(1));
    assert!(cluster.logs().contains(sentence), "{}", cluster.logs());
    // Without its disk it does not begin anew, which would end the tasks.
    let error = cluster.start_agent().expect_err("must not start").to_string();
    assert!(error.contains("did not start"), "{error}");
    let Some(mend) = mend else {
        assert!(cluster.logs().contains("is mounted read-only; remount it"), "{}", cluster.logs());
        assert!(!cluster.container_cgroups().is_empty(), "the task lives on");
        return;
    };
    mend(&disk);
    cluster.start_agent().expect("starts again");
    tell(&cluster);
    ends_well(&mut probe, "runs").await;
}

#[tokio::test]
async fn a_disk_that_vanishes_ends_the_agent_and_not_its_tasks() {
    let gone = |disk: &Disk| disk.vanish().expect("unmounts");
    let back: fn(&Disk) = |disk| disk.remount().expect("mounts");
    fails(gone, Some(back), "was removed, replaced or unmounted under this process").await;
}

/// ext4 stays read-only after an error until nobody uses it: there is no way back for its tasks.
#[tokio::test]
async fn a_disk_that_turns_read_only_ends_the_agent_and_not_its_tasks() {
    let abort = |disk: &Disk| disk.abort().expect("turns read-only");
    fails(abort, None, "became read-only").await;
}

/// Turns bytes of the newest file with this beginning of its name.
fn damage(store: &Path, prefix: &str) {
    let files = store.read_dir().expect("lists").map(|entry| entry.expect("lists").path());
    let named = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let path = files.filter(named).max().expect("there is one");
    let mut bytes = std::fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..] {
        *byte ^= 0x55;
    }
    std::fs::write(&path, bytes).expect("writes");
}

#[tokio::test]
async fn a_damaged_agent_is_repaired_and_keeps_its_tasks() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    let work_dir = cluster.agent_work_dir().display().to_string();
    let repair = |cluster: &Cluster, yes: &[&str]| {
        let arguments = [&["agent", "repair", "--work-dir", &work_dir], yes].concat();
        let output = cluster.mezzo(&arguments).expect("runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = repair(&cluster, &[]);
    assert!(code == Some(1) && text.contains("is in use by process"), "{text}");
    cluster.kill_agent().expect("killed");
    damage(&cluster.agent_work_dir().join("meta"), "MANIFEST-");
    cluster.start_agent().expect_err("is damaged");
    assert!(cluster.logs().contains("`mezzo agent repair`"), "{}", cluster.logs());
    let (code, text) = repair(&cluster, &[]);
    assert!(code == Some(1) && text.contains("nothing was changed"), "{text}");
    let (code, text) = repair(&cluster, &["--yes"]);
    assert!(code == Some(0) && text.contains("1 tasks, 1 containers"), "{text}");
    cluster.start_agent().expect("starts again");
    tell(&cluster);
    ends_well(&mut probe, "runs").await;
}

#[tokio::test]
async fn a_damaged_master_is_repaired_and_keeps_its_cluster() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("runs").shell(until_told(&cluster)));
    probe.until_running("runs").await;
    cluster.kill_master().expect("killed");
    damage(&cluster.master_work_dir().join("store"), "MANIFEST-");
    cluster.start_master().expect_err("is damaged");
    assert!(cluster.logs().contains("`mezzo master repair`"), "{}", cluster.logs());
    let work_dir = cluster.master_work_dir().display().to_string();
    let output = cluster.mezzo(&["master", "repair", "--yes", "--work-dir", &work_dir]);
    let output = output.expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("the damaged store is kept as"), "{text}");
    cluster.start_master().expect("starts again");
    tell(&cluster);
    ends_well(&mut probe, "runs").await;
}

#[tokio::test]
async fn the_directory_of_another_daemon_is_refused() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let (master, agent) = (cluster.master_work_dir(), cluster.agent_work_dir());
    let start = |daemon: &str, work_dir: &Path| {
        let runtime = cluster.directory().join("other-run").display().to_string();
        let work_dir = work_dir.display().to_string();
        let mut line = vec![daemon, "--port=0", "--work-dir", &work_dir];
        if daemon == "agent" {
            line.extend(["--runtime-dir", &runtime, "--resources=cpus:1;mem:64;disk:64"]);
        }
        let output = cluster.mezzo(&line).expect("runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (daemon, work_dir, sentence) in [
        ("master", &agent, "is the work directory of an agent"),
        ("agent", &master, "is the work directory of a master"),
        ("master", &master, "is in use by process"),
        ("agent", &agent, "is in use by process"),
    ] {
        let text = start(daemon, work_dir);
        assert!(text.contains(sentence), "{text}");
    }
}
