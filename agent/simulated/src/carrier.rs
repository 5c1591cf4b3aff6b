//! One connection and the agents on it: dials their streams, hands messages to and fro, keeps their
//! time. One task does all of this for all of them; the work for one message does not depend on how
//! many there are.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FuturesUnordered, SelectAll};
use futures::{FutureExt, Stream, StreamExt};
use mezzo_agent_core::LinkId;
use mezzo_proto::internal::v1::MasterToAgent;
use mezzo_proto::internal::v1::agent_link_client::AgentLinkClient;
use mezzo_types::{ContainerId, IdSource, Now};
use tokio::sync::watch;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::clock::Clock;
use crate::fleet::Tally;
use crate::machine::{Machine, Want};
use crate::outgoing::{Ended, Sender, outgoing};

/// Streams that are opened at a time: enough to keep the connection busy, few enough that a master
/// which comes back is not asked for everything at once.
const DIALS_MAX: usize = 32;
/// Messages that are taken before time is looked at again.
const MESSAGES_PER_ROUND: usize = 256;
/// Waits between attempts, as a real agent has them.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Position of an agent among those of its connection.
type Index = u32;

/// See the module.
pub(crate) struct Carrier {
    clock: Clock,
    tally: Arc<Tally>,
    client: AgentLinkClient<Channel>,
    agents: Vec<Carried>,
    incoming: SelectAll<Incoming>,
    dialling: FuturesUnordered<Dial>,
    /// Agents whose stream is to be opened.
    to_dial: VecDeque<Index>,
    timers: BTreeSet<(u64, Index, Alarm)>,
    /// Draws waits.
    chance: IdSource,
    /// Kept for its room.
    wants: Vec<Want>,
}

/// One agent and its stream.
struct Carried {
    machine: Machine,
    link: Option<(LinkId, Sender)>,
    links: u64,
    /// Before the next attempt.
    wait: Duration,
    /// When it is to be looked at, if its core wants that. May be too early, never too late.
    alarm: Option<u64>,
    registered: bool,
    left: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The core has something to do.
    Core,
    Dial,
    /// A command has run for its time.
    End(ContainerId),
}

type Dial = Pin<Box<dyn Future<Output = Dialled> + Send>>;

struct Dialled {
    agent: Index,
    link: LinkId,
    sender: Sender,
    ended: Ended,
    stream: Result<Streaming<MasterToAgent>, tonic::Status>,
}

/// What the master sends to one agent, until either side ends it.
struct Incoming {
    agent: Index,
    link: LinkId,
    ended: Ended,
    /// `None` once it has ended.
    stream: Option<Streaming<MasterToAgent>>,
}

impl Stream for Incoming {
    /// Without a message: the end.
    type Item = (Index, LinkId, Option<MasterToAgent>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let message = match stream.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(message))) => Some(message),
            Poll::Ready(Some(Err(status))) => {
                tracing::debug!(reason = status.message(), "a stream to the master broke");
                None
            }
            Poll::Ready(None) => None,
            Poll::Pending if self.ended.poll(context).is_ready() => None,
            Poll::Pending => return Poll::Pending,
        };
        if message.is_none() {
            self.stream = None;
        }
        Poll::Ready(Some((self.agent, self.link, message)))
    }
}

/// The connection, made with the first stream and made again whenever it is lost.
pub(crate) fn channel(endpoint: Endpoint) -> Channel {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy()
}

impl Carrier {
    pub(crate) fn new(
        clock: Clock,
        tally: Arc<Tally>,
        channel: Channel,
        machines: Vec<Machine>,
        chance: IdSource,
    ) -> Carrier {
        let client = AgentLinkClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        let agents = machines.into_iter().map(|machine| Carried {
            machine,
            link: None,
            links: 0,
            wait: RETRY_FIRST,
            alarm: None,
            registered: false,
            left: false,
        });
        let agents = Vec::from_iter(agents);
        let to_dial = (0..).take(agents.len()).collect();
        Carrier {
            clock,
            tally,
            client,
            agents,
            incoming: SelectAll::new(),
            dialling: FuturesUnordered::new(),
            to_dial,
            timers: BTreeSet::new(),
            chance,
            wants: Vec::new(),
        }
    }

