//! What happens once, as it happens.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use mezzo_agent_ebpf_common as record;
use mezzo_agent_ebpf_common::{denial, kind};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zerocopy::FromBytes;

use crate::error::{OpenError, ReadError};
use crate::grant::{Access, Device, DeviceKind};
use crate::host::TaskId;
use crate::pins::Pins;

/// By which protocol a refused socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    /// IANA's protocol number.
    Other(u64),
}

/// How a port was to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    Bind,
    /// `bind` without a port; the kernel had chosen this one.
    BindEphemeral,
    /// `listen` without `bind`; the kernel had not chosen a port yet. The call succeeds, but nothing arrives.
    Listen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    PortDenied {
        how: Denial,
        transport: Transport,
        ipv6: bool,
        /// 0 for [`Denial::Listen`].
        port: u16,
        /// Whether it was prevented, not only seen.
        enforced: bool,
    },
    /// The access that was asked for.
    DeviceDenied(Device),
    /// Sizes in pages.
    OomKill { anonymous: u64, file: u64, shared: u64, total: u64 },
    /// The first process of a container ended with this status, as `wait` would tell it.
    FirstExit { status: i32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub task: TaskId,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Which process did it or suffered it, as the host numbers it.
    pub process: u32,
    /// The name of its program, at most 15 bytes.
    pub command: String,
    pub what: Happening,
}

/// Events that found no room, since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub denials: u64,
    /// Out-of-memory kills and ends of first processes.
    pub endings: u64,
}

/// Events in the order in which they happened, but ends before refusals. What happened while no agent looked comes first.
/// There is one reader at a time.
pub struct Events {
    endings: RingBuf<MapData>,
    denials: RingBuf<MapData>,
}

impl Events {
    pub(crate) fn open(pins: &Pins) -> Result<Self, OpenError> {
        let open = |name: &'static str| {
            let failed = |error: aya::maps::MapError| OpenError::Object(error.into());
            let data = MapData::from_pin(pins.map(name)).map_err(failed)?;
            RingBuf::try_from(Map::RingBuf(data)).map_err(failed)
        };
        Ok(Events { endings: open("ENDINGS")?, denials: open("DENIALS")? })
    }

    /// Readable when there may be events: one for ends, one for refusals.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.endings.as_fd(), self.denials.as_fd()]
    }

    /// The next event; `None` if there is none yet.
    pub fn take(&mut self) -> Option<Event> {
        loop {
            let item = match self.endings.next() {
                Some(item) => item,
                None => self.denials.next()?,
            };
            // A record that is none is not to be told, but those after it are.
            if let Ok((record, _)) = record::Event::read_from_prefix(&item)
                && let Some(event) = read(&record)
            {
                return Some(event);
            }
        }
    }

    /// Waits until there may be events; whether there are.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn wait(&self, timeout: Duration) -> Result<bool, ReadError> {
        let mut polled = self.descriptors().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(ready) => Ok(ready > 0),
            // A signal: the caller looks and comes again.
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(ReadError { map: "DENIALS", source: errno.into() }),
        }
    }
}

fn read(record: &record::Event) -> Option<Event> {
    let [first, second, third, fourth] = record.values;
    let what = match record.kind {
        kind::PORT_DENIED => Happening::PortDenied {
            how: match first {
                denial::BIND => Denial::Bind,
                denial::BIND_EPHEMERAL => Denial::BindEphemeral,
                denial::LISTEN => Denial::Listen,
                _ => return None,
            },
            transport: match second {
                6 => Transport::Tcp,
                17 => Transport::Udp,
                other => Transport::Other(other),
            },
            port: u16::try_from(third).ok()?,
            ipv6: fourth == nix::libc::AF_INET6 as u64,
            enforced: record.enforced == 1,
        },
        kind::DEVICE_DENIED => Happening::DeviceDenied(Device {
            kind: match u32::try_from(first).ok()? {
                record::device_kind::BLOCK => DeviceKind::Block,
                record::device_kind::CHARACTER => DeviceKind::Character,
                _ => return None,
            },
            major: u32::try_from(second).ok()?,
            minor: Some(u32::try_from(third).ok()?),
            access: Access {
                read: fourth & u64::from(record::access::READ) != 0,
                write: fourth & u64::from(record::access::WRITE) != 0,
                mknod: fourth & u64::from(record::access::MKNOD) != 0,
            },
        }),
        kind::OOM_KILL => {
            Happening::OomKill { anonymous: first, file: second, shared: third, total: fourth }
        }
        kind::FIRST_EXIT => Happening::FirstExit { status: i32::try_from(first).ok()? },
        _ => return None,
    };
    let name = record.command.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Event {
        task: TaskId(record.task),
        time_ns: record.time_ns,
        process: record.process,
        command: String::from_utf8_lossy(name).into_owned(),
        what,
    })
}
