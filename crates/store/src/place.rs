//! Whether the directory is still the one that was opened.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory as it was when the store was opened. Open files of a directory that was deleted or
/// unmounted go on as if nothing had happened, and what is written to them is lost.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Place {
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), identity: identity(dir) }
    }

    /// Whether the path leads to another directory now, or to none, or to one without the store.
    pub fn is_gone(&self) -> bool {
        self.identity.is_some()
            && (identity(&self.dir) != self.identity || !self.dir.join("CURRENT").exists())
    }
}

fn identity(dir: &Path) -> Option<(u64, u64)> {
    fs::metadata(dir).ok().map(|facts| (facts.dev(), facts.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_replaced_is_not_the_same() {
        let parent = tempfile::TempDir::new().expect("a directory");
        let dir = parent.path().join("store");
        fs::create_dir(&dir).expect("creates");
        fs::write(dir.join("CURRENT"), "").expect("writes");
        let place = Place::of(&dir);
        assert!(!place.is_gone());
        fs::rename(&dir, parent.path().join("away")).expect("renames");
        assert!(place.is_gone());
        fs::create_dir(&dir).expect("creates");
        fs::write(dir.join("CURRENT"), "").expect("writes");
        assert!(place.is_gone());
    }
}
