//! The machine's resources, where the operator does not say.
//!
//! As Mesos detects them: all processors; memory less 1 GB for the system (half of it on machines with less than
//! 2 GB); the disk of the work directory less 5 GB (half of it below 10 GB); ports 31000 to 32000; GPUs where they are isolated.

use std::io;
use std::path::{Path, PathBuf};

use mezzo_types::{ParseResourcesError, Resources};
use nix::sys::statvfs::statvfs;

const MB: u64 = 1 << 20;
const GB_IN_MB: u64 = 1024;

/// Why the resources of an agent are unknown.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesError {
    #[error("--resources cannot be read")]
    Flag(#[source] ParseResourcesError),
    #[error(
        "the machine's memory cannot be read from /proc/meminfo; name it in --resources, as in mem:1024"
    )]
    Memory(#[source] Option<io::Error>),
    #[error(
        "--resources names {wanted} GPUs, but {found} can be given out; name no more than that, or none to have them detected"
    )]
    TooManyGpus { wanted: usize, found: usize },
    #[error(
        "--resources names {wanted} GPUs, but tasks are given GPUs only where 'gpus' is in --isolation; add it, or leave them out"
    )]
    GpusNotIsolated { wanted: usize },
    #[error("the disk of {path} cannot be measured; name it in --resources, as in disk:1024")]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What `given` says, and for each kind of which it says nothing, what is detected. `gpus` of them were found; `None`: GPUs are
/// not isolated, so there are none to give.
pub(crate) fn resources(
    given: Option<&str>,
    default_role: &str,
    work_dir: &Path,
    gpus: Option<usize>,
) -> Result<Resources, ResourcesError> {
    let mut resources = match given.map(str::trim).filter(|text| !text.is_empty()) {
        None => Resources::default(),
        Some(text) => Resources::parse(text, default_role).map_err(ResourcesError::Flag)?,
    };
    let named: Vec<String> =
        resources.names().iter().map(|name| name.as_str().to_owned()).collect();
    let missing = |name: &str| !named.iter().any(|known| known == name);
    let wanted = usize::try_from(resources.gpus().thousandths() / 1000).unwrap_or(usize::MAX);
    match gpus {
        Some(found) if wanted > found => return Err(ResourcesError::TooManyGpus { wanted, found }),
        None if wanted > 0 => return Err(ResourcesError::GpusNotIsolated { wanted }),
        _ => {}
    }
    let mut detected = Vec::new();
    if missing("cpus") {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        detected.push(format!("cpus:{cpus}"));
    }
    if missing("mem") {
        let total = memory_mb(
            &std::fs::read_to_string("/proc/meminfo")
                .map_err(|e| ResourcesError::Memory(Some(e)))?,
        )
        .ok_or(ResourcesError::Memory(None))?;
        detected.push(format!("mem:{}", spare(total, GB_IN_MB)));
    }
    if missing("disk") {
        detected.push(format!("disk:{}", spare(disk_mb(work_dir)?, 5 * GB_IN_MB)));
    }
    if missing("ports") {
        detected.push("ports:[31000-32000]".to_owned());
    }
    if let Some(found) = gpus.filter(|found| *found > 0 && missing("gpus")) {
        detected.push(format!("gpus:{found}"));
    }
    let detected =
        Resources::parse(&detected.join(";"), default_role).map_err(ResourcesError::Flag)?;
    resources += &detected;
    Ok(resources)
}

/// What is left of `total` when the system keeps `system`, or half on machines with too little for that.
fn spare(total: u64, system: u64) -> u64 {
    if total >= 2 * system { total - system } else { total / 2 }
}

/// `MemTotal` in MB.
fn memory_mb(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

fn disk_mb(path: &Path) -> Result<u64, ResourcesError> {
    let facts = statvfs(path)
        .map_err(|errno| ResourcesError::Disk { path: path.to_owned(), source: errno.into() })?;
    let bytes = facts.blocks().saturating_mul(facts.fragment_size());
    Ok(bytes / MB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_keep_half() {
        assert_eq!(spare(8192, 1024), 7168);
        assert_eq!(spare(2048, 1024), 1024);
        assert_eq!(spare(1000, 1024), 500);
    }

    #[test]
    fn meminfo_is_read() {
        assert_eq!(memory_mb("MemTotal:        2097152 kB\nMemFree: 1 kB\n"), Some(2048));
        assert_eq!(memory_mb("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn what_is_named_is_not_detected() {
        let all = resources(Some("cpus:0.5;mem:64;disk:10;ports:[1-2]"), "*", Path::new("/"), None);
        assert_eq!(
            all.unwrap().to_string(),
            Resources::parse("cpus:0.5;mem:64;disk:10;ports:[1-2]", "*").unwrap().to_string()
        );
        let some = resources(Some("mem:64"), "*", Path::new("/"), None).unwrap();
        assert!(some.cpus() >= mezzo_types::Scalar::from_f64(1.0).unwrap());
        assert_eq!(some.ports().to_string(), "[31000-32000]");
        assert!(matches!(
            resources(Some("cpus:x"), "*", Path::new("/"), None),
            Err(ResourcesError::Flag(_))
        ));
    }

    #[test]
    fn gpus_are_detected_where_they_are_isolated() {
        let with = |given: &str, gpus| {
            let given = format!("cpus:1;mem:64;disk:10;ports:[1-2]{given}");
            let all = resources(Some(&given), "*", Path::new("/"), gpus);
            all.map(|all| all.gpus().to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(with("", Some(2)), Ok("2".to_owned()));
        assert_eq!(with(";gpus:1", Some(2)), Ok("1".to_owned()));
        assert_eq!(with(";gpus(ml):1;gpus:1", Some(2)), Ok("2".to_owned()));
        for gpus in [None, Some(0)] {
            assert_eq!(with("", gpus), Ok("0".to_owned()), "{gpus:?}");
        }
        for (given, gpus, words) in [
            (";gpus:3", Some(2), "names 3 GPUs, but 2 can be given out"),
            (";gpus(ml):2;gpus:1", Some(2), "names 3 GPUs, but 2 can be given out"),
            (";gpus:1", Some(0), "names 1 GPUs, but 0 can be given out"),
            (";gpus:1", None, "only where 'gpus' is in --isolation"),
        ] {
            let refused = with(given, gpus).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
        let fraction = resources(Some("gpus:0.5"), "*", Path::new("/"), Some(1));
        assert!(matches!(fraction, Err(ResourcesError::Flag(_))));
    }
}
