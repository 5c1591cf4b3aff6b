//! Ports and devices: a task has what it was given, whoever stops, dies or comes back meanwhile.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Daemon, Options};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::framework::{Probe, task};

/// Python: goes two cgroups deeper, as far as the v2 tree is concerned, and says what `bind` says.
const DEEP: &str = "
import errno, os, socket, sys, time
own = [line[3:].strip() for line in open('/proc/self/cgroup') if line.startswith('0::')][0]
tree = '/sys/fs/cgroup/unified'
deep = (tree if os.path.isdir(tree) else '/sys/fs/cgroup') + own + '/deep/deeper'
os.makedirs(deep)
with open(deep + '/cgroup.procs', 'w') as procs: procs.write('0')
def bind(family, kind, port):
    with socket.socket(family, kind) as s:
        try: s.bind(('', port)); return 'ok'
        except OSError as e: return errno.errorcode[e.errno]
FAMILIES, KINDS = (socket.AF_INET, socket.AF_INET6), (socket.SOCK_STREAM, socket.SOCK_DGRAM)
def binds(port): return {bind(f, k, port) for f in FAMILIES for k in KINDS}
";

fn python(program: &str) -> [String; 3] {
    ["python3".to_owned(), "-c".to_owned(), format!("{DEEP}{program}")]
}

fn enforcing(more: &[&str]) -> Options {
    let flags = ["--ports-policy=enforce"].iter().chain(more);
    Options { agent_flags: flags.map(|flag| (*flag).to_owned()).collect(), ..Options::default() }
}

#[tokio::test]
async fn of_two_tasks_only_the_owner_binds_a_port() {
    let mut cluster = Cluster::start(enforcing(&[])).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let file = cluster.directory().join("port");
    let owner = format!(
        "port = int(os.environ['PORT0'])\n\
         assert binds(port) == {{'ok'}}, binds(port)\n\
         assert binds(0) == {{'EPERM'}}, binds(0)\n\
         s = socket.socket(); s.bind(('', port)); s.listen()\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         open('{0}.new', 'w').write(str(port)); os.rename('{0}.new', '{0}')\n\
         time.sleep(1000)\n",
        file.display()
    );
    let thief = format!(
        "while not os.path.exists('{0}'): time.sleep(0.01)\n\
         port = int(open('{0}').read())\n\
         mine = int(os.environ['PORT0'])\n\
         assert mine != port and binds(mine) == {{'ok'}}, binds(mine)\n\
         assert binds(port) == {{'EPERM'}}, binds(port)\n",
        file.display()
    );
    probe.launch(task("owner").ports(1).argv(python(&owner)));
    let status = probe.run(task("thief").ports(1).argv(python(&thief))).await;
    let said = cluster.mezzo(&["logs", "--stderr", "thief"]).expect("runs");
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?} {said:?}");
    let told = |times: usize| {
        move |cluster: &Cluster| {
            let told = cluster.logged(Daemon::Agent, "a task wants a port that it was not given");
            (told >= times).then_some(())
        }
    };
    // TCP and UDP, IPv4 and IPv6.
    cluster.wait("four refusals to be told", told(4)).expect("are told");
    assert_eq!(probe.end_of("owner"), None);

    // The default refuses nothing, for clients of Mesos bind what they like; it counts and tells.
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let any = task("any").argv(python("assert binds(0) == {'ok'}, binds(0)\n"));
    assert_eq!(probe.run(any).await.state(), TaskState::TaskFinished);
    cluster.wait("what was seen to be told", told(1)).expect("is told");
}

/// Somebody who tries all the time does not get through while the agent is stopped, dead, and taking over.
#[tokio::test]
async fn a_guarded_port_stays_guarded_without_an_agent() {
    let mut cluster = Cluster::start(enforcing(&[])).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let attempts = cluster.directory().join("attempts");
    let prober = format!(
        "n = 0\n\
         while True:\n\
         \x20   said = bind(socket.AF_INET, socket.SOCK_STREAM, 31999)\n\
         \x20   assert said == 'EPERM', said\n\
         \x20   n += 1\n\
         \x20   if n % 100 == 0: open('{0}.new', 'w').write(str(n)); os.rename('{0}.new', '{0}')\n",
        attempts.display()
    );
    probe.launch(task("prober").cpus(0.5).argv(python(&prober)));
    probe.until_running("prober").await;
    let count = move |_: &Cluster| -> u64 {
        std::fs::read_to_string(&attempts).ok().and_then(|n| n.parse().ok()).unwrap_or_default()
    };
    let go_on = |cluster: &mut Cluster| {
        let before = count(cluster);
        let more = |cluster: &Cluster| (count(cluster) > before + 1000).then_some(());
        cluster.wait("a thousand attempts", more).expect("all of them refused");
    };
    go_on(&mut cluster);
    cluster.signal_agent(Signal::SIGSTOP).expect("stops");
    go_on(&mut cluster);
    cluster.signal_agent(Signal::SIGCONT).expect("goes on");
    for _ in 0..3 {
        cluster.kill_agent().expect("killed");
        go_on(&mut cluster);
        cluster.start_agent().expect("starts again");
        go_on(&mut cluster);
    }
    // An agent that was told otherwise lets it through: what ends the prober.
    cluster.end_agent(Signal::SIGTERM).expect("ends");
    go_on(&mut cluster);
    cluster.options().agent_flags = vec!["--ports-policy=observe".to_owned()];
    cluster.start_agent().expect("starts again");
    let status = probe.ending("prober").await;
    assert_eq!(status.state(), TaskState::TaskFailed, "{status:?}");
    let said = cluster.mezzo(&["logs", "--stderr", "prober"]).expect("runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("AssertionError: ok"), "{said}");
    cluster
        .wait("the kernel to forget it", |cluster| (cluster.accounted() == 0).then_some(()))
        .expect("nothing stays");
}

/// A node of a device that this machine need not have, so that opening it does no harm.
fn node(path: &Path, minor: u64) {
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path, SFlag::S_IFCHR, mode, makedev(10, minor)).expect("a node");
    assert!(path.metadata().expect("is there").file_type().is_char_device());
    let opened = std::fs::File::open(path).err().and_then(|error| error.raw_os_error());
    assert_ne!(opened, Some(Errno::EPERM as i32), "nobody keeps this process from it");
}

