//! The daemon: one thread, one epoll loop over the socket, its connections, SIGCHLD and the status
//! pipes of containers that are being launched.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use mezzo_agent_sys::{Namespaces, executable_memfd, fork, reap, start_time};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, pipe2, read, setsid};

use crate::channel::{PACKET_BUFFER, ReceiveError, inline_packet, receive_message};
use crate::child::{self, Surroundings};
use crate::connection::{Connection, Lost};
use crate::container::ContainerState;
use crate::failure::{Report, parse_report};
use crate::launch::Plan;
use crate::protocol;
use crate::socket::listen_at;
use crate::table::Table;
use crate::wire::{
    Body, Call, Done, LaunchCall, Listing, Notice, Record, RefusalCode, Refused, Request,
};

/// `mezzo-init`, made by the build script.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mezzo-init"));

/// Connections at a time: one agent, one that replaces it, and somebody who looks.
const MAX_CONNECTIONS: usize = 16;

/// Requests taken from one connection before the others have their turn.
const REQUESTS_PER_TURN: usize = 16;

/// Containers in one part of a listing; an id has 255 bytes at most, so a part fits a packet.
const LISTING_PART: usize = 64;

/// Events taken from epoll at once.
const EVENTS_PER_TURN: usize = 64;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_SOURCE: u64 = 2;

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
}

/// Runs the launcher until it is told to end, or, in the background, until it listens.
///
/// Must be called in a process with one thread.
pub fn serve(config: ServerConfig) -> Result<(), ServeError> {
    let lock = lock(&config.socket)?;
    for path in &config.cgroup_procs {
        let join = || OpenOptions::new().write(true).open(path)?.write_all(b"0");
        join().map_err(|source| ServeError::Cgroup { path: path.clone(), source })?;
    }
    let log = open_log(&config)?;
    let init = executable_memfd(protocol::INIT_NAME, INIT).map_err(ServeError::Init)?;
    let listen = |source| ServeError::Listen { path: config.socket.clone(), source };
    match std::fs::remove_file(&config.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
        _ => {}
    }
    let listener = listen_at(&config.socket).map_err(listen)?;

    let run = move || -> Result<(), ServeError> {
        settle(log, config.foreground).map_err(ServeError::Daemon)?;
        let open_files = raise_open_files().map_err(ServeError::Daemon)?;
        let mut server =
            Server::new(listener, Surroundings { init, open_files }).map_err(ServeError::Events)?;
        say(format_args!("listening at {:?}", config.socket));
        let result = server.run().map_err(ServeError::Events);
        // Under the lock still: a successor has not bound its own socket there.
        if let Err(error) = std::fs::remove_file(&config.socket) {
            say(format_args!("cannot remove {:?}: {error}", config.socket));
        }
        drop(lock);
        result
    };
    if config.foreground {
        return run();
    }
    let child = || match run() {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("ended: cannot {}", Chain(&error)));
            1
        }
    };
    fork(Namespaces::default(), child).map(|_| ()).map_err(ServeError::Daemon)
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

/// A line of the log. Nothing depends on it, so it may fail.
fn say(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "mezzo-launcher[{}]: {message}", std::process::id());
}

/// An error and its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What an epoll token stands for.
enum Source {
    Connection(Connection),
    /// The status pipe of a container that is being launched.
    Launching {
        pipe: OwnedFd,
        container: String,
    },
}

/// An answer to one request.
enum Answer {
    Done { pid: i32 },
    Listing,
    Refused { code: RefusalCode, errno: i32, message: String },
}

impl From<(RefusalCode, String)> for Answer {
    fn from((code, message): (RefusalCode, String)) -> Answer {
        Answer::Refused { code, errno: 0, message }
    }
}

struct Server {
    epoll: Epoll,
    listener: UnixListener,
    signals: SignalFd,
    surroundings: Surroundings,
    sources: BTreeMap<u64, Source>,
    /// Status pipes by container, so that a reaped one is read to its end first.
    launching: BTreeMap<String, u64>,
    next_source: u64,
    table: Table,
    buffer: Vec<u8>,
    ending: bool,
}

