//! What a daemon tells the service manager that started it: the protocol of sd_notify(3).
//!
//! A manager that wants to hear names a datagram socket in `NOTIFY_SOCKET`. One that watches over the daemon
//! says in `WATCHDOG_USEC` how long it may be silent.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Why the service manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("could not use NOTIFY_SOCKET, {0:?}")]
    Socket(OsString, #[source] io::Error),
    #[error("{name} is {value:?}, not a number of its kind")]
    Number { name: &'static str, value: OsString },
}

/// The service manager, if there is one that wants to hear.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    peer: Option<Arc<Peer>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Peer {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// As the environment of this process has it.
    ///
    /// # Errors
    /// If it is there and cannot be understood: the manager would wait for a word in vain.
    pub fn from_environment() -> Result<Self, ServiceError> {
        Self::from_variables(std::env::var_os, std::process::id())
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<OsString>,
        own_pid: u32,
    ) -> Result<Self, ServiceError> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let peer = Peer::new(&name).map_err(|error| ServiceError::Socket(name, error))?;
        let number = |name: &'static str| {
            let Some(value) = variable(name) else { return Ok(None) };
            let read = value.to_str().and_then(|value| value.parse::<u64>().ok());
            read.map(Some).ok_or(ServiceError::Number { name, value })
        };
        // Meant for another process where a shell stands between.
        let meant = number("WATCHDOG_PID")?.is_none_or(|pid| pid == u64::from(own_pid));
        let watchdog = number("WATCHDOG_USEC")?.filter(|_| meant).filter(|limit| *limit > 0);
        Ok(Self { peer: Some(Arc::new(peer)), watchdog: watchdog.map(Duration::from_micros) })
    }

    /// The daemon serves; `status` is a line for people.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending");
    }

    /// For the daemon's main loop.
    pub fn heartbeat(&self) -> Heartbeat {
        match (&self.peer, self.watchdog) {
            (Some(peer), Some(limit)) => {
                // Twice within the limit, as sd_watchdog_enabled(3) advises.
                let mut ticks = interval((limit / 2).max(Duration::from_millis(1)));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Heartbeat(Some((ticks, Arc::clone(peer))))
            }
            _ => Heartbeat::default(),
        }
    }

    fn tell(&self, message: &str) {
        if let Some(peer) = &self.peer {
            peer.tell(message);
        }
    }
}

impl Peer {
    fn new(name: &OsString) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold the daemon up.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            tracing::debug!(%error, "could not tell the service manager");
        }
    }
}

/// The sign of life of a main loop. It comes from the loop itself, so that a loop that hangs gives none
/// and the manager starts the daemon anew.
#[derive(Debug, Default)]
pub struct Heartbeat(Option<(Interval, Arc<Peer>)>);

impl Heartbeat {
    /// Waits until it is time for a sign, and gives it; for ever where nobody asks for one. To be polled in each
    /// round of the loop; cancel-safe.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some((ticks, peer)) => {
                ticks.tick().await;
                peer.tell("WATCHDOG=1");
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager {
        socket: UnixDatagram,
        _directory: tempfile::TempDir,
        path: OsString,
    }

    impl Manager {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            Self { socket, _directory: directory, path: path.into() }
        }

        fn service(
            &self,
            watchdog: &[(&'static str, &str)],
        ) -> Result<ServiceManager, ServiceError> {
            let variable = |name| match name {
                "NOTIFY_SOCKET" => Some(self.path.clone()),
                _ => watchdog.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()),
            };
            ServiceManager::from_variables(variable, 42)
        }

        fn heard(&self) -> String {
            let mut buffer = [0; 256];
            let length = self.socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        }
    }

    #[test]
    fn the_manager_hears_when_the_daemon_serves_and_ends() {
        let manager = Manager::new();
        let service = manager.service(&[]).unwrap();
        service.ready("serving at 127.0.0.1:1");
        assert_eq!(manager.heard(), "READY=1\nSTATUS=serving at 127.0.0.1:1");
        service.stopping();
        assert_eq!(manager.heard(), "STOPPING=1\nSTATUS=ending");
        drop(manager);
        service.stopping();
        ServiceManager::default().ready("nobody listens");
    }

    #[test]
    fn abstract_names_are_reached() {
        let name = format!("mezzo-telemetry-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Peer::new(&format!("@{name}").into()).unwrap().tell("x");
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_where_there_is_one() {
        let manager = Manager::new();
        let watched = manager.service(&[("WATCHDOG_USEC", "2000"), ("WATCHDOG_PID", "42")]);
        let mut heartbeat = watched.unwrap().heartbeat();
        for _ in 0..3 {
            heartbeat.due().await;
            assert_eq!(manager.heard(), "WATCHDOG=1");
        }
        for unwatched in [
            &[("WATCHDOG_USEC", "2000"), ("WATCHDOG_PID", "41")][..],
            &[("WATCHDOG_USEC", "0")],
            &[],
        ] {
            assert!(manager.service(unwatched).unwrap().heartbeat().0.is_none());
        }
        let error = manager.service(&[("WATCHDOG_USEC", "soon")]).unwrap_err();
        assert_eq!(error.to_string(), "WATCHDOG_USEC is \"soon\", not a number of its kind");
    }
}
