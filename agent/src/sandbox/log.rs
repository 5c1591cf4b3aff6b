//! One output file of a run, and what was rotated out of it.
//!
//! The task holds the file open for appending, so the bytes before its end never change. Rotation copies
//! the oldest of them to a *piece* (`stdout.1` is the newest, higher numbers are older) and takes them out of
//! the file's head in one step of the file system, which writers cannot get between: no byte is lost or
//! doubled, nobody is stopped, and no process copies.
//!
//! Where the file system can collapse a range (ext4, XFS), the head disappears. Where it can only punch
//! holes (btrfs, tmpfs), the space is given back and the file's offsets go on growing: the head is a hole.
//!
//! Positions count the bytes that the task wrote since it began, whatever was rotated since. A piece
//! carries, in an attribute that only root can set, where it starts and how much had been collapsed before.
//!
//! # Crashes
//! The order is: copy to a draft and put it on the disk, punch the head, rename the draft to `.1`, collapse the
//! hole. What is there tells how far it came, without any record:
//!
//! | draft | head | then |
//! |---|---|---|
//! | there | data | the copy was not taken out: the draft is dropped |
//! | there | hole | the draft is the only copy: it becomes `.1` |
//! | – | hole of `.1`'s length | collapsed, if the file system can |

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, fchown};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use mezzo_agent_sys::{get_xattr, set_xattr};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FallocateFlags, OFlag, fallocate, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, Whence, lseek, unlinkat};

use super::beneath::open_beneath;

/// Pieces that one output file may have at most, so that finding them is a bounded number of calls.
pub(crate) const PIECES_MAX: u32 = 100;
/// Only root can set or remove it: a task cannot lie about positions.
const ATTRIBUTE: &std::ffi::CStr = c"trusted.mezzo.log";
/// Locks shared by all files, by inode: readers of a file wait for the moment of its rotation only.
const LOCKS: usize = 64;

/// How much is kept of an output file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes in the file, and in a piece, until it is rotated.
    pub max_bytes: u64,
    /// Pieces that are kept, 1 to 100.
    pub pieces: u32,
}

/// How the head of a file can be taken away here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) collapse: bool,
    /// Ranges begin and end at multiples of it, in bytes.
    pub(crate) align: u64,
}

impl Method {
    /// Tries what the file system of `directory` can do. `None`: neither, or it keeps no attributes.
    pub(crate) fn probe(directory: impl AsFd) -> io::Result<Option<Method>> {
        let name = ".mezzo-probe";
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW;
        let file = openat(&directory, name, flags | OFlag::O_CLOEXEC, Mode::S_IRUSR)?;
        unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir)?;
        let file = File::from(file);
        if set_xattr(&file, ATTRIBUTE, b"0 0").is_err() {
            return Ok(None);
        }
        let block = file.metadata()?.blksize().max(512);
        // Some file systems allocate several blocks at a time, and collapse no less.
        for align in (0..9).map(|shift| block << shift) {
            file.set_len(0)?;
            file.write_all_at(&vec![b'x'; usize::try_from(align).unwrap_or(0)], 0)?;
            file.write_all_at(b"rest", align)?;
            if collapse(&file, 0, align).is_ok() {
                return Ok(Some(Method { collapse: true, align }));
            }
        }
        let can_punch = punch(&file, 0, block).is_ok();
        Ok(can_punch.then_some(Method { collapse: false, align: block }))
    }
}

/// Excludes readers for the moment in which a file's offsets change.
#[derive(Clone, Debug)]
pub(crate) struct LogLocks(Arc<[RwLock<()>; LOCKS]>);

impl Default for LogLocks {
    fn default() -> Self {
        LogLocks(Arc::new(std::array::from_fn(|_| RwLock::new(()))))
    }
}

impl LogLocks {
    fn of(&self, inode: u64) -> &RwLock<()> {
        let index = usize::try_from(inode % LOCKS as u64).unwrap_or(0);
        &self.0[index]
    }
}

/// Positions between which something can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The oldest byte that is kept, in whatever piece.
    pub(crate) kept: u64,
    /// The first byte that is in no piece: where the file itself begins.
    pub(crate) held: u64,
    /// After the newest byte.
    pub(crate) end: u64,
}

