//! The agent's side of the connection.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use nix::sys::socket::{Shutdown, shutdown};

use crate::channel::{PACKET_BUFFER, receive_message, send_message};
use crate::container::{Container, Event, container_of, event_of};
use crate::enter::Enter;
use crate::launch::Launch;
use crate::socket::connect_to;
use crate::wire::{Body, Call, ContainerCall, Empty, Notice, RefusalCode, Request};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("connect to the launcher at {path:?}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("send a request to the launcher")]
    Send(#[source] io::Error),
    /// Whether the request was carried out is unknown: connect again and ask for the list.
    #[error("hear from the launcher: the connection is gone")]
    Disconnected,
    #[error("have the launcher do it: {message}")]
    Refused {
        code: RefusalCode,
        /// 0 where no system call was involved.
        errno: i32,
        message: String,
    },
}

type Outcome<T> = Result<T, ClientError>;
type Callback<T> = Box<dyn FnOnce(Outcome<T>) + Send>;

/// The launcher that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: i32,
    /// Of the state that it would leave for a successor.
    pub format: u32,
}

enum Waiting {
    Done(Callback<i32>),
    Hello(Callback<Identity>),
    Listing(Vec<Container>, Callback<Vec<Container>>),
}

impl Waiting {
    fn fail(self, error: ClientError) {
        match self {
            Waiting::Done(callback) => callback(Err(error)),
            Waiting::Hello(callback) => callback(Err(error)),
            Waiting::Listing(_, callback) => callback(Err(error)),
        }
    }
}

/// `None` once the connection is gone.
type Calls = Arc<Mutex<Option<HashMap<u64, Waiting>>>>;

/// A connection to the launcher. One thread of its own reads replies and events.
///
/// Calls may come from any thread. They block for one round trip on the machine (well below a
/// millisecond; a launch also forks), except [`launch_then`](Self::launch_then).
pub struct LauncherClient {
    socket: Arc<OwnedFd>,
    /// Keeps the packets of large messages and their order whole.
    sending: Mutex<()>,
    calls: Calls,
    sequence: AtomicU64,
    reader: Option<JoinHandle<()>>,
}

impl LauncherClient {
    /// Connects. `on_event` runs on the reading thread, one event after the other in the launcher's
    /// order, and must not block nor call back into this client; the last one is
    /// [`Event::Disconnected`].
    pub fn connect(
        path: &Path,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Outcome<LauncherClient> {
        let wrap = |source| ClientError::Connect { path: path.to_owned(), source };
        Self::over(connect_to(path).map_err(wrap)?, on_event).map_err(wrap)
    }

    /// As [`connect`](Self::connect), over a socket that is connected.
    pub(crate) fn over(
        socket: OwnedFd,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<LauncherClient> {
        let socket = Arc::new(socket);
        let calls: Calls = Arc::new(Mutex::new(Some(HashMap::new())));
        let reader = {
            let (socket, calls) = (Arc::clone(&socket), Arc::clone(&calls));
            thread::Builder::new()
                .name("launcher-client".to_owned())
                .spawn(move || read(&socket, &calls, on_event))?
        };
        Ok(LauncherClient {
            socket,
            sending: Mutex::new(()),
            calls,
            sequence: AtomicU64::new(1),
            reader: Some(reader),
        })
    }

    /// Starts a container and returns the pid of its first process. That the command runs is told
    /// by [`Event::Started`], which may come before this returns; that it cannot run, by
    /// [`Event::LaunchFailed`]. An error other than [`ClientError::Disconnected`] means that nothing
    /// was started and no event will come.
    pub fn launch(&self, launch: &Launch<'_>) -> Outcome<i32> {
        wait(|callback| {
            let call = Call::Launch(launch.call());
            self.request(call, &launch.descriptors(), Waiting::Done(callback));
        })
    }

    /// As [`launch`](Self::launch), but does not wait: `done` runs on the reading thread, or at once
    /// where the request cannot be sent. The descriptors may be closed when this returns.
    pub fn launch_then(
        &self,
        launch: &Launch<'_>,
        done: impl FnOnce(Outcome<i32>) + Send + 'static,
    ) {
        let waiting = Waiting::Done(Box::new(done));
        self.request(Call::Launch(launch.call()), &launch.descriptors(), waiting);
    }

    /// Has a command run beside a container's own. Does not wait: `done` runs on the reading thread, or at once where
    /// the request cannot be sent; what becomes of the command comes over its socket. The descriptors may be closed
    /// when this returns. Refused (`Invalid`) by launchers that do not know it.
    pub fn enter_then(&self, enter: &Enter<'_>, done: impl FnOnce(Outcome<()>) + Send + 'static) {
        let waiting = Waiting::Done(Box::new(|outcome| done(outcome.map(|_| ()))));
        self.request(Call::Enter(enter.call()), &enter.descriptors(), waiting);
    }

    /// All containers that live or have not been forgotten, in order of their ids.
    pub fn list(&self) -> Outcome<Vec<Container>> {
        wait(|callback| {
            self.request(Call::List(Empty {}), &[], Waiting::Listing(Vec::new(), callback));
        })
    }

    /// Drops an ended container from the list.
    pub fn forget(&self, container: &str) -> Outcome<()> {
        self.simple(Call::Forget(container_call(container, 0)))
    }

    /// Sends a signal to the container's first process, which passes all but SIGKILL and SIGSTOP on
    /// to the command's process group.
    pub fn signal(&self, container: &str, signal: i32) -> Outcome<()> {
        self.simple(Call::Signal(container_call(container, signal)))
    }

    /// Kills the container's first process and with it, given a pid namespace, all the others. Without
    /// one the command is left: kill its cgroup.
    pub fn kill(&self, container: &str) -> Outcome<()> {
        self.simple(Call::Kill(container_call(container, 0)))
    }

    /// Who answers. Refused (`Invalid`) by launchers that cannot be upgraded.
    pub fn hello(&self) -> Outcome<Identity> {
        wait(|callback| self.request(Call::Hello(Empty {}), &[], Waiting::Hello(callback)))
    }

    /// Has the launcher execute this program in its own place, see [`Launcher::upgrade`](crate::Launcher::upgrade),
    /// which asks the program first whether it can. The new one answers; this connection and all
    /// containers go over to it. Refused: the old one goes on.
    pub fn upgrade(&self, program: BorrowedFd<'_>) -> Outcome<()> {
        let call = Call::Upgrade(Empty {});
        wait(|callback| self.request(call, &[program], Waiting::Done(callback))).map(|_| ())
    }

    /// Ends the launcher; refused (`Running`) while any container lives.
    pub fn shutdown(&self) -> Outcome<()> {
        self.simple(Call::Shutdown(Empty {}))
    }

    fn simple(&self, call: Call) -> Outcome<()> {
        wait(|callback| self.request(call, &[], Waiting::Done(callback))).map(|_| ())
    }

    fn request(&self, call: Call, descriptors: &[BorrowedFd<'_>], waiting: Waiting) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        match lock(&self.calls).as_mut() {
            Some(calls) => {
                calls.insert(sequence, waiting);
            }
            None => {
                // Outside of the lock's scope nothing can take `waiting` twice.
                return waiting.fail(ClientError::Disconnected);
            }
        }
        let request = Request { sequence, call: Some(call) };
        let sent = {
            let _order = lock(&self.sending);
            send_message(self.socket.as_fd(), &request, descriptors)
        };
        if let Err(error) = sent {
            // The reader may have failed it meanwhile.
            let waiting = lock(&self.calls).as_mut().and_then(|calls| calls.remove(&sequence));
            if let Some(waiting) = waiting {
                waiting.fail(match error.kind() {
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        ClientError::Disconnected
                    }
                    _ => ClientError::Send(error),
                });
            }
        }
    }
}

impl Drop for LauncherClient {
    fn drop(&mut self) {
        // Wakes the reader, which ends. It fails only where the peer has closed already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            // A callback that held the last handle drops it on the reading thread itself.
            if reader.thread().id() != thread::current().id() {
                let _ = reader.join();
            }
        }
    }
}

