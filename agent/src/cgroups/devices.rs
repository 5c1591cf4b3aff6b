//! Which devices a group may use, by v1's controller. On v2 there is none: eBPF does it there, and here too where it can.

use std::collections::BTreeMap;
use std::path::Path;

use mezzo_agent_accounting::{Access, Device, DeviceKind, SAFE_DEVICES};

use super::{CgroupError, files};

/// Denies all devices but the harmless ones and these to a group that has neither processes nor groups below it, and reads the list
/// back.
pub(super) fn set(dir: &Path, devices: &[Device]) -> Result<(), CgroupError> {
    files::write(&dir.join("devices.deny"), "a")?;
    let rules = rules(devices);
    let allow = dir.join("devices.allow");
    // One rule a write: the kernel takes no more.
    rules.iter().try_for_each(|rule| files::write(&allow, rule))?;
    let path = dir.join("devices.list");
    let text = files::read(&path)?;
    let mut found: Vec<&str> = text.lines().collect();
    let mut wanted: Vec<&str> = rules.iter().map(String::as_str).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    if found == wanted {
        return Ok(());
    }
    Err(CgroupError::NotApplied { path, wanted: wanted.join(", "), found: found.join(", ") })
}

/// As the kernel writes them, such as `c 1:3 rwm`; one for each device, whose accesses are added up.
fn rules(devices: &[Device]) -> Vec<String> {
    let mut accesses: BTreeMap<(DeviceKind, u32, Option<u32>), Access> = BTreeMap::new();
    for Device { kind, major, minor, access } in SAFE_DEVICES.iter().chain(devices) {
        let sum = accesses.entry((*kind, *major, *minor)).or_default();
        sum.read |= access.read;
        sum.write |= access.write;
        sum.mknod |= access.mknod;
    }
    accesses.into_iter().filter(|(_, access)| *access != Access::default()).map(rule).collect()
}

fn rule(((kind, major, minor), access): ((DeviceKind, u32, Option<u32>), Access)) -> String {
    let kind = match kind {
        DeviceKind::Block => 'b',
        DeviceKind::Character => 'c',
    };
    let minor = minor.map_or("*".to_owned(), |minor| minor.to_string());
    let letters = [(access.read, 'r'), (access.write, 'w'), (access.mknod, 'm')];
    let access: String =
        letters.iter().filter(|(has, _)| *has).map(|(_, letter)| *letter).collect();
    format!("{kind} {major}:{minor} {access}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        let disk = Device {
            kind: DeviceKind::Block,
            major: 8,
            minor: Some(1),
            access: Access { mknod: true, ..Access::READ },
        };
        let rules = rules(&[Device::character(195, 0, Access::READ_WRITE), disk]);
        assert_eq!(rules.len(), SAFE_DEVICES.len() + 2);
        for rule in ["c 195:0 rw", "b 8:1 rm", "c 1:3 rwm", "c 136:* rwm"] {
            assert!(rules.iter().any(|other| other == rule), "{rule}: {rules:?}");
        }
        // What is allowed twice is one rule, with all of it; what is allowed nothing is none.
        let write = Access { write: true, ..Access::default() };
        let twice = [Device::character(10, 1, Access::READ), Device::character(10, 1, write)];
        assert!(super::rules(&twice).contains(&"c 10:1 rw".to_owned()));
        let nothing = super::rules(&[Device::character(10, 1, Access::default())]);
        assert_eq!(nothing.len(), SAFE_DEVICES.len());
    }
}
