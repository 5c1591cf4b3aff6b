//! bpf(2): what aya lacks. Maps as bytes with batch look-ups, links of cgroups, pins.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_INFO: libc::c_long = 15;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const ENABLE_STATS: libc::c_long = 32;

/// Map types whose look-ups bring one value per possible processor.
const PER_CPU: [u32; 4] = [5, 6, 10, 21];

/// Entries that the first batch has room for.
const BATCH: usize = 256;

/// A map of the kernel. Keys and values are bytes; lengths are checked against what the kernel says of the map.
#[derive(Debug)]
pub struct BpfMap {
    fd: OwnedFd,
    key_length: usize,
    value_length: usize,
    copies: usize,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
    path_fd: i32,
    reserved: u32,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct Create {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Tracepoint {
    name: u64,
    program: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Default)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// What the kernel says of a link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfLink {
    /// `BPF_LINK_TYPE_…`; 3 for a cgroup's.
    pub kind: u32,
    pub id: u32,
    /// Id of the attached program.
    pub program: u32,
    reserved: u32,
    /// For a cgroup's link: the id of the cgroup, or 0 when that is gone.
    pub cgroup: u64,
    /// For a cgroup's link: `BPF_CGROUP_…`.
    pub attach_type: u32,
    reserved_too: u32,
}

impl BpfMap {
    /// Takes a map that is open.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let info: MapInfo = info(fd.as_fd())?;
        let per_cpu = PER_CPU.contains(&info.kind);
        let value_size = info.value_size as usize;
        Ok(BpfMap {
            fd,
            key_length: info.key_size as usize,
            value_length: if per_cpu { value_size.next_multiple_of(8) } else { value_size },
            copies: if per_cpu { possible_processors()? } else { 1 },
            max_entries: info.max_entries,
        })
    }

    /// Opens a pinned map. Fails with EINVAL, ENOENT or EACCES as the path is, and where it is no map.
    pub fn open(path: &Path) -> io::Result<Self> {
        BpfMap::new(bpf_open(path)?)
    }

    /// Length of a key in bytes.
    pub fn key_length(&self) -> usize {
        self.key_length
    }

    /// Length of one value in bytes; of maps with values per processor, of each of them.
    pub fn value_length(&self) -> usize {
        self.value_length
    }

