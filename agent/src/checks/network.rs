//! Connections to a task over the loopback interface of its network namespace.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use mezzo_agent_sys::tcp_socket_beside;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task;

use super::{Target, process};

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nobody was there, or it did not want one.
    Refused(io::Error),
    /// The task was not asked.
    Unavailable(String),
}

pub(super) fn address(ipv6: bool, port: u16) -> SocketAddr {
    if ipv6 { (Ipv6Addr::LOCALHOST, port).into() } else { (Ipv4Addr::LOCALHOST, port).into() }
}

pub(super) async fn connect(target: &Target, ipv6: bool, port: u16) -> Result<TcpStream, Failed> {
    let socket = socket(target, ipv6).await.map_err(|e| Failed::Unavailable(e.to_string()))?;
    socket.connect(address(ipv6, port)).await.map_err(Failed::Refused)
}

async fn socket(target: &Target, ipv6: bool) -> io::Result<TcpSocket> {
    let (pid, _) = target.process;
    let pidfd = process::open(target.process)?;
    let network = |whose: &str| fs::metadata(format!("/proc/{whose}/ns/net")).map(|n| n.ino());
    let theirs = process::read_of(&pidfd, || network(&pid.to_string()))?;
    if theirs == network("self")? {
        return if ipv6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    }
    let entered = task::spawn_blocking(move || tcp_socket_beside(pidfd.as_fd(), ipv6));
    let socket = entered.await.map_err(io::Error::other)??;
    Ok(TcpSocket::from_std_stream(socket.into()))
}
