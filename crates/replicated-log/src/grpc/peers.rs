//! Dialling the other nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::MESSAGE_BYTES;
use super::hello::{check, hello};
use super::proto::replicated_log_client::ReplicatedLogClient;
use super::proto::{Message, StateFrame, message, state_frame};
use crate::error::StateError;
use crate::transport::{Inbox, StateSink, Transport};

/// Messages that may wait for one node, by number and bytes. Raft repeats what is dropped.
const QUEUED: usize = 1024;
const QUEUED_BYTES: usize = 64 << 20;

/// Messages on their way into the connection.
const SENDING: usize = 16;

/// Frames of a state that may wait for the network.
const FRAMES: usize = 4;

/// Between attempts to reach a node that cannot be reached; doubled each time from the first to the last. A process that
/// dies may still accept a connection for a moment.
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_LAST: Duration = Duration::from_millis(128);
/// Between attempts to reach a node that refuses to speak.
const REFUSED_RETRY: Duration = Duration::from_secs(2);
/// A machine that is gone without a word is noticed within twice this; its leader's silence is noticed before.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// For an attempt, and for the first word after it.
const CONNECT: Duration = Duration::from_secs(2);

/// The other nodes, each with a connection of its own. Clones share them; the last one to go closes them.
#[derive(Debug, Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: Inbox,
    runtime: Handle,
    peers: Mutex<BTreeMap<u64, Peer>>,
}

#[derive(Debug)]
struct Peer {
    endpoint: Endpoint,
    queue: mpsc::Sender<Vec<u8>>,
    queued_bytes: Arc<AtomicUsize>,
    dialling: JoinHandle<()>,
    /// A state on its way.
    sending: Option<JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.dialling.abort();
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

impl Peers {
    /// Dials from tasks of `runtime`. Messages go into `inbox`'s log; nodes are named with [`Peers::set`].
    pub fn new(inbox: Inbox, runtime: Handle) -> Self {
        Self { shared: Arc::new(Shared { inbox, runtime, peers: Mutex::default() }) }
    }

    /// Node `node_id` is reached through `endpoint` from now on.
    pub fn set(&self, node_id: u64, endpoint: Endpoint) {
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if node_id == self.shared.inbox.node_id() {
            return;
        }
        let (queue, messages) = mpsc::channel(QUEUED);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let dialler = Dialler {
            node_id,
            endpoint: endpoint.clone(),
            inbox: self.shared.inbox.clone(),
            messages,
            queued_bytes: Arc::clone(&queued_bytes),
        };
        let dialling = self.shared.runtime.spawn(dialler.run());
        self.peers()
            .insert(node_id, Peer { endpoint, queue, queued_bytes, dialling, sending: None });
    }

