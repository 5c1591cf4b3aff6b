//! Unix sockets by path, however long the path is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// Longest path that fits a socket address with its end mark.
const MAX_PATH: usize = 107;

/// Connects to the launcher's socket.
pub fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let (address, _directory) = address(path)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Listens at a path where nothing is.
pub fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let socket = new_socket()?;
    let (address, _directory) = address(path)?;
    // What is bound gets the socket's own mode: there is no moment at which others could connect.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &address)?;
    listen(&socket, Backlog::new(16)?)?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// The address, and what must stay open while it is used: a long path is reached through its
/// directory's descriptor.
fn address(path: &Path) -> io::Result<(UnixAddr, Option<File>)> {
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((UnixAddr::new(path)?, None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(parent)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((UnixAddr::new(&short)?, Some(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_paths_are_reached() {
        let directory = tempfile::tempdir().expect("directory");
        let deep = directory.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&deep).expect("directories");
        for path in [directory.path().join("s"), deep.join("launcher.sock")] {
            connect_to(&path).expect_err("nobody listens");
            let listener = listen_at(&path).expect("listen");
            connect_to(&path).expect("connect");
            let mode = std::fs::metadata(&path).expect("bound").permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
            listener.accept().expect("accept");
            listen_at(&path).expect_err("in use");
        }
    }
}
