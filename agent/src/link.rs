//! The stream to the master: dialled again whenever it ends.

use std::time::Duration;

use mezzo_agent_core::LinkId;
use mezzo_proto::internal::v1::agent_link_client::AgentLinkClient;
use mezzo_proto::internal::v1::{AgentToMaster, MasterToAgent};
use mezzo_types::IdSource;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Messages to the master that wait for the connection. At its return every task sends one update at
/// once, so this bounds the tasks of one machine; more close the link, which starts anew.
const OUTGOING_MAX: usize = 16_384;
/// Largest message of the master: a task with its data. The same as the master takes from a framework.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Waits between attempts: the first is short, because a master that restarts is back soon.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// A link that lasted this long was a good one: the next attempt begins anew with the shortest wait.
const GOOD_LINK: Duration = Duration::from_secs(5);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead host is noticed within twice this, whatever the master's pings do, or sooner where an operator
/// wants other peers noticed sooner.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What the loop hears of the link. The loop may be behind; the link waits.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Up { link: LinkId, handle: LinkHandle },
    Message { link: LinkId, message: Box<MasterToAgent> },
    Down { link: LinkId },
}

/// The loop's end of one stream. Dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    outgoing: mpsc::Sender<AgentToMaster>,
    _closed: oneshot::Sender<()>,
}

/// The stream cannot take more, or is gone.
#[derive(Debug, thiserror::Error)]
#[error("{OUTGOING_MAX} messages wait for the master and it does not take them")]
pub(crate) struct Congested;

impl LinkHandle {
    pub(crate) fn send(&self, message: AgentToMaster) -> Result<(), Congested> {
        match self.outgoing.try_send(message) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Congested),
            // Its end is on the way to the loop.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// Why an address is none of a master.
#[derive(Debug, thiserror::Error)]
pub enum MasterAddressError {
    #[error(
        "--master={0} names ZooKeeper, which this version does not speak; give the master's HOST:PORT"
    )]
    ZooKeeper(String),
    #[error("--master={0} is not HOST:PORT, such as 10.0.0.1:5050")]
    Malformed(String),
}

/// Reads `--master`. Nothing is believed to be there after `peer_timeout` without an answer.
pub(crate) fn endpoint(
    master: &str,
    peer_timeout: Duration,
) -> Result<Endpoint, MasterAddressError> {
    if master.starts_with("zk://") {
        return Err(MasterAddressError::ZooKeeper(master.to_owned()));
    }
    let malformed = || MasterAddressError::Malformed(master.to_owned());
    let address = master.strip_prefix("http://").unwrap_or(master).trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    if host.is_empty() || host.contains('/') || port == 0 {
        return Err(malformed());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())?;
    let keepalive = KEEPALIVE.min(peer_timeout / 2);
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true))
}

/// The master's host, as `--master` names it.
pub(crate) fn host(endpoint: &Endpoint) -> String {
    let host = endpoint.uri().host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// Keeps a stream open until the loop is gone.
pub(crate) async fn keep(endpoint: Endpoint, events: mpsc::Sender<LinkEvent>, mut seed: IdSource) {
    let mut wait = RETRY_FIRST;
    let mut reported = false;
    for number in 1.. {
        let link = LinkId(number);
        let began = tokio::time::Instant::now();
        match open(&endpoint).await {
            Ok((handle, stream)) => {
                reported = false;
                if carry(link, handle, stream, &events).await.is_err() {
                    return;
                }
            }
            // Said once: a master that is away for an hour is not news every two seconds.
            Err(error) if !reported => {
                reported = true;
                let error = mezzo_telemetry::chain(&error).to_string();
                tracing::warn!(master = %endpoint.uri(), error, "the master cannot be reached; trying again until it can");
            }
            Err(error) => {
                tracing::debug!(error = %mezzo_telemetry::chain(&error), "the master cannot be reached")
            }
        }
        if began.elapsed() >= GOOD_LINK {
            wait = RETRY_FIRST;
        }
        // Half of the wait is drawn, so that the agents of a cluster do not come back in one moment.
        let half = u64::try_from(wait.as_nanos() / 2).unwrap_or(u64::MAX).max(1);
        let pause = Duration::from_nanos(half + seed.next_u64() % half);
        wait = (wait * 2).min(RETRY_LONGEST);
        tokio::select! {
            // Cancel-safe: a timer and a wait for the end.
            () = tokio::time::sleep(pause) => {}
            () = events.closed() => return,
        }
    }
}

struct Stream {
    incoming: tonic::Streaming<MasterToAgent>,
    closed: oneshot::Receiver<()>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("open the stream: {}", .0.message())]
    Open(Box<tonic::Status>),
}