    /// Number of values that a look-up brings: 1, or the number of possible processors.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Entries that it has room for.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// All values of an entry, one after the other; `None` where there is no such entry.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(key, None)?;
        let mut value = vec![0u8; self.value_length * self.copies];
        let mut attributes = self.element(key, value.as_mut_ptr() as u64);
        // SAFETY: the kernel reads a key and writes the values; both buffers have the lengths that it says they need.
        match unsafe { bpf(MAP_LOOKUP, &mut attributes) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes or replaces an entry; `values` are as [`get`](Self::get) returns them. Fails with E2BIG when the map is full.
    pub fn set(&self, key: &[u8], values: &[u8]) -> io::Result<()> {
        self.check(key, Some(values))?;
        let mut attributes = self.element(key, values.as_ptr() as u64);
        // SAFETY: the kernel only reads, and both buffers have the lengths that it says they need.
        unsafe { bpf(MAP_UPDATE, &mut attributes) }.map(drop)
    }

    /// Removes an entry; whether there was one.
    pub fn remove(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        let mut attributes = self.element(key, 0);
        // SAFETY: the kernel reads a key of the length that it says it needs.
        match unsafe { bpf(MAP_DELETE, &mut attributes) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Calls `each` with every entry of a hash map: key, and values as [`get`](Self::get) returns them. Takes a system call per
    /// few hundred entries. An entry that is made or removed meanwhile may be missed; no other is, nor told twice.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let stride = self.value_length * self.copies;
        let mut room = BATCH;
        let mut keys = vec![0u8; room * self.key_length];
        let mut values = vec![0u8; room * stride];
        // Where the next batch begins, in the kernel's words: 4 bytes for a hash map, a key for others.
        let (mut here, mut next) = ([0u64; 8], [0u64; 8]);
        if self.key_length > size_of_val(&here) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut first = true;
        loop {
            let mut attributes = Batch {
                in_batch: if first { 0 } else { here.as_ptr() as u64 },
                out_batch: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: room as u32,
                map: self.fd.as_raw_fd() as u32,
                ..Batch::default()
            };
            // SAFETY: the kernel writes at most `count` keys and values, for which there is room, and a position of at most 64 bytes.
            let outcome = unsafe { bpf(MAP_LOOKUP_BATCH, &mut attributes) };
            let ended = match outcome {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    // One bucket alone holds more than there is room for.
                    room *= 2;
                    keys.resize(room * self.key_length, 0);
                    values.resize(room * stride, 0);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let count = attributes.count as usize;
            let keys = keys.chunks_exact(self.key_length).take(count);
            for (key, value) in keys.zip(values.chunks_exact(stride)) {
                each(key, value);
            }
            if ended {
                return Ok(());
            }
            here = next;
            first = false;
        }
    }

    fn element(&self, key: &[u8], value: u64) -> Element {
        let map = self.fd.as_raw_fd() as u32;
        Element { map, key: key.as_ptr() as u64, value, ..Element::default() }
    }

    fn check(&self, key: &[u8], values: Option<&[u8]>) -> io::Result<()> {
        let fits = key.len() == self.key_length
            && values.is_none_or(|values| values.len() == self.value_length * self.copies);
        if fits { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
    }
}

impl AsFd for BpfMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens what is pinned at a path of a bpffs.
pub fn bpf_open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = Object { path: path.as_ptr() as u64, ..Object::default() };
    // SAFETY: the kernel reads a path that ends with a zero.
    let fd = unsafe { bpf(OBJ_GET, &mut attributes) }?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Keeps a map, program or link alive at a new path of a bpffs.
pub fn bpf_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let fd = fd.as_raw_fd() as u32;
    let mut attributes = Object { path: path.as_ptr() as u64, fd, ..Object::default() };
    // SAFETY: the kernel reads a path that ends with a zero.
    unsafe { bpf(OBJ_PIN, &mut attributes) }.map(drop)
}

/// Attaches a program to a cgroup, beside others that may be there. It stays for as long as the link is open or pinned.
pub fn bpf_link_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = Create {
        program: program.as_raw_fd() as u32,
        target: cgroup.as_raw_fd() as u32,
        attach_type,
        flags: 0,
    };
    // SAFETY: numbers only.
    let fd = unsafe { bpf(LINK_CREATE, &mut attributes) }?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a program to a tracepoint of the kernel. A program that was loaded for one tracepoint needs no name.
pub fn bpf_link_tracepoint(program: BorrowedFd<'_>, name: Option<&CStr>) -> io::Result<OwnedFd> {
    let mut attributes = Tracepoint {
        name: name.map_or(0, |name| name.as_ptr() as u64),
        program: program.as_raw_fd() as u32,
        ..Tracepoint::default()
    };
    // SAFETY: the kernel reads a name that ends with a zero, if there is one.
    let fd = unsafe { bpf(RAW_TRACEPOINT_OPEN, &mut attributes) }?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Puts another program in the place of a link's, in one step.
pub fn bpf_link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Update {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        ..Update::default()
    };
    // SAFETY: numbers only.
    unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(drop)
}

/// Makes the kernel count and time the runs of all programs, for as long as the descriptor is open.
pub fn bpf_run_time_statistics() -> io::Result<OwnedFd> {
    // The first of its kinds, run time.
    let mut kind = 0u32;
    // SAFETY: a number only.
    let fd = unsafe { bpf(ENABLE_STATS, &mut kind) }?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// What the kernel says of a link.
pub fn bpf_link_info(link: BorrowedFd<'_>) -> io::Result<BpfLink> {
    info(link)
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attributes = Info {
        fd: fd.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: T is one of the structures of numbers above; the kernel writes at most its length.
    unsafe { bpf(OBJ_INFO, &mut attributes) }?;
    Ok(info)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// # Safety
/// Addresses in `attributes` are what `command` takes them for.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: as the caller says; the length is that of the structure.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// One more than the highest number that a processor of this machine may ever have.
fn possible_processors() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    last_number(&text)
        .map(|last| last + 1)
        .ok_or_else(|| io::Error::other("odd list of processors"))
}

/// Of a list such as `0-3,8-11`.
fn last_number(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_processor_is_the_last_of_the_list() {
        assert_eq!(last_number("0\n"), Some(0));
        assert_eq!(last_number("0-1\n"), Some(1));
        assert_eq!(last_number("0-3,8-11\n"), Some(11));
        assert_eq!(last_number(""), None);
    }
}
