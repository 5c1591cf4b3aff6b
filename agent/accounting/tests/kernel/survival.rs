//! What the kernel guards stays guarded while nobody looks, and while others take over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mezzo_agent_accounting::{Accounting, Object, PortPolicy, TakeOver};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{Rig, Served, Task, eventually, ports};

/// Binds a forbidden port as fast as it can; ends when that succeeds once, for whatever reason.
const PROBER: &str = "import socket\nprint('up')\n\
    while True:\n\
    \x20   s = socket.socket()\n\
    \x20   try: s.bind(('', 31870)); break\n\
    \x20   except PermissionError: s.close()\n";

struct Prober<'a> {
    task: &'a Task,
    served: Served,
}

impl<'a> Prober<'a> {
    fn new(task: &'a Task) -> Self {
        Prober { task, served: task.serve(PROBER) }
    }

    /// Waits until the prober has been refused a hundred times more, as the kernel counts.
    fn goes_on(&mut self, counted: impl Fn(&Task) -> u64) {
        let before = counted(self.task);
        eventually("a hundred refusals", || (counted(self.task) >= before + 100).then_some(()));
        let ended = self.served.child.try_wait().expect("looks");
        assert!(ended.is_none(), "a forbidden port was bound");
    }
}

fn denials(accounting: &Accounting) -> impl Fn(&Task) -> u64 {
    |task| task.usage(accounting).counters.port_denials
}

/// The example `hold`, which cargo builds with the tests.
pub fn hold() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let target = own.parent().and_then(Path::parent).expect("target directory");
    let path = target.join("examples/hold");
    assert!(
        path.exists(),
        "{path:?} is missing: build with `cargo test --workspace --examples --test kernel`"
    );
    path
}

struct Owner(Child);

impl Owner {
    fn start(rig: &Rig) -> (Self, String) {
        let options = rig.options();
        let mut command = Command::new(hold());
        command.arg(&rig.root).arg(&options.pins).arg("31000-31010").stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        std::io::BufRead::read_line(&mut output, &mut first).expect("reads");
        // Nobody reads what else it says: it must not wait for that.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        (Owner(child), first.trim().to_owned())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("signals");
    }

    fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.0.wait().expect("waits");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_a_killed_and_a_new_owner_leave_no_gap() {
    let rig = Rig::new("survival");
    let task = rig.task("task");
    let (owner, said) = Owner::start(&rig);
    assert_eq!(said, "Fresh []");
    let mut prober = Prober::new(&task);
    // A second look at the same maps, which are the only way to see that the prober goes on.
    let maps = |task: &Task| {
        let path = rig.options().pins;
        let layout = fs::read_dir(path).expect("lists").flatten().next().expect("a layout").path();
        let map = mezzo_agent_sys::BpfMap::open(&layout.join("COUNTERS")).expect("opens");
        let values = map.get(&task.id.0.to_ne_bytes()).expect("reads").expect("a task");
        let place = std::mem::offset_of!(mezzo_agent_accounting::Counters, port_denials);
        let copies = values.chunks_exact(map.value_length());
        copies.map(|copy| u64::from_ne_bytes(copy[place..place + 8].try_into().expect("8"))).sum()
    };
    prober.goes_on(maps);
    owner.signal(Signal::SIGSTOP);
    prober.goes_on(maps);
    owner.kill();
    prober.goes_on(maps);

    let (owner, said) = Owner::start(&rig);
    assert_eq!(said, "Reused []");
    prober.goes_on(maps);
    owner.kill();
    let accounting = rig.open();
    assert_eq!(accounting.state().take_over, TakeOver::Reused);
    assert_eq!(accounting.tasks().expect("reads"), [task.id]);
    prober.goes_on(denials(&accounting));
}

#[test]
fn programs_are_replaced_without_a_gap_and_counters_go_on() {
    let rig = Rig::new("replace");
    let grant = ports(PortPolicy::Enforce, false, &[]);
    let first = rig.open();
    let task = rig.granted(&first, "task", &grant);
    let mut prober = Prober::new(&task);
    prober.goes_on(denials(&first));
    for round in 1..=5usize {
        // What follows the last section is of no meaning to a loader, but makes another object.
        let mut options = rig.options();
        let mut bytes = options.object.bytes().to_vec();
        bytes.extend(vec![0; round * 8]);
        options.object = Object::new(bytes);
        let before = task.usage(&first).counters.port_denials;
        let next = Accounting::open(&options, &[(task.id, grant.clone())]).expect("takes over");
        assert_eq!(next.state().take_over, TakeOver::Replaced);
        assert_eq!(next.state().complaints(), Vec::<String>::new());
        assert!(task.usage(&next).counters.port_denials >= before);
        prober.goes_on(denials(&next));
    }
}

#[test]
fn another_layout_of_maps_is_replaced_without_a_gap() {
    let rig = Rig::new("layout");
    let grant = ports(PortPolicy::Enforce, false, &[]);
    let old = rig.open();
    let task = rig.granted(&old, "task", &grant);
    let mut prober = Prober::new(&task);
    prober.goes_on(denials(&old));
    let pins = rig.options().pins;
    let layout = fs::read_dir(&pins).expect("lists").flatten().next().expect("a layout").path();
    fs::rename(&layout, pins.join("v0")).expect("renames");
    let new = Accounting::open(&rig.options(), &[(task.id, grant)]).expect("takes over");
    assert_eq!(new.state().take_over, TakeOver::Renewed);
    assert!(!pins.join("v0").exists());
    prober.goes_on(denials(&new));
}

#[test]
fn what_was_attached_to_a_cgroup_that_is_gone_is_renewed() {
    let rig = Rig::new("gone");
    drop(rig.open());
    fs::remove_dir(&rig.root).expect("an empty cgroup");
    fs::create_dir(&rig.root).expect("a cgroup");
    let accounting = rig.open();
    assert_eq!(accounting.state().take_over, TakeOver::Renewed);
    let task = rig.granted(&accounting, "task", &ports(PortPolicy::Enforce, false, &[]));
    let mut prober = Prober::new(&task);
    prober.goes_on(denials(&accounting));
}
