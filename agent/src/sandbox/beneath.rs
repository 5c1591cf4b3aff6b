//! Files of a sandbox whose task may be hostile, opened so that nothing leads out of it.
//!
//! The kernel resolves paths with the sandbox as their bound. What is found is looked at before it is opened, so that no pipe is
//! waited for and no device is woken.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

/// Entries of a directory that are listed at most: an answer is built in memory.
pub(crate) const ENTRIES_MAX: usize = 20_000;

/// Why something in a sandbox is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is nothing of that name")]
    Missing,
    #[error("it leads out of the sandbox")]
    Outside,
    #[error("it is {0}, and only regular files are read")]
    Kind(&'static str),
    #[error("it is a hard link to a file of another user")]
    Foreign,
    #[error("it is no directory")]
    NoDirectory,
    #[error(
        "the directory has more than {ENTRIES_MAX} entries, which is more than one answer holds"
    )]
    TooMany,
    #[error("the system refused")]
    Failed(#[source] io::Error),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Refused::Missing,
            Errno::EXDEV | Errno::ELOOP => Refused::Outside,
            errno => Refused::Failed(errno.into()),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Failed(error)
    }
}

/// Something in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) facts: FileStat,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    File(File),
    Directory(OwnedFd),
}

/// Whether a path stays below where it starts, links aside.
pub(crate) fn is_beneath(path: &str) -> bool {
    let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    Path::new(path).components().all(inside)
}

/// Opens a regular file below `directory`.
pub(crate) fn open_beneath(directory: impl AsFd, path: &str) -> Result<File, Refused> {
    match find_beneath(directory, path)? {
        Found::File(file) => Ok(file),
        Found::Directory(_) => Err(Refused::Kind("a directory")),
    }
}

/// Opens a regular file or a directory below `directory`.
pub(crate) fn find_beneath(directory: impl AsFd, path: &str) -> Result<Found, Refused> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.is_empty() { "." } else { path };
    let found = File::from(openat2(&directory, path, how)?);
    let facts = found.metadata()?;
    let kind = SFlag::from_bits_truncate(facts.mode() & SFlag::S_IFMT.bits());
    let directory_wanted = match kind {
        SFlag::S_IFREG => OFlag::empty(),
        SFlag::S_IFDIR => OFlag::O_DIRECTORY,
        kind => return Err(Refused::Kind(kind_name(kind))),
    };
    if kind == SFlag::S_IFREG && facts.nlink() > 1 {
        // Where hard links are not protected (fs.protected_hardlinks), anybody can link to anything.
        let owner = nix::sys::stat::fstat(&directory)?.st_uid;
        if owner != 0 && owner != facts.uid() {
            return Err(Refused::Foreign);
        }
    }
    // The very same file, whatever lies at the path by now.
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = open(again.as_str(), flags | directory_wanted, Mode::empty())?;
    Ok(if kind == SFlag::S_IFDIR { Found::Directory(opened) } else { Found::File(opened.into()) })
}

/// The entries of a directory below `directory`, by name. Links are told as such.
pub(crate) fn list_beneath(directory: impl AsFd, path: &str) -> Result<Vec<Entry>, Refused> {
    let Found::Directory(found) = find_beneath(directory, path)? else {
        return Err(Refused::NoDirectory);
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", found.as_raw_fd()))? {
        let name = entry?.file_name();
        if entries.len() == ENTRIES_MAX {
            return Err(Refused::TooMany);
        }
        // It may have gone since.
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let Ok(facts) = fstatat(&found, name.as_os_str(), flags) else { continue };
        entries.push(Entry { name: name.to_string_lossy().into_owned(), facts });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFIFO => "a pipe",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFBLK | SFlag::S_IFCHR => "a device",
        _ => "no regular file",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::mknod;

    use super::*;

    #[test]
    fn what_leads_out_or_is_no_file_is_refused_with_the_reason() {
        let work = tempfile::tempdir().expect("tempdir");
        let sandbox = work.path().join("sandbox");
        std::fs::create_dir_all(sandbox.join("deep/er")).expect("directories");
        std::fs::write(work.path().join("secret"), "secret").expect("write");
        std::fs::write(sandbox.join("file"), "text").expect("write");
        symlink("/etc/passwd", sandbox.join("absolute")).expect("link");
        symlink("../secret", sandbox.join("up")).expect("link");
        symlink("..", sandbox.join("deep/er/parent")).expect("link");
        symlink("file", sandbox.join("inside")).expect("link");
        symlink("/proc/self/root", sandbox.join("magic")).expect("link");
        nix::unistd::mkfifo(&sandbox.join("pipe"), Mode::S_IRWXU).expect("fifo");
        let null = nix::sys::stat::makedev(1, 3);
        mknod(&sandbox.join("null"), SFlag::S_IFCHR, Mode::S_IRWXU, null).expect("a device");
        std::fs::hard_link(work.path().join("secret"), sandbox.join("hard")).expect("link");
        std::os::unix::fs::chown(&sandbox, Some(65534), Some(65534)).expect("chown");
        let directory = File::open(&sandbox).expect("opens");

        for path in ["file", "inside", "deep/../file"] {
            open_beneath(&directory, path).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
        let said = |path: &str| open_beneath(&directory, path).expect_err(path).to_string();
        for path in ["absolute", "up", "magic/etc/passwd", "/etc/passwd", "../secret"] {
            assert_eq!(said(path), "it leads out of the sandbox", "{path}");
        }
        assert_eq!(said("pipe"), "it is a pipe, and only regular files are read");
        assert_eq!(said("null"), "it is a device, and only regular files are read");
        assert_eq!(said("deep"), "it is a directory, and only regular files are read");
        assert_eq!(said("hard"), "it is a hard link to a file of another user");
        assert_eq!(said("none"), "there is nothing of that name");

        let names = |path: &str| {
            let entries = list_beneath(&directory, path).unwrap_or_else(|e| panic!("{path}: {e}"));
            entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names("deep"), ["er"]);
        assert_eq!(names("deep/er/parent"), ["er"]);
        assert_eq!(names("").len(), 9);
        assert!(matches!(list_beneath(&directory, "up"), Err(Refused::Outside)));
        assert!(matches!(list_beneath(&directory, "file"), Err(Refused::NoDirectory)));
    }
}
