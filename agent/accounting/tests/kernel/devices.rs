//! Which devices a task may use.

use std::path::Path;

use mezzo_agent_accounting::{Access, Device, DeviceKind, Devices, Grant, Happening};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::rig::{Rig, eventually, python};

const ATTEMPT: &str = "import errno, os, sys\n\
    def attempt(path, flags):\n\
    \x20   try: os.close(os.open(path, flags)); return 'ok'\n\
    \x20   except OSError as e: return errno.errorcode[e.errno]\n\
    d = sys.argv[1]\n";

fn node(directory: &Path, name: &str, kind: SFlag, major: u64, minor: u64) {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknod(&directory.join(name), kind, mode, makedev(major, minor)).expect("a node");
}

#[test]
fn only_what_was_granted_opens_whatever_it_is_called() {
    let rig = Rig::new("devices");
    let accounting = rig.open();
    let mut events = accounting.events().expect("a stream");
    let directory = rig.directory.path();
    // /dev/zero, /dev/kmsg and the first loop device, under other names; the tests' GPUs.
    node(directory, "safe", SFlag::S_IFCHR, 1, 5);
    node(directory, "messages", SFlag::S_IFCHR, 1, 11);
    node(directory, "disk", SFlag::S_IFBLK, 7, 0);
    let granted = Device::character(1, 11, Access::READ);
    let grant =
        |devices: &[Device]| Grant { devices: Devices::Only(devices.to_vec()), ..Grant::default() };
    let none = rig.granted(&accounting, "none", &grant(&[]));
    let some = rig.granted(&accounting, "some", &grant(&[granted]));
    let free = rig.counted(&accounting, "free");
    let program = format!(
        "{ATTEMPT}print(attempt(d + '/safe', os.O_RDWR), attempt(d + '/messages', os.O_RDONLY), \
         attempt(d + '/messages', os.O_WRONLY), attempt(d + '/disk', os.O_RDONLY))\n\
         try: os.mknod(d + '/made-' + sys.argv[2], 0o020600, os.makedev(1, 11)); print('made')\n\
         except PermissionError: print('refused')\n"
    );
    let path = directory.display().to_string();
    // In a child cgroup of its own, two levels deep, a task may no more.
    let attempt = |task: &crate::rig::Task, name: &str| {
        let mut command = task.command("x/y", &[python(), "-c", &program, &path, name]);
        crate::rig::succeeded(command.output().expect("runs"))
    };
    assert_eq!(attempt(&none, "none"), "ok EPERM EPERM EPERM\nrefused");
    assert_eq!(attempt(&some, "some"), "ok ok EPERM EPERM\nrefused");
    let unguarded = attempt(&free, "free");
    assert!(unguarded.starts_with("ok ok ok ") && unguarded.ends_with("made"), "{unguarded}");
    assert!(!unguarded.contains("EPERM"), "{unguarded}");

    assert_eq!(none.usage(&accounting).counters.device_denials, 4);
    assert_eq!(some.usage(&accounting).counters.device_denials, 3);
    let event = eventually("an event", || {
        events.take().filter(|event| matches!(event.what, Happening::DeviceDenied(_)))
    });
    assert_eq!(event.task, none.id);
    assert_eq!(event.what, Happening::DeviceDenied(granted));
    let disk = eventually("the disk's", || match events.take()?.what {
        Happening::DeviceDenied(device) if device.kind == DeviceKind::Block => Some(device),
        _ => None,
    });
    assert_eq!((disk.major, disk.minor), (7, Some(0)));

    // What is taken away is gone for the next that opens it.
    accounting.admit(some.id, &grant(&[])).expect("changes");
    assert_eq!(attempt(&some, "later"), "ok EPERM EPERM EPERM\nrefused");
}
