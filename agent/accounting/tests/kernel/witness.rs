//! libbpf, which was written by others, looks at what the kernel has and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use libbpf_rs::query::{LinkInfo, LinkInfoIter, LinkTypeInfo, ProgInfoIter};
use libbpf_rs::{MapCore, MapFlags, MapHandle, ProgramAttachType};
use mezzo_agent_accounting::{Counters, Delays};
use mezzo_agent_sys::{bpf_open, bpf_run_time_statistics};

use crate::network::{DATAGRAMS, RECEIVER, send};
use crate::rig::{Rig, eventually};

/// Links of the agent's cgroup: what is attached how, and the program's number.
fn attached(root: u64) -> BTreeMap<String, u32> {
    let of_root = |link: LinkInfo| match link.info {
        LinkTypeInfo::Cgroup(cgroup) if cgroup.cgroup_id == root => {
            Some((format!("{:?}", cgroup.attach_type), link.prog_id))
        }
        _ => None,
    };
    LinkInfoIter::default().filter_map(of_root).collect()
}

fn names() -> BTreeMap<u32, String> {
    let name = |program: libbpf_rs::query::ProgramInfo| {
        (program.id, program.name.to_string_lossy().into_owned())
    };
    ProgInfoIter::default().map(name).collect()
}

/// How often the kernel has run each of these programs.
fn runs(programs: &BTreeMap<String, u32>) -> BTreeMap<String, u64> {
    let counts: BTreeMap<u32, u64> =
        ProgInfoIter::default().map(|program| (program.id, program.run_cnt)).collect();
    programs.iter().map(|(how, id)| (how.clone(), counts[id])).collect()
}

#[test]
fn what_is_loaded_attached_and_pinned_is_what_the_agent_says() {
    let rig = Rig::new("witness");
    let accounting = rig.open();
    let root =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&rig.root).expect("a cgroup"));
    let (links, names) = (attached(root), names());
    let by_type: BTreeMap<&str, &str> =
        links.iter().map(|(how, program)| (how.as_str(), names[program].as_str())).collect();
    let expected = [
        (ProgramAttachType::CgroupDevice, "device"),
        (ProgramAttachType::CgroupInet4Bind, "bind4"),
        (ProgramAttachType::CgroupInet6Bind, "bind6"),
        (ProgramAttachType::CgroupInet4PostBind, "post_bind4"),
        (ProgramAttachType::CgroupInet6PostBind, "post_bind6"),
        (ProgramAttachType::CgroupInetIngress, "ingress"),
        (ProgramAttachType::CgroupInetEgress, "egress"),
    ]
    .map(|(how, name)| (format!("{how:?}"), name));
    let expected: BTreeMap<&str, &str> =
        expected.iter().map(|(how, name)| (how.as_str(), *name)).collect();
    assert_eq!(by_type, expected);

    // Each pinned link leads to the program of its name, wherever it is attached.
    let layout = std::fs::read_dir(rig.options().pins).expect("lists").flatten().next();
    let layout = layout.expect("a layout").path();
    let mut pinned = BTreeSet::new();
    for entry in std::fs::read_dir(&layout).expect("lists").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(program) = name.strip_prefix("link_") {
            let link = bpf_open(&entry.path()).expect("opens");
            let info = LinkInfo::from_fd(link.as_fd()).expect("a link");
            assert_eq!(names[&info.prog_id], program);
            pinned.insert(program.to_owned());
        } else {
            let map = MapHandle::from_pinned_path(entry.path()).expect("a map");
            assert_eq!(map.name().to_string_lossy(), name);
        }
    }
    assert_eq!(pinned.len(), 15, "{pinned:?}");

    accounting.discard().expect("goes");
    eventually("the kernel to let go", || attached(root).is_empty().then_some(()));
}

#[test]
fn what_the_kernel_ran_and_what_is_in_the_maps_is_what_the_agent_reads() {
    let rig = Rig::new("runs");
    let accounting = rig.open();
    let _statistics = bpf_run_time_statistics().expect("statistics");
    let (sender, receiver) =
        (rig.counted(&accounting, "sender"), rig.counted(&accounting, "receiver"));
    let root =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&rig.root).expect("a cgroup"));
    let programs = attached(root);
    let before = runs(&programs);
    let server = receiver.serve(RECEIVER);
    send(&sender, "127.0.0.1", &server.first);
    let after = runs(&programs);
    let ran = |how: ProgramAttachType| {
        let how = format!("{how:?}");
        after[&how] - before[&how]
    };
    // One run per packet of a task, for the programs see no others.
    assert_eq!(ran(ProgramAttachType::CgroupInetEgress), DATAGRAMS);
    assert_eq!(ran(ProgramAttachType::CgroupInetIngress), DATAGRAMS);
    assert_eq!(ran(ProgramAttachType::CgroupInet6Bind), 1, "the receiver's");
    assert_eq!(ran(ProgramAttachType::CgroupInet4Bind), 0);

    let layout = std::fs::read_dir(rig.options().pins).expect("lists").flatten().next();
    let counters = layout.expect("a layout").path().join("COUNTERS");
    let map = MapHandle::from_pinned_path(counters).expect("a map");
    assert_eq!(map.value_size() as usize, size_of::<Counters>());
    let key = sender.id.0.to_ne_bytes();
    let copies = map.lookup_percpu(&key, MapFlags::ANY).expect("reads").expect("a task");
    let place = std::mem::offset_of!(Counters, ipv4.udp_out.packets);
    let packets: u64 = copies
        .iter()
        .map(|copy| u64::from_ne_bytes(copy[place..place + 8].try_into().expect("eight bytes")))
        .sum();
    assert_eq!(packets, DATAGRAMS);
    assert_eq!(sender.usage(&accounting).counters.ipv4.udp_out.packets, packets);
    assert_eq!(size_of::<Delays>(), 8 * mezzo_agent_accounting::DELAY_BUCKETS);
}
