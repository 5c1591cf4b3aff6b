//! On fixture text and directories, and on the machine's own kernel (as root; they fail where they cannot run).

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;

const HYBRID_MOUNTS: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

fn facts(mounts: &str, own: &str, controllers: &'static str) -> Facts {
    Facts::parse(mounts, own, |path| {
        assert!(path.ends_with("cgroup.controllers"), "{path:?}");
        Ok(controllers.to_owned())
    })
    .expect("facts")
}

#[test]
fn facts_of_a_hybrid_machine() {
    let facts = facts(HYBRID_MOUNTS, "8:pids:/a\n2:cpu,cpuacct:/b\n0::/u\n", "hugetlb\n");
    assert_eq!(facts.layout(), Layout::Hybrid);
    let cpu = facts.hierarchy_of(Controller::Cpu).expect("cpu");
    assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    assert_eq!(facts.hierarchy_of(Controller::Cpuacct), Some(cpu));
    assert_eq!(cpu.own_path, "/b");
    let memory = facts.hierarchy_of(Controller::Memory).expect("memory");
    assert_eq!(memory.mount_point, Path::new("/sys/fs/cgroup/mem ory"));
    let unified = facts.unified().expect("v2");
    assert_eq!(unified.mount_point, Path::new("/sys/fs/cgroup/unified"));
    assert_eq!(unified.own_path, "/u");
    assert_eq!(facts.hierarchies.len(), 4);
}

#[test]
fn facts_of_a_unified_machine_and_of_none() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    let facts = facts(mounts, "0::/user.slice\n", "cpuset cpu io memory pids\n");
    assert_eq!(facts.layout(), Layout::Unified);
    let v2 = facts.hierarchy_of(Controller::Pids).expect("pids");
    assert_eq!((v2.version, v2.own_path.as_str()), (Version::V2, "/user.slice"));
    let none = Facts::parse("23 1 254:0 / / rw - ext4 /dev/root rw\n", "", |_| Ok(String::new()));
    assert!(matches!(none, Err(FactsError::NoneMounted)));
}

#[test]
fn numbers_are_those_of_mesos() {
    let of = |request, limit| CpuLimits::of_millis(request, limit);
    let quota = |quota_us| Some(CpuQuota { quota_us, period_us: 100_000 });
    assert_eq!(of(1_000, Some(1_000)), CpuLimits { shares: 1024, quota: quota(100_000) });
    assert_eq!(of(100, Some(100)), CpuLimits { shares: 102, quota: quota(10_000) });
    assert_eq!(of(1, Some(1)), CpuLimits { shares: 2, quota: quota(1_000) });
    assert_eq!(of(2_500, None), CpuLimits { shares: 2560, quota: None });
    assert_eq!(weight_of_shares(2), 1);
    assert_eq!(weight_of_shares(1024), 39);
    assert_eq!(weight_of_shares(262_144), 10_000);
    assert_eq!(weight_of_shares(0), 1);
}

#[test]
fn v2_limits_on_a_fixture() {
    let dir = tempfile::tempdir().expect("tempdir");
    let has = |file: &str| fs::read_to_string(dir.path().join(file)).expect("read");
    for file in ["cpu.weight", "memory.swap.max", "memory.max", "memory.low"] {
        fs::write(dir.path().join(file), "").expect("write");
    }
    fs::write(dir.path().join("cpu.max"), "max 100000\n").expect("write");
    limits::set_cpu(dir.path(), Version::V2, &CpuLimits::of_millis(1_000, Some(500)))
        .expect("cpu limits");
    assert_eq!((has("cpu.weight"), has("cpu.max")), ("39".into(), "50000 100000".into()));
    let bytes = 64 << 20;
    limits::set_memory(
        dir.path(),
        Version::V2,
        &MemoryLimits { soft_bytes: bytes, hard_bytes: Some(bytes) },
    )
    .expect("memory limits");
    assert_eq!((has("memory.max"), has("memory.swap.max")), (bytes.to_string(), "0".into()));
    limits::set_pids(dir.path(), Version::V2, None).expect("pids limit");
    assert_eq!(has("pids.max"), "max");
}

#[test]
fn a_victim_is_found_by_the_name_of_its_group() {
    let record = "6,1202,77,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
                  oom_memcg=/mezzo/c-1,task_memcg=/mezzo/c-1,task=a,pid=7 b,pid=4711,uid=0\n";
    let victim = kernel_log::parse(record, "c-1").expect("victim");
    assert_eq!(victim, OomVictim { pid: 4711, name: "a,pid=7 b".into() });
    assert_eq!(kernel_log::parse(record, "c"), None);
    assert_eq!(kernel_log::parse("6,1,2,-;oom-killer off", "c-1"), None);
}

/// A root of this test's own on the real kernel, removed at the end.
struct Root {
    cgroups: Cgroups,
    name: String,
    facts: Facts,
}

const ALL: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

impl Root {
    fn new() -> Self {
        Self::of(Facts::probe().expect("this machine has cgroups"))
    }