impl Server {
    fn new(listener: UnixListener, surroundings: Surroundings) -> io::Result<Server> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            wanted.add(signal);
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        Ok(Server {
            epoll,
            listener,
            signals,
            surroundings,
            sources: BTreeMap::new(),
            launching: BTreeMap::new(),
            next_source: FIRST_SOURCE,
            table: Table::default(),
            buffer: vec![0; PACKET_BUFFER],
            ending: false,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        while !self.ending {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in events.iter().take(count) {
                match event.data() {
                    LISTENER => self.accept(),
                    SIGNALS => self.signalled()?,
                    // Tokens are never reused: one that is gone was removed earlier in this turn.
                    token => self.ready(token, event.events())?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((stream, _)) => OwnedFd::from(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return say(format_args!("cannot accept a connection: {error}")),
            };
            let peer = getsockopt(&socket, PeerCredentials).map(|peer| peer.uid());
            if peer != Ok(geteuid().as_raw()) {
                say(format_args!("refused a connection of user {peer:?}: not the launcher's own"));
                continue;
            }
            let connections =
                self.sources.values().filter(|s| matches!(s, Source::Connection(_))).count();
            if connections >= MAX_CONNECTIONS {
                say(format_args!("refused a connection: {MAX_CONNECTIONS} are open already"));
                continue;
            }
            let token = self.next_token();
            let interest = EpollEvent::new(EpollFlags::EPOLLIN, token);
            match self.epoll.add(&socket, interest) {
                Ok(()) => {
                    self.sources.insert(token, Source::Connection(Connection::new(socket)));
                }
                Err(errno) => say(format_args!("cannot watch a connection: {errno}")),
            }
        }
    }

    fn next_token(&mut self) -> u64 {
        let token = self.next_source;
        self.next_source += 1;
        token
    }

    fn signalled(&mut self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).map(Signal::try_from);
            if matches!(signal, Ok(Ok(Signal::SIGTERM | Signal::SIGINT))) {
                if self.table.live() == 0 {
                    self.ending = true;
                } else {
                    say(format_args!("stays in spite of a signal: {} live", self.table.live()));
                }
            }
        }
        while let Some((pid, status)) = reap()? {
            // The pipe may hold what the process said last.
            if let Some(token) = self.table.id_of(pid).and_then(|id| self.launching.remove(&id)) {
                self.read_status(token);
                self.close(token);
            }
            let ended = self.table.reaped(pid, status).map(|container| {
                let record = Record::from(container);
                match container.state {
                    ContainerState::Failed(_) => Body::LaunchFailed(record),
                    _ => Body::Exited(record),
                }
            });
            if let Some(event) = ended {
                self.broadcast(event);
            }
        }
        Ok(())
    }

    fn ready(&mut self, token: u64, events: EpollFlags) -> io::Result<()> {
        match self.sources.get_mut(&token) {
            None => {}
            Some(Source::Launching { .. }) => self.read_status(token),
            Some(Source::Connection(connection)) => {
                if events.contains(EpollFlags::EPOLLOUT) {
                    let flushed = connection.flush();
                    self.after_send(token, flushed);
                }
                if events.intersects(!EpollFlags::EPOLLOUT) {
                    self.read_requests(token);
                }
            }
        }
        Ok(())
    }

    /// Reads a status pipe; when nothing more can come it is closed.
    fn read_status(&mut self, token: u64) {
        let Some(Source::Launching { pipe, container }) = self.sources.get(&token) else { return };
        // One record at most is ever written, and a write of this size is never torn.
        let mut record = [0; protocol::RECORD_SIZE];
        let report = match read(pipe, &mut record) {
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => None,
            Ok(length) => record.get(..length).and_then(parse_report),
        };
        let container = container.clone();
        self.launching.remove(&container);
        self.close(token);
        let started = report
            .and_then(|report: Report| self.table.report(&container, report))
            .map(|container| Body::Started(Record::from(container)));
        if let Some(event) = started {
            self.broadcast(event);
        }
    }

    fn read_requests(&mut self, token: u64) {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(Source::Connection(connection)) = self.sources.get(&token) else { return };
            let received = receive_message::<Request>(connection.as_fd(), &mut self.buffer, false);
            let (request, descriptors) = match received {
                Ok(Some(received)) => received,
                Ok(None) => return self.close(token),
                Err(ReceiveError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return;
                }
                Err(error) => {
                    // What follows on this connection cannot be trusted either.
                    say(format_args!("closed a connection: cannot {}", Chain(&error)));
                    return self.close(token);
                }
            };
            let sequence = request.sequence;
            let answer = self.handle(request, descriptors);
            self.reply(token, sequence, answer);
        }
    }

    fn handle(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        let done = Answer::Done { pid: 0 };
        match request.call {
            None => {
                let message = "the request asks for nothing that this launcher knows";
                Answer::from((RefusalCode::Invalid, message.to_owned()))
            }
            Some(Call::Launch(call)) => self.launch(call, descriptors),
            Some(Call::List(_)) => Answer::Listing,
            Some(Call::Forget(call)) => {
                self.table.forget(&call.container).map_or_else(Answer::from, |()| done)
            }
            Some(Call::Signal(call)) => match Signal::try_from(call.signal) {
                Ok(signal) => self.signal(&call.container, signal),
                Err(_) => {
                    let message = format!("signal {} does not exist", call.signal);
                    Answer::from((RefusalCode::Invalid, message))
                }
            },
            Some(Call::Kill(call)) => self.signal(&call.container, Signal::SIGKILL),
            Some(Call::Shutdown(_)) => match self.table.live() {
                0 => {
                    self.ending = true;
                    done
                }
                live => {
                    let message = format!("{live} containers run; kill them first");
                    Answer::from((RefusalCode::Running, message))
                }
            },
        }
    }

