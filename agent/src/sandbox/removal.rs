//! Removing a directory tree that a hostile task may have made.
//!
//! Nothing outside is ever touched: links are removed and not followed, mounts are not entered. Few files are open however
//! deep the tree is: what lies too deep is moved up first. What is immutable is made mutable.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mezzo_agent_sys::clear_protection;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Directories that are open at the same time.
const DEPTH_MAX: usize = 32;

/// Why a tree is still there, at least in part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    #[error("{path} is a mount point; unmount it and it is removed")]
    Mounted { path: PathBuf },
    #[error("could not remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the agent is stopping")]
    Stopped,
}

/// Removes the directory `name` of `parent`, which belongs to the agent, with all that is in it, as far as it goes. Blocks for as long
/// as that takes, looking at `stop` at each step.
///
/// # Errors
/// The first of what could not be removed; the rest is.
pub(crate) fn remove_tree(
    parent: &Path,
    name: &str,
    stop: &AtomicBool,
) -> Result<(), RemovalError> {
    let path = parent.join(name);
    let failed = |errno: Errno| RemovalError::Remove { path: path.clone(), source: errno.into() };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let parent = open(parent, flags, Mode::empty()).map_err(failed)?;
    let root = openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
    let mut removal = Removal { root: &root, stop, moved: 0, failed: None };
    loop {
        let before = removal.moved;
        removal.contents(&root, &path, 0)?;
        // What was moved up is at the top now.
        if removal.moved == before {
            break;
        }
    }
    if let Some(error) = removal.failed {
        return Err(error);
    }
    unlink(&parent, OsStr::new(name), UnlinkatFlags::RemoveDir).map_err(failed)
}

struct Removal<'a> {
    root: &'a OwnedFd,
    stop: &'a AtomicBool,
    /// Directories that were moved up.
    moved: u64,
    failed: Option<RemovalError>,
}

impl Removal<'_> {
    /// Removes what is in a directory. Fails only if asked to stop.
    fn contents(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), RemovalError> {
        // The directory that is open, whatever lies at its path by now.
        let entries = match fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())) {
            Ok(entries) => entries,
            Err(error) => {
                self.note(path, errno_of(&error));
                return Ok(());
            }
        };
        for entry in entries {
            if self.stop.load(Ordering::Relaxed) {
                return Err(RemovalError::Stopped);
            }
            let name = match entry {
                Ok(entry) => entry.file_name(),
                Err(error) => {
                    self.note(path, errno_of(&error));
                    return Ok(());
                }
            };
            let name = name.as_os_str();
            let path = || path.join(name);
            match unlink(directory, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::EISDIR) => {}
                Err(errno) => {
                    self.note(&path(), errno);
                    continue;
                }
            }
            match unlink(directory, name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
                Err(errno) => {
                    self.note(&path(), errno);
                    continue;
                }
            }
            let inner = match open_directory(directory, name) {
                Ok(inner) => inner,
                Err(errno) => {
                    self.note(&path(), errno);
                    continue;
                }
            };
            if depth >= DEPTH_MAX {
                self.move_up(directory, name, &path());
                continue;
            }
            self.contents(&inner, &path(), depth + 1)?;
            match unlink(directory, name, UnlinkatFlags::RemoveDir) {
                // Something in it stays, which was noted, or moves up in the next round.
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => {}
                Err(errno) => self.note(&path(), errno),
            }
        }
        Ok(())
    }

    fn move_up(&mut self, directory: &OwnedFd, name: &OsStr, path: &Path) {
        loop {
            let to = format!(".deep.{}", self.moved);
            self.moved += 1;
            match renameat(directory, name, self.root, to.as_str()) {
                Ok(()) => return,
                // Of an earlier try, or the task's.
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                Err(errno) => {
                    self.moved -= 1;
                    return self.note(path, errno);
                }
            }
        }
    }

    fn note(&mut self, path: &Path, errno: Errno) {
        if self.failed.is_none() {
            let path = path.to_owned();
            self.failed = Some(match errno {
                Errno::EXDEV | Errno::EBUSY => RemovalError::Mounted { path },
                errno => RemovalError::Remove { path, source: errno.into() },
            });
        }
    }
}

/// Unlinks a name; what `chattr` protects, too.
pub(super) fn unlink(directory: &OwnedFd, name: &OsStr, flags: UnlinkatFlags) -> Result<(), Errno> {
    match unlinkat(directory, name, flags) {
        Err(Errno::EPERM) => {}
        done => return done,
    }
    // Either the directory or what is in it may be immutable. Neither may be possible: then it stays.
    let _ = clear_protection(directory);
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH);
    // Pipes and devices cannot be protected, so opening them is of no use: they are looked at first.
    let facts = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(facts.st_mode & SFlag::S_IFMT.bits());
    if matches!(kind, SFlag::S_IFREG | SFlag::S_IFDIR)
        && let Ok(file) = openat2(directory, name, how)
    {
        let _ = clear_protection(file);
    }
    unlinkat(directory, name, flags)
}

