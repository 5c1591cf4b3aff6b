//! Hosts where it cannot work, or not all of it: one sentence each.

use std::process::Command;

use mezzo_agent_accounting::{Accounting, AdmitError, Feature, Grant, PortPolicy};

use crate::rig::{Rig, ports};
use crate::survival::hold;

fn refused(options: &mezzo_agent_accounting::Options) -> String {
    Accounting::open(options, &[]).expect_err("must not open").to_string()
}

#[test]
fn what_is_missing_is_said() {
    let rig = Rig::new("missing");
    let mut options = rig.options();
    options.pins = rig.directory.path().join("plain/agent");
    let said = refused(&options);
    assert!(said.ends_with("plain/agent is not in a bpffs; mount one, for instance with `mount -t bpf bpf /sys/fs/bpf`"), "{said}");

    let mut options = rig.options();
    options.root = rig.directory.path().to_owned();
    assert!(refused(&options).contains("is not in a cgroup v2 tree"));
    options.root = rig.root.parent().expect("the tree").to_owned();
    assert!(refused(&options).contains("give the agent a cgroup of its own"));

    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--bounding-set=-cap_39,-cap_21", "--inh-caps=-all"]).arg(hold());
    setpriv.arg(&rig.root).arg(rig.options().pins).arg("1-2");
    let output = setpriv.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.trim(),
        "error: eBPF needs CAP_BPF, which the agent lacks; run it as root, or give it these capabilities"
    );
    assert!(!output.status.success());
}

#[test]
fn without_type_information_ports_and_devices_are_guarded_all_the_same() {
    let rig = Rig::new("untyped");
    let mut options = rig.options();
    options.kernel_types = rig.directory.path().join("none");
    let accounting = Accounting::open(&options, &[]).expect("opens");
    let state = accounting.state();
    let on = Feature::ALL.into_iter().filter(|feature| state.is_on(*feature));
    assert_eq!(Vec::from_iter(on), [Feature::Network, Feature::Devices]);
    let said = state.complaints();
    assert_eq!(said.len(), 6);
    assert!(said.iter().all(|line| line.contains("no type information")), "{said:?}");
    let task = rig.granted(&accounting, "task", &ports(PortPolicy::Enforce, false, &[]));
    let bind = "import socket\n\
        try: socket.socket().bind(('', 31880))\n\
        except PermissionError: print('refused')\n";
    assert_eq!(task.python(bind), "refused");

    // Where it is there again, the next agent has everything.
    drop(accounting);
    rig.open();
}

#[test]
fn a_full_map_refuses_the_task_and_keeps_nothing_of_it() {
    let rig = Rig::new("full");
    let mut options = rig.options();
    options.capacity = 2;
    let accounting = Accounting::open(&options, &[]).expect("opens");
    let tasks = ["one", "two", "three"].map(|name| rig.task(name));
    accounting.admit(tasks[0].id, &Grant::default()).expect("fits");
    accounting.admit(tasks[1].id, &Grant::default()).expect("fits");
    let error = accounting.admit(tasks[2].id, &Grant::default()).expect_err("must not fit");
    assert!(matches!(error, AdmitError::Full { capacity: 2, .. }), "{error}");
    assert_eq!(accounting.tasks().expect("reads").len(), 2);
    let again = Accounting::open(&rig.options(), &[]).expect("takes it over");
    assert_eq!(again.capacity(), 2, "what the kernel has counts, not what was asked for");
    accounting.remove(tasks[0].id).expect("removes");
    accounting.admit(tasks[2].id, &Grant::default()).expect("fits now");
}
