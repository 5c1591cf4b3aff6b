//! The daemon: one thread, one epoll loop over the socket, its connections, SIGCHLD and the status
//! pipes of containers that are being launched.

mod accept;
mod upgrade;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mezzo_agent_sys::{Keep, Namespaces, fork, reap, start_time};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2, read};

use crate::channel::{PACKET_BUFFER, ReceiveError, inline_packet, receive_message};
use crate::child::{self, Surroundings};
use crate::complaints::Complaints;
use crate::connection::{Connection, Lost};
use crate::container::ContainerState;
use crate::enter::EnterPlan;
use crate::failure::{Report, parse_report};
use crate::launch::Plan;
use crate::log::{Chain, say};
use crate::protocol;
use crate::state::FORMAT;
use crate::table::Table;
use crate::wire::{
    Body, Call, Done, EnterCall, Hello, LaunchCall, Listing, Notice, Record, RefusalCode, Refused,
    Request,
};

pub(crate) use upgrade::go_back;

/// Requests taken from one connection before the others have their turn.
const REQUESTS_PER_TURN: usize = 16;

/// Containers in one part of a listing; an id has 255 bytes at most, so a part fits a packet.
const LISTING_PART: usize = 64;

/// Bytes of a refusal's sentence.
const MAX_REFUSAL: usize = 1024;

/// Descriptors that containers do not get: the launcher's own (about ten), its connections, and a
/// request with what it carries. Without them a launch could not even be refused in words.
const RESERVED_FILES: u64 = 96;

/// Events taken from epoll at once.
const EVENTS_PER_TURN: usize = 64;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_SOURCE: u64 = 2;

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
    Hello,
    Listing,
    Refused { code: RefusalCode, errno: i32, message: String },
}

impl From<(RefusalCode, String)> for Answer {
    fn from((code, message): (RefusalCode, String)) -> Answer {
        Answer::Refused { code, errno: 0, message }
    }
}

/// What a launcher has to itself, in whatever image.
pub(crate) struct Place {
    pub socket: PathBuf,
    /// Held for as long as the launcher lives.
    pub lock: File,
    pub listener: UnixListener,
}

pub(crate) struct Server {
    place: Place,
    watch: Watch,
    surroundings: Surroundings,
    sources: BTreeMap<u64, Source>,
    /// Status pipes by container, so that a reaped one is read to its end first.
    launching: BTreeMap<String, u64>,
    next_source: u64,
    table: Table,
    buffer: Vec<u8>,
    complaints: Complaints,
    /// No descriptor was left for a new connection: none is accepted for a while.
    pausing: bool,
    ending: bool,
}

/// How the kernel tells what there is to do.
struct Watch {
    epoll: Epoll,
    signals: SignalFd,
}

impl Watch {
    fn new(listener: BorrowedFd<'_>) -> io::Result<Watch> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            wanted.add(signal);
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags)?;
        epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        Ok(Watch { epoll, signals })
    }
}

impl Server {
    pub fn new(place: Place, surroundings: Surroundings) -> io::Result<Server> {
        let watch = Watch::new(place.listener.as_fd())?;
        Ok(Server {
            place,
            watch,
            surroundings,
            sources: BTreeMap::new(),
            launching: BTreeMap::new(),
            next_source: FIRST_SOURCE,
            table: Table::default(),
            buffer: vec![0; PACKET_BUFFER],
            complaints: Complaints::default(),
            pausing: false,
            ending: false,
        })
    }

    pub fn socket(&self) -> &Path {
        &self.place.socket
    }

    /// Serves until it is told to end.
    pub fn run(&mut self) -> io::Result<()> {
        let result = self.attend();
        // Under the lock still: a successor has not bound its own socket there.
        if let Err(error) = std::fs::remove_file(&self.place.socket) {
            say(format_args!("cannot remove {:?}: {error}", self.place.socket));
        }
        result
    }

    fn attend(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        while !self.ending {
            let count = match self.watch.epoll.wait(&mut events, self.accepting_timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.accept_again();
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

    /// A line about somebody who connects.
    fn complain(&mut self, message: std::fmt::Arguments<'_>) {
        self.complaints.complain(Instant::now(), message);
    }

    fn next_token(&mut self) -> u64 {
        let token = self.next_source;
        self.next_source += 1;
        token
    }

    fn signalled(&mut self) -> io::Result<()> {
        while let Some(info) = self.watch.signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).map(Signal::try_from);
            if matches!(signal, Ok(Ok(Signal::SIGTERM | Signal::SIGINT))) {
                if self.table.live() == 0 {
                    self.ending = true;
                } else {
                    say(format_args!("stays in spite of a signal: {} live", self.table.live()));
                }
            }
        }
        self.reap()
    }

    /// Takes all children that have ended.
    fn reap(&mut self) -> io::Result<()> {
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
            mezzo_fault_points::hit!("launcher.exit.reaped");
            if let Some(event) = ended {
                self.broadcast(event);
                mezzo_fault_points::hit!("launcher.exit.told");
            }
        }
        Ok(())
    }

    fn ready(&mut self, token: u64, events: EpollFlags) -> io::Result<()> {
        match self.sources.get(&token) {
            None => {}
            Some(Source::Launching { .. }) => self.read_status(token),
            Some(Source::Connection(_)) => {
                if events.contains(EpollFlags::EPOLLOUT) {
                    self.flush(token);
                }
                if events.intersects(!EpollFlags::EPOLLOUT) {
                    self.read_requests(token, REQUESTS_PER_TURN);
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
            mezzo_fault_points::hit!("launcher.start.reported");
            self.broadcast(event);
        }
    }

    fn read_requests(&mut self, token: u64, most: usize) {
        for _ in 0..most {
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
                    self.complain(format_args!("closed a connection: cannot {}", Chain(&error)));
                    return self.close(token);
                }
            };
            if let Some(Source::Connection(connection)) = self.sources.get_mut(&token) {
                connection.asked();
            }
            mezzo_fault_points::hit!("launcher.request.received");
            let sequence = request.sequence;
            let answer = self.handle(token, request, descriptors);
            self.reply(token, sequence, answer);
        }
    }