    /// As on a machine without the v2 tree; `None` where all controllers are in it.
    fn legacy() -> Option<Self> {
        let mut facts = Facts::probe().expect("this machine has cgroups");
        facts.hierarchies.retain(|hierarchy| hierarchy.version == Version::V1);
        (!facts.hierarchies.is_empty()).then(|| Self::of(facts))
    }

    fn of(facts: Facts) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mezzo-test-{}/cgroups-{number}", std::process::id());
        let cgroups = Cgroups::open(&facts, &name, &ALL).expect("root and cgroups are writable");
        Root { cgroups, name, facts }
    }

    fn limited(&self, id: &str) -> ContainerCgroup {
        let group = self.cgroups.create(id).expect("create");
        let bytes = 32 << 20;
        group.set_cpu(&CpuLimits::of_millis(1_000, Some(1_000))).expect("cpu");
        group
            .set_memory(&MemoryLimits { soft_bytes: bytes, hard_bytes: Some(bytes) })
            .expect("memory");
        group.set_pids(Some(64)).expect("pids");
        group
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.facts.hierarchies.iter().map(|h| h.mount_point.join(&self.name)).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.cgroups.remove_unused();
        for dir in self.directories() {
            if let Some(parent) = dir.parent() {
                let _ = fs::remove_dir(parent); // stays while other tests use it
            }
        }
    }
}

/// A shell script that runs inside the group from its first instruction on.
fn inside(group: &ContainerCgroup, script: &str) -> Child {
    let entries: String = group
        .directories()
        .map(|dir| format!("echo 0 > {}/cgroup.procs || exit 99\n", dir.display()))
        .collect();
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{entries}{script}"))
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("sh")
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    line
}

#[tokio::test]
async fn a_tree_of_processes_is_killed_and_nothing_is_left() {
    check_kill(Root::new()).await;
    // The way without cgroup.kill and cgroup.events.
    if let Some(root) = Root::legacy() {
        check_kill(root).await;
    }
}

async fn check_kill(root: Root) {
    let group = root.limited("tree");
    let mut child =
        inside(&group, "for i in 1 2 3; do (setsid sleep 1000 & sleep 1000) & done; echo up; wait");
    assert_eq!(first_line(&mut child), "up\n");
    assert!(group.populated().expect("populated"));
    assert_eq!(root.cgroups.list().expect("list"), ["tree"]);
    assert!(!group.wait_empty(Duration::from_millis(1)).await.expect("wait"));
    let again = root.cgroups.create("tree").expect_err("used once only");
    assert!(matches!(again, CgroupError::NotFresh { .. }), "{again}");

    group.destroy().await.expect("destroy");
    child.wait().expect("reap");
    assert_eq!(root.cgroups.list().expect("list"), [""; 0]);
    assert!(root.cgroups.find("tree").expect("find").is_none());
    group.destroy().await.expect("again is no error");
}

#[tokio::test]
async fn groups_made_inside_are_removed_too() {
    let root = Root::new();
    let group = root.limited("outer");
    for dir in group.directories() {
        fs::create_dir_all(dir.join("a/b")).expect("mkdir");
    }
    group.destroy().await.expect("destroy");
    assert!(root.cgroups.find("outer").expect("find").is_none());
}

