//! What a container has of its own, and what it does not get.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use mezzo_agent_launcher::Namespaces;
use nix::libc::SIGTERM;

use crate::fixture::{Fixture, descriptors, line};

const KINDS: [&str; 4] = ["pid", "mnt", "ipc", "uts"];

fn own_namespaces() -> Vec<String> {
    let link = |kind| fs::read_link(format!("/proc/self/ns/{kind}")).expect("link");
    KINDS.map(|kind| link(kind).display().to_string()).to_vec()
}

#[test]
fn namespaces_are_the_containers_own_unless_shared() {
    let fixture = Fixture::new();
    let script = "for kind in pid mnt ipc uts; do readlink /proc/self/ns/$kind; done";
    for (id, namespaces) in [("own", Namespaces::ALL), ("shared", Namespaces::default())] {
        let mut setup = fixture.shell(id, script);
        setup.namespaces = namespaces;
        let (_, mut output) = setup.launch();
        for host in own_namespaces() {
            assert_eq!(line(&mut output) == host, id == "shared", "{host}");
        }
        fixture.expect_started(id);
        assert_eq!(fixture.expect_exited(id), 0);
    }
}

#[test]
fn process_one_is_init_and_the_host_name_is_set() {
    let fixture = Fixture::new();
    let before = nix::unistd::gethostname().expect("host name");
    let mut setup = fixture.shell("c", "cat /proc/1/comm; uname -n; echo $$; ls /proc");
    setup.hostname = Some("task-1.mezzo".to_owned());
    let (_, mut output) = setup.launch();
    assert_eq!(line(&mut output), "mezzo-init");
    assert_eq!(line(&mut output), "task-1.mezzo");
    assert_eq!(line(&mut output), "2");
    let mut names = String::new();
    output.read_to_string(&mut names).expect("output");
    let processes: Vec<i32> = names.lines().filter_map(|name| name.parse().ok()).collect();
    assert_eq!(processes, [1, 2, processes[2]], "process 1, the shell, and ls");
    assert_eq!(nix::unistd::gethostname().expect("host name"), before);
    fixture.expect_started("c");
    assert_eq!(fixture.expect_exited("c"), 0);
}

#[test]
fn mounts_stay_inside() {
    let fixture = Fixture::new();
    let inside = fixture.path("inside");
    fs::create_dir(&inside).expect("directory");
    let script = "mount -t tmpfs none inside && echo x >inside/file && cat $PWD/inside/file";
    let (_, mut output) = fixture.shell("c", script).launch();
    assert_eq!(line(&mut output), "x");
    assert_eq!(fs::read_dir(&inside).expect("directory").count(), 0);
    fixture.expect_started("c");
    assert_eq!(fixture.expect_exited("c"), 0);
}

#[test]
fn user_groups_directory_and_mask_are_as_asked() {
    let fixture = Fixture::new();
    let mut setup = fixture.shell(
        "c",
        "id -u; id -g; id -G; pwd; umask; echo $A; env | wc -l; \
         grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status | tr -d '0\\n\\t'; echo; \
         (: >/root/mezzo-must-not-exist) 2>/dev/null || echo denied",
    );
    fs::set_permissions(
        fixture.directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("mode");
    setup.ids = (65_534, 65_533, vec![65_533, 100]);
    setup.environment.push(("A".into(), "a b=c".into()));
    let (_, mut output) = setup.launch();
    assert_eq!(line(&mut output), "65534");
    assert_eq!(line(&mut output), "65533");
    assert_eq!(line(&mut output), "65533 100");
    assert_eq!(PathBuf::from(line(&mut output)), fixture.directory.path());
    assert_eq!(line(&mut output), "0022");
    assert_eq!(line(&mut output), "a b=c");
    // PATH, A, and the PWD that the shell adds.
    assert_eq!(line(&mut output), "3");
    assert_eq!(line(&mut output), "CapPrm:CapEff:CapAmb:");
    assert_eq!(line(&mut output), "denied");
    fixture.expect_started("c");
    assert_eq!(fixture.expect_exited("c"), 0);
}

#[test]
fn no_descriptor_signal_or_limit_leaks_in() {
    let fixture = Fixture::new();
    let script = "ls /proc/$$/fd; readlink /proc/$$/fd/0; \
                  grep -E '^Sig(Blk|Ign)' /proc/self/status | tr '\\n\\t' '  '; echo; \
                  ulimit -Sn; echo ready; read line; sleep 1000";
    let (pid, mut output) = fixture.shell("c", script).launch();
    fixture.expect_started("c");
    for number in ["0", "1", "2", "/dev/null"] {
        assert_eq!(line(&mut output), number);
    }
    assert_eq!(line(&mut output), "SigBlk: 0000000000000000 SigIgn: 0000000000000000");
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
    assert_eq!(line(&mut output), soft.to_string());
    assert_eq!(line(&mut output), "ready");
    assert_eq!(descriptors(pid), [3], "mezzo-init keeps the exit file only");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd"), PathBuf::from("/"));
    fixture.client().signal("c", SIGTERM).expect("signal");
    assert_eq!(fixture.expect_exited("c"), SIGTERM);
}

#[test]
fn large_environments_pass() {
    let fixture = Fixture::new();
    let mut setup = fixture.shell("c", "echo ${#V0} ${#V7}");
    for number in 0..8 {
        setup.environment.push((format!("V{number}"), "x".repeat(60_000)));
    }
    let (_, mut output) = setup.launch();
    assert_eq!(line(&mut output), "60000 60000");
    fixture.expect_started("c");
    assert_eq!(fixture.expect_exited("c"), 0);
}

/// Cgroups of this test's own, removed with it.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn new() -> Cgroups {
        let name = format!("mezzo-test-{}", std::process::id());
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let usable = |root: &&str| PathBuf::from(root).join("cgroup.procs").exists();
        let paths: Vec<PathBuf> =
            roots.into_iter().filter(usable).map(|root| PathBuf::from(root).join(&name)).collect();
        assert!(!paths.is_empty(), "no cgroup hierarchy is mounted below /sys/fs/cgroup");
        for path in &paths {
            fs::create_dir(path).expect("create a cgroup: root is needed");
        }
        Cgroups(paths)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in &self.0 {
            fs::remove_dir(path).expect("remove the cgroup: nothing may be left in it");
        }
    }
}

#[test]
fn all_cgroups_are_joined_by_init_and_command() {
    let cgroups = Cgroups::new();
    let fixture = Fixture::new();
    let mut setup = fixture.shell("c", "echo ready; read line; sleep 1000");
    let procs = |path: &PathBuf| {
        let file = File::options().write(true).open(path.join("cgroup.procs"));
        file.expect("cgroup.procs").into()
    };
    setup.cgroup_procs = cgroups.0.iter().map(procs).collect();
    let (pid, mut output) = setup.launch();
    assert_eq!(line(&mut output), "ready");
    for path in &cgroups.0 {
        let members = fs::read_to_string(path.join("cgroup.procs")).expect("members");
        let members: Vec<i32> = members.lines().map(|pid| pid.parse().expect("pid")).collect();
        assert!(members.contains(&pid), "{path:?}: {members:?}");
        assert!(members.len() >= 2, "{path:?}: {members:?}");
    }
    fixture.expect_started("c");
    fixture.client().kill("c").expect("kill");
    fixture.next_event();
}