    /// Node `node_id` is not spoken to any more.
    pub fn remove(&self, node_id: u64) {
        self.peers().remove(&node_id);
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Peer>> {
        self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Peers {
    fn send(&self, to: u64, message: Vec<u8>) {
        let peers = self.peers();
        let Some(peer) = peers.get(&to) else { return };
        let bytes = message.len();
        if peer.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES
            || peer.queue.try_send(message).is_err()
        {
            peer.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn open_state(&self, to: u64) -> Option<Box<dyn StateSink>> {
        let mut peers = self.peers();
        let peer = peers.get_mut(&to)?;
        let endpoint = peer.endpoint.clone();
        let (frames, receiver) = mpsc::channel(FRAMES);
        let (told, outcome) = oneshot::channel();
        let inbox = self.shared.inbox.clone();
        let sending = self.shared.runtime.spawn(async move {
            // Whoever asked may have gone away.
            let _ = told.send(send_state(endpoint, &inbox, to, receiver).await);
        });
        // Raft asks for one at a time; an older one is of an older lead.
        if let Some(older) = peer.sending.replace(sending) {
            older.abort();
        }
        Some(Box::new(Sink { frames: Some(frames), outcome }))
    }
}

/// Sends what comes through `frames`; the connection is one of its own, so that messages do not wait behind frames.
async fn send_state(
    endpoint: Endpoint,
    inbox: &Inbox,
    to: u64,
    frames: mpsc::Receiver<StateFrame>,
) -> Result<(), StateError> {
    let refused = |reason: &str| StateError::Refused { reason: reason.to_owned() };
    let connecting = tokio::time::timeout(CONNECT, endpoint.connect());
    let Ok(Ok(channel)) = connecting.await else { return Err(StateError::Ended) };
    let mut client = ReplicatedLogClient::new(channel);
    let first = StateFrame { part: Some(state_frame::Part::Hello(hello(inbox, to))) };
    let stream = tokio_stream::once(first).chain(ReceiverStream::new(frames));
    match client.state(Request::new(stream)).await {
        Ok(_) => Ok(()),
        Err(status) => Err(refused(status.message())),
    }
}

struct Sink {
    frames: Option<mpsc::Sender<StateFrame>>,
    outcome: oneshot::Receiver<Result<(), StateError>>,
}

impl StateSink for Sink {
    fn send(&mut self, frame: Vec<u8>) -> Result<(), StateError> {
        let frame = StateFrame { part: Some(state_frame::Part::Frame(Bytes::from(frame))) };
        let sent = self.frames.as_ref().map(|frames| frames.blocking_send(frame).is_ok());
        if sent == Some(true) { Ok(()) } else { self.outcome() }
    }

    fn finish(mut self: Box<Self>) -> Result<(), StateError> {
        self.frames = None;
        self.outcome.blocking_recv().unwrap_or(Err(StateError::Ended))
    }
}

impl Sink {
    /// Why no more frames are taken.
    fn outcome(&mut self) -> Result<(), StateError> {
        match self.outcome.try_recv() {
            Ok(Err(error)) => Err(error),
            _ => Err(StateError::Ended),
        }
    }
}

/// Keeps a stream to one node.
struct Dialler {
    node_id: u64,
    endpoint: Endpoint,
    inbox: Inbox,
    messages: mpsc::Receiver<Vec<u8>>,
    queued_bytes: Arc<AtomicUsize>,
}

/// How an attempt ended.
enum Ended {
    /// The process is not there, or its machine says so.
    NotThere,
    /// It does not answer.
    Silent,
    /// It does not want to speak to this node, or this node not to it.
    Refused(String),
    /// There was a stream, and it broke.
    Broken,
    /// The log has ended.
    Closed,
}

impl Dialler {
    async fn run(mut self) {
        let mut was_up = false;
        let mut retry = RETRY_LAST;
        let mut told = String::new();
        loop {
            let begin = Instant::now();
            match self.attempt().await {
                Ended::Closed => return,
                Ended::Broken => {
                    was_up = true;
                    told.clear();
                    self.inbox.unreachable(self.node_id);
                    if begin.elapsed() < RETRY_LAST {
                        // It comes and goes.
                        self.wait(retry).await;
                        retry = RETRY_LAST.min(2 * retry);
                    } else {
                        // At once: whether it is refused is what matters.
                        retry = RETRY_FIRST;
                    }
                }
                Ended::NotThere => {
                    if std::mem::take(&mut was_up) {
                        self.inbox.lost(self.node_id);
                    }
                    self.wait(retry).await;
                    retry = RETRY_LAST.min(2 * retry);
                }
                Ended::Silent => {
                    self.wait(retry).await;
                    retry = RETRY_LAST.min(2 * retry);
                }
                Ended::Refused(reason) => {
                    if reason != told {
                        tracing::warn!(node = self.node_id, reason, "a node is not spoken to");
                        told = reason;
                    }
                    self.wait(REFUSED_RETRY).await;
                }
            }
        }
    }

    /// Waits, and drops what was meant for the node meanwhile: it would be late.
    async fn wait(&mut self, time: Duration) {
        let late = tokio::time::sleep(time);
        tokio::pin!(late);
        loop {
            tokio::select! {
                // Cancel-safe: a sleep and a receiver.
                () = &mut late => return,
                message = self.messages.recv() => match message {
                    Some(message) => self.taken(&message),
                    // The peer was dropped, which aborts this task.
                    None => return late.await,
                },
            }
        }
    }

    fn taken(&self, message: &[u8]) {
        self.queued_bytes.fetch_sub(message.len(), Ordering::Relaxed);
    }

    async fn attempt(&mut self) -> Ended {
        let channel: Channel = match tokio::time::timeout(CONNECT, self.endpoint.connect()).await {
            Err(_) => return Ended::Silent,
            Ok(Err(error)) if is_refusal(&error) => return Ended::NotThere,
            Ok(Err(_)) => return Ended::Silent,
            Ok(Ok(channel)) => channel,
        };
        let (sending, receiver) = mpsc::channel(SENDING);
        let first = Message { part: Some(message::Part::Hello(hello(&self.inbox, self.node_id))) };
        let stream = tokio_stream::once(first).chain(ReceiverStream::new(receiver));
        let mut client = ReplicatedLogClient::new(channel).max_encoding_message_size(MESSAGE_BYTES);
        let opening = async {
            let mut answers = client.messages(Request::new(stream)).await?.into_inner();
            let welcome = answers.message().await?;
            Ok::<_, tonic::Status>((answers, welcome))
        };
        let (mut answers, welcome) = match tokio::time::timeout(CONNECT, opening).await {
            Err(_) => return Ended::Silent,
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                return Ended::Refused(status.message().to_owned());
            }
            // The process lives and says that its log does not.
            Ok(Err(status)) if status.code() == Code::Aborted => return Ended::NotThere,
            Ok(Err(_) | Ok((_, None))) => return Ended::Silent,
            Ok(Ok((answers, Some(welcome)))) => (answers, welcome),
        };
        if let Err(reason) = check(&welcome, self.inbox.node_id(), self.inbox.group()) {
            return Ended::Refused(reason);
        }
        loop {
            tokio::select! {
                // Cancel-safe: nothing more is expected, and its end is the end of both.
                _ = answers.message() => return Ended::Broken,
                // Cancel-safe: a message is taken or it stays.
                message = self.messages.recv() => {
                    let Some(message) = message else { return Ended::Closed };
                    self.taken(&message);
                    let message =
                        Message { part: Some(message::Part::Raft(Bytes::from(message))) };
                    tokio::select! {
                        _ = answers.message() => return Ended::Broken,
                        sent = sending.send(message) => if sent.is_err() {
                            return Ended::Broken;
                        },
                    }
                }
            }
        }
    }
}

/// Whether the other machine said that nobody listens there.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}
