//! Processors, block devices, and that nothing is left behind.

use std::io::Write;
use std::process::{Command, Stdio};

use mezzo_agent_accounting::{Access, Device, Devices, Flow, Grant, PortPolicy, Usage};

use crate::rig::{Rig, eventually, ports, python, succeeded, time_scale};

/// Within 1 %. A host that takes processors away from a virtual machine at the wrong moment spoils a measurement (docs/ebpf.md), so
/// there are some; figures that are wrong in themselves never agree.
#[test]
fn processor_time_agrees_with_the_controller() {
    const ATTEMPTS: usize = 40;
    let rig = Rig::new("cpu");
    let accounting = rig.open();
    let mut ratios = Vec::new();
    for attempt in 0..ATTEMPTS {
        let task = rig.counted(&accounting, &format!("task{attempt}"));
        task.python("import time\nwhile time.process_time() < 0.3: pass\n");
        // The last slice of a process counts when it has left the processor, after its parent was told.
        let ratio = eventually("the last slice to count", || {
            let witness = |_| task.usage(&accounting).counters.on_cpu_ns;
            let before = witness(());
            std::thread::yield_now();
            let stat = std::fs::read_to_string(task.cgroup.join("cpu.stat")).expect("reads");
            let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
            let controller_ns = usage.expect("usage").parse::<f64>().expect("a number") * 1e3;
            (before > 0 && before == witness(())).then(|| before as f64 / controller_ns)
        });
        if (0.99..=1.01).contains(&ratio) {
            return;
        }
        ratios.push(ratio);
    }
    panic!("the witness never agrees with the controller: {ratios:?}");
}

#[test]
fn waits_for_a_processor_are_measured_one_by_one() {
    let rig = Rig::new("delay");
    let accounting = rig.open();
    let task = rig.counted(&accounting, "task");
    // Two that want the same processor: one of them always waits.
    let busy = "import os, time\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n\
        os.fork()\nb = time.process_time()\nwhile time.process_time() - b < 0.2: pass\n\
        try: os.wait()\nexcept ChildProcessError: pass\n";
    task.python(busy);
    let usage = eventually("every wait to be in a bucket", || {
        let usage = task.usage(&accounting);
        let switches = usage.counters.voluntary_switches + usage.counters.involuntary_switches;
        (usage.delays.buckets.iter().sum::<u64>() == switches).then_some(usage)
    });
    assert!(usage.counters.involuntary_switches > 0);
    // Each of the two waits while the other one has its 0.2 s, but for what is before the fork.
    assert!(usage.counters.run_delay_ns > 100_000_000, "{usage:?}");
    assert!(usage.delay_quantile_ns(1.0) >= usage.delay_quantile_ns(0.5));

    accounting.keep_delays(false).expect("switches");
    let other = rig.counted(&accounting, "other");
    other.run(&["sleep", "0.01"]);
    let usage = other.usage(&accounting);
    assert_eq!(usage.delays.buckets.iter().sum::<u64>(), 0);
    assert!(usage.counters.voluntary_switches > 0);
}

#[test]
fn direct_io_is_counted_to_the_byte() {
    const BYTES: u64 = 8 << 20;
    let rig = Rig::new("block");
    let accounting = rig.open();
    let (writer, reader) = (rig.counted(&accounting, "writer"), rig.counted(&accounting, "reader"));
    let path = rig.directory.path().join("file");
    let (input, output) = (format!("if={}", path.display()), format!("of={}", path.display()));
    let mut dd = writer.command("a/b", &["dd", "if=/dev/zero", &output, "bs=256k", "count=32"]);
    succeeded(dd.arg("oflag=direct").output().expect("runs"));
    let written = writer.usage(&accounting).counters;
    assert_eq!((written.written_bytes, written.write_operations), (BYTES, 32));

    let mut dd = reader.command("", &["dd", &input, "of=/dev/null", "bs=256k", "iflag=direct"]);
    succeeded(dd.output().expect("runs"));
    let read = reader.usage(&accounting).counters;
    assert_eq!((read.read_bytes, read.read_operations, read.written_bytes), (BYTES, 32, 0));
}

