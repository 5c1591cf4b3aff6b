//! The subscription of an executor.
//!
//! As that of a scheduler, one task owns the connection and two halves talk to it. What differs is
//! what is kept for the time after a reconnection, and how long one is tried: an executor whose
//! framework checkpoints outlives its agent and waits for its return; another one ends with it.

mod api;
mod calls;
mod connection;
mod environment;
mod event;
mod events;
mod ledger;

use std::time::Duration;

use http::HeaderValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::detection::Detector;
use crate::error::{ConnectError, ServerKind};
use crate::executor::api::Identity;
use crate::executor::connection::Connection;
use crate::executor::ledger::Ledger;
use crate::link::Finder;
use crate::transport::Transport;
use crate::v1;

pub use crate::executor::calls::ExecutorCalls;
pub use crate::executor::environment::{Environment, EnvironmentError};
pub use crate::executor::event::ExecutorEvent;
pub use crate::executor::events::ExecutorEvents;

/// Calls waiting for the connection task. A caller that finds the queue full waits.
const COMMAND_QUEUE: usize = 256;

/// Events waiting for the application. When it falls behind by more, the connection is given up
/// rather than memory; the agent then reports launches that were not taken note of as dropped.
const EVENT_QUEUE: usize = 8192;

/// The agent that started this executor may be busy with others.
const PATIENCE: Duration = Duration::from_secs(15);

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// An executor that is about to subscribe.
#[derive(Debug, Clone)]
pub struct Executor {
    environment: Environment,
    transport: Transport,
    patience: Duration,
}

impl Executor {
    /// The executor that the agent started this process as.
    ///
    /// # Errors
    /// [`EnvironmentError`] if no agent did.
    pub fn from_env() -> Result<Self, EnvironmentError> {
        Environment::read().map(Executor::new)
    }

    /// An executor that knows from elsewhere what its environment should have told.
    pub fn new(environment: Environment) -> Self {
        Executor { environment, transport: Transport::default(), patience: PATIENCE }
    }

    /// What the agent said about this executor.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// How messages travel. The default is gRPC; agents of Mesos speak HTTP.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// How long [`start`](Self::start) goes on trying. The default is 15 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Connects and subscribes. The first event is `Subscribed`.
    ///
    /// # Errors
    /// [`ConnectError`]; a temporary one only after the patience.
    pub async fn start(self) -> Result<(ExecutorCalls, ExecutorEvents), ConnectError> {
        let Environment { agent, framework_id, executor_id, token, .. } = self.environment.clone();
        let detector = Detector::parse(ServerKind::Agent, &agent)?;
        let bearer = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        let authorization = bearer.transpose().map_err(|_| ConnectError::Protocol {
            server: ServerKind::Agent,
            address: agent.clone(),
            problem: "the token that it gave holds characters that no header can".to_owned(),
        })?;
        let finder = Finder { detector, transport: self.transport, authorization };
        let identity = Identity { framework_id, executor_id };
        let ledger = Ledger::default();

        let longest = self.environment.subscription_backoff_max.max(FIRST_PAUSE);
        let backoff = Backoff::new(FIRST_PAUSE, longest);
        let deadline = Instant::now() + self.patience;
        let mut pauses = backoff.clone();
        let subscribed = loop {
            match connection::subscribe(&finder, &identity, &ledger).await {
                Ok(subscribed) => break subscribed,
                Err(error) if error.is_temporary() => {
                    let pause = pauses.next_pause();
                    if Instant::now() + pause > deadline {
                        return Err(error);
                    }
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        };

        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (event_queue, events) = mpsc::channel(EVENT_QUEUE);
        let calls = ExecutorCalls::new(commands, identity.clone(), ledger.clone());
        let waits = self.environment.checkpoint.then_some(self.environment.recovery_timeout);
        let connection = Connection {
            finder,
            identity,
            ledger,
            backoff,
            waits,
            commands: command_queue,
            events: event_queue,
        };
        tokio::spawn(connection.run(subscribed));
        Ok((calls, ExecutorEvents::new(events)))
    }
}

/// A status to be sent with [`ExecutorCalls::update`]: everything that is not said here is filled
/// in there.
pub fn task_status(task_id: v1::TaskId, state: v1::TaskState) -> v1::TaskStatus {
    v1::TaskStatus { task_id, state: state as i32, ..Default::default() }
}