async fn open(endpoint: &Endpoint) -> Result<(LinkHandle, Stream), DialError> {
    let channel: Channel = endpoint.connect().await.map_err(DialError::Connect)?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    let incoming = AgentLinkClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
        .connect(ReceiverStream::new(messages))
        .await
        .map_err(|status| DialError::Open(Box::new(status)))?
        .into_inner();
    let (close, closed) = oneshot::channel();
    Ok((LinkHandle { outgoing, _closed: close }, Stream { incoming, closed }))
}

/// The loop is gone.
struct LoopGone;

/// Hands on what arrives until either side closes the stream.
async fn carry(
    link: LinkId,
    handle: LinkHandle,
    mut stream: Stream,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), LoopGone> {
    events.send(LinkEvent::Up { link, handle }).await.map_err(|_| LoopGone)?;
    loop {
        tokio::select! {
            // Resolves when the loop drops its handle. Polled again after a message: cancel-safe.
            _ = &mut stream.closed => break,
            // Cancel-safe: a message is either returned or stays in the stream.
            message = stream.incoming.message() => match message {
                Ok(Some(message)) => {
                    let message = Box::new(message);
                    events.send(LinkEvent::Message { link, message }).await.map_err(|_| LoopGone)?;
                }
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(reason = status.message(), "the stream to the master broke");
                    break;
                }
            },
        }
    }
    events.send(LinkEvent::Down { link }).await.map_err(|_| LoopGone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(master: &str) -> Result<Endpoint, MasterAddressError> {
        endpoint(master, Duration::from_secs(120))
    }

    #[test]
    fn addresses_are_read() {
        let uri = |text: &str| read(text).map(|endpoint| endpoint.uri().to_string());
        assert_eq!(uri("10.0.0.1:5050").unwrap(), "http://10.0.0.1:5050/");
        assert_eq!(uri("http://[::1]:5050/").unwrap(), "http://[::1]:5050/");
        let host = |text: &str| host(&read(text).unwrap());
        assert_eq!(
            (host("m.example:5050").as_str(), host("[::1]:5050").as_str()),
            ("m.example", "::1")
        );
        for bad in ["", "host", "host:", ":5050", "host:0", "host:99999", "host/path:5050"] {
            assert!(matches!(read(bad), Err(MasterAddressError::Malformed(_))), "{bad}");
        }
        assert!(matches!(read("zk://a:2181/mezzo"), Err(MasterAddressError::ZooKeeper(_))));
    }

    /// A master that answers each registration with a ping, then closes the stream.
    #[derive(Debug)]
    struct Fickle;

    type Messages =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<MasterToAgent, tonic::Status>> + Send>>;

    #[tonic::async_trait]
    impl mezzo_proto::internal::v1::agent_link_server::AgentLink for Fickle {
        type ConnectStream = Messages;

        async fn connect(
            &self,
            request: tonic::Request<tonic::Streaming<AgentToMaster>>,
        ) -> Result<tonic::Response<Messages>, tonic::Status> {
            let mut incoming = request.into_inner();
            let messages = futures::stream::once(async move {
                incoming.message().await?;
                let ping = mezzo_proto::internal::v1::Ping {};
                let message = mezzo_proto::internal::v1::master_to_agent::Message::Ping(ping);
                Ok(MasterToAgent { message: Some(message) })
            });
            Ok(tonic::Response::new(Box::pin(messages)))
        }
    }

    #[tokio::test]
    async fn a_link_that_ends_is_dialled_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = mezzo_proto::internal::v1::agent_link_server::AgentLinkServer::new(Fickle);
        let router = tonic::service::Routes::new(service).prepare().into_axum_router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (events, mut inbox) = mpsc::channel(1);
        let keeping = tokio::spawn(keep(read(&address).unwrap(), events, IdSource::new([1, 2])));
        for expected in 1..=3 {
            let Some(LinkEvent::Up { link, handle }) = inbox.recv().await else {
                panic!("the link must come up first")
            };
            assert_eq!(link, LinkId(expected));
            handle.send(AgentToMaster::default()).unwrap();
            let Some(LinkEvent::Message { link, .. }) = inbox.recv().await else {
                panic!("the master's answer must arrive")
            };
            assert_eq!(link, LinkId(expected));
            assert!(
                matches!(inbox.recv().await, Some(LinkEvent::Down { link: LinkId(n) }) if n == expected)
            );
        }
        drop(inbox);
        keeping.await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_handle_closes_the_link() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = mezzo_proto::internal::v1::agent_link_server::AgentLinkServer::new(Fickle);
        let router = tonic::service::Routes::new(service).prepare().into_axum_router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (events, mut inbox) = mpsc::channel(1);
        tokio::spawn(keep(read(&address).unwrap(), events, IdSource::new([1, 2])));
        let Some(LinkEvent::Up { handle, .. }) = inbox.recv().await else {
            panic!("the link must come up first")
        };
        drop(handle);
        assert!(matches!(inbox.recv().await, Some(LinkEvent::Down { link: LinkId(1) })));
    }
}