    fn signal(&mut self, container: &str, signal: Signal) -> Answer {
        // A child that has not been reaped keeps its pid: this cannot hit anybody else.
        match self.table.live_pid(container).map(|pid| kill(Pid::from_raw(pid), signal)) {
            Ok(Ok(())) => Answer::Done { pid: 0 },
            Ok(Err(errno)) => failed(errno, format!("send {signal} to container {container:?}")),
            Err(refusal) => refusal.into(),
        }
    }

    fn launch(&mut self, call: LaunchCall, descriptors: Vec<OwnedFd>) -> Answer {
        let plan = match Plan::new(call, descriptors) {
            Ok(plan) => plan,
            Err(message) => return Answer::from((RefusalCode::Invalid, message)),
        };
        if let Err(refusal) = self.table.check_new(&plan.container) {
            return refusal.into();
        }
        let (reader, writer) = match pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
            Ok(ends) => ends,
            Err(errno) => return failed(errno, "make a pipe".to_owned()),
        };
        let token = self.next_token();
        // Watched before the fork, so that nothing can fail once the process exists.
        if let Err(errno) = self.epoll.add(&reader, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            return failed(errno, "watch a pipe".to_owned());
        }
        let child = || child::run(&plan, &self.surroundings, writer.as_fd());
        // The child enters its mount namespace itself, see there.
        let at_birth = Namespaces { mount: false, ..plan.namespaces };
        let pid = match fork(at_birth, child) {
            Ok(pid) => pid,
            Err(error) => {
                self.unwatch(reader.as_fd());
                let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
                return failed(errno, "create the process and its namespaces".to_owned());
            }
        };
        // The child is there until it is reaped, so its file in /proc is, too.
        let start_time_ticks = start_time(pid).unwrap_or_else(|error| {
            say(format_args!("cannot read when process {pid} started: {error}"));
            0
        });
        let Plan { container, exit_file, .. } = plan;
        self.launching.insert(container.clone(), token);
        let source = Source::Launching { pipe: reader, container: container.clone() };
        self.sources.insert(token, source);
        self.table.insert(container, pid, start_time_ticks, exit_file);
        Answer::Done { pid }
    }

    fn reply(&mut self, token: u64, sequence: u64, answer: Answer) {
        match answer {
            Answer::Done { pid } => self.send(token, Body::Done(Done { sequence, pid })),
            Answer::Refused { code, errno, message } => {
                let code = code.into();
                self.send(token, Body::Refused(Refused { sequence, code, errno, message }));
            }
            Answer::Listing => {
                let records: Vec<Record> = self.table.containers().map(Record::from).collect();
                for part in records.chunks(LISTING_PART) {
                    let containers = part.to_vec();
                    self.send(token, Body::Listing(Listing { sequence, containers, last: false }));
                }
                let containers = Vec::new();
                self.send(token, Body::Listing(Listing { sequence, containers, last: true }));
            }
        }
    }

    fn broadcast(&mut self, event: Body) {
        let packet = inline_packet(&Notice { body: Some(event) });
        let tokens: Vec<u64> = self
            .sources
            .iter()
            .filter(|(_, source)| matches!(source, Source::Connection(_)))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.send_packet(token, packet.clone());
        }
    }

    fn send(&mut self, token: u64, body: Body) {
        self.send_packet(token, inline_packet(&Notice { body: Some(body) }));
    }

    fn send_packet(&mut self, token: u64, packet: Vec<u8>) {
        // It may have been closed by an earlier packet of the same answer.
        let Some(Source::Connection(connection)) = self.sources.get_mut(&token) else { return };
        let sent = connection.send(packet);
        self.after_send(token, sent);
    }

    /// Drops a client that is lost, and otherwise watches for room while something waits.
    fn after_send(&mut self, token: u64, sent: Result<(), Lost>) {
        if let Err(Lost(reason)) = sent {
            say(format_args!("closed a connection: {reason}"));
            return self.close(token);
        }
        let Some(Source::Connection(connection)) = self.sources.get(&token) else { return };
        let writable =
            if connection.is_waiting() { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut interest = EpollEvent::new(EpollFlags::EPOLLIN | writable, token);
        if let Err(errno) = self.epoll.modify(connection, &mut interest) {
            say(format_args!("closed a connection: cannot watch it: {errno}"));
            self.close(token);
        }
    }

    fn close(&mut self, token: u64) {
        match self.sources.remove(&token) {
            Some(Source::Connection(connection)) => self.unwatch(connection.as_fd()),
            Some(Source::Launching { pipe, .. }) => self.unwatch(pipe.as_fd()),
            None => {}
        }
    }

    /// Closing alone does not do: until its exec a forked child holds copies, and epoll goes by the
    /// open file.
    fn unwatch(&self, fd: BorrowedFd<'_>) {
        if let Err(errno) = self.epoll.delete(fd) {
            say(format_args!("cannot stop watching a descriptor: {errno}"));
        }
    }
}

fn failed(errno: Errno, what: String) -> Answer {
    let message = format!("cannot {what}: {}", errno.desc());
    Answer::Refused { code: RefusalCode::Failed, errno: errno as i32, message }
}
