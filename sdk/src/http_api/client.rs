//! Calls that have one answer each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mezzo_proto::json::JsonMessage;
use prost::Message;
use tokio::time::timeout;

use crate::endpoint::Target;
use crate::error::{ConnectError, OperatorError};
use crate::http_api::{Peer, Reply, Sender};

/// A call that takes longer has been lost: GET_STATE of the largest cluster takes seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// Masters that send their client elsewhere. More in a row go round in circles.
const MAX_REDIRECTS: usize = 4;

/// Cheap to clone. Calls at the same time use connections of their own; one is kept for the next.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    peer: Peer,
    path: &'static str,
    idle: Arc<Mutex<Option<Sender>>>,
}

impl Client {
    /// Connected to `peer`, for calls to `path`.
    pub(crate) async fn connect(peer: Peer, path: &'static str) -> Result<Self, ConnectError> {
        let sender = peer.dial().await?;
        Ok(Client { peer, path, idle: Arc::new(Mutex::new(Some(sender))) })
    }

    /// The answer to a call; None if it was carried out and there is nothing to say.
    pub(crate) async fn call<C, R>(&self, name: &str, call: &C) -> Result<Option<R>, OperatorError>
    where
        C: Message + JsonMessage,
        R: Message + JsonMessage + Default,
    {
        let lost = |message| self.lost(name, message);
        let exchange = async {
            let (reply, sender) = self.post(name, call).await?;
            let body = reply.bytes().await.map_err(lost)?;
            if let Some(sender) = sender {
                self.keep(sender);
            }
            Ok(body)
        };
        let answered = timeout(CALL_TIMEOUT, exchange).await;
        let body = answered.unwrap_or_else(|_| {
            Err(lost(format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
        })?;
        if body.is_empty() {
            return Ok(None);
        }
        self.peer.encoding.decode(&body).map(Some).map_err(|problem| {
            OperatorError::Unintelligible {
                server: self.peer.target.server,
                address: self.peer.target.address.clone(),
                call: name.to_owned(),
                problem,
            }
        })
    }

    /// The answer to a call that opens a stream.
    pub(crate) async fn stream<C>(&self, name: &str, call: &C) -> Result<Reply, OperatorError>
    where
        C: Message + JsonMessage,
    {
        let answered = timeout(CALL_TIMEOUT, self.post(name, call)).await;
        let late = || self.lost(name, format!("no answer within {} s", CALL_TIMEOUT.as_secs()));
        answered.unwrap_or_else(|_| Err(late())).map(|(reply, _)| reply)
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A good answer, and the connection to use again.
    async fn post<C>(&self, name: &str, call: &C) -> Result<(Reply, Option<Sender>), OperatorError>
    where
        C: Message + JsonMessage,
    {
        let message = self.peer.encoding.encode(call);
        let mut peer = self.peer.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = peer.target.address == self.peer.target.address;
            let idle = match own {
                true => self.idle.lock().unwrap_or_else(PoisonError::into_inner).take(),
                false => None,
            };
            let request = peer.request(self.path, message.clone());
            let (reply, sender) = send(&peer, idle, request)
                .await
                .map_err(|error| self.lost(name, error.to_string()))?;
            if let Some(address) = reply.elsewhere() {
                peer.target = Target { server: peer.target.server, address };
                continue;
            }
            if reply.code.is_success() {
                return Ok((reply, own.then_some(sender)));
            }
            let code = reply.code.as_u16();
            let message = reply.sentence().await;
            if own {
                self.keep(sender);
            }
            return Err(OperatorError::Refused {
                server: peer.target.server,
                address: peer.target.address.clone(),
                call: name.to_owned(),
                code,
                message,
            });
        }
        Err(self.lost(name, format!("it was sent elsewhere more than {MAX_REDIRECTS} times")))
    }

    fn keep(&self, sender: Sender) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }

    fn lost(&self, call: &str, message: String) -> OperatorError {
        OperatorError::Lost {
            server: self.peer.target.server,
            address: self.peer.target.address.clone(),
            call: call.to_owned(),
            message,
        }
    }
}

/// What a request that was not answered died of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{0}")]
    Connect(ConnectError),
    #[error("{0}")]
    Broken(hyper::Error),
}

/// Sends on `idle` if that is still open, else on a new connection. A request is sent again only
/// if it certainly never left: the server may have closed a connection that lay idle.
pub(crate) async fn send(
    peer: &Peer,
    idle: Option<Sender>,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
) -> Result<(Reply, Sender), SendError> {
    let mut request = request;
    if let Some(mut sender) = idle
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response.into(), sender)),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(SendError::Broken(failed.into_error())),
            },
        }
    }
    let mut sender = peer.dial().await.map_err(SendError::Connect)?;
    match sender.send_request(request).await {
        Ok(response) => Ok((response.into(), sender)),
        Err(error) => Err(SendError::Broken(error)),
    }
}