/// An output file with its pieces.
#[derive(Debug)]
pub(crate) struct Log {
    directory: OwnedFd,
    file: File,
    inode: u64,
    name: String,
    locks: LogLocks,
}

/// A piece as its attribute tells it.
#[derive(Debug)]
struct Piece {
    file: File,
    /// Position of its first byte.
    start: u64,
    length: u64,
    /// Bytes collapsed out of the file before this piece was.
    collapsed: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// Offset in the file at which its bytes were.
    fn offset(&self) -> u64 {
        self.start.saturating_sub(self.collapsed)
    }
}

/// Where the file itself begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Position of the first byte that is in no piece.
    position: u64,
    /// Its offset in the file.
    offset: u64,
}

impl Head {
    fn collapsed(self) -> u64 {
        self.position.saturating_sub(self.offset)
    }
}

impl Log {
    /// The output file `name` of the sandbox `directory`, to be rotated: opened for writing, and only if it is what the agent made, as
    /// far as can be told; with certainty if its inode is known.
    pub(crate) fn open(
        directory: OwnedFd,
        name: &str,
        inode: Option<u64>,
        locks: LogLocks,
    ) -> io::Result<Log> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&directory, name, flags, Mode::empty())?);
        let facts = file.metadata()?;
        // A task may have put a link to somebody else's file in its place.
        let made = match inode {
            Some(inode) => facts.ino() == inode,
            None => {
                let owner = nix::sys::stat::fstat(&directory)?.st_uid;
                facts.nlink() == 1 && facts.uid() == owner
            }
        };
        if !facts.is_file() || !made {
            return Err(io::Error::other(format!("'{name}' is not the file that the agent made")));
        }
        Ok(Log { directory, inode: facts.ino(), file, name: name.to_owned(), locks })
    }

    /// The same for reading, from a file that was opened.
    pub(crate) fn reader(
        directory: OwnedFd,
        file: File,
        name: &str,
        locks: LogLocks,
    ) -> io::Result<Log> {
        let inode = file.metadata()?.ino();
        Ok(Log { directory, file, inode, name: name.to_owned(), locks })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Finishes or undoes what a crash interrupted.
    pub(crate) fn recover(&self, method: Method) -> io::Result<()> {
        let _guard = self.lock().write().unwrap_or_else(PoisonError::into_inner);
        // Every interruption leaves the draft behind: without it nothing else has to be looked at.
        if self.exists(&self.draft_name())? {
            if let Some(draft) = self.piece_named(&self.draft_name())?
                && self.first_data(draft.offset())? >= draft.offset().saturating_add(draft.length)
            {
                self.make_room()?;
                self.rename(&self.draft_name(), &self.piece_name(1))?;
            }
            self.close_gaps()?;
            // Last, for the next start if this one is interrupted as well.
            self.remove(&self.draft_name())?;
        }
        if method.collapse
            && let Some(newest) = self.newest()?
            && newest.length > 0
            && self.first_data(newest.offset())? >= newest.offset().saturating_add(newest.length)
            && self.file.metadata()?.len() > newest.offset().saturating_add(newest.length)
        {
            collapse(&self.file, newest.offset(), newest.length)?;
        }
        Ok(())
    }

    /// Whether there is something to rotate. A file that cannot be measured says so when it is rotated.
    pub(crate) fn is_over(&self, limits: LogLimits) -> bool {
        // Cheap for the many that are not: a file is no shorter than what it holds.
        let length = self.file.metadata().map_or(0, |facts| facts.len());
        length > limits.max_bytes
            && self
                .head()
                .map_or(true, |head| length.saturating_sub(head.offset) > limits.max_bytes)
    }

    /// Rotates until the file holds less than its limit. Returns how many times it did. Blocks for as long as copying takes.
    pub(crate) fn rotate(&self, limits: LogLimits, method: Method) -> io::Result<u32> {
        let mut times = 0;
        // A task that writes faster than this copies ends the loop, for others wait.
        while times < limits.pieces && self.rotate_once(limits, method)? {
            times += 1;
        }
        Ok(times)
    }

    fn rotate_once(&self, limits: LogLimits, method: Method) -> io::Result<bool> {
        let facts = self.file.metadata()?;
        // Removed by its task: pieces would outlive what they are of.
        if facts.nlink() == 0 {
            return Ok(false);
        }
        let head = self.head()?;
        let held = facts.len().saturating_sub(head.offset);
        if held <= limits.max_bytes {
            return Ok(false);
        }
        // A file that was rotated is not empty, so that a hole at its head is known from data.
        let most = limits.max_bytes.max(method.align).min(held - 1);
        let length = most - most % method.align;
        if length == 0 {
            return Ok(false);
        }
        // First, so that a full disk has room for the next.
        for number in limits.pieces..=PIECES_MAX {
            self.remove(&self.piece_name(number))?;
        }
        self.remove(&self.draft_name())?;
        self.draft(head, length, &facts)?;

        let _guard = self.lock().write().unwrap_or_else(PoisonError::into_inner);
        let draft = self.draft_name();
        if self.file.metadata()?.len() <= head.offset.saturating_add(length) {
            // Cut short by its task meanwhile.
            self.remove(&draft)?;
            return Ok(false);
        }
        self.make_room()?;
        punch(&self.file, head.offset, length)?;
        self.rename(&draft, &self.piece_name(1))?;
        if method.collapse {
            collapse(&self.file, head.offset, length)?;
        }
        Ok(true)
    }

    /// Copies the first `length` bytes to the draft, all the way to the disk.
    fn draft(&self, head: Head, length: u64, like: &std::fs::Metadata) -> io::Result<()> {
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let draft = openat(
            &self.directory,
            self.draft_name().as_str(),
            flags,
            Mode::from_bits_truncate(0o644),
        )?;
        let draft = File::from(draft);
        let copied = self.fill(&draft, head, length, like);
        if copied.is_err() {
            self.remove(&self.draft_name())?;
        }
        copied
    }

    fn fill(
        &self,
        draft: &File,
        head: Head,
        length: u64,
        like: &std::fs::Metadata,
    ) -> io::Result<()> {
        fchown(draft, Some(like.uid()), Some(like.gid()))?;
        // The standard library has the kernel copy, and shares blocks where the file system can.
        (&self.file).seek(SeekFrom::Start(head.offset))?;
        let copied = io::copy(&mut (&self.file).take(length), &mut &*draft)?;
        if copied < length {
            return Err(io::Error::other("it was cut short while it was copied"));
        }
        set_xattr(draft, ATTRIBUTE, attribute(head.position, head.collapsed()).as_bytes())?;
        draft.sync_all()
    }

    /// Frees the number 1: pieces move up to the first number that is free.
    fn make_room(&self) -> io::Result<()> {
        let mut free = 1;
        while free < PIECES_MAX && self.exists(&self.piece_name(free))? {
            free += 1;
        }
        for number in (1..free).rev() {
            self.rename(&self.piece_name(number), &self.piece_name(number + 1))?;
        }
        Ok(())
    }

    /// Numbers pieces from 1 on again, where a crash left a gap.
    fn close_gaps(&self) -> io::Result<()> {
        let mut next = 1;
        for number in 1..=PIECES_MAX {
            if self.exists(&self.piece_name(number))? {
                if number > next {
                    self.rename(&self.piece_name(number), &self.piece_name(next))?;
                }
                next += 1;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.directory, from, &self.directory, to)?)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match nix::sys::stat::fstatat(&self.directory, name, flags) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What can be read now.
    pub(crate) fn span(&self) -> io::Result<Span> {
        let _guard = self.lock().read().unwrap_or_else(PoisonError::into_inner);
        let head = self.head()?;
        let oldest = self.pieces()?.pop().map_or(head.position, |oldest| oldest.start);
        Ok(Span {
            kept: oldest.min(head.position),
            held: head.position,
            end: head.position + self.file.metadata()?.len().saturating_sub(head.offset),
        })
    }

    /// Up to `max` bytes from `position` on, or from the next position that is kept; with the position that they have. Nothing at the end.
    pub(crate) fn read(&self, position: u64, max: usize) -> io::Result<(u64, Bytes)> {
        let _guard = self.lock().read().unwrap_or_else(PoisonError::into_inner);
        let head = self.head()?;
        let mut from = None;
        if position < head.position {
            // From the newest to the oldest: the last that ends behind the position has it, or the next byte after it.
            from = self.pieces()?.into_iter().take_while(|piece| piece.end() > position).last();
        }
        let (file, position, offset, max) = match &from {
            Some(piece) => {
                let position = position.max(piece.start);
                let left = usize::try_from(piece.end() - position).unwrap_or(usize::MAX);
                (&piece.file, position, position - piece.start, max.min(left))
            }
            None => {
                let position = position.max(head.position);
                (&self.file, position, head.offset + (position - head.position), max)
            }
        };
        let mut buffer = vec![0; max];
        let length = file.read_at(&mut buffer, offset)?;
        buffer.truncate(length);
        if length == 0 && from.is_none() {
            // Behind the end only if the task cut its own file short.
            let held = self.file.metadata()?.len().saturating_sub(head.offset);
            return Ok((position.min(head.position + held), Bytes::new()));
        }
        Ok((position, Bytes::from(buffer)))
    }

    fn head(&self) -> io::Result<Head> {
        let Some(newest) = self.newest()? else { return Ok(Head { position: 0, offset: 0 }) };
        let offset = newest.offset();
        let after = offset.saturating_add(newest.length);
        // The hole that it left is still there, for good or for a moment.
        let punched = self.first_data(offset)? >= after;
        Ok(Head { position: newest.end(), offset: if punched { after } else { offset } })
    }

    /// Offset of the first byte at or after `offset` that is no hole; the file's length if there is none.
    fn first_data(&self, offset: u64) -> io::Result<u64> {
        let from = i64::try_from(offset).map_err(io::Error::other)?;
        match lseek(&self.file, from, Whence::SeekData) {
            Ok(at) => Ok(u64::try_from(at).unwrap_or(0)),
            Err(Errno::ENXIO) => Ok(self.file.metadata()?.len()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn newest(&self) -> io::Result<Option<Piece>> {
        self.piece_named(&self.piece_name(1))
    }

    /// From the newest to the oldest.
    fn pieces(&self) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for number in 1..=PIECES_MAX {
            let Some(piece) = self.piece_named(&self.piece_name(number))? else { break };
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// `None` for what is no piece of ours, whatever the task put there.
    fn piece_named(&self, name: &str) -> io::Result<Option<Piece>> {
        let Ok(file) = open_beneath(&self.directory, name) else { return Ok(None) };
        let Some(value) = get_xattr(&file, ATTRIBUTE)? else { return Ok(None) };
        let Some((start, collapsed)) = parse_attribute(&value) else { return Ok(None) };
        let length = file.metadata()?.len();
        Ok(Some(Piece { file, start, length, collapsed }))
    }

    fn lock(&self) -> &RwLock<()> {
        self.locks.of(self.inode)
    }

    fn piece_name(&self, number: u32) -> String {
        format!("{}.{number}", self.name)
    }

    fn draft_name(&self) -> String {
        format!(".{}.rotating", self.name)
    }
}

fn attribute(start: u64, collapsed: u64) -> String {
    format!("{start} {collapsed}")
}

fn parse_attribute(value: &[u8]) -> Option<(u64, u64)> {
    let (start, collapsed) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some((start.parse().ok()?, collapsed.parse().ok()?))
}

fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    change(file, flags, offset, length)
}

fn collapse(file: &File, offset: u64, length: u64) -> io::Result<()> {
    change(file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, offset, length)
}

fn change(file: &File, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    let length = i64::try_from(length).map_err(io::Error::other)?;
    Ok(fallocate(file, flags, offset, length)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LIMITS: LogLimits = LogLimits { max_bytes: 16 << 10, pieces: 3 };

    struct Fixture {
        directory: tempfile::TempDir,
        method: Method,
        locks: LogLocks,
    }

    impl Fixture {
        /// On a disk, or in memory, where files cannot be collapsed but punched.
        fn new(at: &Path) -> Fixture {
            let directory = tempfile::tempdir_in(at).expect("tempdir");
            let probed = Method::probe(File::open(directory.path()).expect("opens"));
            let method = probed.expect("probes").expect("a file system that can rotate");
            File::create(directory.path().join("stdout")).expect("creates");
            Fixture { directory, method, locks: LogLocks::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn directory(&self) -> OwnedFd {
            File::open(self.directory.path()).expect("opens").into()
        }

        fn log(&self) -> Log {
            Log::open(self.directory(), "stdout", None, self.locks.clone()).expect("opens")
        }

        fn append(&self) -> File {
            File::options().append(true).open(self.path("stdout")).expect("opens")
        }

        /// All that is kept, oldest first, as a reader sees it.
        fn read(&self) -> Vec<u8> {
            let log = self.log();
            let mut position = log.span().expect("span").kept;
            let mut all = Vec::new();
            loop {
                let (at, data) = log.read(position, 5000).expect("reads");
                assert_eq!(at, position, "no gap among what is kept");
                if data.is_empty() {
                    return all;
                }
                position += data.len() as u64;
                all.extend_from_slice(&data);
            }
        }
    }

    /// Disk and memory: the two ways of taking a head away.
    fn fixtures() -> [Fixture; 2] {
        let (disk, memory) =
            (Fixture::new(&std::env::temp_dir()), Fixture::new(Path::new("/dev/shm")));
        assert!(!memory.method.collapse, "memory can only punch");
        [disk, memory]
    }

    fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
        range.flat_map(|number| format!("line {number:08}\n").into_bytes()).collect()
    }

    #[test]
    fn what_is_rotated_is_kept_in_order_and_the_oldest_goes() {
        for fixture in fixtures() {
            let (log, mut file) = (fixture.log(), fixture.append());
            assert_eq!(log.rotate(LIMITS, fixture.method).expect("rotates"), 0, "nothing to do");
            let all = lines(0..14_000);
            let mut rotated = 0;
            for part in all.chunks(9_000) {
                file.write_all(part).expect("writes");
                rotated += log.rotate(LIMITS, fixture.method).expect("rotates");
            }
            assert!(rotated > 5, "{rotated}");
            assert!(!log.is_over(LIMITS));
            let kept = fixture.read();
            assert!(all.ends_with(&kept), "the newest bytes, each once");
            // Three pieces of the limit, and what is in the file.
            assert!(kept.len() as u64 >= 3 * LIMITS.max_bytes, "{}", kept.len());
            let span = log.span().expect("span");
            assert_eq!(span.end, all.len() as u64, "positions count from the first byte");
            assert_eq!(span.kept, all.len() as u64 - kept.len() as u64);
            let names = std::fs::read_dir(fixture.directory.path()).expect("lists");
            assert_eq!(names.count(), 4, "stdout and three pieces");
            // What was rotated away is a jump to the oldest that is kept.
            assert_eq!(log.read(0, 10).expect("reads").0, span.kept);
            // For those who look at the files themselves.
            let mut files = Vec::new();
            for name in ["stdout.3", "stdout.2", "stdout.1", "stdout"] {
                files.extend(std::fs::read(fixture.path(name)).expect("reads"));
            }
            files.retain(|byte| *byte != 0);
            assert_eq!(files, kept);
        }
    }

    #[test]
    fn a_writer_that_never_stops_loses_nothing_and_doubles_nothing() {
        for fixture in fixtures() {
            let log = fixture.log();
            let limits = LogLimits { max_bytes: 64 << 10, pieces: PIECES_MAX };
            let (mut file, done) = (fixture.append(), AtomicBool::new(false));
            let all = lines(0..300_000);
            let rotations = std::thread::scope(|scope| {
                scope.spawn(|| {
                    // As a task does: many small writes.
                    all.chunks(70).for_each(|part| file.write_all(part).expect("writes"));
                    done.store(true, Ordering::Release);
                });
                // A follower that keeps up sees the same bytes, whatever is rotated under it.
                let follower = scope.spawn(|| {
                    let log = fixture.log();
                    let mut seen = Vec::new();
                    loop {
                        let over = done.load(Ordering::Acquire);
                        let (at, data) = log.read(seen.len() as u64, 30_000).expect("reads");
                        assert_eq!(at, seen.len() as u64);
                        seen.extend_from_slice(&data);
                        if over && data.is_empty() {
                            return seen;
                        }
                    }
                });
                let mut rotations = 0;
                while !done.load(Ordering::Acquire) {
                    rotations += log.rotate(limits, fixture.method).expect("rotates");
                }
                assert!(
                    follower.join().expect("follows") == all,
                    "a follower lost or doubled bytes"
                );
                rotations
            });
            assert!(rotations >= 10, "{rotations}");
            assert!(fixture.read() == all, "bytes were lost or doubled");
        }
    }

    /// Every state that a crash can leave is made by hand, and taken up.
    #[test]
    fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
        for fixture in fixtures() {
            let method = fixture.method;
            let all = lines(0..12_000);
            let (log, mut file) = (fixture.log(), fixture.append());
            file.write_all(&all[..40_000]).expect("writes");
            log.rotate(LIMITS, method).expect("rotates");
            file.write_all(&all[40_000..60_000]).expect("writes");
            let mut written = 60_000;
            for step in ["draft", "half a draft", "gap", "punch", "rename"] {
                let head = log.head().expect("head");
                let facts = log.file.metadata().expect("facts");
                let length = LIMITS.max_bytes;
                log.draft(head, length, &facts).expect("drafts");
                match step {
                    "draft" => {}
                    "half a draft" => {
                        let draft =
                            File::options().write(true).open(fixture.path(".stdout.rotating"));
                        draft.expect("opens").set_len(100).expect("cuts");
                    }
                    "gap" => log.make_room().expect("shifts"),
                    "punch" => {
                        log.make_room().expect("shifts");
                        punch(&log.file, head.offset, length).expect("punches");
                    }
                    _ => {
                        log.make_room().expect("shifts");
                        punch(&log.file, head.offset, length).expect("punches");
                        log.rename(".stdout.rotating", "stdout.1").expect("renames");
                    }
                }
                // The task goes on meanwhile.
                file.write_all(&all[written..written + 20_000]).expect("writes");
                written += 20_000;
                log.recover(method).expect("recovers");
                assert!(!fixture.path(".stdout.rotating").exists(), "{step}");
                assert!(fixture.read() == all[..written], "{step}");
                log.recover(method).expect("recovers twice");
                assert!(fixture.read() == all[..written], "{step}, again");
            }
            log.rotate(LogLimits { pieces: PIECES_MAX, ..LIMITS }, method).expect("rotates");
            assert!(fixture.read() == all[..written]);
        }
    }

    #[test]
    fn what_a_task_puts_in_the_way_is_not_touched() {
        let fixture = Fixture::new(&std::env::temp_dir());
        let victim = fixture.path("victim");
        std::fs::write(&victim, "precious").expect("writes");
        for name in ["stdout.1", "stdout.2", ".stdout.rotating"] {
            std::os::unix::fs::symlink(&victim, fixture.path(name)).expect("links");
        }
        let all = lines(0..3000);
        fixture.append().write_all(&all).expect("writes");
        let log = fixture.log();
        log.recover(fixture.method).expect("recovers");
        log.rotate(LIMITS, fixture.method).expect("rotates");
        assert_eq!(std::fs::read(&victim).expect("reads"), b"precious");
        assert!(fixture.read() == all);
        // Nor is a file that is not the one that was made.
        std::fs::remove_file(fixture.path("stdout")).expect("removes");
        std::fs::hard_link(&victim, fixture.path("stdout")).expect("links");
        Log::open(fixture.directory(), "stdout", None, LogLocks::default()).expect_err("a link");
        let inode = Some(log.inode);
        Log::open(fixture.directory(), "stdout", inode, LogLocks::default()).expect_err("another");
    }

    #[test]
    fn a_file_that_its_task_cuts_short_is_read_from_its_end() {
        let fixture = Fixture::new(&std::env::temp_dir());
        let (log, mut file) = (fixture.log(), fixture.append());
        file.write_all(&lines(0..3000)).expect("writes");
        log.rotate(LIMITS, fixture.method).expect("rotates");
        let end = log.span().expect("span").end;
        file.set_len(0).expect("cuts");
        let (position, data) = log.read(end, 100).expect("reads");
        assert!(position < end && data.is_empty());
        file.write_all(b"anew").expect("writes");
        assert_eq!(log.read(position, 100).expect("reads"), (position, Bytes::from("anew")));
    }
}