#[tokio::test]
async fn a_task_opens_harmless_and_allowed_devices_only() {
    let mut cluster = Cluster::prepare(Options::default()).expect("a cluster");
    let [allowed, other] = ["allowed", "other"].map(|name| cluster.directory().join(name));
    node(&allowed, 1);
    node(&other, 2);
    cluster.options().agent_flags = vec![format!("--allowed-devices={}:r", allowed.display())];
    cluster.start_master().expect("a master");
    cluster.start_agent().expect("an agent");
    let mut probe = Probe::connect(&cluster).await;
    let program = format!(
        "def attempt(path, mode):\n\
         \x20   try: os.close(os.open(path, mode)); return 'ok'\n\
         \x20   except OSError as e: return errno.errorcode[e.errno]\n\
         def mknod(major, minor):\n\
         \x20   try: os.mknod('node', 0o20666, os.makedev(major, minor)); os.unlink('node'); return 'ok'\n\
         \x20   except OSError as e: return errno.errorcode[e.errno]\n\
         for name in 'null', 'zero', 'full', 'random', 'urandom', 'ptmx':\n\
         \x20   said = attempt('/dev/' + name, os.O_RDWR)\n\
         \x20   assert said == 'ok', (name, said)\n\
         assert attempt('{0}', os.O_RDONLY) != 'EPERM'\n\
         assert attempt('{0}', os.O_RDWR) == 'EPERM'\n\
         assert attempt('{1}', os.O_RDONLY) == 'EPERM'\n\
         assert mknod(1, 3) == 'ok' and mknod(10, 1) == 'EPERM'\n",
        allowed.display(),
        other.display()
    );
    let status = probe.run(task("opens").argv(python(&program))).await;
    let said = cluster.mezzo(&["logs", "--stderr", "opens"]).expect("runs");
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?} {said:?}");
    let told = |cluster: &Cluster| {
        (cluster.logged(Daemon::Agent, "a task was refused a device") >= 2).then_some(())
    };
    cluster.wait("refusals to be told", told).expect("are told");
}

/// Where eBPF cannot work one line says why, and tasks run all the same; but a promise that cannot be kept is not made.
#[tokio::test]
async fn a_host_without_ebpf_runs_tasks_and_promises_nothing() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("stays").shell("sleep 1000"));
    probe.until_running("stays").await;
    assert_eq!(cluster.accounted(), 1);

    // There is something in it, so that nothing is mounted there.
    let bpffs = format!("--bpffs={}", cluster.directory().display());
    let restart = |cluster: &mut Cluster, flags: &[&str]| {
        cluster.kill_agent().expect("killed");
        cluster.options().agent_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        cluster.start_agent()
    };
    restart(&mut cluster, &[&bpffs]).expect("starts again");
    let status = probe.run_on_new_offers("runs", "true").await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
    let told = cluster.logged(Daemon::Agent, "is not in a bpffs; mount one");
    assert_eq!(told, 1, "{}", cluster.logs());
    let metrics = cluster.get(cluster.agent_address(), "/metrics").expect("is there");
    assert!(metrics.contains(r#"mezzo_ebpf_feature{feature="ports"} 0"#), "{metrics}");

    for impossible in [&bpffs, "--ebpf=off"] {
        // It may end before it is asked whether it is ready.
        if restart(&mut cluster, &[impossible, "--ports-policy=enforce"]).is_ok() {
            assert!(!cluster.agent_ended().expect("ends").success());
        }
        let told = cluster.logs();
        assert!(told.contains("--ports-policy=enforce cannot be kept on this machine"), "{told}");
        cluster.options().agent_flags = Vec::new();
        cluster.start_agent().expect("starts again");
    }

    // Without eBPF, what runs is held to what it was held to; what an earlier agent attached goes when nothing runs.
    cluster.wait("accounts", |cluster| (cluster.accounted() == 1).then_some(())).expect("opened");
    restart(&mut cluster, &["--ebpf=off"]).expect("starts again");
    assert_eq!(cluster.accounted(), 1);
    let killed = cluster.mezzo(&["kill", "stays"]).expect("runs");
    assert!(killed.status.success(), "{killed:?}");
    probe.ending("stays").await;
    let gone = |cluster: &Cluster| cluster.container_cgroups().is_empty().then_some(());
    cluster.wait("its control groups to go", gone).expect("go");
    restart(&mut cluster, &["--ebpf=off"]).expect("starts again");
    assert_eq!(cluster.accounted(), 0);
}
