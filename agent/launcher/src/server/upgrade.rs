//! Another image takes over in this process.
//!
//! The descriptors that are needed lose their close-on-exec flag, the table goes into a memfd, and
//! exec does the rest: pid, children, session, control groups, signal mask and pending signals stay.
//! A child that ends in between is a zombie until the new image, at its start, takes it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use mezzo_agent_sys::sealed_memfd;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::execveat;
use prost::Message;

use super::{Answer, FIRST_SOURCE, Place, Server, Source, Surroundings, Watch, failed};
use crate::channel::PACKET_BUFFER;
use crate::complaints::Complaints;
use crate::connection::Connection;
use crate::container::{Container, ContainerState, container_of, failure_of};
use crate::daemon::is_spared;
use crate::log::say;
use crate::state::{Envelope, FORMAT, LiveContainer, Peer, State, formats_line, parse_formats};
use crate::table::Table;
use crate::wire::{Body, Done, Record, RefusalCode, Refused};

/// Descriptors that came through exec, by number.
type Inherited = BTreeMap<RawFd, OwnedFd>;

/// Who asked for the upgrade.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    token: u64,
    sequence: u64,
}

impl Server {
    /// Executes another program in this process. Returns only where that failed; then all is as before.
    pub(super) fn upgrade(
        &mut self,
        asker: u64,
        sequence: u64,
        descriptors: Vec<OwnedFd>,
    ) -> Answer {
        let refuse = |message: &str| Answer::from((RefusalCode::Invalid, message.to_owned()));
        let [program] = descriptors.as_slice() else {
            return refuse("an upgrade comes with one descriptor, that of the program");
        };
        if self.ending {
            return refuse("the launcher is about to end");
        }
        say(format_args!("gives over to another image"));
        let Err(error) = self.give_over(asker, sequence, program.as_fd());
        let errno = error
            .raw_os_error()
            .map_or(nix::errno::Errno::UnknownErrno, nix::errno::Errno::from_raw);
        say(format_args!("goes on itself: {error}"));
        failed(errno, "execute the new launcher".to_owned())
    }

    fn give_over(
        &self,
        asker: u64,
        sequence: u64,
        program: BorrowedFd<'_>,
    ) -> io::Result<Infallible> {
        // Still there when its file has been replaced.
        let own = File::open("/proc/self/exe")?;
        let (state, mut kept) = self.state(asker, sequence, own.as_fd());
        let memfd = sealed_memfd(c"mezzo-launcher-state", &state.encode_to_vec())?;
        kept.extend([own.as_fd(), memfd.as_fd()]);
        let arguments = arguments(&self.place.socket, memfd.as_fd(), None)?;
        let outcome = execute_keeping(program, &arguments, &kept);
        // It failed, and launches go on: nothing of this may reach a container.
        for descriptor in kept {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        outcome
    }

    /// All that another image needs to know, and the descriptors that it names.
    fn state<'a>(
        &'a self,
        asker: u64,
        sequence: u64,
        program: BorrowedFd<'_>,
    ) -> (State, Vec<BorrowedFd<'a>>) {
        let listener = self.place.listener.as_fd();
        let lock = self.place.lock.as_fd();
        let mut kept = vec![listener, lock];
        let mut state = State {
            format: FORMAT,
            program: program.as_raw_fd(),
            listener: listener.as_raw_fd(),
            lock: lock.as_raw_fd(),
            soft_files: self.surroundings.open_files.0,
            hard_files: self.surroundings.open_files.1,
            sequence,
            ..State::default()
        };
        for (token, source) in &self.sources {
            let Source::Connection(connection) = source else { continue };
            if *token == asker {
                state.asker = u32::try_from(state.connections.len()).unwrap_or(u32::MAX);
            }
            let socket = connection.as_fd();
            kept.push(socket);
            let waiting = connection.waiting().cloned().collect();
            state.connections.push(Peer { socket: socket.as_raw_fd(), waiting });
        }
        for (container, exit_file, failure) in self.table.live_containers() {
            kept.push(exit_file);
            let pipe =
                self.launching.get(&container.id).and_then(|token| match self.sources.get(token) {
                    Some(Source::Launching { pipe, .. }) => Some(pipe.as_fd()),
                    _ => None,
                });
            kept.extend(pipe);
            let failure = failure.map(|failure| {
                let state = ContainerState::Failed(failure);
                Record::from(&Container { state, ..container.clone() })
            });
            state.live.push(LiveContainer {
                record: Record::from(container),
                exit_file: exit_file.as_raw_fd(),
                status_pipe: pipe.map(|pipe| pipe.as_raw_fd()),
                failure,
            });
        }
        state.ended = self.table.ended_containers().map(Record::from).collect();
        (state, kept)
    }

