//! The process around the server: its lock, its socket, its session; begun anew, or taken over from the
//! image that ran before.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mezzo_agent_sys::{Keep, Namespaces, executable_memfd, fork, inherited_descriptors};
use nix::sys::prctl::set_name;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::child::Surroundings;
use crate::log::{Chain, say};
use crate::protocol;
use crate::server::{Place, Server, go_back};
use crate::socket::listen_at;
use crate::state::read_all;

/// `mezzo-init`, made by the build script.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mezzo-init"));

/// How to run the daemon.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen. Beside it lies `<socket>.lock`, held by the one launcher that serves it.
    pub socket: PathBuf,
    /// Where to append messages to; `None`: nowhere, or standard error in the foreground.
    pub log: Option<PathBuf>,
    /// `cgroup.procs` of the cgroups to move to first.
    pub cgroup_procs: Vec<PathBuf>,
    /// Stay a child of the caller; otherwise [`serve`] returns when the daemon listens.
    pub foreground: bool,
}

/// Why the daemon did not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("lock {path:?}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("serve {path:?}: another launcher does")]
    Locked { path: PathBuf },
    #[error("listen at {path:?}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("open the log {path:?}")]
    Log { path: PathBuf, source: io::Error },
    #[error("join the cgroup of {path:?}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("put mezzo-init into memory")]
    Init(#[source] io::Error),
    #[error("become a daemon")]
    Daemon(#[source] io::Error),
    #[error("wait for events")]
    Events(#[source] io::Error),
    /// The process was another image's before, and this one cannot go on.
    #[error("take over from another image: {reason}")]
    Resume { reason: String, source: io::Error },
}

/// A launcher that takes over from the image that ran in this process before, see [`resume`].
#[derive(Clone, Debug)]
pub struct ResumeConfig {
    /// Where it listens.
    pub socket: PathBuf,
    /// Number of the memfd that holds the state.
    pub state: RawFd,
    /// Why another image, which was to take over, did not: this is the one that ran before.
    pub refused: Option<String>,
}

/// Runs the launcher until it is told to end, or, in the background, until it listens.
///
/// Must be called first in a process with one thread.
pub fn serve(config: ServerConfig) -> Result<(), ServeError> {
    // What the caller has open by accident would stay open for as long as the launcher lives.
    drop(inherited_descriptors().map_err(ServeError::Daemon)?);
    let lock = lock(&config.socket)?;
    mezzo_fault_points::hit!("launcher.start.locked");
    for path in &config.cgroup_procs {
        let join = || OpenOptions::new().write(true).open(path)?.write_all(b"0");
        join().map_err(|source| ServeError::Cgroup { path: path.clone(), source })?;
    }
    let log = open_log(&config)?;
    let init = init()?;
    let listen = |source| ServeError::Listen { path: config.socket.clone(), source };
    match std::fs::remove_file(&config.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
        _ => {}
    }
    let listener = listen_at(&config.socket).map_err(listen)?;

    let foreground = config.foreground;
    let run = move || -> Result<(), ServeError> {
        settle(log, foreground).map_err(ServeError::Daemon)?;
        let open_files = raise_open_files().map_err(ServeError::Daemon)?;
        let place = Place { socket: config.socket, lock, listener };
        let mut server = Server::new(place, Surroundings { init, open_files, spared: is_spared() })
            .map_err(ServeError::Events)?;
        say(format_args!("listening at {:?}", server.socket()));
        mezzo_fault_points::hit!("launcher.start.listening");
        server.run().map_err(ServeError::Events)
    };
    if foreground {
        return run();
    }
    let child = || match run() {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("ended: cannot {}", Chain(&error)));
            1
        }
    };
    fork(Namespaces::default(), Keep::All, child).map(|_| ()).map_err(ServeError::Daemon)
}

/// Goes on where another image of the launcher left off in this process, and runs until it is told to
/// end. Where this image cannot take the state up, the other goes on.
///
/// Must be called first in a process with one thread.
pub fn resume(config: ResumeConfig) -> Result<(), ServeError> {
    let wrap = |source| ServeError::Resume { reason: "read what it left".to_owned(), source };
    let mut inherited = inherited_descriptors().map_err(wrap)?;
    name_process().map_err(wrap)?;
    let missing = || wrap(io::Error::other("the descriptor is not open"));
    let state = inherited.remove(&config.state).map(File::from).ok_or_else(missing)?;
    let bytes = read_all(&state).map_err(wrap)?;
    let taken = init()
        .map_err(|error| Chain(&error).to_string())
        .and_then(|init| Server::resume(config.socket.clone(), init, &bytes, &mut inherited));
    match taken {
        Ok((mut server, asker)) => {
            // Nothing of the other image is needed any more.
            drop((state, inherited));
            server.resumed(asker, config.refused).map_err(ServeError::Events)?;
            server.run().map_err(ServeError::Events)
        }
        // Going to and fro would not help.
        Err(reason) if config.refused.is_some() => {
            let source = io::Error::other(reason);
            Err(ServeError::Resume { reason: "take up its own state".to_owned(), source })
        }
        Err(reason) => {
            say(format_args!("gives back to the image before: {reason}"));
            let Err(source) = go_back(&config.socket, &bytes, state, inherited, &reason);
            Err(ServeError::Resume { reason, source })
        }
    }
}

fn init() -> Result<std::os::fd::OwnedFd, ServeError> {
    executable_memfd(protocol::INIT_NAME, INIT).map_err(ServeError::Init)
}

/// Whether the kernel kills this process later than others when memory runs out.
pub(crate) fn is_spared() -> bool {
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    score.trim().parse().is_ok_and(|score: i32| score < 0)
}

/// A program that was executed by descriptor has that descriptor's number as its name.
fn name_process() -> io::Result<()> {
    Ok(set_name(c"mezzo-launcher")?)
}

/// One launcher per socket. The lock goes with the process, however it ends.
fn lock(socket: &Path) -> Result<File, ServeError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let wrap = |source| ServeError::Lock { path: path.clone(), source };
    if let Some(directory) = socket.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrap)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(wrap)?;
    // Dropping the file in the process that goes does not unlock it: the daemon has it open, too.
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Locked { path: socket.to_owned() }),
        Err(TryLockError::Error(error)) => Err(wrap(error)),
    }
}

fn open_log(config: &ServerConfig) -> Result<Option<File>, ServeError> {
    let Some(path) = &config.log else { return Ok(None) };
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    let file = options.open(path);
    file.map(Some).map_err(|source| ServeError::Log { path: path.clone(), source })
}

/// Leaves the caller's session, directory and files.
fn settle(log: Option<File>, foreground: bool) -> io::Result<()> {
    SigSet::all().thread_set_mask()?;
    chdir("/")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    if !foreground {
        setsid()?;
        dup2_stdout(&null)?;
    }
    match log {
        Some(log) => dup2_stderr(&log)?,
        None if foreground => {}
        None => dup2_stderr(&null)?,
    }
    Ok(())
}

/// Each container takes a descriptor. Returns the limits as they were, for the containers.
fn raise_open_files() -> io::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}