impl std::fmt::Debug for LauncherClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LauncherClient").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn container_call(container: &str, signal: i32) -> ContainerCall {
    ContainerCall { container: container.to_owned(), signal }
}

/// A panic of a callback elsewhere leaves nothing half done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<T: Send + 'static>(ask: impl FnOnce(Callback<T>)) -> Outcome<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    ask(Box::new(move |outcome| {
        // The receiver waits below; it cannot be gone.
        let _ = sender.send(outcome);
    }));
    receiver.recv().unwrap_or(Err(ClientError::Disconnected))
}

fn read(socket: &OwnedFd, calls: &Calls, mut on_event: impl FnMut(Event)) {
    let mut buffer = vec![0; PACKET_BUFFER];
    // Whatever cannot be understood ends the connection, as an end of it does.
    while let Ok(Some((notice, _))) = receive_message::<Notice>(socket.as_fd(), &mut buffer, true) {
        // A body of a newer launcher is none of ours.
        let Some(body) = notice.body else { continue };
        match body {
            Body::Done(done) => {
                if let Some(Waiting::Done(callback)) = take(calls, done.sequence) {
                    callback(Ok(done.pid));
                }
            }
            Body::Refused(refused) => {
                let code = refused.code();
                if let Some(waiting) = take(calls, refused.sequence) {
                    let (errno, message) = (refused.errno, refused.message);
                    waiting.fail(ClientError::Refused { code, errno, message });
                }
            }
            Body::Hello(hello) => {
                if let Some(Waiting::Hello(callback)) = take(calls, hello.sequence) {
                    callback(Ok(Identity { pid: hello.pid, format: hello.format }));
                }
            }
            Body::Listing(part) => {
                let Some(Waiting::Listing(mut list, callback)) = take(calls, part.sequence) else {
                    continue;
                };
                list.extend(part.containers.into_iter().filter_map(container_of));
                if part.last {
                    callback(Ok(list));
                } else if let Some(calls) = lock(calls).as_mut() {
                    calls.insert(part.sequence, Waiting::Listing(list, callback));
                }
            }
            body @ (Body::Started(_) | Body::LaunchFailed(_) | Body::Exited(_)) => {
                if let Some(event) = event_of(body) {
                    on_event(event);
                }
            }
        }
    }
    // From here on no call waits: later ones fail at once.
    let left = lock(calls).take().unwrap_or_default();
    for waiting in left.into_values() {
        waiting.fail(ClientError::Disconnected);
    }
    on_event(Event::Disconnected);
}

fn take(calls: &Calls, sequence: u64) -> Option<Waiting> {
    lock(calls).as_mut().and_then(|calls| calls.remove(&sequence))
}
