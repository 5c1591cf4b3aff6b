//! Channels to masters and agents: one set of timeouts and limits for all clients.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::{ConnectError, ServerKind};

/// Long enough for a busy server on another continent, short enough for a person who waits.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent peer is asked for a sign of life this often, and given up when none comes in time.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest message accepted: the answer to GET_TASKS of a cluster with 200 000 tasks fits.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A server of a kind at an address that has been checked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) server: ServerKind,
    pub(crate) address: String,
}

impl Target {
    /// Opens a connection now, so that a missing server is noticed here and not at the first call.
    pub(crate) async fn connect(&self) -> Result<Channel, ConnectError> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|_| ConnectError::Address {
                server: self.server,
                address: self.address.clone(),
                problem: "the host has characters that no host name has",
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        endpoint.connect().await.map_err(|source| ConnectError::Unreachable {
            server: self.server,
            address: self.address.clone(),
            source: source.into(),
        })
    }
}