    fn handle(&mut self, asker: u64, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        let done = Answer::Done { pid: 0 };
        match request.call {
            None => {
                let message = "the request asks for nothing that this launcher knows";
                Answer::from((RefusalCode::Invalid, message.to_owned()))
            }
            Some(Call::Launch(call)) => self.launch(call, descriptors),
            Some(Call::Enter(call)) => self.enter(call, descriptors),
            Some(Call::List(_)) => Answer::Listing,
            Some(Call::Hello(_)) => Answer::Hello,
            Some(Call::Upgrade(_)) => self.upgrade(asker, request.sequence, descriptors),
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

    /// Makes a process that makes another one in a container. Neither is kept in any table: whoever asked hears by
    /// the socket what comes of it, and both are reaped like any stranger.
    fn enter(&mut self, call: EnterCall, descriptors: Vec<OwnedFd>) -> Answer {
        let plan = match EnterPlan::new(call, descriptors) {
            Ok(plan) => plan,
            Err(message) => return Answer::from((RefusalCode::Invalid, message)),
        };
        let mut keep = plan.descriptors();
        keep.push(self.surroundings.init.as_fd());
        let child = || child::enter(&plan, &self.surroundings);
        match fork(Namespaces::default(), Keep::Only(&keep), child) {
            Ok(pid) => Answer::Done { pid },
            Err(error) => {
                let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
                failed(errno, "create a process that enters the container".to_owned())
            }
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
        // Each holds its exit file, and until its command runs, a pipe.
        let (_, files) = self.surroundings.open_files;
        let held = self.table.live() + self.launching.len();
        if held as u64 + RESERVED_FILES >= files {
            let live = self.table.live();
            let message = format!(
                "{live} containers run, and the launcher may have no more than {files} files open; \
                 raise the limit of open files (LimitNOFILE) and start it anew"
            );
            return Answer::from((RefusalCode::Full, message));
        }
        let (reader, writer) = match pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
            Ok(ends) => ends,
            Err(errno) => return failed(errno, "make a pipe".to_owned()),
        };
        let token = self.next_token();
        // Watched before the fork, so that nothing can fail once the process exists.
        if let Err(errno) =
            self.watch.epoll.add(&reader, EpollEvent::new(EpollFlags::EPOLLIN, token))
        {
            return failed(errno, "watch a pipe".to_owned());
        }
        let child = || child::run(&plan, &self.surroundings, writer.as_fd());
        // The child enters its mount namespace itself, see there.
        let at_birth = Namespaces { mount: false, ..plan.namespaces };
        let mut keep = plan.descriptors();
        keep.extend([self.surroundings.init.as_fd(), writer.as_fd()]);
        mezzo_fault_points::hit!("launcher.launch.forking");
        let pid = match fork(at_birth, Keep::Only(&keep), child) {
            Ok(pid) => pid,
            Err(error) => {
                self.unwatch(reader.as_fd());
                let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
                return failed(errno, "create the process and its namespaces".to_owned());
            }
        };
        mezzo_fault_points::hit!("launcher.launch.forked");
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
        mezzo_fault_points::hit!("launcher.launch.booked");
        Answer::Done { pid }
    }

    fn reply(&mut self, token: u64, sequence: u64, answer: Answer) {
        match answer {
            Answer::Done { pid } => self.send(token, Body::Done(Done { sequence, pid })),
            Answer::Refused { code, errno, message } => {
                let code = code.into();
                let message = shortened(message);
                self.send(token, Body::Refused(Refused { sequence, code, errno, message }));
            }
            Answer::Hello => {
                let pid = Pid::this().as_raw();
                self.send(token, Body::Hello(Hello { sequence, pid, format: FORMAT }));
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

    fn flush(&mut self, token: u64) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(&token) else { return };
        let flushed = connection.flush();
        self.after_send(token, flushed);
    }

    /// Drops a client that is lost, and otherwise watches for room while something waits.
    fn after_send(&mut self, token: u64, sent: Result<(), Lost>) {
        if let Err(Lost(reason)) = sent {
            self.complain(format_args!("closed a connection: {reason}"));
            return self.close(token);
        }
        let Some(Source::Connection(connection)) = self.sources.get(&token) else { return };
        let writable =
            if connection.is_waiting() { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut interest = EpollEvent::new(EpollFlags::EPOLLIN | writable, token);
        if let Err(errno) = self.watch.epoll.modify(connection, &mut interest) {
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

    /// Closing alone does not do: a child that has just been forked holds copies, and epoll goes by the
    /// open file.
    fn unwatch(&self, fd: BorrowedFd<'_>) {
        if let Err(errno) = self.watch.epoll.delete(fd) {
            say(format_args!("cannot stop watching a descriptor: {errno}"));
        }
    }
}

/// A refusal may quote the request, which is larger than a packet may be.
fn shortened(mut message: String) -> String {
    if message.len() > MAX_REFUSAL {
        message.truncate(message.floor_char_boundary(MAX_REFUSAL));
        message.push_str(" [...]");
    }
    message
}

fn failed(errno: Errno, what: String) -> Answer {
    let message = format!("cannot {what}: {}", errno.desc());
    Answer::Refused { code: RefusalCode::Failed, errno: errno as i32, message }
}
