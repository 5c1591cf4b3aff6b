//! What is pinned: `<pins>/v<layout>/`, with one file per map (its name) and per link (`link_` and the program's name).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mezzo_agent_ebpf_common::LAYOUT;
use mezzo_agent_sys::{BpfLink, bpf_link_info, bpf_open, bpf_pin};

use crate::error::OpenError;
use crate::feature::{PROGRAMS, Place};
use crate::host;

#[derive(Debug)]
pub(crate) struct Pins {
    /// Of this agent, all layouts.
    parent: PathBuf,
    directory: PathBuf,
}

impl Pins {
    /// Makes the directories.
    pub fn open(parent: &Path) -> Result<Self, OpenError> {
        if !host::is_bpffs(parent) {
            return Err(OpenError::NoBpffs { path: parent.to_owned() });
        }
        let pins = Pins { parent: parent.to_owned(), directory: parent.join(format!("v{LAYOUT}")) };
        pins.make()?;
        Ok(pins)
    }

    /// Where the maps of this layout are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The pinned link of a program; `None` if there is none that is open to us.
    pub fn link(&self, program: &str) -> Option<(OwnedFd, BpfLink)> {
        let link = bpf_open(&self.link_path(program)).ok()?;
        let info = bpf_link_info(link.as_fd()).ok()?;
        Some((link, info))
    }

    /// Pins a link in the place of another, which ends with it.
    pub fn keep_link(&self, program: &str, link: &OwnedFd) -> io::Result<()> {
        self.drop_link(program)?;
        bpf_pin(link.as_fd(), &self.link_path(program))
    }

    /// Ends a link, if there is one.
    pub fn drop_link(&self, program: &str) -> io::Result<()> {
        match fs::remove_file(self.link_path(program)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes everything of this layout: programs without a pin are detached.
    pub fn clear(&self) -> Result<(), OpenError> {
        remove_directory(&self.directory)?;
        self.make()
    }

    /// For nobody else to look into.
    fn make(&self) -> Result<(), OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(failed("make", &self.directory))
    }

    /// Removes what agents of other layouts have left; whether there was anything.
    pub fn clear_other_layouts(&self) -> Result<bool, OpenError> {
        let mut any = false;
        for path in list(&self.parent)? {
            if path != self.directory && path.is_dir() {
                remove_directory(&path)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Removes everything of this agent.
    pub fn remove(&self) -> Result<(), OpenError> {
        self.clear_other_layouts()?;
        remove_directory(&self.directory)?;
        fs::remove_dir(&self.parent).map_err(failed("remove", &self.parent))
    }

    /// Removes the pins of another agent if they tell that its cgroup is gone: links into it say so. Where no such link is pinned, or an
    /// agent of another version pinned them elsewhere, nothing is known and nothing removed.
    pub fn remove_orphan(parent: &Path) -> Result<(), OpenError> {
        let directory = parent.join(format!("v{LAYOUT}"));
        let pins = Pins { parent: parent.to_owned(), directory };
        let in_cgroups = PROGRAMS.iter().filter(|p| matches!(p.place, Place::Cgroup(_)));
        let mut links = in_cgroups.filter_map(|program| pins.link(program.name)).peekable();
        if links.peek().is_some() && links.all(|(_, info)| info.cgroup == 0) {
            pins.remove()
        } else {
            Ok(())
        }
    }

    fn link_path(&self, program: &str) -> PathBuf {
        self.directory.join(format!("link_{program}"))
    }
}

/// A directory of pins, which has no directories in it.
fn remove_directory(directory: &Path) -> Result<(), OpenError> {
    for path in list(directory)? {
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    fs::remove_dir(directory).map_err(failed("remove", directory))
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
    entries.map(|entry| Ok(entry.map_err(failed("list", directory))?.path())).collect()
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Pin { action, path: path.to_owned(), source }
}
