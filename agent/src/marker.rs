//! Which agent runs from a runtime directory.
//!
//! Containers outlive their agent, and an agent that finds no records takes itself for a new one and ends
//! what it finds. If only the disk with the records is not mounted, that would be a catastrophe; so the
//! agent's id is written down in the runtime directory as well, which goes with the boot like the
//! containers do, and both must agree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "agent-id";

/// The records and the runtime directory tell of different agents.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} says that agent '{expected}' runs from this runtime directory, but the records in {work_dir} are {found}: \
     mount the disk with its records, or name its --work-dir, or another --runtime-dir and --cgroups-root for a second \
     agent; to give agent '{expected}' up and end its tasks, remove {path}"
)]
pub struct MarkerError {
    path: PathBuf,
    expected: String,
    work_dir: PathBuf,
    found: String,
}

/// Whether an agent with these records (`id` of none if there are none) may run from `runtime_dir`.
pub(crate) fn check(
    runtime_dir: &Path,
    work_dir: &Path,
    id: Option<&str>,
) -> Result<(), MarkerError> {
    let path = runtime_dir.join(NAME);
    let expected = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
    if expected.is_empty() || id == Some(expected.as_str()) {
        return Ok(());
    }
    let found = match id {
        Some(id) => format!("those of agent '{id}'"),
        None => "none at all".to_owned(),
    };
    Err(MarkerError { path, expected, work_dir: work_dir.to_owned(), found })
}

/// Writes down who runs from `runtime_dir`.
pub(crate) fn set(runtime_dir: &Path, id: &str) {
    let path = runtime_dir.join(NAME);
    if fs::read_to_string(&path).is_ok_and(|known| known.trim() == id) {
        return;
    }
    if let Err(error) = fs::write(&path, format!("{id}\n")) {
        tracing::warn!(path = %path.display(), %error, "the agent's id could not be written down");
    }
}

/// Nobody runs from `runtime_dir` any more.
pub(crate) fn clear(runtime_dir: &Path) {
    let path = runtime_dir.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "the agent's id could not be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_vanish_are_noticed() {
        let runtime = tempfile::tempdir().expect("a directory");
        let check = |id| check(runtime.path(), Path::new("/w"), id);
        check(None).expect("a first start");
        set(runtime.path(), "c-S1");
        check(Some("c-S1")).expect("the same");
        let text = check(None).expect_err("vanished").to_string();
        assert!(text.contains("agent 'c-S1' runs") && text.contains("none at all"), "{text}");
        let text = check(Some("c-S2")).expect_err("another").to_string();
        assert!(text.contains("those of agent 'c-S2'"), "{text}");
        clear(runtime.path());
        check(None).expect("it left");
    }
}
