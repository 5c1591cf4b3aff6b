//! Who gets a connection, and what happens when there is no room for one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::{LISTENER, Server, Source};
use crate::connection::Connection;

/// Connections at a time: one agent, one that replaces it, and somebody who looks.
const MAX_CONNECTIONS: usize = 16;

/// Connections taken from the backlog before the others have their turn.
const ACCEPTS_PER_TURN: usize = 16;

/// More requests than a socket's buffer holds.
const REQUESTS_WAITING: usize = 4096;

/// How long nobody is accepted, in milliseconds, when no descriptor is left and nothing else happens: the
/// kernel does not tell when there is one again.
const ACCEPT_PAUSE_MS: u16 = 1000;

impl Server {
    pub(super) fn accept(&mut self) {
        self.hear_out();
        for _ in 0..ACCEPTS_PER_TURN {
            let socket = match self.place.listener.accept() {
                Ok((stream, _)) => OwnedFd::from(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The kernel looks for a free descriptor first, and then whether anybody waits.
                Err(_) if !self.somebody_waits() => return,
                Err(error) if self.make_room() => {
                    self.complain(format_args!("closed a connection that asked nothing: {error}"));
                    continue;
                }
                Err(error) => {
                    self.complain(format_args!("cannot accept a connection for now: {error}"));
                    return self.pause();
                }
            };
            mezzo_fault_points::hit!("launcher.accept");
            self.admit(socket);
        }
    }

    fn admit(&mut self, socket: OwnedFd) {
        let peer = getsockopt(&socket, PeerCredentials).map(|peer| peer.uid());
        if peer != Ok(geteuid().as_raw()) {
            let refused = format_args!("refused a connection of user {peer:?}: not its own");
            return self.complain(refused);
        }
        let connection = |source: &&Source| matches!(source, Source::Connection(_));
        let connections = self.sources.values().filter(connection).count();
        if connections >= MAX_CONNECTIONS {
            if !self.make_room() {
                let refused = format_args!("refused a connection: {MAX_CONNECTIONS} are in use");
                return self.complain(refused);
            }
            self.complain(format_args!("closed a connection that asked nothing for another one"));
        }
        let token = self.next_token();
        match self.watch.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            Ok(()) => {
                self.sources.insert(token, Source::Connection(Connection::new(socket)));
            }
            Err(errno) => self.complain(format_args!("cannot watch a connection: {errno}")),
        }
    }

    fn somebody_waits(&self) -> bool {
        let mut listener = [PollFd::new(self.place.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut listener, PollTimeout::ZERO) != Ok(0)
    }

    /// Closes the oldest connection that has asked for nothing yet: an agent does so at once. Whether
    /// there was one.
    fn make_room(&mut self) -> bool {
        let mut silent = self.sources.iter().filter(|(_, source)| {
            matches!(source, Source::Connection(connection) if !connection.has_asked())
        });
        let oldest = silent.next().map(|(token, _)| *token);
        if let Some(token) = oldest {
            self.close(token);
        }
        oldest.is_some()
    }

    /// Whoever connects now may be an agent that asks what became of the one before it: what that one
    /// asked for last, and may still wait to be read, comes first.
    fn hear_out(&mut self) {
        let connection = |(token, source): (&u64, &Source)| {
            matches!(source, Source::Connection(_)).then_some(*token)
        };
        let tokens: Vec<u64> = self.sources.iter().filter_map(connection).collect();
        for token in tokens {
            self.read_requests(token, REQUESTS_WAITING);
        }
    }

    /// Does not look at the listener for a while: it would be ready all the time.
    fn pause(&mut self) {
        self.pausing = self.listen_for(EpollFlags::empty()).is_ok();
    }

    /// How long to wait for events at most.
    pub(super) fn accepting_timeout(&self) -> EpollTimeout {
        if self.pausing { EpollTimeout::from(ACCEPT_PAUSE_MS) } else { EpollTimeout::NONE }
    }

    /// Looks at the listener again: something has happened, or the pause is over.
    pub(super) fn accept_again(&mut self) {
        if self.pausing && self.listen_for(EpollFlags::EPOLLIN).is_ok() {
            self.pausing = false;
        }
    }

    fn listen_for(&self, events: EpollFlags) -> Result<(), Errno> {
        self.watch.epoll.modify(&self.place.listener, &mut EpollEvent::new(events, LISTENER))
    }
}