/// Ten thousand of them, a few hundred at a time; each sends one datagram, and what they did adds up to the whole.
#[test]
fn nothing_is_left_of_many_short_tasks() {
    const TASKS: u64 = 500;
    const DATAGRAM: u64 = 20 + 8 + 10;
    // A slow machine has one round: all of them take many minutes on a translated processor.
    let rounds: u64 = if time_scale() == 1 { 20 } else { 1 };
    let rig = Rig::new("many");
    let accounting = rig.open();
    let grant = ports(PortPolicy::Enforce, false, &[(31000, 31010)]);
    // Nobody is there to answer, which the sender need not know.
    let live = "import os, socket, sys\n\
        for group in sys.stdin.read().split():\n\
        \x20   pid = os.fork()\n\
        \x20   if pid == 0:\n\
        \x20       with open(group + '/cgroup.procs', 'w') as procs: procs.write('0')\n\
        \x20       socket.socket(type=socket.SOCK_DGRAM).sendto(b'x' * 10, ('127.0.0.1', 9))\n\
        \x20       os._exit(3)\n\
        \x20   assert os.waitpid(pid, 0)[1] == 3 << 8\n";
    let mut whole = Usage::default();
    for round in 0..rounds {
        let name = |number| format!("task{}", round * TASKS + number);
        let tasks = (0..TASKS).map(|number| rig.granted(&accounting, &name(number), &grant));
        let tasks = Vec::from_iter(tasks);
        let groups = Vec::from_iter(tasks.iter().map(|task| task.cgroup.display().to_string()));
        let mut lives = Command::new(python());
        lives.args(["-c", live]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut lives = lives.spawn().expect("starts");
        let mut input = lives.stdin.take().expect("an input");
        input.write_all(groups.join("\n").as_bytes()).expect("listens");
        drop(input);
        succeeded(lives.wait_with_output().expect("runs"));
        let mut sum = Usage::default();
        let snapshot = accounting.snapshot().expect("reads");
        assert_eq!(snapshot.len() as u64, TASKS);
        for (_, counters) in snapshot {
            sum += &Usage { counters, ..Usage::default() };
        }
        for task in &tasks {
            let usage = accounting.remove(task.id).expect("removes").expect("a task");
            assert_eq!(usage.counters.ipv4.udp_out, Flow { bytes: DATAGRAM, packets: 1 });
            assert_eq!(usage.counters.exits, 1);
            whole += &usage;
            std::fs::remove_dir(&task.cgroup).expect("an empty cgroup");
        }
        assert_eq!(sum.counters.exits, TASKS);
    }
    let all = rounds * TASKS;
    assert_eq!(whole.counters.exits, all);
    assert_eq!(whole.counters.ipv4.udp_out, Flow { bytes: all * DATAGRAM, packets: all });
    assert_eq!((whole.counters.execs, whole.counters.port_denials), (0, 0));
    assert_eq!(accounting.tasks().expect("reads"), []);
    assert!(accounting.delays().expect("reads").is_empty());
}

/// As fast as they can be made. The kernel gets the memory for cgroups and for entries from the same place, which it refills in its
/// own time.
#[test]
fn a_burst_of_tasks_is_taken_whole() {
    const THREADS: usize = 8;
    const TASKS: usize = 2000;
    let rig = Rig::new("burst");
    let accounting = rig.open();
    let grant = ports(PortPolicy::Enforce, false, &[(31000, 31010)]);
    let taken = std::thread::scope(|scope| {
        let take = |thread: usize| {
            let (rig, accounting, grant) = (&rig, &accounting, &grant);
            let task =
                move |number: usize| rig.granted(accounting, &format!("task{number}"), grant);
            let numbers = thread * TASKS / THREADS..(thread + 1) * TASKS / THREADS;
            scope.spawn(move || Vec::from_iter(numbers.map(task)))
        };
        let threads = Vec::from_iter((0..THREADS).map(take));
        let taken = threads.into_iter().map(|thread| thread.join().expect("takes all"));
        Vec::from_iter(taken.flatten())
    });
    assert_eq!(accounting.snapshot().expect("reads").len(), TASKS);
    for task in &taken {
        accounting.remove(task.id).expect("removes").expect("was there");
    }
    assert_eq!(accounting.tasks().expect("reads"), []);
}

#[test]
fn nothing_is_left_of_tasks_that_were_granted_everything() {
    const TASKS: u64 = 50;
    let rig = Rig::new("short");
    let accounting = rig.open();
    let mut grant = ports(PortPolicy::Enforce, false, &[(31000, 31010)]);
    let device = Device::character(10, 200, Access::READ_WRITE);
    grant.devices = Devices::Only(vec![device]);
    let (mut execs, mut exits) = (0, 0);
    for number in 0..TASKS {
        let task = rig.granted(&accounting, &format!("task{number}"), &grant);
        task.run(&["true"]);
        let usage = accounting.remove(task.id).expect("removes").expect("a task");
        execs += usage.counters.execs;
        exits += usage.counters.exits;
        assert_eq!(accounting.remove(task.id).expect("looks"), None);
        std::fs::remove_dir(&task.cgroup).expect("an empty cgroup");
    }
    assert_eq!((execs, exits), (TASKS, TASKS));
    assert_eq!(accounting.tasks().expect("reads"), []);
    assert!(accounting.snapshot().expect("reads").is_empty());
    assert!(accounting.delays().expect("reads").is_empty());

    // Nor is anything found by whoever comes next.
    drop(accounting);
    let accounting = rig.open();
    assert_eq!(accounting.tasks().expect("reads"), []);
    accounting.discard().expect("goes");
    assert_eq!(std::fs::read_dir(rig.bpffs().join("mezzo")).expect("lists").count(), 0);
}

#[test]
fn a_grant_is_changed_in_place() {
    let rig = Rig::new("change");
    let accounting = rig.open();
    let task = rig.counted(&accounting, "task");
    task.run(&["true"]);
    let device = |minor| Device::character(1, minor, Access::READ);
    let only =
        |devices: &[Device]| Grant { devices: Devices::Only(devices.to_vec()), ..Grant::default() };
    accounting.admit(task.id, &only(&[device(1), device(2)])).expect("changes");
    accounting.admit(task.id, &only(&[device(2)])).expect("changes");
    assert_eq!(task.usage(&accounting).counters.execs, 1, "counters go on");
    accounting.remove(task.id).expect("removes");
    assert_eq!(accounting.tasks().expect("reads"), []);
}
