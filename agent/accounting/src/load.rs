//! From an object to attached programs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::programs::ProgramError;
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use mezzo_agent_sys::{bpf_link_cgroup, bpf_link_tracepoint, bpf_link_update};

use crate::error::OpenError;
use crate::feature::{PROGRAMS, Place, Program};
use crate::host::Root;
use crate::kernel_types::KernelTypes;
use crate::maps;
use crate::object::Object;
use crate::offsets::Offsets;
use crate::pins::Pins;

/// Maps of which each task has one entry.
const PER_TASK: [&str; 4] = ["TASKS", "COUNTERS", "DELAYS", "PORTS"];

/// Devices that a task may have on an average.
const DEVICES_EACH: u32 = 16;

/// An object whose maps are there and pinned, and whose programs are still to be checked by the kernel.
pub(crate) struct Loaded {
    ebpf: Ebpf,
    types: Option<KernelTypes>,
    btf: Option<Btf>,
    offsets: Offsets,
}

impl Loaded {
    /// Makes the maps, or takes those that are pinned.
    pub fn load(
        object: &Object,
        root: &Root,
        pins: &Pins,
        kernel_types: &Path,
        capacity: u32,
    ) -> Result<Self, OpenError> {
        let data = std::fs::read(kernel_types).ok();
        let btf = data.as_ref().and_then(|data| Btf::parse(data, Endianness::default()).ok());
        let types = data.and_then(KernelTypes::parse);
        let offsets = Offsets::find(types.as_ref());
        let globals = Vec::from_iter(offsets.all());
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref()).default_map_pin_directory(pins.directory());
        loader.override_global("LEVEL", &root.level, true);
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        for map in PER_TASK {
            loader.map_max_entries(map, capacity);
        }
        loader.map_max_entries("DEVICES", capacity.saturating_mul(DEVICES_EACH));
        let ebpf = loader.load(object.bytes()).map_err(OpenError::Object)?;
        Ok(Loaded { ebpf, types, btf, offsets })
    }

    /// Attaches every program that works here, in the place of what was pinned before, and pins it.
    /// Returns why the others do not.
    pub fn attach(&mut self, root: &Root, pins: &Pins) -> BTreeMap<&'static str, String> {
        let mut failures = BTreeMap::new();
        for program in &PROGRAMS {
            if let Err(reason) = self.attach_one(program, root, pins) {
                // One of an earlier object may work where this one does not, but nobody would know what it does.
                let _ = pins.drop_link(program.name);
                failures.insert(program.name, reason);
            }
        }
        failures
    }

    fn attach_one(&mut self, program: &Program, root: &Root, pins: &Pins) -> Result<(), String> {
        // First, as where the tracepoint is another the fields may be too, and the one is the reason.
        if let (Place::Raw(name, Some((index, structure))), Some(types)) =
            (program.place, &self.types)
            && let Ok(name) = name.to_str()
            && !types.traces(name, index, structure)
        {
            return Err(format!("this kernel's tracepoint {name} names no {structure}"));
        }
        if let Some(field) = self.offsets.missing(program.needs) {
            return Err(match self.types {
                Some(_) => format!("this kernel has no field {field}"),
                None => {
                    "this kernel gives no type information (/sys/kernel/btf/vmlinux)".to_owned()
                }
            });
        }
        let fd = self.load_program(program)?;
        let failed = |error: std::io::Error| {
            format!("program '{}' cannot be attached: {error}", program.name)
        };
        let link = match program.place {
            Place::Cgroup(attach_type) => {
                if let Some((link, info)) = pins.link(program.name)
                    && (info.cgroup, info.attach_type) == (root.id, attach_type)
                {
                    return bpf_link_update(link.as_fd(), fd).map_err(failed);
                }
                bpf_link_cgroup(fd, root.directory.as_fd(), attach_type)
            }
            Place::Typed(_) | Place::Raw(..) => {
                // Links of tracepoints cannot be updated. Two at once would count twice; a moment without is missed.
                pins.drop_link(program.name).map_err(failed)?;
                if program.name == "sched_switch" {
                    maps::forget_running(pins).map_err(failed)?;
                }
                match program.place {
                    Place::Raw(name, _) => bpf_link_tracepoint(fd, Some(name)),
                    _ => bpf_link_tracepoint(fd, None),
                }
            }
        };
        let link = link.map_err(failed)?;
        pins.keep_link(program.name, &link).map_err(failed)
    }

    /// Has the kernel check a program.
    fn load_program(&mut self, program: &Program) -> Result<BorrowedFd<'_>, String> {
        use aya::programs::Program as Kind;
        let missing = || format!("the object has no program '{}'", program.name);
        let kind = self.ebpf.program_mut(program.name).ok_or_else(missing)?;
        let loaded = match (&mut *kind, program.place, &self.btf) {
            (Kind::CgroupSkb(kind), ..) => kind.load(),
            (Kind::CgroupSock(kind), ..) => kind.load(),
            (Kind::CgroupSockAddr(kind), ..) => kind.load(),
            (Kind::CgroupDevice(kind), ..) => kind.load(),
            (Kind::RawTracePoint(kind), ..) => kind.load(),
            (Kind::BtfTracePoint(kind), Place::Typed(name), Some(btf)) => kind.load(name, btf),
            _ => return Err(missing()),
        };
        let fd = loaded.and_then(|()| kind.fd());
        fd.map(|fd| fd.as_fd()).map_err(|error| refusal(program.name, &error))
    }
}

/// One sentence, of what may be thousands of lines.
fn refusal(program: &str, error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let said = |line: &&str| {
                let figures = ["processed ", "stack depth ", "verification time "];
                !line.trim().is_empty() && !figures.iter().any(|start| line.starts_with(start))
            };
            let last = log.lines().rev().find(said).unwrap_or("no reason given");
            format!("the kernel refuses program '{program}': {io_error} ({})", last.trim())
        }
        error => format!("program '{program}' does not load: {error}"),
    }
}
