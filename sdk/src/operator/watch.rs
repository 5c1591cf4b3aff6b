//! The master's event stream for operators.

use std::time::Duration;

use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};
use tonic::Streaming;

use crate::error::{OperatorError, ServerKind};
use crate::heartbeat::Watchdog;
use crate::http_api::{Encoding, Records, RecordsError};
use crate::v1;
use crate::v1::TaskState;
use crate::v1::master::response::{GetState, get_agents, get_frameworks};
use crate::v1::master::{Event, event};

/// Between heartbeats of a master that does not say how often it sends them.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A change in the cluster. Heartbeats are dealt with inside.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// The first event: all that there is. Later ones tell of changes of it.
    Subscribed(Box<GetState>),
    /// A task was launched.
    TaskAdded(v1::Task),
    /// News of a task.
    TaskUpdated {
        /// Whose task it is.
        framework_id: v1::FrameworkId,
        /// What was reported.
        status: v1::TaskStatus,
        /// The newest state that is known, which may be later than the one reported.
        state: TaskState,
    },
    /// An agent registered.
    AgentAdded(get_agents::Agent),
    /// An agent was removed.
    AgentRemoved(v1::AgentId),
    /// A framework subscribed for the first time.
    FrameworkAdded(get_frameworks::Framework),
    /// A framework changed its description, connected or disconnected.
    FrameworkUpdated(get_frameworks::Framework),
    /// A framework is over.
    FrameworkRemoved(v1::FrameworkInfo),
}

/// Events of the cluster as they come, see [`crate::Master::subscribe`].
#[derive(Debug)]
pub struct ClusterEvents {
    address: String,
    way: Way,
    watchdog: Watchdog,
}

#[derive(Debug)]
enum Way {
    Grpc(Box<Streaming<Event>>),
    Http(Box<Records<Event>>),
}

impl ClusterEvents {
    pub(crate) fn over_grpc(address: String, events: Streaming<Event>) -> Self {
        ClusterEvents {
            address,
            way: Way::Grpc(Box::new(events)),
            watchdog: Watchdog::new(HEARTBEAT_INTERVAL),
        }
    }

    pub(crate) fn over_http(address: String, body: Incoming, encoding: Encoding) -> Self {
        let records = Records::new(body, encoding);
        ClusterEvents {
            address,
            way: Way::Http(Box::new(records)),
            watchdog: Watchdog::new(HEARTBEAT_INTERVAL),
        }
    }

    /// The next event; None when the master has closed the stream. Cancel-safe.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_lost` if the connection broke, or was silent for five heartbeats:
    /// subscribe again.
    pub async fn next(&mut self) -> Result<Option<ClusterEvent>, OperatorError> {
        loop {
            let deadline = self.watchdog.deadline();
            let event = tokio::select! {
                // Cancel-safe on both ways: what has arrived of a message stays there.
                event = receive(&self.address, &mut self.way) => event?,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(lost(&self.address, "the master's heartbeats stopped".to_owned()));
                }
            };
            let Some(event) = event else { return Ok(None) };
            let now = Instant::now();
            let announced = event.subscribed.as_ref().and_then(|s| s.heartbeat_interval_seconds);
            match announced {
                Some(seconds) => {
                    self.watchdog.announced(Duration::try_from_secs_f64(seconds).ok(), now);
                }
                None if event.r#type == Some(event::Type::Heartbeat as i32) => {
                    self.watchdog.beat(now);
                }
                None => self.watchdog.heard(now),
            }
            if let Some(event) = ClusterEvent::from_wire(event) {
                return Ok(Some(event));
            }
        }
    }
}

async fn receive(address: &str, way: &mut Way) -> Result<Option<Event>, OperatorError> {
    match way {
        Way::Grpc(events) => events.message().await.map_err(|status| {
            OperatorError::from_status(ServerKind::Master, address, "SUBSCRIBE", status)
        }),
        Way::Http(records) => records.next().await.map_err(|error| match error {
            RecordsError::Broken(error) => lost(address, error.to_string()),
            RecordsError::Unintelligible(problem) => OperatorError::Unintelligible {
                server: ServerKind::Master,
                address: address.to_owned(),
                call: "SUBSCRIBE".to_owned(),
                problem,
            },
        }),
    }
}

fn lost(address: &str, message: String) -> OperatorError {
    OperatorError::Lost {
        server: ServerKind::Master,
        address: address.to_owned(),
        call: "SUBSCRIBE".to_owned(),
        message,
    }
}

impl ClusterEvent {
    /// None for a heartbeat, and for what a later version of the protocol may say.
    fn from_wire(event: Event) -> Option<Self> {
        use event::Type;
        match Type::try_from(event.r#type?).ok()? {
            Type::Subscribed => {
                let state = event.subscribed?.get_state.unwrap_or_default();
                Some(ClusterEvent::Subscribed(Box::new(state)))
            }
            Type::TaskAdded => Some(ClusterEvent::TaskAdded(event.task_added?.task)),
            Type::TaskUpdated => {
                let updated = event.task_updated?;
                let state = updated.state();
                let event::TaskUpdated { framework_id, status, .. } = updated;
                Some(ClusterEvent::TaskUpdated { framework_id, status, state })
            }
            Type::AgentAdded => Some(ClusterEvent::AgentAdded(event.agent_added?.agent)),
            Type::AgentRemoved => Some(ClusterEvent::AgentRemoved(event.agent_removed?.agent_id)),
            Type::FrameworkAdded => {
                Some(ClusterEvent::FrameworkAdded(event.framework_added?.framework))
            }
            Type::FrameworkUpdated => {
                Some(ClusterEvent::FrameworkUpdated(event.framework_updated?.framework))
            }
            Type::FrameworkRemoved => {
                Some(ClusterEvent::FrameworkRemoved(event.framework_removed?.framework_info))
            }
            Type::Heartbeat | Type::Unknown => None,
        }
    }
}
