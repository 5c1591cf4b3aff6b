//! Sockets in the network namespaces of others.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A TCP socket in the network namespace of the process open at `pidfd`; it stays there for its life, whoever uses it.
///
/// A thread enters the namespace and ends: no other thread is ever anywhere else than before. Blocks for a moment.
pub fn tcp_socket_beside(pidfd: BorrowedFd<'_>, ipv6: bool) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let entering = std::thread::Builder::new().name("enters-netns".to_owned());
        let socket = entering.spawn_scoped(scope, || {
            // SAFETY: takes numbers; changes this thread only.
            if unsafe { libc::setns(pidfd.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
            let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: takes numbers.
            let number = unsafe { libc::socket(family, kind, 0) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: socket has just made this descriptor, nobody else knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        })?;
        socket.join().unwrap_or_else(|_| Err(io::Error::other("the thread that entered panicked")))
    })
}
