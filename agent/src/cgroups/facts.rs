//! What the machine's control groups offer, found once at start.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A resource controller that the agent uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    Cpu,
    /// v1 only; v2 counts processor time without a controller.
    Cpuacct,
    Memory,
    Pids,
    /// v1 only; v2 guards devices by eBPF.
    Devices,
}

impl Controller {
    /// Name as the kernel spells it.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Devices => "devices",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        let all = [
            Controller::Cpu,
            Controller::Cpuacct,
            Controller::Memory,
            Controller::Pids,
            Controller::Devices,
        ];
        all.into_iter().find(|controller| controller.name() == name)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// Where it is mounted, for instance `/sys/fs/cgroup/memory`.
    pub mount_point: PathBuf,
    /// Those of the agent's controllers that it carries; none in the v2 tree of a hybrid machine.
    pub controllers: Vec<Controller>,
    /// Where the agent itself sits in it, as `/proc/self/cgroup` says; "" when not listed.
    pub own_path: String,
}

/// How controllers are spread over the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The controllers are on v2.
    Unified,
    /// The controllers are on v1; v2 is mounted beside them, without controllers.
    Hybrid,
    /// v1 only.
    Legacy,
}

/// The machine's control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// At most one entry per hierarchy, v1 hierarchies first in the order of their mounts, then v2.
    pub hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no cgroup hierarchy is mounted; mount cgroup2 at /sys/fs/cgroup")]
    NoneMounted,
}

impl Facts {
    /// Reads `/proc/self/mountinfo`, `/proc/self/cgroup` and the list of v2 controllers.
    pub fn probe() -> Result<Self, FactsError> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|source| FactsError::Read { path: path.to_owned(), source })
        };
        Self::parse(
            &read(Path::new("/proc/self/mountinfo"))?,
            &read(Path::new("/proc/self/cgroup"))?,
            read,
        )
    }

    /// Builds the facts from the text of the two files of `/proc/self`. `read` gives the content of other files; it is
    /// asked for `cgroup.controllers` of the v2 mount.
    pub fn parse(
        mountinfo: &str,
        cgroup: &str,
        read: impl Fn(&Path) -> Result<String, FactsError>,
    ) -> Result<Self, FactsError> {
        let own = own_paths(cgroup);
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified: Option<Hierarchy> = None;
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            match mount.kind {
                "cgroup2" if unified.is_none() => {
                    let listed = read(&mount.mount_point.join("cgroup.controllers"))?;
                    unified = Some(Hierarchy {
                        version: Version::V2,
                        mount_point: mount.mount_point,
                        controllers: listed
                            .split_whitespace()
                            .filter_map(Controller::of_name)
                            .collect(),
                        own_path: own_path(&own, ""),
                    });
                }
                "cgroup" => {
                    let controllers: Vec<Controller> =
                        mount.super_options.split(',').filter_map(Controller::of_name).collect();
                    let first = match controllers.first() {
                        Some(first) => *first,
                        // freezer, named hierarchies: not ours
                        None => continue,
                    };
                    // The same hierarchy may be mounted several times; the first mount is as good as any.
                    if hierarchies.iter().any(|known| known.controllers.contains(&first)) {
                        continue;
                    }
                    hierarchies.push(Hierarchy {
                        version: Version::V1,
                        mount_point: mount.mount_point,
                        own_path: own_path(&own, first.name()),
                        controllers,
                    });
                }
                _ => {}
            }
        }
        hierarchies.extend(unified);
        if hierarchies.is_empty() {
            return Err(FactsError::NoneMounted);
        }
        Ok(Facts { hierarchies })
    }

    pub fn layout(&self) -> Layout {
        let legacy = self.hierarchies.iter().any(|h| h.version == Version::V1);
        match (legacy, self.unified().is_some()) {
            (false, _) => Layout::Unified,
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::Legacy,
        }
    }

    /// The v2 tree, wherever it is mounted (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid machines).
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    /// The hierarchy that carries `controller`.
    pub fn hierarchy_of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.controllers.contains(&controller))
    }
}

struct Mount<'a> {
    mount_point: PathBuf,
    kind: &'a str,
    super_options: &'a str,
}

impl<'a> Mount<'a> {
    /// One line of mountinfo: `31 23 0:28 / /mount/point rw,opts [tags…] - type source superopts`.
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let kind = right.next()?;
        let _source = right.next()?;
        Some(Mount {
            mount_point: PathBuf::from(unescape(left.split(' ').nth(4)?)),
            kind,
            super_options: right.next().unwrap_or_default(),
        })
    }
}

/// The kernel writes blank, tab, newline and backslash of a path as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// Lines `4:cpu,cpuacct:/path` and `0::/path` as (names, path).
fn own_paths(cgroup: &str) -> Vec<(&str, &str)> {
    cgroup
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let _number = fields.next()?;
            Some((fields.next()?, fields.next()?))
        })
        .collect()
}

fn own_path(own: &[(&str, &str)], controller: &str) -> String {
    own.iter()
        .find(|(names, _)| names.split(',').any(|name| name == controller))
        .map(|(_, path)| (*path).to_owned())
        .unwrap_or_default()
}