    /// Takes up what another image left. The error says why not; then nothing of `inherited` is used.
    pub fn resume(
        socket: PathBuf,
        init: OwnedFd,
        state: &[u8],
        inherited: &mut Inherited,
    ) -> Result<(Server, Asker), String> {
        let envelope = Envelope::decode(state).map_err(|error| error.to_string())?;
        let formats = parse_formats(formats_line()).unwrap_or(FORMAT..=FORMAT);
        if !formats.contains(&envelope.format) {
            let format = envelope.format;
            return Err(format!(
                "the state has format {format}, this image takes up {} to {}",
                formats.start(),
                formats.end()
            ));
        }
        let state = State::decode(state).map_err(|error| error.to_string())?;
        let token = FIRST_SOURCE + u64::from(state.asker);
        let asker = Asker { token, sequence: state.sequence };
        Ok((Server::take_up(socket, init, state, inherited)?, asker))
    }

    /// Answers the one who asked for another image, and takes the children that have ended meanwhile.
    pub fn resumed(&mut self, asker: Asker, refused: Option<String>) -> io::Result<()> {
        let Asker { token, sequence } = asker;
        match refused {
            None => {
                say(format_args!("has taken over with {} containers live", self.table.live()));
                self.send(token, Body::Done(Done { sequence, pid: 0 }));
            }
            Some(reason) => {
                say(format_args!("goes on itself with {} live: {reason}", self.table.live()));
                let message = format!("have the new launcher take over: {reason}");
                let code = RefusalCode::Failed.into();
                self.send(token, Body::Refused(Refused { sequence, code, errno: 0, message }));
            }
        }
        self.reap()
    }

    /// First everything that can fail, with borrowed descriptors; then they change hands.
    fn take_up(
        socket: PathBuf,
        init: OwnedFd,
        state: State,
        inherited: &mut Inherited,
    ) -> Result<Server, String> {
        let live = state.live.iter().map(|live| container_of(live.record.clone()));
        let live =
            live.collect::<Option<Vec<_>>>().ok_or("a live container is in no known state")?;
        let ended = state.ended.iter().cloned().map(container_of);
        let ended = ended.collect::<Option<Vec<_>>>().ok_or("an ending is of no known kind")?;

        let connections = state.connections.iter().map(|peer| peer.socket);
        let pipes = state.live.iter().filter_map(|live| live.status_pipe);
        let watched: Vec<RawFd> = connections.chain(pipes).collect();
        let others = state.live.iter().map(|live| live.exit_file);
        let mut named: Vec<RawFd> =
            watched.iter().copied().chain(others).chain([state.listener, state.lock]).collect();
        named.sort_unstable();
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("the state names a descriptor twice".to_owned());
        }
        if let Some(number) = named.iter().find(|number| !inherited.contains_key(*number)) {
            return Err(format!("descriptor {number} of the state is not open"));
        }
        let cannot_watch = |error: io::Error| format!("cannot watch descriptors: {error}");
        let watch = Watch::new(inherited[&state.listener].as_fd()).map_err(cannot_watch)?;
        for (token, number) in (FIRST_SOURCE..).zip(&watched) {
            // Where packets wait, the first attempt to send one asks for room.
            let interest = EpollEvent::new(EpollFlags::EPOLLIN, token);
            let added = watch.epoll.add(&inherited[number], interest);
            added.map_err(|errno| cannot_watch(errno.into()))?;
        }

