//! From a place into a file, hashing on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use sha2::{Digest, Sha256, Sha512};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport, time,
};

use super::Context;
use super::error::FetchFault;
use super::source::{Checksum, Place, Source};
use crate::sandbox::Owner;

/// Redirections followed.
const REDIRECTS_MAX: u32 = 10;

/// How often a silent connection looks whether the fetch was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(250);

/// Bytes copied at once.
const CHUNK: usize = 128 * 1024;

/// Copies the content of `source` to `file` and checks it.
pub(super) fn download(
    source: &Source,
    file: &mut File,
    owner: Option<Owner>,
    context: &Context<'_>,
) -> Result<(), FetchFault> {
    context.check_cancelled()?;
    let mut hasher = Hasher::of(source.checksum.as_ref());
    match &source.place {
        Place::Local(path) => {
            let mut content = open_local(path, owner)?;
            copy(&mut content, file, &mut hasher, context, |_, error| {
                FetchFault::ReadSource(error)
            })?;
        }
        Place::Web(url) => {
            let response = agent(context).get(url).call();
            let mut response = response.map_err(|error| request_fault(error, context))?;
            let mut content = response.body_mut().as_reader();
            copy(&mut content, file, &mut hasher, context, |bytes, error| {
                match request_fault(ureq::Error::from(error), context) {
                    FetchFault::Request(error) => FetchFault::BrokeOff { bytes, error },
                    other => other,
                }
            })?;
        }
    }
    hasher.check(source.checksum.as_ref())
}

/// Copies everything; `fault` says what a failure to read after so many bytes means.
fn copy(
    from: &mut impl Read,
    to: &mut File,
    hasher: &mut Hasher,
    context: &Context<'_>,
    fault: impl Fn(u64, io::Error) -> FetchFault,
) -> Result<(), FetchFault> {
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0u64;
    loop {
        context.check_cancelled()?;
        let length = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fault(copied, error)),
        };
        copied += length as u64;
        let limit = context.limits.fetched_bytes;
        if copied > limit {
            return Err(FetchFault::TooLarge { limit });
        }
        hasher.update(&chunk[..length]);
        to.write_all(&chunk[..length]).map_err(|source| FetchFault::Sandbox {
            step: "write",
            path: "the file".to_owned(),
            source,
        })?;
    }
}

/// Opens a local file as `owner` could.
fn open_local(path: &str, owner: Option<Owner>) -> Result<File, FetchFault> {
    // Not to hang on a pipe that nobody writes to; regular files do not care.
    let open = || {
        let mut options = File::options();
        options.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path)
    };
    let foreign = owner.filter(|owner| geteuid().is_root() && owner.uid != 0);
    let opened = match foreign {
        None => open(),
        // The identity that file permissions are checked against belongs to a thread. This one
        // takes on the user's and ends, so that no other code runs with it.
        Some(owner) => std::thread::scope(|scope| {
            let as_user = || {
                setfsgid(Gid::from_raw(owner.gid));
                setfsuid(Uid::from_raw(owner.uid));
                open()
            };
            let ended = scope.spawn(as_user).join();
            ended.unwrap_or_else(|_| Err(io::Error::other("the thread that opened it panicked")))
        }),
    };
    let file = opened.map_err(|error| match (error.kind(), foreign) {
        (io::ErrorKind::PermissionDenied, Some(owner)) => {
            FetchFault::NotReadable { uid: owner.uid }
        }
        _ => FetchFault::OpenSource(error),
    })?;
    let metadata = file.metadata().map_err(FetchFault::OpenSource)?;
    if !metadata.is_file() {
        return Err(FetchFault::NotAFile);
    }
    // The thread kept the agent's supplementary groups, so the mode is looked at once more.
    if let Some(owner) = foreign {
        let readable = match () {
            () if metadata.uid() == owner.uid => 0o400,
            () if metadata.gid() == owner.gid => 0o040,
            () => 0o004,
        };
        if metadata.mode() & readable == 0 {
            return Err(FetchFault::NotReadable { uid: owner.uid });
        }
    }
    Ok(file)
}

fn agent(context: &Context<'_>) -> ureq::Agent {
    let stall = context.limits.stall;
    let config = ureq::Agent::config_builder()
        .max_redirects(REDIRECTS_MAX)
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_per_write(Some(stall))
        .user_agent(concat!("mezzo-agent/", env!("CARGO_PKG_VERSION")))
        .build();
    let watch = Watch { cancel: context.cancel.clone(), stall };
    let connector = DefaultConnector::new().chain(watch);
    ureq::Agent::with_parts(config, connector, DefaultResolver::default())
}

/// Says what an error of the client means to the task's owner.
fn request_fault(error: ureq::Error, context: &Context<'_>) -> FetchFault {
    if let Err(cancelled) = context.check_cancelled() {
        return cancelled;
    }
    match error {
        ureq::Error::StatusCode(status) => FetchFault::Status { status },
        ureq::Error::Timeout(_) => FetchFault::Stalled { seconds: context.limits.stall.as_secs() },
        ureq::Error::HostNotFound => FetchFault::HostNotFound,
        ureq::Error::TooManyRedirects => FetchFault::Redirects { limit: REDIRECTS_MAX },
        ureq::Error::Io(error) => FetchFault::Request(error.to_string()),
        other => FetchFault::Request(other.to_string()),
    }
}

/// Wraps each connection in one that gives up when the server is silent for too long, or when
/// the fetch is cancelled. The client's own timeouts bound whole phases, not silences.
#[derive(Debug)]
struct Watch {
    cancel: Arc<AtomicBool>,
    stall: Duration,
}

#[derive(Debug)]
struct Watched<T> {
    inner: T,
    cancel: Arc<AtomicBool>,
    stall: Duration,
}

impl<T: Transport> Connector<T> for Watch {
    type Out = Watched<T>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<T>,
    ) -> Result<Option<Watched<T>>, ureq::Error> {
        let (cancel, stall) = (self.cancel.clone(), self.stall);
        Ok(chained.map(|inner| Watched { inner, cancel, stall }))
    }
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let since = Instant::now();
        let patience = self.stall.min(*timeout.after);
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(ureq::Error::Io(io::Error::other("cancelled")));
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(ureq::Error::Timeout(timeout.reason));
            }
            let slice = NextTimeout {
                after: time::Duration::from(left.min(CANCEL_CHECK)),
                per_read: None,
                ..timeout
            };
            match self.inner.await_input(slice) {
                Err(ureq::Error::Timeout(_)) => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Computes what the source asked for.
enum Hasher {
    None,
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn of(checksum: Option<&Checksum>) -> Hasher {
        match checksum {
            None => Hasher::None,
            Some(Checksum::Sha256(_)) => Hasher::Sha256(Sha256::new()),
            Some(Checksum::Sha512(_)) => Hasher::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::None => {}
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn check(self, checksum: Option<&Checksum>) -> Result<(), FetchFault> {
        let (algorithm, actual) = match self {
            Hasher::None => return Ok(()),
            Hasher::Sha256(hasher) => ("SHA-256", hex(&hasher.finalize())),
            Hasher::Sha512(hasher) => ("SHA-512", hex(&hasher.finalize())),
        };
        match checksum {
            Some(Checksum::Sha256(expected) | Checksum::Sha512(expected))
                if *expected != actual =>
            {
                Err(FetchFault::Mismatch { algorithm, expected: expected.clone(), actual })
            }
            _ => Ok(()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
