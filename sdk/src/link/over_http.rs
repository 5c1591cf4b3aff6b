//! The link over Mesos' HTTP API: one connection for the stream of events, one for calls, which are
//! sent one after the other so that they arrive in order.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::open::OpenError;
use super::{Api, Broken, Heard, Link, Numbered, OUTGOING_QUEUE, Outcome};
use crate::endpoint::Target;
use crate::error::ConnectError;
use crate::http_api::{Encoding, Peer, Records, RecordsError, Reply, Sender, send};

/// Ties calls to the subscription that they belong to. Agents give none.
const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// A call that takes longer has been lost.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// How long the answers to calls are awaited after the stream of events has ended: a framework that
/// tears itself down sees both at once.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Incoming<A: Api> {
    records: Records<A::Event>,
    outcomes: mpsc::Receiver<Outcome>,
    /// The stream of events has ended; answers are awaited until then.
    closing: Option<Instant>,
}

/// Connects and subscribes.
pub(super) async fn open<A: Api>(
    target: &Target,
    encoding: Encoding,
    authorization: Option<HeaderValue>,
    subscribe: &A::Call,
) -> Result<Link<A>, OpenError> {
    let peer = Peer { target: target.clone(), encoding, authorization };
    let message = encoding.encode(subscribe);
    let request = peer.request(A::HTTP_PATH, message);
    let mut sender = peer.dial().await.map_err(OpenError::Failed)?;
    let answered = sender.send_request(request).await;
    let reply: Reply = answered
        .map_err(|error| not_ready(target, format!("the connection broke: {error}")))?
        .into();
    if let Some(address) = reply.elsewhere() {
        return Err(OpenError::Elsewhere(address));
    }
    if reply.code != StatusCode::OK {
        return Err(refusal(target, A::HTTP_PATH, reply).await);
    }
    let stream_id = reply.headers.get(STREAM_ID).cloned();
    let (outgoing, queue) = mpsc::channel(OUTGOING_QUEUE);
    let (answers, outcomes) = mpsc::channel(OUTGOING_QUEUE);
    tokio::spawn(post_all::<A>(peer, stream_id, queue, answers));
    let records = Records::new(reply.body, encoding);
    let incoming = Incoming { records, outcomes, closing: None };
    Ok(Link { outgoing, incoming: super::Incoming::Http(Box::new(incoming)) })
}

async fn refusal(target: &Target, path: &str, reply: Reply) -> OpenError {
    let code = reply.code;
    let message = reply.sentence().await;
    match code {
        StatusCode::SERVICE_UNAVAILABLE => not_ready(target, message),
        // A master of Mesos has no endpoints until it has started.
        StatusCode::NOT_FOUND => not_ready(target, format!("it has no {path}: {message}")),
        _ => OpenError::Failed(ConnectError::Refused {
            server: target.server,
            address: target.address.clone(),
            code: u32::from(code.as_u16()),
            message,
        }),
    }
}

fn not_ready(target: &Target, message: String) -> OpenError {
    OpenError::Failed(ConnectError::NotReady {
        server: target.server,
        address: target.address.clone(),
        message,
    })
}

impl<A: Api> Incoming<A> {
    pub(super) async fn next(&mut self, pending: usize) -> Result<Heard<A>, Broken> {
        loop {
            let closing = self.closing;
            if closing.is_some() && pending == 0 {
                return Err(closed::<A>());
            }
            tokio::select! {
                // Cancel-safe: what has arrived of a record stays in the decoder.
                record = self.records.next(), if closing.is_none() => match record {
                    Ok(Some(event)) => return Ok(Heard::Event(event)),
                    Ok(None) => self.closing = Some(Instant::now() + LINGER),
                    Err(RecordsError::Broken(error)) => {
                        return Err(Broken::Lost(error.to_string()));
                    }
                    Err(RecordsError::Unintelligible(problem)) => {
                        return Err(Broken::For(ConnectError::Protocol {
                            server: A::SERVER,
                            address: String::new(),
                            problem,
                        }));
                    }
                },
                // Cancel-safe: an outcome is either received or still in the queue.
                outcome = self.outcomes.recv() => return match outcome {
                    Some(outcome) => Ok(Heard::Outcome(outcome)),
                    None => Err(Broken::Lost("the connection for calls broke".to_owned())),
                },
                () = sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {
                    return Err(closed::<A>());
                }
            }
        }
    }
}

fn closed<A: Api>() -> Broken {
    Broken::Lost(format!("the {} closed the stream", A::SERVER))
}

/// Posts calls as they come and hands on the answers. Ends, which ends the link, when one cannot be
/// delivered: whether the server has acted on it is then unknown.
async fn post_all<A: Api>(
    peer: Peer,
    stream_id: Option<HeaderValue>,
    mut queue: mpsc::Receiver<Numbered<A>>,
    answers: mpsc::Sender<Outcome>,
) {
    let mut idle = None;
    while let Some((sequence, call)) = queue.recv().await {
        let mut request = peer.request(A::HTTP_PATH, peer.encoding.encode(&call));
        if let Some(stream_id) = &stream_id {
            request.headers_mut().insert(STREAM_ID, stream_id.clone());
        }
        let posted = tokio::select! {
            posted = timeout(CALL_TIMEOUT, post(&peer, idle.take(), request)) => posted,
            // The session is over; nobody waits for this answer.
            () = answers.closed() => return,
        };
        let Ok(Some((code, message, sender))) = posted else { return };
        idle = Some(sender);
        if answers.send(Outcome { sequence, code, message }).await.is_err() {
            return;
        }
    }
}

/// One call and its answer; None if there is none, or the server wants somebody else to be asked.
async fn post(
    peer: &Peer,
    idle: Option<Sender>,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
) -> Option<(u32, String, Sender)> {
    let (reply, sender) = send(peer, idle, request).await.ok()?;
    if reply.code.is_redirection() {
        return None;
    }
    let code = u32::from(reply.code.as_u16());
    let message = match reply.code.is_success() {
        // Read to the end, so that the connection is free for the next.
        true => reply.bytes().await.map(|_| String::new()).ok()?,
        false => reply.sentence().await,
    };
    Some((code, message, sender))
}