        // From here on nothing fails: all numbers are there, once each.
        let mut take = |number: RawFd| {
            inherited.remove(&number).ok_or_else(|| format!("descriptor {number} is gone"))
        };
        let place = Place {
            socket,
            lock: take(state.lock)?.into(),
            listener: UnixListener::from(take(state.listener)?),
        };
        let mut sources = BTreeMap::new();
        let mut tokens = FIRST_SOURCE..;
        for Peer { socket, waiting } in state.connections {
            let connection = Connection::restore(take(socket)?, waiting);
            sources.extend(tokens.next().zip(Some(Source::Connection(connection))));
        }
        let mut table = Table::default();
        let mut launching = BTreeMap::new();
        for (container, left) in live.into_iter().zip(state.live) {
            if let Some(pipe) = left.status_pipe {
                let container = container.id.clone();
                let source = Source::Launching { pipe: take(pipe)?, container: container.clone() };
                if let Some(token) = tokens.next() {
                    launching.insert(container, token);
                    sources.insert(token, source);
                }
            }
            let failure = left.failure.as_ref().map(failure_of);
            table.restore_live(container, take(left.exit_file)?, failure);
        }
        for container in ended {
            table.restore_ended(container);
        }
        let open_files = (state.soft_files, state.hard_files);
        let mut server = Server {
            place,
            watch,
            surroundings: Surroundings { init, open_files, spared: is_spared() },
            sources,
            launching,
            next_source: tokens.start,
            table,
            buffer: vec![0; PACKET_BUFFER],
            complaints: Complaints::default(),
            pausing: false,
            ending: false,
        };
        for token in FIRST_SOURCE..server.next_source {
            server.flush(token);
        }
        Ok(server)
    }
}

/// Executes the image again that wrote this state, because this one cannot go on. Returns only where
/// that failed.
pub(crate) fn go_back(
    socket: &Path,
    state: &[u8],
    memfd: File,
    inherited: Inherited,
    reason: &str,
) -> io::Result<Infallible> {
    let envelope = Envelope::decode(state).map_err(io::Error::other)?;
    let program = inherited.get(&envelope.program);
    let program = program.ok_or_else(|| io::Error::other("its program is not open"))?;
    let arguments = arguments(socket, memfd.as_fd(), Some(reason))?;
    let kept: Vec<BorrowedFd<'_>> =
        inherited.values().map(AsFd::as_fd).chain([memfd.as_fd()]).collect();
    execute_keeping(program.as_fd(), &arguments, &kept)
}

fn execute_keeping(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    kept: &[BorrowedFd<'_>],
) -> io::Result<Infallible> {
    for descriptor in kept {
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let environment: [&CStr; 0] = [];
    Ok(execveat(program, c"", arguments, &environment, AtFlags::AT_EMPTY_PATH)?)
}

/// The command line of an image that takes over; the socket is for people who look.
fn arguments(
    socket: &Path,
    memfd: BorrowedFd<'_>,
    refused: Option<&str>,
) -> io::Result<Vec<CString>> {
    let number = memfd.as_raw_fd().to_string();
    let mut arguments =
        vec![OsStr::new("mezzo-launcher"), OsStr::new("--socket"), socket.as_os_str()];
    arguments.extend([OsStr::new("--resume"), OsStr::new(&number)]);
    if let Some(reason) = refused {
        arguments.extend([OsStr::new("--refused"), OsStr::new(reason)]);
    }
    arguments.into_iter().map(|text| Ok(CString::new(text.as_bytes())?)).collect()
}