    /// Until `stop` says so.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut set = None;
        loop {
            self.dial();
            let due = self.timers.first().map(|(due, _, _)| *due);
            if let Some(at) = due.filter(|_| due != set) {
                sleep.as_mut().reset(self.clock.instant(at));
                set = due;
            }
            // All arms are cancel-safe: streams, timers and the watch lose nothing.
            tokio::select! {
                Some((agent, link, message)) = self.incoming.next(), if !self.incoming.is_empty() => {
                    self.heard(agent, link, message);
                    for _ in 1..MESSAGES_PER_ROUND {
                        let Some(Some((agent, link, message))) = self.incoming.next().now_or_never()
                        else { break };
                        self.heard(agent, link, message);
                    }
                }
                Some(dialled) = self.dialling.next(), if !self.dialling.is_empty() => {
                    self.dialled(dialled);
                }
                () = sleep.as_mut(), if due.is_some() => {
                    set = None;
                    self.ring();
                }
                changed = stop.changed() => {
                    if changed.is_err() || *stop.borrow() {
                        return;
                    }
                }
            }
        }
    }

    /// Opens streams, some at a time.
    fn dial(&mut self) {
        while self.dialling.len() < DIALS_MAX
            && let Some(agent) = self.to_dial.pop_front()
        {
            let Some(carried) = self.agents.get_mut(agent as usize) else { continue };
            carried.links += 1;
            let link = LinkId(carried.links);
            let (sender, messages, ended) = outgoing();
            let mut client = self.client.clone();
            self.dialling.push(Box::pin(async move {
                let stream = client.connect(messages).await.map(tonic::Response::into_inner);
                Dialled { agent, link, sender, ended, stream }
            }));
        }
    }

    fn dialled(&mut self, dialled: Dialled) {
        let Dialled { agent, link, sender, ended, stream } = dialled;
        let now = self.clock.now();
        match stream {
            Ok(stream) => {
                self.incoming.push(Incoming { agent, link, ended, stream: Some(stream) });
                let Some(carried) = self.agents.get_mut(agent as usize) else { return };
                carried.link = Some((link, sender));
                carried.machine.link_up(now, link, &mut self.wants);
                self.carry_out(now, agent);
            }
            Err(status) => {
                self.tally.unreachable(&status);
                self.dial_later(now, agent);
            }
        }
    }

    fn dial_later(&mut self, now: Now, agent: Index) {
        let Some(carried) = self.agents.get_mut(agent as usize) else { return };
        if carried.left {
            return;
        }
        // Half of the wait is drawn, so that the agents do not come back in one moment.
        let half = u64::try_from(carried.wait.as_nanos() / 2).unwrap_or(u64::MAX).max(1);
        let pause = Duration::from_nanos(half + self.chance.next_u64() % half);
        carried.wait = (carried.wait * 2).min(RETRY_LONGEST);
        self.timers.insert((now.plus(pause), agent, Alarm::Dial));
    }

    fn heard(&mut self, agent: Index, link: LinkId, message: Option<MasterToAgent>) {
        let now = self.clock.now();
        let Some(carried) = self.agents.get_mut(agent as usize) else { return };
        match message {
            Some(message) => carried.machine.hear(now, link, message, &mut self.wants),
            None => {
                carried.link.take_if(|(own, _)| *own == link);
                carried.machine.link_down(now, link, &mut self.wants);
                self.dial_later(now, agent);
            }
        }
        self.carry_out(now, agent);
    }

    /// Everything that is due.
    fn ring(&mut self) {
        let now = self.clock.now();
        while let Some((due, _, _)) = self.timers.first()
            && now.reached(*due)
        {
            let Some((_, agent, alarm)) = self.timers.pop_first() else { return };
            let Some(carried) = self.agents.get_mut(agent as usize) else { continue };
            match alarm {
                Alarm::Dial => self.to_dial.push_back(agent),
                Alarm::End(container) => {
                    carried.machine.ends(now, &container, &mut self.wants);
                }
                Alarm::Core => {
                    carried.alarm = None;
                    if carried.machine.timeout().is_some_and(|due| now.reached(due)) {
                        carried.machine.handle_timeout(now, &mut self.wants);
                    }
                }
            }
            self.carry_out(now, agent);
        }
    }

    fn carry_out(&mut self, now: Now, agent: Index) {
        let Some(carried) = self.agents.get_mut(agent as usize) else { return };
        for want in self.wants.drain(..) {
            match want {
                Want::Send(link, message) => {
                    let Some((_, sender)) = carried.link.as_ref().filter(|(own, _)| *own == link)
                    else {
                        continue;
                    };
                    if sender.send(*message).is_err() {
                        carried.link = None;
                    }
                }
                // The end of the stream is heard of next, and leads to another attempt.
                Want::Close(link) => drop(carried.link.take_if(|(own, _)| *own == link)),
                Want::EndAt(due, container) => {
                    self.timers.insert((due, agent, Alarm::End(container)));
                }
                Want::Registered(registered) => {
                    if registered {
                        carried.wait = RETRY_FIRST;
                    }
                    if registered != std::mem::replace(&mut carried.registered, registered) {
                        self.tally.registered(registered);
                    }
                }
                Want::Left(reason) => {
                    carried.left = true;
                    carried.link = None;
                    self.tally.left(reason.as_deref());
                }
            }
        }
        // An alarm that is too early costs one look; moving it with every message would cost more.
        if let Some(due) = carried.machine.timeout()
            && carried.alarm.is_none_or(|alarm| due < alarm)
        {
            if let Some(alarm) = carried.alarm.replace(due) {
                self.timers.remove(&(alarm, agent, Alarm::Core));
            }
            self.timers.insert((due, agent, Alarm::Core));
        }
        let _ = now;
    }
}
