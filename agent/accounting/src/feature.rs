//! What the programs bring, and which programs bring it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;

/// Something that works or does not work on a host, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Bytes and packets, by family and protocol; round-trip times.
    Network,
    /// TCP segments sent again.
    Retransmits,
    /// Time on a processor, run-queue delays, context switches.
    Scheduler,
    /// Bytes and operations of block devices.
    Block,
    /// Forks, execs, exits; ends of first processes.
    Processes,
    /// Out-of-memory kills with victim and sizes.
    OomKills,
    /// Refusal of ports.
    Ports,
    /// Refusal of devices.
    Devices,
}

impl Feature {
    pub const ALL: [Feature; 8] = [
        Feature::Network,
        Feature::Retransmits,
        Feature::Scheduler,
        Feature::Block,
        Feature::Processes,
        Feature::OomKills,
        Feature::Ports,
        Feature::Devices,
    ];

    /// As metrics and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Network => "network",
            Feature::Retransmits => "retransmits",
            Feature::Scheduler => "scheduler",
            Feature::Block => "block",
            Feature::Processes => "processes",
            Feature::OomKills => "oom_kills",
            Feature::Ports => "ports",
            Feature::Devices => "devices",
        }
    }

    /// What takes its place on a host where it does not work.
    pub fn fallback(self) -> &'static str {
        match self {
            Feature::Network => "traffic is not counted",
            Feature::Retransmits => "retransmits are not counted",
            Feature::Scheduler => {
                "processor time comes from the controller, delays are not measured"
            }
            Feature::Block => "block I/O is not counted",
            Feature::Processes => {
                "processes are counted by the pids controller, ends come from mezzo-init"
            }
            Feature::OomKills => {
                "out-of-memory kills come from the memory controller and the kernel's log"
            }
            Feature::Ports => "ports are not guarded",
            Feature::Devices => "devices are guarded by cgroup v1's controller, where there is one",
        }
    }

    /// Programs that must be attached for it.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Feature::Network => &["ingress", "egress"],
            Feature::Retransmits => &["tcp_retransmit"],
            Feature::Scheduler => &["sched_switch"],
            Feature::Block => &["bio_queue"],
            Feature::Processes => &["fork", "exec", "exit"],
            Feature::OomKills => &["mark_victim"],
            Feature::Ports => {
                &["bind4", "bind6", "post_bind4", "post_bind6", "ingress", "set_state"]
            }
            Feature::Devices => &["device"],
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a feature works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    On,
    /// Why not, as one sentence without its end.
    Off(String),
}

/// What was found at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// Nothing was there.
    Fresh,
    /// The same programs were there and still are; counters go on.
    Reused,
    /// Programs of another object were there, or not all of them; they were replaced in their places, and counters go on.
    Replaced,
    /// What was there had other maps or another cgroup. New programs came first, then the old ones went; counters begin anew.
    Renewed,
}

/// What works on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub take_over: TakeOver,
    pub features: BTreeMap<Feature, Status>,
}

impl State {
    pub fn is_on(&self, feature: Feature) -> bool {
        self.features.get(&feature) == Some(&Status::On)
    }

    /// One sentence for each feature that does not work.
    pub fn complaints(&self) -> Vec<String> {
        let off = self.features.iter().filter_map(|(feature, status)| match status {
            Status::On => None,
            Status::Off(reason) => Some(format!(
                "eBPF feature '{feature}' is off, for {reason}: {}",
                feature.fallback()
            )),
        });
        off.collect()
    }
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The agent's cgroup; the number is `BPF_CGROUP_…`.
    Cgroup(u32),
    /// A tracepoint, whose arguments the kernel knows by type.
    Typed(&'static str),
    /// A tracepoint: which argument the program reads, and what it takes it for.
    Raw(&'static CStr, Option<(usize, &'static str)>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// Its function in `agent-ebpf`.
    pub name: &'static str,
    pub place: Place,
    /// The global variables that it cannot do without.
    pub needs: &'static [&'static str],
}

/// Controls first: a task must not run before it is guarded.
pub(crate) const PROGRAMS: [Program; 15] = [
    Program { name: "device", place: Place::Cgroup(6), needs: &[] },
    Program { name: "bind4", place: Place::Cgroup(8), needs: &[] },
    Program { name: "bind6", place: Place::Cgroup(9), needs: &[] },
    Program { name: "post_bind4", place: Place::Cgroup(12), needs: &[] },
    Program { name: "post_bind6", place: Place::Cgroup(13), needs: &[] },
    Program { name: "ingress", place: Place::Cgroup(0), needs: &[] },
    Program { name: "egress", place: Place::Cgroup(1), needs: &[] },
    Program {
        name: "set_state",
        place: Place::Raw(c"inet_sock_set_state", Some((0, "sock"))),
        needs: SOCKET,
    },
    Program {
        name: "tcp_retransmit",
        place: Place::Raw(c"tcp_retransmit_skb", Some((0, "sock"))),
        needs: SOCKET,
    },
    Program {
        name: "sched_switch",
        place: Place::Typed("sched_switch"),
        needs: &["TASK_RUN_DELAY"],
    },
    Program {
        name: "bio_queue",
        place: Place::Raw(c"block_bio_queue", Some((0, "bio"))),
        needs: &["BIO_OPERATION", "BIO_SIZE"],
    },
    Program {
        name: "fork",
        place: Place::Raw(c"sched_process_fork", Some((1, "task_struct"))),
        needs: &["TASK_PID", "TASK_TGID"],
    },
    Program { name: "exec", place: Place::Raw(c"sched_process_exec", None), needs: &[] },
    Program {
        name: "exit",
        place: Place::Raw(c"sched_process_exit", Some((0, "task_struct"))),
        needs: &[
            "TASK_SIGNAL",
            "TASK_EXIT_CODE",
            "TASK_GROUP_LEADER",
            "SIGNAL_LIVE",
            "SIGNAL_FLAGS",
            "SIGNAL_GROUP_EXIT_CODE",
        ],
    },
    Program {
        name: "mark_victim",
        place: Place::Raw(c"mark_victim", Some((0, "task_struct"))),
        needs: &[
            "TASK_CGROUPS",
            "CSS_SET_CGROUP",
            "CGROUP_LEVEL",
            "CGROUP_ANCESTORS",
            "CGROUP_NODE",
            "NODE_ID",
            "TASK_MM",
            "TASK_TGID",
            "TASK_COMM",
            "MM_TOTAL",
            "MM_COUNTS",
            "MM_COUNT_STRIDE",
        ],
    },
];

/// What a program needs to tell whose a socket is.
const SOCKET: &[&str] =
    &["SOCK_CGROUP", "SOCK_NUMBER", "CGROUP_LEVEL", "CGROUP_ANCESTORS", "CGROUP_NODE", "NODE_ID"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_belongs_to_a_feature_and_the_other_way_round() {
        let of_features = || Feature::ALL.iter().flat_map(|feature| feature.programs());
        for name in of_features() {
            assert!(PROGRAMS.iter().any(|program| program.name == *name), "{name}");
        }
        for program in PROGRAMS {
            assert!(of_features().any(|name| *name == program.name), "{}", program.name);
        }
    }
}