/// Not through links, and not into mounts, of whatever file system.
fn open_directory(directory: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let how =
        OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    openat2(directory, name, how)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use nix::mount::{MsFlags, mount, umount};
    use nix::sys::stat::mkdirat;

    use super::*;

    static GO: AtomicBool = AtomicBool::new(false);

    struct Fixture {
        parent: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Fixture {
            let parent = tempfile::tempdir().expect("tempdir");
            fs::create_dir(parent.path().join("tree")).expect("creates");
            Fixture { parent }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.parent.path().join(name)
        }

        fn remove(&self) -> Result<(), RemovalError> {
            remove_tree(self.parent.path(), "tree", &GO)
        }
    }

    #[test]
    fn links_pipes_and_full_directories_go_and_nothing_outside_does() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path("tree/a/b/c")).expect("creates");
        fs::write(fixture.path("outside"), "precious").expect("writes");
        symlink(fixture.path("outside"), fixture.path("tree/a/link")).expect("links");
        symlink(fixture.parent.path(), fixture.path("tree/a/b/up")).expect("links");
        fs::hard_link(fixture.path("outside"), fixture.path("tree/hard")).expect("links");
        nix::unistd::mkfifo(&fixture.path("tree/pipe"), Mode::S_IRWXU).expect("fifo");
        for number in 0..5000 {
            fs::write(fixture.path(&format!("tree/a/b/c/{number}")), "").expect("writes");
        }
        fixture.remove().expect("removes");
        assert!(!fixture.path("tree").exists());
        assert_eq!(fs::read(fixture.path("outside")).expect("stays"), b"precious");
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let fixture = Fixture::new();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut at = open(&fixture.path("tree"), flags, Mode::empty()).expect("opens");
        for _ in 0..3000 {
            mkdirat(&at, "deeper", Mode::S_IRWXU).expect("creates");
            at = openat(&at, "deeper", flags, Mode::empty()).expect("opens");
        }
        drop(at);
        fixture.remove().expect("removes");
        assert!(!fixture.path("tree").exists());
    }

    #[test]
    fn what_is_immutable_goes() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path("tree/a/b")).expect("creates");
        fs::write(fixture.path("tree/a/b/file"), "").expect("writes");
        fs::write(fixture.path("tree/a/log"), "").expect("writes");
        for (flag, name) in
            [("+i", "tree/a/b/file"), ("+a", "tree/a/log"), ("+i", "tree/a/b"), ("+i", "tree/a")]
        {
            let set = Command::new("chattr").arg(flag).arg(fixture.path(name)).status();
            assert!(set.expect("chattr").success(), "{name}");
        }
        fs::remove_file(fixture.path("tree/a/b/file")).expect_err("protected");
        fixture.remove().expect("removes");
        assert!(!fixture.path("tree").exists());
    }

    #[test]
    fn a_mount_is_not_entered_and_everything_else_goes() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path("tree/a/mounted")).expect("creates");
        fs::create_dir(fixture.path("elsewhere")).expect("creates");
        fs::write(fixture.path("elsewhere/data"), "precious").expect("writes");
        fs::write(fixture.path("tree/a/file"), "").expect("writes");
        let at = fixture.path("tree/a/mounted");
        // Of the same file system, where a device number tells nothing.
        let nothing = None::<&str>;
        mount(Some(&fixture.path("elsewhere")), &at, nothing, MsFlags::MS_BIND, nothing)
            .expect("root");
        let refused = fixture.remove();
        let data = fs::read(fixture.path("elsewhere/data"));
        umount(&at).expect("unmounts");
        let refused = refused.expect_err("a mount").to_string();
        assert!(refused.contains("tree/a/mounted is a mount point"), "{refused}");
        assert_eq!(data.expect("stays"), b"precious");
        assert!(!fixture.path("tree/a/file").exists());
        fixture.remove().expect("removes the rest");
        assert_eq!(fs::read(fixture.path("elsewhere/data")).expect("stays"), b"precious");
    }

    #[test]
    fn a_removal_that_is_stopped_goes_on_later() {
        let fixture = Fixture::new();
        fs::write(fixture.path("tree/file"), "").expect("writes");
        let stopped = remove_tree(fixture.parent.path(), "tree", &AtomicBool::new(true));
        assert!(matches!(stopped, Err(RemovalError::Stopped)));
        fixture.remove().expect("removes");
    }
}
