//! What the programs must know of the kernel's structures, under the names of their global variables.

use crate::kernel_types::KernelTypes;

/// Global variable, and the field whose offset it holds.
const FIELDS: &[(&str, &str)] = &[
    ("TASK_RUN_DELAY", "task_struct.sched_info.run_delay"),
    ("TASK_PID", "task_struct.pid"),
    ("TASK_TGID", "task_struct.tgid"),
    ("TASK_COMM", "task_struct.comm"),
    ("TASK_EXIT_CODE", "task_struct.exit_code"),
    ("TASK_GROUP_LEADER", "task_struct.group_leader"),
    ("TASK_SIGNAL", "task_struct.signal"),
    ("TASK_CGROUPS", "task_struct.cgroups"),
    ("TASK_MM", "task_struct.mm"),
    ("SIGNAL_LIVE", "signal_struct.live"),
    ("SIGNAL_FLAGS", "signal_struct.flags"),
    ("SIGNAL_GROUP_EXIT_CODE", "signal_struct.group_exit_code"),
    ("CSS_SET_CGROUP", "css_set.dfl_cgrp"),
    ("CGROUP_LEVEL", "cgroup.level"),
    ("CGROUP_ANCESTORS", "cgroup.ancestors"),
    ("CGROUP_NODE", "cgroup.kn"),
    ("NODE_ID", "kernfs_node.id"),
    ("SOCK_CGROUP", "sock.sk_cgrp_data.cgroup"),
    ("SOCK_NUMBER", "sock.__sk_common.skc_num"),
    ("BIO_OPERATION", "bio.bi_opf"),
    ("BIO_SIZE", "bio.bi_iter.bi_size"),
    ("MM_TOTAL", "mm_struct.total_vm"),
    ("MM_COUNTS", "mm_struct.rss_stat.count"),
];

/// Global variable, and the array whose elements' size it holds: the first of these that is one. Before Linux 6.2 a
/// process' counters of pages were an array of numbers in a structure, since then they are one of structures with a number.
const STRIDES: &[(&str, [&str; 2])] =
    &[("MM_COUNT_STRIDE", ["mm_struct.rss_stat", "mm_struct.rss_stat.count"])];

/// Every global variable with its value; `None` where this kernel has no such field.
#[derive(Debug)]
pub struct Offsets(Vec<(&'static str, Option<u32>)>);

impl Offsets {
    pub fn find(types: Option<&KernelTypes>) -> Self {
        let fields =
            FIELDS.iter().map(|(name, path)| (*name, types.and_then(|types| types.offset(path))));
        let strides = STRIDES.iter().map(|(name, paths)| {
            (*name, types.and_then(|types| paths.iter().find_map(|path| types.stride(path))))
        });
        Offsets(fields.chain(strides).collect())
    }

    /// All, with 0 for what is unknown.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.0.iter().map(|(name, value)| (*name, value.unwrap_or(0)))
    }

    /// The field behind the first of these variables that this kernel lacks.
    pub fn missing(&self, names: &[&str]) -> Option<&'static str> {
        let missing =
            |name: &str| self.0.iter().any(|(other, value)| *other == name && value.is_none());
        let name = names.iter().find(|name| missing(name))?;
        let strides = STRIDES.iter().map(|(name, paths)| (*name, paths[0]));
        let mut paths = FIELDS.iter().copied().chain(strides);
        paths.find(|(other, _)| other == name).map(|(_, path)| path)
    }
}