#[tokio::test]
async fn a_quota_holds() {
    let root = Root::new();
    let group = root.cgroups.create("quota").expect("create");
    group.set_cpu(&CpuLimits::of_millis(200, Some(200))).expect("cpu");
    let mut child = inside(&group, "echo up; while :; do :; done");
    assert_eq!(first_line(&mut child), "up\n");
    // The kernel's own count of windows is the clock: it does not depend on who else uses the machine.
    let cpu = || group.usage().expect("usage").cpu.expect("is counted");
    let begin = cpu();
    let deadline = Instant::now() + Duration::from_secs(60);
    let end = loop {
        let now = cpu();
        // On a busy machine it may not get its share in the first windows.
        let throttled = now.throttled_periods > begin.throttled_periods;
        if (now.periods >= begin.periods + 15 && throttled) || Instant::now() > deadline {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    group.destroy().await.expect("destroy");
    child.wait().expect("reap");
    let windows = end.periods - begin.periods;
    assert!(windows >= 15, "the window count did not move: {begin:?} {end:?}");
    assert!(end.throttled_periods > begin.throttled_periods, "{end:?}");
    let share = (end.total_ns - begin.total_ns) as f64 / (windows as f64 * 100e6);
    assert!(share < 0.26, "20 % allowed, {share:.3} used");
}

#[tokio::test]
async fn a_memory_hog_is_reported_with_numbers() {
    let root = Root::new();
    let group = root.limited("hog");
    let mut watch = group.watch_oom().expect("watch");
    let quiet = tokio::time::timeout(Duration::from_millis(10), watch.next()).await;
    assert!(quiet.is_err(), "no kill yet: {quiet:?}");
    // The hog is a child: the container's first process survives the kill.
    let mut child =
        inside(&group, "tail -c 200M /dev/zero | tail -c 200M; echo survived; sleep 1000");
    let kills = tokio::time::timeout(Duration::from_secs(60), watch.next())
        .await
        .expect("in time")
        .expect("watch");
    assert!(kills >= 1);
    assert_eq!(first_line(&mut child), "survived\n");
    let report = group.oom_report().expect("report");
    assert_eq!(report.limit_bytes, 32 << 20);
    assert!(report.peak_bytes > 30 << 20 && report.peak_bytes <= 32 << 20, "{report:?}");
    assert!(report.kills >= 1);
    let text = report.to_string();
    assert!(text.starts_with("Memory limit exceeded: Requested: 32MB Maximum Used: "), "{text}");
    assert!(text.contains("MEMORY STATISTICS"), "{text}");
    if let Some(victim) = report.victim {
        assert_eq!(victim.name, "tail");
    }
    group.destroy().await.expect("destroy");
    child.wait().expect("reap");
    assert!(watch.next().await.is_err(), "a watch ends with its group");
}

#[tokio::test]
async fn a_limit_on_processes_holds() {
    let root = Root::new();
    let group = root.cgroups.create("pids").expect("create");
    group.set_pids(Some(5)).expect("pids");
    let mut child = inside(
        &group,
        "n=0; while [ $n -lt 50 ]; do sleep 1000 & n=$((n+1)); done 2>/dev/null; echo not reached",
    );
    // The shell ends when a fork is refused; its children stay.
    child.wait().expect("reap");
    let usage = group.usage().expect("usage");
    assert!(usage.pids.is_some_and(|pids| (1..=5).contains(&pids)), "{usage:?}");
    group.destroy().await.expect("destroy");
}

#[tokio::test]
async fn devices_are_guarded_where_v1_can() {
    use mezzo_agent_accounting::{Access, Device};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let root = Root::new();
    let v1 = Path::new("/sys/fs/cgroup/devices/devices.allow").exists();
    let group = root.cgroups.create("before").expect("create");
    assert_eq!(root.cgroups.guard_devices().expect("can be asked"), v1);
    assert_eq!(root.cgroups.guard_devices().expect("can be asked again"), v1);
    group.destroy().await.expect("destroy");
    let group = root.cgroups.create("guarded").expect("create");
    let mine = Device::character(195, 240, Access::READ_WRITE);
    if !v1 {
        let refused = group.set_devices(&[mine]).expect_err("nobody can");
        assert!(matches!(refused, CgroupError::MissingController { .. }), "{refused}");
        return group.destroy().await.expect("destroy");
    }
    group.set_devices(&[mine]).expect("rules");
    let directory = tempfile::tempdir().expect("tempdir");
    for (name, minor) in [("mine", 240), ("other", 241)] {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let device = makedev(195, minor);
        mknod(&directory.path().join(name), SFlag::S_IFCHR, mode, device).expect("a node");
    }
    // In a group of its own making too. What is allowed and has no driver is ENXIO.
    let script = format!(
        "cd {}; mkdir {deeper}; echo 0 > {deeper}/cgroup.procs; : < /dev/null; \
         for node in mine other; do (: < $node) 2>&1 | sed 's/.*: //'; done | tr '\\n' ','; echo",
        directory.path().display(),
        deeper = group
            .directories()
            .find(|dir| dir.join("devices.list").exists())
            .expect("it")
            .join("deeper")
            .display(),
    );
    let mut child = inside(&group, &script);
    let line = first_line(&mut child);
    assert_eq!(line, "No such device or address,Operation not permitted,\n");
    child.wait().expect("reap");
    group.destroy().await.expect("destroy");
    // An agent that has no use for it finds what the one before left in it.
    let name = format!("{}-next", root.name);
    let first = Cgroups::open(&root.facts, &name, &ALL).expect("root");
    assert!(first.guard_devices().expect("works"));
    let orphan = first.create("orphan").expect("create");
    drop(first);
    let facts = root.facts.clone();
    let next = Cgroups::open(&facts, &name, &ALL).expect("root");
    let next = Root { cgroups: next, name, facts };
    let found = next.cgroups.find("orphan").expect("find").expect("is there");
    assert!(found.directories().eq(orphan.directories()), "{found:?}");
    found.destroy().await.expect("destroy");
    assert!(!orphan.directories().any(Path::exists), "{orphan:?}");
}

#[tokio::test]
async fn a_root_has_one_user_and_harmless_names() {
    let root = Root::new();
    let second = Cgroups::open(&root.facts, &root.name, &ALL).expect_err("in use");
    assert!(matches!(second, CgroupError::RootInUse { .. }), "{second}");
    for bad in ["", "..", "a/b", ".hidden", "launcher", "a b", "a\nb"] {
        assert!(matches!(root.cgroups.create(bad), Err(CgroupError::BadName { .. })), "{bad:?}");
    }
    for bad in ["", "/", "../x", "a/../b"] {
        let refused = Cgroups::open(&root.facts, bad, &ALL);
        assert!(matches!(refused, Err(CgroupError::BadRoot { .. })), "{bad:?}");
    }
}
